//! The brokers of the cluster, and the connections to them.
//!
//! A connection for a broker and a lane:
//!
//! ```text
//!              somebody wants it                 set up
//!   none ────────────────────────▶ dialling ───────────────▶ live
//!    ▲  ▲                             │                        │
//!    │  └── failed: back-off with ────┘                        │
//!    │      jitter, shared by the broker's lanes               │
//!    └────────────────── closed, noticed by the next caller ───┘
//! ```
//!
//! However many callers want a connection, there is one dial; of one broker at most one lane dials at a time, so that
//! a dead broker costs one dial per back-off; and failing dials of the whole client are bounded ([`DialLimit`]).

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ottla_core::{
    connection::{DialLimit, HandshakeMemory, Reconnect},
    metadata::BrokerAddress,
};
use tokio::time::sleep_until;

use super::{
    Connection, Context, Latch,
    dial::{Dial, was_unreachable},
    lock, now,
    race::first_success,
};
use crate::{Error, ErrorKind, Result, config::HostPort, event::Event};

/// What a connection is for. Traffic that may wait long (a full produce queue, a long poll) must not hold up the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Metadata, and what is looked up: answered at once.
    Control,
    /// Administration: a broker may park such a request until the cluster has carried it out.
    Admin,
    /// Produce requests.
    Produce,
    /// Fetch requests of the consumer with this number: a broker answers the requests of one connection one after the
    /// other, so that a long poll holds up whatever is behind it.
    Fetch(u64),
    /// Commits of all of the client's consumers, what their groups have committed, and their departures. The lease hangs on
    /// commits: nothing that takes long may stand in front of one.
    Offsets,
    /// Heartbeats of all of the client's consumers, and nothing else: nothing may stand in front of one.
    Heartbeat,
    /// JoinGroup and SyncGroup of the consumer with this number: the broker answers JoinGroup when all
    /// members have joined.
    Group(u64),
}

impl Lane {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Admin => "admin",
            Self::Produce => "produce",
            Self::Fetch(_) => "fetch",
            Self::Offsets => "offsets",
            Self::Heartbeat => "heartbeat",
            Self::Group(_) => "group",
        }
    }
}

/// Someone who can be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Target {
    /// A broker of the cluster, by id: it may move to another address.
    Node(i32),
    /// A bootstrap server, by its place in the configuration.
    Seed(usize),
}

/// Who is asked first when anybody will do.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Member,
    /// Has been asked, and may not know; by the place in the order.
    Last(usize),
    /// Keeps whoever asks it waiting.
    Slow,
    Seed,
}

/// The connections of a client. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Brokers(Arc<Inner>);

struct Inner {
    context: Arc<Context>,
    pool: Mutex<Pool>,
    limit: Mutex<DialLimit>,
}

#[derive(Default)]
struct Pool {
    brokers: BTreeMap<Target, Broker>,
}

struct Broker {
    address: HostPort,
    reconnect: Reconnect,
    memory: HandshakeMemory,
    /// Failed dials so far, and why the last one failed.
    failures: u64,
    last_error: Option<Error>,
    /// Held by the lane that dials.
    turn: Arc<tokio::sync::Mutex<()>>,
    lanes: BTreeMap<Lane, Slot>,
}

enum Slot {
    Dialling(Arc<Latch<Result<Connection>>>),
    Live(Connection),
}

/// How long a broker may keep others from being asked as well.
const STAGGER: Duration = Duration::from_millis(500);

impl Brokers {
    pub(crate) fn new(context: &Arc<Context>) -> Self {
        let seeds = context.config.bootstrap_servers.iter().enumerate();
        let seeds = seeds.map(|(at, address)| (Target::Seed(at), Broker::new(address.clone(), context)));
        let pool = Mutex::new(Pool { brokers: seeds.collect() });
        Self(Arc::new(Inner { context: context.clone(), pool, limit: Mutex::default() }))
    }

    /// The live connection to a broker, or a new one. Fails when one dial has failed; the next call then waits for the
    /// back-off.
    ///
    /// # Errors
    /// When the broker is unknown or cannot be connected to.
    ///
    /// # Cancel safety
    /// The dial goes on for others when the future is dropped.
    pub(crate) async fn connection(&self, node: i32, lane: Lane) -> Result<Connection> {
        self.connect(Target::Node(node), lane).await
    }

