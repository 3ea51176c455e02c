//! Batches of which only a part was handed out.
//!
//! ```text
//!   next_batch ──▶ active ──record by record──▶ recv, stream
//!                   │  ▲ └──────── the rest ──▶ poll
//!            paused ▼  │ resumed
//!                  parked
//! ```
//!
//! `recv` takes a record at a time from the active batch, `poll` its rest. A batch whose partition is paused is parked,
//! so that the others flow; after a seek, what is left of a batch is dropped. Both are found out with one look at a
//! counter for each record.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use super::{
    batch::{Batch, Pack, Place, ReceivedRecord},
    inner::Inner,
};
use crate::{Result, TopicPartition, net::lock};

/// A part of a pack.
pub(super) struct Part {
    pub(super) pack: Arc<Pack>,
    pub(super) place: Place,
    /// It was handed out before, and came back: nothing of its partition goes first.
    pub(super) again: bool,
}

impl Part {
    fn into_batch(self) -> Batch {
        self.pack.hand_out(
            self.place.index().saturating_add(u32::try_from(self.place.left()).unwrap_or(u32::MAX)),
        );
        Batch::new(self.pack, self.place)
    }
}

#[derive(Default)]
pub(super) struct Current {
    active: Option<Part>,
    parked: VecDeque<Part>,
    /// [`Inner::changes`] when the batches were last looked at.
    seen: u64,
}

impl Inner {
    /// The next record, if one can be had without waiting.
    pub(super) fn try_recv(&self) -> Result<Option<ReceivedRecord>> {
        let mut current = lock(&self.current);
        loop {
            self.sort_out(&mut current);
            if !self.may_hand_out()? {
                return self.trouble();
            }
            if let Some(part) = &mut current.active {
                if let Some(at) = part.pack.step(&mut part.place) {
                    part.pack.hand_out(part.place.index());
                    return Ok(Some(ReceivedRecord::new(Arc::clone(&part.pack), at)));
                }
                // A parked batch whose pause is over comes before anything new.
                current.active = None;
                continue;
            }
            match self.next_part()? {
                Some(part) => current.active = Some(part),
                None => return Ok(None),
            }
        }
    }

    /// The next batch, if one can be had without waiting: what `recv` has left of the last one, or a new one.
    pub(super) fn try_poll(&self) -> Result<Option<Batch>> {
        if !self.may_hand_out()? {
            return self.trouble();
        }
        {
            let mut current = lock(&self.current);
            self.sort_out(&mut current);
            if let Some(part) = current.active.take()
                && part.place.left() > 0
            {
                return Ok(Some(part.into_batch()));
            }
        }
        Ok(self.next_part()?.map(Part::into_batch))
    }

    /// The offset of the next record of the partition that was unpacked and not handed out.
    pub(super) fn unpacked_position(&self, topic_partition: &TopicPartition) -> Option<i64> {
        let mut current = lock(&self.current);
        self.sort_out(&mut current);
        let mut batches = current.active.iter().chain(&current.parked);
        let part = batches.find(|part| part.pack.topic_partition() == topic_partition)?;
        let mut place = part.place;
        part.pack.step(&mut place).and_then(|at| part.pack.record(at)).map(|record| record.offset())
    }

    /// Drops what is out of date, parks what is paused, and goes on with what is not any more.
    #[inline]
    fn sort_out(&self, current: &mut Current) {
        let changes = self.changes.load(Ordering::Acquire);
        if current.seen != changes || (current.active.is_none() && !current.parked.is_empty()) {
            current.seen = changes;
            self.sort_again(current);
        }
    }

    #[cold]
    fn sort_again(&self, current: &mut Current) {
        let parts: Vec<_> = current.active.take().into_iter().chain(current.parked.drain(..)).collect();
        self.with(|state| {
            for part in parts {
                let ticket = part.pack.ticket();
                if !state.partitions.is_current(ticket) {
                    continue;
                }
                let waits = state.partitions.is_ticket_paused(ticket)
                    || (!part.again && state.partitions.is_held_back(ticket));
                if current.active.is_none() && !waits {
                    current.active = Some(part);
                } else {
                    current.parked.push_back(part);
                }
            }
        });
    }
}
