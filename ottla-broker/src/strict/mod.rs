//! A broker that checks its clients: what no broker refuses, and no good client does.
//!
//! ```no_run
//! use ottla_broker::{ClusterConfig, tcp::Cluster};
//!
//! # async fn example() -> std::io::Result<()> {
//! let config = ClusterConfig::with_nodes(1, "127.0.0.1", 0);
//! let cluster = Cluster::builder(config).strict().start().await?;
//! // … clients do their work …
//! assert!(cluster.violations().is_empty(), "{:#?}", cluster.violations());
//! # Ok(())
//! # }
//! ```
//!
//! Each [`Rule`] holds for every correct client whatever the network does: late, lost and repeated requests break none of
//! them. In the simulation the rules are always on, and breaking one fails the run. They cost memory in proportion to
//! what clients write, and are meant for tests.

mod pace;
mod producing;
mod sessions;

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use ottla_protocol::{ApiKey, ErrorCode, Str, messages::FetchRequest};

use crate::faults::Said;
use crate::image::Image;
use crate::io::{ConnectionId, NodeId};
use crate::replica::ReplicaKey;
use pace::{Client, Pace, Part, Requests};
pub(crate) use producing::{Batch, batches_of};
use producing::{Outstanding, Producing};
use sessions::{LeaderEpochs, Session};

/// How long after it was told to be silent a client may not know yet: what the slowest network needs.
const NEWS_TRAVELS: Duration = Duration::from_secs(5);

/// What a client has to keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rule {
    /// Only versions that `ApiVersions` offers are spoken.
    OfferedVersions,
    /// While a connection is throttled, nothing is sent on it (KIP-219).
    ThrottleWindow,
    /// An idempotent producer has no more than five batches of a partition unanswered: no broker remembers more of it.
    InFlight,
    /// Until a leader has acknowledged one batch of a producer's epoch, no second one is sent: a broker that knows nothing
    /// of a producer accepts any sequence, and a failed first batch behind an accepted second one would be reordering.
    FirstBatchAlone,
    /// What was written under a sequence stays what it is: it is resent unchanged or not at all (KIP-98).
    SameSequenceSameRecords,
    /// An epoch begins with sequence 0, or, where the topic was created anew, goes on behind what the producer sent to
    /// its predecessor; and on one connection it never goes back (KIP-360).
    Epochs,
    /// A fetch session goes on with the next epoch, and not behind an error (KIP-227).
    FetchSession,
    /// On one connection, the leader epoch that a fetch names for a partition never goes back (KIP-320).
    LeaderEpochs,
    /// Nobody commits for a partition that the present generation of its group gives to somebody else. All processes of
    /// one `group.instance.id` are the same somebody: one takes the place of the other within a generation (KIP-345).
    OwnedCommits,
    /// Nothing is a hot loop: neither what the broker has answered with an error, nor the same lookup, nor what is asked now
    /// and then, nor fetches that do not wait for records, nor connections.
    Pace,
    /// Between two heartbeats of a member, less than half of its session timeout passes. Only where somebody says that nothing
    /// hinders it: see [`Strict::nothing_hinders`].
    Heartbeats,
}

/// A rule that a client broke.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// Which one.
    pub rule: Rule,
    /// The node that saw it.
    pub node: NodeId,
    /// The connection on which it happened, and where it comes from.
    pub connection: ConnectionId,
    /// What was expected of the client, for a person to read.
    pub expected: String,
    /// What it did.
    pub happened: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, node, connection, expected, happened } = self;
        write!(f, "{rule:?} on connection {} of node {node}: expected {expected}; {happened}", connection.0)
    }
}

/// What the nodes of a cluster have seen of their clients. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Strict(Arc<Mutex<Watch>>);

#[derive(Debug, Default)]
struct Watch {
    connections: BTreeMap<Place, Seen>,
    producing: Producing,
    requests: Requests,
    dials: BTreeMap<(NodeId, IpAddr), Pace>,
    /// Connections that were of no use, of each client at all nodes.
    wasted: BTreeMap<(IpAddr, Str), Pace>,
    /// The rules that count, if not all do.
    only: Option<Vec<Rule>>,
    /// When members of groups sent their last heartbeats, and how long their sessions go on without another: by group and
    /// member id.
    heartbeats: BTreeMap<(Str, Str), (Instant, Duration)>,
    /// From when on neither the network nor the machine has hindered anybody, if that is so.
    unhindered: Option<Instant>,
    /// An answer was damaged: what clients believe about leaders may be anything.
    misled: bool,
    violations: Vec<Violation>,
    answered: BTreeMap<(ApiKey, ErrorCode), u64>,
}

