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

#[derive(Default)]
pub(super) struct Current {
    active: Option<(Arc<Pack>, Place)>,
    parked: VecDeque<(Arc<Pack>, Place)>,
    /// [`Inner::changes`] when the batches were last looked at.
    seen: u64,
}

impl Inner {
    /// The next record, if one can be had without waiting.
    pub(super) fn try_recv(&self) -> Result<Option<ReceivedRecord>> {
        let mut current = lock(&self.current);
        loop {
            self.sort_out(&mut current);
            if let Some((pack, place)) = &mut current.active {
                if let Some(at) = pack.step(place) {
                    return Ok(Some(ReceivedRecord::new(Arc::clone(pack), at)));
                }
                // A parked batch whose pause is over comes before anything new.
                current.active = None;
                continue;
            }
            match self.next_batch()? {
                Some(batch) => current.active = Some(batch.into_parts()),
                None => return Ok(None),
            }
        }
    }

    /// The next batch, if one can be had without waiting: what `recv` has left of the last one, or a new one.
    pub(super) fn try_poll(&self) -> Result<Option<Batch>> {
        {
            let mut current = lock(&self.current);
            self.sort_out(&mut current);
            if let Some((pack, place)) = current.active.take()
                && place.left() > 0
            {
                return Ok(Some(Batch::new(pack, place)));
            }
        }
        self.next_batch()
    }

    /// The offset of the next record of the partition that was unpacked and not handed out.
    pub(super) fn unpacked_position(&self, topic_partition: &TopicPartition) -> Option<i64> {
        let mut current = lock(&self.current);
        self.sort_out(&mut current);
        let mut batches = current.active.iter().chain(&current.parked);
        let (pack, place) = batches.find(|(pack, _)| pack.topic_partition() == topic_partition)?;
        let mut place = *place;
        pack.step(&mut place).and_then(|at| pack.record(at)).map(|record| record.offset())
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
        let batches: Vec<_> = current.active.take().into_iter().chain(current.parked.drain(..)).collect();
        self.with(|state| {
            for (pack, place) in batches {
                let ticket = pack.ticket();
                if !state.partitions.is_current(ticket) {
                    continue;
                }
                if current.active.is_none() && !state.partitions.is_ticket_paused(ticket) {
                    current.active = Some((pack, place));
                } else {
                    current.parked.push_back((pack, place));
                }
            }
        });
    }
}
