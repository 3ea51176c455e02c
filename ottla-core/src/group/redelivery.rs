//! What was handed out and came back incomplete, and whatever has to wait behind it.
//!
//! ```text
//!                 release                     back-off over
//!   nothing ─────────────────▶ backing off ─────────────────▶ due ──── take ────▶ handed out
//!      ▲                            ▲                          │ ▲
//!      └───────── all taken ────────┼──────────────────────────┘ └──── put back (not handed out after all)
//!                                   └──────── release
//! ```
//!
//! While anything waits here, nothing later of the partition is handed out; other partitions flow. What waits is
//! handed out in the order of its offsets, without what has been completed meanwhile. The same record that comes back
//! again waits longer.

use std::{collections::BTreeMap, ops::Range, sync::Arc, time::Instant};

use super::Parcel;
use crate::{backoff::BackoffPolicy, fetch::Tick};

/// What of one partition has to be handed out before anything else. `P` keeps the bytes of the records.
#[derive(Debug)]
pub struct Redelivery<P> {
    /// By the offset of the first record.
    rests: BTreeMap<i64, Rest<P>>,
    not_before: Option<Instant>,
    /// How often in a row the same record came back first.
    failures: u32,
    failed_at: i64,
}

/// Some of the records of a parcel.
#[derive(Debug)]
pub struct Rest<P> {
    /// Their bytes.
    pub pack: P,
    /// Which of them are complete.
    pub parcel: Arc<Parcel>,
    /// Which ones.
    pub range: Range<u32>,
}

impl<P> Default for Redelivery<P> {
    fn default() -> Self {
        Self { rests: BTreeMap::new(), not_before: None, failures: 0, failed_at: -1 }
    }
}