/// A connection of a node.
pub(crate) type Place = (NodeId, ConnectionId);

/// What was seen on one connection.
#[derive(Debug)]
struct Seen {
    host: IpAddr,
    /// What the client calls itself, once it has asked something.
    client: Option<Str>,
    /// When it was opened, until anything but the versions is asked for.
    unused: Option<Instant>,
    outstanding: Outstanding,
    session: Session,
    leader_epochs: LeaderEpochs,
    paces: BTreeMap<ApiKey, Pace>,
    /// Fetches that were answered with nothing at once.
    hasty: Pace,
    /// What the answer that is being made says errors of.
    failed: Vec<Part>,
}

/// A request, as whoever looks at its answer has to know it.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    strict: Strict,
    place: Place,
    api: ApiKey,
    content: Bytes,
}

impl Asked {
    /// The answer says this.
    pub(crate) fn answers<'a>(&self, said: impl Iterator<Item = Said<'a>>) {
        let mut watch = self.strict.lock();
        for (about, code) in said.filter(|(_, code)| !code.is_ok()) {
            *watch.answered.entry((self.api, code)).or_default() += 1;
            if let Some(seen) = watch.connections.get_mut(&self.place) {
                seen.failed.push(Part::of(about, &self.content));
            }
        }
    }
}

/// What was expected, and what happened.
type Broken = (Rule, String, String);

