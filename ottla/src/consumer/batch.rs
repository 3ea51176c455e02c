//! Records of one partition as views of the bytes they came in.

use std::{
    fmt,
    iter::FusedIterator,
    ops::{Deref, Range},
    sync::{Arc, Weak},
};

use ottla_core::{
    fetch::{Lease, Section, Ticket},
    group::{Parcel, Rest},
};
use ottla_protocol::batch::{RecordCursor, RecordIter};

use super::{inner::Inner, pool::Pool};
use crate::{
    TopicPartition,
    record_view::{RecordView, TimestampKind},
};

/// Records of one partition, oldest first, as views of the response they came in: no copy, no allocation per record.
///
/// Several batches of the log may be in it, never records of two partitions. It owns its bytes, so that `.await`, `?`
/// and spawned tasks work while it is iterated; [`RecordView::detach`] copies out of it what is kept long.
///
/// Its bytes count against the consumer's memory until it is dropped.
///
/// As a member of a group, whoever has handled a record completes it: only that moves what is committed. What is dropped
/// incomplete is handed out again after a back-off, before anything later of its partition. Without a group nothing is
/// handed out again, and completing does nothing.
#[must_use = "what is dropped incomplete is handed out again"]
pub struct Batch {
    pack: Arc<Pack>,
    at: Place,
}

/// What was unpacked together, with everything that keeps it in memory.
pub(super) struct Pack {
    topic_partition: TopicPartition,
    ticket: Ticket,
    sections: Vec<Section>,
    pool: Arc<Pool>,
    /// What is complete of it, for a member of a group.
    duty: Option<Duty>,
    /// The bytes count until nobody sees them any more.
    _lease: Lease,
}

/// Which records of a pack are complete, and whom that concerns.
pub(super) struct Duty {
    pub(super) parcel: Arc<Parcel>,
    pub(super) inner: Weak<Inner>,
}

/// Between two records of a pack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    section: usize,
    cursor: RecordCursor,
    /// How many records of the pack are in front.
    index: u32,
    /// Records from here on that are to be handed out, in all sections.
    left: usize,
}

impl Place {
    /// How many records are behind it.
    pub(super) fn left(self) -> usize {
        self.left
    }

    /// How many records of the pack are in front of it.
    pub(super) fn index(self) -> u32 {
        self.index
    }

    /// The records behind it.
    fn range(self) -> Range<u32> {
        // A pack has fewer than 2^32 records: each takes some bytes of a response.
        self.index..self.index + u32::try_from(self.left).unwrap_or(u32::MAX - self.index)
    }
}

impl Pack {
    pub(super) fn new(
        topic_partition: TopicPartition,
        ticket: Ticket,
        sections: Vec<Section>,
        lease: Lease,
        pool: &Arc<Pool>,
        duty: Option<Duty>,
    ) -> Self {
        Self { topic_partition, ticket, sections, pool: Arc::clone(pool), duty, _lease: lease }
    }

    /// Records `range` of it.
    pub(super) fn place(&self, range: Range<u32>) -> Place {
        let mut place = self.start();
        while place.index < range.start && self.step(&mut place).is_some() {}
        place.left = place.left.min((range.end - range.start) as usize);
        place
    }

    /// Notes that the records in front of `end` were handed out.
    #[inline]
    pub(super) fn hand_out(&self, end: u32) {
        if let Some(duty) = &self.duty {
            duty.parcel.hand_out(end);
        }
    }

    /// These were handled.
    #[inline]
    fn complete(&self, range: Range<u32>) {
        let Some(duty) = &self.duty else { return };
        let watched = match range.len() {
            1 => duty.parcel.complete(range.start),
            _ => duty.parcel.complete_all(range),
        };
        if watched && let Some(inner) = duty.inner.upgrade() {
            inner.drained.notify_waiters();
        }
    }

    /// Nobody handles these any more: what of them is not complete is handed out again.
    fn release(self: &Arc<Self>, range: Range<u32>) {
        let Some(duty) = &self.duty else { return };
        if !duty.parcel.is_complete(range.clone())
            && let Some(inner) = duty.inner.upgrade()
        {
            inner.take_back(Rest { pack: Arc::clone(self), parcel: Arc::clone(&duty.parcel), range });
        }
    }

    pub(super) fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    pub(super) fn ticket(&self) -> Ticket {
        self.ticket
    }

    pub(super) fn start(&self) -> Place {
        let left = self.sections.iter().map(|section| section.count).sum();
        let cursor = self.sections.first().map(|section| section.start).unwrap_or_default();
        Place { section: 0, cursor, index: 0, left }
    }

