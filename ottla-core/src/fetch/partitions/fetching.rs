//! What to ask a broker for, and what its answer means.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use ottla_protocol::{
    ErrorCode, Str, TopicId,
    messages::{
        fetch_request::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic},
        fetch_response::{FetchResponse, NodeEndpoint, PartitionData},
    },
};

use super::{
    super::{
        AbortedTransactions, Asked, EpochEnd, IsolationLevel, Lease, LogMarks, Range, SessionRequest, Tick,
        TopicRef, Trouble,
        budget::Charge,
        buffer::scan,
        cursor::{Cursor, Phase},
        trouble::{Remedy, remedy},
    },
    FetchSettings, Partitions, PositionReset, by_topic, enlist,
};
use crate::metadata::BrokerAddress;

/// Fetch names topics by id from this version on (KIP-516).
const FIRST_VERSION_WITH_IDS: i16 = 13;
/// With sessions, leader epochs and zstd; every broker since Kafka 2.1 has it.
const FIRST_VERSION: i16 = 10;
/// How long a broker may wait while one of its partitions is left out for want of memory: nobody could tell it to stop
/// waiting when there is memory again.
const MAX_WAIT_WHILE_STARVED: Duration = Duration::from_millis(20);
/// A part of an answer into which no batch fitted is doubled up to this.
const MAX_STRETCHED_BYTES: i32 = 64 << 20;

/// What to do about a broker.
#[derive(Debug)]
pub enum FetchPlan {
    /// Send this. Its answer goes to [`Partitions::on_fetch`]; until then there must be no other.
    Send(FetchAsk),
    /// There is nothing to ask until something changes, or until this moment.
    Wait(Option<Instant>),
}

/// The partitions of a broker that want something.
struct Due {
    wanted: Vec<u64>,
    /// Some more would, if there were memory.
    starved: bool,
    earliest_retry: Option<Instant>,
}

/// A fetch request.
#[derive(Debug)]
pub struct FetchAsk {
    /// The request.
    pub request: FetchRequest,
    /// The versions that can say it.
    pub versions: RangeInclusive<i16>,
}

/// What was asked for beside the request of the session.
#[derive(Debug)]
pub struct CatchUp(BTreeMap<(TopicRef, i32), Asked>);

impl CatchUp {
    fn find(&self, topic: &TopicRef, partition: i32) -> Option<Asked> {
        self.0.get(&(topic.clone(), partition)).copied()
    }
}

/// What an answer asks of the surroundings.
#[derive(Debug, Default)]
pub struct Effects {
    /// Somebody else leads a partition: ask who.
    pub refresh_metadata: bool,
    /// A broker said who (KIP-951).
    pub hints: Vec<LeaderHint>,
    /// Positions that moved by themselves.
    pub resets: Vec<PositionReset>,
    /// How many partitions have something new for `poll`.
    pub ready: usize,
    /// How many partitions brought records.
    pub partitions: usize,
    /// A position has to be looked up, see [`Partitions::plan_look_up`].
    pub look_up: bool,
    /// A partition is fetched from another broker from now on, see [`Partitions::brokers`].
    pub moved: bool,
    /// How many bytes of records came.
    pub bytes: usize,
    /// The request as a whole was refused; the next one says everything from the start.
    pub refused: Option<ErrorCode>,
}

/// Who leads a partition, as a broker that does not lead it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderHint {
    /// The partition's topic.
    pub topic: Str,
    /// The partition's number.
    pub partition: i32,
    /// The new leader.
    pub leader: i32,
    /// Its epoch.
    pub epoch: i32,
    /// Where it is.
    pub endpoint: Option<BrokerAddress>,
}

impl Partitions {
    /// Whether there is something to ask `node` for; if not, when there may be.
    pub fn wants_fetch(&self, node: i32, now: Instant) -> Result<(), Option<Instant>> {
        let due = self.due(node, now);
        if due.wanted.is_empty() { Err(due.earliest_retry) } else { Ok(()) }
    }

