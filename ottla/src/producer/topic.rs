//! The topics that a producer writes to, and their partitions.
//!
//! A record finds its partition without a lock: a topic has a chain of tables, one for each number of partitions (or
//! incarnation) that it has had, and the last one counts. There are one or two.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock,
    atomic::{AtomicU32, Ordering},
};

use ottla_core::{
    metadata::TopicMetadata,
    produce::{Completion as CoreCompletion, Leader, PartitionQueue, QueueSettings, next_sticky},
};
use ottla_protocol::{Str, TopicId};

use super::{
    budget::Reservation,
    receipt::{BatchOutcome, Destination, Unheard},
    sender::Sender,
};
use crate::{Error, TopicPartition, net::lock};

/// A topic by its name; lives as long as the producer.
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    first: OnceLock<Arc<Table>>,
    /// Where records without a key go at the moment.
    sticky: AtomicU32,
    /// Held by whoever adds a table.
    updating: Mutex<()>,
}

/// The partitions of a topic.
pub(super) struct Table {
    id: TopicId,
    partitions: Box<[Arc<Partition>]>,
    next: OnceLock<Arc<Table>>,
}

/// One partition of a topic.
pub(super) struct Partition {
    pub(super) destination: Arc<Destination>,
    /// The topic's name as requests carry it.
    pub(super) wire_name: Str,
    slot: Mutex<Slot>,
    /// Batches that wait, or [`NO_LEADER`]; for the choice of a sticky partition.
    backlog: AtomicU32,
}

const NO_LEADER: u32 = u32::MAX;

/// What a partition's lock guards. Never held while waiting for anything.
pub(super) struct Slot {
    pub(super) queue: PartitionQueue<Completion>,
    pub(super) topic_id: TopicId,
    /// The sender of its leader.
    pub(super) sender: Option<Arc<Sender>>,
    /// That sender will look at it by itself.
    pub(super) listed: bool,
    /// The request that took a batch of it last.
    pub(super) draft: u64,
    /// Bytes since records without a key were sent here.
    pub(super) sticky_bytes: usize,
    /// The producer id that it uses or has used up.
    pub(super) adopted: Option<i64>,
    /// Why the last attempt failed.
    pub(super) trouble: Option<Error>,
    /// The producer is closed: no records any more.
    pub(super) closed: bool,
}

/// What a batch holds until it is done with: its memory, and whom to tell.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) outcome: Arc<BatchOutcome>,
    pub(super) reserved: Reservation,
}

impl CoreCompletion for Completion {
    fn split(mut self, at: u32) -> (Self, Self) {
        let (first, rest) = self.outcome.split(at);
        let half = self.reserved.split_off(self.reserved.bytes() / 2);
        (Self { outcome: first, reserved: self.reserved }, Self { outcome: rest, reserved: half })
    }
}

impl Topic {
    pub(super) fn new(name: &str, random: u64) -> Self {
        Self {
            name: name.into(),
            first: OnceLock::new(),
            // Producers that start together must not all begin with the first partition.
            sticky: AtomicU32::new((random >> 40) as u32),
            updating: Mutex::new(()),
        }
    }

    /// The partitions as far as they are known.
    #[inline]
    pub(super) fn table(&self) -> Option<&Arc<Table>> {
        let mut table = self.first.get()?;
        while let Some(next) = table.next.get() {
            table = next;
        }
        Some(table)
    }

    /// Every partition that there ever was: those of a former incarnation may still have records.
    pub(super) fn each_partition(&self, mut visit: impl FnMut(&Arc<Partition>)) {
        // A table contains those of the one before, except after a topic was created anew with fewer.
        let mut table = self.first.get();
        let mut seen = 0;
        while let Some(current) = table {
            current.partitions.iter().skip(seen).for_each(&mut visit);
            seen = seen.max(current.partitions.len());
            table = current.next.get();
        }
    }

    /// Takes over what the cluster says. The number of partitions never falls, unless it is another incarnation: an
    /// answer that lacks some is stale (and records that wait for them must not fail by it).
    pub(super) fn learn(
        &self,
        told: &TopicMetadata,
        settings: QueueSettings,
        unheard: &Arc<Unheard>,
        closed: bool,
    ) {
        let _updating = lock(&self.updating);
        let known = self.table();
        if known.is_some_and(|table| table.partitions.len() >= told.partitions.len() && table.id == told.id) {
            return;
        }
        // Former partitions keep their queues: what they hold goes to the new incarnation.
        let mut partitions: Vec<_> = Vec::with_capacity(told.partitions.len());
        self.each_partition(|partition| partitions.push(partition.clone()));
        partitions.truncate(told.partitions.len());
        for number in (0..).skip(partitions.len()).take(told.partitions.len() - partitions.len()) {
            let destination =
                Destination { topic: self.name.clone(), partition: number, unheard: unheard.clone() };
            partitions.push(Arc::new(Partition::new(destination, told, settings, closed)));
        }
        let table = Arc::new(Table { id: told.id, partitions: partitions.into(), next: OnceLock::new() });
        let place = known.map_or(&self.first, |last| &last.next);
        debug_assert!(place.get().is_none(), "tables are added with the lock held");
        place.get_or_init(|| table);
    }

