//! Runs one state machine, a node or the controller, in a task of its own.
//!
//! ```text
//!              freeze              Control::Freeze: inputs stay queued, the kernel goes on accepting
//!   running ◄────────► frozen
//!      │        thaw      │        Control::Thaw: the queued inputs, then the deadline that has passed
//!      └────────┬─────────┘
//!               │ stop, crash, or Output::Halt
//!               ▼
//!             ended                connections closed, the disk let go; `Remains` is what a restart needs
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    connection::{self, Ended, Limits},
    disk_worker::DiskWorker,
    machine::{Machine, Move},
    router::Router,
};
use crate::{
    disk::MemoryDisk,
    io::{ConnectionId, Input, Now, Output, Sender},
};

/// What waits in a machine's queue.
#[derive(Debug)]
pub(super) enum Event {
    /// A client connected.
    Accepted(ConnectionId, TcpStream, SocketAddr),
    /// Anything that goes to the machine as it is.
    Input(Input),
}

/// What overtakes the queue.
#[derive(Debug)]
pub(super) enum Control {
    Freeze(oneshot::Sender<()>),
    Thaw(oneshot::Sender<()>),
    MoveLeader(Move, oneshot::Sender<io::Result<()>>),
    /// End now; with `graceful` the disk finishes what it was asked for.
    End {
        graceful: bool,
    },
}

/// What a machine leaves behind.
#[derive(Debug, Default)]
pub(super) struct Remains {
    pub(super) memory: Option<MemoryDisk>,
    /// Why it ended by itself.
    pub(super) halted: Option<String>,
}

pub(super) struct Runner<M> {
    name: Sender,
    machine: M,
    disk: DiskWorker,
    router: Arc<Router>,
    limits: Limits,
    events: mpsc::UnboundedReceiver<Event>,
    /// For the connections' frames.
    queue: mpsc::UnboundedSender<Event>,
    control: mpsc::UnboundedReceiver<Control>,
    replies: BTreeMap<ConnectionId, mpsc::UnboundedSender<Vec<Bytes>>>,
    tasks: JoinSet<(ConnectionId, SocketAddr, Ended)>,
    /// Empty between two inputs, as is `completions`: kept for its capacity.
    outputs: Vec<Output>,
    /// Of a disk in memory, which answers at once.
    completions: VecDeque<Input>,
}

/// Where a machine is reached.
pub(super) struct Inbox {
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    pub(super) queue: mpsc::UnboundedSender<Event>,
    pub(super) control: mpsc::UnboundedReceiver<Control>,
}

impl<M: Machine> Runner<M> {
    pub(super) fn new(
        name: Sender,
        machine: M,
        disk: DiskWorker,
        router: Arc<Router>,
        limits: Limits,
        inbox: Inbox,
    ) -> Self {
        let Inbox { events, queue, control } = inbox;
        Self {
            name,
            machine,
            disk,
            router,
            limits,
            events,
            queue,
            control,
            replies: BTreeMap::new(),
            tasks: JoinSet::new(),
            outputs: Vec::new(),
            completions: VecDeque::new(),
        }
    }

    pub(super) async fn run(mut self) -> Remains {
        let mut halted = self.handle(Input::Tick).err();
        let mut frozen = false;
        let mut graceful = false;
        while halted.is_none() {
            let deadline = self.machine.next_deadline();
            tokio::select! {
                biased;
                control = self.control.recv() => match control {
                    Some(Control::Freeze(done)) => {
                        frozen = true;
                        let _ = done.send(());
                    }
                    Some(Control::Thaw(done)) => {
                        frozen = false;
                        let _ = done.send(());
                    }
                    Some(Control::MoveLeader(wanted, done)) => halted = self.move_leader(&wanted, done).err(),
                    Some(Control::End { graceful: asked }) => {
                        graceful = asked;
                        break;
                    }
                    None => break,
                },
                Some(event) = self.events.recv(), if !frozen => {
                    halted = self.on_event(event).and_then(|()| self.tick_if_due()).err();
                }
                Some(ended) = self.tasks.join_next(), if !frozen => {
                    halted = self.on_ended(ended).err();
                }
                () = sleep_until(deadline), if !frozen && deadline.is_some() => {
                    halted = self.handle(Input::Tick).err();
                }
            }
        }
        self.end(graceful, halted).await
    }

