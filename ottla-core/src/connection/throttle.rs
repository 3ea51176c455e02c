//! The window in which a broker asked not to be sent anything (KIP-219).
//!
//! ```text
//!           answer with throttle_time_ms > 0
//!   open ───────────────────────────────────▶ muted until t ──┐ a longer one: t moves, never back
//!    ▲                                            │   ▲───────┘
//!    └──────────────── t passes ──────────────────┘
//! ```
//!
//! Since Kafka 2.0 a broker answers first and then stops reading from the connection for that long; what is sent into
//! the window would only time out there. Only this connection is muted, and requests that wait do not age.

use std::time::{Duration, Instant};

/// The longest window that is believed. With its default quotas a broker asks for 11 s at most; what is far above that is
/// damage, and would silence a connection for up to 24 days.
const LONGEST: Duration = Duration::from_secs(300);

/// The throttle window of one connection.
#[derive(Debug, Default)]
pub struct Throttle {
    until: Option<Instant>,
}

impl Throttle {
    /// Notes the throttle time of an answer; true when it opens or extends the window.
    pub fn on_answer(&mut self, now: Instant, throttle_time_ms: i32) -> bool {
        let Ok(ms @ 1..) = u64::try_from(throttle_time_ms) else { return false };
        let until = now + Duration::from_millis(ms).min(LONGEST);
        let longer = self.until.is_none_or(|current| until > current);
        if longer {
            self.until = Some(until);
        }
        longer
    }

    /// The end of the window, if `now` lies in it.
    #[must_use]
    pub fn muted_until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a fixed moment to count from; tests have no clock")]
        Instant::now()
    }

    #[test]
    fn an_answer_without_throttle_time_mutes_nothing() {
        let (mut throttle, now) = (Throttle::default(), now());
        assert!(!throttle.on_answer(now, 0));
        assert!(!throttle.on_answer(now, -5));
        assert_eq!(throttle.muted_until(now), None);
    }

    #[test]
    fn the_window_ends_when_it_says() {
        let (mut throttle, now) = (Throttle::default(), now());
        assert!(throttle.on_answer(now, 100));
        let end = now + Duration::from_millis(100);
        assert_eq!(throttle.muted_until(now), Some(end));
        assert_eq!(throttle.muted_until(end), None);
    }

    #[test]
    fn a_shorter_window_does_not_shorten_a_longer_one() {
        let (mut throttle, now) = (Throttle::default(), now());
        assert!(throttle.on_answer(now, 500));
        assert!(!throttle.on_answer(now, 100));
        assert_eq!(throttle.muted_until(now), Some(now + Duration::from_millis(500)));
    }

    #[test]
    fn a_window_of_weeks_is_not_believed() {
        let (mut throttle, now) = (Throttle::default(), now());
        assert!(throttle.on_answer(now, i32::MAX));
        assert_eq!(throttle.muted_until(now), Some(now + LONGEST));
    }
}
