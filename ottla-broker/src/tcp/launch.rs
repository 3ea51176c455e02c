//! How machines are started and ended.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    sync::{Arc, atomic::AtomicU64},
};

use bytes::Bytes;
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    Cluster, ClusterBuilder, Halted, Slot, World, acceptor,
    connection::Limits,
    disk_worker::{DiskWorker, Recover},
    machine::Machine,
    router::Router,
    runner::{Control, Event, Inbox, Remains, Runner},
};
use crate::{
    Controller, Node, Recovered, Rng, controller,
    disk::{DataDir, FileDisk, MemoryDisk},
    faults::Faults,
    io::{FileId, NodeId, Recipient, Sender},
    log::recovery,
};

/// How many requests of a connection are read ahead of their answers. Clients have some 5 in flight; the rest is
/// TCP's business.
const MAX_UNANSWERED: usize = 32;

/// A machine that was started.
#[derive(Debug)]
pub(super) struct Running {
    control: mpsc::UnboundedSender<Control>,
    task: Option<JoinHandle<Remains>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Cluster {
    pub(super) async fn launch(builder: ClusterBuilder) -> io::Result<Self> {
        let ClusterBuilder { mut config, data_dir, listen, max_idle, strict } = builder;
        let data = match data_dir {
            // A handful of small files, once.
            Some(path) => Some(DataDir::open(path)?),
            None => None,
        };
        let mut listeners = Vec::new();
        for node in &mut config.nodes {
            let host = listen.map_or_else(|| node.host.clone(), |address| address.to_string());
            let listener = bind(&host, node.port).await?;
            node.port = listener.local_addr()?.port();
            listeners.push((node.id, listener));
        }
        let limits = Limits {
            max_frame_bytes: config.max_request_bytes,
            max_unanswered: MAX_UNANSWERED,
            max_unanswered_bytes: config.max_queued_bytes,
            max_idle,
        };
        let (config, router) = (Arc::new(config), Arc::<Router>::default());
        let (halts, halted) = mpsc::unbounded_channel();
        let next_connection = Arc::new(AtomicU64::new(0));
        let faults = Faults::default();
        let world = World { config, listen, data, limits, router, next_connection, halts, faults, strict };

        let controller = world.start_controller().await?;
        let mut nodes = std::collections::BTreeMap::new();
        for (id, listener) in listeners {
            nodes.insert(id, Slot::Running(world.start_node(id, listener, MemoryDisk::new()).await?));
        }
        let bootstrap_servers =
            world.config.nodes.iter().map(|node| address(&node.host, node.port)).collect();
        Ok(Self { world, bootstrap_servers, controller, nodes: Mutex::new(nodes), halts: Mutex::new(halted) })
    }
}

impl World {
    /// Listens where a node listened before.
    pub(super) async fn bind(&self, node: NodeId) -> io::Result<TcpListener> {
        let node = self.config.node(node).ok_or(io::ErrorKind::NotFound)?;
        let host = self.listen.map_or_else(|| node.host.clone(), |address| address.to_string());
        bind(&host, node.port).await
    }

    pub(super) async fn start_node(
        &self,
        id: NodeId,
        listener: TcpListener,
        memory: MemoryDisk,
    ) -> io::Result<Running> {
        let files = self.data.as_ref().map(|data| data.node(id)).transpose()?;
        let (queue, events) = mpsc::unbounded_channel();
        let (disk, recovered) =
            open(format!("ottla-node-{id}"), files, memory, Recovered::read, &queue).await?;
        for ((topic, partition), log) in &recovered.logs {
            if let Some(torn) = &log.torn {
                tracing::warn!(node = id, %topic, partition, size = log.size, torn, "cut the torn tail of a log");
            }
        }
        let node = Node::new(id, Arc::clone(&self.config), recovered, random());
        let mut node = node.with_faults(self.faults.clone());
        if let Some(strict) = &self.strict {
            node = node.with_strict(strict.clone());
        }
        let accepting = acceptor::accept(listener, Arc::clone(&self.next_connection), queue.clone());
        let mut running = self.run(Recipient::Node(id), node, disk, queue, events);
        running.acceptor = Some(spawn(accepting));
        Ok(running)
    }

