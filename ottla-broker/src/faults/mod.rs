//! Requests that go wrong on purpose: what a test, or the simulation, wants a node to do to which of them.
//!
//! ```no_run
//! use ottla_broker::{ClusterConfig, faults::{Effect, Fault}, tcp::Cluster};
//! use ottla_protocol::{ErrorCode, FetchRequest, ProduceRequest};
//! use std::time::Duration;
//!
//! # async fn example() -> std::io::Result<()> {
//! let cluster = Cluster::start(ClusterConfig::with_nodes(3, "127.0.0.1", 0), None).await?;
//! // The next two requests that produce to that partition are carried out, and never answered.
//! let lost = cluster.faults().add(Fault::on::<ProduceRequest>(Effect::LoseAnswer).of("orders", 0).times(2));
//! // Every tenth fetch from node 1 is refused, until it is ended.
//! let refused = Effect::Refuse(ErrorCode::UNKNOWN_SERVER_ERROR);
//! let refused = cluster.faults().add(Fault::on::<FetchRequest>(refused).at(1).with_probability(0.1));
//! // What the broker says can be edited, as the message that it is.
//! cluster.faults().add(Fault::on::<ProduceRequest>(Effect::edit::<ProduceRequest>(|response| {
//!     response.responses.clear();
//! })).times(1));
//! // …
//! assert_eq!(lost.strikes(), 2);
//! refused.end();
//! # Ok(())
//! # }
//! ```
//!
//! A request meets at most one fault: the first that was added, of those that match it and have not struck as often as
//! they may. Faults outlive crashes of nodes. The same mechanism works on TCP and in the simulation.

mod answers;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use ottla_protocol::{ApiKey, ErrorCode, Request, Str, frame};

pub(crate) use answers::{About, Answers, Chosen, Said};

use crate::{io::NodeId, rng::Rng};

/// What becomes of a request, or of its answer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Effect {
    /// It is not carried out: the answer says so, by this code. With [`Fault::of`] only that partition fails, and the
    /// rest of the request is carried out.
    Refuse(ErrorCode),
    /// It is carried out, and the answer has this code nevertheless.
    AnswerWith(ErrorCode),
    /// It is not carried out: the connection is closed.
    LoseRequest,
    /// It is carried out: the connection is closed in place of the answer.
    LoseAnswer,
    /// It is carried out, and so is what follows on its connection, which stays up; but nothing is ever answered on it
    /// any more.
    Silence,
    /// It waits so long before it is carried out, together with what follows on its connection.
    Delay(Duration),
    /// It is carried out, and its answer waits so long, together with what follows on its connection.
    DelayAnswer(Duration),
    /// The connection is closed at once, and the request is carried out so much later: after what its client has sent
    /// on another connection.
    CarryOutLate(Duration),
    /// As [`Delay`](Self::Delay), until the fault [ends](ScriptedFault::end).
    Hold,
    /// The answer tells the client to slow down, and its connection is not listened to for so long (KIP-219).
    Throttle(Duration),
    /// So many bytes of the answer are sent, counted with the four bytes of its length; then the connection is closed.
    Truncate(usize),
    /// One byte of the answer, behind its length, is another one.
    Corrupt,
    /// These bytes are sent in place of the answer.
    Replace(Bytes),
    /// The answer is edited: see [`Effect::edit`].
    Edit(Edit),
}

impl Effect {
    /// Changes what the broker answers. Answers to requests other than `R` stay as they are.
    pub fn edit<R: Request>(change: impl Fn(&mut R::Response) + Send + Sync + 'static) -> Self {
        Self::Edit(Edit::new::<R>(change))
    }

    /// Sends other bytes in place of the broker's answer, whatever the request was: `change` gets its API, its version and
    /// the answer with its length.
    pub fn rewrite(change: impl Fn(ApiKey, i16, Bytes) -> Bytes + Send + Sync + 'static) -> Self {
        Self::Edit(Edit(Arc::new(move |api, version, segments| {
            vec![change(api, version, segments.concat().into())]
        })))
    }
}

/// A change of an answer.
#[derive(Clone)]
pub struct Edit(Arc<Change>);

type Change = dyn Fn(ApiKey, i16, Vec<Bytes>) -> Vec<Bytes> + Send + Sync;

impl Edit {
    pub(crate) fn new<R: Request>(change: impl Fn(&mut R::Response) + Send + Sync + 'static) -> Self {
        Self(Arc::new(move |api, version, segments| {
            // What does not fit is left as it was: the answer of another API, or of ApiVersions to an unknown version.
            edited::<R>(api, version, &segments, &change).unwrap_or(segments)
        }))
    }

    pub(crate) fn apply(&self, api: ApiKey, version: i16, answer: Vec<Bytes>) -> Vec<Bytes> {
        (self.0)(api, version, answer)
    }
}

impl fmt::Debug for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Edit")
    }
}

fn edited<R: Request>(
    api: ApiKey,
    version: i16,
    answer: &[Bytes],
    change: impl Fn(&mut R::Response),
) -> Option<Vec<Bytes>> {
    if api != R::API_KEY {
        return None;
    }
    let frame = Bytes::from(answer.concat()).split_off(size_of::<i32>());
    let (correlation_id, mut response) = frame::decode_response::<R>(version, frame).ok()?;
    change(&mut response);
    frame::encode_response::<R>(version, correlation_id, &response).ok()
}