    /// A live connection to any broker, or a new one to the first that answers.
    ///
    /// # Errors
    /// When no broker of the cluster and no bootstrap server can be connected to; names each with its cause.
    ///
    /// # Cancel safety
    /// As [`Brokers::connection`].
    pub(crate) async fn any(&self, lane: Lane) -> Result<Connection> {
        self.ask_any(lane, |connection| std::future::ready(Ok(connection))).await
    }

    /// [`Brokers::connection`], or one to any broker when that one is dead or slow to answer.
    pub(crate) async fn prefer(&self, node: i32, lane: Lane) -> Result<Connection> {
        let attempts = [Some(node), None].map(|node| async move {
            match node {
                Some(node) => self.connection(node, lane).await,
                None => self.any(lane).await,
            }
        });
        first_success(STAGGER, attempts).await.map_err(nobody)
    }

    /// Asks one broker after the other until one has answered: the next one when one has failed or is slow, so that a
    /// dead broker holds up nobody.
    pub(crate) async fn ask_any<T, F>(&self, lane: Lane, ask: impl Fn(Connection) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        self.ask_any_but(&[], lane, ask).await
    }

    /// [`Brokers::ask_any`], those in `last` after all the other brokers, in their order; and only then those who have yet
    /// to answer or to be connected to: they may well be dead.
    pub(crate) async fn ask_any_but<T, F>(
        &self,
        last: &[i32],
        lane: Lane,
        ask: impl Fn(Connection) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let attempts = self.candidates(last, lane).into_iter().map(|target| {
            let ask = &ask;
            async move { ask(self.connect(target, lane).await?).await }
        });
        first_success(STAGGER, attempts).await.map_err(nobody)
    }

    /// Whom to ask, best first: who is connected and least busy, then the other brokers in random order, those in `last`
    /// behind all of them, and the bootstrap servers, in case every broker that is known was replaced (KIP-899). With
    /// somebody in `last` the others are asked for an answer that is new, and not for a quick one: whoever has not
    /// answered yet is left for the end.
    fn candidates(&self, last: &[i32], lane: Lane) -> Vec<Target> {
        let pool = lock(&self.0.pool);
        let rank = |(target, broker): (&Target, &Broker)| {
            let busy = broker.live(lane).map(Connection::in_flight);
            let place = match target {
                Target::Seed(_) => Place::Seed,
                Target::Node(_) if !last.is_empty() && broker.is_slow(lane) => Place::Slow,
                Target::Node(node) => {
                    last.iter().position(|each| each == node).map_or(Place::Member, Place::Last)
                }
            };
            (
                (place, busy.is_none(), busy, broker.reconnect.is_failing(), self.0.context.env.random()),
                *target,
            )
        };
        let mut candidates: Vec<_> = pool.brokers.iter().map(rank).collect();
        candidates.sort_unstable();
        candidates.into_iter().map(|(_, target)| target).collect()
    }

