//! The requests that a node answers, one file per family.

mod api_versions;
mod cluster;
mod configs;
mod coordinator;
mod delete_records;
mod elect_leaders;
mod fetch;
mod fetch_plan;
mod fetch_sessions;
mod group_admin;
mod group_wait;
mod groups;
mod leader_epoch;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod produce;
mod producer_id;
mod read_replica;
mod records;
mod topic_changes;
mod topics;

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_protocol::messages::{
    ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeGroupsRequest, DescribeTopicPartitionsRequest, ElectLeadersRequest, FetchRequest,
    FindCoordinatorRequest, HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest,
    JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest,
    ProduceRequest, SyncGroupRequest,
};
use ottla_protocol::{Decoder, ErrorCode, Request, Str, TopicId};

use crate::faults::Answers;
use crate::image::{Broker, Image, Topic};
use crate::io::{CloseReason, NodeId, Now};
use crate::node::{Exchange, Meeting, Node, Outcome};
use crate::replica::{Replica, ReplicaKey};

pub(crate) use delete_records::DeleteRecordsWait;
pub(crate) use fetch::FetchWait;
pub(crate) use fetch_sessions::FetchSessions;
pub(crate) use group_wait::GroupWait;
pub(crate) use list_offsets::ListOffsetsWait;
pub(crate) use produce::{ProduceWait, has_enough_in_sync};
pub(crate) use producer_id::{ProducerIdWait, ProducerIds};
pub(crate) use topics::TopicsWait;

/// Names each API once: what is listed here is what `ApiVersions` announces and what is answered.
macro_rules! served {
    ($($request:ty => $handler:path,)*) => {
        /// The number, the first and the last version of each API.
        pub(crate) const SERVED: &[(i16, i16, i16)] = &[$((
            <$request as Request>::API_KEY.0,
            *<$request as ottla_protocol::Message>::VERSIONS.start(),
            *<$request as ottla_protocol::Message>::VERSIONS.end(),
        ),)*];

        /// Answers a request, or closes the connection over it.
        pub(crate) fn serve(node: &mut Node, now: Now, exchange: &mut Exchange, body: Decoder) -> Outcome {
            $(if exchange.api_key == <$request as Request>::API_KEY {
                return decoded::<$request>(node, now, exchange, body, $handler);
            })*
            unsupported(node, exchange)
        }
    };
}

served! {
    ProduceRequest => produce::produce,
    FetchRequest => fetch::fetch,
    ListOffsetsRequest => list_offsets::list_offsets,
    MetadataRequest => metadata::metadata,
    OffsetCommitRequest => offset_commit::offset_commit,
    OffsetFetchRequest => offset_fetch::offset_fetch,
    FindCoordinatorRequest => coordinator::find_coordinator,
    JoinGroupRequest => groups::join_group,
    HeartbeatRequest => groups::heartbeat,
    LeaveGroupRequest => groups::leave_group,
    SyncGroupRequest => groups::sync_group,
    DescribeGroupsRequest => group_admin::describe_groups,
    ListGroupsRequest => group_admin::list_groups,
    ApiVersionsRequest => api_versions::api_versions,
    CreateTopicsRequest => topics::create_topics,
    DeleteTopicsRequest => topics::delete_topics,
    DeleteRecordsRequest => delete_records::delete_records,
    CreatePartitionsRequest => topic_changes::create_partitions,
    InitProducerIdRequest => producer_id::init_producer_id,
    OffsetForLeaderEpochRequest => leader_epoch::offset_for_leader_epoch,
    DeleteGroupsRequest => group_admin::delete_groups,
    ElectLeadersRequest => elect_leaders::elect_leaders,
    OffsetDeleteRequest => offset_delete::offset_delete,
    DescribeConfigsRequest => configs::describe_configs,
    IncrementalAlterConfigsRequest => topic_changes::incremental_alter_configs,
    DescribeClusterRequest => cluster::describe_cluster,
    DescribeTopicPartitionsRequest => metadata::describe_topic_partitions,
}

type Handler<R> = fn(&mut Node, Now, &Exchange, R) -> Outcome;

