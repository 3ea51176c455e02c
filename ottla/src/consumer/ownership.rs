//! What becomes of the partitions that a group gives and takes.

use std::{collections::BTreeSet, time::Instant};

use ottla_core::group::TopicPartition as Owned;

use super::inner::Inner;
use crate::Result;

impl Inner {
    /// Finds the places where reading begins, and fetches from there, but hands out nothing before [`Self::open`].
    ///
    /// # Cancel safety
    /// Can be called again, for some of them or for others.
    pub(super) async fn acquire(&self, partitions: &BTreeSet<Owned>) {
        let _ = partitions;
    }

    /// Has records of these partitions handed out, as soon as that is certain to be right.
    pub(super) fn open(&self, partitions: &BTreeSet<Owned>) {
        let _ = partitions;
    }

    /// Hands out nothing more of these partitions, and waits until everything that was handed out is complete, or has
    /// come back; until `deadline` at most.
    pub(super) async fn drain(&self, partitions: &BTreeSet<Owned>, deadline: Instant) {
        let _ = (partitions, deadline);
    }

    /// Commits what is complete of these partitions. Tries again until it is dropped.
    pub(super) async fn commit_owned(&self, partitions: &BTreeSet<Owned>) -> Result<()> {
        let _ = partitions;
        Ok(())
    }

    /// These partitions are not owned any more; what was handed out of them can be completed no more.
    pub(super) fn release(&self, partitions: &BTreeSet<Owned>) {
        let _ = partitions;
    }

    /// As [`Self::release`], at once, and while anything may be going on.
    pub(super) fn lose(&self, partitions: &BTreeSet<Owned>) {
        let _ = partitions;
    }

    /// Commits are made under another membership from now on.
    pub(super) fn on_membership(&self) {}
}