impl Strict {
    /// What clients did wrong so far, in order.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.lock().violations.clone()
    }

    /// How often which error code was answered to requests of which kind.
    #[must_use]
    pub fn errors_answered(&self) -> BTreeMap<(ApiKey, ErrorCode), u64> {
        self.lock().answered.clone()
    }

    /// A request of this content is going to be answered.
    pub(crate) fn asked(&self, place: Place, api: ApiKey, content: Bytes) -> Asked {
        Asked { strict: self.clone(), place, api, content }
    }

    /// The answer is made: whether it says errors too often.
    pub(crate) fn answered(&self, now: Instant, place: Place, api: ApiKey) -> Option<Violation> {
        self.judge(place, |watch| {
            let seen = watch.connections.get_mut(&place)?;
            let failed = std::mem::take(&mut seen.failed);
            let failed = if api == ApiKey::PRODUCE { seen.outstanding.failed(failed) } else { failed };
            let client = (!failed.is_empty()).then(|| watch.client(place))??;
            failed.into_iter().fold(None, |broken, part| {
                let judged = watch.requests.fails(now, client.clone(), (api, part));
                broken.or(judged.err())
            })
        })
    }

    /// An answer is damaged, and sent.
    pub(crate) fn misleads(&self) {
        self.lock().misled = true;
    }

    /// From now on only these rules count: for tests in which a broker says what is not so, and clients act on it.
    pub fn watch_only(&self, rules: &[Rule]) {
        self.lock().only = Some(rules.to_vec());
    }

    /// Somebody connected.
    pub(crate) fn connected(&self, now: Instant, place: Place, host: IpAddr) -> Option<Violation> {
        self.judge(place, |watch| {
            watch.connections.insert(place, Seen::new(now, host));
            let pace = watch.dials.entry((place.0, host)).or_default();
            pace.step(now, (), pace::DIALS_PER_SECOND, "connections of one host").err()
        })
    }

    /// The client ends a connection, or the network does.
    pub(crate) fn leaves(&self, now: Instant, place: Place) -> Option<Violation> {
        self.judge(place, |watch| {
            let seen = watch.connections.get_mut(&place)?;
            let since = seen.unused.take()?;
            // Several clients may share a host, but not a name: one that has not said its name is left alone.
            let pace = watch.wasted.entry((seen.host, seen.client.clone()?)).or_default();
            // What comes and goes in one instant has waited for a node that stood still; and the ends of what has lived
            // for longer may have waited for each other in a network that did.
            let lived = now.saturating_duration_since(since);
            let counts = !lived.is_zero() && lived < pace::WINDOW;
            let what = "connections of one client that end soon, and without a question";
            counts.then(|| pace.step(now, (), pace::WASTED_PER_SECOND, what).err())?
        })
    }

    pub(crate) fn disconnected(&self, place: Place) {
        self.lock().connections.remove(&place);
    }

    /// A request came, which may still wait for others on its connection.
    pub(crate) fn arrived(
        &self,
        now: Instant,
        place: Place,
        (api, content, client_id): (ApiKey, &Bytes, &Str),
        batches: Option<Vec<Batch>>,
        muted: Option<(Instant, Instant)>,
    ) -> Option<Violation> {
        self.judge(place, |watch| {
            let seen = watch.connections.get_mut(&place)?;
            if seen.client.as_ref() != Some(client_id) {
                seen.client = Some(client_id.detached());
            }
            let mut broken = muted.and_then(|(since, until)| {
                let known = now >= since + NEWS_TRAVELS && now < until;
                known.then(|| {
                    let left = until - now;
                    (
                        Rule::ThrottleWindow,
                        format!("silence for {left:?} more"),
                        format!("it sent a request of API {api}"),
                    )
                })
            });
            if let Some(most) = pace::requests_per_second(api) {
                let pace = seen.paces.entry(api).or_default();
                let what = format!("requests of API {api} on one connection");
                broken = broken.or(pace.step(now, (), most, &what).err());
            }
            if api != ApiKey::API_VERSIONS {
                seen.unused = None;
            }
            let client = watch.client(place)?;
            broken = broken.or(watch.requests.asks(now, client, (api, content)).err());
            let Some(batches) = batches else { return broken };
            let seen = watch.connections.get_mut(&place)?;
            broken.or(watch.producing.arrives(place.0, &mut seen.outstanding, batches).err())
        })
    }

    /// The answer to the oldest unanswered produce request says of these partitions that they are written.
    pub(crate) fn acknowledges(&self, place: Place, partitions: &[ReplicaKey]) {
        let mut watch = self.lock();
        let Watch { connections, producing, .. } = &mut *watch;
        if let Some(seen) = connections.get(&place) {
            producing.acknowledges(place.0, &seen.outstanding, partitions);
        }
    }

    /// The oldest unanswered produce request has been dealt with.
    pub(crate) fn produced(&self, place: Place) {
        if let Some(seen) = self.lock().connections.get_mut(&place) {
            seen.outstanding.answered();
        }
    }

    /// A batch is about to be appended, or is a duplicate of one that was.
    pub(crate) fn appends(
        &self,
        place: Place,
        batch: &Batch,
        is_new: bool,
        image: &Image,
    ) -> Option<Violation> {
        self.judge(place, |watch| watch.producing.appends(batch, is_new, image).err())
    }

    /// A fetch request names a session, and the leader epochs that the client knows.
    pub(crate) fn fetches(&self, place: Place, request: &FetchRequest) -> Option<Violation> {
        self.judge(place, |watch| {
            let seen = watch.connections.get_mut(&place)?;
            let in_order = seen.session.asked(request.session_id, request.session_epoch);
            let epochs = if watch.misled { Ok(()) } else { seen.leader_epochs.named(request) };
            in_order.and(epochs).err()
        })
    }

    /// What a fetch was answered: the session, or `None` after an error. `changed` answers say something else than the
    /// node meant.
    pub(crate) fn fetched(&self, place: Place, session: Option<i32>, changed: bool) {
        if let Some(seen) = self.lock().connections.get_mut(&place) {
            seen.session.answered(session, changed);
        }
    }

    /// A fetch that came so long ago is answered, with nothing, although nothing was wrong.
    pub(crate) fn found_nothing(&self, now: Instant, place: Place, waited: Duration) -> Option<Violation> {
        if waited >= pace::PATIENT {
            return None;
        }
        self.judge(place, |watch| {
            let seen = watch.connections.get_mut(&place)?;
            let what = "fetches of one connection that wait for nothing, and get nothing";
            seen.hasty.step(now, (), pace::HASTY_PER_SECOND, what).err()
        })
    }

    /// A heartbeat of a member came, and the coordinator heeds it.
    pub(crate) fn beats(
        &self,
        now: Instant,
        place: Place,
        (group, member): (&Str, &Str),
        session_timeout: Duration,
    ) -> Option<Violation> {
        self.judge(place, |watch| {
            // Whose session is over is no member any more: it has left, or gone, or joins under another id.
            let goes_on = |last: Instant, session| now.saturating_duration_since(last) < session;
            watch.heartbeats.retain(|_, (last, session)| goes_on(*last, *session));
            let member_of = (group.detached(), member.detached());
            let (last, _) = watch.heartbeats.insert(member_of, (now, session_timeout))?;
            if last < watch.unhindered? {
                return None;
            }
            let paused = now.saturating_duration_since(last);
            (paused >= session_timeout / 2).then(|| {
                let expected = format!("a heartbeat of {member} every {:?} at least", session_timeout / 2);
                (Rule::Heartbeats, expected, format!("there was none for {paused:?}"))
            })
        })
    }

    /// A member joins: until it has what it is assigned, the coordinator expects no heartbeats.
    pub(crate) fn joins(&self, group: &Str, member: &Str) {
        self.lock().heartbeats.remove(&(group.detached(), member.detached()));
    }

    /// From when on, by the nodes' clock, neither the network nor a machine holds anything up, so that what does not come was
    /// not sent; `None`: something may. That is so until something is said.
    pub fn nothing_hinders(&self, from: Option<Instant>) {
        self.lock().unhindered = from;
    }

    /// A client did what the node can see for itself.
    pub(crate) fn broke(
        &self,
        place: Place,
        rule: Rule,
        expected: &str,
        happened: String,
    ) -> Option<Violation> {
        self.judge(place, |_| Some((rule, expected.to_owned(), happened)))
    }

    fn judge(
        &self,
        (node, connection): Place,
        look: impl FnOnce(&mut Watch) -> Option<Broken>,
    ) -> Option<Violation> {
        let mut watch = self.lock();
        let broken = look(&mut watch);
        let counts = |rule| watch.only.as_ref().is_none_or(|only| only.contains(&rule));
        let broken = broken.filter(|(rule, ..)| counts(*rule));
        let violation =
            broken.map(|(rule, expected, happened)| Violation { rule, node, connection, expected, happened });
        watch.violations.extend(violation.clone());
        violation
    }

    fn lock(&self) -> MutexGuard<'_, Watch> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Who is at the other end of a connection, once it has asked something, and how many connections to the same node it has.
    fn client(&self, place: Place) -> Option<(Client, usize)> {
        let Seen { host, client, .. } = self.connections.get(&place)?;
        let same =
            |(at, seen): &(&Place, &Seen)| at.0 == place.0 && seen.host == *host && seen.client == *client;
        let connections = self.connections.iter().filter(same).count();
        Some(((place.0, *host, client.clone()?), connections))
    }
}

impl Seen {
    fn new(now: Instant, host: IpAddr) -> Self {
        Self {
            host,
            client: None,
            unused: Some(now),
            outstanding: Outstanding::default(),
            session: Session::default(),
            leader_epochs: LeaderEpochs::default(),
            paces: BTreeMap::new(),
            hasty: Pace::default(),
            failed: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_remembered_as_long_as_their_sessions_last() {
        let (strict, session) = (Strict::default(), Duration::from_secs(10));
        let begun = tokio::time::Instant::now().into_std();
        let beat = |seconds, member: &str| {
            let (now, place) = (begun + Duration::from_secs(seconds), (1, ConnectionId(1)));
            strict.beats(now, place, (&"g".into(), &member.into()), session)
        };
        for number in 0..1000 {
            beat(0, &number.to_string());
        }
        beat(5, "0");
        assert_eq!(strict.lock().heartbeats.len(), 1000);
        beat(10, "1000");
        let known = |member: &str| strict.lock().heartbeats.contains_key(&("g".into(), member.into()));
        assert!(known("0") && known("1000"));
        assert_eq!(strict.lock().heartbeats.len(), 2);
    }
}
