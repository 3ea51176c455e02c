//! The cluster on TCP: nodes in this process that any Kafka client, in any language, can use.
//!
//! ```no_run
//! use ottla_broker::{ClusterConfig, tcp::Cluster};
//!
//! # async fn example() -> std::io::Result<()> {
//! let cluster = Cluster::start(ClusterConfig::with_nodes(3, "127.0.0.1", 0), None).await?;
//! println!("{}", cluster.bootstrap_servers().join(","));
//! cluster.freeze(1).await?; // TCP stays up, nothing is answered
//! cluster.thaw(1).await?;
//! cluster.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! Each node, and the controller, is a task with a queue; each connection is another one:
//!
//! ```text
//!   acceptor ──stream──┐                      ┌── Router ◄──► the other nodes, the controller
//!                      ▼                      ▼
//!   connection ─frame─► queue ─► Runner (Node) ─► DiskWorker: memory, or files on a thread
//!        ▲                          │                 │
//!        └──────────reply───────────┘ ◄──completion───┘
//! ```

mod acceptor;
mod backlog;
mod builder;
mod connection;
mod disk_worker;
mod frames;
mod launch;
mod machine;
mod router;
mod runner;

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
};

use tokio::sync::{Mutex, mpsc, oneshot};

pub use builder::ClusterBuilder;

use self::{
    connection::Limits,
    launch::Running,
    machine::{Led, Move},
    router::Router,
    runner::Control,
};
use crate::{
    ClusterConfig,
    disk::{DataDir, MemoryDisk, Tail},
    faults::Faults,
    io::NodeId,
    strict::{Strict, Violation},
};

/// A running cluster. Dropping it is a crash of all of it; [`stop`](Self::stop) is the orderly way.
#[derive(Debug)]
pub struct Cluster {
    world: World,
    bootstrap_servers: Vec<String>,
    controller: Running,
    nodes: Mutex<BTreeMap<NodeId, Slot>>,
    halts: Mutex<mpsc::UnboundedReceiver<Halted>>,
}

/// A node that gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Halted {
    /// The node; `None` is the controller.
    pub node: Option<NodeId>,
    /// Why: its disk failed, for example.
    pub reason: String,
}

/// What all machines share.
#[derive(Debug)]
struct World {
    config: Arc<ClusterConfig>,
    listen: Option<std::net::IpAddr>,
    data: Option<DataDir>,
    limits: Limits,
    router: Arc<Router>,
    next_connection: Arc<AtomicU64>,
    halts: mpsc::UnboundedSender<Halted>,
    faults: Faults,
    strict: Option<Strict>,
}

#[derive(Debug)]
enum Slot {
    Running(Running),
    /// With what it had in memory, which stands for its disk.
    Crashed(MemoryDisk),
}

impl Cluster {
    /// Starts a cluster, in memory or with its files below `data_dir`. See [`ClusterBuilder::start`] for the errors.
    ///
    /// # Errors
    /// As [`ClusterBuilder::start`].
    pub async fn start(config: ClusterConfig, data_dir: Option<PathBuf>) -> io::Result<Self> {
        let mut builder = Self::builder(config);
        builder.data_dir = data_dir;
        builder.start().await
    }

    /// A cluster with more to say about it.
    pub fn builder(config: ClusterConfig) -> ClusterBuilder {
        ClusterBuilder::new(config)
    }

    /// The advertised `host:port` of each node, by ascending id.
    #[must_use]
    pub fn bootstrap_servers(&self) -> Vec<String> {
        self.bootstrap_servers.clone()
    }

    /// The configuration, with the ports that were chosen.
    #[must_use]
    pub fn config(&self) -> &ClusterConfig {
        &self.world.config
    }

