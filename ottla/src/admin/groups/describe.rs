//! What groups do, and who is in them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ottla_protocol::{
    Decoder, ErrorCode, Message, Str,
    messages::{
        ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerProtocolAssignment,
        DescribeGroupsRequest, DescribeGroupsResponse, consumer_group_describe_response,
        describe_groups_response::{DescribedGroup, DescribedGroupMember},
    },
};

use super::{GroupState, GroupType};
use crate::{
    Error, Result, TopicPartition,
    admin::{
        PerItem,
        coordinators::ask_coordinators,
        items::Answers,
        request::{awaited, check},
    },
    client::Shared,
    net::Connection,
};

/// What members that are consumers call their protocol.
const CONSUMER: &str = "consumer";

/// A group and its members.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDescription {
    /// What it does.
    pub state: GroupState,
    /// What its members speak.
    pub group_type: GroupType,
    /// What its members have in common: `consumer` for consumers; empty when it never had any.
    pub protocol_type: String,
    /// The assignor that its members agreed on, as `cooperative-sticky`; none while they have not.
    pub assignor: Option<String>,
    /// The broker that coordinates it.
    pub coordinator: Node,
    /// Ordered by client id, then by member id.
    pub members: Vec<MemberDescription>,
}

/// A broker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Its id.
    pub id: i32,
    /// Host and port that clients connect to.
    pub address: String,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberDescription {
    /// What the coordinator calls it.
    pub member_id: String,
    /// What a static member calls itself (KIP-345).
    pub instance_id: Option<String>,
    /// The client's name.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// The partitions that it has, in order; none when members of this group are no consumers, or tell it in a form that
    /// this version does not know.
    pub assignment: Option<Vec<TopicPartition>>,
}

/// A request of [`Admin::describe_groups`](crate::Admin::describe_groups).
///
/// # Errors
/// When no coordinator can be reached in time. Of one group: `GROUP_ID_NOT_FOUND` when there is none of that name, also
/// from brokers that call such a group dead (KIP-1043).
///
/// # Cancel safety
/// Nothing changes when the future is dropped.
#[derive(Clone)]
#[must_use = "a request is sent when it is awaited"]
pub struct DescribeGroups {
    shared: Arc<Shared>,
    groups: Vec<String>,
    timeout: Option<Duration>,
}

impl DescribeGroups {
    pub(in crate::admin) fn new(shared: &Arc<Shared>, groups: Vec<String>) -> Self {
        Self { shared: shared.clone(), groups, timeout: None }
    }

    /// The bound of it all, in place of `default.api.timeout.ms`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(self) -> Result<PerItem<String, GroupDescription>> {
        ask_coordinators(&self.shared, "describe groups", self.timeout, self.groups, describe).await
    }
}

async fn describe(
    connection: Connection,
    groups: Vec<String>,
    left: Duration,
) -> Result<Answers<String, GroupDescription>> {
    let mut answers = describe_classic(&connection, &groups, left).await?;
    let is_missing = |answer: &Result<GroupDescription>| {
        answer.as_ref().is_err_and(|error| error.broker_code() == Some(ErrorCode::GROUP_ID_NOT_FOUND))
    };
    let missing: Vec<_> = answers.iter().filter(|(_, answer)| is_missing(answer)).collect();
    let missing = missing.into_iter().map(|(group, _)| group.clone()).collect();
    // Groups of the newer protocol are unknown to DescribeGroups.
    answers.extend(
        describe_consumer(&connection, missing, left)
            .await?
            .into_iter()
            .filter(|(_, answer)| !is_missing(answer)),
    );
    Ok(answers)
}

async fn describe_classic(
    connection: &Connection,
    groups: &[String],
    left: Duration,
) -> Result<Answers<String, GroupDescription>> {
    let version = connection.version::<DescribeGroupsRequest>(0..=i16::MAX)?;
    let request = DescribeGroupsRequest { groups: names(groups), include_authorized_operations: false };
    let response: DescribeGroupsResponse = connection.call(&request, version, left).await?;
    Ok(response.groups.iter().map(|told| (told.group_id.to_string(), classic(connection, told))).collect())
}

