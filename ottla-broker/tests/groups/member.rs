//! A member as a value: who it says it is. It keeps no connection, and nothing of it lives on at the broker by itself.

use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::{
    ConsumerProtocolSubscription, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest,
    SyncGroupRequest,
};
use ottla_protocol::{ErrorCode, Str, frame::encode_versioned};

use crate::broker::Topic;
use crate::client::Parked;
use crate::group::Group;

/// Longer than any test.
const LONG: Duration = Duration::from_secs(120);
/// The session of a member that is to be given up.
pub(crate) const SHORT: Duration = Duration::from_millis(500);

/// The type of consumers' groups.
pub(crate) const CONSUMER: &str = "consumer";

/// From this version on a dynamic member is given an id and asked to come back with it (KIP-394).
const MEMBER_ID_REQUIRED_FROM: i16 = 4;

/// What a member asks for when it joins.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    /// Of JoinGroup.
    pub(crate) version: i16,
    session: Duration,
    rebalance: Duration,
    instance: Option<Str>,
    kind: Str,
    protocols: Vec<(Str, Bytes)>,
}

/// A consumer with the protocol `range`, with time.
pub(crate) fn dynamic() -> Profile {
    Profile {
        version: 9,
        session: LONG,
        rebalance: LONG,
        instance: None,
        kind: Str::from(CONSUMER),
        protocols: vec![(Str::from("range"), subscription(&[]))],
    }
}

/// The same with a `group.instance.id` (KIP-345).
pub(crate) fn named(instance: &str) -> Profile {
    Profile { instance: Some(Str::from(instance)), ..dynamic() }
}

/// What a consumer says that it wants to read.
pub(crate) fn subscription(topics: &[&Str]) -> Bytes {
    let topics = topics.iter().map(|topic| (*topic).clone()).collect();
    let subscription = ConsumerProtocolSubscription { topics, ..Default::default() };
    encode_versioned(1, &subscription).expect("it can be said")
}

impl Profile {
    pub(crate) fn version(self, version: i16) -> Self {
        Self { version, ..self }
    }

    pub(crate) fn session(self, session: Duration) -> Self {
        Self { session, ..self }
    }

    pub(crate) fn rebalance(self, rebalance: Duration) -> Self {
        Self { rebalance, ..self }
    }

    /// Another protocol type than `consumer`.
    pub(crate) fn kind(self, kind: &str) -> Self {
        Self { kind: Str::from(kind), ..self }
    }

    /// These protocols, each with its name as metadata.
    pub(crate) fn protocols(self, names: &[&str]) -> Self {
        let protocol = |name: &&str| (Str::from(*name), Bytes::from((*name).to_owned()));
        Self { protocols: names.iter().map(protocol).collect(), ..self }
    }

    /// The protocol `range` with this metadata.
    pub(crate) fn metadata(self, metadata: impl Into<Bytes>) -> Self {
        Self { protocols: vec![(Str::from("range"), metadata.into())], ..self }
    }

    pub(crate) fn is_asked_to_return(&self) -> bool {
        self.instance.is_none() && self.version >= MEMBER_ID_REQUIRED_FROM
    }

    pub(crate) fn join_request(&self, group: &Str, member_id: &str) -> JoinGroupRequest {
        let protocol = |(name, metadata): &(Str, Bytes)| JoinGroupRequestProtocol {
            name: name.clone(),
            metadata: metadata.clone(),
        };
        JoinGroupRequest {
            group_id: group.clone(),
            session_timeout_ms: self.session.as_millis() as i32,
            rebalance_timeout_ms: self.rebalance.as_millis() as i32,
            member_id: Str::from(member_id),
            group_instance_id: self.instance.clone(),
            protocol_type: self.kind.clone(),
            protocols: self.protocols.iter().map(protocol).collect(),
            reason: None,
        }
    }
}

/// Who a member says it is.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) group: Group,
    pub(crate) profile: Profile,
    pub(crate) id: Str,
    pub(crate) generation: i32,
}

