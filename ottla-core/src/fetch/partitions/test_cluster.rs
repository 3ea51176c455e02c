//! A cluster in a few lines: logs, leaders, fetch sessions. It answers what [`Partitions`] asks.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use ottla_protocol::{
    ErrorCode, Str, TopicId,
    compression::Decompressor,
    messages::{
        fetch_request::FetchRequest,
        fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData},
        list_offsets_request::ListOffsetsRequest,
        list_offsets_response::{
            ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
        },
        offset_for_leader_epoch_request::OffsetForLeaderEpochRequest,
        offset_for_leader_epoch_response::{
            EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
        },
    },
};

use super::{
    super::{
        Budget, EARLIEST_TIMESTAMP, Effects, LATEST_TIMESTAMP, LeaderNews, OffsetSpec, Reset, Tick, Trouble,
        test_batches, unpack,
    },
    FetchPlan, FetchSettings, Finished, Handout, IsolationLevel, LookUpAsk, LookUpPlan, Outcome, Partitions,
};
use crate::backoff::BackoffPolicy;

pub(super) const TOPIC: Str = Str::from_static("t");
/// Where the client stands.
const RACK: &str = "r";

/// One partition as all brokers have it.
#[derive(Debug, Clone)]
pub(super) struct Log {
    pub(super) batches: Vec<Stored>,
    pub(super) start: i64,
    pub(super) leader: i32,
    pub(super) epoch: i32,
    pub(super) topic_id: TopicId,
    /// What the leader answers to the next fetches in place of records.
    pub(super) errors: Vec<ErrorCode>,
    /// Whom the leader names to those who say where they stand.
    pub(super) replica: Option<Replica>,
}

/// A follower that is closer to the client than the leader is.
#[derive(Debug, Clone)]
pub(super) struct Replica {
    pub(super) node: i32,
    /// How much of the log it has.
    pub(super) end: i64,
    /// What it answers to the next fetches in place of records.
    pub(super) errors: Vec<ErrorCode>,
}

#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) base: i64,
    pub(super) next: i64,
    pub(super) epoch: i32,
    pub(super) data: bool,
    pub(super) bytes: Bytes,
}

impl Log {
    fn new(leader: i32) -> Self {
        let topic_id = TopicId([1; 16]);
        Self { batches: Vec::new(), start: 0, leader, epoch: 0, topic_id, errors: Vec::new(), replica: None }
    }

    pub(super) fn end(&self) -> i64 {
        self.batches.last().map_or(self.start, |batch| batch.next)
    }

    pub(super) fn append(&mut self, count: i32) {
        let (base, epoch) = (self.end(), self.epoch);
        let bytes = test_batches::data(base, count, epoch);
        self.batches.push(Stored { base, next: base + i64::from(count), epoch, data: true, bytes });
    }

    /// Offsets that hold no record: what compaction leaves.
    pub(super) fn append_gap(&mut self, span: u32) {
        let (base, epoch) = (self.end(), self.epoch);
        let bytes = test_batches::empty(base, span, epoch);
        self.batches.push(Stored { base, next: base + i64::from(span), epoch, data: false, bytes });
    }

    /// An unclean election: the new leader has nothing from `end` on, which must be the border of a batch.
    pub(super) fn truncate(&mut self, end: i64) {
        self.batches.retain(|batch| batch.next <= end);
    }

    pub(super) fn offsets_from(&self, from: i64) -> Vec<i64> {
        let data = self.batches.iter().filter(|batch| batch.data);
        data.flat_map(|batch| batch.base..batch.next).filter(|offset| *offset >= from).collect()
    }

    fn epoch_end(&self, epoch: i32) -> (i32, i64) {
        let known =
            self.batches.iter().map(|batch| batch.epoch).chain([self.epoch]).filter(|known| *known <= epoch);
        // An epoch in front of all that are known ends where they begin.
        let known = known.max().unwrap_or(epoch);
        let end =
            self.batches.iter().find(|batch| batch.epoch > known).map_or(self.end(), |batch| batch.base);
        (known, end)
    }

