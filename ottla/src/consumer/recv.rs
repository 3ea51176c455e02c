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
//! so that the others flow; after a seek, what is left of a batch is dropped; when something earlier of its partition has
//! come back from somebody who did not complete it, it waits behind that. All of it is found out with one look at a counter
//! for each record.
//!
//! News of records wake one of those who wait for them. Whoever takes some and leaves others wakes the next: a handler may
//! take long, and what is left must not wait for it.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use tokio::task::coop::consume_budget;

use super::{
    batch::{Batch, Portion},
    inner::Inner,
    owned::Standing,
    partition::Reader,
    received::ReceivedRecord,
};
use crate::{Result, TopicPartition, net::lock};

/// How many records' worth of its task's budget a batch is: its records are handled without another look at that.
const BATCH_TURNS: u32 = 16;

/// Before a batch is taken: as long as there are batches at once, nobody else of the thread would ever have a turn.
/// Cancel safe.
pub(super) async fn give_way() {
    for _ in 0..BATCH_TURNS {
        consume_budget().await;
    }
}

#[derive(Default)]
pub(super) struct Current {
    active: Option<Portion>,
    parked: VecDeque<Portion>,
    /// [`Inner::changes`] when the batches were last looked at.
    seen: u64,
}

impl Inner {
    /// The next record, if one can be had without waiting.
    pub(super) fn try_recv(&self) -> Result<Option<ReceivedRecord>> {
        let mut current = lock(&self.current);
        // Unpacking takes time: the lease is looked at for each record, just before it is handed out.
        while self.may_hand_out()? {
            self.sort_out(&mut current);
            if let Some(Portion { pack, at }) = &mut current.active {
                if let Some(record) = pack.step(at) {
                    // Completed by its offset while it waited to be handed out again, or not in the log any more.
                    if pack.duty().is_some_and(|duty| duty.parcel.is_one_complete(record.index())) {
                        continue;
                    }
                    let is_last = at.left() == 0;
                    let record = ReceivedRecord::new(Arc::clone(pack), record);
                    self.pass_on(&current, !is_last);
                    return Ok(Some(record));
                }
                // A parked batch whose pause is over comes before anything new.
                current.active = None;
                continue;
            }
            match self.next_portion(Reader::Any)? {
                Some(portion) => current.active = Some(portion),
                None => return Ok(None),
            }
        }
        self.next_trouble(Reader::Any)
    }

    /// The next batch, if one can be had without waiting: what `recv` has left of the last one, or a new one.
    pub(super) fn try_poll(&self, reader: Reader) -> Result<Option<Batch>> {
        while self.may_hand_out()? {
            let Some(portion) = self.next_whole(reader)? else { return Ok(None) };
            if portion.pack.duty().is_none() {
                return Ok(Some(Batch::new(portion)));
            }
            // Unpacking takes time, in which the lease may have ended or the partition gone.
            if !self.is_gate_open() {
                self.put_back(portion);
                continue;
            }
            let handed_out = self.with(|state| match state.standing(&portion) {
                Standing::First => Some(Batch::new(portion)),
                Standing::Later => {
                    state.put_back(portion);
                    None
                }
                Standing::Stale => None,
            });
            if handed_out.is_some() {
                return Ok(handed_out);
            }
        }
        self.next_trouble(reader)
    }

    /// What `recv` has left of the last portion, or a new one.
    fn next_whole(&self, reader: Reader) -> Result<Option<Portion>> {
        let left = {
            let mut current = lock(&self.current);
            self.sort_out(&mut current);
            match reader {
                Reader::Any => {
                    let active = current.active.take();
                    if active.is_some() {
                        self.pass_on(&current, false);
                    }
                    active
                }
                Reader::Of(token) => self.take_parked(&mut current, token),
            }
        };
        match left.filter(|portion| portion.at.left() > 0) {
            Some(portion) => Ok(Some(portion)),
            None => self.next_portion(reader),
        }
    }

    /// Somebody has taken records: wakes the next of those who wait if there are others; `is_more`: there are.
    #[inline]
    fn pass_on(&self, current: &Current, is_more: bool) {
        // Whoever looks in vain counts among those who wait before it locks what was locked here.
        if self.ready.is_awaited() {
            self.wake_next(is_more || !current.parked.is_empty());
        }
    }

    #[cold]
    fn wake_next(&self, is_more: bool) {
        if is_more || self.with(|state| state.has_more()) {
            self.ready.notify_one();
        }
    }

    /// What of a partition was unpacked before it had a reader of its own.
    fn take_parked(&self, current: &mut Current, token: u64) -> Option<Portion> {
        let of_it = |portion: &Portion| portion.pack.ticket().token() == token;
        let at = current.parked.iter().position(of_it)?;
        let is_paused =
            |portion: &Portion| self.with(|state| state.partitions.is_ticket_paused(portion.pack.ticket()));
        if current.parked.get(at).is_some_and(is_paused) { None } else { current.parked.remove(at) }
    }

    /// The offset of the next record of the partition that was unpacked and not handed out.
    pub(super) fn unpacked_position(&self, topic_partition: &TopicPartition) -> Option<i64> {
        let mut current = lock(&self.current);
        self.sort_out(&mut current);
        let mut portions = current.active.iter().chain(&current.parked);
        let Portion { pack, at } =
            portions.find(|portion| portion.pack.topic_partition() == topic_partition)?;
        let mut at = *at;
        pack.step(&mut at).and_then(|at| pack.record(at)).map(|record| record.offset())
    }

    /// A record that `recv` would get, by its partition's token and its offset.
    pub(super) fn first_unpacked(&self) -> Option<(u64, i64)> {
        let mut current = lock(&self.current);
        self.sort_out(&mut current);
        let Portion { pack, at } = current.active.as_ref().filter(|portion| portion.at.left() > 0)?;
        let duty = pack.duty()?;
        Some((duty.owner.token, duty.parcel.offset(at.index())))
    }

    /// What was unpacked may be out of date, paused, or held back. Whoever is just handing out a record by `recv` has done
    /// so when this returns: afterwards nothing is handed out because of what was true before.
    pub(super) fn on_change(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        let mut current = lock(&self.current);
        self.sort_out(&mut current);
    }

    /// Drops what is out of date, parks what is paused, and goes on with what is not any more.
    #[inline]
    pub(super) fn sort_out(&self, current: &mut Current) {
        let changes = self.changes.load(Ordering::Acquire);
        if current.seen != changes || (current.active.is_none() && !current.parked.is_empty()) {
            current.seen = changes;
            self.sort_again(current);
        }
    }

    #[cold]
    fn sort_again(&self, current: &mut Current) {
        let portions: Vec<_> = current.active.take().into_iter().chain(current.parked.drain(..)).collect();
        self.with(|state| {
            for portion in portions {
                let ticket = portion.pack.ticket();
                let waits =
                    state.partitions.is_ticket_paused(ticket) || state.partitions.is_reserved(ticket.token());
                match state.standing(&portion) {
                    Standing::Stale => {}
                    Standing::Later => state.put_back(portion),
                    Standing::First if current.active.is_none() && !waits => {
                        current.active = Some(portion);
                    }
                    Standing::First => current.parked.push_back(portion),
                }
            }
        });
    }
}
