//! The handles that records are given to.

use std::{fmt, sync::Arc};

use super::{
    Receipt, RecordMetadata, SendError, TryEnqueueError, append::Blocked, builder::ProducerBuilder,
    inner::Inner, interceptor::AddedHeaders, topic::Topic,
};
use crate::{Client, Error, Record, Result};

/// Writes records: idempotent and with `acks=all`, unless it was built otherwise.
///
/// A record given to [`send`](Self::send) or [`enqueue`](Self::enqueue) is written once, in order with the others of its
/// partition, or its sender is told that it was not, or that nobody knows. Cheap to clone; all clones are the same
/// producer. When the last is dropped, what is buffered is still written, in the background.
///
/// Where unclean elections are allowed (`unclean.leader.election.enable`), nobody can promise that: records that one election
/// has lost may come back with the next one, when they have been written again or were reported as not written.
///
/// ```no_run
/// use ottla::*;
///
/// async fn produce(client: &Client, id: &str, order: &[u8]) -> Result<()> {
///     let producer = Producer::builder(client).build()?; // idempotent, acks=all
///     let written = producer.send("orders", Record::new(order).key(id)).await?;
///     println!("{}@{:?}", written.partition(), written.offset());
///
///     let headers = [Header::new("via", "web"), Header::new("via", "eu")];
///     let record = Record::new(order).key(id).timestamp(std::time::SystemTime::now()).headers(&headers);
///     match producer.send("orders", record).await {
///         Ok(_) => {}
///         Err(SendError::NotWritten(error)) => return Err(error), // safe to send again
///         Err(SendError::PossiblyWritten(error)) => eprintln!("look first: {error}"),
///     }
///
///     let orders = producer.topic("orders"); // for hot loops: no look-up by name
///     let mut receipts = Vec::new();
///     for n in 0..1_000_u64 {
///         // `enqueue` waits for buffer space only
///         receipts.push(orders.enqueue(Record::new(order).key(&n.to_be_bytes())).await?);
///     }
///     futures::future::try_join_all(receipts).await?;
///     drop(orders.enqueue(Record::tombstone(id)).await?); // no receipt kept: `flush` tells its failure
///     producer.flush().await?;
///     Ok(producer.close().await?)
/// }
/// ```
#[derive(Clone)]
pub struct Producer(Arc<Handle>);

/// Writes records to one topic: the verbs of [`Producer`] without the look-up by name.
#[derive(Clone)]
pub struct TopicProducer {
    topic: Arc<Topic>,
    handle: Arc<Handle>,
}

/// What the clones of a producer count.
struct Handle(Arc<Inner>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close_in_background();
    }
}

impl Producer {
    /// Settings for a new producer.
    pub fn builder(client: &Client) -> ProducerBuilder {
        ProducerBuilder::new(client)
    }

    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self(Arc::new(Handle(inner)))
    }

    /// A handle for one topic. Asks nobody: whether the topic exists turns out when a record is sent.
    #[must_use]
    pub fn topic(&self, name: &str) -> TopicProducer {
        TopicProducer { topic: self.0.0.topic(name), handle: self.0.clone() }
    }

    /// Sends a record and waits for its acknowledgement, at most `delivery.timeout.ms` once it has a place in the
    /// buffer.
    ///
    /// # Errors
    /// [`SendError::NotWritten`] if it is safe to send it again, [`SendError::PossiblyWritten`] if it may be in the log.
    ///
    /// # Cancel safety
    /// Dropped while it waits for space or for the topic, the record is as if never sent. Later it is sent all the same,
    /// and [`Producer::flush`] tells if it failed.
    pub async fn send<'r>(
        &self,
        topic: &str,
        record: impl Into<Record<'r>>,
    ) -> Result<RecordMetadata, SendError> {
        let topic = self.0.0.topic(topic);
        self.0.0.enqueue(&topic, record.into()).await.map_err(SendError::NotWritten)?.await
    }

    /// Gives a record to the producer, and waits only for space in the buffer or for the topic to become known, at most
    /// `max.block.ms`. The [`Receipt`] is the future of its acknowledgement.
    ///
    /// # Errors
    /// When there was no space in time, the topic does not exist, or the record is too large. Nothing was written.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the record is as if never given.
    pub async fn enqueue<'r>(&self, topic: &str, record: impl Into<Record<'r>>) -> Result<Receipt> {
        let topic = self.0.0.topic(topic);
        self.0.0.enqueue(&topic, record.into()).await
    }

    /// Gives a record to the producer without waiting.
    ///
    /// # Errors
    /// When it would have to wait. For a topic that is not known it says so, and the look-up begins.
    pub fn try_enqueue<'r>(
        &self,
        topic: &str,
        record: impl Into<Record<'r>>,
    ) -> Result<Receipt, TryEnqueueError> {
        let topic = self.0.0.topic(topic);
        self.0.0.try_enqueue(&topic, record.into())
    }

    /// Sends what is buffered without lingering, and waits until the fate of all of it is known: at most
    /// `delivery.timeout.ms`.
    ///
    /// # Errors
    /// The first failure, since the last `flush`, among records whose [`Receipt`] was dropped.
    ///
    /// # Cancel safety
    /// Sending goes on.
    pub async fn flush(&self) -> Result<(), SendError> {
        self.0.0.flush().await
    }

    /// Takes no more records, flushes, and ends. At most `delivery.timeout.ms`.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    ///
    /// # Cancel safety
    /// It goes on in the background when the last handle is dropped.
    pub async fn close(&self) -> Result<(), SendError> {
        self.0.0.close().await
    }
}

