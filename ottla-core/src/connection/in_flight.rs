//! Requests that were written and wait for their answers.
//!
//! ```text
//!               ┌── its answer arrives ─────────────▶ settled
//!   register ──▶│── deadline passes, required ──────▶ the connection is closed; every request fails
//!   (before     │── deadline passes, optional ──────▶ forgotten
//!    writing)   └── an answer that nobody expects ──▶ the connection is closed; every request fails
//! ```
//!
//! A broker answers the requests of one connection in order, so an answer must carry the correlation id of the
//! oldest request. Anything else means that the two sides no longer agree on what was asked, and delivering it could
//! hand one caller the answer of another.

use std::{collections::VecDeque, time::Instant};

/// Whether an answer must come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The broker owes an answer; without one in time the connection is of no use.
    Required,
    /// The protocol has no answer (Produce with `acks=0`), but some brokers send one all the same.
    Optional,
}

/// An answer arrived that belongs to no request, or not to the oldest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnexpectedAnswer {
    /// Nothing is in flight.
    #[error("an answer with correlation id {0} arrived, but no request is in flight")]
    Unsolicited(i32),
    /// The oldest request has another id.
    #[error("an answer with correlation id {got} arrived where {expected} was due")]
    OutOfOrder {
        /// The id of the oldest request.
        expected: i32,
        /// The id in the frame.
        got: i32,
    },
}

/// The requests in flight on one connection, oldest first, each with what settles it.
#[derive(Debug)]
pub struct InFlight<T> {
    queue: VecDeque<Entry<T>>,
}

/// A producer with `acks=0` sends thousands of requests a second, and a broker that answers them does it at once.
const OPTIONAL_KEPT: usize = 256;

#[derive(Debug)]
struct Entry<T> {
    correlation_id: i32,
    deadline: Instant,
    answer: Answer,
    value: T,
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self { queue: VecDeque::new() }
    }
}

impl<T> InFlight<T> {
    /// Notes a request that is about to be written.
    ///
    /// Before, not after: the answer may arrive before the writer gets to its bookkeeping. Of those whose answer is
    /// optional only the newest are kept, since most brokers never send any.
    pub fn register(&mut self, correlation_id: i32, deadline: Instant, answer: Answer, value: T) {
        if answer == Answer::Optional {
            let is_optional = |entry: &Entry<T>| entry.answer == Answer::Optional;
            if self.queue.iter().filter(|entry| is_optional(entry)).count() >= OPTIONAL_KEPT
                && let Some(oldest) = self.queue.iter().position(is_optional)
            {
                self.queue.remove(oldest);
            }
        }
        self.queue.push_back(Entry { correlation_id, deadline, answer, value });
    }

    /// Takes the request that an answer belongs to.
    ///
    /// # Errors
    /// When it is not the answer of the oldest request that must have one: the connection has to be closed.
    pub fn on_answer(&mut self, correlation_id: i32) -> Result<T, UnexpectedAnswer> {
        let due = self
            .queue
            .iter()
            .position(|entry| entry.correlation_id == correlation_id || entry.answer == Answer::Required);
        let Some(due) = due else { return Err(UnexpectedAnswer::Unsolicited(correlation_id)) };
        let expected = self.queue[due].correlation_id;
        if expected != correlation_id {
            return Err(UnexpectedAnswer::OutOfOrder { expected, got: correlation_id });
        }
        // The optional ones before it stay unanswered.
        self.queue.drain(..due);
        let entry = self.queue.pop_front();
        entry.map(|entry| entry.value).ok_or(UnexpectedAnswer::Unsolicited(correlation_id))
    }

