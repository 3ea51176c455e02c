//! A Kafka client in which reliable consumption is part of the client.
//!
//! ```no_run
//! use ottla::{Client, Consumer, Producer, Record, Reset};
//!
//! # async fn charge(order: Option<&[u8]>) -> ottla::Result<()> { Ok(()) }
//! # async fn run() -> ottla::Result<()> {
//! let client = Client::builder().bootstrap_servers(["localhost:9092"]).connect().await?;
//!
//! let producer = Producer::builder(&client).build()?; // idempotent, acks=all
//! producer.send("orders", Record::new("two tickets").key("ada")).await?;
//!
//! let consumer = Consumer::builder(&client).group("billing").on_missing_offset(Reset::Earliest).build()?;
//! consumer.subscribe(["orders"])?;
//! while let Some(record) = consumer.recv().await? {
//!     charge(record.view().value()).await?; // an error: the record is handed out again
//!     record.complete(); // and only what is complete is committed
//! }
//! client.close().await
//! # }
//! ```
//!
//! * [`Producer`] tells of each record whether it is written, not written, or possibly written: no outcome is a guess.
//! * [`Consumer`] hands out records in the order of their partitions. As a member of a group it hands out none while the
//!   group may have given its partitions to somebody else, commits only what was completed, and hands out again what
//!   was dropped.
//! * [`Admin`] creates, lists, describes and deletes topics, groups and their offsets.
//! * [`Event`]s tell what the client does by itself, and [`Consumer::explain`] why a partition does not move.

pub mod admin;
mod client;
pub mod config;
mod consumer;
mod coordinator;
pub mod env;
mod error;
pub mod event;
mod list_offsets;
mod metadata;
mod net;
mod producer;
mod record;
mod record_view;
#[cfg(test)]
mod scripted;
mod topic_partition;

pub use ottla_protocol::{ErrorCode, TopicId, compression::Compression};

pub use self::{
    admin::{Admin, NewTopic, PerItem},
    client::{Client, ClientBuilder},
    config::{ClientConfig, ConfigProblem, Properties},
    consumer::{
        Absence, Assignment, Assignor, Batch, BatchIter, BoxError, CloseOptions, Consumer, ConsumerBuilder,
        ConsumerRecord, IsolationLevel, Lease, LogOffsets, OffsetAndMetadata, OffsetAndTimestamp,
        OffsetRange, OffsetSpec, PartitionConsumer, Pause, PauseHandle, Rebalance, RebalanceListener,
        ReceivedRecord, RecordStream, Records, RecordsIter, Reset, Stall, Trouble,
    },
    error::{Error, ErrorKind, Result},
    event::{Event, Events},
    producer::{
        Acks, Choice, HeaderWriter, Partitioner, Producer, ProducerBuilder, ProducerInterceptor, Receipt,
        RecordMetadata, SendError, TopicProducer, TopicView, TryEnqueueError,
    },
    record::{Header, Headers, Record},
    record_view::{OwnedHeader, OwnedRecord, RecordView, Timestamp, TimestampKind},
    topic_partition::TopicPartition,
};

/// 1,024 bytes.
pub const KIB: usize = 1_024;
/// 1,024 [`KIB`].
pub const MIB: usize = 1_024 * KIB;

/// What users may rely on: handles can be shared and sent anywhere, streams can be polled anywhere.
const _: () = {
    const fn handle<T: Clone + Send + Sync + 'static>() {}
    const fn stream<T: Send + Sync + Unpin + 'static>() {}
    handle::<Client>();
    handle::<ClientBuilder>();
    handle::<Admin>();
    handle::<Assignment>();
    handle::<Consumer>();
    handle::<Producer>();
    handle::<TopicProducer>();
    handle::<OwnedRecord>();
    handle::<Error>();
    handle::<Event>();
    handle::<Properties>();
    handle::<TopicPartition>();
    stream::<Events>();
    stream::<Batch>();
    stream::<Receipt>();
    stream::<PartitionConsumer>();
    stream::<ReceivedRecord>();
    stream::<RecordStream>();
    assert!(
        size_of::<Receipt>() <= 16 && size_of::<Error>() == size_of::<usize>(),
        "both are stored by the thousand"
    );
    const fn view<T: Copy>() {}
    view::<Record<'_>>();
    view::<RecordView<'_>>();
    view::<ConsumerRecord<'_>>();
};

/// The README's examples compile.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// So does that of the first hour.
#[cfg(doctest)]
#[doc = include_str!("../../docs/first-hour.md")]
struct FirstHour;