fn classic(connection: &Connection, told: &DescribedGroup) -> Result<GroupDescription> {
    let what = || format!("describe group {}", told.group_id);
    check(told.error_code, told.error_message.as_ref(), what)?;
    let state = GroupState::from(&*told.group_state);
    if state == GroupState::Dead && told.members.is_empty() {
        return Err(Error::broker(ErrorCode::GROUP_ID_NOT_FOUND, what()));
    }
    let is_consumer = &*told.protocol_type == CONSUMER;
    let member = |told: &DescribedGroupMember| MemberDescription {
        member_id: told.member_id.to_string(),
        instance_id: told.group_instance_id.as_ref().map(ToString::to_string),
        client_id: told.client_id.to_string(),
        host: told.client_host.to_string(),
        assignment: if is_consumer { assignment(&told.member_assignment) } else { None },
    };
    Ok(GroupDescription {
        state,
        group_type: GroupType::Classic,
        protocol_type: told.protocol_type.to_string(),
        assignor: Some(told.protocol_data.to_string()).filter(|name| !name.is_empty()),
        coordinator: node(connection),
        members: in_order(told.members.iter().map(member)),
    })
}

/// What a leader told a member, in the newest form that both know (`ConsumerProtocol`).
fn assignment(told: &Bytes) -> Option<Vec<TopicPartition>> {
    if told.is_empty() {
        return Some(Vec::new());
    }
    let mut input = Decoder::new(told.clone());
    let version = input.get_i16("version").ok()?.min(*ConsumerProtocolAssignment::VERSIONS.end());
    let read = ConsumerProtocolAssignment::decode(version, &mut input).ok()?;
    let topics = read.assigned_partitions.iter().map(|topic| (&topic.topic, topic.partitions.as_slice()));
    Some(partitions(topics))
}

/// The same by KIP-848, for brokers that know it.
async fn describe_consumer(
    connection: &Connection,
    groups: Vec<String>,
    left: Duration,
) -> Result<Answers<String, GroupDescription>> {
    let Ok(version) = connection.versions().choose::<ConsumerGroupDescribeRequest>(&(0..=i16::MAX)) else {
        return Ok(Answers::new());
    };
    if groups.is_empty() {
        return Ok(Answers::new());
    }
    let request =
        ConsumerGroupDescribeRequest { group_ids: names(&groups), include_authorized_operations: false };
    let response: ConsumerGroupDescribeResponse = connection.call(&request, version, left).await?;
    Ok(response.groups.iter().map(|told| (told.group_id.to_string(), consumer(connection, told))).collect())
}

fn consumer(
    connection: &Connection,
    told: &consumer_group_describe_response::DescribedGroup,
) -> Result<GroupDescription> {
    check(told.error_code, told.error_message.as_ref(), || format!("describe group {}", told.group_id))?;
    let member = |told: &consumer_group_describe_response::Member| {
        let topics = told.assignment.topic_partitions.iter();
        MemberDescription {
            member_id: told.member_id.to_string(),
            instance_id: told.instance_id.as_ref().map(ToString::to_string),
            client_id: told.client_id.to_string(),
            host: told.client_host.to_string(),
            assignment: Some(partitions(
                topics.map(|topic| (&topic.topic_name, topic.partitions.as_slice())),
            )),
        }
    };
    Ok(GroupDescription {
        state: GroupState::from(&*told.group_state),
        group_type: GroupType::Consumer,
        protocol_type: CONSUMER.to_owned(),
        assignor: Some(told.assignor_name.to_string()).filter(|name| !name.is_empty()),
        coordinator: node(connection),
        members: in_order(told.members.iter().map(member)),
    })
}

fn names(groups: &[String]) -> Vec<Str> {
    groups.iter().map(|group| Str::from(group.as_str())).collect()
}

fn node(connection: &Connection) -> Node {
    Node { id: connection.node_id(), address: connection.address().to_owned() }
}

fn partitions<'a>(topics: impl Iterator<Item = (&'a Str, &'a [i32])>) -> Vec<TopicPartition> {
    let mut partitions: Vec<_> = topics
        .flat_map(|(topic, partitions)| {
            let topic: Arc<str> = Arc::from(&**topic);
            partitions.iter().map(move |number| TopicPartition::new(topic.clone(), *number))
        })
        .collect();
    partitions.sort();
    partitions
}

fn in_order(members: impl Iterator<Item = MemberDescription>) -> Vec<MemberDescription> {
    let mut members: Vec<_> = members.collect();
    members.sort_by(|a, b| (&a.client_id, &a.member_id).cmp(&(&b.client_id, &b.member_id)));
    members
}

awaited! {
    DescribeGroups => PerItem<String, GroupDescription>,
}
