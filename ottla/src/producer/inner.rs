//! What all handles and tasks of a producer share.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use foldhash::quality::FixedState;
use hashbrown::HashMap;
use ottla_core::{
    metadata::TopicMetadata,
    produce::{Facts, Fate, GivenUp, Ticket},
};
use ottla_protocol::{
    batch::{BatchBuilder, SealedBatch},
    compression::{Compression, CompressionError, Compressor},
};

use super::{
    budget::Budget,
    buffers::{Buffers, Compressors},
    config::ProducerConfig,
    identity::Identity,
    interceptor::ProducerInterceptor,
    partitioner::Partitioner,
    receipt::{BatchOutcome, Outcome, SendError, Unheard},
    sender::Sender,
    topic::{Completion, Partition, Slot, Topic},
};
use crate::{
    Error, Result,
    client::{Resource, Shared},
    env::{BoxFuture, offload},
    event::Event,
    net::{Latch, lock, now},
    record::to_millis,
};

/// What all handles and tasks of a producer share.
pub(super) struct Inner {
    pub(super) client: Arc<Shared>,
    pub(super) config: ProducerConfig,
    pub(super) partitioner: Option<Arc<dyn Partitioner>>,
    pub(super) interceptors: Vec<Arc<dyn ProducerInterceptor>>,
    pub(super) budget: Arc<Budget>,
    pub(super) buffers: Buffers,
    pub(super) clock: WallClock,
    pub(super) identity: Identity,
    pub(super) unheard: Arc<Unheard>,
    compressors: Compressors,
    topics: RwLock<Topics>,
    senders: Mutex<BTreeMap<i32, Arc<Sender>>>,
    /// Requests that were begun.
    drafts: AtomicU64,
    /// No records any more.
    closing: AtomicBool,
    /// Every task ends.
    end: Latch<()>,
    me: Weak<Self>,
}

#[derive(Default)]
struct Topics {
    by_name: HashMap<Arc<str>, Arc<Topic>, FixedState>,
    /// In the order in which they were first used.
    all: Vec<Arc<Topic>>,
}

/// Milliseconds since 1970 as of the last time that a sender looked: records do not read the clock.
#[derive(Default)]
pub(super) struct WallClock(AtomicI64);

impl WallClock {
    pub(super) fn publish(&self, now: SystemTime) -> i64 {
        let millis = to_millis(now);
        self.0.store(millis, Ordering::Relaxed);
        millis
    }