    fn is_replica(&self, node: i32) -> bool {
        self.replica.as_ref().is_some_and(|replica| replica.node == node)
    }

    fn check(&self, node: i32, epoch: i32) -> ErrorCode {
        match epoch {
            _ if self.leader != node && !self.is_replica(node) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            epoch if epoch >= 0 && epoch < self.epoch => ErrorCode::FENCED_LEADER_EPOCH,
            epoch if epoch > self.epoch => ErrorCode::UNKNOWN_LEADER_EPOCH,
            _ => ErrorCode::NONE,
        }
    }
}

/// How a broker answers one fetch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// At most so many batches for each partition.
    pub(super) batches: usize,
    /// Bytes of one more batch behind them, cut short.
    pub(super) cut: usize,
}

pub(super) const GENEROUS: Manner = Manner { batches: usize::MAX, cut: 0 };

#[derive(Debug, Default)]
struct Session {
    id: i32,
    epoch: i32,
    asked: BTreeMap<(TopicId, i32), (i64, i32)>,
}

/// The client side under test, and the cluster.
pub(super) struct World {
    pub(super) client: Partitions,
    pub(super) budget: Arc<Budget>,
    pub(super) logs: BTreeMap<i32, Log>,
    sessions: BTreeMap<i32, Session>,
    pub(super) sessions_opened: i32,
    pub(super) in_flight: BTreeMap<i32, FetchRequest>,
    pub(super) tick: Tick,
    pub(super) delivered: BTreeMap<i32, Vec<i64>>,
    pub(super) troubles: Vec<(i32, Trouble)>,
    pub(super) effects: Effects,
    pub(super) requests: usize,
}

impl World {
    pub(super) fn new(partitions: i32, nodes: i32, on_out_of_range: Reset) -> Self {
        let settings = FetchSettings {
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: 1 << 20,
            max_partition_bytes: 1 << 16,
            isolation: IsolationLevel::ReadUncommitted,
            on_out_of_range,
            backoff: BackoffPolicy::new(Duration::from_millis(100), Duration::from_secs(1)),
            absent_after: Duration::from_secs(60),
            rack: Str::from_static(RACK),
            replica_for: Duration::from_secs(300),
        };
        let budget = Budget::new(1 << 20, || {});
        #[expect(clippy::disallowed_methods, reason = "a fixed moment to count from; tests have no clock")]
        let now = Instant::now();
        Self {
            client: Partitions::new(settings, Arc::clone(&budget)),
            budget,
            logs: (0..partitions).map(|partition| (partition, Log::new(partition % nodes))).collect(),
            sessions: BTreeMap::new(),
            sessions_opened: 0,
            in_flight: BTreeMap::new(),
            tick: Tick { now, wall: UNIX_EPOCH + Duration::from_secs(1), random: 0 },
            delivered: BTreeMap::new(),
            troubles: Vec::new(),
            effects: Effects::default(),
            requests: 0,
        }
    }

    /// One partition on one broker with `count` records, in batches of five, being read from `spec`.
    pub(super) fn reading(count: i64, spec: OffsetSpec, policy: Reset) -> Self {
        let mut world = Self::new(1, 1, policy);
        for _ in 0..count / 5 {
            world.log(0).append(5);
        }
        world.assign(spec);
        world
    }

    pub(super) fn log(&mut self, partition: i32) -> &mut Log {
        self.logs.get_mut(&partition).unwrap()
    }

    pub(super) fn assign(&mut self, spec: OffsetSpec) {
        self.client.assign(self.logs.keys().map(|partition| (TOPIC, *partition, spec)));
        self.tell_leaders();
    }

