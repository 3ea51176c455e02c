//! Until when records may be handed out.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::sync::Notify;

/// The end of the lease, for a look at every record. It is a moment of [`Env::elapsed`](crate::env::Env::elapsed).
#[derive(Debug)]
pub(in crate::consumer) struct Gate {
    until: AtomicU64,
    /// It has opened, or there is something to say to whoever waits at it.
    pub(in crate::consumer) turned: Notify,
}

/// No lease is needed.
const OPEN: u64 = u64::MAX;
const CLOSED: u64 = 0;

/// Open: whoever is no member of a group needs no lease.
impl Default for Gate {
    fn default() -> Self {
        Self { until: AtomicU64::new(OPEN), turned: Notify::new() }
    }
}

impl Gate {
    /// Whether records may be handed out; `elapsed` is asked for the time only if that matters.
    #[inline]
    pub(in crate::consumer) fn is_open(&self, elapsed: impl FnOnce() -> Duration) -> bool {
        match self.until.load(Ordering::Acquire) {
            OPEN => true,
            CLOSED => false,
            until => nanos(elapsed()) < until,
        }
    }

    /// The end of the lease; `None` when none is needed.
    pub(in crate::consumer) fn until(&self) -> Option<Duration> {
        match self.until.load(Ordering::Acquire) {
            OPEN => None,
            until => Some(Duration::from_nanos(until)),
        }
    }

    /// No lease is needed. `true`: it has opened for whoever has found it closed.
    #[must_use]
    pub(super) fn open(&self, elapsed: impl FnOnce() -> Duration) -> bool {
        self.turn(OPEN, elapsed)
    }

    /// Nothing may be handed out. `false`: it has not opened for anybody.
    pub(super) fn close(&self) -> bool {
        self.until.swap(CLOSED, Ordering::SeqCst);
        false
    }

    /// Takes over the end of the lease; `None`: there is none, and nothing may be handed out. `true`: it has opened for
    /// whoever has found it closed.
    #[must_use]
    pub(super) fn set(&self, until: Option<Duration>, elapsed: impl FnOnce() -> Duration) -> bool {
        self.turn(until.map_or(CLOSED, nanos), elapsed)
    }

    fn turn(&self, until: u64, elapsed: impl FnOnce() -> Duration) -> bool {
        let before = self.until.swap(until, Ordering::SeqCst);
        // Read after the change: whoever saw the end of before in the past has done so earlier than now.
        let now = nanos(elapsed());
        now >= before && now < until
    }
}

/// As the gate counts: for five centuries.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(OPEN - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn without_a_group_the_gate_asks_nobody_for_the_time() {
        assert!(Gate::default().is_open(|| unreachable!("there is no lease")));
        assert_eq!(Gate::default().until(), None);
    }

    #[test]
    fn a_lease_ends_at_its_moment() {
        let gate = Gate::default();
        assert!(!gate.set(None, || Duration::ZERO));
        assert!(!gate.is_open(|| Duration::ZERO), "there is no lease yet");
        assert!(gate.set(Some(5 * SECOND), || SECOND));
        assert!(gate.is_open(|| 5 * SECOND - Duration::from_nanos(1)));
        assert!(!gate.is_open(|| 5 * SECOND));
        assert!(!gate.set(None, || SECOND));
        assert!(!gate.is_open(|| Duration::ZERO));
    }

    #[test]
    fn whoever_found_it_closed_until_the_very_moment_of_the_renewal_is_told() {
        let gate = Gate::default();
        assert!(!gate.set(Some(5 * SECOND), || SECOND), "nobody has found it closed");
        assert!(!gate.set(Some(6 * SECOND), || 4 * SECOND), "the lease went on in time");
        let renewed = gate.set(Some(20 * SECOND), || {
            assert!(gate.is_open(|| 19 * SECOND), "the time is read when nobody finds it closed any more");
            6 * SECOND
        });
        assert!(renewed);
        assert!(gate.open(|| 21 * SECOND), "the lease was over");
    }
}
