//! Who chooses the partition of a record.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::{Error, Record, Result};

/// Chooses the partition of each record. [`ProducerBuilder::partition_by`](crate::ProducerBuilder::partition_by) takes
/// a closure.
///
/// It is called in the sender's thread, once per record, and must be quick. A panic in it becomes an error of that
/// record.
pub trait Partitioner: Send + Sync + 'static {
    /// The partition of `record`.
    fn partition(&self, record: &Record<'_>, topic: &TopicView<'_>) -> Choice;
}

/// What a [`Partitioner`] decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Choice {
    /// This partition.
    Partition(i32),
    /// By the key, murmur2 as Java's client; as [`Choice::Sticky`] for a record without one.
    KeyHash,
    /// The partition that records without a key go to at the moment (KIP-480, KIP-794).
    Sticky,
}

/// What a [`Partitioner`] sees of a topic.
#[derive(Debug, Clone, Copy)]
pub struct TopicView<'a> {
    name: &'a str,
    partitions: usize,
}

impl<'a> TopicView<'a> {
    pub(super) fn new(name: &'a str, partitions: usize) -> Self {
        Self { name, partitions }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// How many partitions it has; at least one.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.partitions
    }
}

/// A closure as a partitioner. Not an implementation for all closures: inference would fail for `|record, topic| …`.
pub(super) struct By<F>(pub(super) F);

impl<F> Partitioner for By<F>
where
    F: Fn(&Record<'_>, &TopicView<'_>) -> Choice + Send + Sync + 'static,
{
    fn partition(&self, record: &Record<'_>, topic: &TopicView<'_>) -> Choice {
        (self.0)(record, topic)
    }
}

impl fmt::Debug for dyn Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Partitioner")
    }
}

/// Asks a user's partitioner.
///
/// # Errors
/// It panicked.
pub(super) fn ask(
    partitioner: &dyn Partitioner,
    record: &Record<'_>,
    topic: &TopicView<'_>,
) -> Result<Choice> {
    // Nothing of ours is touched in there, so that nothing can be left half-done.
    catch_unwind(AssertUnwindSafe(|| partitioner.partition(record, topic)))
        .map_err(|_| Error::misuse(format!("the partitioner panicked on a record for {}", topic.name())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_of_the_record() {
        let partitioner = By(|_: &Record<'_>, topic: &TopicView<'_>| match topic.partitions() {
            1 => panic!("one is not enough"),
            _ => Choice::Sticky,
        });
        let record = Record::new("value");
        let error = ask(&partitioner, &record, &TopicView::new("orders", 1)).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Misuse);
        assert_eq!(ask(&partitioner, &record, &TopicView::new("orders", 2)).unwrap(), Choice::Sticky);
    }
}
