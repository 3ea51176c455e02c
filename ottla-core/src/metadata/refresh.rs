//! When to ask for metadata.
//!
//! ```text
//!            first interest, a topic that is not known yet, age: at once
//!            routing failure: not before the back-off since the last answer has passed
//!   fresh ───────────────────────────────────────────────────────────────────────▶ due
//!    ▲                                                                              │ begin
//!    │ complete, and nobody asked meanwhile                                         ▼
//!    └───────────────────────────────────────────────────────────────────────── asking
//!                                                                                 │ ▲
//!                  failed, incomplete (no leader, unknown topic), asked meanwhile ▼ │ back-off has passed
//!                                                                               waiting
//! ```
//!
//! Routing failures come in swarms: every partition of a broker that died reports one. However many there are, at most
//! one request is on its way, and their spacing doubles from `retry.backoff.ms` on while they go on coming.
//!
//! Whom to ask: anybody first, so that whoever is connected to answers at once. Failures that go on after an answer cast
//! doubt on whoever told it: a leader that is cut off from its peers reaches its clients and believes that it leads, for
//! ever. So does age, since who follows such a leader meets no failure at all: the first question that is asked so long
//! after the last one to others, whatever it is asked for. In doubt whoever has told is asked after all the others, the
//! latest last.

use std::time::{Duration, Instant};

use super::Told;
use crate::backoff::{Backoff, BackoffPolicy};

/// Decides when to ask for metadata.
#[derive(Debug)]
pub struct Refresh {
    max_age: Duration,
    backoff: Backoff,
    /// Failures and incomplete answers hold everything back until then, routing failures are always held back.
    not_before: Option<Instant>,
    last_failed: bool,
    last_end: Option<Instant>,
    asking: bool,
    wanted: Option<Wanted>,
    told: Told,
    /// When it was last left open whether who tells is right: somebody else was asked, or nobody had told before.
    others_asked: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    /// Somebody was sent to the wrong broker, or an answer was incomplete.
    Soon,
    /// Somebody waits for a topic that was never asked for.
    Now,
}

impl Refresh {
    /// Asks every `max_age` once it was asked for the first time.
    #[must_use]
    pub fn new(max_age: Duration, backoff: BackoffPolicy) -> Self {
        Self {
            max_age,
            backoff: Backoff::new(backoff),
            not_before: None,
            last_failed: false,
            last_end: None,
            asking: false,
            wanted: None,
            told: Told::default(),
            others_asked: None,
        }
    }

    /// Routing by what is known failed.
    pub fn on_routing_failure(&mut self) {
        self.wanted = self.wanted.max(Some(Wanted::Soon));
    }

    /// Somebody needs what was never asked for.
    pub fn on_new_interest(&mut self) {
        self.wanted = Some(Wanted::Now);
    }

    /// When to ask next; `None` while an answer is awaited, and as long as nobody is interested.
    #[must_use]
    pub fn next_attempt(&self, now: Instant) -> Option<Instant> {
        if self.asking {
            return None;
        }
        let not_before = self.not_before.filter(|at| *at > now).unwrap_or(now);
        match self.wanted {
            Some(Wanted::Now) if !self.last_failed => Some(now),
            Some(_) => Some(not_before),
            None => self.last_end.map(|end| end + self.max_age),
        }
    }

    /// The question goes out, to these after all the other brokers, and in this order. What is asked for from here on
    /// needs another one: the answer may be older.
    pub fn begin(&mut self, now: Instant) -> &[i32] {
        self.asking = true;
        let wanted = self.wanted.take();
        // After a quiet time the spacing starts over.
        let quiet = self.last_end.is_none_or(|end| now.saturating_duration_since(end) > QUIET);
        if quiet && !self.last_failed {
            self.backoff.on_success();
        }
        let swarm = wanted == Some(Wanted::Soon) && !quiet;
        // Questions for other reasons put off the one by age, and must not put off this.
        let asked = *self.others_asked.get_or_insert(now);
        let aged = wanted.is_none() || now.saturating_duration_since(asked) >= self.max_age;
        if !swarm && !aged {
            return &[];
        }
        self.others_asked = Some(now);
        self.told.last()
    }

    /// The answer of `told_by`, which is negative for a server whose id is not known, was applied; `complete` if it told
    /// all that was asked.
    pub fn on_answer(&mut self, now: Instant, told_by: i32, complete: bool, random: u64) {
        self.end(now, random);
        self.last_failed = false;
        self.told.by(told_by);
        if !complete {
            self.on_routing_failure();
        }
    }

    /// Nobody answered.
    pub fn on_failure(&mut self, now: Instant, random: u64) {
        self.end(now, random);
        self.last_failed = true;
        self.on_routing_failure();
    }

    fn end(&mut self, now: Instant, random: u64) {
        self.asking = false;
        self.last_end = Some(now);
        self.not_before = Some(now + self.backoff.on_failure(random));
    }
}

