//! Answers come back.

use std::time::Instant;

use ottla_protocol::batch::{BatchBuilder, SealedBatch};

use super::{Batch, Completion, GivenUp, PartitionQueue, Settled, State, Ticket};
use crate::produce::{
    outcome::{Attempt, Doubt, Fate, Verdict, classify},
    split::split,
};

impl<C: Completion> PartitionQueue<C> {
    /// Takes back a batch with what came of it. `random` spreads the back-off.
    pub fn settle(
        &mut self,
        ticket: Ticket,
        batch: SealedBatch,
        attempt: Attempt,
        now: Instant,
        random: u64,
    ) -> Settled<C> {
        let Some(at) = self.batches.iter().position(|batch| batch.ticket == ticket) else {
            return Settled::Unknown;
        };
        let State::InFlight(sent_to) = self.batches[at].state else { return Settled::Unknown };
        let identity = self.batches[at].identity();
        self.window.answered();
        let verdict = classify(attempt);
        if verdict != Verdict::UnknownTopic {
            self.unknown_since = None;
        }
        match verdict {
            Verdict::Written { base_offset } => {
                self.window.establish(identity, sent_to);
                let batch = self.remove(at);
                Settled::Written { base_offset, facts: batch.facts(), completion: batch.completion }
            }
            Verdict::Again { doubt, refresh } => self.again(at, batch, doubt, refresh, now, random),
            Verdict::UnknownTopic => {
                // What others were told before this batch came takes nothing of its time.
                let since = (*self.unknown_since.get_or_insert(now)).max(self.batches[at].created);
                if now.saturating_duration_since(since) < self.settings.unknown_topic_grace {
                    self.again(at, batch, Doubt::Raised, true, now, random)
                } else {
                    self.failed(at, Doubt::Raised)
                }
            }
            Verdict::OutOfSequence { doubt, leader_has_state } => {
                if leader_has_state {
                    self.window.establish(identity, sent_to);
                }
                // Behind an unwritten batch it had to come. In front, either the batch before was given up, or the
                // leader lost what it acknowledged; then the same might happen again at once.
                let expected = at > 0 || self.sequences.raise_wanted();
                if self.gap_in_doubt && self.batches[at].in_doubt {
                    return self.failed(at, Doubt::Kept);
                }
                self.batches[at].state = State::Ready(batch);
                self.batches[at].doubt(doubt);
                if !expected {
                    self.sequences.want_raise();
                }
                // While the epoch waits to be raised, an answer that settles a doubt is followed by the next question.
                if !expected || self.batches[at].in_doubt {
                    self.back_off(now, random);
                }
                self.unless_pointless(at, false)
            }
            Verdict::TooLarge => self.too_large(at, batch),
            Verdict::Rejected { doubt } => self.failed(at, doubt),
        }
    }

    fn failed(&mut self, at: usize, doubt: Doubt) -> Settled<C> {
        let mut batch = self.remove(at);
        batch.doubt(doubt);
        self.abandoned(&batch);
        let fate = if batch.in_doubt { Fate::PossiblyWritten } else { Fate::NotWritten };
        Settled::Failed(GivenUp { fate, facts: batch.facts(), to: batch.completion })
    }

    fn again(
        &mut self,
        at: usize,
        sealed: SealedBatch,
        doubt: Doubt,
        refresh: bool,
        now: Instant,
        random: u64,
    ) -> Settled<C> {
        self.batches[at].state = State::Ready(sealed);
        self.batches[at].doubt(doubt);
        // Those that went out behind the first fail with it: they are no reason to wait longer. What is sent once more
        // goes alone, and fails by itself.
        if at == 0 || self.batches[at].attempts > 1 {
            self.back_off(now, random);
        }
        self.unless_pointless(at, refresh)
    }

    /// Once the caller was told, a batch is only sent again to find out what became of it.
    fn unless_pointless(&mut self, at: usize, refresh: bool) -> Settled<C> {
        let batch = &self.batches[at];
        let tells_something = batch.in_doubt && self.settings.idempotent;
        if batch.reported && !tells_something {
            self.failed(at, Doubt::Kept)
        } else {
            Settled::Again { refresh }
        }
    }

    fn back_off(&mut self, now: Instant, random: u64) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + self.settings.backoff.delay(self.failures, random));
    }

    /// Splits a batch that was definitely not written. What may have been written under its sequences cannot be sent
    /// in other pieces: the broker would not recognise them.
    fn too_large(&mut self, at: usize, sealed: SealedBatch) -> Settled<C> {
        let batch = &self.batches[at];
        let half = batch.count / 2;
        if batch.count < 2 || batch.in_doubt || batch.reported {
            return self.failed(at, Doubt::Kept);
        }
        // The later ones need not learn it the same way.
        self.settings.batch_size =
            self.settings.batch_size.min((sealed.size() / 2).max(BatchBuilder::OVERHEAD));
        let Ok((first, rest)) = split(&sealed, half) else { return self.failed(at, Doubt::Kept) };
        let whole = self.remove(at);
        let (told_first, told_rest) = whole.completion.split(half);
        let halves = [(first, 0, told_first), (rest, half, told_rest)];
        for (offset, (sealed, skip, completion)) in halves.into_iter().enumerate() {
            let ticket = self.new_ticket();
            let half = Batch {
                ticket,
                count: sealed.count(),
                state: State::Ready(sealed),
                created: whole.created,
                stamp: whole.stamp.map(|stamp| stamp.skip(skip)),
                stamped: false,
                attempts: whole.attempts,
                in_doubt: false,
                reported: false,
                completion,
            };
            self.batches.insert(at + offset, half);
        }
        Settled::Again { refresh: false }
    }
}
