//! From a record to a place in its partition's open batch.
//!
//! ```text
//!  record ──▶ partition ──▶ lock ──▶ encode into the open batch ──▶ receipt
//!                │                      │ no room: close, open, grow  (once in some hundred records)
//!                ▼                      ▼ no memory
//!          topic unknown           unlock, wait in line, again
//! ```
//!
//! What every record pays: the choice of the partition, an uncontended lock, the encoding, and a reference count. It
//! allocates nothing, reads no clock, and wakes nobody unless its batch is new or full.

use std::{iter, sync::Arc, time::Duration};

use ottla_core::produce::{Refusal, partition_for_key};
use ottla_protocol::batch::BatchBuilder;

use super::{
    budget::Reservation,
    inner::Inner,
    interceptor::AddedHeaders,
    partitioner::{Choice, TopicView, ask},
    receipt::{BatchOutcome, Receipt},
    topic::{Completion, Partition, Slot, Table, Topic},
};
use crate::{Error, ErrorKind, Record, Result, net::now};

/// Why a record was not appended.
pub(super) enum Blocked {
    /// The partitions of its topic are not known.
    UnknownTopic,
    /// It asks for a partition that the topic does not have, as far as is known.
    UnknownPartition(i32),
    /// It has to wait for this much memory.
    Memory(usize),
    /// It will never do.
    Refused(Error),
}

/// The first bytes of a batch; it doubles from there.
const FIRST_GRAIN: usize = 4 * 1_024;
/// The most that a batch takes at once.
const LARGEST_GRAIN: usize = 32 * 1_024;

/// What a record takes in a batch at most, beyond its key, value and headers: lengths, deltas, counts.
const RECORD_OVERHEAD: usize = 36;
const HEADER_OVERHEAD: usize = 10;

impl Inner {
    /// Appends a record without waiting. `memory` is what was waited for, if there was not enough.
    #[inline]
    pub(super) fn append(
        self: &Arc<Self>,
        topic: &Topic,
        record: &Record<'_>,
        added: &AddedHeaders,
        memory: &mut Option<Reservation>,
    ) -> Result<Receipt, Blocked> {
        let table = topic.table().ok_or(Blocked::UnknownTopic)?;
        let (partition, sticky) = self.choose(topic, table, record)?;
        let mut slot = partition.lock();
        if slot.closed {
            return Err(Blocked::Refused(Error::closed()));
        }
        let timestamp = match (record.timestamp_ms(), slot.queue.base_timestamp()) {
            (Some(timestamp), _) => timestamp,
            (None, Some(base)) => base.max(self.clock.recent()),
            // The first record of a batch has the exact time.
            (None, None) => self.clock.publish(self.client.env.now()),
        };
        let (key, value) = (record.key_bytes(), record.value_bytes());
        let headers = added.behind(record);
        let bare = headers.len() == 0;
        let mut is_full = false;
        let index = loop {
            let appended = if bare {
                slot.queue.append(timestamp, key, value, iter::empty())
            } else {
                slot.queue.append(timestamp, key, value, headers.clone())
            };
            match appended {
                Ok(index) => break index,
                Err(Refusal::Full) => is_full = slot.queue.close(),
                Err(refusal) => {
                    if let Err(blocked) = self.make_room(&mut slot, partition, record, added, refusal, memory)
                    {
                        if is_full {
                            self.on_edge(partition, slot);
                        }
                        return Err(blocked);
                    }
                }
            }
        };
        let Some(completion) = slot.queue.open_completion() else {
            unreachable!("a record was just appended to the open batch");
        };
        let receipt = Receipt::new(completion.outcome.clone(), index);
        if sticky {
            slot.sticky_bytes +=
                value.map_or(0, <[u8]>::len) + key.map_or(0, <[u8]>::len) + RECORD_OVERHEAD / 3;
            if slot.sticky_bytes >= self.config.queue.batch_size {
                slot.sticky_bytes = 0;
                topic.switch(table, self.client.env.random());
            }
        }
        if index == 0 || is_full {
            self.on_edge(partition, slot);
        }
        Ok(receipt)
    }

