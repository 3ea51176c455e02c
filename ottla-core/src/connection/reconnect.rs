//! When a broker may be dialled again, and how many dials an outage may cost.
//!
//! ```text
//!                dial fails, or the connection dies unused, or of what its broker said
//!   ready ───────────────────────────────────────────────▶ waiting until t (doubling, with jitter)
//!    ▲  ▲                                                      │
//!    │  └───────────────────── t passes ───────────────────────┘ (the count of failures stays)
//!    └── an answer on a new connection: the count starts over
//! ```

use std::time::{Duration, Instant};

use crate::backoff::{Backoff, BackoffPolicy};

/// The back-off of one broker (`reconnect.backoff.ms`), shared by all its connections.
#[derive(Debug)]
pub struct Reconnect {
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl Reconnect {
    /// A broker that may be dialled at once.
    #[must_use]
    pub fn new(policy: BackoffPolicy) -> Self {
        Self { backoff: Backoff::new(policy), not_before: None }
    }

    /// The moment before which the broker must not be dialled, if it lies after `now`.
    #[must_use]
    pub fn wait_until(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|at| *at > now)
    }

    /// A dial failed.
    pub fn on_failure(&mut self, now: Instant, random: u64) {
        self.not_before = Some(now + self.backoff.on_failure(random));
    }

    /// A connection has ended: it counts as a failure if nothing came of it, or nonsense.
    pub fn on_end(&mut self, now: Instant, ended: Ended, random: u64) {
        if ended.answered && !ended.misbehaved {
            self.backoff.on_success();
            self.not_before = None;
        } else {
            self.on_failure(now, random);
        }
    }

    /// Whether the last thing that is known of the broker is a failure.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.backoff.failures() > 0
    }
}

/// How a connection was, now that it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The broker has answered something beside the handshake. One that closes what it accepts is no better than one that
    /// does not accept.
    pub answered: bool,
    /// It ended because the broker said what no broker says.
    pub misbehaved: bool,
    /// How long it lived.
    pub lived: Duration,
}

/// A connection that ended sooner was hardly worth its dial.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// Bounds the failing dials of a whole client, over all its brokers, their addresses, and the versions that they are
/// asked in, so that an outage does not become a dial storm. A dial is one attempt to connect to one address.
///
/// ```text
///            permit: free, counted when it fails
///   calm ◀──────────────────────────────────────┐
///    │ a dial fails, or was for little          │ the failures are old enough
///    ▼                                          │
///   failing: a permit is counted at once, given back by success; too many of them: wait
/// ```
///
/// Only failures count: a healthy cluster of a thousand brokers is connected to without any wait. Only dials that were
/// under way together when an outage begins can be more than the limit.
#[derive(Debug)]
pub struct DialLimit {
    interval: Duration,
    burst: u32,
    /// When the bucket will be empty again (a leaky bucket, kept as a moment).
    empty_at: Option<Instant>,
}

/// Leave to dial once; to be given to [`DialLimit::on_success`] or [`DialLimit::on_failure`].
#[derive(Debug)]
#[must_use = "how the dial ended has to be told"]
pub struct DialPermit {
    counted: bool,
}

impl Default for DialLimit {
    /// Five failures at once, then five a second: never more than ten in any second.
    fn default() -> Self {
        Self::new(Duration::from_millis(200), 5)
    }
}

impl DialLimit {
    /// `burst` failures at once, then one per `interval`.
    #[must_use]
    pub fn new(interval: Duration, burst: u32) -> Self {
        Self { interval, burst, empty_at: None }
    }

    /// The moment before which nobody may be dialled, if it lies after `now`.
    #[must_use]
    pub fn wait_until(&self, now: Instant) -> Option<Instant> {
        let slack = self.interval.saturating_mul(self.burst.saturating_sub(1));
        self.empty_at.and_then(|at| at.checked_sub(slack)).filter(|at| *at > now)
    }

    /// Leave to dial now.
    ///
    /// # Errors
    /// When to ask again.
    pub fn permit(&mut self, now: Instant) -> Result<DialPermit, Instant> {
        if let Some(later) = self.wait_until(now) {
            return Err(later);
        }
        let counted = self.empty_at.is_some_and(|at| at > now);
        if counted {
            self.count(now);
        }
        Ok(DialPermit { counted })
    }

    /// A dial became a connection.
    pub fn on_success(&mut self, permit: DialPermit) {
        if permit.counted {
            self.empty_at = self.empty_at.and_then(|at| at.checked_sub(self.interval));
        }
    }

    /// A dial failed, or was given up.
    pub fn on_failure(&mut self, now: Instant, permit: DialPermit) {
        if !permit.counted {
            self.count(now);
        }
    }

