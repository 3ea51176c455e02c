//! What nodes, and nodes and the controller, say to each other. No client ever sees these.
//!
//! Messages of one sender arrive in order or not at all; whoever needs an answer asks again after
//! `ClusterConfig::peer_retry`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::{ErrorCode, TopicId};

use crate::cluster::NodeConfig;
use crate::image::Image;
use crate::io::NodeId;
use crate::log::{EpochEnd, Floor};

/// A message between nodes, or between a node and the controller.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PeerMessage {
    /// Node to controller: I have started (or was told that I am not registered).
    Register {
        /// Who, and where clients find it.
        node: NodeConfig,
        /// Differs in every start of the node.
        incarnation: u64,
    },
    /// Node to controller: I live.
    Heartbeat {
        /// The registration that lives.
        incarnation: u64,
        /// The newest metadata it has; the controller sends what is newer.
        metadata_version: u64,
    },
    /// Node to controller: create topics.
    CreateTopics {
        /// Numbered by the node, to tell answers apart.
        request: u64,
        /// What to create.
        topics: Vec<NewTopic>,
        /// Only say whether it would be created.
        validate_only: bool,
    },
    /// Node to controller: delete topics.
    DeleteTopics {
        /// Numbered by the node, to tell answers apart.
        request: u64,
        /// The ids of the topics.
        topics: Vec<TopicId>,
    },
    /// Node to controller: change topics that exist.
    ChangeTopics {
        /// Numbered by the node, to tell answers apart.
        request: u64,
        /// What to change.
        changes: Vec<TopicChange>,
        /// Only say whether it would be changed.
        validate_only: bool,
    },
    /// Leader to controller: the in-sync replicas of a partition changed.
    AlterIsr {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: i32,
        /// The epoch of the leader that says so.
        leader_epoch: i32,
        /// The version of the partition that it has seen; the change is refused when there is a newer one.
        version: i32,
        /// The in-sync replicas that it wants, each with the registration under which it reported; a replica that
        /// has restarted since may have lost what it reported, and may not join (KIP-903).
        isr: Vec<(NodeId, u64)>,
    },
    /// Node to controller: give me a block of producer ids.
    AllocateProducerIds,

    /// Controller to node: the metadata of the cluster.
    Metadata(Arc<Image>),
    /// Controller to node: I do not know you (any more); register again.
    NotRegistered,
    /// Controller to node: the answer to `CreateTopics`, `DeleteTopics` or `ChangeTopics`, in the order of the
    /// request.
    TopicResults {
        /// The number of the request.
        request: u64,
        /// What became of each topic.
        results: Vec<TopicResult>,
    },
    /// Controller to leader: `AlterIsr` was refused.
    IsrRefused {
        /// The topic.
        topic: TopicId,
        /// The partition.
        partition: i32,
        /// The version of the partition that the controller has. If the leader has it too, nothing of what it asked
        /// for has been done, and nothing will be.
        version: i32,
    },
    /// Controller to node: a block of producer ids that nobody else gets.
    ProducerIds {
        /// The first id.
        first: i64,
        /// How many.
        count: i32,
    },

    /// Follower to leader: how far my log reaches. It asks for what follows, and acknowledges what was pushed.
    ReplicaState(ReplicaState),
    /// Leader to follower: batches to append, or where your log diverges.
    ReplicaAppend(ReplicaAppend),
}

/// A change of a topic that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicChange {
    /// Its name.
    pub topic: Arc<str>,
    /// What to change.
    pub change: Change,
}

/// What changes of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// It gets more partitions.
    Partitions {
        /// So many in all.
        count: i32,
        /// The replicas of each new partition, if the client chose them.
        assignments: Option<Vec<Vec<NodeId>>>,
    },
    /// Its settings change, one after the other.
    Config(Vec<ConfigChange>),
    /// A partition is led by its first replica again, if that one lives and is in sync.
    Leader {
        /// The partition.
        partition: i32,
        /// By any replica that lives, in sync or not, and only if nobody leads it.
        unclean: bool,
    },
}

/// A change of one setting, by Kafka's `AlterConfigOp`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigChange {
    /// It has this value from now on.
    Set(Arc<str>, Arc<str>),
    /// The cluster's value counts again.
    Delete(Arc<str>),
    /// These are added to the list that it is.
    Append(Arc<str>, Arc<str>),
    /// These are taken out of the list that it is.
    Subtract(Arc<str>, Arc<str>),
}

/// How far the log of a follower reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplicaState {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: i32,
    /// The epoch of the leader that it follows.
    pub leader_epoch: i32,
    /// The registration of the follower: it is another one after a restart.
    pub incarnation: u64,
    /// The end of what it has written (and synced, where the flush policy asks for it).
    pub end_offset: i64,
    /// The leader epoch of its last batch; -1 when its log is empty.
    pub last_epoch: i32,
    /// The first offset of its log, as its disk has it.
    pub start_offset: i64,
    /// It lacks something: send from `end_offset` again, whatever was sent before.
    pub resync: bool,
}

/// What a leader pushes to a follower.
#[derive(Debug, Clone)]
pub struct ReplicaAppend {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: i32,
    /// The epoch of the leader.
    pub leader_epoch: i32,
    /// The registration of the follower that it is meant for: what was sent to a former life of it is no answer to
    /// this one.
    pub incarnation: u64,
    /// The first offset of `data`; where it is empty, the end offset that the follower is known to have.
    pub base_offset: i64,
    /// Whole batches, or nothing.
    pub data: Bytes,
    /// The high watermark of the leader.
    pub high_watermark: i64,
    /// The first offset of the leader's log: the follower's begins no earlier.
    pub start_offset: i64,
    /// The leader has dropped what the follower lacks: the follower's log begins anew, there.
    pub begin_at: Option<Arc<Floor>>,
    /// The follower's log differs from the leader's: this is where the leader's log leaves the epoch of the
    /// follower's last batch. The follower cuts its log there and reports again.
    pub diverging: Option<EpochEnd>,
}

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// The name.
    pub name: Arc<str>,
    /// How many partitions; -1 is the cluster's default, and needed with `assignments`.
    pub partitions: i32,
    /// How many replicas; -1 is the cluster's default, and needed with `assignments`.
    pub replication_factor: i16,
    /// The replicas of each partition, where the client chose them.
    pub assignments: Vec<(i32, Vec<NodeId>)>,
    /// Settings.
    pub config: BTreeMap<Arc<str>, Option<Arc<str>>>,
}

/// What became of a topic that was to be created or deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicResult {
    /// The topic's name, where it is known.
    pub name: Option<Arc<str>>,
    /// The topic's id; zero where there is none.
    pub id: TopicId,
    /// Kafka's error code; `NONE` for success.
    pub error: ErrorCode,
    /// What is wrong.
    pub message: Option<String>,
    /// How many partitions the new topic has.
    pub partitions: i32,
    /// How many replicas each of them has.
    pub replication_factor: i16,
}
