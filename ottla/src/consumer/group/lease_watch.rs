//! Notices that a lease has ended, and that it goes on.
//!
//! ```text
//!            a lease                       its end has come
//!   none ───────────────▶ held(until) ────────────────────────▶ ended(since)
//!    ▲                     ▲  │  ▲ │                                │  │
//!    │                     └──┘  │ └─ membership over ─▶ none       │  │
//!    │                  renewed  └───────── renewed ────────────────┘  │
//!    └──────────────────────── membership over ────────────────────────┘
//! ```

use std::time::Duration;

/// What there is to tell of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaseNews {
    /// It has ended: nothing may be handed out.
    Ended,
    /// It goes on, after this time in which nothing could be handed out.
    Renewed { after: Duration },
}

/// A lease as it was seen last. Times are readings of the clock that counts suspend.
#[derive(Debug, Default)]
pub(super) enum LeaseWatch {
    #[default]
    None,
    Held(Duration),
    Ended(Duration),
}

impl LeaseWatch {
    /// The lease lasts until `until` now, if there is one. At most two things have happened since the last look.
    pub(super) fn look(&mut self, elapsed: Duration, until: Option<Duration>) -> [Option<LeaseNews>; 2] {
        let mut news = [None; 2];
        if let Self::Held(until) = *self
            && elapsed >= until
        {
            *self = Self::Ended(until);
            news[0] = Some(LeaseNews::Ended);
        }
        match (&*self, until) {
            (_, None) => *self = Self::None,
            (Self::Ended(since), Some(until)) if elapsed < until => {
                news[1] = Some(LeaseNews::Renewed { after: elapsed.saturating_sub(*since) });
                *self = Self::Held(until);
            }
            (Self::Ended(_), Some(_)) => {}
            (_, Some(until)) => *self = Self::Held(until),
        }
        news
    }

    /// When it ends.
    pub(super) fn until(&self) -> Option<Duration> {
        match self {
            Self::Held(until) => Some(*until),
            _ => None,
        }
    }

    /// Since when it is over, if the membership may still be there.
    pub(super) fn ended(&self) -> Option<Duration> {
        match self {
            Self::Ended(since) => Some(*since),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A lease that was seen at 1 s and lasts until 10 s.
    fn held() -> LeaseWatch {
        let mut watch = LeaseWatch::default();
        assert_eq!(watch.look(s(1), Some(s(10))), [None, None]);
        watch
    }

    #[test]
    fn a_lease_that_is_renewed_in_time_is_no_news() {
        let mut watch = held();
        assert_eq!(watch.look(s(9), Some(s(18))), [None, None]);
        assert_eq!((watch.until(), watch.ended()), (Some(s(18)), None));
    }

    #[test]
    fn the_end_is_told_once() {
        let mut watch = held();
        assert_eq!(watch.look(s(10), Some(s(10))), [Some(LeaseNews::Ended), None]);
        assert_eq!(watch.look(s(11), Some(s(10))), [None, None]);
        assert_eq!(watch.ended(), Some(s(10)));
        let renewed = LeaseNews::Renewed { after: s(2) };
        assert_eq!(watch.look(s(12), Some(s(20))), [None, Some(renewed)]);
    }

    #[test]
    fn whoever_slept_past_the_end_hears_of_it_before_it_goes_on() {
        let news = held().look(s(30), Some(s(39)));
        assert_eq!(news, [Some(LeaseNews::Ended), Some(LeaseNews::Renewed { after: s(20) })]);
    }

    #[test]
    fn the_lease_of_another_membership_renews_nothing() {
        let mut watch = held();
        assert_eq!(watch.look(s(12), None), [Some(LeaseNews::Ended), None]);
        assert_eq!(watch.look(s(13), Some(s(20))), [None, None]);
    }
}
