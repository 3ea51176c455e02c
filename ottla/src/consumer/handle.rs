//! The consumer as its users hold it.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Arc, Weak},
    time::SystemTime,
};

use ottla_core::fetch::{IsolationLevel, OffsetSpec};
use ottla_protocol::Str;
use tokio::task::coop::consume_budget;

use super::{
    assignment::Assignment,
    batch::Batch,
    builder::ConsumerBuilder,
    group::CloseOptions,
    inner::Inner,
    offsets::{self, LogOffsets, OffsetAndTimestamp},
    partition::Reader,
    pause::PauseHandle,
    ready::Waiting,
    received::ReceivedRecord,
    recv::give_way,
    stream::RecordStream,
};
use crate::{Client, Error, Result, TopicPartition, consumer::Pause, net::now};

/// Reads records: as a member of a group that [subscribes](Consumer::subscribe), or [by hand](Consumer::assign).
///
/// All methods take `&self`: clones and references can be used from many tasks at once. Each broker is fetched from by
/// a task of its own, so that a slow or idle one holds up nobody; each partition is independent of the others.
///
/// ```no_run
/// use ottla::*;
///
/// async fn store(record: &RecordView<'_>) -> Result<()> {
///     println!("{}@{}: {:?}", record.partition(), record.offset(), record.value());
///     Ok(())
/// }
///
/// async fn batches(client: &Client) -> Result<()> {
///     let consumer = Consumer::builder(client)
///         .group("billing")
///         .on_missing_offset(Reset::Earliest) // default: Reset::Error
///         .on_out_of_range(Reset::Error) // a policy of its own
///         .build()?;
///     consumer.subscribe(["orders", "refunds"])?; // or assign([(partition, OffsetSpec::Earliest)])
///     while let Some(batch) = consumer.poll().await? { // None: closed
///         for record in &batch { // views: no copy, no allocation
///             store(&record).await?; // an error: the rest is handed out again
///             record.complete();
///         }
///     }
///     Ok(())
/// }
///
/// async fn one_at_a_time(consumer: &Consumer) -> Result<()> {
///     while let Some(record) = consumer.recv().await? { // the lease is checked record by record
///         store(&record.view()).await?;
///         record.complete();
///     }
///     Ok(())
/// }
///
/// async fn sixteen_at_a_time(consumer: &Consumer) -> Result<()> {
///     let handle = async |record: ReceivedRecord| {
///         store(&record.view()).await?;
///         record.complete(); // in any order
///         Ok(())
///     };
///     futures::TryStreamExt::try_for_each_concurrent(consumer.stream(), 16, handle).await
/// }
///
/// async fn a_task_per_partition(consumer: &Consumer) -> Result<()> {
///     while let Some(partition) = consumer.next_partition().await? { // each assigned partition, once
///         tokio::spawn(async move {
///             while let Some(batch) = partition.poll().await? { // None: revoked
///                 for record in &batch {
///                     store(&record).await?;
///                 }
///                 batch.complete();
///             }
///             Ok::<_, Error>(()) // ended early: the partition is handed out again
///         });
///     }
///     Ok(())
/// }
///
/// async fn control(consumer: &Consumer) -> Result<()> {
///     let orders = TopicPartition::new("orders", 0);
///     let pause = consumer.pause([orders.clone()], Pause::by("breaker").because("payments answers 503"));
///     println!("{}", consumer.explain(&orders)); // paused by breaker for 12 s: payments answers 503
///     pause.resume(); // or drop; the pauses of others still hold
///     consumer.seek(&orders, OffsetSpec::Earliest).await?;
///     consumer.rewind_to_committed().await?;
///     println!("{:?}", consumer.assignment()[0].lease().remaining());
///     consumer.commit().await?; // what is completed; by itself every second
///     consumer.close_with(CloseOptions::new().remain()).await // `close()`: leave, unless static
/// }
/// # fn futures_can_be_sent<T: Send>(_: T) {}
/// # fn all(client: &Client, consumer: &Consumer) {
/// #     futures_can_be_sent(batches(client));
/// #     futures_can_be_sent(one_at_a_time(consumer));
/// #     futures_can_be_sent(a_task_per_partition(consumer));
/// #     futures_can_be_sent(control(consumer));
/// # }
/// ```
///
/// # In a group
/// *Only completing moves a commit.* What a program has handled it completes, and what is complete without a gap is
/// committed by itself. What is dropped incomplete (by `?`, a timeout, `select!`, a panic) is handed out again after a
/// back-off, before anything later of its partition; the other partitions flow. No record is handed out while the
/// membership may have ended: see [the lease](crate::ConsumerBuilder::group).
///
/// Several tasks that `poll` one consumer may hold successive batches of one partition; where order matters,
/// [`next_partition`](Consumer::next_partition) gives each task partitions of its own.
///
/// Whoever wants to keep bytes and duty apart takes a batch [into its parts](Batch::into_parts) and completes by offset:
///
/// ```no_run
/// # use ottla::*;
/// # async fn handle(records: &Records) -> Result<std::ops::RangeInclusive<i64>> { Ok(0..=records.len() as i64) }
/// async fn in_parts(batch: Batch) -> Result<()> {
///     let (assignment, records) = batch.into_parts(); // the duty goes with the assignment
///     tokio::select! {
///         () = assignment.revoking() => {} // the partition is being given back: finish, or drop
///         done = handle(&records) => assignment.complete(done?)?,
///     }
///     Ok(())
/// }
/// ```
///
/// # Errors
/// An error of `poll`, `recv` or the stream names the partition it is about and leaves that one held until a
/// [`seek`](Consumer::seek); the others go on with the next call. Its source is a [`Trouble`](crate::Trouble), which
/// has the offsets.
///
/// A topic that was named and may not be read is an error as soon as that is known, one that does not exist once it has not
/// for `default.api.timeout.ms`: each once, with an [`Absence`](crate::Absence) as its source. It is looked for all the
/// same, and read when it is there; everything else goes on with the next call.
///
/// What the client can cure by itself (brokers that are away, leaders that move) is never an error:
/// [`Consumer::explain`] tells.
#[derive(Clone)]
pub struct Consumer(Arc<Handle>);