fn decoded<R: Answers>(
    node: &mut Node,
    now: Now,
    exchange: &mut Exchange,
    mut body: Decoder,
    handler: Handler<R>,
) -> Outcome {
    if !R::VERSIONS.contains(&exchange.version) {
        return if R::API_KEY == ottla_protocol::ApiKey::API_VERSIONS {
            api_versions::too_new(exchange)
        } else {
            unsupported(node, exchange)
        };
    }
    let undecoded = body.clone();
    let request = R::decode(exchange.version, &mut body).and_then(|request| body.finish().map(|()| request));
    match request {
        Ok(request) => match node.meet(now, exchange, &undecoded, request) {
            Meeting::CarryOut(request) => handler(node, now, exchange, request),
            Meeting::Instead(outcome) => outcome,
        },
        Err(error) => Outcome::Close(CloseReason::Malformed(format!("{}: {error}", exchange.api_key))),
    }
}

fn unsupported(node: &mut Node, exchange: &Exchange) -> Outcome {
    node.watch_version(exchange);
    let (api_key, api_version) = (exchange.api_key.0, exchange.version);
    Outcome::Close(CloseReason::Unsupported { api_key, api_version })
}

/// How a request names a topic: by name in old versions, by id in new ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TopicRef {
    Name(Str),
    Id(TopicId),
}

impl TopicRef {
    /// The name is copied, so that it does not keep the request's frame alive.
    pub(crate) fn new(by_id: bool, name: &Str, id: TopicId) -> Self {
        if by_id { Self::Id(id) } else { Self::Name(name.detached()) }
    }

    pub(crate) fn find<'a>(&self, image: &'a Image) -> Result<&'a Arc<Topic>, ErrorCode> {
        match self {
            Self::Name(name) => image.topic(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            Self::Id(id) => image.topic_by_id(*id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID),
        }
    }

    /// The name, or nothing where the request gave the id.
    pub(crate) fn name(&self) -> Str {
        match self {
            Self::Name(name) => name.clone(),
            Self::Id(_) => Str::default(),
        }
    }

    /// The id, or zero where the request gave the name.
    pub(crate) fn id(&self) -> TopicId {
        match self {
            Self::Name(_) => TopicId::ZERO,
            Self::Id(id) => *id,
        }
    }
}

/// The replica of that key if this node leads it, in the epoch that the client believes in (KIP-320; -1 is any).
pub(crate) fn led(node: &Node, key: ReplicaKey, believed_epoch: i32) -> Result<&Replica, ErrorCode> {
    let replica = held(node, key, believed_epoch)?;
    if replica.leader().is_none() {
        return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
    }
    Ok(replica)
}

/// The same, whether this node leads it or follows another one.
pub(crate) fn held(node: &Node, key: ReplicaKey, believed_epoch: i32) -> Result<&Replica, ErrorCode> {
    if node.image.partition(key.0, key.1).is_none() {
        return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    let replica = node.replicas.get(&key).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
    if believed_epoch >= 0 && believed_epoch < replica.leader_epoch() {
        return Err(ErrorCode::FENCED_LEADER_EPOCH);
    }
    if believed_epoch > replica.leader_epoch() {
        return Err(ErrorCode::UNKNOWN_LEADER_EPOCH);
    }
    Ok(replica)
}

/// Who leads a partition, for a client that asked the wrong node (KIP-951).
pub(crate) fn leader_hint(image: &Image, key: ReplicaKey, error: ErrorCode) -> Option<(NodeId, i32)> {
    if error != ErrorCode::NOT_LEADER_OR_FOLLOWER && error != ErrorCode::FENCED_LEADER_EPOCH {
        return None;
    }
    let partition = image.partition(key.0, key.1)?;
    Some((partition.leader?, partition.leader_epoch))
}

/// The addresses of the leaders that were hinted at (KIP-951).
pub(crate) fn hinted(image: &Image, leaders: &BTreeSet<NodeId>) -> Vec<(NodeId, Broker)> {
    leaders.iter().filter_map(|leader| Some((*leader, image.brokers.get(leader)?.clone()))).collect()
}

/// A name of the image, for a response.
pub(crate) fn text(name: &str) -> Str {
    Str::from(name)
}