/// Refreshes further apart than this are no swarm.
const QUIET: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a fixed moment to count from; tests have no clock")]
        Instant::now()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Whoever is asked.
    const BROKER: i32 = 1;

    fn refresh() -> Refresh {
        Refresh::new(ms(300_000), BackoffPolicy::new(ms(100), ms(1_000)))
    }

    /// A refresh that has just been answered completely.
    fn answered(now: Instant) -> Refresh {
        let mut refresh = refresh();
        refresh.on_new_interest();
        refresh.begin(now);
        refresh.on_answer(now, BROKER, true, 0);
        refresh
    }

    #[test]
    fn without_interest_nothing_is_asked() {
        assert_eq!(refresh().next_attempt(now()), None);
    }

    #[test]
    fn asks_again_by_age() {
        let now = now();
        assert_eq!(answered(now).next_attempt(now), Some(now + ms(300_000)));
    }

    #[test]
    fn a_swarm_of_routing_failures_is_one_spaced_question() {
        let start = now();
        let mut refresh = answered(start);
        let mut gaps = Vec::new();
        let mut now = start;
        for _ in 0..6 {
            for _ in 0..100 {
                refresh.on_routing_failure();
            }
            let next = refresh.next_attempt(now).unwrap();
            gaps.push((next - now).as_millis());
            now = next;
            refresh.begin(now);
            assert_eq!(refresh.next_attempt(now), None, "one question at a time");
            refresh.on_answer(now, BROKER, true, 0);
        }
        assert_eq!(gaps, [80, 160, 320, 640, 800, 800]);
    }

    #[test]
    fn the_first_routing_failure_after_a_quiet_time_is_answered_at_once() {
        let start = now();
        let mut refresh = answered(start);
        let later = start + ms(10_000);
        refresh.on_routing_failure();
        assert_eq!(refresh.next_attempt(later), Some(later));
        refresh.begin(later);
        refresh.on_answer(later, BROKER, true, 0);
        refresh.on_routing_failure();
        assert_eq!(refresh.next_attempt(later), Some(later + ms(80)));
    }

    #[test]
    fn a_new_topic_does_not_wait_for_the_spacing() {
        let now = now();
        let mut refresh = answered(now);
        refresh.on_new_interest();
        assert_eq!(refresh.next_attempt(now), Some(now));
    }

    #[test]
    fn after_a_failure_even_a_new_topic_waits() {
        let now = now();
        let mut refresh = refresh();
        refresh.on_new_interest();
        refresh.begin(now);
        refresh.on_failure(now, 0);
        refresh.on_new_interest();
        assert_eq!(refresh.next_attempt(now), Some(now + ms(80)));
    }

    #[test]
    fn what_is_asked_for_during_a_question_needs_another_one() {
        let now = now();
        let mut refresh = answered(now);
        refresh.on_new_interest();
        refresh.begin(now);
        refresh.on_routing_failure();
        refresh.on_answer(now, BROKER, true, 0);
        assert_eq!(refresh.next_attempt(now), Some(now + ms(160)));
    }

    #[test]
    fn an_incomplete_answer_is_asked_for_again() {
        let now = now();
        let mut refresh = answered(now);
        refresh.on_routing_failure();
        refresh.begin(now);
        refresh.on_answer(now, BROKER, false, 0);
        assert!(refresh.next_attempt(now).is_some_and(|at| at < now + ms(1_000)));
    }

    /// Asks at `at`, and takes an answer of `told_by`; gives who was not to be asked before others.
    fn ask(refresh: &mut Refresh, at: Instant, told_by: i32) -> Vec<i32> {
        let last = refresh.begin(at).to_vec();
        refresh.on_answer(at, told_by, true, 0);
        last
    }

    #[test]
    fn p22_while_failures_go_on_whoever_has_told_is_asked_after_the_others() {
        let start = now();
        let mut refresh = answered(start);
        let mut last = Vec::new();
        for (after, told_by) in [(10_000, 1), (10_100, 2), (10_300, 3), (10_700, 1), (11_500, 2)] {
            refresh.on_routing_failure();
            last.push(ask(&mut refresh, start + ms(after), told_by));
        }
        assert_eq!(last, [vec![], vec![1], vec![1, 2], vec![1, 2, 3], vec![2, 3, 1]]);
    }

    #[test]
    fn whoever_has_told_is_asked_again_for_what_was_never_asked_for() {
        let start = now();
        let mut refresh = answered(start);
        refresh.on_routing_failure();
        refresh.on_new_interest();
        assert_eq!(ask(&mut refresh, start, 1), []);
    }

    #[test]
    fn p22_what_is_asked_for_in_between_does_not_put_off_that_others_are_asked() {
        let start = now();
        let mut refresh = answered(start);
        let last = [100_000, 200_000, 301_000, 400_000, 602_000].map(|after| {
            refresh.on_new_interest();
            ask(&mut refresh, start + ms(after), 1)
        });
        assert_eq!(last, [vec![], vec![], vec![1], vec![], vec![1]]);
    }

    #[test]
    fn p22_a_question_by_age_goes_to_others_than_the_one_before() {
        let start = now();
        let mut refresh = answered(start);
        assert_eq!(ask(&mut refresh, start + ms(300_000), 2), [1]);
        assert_eq!(ask(&mut refresh, start + ms(600_000), 1), [1, 2]);
        assert_eq!(ask(&mut refresh, start + ms(900_000), 2), [2, 1]);
    }
}
