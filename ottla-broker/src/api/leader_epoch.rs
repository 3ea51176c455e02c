//! `OffsetForLeaderEpoch`: where a leader epoch ends, for a client that looks for truncation (KIP-320).

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use ottla_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use ottla_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use super::led;
use crate::io::Now;
use crate::log::EpochEnd;
use crate::node::{Exchange, Node, Outcome};

pub(super) fn offset_for_leader_epoch(
    node: &mut Node,
    _: Now,
    exchange: &Exchange,
    request: OffsetForLeaderEpochRequest,
) -> Outcome {
    let topics = request.topics.into_iter().map(|topic| OffsetForLeaderTopicResult {
        partitions: topic.partitions.iter().map(|wanted| answer(node, &topic.topic, wanted)).collect(),
        topic: topic.topic,
    });
    let response = OffsetForLeaderEpochResponse {
        throttle_time_ms: exchange.throttle_time_ms,
        topics: topics.collect(),
    };
    exchange.reply::<OffsetForLeaderEpochRequest>(&response)
}

fn answer(node: &Node, topic: &str, wanted: &OffsetForLeaderPartition) -> EpochEndOffset {
    let (error_code, end) = match end_of(node, topic, wanted) {
        Ok(end) => (ErrorCode::NONE, end),
        Err(error) => (error, EpochEnd::UNKNOWN),
    };
    EpochEndOffset {
        error_code,
        partition: wanted.partition,
        leader_epoch: end.epoch,
        end_offset: end.end_offset,
    }
}

fn end_of(node: &Node, topic: &str, wanted: &OffsetForLeaderPartition) -> Result<EpochEnd, ErrorCode> {
    let topic = node.image.topic(topic).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let replica = led(node, (topic.id, wanted.partition), wanted.current_leader_epoch)?;
    Ok(replica.log.epoch_end(wanted.leader_epoch))
}
