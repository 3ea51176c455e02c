//! `Produce`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use ottla_protocol::messages::{ProduceRequest, ProduceResponse};
use ottla_protocol::{ErrorCode, Str};

use super::records::{self, Refusal, Rules};
use super::{TopicRef, hinted, leader_hint, led, text};
use crate::image::Topic;
use crate::io::{CloseReason, NodeId, Now};
use crate::log::producers::Verdict;
use crate::node::{Exchange, Node, Outcome, Waiting};
use crate::replica::{Replica, ReplicaKey};

/// `acks=all`
const ALL: i16 = -1;
/// Who leads instead, and where, can be told since version 10 (KIP-951).
const FIRST_VERSION_WITH_HINTS: i16 = 10;

/// A produce request whose batches are appended and not yet acknowledged.
#[derive(Debug)]
pub(crate) struct ProduceWait {
    pub(crate) deadline: Instant,
    acks: i16,
    response: ProduceResponse,
    /// The leaders that the response hints at.
    leaders: BTreeSet<NodeId>,
    /// The version can say them.
    hints: bool,
    /// What the request names more than once.
    twice: BTreeSet<ReplicaKey>,
    pending: BTreeMap<ReplicaKey, Pending>,
    /// Of what is pending, what has to be looked at: what has moved.
    moved: Vec<ReplicaKey>,
    /// What is acknowledged.
    written: Vec<ReplicaKey>,
}

/// An append that is to be acknowledged.
#[derive(Debug, Clone, Copy)]
struct Pending {
    /// Its place in the response.
    topic: usize,
    partition: usize,
    /// The end of what was appended.
    end: i64,
}

/// What became of one partition's records.
struct Appended {
    base_offset: i64,
    end: i64,
    log_append_time: Option<i64>,
}

pub(super) fn produce(node: &mut Node, now: Now, exchange: &Exchange, request: ProduceRequest) -> Outcome {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let mut wait = ProduceWait {
        deadline: now.monotonic + timeout,
        acks: request.acks,
        response: ProduceResponse {
            throttle_time_ms: exchange.throttle_time_ms,
            ..ProduceResponse::default()
        },
        leaders: BTreeSet::new(),
        hints: exchange.version >= FIRST_VERSION_WITH_HINTS,
        twice: named_twice(node, exchange.version, &request),
        pending: BTreeMap::new(),
        moved: Vec::new(),
        written: Vec::new(),
    };
    for topic in request.topic_data {
        let named = TopicRef::new(exchange.version >= 13, &topic.name, topic.topic_id);
        let mut answer = TopicProduceResponse {
            name: named.name(),
            topic_id: named.id(),
            ..TopicProduceResponse::default()
        };
        for partition in topic.partition_data {
            let place = (wait.response.responses.len(), answer.partition_responses.len());
            let index = partition.index;
            let records = partition.records.as_ref();
            let result = wait.append(node, now, exchange, (&named, index), records, place);
            answer.partition_responses.push(result);
        }
        wait.response.responses.push(answer);
    }
    if request.acks == 0 { wait.unacknowledged() } else { Outcome::Wait(Waiting::Produce(wait)) }
}

impl ProduceWait {
    pub(crate) fn watched(&self) -> Vec<ReplicaKey> {
        self.pending.keys().copied().collect()
    }

    /// A replica that it watches has moved.
    pub(crate) fn on_moved(&mut self, key: ReplicaKey) {
        self.moved.push(key);
    }

    /// Answers when every append is acknowledged or has failed.
    pub(crate) fn look(&mut self, node: &Node, now: Now, exchange: &Exchange) -> Option<Outcome> {
        let late = now.monotonic >= self.deadline;
        let moved = std::mem::take(&mut self.moved);
        for key in if late { self.watched() } else { moved } {
            let Some(pending) = self.pending.get(&key).copied() else { continue };
            match settled(node, self.acks, key, &pending) {
                Some(ErrorCode::NONE) => self.written.push(key),
                Some(error) => self.fail(node, key, &pending, error),
                None if late => self.fail(node, key, &pending, ErrorCode::REQUEST_TIMED_OUT),
                None => continue,
            }
            self.pending.remove(&key);
        }
        self.pending.is_empty().then(|| {
            self.response.node_endpoints = endpoints(node, &self.leaders);
            node.watch_acknowledged(exchange, &self.written);
            exchange.reply::<ProduceRequest>(&self.response)
        })
    }