    /// Metadata as it is now.
    pub(super) fn tell_leaders(&mut self) {
        self.client.on_metadata(0, |_, partition| match self.logs.get(&partition) {
            Some(log) => {
                LeaderNews::Known { topic_id: log.topic_id, leader: Some(log.leader), epoch: log.epoch }
            }
            None => LeaderNews::Unknown,
        });
    }

    pub(super) fn move_leader(&mut self, partition: i32, node: i32) {
        let log = self.log(partition);
        log.leader = node;
        log.epoch += 1;
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.tick.now += time;
        self.tick.wall += time;
    }

    /// Sends what is to be sent to `node`, if nothing is under way. Whether something was sent.
    pub(super) fn send(&mut self, node: i32) -> bool {
        if self.in_flight.contains_key(&node) {
            return false;
        }
        let wants = self.client.wants_fetch(node, self.tick.now);
        let ask = match self.client.plan_fetch(node, true, self.tick) {
            FetchPlan::Send(ask) => ask,
            FetchPlan::Wait(until) => {
                assert_eq!(wants, Err(until));
                return false;
            }
        };
        assert_eq!(wants, Ok(()));
        self.requests += 1;
        self.in_flight.insert(node, ask.request);
        true
    }

    /// Answers what is under way to `node`.
    pub(super) fn answer(&mut self, node: i32, manner: Manner) {
        if let Some(response) = self.carry_out(node, manner) {
            self.deliver(node, response);
        }
    }

    /// What `node` makes of what is under way to it. The answer is on its way until [`Self::deliver`].
    pub(super) fn carry_out(&mut self, node: i32, manner: Manner) -> Option<FetchResponse> {
        let request = self.in_flight.remove(&node)?;
        Some(self.fetch(node, &request, manner))
    }

    pub(super) fn deliver(&mut self, node: i32, response: FetchResponse) {
        self.note(|client, tick| client.on_fetch(node, response, tick));
    }

    /// Asks `node` beside what is under way, and answers. Gives the partitions that were asked for.
    pub(super) fn catch_up(&mut self, node: i32, manner: Manner) -> Vec<i32> {
        let Some((ask, asked)) = self.client.plan_catch_up(node, true, self.tick) else { return Vec::new() };
        let response = self.fetch(node, &ask.request, manner);
        self.note(|client, tick| client.on_catch_up(node, &asked, response, tick));
        let topics = ask.request.topics.iter();
        topics.flat_map(|topic| &topic.partitions).map(|partition| partition.partition).collect()
    }

    /// The connection to `node` breaks.
    pub(super) fn lose(&mut self, node: i32) {
        if self.in_flight.remove(&node).is_some() {
            self.client.on_fetch_lost(node, self.tick.now);
        }
    }

    /// `node` restarts: it remembers no session.
    pub(super) fn forget_sessions(&mut self, node: i32) {
        self.sessions.remove(&node);
    }

    fn fetch(&mut self, node: i32, request: &FetchRequest, manner: Manner) -> FetchResponse {
        let mut without_session = Session::default();
        let session = match request.session_epoch {
            -1 => &mut without_session,
            _ => self.sessions.entry(node).or_default(),
        };
        if request.session_epoch < 0 {
            assert_eq!((request.session_id, request.max_wait_ms), (0, 0));
        } else if request.session_epoch == 0 {
            self.sessions_opened += 1;
            *session = Session { id: self.sessions_opened, ..Session::default() };
        } else if session.id != request.session_id || session.id == 0 {
            return FetchResponse { error_code: ErrorCode::FETCH_SESSION_ID_NOT_FOUND, ..Default::default() };
        } else if session.epoch + 1 != request.session_epoch {
            return FetchResponse {
                error_code: ErrorCode::INVALID_FETCH_SESSION_EPOCH,
                ..Default::default()
            };
        }
        session.epoch = request.session_epoch;
        for topic in &request.forgotten_topics_data {
            for partition in &topic.partitions {
                session.asked.remove(&(topic.topic_id, *partition));
            }
        }
        for topic in &request.topics {
            for part in &topic.partitions {
                let asked = (part.fetch_offset, part.current_leader_epoch);
                session.asked.insert((topic.topic_id, part.partition), asked);
            }
        }
        let (session_id, full) = (session.id, request.session_epoch <= 0);
        let asked: Vec<_> = session.asked.iter().map(|(key, asked)| (*key, *asked)).collect();
        let mut response = FetchResponse { session_id, ..Default::default() };
        for ((topic_id, partition), (offset, epoch)) in asked {
            let rack = &request.rack_id;
            let part = self.part((node, rack), partition, topic_id, offset, epoch, manner);
            let news = full
                || part.preferred_read_replica >= 0
                || !part.error_code.is_ok()
                || part.records.as_ref().is_some_and(|bytes| !bytes.is_empty());
            if news {
                let partitions = vec![part];
                response.responses.push(FetchableTopicResponse {
                    topic_id,
                    partitions,
                    ..Default::default()
                });
            }
        }
        response
    }

