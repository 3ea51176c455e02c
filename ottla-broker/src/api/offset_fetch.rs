//! `OffsetFetch`.

use ottla_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use ottla_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use ottla_protocol::{ErrorCode, Str, TopicId};

use super::group_wait::{GroupWait, Pending, error};
use super::{TopicRef, text};
use crate::coordinator::{Answer, Ask, Reply};
use crate::image::Image;
use crate::io::Now;
use crate::node::{Exchange, Node, Outcome, Waiting};

/// An error of the group has a place of its own; before, every partition had it.
const FIRST_VERSION_WITH_ERROR: i16 = 2;

/// Several groups at once (KIP-709).
const FIRST_VERSION_WITH_GROUPS: i16 = 8;

/// Topics are named by id (KIP-848).
const FIRST_VERSION_WITH_TOPIC_IDS: i16 = 10;

/// The groups whose offsets are asked for, as the client named their topics.
#[derive(Debug)]
pub(super) struct Fetching(Vec<OffsetFetchRequestGroup>);

pub(super) fn offset_fetch(
    node: &mut Node,
    _: Now,
    exchange: &Exchange,
    request: OffsetFetchRequest,
) -> Outcome {
    let require_stable = request.require_stable;
    let groups = groups(exchange.version, request);
    if groups.is_empty() {
        return reply(exchange, Vec::new());
    }
    let ask = |group: &OffsetFetchRequestGroup| {
        let known = known(&node.image, exchange.version, group);
        (group.group_id.clone(), Ask::Fetch { group: known, require_stable })
    };
    let asks = groups.iter().map(ask).collect();
    Outcome::Wait(Waiting::Group(GroupWait::new(asks, Pending::Fetch(Fetching(groups)))))
}

/// What is asked for, in the form of the newest version.
fn groups(version: i16, request: OffsetFetchRequest) -> Vec<OffsetFetchRequestGroup> {
    if version >= FIRST_VERSION_WITH_GROUPS {
        return request.groups;
    }
    let topic = |topic: ottla_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic| {
        let (name, partition_indexes) = (topic.name, topic.partition_indexes);
        OffsetFetchRequestTopics { name, partition_indexes, ..OffsetFetchRequestTopics::default() }
    };
    let topics = request.topics.map(|topics| topics.into_iter().map(topic).collect());
    vec![OffsetFetchRequestGroup { group_id: request.group_id, topics, ..OffsetFetchRequestGroup::default() }]
}

/// The group with both the name and the id of each topic that exists.
fn known(image: &Image, version: i16, group: &OffsetFetchRequestGroup) -> OffsetFetchRequestGroup {
    let mut group = group.clone();
    for topic in group.topics.iter_mut().flatten() {
        let named = TopicRef::new(version >= FIRST_VERSION_WITH_TOPIC_IDS, &topic.name, topic.topic_id);
        if let Ok(found) = named.find(image) {
            topic.name = text(&found.name);
            topic.topic_id = found.id;
        }
    }
    group
}

pub(super) fn fetched(
    node: &Node,
    exchange: &Exchange,
    fetching: &mut Fetching,
    answers: Vec<Answer>,
) -> Outcome {
    let answered = |(group, answer): (OffsetFetchRequestGroup, Answer)| match answer {
        Ok(Reply::Offsets(topics)) => OffsetFetchResponseGroup {
            topics: named(&node.image, exchange.version, &group, topics),
            group_id: group.group_id,
            error_code: ErrorCode::NONE,
        },
        other => failed(exchange.version, group, error(&other)),
    };
    reply(exchange, std::mem::take(&mut fetching.0).into_iter().zip(answers).map(answered).collect())
}

/// The topics as the version names them. One that is named by an id that no topic has fails; where all are wanted,
/// those that were deleted are left out.
fn named(
    image: &Image,
    version: i16,
    group: &OffsetFetchRequestGroup,
    mut topics: Vec<OffsetFetchResponseTopics>,
) -> Vec<OffsetFetchResponseTopics> {
    let by_id = version >= FIRST_VERSION_WITH_TOPIC_IDS;
    if group.topics.is_none() {
        topics.retain(|topic| image.topic_by_id(topic.topic_id).is_some());
    }
    for topic in &mut topics {
        if by_id && image.topic_by_id(topic.topic_id).is_none() {
            for partition in &mut topic.partitions {
                partition.error_code = ErrorCode::UNKNOWN_TOPIC_ID;
            }
        }
        if !by_id {
            topic.topic_id = TopicId::ZERO;
        }
    }
    topics
}

fn failed(version: i16, group: OffsetFetchRequestGroup, error_code: ErrorCode) -> OffsetFetchResponseGroup {
    if version >= FIRST_VERSION_WITH_ERROR {
        return OffsetFetchResponseGroup { group_id: group.group_id, topics: Vec::new(), error_code };
    }
    let topics = group.topics.iter().flatten().map(|topic| nowhere(topic, error_code)).collect();
    OffsetFetchResponseGroup { group_id: group.group_id, topics, error_code }
}

fn nowhere(topic: &OffsetFetchRequestTopics, error_code: ErrorCode) -> OffsetFetchResponseTopics {
    let partition = |index: &i32| OffsetFetchResponsePartitions {
        partition_index: *index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(Str::EMPTY),
        error_code,
    };
    OffsetFetchResponseTopics {
        name: topic.name.clone(),
        topic_id: topic.topic_id,
        partitions: topic.partition_indexes.iter().map(partition).collect(),
    }
}

fn reply(exchange: &Exchange, groups: Vec<OffsetFetchResponseGroup>) -> Outcome {
    let throttle_time_ms = exchange.throttle_time_ms;
    let mut response = OffsetFetchResponse { throttle_time_ms, ..OffsetFetchResponse::default() };
    if exchange.version >= FIRST_VERSION_WITH_GROUPS {
        response.groups = groups;
    } else if let Some(only) = groups.into_iter().next() {
        response.error_code = only.error_code;
        response.topics = only.topics.into_iter().map(of_one_group).collect();
    }
    exchange.reply::<OffsetFetchRequest>(&response)
}

fn of_one_group(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partition = |one: OffsetFetchResponsePartitions| OffsetFetchResponsePartition {
        partition_index: one.partition_index,
        committed_offset: one.committed_offset,
        committed_leader_epoch: one.committed_leader_epoch,
        metadata: one.metadata,
        error_code: one.error_code,
    };
    OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    }
}
