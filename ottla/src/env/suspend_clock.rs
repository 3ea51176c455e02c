//! A clock that counts the time in which the machine was suspended.
//!
//! `Instant` stands still during suspend on Linux and macOS; the wall clock goes on, but is set now and then. This clock
//! follows the first, and adds what the second has gained on it: a suspend, or a step forward. A step back takes nothing
//! away. So it may run ahead of the truth, never behind it by more than [`UNNOTICED`]: a lease that ends too early costs
//! a heartbeat, one that ends too late costs duplicates.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Readings of two clocks that stood at zero at the same time, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Readings {
    /// It never goes back, and may stand still.
    pub(super) monotonic: u64,
    /// It may be set.
    pub(super) wall: i64,
}

/// What the wall clock has gained on the monotonic one.
#[derive(Debug, Default)]
pub(super) struct SuspendClock {
    /// How far the wall clock was ahead of the monotonic one when that was last looked into.
    ahead: AtomicI64,
    /// The time that the monotonic clock has missed.
    missed: AtomicU64,
    correction: Mutex<()>,
}

/// Clocks that are disciplined drift apart; less than this is no suspend. It is far below the margin of a lease.
const UNNOTICED: i64 = 250_000_000;

impl SuspendClock {
    /// The time since both clocks stood at zero.
    pub(super) fn elapsed(&self, now: Readings) -> Duration {
        let ahead = now.wall.saturating_sub(i64::try_from(now.monotonic).unwrap_or(i64::MAX));
        let gained = ahead.saturating_sub(self.ahead.load(Ordering::Acquire));
        if !(0..=UNNOTICED).contains(&gained) {
            self.correct(ahead);
        }
        Duration::from_nanos(now.monotonic.saturating_add(self.missed.load(Ordering::Acquire)))
    }

    #[cold]
    fn correct(&self, ahead: i64) {
        let _one_at_a_time = self.correction.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = ahead.saturating_sub(self.ahead.load(Ordering::Acquire));
        match u64::try_from(gained) {
            Ok(gained) if gained > UNNOTICED.unsigned_abs() => {
                self.missed.fetch_add(gained, Ordering::AcqRel);
                self.ahead.store(ahead, Ordering::Release);
            }
            // Somebody else has just seen to it.
            Ok(_) => {}
            Err(_) => self.ahead.store(ahead, Ordering::Release),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// What the clock shows after `monotonic` and `wall` seconds.
    fn at(clock: &SuspendClock, monotonic: f64, wall: f64) -> f64 {
        let nanos = |seconds: f64| (seconds * SECOND as f64) as i64;
        let now = Readings { monotonic: nanos(monotonic).unsigned_abs(), wall: nanos(wall) };
        clock.elapsed(now).as_secs_f64()
    }

    #[test]
    fn time_in_suspend_counts() {
        let clock = SuspendClock::default();
        assert_eq!(at(&clock, 10.0, 10.0), 10.0);
        assert_eq!(at(&clock, 11.0, 71.0), 71.0);
        assert_eq!(at(&clock, 12.0, 72.0), 72.0);
        assert_eq!(at(&clock, 13.0, 103.0), 103.0, "again");
    }

    #[test]
    fn a_wall_clock_that_is_set_back_takes_nothing_away() {
        let clock = SuspendClock::default();
        assert_eq!(at(&clock, 10.0, 10.0), 10.0);
        assert_eq!(at(&clock, 11.0, -3_589.0), 11.0);
        assert_eq!(at(&clock, 12.0, -3_588.0), 12.0);
        assert_eq!(at(&clock, 13.0, -3_527.0), 73.0, "a suspend after that still counts");
    }

    #[test]
    fn a_wall_clock_that_is_set_forward_and_back_never_stops_the_clock() {
        let clock = SuspendClock::default();
        assert_eq!(at(&clock, 1.0, 3_601.0), 3_601.0);
        assert_eq!(at(&clock, 2.0, 2.0), 3_602.0);
        assert_eq!(at(&clock, 3.0, 3.0), 3_603.0);
    }

    #[test]
    fn clocks_that_drift_apart_are_no_suspend() {
        let clock = SuspendClock::default();
        for second in 1..1_000 {
            let monotonic = f64::from(second);
            let shown = at(&clock, monotonic, monotonic * 1.000_1);
            assert!((0.0..0.3).contains(&(shown - monotonic)), "{shown} at {monotonic}");
        }
    }
}
