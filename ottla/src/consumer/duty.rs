//! What a member owes for the records that it handed out: each is completed, or comes back and is handed out again.
//!
//! Without a group there is no duty, and nothing of this costs anything.

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use ottla_core::group::Parcel;

use super::{batch::Pack, inner::Inner};
use crate::{TopicPartition, net::Latch};

/// One ownership of one partition, for whoever holds records of it.
pub(super) struct Owner {
    /// Names this ownership; no other, of this partition or another, has the same.
    pub(super) token: u64,
    pub(super) topic_partition: TopicPartition,
    pub(super) inner: Weak<Inner>,
    over: AtomicBool,
    /// The partition is being given back, or gone.
    pub(super) revoking: Latch<()>,
}

impl Owner {
    pub(super) fn new(token: u64, topic_partition: TopicPartition, inner: Weak<Inner>) -> Self {
        Self { token, topic_partition, inner, over: AtomicBool::new(false), revoking: Latch::default() }
    }

    /// The partition is not owned any more.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.revoking.set(());
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner")
            .field("token", &self.token)
            .field("topic_partition", &self.topic_partition)
            .field("over", &self.is_over())
            .finish_non_exhaustive()
    }
}

/// What is owed for the records of a pack.
#[derive(Debug)]
pub(super) struct Duty {
    pub(super) parcel: Arc<Parcel>,
    pub(super) owner: Arc<Owner>,
}

impl Duty {
    /// A record is complete.
    #[inline]
    pub(super) fn complete(&self, index: u32) {
        if self.parcel.complete(index) {
            self.tell();
        }
    }

    /// These records are complete.
    pub(super) fn complete_all(&self, range: Range<u32>) {
        if self.parcel.complete_all(range) {
            self.tell();
        }
    }

    /// Whoever drains the partition waits for completions.
    #[cold]
    fn tell(&self) {
        if let Some(inner) = self.owner.inner.upgrade() {
            inner.drained.notify_waiters();
        }
    }
}

/// Nobody holds these records any more: those that are not complete are handed out again.
#[inline]
pub(super) fn give_back(pack: &Arc<Pack>, range: Range<u32>) {
    if let Some(duty) = pack.duty()
        && !duty.parcel.is_complete(range.clone())
    {
        give_back_incomplete(pack, duty, range);
    }
}

#[cold]
fn give_back_incomplete(pack: &Arc<Pack>, duty: &Duty, range: Range<u32>) {
    if let Some(inner) = duty.owner.inner.upgrade() {
        inner.take_back(pack, duty, range);
    }
}