/// The last one of these stops the tasks.
pub(super) struct Handle {
    inner: Arc<Inner>,
    is_owner: bool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.is_owner {
            self.inner.abandon();
        }
    }
}

impl Consumer {
    /// Settings for a new consumer of this client.
    pub fn builder(client: &Client) -> ConsumerBuilder {
        ConsumerBuilder::new(client)
    }

    pub(super) fn new(inner: Arc<Inner>) -> Self {
        let handle = Arc::new(Handle { inner, is_owner: true });
        // There is one handle of an owner for an `Inner`.
        let _ = handle.inner.handle.set(Arc::downgrade(&handle));
        Self(handle)
    }

    /// The consumer for its own rebalance listener: the user's handle, or, where nobody has one any more, one that does
    /// not count.
    pub(super) fn for_listener(inner: &Arc<Inner>) -> Self {
        let handle = inner.handle.get().and_then(Weak::upgrade);
        Self(handle.unwrap_or_else(|| Arc::new(Handle { inner: Arc::clone(inner), is_owner: false })))
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.0.inner
    }

    /// Reads these partitions from these places, in place of whatever was read before. Partitions that do not exist
    /// (yet) are waited for, and told of when that takes long: see [`Consumer`].
    ///
    /// # Errors
    /// `Misuse` for a partition that is named twice, for a negative number or offset, and after [`Consumer::subscribe`];
    /// `Closed`.
    pub fn assign(
        &self,
        partitions: impl IntoIterator<Item = (impl Into<TopicPartition>, OffsetSpec)>,
    ) -> Result<()> {
        let inner = self.open()?;
        let partitions: Vec<(TopicPartition, OffsetSpec)> =
            partitions.into_iter().map(|(partition, spec)| (partition.into(), spec)).collect();
        let mut seen = BTreeSet::new();
        for (partition, spec) in &partitions {
            check(partition, *spec)?;
            if !seen.insert(partition) {
                return Err(
                    Error::misuse("a partition is assigned twice").with_topic_partition(partition.clone())
                );
            }
        }
        let wanted = partitions
            .iter()
            .map(|(partition, spec)| (Str::from(partition.topic()), partition.partition(), *spec));
        if let Some(group) = &inner.group {
            group.read()?;
        }
        inner.with(|state| state.partitions.assign(wanted));
        let topics: BTreeSet<_> = partitions.iter().map(|(partition, _)| partition.topic()).collect();
        for topic in topics {
            inner.shared.metadata.topic_now(topic);
        }
        inner.on_metadata(&inner.shared.metadata.snapshot());
        inner.on_user_change();
        Ok(())
    }

