//! `ListOffsets`: the first offset, the last, or the one at a time.

use std::collections::BTreeSet;

use bytes::Bytes;
use ottla_protocol::batch;
use ottla_protocol::compression::Decompressor;
use ottla_protocol::messages::list_offsets_request::ListOffsetsPartition;
use ottla_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use ottla_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use ottla_protocol::{ErrorCode, Str};

use super::led;
use crate::io::Now;
use crate::log::BatchMeta;
use crate::node::{Exchange, Node, Outcome, RequestId, Waiting};
use crate::replica::{Replica, ReplicaKey};

/// The timestamps that stand for places in the log.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// Older clients are not told the epoch of the offset's record (KIP-320).
const FIRST_VERSION_WITH_LEADER_EPOCH: i16 = 4;

/// Clients know `OFFSET_NOT_AVAILABLE` since version 5 (KIP-207).
const FIRST_VERSION_WITH_NOT_AVAILABLE: i16 = 5;

/// A request for offsets by time, which waits for the disk.
#[derive(Debug)]
pub(crate) struct ListOffsetsWait {
    response: ListOffsetsResponse,
    lookups: Vec<Lookup>,
    asked: bool,
    outstanding: usize,
}

/// A record that is to be found in a batch.
#[derive(Debug)]
struct Lookup {
    /// Its place in the response.
    topic: usize,
    partition: usize,
    key: ReplicaKey,
    batch: BatchMeta,
    timestamp: i64,
    /// What the disk has read of the batch.
    read: Option<Bytes>,
}

/// Where an offset is.
enum Found {
    Offset(ListOffsetsPartitionResponse),
    InBatch(BatchMeta, i64),
}

pub(super) fn list_offsets(
    node: &mut Node,
    _: Now,
    exchange: &Exchange,
    request: ListOffsetsRequest,
) -> Outcome {
    let mut wait = ListOffsetsWait {
        response: ListOffsetsResponse {
            throttle_time_ms: exchange.throttle_time_ms,
            ..ListOffsetsResponse::default()
        },
        lookups: Vec::new(),
        asked: false,
        outstanding: 0,
    };
    let ambiguous = named_twice(&request);
    for topic in request.topics {
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let place = (wait.response.topics.len(), answers.len());
            let error_code = ErrorCode::INVALID_REQUEST;
            answers.push(match ambiguous.contains(&(topic.name.clone(), wanted.partition_index)) {
                true => ListOffsetsPartitionResponse { error_code, ..nothing(wanted.partition_index) },
                false => wait.answer(node, exchange, &topic.name, wanted, place),
            });
        }
        wait.response.topics.push(ListOffsetsTopicResponse { name: topic.name, partitions: answers });
    }
    if wait.lookups.is_empty() {
        reply(exchange, &mut wait.response)
    } else {
        Outcome::Wait(Waiting::ListOffsets(wait))
    }
}

/// The partitions that a request asks for more than once: Apache Kafka answers none of the questions.
fn named_twice(request: &ListOffsetsRequest) -> BTreeSet<(Str, i32)> {
    let mut seen = BTreeSet::new();
    let all = request
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|wanted| (topic.name.clone(), wanted.partition_index)));
    all.filter(|partition| !seen.insert(partition.clone())).collect()
}

fn reply(exchange: &Exchange, response: &mut ListOffsetsResponse) -> Outcome {
    if exchange.version < FIRST_VERSION_WITH_LEADER_EPOCH {
        let answers = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        answers.for_each(|answer| answer.leader_epoch = -1);
    }
    exchange.reply::<ListOffsetsRequest>(response)
}

impl ListOffsetsWait {
    pub(crate) fn look(&mut self, node: &mut Node, id: RequestId, exchange: &Exchange) -> Option<Outcome> {
        if !std::mem::replace(&mut self.asked, true) {
            self.outstanding = self.lookups.len();
            for (slot, lookup) in self.lookups.iter().enumerate() {
                node.read_for(id, slot, lookup.key, lookup.batch.position, lookup.batch.size);
            }
        }
        for slot in 0..self.lookups.len() {
            self.resolve(node, id, slot);
        }
        (self.outstanding == 0).then(|| reply(exchange, &mut self.response))
    }

    /// The disk has read a batch.
    pub(crate) fn deliver(&mut self, slot: usize, data: Bytes) {
        self.outstanding = self.outstanding.saturating_sub(1);
        if let Some(lookup) = self.lookups.get_mut(slot) {
            lookup.read = Some(data);
        }
    }

