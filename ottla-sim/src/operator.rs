//! One request at a time, by hand: what the kit asks of brokers without the client under test.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use ottla::env::{Duplex, Env};
use ottla_protocol::{
    ErrorCode, Request, TopicId,
    frame::{decode_response, encode_request},
    messages::{
        create_topics_request::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest},
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic},
        delete_topics_request::{DeleteTopicState, DeleteTopicsRequest},
    },
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{SimEnv, world::Host};

/// A connection to a broker that has one request in flight at most.
#[derive(Debug)]
pub struct Wire {
    stream: Duplex,
    requests: i32,
}

impl Wire {
    /// Connects from one host to a port of another.
    ///
    /// # Errors
    /// As connecting does.
    pub async fn open(from: &Host, to: &Host, port: u16) -> io::Result<Self> {
        let env: Arc<SimEnv> = Arc::new(from.env());
        Ok(Self { stream: env.connect(to.address(port)).await?, requests: 0 })
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// When the connection fails, or the answer cannot be decoded.
    pub async fn call<R: Request>(&mut self, request: &R, version: i16) -> io::Result<R::Response> {
        self.requests += 1;
        let segments =
            encode_request(version, self.requests, Some("by-hand"), request).map_err(io::Error::other)?;
        for segment in segments {
            self.stream.writer.write_all(&segment).await?;
        }
        let length = self.stream.reader.read_u32().await? as usize;
        let mut frame = BytesMut::zeroed(length);
        self.stream.reader.read_exact(&mut frame).await?;
        let (id, response) = decode_response::<R>(version, frame.freeze()).map_err(io::Error::other)?;
        if id == self.requests {
            Ok(response)
        } else {
            Err(io::Error::other(format!("answer {id} to request {}", self.requests)))
        }
    }
}

/// The version in which topics are created here.
const CREATE_TOPICS: i16 = 5;

/// The version in which topics are deleted here: by id, so that no request that comes late deletes a successor.
const DELETE_TOPICS: i16 = 6;

/// The version in which records are deleted here.
const DELETE_RECORDS: i16 = 2;

/// Creates a topic with these settings, and waits for the broker's word that it exists.
pub(crate) async fn create_topic(
    from: &Host,
    to: &Host,
    port: u16,
    (name, partitions, replicas): (&str, i32, i16),
    settings: &[(&str, String)],
) -> io::Result<()> {
    let config = |(name, value): &(&str, String)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some(value.as_str().into()),
    };
    let topic = CreatableTopic {
        configs: settings.iter().map(config).collect(),
        name: name.into(),
        num_partitions: partitions,
        replication_factor: replicas,
        ..CreatableTopic::default()
    };
    let timeout_ms = Duration::from_secs(30).as_millis() as i32;
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms, validate_only: false };
    let response = Wire::open(from, to, port).await?.call(&request, CREATE_TOPICS).await?;
    match response.topics.first() {
        Some(result) if result.error_code == ErrorCode::NONE => Ok(()),
        Some(result) => Err(io::Error::other(result.error_code.to_string())),
        None => Err(io::Error::other("the answer names no topic")),
    }
}

/// Deletes the topic with that id, and waits for the broker's word that it is gone.
pub(crate) async fn delete_topic(from: &Host, to: &Host, port: u16, topic_id: TopicId) -> io::Result<()> {
    let topics = vec![DeleteTopicState { topic_id, ..DeleteTopicState::default() }];
    let request = DeleteTopicsRequest { topics, timeout_ms: 5_000, ..DeleteTopicsRequest::default() };
    let response = Wire::open(from, to, port).await?.call(&request, DELETE_TOPICS).await?;
    match response.responses.first() {
        Some(result) if result.error_code == ErrorCode::NONE => Ok(()),
        Some(result) => Err(io::Error::other(result.error_code.to_string())),
        None => Err(io::Error::other("the answer names no topic")),
    }
}

/// Asks a broker to drop the records of a partition below an offset (-1: all that are committed), and waits for its answer:
/// where the log begins then.
pub(crate) async fn delete_records(
    from: &Host,
    to: &Host,
    port: u16,
    (topic, partition_index, offset): (&str, i32, i64),
) -> io::Result<i64> {
    let partitions = vec![DeleteRecordsPartition { partition_index, offset }];
    let topics = vec![DeleteRecordsTopic { name: topic.into(), partitions }];
    let request = DeleteRecordsRequest { topics, timeout_ms: 5_000 };
    let response = Wire::open(from, to, port).await?.call(&request, DELETE_RECORDS).await?;
    match response.topics.first().and_then(|topic| topic.partitions.first()) {
        Some(result) if result.error_code == ErrorCode::NONE => Ok(result.low_watermark),
        Some(result) => Err(io::Error::other(result.error_code.to_string())),
        None => Err(io::Error::other("the answer names no partition")),
    }
}