    /// Takes over who is in the cluster. A broker that moved is left at its old address.
    pub(crate) fn set_brokers<'a>(&self, known: impl IntoIterator<Item = &'a BrokerAddress>) {
        let mut moved = Vec::new();
        {
            let mut pool = lock(&self.0.pool);
            let known: BTreeMap<_, _> =
                known.into_iter().map(|broker| (Target::Node(broker.id), broker)).collect();
            // One that is only missing from a stale answer keeps its connections, and with them the order of requests.
            pool.brokers.retain(|target, broker| {
                matches!(target, Target::Seed(_)) || known.contains_key(target) || broker.is_in_use()
            });
            for (target, told) in known {
                let address = HostPort { host: told.host.as_str().to_owned(), port: told.port };
                match pool.brokers.get_mut(&target) {
                    Some(broker) if broker.address == address => {}
                    Some(broker) => moved.extend(broker.move_to(address, &self.0.context)),
                    None => {
                        pool.brokers.insert(target, Broker::new(address, &self.0.context));
                    }
                }
            }
        }
        for connection in moved {
            let what = format!("broker {} left {}", connection.node_id(), connection.address());
            connection.close(Error::io(what, std::io::ErrorKind::NotConnected.into()));
        }
    }

    /// A broker was named in passing. Where it is connected to it has not moved; who moves brokers for good is
    /// [`Brokers::set_brokers`].
    pub(crate) fn add(&self, named: &BrokerAddress) {
        let mut pool = lock(&self.0.pool);
        let address = HostPort { host: named.host.as_str().to_owned(), port: named.port };
        let target = Target::Node(named.id);
        match pool.brokers.get(&target) {
            Some(broker) if broker.address == address || broker.is_in_use() => {}
            _ => drop(pool.brokers.insert(target, Broker::new(address, &self.0.context))),
        }
    }

    /// Forgets the brokers of the cluster and leaves everybody: only the bootstrap servers are still right (KIP-1102).
    pub(crate) fn rebootstrap(&self) {
        let mut left = Vec::new();
        lock(&self.0.pool).brokers.retain(|target, broker| {
            left.extend(broker.connections());
            matches!(target, Target::Seed(_))
        });
        for connection in left {
            let what = format!("left {}: the cluster has to be found anew", connection.address());
            connection.close(Error::io(what, std::io::ErrorKind::NotConnected.into()));
        }
    }

    async fn connect(&self, target: Target, lane: Lane) -> Result<Connection> {
        let (dial, is_new) = {
            let mut pool = lock(&self.0.pool);
            let Some(broker) = pool.brokers.get_mut(&target) else { return Err(unknown(target)) };
            match broker.lanes.get(&lane) {
                Some(Slot::Live(connection)) if !connection.is_closed() => return Ok(connection.clone()),
                Some(Slot::Dialling(dial)) => (dial.clone(), false),
                dead => {
                    if let Some(Slot::Live(connection)) = dead {
                        let ended = connection.ended();
                        broker.reconnect.on_end(now(), ended, self.0.context.env.random());
                        lock(&self.0.limit).on_end(now(), ended);
                    }
                    let dial = Arc::new(Latch::default());
                    broker.lanes.insert(lane, Slot::Dialling(dial.clone()));
                    (dial, true)
                }
            }
        };
        if is_new {
            let running = Dialling { brokers: self.0.clone(), target, lane, outcome: dial.clone() };
            self.0.context.spawn("dial", running.run());
        }
        dial.wait().await
    }
}

impl Broker {
    fn new(address: HostPort, context: &Context) -> Self {
        Self {
            address,
            reconnect: Reconnect::new(context.config.reconnect_backoff),
            memory: HandshakeMemory::default(),
            failures: 0,
            last_error: None,
            turn: Arc::default(),
            lanes: BTreeMap::new(),
        }
    }

    fn live(&self, lane: Lane) -> Option<&Connection> {
        match self.lanes.get(&lane) {
            Some(Slot::Live(connection)) if !connection.is_closed() => Some(connection),
            _ => None,
        }
    }

    /// Whether somebody waits for it on this lane, or it could not be connected to.
    fn is_slow(&self, lane: Lane) -> bool {
        match self.lanes.get(&lane) {
            Some(Slot::Live(connection)) if !connection.is_closed() => connection.in_flight() > 0,
            Some(Slot::Dialling(_)) => true,
            _ => self.reconnect.is_failing(),
        }
    }

    fn is_in_use(&self) -> bool {
        self.lanes.values().any(|slot| match slot {
            Slot::Dialling(_) => true,
            Slot::Live(connection) => !connection.is_closed(),
        })
    }

    /// Everything that was learned at the old address is forgotten; gives the connections to it.
    fn move_to(&mut self, address: HostPort, context: &Context) -> Vec<Connection> {
        self.address = address;
        self.reconnect = Reconnect::new(context.config.reconnect_backoff);
        self.memory.forget();
        self.connections().collect()
    }

    fn connections(&self) -> impl Iterator<Item = Connection> {
        self.lanes.values().filter_map(|slot| match slot {
            Slot::Live(connection) => Some(connection.clone()),
            Slot::Dialling(_) => None,
        })
    }
}

/// A dial in the background. However it ends, whoever waits for it gets an answer.
struct Dialling {
    brokers: Arc<Inner>,
    target: Target,
    lane: Lane,
    outcome: Arc<Latch<Result<Connection>>>,
}

impl Dialling {
    async fn run(self) {
        let outcome = tokio::select! {
            biased;
            () = self.brokers.context.shutdown.wait() => Err(Error::closed()),
            outcome = self.dial() => outcome,
        };
        self.end(outcome);
    }

    fn end(&self, outcome: Result<Connection>) {
        if self.outcome.is_set() {
            return;
        }
        if let Some(broker) = lock(&self.brokers.pool).brokers.get_mut(&self.target)
            && self.is_for(broker)
        {
            match &outcome {
                Ok(connection) => broker.lanes.insert(self.lane, Slot::Live(connection.clone())),
                Err(_) => broker.lanes.remove(&self.lane),
            };
        }
        self.outcome.set(outcome);
    }

