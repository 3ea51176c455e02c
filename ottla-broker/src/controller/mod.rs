//! The controller of the cluster: who lives, which topics exist, who leads what.
//!
//! An idealised one: a single state machine beside the nodes, which does not crash with any of them. It keeps its
//! state in one small file and says nothing to anybody before that file is written.
//!
//! ```text
//!             Register                      Heartbeat within the session timeout
//!  (unknown) ──────────► alive ◄───────────────────────────────────────────────┐
//!      ▲                   │ └──────────────────────────────────────────────────┘
//!      │ NotRegistered     │ session timeout
//!      └───────────────── fenced: leaves every in-sync set but those it is alone in; leaders move
//! ```

mod changes;
mod election;
mod snapshot;
mod topics;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ottla_protocol::TopicId;

use crate::cluster::{ClusterConfig, NodeConfig};
use crate::image::{Broker, Image, Topic};
use crate::io::{DiskRequest, DiskResult, DiskToken, FileId, NodeId, Now};
use crate::peer::PeerMessage;
use crate::rng::Rng;

pub use snapshot::SnapshotError;
pub(crate) use topics::is_topic_name;

/// The name of the file [`FileId::Meta`] that holds the controller's state.
pub const META: &str = "controller";

/// Kafka hands producer ids to its brokers in blocks of this size (KIP-730).
const PRODUCER_ID_BLOCK: i32 = 1000;

/// Something that happened to the controller.
#[derive(Debug, Clone)]
pub enum ControllerInput {
    /// A message of a node.
    Peer(NodeId, PeerMessage),
    /// The disk finished what [`ControllerOutput::Disk`] asked for.
    Disk(DiskToken, DiskResult),
    /// A deadline has come.
    Tick,
    /// An operator wants a node to lead a partition: it does from then on, if it lives and its replica is in sync.
    MoveLeader {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: i32,
        /// Who shall lead it.
        to: NodeId,
    },
}

/// Something that the controller wants from its driver. Outputs are carried out in order.
#[derive(Debug, Clone)]
pub enum ControllerOutput {
    /// Send a message to a node.
    Peer(NodeId, PeerMessage),
    /// Ask something of the disk.
    Disk(DiskToken, DiskRequest),
    /// Something is wrong that a person has to put right: the disk is full.
    Trouble(String),
    /// The controller cannot go on: its disk failed. It handles nothing any more.
    Halt(String),
}

/// The controller of the cluster.
#[derive(Debug)]
pub struct Controller {
    config: Arc<ClusterConfig>,
    rng: Rng,
    image: Arc<Image>,
    sessions: BTreeMap<NodeId, Session>,
    next_producer_id: i64,
    /// The state differs from what the disk was last asked to hold.
    dirty: bool,
    /// The metadata differs from what the nodes were last told.
    changed: bool,
    /// What is to be said once a write is done, in the order of the writes.
    held: VecDeque<(DiskToken, Vec<(NodeId, PeerMessage)>)>,
    next_token: u64,
    halted: bool,
}

#[derive(Debug)]
struct Session {
    incarnation: u64,
    expires: Instant,
}

impl Controller {
    /// The controller of a new cluster, or of the one whose file [`META`] is given.
    ///
    /// # Errors
    /// When the file cannot be understood.
    pub fn new(config: Arc<ClusterConfig>, file: Option<&[u8]>, mut rng: Rng) -> Result<Self, SnapshotError> {
        let (image, next_producer_id) = match file {
            Some(file) => {
                let (mut image, next_producer_id) = snapshot::read(file)?;
                election::nobody_leads(&mut image);
                (image, next_producer_id)
            }
            None => {
                let drawn = || ottla_protocol::TopicId(rng.uuid()).to_string();
                let cluster_id = config.cluster_id.clone().unwrap_or_else(drawn);
                (Image { cluster_id: cluster_id.into(), ..Image::default() }, 0)
            }
        };
        Ok(Self {
            config,
            rng,
            image: Arc::new(image),
            sessions: BTreeMap::new(),
            next_producer_id,
            dirty: file.is_none(),
            changed: false,
            held: VecDeque::new(),
            next_token: 0,
            halted: false,
        })
    }

    /// Handles one input.
    pub fn handle(&mut self, now: Now, input: ControllerInput, out: &mut Vec<ControllerOutput>) {
        if self.halted {
            return;
        }
        let mut replies = Vec::new();
        match input {
            ControllerInput::Peer(node, message) => self.peer(now, node, message, &mut replies),
            ControllerInput::Disk(token, result) => self.disk_done(token, &result, out),
            ControllerInput::Tick => {}
            ControllerInput::MoveLeader { topic, partition, to } => self.move_leader((topic, partition), to),
        }
        self.expire_sessions(now);
        self.publish(replies, out);
    }

