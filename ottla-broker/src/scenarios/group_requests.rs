//! The requests of group members, in short forms.

use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::messages::delete_topics_request::DeleteTopicState;
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::{
    DeleteTopicsRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use ottla_protocol::{ErrorCode, Str};

use super::harness::{Client, Cluster};
use crate::io::NodeId;

pub(crate) const JOIN: i16 = 9;
pub(crate) const SYNC: i16 = 5;
pub(crate) const GROUP: &str = "g";

/// A member of the group `g`, with a connection of its own to the coordinator.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) client: Client,
    pub(crate) id: Str,
    pub(crate) generation: i32,
    pub(crate) instance_id: Option<Str>,
}

pub(crate) fn join_request(member: &Member) -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: GROUP.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 20_000,
        member_id: member.id.clone(),
        group_instance_id: member.instance_id.clone(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff"),
        }],
        reason: None,
    }
}

pub(crate) fn sync_request(member: &Member, assignments: &[(&Str, &'static str)]) -> SyncGroupRequest {
    let assignment = |(id, assignment): &(&Str, &'static str)| SyncGroupRequestAssignment {
        member_id: (*id).clone(),
        assignment: Bytes::from_static(assignment.as_bytes()),
    };
    SyncGroupRequest {
        group_id: GROUP.into(),
        generation_id: member.generation,
        member_id: member.id.clone(),
        group_instance_id: member.instance_id.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: assignments.iter().map(assignment).collect(),
    }
}

pub(crate) fn commit_request(member: &Member, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: offset,
        ..OffsetCommitRequestPartition::default()
    };
    let topic =
        OffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition], ..Default::default() };
    OffsetCommitRequest {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: member.generation,
        member_id: member.id.clone(),
        group_instance_id: member.instance_id.clone(),
        topics: vec![topic],
        ..OffsetCommitRequest::default()
    }
}

pub(crate) fn heartbeat_request(member: &Member) -> HeartbeatRequest {
    HeartbeatRequest {
        group_id: GROUP.into(),
        generation_id: member.generation,
        member_id: member.id.clone(),
        group_instance_id: member.instance_id.clone(),
    }
}

pub(crate) fn leave_request(member: &Member) -> LeaveGroupRequest {
    let members = vec![MemberIdentity { member_id: member.id.clone(), ..MemberIdentity::default() }];
    LeaveGroupRequest { group_id: GROUP.into(), members, ..Default::default() }
}

pub(crate) fn fetch_request(require_stable: bool) -> OffsetFetchRequest {
    let topics = vec![OffsetFetchRequestTopics {
        name: "t".into(),
        partition_indexes: vec![0],
        ..OffsetFetchRequestTopics::default()
    }];
    let group =
        OffsetFetchRequestGroup { group_id: GROUP.into(), topics: Some(topics), ..Default::default() };
    OffsetFetchRequest { groups: vec![group], require_stable, ..Default::default() }
}

pub(crate) fn fetched(response: &OffsetFetchResponse) -> Result<i64, ErrorCode> {
    let group = &response.groups[0];
    match group.error_code {
        ErrorCode::NONE => Ok(group.topics[0].partitions[0].committed_offset),
        error => Err(error),
    }
}

impl Cluster {
    /// The node that looks after the group, which is waited for.
    pub(crate) fn coordinator(&mut self) -> NodeId {
        let node = self.any_client().node;
        self.coordinator_known_to(node)
    }

    /// The node that the controller has chosen to look after the group.
    pub(crate) fn group_leader(&self) -> Option<NodeId> {
        crate::node::coordinator_of(self.image(), GROUP)
    }

    /// The same, as one node knows it.
    pub(crate) fn coordinator_known_to(&mut self, node: NodeId) -> NodeId {
        let request = FindCoordinatorRequest { coordinator_keys: vec![GROUP.into()], ..Default::default() };
        for _ in 0..100 {
            let client = self.connect(node);
            let found = self.call(client, 6, &request).coordinators.remove(0);
            if found.error_code.is_ok() {
                return found.node_id;
            }
            self.advance(Duration::from_millis(100));
        }
        panic!("no coordinator");
    }