    /// A connection has ended. One of a short life counts as a failing dial: a broker that answers once and then closes, or
    /// says nonsense, must not be dialled for ever at full speed.
    pub fn on_end(&mut self, now: Instant, ended: Ended) {
        if ended.lived < SHORT_LIFE {
            self.count(now);
        }
    }

    fn count(&mut self, now: Instant) {
        let from = self.empty_at.filter(|at| *at > now).unwrap_or(now);
        self.empty_at = Some(from + self.interval);
    }
}

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

    #[test]
    fn failures_in_a_row_wait_longer_and_longer() {
        let (mut broker, now) = (Reconnect::new(BackoffPolicy::new(ms(50), ms(1_000))), now());
        assert_eq!(broker.wait_until(now), None);
        broker.on_failure(now, 0);
        assert_eq!(broker.wait_until(now), Some(now + ms(40)));
        broker.on_failure(now, 0);
        assert_eq!(broker.wait_until(now), Some(now + ms(80)));
        assert_eq!(broker.wait_until(now + ms(80)), None);
        assert!(broker.is_failing());
        broker.on_end(now, ended(true, false, 5_000), 0);
        assert_eq!((broker.wait_until(now), broker.is_failing()), (None, false));
    }

    fn ended(answered: bool, misbehaved: bool, lived: u64) -> Ended {
        Ended { answered, misbehaved, lived: ms(lived) }
    }

    #[test]
    fn a_connection_that_was_closed_unused_or_over_nonsense_is_a_failure() {
        for failed in [ended(false, false, 5_000), ended(true, true, 5_000)] {
            let (mut broker, now) = (Reconnect::new(BackoffPolicy::new(ms(50), ms(1_000))), now());
            broker.on_end(now, failed, 0);
            assert!(broker.wait_until(now).is_some());
        }
    }

    #[test]
    fn connections_that_live_for_moments_cost_at_most_ten_dials_in_any_second() {
        let (mut limit, start) = (DialLimit::default(), now());
        let (mut now, mut dials) = (start, Vec::new());
        while now < start + ms(10_000) {
            match limit.permit(now) {
                Ok(permit) => {
                    dials.push(now);
                    limit.on_success(permit);
                    now += ms(1);
                    limit.on_end(now, ended(true, false, 1));
                }
                Err(later) => now = later,
            }
        }
        let at_once =
            |from: &Instant| dials.iter().filter(|at| (*from..*from + ms(1_000)).contains(at)).count();
        assert!(dials.iter().all(|dial| at_once(dial) <= 10), "{} dials in 10 s", dials.len());
        assert!(dials.len() >= 50, "the limit must not starve: {} dials in 10 s", dials.len());
        limit.on_end(now + ms(60_000), ended(true, false, 60_000));
        assert_eq!(limit.wait_until(now + ms(60_000)), None);
    }

    #[test]
    fn an_outage_costs_at_most_ten_failing_dials_in_any_second() {
        let (mut limit, start) = (DialLimit::default(), now());
        let (mut now, mut dials) = (start, Vec::new());
        // Dials whenever it may: the worst that any number of brokers and lanes can do together.
        while now < start + ms(30_000) {
            match limit.permit(now) {
                Ok(permit) => {
                    dials.push(now);
                    limit.on_failure(now, permit);
                }
                Err(later) => now = later,
            }
        }
        for (at, dial) in dials.iter().enumerate() {
            let within_a_second = dials[at..].iter().take_while(|other| **other < *dial + ms(1_000)).count();
            assert!(within_a_second <= 10, "{within_a_second} dials in one second");
        }
        assert!(dials.len() >= 150, "the limit must not starve: {} dials in 30 s", dials.len());
    }

    #[test]
    fn a_quiet_time_gives_the_burst_back() {
        let (mut limit, now) = (DialLimit::default(), now());
        for _ in 0..5 {
            let permit = limit.permit(now).unwrap();
            limit.on_failure(now, permit);
        }
        assert!(limit.wait_until(now).is_some());
        assert_eq!(limit.wait_until(now + ms(5_000)), None);
    }

    #[test]
    fn healthy_brokers_are_dialled_without_any_wait() {
        let (mut limit, now) = (DialLimit::default(), now());
        let permits: Vec<_> = (0..1_000).map(|_| limit.permit(now).unwrap()).collect();
        permits.into_iter().for_each(|permit| limit.on_success(permit));
        assert_eq!(limit.wait_until(now), None);
    }

    #[test]
    fn once_dials_fail_those_under_way_count_until_they_succeed() {
        let (mut limit, now) = (DialLimit::default(), now());
        let first = limit.permit(now).unwrap();
        limit.on_failure(now, first);
        let mut under_way: Vec<_> = (0..4).map(|_| limit.permit(now).unwrap()).collect();
        assert!(limit.permit(now).is_err());
        limit.on_success(under_way.pop().unwrap());
        assert!(limit.permit(now).is_ok());
    }
}
