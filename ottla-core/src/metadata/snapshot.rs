//! What was known of the cluster at one moment.

use std::{collections::BTreeMap, sync::Arc};

use ottla_protocol::{ErrorCode, Str, TopicId};

/// What was known of the cluster at one moment; never changes, only replaced.
#[derive(Debug, Clone, Default)]
pub struct ClusterSnapshot {
    /// Grows with every change.
    pub version: u64,
    /// The cluster's id, if it has said it.
    pub cluster_id: Option<Str>,
    /// The broker that does administrative work; -1 if unknown.
    pub controller_id: i32,
    /// The brokers, by id.
    pub brokers: BTreeMap<i32, BrokerAddress>,
    /// The topics that somebody asked for, by name.
    pub topics: BTreeMap<Str, Arc<TopicMetadata>>,
    /// The same topics by id, as far as the cluster has topic ids (KIP-516).
    pub topics_by_id: BTreeMap<TopicId, Arc<TopicMetadata>>,
}

/// A broker, and where it says that clients shall connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Its id in the cluster: what identifies it, wherever it moves.
    pub id: i32,
    /// A name or a literal IP address.
    pub host: Str,
    /// Never 0.
    pub port: u16,
    /// The rack or zone it stands in.
    pub rack: Option<Str>,
}

/// A topic and its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    /// The name.
    pub name: Str,
    /// The id of this incarnation; zero on clusters without topic ids.
    pub id: TopicId,
    /// Whether it belongs to Kafka itself, as `__consumer_offsets` does.
    pub is_internal: bool,
    /// By partition number, without gaps, at least one.
    pub partitions: Vec<PartitionMetadata>,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// Who leads it; `None` while nobody does. It was one of the brokers when it was told; where an older answer is
    /// kept, because the newest left the partition out or was stale, it may have left the snapshot since.
    pub leader: Option<i32>,
    /// Grows with every new leader; -1 if unknown.
    pub leader_epoch: i32,
    /// Why it has no leader, if the broker said why.
    pub error: ErrorCode,
    /// Who has a copy.
    pub replicas: Vec<i32>,
    /// Whose copy is complete.
    pub isr: Vec<i32>,
}

impl ClusterSnapshot {
    /// The partition, if its topic is known and has it.
    #[must_use]
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionMetadata> {
        self.topics.get(topic)?.partition(partition)
    }

    /// Who leads the partition, if that is known.
    #[must_use]
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        self.partition(topic, partition)?.leader
    }
}

impl TopicMetadata {
    /// The partition of that number.
    #[must_use]
    pub fn partition(&self, partition: i32) -> Option<&PartitionMetadata> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }
}