    /// The partitions that are being read.
    #[must_use]
    pub fn assignment(&self) -> Vec<Assignment> {
        let inner = self.inner();
        let assigned: Vec<_> = inner.with(|state| {
            let assigned = state.partitions.assigned();
            assigned.map(|(topic, partition)| TopicPartition::new(&**topic, partition)).collect()
        });
        assigned.into_iter().map(|partition| Assignment::new(partition, inner)).collect()
    }

    /// The next records of one partition; `None` when the consumer is closed. Partitions take turns.
    ///
    /// Several tasks may poll one consumer. They may then hold successive batches of one partition.
    ///
    /// It gives way to other tasks now and then although records are there, as everything of tokio does: a handler that never
    /// waits for anything holds up no heartbeat and no commit.
    ///
    /// # Errors
    /// A partition is held; see [`Consumer`].
    ///
    /// # Cancel safety
    /// Nothing is taken when the future is dropped before it is ready.
    pub async fn poll(&self) -> Result<Option<Batch>> {
        give_way().await;
        self.next(|inner| inner.try_poll(Reader::Any)).await
    }

    /// The next record; `None` when the consumer is closed. It gives way to other tasks as [`Consumer::poll`] does.
    ///
    /// # Errors
    /// A partition is held; see [`Consumer`].
    ///
    /// # Cancel safety
    /// Nothing is taken when the future is dropped before it is ready.
    pub async fn recv(&self) -> Result<Option<ReceivedRecord>> {
        consume_budget().await;
        self.next(Inner::try_recv).await
    }

    /// The records from here on as a stream. It shares the position with `poll` and `recv`.
    pub fn stream(&self) -> RecordStream {
        RecordStream::new(self.clone())
    }

    async fn next<T>(&self, look: impl Fn(&Inner) -> Result<Option<T>>) -> Result<Option<T>> {
        let inner = self.inner();
        loop {
            // Mostly something is there, and registering for news costs more than the look.
            if !inner.is_closed()
                && let Some(found) = look(inner)?
            {
                return Ok(Some(found));
            }
            let _waiting = Waiting::in_line(&inner.ready);
            let ready = inner.ready.notified();
            tokio::pin!(ready);
            // From here on nothing is missed.
            ready.as_mut().enable();
            if inner.is_closed() {
                return Ok(None);
            }
            if let Some(found) = look(inner)? {
                return Ok(Some(found));
            }
            ready.await;
        }
    }

    /// The offset of the next record that will be handed out; `None` if the partition is not assigned, or its place not
    /// known yet.
    #[must_use]
    pub fn position(&self, partition: &TopicPartition) -> Option<i64> {
        let unpacked = self.inner().unpacked_position(partition);
        let (topic, number) = (partition.topic(), partition.partition());
        self.inner().with(|state| {
            let again = state.first_waiting(topic, number);
            again.or(unpacked).or_else(|| state.partitions.position(topic, number))
        })
    }