    /// The place of the next record; `place` is behind that record then. The record is not read: [`Self::record`] does
    /// that for whoever wants to see it.
    #[inline]
    pub(super) fn step(&self, place: &mut Place) -> Option<Place> {
        place.left.checked_sub(1)?;
        loop {
            let section = self.sections.get(place.section)?;
            let at = *place;
            if section.records.skip(&mut place.cursor) {
                place.left -= 1;
                place.index += 1;
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
        let kind = TimestampKind::from(section.records.header().timestamp_type());
        Some(RecordView::new(&self.topic_partition, kind, record))
    }
}

impl Drop for Pack {
    fn drop(&mut self) {
        self.pool.recycle(self.sections.drain(..).map(|section| section.records));
    }
}

impl Batch {
    pub(super) fn new(pack: Arc<Pack>, at: Place) -> Self {
        Self { pack, at }
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
        self.at.left
    }

    /// All of its records were handled.
    pub fn complete(self) {
        self.pack.complete(self.at.range());
    }

    /// Has what is not complete of it handed out again, as dropping it does.
    pub fn release(self) {}

    /// Whether nobody else can have these records: the partition is still owned, the lease holds, and no seek came since.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let Some(inner) = self.pack.duty.as_ref().and_then(|duty| duty.inner.upgrade()) else {
            return self.pack.duty.is_none();
        };
        inner.gate.is_open(|| inner.shared.env.elapsed())
            && inner.with(|state| state.partitions.is_current(self.pack.ticket))
    }

    /// Its records.
    pub fn iter(&self) -> BatchIter<'_> {
        let mut iter = BatchIter {
            pack: &self.pack,
            next_section: self.at.section,
            records: None,
            kind: TimestampKind::CreateTime,
            index: self.at.index,
            first: self.at.index,
            left: self.at.left,
        };
        iter.open(Some(self.at.cursor));
        iter
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.pack.release(self.at.range());
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
            .field("records", &self.at.left)
            .finish()
    }
}

/// Iterator over the records of a [`Batch`].
#[derive(Clone)]
pub struct BatchIter<'a> {
    pack: &'a Pack,
    next_section: usize,
    records: Option<RecordIter<'a>>,
    kind: TimestampKind,
    index: u32,
    first: u32,
    left: usize,
}

impl BatchIter<'_> {
    /// Goes on in the next section: at `at`, or where its first wanted record is.
    #[inline(never)]
    fn open(&mut self, at: Option<RecordCursor>) {
        self.records = self.pack.sections.get(self.next_section).map(|section| {
            self.kind = TimestampKind::from(section.records.header().timestamp_type());
            section.records.resume(at.unwrap_or(section.start))
        });
        self.next_section += 1;
    }
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = ConsumerRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<ConsumerRecord<'a>> {
        let left = self.left.checked_sub(1)?;
        loop {
            // Every record was read once before the batch was handed out: none of them is malformed.
            if let Some(Ok(record)) = self.records.as_mut()?.next() {
                self.left = left;
                let (pack, index) = (self.pack, self.index);
                self.index += 1;
                let view = RecordView::new(&pack.topic_partition, self.kind, record);
                return Some(ConsumerRecord { view, pack, index, first: self.first });
            }
            self.open(None);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
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
    index: u32,
    /// The first one of its batch.
    first: u32,
}

impl ConsumerRecord<'_> {
    /// It was handled. In any order: what is committed never passes one that was not.
    #[inline]
    pub fn complete(self) {
        self.pack.complete(self.index..self.index + 1);
    }

    /// It was handled, and all before it in the batch.
    pub fn complete_through(self) {
        self.pack.complete(self.first..self.index + 1);
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

/// One record on its own, as [`Consumer::recv`](super::Consumer::recv) gives it. It shares the bytes of the response it
/// came in, which count against the consumer's memory until it is dropped.
///
/// As a member of a group, whoever has handled it completes it; dropped incomplete, it is handed out again after a back-off.
#[must_use = "what is dropped incomplete is handed out again"]
pub struct ReceivedRecord {
    pack: Arc<Pack>,
    at: Place,
}

impl ReceivedRecord {
    /// `at` must come from [`Pack::step`].
    pub(super) fn new(pack: Arc<Pack>, at: Place) -> Self {
        Self { pack, at }
    }

    /// The record: key, value, headers and all the rest.
    #[must_use]
    #[inline]
    pub fn view(&self) -> RecordView<'_> {
        // `at` was in front of a record when this was made, and a pack never changes; it was read from end to end when
        // it was unpacked, so that the record is well-formed.
        self.pack.record(self.at).expect("there is a record at the place")
    }
}

impl ReceivedRecord {
    /// It was handled. In any order: what is committed never passes a record that was not.
    pub fn complete(self) {
        self.pack.complete(self.at.index..self.at.index + 1);
    }
}

impl Drop for ReceivedRecord {
    fn drop(&mut self) {
        self.pack.release(self.at.index..self.at.index + 1);
    }
}

impl fmt::Debug for ReceivedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}
