//! `DeleteRecords` (KIP-107): logs begin elsewhere.
//!
//! The leader drops what is asked for at once, and answers when the logs of all replicas whose nodes live begin there too:
//! whoever leads next does not show it again.

use std::time::{Duration, Instant};

use ottla_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use ottla_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use ottla_protocol::{ErrorCode, Str};

use super::led;
use crate::io::Now;
use crate::node::{Exchange, Node, Outcome, Waiting};
use crate::replica::{Replica, ReplicaKey};

/// All that is committed goes (`DeleteRecordsRequest.HIGH_WATERMARK`).
const HIGH_WATERMARK: i64 = -1;

/// A request whose records are dropped by the leaders, and perhaps not by all followers yet.
#[derive(Debug)]
pub(crate) struct DeleteRecordsWait {
    pub(crate) deadline: Instant,
    response: DeleteRecordsResponse,
    pending: Vec<Pending>,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    key: ReplicaKey,
    /// Its place in the response.
    topic: usize,
    partition: usize,
    /// Where the logs are to begin.
    start: i64,
}

pub(super) fn delete_records(
    node: &mut Node,
    now: Now,
    exchange: &Exchange,
    request: DeleteRecordsRequest,
) -> Outcome {
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let mut wait = DeleteRecordsWait {
        deadline: now.monotonic + timeout,
        response: DeleteRecordsResponse {
            throttle_time_ms: exchange.throttle_time_ms,
            ..DeleteRecordsResponse::default()
        },
        pending: Vec::new(),
    };
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let dropped = drop_records(node, now, (&topic.name, asked.partition_index), asked.offset);
            let error_code = dropped.err().unwrap_or_default();
            if let Ok((key, start)) = dropped {
                let (topic, partition) = (wait.response.topics.len(), partitions.len());
                wait.pending.push(Pending { key, topic, partition, start });
            }
            let partition_index = asked.partition_index;
            partitions.push(DeleteRecordsPartitionResult { partition_index, low_watermark: -1, error_code });
        }
        wait.response.topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    Outcome::Wait(Waiting::DeleteRecords(wait))
}

/// Where the log is to begin is returned.
fn drop_records(
    node: &mut Node,
    now: Now,
    (topic, index): (&Str, i32),
    offset: i64,
) -> Result<(ReplicaKey, i64), ErrorCode> {
    let topic = node.image.topic(topic).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let (key, internal, deleting) = ((topic.id, index), topic.is_internal(), topic.is_deleting());
    if topic.partition(index).is_none() {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    if internal {
        return Err(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    let high_watermark = led(node, key, -1)?.high_watermark();
    if !deleting {
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let start = if offset == HIGH_WATERMARK { high_watermark } else { offset };
    if start < 0 {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    let dropped = node.with_replica(key, |replica, effects| replica.drop_below(now, start, effects));
    dropped.unwrap_or(Err(ErrorCode::NOT_LEADER_OR_FOLLOWER)).map(|()| (key, start))
}

impl DeleteRecordsWait {
    pub(crate) fn watched(&self) -> Vec<ReplicaKey> {
        self.pending.iter().map(|pending| pending.key).collect()
    }

    /// Answers when all that live have dropped everything, or the time is up.
    pub(crate) fn look(&mut self, node: &Node, now: Now, exchange: &Exchange) -> Option<Outcome> {
        let late = now.monotonic >= self.deadline;
        let response = &mut self.response;
        self.pending.retain(|pending| {
            let (low_watermark, error_code) = match led(node, pending.key, -1) {
                Ok(replica) => match low_watermark(node, replica) {
                    low if low >= pending.start => (low, ErrorCode::NONE),
                    low if late => (low, ErrorCode::REQUEST_TIMED_OUT),
                    _ => return true,
                },
                Err(error) => (-1, error),
            };
            let topic = response.topics.get_mut(pending.topic);
            if let Some(result) = topic.and_then(|topic| topic.partitions.get_mut(pending.partition)) {
                (result.low_watermark, result.error_code) = (low_watermark, error_code);
            }
            false
        });
        self.pending.is_empty().then(|| exchange.reply::<DeleteRecordsRequest>(&self.response))
    }
}

fn low_watermark(node: &Node, replica: &Replica) -> i64 {
    replica.low_watermark(|other| node.image.brokers.contains_key(&other))
}