    /// A member that has its id, and has not joined yet.
    pub(crate) fn member(&mut self) -> Member {
        let coordinator = self.coordinator();
        let client = self.connect(coordinator);
        let mut member = Member { client, id: Str::EMPTY, generation: -1, instance_id: None };
        let response = self.call(client, JOIN, &join_request(&member));
        assert_eq!(response.error_code, ErrorCode::MEMBER_ID_REQUIRED);
        member.id = response.member_id;
        member
    }

    /// A static member, which has not joined yet.
    pub(crate) fn static_member(&mut self, instance_id: &str) -> Member {
        let coordinator = self.coordinator();
        let client = self.connect(coordinator);
        Member { client, id: Str::EMPTY, generation: -1, instance_id: Some(instance_id.into()) }
    }

    pub(crate) fn send_join(&mut self, member: &Member) {
        self.send(member.client, JOIN, &join_request(member));
    }

    /// The answer to a join, which must have come.
    pub(crate) fn joined(&mut self, member: &mut Member) -> JoinGroupResponse {
        let response = self.reply::<JoinGroupRequest>(member.client, JOIN).expect("an answer to the join");
        if response.error_code.is_ok() {
            member.id = response.member_id.clone();
            member.generation = response.generation_id;
        }
        response
    }

    pub(crate) fn join(&mut self, member: &mut Member) -> JoinGroupResponse {
        self.send_join(member);
        self.advance(Duration::from_millis(1));
        self.joined(member)
    }

    pub(crate) fn sync(
        &mut self,
        member: &Member,
        assignments: &[(&Str, &'static str)],
    ) -> SyncGroupResponse {
        self.call(member.client, SYNC, &sync_request(member, assignments))
    }

    /// A member that is alone in the group, which is stable.
    pub(crate) fn only_member(&mut self) -> Member {
        let mut member = self.member();
        let response = self.join(&mut member);
        assert!(response.error_code.is_ok(), "{response:?}");
        let response = self.sync(&member, &[(&member.id, "all")]);
        assert_eq!((response.error_code, &response.assignment[..]), (ErrorCode::NONE, &b"all"[..]));
        member
    }

    pub(crate) fn heartbeat(&mut self, member: &Member) -> ErrorCode {
        self.call(member.client, 4, &heartbeat_request(member)).error_code
    }

    pub(crate) fn leave(&mut self, member: &Member) -> ErrorCode {
        let response = self.call(member.client, 5, &leave_request(member));
        assert!(response.error_code.is_ok(), "{response:?}");
        response.members[0].error_code
    }

    /// Commits an offset of partition 0 of the topic `t`.
    pub(crate) fn commit(&mut self, member: &Member, offset: i64) -> ErrorCode {
        let response = self.call(member.client, 9, &commit_request(member, offset));
        response.topics[0].partitions[0].error_code
    }

    pub(crate) fn delete(&mut self, topic: &str) {
        let topics = vec![DeleteTopicState { name: Some(topic.into()), ..DeleteTopicState::default() }];
        let request = DeleteTopicsRequest { topics, timeout_ms: 1000, ..DeleteTopicsRequest::default() };
        let client = self.any_client();
        let response = self.call(client, 6, &request);
        assert!(response.responses[0].error_code.is_ok(), "{response:?}");
    }

    /// The committed offset of partition 0 of the topic `t`.
    pub(crate) fn committed(&mut self) -> Result<i64, ErrorCode> {
        let coordinator = self.coordinator();
        self.committed_at(coordinator)
    }

    /// The same, from a node that need not be the coordinator.
    pub(crate) fn committed_at(&mut self, node: NodeId) -> Result<i64, ErrorCode> {
        self.fetch_offset(node, true)
    }

    pub(crate) fn fetch_offset(&mut self, node: NodeId, stable: bool) -> Result<i64, ErrorCode> {
        let client = self.connect(node);
        fetched(&self.call(client, 9, &fetch_request(stable)))
    }
}
