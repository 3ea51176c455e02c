//! `OffsetDelete` (KIP-496).

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use ottla_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::group_wait::{GroupWait, Pending};
use super::offset_commit::code;
use crate::coordinator::{Answer, Ask, Deletion};
use crate::io::Now;
use crate::node::{Exchange, Node, Outcome, Waiting};

/// A response that waits for the codes of some of its partitions.
#[derive(Debug)]
pub(super) struct Deleting {
    response: OffsetDeleteResponse,
    /// The places of the partitions that exist.
    places: Vec<(usize, usize)>,
}

pub(super) fn offset_delete(
    node: &mut Node,
    _: Now,
    exchange: &Exchange,
    request: OffsetDeleteRequest,
) -> Outcome {
    let throttle_time_ms = exchange.throttle_time_ms;
    let response = OffsetDeleteResponse { throttle_time_ms, ..OffsetDeleteResponse::default() };
    let mut deleting = Deleting { response, places: Vec::new() };
    if request.group_id.is_empty() {
        return deleted(exchange, &mut deleting, &Err(ErrorCode::INVALID_GROUP_ID));
    }
    let mut deletions = Vec::new();
    for topic in request.topics {
        let found = node.image.topic(&topic.name);
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for one in topic.partitions {
            let partition_index = one.partition_index;
            let there = found.is_some_and(|found| found.partition(partition_index).is_some());
            if there {
                deleting.places.push((deleting.response.topics.len(), answers.len()));
                deletions.push(Deletion { topic: topic.name.clone(), partition: partition_index });
            }
            let error_code = if there { ErrorCode::NONE } else { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION };
            answers.push(OffsetDeleteResponsePartition { partition_index, error_code });
        }
        deleting.response.topics.push(OffsetDeleteResponseTopic { name: topic.name, partitions: answers });
    }
    let asks = vec![(request.group_id, Ask::DeleteOffsets(deletions))];
    Outcome::Wait(Waiting::Group(GroupWait::new(asks, Pending::DeleteOffsets(deleting))))
}

pub(super) fn deleted(exchange: &Exchange, deleting: &mut Deleting, answer: &Answer) -> Outcome {
    if let Err(error_code) = answer {
        deleting.response.error_code = *error_code;
        deleting.response.topics.clear();
    }
    for (at, &(topic, partition)) in deleting.places.iter().enumerate() {
        let topic = deleting.response.topics.get_mut(topic);
        if let Some(place) = topic.and_then(|topic| topic.partitions.get_mut(partition)) {
            place.error_code = code(answer, at);
        }
    }
    exchange.reply::<OffsetDeleteRequest>(&deleting.response)
}
