//! `Fetch`, with long poll and sessions.
//!
//! ```text
//!              too little, and time left
//!            ┌──────────────────────────┐
//!            ▼                          │
//!   Gathering ── a replica moved ───────┘
//!            │
//!            └── enough, or urgent, or late ──► Reading ── all bytes are here ──► reply
//! ```

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::messages::fetch_response::{FetchableTopicResponse, NodeEndpoint, PartitionData};
use ottla_protocol::messages::{FetchRequest, FetchResponse};
use ottla_protocol::{ErrorCode, Str};

use super::fetch_plan::{Bounds, Part, plan};
use super::fetch_sessions::{Context, SessionRequest, Wanted};
use super::{TopicRef, hinted, text};
use crate::io::Now;
use crate::node::{Exchange, Node, Outcome, RequestId, Waiting};
use crate::replica::ReplicaKey;

/// Topics are named by their ids since version 13 (KIP-516).
const FIRST_VERSION_WITH_IDS: i16 = 13;
/// Consumers say where they stand, and may read from followers, since version 11 (KIP-392).
const FIRST_VERSION_WITH_RACKS: i16 = 11;
/// Who leads instead, and where, can be told since version 16 (KIP-951).
const FIRST_VERSION_WITH_HINTS: i16 = 16;

/// A fetch that waits for data, or for the disk.
#[derive(Debug)]
pub(crate) struct FetchWait {
    since: Instant,
    pub(crate) deadline: Instant,
    min_bytes: u64,
    bounds: Bounds,
    /// Where the consumer stands; empty if it does not say.
    rack: Str,
    context: Context,
    wanted: Vec<Wanted>,
    /// The replicas that it watches.
    keys: Vec<ReplicaKey>,
    state: State,
}

#[derive(Debug)]
enum State {
    Gathering,
    Reading { parts: Vec<Part>, outstanding: usize },
}

pub(super) fn fetch(node: &mut Node, now: Now, exchange: &Exchange, request: FetchRequest) -> Outcome {
    let (min_bytes, max_wait) = (request.min_bytes, request.max_wait_ms);
    let limit = request.max_bytes.min(node.config.fetch_max_bytes);
    node.watch_fetch(exchange, &request);
    let bounds = Bounds {
        max_bytes: u32::try_from(limit).unwrap_or(0),
        isolation: request.isolation_level,
        from_followers: exchange.version >= FIRST_VERSION_WITH_RACKS,
        hints: exchange.version >= FIRST_VERSION_WITH_HINTS,
    };
    let rack = request.rack_id.detached();
    match node.fetch_sessions.begin(now.monotonic, session_request(exchange, request)) {
        Ok((context, wanted)) => {
            let key = |wanted: &Wanted| {
                let topic = wanted.topic.find(&node.image).ok()?;
                Some((topic.id, wanted.request.partition))
            };
            Outcome::Wait(Waiting::Fetch(FetchWait {
                since: now.monotonic,
                deadline: now.monotonic + Duration::from_millis(u64::try_from(max_wait).unwrap_or(0)),
                min_bytes: u64::try_from(min_bytes).unwrap_or(0),
                bounds,
                rack,
                context,
                keys: wanted.iter().filter_map(key).collect(),
                wanted,
                state: State::Gathering,
            }))
        }
        Err(error) => session_error(node, exchange, error),
    }
}

fn session_request(exchange: &Exchange, request: FetchRequest) -> SessionRequest {
    let by_id = exchange.version >= FIRST_VERSION_WITH_IDS;
    let mut wanted = Vec::new();
    for topic in request.topics {
        let named = TopicRef::new(by_id, &topic.topic, topic.topic_id);
        let partitions = topic.partitions.into_iter();
        wanted.extend(partitions.map(|request| Wanted { topic: named.clone(), request }));
    }
    let mut forgotten = Vec::new();
    for topic in request.forgotten_topics_data {
        let named = TopicRef::new(by_id, &topic.topic, topic.topic_id);
        forgotten.extend(topic.partitions.into_iter().map(|partition| (named.clone(), partition)));
    }
    SessionRequest { id: request.session_id, epoch: request.session_epoch, by_id, wanted, forgotten }
}

