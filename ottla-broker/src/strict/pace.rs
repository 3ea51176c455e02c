//! How often is too often.
//!
//! | what                                                             | at most, in a second                     |
//! |---|---|
//! | `ApiVersions`                                                    | 5 on one connection                      |
//! | what is asked now and then: metadata, coordinators, groups       | 20 on one connection, whatever it says   |
//! | fetches that are answered at once, with nothing                  | 20 on one connection                     |
//! | where an epoch ends                                              | 20 of the same content                   |
//! | where offsets are, for which an application may ask on its own   | 100 of the same content                  |
//! | anything, in vain                                                | 40 errors for the same partition, batch or request |
//!
//! The last three are counted at each node by the name that clients give themselves and the host that they come from, so
//! that nobody begins anew by reconnecting, and are allowed once for each connection that is there at the time: several
//! clients may share a name. What has an effect, as `Produce`, and what waits for something, as `Fetch`, may be as often as
//! there is work, while it succeeds.

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ottla_protocol::{ApiKey, Str, TopicId};

use super::{Batch, Broken, Rule};
use crate::{faults::About, io::NodeId};

/// A client has a handful of connections to each broker, and waits longer and longer before it dials again. Several
/// clients may share a host; a loop without a wait is far beyond this.
pub(super) const DIALS_PER_SECOND: usize = 100;

/// A client in an outage dials a few times a second, whatever it wants and whomever it knows; what it had under way when the
/// outage began comes on top. Only connections that ended without a question count: others were of use.
pub(super) const WASTED_PER_SECOND: usize = 20;

/// Whoever waits for a tenth of a second behind each error gets a dozen, and several consumers of one client may have the
/// same partition; one that does not wait gets hundreds.
const FAILED_PER_SECOND: usize = 40;

/// Whoever fetches waits for records at the broker, and so longer than this when there are none.
pub(super) const PATIENT: Duration = Duration::from_millis(10);

/// A fetch that changes what its session is about, or ends it, may not want to wait.
pub(super) const HASTY_PER_SECOND: usize = 20;

pub(super) const WINDOW: Duration = Duration::from_secs(1);

/// How often a client may ask on one connection; `None` for what is asked as often as there is work.
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

/// How often a client may ask for the same.
fn lookups_per_second(api: ApiKey) -> Option<usize> {
    match api {
        ApiKey::OFFSET_FOR_LEADER_EPOCH => Some(20),
        ApiKey::LIST_OFFSETS | ApiKey::OFFSET_FETCH => Some(100),
        _ => None,
    }
}

/// When something happened lately, and what.
#[derive(Debug)]
pub(super) struct Pace<T = ()>(VecDeque<(Instant, T)>);

impl<T> Default for Pace<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: PartialEq> Pace<T> {
    /// It happens once more; it may happen so often in a second.
    pub(super) fn step(&mut self, now: Instant, it: T, most: usize, what: &str) -> Result<(), Broken> {
        while self.0.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW) {
            self.0.pop_front();
        }
        let count = 1 + self.0.iter().filter(|(_, other)| *other == it).count();
        if count <= most {
            self.0.push_back((now, it));
            return Ok(());
        }
        // Told once, not for each that follows.
        self.0.retain(|(_, other)| *other != it);
        Err((Rule::Pace, format!("at most {most} {what} in a second"), format!("there were {count}")))
    }
}

/// Who asks: at which node, from where, and under which name.
pub(super) type Client = (NodeId, IpAddr, Str);

/// What an error was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// A topic, or a partition of it.
    Topic(Str, TopicId, Option<i32>),
    /// A batch of an idempotent producer.
    Batch(Batch),
    /// All of a request of this content.
    Whole(Bytes),
}

impl Part {
    pub(super) fn of(about: About<'_>, content: &Bytes) -> Self {
        match about {
            Some((name, id, partition)) => Self::Topic(name.into(), id, partition),
            None => Self::Whole(content.clone()),
        }
    }
}

/// What clients asked lately, and what they asked in vain.
#[derive(Debug, Default)]
pub(super) struct Requests {
    asked: BTreeMap<(Client, ApiKey), Pace<Bytes>>,
    failed: BTreeMap<(Client, ApiKey), Pace<Part>>,
}

impl Requests {
    /// A client that has so many connections asks.
    pub(super) fn asks(
        &mut self,
        now: Instant,
        (client, connections): (Client, usize),
        (api, content): (ApiKey, &Bytes),
    ) -> Result<(), Broken> {
        let Some(most) = lookups_per_second(api) else { return Ok(()) };
        let pace = self.asked.entry((client, api)).or_default();
        pace.step(now, content.clone(), most * connections, &format!("requests of API {api} for the same"))
    }

    /// A client that has so many connections is answered with an error.
    pub(super) fn fails(
        &mut self,
        now: Instant,
        (client, connections): (Client, usize),
        (api, part): (ApiKey, Part),
    ) -> Result<(), Broken> {
        let what = match &part {
            Part::Topic(name, id, partition) => {
                let topic = if name.is_empty() { id.to_string() } else { name.to_string() };
                let partition = partition.map(|partition| format!(", partition {partition}"));
                format!("errors of API {api} for topic {topic}{}", partition.unwrap_or_default())
            }
            Part::Batch(batch) => format!("errors for {}", batch.text()),
            Part::Whole(_) => format!("errors for the same request of API {api}"),
        };
        let pace = self.failed.entry((client, api)).or_default();
        pace.step(now, part, FAILED_PER_SECOND * connections, &what)
    }
}
