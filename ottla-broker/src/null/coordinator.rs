//! A coordinator for groups of one member, who is always right and always new.

use std::net::SocketAddr;

use ottla_protocol::{
    ErrorCode, Str,
    messages::{
        FindCoordinatorRequest, FindCoordinatorResponse, JoinGroupRequest, JoinGroupResponse,
        OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest,
        SyncGroupResponse,
        join_group_response::JoinGroupResponseMember,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        offset_fetch_response::{OffsetFetchResponsePartition, OffsetFetchResponseTopic},
    },
};

use super::answers::NODE;

/// The only member of any group.
const MEMBER: &str = "only";

/// It is here.
pub(super) fn found(_: &FindCoordinatorRequest, address: SocketAddr) -> FindCoordinatorResponse {
    FindCoordinatorResponse {
        node_id: NODE,
        host: Str::from(address.ip().to_string()),
        port: address.port().into(),
        ..FindCoordinatorResponse::default()
    }
}

/// The member leads itself.
pub(super) fn joined(request: JoinGroupRequest) -> JoinGroupResponse {
    let Some(protocol) = request.protocols.into_iter().next() else {
        let error_code = ErrorCode::INCONSISTENT_GROUP_PROTOCOL;
        return JoinGroupResponse { error_code, ..JoinGroupResponse::default() };
    };
    let member = JoinGroupResponseMember {
        member_id: Str::from_static(MEMBER),
        metadata: protocol.metadata,
        ..JoinGroupResponseMember::default()
    };
    JoinGroupResponse {
        generation_id: 1,
        protocol_name: Some(protocol.name),
        leader: Str::from_static(MEMBER),
        member_id: Str::from_static(MEMBER),
        members: vec![member],
        ..JoinGroupResponse::default()
    }
}

/// What it has assigned to itself.
pub(super) fn synced(request: SyncGroupRequest) -> SyncGroupResponse {
    let own = request.assignments.into_iter().next();
    SyncGroupResponse {
        assignment: own.map(|own| own.assignment).unwrap_or_default(),
        ..SyncGroupResponse::default()
    }
}

/// All is committed at 0, whatever was committed.
pub(super) fn fetched(request: OffsetFetchRequest) -> OffsetFetchResponse {
    let topics = request.topics.into_iter().flatten().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic
            .partition_indexes
            .into_iter()
            .map(|partition_index| OffsetFetchResponsePartition {
                partition_index,
                committed_leader_epoch: -1,
                ..OffsetFetchResponsePartition::default()
            })
            .collect(),
    });
    OffsetFetchResponse { topics: topics.collect(), ..OffsetFetchResponse::default() }
}

pub(super) fn committed(request: OffsetCommitRequest) -> OffsetCommitResponse {
    let topics = request.topics.into_iter().map(|topic| OffsetCommitResponseTopic {
        name: topic.name,
        partitions: topic
            .partitions
            .into_iter()
            .map(|part| OffsetCommitResponsePartition {
                partition_index: part.partition_index,
                error_code: ErrorCode::NONE,
            })
            .collect(),
        ..OffsetCommitResponseTopic::default()
    });
    OffsetCommitResponse { topics: topics.collect(), ..OffsetCommitResponse::default() }
}