    /// The partition of a record, and whether it is the sticky one.
    #[inline]
    fn choose<'t>(
        &self,
        topic: &Topic,
        table: &'t Table,
        record: &Record<'_>,
    ) -> Result<(&'t Arc<Partition>, bool), Blocked> {
        let choice = match (record.chosen_partition(), &self.partitioner) {
            (Some(partition), _) => Choice::Partition(partition),
            (None, None) if self.config.ignore_keys => Choice::Sticky,
            (None, None) => Choice::KeyHash,
            (None, Some(partitioner)) => {
                let view = TopicView::new(&topic.name, table.len() as usize);
                ask(&**partitioner, record, &view).map_err(Blocked::Refused)?
            }
        };
        let number = match (choice, record.key_bytes()) {
            (Choice::Partition(partition), _) => partition,
            (Choice::KeyHash, Some(key)) => partition_for_key(key, table.len()) as i32,
            (Choice::KeyHash, None) | (Choice::Sticky, _) => {
                return Ok((topic.sticky(table, || self.client.env.random()), true));
            }
        };
        if number < 0 {
            let what = format!("partition {number} of {} cannot exist", topic.name);
            return Err(Blocked::Refused(Error::misuse(what)));
        }
        let partition = table.get(number.unsigned_abs()).ok_or(Blocked::UnknownPartition(number))?;
        Ok((partition, false))
    }

    /// Opens a batch, or lets the open one grow.
    #[cold]
    fn make_room(
        &self,
        slot: &mut Slot,
        partition: &Partition,
        record: &Record<'_>,
        added: &AddedHeaders,
        refusal: Refusal,
        memory: &mut Option<Reservation>,
    ) -> Result<(), Blocked> {
        let needed = match refusal {
            Refusal::Grow { to } => to,
            _ => BatchBuilder::OVERHEAD + upper_bound(record, added),
        };
        self.check_size(&partition.destination.topic, needed)?;
        let has = slot.queue.open_completion().map_or(0, |completion| completion.reserved.bytes());
        let grain = has.clamp(FIRST_GRAIN, LARGEST_GRAIN);
        let wanted = needed.saturating_sub(has).max(grain).min(self.budget.total());
        let least = needed.saturating_sub(has);
        // What was waited for is used before anything else is asked for.
        let granted = memory.take().filter(|granted| granted.bytes() >= least);
        let reserved = match granted.or_else(|| self.budget.try_take(wanted)) {
            Some(reserved) => reserved,
            None => return Err(Blocked::Memory(wanted)),
        };
        match slot.queue.open_completion() {
            Some(completion) => {
                completion.reserved.add(reserved);
                let limit = completion.reserved.bytes();
                slot.queue.grow(limit);
            }
            None => {
                let limit = reserved.bytes();
                let outcome = Arc::new(BatchOutcome::new(partition.destination.clone()));
                slot.queue.open(self.buffers.take(), limit, Completion { outcome, reserved }, now());
                partition.publish_backlog(slot);
            }
        }
        Ok(())
    }

    fn check_size(&self, topic: &str, batch: usize) -> Result<(), Blocked> {
        let (most, setting) = if batch > self.config.max_batch() {
            (self.config.max_batch(), "max.request.size")
        } else if batch > self.budget.total() {
            (self.budget.total(), "buffer.memory")
        } else {
            return Ok(());
        };
        let what = format!(
            "a record for {topic} makes a batch of {batch} bytes; {setting} leaves room for {most}: \
             raise it, or send less in a record"
        );
        Err(Blocked::Refused(Error::misuse(what)))
    }

    /// The first record of a batch came, or a batch became full: its sender may have something to do.
    #[cold]
    fn on_edge(self: &Arc<Self>, partition: &Arc<Partition>, mut slot: std::sync::MutexGuard<'_, Slot>) {
        // Otherwise an answer will list it. What is compressed ahead does not wait for answers.
        if !slot.queue.has_room_in_flight() && !self.config.queue.compressed {
            return;
        }
        let listed = slot.list();
        drop(slot);
        if let Some(sender) = listed {
            sender.listed(self, partition.clone());
        }
    }
}

/// Bytes of a record in a batch, at most.
fn upper_bound(record: &Record<'_>, added: &AddedHeaders) -> usize {
    let len = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    let headers = added.behind(record).map(|header| header.key.len() + len(header.value) + HEADER_OVERHEAD);
    RECORD_OVERHEAD + len(record.key_bytes()) + len(record.value_bytes()) + headers.sum::<usize>()
}

/// Waiting.
impl Inner {
    /// Appends a record, and waits for memory or for its topic if it has to, at most `max.block.ms`.
    pub(super) async fn append_waiting(
        self: &Arc<Self>,
        topic: &Topic,
        record: &Record<'_>,
        added: &AddedHeaders,
        blocked: Blocked,
    ) -> Result<Receipt> {
        let most = self.config.max_block;
        let appended = tokio::time::timeout(most, self.append_when_possible(topic, record, added, blocked));
        tokio::select! {
            biased;
            () = self.ended() => Err(Error::closed()),
            appended = appended => match appended {
                Ok(appended) => appended,
                Err(_) => Err(self.gave_up_waiting(topic, record.chosen_partition(), most)),
            },
        }
    }

