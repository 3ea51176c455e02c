//! When an answer that does not come is a reason to ask who leads by now.
//!
//! A broker that stands still keeps its connections: nothing fails before the request times out, which takes 30 s, while
//! the cluster has found another leader after a few. Whoever waits for longer than an answer takes therefore has the
//! cluster asked, and asked again as long as he waits. What is in doubt stays so: only what was never sent, or is known to
//! be undone, goes to the other leader before the request has ended.

use std::time::{Duration, Instant};

/// What an answer may take beyond what it was asked to: a network that is slow, a broker that is busy.
const MARGIN: Duration = Duration::from_secs(1);
/// How often the cluster is asked while the answer does not come.
const AGAIN: Duration = Duration::from_secs(1);

/// A request that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub struct Overdue {
    at: Instant,
}

impl Overdue {
    /// A request that was sent at `now`, to be answered within `takes`.
    #[must_use]
    pub fn new(now: Instant, takes: Duration) -> Self {
        Self { at: now + takes + MARGIN }
    }

    /// When the cluster has to be asked, unless the answer has come.
    #[must_use]
    pub fn at(&self) -> Instant {
        self.at
    }

    /// The cluster was asked at `now`.
    pub fn asked(&mut self, now: Instant) {
        self.at = now + AGAIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cluster_is_asked_once_the_answer_is_late_and_every_second_from_then_on() {
        #[expect(clippy::disallowed_methods, reason = "a fixed moment to count from; tests have no clock")]
        let now = Instant::now();
        let mut overdue = Overdue::new(now, Duration::from_millis(500));
        assert_eq!(overdue.at(), now + Duration::from_millis(1_500));
        overdue.asked(now + Duration::from_secs(2));
        assert_eq!(overdue.at(), now + Duration::from_secs(3));
    }
}