impl<P: Clone> Redelivery<P> {
    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rests.is_empty()
    }

    /// Takes back what of `rest` is not complete, to be handed out again after a back-off. `false`: that is nothing.
    pub fn release(&mut self, rest: Rest<P>, tick: Tick, backoff: &BackoffPolicy) -> bool {
        let Some(run) = rest.parcel.incomplete_run(rest.range.clone()) else { return false };
        if planted!("redelivery-forgotten") {
            rest.parcel.complete_all(run);
            return false;
        }
        let first = rest.parcel.offset(run.start);
        self.failures = if first == self.failed_at { self.failures.saturating_add(1) } else { 1 };
        self.failed_at = first;
        let until = tick.now + backoff.delay(self.failures, tick.random);
        self.not_before = self.not_before.max(Some(until));
        self.put_back(rest);
        true
    }

    /// Takes what was not handed out after all: it goes first, as it would have.
    pub fn put_back(&mut self, rest: Rest<P>) {
        if let Some(run) = rest.parcel.incomplete_run(rest.range.clone()) {
            let range = run.start..rest.range.end;
            self.rests.insert(rest.parcel.offset(run.start), Rest { range, ..rest });
        }
    }

    /// When something may be handed out; `None` if there is nothing.
    #[must_use]
    pub fn due(&self) -> Option<Due> {
        (!self.rests.is_empty()).then_some(match self.not_before {
            None => Due::Now,
            Some(at) => Due::At(at),
        })
    }

    /// The offset of the first record that waits.
    #[must_use]
    pub fn first(&self) -> Option<i64> {
        self.rests.keys().next().copied()
    }

    /// The back-off ends if its time has come. `true`: something may be handed out since.
    pub fn wake(&mut self, now: Instant) -> bool {
        let over = self.not_before.is_some_and(|at| at <= now);
        if over {
            self.not_before = None;
        }
        over && !self.rests.is_empty()
    }

    /// The next records in a row that have to be handed out, once that is due.
    pub fn take(&mut self) -> Option<Rest<P>> {
        if self.not_before.is_some() {
            return None;
        }
        while let Some((_, rest)) = self.rests.pop_first() {
            let Some(run) = rest.parcel.incomplete_run(rest.range.clone()) else { continue };
            let taken =
                Rest { pack: rest.pack.clone(), parcel: Arc::clone(&rest.parcel), range: run.clone() };
            self.put_back(Rest { range: run.end..rest.range.end, ..rest });
            // What was completed while it waited holds up nobody.
            self.rests.retain(|_, rest| !rest.parcel.is_complete(rest.range.clone()));
            return Some(taken);
        }
        None
    }

    /// Whether these records wait here, or some of them.
    #[must_use]
    pub fn holds(&self, parcel: &Arc<Parcel>, index: u32) -> bool {
        let mut rests = self.rests.values();
        rests.any(|rest| Arc::ptr_eq(&rest.parcel, parcel) && rest.range.contains(&index))
    }

    /// Forgets everything that waits.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// When something may be handed out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It may be now.
    Now,
    /// Not before this moment.
    At(Instant),
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{super::parcel::tests::parcel, *};

    const STEP: Duration = Duration::from_millis(100);

    struct Bench {
        redelivery: Redelivery<&'static str>,
        tick: Tick,
    }

    impl Bench {
        fn new() -> Self {
            #[expect(clippy::disallowed_methods, reason = "any moment will do")]
            let now = Instant::now();
            let tick = Tick { now, wall: SystemTime::UNIX_EPOCH, random: u64::MAX };
            Self { redelivery: Redelivery::default(), tick }
        }

        fn release(&mut self, parcel: &Arc<Parcel>, range: Range<u32>) -> Duration {
            let rest = Rest { pack: "bytes", parcel: Arc::clone(parcel), range };
            assert!(self.redelivery.release(rest, self.tick, &BackoffPolicy::new(STEP, 4 * STEP)));
            match self.redelivery.due().unwrap() {
                Due::Now => Duration::ZERO,
                Due::At(at) => at - self.tick.now,
            }
        }

        fn pass(&mut self, time: Duration) {
            self.tick.now += time;
            self.redelivery.wake(self.tick.now);
        }

        fn take(&mut self) -> Option<Vec<i64>> {
            let rest = self.redelivery.take()?;
            Some(rest.range.map(|index| rest.parcel.offset(index)).collect())
        }
    }

    fn ten(from: i64) -> Arc<Parcel> {
        Arc::new(parcel(0, &(from..from + 10).collect::<Vec<_>>(), from + 10))
    }

    #[test]
    fn what_comes_back_is_handed_out_after_a_while_without_what_is_complete() {
        let (mut bench, parcel) = (Bench::new(), ten(100));
        parcel.complete_all(0..3);
        parcel.complete(5);
        let wait = bench.release(&parcel, 0..10);
        assert!(wait >= STEP.mul_f64(0.8) && wait <= STEP.mul_f64(1.2), "{wait:?}");
        assert_eq!(bench.take(), None);
        bench.pass(wait);
        assert_eq!(bench.take(), Some(vec![103, 104]));
        parcel.complete(7);
        assert_eq!(bench.take(), Some(vec![106]), "107 was completed meanwhile");
        assert_eq!(bench.take(), Some(vec![108, 109]));
        assert_eq!(bench.take(), None);
        assert!(bench.redelivery.is_empty());
    }

    #[test]
    fn what_is_complete_does_not_come_back() {
        let (mut bench, parcel) = (Bench::new(), ten(0));
        parcel.complete_all(2..4);
        let rest = Rest { pack: "bytes", parcel, range: 2..4 };
        assert!(!bench.redelivery.release(rest, bench.tick, &BackoffPolicy::new(STEP, STEP)));
        assert_eq!(bench.redelivery.due(), None);
    }

    #[test]
    fn the_same_record_waits_longer_each_time_and_another_does_not() {
        let (mut bench, parcel) = (Bench::new(), ten(0));
        let mut last = Duration::ZERO;
        for _ in 0..3 {
            let wait = bench.release(&parcel, 0..10);
            assert!(wait > last);
            last = wait;
            bench.pass(wait);
            assert_eq!(bench.take().unwrap().len(), 10);
        }
        parcel.complete(0);
        assert!(bench.release(&parcel, 0..10) < 2 * STEP);
    }

    #[test]
    fn what_waits_is_handed_out_in_the_order_of_its_offsets() {
        let (mut bench, early, late) = (Bench::new(), ten(0), ten(10));
        bench.release(&late, 0..10);
        bench.redelivery.put_back(Rest { pack: "rest", parcel: Arc::clone(&early), range: 5..10 });
        bench.release(&early, 0..2);
        bench.pass(4 * STEP);
        assert_eq!(bench.take(), Some(vec![0, 1]));
        assert_eq!(bench.take(), Some(vec![5, 6, 7, 8, 9]));
        assert_eq!(bench.take(), Some((10..20).collect()));
    }

    #[test]
    fn what_was_not_handed_out_after_all_does_not_wait() {
        let (mut bench, parcel) = (Bench::new(), ten(0));
        bench.redelivery.put_back(Rest { pack: "rest", parcel, range: 4..10 });
        assert_eq!(bench.redelivery.due(), Some(Due::Now));
        assert_eq!(bench.take(), Some((4..10).collect()));
    }
}
