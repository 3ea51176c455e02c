//! `OffsetFetch`.

use ottla_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use ottla_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use ottla_protocol::{ErrorCode, Str};

use super::group_wait::{GroupWait, Pending, error};
use super::text;
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

/// The group with names for the topics that it names by id; those that do not exist are left out.
fn known(image: &Image, version: i16, group: &OffsetFetchRequestGroup) -> OffsetFetchRequestGroup {
    let mut group = group.clone();
    if version >= FIRST_VERSION_WITH_TOPIC_IDS
        && let Some(topics) = &mut group.topics
    {
        topics.retain_mut(|topic| match image.topic_by_id(topic.topic_id) {
            Some(found) => {
                topic.name = text(&found.name);
                true
            }
            None => false,
        });
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
            topics: with_ids(&node.image, exchange.version, &group, topics),
            group_id: group.group_id,
            error_code: ErrorCode::NONE,
        },
        other => failed(exchange.version, group, error(&other)),
    };
    reply(exchange, std::mem::take(&mut fetching.0).into_iter().zip(answers).map(answered).collect())
}

/// With the ids of the topics: those that do not exist have none and fail, or are left out where all are wanted.
fn with_ids(
    image: &Image,
    version: i16,
    group: &OffsetFetchRequestGroup,
    mut found: Vec<OffsetFetchResponseTopics>,
) -> Vec<OffsetFetchResponseTopics> {
    if version < FIRST_VERSION_WITH_TOPIC_IDS {
        return found;
    }
    let Some(wanted) = &group.topics else {
        found.retain_mut(|topic| {
            topic.topic_id = image.topic(&topic.name).map(|found| found.id).unwrap_or_default();
            !topic.topic_id.is_zero()
        });
        return found;
    };
    let unknown = |topic: &OffsetFetchRequestTopics| nowhere(topic, ErrorCode::UNKNOWN_TOPIC_ID);
    let mut found = found.into_iter().peekable();
    let topic = |topic: &OffsetFetchRequestTopics| {
        found.next_if(|found| found.topic_id == topic.topic_id).unwrap_or_else(|| unknown(topic))
    };
    wanted.iter().map(topic).collect()
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
