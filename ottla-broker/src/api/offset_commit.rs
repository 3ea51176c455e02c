//! `OffsetCommit`.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use ottla_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use ottla_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::group_wait::{GroupWait, Pending, error};
use super::text;
use crate::coordinator::{Answer, Ask, Commit, CommitPartition, Reply};
use crate::image::{Image, Topic};
use crate::io::Now;
use crate::node::{Exchange, Node, Outcome, Waiting};

/// A group that does not exist is named as such; before, it was told as a wrong generation.
const FIRST_VERSION_WITH_GROUP_ID_NOT_FOUND: i16 = 9;

/// Topics are named by id (KIP-848).
const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 10;

/// A response that waits for the codes of some of its partitions.
#[derive(Debug)]
pub(super) struct Committing {
    response: OffsetCommitResponse,
    /// The places of the partitions that exist.
    places: Vec<(usize, usize)>,
}

pub(super) fn offset_commit(
    node: &mut Node,
    _: Now,
    exchange: &Exchange,
    request: OffsetCommitRequest,
) -> Outcome {
    let throttle_time_ms = exchange.throttle_time_ms;
    let mut committing = Committing {
        response: OffsetCommitResponse { throttle_time_ms, topics: Vec::with_capacity(request.topics.len()) },
        places: Vec::new(),
    };
    let mut partitions = Vec::new();
    for topic in &request.topics {
        let found = find(&node.image, exchange.version, topic);
        committing.add(topic, found, &mut partitions);
    }
    if partitions.is_empty() {
        return exchange.reply::<OffsetCommitRequest>(&committing.response);
    }
    let commit = Commit {
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id_or_member_epoch,
        unknown_group: if exchange.version >= FIRST_VERSION_WITH_GROUP_ID_NOT_FOUND {
            ErrorCode::GROUP_ID_NOT_FOUND
        } else {
            ErrorCode::ILLEGAL_GENERATION
        },
        partitions,
    };
    node.watch_commit(exchange, &request.group_id, &commit);
    let asks = vec![(request.group_id, Ask::Commit(commit))];
    Outcome::Wait(Waiting::Group(GroupWait::new(asks, Pending::Commit(committing))))
}

pub(super) fn committed(exchange: &Exchange, committing: &mut Committing, answer: &Answer) -> Outcome {
    for (at, &(topic, partition)) in committing.places.iter().enumerate() {
        let topic = committing.response.topics.get_mut(topic);
        if let Some(place) = topic.and_then(|topic| topic.partitions.get_mut(partition)) {
            place.error_code = code(answer, at);
        }
    }
    exchange.reply::<OffsetCommitRequest>(&committing.response)
}

/// The code of a partition in an answer that has one for each.
pub(super) fn code(answer: &Answer, at: usize) -> ErrorCode {
    match answer {
        Ok(Reply::Partitions(codes)) => codes.get(at).copied().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR),
        other => error(other),
    }
}

fn find<'a>(
    image: &'a Image,
    version: i16,
    topic: &OffsetCommitRequestTopic,
) -> Result<&'a Topic, ErrorCode> {
    if version >= FIRST_VERSION_WITH_TOPIC_IDS {
        return image.topic_by_id(topic.topic_id).map(|found| &**found).ok_or(ErrorCode::UNKNOWN_TOPIC_ID);
    }
    image.topic(&topic.name).map(|found| &**found).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

impl Committing {
    /// Answers for what does not exist, and adds what does to what is to be committed.
    fn add(
        &mut self,
        topic: &OffsetCommitRequestTopic,
        found: Result<&Topic, ErrorCode>,
        partitions: &mut Vec<CommitPartition>,
    ) {
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for one in &topic.partitions {
            let there = found.and_then(|found| match found.partition(one.partition_index) {
                Some(_) => Ok(found),
                None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            });
            if let Ok(found) = there {
                self.places.push((self.response.topics.len(), answers.len()));
                partitions.push(CommitPartition {
                    topic: text(&found.name),
                    topic_id: found.id,
                    partition: one.partition_index,
                    offset: one.committed_offset,
                    leader_epoch: one.committed_leader_epoch,
                    metadata: one.committed_metadata.clone(),
                });
            }
            answers.push(OffsetCommitResponsePartition {
                partition_index: one.partition_index,
                error_code: there.err().unwrap_or(ErrorCode::NONE),
            });
        }
        self.response.topics.push(OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: answers,
        });
    }
}