    fn part(
        &mut self,
        (node, rack): (i32, &str),
        partition: i32,
        topic_id: TopicId,
        offset: i64,
        epoch: i32,
        manner: Manner,
    ) -> PartitionData {
        let log = self.logs.get_mut(&partition).unwrap();
        let (is_replica, log_end) = (log.leader != node && log.is_replica(node), log.end());
        let (end, errors) = match &mut log.replica {
            Some(replica) if is_replica => (replica.end, &mut replica.errors),
            _ => (log_end, &mut log.errors),
        };
        let error = if errors.is_empty() { ErrorCode::NONE } else { errors.remove(0) };
        let mut part = PartitionData { partition_index: partition, high_watermark: -1, ..Default::default() };
        part.error_code = match log.check(node, epoch) {
            _ if topic_id != log.topic_id => ErrorCode::UNKNOWN_TOPIC_ID,
            ErrorCode::NONE if !error.is_ok() => error,
            ErrorCode::NONE if offset < log.start || offset > end => ErrorCode::OFFSET_OUT_OF_RANGE,
            code => code,
        };
        let named = log.replica.as_ref().filter(|named| named.node != node && rack == RACK);
        if let Some(named) = named.filter(|named| part.error_code.is_ok() && offset <= named.end) {
            part.high_watermark = end;
            part.preferred_read_replica = named.node;
        } else if part.error_code.is_ok() {
            part.high_watermark = end;
            part.log_start_offset = log.start;
            let mut batches = log.batches.iter().filter(|batch| batch.next > offset && batch.next <= end);
            let mut records = Vec::new();
            for batch in batches.by_ref().take(manner.batches) {
                records.extend_from_slice(&batch.bytes);
            }
            if let Some(next) = batches.next() {
                records.extend_from_slice(&next.bytes[..manner.cut.min(next.bytes.len())]);
            }
            part.records = Some(records.into());
        }
        part
    }

    /// Asks and answers one question about positions.
    pub(super) fn look_up(&mut self, node: i32) -> bool {
        let LookUpPlan::Send(ask) = self.client.plan_look_up(node, self.tick) else { return false };
        match ask {
            LookUpAsk::Offsets(request, tickets) => {
                let response = self.list_offsets(node, &request);
                self.note(|client, tick| client.on_offsets(&tickets, &response, tick));
            }
            LookUpAsk::EpochEnds(request, tickets) => {
                let response = self.epoch_ends(node, &request);
                self.note(|client, tick| client.on_epoch_ends(&tickets, &response, tick));
            }
        }
        true
    }

