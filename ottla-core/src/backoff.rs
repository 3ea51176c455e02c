//! Exponential back-off with jitter (KIP-580).
//!
//! ```text
//!            failure                          failure
//!   calm ───────────────▶ backing off (n) ───────────▶ backing off (n + 1)
//!    ▲                          │
//!    └───────── success ────────┘
//! ```

use std::time::Duration;

/// How long to wait after the n-th failure in a row: doubling from `initial` up to `max`, ±20 %.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackoffPolicy {
    initial: Duration,
    max: Duration,
}

impl BackoffPolicy {
    /// Doubles from `initial` to `max`; a `max` below `initial` counts as `initial`.
    #[must_use]
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max: max.max(initial) }
    }

    /// The wait after `failures` failures in a row (0: none). `random` is any random number.
    ///
    /// Uniform between 0.8 and 1.2 times the doubled value, and never above `max`: many clients that lost the same
    /// broker must not come back in step.
    #[must_use]
    pub fn delay(&self, failures: u32, random: u64) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let doubled =
            self.initial.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(self.max);
        let (low, high) = (doubled.mul_f64(0.8), doubled.mul_f64(1.2).min(self.max));
        // The upper 53 bits of a random number, as a fraction of one.
        let fraction = (random >> 11) as f64 / (1_u64 << 53) as f64;
        low + (high - low).mul_f64(fraction)
    }
}

/// Counts failures in a row and says how long to wait after each.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: BackoffPolicy,
    failures: u32,
}

impl Backoff {
    /// Starts calm.
    #[must_use]
    pub fn new(policy: BackoffPolicy) -> Self {
        Self { policy, failures: 0 }
    }

    /// Notes a failure; the result is the time to wait before the next try.
    pub fn on_failure(&mut self, random: u64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.policy.delay(self.failures, random)
    }

    /// Notes a success: the next failure waits the initial time again.
    pub fn on_success(&mut self) {
        self.failures = 0;
    }

    /// How many failures there were in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn doubles_up_to_the_maximum() {
        let policy = BackoffPolicy::new(ms(100), ms(1_000));
        let middle = u64::MAX / 2;
        let delays: Vec<_> = (0..=6).map(|failures| policy.delay(failures, middle).as_millis()).collect();
        // In the middle of the jitter; at the maximum the jitter only shortens.
        assert_eq!(delays, [0, 100, 200, 400, 800, 900, 900]);
    }

    #[test]
    fn jitter_stays_within_a_fifth_and_below_the_maximum() {
        let policy = BackoffPolicy::new(ms(100), ms(1_000));
        for (failures, low, high) in [(1, 80, 120), (3, 320, 480), (30, 800, 1_000), (u32::MAX, 800, 1_000)] {
            for random in [0, 1, u64::MAX / 3, u64::MAX / 2, u64::MAX] {
                let delay = policy.delay(failures, random);
                assert!(delay >= ms(low) && delay <= ms(high), "{failures} failures: {delay:?}");
            }
        }
    }

    #[test]
    fn a_success_starts_over() {
        let mut backoff = Backoff::new(BackoffPolicy::new(ms(100), ms(1_000)));
        assert_eq!(backoff.on_failure(0), ms(80));
        assert_eq!(backoff.on_failure(0), ms(160));
        backoff.on_success();
        assert_eq!(backoff.failures(), 0);
        assert_eq!(backoff.on_failure(0), ms(80));
    }

    #[test]
    fn a_maximum_below_the_initial_wait_is_raised_to_it() {
        assert_eq!(BackoffPolicy::new(ms(100), ms(10)).delay(5, 0), ms(80));
    }
}
