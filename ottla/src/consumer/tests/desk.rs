//! A scripted coordinator of a group with one member.

use std::{collections::BTreeMap, sync::Arc};

use ottla_protocol::{
    ApiKey, ErrorCode, RequestFrame,
    messages::{
        FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest, HeartbeatResponse,
        JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, OffsetCommitRequest,
        OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest, SyncGroupResponse,
        find_coordinator_response::Coordinator,
        join_group_response::JoinGroupResponseMember,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
        },
    },
};
use tokio::time::Instant;

use crate::scripted::{DecodeBody, Reply, address, answer};

/// What the coordinator does, and what it was asked.
#[derive(Default)]
pub(in crate::consumer) struct Desk {
    /// It answers nothing.
    pub(in crate::consumer) silent: bool,
    /// It does not answer these.
    pub(in crate::consumer) parks: Vec<ApiKey>,
    /// What heartbeats are answered with.
    pub(in crate::consumer) verdict: ErrorCode,
    /// When each kind of request came.
    pub(in crate::consumer) asked: BTreeMap<ApiKey, Vec<Instant>>,
    /// What is committed, by partition.
    pub(in crate::consumer) committed: BTreeMap<i32, i64>,
    /// The node that brokers name as the coordinator; any that is asked acts as it.
    pub(in crate::consumer) node: i32,
    generation: i32,
    members: i32,
    /// The metadata of its member, which is also the leader.
    metadata: bytes::Bytes,
}

impl Desk {
    pub(in crate::consumer) fn count(&self, api: ApiKey) -> usize {
        self.asked.get(&api).map_or(0, Vec::len)
    }

    /// `None`: that is not for a coordinator.
    pub(super) fn serve(&mut self, request: &mut RequestFrame) -> Option<Reply> {
        let api = request.api_key;
        let reply = match api {
            ApiKey::FIND_COORDINATOR => found(request, self.node),
            ApiKey::JOIN_GROUP => self.join(request),
            ApiKey::SYNC_GROUP => sync(request),
            ApiKey::HEARTBEAT => self.heartbeat(request),
            ApiKey::LEAVE_GROUP => answer::<LeaveGroupRequest>(request, &LeaveGroupResponse::default()),
            ApiKey::OFFSET_FETCH => self.fetch(request),
            ApiKey::OFFSET_COMMIT => self.commit(request),
            _ => return None,
        };
        self.asked.entry(api).or_default().push(Instant::now());
        let parked = self.silent || self.parks.contains(&api);
        Some(if parked { Reply::Nothing } else { reply })
    }

    fn join(&mut self, frame: &mut RequestFrame) -> Reply {
        let request = JoinGroupRequest::decode_body(frame);
        if request.member_id.is_empty() {
            self.members += 1;
            let response = JoinGroupResponse {
                error_code: ErrorCode::MEMBER_ID_REQUIRED,
                member_id: format!("member-{}", self.members).as_str().into(),
                ..Default::default()
            };
            return answer::<JoinGroupRequest>(frame, &response);
        }
        self.generation += 1;
        self.metadata = request.protocols[0].metadata.clone();
        let member = JoinGroupResponseMember {
            member_id: request.member_id.clone(),
            group_instance_id: None,
            metadata: self.metadata.clone(),
        };
        let response = JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: Some("consumer".into()),
            protocol_name: Some(request.protocols[0].name.clone()),
            leader: request.member_id.clone(),
            member_id: request.member_id,
            members: vec![member],
            ..Default::default()
        };
        answer::<JoinGroupRequest>(frame, &response)
    }

    fn heartbeat(&mut self, frame: &mut RequestFrame) -> Reply {
        HeartbeatRequest::decode_body(frame);
        let error_code = self.verdict;
        if error_code == ErrorCode::UNKNOWN_MEMBER_ID {
            // It is told once: then the member comes back under another name.
            self.verdict = ErrorCode::NONE;
        }
        answer::<HeartbeatRequest>(frame, &HeartbeatResponse { error_code, ..Default::default() })
    }

    fn fetch(&self, frame: &mut RequestFrame) -> Reply {
        let request = OffsetFetchRequest::decode_body(frame);
        let partition = |partition_index: i32| OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: self.committed.get(&partition_index).copied().unwrap_or(-1),
            committed_leader_epoch: -1,
            ..Default::default()
        };
        let groups = request.groups.into_iter().map(|group| OffsetFetchResponseGroup {
            group_id: group.group_id,
            topics: (group.topics.into_iter().flatten())
                .map(|topic| OffsetFetchResponseTopics {
                    name: topic.name,
                    partitions: topic.partition_indexes.into_iter().map(partition).collect(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        let response = OffsetFetchResponse { groups: groups.collect(), ..Default::default() };
        answer::<OffsetFetchRequest>(frame, &response)
    }

    fn commit(&mut self, frame: &mut RequestFrame) -> Reply {
        let request = OffsetCommitRequest::decode_body(frame);
        let mut partition = |index: i32, offset: i64| {
            self.committed.insert(index, offset);
            OffsetCommitResponsePartition { partition_index: index, ..Default::default() }
        };
        let topics = request.topics.into_iter().map(|topic| OffsetCommitResponseTopic {
            name: topic.name,
            partitions: (topic.partitions.iter())
                .map(|part| partition(part.partition_index, part.committed_offset))
                .collect(),
            ..Default::default()
        });
        let response = OffsetCommitResponse { topics: topics.collect(), ..Default::default() };
        answer::<OffsetCommitRequest>(frame, &response)
    }
}

fn found(frame: &mut RequestFrame, node_id: i32) -> Reply {
    let request = FindCoordinatorRequest::decode_body(frame);
    let coordinator = |key: &ottla_protocol::Str| Coordinator {
        key: key.clone(),
        node_id,
        host: address(0).ip().to_string().as_str().into(),
        port: node_id + 1,
        ..Default::default()
    };
    let coordinators = request.coordinator_keys.iter().map(coordinator).collect();
    answer::<FindCoordinatorRequest>(frame, &FindCoordinatorResponse { coordinators, ..Default::default() })
}

fn sync(frame: &mut RequestFrame) -> Reply {
    let request = SyncGroupRequest::decode_body(frame);
    let response = SyncGroupResponse {
        protocol_type: request.protocol_type,
        protocol_name: request.protocol_name,
        assignment: request.assignments.into_iter().next().map(|own| own.assignment).unwrap_or_default(),
        ..Default::default()
    };
    answer::<SyncGroupRequest>(frame, &response)
}

/// A coordinator that all brokers share.
pub(super) type SharedDesk = Arc<std::sync::Mutex<Desk>>;
