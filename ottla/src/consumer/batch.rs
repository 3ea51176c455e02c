//! Records of one partition as views of the bytes they came in.

use std::{
    fmt,
    iter::FusedIterator,
    ops::{Deref, Range},
    sync::Arc,
};

use ottla_core::fetch::{Lease, Section, Ticket};
use ottla_protocol::batch::{BatchHeader, RecordCursor, RecordIter};

use super::{
    assignment::Assignment,
    duty::{Duty, give_back},
    pool::Pool,
    records::Records,
};
use crate::{TopicPartition, record_view::RecordView};

/// Records of one partition, oldest first, as views of the response they came in: no copy, no allocation per record.
///
/// Several batches of the log may be in it, never records of two partitions. It owns its bytes, so that `.await`, `?`
/// and spawned tasks work while it is iterated; [`RecordView::detach`] copies out of it what is kept long.
///
/// Its bytes count against the consumer's memory until it is dropped.
///
/// A member of a group *completes* records: one by one ([`ConsumerRecord::complete`]), up to one
/// ([`ConsumerRecord::complete_through`]), or all ([`Batch::complete`]). What is not complete when the batch is dropped (by
/// `?`, a timeout, a panic) is handed out again after a back-off, before anything later of the partition; other
/// partitions flow. Without a group dropping it does nothing.
#[must_use = "its records are not processed, and are handed out again to a member of a group"]
pub struct Batch {
    pack: Arc<Pack>,
    at: Place,
    /// The duty went with an [`Assignment`].
    is_free: bool,
}

/// Records of a pack that nobody has been handed yet.
#[derive(Debug)]
pub(super) struct Portion {
    pub(super) pack: Arc<Pack>,
    pub(super) at: Place,
}

/// What was unpacked together, with everything that keeps it in memory.
pub(super) struct Pack {
    topic_partition: TopicPartition,
    ticket: Ticket,
    sections: Vec<Section>,
    pool: Arc<Pool>,
    duty: Option<Duty>,
    /// The bytes count until nobody sees them any more.
    _lease: Lease,
}

/// Between two records of a pack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    section: usize,
    cursor: RecordCursor,
    /// Records in front of it.
    index: u32,
    /// Records from here on that belong together, in all sections.
    left: u32,
}

impl Place {
    /// How many records are behind it.
    pub(super) fn left(self) -> usize {
        self.left as usize
    }

    /// How many records are in front of it.
    #[inline]
    pub(super) fn index(self) -> u32 {
        self.index
    }

    /// The records behind it, by their index.
    pub(super) fn range(self) -> Range<u32> {
        self.index..self.index + self.left
    }
}

impl Pack {
    pub(super) fn new(
        topic_partition: TopicPartition,
        ticket: Ticket,
        sections: Vec<Section>,
        duty: Option<Duty>,
        lease: Lease,
        pool: &Arc<Pool>,
    ) -> Self {
        Self { topic_partition, ticket, sections, pool: Arc::clone(pool), duty, _lease: lease }
    }

    /// What is owed for its records, in a group.
    #[inline]
    pub(super) fn duty(&self) -> Option<&Duty> {
        self.duty.as_ref()
    }

    pub(super) fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    pub(super) fn ticket(&self) -> Ticket {
        self.ticket
    }

    pub(super) fn start(&self) -> Place {
        let records: usize = self.sections.iter().map(|section| section.count).sum();
        let left = u32::try_from(records).unwrap_or(u32::MAX);
        let cursor = self.sections.first().map(|section| section.start).unwrap_or_default();
        Place { section: 0, cursor, index: 0, left }
    }

    /// The place of some records in a row.
    pub(super) fn place(&self, range: Range<u32>) -> Place {
        let mut place = self.start();
        while place.index < range.start && self.step(&mut place).is_some() {}
        place.left = place.left.min(range.end.saturating_sub(range.start));
        place
    }

    /// The place of the next record; `place` is behind that record then. The record is not read: [`Self::record`] does
    /// that for whoever wants to see it.
    #[inline]
    pub(super) fn step(&self, place: &mut Place) -> Option<Place> {
        if place.left == 0 {
            return None;
        }
        loop {
            let section = self.sections.get(place.section)?;
            let at = *place;
            if section.records.skip(&mut place.cursor) {
                place.index += 1;
                place.left -= 1;
                return Some(at);
            }
            place.section += 1;
            place.cursor = self.sections.get(place.section)?.start;
        }
    }

    /// The record at a place that [`Self::step`] gave.
    #[inline]
    pub(super) fn record(&self, at: Place) -> Option<RecordView<'_>> {
        let section = self.sections.get(at.section)?;
        let record = section.records.resume(at.cursor).next()?.ok()?;
        Some(RecordView::new(&self.topic_partition, section.records.header(), record))
    }
}

impl fmt::Debug for Pack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pack").field("topic_partition", &self.topic_partition).finish_non_exhaustive()
    }
}

impl Drop for Pack {
    fn drop(&mut self) {
        self.pool.recycle(self.sections.drain(..).map(|section| section.records));
    }
}

impl Batch {
    /// Hands records out.
    pub(super) fn new(Portion { pack, at }: Portion) -> Self {
        if let Some(duty) = pack.duty() {
            duty.parcel.hand_out(at.range().end);
        }
        Self { pack, at, is_free: false }
    }

