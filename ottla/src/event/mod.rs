//! What happens inside the client, as one list of events with stable names.
//!
//! The list is the source of everything that is observed: log lines (`tracing`) are made from it here, metrics and
//! test probes read it through [`Client::events`](crate::Client::events). Names never change; events and fields are
//! added.

mod bus;
mod log;

use std::{sync::Arc, time::Duration};

pub(crate) use bus::EventBus;
pub use bus::Events;

use crate::{Error, TopicPartition};

/// Something that happened inside the client.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A connection to a broker is ready for requests.
    #[non_exhaustive]
    BrokerConnected {
        /// The broker's id; -1 for a bootstrap server whose id is not known yet.
        node: i32,
        /// Host and port as the cluster (or the configuration) names them.
        address: Arc<str>,
        /// What the connection is for: `control`, `admin`, `produce`, `fetch`, `offsets`, `heartbeat` or `group`.
        lane: &'static str,
    },
    /// A connection ended.
    #[non_exhaustive]
    BrokerDisconnected {
        /// The broker's id; -1 for a bootstrap server whose id is not known yet.
        node: i32,
        /// Host and port.
        address: Arc<str>,
        /// What the connection was for.
        lane: &'static str,
        /// Why.
        error: Error,
    },
    /// A broker could not be connected to.
    #[non_exhaustive]
    BrokerUnreachable {
        /// The broker's id; -1 for a bootstrap server whose id is not known yet.
        node: i32,
        /// Host and port.
        address: Arc<str>,
        /// Why.
        error: Error,
    },
    /// A broker asked not to be sent anything for a while (KIP-219).
    #[non_exhaustive]
    Throttled {
        /// The broker's id.
        node: i32,
        /// For how long.
        duration: Duration,
    },
    /// What is known of the cluster changed.
    #[non_exhaustive]
    MetadataRefreshed {
        /// The version of the snapshot.
        version: u64,
        /// How many brokers it has.
        brokers: usize,
        /// How many topics it has.
        topics: usize,
    },
    /// Nobody could be asked about the cluster.
    #[non_exhaustive]
    MetadataFailed {
        /// Why.
        error: Error,
    },
    /// The coordinator of a group was found, and it is not the broker that it was before.
    #[non_exhaustive]
    CoordinatorChanged {
        /// The group.
        group: Arc<str>,
        /// The id of the broker that was it before; none the first time.
        from: Option<i32>,
        /// The id of the broker that is it now.
        to: i32,
    },
    /// Nobody names a coordinator of a group, or the one that is named cannot be reached; it is asked again.
    #[non_exhaustive]
    CoordinatorNotFound {
        /// The group.
        group: Arc<str>,
        /// Why.
        error: Error,
    },
    /// The fate of a batch of records is known.
    #[non_exhaustive]
    BatchProduced {
        /// Where the batch went.
        topic_partition: TopicPartition,
        /// How many records it has.
        records: u32,
        /// Its size as sent.
        bytes: usize,
        /// How often it was sent.
        attempts: u32,
        /// From the moment it was opened.
        elapsed: Duration,
        /// Its first offset, if the broker said which.
        offset: Option<i64>,
    },
    /// A batch of records failed.
    #[non_exhaustive]
    BatchFailed {
        /// Where the batch should have gone.
        topic_partition: TopicPartition,
        /// How many records it has.
        records: u32,
        /// How often it was sent.
        attempts: u32,
        /// Why; [`Error::possibly_written`] says whether it may be in the log.
        error: Error,
    },
    /// Records arrived from a broker.
    #[non_exhaustive]
    Fetched {
        /// The broker's id.
        node: i32,
        /// How many partitions the answer had records of.
        partitions: usize,
        /// Size of the answer.
        bytes: usize,
    },
    /// A consumer's position of a partition moved by itself.
    #[non_exhaustive]
    PositionReset {
        /// The partition.
        topic_partition: TopicPartition,
        /// Where it stood, if it stood anywhere.
        from: Option<i64>,
        /// Where it stands.
        to: i64,
        /// Why.
        reason: &'static str,
    },
    /// A partition of a consumer is held until the user does something.
    #[non_exhaustive]
    PartitionHeld {
        /// The partition.
        topic_partition: TopicPartition,
        /// Why.
        error: Error,
    },
    /// A topic that a consumer was told to read cannot be read: it does not exist, or not for this client. It is looked
    /// for all the same.
    #[non_exhaustive]
    TopicAbsent {
        /// The topic.
        topic: Arc<str>,
        /// What `poll` or `recv` gives.
        error: Error,
    },
    /// A program has passed records unprocessed.
    #[non_exhaustive]
    RecordsSkipped {
        /// The partition.
        topic_partition: TopicPartition,
        /// The first offset that was not complete.
        from: i64,
        /// Where reading goes on.
        to: i64,
        /// Why, in the program's words.
        reason: Arc<str>,
    },
    /// A consumer is a member of its group, of this generation.
    #[non_exhaustive]
    GroupJoined {
        /// The group.
        group: Arc<str>,
        /// What the coordinator calls the member.
        member: Arc<str>,
        /// Counts the rebalances of the group.
        generation: i32,
        /// Whether it was this member that shared out the partitions.
        leader: bool,
    },
    /// Partitions came, and are being read from here on.
    #[non_exhaustive]
    PartitionsAssigned {
        /// The group.
        group: Arc<str>,
        /// The partitions that were not there before.
        partitions: Arc<[TopicPartition]>,
    },
    /// Partitions went in good order: what was complete is committed.
    #[non_exhaustive]
    PartitionsRevoked {
        /// The group.
        group: Arc<str>,
        /// The partitions.
        partitions: Arc<[TopicPartition]>,
    },
    /// Partitions are gone together with the membership: another consumer may have them.
    #[non_exhaustive]
    PartitionsLost {
        /// The group.
        group: Arc<str>,
        /// The partitions.
        partitions: Arc<[TopicPartition]>,
        /// Why.
        cause: Error,
    },
    /// The group has ended the membership; the consumer joins again.
    #[non_exhaustive]
    SessionLost {
        /// The group.
        group: Arc<str>,
        /// How that became known.
        cause: Error,
    },
    /// The program has stopped working on what it was handed out, or does not ask for more: the consumer leaves its group and
    /// joins again when the program asks ([`processing_timeout`](crate::ConsumerBuilder::processing_timeout)).
    #[non_exhaustive]
    ProcessingStalled {
        /// The group.
        group: Arc<str>,
        /// The partition.
        topic_partition: TopicPartition,
        /// What `poll` or `recv` gives; its source is a [`Stall`](crate::Stall).
        error: Error,
    },
    /// Joining the group, or hearing of what it has assigned, failed; it is tried again.
    #[non_exhaustive]
    JoinFailed {
        /// The group.
        group: Arc<str>,
        /// Why.
        error: Error,
    },
    /// The group has not been heard of for so long that the membership may have ended: no record is handed out until
    /// it is.
    #[non_exhaustive]
    LeaseEnded {
        /// The group.
        group: Arc<str>,
    },
    /// The group was heard of after [`Event::LeaseEnded`], and the membership has not ended: records flow again.
    #[non_exhaustive]
    LeaseRenewed {
        /// The group.
        group: Arc<str>,
        /// For how long no record could be handed out.
        after: Duration,
    },
    /// A heartbeat had no answer.
    #[non_exhaustive]
    HeartbeatFailed {
        /// The group.
        group: Arc<str>,
        /// Why.
        error: Error,
    },
    /// A group has what was complete.
    #[non_exhaustive]
    OffsetsCommitted {
        /// The group.
        group: Arc<str>,
        /// Of how many partitions.
        partitions: usize,
        /// The offsets of the next records to be processed, by partition.
        offsets: Arc<[(TopicPartition, i64)]>,
    },
    /// A commit failed; it is tried again unless the partitions are gone.
    #[non_exhaustive]
    CommitFailed {
        /// The group.
        group: Arc<str>,
        /// Why.
        error: Error,
    },
    /// A rebalance listener failed, panicked, or did not return in time.
    #[non_exhaustive]
    ListenerFailed {
        /// The group.
        group: Arc<str>,
        /// Which of its methods: `on_assigned`, `on_revoked` or `on_lost`.
        method: &'static str,
        /// How.
        error: Error,
    },
    /// The group refuses the consumer for good.
    #[non_exhaustive]
    GroupFailed {
        /// The group.
        group: Arc<str>,
        /// Why.
        error: Error,
    },
    /// The consumer has left its group.
    #[non_exhaustive]
    GroupLeft {
        /// The group.
        group: Arc<str>,
    },
    /// The reader of [`Events`] was too slow; that many events are missing here.
    #[non_exhaustive]
    Missed {
        /// How many.
        count: u64,
    },
    /// The client was closed; the last event.
    #[non_exhaustive]
    ClientClosed,
}

