//! Records without the duty to complete them.

use std::{fmt, iter::FusedIterator, sync::Arc};

use super::batch::{BatchIter, Pack, Place};
use crate::{RecordView, TopicPartition};

/// The records of a [`Batch`](super::Batch), without the duty to complete them: that is with the
/// [`Assignment`](super::Assignment) that [`Batch::into_parts`](super::Batch::into_parts) gave with them.
///
/// Their bytes count against the consumer's memory until this is dropped.
pub struct Records {
    pack: Arc<Pack>,
    at: Place,
}

impl Records {
    pub(super) fn new(pack: Arc<Pack>, at: Place) -> Self {
        Self { pack, at }
    }

    /// Topic and partition of all of them.
    #[must_use]
    pub fn topic_partition(&self) -> &TopicPartition {
        self.pack.topic_partition()
    }

    /// How many there are; never 0.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "they are never empty")]
    pub fn len(&self) -> usize {
        self.at.left()
    }

    /// The records, oldest first.
    pub fn iter(&self) -> RecordsIter<'_> {
        RecordsIter(BatchIter::new(&self.pack, self.at))
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = RecordView<'a>;
    type IntoIter = RecordsIter<'a>;

    fn into_iter(self) -> RecordsIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("topic_partition", self.topic_partition())
            .field("records", &self.len())
            .finish_non_exhaustive()
    }
}

/// Iterator over [`Records`].
#[derive(Debug, Clone)]
pub struct RecordsIter<'a>(BatchIter<'a>);

impl<'a> Iterator for RecordsIter<'a> {
    type Item = RecordView<'a>;

    #[inline]
    fn next(&mut self) -> Option<RecordView<'a>> {
        self.0.next().map(RecordView::from)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for RecordsIter<'_> {}
impl FusedIterator for RecordsIter<'_> {}
