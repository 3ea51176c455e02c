//! One broker: a pure state machine.
//!
//! ```text
//!   new ── first Tick ──► registering ── image that names this life of the node ──► registered
//!                          ▲    │ every peer_retry: Register                       │ every interval: Heartbeat
//!                          └────┘                                                  │
//!                          ▲                  NotRegistered                        │
//!                          └───────────────────────────────────────────────────────┘
//! ```
//!
//! Requests of one connection are answered one after the other, as a Kafka broker does it: the next is looked at when
//! the last is answered. A request that has to wait (for replication, for data, for the disk, for the controller) is
//! kept, and looked at again when what it watches has moved or its time is up. Until the first image
//! has come, requests wait unread.

mod conduct;
mod connections;
mod controller_link;
mod groups;
mod replicas;
mod requests;
mod retention;
mod scripted;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::api::{FetchSessions, ProducerIds};
use crate::cluster::ClusterConfig;
use crate::faults::Faults;
use crate::image::Image;
use crate::io::{ConnectionId, DiskRequest, DiskResult, DiskToken, Input, NodeId, Now, Output, Sender};
use crate::log::recovery::{Recovered, RecoveredLog};
use crate::peer::{PeerMessage, ReplicaState};
use crate::replica::{Replica, ReplicaKey};
use crate::rng::Rng;
use crate::strict::Strict;

use connections::Connections;
use controller_link::ControllerLink;
use groups::Groups;
use replicas::Purpose;
use requests::Requests;

pub(crate) use connections::{Exchange, Outcome};
pub(crate) use controller_link::CallId;
pub(crate) use groups::coordinator_of;
pub(crate) use requests::{RequestId, Waiting};
pub(crate) use scripted::Meeting;

/// The name of the file [`FileId::Meta`](crate::io::FileId::Meta) that says to which cluster the node's data belongs.
pub const META: &str = "node";

/// One broker.
#[derive(Debug)]
pub struct Node {
    pub(crate) id: NodeId,
    pub(crate) config: Arc<ClusterConfig>,
    pub(crate) rng: Rng,
    pub(crate) image: Arc<Image>,
    pub(crate) replicas: BTreeMap<ReplicaKey, Replica>,
    pub(crate) fetch_sessions: FetchSessions,
    pub(crate) producer_ids: ProducerIds,
    incarnation: u64,
    /// The cluster that the data belongs to; empty on a new disk.
    cluster: String,
    /// Logs that were found on the disk and that no image has claimed yet.
    recovered: BTreeMap<ReplicaKey, RecoveredLog>,
    /// Reports of followers that have heard of a new leader epoch before this node has.
    early: Vec<(NodeId, ReplicaState)>,
    link: ControllerLink,
    connections: Connections,
    requests: Requests,
    groups: Groups,
    next_token: u64,
    /// What each request to the disk was for.
    disk: BTreeMap<DiskToken, Purpose>,
    timers: BTreeSet<(Instant, Timer)>,
    /// The timer of each replica that has one.
    armed: BTreeMap<ReplicaKey, Instant>,
    faults: Faults,
    strict: Option<Strict>,
    work: VecDeque<Work>,
    out: Vec<Output>,
    halted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Request(RequestId),
    Replica(ReplicaKey),
    Shard(ReplicaKey),
    Unmute(ConnectionId),
    Retention,
}

/// What is to be looked at before an input is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Connection(ConnectionId),
    Request(RequestId),
    Shard(ReplicaKey),
}