    /// Whether the broker still waits for this dial, and not for a later one.
    fn is_for(&self, broker: &Broker) -> bool {
        matches!(broker.lanes.get(&self.lane), Some(Slot::Dialling(dial)) if Arc::ptr_eq(dial, &self.outcome))
    }

    async fn dial(&self) -> Result<Connection> {
        let (turn, failures) = self.with_broker(|broker| (broker.turn.clone(), broker.failures))?;
        let _turn = turn.lock().await;
        // Another lane has just failed: nothing is different now.
        if let Some(error) =
            self.with_broker(|broker| broker.last_error.clone().filter(|_| broker.failures != failures))?
        {
            return Err(error);
        }
        while let Some(until) = self.wait_until() {
            sleep_until(until.into()).await;
        }
        let (address, mut memory) = self.with_broker(|broker| (broker.address.clone(), broker.memory))?;
        let (context, node) = (&self.brokers.context, self.target.node());
        let limit = &self.brokers.limit;
        let dialled =
            Dial { context, node, address: &address, lane: self.lane, limit }.run(&mut memory).await;
        let wanted = self.with_broker(|broker| broker.address == address && self.is_for(broker));
        match dialled {
            // It has moved, or was left and perhaps found anew: nobody would use the connection.
            Ok(connection) if !wanted.unwrap_or(false) => {
                connection.close(unknown(self.target));
                Err(unknown(self.target))
            }
            Ok(connection) => {
                self.with_broker(|broker| broker.memory = memory)?;
                let address = address.to_string().into();
                context.events.emit(Event::BrokerConnected { node, address, lane: self.lane.name() });
                Ok(connection)
            }
            Err(error) => Err(self.on_failure(error, &address, memory)),
        }
    }

    fn wait_until(&self) -> Option<Instant> {
        let pool = lock(&self.brokers.pool);
        let broker = pool.brokers.get(&self.target)?;
        broker.reconnect.wait_until(now()).max(lock(&self.brokers.limit).wait_until(now()))
    }

    fn on_failure(&self, error: Error, address: &HostPort, mut memory: HandshakeMemory) -> Error {
        let node = self.target.node();
        let error = error.context(format!("{} is unreachable", Named(node, address)));
        if was_unreachable(&error) {
            memory.forget();
        }
        let random = self.brokers.context.env.random();
        let mut pool = lock(&self.brokers.pool);
        if let Some(broker) = pool.brokers.get_mut(&self.target) {
            broker.reconnect.on_failure(now(), random);
            broker.memory = memory;
            broker.failures += 1;
            broker.last_error = Some(error.clone());
        }
        drop(pool);
        let address = address.to_string().into();
        self.brokers.context.events.emit(Event::BrokerUnreachable { node, address, error: error.clone() });
        error
    }

    fn with_broker<T>(&self, f: impl FnOnce(&mut Broker) -> T) -> Result<T> {
        let mut pool = lock(&self.brokers.pool);
        pool.brokers.get_mut(&self.target).map(f).ok_or_else(|| unknown(self.target))
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.end(Err(Error::closed()));
    }
}

impl Target {
    fn node(self) -> i32 {
        match self {
            Self::Node(id) => id,
            Self::Seed(_) => -1,
        }
    }
}

/// How a broker is called in errors.
struct Named<'a>(i32, &'a HostPort);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            -1 => write!(f, "bootstrap server {}", self.1),
            node => write!(f, "broker {node} at {}", self.1),
        }
    }
}

fn unknown(target: Target) -> Error {
    let what = format!("broker {} is not in the cluster, or has just moved", target.node());
    Error::io(what, std::io::ErrorKind::NotConnected.into())
}

/// All attempts failed. The text has every cause, since none of them is *the* cause.
fn nobody(mut errors: Vec<Error>) -> Error {
    if let Some(at) = errors.iter().position(|error| error.kind() == ErrorKind::Closed) {
        return errors.swap_remove(at);
    }
    let causes: Vec<_> = errors.iter().map(|error| format!("{error:#}")).collect();
    match errors.pop() {
        Some(only) if causes.len() == 1 => only,
        Some(last) => last.restate(format!("no broker answers: {}", causes.join("; "))),
        None => Error::io("no broker is known", std::io::ErrorKind::NotConnected.into()),
    }
}
