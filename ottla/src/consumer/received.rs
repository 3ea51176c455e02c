//! One record that was handed out on its own.

use std::{fmt, sync::Arc};

use super::{
    batch::{Pack, Place},
    duty::give_back,
};
use crate::RecordView;

/// One record on its own, as [`Consumer::recv`](super::Consumer::recv) gives it. It shares the bytes of the response it
/// came in, which count against the consumer's memory until it is dropped.
///
/// A member of a group [completes](ReceivedRecord::complete) it. When it is dropped without that (by `?`, a timeout, a
/// panic) it is handed out again after a back-off, before anything later of its partition; other partitions flow. Without
/// a group dropping it does nothing.
#[must_use = "the record is not processed, and is handed out again to a member of a group"]
pub struct ReceivedRecord {
    pack: Arc<Pack>,
    at: Place,
}

impl ReceivedRecord {
    /// `at` must come from [`Pack::step`].
    #[inline]
    pub(super) fn new(pack: Arc<Pack>, at: Place) -> Self {
        if let Some(duty) = pack.duty() {
            duty.parcel.hand_out(at.index() + 1);
        }
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

    /// It is processed: the group need not have it handed out again. It is committed, together with whatever else is
    /// complete, within a second or by [`Consumer::commit`](super::Consumer::commit). Records may be completed in any order:
    /// what is committed is what is complete from the start without a gap.
    ///
    /// After the partition was lost, and without a group, it does nothing.
    #[inline]
    pub fn complete(self) {
        if let Some(duty) = self.pack.duty() {
            duty.complete(self.at.index());
        }
    }
}

impl Drop for ReceivedRecord {
    #[inline]
    fn drop(&mut self) {
        let index = self.at.index();
        if self.pack.duty().is_some_and(|duty| !duty.parcel.is_one_complete(index)) {
            give_back(&self.pack, index..index + 1);
        }
    }
}

impl fmt::Debug for ReceivedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}