    /// What to ask `node` next. `with_ids`: the connection has a version of Fetch that names topics by id.
    pub fn plan_fetch(&mut self, node: i32, with_ids: bool, tick: Tick) -> FetchPlan {
        let Due { mut wanted, starved, earliest_retry } = self.due(node, tick.now);
        if wanted.is_empty() {
            return FetchPlan::Wait(earliest_retry);
        }
        // A full answer is filled in the order of the request: everybody begins once.
        self.rotation = self.rotation.wrapping_add(1);
        let turn = self.rotation % wanted.len();
        wanted.rotate_left(turn);
        let cursors = || wanted.iter().filter_map(|id| Some((*id, self.cursors.get(id)?)));
        let by_id = with_ids && cursors().all(|(_, cursor)| !cursor.topic_id.is_zero());
        let asked = cursors().map(|(id, cursor)| ask_of(id, cursor, by_id, &self.settings)).collect();
        for id in &wanted {
            self.cursors.entry(*id).and_modify(|cursor| cursor.caught_up = None);
        }

        let asked = self.sessions.entry(node).or_default().request(asked);
        let until_retry = earliest_retry.map_or(Duration::MAX, |at| at.saturating_duration_since(tick.now));
        let patience = if starved { MAX_WAIT_WHILE_STARVED } else { Duration::MAX };
        let max_wait = self.settings.max_wait.min(until_retry).min(patience);
        let rack = self.rack_for(&wanted, tick.now);
        FetchPlan::Send(FetchAsk {
            request: self.to_request(asked, max_wait, rack),
            versions: versions(by_id),
        })
    }

    /// What to ask `node` beside the request that is under way, and without waiting: partitions that were sought,
    /// resumed or moved here meanwhile must not wait for the end of a long poll that does not know of them. Once for
    /// each place; the next [`Self::plan_fetch`] includes them.
    pub fn plan_catch_up(&mut self, node: i32, with_ids: bool, tick: Tick) -> Option<(FetchAsk, CatchUp)> {
        let wanted = self.due(node, tick.now).wanted;
        let mut asked: Vec<(TopicRef, i32, Asked)> = Vec::new();
        for id in wanted.iter().copied() {
            let Some(cursor) = self.cursors.get_mut(&id) else { continue };
            let by_id = with_ids && !cursor.topic_id.is_zero();
            let (topic, partition, ask) = ask_of(id, cursor, by_id, &self.settings);
            let under_way = self.sessions.get(&node).and_then(|session| session.asked(&topic, partition));
            let place = (ask.generation, ask.offset);
            let known = under_way
                .is_some_and(|known| (known.id, known.generation, known.offset) == (id, place.0, place.1));
            // A request names all its topics in one way.
            let alike = asked.first().is_none_or(|(first, ..)| is_by_id(first) == by_id);
            if !known && alike && cursor.caught_up.replace(place) != Some(place) {
                asked.push((topic, partition, ask));
            }
        }
        let by_id = is_by_id(&asked.first()?.0);
        let rack = self.rack_for(&wanted, tick.now);
        let request = self.to_request(SessionRequest::without_session(asked.clone()), Duration::ZERO, rack);
        let asked = asked.into_iter().map(|(topic, partition, asked)| ((topic, partition), asked));
        Some((FetchAsk { request, versions: versions(by_id) }, CatchUp(asked.collect())))
    }

    fn due(&self, node: i32, now: Instant) -> Due {
        let share = self.share();
        let mut due = Due { wanted: Vec::new(), starved: false, earliest_retry: None };
        for (id, cursor) in &self.cursors {
            let is_source = cursor.source(now) == Some(node);
            let concerned = is_source || cursor.leader == Some(node);
            if !concerned || cursor.is_paused() || !matches!(cursor.phase, Phase::Fetching) {
                continue;
            }
            let blocked = if is_source { cursor.retry.blocked(now) } else { cursor.returns_at(now) };
            if let Some(at) = blocked {
                due.earliest_retry = Some(due.earliest_retry.map_or(at, |earliest| earliest.min(at)));
            } else if self.budget.admits(&cursor.account, share) {
                due.wanted.push(*id);
            } else {
                due.starved = true;
            }
        }
        due
    }