/// An [`Effect`], and the requests that it has one on.
#[derive(Debug, Clone)]
#[must_use = "a fault does nothing until it is added to `Faults`"]
pub struct Fault {
    /// `None`: any.
    api: Option<ApiKey>,
    effect: Effect,
    node: Option<NodeId>,
    client: Option<Str>,
    topic: Option<Str>,
    partition: Option<i32>,
    times: Option<u32>,
    probability: f64,
}

impl Fault {
    /// On every request of a kind.
    pub fn on<R: Request>(effect: Effect) -> Self {
        Self::on_api(R::API_KEY, effect)
    }

    /// [`Fault::on`], by the number of the API.
    pub fn on_api(api: ApiKey, effect: Effect) -> Self {
        Self { api: Some(api), ..Self::on_any(effect) }
    }

    /// On every request, whatever it is.
    pub fn on_any(effect: Effect) -> Self {
        Self {
            api: None,
            effect,
            node: None,
            client: None,
            topic: None,
            partition: None,
            times: None,
            probability: 1.0,
        }
    }

    /// At one node only.
    pub fn at(mut self, node: NodeId) -> Self {
        self.node = Some(node);
        self
    }

    /// Of clients with this `client.id` only.
    pub fn from_client(mut self, client_id: &str) -> Self {
        self.client = Some(client_id.into());
        self
    }

    /// Only what concerns this partition.
    pub fn of(mut self, topic: &str, partition: i32) -> Self {
        self.partition = Some(partition);
        self.of_topic(topic)
    }

    /// Only what concerns this topic.
    pub fn of_topic(mut self, topic: &str) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// At most so many times. If not set: until it is ended.
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Only by chance. If not set: always.
    pub fn with_probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }
}

/// The faults of a cluster. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Vec<Rule>>>);

#[derive(Debug)]
struct Rule {
    fault: Fault,
    strikes: u32,
    ended: bool,
}

/// A fault that was added. It goes on when this is dropped.
#[derive(Debug, Clone)]
pub struct ScriptedFault {
    faults: Faults,
    index: usize,
}

/// A fault that strikes a request.
#[derive(Debug, Clone)]
pub(crate) struct Strike {
    pub(crate) effect: Effect,
    pub(crate) chosen: Chosen,
    pub(crate) fault: ScriptedFault,
}

/// A request, as far as faults look at it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Met<'a> {
    pub(crate) node: NodeId,
    pub(crate) api: ApiKey,
    pub(crate) client: &'a str,
}

impl Faults {
    /// From now on, that goes wrong.
    pub fn add(&self, fault: Fault) -> ScriptedFault {
        let mut rules = self.lock();
        rules.push(Rule { fault, strikes: 0, ended: false });
        ScriptedFault { faults: self.clone(), index: rules.len() - 1 }
    }

    /// Ends all faults.
    pub fn clear(&self) {
        self.lock().iter_mut().for_each(|rule| rule.ended = true);
    }

    /// The fault that strikes a request, which counts it. `concerns` says whether the request is about a topic and
    /// partition.
    pub(crate) fn meet(
        &self,
        met: Met<'_>,
        rng: &mut Rng,
        concerns: impl Fn(&str, Option<i32>) -> Option<Chosen>,
    ) -> Option<Strike> {
        let mut rules = self.lock();
        for (index, rule) in rules.iter_mut().enumerate().filter(|(_, rule)| rule.may_strike(met)) {
            let chosen = match &rule.fault.topic {
                Some(topic) => concerns(topic, rule.fault.partition),
                None => Some(Chosen::All),
            };
            let Some(chosen) = chosen else { continue };
            if rule.fault.probability < 1.0 && !chance(rng, rule.fault.probability) {
                continue;
            }
            rule.strikes += 1;
            let fault = ScriptedFault { faults: self.clone(), index };
            return Some(Strike { effect: rule.fault.effect.clone(), chosen, fault });
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Rule>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rule {
    fn may_strike(&self, met: Met<'_>) -> bool {
        let Fault { api, node, client, times, .. } = &self.fault;
        !self.ended
            && api.is_none_or(|api| api == met.api)
            && node.is_none_or(|node| node == met.node)
            && client.as_deref().is_none_or(|client| client == met.client)
            && times.is_none_or(|times| self.strikes < times)
    }
}

impl ScriptedFault {
    /// How many requests it has struck.
    #[must_use]
    pub fn strikes(&self) -> u32 {
        self.faults.lock().get(self.index).map_or(0, |rule| rule.strikes)
    }

    /// It strikes no more; requests that it holds go on, in the order in which they came on their connection.
    pub fn end(&self) {
        if let Some(rule) = self.faults.lock().get_mut(self.index) {
            rule.ended = true;
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.faults.lock().get(self.index).is_none_or(|rule| rule.ended)
    }
}

fn chance(rng: &mut Rng, probability: f64) -> bool {
    // 53 bits are what an f64 holds.
    let drawn = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    drawn < probability
}