    fn list_offsets(&self, node: i32, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let partitions = request.topics[0].partitions.iter().map(|part| {
            let log = &self.logs[&part.partition_index];
            let offset = match part.timestamp {
                EARLIEST_TIMESTAMP => log.start,
                LATEST_TIMESTAMP => log.end(),
                // Batches of the test have no records of any later time.
                _ => -1,
            };
            ListOffsetsPartitionResponse {
                partition_index: part.partition_index,
                error_code: log.check(node, part.current_leader_epoch),
                offset,
                leader_epoch: log.epoch,
                ..Default::default()
            }
        });
        let topics = vec![ListOffsetsTopicResponse { name: TOPIC, partitions: partitions.collect() }];
        ListOffsetsResponse { topics, ..Default::default() }
    }

    pub(super) fn epoch_ends(
        &self,
        node: i32,
        request: &OffsetForLeaderEpochRequest,
    ) -> OffsetForLeaderEpochResponse {
        let partitions = request.topics[0].partitions.iter().map(|part| {
            let log = &self.logs[&part.partition];
            let (leader_epoch, end_offset) = log.epoch_end(part.leader_epoch);
            let error_code = log.check(node, part.current_leader_epoch);
            EpochEndOffset { error_code, partition: part.partition, leader_epoch, end_offset }
        });
        let topics = vec![OffsetForLeaderTopicResult { topic: TOPIC, partitions: partitions.collect() }];
        OffsetForLeaderEpochResponse { topics, ..Default::default() }
    }

    fn note(&mut self, step: impl FnOnce(&mut Partitions, Tick) -> Effects) {
        let effects = step(&mut self.client, self.tick);
        self.effects.refresh_metadata |= effects.refresh_metadata;
        self.effects.moved |= effects.moved;
        self.effects.resets.extend(effects.resets);
        self.effects.hints.extend(effects.hints);
    }

    /// Takes one thing, as `poll` does. Whether there was one.
    pub(super) fn poll(&mut self, enough: usize) -> bool {
        let Some(handout) = self.client.take() else { return false };
        match handout {
            Handout::Trouble { partition, trouble, .. } => self.troubles.push((partition, trouble)),
            Handout::Absent(absence) => unreachable!("everything that is read is there: {absence}"),
            Handout::Range { partition, ticket, range, .. } => {
                let unpacked = unpack(range, &mut Decompressor::new(), enough);
                let (next, rest, corrupt) = (unpacked.next, unpacked.rest, unpacked.corrupt);
                if self.client.finish(ticket, Outcome { next, rest, corrupt }) != Finished::Stale {
                    let delivered = self.delivered.entry(partition).or_default();
                    for section in unpacked.sections {
                        delivered.extend(
                            section.records.resume(section.start).map(|record| record.unwrap().offset),
                        );
                    }
                }
            }
        }
        true
    }

    /// Lets everything happen that can, until nothing does any more.
    pub(super) fn settle(&mut self) {
        let mut quiet_rounds = 0;
        for _ in 0..200 {
            let mut quiet = true;
            for node in 0..4 {
                while self.look_up(node) {
                    quiet = false;
                }
                self.send(node);
                self.answer(node, GENEROUS);
            }
            while self.poll(usize::MAX) {
                quiet = false;
            }
            if std::mem::take(&mut self.effects.refresh_metadata) {
                self.tell_leaders();
                quiet = false;
            }
            // What was answered in this round, and what backs off, has its consequences in the next.
            quiet_rounds = if quiet { quiet_rounds + 1 } else { 0 };
            if quiet_rounds == 3 {
                return;
            }
            self.wait(Duration::from_secs(2));
        }
        panic!("the client never comes to rest");
    }

    pub(super) fn delivered(&mut self, partition: i32) -> Vec<i64> {
        self.delivered.remove(&partition).unwrap_or_default()
    }

    pub(super) fn position(&self, partition: i32) -> Option<i64> {
        self.client.position(&TOPIC, partition)
    }

    pub(super) fn explain(&self, partition: i32) -> String {
        self.client.explain(&TOPIC, partition, self.tick.now)
    }

    pub(super) fn wall(&self) -> SystemTime {
        self.tick.wall
    }
}
