//! The requests that the scenarios send, in short forms.

use bytes::Bytes;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use ottla_protocol::messages::fetch_response::PartitionData;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use ottla_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla_protocol::messages::produce_response::PartitionProduceResponse;
use ottla_protocol::messages::{
    FetchRequest, FetchResponse, ListOffsetsRequest, MetadataRequest, MetadataResponse, ProduceRequest,
    ProduceResponse,
};
use ottla_protocol::{ErrorCode, TopicId};

use super::harness::{Client, Cluster, values};

pub(crate) const PRODUCE: i16 = 13;
pub(crate) const FETCH: i16 = 17;

pub(crate) fn produce_request(topic: TopicId, acks: i16, records: Bytes) -> ProduceRequest {
    let partition_data = vec![PartitionProduceData { index: 0, records: Some(records) }];
    let topic = TopicProduceData { topic_id: topic, partition_data, ..TopicProduceData::default() };
    ProduceRequest { acks, timeout_ms: 5000, topic_data: vec![topic], ..ProduceRequest::default() }
}

pub(crate) fn produced(response: &ProduceResponse) -> PartitionProduceResponse {
    response.responses.first().unwrap().partition_responses.first().unwrap().clone()
}

pub(crate) fn fetch_request(topic: TopicId, offset: i64) -> FetchRequest {
    let partition = FetchPartition {
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        ..FetchPartition::default()
    };
    let topic = FetchTopic { topic_id: topic, partitions: vec![partition], ..FetchTopic::default() };
    FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 1 << 24,
        session_epoch: -1,
        topics: vec![topic],
        ..FetchRequest::default()
    }
}

pub(crate) fn fetched(response: &FetchResponse) -> PartitionData {
    assert!(response.error_code.is_ok(), "{response:?}");
    response.responses.first().unwrap().partitions.first().unwrap().clone()
}

impl Cluster {
    /// Produces to partition 0, with `acks=all`.
    pub(crate) fn produce(
        &mut self,
        client: Client,
        topic: TopicId,
        records: Bytes,
    ) -> PartitionProduceResponse {
        produced(&self.call(client, PRODUCE, &produce_request(topic, -1, records)))
    }

    /// Fetches from partition 0, without a session.
    pub(crate) fn fetch(&mut self, client: Client, topic: TopicId, offset: i64) -> PartitionData {
        fetched(&self.call(client, FETCH, &fetch_request(topic, offset)))
    }

    /// What a consumer reads from the beginning of partition 0.
    pub(crate) fn read_all(&mut self, client: Client, topic: TopicId) -> Vec<String> {
        let data = self.fetch(client, topic, 0);
        assert!(data.error_code.is_ok(), "{data:?}");
        values(data.records.unwrap())
    }

    pub(crate) fn list_offset(
        &mut self,
        client: Client,
        topic: &str,
        timestamp: i64,
    ) -> ListOffsetsPartitionResponse {
        self.list_offset_in(client, 10, topic, timestamp)
    }

    pub(crate) fn list_offset_in(
        &mut self,
        client: Client,
        version: i16,
        topic: &str,
        timestamp: i64,
    ) -> ListOffsetsPartitionResponse {
        let partition = ListOffsetsPartition { timestamp, current_leader_epoch: -1, ..Default::default() };
        let topic = ListOffsetsTopic { name: topic.into(), partitions: vec![partition] };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
        let response = self.call(client, version, &request);
        response.topics.first().unwrap().partitions.first().unwrap().clone()
    }

    pub(crate) fn metadata(&mut self, client: Client, request: &MetadataRequest) -> MetadataResponse {
        self.call(client, 13, request)
    }

    /// The error of producing to partition 0.
    pub(crate) fn produce_error(&mut self, client: Client, topic: TopicId, records: Bytes) -> ErrorCode {
        self.produce(client, topic, records).error_code
    }
}