    /// The answer of `node` to what [`Self::plan_fetch`] said last.
    pub fn on_fetch(&mut self, node: i32, response: FetchResponse, tick: Tick) -> Effects {
        let mut effects = Effects::default();
        let Some(session) = self.sessions.get_mut(&node) else { return effects };
        // The errors of a session are cured by a full request; others are the broker's and concern all partitions.
        if !session.on_answer(response.error_code, response.session_id) {
            effects.refused = Some(response.error_code);
            return effects;
        }
        let asked = |partitions: &Self, topic: &TopicRef, partition| {
            partitions.sessions.get(&node).and_then(|session| session.asked(topic, partition))
        };
        self.on_parts(node, response, asked, tick)
    }

    /// The answer of `node` to what [`Self::plan_catch_up`] said.
    pub fn on_catch_up(
        &mut self,
        node: i32,
        asked: &CatchUp,
        response: FetchResponse,
        tick: Tick,
    ) -> Effects {
        if !response.error_code.is_ok() {
            return Effects { refused: Some(response.error_code), ..Effects::default() };
        }
        self.on_parts(node, response, |_, topic, partition| asked.find(topic, partition), tick)
    }

    fn on_parts(
        &mut self,
        node: i32,
        response: FetchResponse,
        asked: impl Fn(&Self, &TopicRef, i32) -> Option<Asked>,
        tick: Tick,
    ) -> Effects {
        let mut effects = Effects::default();
        let parts = response.responses.iter().flat_map(|topic| &topic.partitions);
        let records = parts.filter_map(|part| part.records.as_ref()).filter(|bytes| !bytes.is_empty());
        (effects.partitions, effects.bytes) =
            records.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes.len()));
        let charge = self.budget.charge(effects.bytes);
        for topic in response.responses {
            let name = match topic.topic_id.is_zero() {
                true => TopicRef::Name(topic.topic),
                false => TopicRef::Id(topic.topic_id),
            };
            for part in topic.partitions {
                if let Some(asked) = asked(self, &name, part.partition_index) {
                    let answer = Answer { node, asked, part, endpoints: &response.node_endpoints };
                    self.on_part(answer, &charge, tick, &mut effects);
                }
            }
        }
        effects
    }

    /// The answer of `node` will not come.
    ///
    /// What was fetched from there in place of the leader is fetched from the leader from now on. `true`: there was something.
    pub fn on_fetch_lost(&mut self, node: i32, now: Instant) -> bool {
        let back =
            self.cursors.values_mut().filter_map(|cursor| cursor.on_replica_failed(node, now).then_some(()));
        let has_moved = back.count() > 0;
        if planted!("skip-on-reconnect") {
            self.cursors.values_mut().for_each(|cursor| cursor.fetch.offset += 1);
        }
        if let Some(session) = self.sessions.get_mut(&node) {
            session.on_lost();
        }
        has_moved
    }

    /// The request that ends the session with `node`, if there is one.
    pub fn close_session(&mut self, node: i32) -> Option<FetchAsk> {
        let asked = self.sessions.get_mut(&node)?.close()?;
        let request = self.to_request(asked, Duration::ZERO, Str::EMPTY);
        Some(FetchAsk { request, versions: FIRST_VERSION..=i16::MAX })
    }

    /// How many bytes each partition may hold when all want as much as they can get.
    pub(super) fn share(&self) -> usize {
        (self.budget.limit() / self.cursors.len().max(1)).max(1)
    }

    fn on_part(&mut self, answer: Answer<'_>, charge: &Arc<Charge>, tick: Tick, effects: &mut Effects) {
        let id = answer.asked.id;
        let Some(cursor) = self.cursors.get_mut(&id) else { return };
        // Nobody else may have moved it meanwhile: a seek changes the generation, another broker's answer the offset. Nor may
        // another leader be known: who was deposed while it stood still speaks of a log that may have been cut since.
        let current = cursor.generation == answer.asked.generation
            && cursor.fetch.offset == answer.asked.offset
            && cursor.may_answer(answer.node)
            && cursor.epoch_to_know() == answer.asked.leader_epoch
            && matches!(cursor.phase, Phase::Fetching);
        if !current && !planted!("late-fetch-answer-accepted") {
            return;
        }
        let source = cursor.source(tick.now);
        if answer.part.error_code.is_ok() {
            cursor.on_answer(answer, charge, &self.settings, tick, effects);
        } else if cursor.leader != Some(answer.node) {
            effects.hints.extend(answer.hint(cursor));
            effects.refresh_metadata |= remedy(answer.part.error_code) == Remedy::Reroute;
            cursor.on_replica_failed(answer.node, tick.now);
        } else {
            effects.hints.extend(answer.hint(cursor));
            let code = answer.part.error_code;
            effects.refresh_metadata |= cursor.on_fetch_error(code, tick, &self.settings.backoff);
        }
        cursor.settle(self.settings.on_out_of_range);
        effects.look_up |= matches!(cursor.phase, Phase::Resolving { .. });
        effects.moved |= cursor.source(tick.now) != source;
        let waiting = self.ready.len();
        enlist(&mut self.ready, id, cursor);
        effects.ready += self.ready.len() - waiting;
    }

    /// Where the client stands, if all of these partitions tell: a request says it for all or none.
    fn rack_for(&self, wanted: &[u64], now: Instant) -> Str {
        let tells = |id: &u64| self.cursors.get(id).is_none_or(|cursor| cursor.tells_rack(now));
        if !self.settings.rack.is_empty() && wanted.iter().all(tells) {
            self.settings.rack.clone()
        } else {
            Str::EMPTY
        }
    }

    fn to_request(&self, asked: SessionRequest, max_wait: Duration, rack_id: Str) -> FetchRequest {
        let settings = &self.settings;
        let room = self.budget.limit().saturating_sub(self.budget.used());
        let room = i32::try_from(room).unwrap_or(i32::MAX).max(settings.max_partition_bytes);
        let parts = asked.partitions.into_iter().map(|(topic, partition, asked)| {
            let part = FetchPartition {
                partition,
                current_leader_epoch: asked.leader_epoch,
                fetch_offset: asked.offset,
                partition_max_bytes: asked.max_bytes,
                ..FetchPartition::default()
            };
            (topic, part)
        });
        let topics = by_topic(parts).into_iter().map(|(topic, partitions)| {
            let (topic, topic_id) = named(topic);
            FetchTopic { topic, topic_id, partitions }
        });
        let forgotten = by_topic(asked.forgotten).into_iter().map(|(topic, partitions)| {
            let (topic, topic_id) = named(topic);
            ForgottenTopic { topic, topic_id, partitions }
        });
        FetchRequest {
            max_wait_ms: i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: settings.min_bytes,
            max_bytes: settings.max_bytes.min(room),
            isolation_level: settings.isolation.to_wire(),
            session_id: asked.session_id,
            session_epoch: asked.session_epoch,
            topics: topics.collect(),
            forgotten_topics_data: forgotten.collect(),
            rack_id,
            ..FetchRequest::default()
        }
    }
}