    /// Goes on at another place, and ends a hold. Waits until the place is known, and so for a broker unless it is an
    /// offset. Nothing from before the call is handed out after it.
    ///
    /// Who goes on behind a record that was read says so with [`OffsetSpec::behind`], so that a log that was cut meanwhile is
    /// noticed (KIP-320):
    ///
    /// ```no_run
    /// # use ottla::*;
    /// # async fn go_on(consumer: &Consumer, last: &RecordView<'_>) -> Result<()> {
    /// let place = OffsetSpec::behind(last.offset(), last.leader_epoch());
    /// consumer.seek(last.topic_partition(), place).await
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Misuse` when the partition is not assigned or the offset is negative; `Timeout` when nobody could be asked within
    /// `default.api.timeout.ms` (the consumer goes on trying); `Closed`.
    ///
    /// # Cancel safety
    /// The position is the old one or the new one when the future is dropped.
    pub async fn seek(&self, partition: &TopicPartition, to: OffsetSpec) -> Result<()> {
        let inner = self.open()?;
        check(partition, to)?;
        let (topic, number) = (partition.topic(), partition.partition());
        if !inner.with(|state| state.seek(topic, number, to)) {
            return Err(
                Error::misuse("the partition is not assigned").with_topic_partition(partition.clone())
            );
        }
        inner.on_seek();
        let bound = inner.shared.config.default_api_timeout;
        match tokio::time::timeout(bound, inner.until_resolved(topic, number)).await {
            Ok(()) => self.open().map(drop),
            Err(_) => {
                let error = Error::timeout(format!("the place {to:?} was not found in time"));
                Err(error.with_topic_partition(partition.clone()))
            }
        }
    }

    /// Hands out nothing of these partitions until the handle is resumed or dropped; other pauses hold on their own.
    /// What is buffered stays. Partitions that are not assigned are left out, and a new assignment is not paused.
    ///
    /// A batch that was handed out before is not touched.
    pub fn pause(
        &self,
        partitions: impl IntoIterator<Item = impl Into<TopicPartition>>,
        pause: Pause,
    ) -> PauseHandle {
        let partitions: Vec<TopicPartition> = partitions.into_iter().map(Into::into).collect();
        let inner = self.inner();
        let id = inner.with(|state| {
            let named = partitions.iter().map(|partition| (partition.topic(), partition.partition()));
            state.partitions.pause(named, &pause, now())
        });
        // Brokers need not be asked for less at once, and who waits for records goes on waiting.
        inner.on_change();
        PauseHandle::new(inner, id)
    }

    /// The oldest offset of each of these partitions, assigned or not.
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION` after some seconds, missing rights, or `Timeout` after `default.api.timeout.ms`.
    pub async fn beginning_offsets(
        &self,
        partitions: impl IntoIterator<Item = impl Into<TopicPartition>>,
    ) -> Result<Vec<(TopicPartition, i64)>> {
        offsets::list_present(self.open()?, partitions, OffsetSpec::Earliest).await
    }

    /// The offset behind the newest record of each of these partitions, assigned or not; for a reader of committed
    /// records, the offset of the first record that is not decided.
    ///
    /// # Errors
    /// As [`Consumer::beginning_offsets`].
    pub async fn end_offsets(
        &self,
        partitions: impl IntoIterator<Item = impl Into<TopicPartition>>,
    ) -> Result<Vec<(TopicPartition, i64)>> {
        offsets::list_present(self.open()?, partitions, OffsetSpec::Latest).await
    }

    /// The first record of each of these partitions that is at least as new as that time, if there is one.
    ///
    /// # Errors
    /// As [`Consumer::beginning_offsets`].
    pub async fn offsets_for_times(
        &self,
        times: impl IntoIterator<Item = (impl Into<TopicPartition>, SystemTime)>,
    ) -> Result<Vec<(TopicPartition, Option<OffsetAndTimestamp>)>> {
        offsets::list_for_times(self.open()?, times).await
    }

