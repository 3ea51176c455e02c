//! When records are due.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A steady rate, whatever becomes of the records: one that is sent late, because the one before it was held up, has
/// been waiting since it was due. Otherwise the worst would be left out of the figures (*coordinated omission*).
#[derive(Debug)]
pub(super) struct Arrivals {
    /// `None`: a record is due when it is asked for.
    rate: Option<f64>,
    began: Instant,
    sent: u64,
    /// When a wait ended last: what became due while this task slept is not late.
    woke: Instant,
}

impl Arrivals {
    /// That many a second; as fast as they are taken, if none is given.
    pub(super) fn begin(per_second: Option<f64>) -> Self {
        let now = Instant::now();
        Self { rate: per_second, began: now, sent: 0, woke: now }
    }

    /// Waits until the next record is due, and tells since when it is. The clock is only asked for what has a rate:
    /// `None` otherwise.
    pub(super) async fn next(&mut self) -> Option<Instant> {
        let due = self.began + Duration::from_secs_f64(self.sent as f64 / self.rate?);
        self.sent += 1;
        if due > Instant::now() {
            sleep_until(due).await;
            self.woke = Instant::now();
        }
        Some(due.max(self.woke))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_was_held_up_is_late() {
        let mut arrivals = Arrivals::begin(Some(100.0));
        let begin = Instant::now();
        let at = |ms| Some(begin + Duration::from_millis(ms));
        assert_eq!(arrivals.next().await, at(0));
        assert_eq!(arrivals.next().await, at(10));
        tokio::time::advance(Duration::from_millis(25)).await;
        assert_eq!((arrivals.next().await, arrivals.next().await), (at(20), at(30)));
        assert_eq!(Instant::now(), begin + Duration::from_millis(35));
        assert_eq!(arrivals.next().await, at(40));
    }
}
