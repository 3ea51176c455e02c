//! A Kafka client in which reliable consumption is part of the client.

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
        Assignment, Assignor, Batch, BatchIter, BoxError, CloseOptions, Consumer, ConsumerBuilder,
        ConsumerRecord, IsolationLevel, Lease, OffsetAndMetadata, OffsetAndTimestamp, OffsetRange,
        OffsetSpec, Pause, PauseHandle, Rebalance, RebalanceListener, ReceivedRecord, RecordStream, Records,
        RecordsIter, Reset, Trouble,
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
