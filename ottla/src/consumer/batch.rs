//! Records of one partition as views of the bytes they came in.

use std::{fmt, iter::FusedIterator, ops::Deref, sync::Arc};

use ottla_core::fetch::{Lease, Section, Ticket};
use ottla_protocol::batch::{RecordCursor, RecordIter};

use super::pool::Pool;
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
#[must_use = "the records of a batch are not handed out again"]
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
    /// The bytes count until nobody sees them any more.
    _lease: Lease,
}

/// Between two records of a pack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    section: usize,
    cursor: RecordCursor,
    /// Records from here on, in all sections.
    left: usize,
}

impl Place {
    /// How many records are behind it.
    pub(super) fn left(self) -> usize {
        self.left
    }
}

impl Pack {
    pub(super) fn new(
        topic_partition: TopicPartition,
        ticket: Ticket,
        sections: Vec<Section>,
        lease: Lease,
        pool: &Arc<Pool>,
    ) -> Self {
        Self { topic_partition, ticket, sections, pool: Arc::clone(pool), _lease: lease }
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
        Place { section: 0, cursor, left }
    }

    /// The place of the next record; `place` is behind that record then. The record is not read: [`Self::record`] does
    /// that for whoever wants to see it.
    #[inline]
    pub(super) fn step(&self, place: &mut Place) -> Option<Place> {
        loop {
            let section = self.sections.get(place.section)?;
            let at = *place;
            if section.records.skip(&mut place.cursor) {
                place.left = place.left.saturating_sub(1);
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

    pub(super) fn into_parts(self) -> (Arc<Pack>, Place) {
        (self.pack, self.at)
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

    /// Its records.
    pub fn iter(&self) -> BatchIter<'_> {
        let mut iter = BatchIter {
            pack: &self.pack,
            next_section: self.at.section,
            records: None,
            kind: TimestampKind::CreateTime,
            left: self.at.left,
        };
        iter.open(Some(self.at.cursor));
        iter
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
        loop {
            // Every record was read once before the batch was handed out: none of them is malformed.
            if let Some(Ok(record)) = self.records.as_mut()?.next() {
                self.left = self.left.saturating_sub(1);
                let view = RecordView::new(&self.pack.topic_partition, self.kind, record);
                return Some(ConsumerRecord { view });
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
#[derive(Debug, Clone, Copy)]
pub struct ConsumerRecord<'a> {
    view: RecordView<'a>,
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
#[must_use = "the record is not handed out again"]
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

impl fmt::Debug for ReceivedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}