    #[inline]
    pub(super) fn recent(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Unused buffers that are kept.
const SPARE_BUFFERS: usize = 4 << 20;

impl Inner {
    pub(super) fn start(
        client: Arc<Shared>,
        config: ProducerConfig,
        partitioner: Option<Arc<dyn Partitioner>>,
        interceptors: Vec<Arc<dyn ProducerInterceptor>>,
    ) -> Arc<Self> {
        let inner = Arc::new_cyclic(|me| Self {
            budget: Budget::new(config.buffer_memory),
            buffers: Buffers::new(SPARE_BUFFERS.min(config.buffer_memory)),
            clock: WallClock::default(),
            identity: Identity::default(),
            unheard: Arc::default(),
            compressors: Compressors::new(&config),
            topics: RwLock::default(),
            senders: Mutex::default(),
            drafts: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            end: Latch::default(),
            me: me.clone(),
            client,
            config,
            partitioner,
            interceptors,
        });
        inner.client.register(inner.me.clone());
        inner.client.spawn("producer", super::upkeep::run(inner.clone()));
        inner
    }

    /// Waits until the producer has ended. Cancel safe.
    pub(super) async fn ended(&self) {
        self.end.wait().await;
    }

    /// Takes over the partitions of a topic; closed ones, once no records are taken any more.
    pub(super) fn learn_partitions(&self, topic: &Topic, told: &TopicMetadata) {
        let _not_while_closing = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let closed = self.closing.load(Ordering::SeqCst);
        topic.learn(told, self.config.queue, &self.unheard, closed);
    }

    /// The topic of that name; unknown ones are remembered without asking anybody.
    pub(super) fn topic(&self, name: &str) -> Arc<Topic> {
        if let Some(topic) = self.topics.read().unwrap_or_else(PoisonError::into_inner).by_name.get(name) {
            return topic.clone();
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.by_name.get(name) {
            return topic.clone();
        }
        let topic = Arc::new(Topic::new(name, self.client.env.random()));
        topics.by_name.insert(topic.name.clone(), topic.clone());
        topics.all.push(topic.clone());
        topic
    }

    pub(super) fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).all.clone()
    }

    pub(super) fn each_partition(&self, mut visit: impl FnMut(&Arc<Partition>)) {
        self.topics().iter().for_each(|topic| topic.each_partition(&mut visit));
    }

    /// The sender to a broker.
    pub(super) fn sender(self: &Arc<Self>, node: i32) -> Arc<Sender> {
        let mut is_new = false;
        let sender = lock(&self.senders)
            .entry(node)
            .or_insert_with(|| {
                is_new = true;
                Arc::new(Sender::new(node))
            })
            .clone();
        if is_new {
            self.client.spawn("produce sender", sender.clone().run(self.clone()));
        }
        sender
    }

    /// The number of a new request.
    pub(super) fn next_draft(&self) -> u64 {
        self.drafts.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Has a partition's sender look at it.
    pub(super) fn list(&self, partition: &Arc<Partition>) {
        let sender = partition.lock().list();
        if let Some(sender) = sender {
            sender.list_quietly(partition.clone());
        }
    }

    /// A batch is in the log.
    pub(super) fn written(
        &self,
        partition: &Partition,
        completion: Completion,
        base_offset: Option<i64>,
        log_append_time: Option<i64>,
        facts: Facts,
        bytes: usize,
    ) {
        let Completion { outcome, reserved } = completion;
        // Room for others before anybody is woken who might want it.
        drop(reserved);
        if outcome.resolve(Outcome::Written { base_offset, log_append_time }) {
            self.intercept(&outcome, facts);
        }
        self.client.events.emit(Event::BatchProduced {
            topic_partition: partition.topic_partition(),
            records: facts.records,
            bytes,
            attempts: facts.attempts,
            elapsed: now().saturating_duration_since(facts.created),
            offset: base_offset,
        });
    }

    /// A batch is given up, or its sender is told at the deadline.
    pub(super) fn failed(
        &self,
        batch: &BatchOutcome,
        outcome: Outcome,
        error: Error,
        fate: Fate,
        facts: Facts,
    ) {
        if !batch.resolve(outcome) {
            // Its sender was told before.
            return;
        }
        self.intercept(batch, facts);
        let error = if fate == Fate::PossiblyWritten { error.with_possibly_written() } else { error };
        let destination = batch.destination();
        self.client.events.emit(Event::BatchFailed {
            topic_partition: (destination.topic.clone(), destination.partition).into(),
            records: facts.records,
            attempts: facts.attempts,
            error,
        });
    }

    /// Tells what was given up, all for the same reason.
    pub(super) fn tell(&self, partition: &Partition, told: Vec<GivenUp<Arc<BatchOutcome>>>, error: &Error) {
        if told.is_empty() {
            return;
        }
        let error = error.clone().with_topic_partition(partition.topic_partition());
        let possibly_written = SendError::possibly_written(error.clone());
        for GivenUp { to, fate, facts } in told {
            let told = match fate {
                Fate::NotWritten => SendError::NotWritten(error.clone()),
                Fate::PossiblyWritten => possibly_written.clone(),
            };
            self.failed(&to, Outcome::Failed(told), error.clone(), fate, facts);
        }
    }

    /// Gives up everything that these partitions hold.
    pub(super) fn give_up(&self, partitions: &[Arc<Partition>], error: &Error) {
        for partition in partitions {
            let told = {
                let mut slot = partition.lock();
                let told = slot.queue.give_up(|completion| completion.outcome.clone());
                partition.publish_backlog(&slot);
                told
            };
            self.tell(partition, told, error);
        }
    }

    fn intercept(&self, batch: &BatchOutcome, facts: Facts) {
        if self.interceptors.is_empty() {
            return;
        }
        for index in 0..facts.records {
            let Some(result) = batch.result(index) else { return };
            for interceptor in &self.interceptors {
                // Other batches of the same answer still have to be settled, whatever a user's code does.
                let told = catch_unwind(AssertUnwindSafe(|| {
                    interceptor.on_outcome(&batch.destination().topic, &result);
                }));
                if told.is_err() {
                    tracing::error!(topic = &*batch.destination().topic, "a producer interceptor panicked");
                }
            }
        }
    }
}

/// Compression.
impl Inner {
    /// Compresses a batch; true if that is done, false if it goes on elsewhere and the partition is listed after it.
    pub(super) fn compress(
        self: &Arc<Self>,
        partition: &Arc<Partition>,
        ticket: Ticket,
        builder: BatchBuilder,
    ) -> bool {
        let compressor = self.compressors.take();
        if builder.size() <= inline_bytes(self.config.compression) {
            let sealed = compressor.and_then(|compressor| seal(builder, compressor));
            self.compressed(partition, ticket, sealed);
            return true;
        }
        partition.lock().listed = false;
        let (inner, partition) = (self.clone(), partition.clone());
        self.client.spawn("compression", async move {
            let work = move || compressor.and_then(|compressor| seal(builder, compressor));
            let sealed = offload(&inner.client.env, work).await;
            inner.compressed(&partition, ticket, sealed);
            inner.list(&partition);
        });
        false
    }

    fn compressed(
        &self,
        partition: &Partition,
        ticket: Ticket,
        sealed: Result<(SealedBatch, Compressor), CompressionError>,
    ) {
        match sealed {
            Ok((sealed, compressor)) => {
                self.compressors.give(compressor);
                partition.lock().queue.compressed(ticket, sealed);
            }
            Err(error) => {
                let lost = partition.lock().queue.lost(ticket);
                let Some(GivenUp { to, fate, facts }) = lost else { return };
                let lost = GivenUp { to: to.outcome.clone(), fate, facts };
                let error = Error::data("a batch could not be compressed").with_source(error);
                self.tell(partition, vec![lost], &error);
            }
        }
    }
}

/// Up to here compressing takes no longer than handing it to another thread, or about 100 µs.
fn inline_bytes(compression: Compression) -> usize {
    const KIB: usize = 1_024;
    match compression {
        Compression::Gzip => 16 * KIB,
        Compression::Zstd => 32 * KIB,
        _ => 64 * KIB,
    }
}

fn seal(
    builder: BatchBuilder,
    mut compressor: Compressor,
) -> Result<(SealedBatch, Compressor), CompressionError> {
    Ok((builder.seal_with(&mut compressor)?, compressor))
}

/// The end.
impl Inner {
    /// Waits until every record that is buffered now has its outcome.
    pub(super) async fn flush(self: &Arc<Self>) -> Result<(), SendError> {
        let mut open = Vec::new();
        self.each_partition(|partition| {
            let sender = {
                let mut slot = partition.lock();
                slot.queue.hurry();
                open.extend(slot.queue.completions().map(|completion| completion.outcome.clone()));
                (!slot.queue.is_empty()).then(|| slot.list()).flatten()
            };
            if let Some(sender) = sender {
                sender.list_quietly(partition.clone());
            }
        });
        for batch in open {
            batch.settled().await;
        }
        self.unheard.take().map_or(Ok(()), Err)
    }

    /// Takes no more records, writes what it has, and ends. Bounded by the delivery timeout.
    pub(super) async fn close(self: &Arc<Self>) -> Result<(), SendError> {
        self.refuse_records();
        let flushed = self.flush().await;
        self.end();
        flushed
    }

    fn refuse_records(&self) {
        {
            // Partitions are learnt either before this, and visited below, or closed from the start.
            let _nobody_learns = self.topics.write().unwrap_or_else(PoisonError::into_inner);
            self.closing.store(true, Ordering::SeqCst);
        }
        self.each_partition(|partition| partition.lock().closed = true);
    }

    /// Ends at once: what has no outcome yet gets one.
    pub(super) fn end(&self) {
        self.refuse_records();
        let mut partitions = Vec::new();
        self.each_partition(|partition| partitions.push(partition.clone()));
        self.give_up(&partitions, &Error::closed());
        // The senders refer to each other by way of the partitions.
        for partition in &partitions {
            let Slot { sender, .. } = &mut *partition.lock();
            *sender = None;
        }
        self.end.set(());
    }

    /// Closes in the background, since the last handle is gone.
    pub(super) fn close_in_background(self: &Arc<Self>) {
        if self.end.is_set() {
            return;
        }
        let inner = self.clone();
        self.client.spawn("close producer", async move {
            // Nobody is left to tell; failures are events.
            let _ = inner.close().await;
        });
    }
}

impl Resource for Inner {
    fn close(&self) -> BoxFuture<'_, ()> {
        let me = self.me.upgrade();
        Box::pin(async move {
            if let Some(me) = me {
                // Failures are events.
                let _ = Self::close(&me).await;
            }
        })
    }
}

/// What a record is told at its deadline.
pub(super) fn overdue(timeout: Duration) -> Error {
    Error::timeout(format!("not acknowledged within {timeout:?} (delivery.timeout.ms)"))
}
