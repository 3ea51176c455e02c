//! How often is too often.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use ottla_protocol::ApiKey;

use super::{Broken, Rule};

/// A client has a handful of connections to each broker, and waits longer and longer before it dials again. Several
/// clients may share a host; a loop without a wait is far beyond this.
pub(super) const DIALS_PER_SECOND: usize = 100;

/// A client in an outage dials a few times a second, whatever it wants and whomever it knows; what it had under way when the
/// outage began comes on top. Only connections that ended without a question count: others were of use.
pub(super) const WASTED_PER_SECOND: usize = 20;

pub(super) const WINDOW: Duration = Duration::from_secs(1);

/// How often a client may ask the same on one connection; `None` for what is asked as often as there is work.
pub(super) fn requests_per_second(api: ApiKey) -> Option<usize> {
    match api {
        ApiKey::API_VERSIONS => Some(5),
        ApiKey::HEARTBEAT
        | ApiKey::METADATA
        | ApiKey::FIND_COORDINATOR
        | ApiKey::JOIN_GROUP
        | ApiKey::SYNC_GROUP
        | ApiKey::INIT_PRODUCER_ID => Some(20),
        _ => None,
    }
}

/// When something happened lately.
#[derive(Debug, Default)]
pub(super) struct Pace(VecDeque<Instant>);

impl Pace {
    pub(super) fn step(&mut self, now: Instant, most: usize, what: &str) -> Result<(), Broken> {
        while self.0.front().is_some_and(|at| now.saturating_duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        if self.0.len() <= most {
            return Ok(());
        }
        let count = self.0.len();
        // Told once, not for each that follows.
        self.0.clear();
        Err((Rule::Pace, format!("at most {most} {what} in a second"), format!("there were {count}")))
    }
}
