//! Batches go out.

use std::{mem, time::Instant};

use ottla_protocol::batch::{BatchBuilder, SealedBatch};

use super::{Batch, Completion, GivenUp, Next, Outgoing, PartitionQueue, State, Ticket};
use crate::produce::in_flight::Leader;

impl<C: Completion> PartitionQueue<C> {
    /// What to do next. `broker_idle`: no request with batches is on its way to the leader. `room`: bytes that the
    /// request can take.
    pub fn next(&mut self, now: Instant, broker_idle: bool, room: usize) -> Next {
        if let Some((ticket, builder)) = self.compress_ahead() {
            return Next::Compress(ticket, builder);
        }
        if self.is_empty() {
            return Next::Empty;
        }
        let Some(leader) = self.leader else { return Next::NoLeader };
        if let Some(retry_at) = self.retry_at.filter(|at| *at > now) {
            return Next::BackOff(retry_at);
        }
        if self.sequences.raise_wanted() {
            if self.window.in_flight() > 0 {
                return Next::Waiting;
            }
            if let Some(due) = self.to_be_found_out(leader) {
                return self.send(due, leader, room);
            }
            self.raise();
        }
        if self.settings.idempotent && self.sequences.identity().is_none() {
            return Next::NeedsIdentity;
        }
        match self.batches.iter().position(|batch| !batch.is_in_flight()) {
            Some(due) => self.send(due, leader, room),
            None => self.next_of_open(now, broker_idle, leader, room),
        }
    }

    /// The batch whose fate has to be known before the epoch can be raised.
    fn to_be_found_out(&self, leader: Leader) -> Option<usize> {
        let doubtful = self.batches.iter().position(|batch| batch.in_doubt)?;
        // A leader without state for the producer would accept the doubtful batch in front of those before it.
        let known = self.window.is_established(self.sequences.identity(), leader);
        Some(if known { doubtful } else { 0 })
    }

    fn raise(&mut self) {
        self.sequences.raise();
        self.gap_in_doubt = false;
        for batch in &mut self.batches {
            batch.stamp = None;
            batch.stamped = false;
        }
    }

    fn send(&mut self, at: usize, leader: Leader, room: usize) -> Next {
        let identity = self.sequences.identity();
        let batch = &self.batches[at];
        let State::Ready(sealed) = &batch.state else { return Next::Waiting };
        let alone = batch.attempts > 0;
        if (alone && self.window.in_flight() > 0) || !self.window.has_room(identity, leader) {
            return Next::Waiting;
        }
        if sealed.size() > room {
            return Next::NoRoom;
        }
        let batch = &mut self.batches[at];
        let State::Ready(sealed) = mem::replace(&mut batch.state, State::InFlight(Some(leader))) else {
            unreachable!("looked at some lines above");
        };
        if planted!("new-sequence-on-retry") {
            (batch.stamp, batch.stamped) = (None, false);
        }
        if self.settings.idempotent && batch.stamp.is_none() {
            batch.stamp = self.sequences.assign(batch.count);
        }
        let stamp = (!batch.stamped).then_some(batch.stamp);
        batch.stamped = true;
        batch.attempts += 1;
        self.window.sent();
        Next::Send(Outgoing { ticket: batch.ticket, batch: sealed, stamp })
    }

    /// Closes the open batch if it is due and can go.
    fn next_of_open(&mut self, now: Instant, broker_idle: bool, leader: Leader, room: usize) -> Next {
        let Some(open) = self.filled() else {
            return if self.batches.is_empty() { Next::Empty } else { Next::Waiting };
        };
        if !self.window.has_room(self.sequences.identity(), leader) {
            return Next::Waiting;
        }
        let idle = broker_idle && self.window.in_flight() == 0;
        let linger_until = open.created + self.settings.linger;
        if !idle && !open.hurried && now < linger_until {
            return Next::Linger(linger_until);
        }
        if !self.settings.compressed && open.builder.size() > room {
            return Next::NoRoom;
        }
        self.close();
        match self.compress_ahead() {
            Some((ticket, builder)) => Next::Compress(ticket, builder),
            None => self.send(self.batches.len() - 1, leader, room),
        }
    }

    /// The next batch for the codec. One at a time and one ahead: what waits uncompressed can be given up cheaply,
    /// and the order is kept without looking.
    fn compress_ahead(&mut self) -> Option<(Ticket, BatchBuilder)> {
        let waiting = |batch: &Batch<C>| match batch.state {
            State::Compressing => true,
            State::Ready(_) => batch.attempts == 0,
            State::Closed(_) | State::InFlight(_) => false,
        };
        if !self.settings.compressed || self.batches.iter().any(waiting) {
            return None;
        }
        let batch = self.batches.iter_mut().find(|batch| matches!(batch.state, State::Closed(_)))?;
        match mem::replace(&mut batch.state, State::Compressing) {
            State::Closed(builder) => Some((batch.ticket, builder)),
            _ => unreachable!("looked for a closed one a line above"),
        }
    }

    /// The codec failed, and took the batch with it; whom to tell, unless it was given up meanwhile.
    pub fn lost(&mut self, ticket: Ticket) -> Option<GivenUp<C>> {
        let lost = |batch: &Batch<C>| batch.ticket == ticket && matches!(batch.state, State::Compressing);
        let batch = self.batches.iter().position(lost).map(|at| self.remove(at))?;
        self.abandoned(&batch);
        Some(GivenUp { fate: batch.fate(), facts: batch.facts(), to: batch.completion })
    }

    /// Takes back a batch from the codec; false if it was given up meanwhile.
    pub fn compressed(&mut self, ticket: Ticket, sealed: SealedBatch) -> bool {
        let batch = self.batches.iter_mut().find(|batch| batch.ticket == ticket);
        match batch {
            Some(batch) if matches!(batch.state, State::Compressing) => {
                batch.state = State::Ready(sealed);
                true
            }
            _ => false,
        }
    }
}
