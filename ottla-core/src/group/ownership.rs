//! The records of one partition under one ownership of it.
//!
//! ```text
//!              hand out                     complete
//!   unpacked ────────────▶ handed out ──────────────────▶ complete
//!                            │   ▲
//!                    release │   │ after back-off, before anything later
//!                            ▼   │
//!                          waiting                          drain: nothing is handed out any more;
//!                                                           drained when nothing is handed out and incomplete
//! ```

use std::{ops::Range, sync::Arc, time::Instant};

use super::{Completions, Due, Parcel, Redelivery, Rest, Run};
use crate::{
    backoff::BackoffPolicy,
    fetch::{Position, Tick},
};

/// The records of one partition under one ownership. `P` keeps the bytes of records that may be handed out again.
#[derive(Debug)]
pub struct Ownership<P> {
    completions: Completions,
    redelivery: Redelivery<P>,
    draining: bool,
}

impl<P> Default for Ownership<P> {
    fn default() -> Self {
        Self { completions: Completions::default(), redelivery: Redelivery::default(), draining: false }
    }
}

impl<P: Clone> Ownership<P> {
    /// The place where reading begins is known. Changes nothing when it was known before.
    pub fn start(&mut self, at: Position) {
        self.completions.start(at);
    }

    /// Whether the place where reading begins is known.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.completions.is_started()
    }

    /// Records were unpacked that begin at `from`.
    pub fn unpacked(&mut self, from: Position, parcel: Arc<Parcel>) {
        if self.draining {
            parcel.watch();
        }
        self.completions.push(from, parcel);
    }

    /// Up to `next` there are no records, or the reset policy skips them, or brings the position back there.
    pub fn passed(&mut self, next: Position) {
        self.completions.pass(next);
    }

    /// The user has moved the position: nothing from before counts any more, and nothing of it is handed out again.
    pub fn restart(&mut self) {
        self.completions.restart();
        self.redelivery.clear();
    }

    /// The ownership is over: whatever is completed from now on changes nothing.
    pub fn end(&mut self) {
        self.completions.void();
        self.redelivery.clear();
    }

    /// What may be committed, and in which run: [`Completions::committable`].
    pub fn committable(&mut self) -> Option<(Run, Position)> {
        self.completions.committable()
    }

    /// Completes the records with these offsets: [`Completions::complete`].
    pub fn complete(&self, offsets: Range<i64>) -> Option<bool> {
        self.completions.complete(offsets)
    }

    /// Takes back what is not complete: [`Redelivery::release`]. `false`: that is nothing.
    pub fn release(&mut self, rest: Rest<P>, tick: Tick, backoff: &BackoffPolicy) -> bool {
        self.redelivery.release(rest, tick, backoff)
    }

    /// Takes back what was not handed out after all.
    pub fn put_back(&mut self, rest: Rest<P>) {
        self.redelivery.put_back(rest);
    }

    /// Whether nothing new of the partition may be handed out.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        self.draining || !self.redelivery.is_empty()
    }

    /// Whether something has to be handed out before the record at this offset, or nothing at all may be handed out.
    #[must_use]
    pub fn goes_before(&self, offset: i64) -> bool {
        self.draining || self.first_waiting().is_some_and(|first| first < offset)
    }

    /// What has to be handed out again, if that is due.
    pub fn take(&mut self) -> Option<Rest<P>> {
        if self.draining { None } else { self.redelivery.take() }
    }

    /// The offset of the first record that waits to be handed out again.
    #[must_use]
    pub fn first_waiting(&self) -> Option<i64> {
        self.redelivery.first()
    }

    /// When something has to be handed out again.
    #[must_use]
    pub fn due(&self) -> Option<Due> {
        self.redelivery.due().filter(|_| !self.draining)
    }

    /// Ends the back-off if its time has come. `true`: something may be handed out since.
    pub fn wake(&mut self, now: Instant) -> bool {
        self.redelivery.wake(now) && !self.draining
    }

    /// Hands out nothing any more. Whoever completes something is told from now on that somebody waits for it.
    pub fn drain(&mut self) {
        self.draining = true;
        for parcel in self.completions.parcels() {
            parcel.watch();
        }
    }

    /// Whether nothing is handed out and incomplete.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.first_open().is_none()
    }

    /// The offset of the first record that was handed out, is not complete, and has not come back.
    #[must_use]
    pub fn first_open(&self) -> Option<i64> {
        self.completions.parcels().find_map(|parcel| {
            let mut open = parcel.handed_out();
            while let Some(run) = parcel.incomplete_run(open.clone()) {
                let mut indices = run.clone();
                if let Some(index) = indices.find(|index| !self.redelivery.holds(parcel, *index)) {
                    return Some(parcel.offset(index));
                }
                open.start = run.end;
            }
            None
        })
    }
}
