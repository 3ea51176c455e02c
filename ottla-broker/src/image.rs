//! The metadata of the cluster as the controller knows it at one version.
//!
//! The controller hands images to the nodes; a node's image may be older than the controller's, as in a real
//! cluster. Topics are shared between images, so that a node sees what changed by comparing pointers.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::TopicId;

use crate::{coordinator, io::NodeId};

/// The metadata of the cluster at one version.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// The cluster's id.
    pub cluster_id: Arc<str>,
    /// Counts the changes of metadata.
    pub version: u64,
    /// The nodes that live, by id.
    pub brokers: BTreeMap<NodeId, Broker>,
    /// The topics by name.
    pub topics: BTreeMap<Arc<str>, Arc<Topic>>,
    /// The names of the topics by id.
    pub names: BTreeMap<TopicId, Arc<str>>,
}

/// A node that lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// The advertised host.
    pub host: Arc<str>,
    /// The advertised port.
    pub port: u16,
    /// `broker.rack`.
    pub rack: Option<Arc<str>>,
    /// The registration, which changes when the node restarts.
    pub incarnation: u64,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// The id of this incarnation of the name.
    pub id: TopicId,
    /// The settings that differ from the cluster's, by name.
    pub config: BTreeMap<Arc<str>, Arc<str>>,
    /// The partitions, by index.
    pub partitions: Vec<Partition>,
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Who leads it; nobody while no in-sync replica lives.
    pub leader: Option<NodeId>,
    /// Counts the elections.
    pub leader_epoch: i32,
    /// Counts the changes (Kafka's partition epoch).
    pub version: i32,
    /// Where its replicas are; the first is preferred as leader.
    pub replicas: Vec<NodeId>,
    /// The replicas that hold everything that was committed.
    pub isr: Vec<NodeId>,
}

impl Image {
    /// The topic of that name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// The topic of that id.
    #[must_use]
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.names.get(&id).and_then(|name| self.topics.get(name))
    }

    /// The partition of the topic of that id.
    #[must_use]
    pub fn partition(&self, id: TopicId, index: i32) -> Option<&Partition> {
        self.topic_by_id(id)?.partition(index)
    }

    /// The partition of `__consumer_offsets` whose leader coordinates a group, with the id of that topic; nothing while there
    /// is no such topic.
    #[must_use]
    pub fn partition_of_group(&self, group: &str) -> Option<(TopicId, i32)> {
        let topic = self.topic(coordinator::TOPIC)?;
        Some((topic.id, coordinator::partition_of(group, topic.partitions.len())))
    }
}

impl Partition {
    /// Whether an election could give it a better leader: any at all if it is `unclean`, else the first replica.
    pub(crate) fn lacks_leader(&self, unclean: bool) -> bool {
        self.leader.is_none() || !unclean && self.leader != self.replicas.first().copied()
    }
}

impl Topic {
    /// The partition of that index.
    #[must_use]
    pub fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    /// Whether Kafka itself keeps its state in it.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        matches!(&*self.name, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
    }

    /// Whether its records may be dropped before others replace them: `cleanup.policy` has `delete`.
    #[must_use]
    pub fn is_deleting(&self) -> bool {
        let policies = self.config.get("cleanup.policy").map_or("delete", |policies| &**policies);
        !self.is_internal() && policies.split(',').any(|policy| policy.trim() == "delete")
    }

    /// A setting of the topic as a number; `None` when it is not set.
    #[must_use]
    pub fn number<N: std::str::FromStr>(&self, name: &str) -> Option<N> {
        self.config.get(name)?.parse().ok()
    }
}