impl Event {
    /// Its stable name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::BrokerConnected { .. } => "broker.connected",
            Self::BrokerDisconnected { .. } => "broker.disconnected",
            Self::BrokerUnreachable { .. } => "broker.unreachable",
            Self::Throttled { .. } => "broker.throttled",
            Self::MetadataRefreshed { .. } => "metadata.refreshed",
            Self::MetadataFailed { .. } => "metadata.failed",
            Self::CoordinatorChanged { .. } => "group.coordinator_changed",
            Self::CoordinatorNotFound { .. } => "group.coordinator_not_found",
            Self::BatchProduced { .. } => "produce.batch",
            Self::BatchFailed { .. } => "produce.batch_failed",
            Self::Fetched { .. } => "fetch.response",
            Self::PositionReset { .. } => "consumer.position_reset",
            Self::PartitionHeld { .. } => "consumer.partition_held",
            Self::TopicAbsent { .. } => "consumer.topic_absent",
            Self::RecordsSkipped { .. } => "consumer.records_skipped",
            Self::GroupJoined { .. } => "group.joined",
            Self::PartitionsAssigned { .. } => "group.partitions_assigned",
            Self::PartitionsRevoked { .. } => "group.partitions_revoked",
            Self::PartitionsLost { .. } => "group.partitions_lost",
            Self::SessionLost { .. } => "group.session_lost",
            Self::ProcessingStalled { .. } => "group.processing_stalled",
            Self::LeaseEnded { .. } => "group.lease_ended",
            Self::LeaseRenewed { .. } => "group.lease_renewed",
            Self::JoinFailed { .. } => "group.join_failed",
            Self::HeartbeatFailed { .. } => "group.heartbeat_failed",
            Self::OffsetsCommitted { .. } => "group.committed",
            Self::CommitFailed { .. } => "group.commit_failed",
            Self::ListenerFailed { .. } => "group.listener_failed",
            Self::GroupFailed { .. } => "group.failed",
            Self::GroupLeft { .. } => "group.left",
            Self::Missed { .. } => "events.missed",
            Self::ClientClosed => "client.closed",
        }
    }
}