    async fn append_when_possible(
        self: &Arc<Self>,
        topic: &Topic,
        record: &Record<'_>,
        added: &AddedHeaders,
        mut blocked: Blocked,
    ) -> Result<Receipt> {
        let mut memory = None;
        loop {
            match blocked {
                Blocked::Refused(error) => return Err(error),
                Blocked::UnknownTopic => self.wait_for_topic(topic).await?,
                Blocked::UnknownPartition(number) => self.wait_for_partition(topic, number).await?,
                Blocked::Memory(bytes) => {
                    if !self.budget.is_exhausted() {
                        // Nothing is worth lingering for while somebody waits.
                        self.hurry();
                    }
                    memory = Some(self.budget.take(bytes).await);
                }
            }
            blocked = match self.append(topic, record, added, &mut memory) {
                Ok(receipt) => return Ok(receipt),
                Err(blocked) => blocked,
            };
        }
    }

    async fn wait_for_topic(self: &Arc<Self>, topic: &Topic) -> Result<()> {
        let told = self.client.metadata.topic(&topic.name).await?;
        self.learn(topic, &told);
        Ok(())
    }

    /// A topic may have got more partitions than is known.
    async fn wait_for_partition(self: &Arc<Self>, topic: &Topic, number: i32) -> Result<()> {
        let metadata = &self.client.metadata;
        let mut snapshot = metadata.snapshot();
        loop {
            if let Some(told) =
                snapshot.topics.get(&*topic.name).filter(|told| told.partition(number).is_some())
            {
                self.learn(topic, told);
                return Ok(());
            }
            metadata.refresh();
            snapshot = metadata.changed(snapshot.version).await;
        }
    }

    fn gave_up_waiting(&self, topic: &Topic, chosen: Option<i32>, most: Duration) -> Error {
        let waited = format!("within {most:?} (max.block.ms)");
        let is_beyond = |count: u32| chosen.filter(|number| number.unsigned_abs() >= count);
        let error = match topic.table().map(|table| (table.len(), is_beyond(table.len()))) {
            Some((count, Some(number))) => Error::timeout(format!(
                "topic {} has no partition {number}, only {count} in all, and did not get it {waited}",
                topic.name
            )),
            Some((_, None)) => Error::timeout(format!("no room for a record for {} {waited}", topic.name)),
            None => Error::timeout(format!("topic {} did not become known {waited}", topic.name)),
        };
        match self.client.metadata.last_error() {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }

    /// Sends everything without lingering.
    fn hurry(&self) {
        self.each_partition(|partition| {
            let listed = {
                let mut slot = partition.lock();
                slot.queue.hurry();
                (!slot.queue.is_empty()).then(|| slot.list()).flatten()
            };
            if let Some(sender) = listed {
                sender.list_quietly(partition.clone());
            }
        });
    }

    /// Begins to look for a topic, and takes over what is known already; true if that is enough.
    pub(super) fn look_up(self: &Arc<Self>, topic: &Topic) -> bool {
        match self.client.metadata.topic_now(&topic.name) {
            Some(told) => {
                self.learn(topic, &told);
                true
            }
            None => false,
        }
    }
}

impl From<Blocked> for TryEnqueueError {
    fn from(blocked: Blocked) -> Self {
        match blocked {
            Blocked::UnknownTopic => Self::UnknownTopic,
            Blocked::UnknownPartition(number) => Self::UnknownPartition(number),
            Blocked::Memory(_) => Self::BufferFull,
            Blocked::Refused(error) if error.kind() == ErrorKind::Closed => Self::Closed,
            Blocked::Refused(error) => Self::Refused(error),
        }
    }
}

/// Why [`Producer::try_enqueue`](crate::Producer::try_enqueue) did not take a record. Nothing was written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TryEnqueueError {
    /// The partitions of the topic are not known yet; they are being asked for.
    #[error("the topic is not known yet; it is being looked up")]
    UnknownTopic,
    /// The topic does not have this partition, as far as is known; the cluster is being asked again.
    #[error("the topic has no partition {0}, as far as is known")]
    UnknownPartition(i32),
    /// `buffer.memory` is used up.
    #[error("the buffer is full (buffer.memory)")]
    BufferFull,
    /// The record will never do.
    #[error("the record cannot be sent")]
    Refused(#[source] Error),
    /// The producer is closed.
    #[error("the producer is closed")]
    Closed,
}

impl From<TryEnqueueError> for Error {
    fn from(error: TryEnqueueError) -> Self {
        match error {
            TryEnqueueError::Refused(error) => error,
            TryEnqueueError::Closed => Self::closed(),
            other => Self::timeout("a record could not be taken at once").with_source(other),
        }
    }
}
