//! What happens inside the client, as one list of events with stable names.
//!
//! The list is the source of everything that is observed: log lines (`tracing`) are made from it here, metrics and
//! test probes read it through [`Client::events`](crate::Client::events). Names never change; events and fields are
//! added.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

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

    /// The log line. Levels: WARN when somebody should look, INFO when it explains something else, DEBUG otherwise.
    fn trace(&self) {
        let event = self.name();
        match self {
            Self::BrokerConnected { node, address, lane } => {
                tracing::debug!(target: "ottla", event, node, %address, lane, "connected");
            }
            // Clusters are restarted all the time: nobody should be woken by it.
            Self::BrokerDisconnected { node, address, lane, error } => {
                tracing::info!(target: "ottla", event, node, %address, lane, error = format_args!("{error:#}"), "disconnected");
            }
            Self::BrokerUnreachable { node, address, error } => {
                tracing::warn!(target: "ottla", event, node, %address, error = format_args!("{error:#}"), "cannot connect");
            }
            Self::Throttled { node, duration } => {
                tracing::info!(target: "ottla", event, node, ?duration, "throttled by a quota of the broker");
            }
            Self::MetadataRefreshed { version, brokers, topics } => {
                tracing::debug!(target: "ottla", event, version, brokers, topics, "cluster metadata changed");
            }
            Self::MetadataFailed { error } => {
                tracing::warn!(target: "ottla", event, error = format_args!("{error:#}"), "no broker answers")
            }
            Self::CoordinatorChanged { group, from, to } => {
                tracing::info!(target: "ottla", event, %group, from, to, "coordinator found");
            }
            Self::BatchProduced { topic_partition, records, bytes, attempts, elapsed, offset } => {
                tracing::trace!(target: "ottla", event, %topic_partition, records, bytes, attempts, ?elapsed, offset, "batch written");
            }
            Self::BatchFailed { topic_partition, records, attempts, error } => {
                tracing::warn!(target: "ottla", event, %topic_partition, records, attempts, error = format_args!("{error:#}"), "batch failed");
            }
            Self::Fetched { node, partitions, bytes } => {
                tracing::trace!(target: "ottla", event, node, partitions, bytes, "fetched");
            }
            Self::PositionReset { topic_partition, from, to, reason } => {
                tracing::info!(target: "ottla", event, %topic_partition, from, to, reason, "position reset");
            }
            Self::PartitionHeld { topic_partition, error } => {
                tracing::warn!(target: "ottla", event, %topic_partition, error = format_args!("{error:#}"), "partition held");
            }
            Self::TopicAbsent { topic, error } => {
                tracing::warn!(target: "ottla", event, %topic, error = format_args!("{error:#}"), "topic cannot be read");
            }
            Self::RecordsSkipped { topic_partition, from, to, reason } => {
                tracing::warn!(target: "ottla", event, %topic_partition, from, to, %reason, "records skipped");
            }
            // It exists only in a reader's queue.
            Self::Missed { .. } => {}
            Self::ClientClosed => tracing::debug!(target: "ottla", event, "client closed"),
            group => group.trace_group(),
        }
    }

    /// [`Self::trace`] for what happens in groups.
    fn trace_group(&self) {
        let event = self.name();
        match self {
            Self::GroupJoined { group, member, generation, leader } => {
                tracing::info!(target: "ottla", event, %group, %member, generation, leader, "joined");
            }
            Self::PartitionsAssigned { group, partitions } => {
                tracing::info!(target: "ottla", event, %group, partitions = %List(partitions), "partitions assigned");
            }
            Self::PartitionsRevoked { group, partitions } => {
                tracing::info!(target: "ottla", event, %group, partitions = %List(partitions), "partitions revoked");
            }
            Self::PartitionsLost { group, partitions, cause } => {
                tracing::warn!(target: "ottla", event, %group, partitions = %List(partitions), cause = format_args!("{cause:#}"), "partitions lost");
            }
            Self::SessionLost { group, cause } => {
                tracing::warn!(target: "ottla", event, %group, cause = format_args!("{cause:#}"), "session lost");
            }
            Self::ProcessingStalled { group, topic_partition, error } => {
                tracing::warn!(target: "ottla", event, %group, %topic_partition, error = format_args!("{error:#}"), "the program has stopped working");
            }
            Self::LeaseEnded { group } => {
                tracing::warn!(target: "ottla", event, %group, "lease ended: no record is handed out");
            }
            Self::LeaseRenewed { group, after } => {
                tracing::info!(target: "ottla", event, %group, ?after, "lease renewed");
            }
            Self::JoinFailed { group, error } => {
                tracing::info!(target: "ottla", event, %group, error = format_args!("{error:#}"), "not joined yet");
            }
            Self::HeartbeatFailed { group, error } => {
                tracing::info!(target: "ottla", event, %group, error = format_args!("{error:#}"), "heartbeat failed");
            }
            Self::OffsetsCommitted { group, partitions, .. } => {
                tracing::debug!(target: "ottla", event, %group, partitions, "committed");
            }
            Self::CommitFailed { group, error } => {
                tracing::warn!(target: "ottla", event, %group, error = format_args!("{error:#}"), "commit failed");
            }
            Self::ListenerFailed { group, method, error } => {
                tracing::warn!(target: "ottla", event, %group, method, error = format_args!("{error:#}"), "rebalance listener failed");
            }
            Self::GroupFailed { group, error } => {
                tracing::error!(target: "ottla", event, %group, error = format_args!("{error:#}"), "the group refuses the consumer");
            }
            Self::GroupLeft { group } => tracing::info!(target: "ottla", event, %group, "left"),
            _ => {}
        }
    }
}