    /// Topic and partition of all its records.
    #[must_use]
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.pack.topic_partition
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.pack.topic_partition.topic()
    }

    /// The partition's number.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.pack.topic_partition.partition()
    }

    /// How many records it has; never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.at.left()
    }

    /// Its records.
    pub fn iter(&self) -> BatchIter<'_> {
        BatchIter::new(&self.pack, self.at)
    }

    /// Whether its records are still this consumer's to process: its lease holds, the partition is neither gone nor being
    /// read anew after a seek. Without a group always.
    ///
    /// A look at it costs a lock: once a batch, or before whatever must not be done twice.
    #[must_use]
    pub fn is_current(&self) -> bool {
        match self.pack.duty() {
            None => true,
            Some(Duty { owner, .. }) => {
                !owner.is_over()
                    && owner.inner.upgrade().is_some_and(|inner| inner.is_current(self.pack.ticket))
            }
        }
    }

    /// All of its records are processed. See [`ReceivedRecord::complete`](super::ReceivedRecord::complete).
    pub fn complete(self) {
        if let Some(duty) = self.pack.duty() {
            duty.complete_all(self.at.range());
        }
    }

    /// Gives back what is not complete, to be handed out again after a back-off. Dropping the batch does the same.
    pub fn release(self) {}

    /// Parts the records from the duty to complete them, which goes with the assignment: complete them by
    /// [`Assignment::complete`]. What is not complete when the last clone of the assignment is dropped is handed out again.
    pub fn into_parts(mut self) -> (Assignment, Records) {
        self.is_free = true;
        let (pack, at) = (Arc::clone(&self.pack), self.at);
        (Assignment::with_duty(&pack, at.range()), Records::new(pack, at))
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if !self.is_free {
            give_back(&self.pack, self.at.range());
        }
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = ConsumerRecord<'a>;
    type IntoIter = BatchIter<'a>;

    fn into_iter(self) -> BatchIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("topic_partition", &self.pack.topic_partition)
            .field("first_offset", &self.iter().next().map(|record| record.offset()))
            .field("records", &self.len())
            .finish()
    }
}

/// Iterator over the records of a [`Batch`].
#[derive(Clone)]
pub struct BatchIter<'a> {
    pack: &'a Pack,
    next_section: usize,
    records: Option<(&'a BatchHeader, RecordIter<'a>)>,
    /// Index of the first record of the batch, and of the next one.
    first: u32,
    next: u32,
    left: u32,
}

impl<'a> BatchIter<'a> {
    pub(super) fn new(pack: &'a Pack, at: Place) -> Self {
        let mut iter = Self {
            pack,
            next_section: at.section,
            records: None,
            first: at.index,
            next: at.index,
            left: at.left,
        };
        iter.open(Some(at.cursor));
        iter
    }

    /// Goes on in the next section: at `at`, or where its first wanted record is.
    #[inline(never)]
    fn open(&mut self, at: Option<RecordCursor>) {
        self.records =
            self.pack.sections.get(self.next_section).map(|section| {
                (section.records.header(), section.records.resume(at.unwrap_or(section.start)))
            });
        self.next_section += 1;
    }
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = ConsumerRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<ConsumerRecord<'a>> {
        if self.left == 0 {
            return None;
        }
        loop {
            let (header, records) = self.records.as_mut()?;
            // Every record was read once before the batch was handed out: none of them is malformed.
            if let Some(Ok(record)) = records.next() {
                let index = self.next;
                self.next += 1;
                self.left -= 1;
                let view = RecordView::new(&self.pack.topic_partition, header, record);
                return Some(ConsumerRecord { view, pack: self.pack, first: self.first, index });
            }
            self.open(None);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for BatchIter<'_> {}
impl FusedIterator for BatchIter<'_> {}

impl fmt::Debug for BatchIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchIter").field("left", &self.left).finish_non_exhaustive()
    }
}

/// A record of a [`Batch`]; derefs to [`RecordView`], which has key, value, headers and all the rest.
#[derive(Clone, Copy)]
pub struct ConsumerRecord<'a> {
    view: RecordView<'a>,
    pack: &'a Pack,
    /// Index of the first record of its batch.
    first: u32,
    index: u32,
}

impl ConsumerRecord<'_> {
    /// It is processed. See [`ReceivedRecord::complete`](super::ReceivedRecord::complete).
    #[inline]
    pub fn complete(self) {
        if let Some(duty) = self.pack.duty() {
            duty.complete(self.index);
        }
    }

    /// It is processed, and so are all those in front of it in the batch.
    pub fn complete_through(self) {
        if let Some(duty) = self.pack.duty() {
            duty.complete_all(self.first..self.index + 1);
        }
    }
}

impl fmt::Debug for ConsumerRecord<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view.fmt(f)
    }
}

impl<'a> Deref for ConsumerRecord<'a> {
    type Target = RecordView<'a>;

    fn deref(&self) -> &RecordView<'a> {
        &self.view
    }
}

impl<'a> From<ConsumerRecord<'a>> for RecordView<'a> {
    fn from(record: ConsumerRecord<'a>) -> Self {
        record.view
    }
}