    /// Appends one partition's records, if nothing speaks against it.
    fn append(
        &mut self,
        node: &mut Node,
        now: Now,
        exchange: &Exchange,
        (topic, index): (&TopicRef, i32),
        records: Option<&Bytes>,
        (topic_at, partition_at): (usize, usize),
    ) -> PartitionProduceResponse {
        let mut response =
            PartitionProduceResponse { index, base_offset: -1, log_append_time_ms: -1, ..Default::default() };
        let found = topic.find(&node.image).cloned();
        let key = found.as_ref().map(|topic| (topic.id, index)).map_err(|error| *error);
        let appended = found.map_err(|error| refused(error, "")).and_then(|topic| {
            check_acks(self.acks)?;
            if self.twice.contains(&(topic.id, index)) {
                return Err(refused(
                    ErrorCode::INVALID_REQUEST,
                    "The request names the partition more than once",
                ));
            }
            append(node, now, exchange, (&topic, index), records, self.acks == ALL)
        });
        match (appended, key) {
            (Ok(appended), Ok(key)) => {
                response.base_offset = appended.base_offset;
                response.log_append_time_ms = appended.log_append_time.unwrap_or(-1);
                response.log_start_offset =
                    node.replicas.get(&key).map_or(-1, |replica| replica.log.start_offset());
                let pending = Pending { topic: topic_at, partition: partition_at, end: appended.end };
                self.pending.insert(key, pending);
                self.moved.push(key);
            }
            (Err(refusal), key) => {
                response.error_message =
                    Some(refusal.message).filter(|message| !message.is_empty()).map(Str::from);
                response.log_start_offset = -1;
                response.record_errors = refusal.culprits.into_iter().map(record_error).collect();
                self.set_error(node, key.ok(), &mut response, refusal.error);
            }
            // There is no appending to what was not found.
            (Ok(_), Err(error)) => response.error_code = error,
        }
        response
    }

    fn fail(&mut self, node: &Node, key: ReplicaKey, pending: &Pending, error: ErrorCode) {
        let topic = self.response.responses.get_mut(pending.topic);
        let partition = topic.and_then(|topic| topic.partition_responses.get_mut(pending.partition));
        let Some(mut response) = partition.map(std::mem::take) else { return };
        response.base_offset = -1;
        response.log_append_time_ms = -1;
        response.log_start_offset = -1;
        self.set_error(node, Some(key), &mut response, error);
        let topic = self.response.responses.get_mut(pending.topic);
        if let Some(place) = topic.and_then(|topic| topic.partition_responses.get_mut(pending.partition)) {
            *place = response;
        }
    }

    /// Sets the error, and where a client that asked the wrong node finds the leader (KIP-951).
    fn set_error(
        &mut self,
        node: &Node,
        key: Option<ReplicaKey>,
        response: &mut PartitionProduceResponse,
        error: ErrorCode,
    ) {
        response.error_code = error;
        let key = key.filter(|_| self.hints);
        if let Some((leader_id, leader_epoch)) = key.and_then(|key| leader_hint(&node.image, key, error)) {
            response.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch };
            self.leaders.insert(leader_id);
        }
    }

    /// With `acks=0` there is no answer; a failure is told by closing the connection, as Kafka does it.
    fn unacknowledged(&self) -> Outcome {
        let mut all = self.response.responses.iter().flat_map(|topic| &topic.partition_responses);
        match all.find(|partition| !partition.error_code.is_ok()) {
            Some(failed) => Outcome::Close(CloseReason::UnacknowledgedFailure(failed.error_code.to_string())),
            None => Outcome::Silence,
        }
    }
}

/// The partitions of which a request has several entries. Kafka takes the last one and drops the others without a word;
/// here nothing of such a partition is appended, and a client that does it is told.
fn named_twice(node: &Node, version: i16, request: &ProduceRequest) -> BTreeSet<ReplicaKey> {
    let mut named = BTreeSet::new();
    let mut twice = BTreeSet::new();
    for topic in &request.topic_data {
        let reference = TopicRef::new(version >= 13, &topic.name, topic.topic_id);
        let Ok(found) = reference.find(&node.image) else { continue };
        let keys = topic.partition_data.iter().map(|partition| (found.id, partition.index));
        twice.extend(keys.filter(|key| !named.insert(*key)));
    }
    twice
}