    /// What is to go wrong with requests: see [`faults`](crate::faults).
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.world.faults
    }

    /// What clients did wrong so far, if the cluster is [strict](ClusterBuilder::strict).
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.world.strict.as_ref().map(Strict::violations).unwrap_or_default()
    }

    /// The node handles nothing any more until it is [thawed](Self::thaw), as a process that was sent SIGSTOP: its
    /// connections stay, new ones are accepted, and nothing is answered.
    ///
    /// Other nodes notice that it does not live, and the controller moves its partitions after
    /// `broker_session_timeout`.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is no such node, [`io::ErrorKind::NotConnected`] when it does not run.
    pub async fn freeze(&self, node: NodeId) -> io::Result<()> {
        self.control(node, Control::Freeze).await
    }

    /// A frozen node goes on with what has arrived in the meantime.
    ///
    /// # Errors
    /// As [`freeze`](Self::freeze).
    pub async fn thaw(&self, node: NodeId) -> io::Result<()> {
        self.control(node, Control::Thaw).await
    }

    /// The controller lets a node lead a partition, as an operator would. Nothing else happens to anybody: nodes hear of it
    /// as of any election, and clients when they ask one that has.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is no such topic or partition, [`io::ErrorKind::NotConnected`] when the node is
    /// not in sync with it or does not live.
    pub async fn move_leader(&self, topic: &str, partition: i32, to: NodeId) -> io::Result<()> {
        self.let_lead(Move { what: Led::Partition(topic.to_owned(), partition), to }).await
    }

    /// [`move_leader`](Self::move_leader) of the partition in which a group is kept, and with it the group.
    ///
    /// # Errors
    /// As [`move_leader`](Self::move_leader). Nobody looks after groups before somebody has looked for a coordinator.
    pub async fn move_coordinator(&self, group: &str, to: NodeId) -> io::Result<()> {
        self.let_lead(Move { what: Led::Group(group.to_owned()), to }).await
    }

    /// The node ends at once, in the middle of whatever it does: its connections break, its port is closed.
    ///
    /// In memory, `tail` says what becomes of what it has written and not synced: [`Tail::Kept`] is `kill -9`,
    /// [`Tail::Lost`] is a loss of power. Files keep what the operating system was given, whatever `tail` says.
    ///
    /// # Errors
    /// As [`freeze`](Self::freeze).
    ///
    /// # Cancel safety
    /// The node may be gone for good: not to be cancelled.
    pub async fn crash(&self, node: NodeId, tail: Tail) -> io::Result<()> {
        let mut nodes = self.nodes.lock().await;
        let slot = nodes.get_mut(&node).ok_or_else(|| unknown(node))?;
        let Slot::Running(running) = slot else { return Err(not_running(node)) };
        let mut disk = running.end(false).await.memory.unwrap_or_default();
        disk.crash(tail);
        *slot = Slot::Crashed(disk);
        Ok(())
    }

    /// Starts a node that crashed or halted, on the same port, with what is on its disk.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is no such node, [`io::ErrorKind::AlreadyExists`] when it runs, and as
    /// [`ClusterBuilder::start`].
    ///
    /// # Cancel safety
    /// Dropped, the node stays down, and in memory it has lost its disk.
    pub async fn restart(&self, node: NodeId) -> io::Result<()> {
        let mut nodes = self.nodes.lock().await;
        let slot = nodes.get_mut(&node).ok_or_else(|| unknown(node))?;
        let disk = match slot {
            Slot::Running(running) if running.is_finished() => {
                running.end(false).await.memory.unwrap_or_default()
            }
            Slot::Running(_) => {
                let text = format!("node {node} is running");
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            Slot::Crashed(disk) => std::mem::take(disk),
        };
        let listener = self.world.bind(node).await?;
        *slot = Slot::Running(self.world.start_node(node, listener, disk).await?);
        Ok(())
    }

    /// Waits until a node gives up by itself; each is told once.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn halted(&self) -> Halted {
        match self.halts.lock().await.recv().await {
            Some(halted) => halted,
            // `self.world` holds a sender.
            None => std::future::pending().await,
        }
    }

    /// Stops all nodes in an orderly way: replies that are on their way go out, files are synced, ports closed.
    ///
    /// # Cancel safety
    /// Dropped, the rest crashes.
    pub async fn stop(self) {
        let mut nodes = self.nodes.into_inner();
        for slot in nodes.values_mut() {
            if let Slot::Running(running) = slot {
                running.end(true).await;
            }
        }
        let mut controller = self.controller;
        controller.end(true).await;
    }

    async fn let_lead(&self, wanted: Move) -> io::Result<()> {
        let moved = self.controller.control(|done| Control::MoveLeader(wanted, done));
        moved.await.map_err(|_| io::Error::new(io::ErrorKind::NotConnected, "the controller does not run"))?
    }

    async fn control(&self, node: NodeId, control: fn(oneshot::Sender<()>) -> Control) -> io::Result<()> {
        let done = match self.nodes.lock().await.get(&node) {
            None => return Err(unknown(node)),
            Some(Slot::Crashed(_)) => return Err(not_running(node)),
            Some(Slot::Running(running)) => running.control(control),
        };
        done.await.map_err(|_| not_running(node))
    }
}

fn unknown(node: NodeId) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no node {node}"))
}

fn not_running(node: NodeId) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, format!("node {node} is not running"))
}
