//! What is said to each request.

use std::sync::{Arc, atomic::Ordering};

use bytes::{Bytes, BytesMut};
use ottla_protocol::{
    ApiKey, Request, RequestFrame, Str, TopicId,
    batch::crc32c,
    frame::encode_response,
    messages::{
        ApiVersionsRequest, ApiVersionsResponse, FetchRequest, FetchResponse, FindCoordinatorRequest,
        HeartbeatRequest, HeartbeatResponse, InitProducerIdRequest, InitProducerIdResponse, JoinGroupRequest,
        LeaveGroupRequest, LeaveGroupResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
        MetadataResponse, OffsetCommitRequest, OffsetFetchRequest, ProduceRequest, ProduceResponse,
        SyncGroupRequest,
        api_versions_response::ApiVersion,
        fetch_response::{FetchableTopicResponse, PartitionData},
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
        produce_response::{PartitionProduceResponse, TopicProduceResponse},
    },
};

use super::{Logs, coordinator};

/// The only node.
pub(super) const NODE: i32 = 1;
/// Logs have no end; this is where `latest` is.
const LATEST: i64 = 1 << 40;
/// What is offered, and up to which version: those that name topics, not their ids.
const OFFERED: [(ApiKey, i16); 13] = [
    (ApiKey::PRODUCE, 12),
    (ApiKey::FETCH, 12),
    (ApiKey::LIST_OFFSETS, 7),
    (ApiKey::METADATA, 12),
    (ApiKey::API_VERSIONS, 3),
    (ApiKey::INIT_PRODUCER_ID, 4),
    (ApiKey::FIND_COORDINATOR, 2),
    (ApiKey::JOIN_GROUP, 3),
    (ApiKey::SYNC_GROUP, 2),
    (ApiKey::HEARTBEAT, 2),
    (ApiKey::LEAVE_GROUP, 2),
    (ApiKey::OFFSET_FETCH, 5),
    (ApiKey::OFFSET_COMMIT, 6),
];

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The answers of one connection.
pub(super) struct Answers {
    logs: Arc<Logs>,
    /// The base offset of the next batch that is produced.
    next_offset: i64,
    /// What fetched records are written to; the same memory again and again.
    buffer: BytesMut,
}

impl Answers {
    pub(super) fn new(logs: Arc<Logs>) -> Self {
        Self { logs, next_offset: 0, buffer: BytesMut::new() }
    }

    /// The answer's segments; none for a request that gets none.
    ///
    /// # Errors
    /// When the request is of an API that was not offered, or cannot be read.
    pub(super) fn to(&mut self, frame: RequestFrame) -> Result<Option<Vec<Bytes>>, Error> {
        match frame.api_key {
            ApiKey::PRODUCE => {
                let (request, frame) = read::<ProduceRequest>(frame)?;
                let has_answer = request.acks != 0;
                let response = self.produced(request);
                Ok(has_answer.then_some(write::<ProduceRequest>(&frame, &response)?))
            }
            ApiKey::FETCH => answer::<FetchRequest>(frame, |request| self.fetched(&request)),
            ApiKey::LIST_OFFSETS => answer::<ListOffsetsRequest>(frame, listed),
            ApiKey::METADATA => answer::<MetadataRequest>(frame, |request| self.described(request)),
            ApiKey::API_VERSIONS => answer::<ApiVersionsRequest>(frame, |_| offered()),
            ApiKey::INIT_PRODUCER_ID => answer::<InitProducerIdRequest>(frame, |_| InitProducerIdResponse {
                producer_id: self.logs.next_producer_id.fetch_add(1, Ordering::Relaxed),
                ..InitProducerIdResponse::default()
            }),
            ApiKey::FIND_COORDINATOR => answer::<FindCoordinatorRequest>(frame, |request| {
                coordinator::found(&request, self.logs.address)
            }),
            ApiKey::JOIN_GROUP => answer::<JoinGroupRequest>(frame, coordinator::joined),
            ApiKey::SYNC_GROUP => answer::<SyncGroupRequest>(frame, coordinator::synced),
            ApiKey::HEARTBEAT => answer::<HeartbeatRequest>(frame, |_| HeartbeatResponse::default()),
            ApiKey::LEAVE_GROUP => answer::<LeaveGroupRequest>(frame, |_| LeaveGroupResponse::default()),
            ApiKey::OFFSET_FETCH => answer::<OffsetFetchRequest>(frame, coordinator::fetched),
            ApiKey::OFFSET_COMMIT => answer::<OffsetCommitRequest>(frame, coordinator::committed),
            other => Err(format!("{other:?} was not offered").into()),
        }
    }