    /// The earliest moment at which [`InFlight::expire`] has something to say.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.queue.iter().map(|entry| entry.deadline).min()
    }

    /// Forgets optional answers that are overdue. Gives a required one that is, if there is one: the connection has
    /// to be closed then, since the answers behind it would wait for it as well.
    pub fn expire(&mut self, now: Instant) -> Option<&T> {
        self.queue.retain(|entry| entry.answer == Answer::Required || entry.deadline > now);
        self.queue.iter().find(|entry| entry.deadline <= now).map(|entry| &entry.value)
    }

    /// Whether the deadline of a request has passed, also where its answer is optional.
    #[must_use]
    pub fn is_overdue(&self, correlation_id: i32, now: Instant) -> bool {
        self.queue.iter().any(|entry| entry.correlation_id == correlation_id && entry.deadline <= now)
    }

    /// Takes back the newest request if it is this one: no byte of it was written.
    pub fn withdraw(&mut self, correlation_id: i32) -> Option<T> {
        let newest = self.queue.back()?.correlation_id;
        if newest != correlation_id {
            return None;
        }
        self.queue.pop_back().map(|entry| entry.value)
    }

    /// Takes all requests, oldest first: the connection is gone.
    pub fn drain(&mut self) -> Vec<T> {
        self.queue.drain(..).map(|entry| entry.value).collect()
    }

    /// How many requests wait for an answer.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether no request waits for an answer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn now() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a fixed moment to count from; tests have no clock")]
        Instant::now()
    }

    #[test]
    fn answers_settle_requests_in_order() {
        let (mut queue, now) = (InFlight::default(), now());
        for id in [7, 9, 8] {
            queue.register(id, now + SECOND, Answer::Required, id * 10);
        }
        assert_eq!(queue.on_answer(7), Ok(70));
        assert_eq!(queue.on_answer(9), Ok(90));
        assert_eq!(queue.on_answer(8), Ok(80));
        assert!(queue.is_empty());
    }

    #[test]
    fn a_swapped_answer_is_refused_and_takes_nothing() {
        let (mut queue, now) = (InFlight::default(), now());
        queue.register(1, now, Answer::Required, 'a');
        queue.register(2, now, Answer::Required, 'b');
        assert_eq!(queue.on_answer(2), Err(UnexpectedAnswer::OutOfOrder { expected: 1, got: 2 }));
        assert_eq!(queue.drain(), ['a', 'b']);
    }

    #[test]
    fn an_answer_to_nothing_is_refused() {
        let mut queue = InFlight::<()>::default();
        assert_eq!(queue.on_answer(3), Err(UnexpectedAnswer::Unsolicited(3)));
    }

    #[test]
    fn an_optional_answer_may_come_or_not() {
        let (mut queue, now) = (InFlight::default(), now());
        queue.register(1, now, Answer::Optional, 'a');
        queue.register(2, now, Answer::Optional, 'b');
        queue.register(3, now, Answer::Required, 'c');
        assert_eq!(queue.on_answer(2), Ok('b'));
        assert_eq!(queue.on_answer(3), Ok('c'));
        assert_eq!(queue.on_answer(1), Err(UnexpectedAnswer::Unsolicited(1)));
    }

    #[test]
    fn answers_that_never_come_do_not_pile_up() {
        let (mut queue, now) = (InFlight::default(), now());
        queue.register(-1, now + SECOND, Answer::Required, -1);
        for id in 0..100_000 {
            queue.register(id, now + SECOND, Answer::Optional, id);
        }
        assert_eq!(queue.len(), OPTIONAL_KEPT + 1);
        assert_eq!(queue.on_answer(-1), Ok(-1));
        assert_eq!(queue.on_answer(99_999), Ok(99_999));
    }

    #[test]
    fn an_overdue_request_closes_the_connection_even_behind_a_patient_one() {
        let (mut queue, now) = (InFlight::default(), now());
        queue.register(1, now + 9 * SECOND, Answer::Required, 'a');
        queue.register(2, now + 3 * SECOND, Answer::Required, 'b');
        assert_eq!(queue.next_deadline(), Some(now + 3 * SECOND));
        assert_eq!(queue.expire(now + 2 * SECOND), None);
        assert_eq!(queue.expire(now + 3 * SECOND), Some(&'b'));
    }

    #[test]
    fn an_overdue_optional_answer_is_forgotten() {
        let (mut queue, now) = (InFlight::default(), now());
        queue.register(1, now, Answer::Optional, ());
        assert_eq!(queue.expire(now), None);
        assert_eq!((queue.len(), queue.next_deadline()), (0, None));
    }

    #[test]
    fn only_the_newest_request_can_be_withdrawn() {
        let (mut queue, now) = (InFlight::default(), now());
        queue.register(1, now, Answer::Required, 'a');
        queue.register(2, now, Answer::Required, 'b');
        assert_eq!(queue.withdraw(1), None);
        assert_eq!(queue.withdraw(2), Some('b'));
        assert_eq!(queue.withdraw(1), Some('a'));
    }
}