    /// When the controller wants a [`ControllerInput::Tick`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.sessions.values().map(|session| session.expires).min()
    }

    /// The metadata at its newest version, which no node may have yet.
    #[must_use]
    pub fn image(&self) -> &Arc<Image> {
        &self.image
    }

    fn peer(
        &mut self,
        now: Now,
        node: NodeId,
        message: PeerMessage,
        replies: &mut Vec<(NodeId, PeerMessage)>,
    ) {
        if let PeerMessage::Register { node: broker, incarnation } = message {
            return self.register(now, &broker, incarnation, replies);
        }
        if !self.sessions.contains_key(&node) {
            return replies.push((node, PeerMessage::NotRegistered));
        }
        match message {
            PeerMessage::Heartbeat { incarnation, metadata_version } => {
                self.heartbeat(now, node, incarnation, metadata_version, replies);
            }
            PeerMessage::CreateTopics { request, topics, validate_only } => {
                let results = topics.iter().map(|topic| self.create_topic(topic, validate_only)).collect();
                replies.push((node, PeerMessage::TopicResults { request, results }));
            }
            PeerMessage::DeleteTopics { request, topics } => {
                let results = topics.iter().map(|id| self.delete_topic(*id)).collect();
                replies.push((node, PeerMessage::TopicResults { request, results }));
            }
            PeerMessage::ChangeTopics { request, changes, validate_only } => {
                let results = changes.iter().map(|change| self.change_topic(change, validate_only)).collect();
                replies.push((node, PeerMessage::TopicResults { request, results }));
            }
            PeerMessage::AlterIsr { topic, partition, leader_epoch, version, isr } => {
                if !self.alter_isr(node, (topic, partition), (leader_epoch, version), &isr)
                    && let Some(version) =
                        self.image.partition(topic, partition).map(|partition| partition.version)
                {
                    replies.push((node, PeerMessage::IsrRefused { topic, partition, version }));
                }
            }
            PeerMessage::AllocateProducerIds => {
                let first = self.next_producer_id;
                self.next_producer_id += i64::from(PRODUCER_ID_BLOCK);
                self.dirty = true;
                replies.push((node, PeerMessage::ProducerIds { first, count: PRODUCER_ID_BLOCK }));
            }
            // The other messages are not for the controller.
            _ => {}
        }
    }

    fn register(
        &mut self,
        now: Now,
        node: &NodeConfig,
        incarnation: u64,
        replies: &mut Vec<(NodeId, PeerMessage)>,
    ) {
        let expires = now.monotonic + self.config.broker_session_timeout;
        let known = self.sessions.insert(node.id, Session { incarnation, expires });
        if known.is_some_and(|known| known.incarnation == incarnation) {
            return replies.push((node.id, PeerMessage::Metadata(Arc::clone(&self.image))));
        }
        let broker = Broker {
            host: node.host.as_str().into(),
            port: node.port,
            rack: node.rack.as_deref().map(Into::into),
            incarnation,
        };
        self.edit().brokers.insert(node.id, broker);
        self.restarted(node.id);
    }

    fn heartbeat(
        &mut self,
        now: Now,
        node: NodeId,
        incarnation: u64,
        metadata_version: u64,
        replies: &mut Vec<(NodeId, PeerMessage)>,
    ) {
        match self.sessions.get_mut(&node) {
            Some(session) if session.incarnation == incarnation => {
                session.expires = now.monotonic + self.config.broker_session_timeout;
                if metadata_version < self.image.version {
                    replies.push((node, PeerMessage::Metadata(Arc::clone(&self.image))));
                }
            }
            _ => replies.push((node, PeerMessage::NotRegistered)),
        }
    }

    fn expire_sessions(&mut self, now: Now) {
        let expired =
            |(node, session): (&NodeId, &Session)| (session.expires <= now.monotonic).then_some(*node);
        let expired: Vec<NodeId> = self.sessions.iter().filter_map(expired).collect();
        for node in expired {
            self.sessions.remove(&node);
            self.edit().brokers.remove(&node);
            self.fenced(node);
        }
    }

    /// The metadata, to be changed: a new version of it.
    fn edit(&mut self) -> &mut Image {
        let image = Arc::make_mut(&mut self.image);
        if !self.changed {
            image.version += 1;
        }
        self.changed = true;
        self.dirty = true;
        image
    }

    /// The topic of that name in the metadata, to be changed.
    fn edit_topic(&mut self, name: &str) -> Option<&mut Topic> {
        self.edit().topics.get_mut(name).map(Arc::make_mut)
    }

    /// Tells the nodes what changed, and then their answers, once the disk has it.
    fn publish(&mut self, replies: Vec<(NodeId, PeerMessage)>, out: &mut Vec<ControllerOutput>) {
        let mut messages = Vec::new();
        if std::mem::take(&mut self.changed) {
            let everybody =
                self.sessions.keys().map(|node| (*node, PeerMessage::Metadata(Arc::clone(&self.image))));
            messages.extend(everybody);
        }
        messages.extend(replies);
        if std::mem::take(&mut self.dirty) {
            let token = DiskToken(self.next_token);
            self.next_token += 1;
            let file = Bytes::from(snapshot::write(&self.image, self.next_producer_id));
            out.push(ControllerOutput::Disk(token, DiskRequest::Replace(FileId::Meta(META), file)));
            self.held.push_back((token, messages));
        } else if let Some((_, held)) = self.held.back_mut() {
            held.extend(messages);
        } else {
            out.extend(messages.into_iter().map(|(node, message)| ControllerOutput::Peer(node, message)));
        }
    }

    fn disk_done(&mut self, token: DiskToken, result: &DiskResult, out: &mut Vec<ControllerOutput>) {
        match result {
            DiskResult::Failed(error) => {
                self.halted = true;
                return out.push(ControllerOutput::Halt(error.clone()));
            }
            // Nobody is told of what is not kept: requests wait for it, and time out.
            DiskResult::NoRoom(why) => {
                let trouble = format!("no room on the disk: {why}; topics cannot be changed until there is");
                return out.push(ControllerOutput::Trouble(trouble));
            }
            DiskResult::Done | DiskResult::Data(_) => {}
        }
        while self.held.front().is_some_and(|(held, _)| *held <= token) {
            let messages = self.held.pop_front().map(|(_, messages)| messages).unwrap_or_default();
            out.extend(messages.into_iter().map(|(node, message)| ControllerOutput::Peer(node, message)));
        }
    }
}

#[cfg(test)]
mod tests;