    fn produced(&mut self, request: ProduceRequest) -> ProduceResponse {
        let topics = request.topic_data.into_iter().map(|topic| TopicProduceResponse {
            name: topic.name,
            partition_responses: topic
                .partition_data
                .into_iter()
                .map(|partition| {
                    self.next_offset += 1;
                    PartitionProduceResponse {
                        index: partition.index,
                        base_offset: self.next_offset,
                        ..PartitionProduceResponse::default()
                    }
                })
                .collect(),
            ..TopicProduceResponse::default()
        });
        ProduceResponse { responses: topics.collect(), ..ProduceResponse::default() }
    }

    /// Every answer is full: there are no sessions.
    fn fetched(&mut self, request: &FetchRequest) -> FetchResponse {
        let mut room = usize::try_from(request.max_bytes).unwrap_or(0);
        let responses = request.topics.iter().map(|topic| {
            let log = self.logs.of(&topic.topic);
            let partitions = topic.partitions.iter().map(|asked| {
                let limit = usize::try_from(asked.partition_max_bytes).unwrap_or(0).min(room);
                // As in Kafka, the first partition gets a batch even if it is too large.
                if room > 0 {
                    log.read(asked.fetch_offset, limit, &mut self.buffer);
                }
                room = room.saturating_sub(self.buffer.len());
                PartitionData {
                    partition_index: asked.partition,
                    high_watermark: i64::MAX,
                    last_stable_offset: i64::MAX,
                    records: Some(self.buffer.split().freeze()),
                    ..PartitionData::default()
                }
            });
            FetchableTopicResponse {
                topic: topic.topic.clone(),
                partitions: partitions.collect(),
                ..FetchableTopicResponse::default()
            }
        });
        FetchResponse { responses: responses.collect(), ..FetchResponse::default() }
    }

    fn described(&self, request: MetadataRequest) -> MetadataResponse {
        let partition = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: NODE,
            leader_epoch: 0,
            replica_nodes: vec![NODE],
            isr_nodes: vec![NODE],
            ..MetadataResponsePartition::default()
        };
        let names = request.topics.unwrap_or_default().into_iter().filter_map(|topic| topic.name);
        let topic = |name: Str| MetadataResponseTopic {
            topic_id: id_of(&name),
            name: Some(name),
            partitions: (0..self.logs.partitions).map(partition).collect(),
            ..MetadataResponseTopic::default()
        };
        MetadataResponse {
            brokers: vec![MetadataResponseBroker {
                node_id: NODE,
                host: Str::from(self.logs.address.ip().to_string()),
                port: self.logs.address.port().into(),
                ..MetadataResponseBroker::default()
            }],
            cluster_id: Some(Str::from("null")),
            controller_id: NODE,
            topics: names.map(topic).collect(),
            ..MetadataResponse::default()
        }
    }
}

fn offered() -> ApiVersionsResponse {
    let api = |(key, max_version): (ApiKey, i16)| ApiVersion {
        api_key: key.0,
        // Older ones of Produce and Fetch have records in older formats.
        min_version: match key {
            ApiKey::PRODUCE => 3,
            ApiKey::FETCH => 4,
            ApiKey::LIST_OFFSETS => 1,
            _ => 0,
        },
        max_version,
    };
    ApiVersionsResponse { api_keys: OFFERED.map(api).into(), ..ApiVersionsResponse::default() }
}

/// An endless log begins at 0 for whoever asks by time.
fn listed(request: ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = request.topics.into_iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name,
        partitions: topic
            .partitions
            .iter()
            .map(|asked| ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                offset: if asked.timestamp == -1 { LATEST } else { 0 },
                leader_epoch: 0,
                ..ListOffsetsPartitionResponse::default()
            })
            .collect(),
    });
    ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() }
}

/// The same for the same name.
fn id_of(name: &str) -> TopicId {
    let mut id = [1; 16];
    id[..4].copy_from_slice(&crc32c(name.as_bytes()).to_be_bytes());
    id[4..8].copy_from_slice(&(name.len() as u32).to_be_bytes());
    TopicId(id)
}

fn answer<R: Request>(
    frame: RequestFrame,
    answer: impl FnOnce(R) -> R::Response,
) -> Result<Option<Vec<Bytes>>, Error> {
    let (request, frame) = read::<R>(frame)?;
    Ok(Some(write::<R>(&frame, &answer(request))?))
}

fn read<R: Request>(mut frame: RequestFrame) -> Result<(R, RequestFrame), Error> {
    Ok((R::decode(frame.api_version, &mut frame.body)?, frame))
}

fn write<R: Request>(frame: &RequestFrame, response: &R::Response) -> Result<Vec<Bytes>, Error> {
    Ok(encode_response::<R>(frame.api_version, frame.correlation_id, response)?)
}