fn session_error(node: &Node, exchange: &Exchange, error_code: ErrorCode) -> Outcome {
    node.watch_fetched(exchange, None);
    let throttle_time_ms = exchange.throttle_time_ms;
    exchange.reply::<FetchRequest>(&FetchResponse {
        throttle_time_ms,
        error_code,
        ..FetchResponse::default()
    })
}

impl FetchWait {
    pub(crate) fn watched(&self) -> Vec<ReplicaKey> {
        self.keys.clone()
    }

    pub(crate) fn look(
        &mut self,
        node: &mut Node,
        now: Now,
        id: RequestId,
        exchange: &Exchange,
    ) -> Option<Outcome> {
        if matches!(self.state, State::Gathering) {
            let mut plan = plan(node, &self.wanted, self.bounds, &self.rack);
            if plan.bytes < self.min_bytes && !plan.urgent && now.monotonic < self.deadline {
                return None;
            }
            let outstanding = read(node, id, &mut plan.parts);
            self.state = State::Reading { parts: plan.parts, outstanding };
        }
        match &mut self.state {
            State::Reading { parts, outstanding: 0 } => {
                let parts = std::mem::take(parts);
                Some(self.reply(node, now, exchange, parts))
            }
            State::Reading { .. } | State::Gathering => None,
        }
    }

    /// The disk has read the records of a part.
    pub(crate) fn deliver(&mut self, slot: usize, data: Bytes) {
        if let State::Reading { parts, outstanding } = &mut self.state
            && let Some(part) = parts.get_mut(slot)
        {
            part.data.records = Some(data);
            *outstanding = outstanding.saturating_sub(1);
        }
    }

    fn reply(&mut self, node: &mut Node, now: Now, exchange: &Exchange, parts: Vec<Part>) -> Outcome {
        if parts.iter().all(Part::has_nothing_to_tell) {
            node.watch_empty(now, exchange, now.monotonic.saturating_duration_since(self.since));
        }
        let data = parts.into_iter().map(|part| part.data);
        let answers = std::mem::take(&mut self.wanted).into_iter().zip(data).collect();
        let by_id = exchange.version >= FIRST_VERSION_WITH_IDS;
        let finished = node.fetch_sessions.finish(now.monotonic, &mut node.rng, self.context, by_id, answers);
        match finished {
            Ok((session_id, answers)) => {
                node.watch_fetched(exchange, Some(session_id));
                let response = response(node, exchange, session_id, answers);
                exchange.reply::<FetchRequest>(&response)
            }
            Err(error) => session_error(node, exchange, error),
        }
    }
}

/// Takes the records of all parts from memory, or asks the disk for them; how many answers of the disk are to come is
/// returned.
fn read(node: &mut Node, id: RequestId, parts: &mut [Part]) -> usize {
    let mut outstanding = 0;
    for (slot, part) in parts.iter_mut().enumerate() {
        let Some((key, slice)) = part.records else { continue };
        match node.replicas.get(&key).and_then(|replica| replica.in_memory(&slice)) {
            Some(records) => part.data.records = Some(records),
            None => {
                node.read_for(id, slot, key, slice.position, slice.size);
                outstanding += 1;
            }
        }
    }
    outstanding
}

fn response(
    node: &Node,
    exchange: &Exchange,
    session_id: i32,
    answers: Vec<(Wanted, PartitionData)>,
) -> FetchResponse {
    let mut response =
        FetchResponse { throttle_time_ms: exchange.throttle_time_ms, session_id, ..FetchResponse::default() };
    let mut leaders = BTreeSet::new();
    for (wanted, data) in answers {
        if data.current_leader.leader_id >= 0 {
            leaders.insert(data.current_leader.leader_id);
        }
        let (topic, topic_id) = (wanted.topic.name(), wanted.topic.id());
        match response.responses.last_mut() {
            Some(last) if last.topic == topic && last.topic_id == topic_id => last.partitions.push(data),
            _ => response.responses.push(FetchableTopicResponse { topic, topic_id, partitions: vec![data] }),
        }
    }
    let endpoints = hinted(&node.image, &leaders).into_iter().map(|(node_id, broker)| NodeEndpoint {
        node_id,
        host: text(&broker.host),
        port: i32::from(broker.port),
        rack: broker.rack.as_deref().map(text),
    });
    response.node_endpoints = endpoints.collect();
    response
}
