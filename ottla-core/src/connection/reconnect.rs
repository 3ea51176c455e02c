//! When a broker may be dialled again, and how many dials an outage may cost.
//!
//! ```text
//!                dial fails, or the connection dies unused
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

    /// A dial failed, or a connection died before it answered anything but the handshake.
    pub fn on_failure(&mut self, now: Instant, random: u64) {
        self.not_before = Some(now + self.backoff.on_failure(random));
    }

    /// The broker does its work: it answered a request.
    pub fn on_success(&mut self) {
        self.backoff.on_success();
        self.not_before = None;
    }

    /// Whether the last thing that is known of the broker is a failure.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.backoff.failures() > 0
    }
}

/// Bounds the failing dials of a whole client, over all its brokers, so that an outage does not become a dial storm.
///
/// Only failures count: a healthy cluster of a thousand brokers is connected to without any wait.
#[derive(Debug)]
pub struct DialLimit {
    interval: Duration,
    burst: u32,
    /// When the bucket will be full again (a leaky bucket, kept as a moment).
    full_at: Option<Instant>,
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
        Self { interval, burst, full_at: None }
    }

    /// The moment before which nobody may be dialled, if it lies after `now`.
    #[must_use]
    pub fn wait_until(&self, now: Instant) -> Option<Instant> {
        let slack = self.interval.saturating_mul(self.burst.saturating_sub(1));
        self.full_at.and_then(|at| at.checked_sub(slack)).filter(|at| *at > now)
    }

    /// A dial failed.
    pub fn on_failure(&mut self, now: Instant) {
        let from = self.full_at.filter(|at| *at > now).unwrap_or(now);
        self.full_at = Some(from + self.interval);
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
        broker.on_success();
        assert_eq!((broker.wait_until(now), broker.is_failing()), (None, false));
    }

    #[test]
    fn an_outage_costs_at_most_ten_failing_dials_in_any_second() {
        let (mut limit, start) = (DialLimit::default(), now());
        let (mut now, mut dials) = (start, Vec::new());
        // Dials whenever it may: the worst that any number of brokers and lanes can do together.
        while now < start + ms(30_000) {
            now = limit.wait_until(now).unwrap_or(now);
            dials.push(now);
            limit.on_failure(now);
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
            assert_eq!(limit.wait_until(now), None);
            limit.on_failure(now);
        }
        assert!(limit.wait_until(now).is_some());
        assert_eq!(limit.wait_until(now + ms(5_000)), None);
    }
}
