//! What a cluster is configured with. Names and defaults are Kafka's where Kafka has the setting.

use std::time::Duration;

use crate::io::NodeId;

/// The configuration of a whole cluster; every node and the controller share one.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// The nodes, by ascending id.
    pub nodes: Vec<NodeConfig>,
    /// `cluster.id`. `None` draws one when the cluster first starts.
    pub cluster_id: Option<String>,
    /// `num.partitions`: of a topic that is created without a number.
    pub default_partitions: i32,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// `min.insync.replicas`, unless the topic says otherwise.
    pub min_insync_replicas: i32,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `unclean.leader.election.enable`, unless the topic says otherwise.
    pub unclean_leader_election: bool,
    /// `message.max.bytes`: the largest record batch, unless the topic says otherwise.
    pub max_message_bytes: i32,
    /// `socket.request.max.bytes`: the largest request frame.
    pub max_request_bytes: usize,
    /// The most bytes of requests that may wait on one connection behind the one being answered.
    pub max_queued_bytes: usize,
    /// `fetch.max.bytes`: the most a fetch response carries.
    pub fetch_max_bytes: i32,
    /// `replica.selector.class`: which replica serves a consumer that says where it stands.
    pub replica_selector: ReplicaSelector,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_session_slots: usize,
    /// `broker.heartbeat.interval.ms`: how often a node tells the controller that it lives.
    pub broker_heartbeat_interval: Duration,
    /// `broker.session.timeout.ms`: after this long without a heartbeat a node is fenced and its partitions move.
    pub broker_session_timeout: Duration,
    /// `replica.lag.time.max.ms`: a follower that was not caught up for this long leaves the in-sync set.
    pub replica_lag_time_max: Duration,
    /// How long a node waits for an answer of another node, or of the controller, before it asks again.
    pub peer_retry: Duration,
    /// `log.retention.check.interval.ms`: how often leaders drop what topics keep no longer.
    pub retention_check_interval: Duration,
    /// When appended batches are made to survive a crash of the machine.
    pub flush: FlushPolicy,
    /// The group coordinator.
    pub groups: GroupConfig,
}

/// What the group coordinator is configured with.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// `offsets.topic.num.partitions`. Kafka's default is 50; here it is 5, since a cluster for tests is made often.
    pub offsets_partitions: i32,
    /// `offsets.topic.replication.factor`.
    pub offsets_replication_factor: i16,
    /// `offset.metadata.max.bytes`: the most characters of metadata with an offset, counted as Java does.
    pub offset_metadata_max: usize,
    /// `offsets.commit.timeout.ms`: how long a write may take to be replicated.
    pub commit_timeout: Duration,
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout: Duration,
    /// `group.max.size`: the most members of a group.
    pub max_size: usize,
    /// `group.initial.rebalance.delay.ms`: how long the first rebalance of a group waits for more members. Kafka's
    /// default is 3 s; here there is none.
    pub initial_rebalance_delay: Duration,
}

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// The broker's id.
    pub id: NodeId,
    /// The advertised host.
    pub host: String,
    /// The advertised port.
    pub port: u16,
    /// `broker.rack`.
    pub rack: Option<String>,
}

/// Which replica a leader sends a consumer to that says where it stands (KIP-392). Followers serve consumers in any case, as far
/// as they know records to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplicaSelector {
    /// Nowhere: it serves the consumer itself.
    #[default]
    Leader,
    /// Kafka's `RackAwareReplicaSelector`: to an in-sync follower in the consumer's rack, unless it stands there itself.
    RackAware,
}

/// When appended batches are made to survive a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlushPolicy {
    /// Whenever the operating system likes, as Kafka does: replication is what protects acknowledged records.
    #[default]
    Never,
    /// Before an append counts: no acknowledgement is given for a batch that the disk has not confirmed.
    BeforeAck,
}

impl ClusterConfig {
    /// A cluster of `count` nodes with the ids `1..=count`, all at `host`, the first at `port` and the others
    /// behind it; with `port` 0 the driver fills in the ports.
    ///
    /// Replication factor and minimum in-sync replicas are those of a careful production cluster of that size:
    /// 3 and 2 with three nodes or more, otherwise the number of nodes and 1.
    #[must_use]
    pub fn with_nodes(count: usize, host: &str, port: u16) -> Self {
        let nodes = (0..count).map(|index| NodeConfig {
            // A cluster has a handful of nodes; both conversions hold for up to 32 thousand.
            id: index as NodeId + 1,
            host: host.to_owned(),
            port: if port == 0 { 0 } else { port.saturating_add(index as u16) },
            rack: None,
        });
        Self {
            nodes: nodes.collect(),
            cluster_id: None,
            default_partitions: 1,
            default_replication_factor: count.min(3) as i16,
            min_insync_replicas: if count >= 3 { 2 } else { 1 },
            auto_create_topics: true,
            unclean_leader_election: false,
            max_message_bytes: 1_048_588,
            max_request_bytes: 100 * 1024 * 1024,
            max_queued_bytes: 128 * 1024 * 1024,
            fetch_max_bytes: 55 * 1024 * 1024,
            replica_selector: ReplicaSelector::Leader,
            fetch_session_slots: 1_000,
            broker_heartbeat_interval: Duration::from_secs(2),
            broker_session_timeout: Duration::from_secs(9),
            replica_lag_time_max: Duration::from_secs(30),
            peer_retry: Duration::from_secs(1),
            retention_check_interval: Duration::from_secs(5 * 60),
            flush: FlushPolicy::Never,
            groups: GroupConfig {
                offsets_partitions: 5,
                offsets_replication_factor: count.min(3) as i16,
                offset_metadata_max: 4096,
                commit_timeout: Duration::from_secs(5),
                min_session_timeout: Duration::from_secs(6),
                max_session_timeout: Duration::from_secs(30 * 60),
                max_size: i32::MAX as usize,
                initial_rebalance_delay: Duration::ZERO,
            },
        }
    }

    /// The configuration of one node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeConfig> {
        self.nodes.iter().find(|node| node.id == id)
    }
}
