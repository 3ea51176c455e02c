//! Kinds of requests that can be picked out, and what a broker may say of each when it is in trouble.

use ottla_protocol::{
    ApiKey, ErrorCode, Request,
    messages::{
        ApiVersionsRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest, InitProducerIdRequest,
        JoinGroupRequest, LeaveGroupRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
        OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, SyncGroupRequest,
    },
};

/// Kinds of requests that can be picked out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "Kafka's names")]
pub enum Api {
    ApiVersions,
    Fetch,
    FindCoordinator,
    Heartbeat,
    InitProducerId,
    JoinGroup,
    LeaveGroup,
    ListOffsets,
    Metadata,
    OffsetCommit,
    OffsetFetch,
    OffsetForLeaderEpoch,
    Produce,
    SyncGroup,
}

impl Api {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::ApiVersions,
        Self::Fetch,
        Self::FindCoordinator,
        Self::Heartbeat,
        Self::InitProducerId,
        Self::JoinGroup,
        Self::LeaveGroup,
        Self::ListOffsets,
        Self::Metadata,
        Self::OffsetCommit,
        Self::OffsetFetch,
        Self::OffsetForLeaderEpoch,
        Self::Produce,
        Self::SyncGroup,
    ];

    pub(super) fn key(self) -> ApiKey {
        match self {
            Self::ApiVersions => ApiVersionsRequest::API_KEY,
            Self::Fetch => FetchRequest::API_KEY,
            Self::FindCoordinator => FindCoordinatorRequest::API_KEY,
            Self::Heartbeat => HeartbeatRequest::API_KEY,
            Self::InitProducerId => InitProducerIdRequest::API_KEY,
            Self::JoinGroup => JoinGroupRequest::API_KEY,
            Self::LeaveGroup => LeaveGroupRequest::API_KEY,
            Self::ListOffsets => ListOffsetsRequest::API_KEY,
            Self::Metadata => MetadataRequest::API_KEY,
            Self::OffsetCommit => OffsetCommitRequest::API_KEY,
            Self::OffsetFetch => OffsetFetchRequest::API_KEY,
            Self::OffsetForLeaderEpoch => OffsetForLeaderEpochRequest::API_KEY,
            Self::Produce => ProduceRequest::API_KEY,
            Self::SyncGroup => SyncGroupRequest::API_KEY,
        }
    }

    /// Whether only members of groups send it.
    pub(super) fn is_of_groups(self) -> bool {
        matches!(
            self,
            Self::FindCoordinator
                | Self::Heartbeat
                | Self::JoinGroup
                | Self::LeaveGroup
                | Self::OffsetCommit
                | Self::OffsetFetch
                | Self::SyncGroup
        )
    }

    /// Whether its requests name partitions of topics, each of which can fail alone.
    pub(super) fn has_partitions(self) -> bool {
        matches!(
            self,
            Self::Fetch
                | Self::ListOffsets
                | Self::Metadata
                | Self::OffsetCommit
                | Self::OffsetFetch
                | Self::OffsetForLeaderEpoch
                | Self::Produce
        )
    }

    /// What a broker says of a request that it has not carried out and that may succeed later, where clients go on by
    /// themselves. Of ApiVersions there is nothing: its errors say that the broker is of another age.
    pub(super) fn refusals(self) -> &'static [ErrorCode] {
        match self {
            Self::ApiVersions => &[],
            Self::Produce => &[
                ErrorCode::NOT_LEADER_OR_FOLLOWER,
                ErrorCode::LEADER_NOT_AVAILABLE,
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                ErrorCode::NOT_ENOUGH_REPLICAS,
                ErrorCode::KAFKA_STORAGE_ERROR,
                ErrorCode::CORRUPT_MESSAGE,
            ],
            Self::Fetch => &[
                ErrorCode::NOT_LEADER_OR_FOLLOWER,
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                ErrorCode::KAFKA_STORAGE_ERROR,
                ErrorCode::FENCED_LEADER_EPOCH,
                ErrorCode::UNKNOWN_LEADER_EPOCH,
                ErrorCode::OFFSET_NOT_AVAILABLE,
                ErrorCode::UNKNOWN_SERVER_ERROR,
            ],
            Self::ListOffsets | Self::OffsetForLeaderEpoch => &[
                ErrorCode::NOT_LEADER_OR_FOLLOWER,
                ErrorCode::LEADER_NOT_AVAILABLE,
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                ErrorCode::FENCED_LEADER_EPOCH,
                ErrorCode::UNKNOWN_LEADER_EPOCH,
                ErrorCode::KAFKA_STORAGE_ERROR,
            ],
            Self::Metadata => &[ErrorCode::LEADER_NOT_AVAILABLE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION],
            Self::FindCoordinator => {
                &[ErrorCode::COORDINATOR_NOT_AVAILABLE, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS]
            }
            Self::InitProducerId => COORDINATOR,
            Self::JoinGroup | Self::LeaveGroup => &[
                ErrorCode::COORDINATOR_NOT_AVAILABLE,
                ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
                ErrorCode::NOT_COORDINATOR,
                ErrorCode::UNKNOWN_MEMBER_ID,
            ],
            Self::Heartbeat | Self::SyncGroup | Self::OffsetCommit => &[
                ErrorCode::COORDINATOR_NOT_AVAILABLE,
                ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
                ErrorCode::NOT_COORDINATOR,
                ErrorCode::REBALANCE_IN_PROGRESS,
                ErrorCode::ILLEGAL_GENERATION,
                ErrorCode::UNKNOWN_MEMBER_ID,
            ],
            Self::OffsetFetch => &[
                ErrorCode::COORDINATOR_NOT_AVAILABLE,
                ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
                ErrorCode::NOT_COORDINATOR,
                ErrorCode::UNSTABLE_OFFSET_COMMIT,
            ],
        }
    }

    /// What a broker says of a request that it has carried out all the same.
    pub(super) fn doubts(self) -> &'static [ErrorCode] {
        match self {
            Self::Produce => &[
                ErrorCode::REQUEST_TIMED_OUT,
                ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
                ErrorCode::NOT_LEADER_OR_FOLLOWER,
                ErrorCode::KAFKA_STORAGE_ERROR,
            ],
            Self::OffsetCommit => &[ErrorCode::COORDINATOR_NOT_AVAILABLE, ErrorCode::REQUEST_TIMED_OUT],
            Self::JoinGroup | Self::SyncGroup | Self::LeaveGroup | Self::Heartbeat | Self::InitProducerId => {
                COORDINATOR
            }
            _ => &[],
        }
    }
}

/// A coordinator that is about to move, or has just moved.
const COORDINATOR: &[ErrorCode] = &[
    ErrorCode::COORDINATOR_NOT_AVAILABLE,
    ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode::NOT_COORDINATOR,
];