impl TopicProducer {
    /// The topic.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.topic.name
    }

    /// As [`Producer::send`].
    ///
    /// # Errors
    /// As [`Producer::send`].
    ///
    /// # Cancel safety
    /// As [`Producer::send`].
    pub async fn send<'r>(&self, record: impl Into<Record<'r>>) -> Result<RecordMetadata, SendError> {
        self.handle.0.enqueue(&self.topic, record.into()).await.map_err(SendError::NotWritten)?.await
    }

    /// As [`Producer::enqueue`].
    ///
    /// # Errors
    /// As [`Producer::enqueue`].
    ///
    /// # Cancel safety
    /// As [`Producer::enqueue`].
    pub async fn enqueue<'r>(&self, record: impl Into<Record<'r>>) -> Result<Receipt> {
        self.handle.0.enqueue(&self.topic, record.into()).await
    }

    /// As [`Producer::try_enqueue`].
    ///
    /// # Errors
    /// As [`Producer::try_enqueue`].
    pub fn try_enqueue<'r>(&self, record: impl Into<Record<'r>>) -> Result<Receipt, TryEnqueueError> {
        self.handle.0.try_enqueue(&self.topic, record.into())
    }
}

impl Inner {
    #[inline]
    async fn enqueue(self: &Arc<Self>, topic: &Topic, record: Record<'_>) -> Result<Receipt> {
        if self.interceptors.is_empty() {
            return match self.append(topic, &record, &AddedHeaders::NONE, &mut None) {
                Ok(receipt) => Ok(receipt),
                Err(blocked) => self.enqueue_waiting(topic, record, blocked).await,
            };
        }
        let added = AddedHeaders::collect(&self.interceptors, &topic.name, &record);
        let enqueued = match self.append(topic, &record, &added, &mut None) {
            Ok(receipt) => Ok(receipt),
            Err(blocked) => self.append_waiting(topic, &record, &added, blocked).await,
        };
        added.recycle();
        enqueued
    }

    /// Apart, so that the future of a record that need not wait stays small.
    #[cold]
    async fn enqueue_waiting(
        self: &Arc<Self>,
        topic: &Topic,
        record: Record<'_>,
        blocked: Blocked,
    ) -> Result<Receipt> {
        Box::pin(self.append_waiting(topic, &record, &AddedHeaders::NONE, blocked)).await
    }

    #[inline]
    fn try_enqueue(self: &Arc<Self>, topic: &Topic, record: Record<'_>) -> Result<Receipt, TryEnqueueError> {
        let added = AddedHeaders::collect(&self.interceptors, &topic.name, &record);
        let appended = match self.append(topic, &record, &added, &mut None) {
            Err(Blocked::UnknownTopic) if self.look_up(topic) => {
                self.append(topic, &record, &added, &mut None)
            }
            appended => appended,
        };
        added.recycle();
        Ok(appended.inspect_err(|blocked| {
            if matches!(blocked, Blocked::UnknownPartition(_)) {
                self.client.metadata.refresh();
            }
        })?)
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("config", &self.0.0.config).finish_non_exhaustive()
    }
}

impl fmt::Debug for TopicProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicProducer").field("topic", &self.topic.name).finish_non_exhaustive()
    }
}

const _: () = {
    const fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Producer>();
    shared::<TopicProducer>();
    shared::<Error>();
};