impl Node {
    /// A node that has found `recovered` on its disk. It does nothing before its first [`Input::Tick`].
    ///
    /// The random numbers must differ between two starts of a node: one of them names this life of it.
    #[must_use]
    pub fn new(id: NodeId, config: Arc<ClusterConfig>, recovered: Recovered, mut rng: Rng) -> Self {
        let cluster = recovered.meta.get(META).map(|file| String::from_utf8_lossy(file).trim().to_owned());
        Self {
            id,
            incarnation: rng.next_u64(),
            rng,
            image: Arc::default(),
            replicas: BTreeMap::new(),
            fetch_sessions: FetchSessions::new(config.fetch_session_slots),
            producer_ids: ProducerIds::default(),
            config,
            cluster: cluster.unwrap_or_default(),
            recovered: recovered.logs,
            early: Vec::new(),
            link: ControllerLink::default(),
            connections: Connections::default(),
            requests: Requests::default(),
            groups: Groups::default(),
            next_token: 0,
            disk: BTreeMap::new(),
            timers: BTreeSet::new(),
            armed: BTreeMap::new(),
            faults: Faults::default(),
            strict: None,
            work: VecDeque::new(),
            out: Vec::new(),
            halted: false,
        }
    }

    /// Handles one input.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        if self.halted {
            return;
        }
        match input {
            Input::Connected(connection, host) => self.connected(now, connection, host),
            Input::Frame(connection, frame) => self.frame(now, connection, frame),
            Input::Disconnected(connection) => {
                self.watch_leave(now, connection);
                self.disconnected(connection);
            }
            Input::Disk(token, result) => self.disk_done(now, token, result),
            Input::Peer(sender, message) => self.peer(now, sender, message),
            Input::Tick => {}
        }
        self.expire(now);
        self.run(now);
        out.append(&mut self.out);
    }

    /// When the node wants an [`Input::Tick`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(self.link.next_deadline()).min()
    }

    /// The metadata that this node has; its version is 0 before it has any.
    #[must_use]
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    fn peer(&mut self, now: Now, sender: Sender, message: PeerMessage) {
        match (sender, message) {
            (Sender::Node(from), PeerMessage::ReplicaState(state)) => self.follower_reports(now, from, state),
            (Sender::Node(from), PeerMessage::ReplicaAppend(push)) => self.leader_pushes(now, from, push),
            (Sender::Controller, PeerMessage::Metadata(image)) => self.apply(now, image),
            (Sender::Controller, message) => self.controller_says(now, message),
            // Nothing else is said between nodes.
            (Sender::Node(_), _) => {}
        }
    }

    fn disk_done(&mut self, now: Now, token: DiskToken, result: DiskResult) {
        let Some(purpose) = self.disk.remove(&token) else { return };
        match result {
            DiskResult::NoRoom(why) => {
                // There will be another result.
                self.disk.insert(token, purpose);
                self.no_room(purpose, &why);
            }
            DiskResult::Failed(error) => self.halt(error),
            DiskResult::Done => self.written(now, token, purpose),
            DiskResult::Data(data) => self.read(now, purpose, data),
        }
    }

    fn halt(&mut self, why: String) {
        self.halted = true;
        self.out.push(Output::Halt(why));
    }

    fn ask_disk(&mut self, request: DiskRequest, purpose: Purpose) -> DiskToken {
        let token = DiskToken(self.next_token);
        self.next_token += 1;
        self.disk.insert(token, purpose);
        self.out.push(Output::Disk(token, request));
        token
    }

    fn expire(&mut self, now: Now) {
        self.tick_link(now);
        while let Some((at, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= now.monotonic) {
            self.timers.remove(&(at, timer));
            match timer {
                Timer::Request(request) => self.work.push_back(Work::Request(request)),
                Timer::Unmute(connection) => {
                    self.connections.unmute(now, connection);
                    self.work.push_back(Work::Connection(connection));
                }
                Timer::Replica(key) => {
                    self.armed.remove(&key);
                    self.with_replica(key, |replica, effects| replica.tick(now, effects));
                }
                Timer::Shard(key) => self.tick_shard(now, key),
                Timer::Retention => self.expire_records(now),
            }
        }
    }

    fn run(&mut self, now: Now) {
        while let Some(work) = self.work.pop_front() {
            if self.halted {
                break;
            }
            match work {
                Work::Connection(connection) => self.next_request(now, connection),
                Work::Request(request) => self.look_again(now, request),
                Work::Shard(key) => self.look_at_shard(now, key),
            }
        }
    }
}