fn versions(by_id: bool) -> RangeInclusive<i16> {
    if by_id { FIRST_VERSION_WITH_IDS..=i16::MAX } else { FIRST_VERSION..=FIRST_VERSION_WITH_IDS - 1 }
}

fn is_by_id(topic: &TopicRef) -> bool {
    matches!(topic, TopicRef::Id(_))
}

fn named(topic: TopicRef) -> (Str, TopicId) {
    match topic {
        TopicRef::Name(name) => (name, TopicId::ZERO),
        TopicRef::Id(id) => (Str::EMPTY, id),
    }
}

fn ask_of(id: u64, cursor: &Cursor, by_id: bool, settings: &FetchSettings) -> (TopicRef, i32, Asked) {
    let topic = if by_id { TopicRef::Id(cursor.topic_id) } else { TopicRef::Name(cursor.topic.clone()) };
    let asked = Asked {
        id,
        generation: cursor.generation,
        offset: cursor.fetch.offset,
        leader_epoch: cursor.epoch_to_know(),
        max_bytes: cursor.ask_bytes(settings),
    };
    (topic, cursor.partition, asked)
}

/// A broker's answer for one partition, with what it was asked.
struct Answer<'a> {
    node: i32,
    asked: Asked,
    part: PartitionData,
    endpoints: &'a [NodeEndpoint],
}

