//! Partitions that a consumer owns, as the user sees them.

use std::{
    fmt,
    ops::{Range, RangeInclusive},
    sync::{Arc, Weak},
    time::Duration,
};

use super::{
    batch::Pack,
    duty::{Owner, give_back},
    inner::Inner,
};
use crate::{Error, Result, TopicPartition};

/// A partition that a consumer reads: as a member of a group, or because it was assigned by hand.
///
/// In a group it stands for one ownership: when the partition is given back or lost, this is not current any more, also
/// when the partition comes back later.
#[derive(Clone)]
pub struct Assignment {
    topic_partition: TopicPartition,
    inner: Weak<Inner>,
    /// In a group, while the partition was owned when this was made.
    owner: Option<Arc<Owner>>,
    duty: Option<Arc<Taken>>,
}

/// Records whose duty went with an [`Assignment`].
struct Taken {
    pack: Arc<Pack>,
    range: Range<u32>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        give_back(&self.pack, self.range.clone());
    }
}

impl Assignment {
    pub(super) fn new(topic_partition: TopicPartition, inner: &Arc<Inner>) -> Self {
        let (topic, partition) = (topic_partition.topic(), topic_partition.partition());
        let owner = inner.with(|state| state.owner(topic, partition));
        Self::of(topic_partition, inner, owner)
    }

    pub(super) fn of(topic_partition: TopicPartition, inner: &Arc<Inner>, owner: Option<Arc<Owner>>) -> Self {
        Self { topic_partition, inner: Arc::downgrade(inner), owner, duty: None }
    }

    /// The assignment that owes the completion of these records.
    pub(super) fn with_duty(pack: &Arc<Pack>, range: Range<u32>) -> Self {
        let topic_partition = pack.topic_partition().clone();
        let Some(duty) = pack.duty() else {
            return Self { topic_partition, inner: Weak::new(), owner: None, duty: None };
        };
        let (inner, owner) = (duty.owner.inner.clone(), Some(Arc::clone(&duty.owner)));
        let taken = Taken { pack: Arc::clone(pack), range };
        Self { topic_partition, inner, owner, duty: Some(Arc::new(taken)) }
    }

    /// The partition.
    #[must_use]
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// Completes the records with these offsets: `17`, `17..20`, `17..=19`. Never "the next one": what is named was
    /// processed. See [`ReceivedRecord::complete`](super::ReceivedRecord::complete).
    ///
    /// When the partition is not owned any more, and without a group, it does nothing.
    ///
    /// # Errors
    /// `Misuse` when one of the records was not handed out under this ownership; then none is completed.
    pub fn complete(&self, offsets: impl Into<OffsetRange>) -> Result<()> {
        let OffsetRange(offsets) = offsets.into();
        let Some(owner) = self.owner.as_ref().filter(|owner| !owner.is_over()) else { return Ok(()) };
        let duty = self.duty.as_ref().and_then(|taken| Some((taken.pack.duty()?, taken)));
        if let Some((duty, taken)) = duty {
            let named = duty.parcel.indices(offsets.clone());
            let is_inside = offsets.start >= duty.parcel.offset(taken.range.start)
                && offsets.end <= duty.parcel.offset(taken.range.end.saturating_sub(1)) + 1;
            if is_inside {
                duty.complete_all(named);
                return Ok(());
            }
        }
        let Some(inner) = self.inner.upgrade() else { return Ok(()) };
        match inner.with(|state| state.complete(owner.token, offsets)) {
            Some(watched) => {
                if watched {
                    inner.drained.notify_waiters();
                }
                Ok(())
            }
            None => {
                let what = "a record is completed that was not handed out under this ownership";
                Err(Error::misuse(what).with_topic_partition(self.topic_partition.clone()))
            }
        }
    }

    /// Goes on at this offset, and passes the records in front of it unprocessed: they count as complete, whoever holds
    /// them. [`Event::RecordsSkipped`](crate::Event::RecordsSkipped) tells it, with the reason.
    ///
    /// # Errors
    /// `Misuse` when the offset is not behind everything that is complete, and when the partition is not owned (any more).
    pub fn skip_to(&self, offset: i64, reason: &str) -> Result<()> {
        let owner = self.owner.as_ref().filter(|owner| !owner.is_over());
        let skipped = owner.zip(self.inner.upgrade());
        let what = match skipped.map(|(owner, inner)| inner.skip_to(owner, offset, reason)) {
            Some(true) => return Ok(()),
            Some(false) => "what lies behind the offset is complete already: skipping goes forward only",
            None => "the partition is not owned",
        };
        Err(Error::misuse(what).with_topic_partition(self.topic_partition.clone()))
    }

    /// Whether the partition is still this consumer's: it is owned, and the lease holds. Without a group always.
    #[must_use]
    pub fn is_current(&self) -> bool {
        match (&self.owner, self.inner.upgrade()) {
            (Some(owner), Some(inner)) => !owner.is_over() && inner.is_gate_open(),
            (Some(_), None) => false,
            (None, inner) => inner.is_none_or(|inner| inner.group.is_none()),
        }
    }

    /// Waits until the partition is being given back, or is gone. Without a group it waits for ever.
    ///
    /// # Cancel safety
    /// Nothing changes.
    pub async fn revoking(&self) {
        match &self.owner {
            Some(owner) => owner.revoking.wait().await,
            None => std::future::pending().await,
        }
    }

    /// How long nobody else can have it.
    #[must_use]
    pub fn lease(&self) -> Lease {
        let ended = Lease { until: Some(Duration::ZERO), now: Duration::ZERO };
        match (&self.owner, self.inner.upgrade()) {
            (Some(owner), _) if owner.is_over() => ended,
            (Some(_), None) => ended,
            (_, Some(inner)) => Lease { until: inner.gate.until(), now: inner.shared.env.elapsed() },
            (None, None) => Lease { until: None, now: Duration::ZERO },
        }
    }
}

impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assignment").field("topic_partition", &self.topic_partition).finish_non_exhaustive()
    }
}

/// Offsets of records, for [`Assignment::complete`]: made of an `i64`, an `a..b` or an `a..=b`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetRange(Range<i64>);

impl From<i64> for OffsetRange {
    fn from(offset: i64) -> Self {
        Self(offset..offset.saturating_add(1))
    }
}

impl From<Range<i64>> for OffsetRange {
    fn from(offsets: Range<i64>) -> Self {
        Self(offsets)
    }
}

impl From<RangeInclusive<i64>> for OffsetRange {
    fn from(offsets: RangeInclusive<i64>) -> Self {
        let (first, last) = offsets.into_inner();
        Self(first..last.saturating_add(1))
    }
}

/// How long a membership lasts even if nothing more is heard of the group; see [`Consumer`](crate::Consumer).
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    until: Option<Duration>,
    now: Duration,
}

impl Lease {
    /// What was left of it when [`Assignment::lease`] was called; zero when nothing may be handed out, and
    /// [`Duration::MAX`] without a group.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.until.map_or(Duration::MAX, |until| until.saturating_sub(self.now))
    }
}