impl Member {
    /// The same with an id that it does not have.
    pub(crate) fn with_id(&self, id: &str) -> Self {
        Self { id: Str::from(id), ..self.clone() }
    }

    pub(crate) fn with_generation(&self, generation: i32) -> Self {
        Self { generation, ..self.clone() }
    }

    pub(crate) fn with_instance(&self, instance: &str) -> Self {
        let profile = Profile { instance: Some(Str::from(instance)), ..self.profile.clone() };
        self.with_profile(profile)
    }

    pub(crate) fn with_profile(&self, profile: Profile) -> Self {
        Self { profile, ..self.clone() }
    }

    /// What the leader of [`Group::stable`] assigns to it.
    pub(crate) fn share(&self) -> Bytes {
        Bytes::from(format!("for {}", self.id))
    }

    /// Sends a JoinGroup with its own id.
    pub(crate) async fn rejoin(&self) -> Parked<JoinGroupRequest> {
        self.group.join(&self.profile, &self.id).await
    }

    pub(crate) fn sync_request(&self, assignments: &[(Str, Bytes)]) -> SyncGroupRequest {
        let assignment = |(member_id, assignment): &(Str, Bytes)| SyncGroupRequestAssignment {
            member_id: member_id.clone(),
            assignment: assignment.clone(),
        };
        SyncGroupRequest {
            group_id: self.group.id.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            group_instance_id: self.profile.instance.clone(),
            protocol_type: Some(self.profile.kind.clone()),
            protocol_name: self.profile.protocols.first().map(|(name, _)| name.clone()),
            assignments: assignments.iter().map(assignment).collect(),
        }
    }

    /// Sends a SyncGroup.
    pub(crate) async fn sync(&self, assignments: &[(Str, Bytes)]) -> Parked<SyncGroupRequest> {
        self.group.send(5, &self.sync_request(assignments)).await
    }

    /// Sends a SyncGroup that is answered at once.
    pub(crate) async fn synced(&self) -> ErrorCode {
        self.sync(&[]).await.answer().await.error_code
    }

    pub(crate) async fn heartbeat(&self) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: self.group.id.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            group_instance_id: self.profile.instance.clone(),
        };
        self.group.call(4, &request).await.error_code
    }

    /// Leaves, and gives what is said about this member.
    pub(crate) async fn leave(&self) -> ErrorCode {
        let request = LeaveGroupRequest {
            group_id: self.group.id.clone(),
            members: vec![self.identity()],
            ..Default::default()
        };
        let left = self.group.call(5, &request).await;
        assert_eq!(left.error_code, ErrorCode::NONE);
        left.members[0].error_code
    }

    pub(crate) fn identity(&self) -> MemberIdentity {
        MemberIdentity {
            member_id: self.id.clone(),
            group_instance_id: self.profile.instance.clone(),
            reason: None,
        }
    }

    pub(crate) fn commit_request(&self, offsets: &[(&Topic, i32, i64)]) -> OffsetCommitRequest {
        let topic =
            |(topic, partition_index, committed_offset): &(&Topic, i32, i64)| OffsetCommitRequestTopic {
                name: topic.name.clone(),
                topic_id: topic.id,
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index: *partition_index,
                    committed_offset: *committed_offset,
                    ..OffsetCommitRequestPartition::default()
                }],
            };
        OffsetCommitRequest {
            group_id: self.group.id.clone(),
            generation_id_or_member_epoch: self.generation,
            member_id: self.id.clone(),
            group_instance_id: self.profile.instance.clone(),
            topics: offsets.iter().map(topic).collect(),
            ..OffsetCommitRequest::default()
        }
    }

    /// Commits an offset of partition 0.
    pub(crate) async fn commit(&self, topic: &Topic, offset: i64) -> ErrorCode {
        let committed = self.group.call(9, &self.commit_request(&[(topic, 0, offset)])).await;
        committed.topics[0].partitions[0].error_code
    }
}