fn append(
    node: &mut Node,
    now: Now,
    exchange: &Exchange,
    (topic, index): (&Topic, i32),
    records: Option<&Bytes>,
    all: bool,
) -> Result<Appended, Refusal> {
    let key = (topic.id, index);
    if topic.is_internal() {
        let message = format!("Cannot append to internal topic {}", topic.name);
        return Err(refused(ErrorCode::INVALID_TOPIC_EXCEPTION, &message));
    }
    let replica = led(node, key, -1).map_err(|error| refused(error, ""))?;
    let min_isr = min_isr(node, topic);
    if all && isr(replica) < min_isr {
        let message = format!(
            "The size of the current ISR : {} is insufficient to satisfy the min.isr requirement of {min_isr} for \
             partition {}-{index}",
            isr(replica),
            topic.name
        );
        return Err(refused(ErrorCode::NOT_ENOUGH_REPLICAS, &message));
    }
    let rules = Rules::of(&node.config, topic, exchange.version, now.wall_ms);
    let meta = records::check(records, &rules)?;
    let verdict = replica.log.verify_producer(&meta).map_err(|error| refused(error, ""))?;
    if verdict == Verdict::Append && replica.is_starved() {
        let message = format!("The disk of broker {} has no room for {}-{index}", node.id, topic.name);
        return Err(refused(ErrorCode::KAFKA_STORAGE_ERROR, &message));
    }
    if let Some(records) = records {
        node.watch_append(exchange, key, records, verdict == Verdict::Append);
    }
    match verdict {
        Verdict::Duplicate { base_offset, last_offset } => {
            Ok(Appended { base_offset, end: last_offset + 1, log_append_time: rules.log_append_time })
        }
        Verdict::Append => {
            let data = records.cloned().unwrap_or_default();
            let time = rules.log_append_time;
            let appended = node.with_replica(key, |replica, effects| {
                let base_offset = replica.lead_append(now, &data, time, effects);
                Appended { base_offset, end: replica.log.end_offset(), log_append_time: time }
            });
            appended.ok_or_else(|| refused(ErrorCode::NOT_LEADER_OR_FOLLOWER, ""))
        }
    }
}

/// What is known of an append: nothing while it is on its way.
fn settled(node: &Node, acks: i16, key: ReplicaKey, pending: &Pending) -> Option<ErrorCode> {
    let replica = match led(node, key, -1) {
        Ok(replica) => replica,
        Err(error) => return Some(error),
    };
    if planted!("broker-acknowledges-before-append") {
        return Some(ErrorCode::NONE);
    }
    // It will be written when there is room, which may take longer than anybody waits.
    if replica.is_starved() && replica.written_offset() < pending.end {
        return Some(ErrorCode::KAFKA_STORAGE_ERROR);
    }
    if acks != ALL || planted!("broker-acknowledges-before-replication") {
        return (replica.written_offset() >= pending.end).then_some(ErrorCode::NONE);
    }
    if replica.high_watermark() < pending.end {
        return None;
    }
    let topic = node.image.topic_by_id(key.0)?;
    Some(if has_enough_in_sync(node, topic, replica) {
        ErrorCode::NONE
    } else {
        ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
    })
}

/// Whether what this leader has replicated counts as acknowledged by all.
pub(crate) fn has_enough_in_sync(node: &Node, topic: &Topic, replica: &Replica) -> bool {
    isr(replica) >= min_isr(node, topic)
}

fn isr(replica: &Replica) -> usize {
    replica.leader().map_or(0, |leader| leader.isr().len())
}

/// `min.insync.replicas`, of which a partition needs no more than it has replicas (KIP-966).
fn min_isr(node: &Node, topic: &Topic) -> usize {
    let wanted = topic.number("min.insync.replicas").unwrap_or(node.config.min_insync_replicas);
    let replicas = topic.partitions.first().map_or(1, |partition| partition.replicas.len());
    usize::try_from(wanted).unwrap_or(1).min(replicas)
}

fn check_acks(acks: i16) -> Result<(), Refusal> {
    match acks {
        -1..=1 => Ok(()),
        _ => Err(refused(ErrorCode::INVALID_REQUIRED_ACKS, "")),
    }
}

fn refused(error: ErrorCode, message: &str) -> Refusal {
    records::refusal(error, message.to_owned())
}

fn record_error((batch_index, message): (i32, String)) -> BatchIndexAndErrorMessage {
    BatchIndexAndErrorMessage { batch_index, batch_index_error_message: Some(message.into()) }
}

fn endpoints(node: &Node, leaders: &BTreeSet<NodeId>) -> Vec<NodeEndpoint> {
    let hinted = hinted(&node.image, leaders).into_iter();
    let endpoint = |(node_id, broker): (NodeId, crate::image::Broker)| NodeEndpoint {
        node_id,
        host: text(&broker.host),
        port: i32::from(broker.port),
        rack: broker.rack.as_deref().map(text),
    };
    hinted.map(endpoint).collect()
}