    async fn start_controller(&self) -> io::Result<Running> {
        let files = self.data.as_ref().map(DataDir::controller).transpose()?;
        let (queue, events) = mpsc::unbounded_channel();
        let name = "ottla-controller".to_owned();
        let (disk, state) = open(name, files, MemoryDisk::new(), controller_state, &queue).await?;
        let state = Some(&state[..]).filter(|state| !state.is_empty());
        let controller = Controller::new(Arc::clone(&self.config), state, random())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(self.run(Recipient::Controller, controller, disk, queue, events))
    }

    fn run(
        &self,
        who: Sender,
        machine: impl Machine,
        disk: DiskWorker,
        queue: mpsc::UnboundedSender<Event>,
        events: mpsc::UnboundedReceiver<Event>,
    ) -> Running {
        let (control, controls) = mpsc::unbounded_channel();
        self.router.connect(who, queue.clone());
        let inbox = Inbox { events, queue, control: controls };
        let runner = Runner::new(who, machine, disk, Arc::clone(&self.router), self.limits, inbox);
        let (router, halts) = (Arc::clone(&self.router), self.halts.clone());
        let task = spawn(async move {
            // In a task of its own, so that a panic is noticed here.
            let ran = spawn(runner.run()).await;
            let remains =
                ran.unwrap_or_else(|error| Remains { memory: None, halted: Some(error.to_string()) });
            router.disconnect(who);
            if let Some(reason) = remains.halted.clone() {
                let node = match who {
                    Sender::Controller => None,
                    Sender::Node(id) => Some(id),
                };
                // Nobody listens when the cluster is gone.
                drop(halts.send(Halted { node, reason }));
            }
            remains
        });
        Running { control, task: Some(task), acceptor: None }
    }
}

impl Running {
    /// Sends a message that is answered when it was heeded.
    pub(super) fn control<T>(
        &self,
        control: impl FnOnce(oneshot::Sender<T>) -> Control,
    ) -> oneshot::Receiver<T> {
        let (done, heeded) = oneshot::channel();
        // The answer never comes when the machine has ended.
        drop(self.control.send(control(done)));
        heeded
    }

    pub(super) fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the machine, and returns when its connections, its port and its files are closed.
    pub(super) async fn end(&mut self, graceful: bool) -> Remains {
        drop(self.control.send(Control::End { graceful }));
        let remains = match self.task.take() {
            Some(task) => task.await.unwrap_or_default(),
            None => Remains::default(),
        };
        if let Some(acceptor) = self.acceptor.take() {
            // It ends by itself when the machine has; a panic there has no consequences here.
            drop(acceptor.await);
        }
        remains
    }
}

/// The disk of a machine, and what is on it: files where there are some, else memory.
async fn open<T: Send + 'static>(
    name: String,
    files: Option<FileDisk>,
    memory: MemoryDisk,
    recover: Recover<T>,
    queue: &mpsc::UnboundedSender<Event>,
) -> io::Result<(DiskWorker, T)> {
    match files {
        Some(files) => DiskWorker::files(name, files, recover, queue.clone()).await,
        None => DiskWorker::memory(memory, recover),
    }
}

fn controller_state(disk: &mut dyn crate::disk::Disk) -> io::Result<Bytes> {
    recovery::read_whole(disk, &FileId::Meta(controller::META))
}

async fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", address(host, port)));
    TcpListener::bind((host, port)).await.map_err(named)
}

fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Seeded by what std seeds its hash tables with: ids of clusters and topics, nothing secret.
fn random() -> Rng {
    Rng::seeded(RandomState::new().hash_one(0))
}

#[expect(clippy::disallowed_methods, reason = "a driver is where tasks are made; their handles are awaited")]
fn spawn<F: Future<Output: Send> + Send + 'static>(future: F) -> JoinHandle<F::Output> {
    tokio::spawn(future)
}