    /// Looks for the record in what was read of a batch. It may be below the start of the log, as the batch in whose midst
    /// the log begins has it; then the next batch is asked for.
    fn resolve(&mut self, node: &mut Node, id: RequestId, slot: usize) {
        let Some(lookup) = self.lookups.get_mut(slot) else { return };
        let Some(data) = lookup.read.take() else { return };
        let topic = self.response.topics.get_mut(lookup.topic);
        let Some(answer) = topic.and_then(|topic| topic.partitions.get_mut(lookup.partition)) else { return };
        let replica = match led(node, lookup.key, -1) {
            Ok(replica) => replica,
            Err(error) => return answer.error_code = error,
        };
        let (log, limit) = (&replica.log, replica.high_watermark());
        let start = log.start_offset();
        if let Some((offset, timestamp)) = first_at(data, lookup.timestamp, start) {
            answer.offset = offset;
            answer.timestamp = timestamp;
            answer.leader_epoch = lookup.batch.leader_epoch;
        } else if lookup.batch.base_offset >= start {
            answer.error_code = ErrorCode::KAFKA_STORAGE_ERROR;
        } else if let Some(batch) = log.first_behind(lookup.batch.last_offset + 1, lookup.timestamp, limit) {
            lookup.batch = *batch;
            self.outstanding += 1;
            node.read_for(id, slot, lookup.key, lookup.batch.position, lookup.batch.size);
        }
    }

    fn answer(
        &mut self,
        node: &Node,
        exchange: &Exchange,
        topic: &Str,
        wanted: &ListOffsetsPartition,
        (topic_at, partition_at): (usize, usize),
    ) -> ListOffsetsPartitionResponse {
        let nothing = nothing(wanted.partition_index);
        let found = node.image.topic(topic).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).and_then(|topic| {
            let key = (topic.id, wanted.partition_index);
            let replica = led(node, key, wanted.current_leader_epoch)?;
            Ok((key, find(replica, exchange.version, wanted)?))
        });
        match found {
            Ok((_, Found::Offset(offset))) => offset,
            Ok((key, Found::InBatch(batch, timestamp))) => {
                let (topic, partition, read) = (topic_at, partition_at, None);
                self.lookups.push(Lookup { topic, partition, key, batch, timestamp, read });
                nothing
            }
            Err(error_code) => ListOffsetsPartitionResponse { error_code, ..nothing },
        }
    }
}

fn find(replica: &Replica, version: i16, wanted: &ListOffsetsPartition) -> Result<Found, ErrorCode> {
    let limit = replica.high_watermark();
    let log = &replica.log;
    let at = |offset, leader_epoch| {
        Ok(Found::Offset(ListOffsetsPartitionResponse {
            offset,
            leader_epoch,
            ..nothing(wanted.partition_index)
        }))
    };
    match wanted.timestamp {
        EARLIEST | EARLIEST_LOCAL | EARLIEST_PENDING_UPLOAD => at(log.start_offset(), log.first_epoch()),
        LATEST => {
            committed(replica, version)?;
            at(limit, replica.leader_epoch())
        }
        // Nothing is tiered here.
        LATEST_TIERED => at(-1, -1),
        MAX_TIMESTAMP => match log.latest(limit) {
            Some(batch) => Ok(Found::InBatch(*batch, batch.max_timestamp)),
            None => at(-1, -1),
        },
        timestamp if timestamp >= 0 => match log.first_at(timestamp, limit) {
            Some(batch) => Ok(Found::InBatch(*batch, timestamp)),
            None => {
                committed(replica, version)?;
                at(-1, -1)
            }
        },
        _ => Err(ErrorCode::UNSUPPORTED_VERSION),
    }
}

/// A new leader does not know what is committed before something of its own epoch is (KIP-207): its high watermark
/// may be behind one that clients have seen.
fn committed(replica: &Replica, version: i16) -> Result<(), ErrorCode> {
    let epoch_start = replica.leader().map_or(0, |leader| leader.epoch_start());
    if replica.high_watermark() >= epoch_start {
        Ok(())
    } else if version >= FIRST_VERSION_WITH_NOT_AVAILABLE {
        Err(ErrorCode::OFFSET_NOT_AVAILABLE)
    } else {
        Err(ErrorCode::LEADER_NOT_AVAILABLE)
    }
}

fn nothing(partition_index: i32) -> ListOffsetsPartitionResponse {
    ListOffsetsPartitionResponse {
        partition_index,
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
        ..ListOffsetsPartitionResponse::default()
    }
}

/// The offset and the time of the first record from `start` on at `timestamp` or later.
fn first_at(data: Bytes, timestamp: i64, start: i64) -> Option<(i64, i64)> {
    let batch = batch::batches(data).next()?.ok()?;
    let mut decompressor = Decompressor::new();
    let records = batch.views(&mut decompressor).ok()?;
    let mut records = records.map_while(Result::ok);
    records
        .find(|record| record.offset >= start && record.timestamp >= timestamp)
        .map(|record| (record.offset, record.timestamp))
}
