//! A client made of nothing but frames, so that what these tests see is the broker and not a client's manners.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "each test uses a part; tests are drivers"
)]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use bytes::Bytes;
use ottla_broker::{ClusterConfig, tcp::Cluster};
use ottla_protocol::{
    BatchBuilder, CreateTopicsRequest, Decompressor, ErrorCode, FetchRequest, MetadataRequest,
    MetadataResponse, ProduceRequest, Request, batches,
    create_topics_request::CreatableTopic,
    decode_response, encode_request,
    fetch_request::{FetchPartition, FetchTopic},
    metadata_request::MetadataRequestTopic,
    produce_request::{PartitionProduceData, TopicProduceData},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Long enough for a machine that does much else, short enough to end a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct RawClient {
    pub stream: TcpStream,
    correlation: i32,
}

/// A record as a test sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl RawClient {
    pub async fn connect(address: &str) -> Self {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await.unwrap().unwrap();
        Self { stream, correlation: 0 }
    }

    pub async fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation += 1;
        for segment in encode_request(version, self.correlation, Some("raw"), request).unwrap() {
            self.stream.write_all(&segment).await.unwrap();
        }
        self.correlation
    }

    pub async fn frame(&mut self) -> std::io::Result<Bytes> {
        let length = self.stream.read_i32().await?;
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut frame).await?;
        Ok(frame.into())
    }

    pub async fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let frame = timeout(PATIENCE, self.frame()).await.expect("no answer").unwrap();
        decode_response::<R>(version, frame).unwrap()
    }

    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let sent = self.send(version, request).await;
        let (correlation, response) = self.receive::<R>(version).await;
        assert_eq!(correlation, sent);
        response
    }

    /// Creates a topic and waits until each of its partitions has a leader that this node knows.
    pub async fn create_topic(&mut self, name: &str, partitions: i32, replication_factor: i16) {
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, validate_only: false };
        let response = self.call(7, &request).await;
        assert_eq!(response.topics[0].error_code, ErrorCode::NONE, "{:?}", response.topics[0].error_message);
        self.metadata_until(name, |metadata| {
            let topic = &metadata.topics[0];
            topic.error_code.is_ok() && topic.partitions.iter().all(|partition| partition.error_code.is_ok())
        })
        .await;
    }

    /// Asks for a topic's metadata until it is as wanted.
    pub async fn metadata_until(
        &mut self,
        topic: &str,
        wanted: impl Fn(&MetadataResponse) -> bool,
    ) -> MetadataResponse {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic { name: Some(topic.into()), ..Default::default() }]),
            ..MetadataRequest::default()
        };
        let ask = async {
            loop {
                let metadata = self.call(12, &request).await;
                if wanted(&metadata) {
                    return metadata;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, ask).await.expect("the metadata never came to what was wanted")
    }

    /// Produces one batch and gives its first offset.
    pub async fn produce(&mut self, topic: &str, partition: i32, values: &[&str]) -> i64 {
        let response = self.call(9, &produce_request(topic, partition, values, -1)).await;
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, ErrorCode::NONE);
        partition.base_offset
    }

    /// All records from `offset` to the high watermark.
    pub async fn fetch_all(&mut self, topic: &str, partition: i32, mut offset: i64) -> Vec<Seen> {
        let mut all = Vec::new();
        loop {
            let response = self.call(11, &fetch_request(topic, partition, offset, 0)).await;
            assert_eq!(response.error_code, ErrorCode::NONE);
            let data = &response.responses[0].partitions[0];
            assert_eq!(data.error_code, ErrorCode::NONE);
            let seen = records(data.records.clone().unwrap_or_default());
            all.extend(seen.into_iter().filter(|record| record.offset >= offset));
            if let Some(last) = all.last() {
                offset = last.offset + 1;
            }
            if offset >= data.high_watermark {
                return all;
            }
        }
    }
}

pub fn produce_request(topic: &str, partition: i32, values: &[&str], acks: i16) -> ProduceRequest {
    let mut batch = BatchBuilder::new(1024);
    for value in values {
        batch.append(1_700_000_000_000, None, Some(value.as_bytes()), [].into_iter()).unwrap();
    }
    let mut batch = batch.seal();
    batch.stamp_without_producer();
    let data = PartitionProduceData { index: partition, records: Some(batch.into_bytes()) };
    let topic = TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
    ProduceRequest { acks, timeout_ms: 10_000, topic_data: vec![topic], ..ProduceRequest::default() }
}

pub fn fetch_request(topic: &str, partition: i32, offset: i64, max_wait_ms: i32) -> FetchRequest {
    let wanted = FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let topic = FetchTopic { topic: topic.into(), partitions: vec![wanted], ..FetchTopic::default() };
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![topic],
        ..FetchRequest::default()
    }
}

pub fn records(bytes: Bytes) -> Vec<Seen> {
    let mut decompressor = Decompressor::new();
    let mut seen = Vec::new();
    for batch in batches(bytes) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        for record in &batch.records(&mut decompressor).unwrap() {
            let record = record.unwrap();
            let header = |header: ottla_protocol::RecordHeader<'_>| {
                (String::from_utf8_lossy(header.key).into_owned(), header.value.map(<[u8]>::to_vec))
            };
            seen.push(Seen {
                offset: record.offset,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record.headers().map(header).collect(),
            });
        }
    }
    seen
}

pub fn texts(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(|record| String::from_utf8(record.value.clone().unwrap()).unwrap()).collect()
}

/// A cluster in memory that notices the death of a node soon.
pub async fn cluster(nodes: usize) -> Cluster {
    Cluster::start(config(nodes), None).await.unwrap()
}

pub fn config(nodes: usize) -> ClusterConfig {
    let mut config = ClusterConfig::with_nodes(nodes, "127.0.0.1", 0);
    config.broker_heartbeat_interval = Duration::from_millis(50);
    config.broker_session_timeout = Duration::from_millis(500);
    config.peer_retry = Duration::from_millis(100);
    config
}

/// A new empty directory, removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("ottla-{name}-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(unique);
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
