//! Settings for a new producer.

use std::{fmt, sync::Arc, time::Duration};

use ottla_protocol::compression::Compression;

use super::{
    Acks, Choice, Partitioner, Producer, ProducerInterceptor, TopicView, config::ProducerConfig,
    inner::Inner, partitioner::By,
};
use crate::{
    Client, Error, Properties, Record, Result,
    config::{EffectiveSettings, Settings, millis},
};

/// Settings for a new [`Producer`], beginning with those of its client. Setters never fail: `build` reports every
/// problem at once. The last call wins.
///
/// ```no_run
/// use ottla::*;
///
/// fn customised(client: &Client, tracing: impl ProducerInterceptor) -> Result<Producer> {
///     let by_tier = |record: &Record<'_>, topic: &TopicView<'_>| match record.key_bytes() {
///         Some([b'v', b'i', b'p', ..]) => Choice::Partition(topic.partitions() as i32 - 1),
///         Some(_) => Choice::KeyHash, // murmur2, as Java
///         None => Choice::Sticky,     // adaptive, KIP-794
///     };
///     Producer::builder(client).interceptor(tracing).partition_by(by_tier).build()
/// }
/// ```
#[derive(Clone)]
#[must_use = "nothing happens before `build`"]
pub struct ProducerBuilder {
    client: Client,
    settings: Settings,
    partitioner: Option<Arc<dyn Partitioner>>,
    interceptors: Vec<Arc<dyn ProducerInterceptor>>,
}

impl ProducerBuilder {
    pub(super) fn new(client: &Client) -> Self {
        let settings = client.shared().settings.clone();
        Self { client: client.clone(), settings, partitioner: None, interceptors: Vec::new() }
    }

    /// When a record counts as written. [`Acks::All`]; less turns idempotence off.
    pub fn acks(self, acks: Acks) -> Self {
        self.set("acks", acks.name())
    }

    /// Whether the brokers discard what they get twice, and refuse what is out of order. On with [`Acks::All`].
    pub fn enable_idempotence(self, enable: bool) -> Self {
        self.set("enable.idempotence", enable.to_string())
    }

    /// How long a batch that is not full waits for more records at most, while the broker or the partition is busy;
    /// otherwise it is sent at once. 5 ms.
    ///
    /// A record that joins an open batch gets the time at which its sender last looked at the clock: what a topic with
    /// `CreateTime` shows may be behind by up to this long. A timestamp that the record brings is kept as it is.
    pub fn linger(self, linger: Duration) -> Self {
        self.set("linger.ms", millis(linger))
    }

    /// Bytes at which a batch is full, before compression. 256 KiB.
    pub fn batch_size(self, bytes: usize) -> Self {
        self.set("batch.size", bytes.to_string())
    }

    /// Bytes that records may take until they are acknowledged. 32 MiB.
    pub fn buffer_memory(self, bytes: usize) -> Self {
        self.set("buffer.memory", bytes.to_string())
    }

    /// How long a record waits for space in the buffer, or for its topic. 60 s.
    pub fn max_block(self, time: Duration) -> Self {
        self.set("max.block.ms", millis(time))
    }

    /// How long after it was given to the producer a record is told of its fate at the latest. 120 s.
    pub fn delivery_timeout(self, timeout: Duration) -> Self {
        self.set("delivery.timeout.ms", millis(timeout))
    }

    /// How long a broker may take to answer; then its connection is closed and the request is tried again. 30 s.
    pub fn request_timeout(self, timeout: Duration) -> Self {
        self.set("request.timeout.ms", millis(timeout))
    }

    /// The wait before a batch is tried again; doubles up to [`ProducerBuilder::retry_backoff_max`]. 100 ms.
    pub fn retry_backoff(self, backoff: Duration) -> Self {
        self.set("retry.backoff.ms", millis(backoff))
    }

    /// The longest wait before a batch is tried again. 1 s.
    pub fn retry_backoff_max(self, backoff: Duration) -> Self {
        self.set("retry.backoff.max.ms", millis(backoff))
    }

    /// Bytes of a request at most, and so of a record. 1 MiB.
    pub fn max_request_size(self, bytes: usize) -> Self {
        self.set("max.request.size", bytes.to_string())
    }

    /// Batches of one partition in flight at most, from 1 to 5. 5.
    pub fn max_in_flight_requests_per_connection(self, requests: usize) -> Self {
        self.set("max.in.flight.requests.per.connection", requests.to_string())
    }

    /// How batches are compressed. Not at all.
    pub fn compression(self, compression: Compression) -> Self {
        self.set("compression.type", compression.name())
    }

    /// Sends records by key only if their partition is chosen by hand: all others go where there is least to do.
    pub fn partitioner_ignore_keys(self, ignore: bool) -> Self {
        self.set("partitioner.ignore.keys", ignore.to_string())
    }

    /// Settings by their Java or librdkafka names.
    pub fn properties(mut self, properties: Properties) -> Self {
        self.settings.extend(&properties);
        self
    }

    /// Lets a closure choose the partitions.
    pub fn partition_by<F>(self, choose: F) -> Self
    where
        F: Fn(&Record<'_>, &TopicView<'_>) -> Choice + Send + Sync + 'static,
    {
        self.partitioner(By(choose))
    }

    /// Lets `partitioner` choose the partitions.
    pub fn partitioner(mut self, partitioner: impl Partitioner) -> Self {
        self.partitioner = Some(Arc::new(partitioner));
        self
    }

    /// Adds an interceptor behind those there are.
    pub fn interceptor(mut self, interceptor: impl ProducerInterceptor) -> Self {
        self.interceptors.push(Arc::new(interceptor));
        self
    }

    /// Validates the settings and makes the producer. No I/O: topics and brokers are asked for when they are needed.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with everything that is wrong; `Closed` if the client is closed.
    pub fn build(self) -> Result<Producer> {
        let (config, _) = ProducerConfig::read(&self.settings)?;
        let shared = self.client.shared();
        if shared.is_closed() {
            return Err(Error::closed());
        }
        let inner = Inner::start(shared.clone(), config, self.partitioner, self.interceptors);
        Ok(Producer::new(inner))
    }

    /// The settings that the producer would have.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with everything that is wrong.
    pub fn effective(&self) -> Result<EffectiveSettings> {
        Ok(ProducerConfig::read(&self.settings)?.1)
    }

    fn set(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.settings.set(key, value);
        self
    }
}

impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerBuilder").finish_non_exhaustive()
    }
}