    /// How many offsets lie between the position and the end of what may be read, as the partition's leader said last
    /// (KIP-695); asks nobody. `None` if the partition is not assigned, or nothing was heard of it yet.
    #[must_use]
    pub fn current_lag(&self, partition: &TopicPartition) -> Option<i64> {
        let position = self.position(partition)?;
        let inner = self.inner();
        let marks =
            inner.with(|state| state.partitions.log_marks(partition.topic(), partition.partition()))?;
        let end = match inner.config.fetch.isolation {
            IsolationLevel::ReadCommitted => marks.last_stable,
            _ => marks.high_watermark,
        };
        (end >= 0).then(|| (end - position).max(0))
    }

    /// From where to where the log of a partition goes, as its leader said last; asks nobody. `None` if the partition is not
    /// assigned, or nothing was heard of it yet.
    #[must_use]
    pub fn log_offsets(&self, partition: &TopicPartition) -> Option<LogOffsets> {
        let marks = self
            .inner()
            .with(|state| state.partitions.log_marks(partition.topic(), partition.partition()))?;
        (marks.high_watermark >= 0).then_some(LogOffsets {
            start: marks.start,
            last_stable: marks.last_stable,
            high_watermark: marks.high_watermark,
        })
    }

    /// Why a partition does not move, or that it does, in one line for people.
    #[must_use]
    pub fn explain(&self, partition: &TopicPartition) -> String {
        let (topic, number) = (partition.topic(), partition.partition());
        if self.inner().is_closed() {
            return "the consumer is closed".to_owned();
        }
        let group = self.inner().group.as_ref().filter(|group| group.has_subscribed());
        if let Some(why) = group.and_then(|group| group.explain(topic, number)) {
            return why;
        }
        if let Some(why) = self.inner().with(|state| state.explain_owned(topic, number, now())) {
            return why;
        }
        if let Some(offset) = self.inner().unpacked_position(partition) {
            return format!("waits for recv or poll: records from offset {offset} on are unpacked");
        }
        self.inner().with(|state| {
            let waits_for = state.partitions.waits_for(topic, number, now());
            match waits_for.and_then(|node| state.unreachable.get(&node)) {
                Some(error) => format!("its leader does not answer: {error}"),
                None => state.partitions.explain(topic, number, now()),
            }
        })
    }

    /// Ends reading: whoever waits in `poll` or `recv` gets `None`. What was handed out has
    /// [some time](crate::ConsumerBuilder::drain_timeout) to become complete and is committed, and the consumer leaves its
    /// group, unless it has a [`group_instance_id`](crate::ConsumerBuilder::group_instance_id). Takes at most 30 s, whatever
    /// the brokers do.
    ///
    /// # Errors
    /// `Timeout` when the group could not be told in time: it goes on without the consumer when the session ends.
    ///
    /// # Cancel safety
    /// It goes on in the background.
    pub async fn close(&self) -> Result<()> {
        self.close_with(CloseOptions::new()).await
    }

    pub(super) fn open(&self) -> Result<&Arc<Inner>> {
        let inner = self.inner();
        if inner.is_closed() { Err(Error::closed()) } else { Ok(inner) }
    }
}

fn check(partition: &TopicPartition, spec: OffsetSpec) -> Result<()> {
    let wrong = match spec {
        _ if partition.partition() < 0 => "a partition's number is not negative",
        OffsetSpec::At(..0) | OffsetSpec::AtEpoch { offset: ..0, .. } => "an offset is not negative",
        OffsetSpec::AtEpoch { leader_epoch: ..0, .. } => "a leader epoch is not negative",
        _ => return Ok(()),
    };
    Err(Error::misuse(wrong).with_topic_partition(partition.clone()))
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("assignment", &self.assignment()).finish_non_exhaustive()
    }
}