    fn on_event(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Accepted(id, stream, peer) => {
                self.serve(id, stream, peer);
                self.handle(Input::Connected(id, peer.ip()))
            }
            // The node closed that connection, and has forgotten it.
            Event::Input(Input::Frame(id, _)) if !self.replies.contains_key(&id) => Ok(()),
            Event::Input(input) => self.handle(input),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a driver is where tasks are made; the JoinSet ends them")]
    fn serve(&mut self, id: ConnectionId, stream: TcpStream, peer: SocketAddr) {
        // Replies are written whole; waiting for more would only delay them.
        drop(stream.set_nodelay(true));
        let (replies, to_write) = mpsc::unbounded_channel();
        self.replies.insert(id, replies);
        let (queue, limits) = (self.queue.clone(), self.limits);
        self.tasks.spawn(async move {
            let deliver = |frame| {
                // A machine that has ended takes its connections with it.
                drop(queue.send(Event::Input(Input::Frame(id, frame))));
            };
            (id, peer, connection::serve(stream.into_split(), limits, to_write, deliver).await)
        });
    }

    fn on_ended(
        &mut self,
        ended: Result<(ConnectionId, SocketAddr, Ended), tokio::task::JoinError>,
    ) -> Result<(), String> {
        let (id, peer, ended) = ended.map_err(|error| format!("a connection's task died: {error}"))?;
        match &ended {
            Ended::Frame(_) => tracing::warn!(who = ?self.name, %peer, reason = %ended, "connection closed"),
            _ => tracing::debug!(who = ?self.name, %peer, reason = %ended, "connection closed"),
        }
        match self.replies.remove(&id) {
            Some(_) => self.handle(Input::Disconnected(id)),
            None => Ok(()),
        }
    }

    /// Under load the queue is never empty, and `run` would not come to the deadline.
    fn tick_if_due(&mut self) -> Result<(), String> {
        match self.machine.next_deadline() {
            Some(deadline) if deadline <= monotonic() => self.handle(Input::Tick),
            _ => Ok(()),
        }
    }

    /// Handles one input and carries out all that follows at once; the error is the text of a [`Output::Halt`].
    fn handle(&mut self, input: Input) -> Result<(), String> {
        let mut next = Some(input);
        while let Some(input) = next {
            let mut outputs = std::mem::take(&mut self.outputs);
            self.machine.handle(now(), input, &mut outputs);
            self.carry_out_all(outputs)?;
            next = self.completions.pop_front();
        }
        Ok(())
    }

    fn move_leader(&mut self, wanted: &Move, done: oneshot::Sender<io::Result<()>>) -> Result<(), String> {
        let mut outputs = std::mem::take(&mut self.outputs);
        let moved = self.machine.move_leader(now(), wanted, &mut outputs);
        self.carry_out_all(outputs)?;
        let next = self.completions.pop_front();
        next.map_or(Ok(()), |next| self.handle(next))?;
        // Nobody may wait for it any more.
        let _ = done.send(moved);
        Ok(())
    }

    fn carry_out_all(&mut self, mut outputs: Vec<Output>) -> Result<(), String> {
        for output in outputs.drain(..) {
            let completion = self.carry_out(output)?;
            self.completions.extend(completion);
        }
        self.outputs = outputs;
        Ok(())
    }

    fn carry_out(&mut self, output: Output) -> Result<Option<Input>, String> {
        match output {
            Output::Reply(id, reply) => {
                if let Some(replies) = self.replies.get(&id) {
                    // The task has ended: its `Disconnected` is on its way.
                    drop(replies.send(reply));
                }
            }
            Output::Close(id, reason) => {
                tracing::warn!(who = ?self.name, connection = id.0, %reason, "closing a connection");
                self.replies.remove(&id);
            }
            Output::Disk(token, request) => return Ok(self.disk.handle(token, request)),
            Output::Peer(to, message) => self.router.send(to, Event::Input(Input::Peer(self.name, message))),
            Output::Note(text) => tracing::info!(who = ?self.name, "{text}"),
            Output::Trouble(text) => tracing::warn!(who = ?self.name, "{text}"),
            Output::Violation(violation) => {
                tracing::warn!(who = ?self.name, %violation, "a client broke a rule")
            }
            Output::Halt(reason) => return Err(reason),
        }
        Ok(None)
    }

    async fn end(mut self, graceful: bool, halted: Option<String>) -> Remains {
        if let Some(reason) = &halted {
            tracing::error!(who = ?self.name, %reason, "halted");
        }
        if graceful {
            // Replies that are on their way still go out; the tasks end after the last.
            self.replies.clear();
            let all = async { while self.tasks.join_next().await.is_some() {} };
            drop(tokio::time::timeout(std::time::Duration::from_secs(1), all).await);
        }
        self.tasks.shutdown().await;
        if !graceful {
            // Tells the disk to drop what it has not begun.
            self.events.close();
        }
        Remains { memory: self.disk.close().await, halted }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn monotonic() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[expect(clippy::disallowed_methods, reason = "a driver is where the broker's time comes from")]
fn now() -> Now {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Milliseconds fit for another 290 million years.
    Now { monotonic: monotonic(), wall_ms: since_1970.as_millis() as i64 }
}