impl Answer<'_> {
    /// Who leads the partition, if the broker knows better than we do.
    fn hint(&self, cursor: &Cursor) -> Option<LeaderHint> {
        let said = &self.part.current_leader;
        let newer = said.leader_id >= 0 && said.leader_epoch > cursor.leader_epoch;
        newer.then(|| LeaderHint {
            topic: cursor.topic.clone(),
            partition: cursor.partition,
            leader: said.leader_id,
            epoch: said.leader_epoch,
            endpoint: self.endpoints.iter().find(|node| node.node_id == said.leader_id).and_then(to_address),
        })
    }
}

fn to_address(node: &NodeEndpoint) -> Option<BrokerAddress> {
    let port = u16::try_from(node.port).ok().filter(|port| *port > 0)?;
    let (host, rack) = (node.host.detached(), node.rack.as_ref().map(Str::detached));
    Some(BrokerAddress { id: node.node_id, host, port, rack })
}

impl Cursor {
    fn ask_bytes(&self, settings: &FetchSettings) -> i32 {
        let stretched =
            settings.max_partition_bytes.saturating_mul(1_i32.checked_shl(self.stretch).unwrap_or(i32::MAX));
        stretched.min(MAX_STRETCHED_BYTES.max(settings.max_partition_bytes))
    }

    fn on_answer(
        &mut self,
        answer: Answer<'_>,
        charge: &Arc<Charge>,
        settings: &FetchSettings,
        tick: Tick,
        effects: &mut Effects,
    ) {
        let Answer { node, asked, part, .. } = answer;
        self.on_proven_epoch(asked.leader_epoch);
        self.log = LogMarks {
            start: part.log_start_offset,
            high_watermark: part.high_watermark,
            last_stable: part.last_stable_offset,
        };
        if part.diverging_epoch.epoch >= 0 || part.diverging_epoch.end_offset >= 0 {
            let end =
                EpochEnd { epoch: part.diverging_epoch.epoch, end_offset: part.diverging_epoch.end_offset };
            let reset = self.on_epoch_end(end, settings.on_out_of_range);
            effects.resets.extend(reset.map(|(note, to)| self.position_reset(note, to)));
            return;
        }
        if self.leader == Some(node) {
            if part.preferred_read_replica >= 0 {
                let until = tick.now + settings.replica_for;
                return self.on_named(part.preferred_read_replica, until, tick, &settings.backoff);
            }
            self.on_served_by_leader();
        }
        let Some(bytes) = part.records.filter(|bytes| !bytes.is_empty()) else { return self.on_success() };
        let aborted = part.aborted_transactions.unwrap_or_default();
        let aborted = match settings.isolation {
            IsolationLevel::ReadCommitted => AbortedTransactions::new(
                aborted.iter().map(|aborted| (aborted.producer_id, aborted.first_offset)),
            ),
            IsolationLevel::ReadUncommitted => AbortedTransactions::default(),
        };
        let scan = scan(&bytes, self.fetch, asked.leader_epoch);
        if scan.end.offset > self.fetch.offset {
            let lease = Lease::new(scan.whole, &self.account, charge);
            let (from, end) = (self.fetch, scan.end);
            self.queue.push(Range { bytes: bytes.slice(..scan.whole), from, end, aborted, lease });
            scan.epochs.iter().for_each(|(epoch, from)| self.trail.read(*epoch, *from));
            self.fetch = end;
            self.stretch = 0;
            self.on_success();
        } else if let Some(error) = scan.error {
            self.on_corrupt_at_fetch(Some(error));
        } else if scan.cut == 0 {
            self.on_useless_answer(tick, &settings.backoff);
        } else if asked.max_bytes < MAX_STRETCHED_BYTES {
            // Brokers give one whole batch whatever its size (KIP-74), but not for every partition of an answer.
            self.stretch += 1;
        } else {
            let (offset, limit) = (self.fetch.offset, asked.max_bytes);
            self.phase = Phase::Draining { trouble: Trouble::TooLarge { offset, limit } };
        }
    }
}