    /// The partition that records without a key go to now.
    #[inline]
    pub(super) fn sticky<'t>(&self, table: &'t Table, random: impl FnOnce() -> u64) -> &'t Arc<Partition> {
        let chosen = self.sticky.load(Ordering::Relaxed) as usize % table.partitions.len();
        let partition = &table.partitions[chosen];
        if partition.backlog.load(Ordering::Relaxed) != NO_LEADER {
            return partition;
        }
        self.switch(table, random());
        &table.partitions[self.sticky.load(Ordering::Relaxed) as usize % table.partitions.len()]
    }

    /// Chooses another partition for records without a key.
    pub(super) fn switch(&self, table: &Table, random: u64) {
        let loads = table.partitions.iter().map(|partition| {
            Some(partition.backlog.load(Ordering::Relaxed)).filter(|load| *load != NO_LEADER)
        });
        if let Some(next) = next_sticky(random, loads) {
            self.sticky.store(next, Ordering::Relaxed);
        }
    }
}

impl Table {
    /// Never 0.
    #[inline]
    pub(super) fn len(&self) -> u32 {
        // Metadata counts partitions in 31 bits.
        self.partitions.len() as u32
    }

    #[inline]
    pub(super) fn get(&self, partition: u32) -> Option<&Arc<Partition>> {
        self.partitions.get(partition as usize)
    }
}

impl Partition {
    fn new(destination: Destination, told: &TopicMetadata, settings: QueueSettings, closed: bool) -> Self {
        Self {
            destination: Arc::new(destination),
            wire_name: told.name.clone(),
            slot: Mutex::new(Slot {
                queue: PartitionQueue::new(settings),
                topic_id: told.id,
                sender: None,
                listed: false,
                draft: 0,
                sticky_bytes: 0,
                adopted: None,
                trouble: None,
                closed,
            }),
            backlog: AtomicU32::new(NO_LEADER),
        }
    }

    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, Slot> {
        lock(&self.slot)
    }

    pub(super) fn number(&self) -> i32 {
        self.destination.partition
    }

    pub(super) fn topic_partition(&self) -> TopicPartition {
        TopicPartition::new(self.destination.topic.clone(), self.destination.partition)
    }

    /// Publishes how many batches wait. Called with the lock held.
    pub(super) fn publish_backlog(&self, slot: &Slot) {
        let waiting = slot
            .queue
            .leader()
            .map_or(NO_LEADER, |_: Leader| u32::try_from(slot.queue.len()).unwrap_or(NO_LEADER - 1));
        self.backlog.store(waiting, Ordering::Relaxed);
    }
}

impl Slot {
    /// Whether `sender` is to be told: there is one, and it does not look by itself. Marks it as told.
    pub(super) fn list(&mut self) -> Option<Arc<Sender>> {
        if self.listed {
            return None;
        }
        let sender = self.sender.clone()?;
        self.listed = true;
        Some(sender)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ottla_core::{backoff::BackoffPolicy, metadata::PartitionMetadata};

    use super::*;

    fn settings() -> QueueSettings {
        let second = Duration::from_secs(1);
        QueueSettings {
            batch_size: 1_000,
            linger: second,
            delivery_timeout: second,
            unknown_topic_grace: second,
            max_in_flight: 5,
            idempotent: true,
            compressed: false,
            backoff: BackoffPolicy::new(second, second),
        }
    }

    fn told(id: u8, partitions: usize) -> TopicMetadata {
        let partition = PartitionMetadata {
            leader: Some(1),
            leader_epoch: 1,
            error: ottla_protocol::ErrorCode::NONE,
            replicas: vec![1],
            isr: vec![1],
        };
        TopicMetadata {
            name: Str::from("orders"),
            id: TopicId([id; 16]),
            is_internal: false,
            partitions: vec![partition; partitions],
        }
    }

    fn learn(topic: &Topic, id: u8, partitions: usize) -> u32 {
        topic.learn(&told(id, partitions), settings(), &Arc::default(), false);
        topic.table().map_or(0, |table| table.len())
    }

    #[test]
    fn partitions_are_added_and_those_that_exist_stay_the_same() {
        let topic = Topic::new("orders", 0);
        assert!(topic.table().is_none());
        assert_eq!(learn(&topic, 1, 2), 2);
        let first = topic.table().and_then(|table| table.get(0)).expect("exists").clone();
        assert_eq!(learn(&topic, 1, 4), 4);
        assert!(Arc::ptr_eq(&first, topic.table().and_then(|table| table.get(0)).expect("exists")));
        let mut numbers = Vec::new();
        topic.each_partition(|partition| numbers.push(partition.number()));
        assert_eq!(numbers, [0, 1, 2, 3]);
    }

    #[test]
    fn a_stale_answer_takes_no_partition_away() {
        let topic = Topic::new("orders", 0);
        assert_eq!(learn(&topic, 1, 4), 4);
        assert_eq!(learn(&topic, 1, 3), 4);
    }

    #[test]
    fn a_topic_created_anew_may_have_fewer_and_the_others_are_still_visited() {
        let topic = Topic::new("orders", 0);
        learn(&topic, 1, 4);
        assert_eq!(learn(&topic, 2, 3), 3);
        let mut visited = 0;
        topic.each_partition(|_| visited += 1);
        assert_eq!(visited, 4);
        assert_eq!(learn(&topic, 2, 5), 5);
        assert_eq!(learn(&topic, 2, 4), 5);
    }
}