/// Partitions in a log line.
struct List<'a>(&'a [TopicPartition]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, partition) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{partition}")?;
        }
        Ok(())
    }
}

/// Hands every event to the log and to whoever listens.
#[derive(Clone, Default)]
pub(crate) struct EventBus(Arc<Mutex<Listeners>>);

#[derive(Default)]
struct Listeners {
    queues: Vec<Weak<Mutex<Queue>>>,
    closed: bool,
}

impl EventBus {
    pub(crate) fn emit(&self, event: Event) {
        event.trace();
        let queues = &mut lock(&self.0).queues;
        if queues.is_empty() {
            return;
        }
        queues.retain(|listener| match listener.upgrade() {
            Some(queue) => {
                push(&queue, event.clone());
                true
            }
            None => false,
        });
    }

    pub(crate) fn listen(&self) -> Events {
        let mut listeners = lock(&self.0);
        let queue = Arc::new(Mutex::new(Queue { closed: listeners.closed, ..Queue::default() }));
        listeners.queues.push(Arc::downgrade(&queue));
        drop(listeners);
        Events(queue)
    }

    /// The last event, after which listeners see the end.
    pub(crate) fn close(&self) {
        self.emit(Event::ClientClosed);
        let mut listeners = lock(&self.0);
        listeners.closed = true;
        for queue in listeners.queues.drain(..).filter_map(|listener| listener.upgrade()) {
            let mut queue = lock(&queue);
            queue.closed = true;
            queue.wake();
        }
    }
}

/// The events of a client, from the moment of [`Client::events`](crate::Client::events) on; also a
/// [`Stream`](futures_core::Stream).
///
/// A reader that falls more than 1,024 events behind gets [`Event::Missed`] in place of the ones that it lost.
#[derive(Debug)]
#[must_use = "events are only kept while somebody reads them"]
pub struct Events(Arc<Mutex<Queue>>);

impl Events {
    /// The next event; `None` when the client is closed.
    ///
    /// # Cancel safety
    /// Nothing is taken when the future is dropped before it is ready.
    pub async fn recv(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut queue = lock(&self.0);
        if queue.missed > 0 {
            let count = std::mem::take(&mut queue.missed);
            return Poll::Ready(Some(Event::Missed { count }));
        }
        match queue.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if queue.closed => Poll::Ready(None),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl futures_core::Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.get_mut().poll_recv(cx)
    }
}

const CAPACITY: usize = 1_024;

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<Event>,
    /// Events that were dropped before the first one in `events`.
    missed: u64,
    closed: bool,
    waker: Option<Waker>,
}

impl Queue {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

fn push(queue: &Mutex<Queue>, event: Event) {
    let mut queue = lock(queue);
    if queue.events.len() == CAPACITY {
        queue.events.pop_front();
        queue.missed += 1;
    }
    queue.events.push_back(event);
    queue.wake();
}

// Nothing that runs under these locks can panic half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttled(node: i32) -> Event {
        Event::Throttled { node, duration: Duration::from_millis(1) }
    }

    #[tokio::test]
    async fn a_listener_sees_what_happens_after_it_began_to_listen() {
        let bus = EventBus::default();
        bus.emit(throttled(1));
        let mut events = bus.listen();
        bus.emit(throttled(2));
        assert!(matches!(events.recv().await, Some(Event::Throttled { node: 2, .. })));
    }

    #[tokio::test]
    async fn a_slow_listener_learns_how_many_events_it_lost() {
        let bus = EventBus::default();
        let mut events = bus.listen();
        for node in 0..CAPACITY as i32 + 3 {
            bus.emit(throttled(node));
        }
        assert!(matches!(events.recv().await, Some(Event::Missed { count: 3 })));
        assert!(matches!(events.recv().await, Some(Event::Throttled { node: 3, .. })));
    }

    #[tokio::test]
    async fn the_end_of_the_client_is_the_last_event() {
        let bus = EventBus::default();
        let mut events = bus.listen();
        bus.close();
        assert_eq!(events.recv().await.map(|event| event.name()), Some("client.closed"));
        assert!(events.recv().await.is_none());
        assert!(bus.listen().recv().await.is_none(), "who comes later finds the end as well");
    }
}
