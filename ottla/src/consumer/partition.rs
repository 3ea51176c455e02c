//! Partitions that are read one by one, each by a task of its own.
//!
//! ```text
//!              next_partition                 revoked, lost, closed
//!   shared ──────────────────────▶ reserved ───────────────────────▶ gone: `poll` gives `None`
//!     ▲                               │
//!     └───────── dropped ─────────────┘
//! ```
//!
//! What is shared is handed out by [`Consumer::poll`], `recv` and the stream; what is reserved only by its reader.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
};

use tokio::sync::Notify;

use super::{
    Consumer,
    assignment::Assignment,
    batch::Batch,
    duty::Owner,
    inner::{Inner, State},
    recv::give_way,
};
use crate::{Result, TopicPartition};

/// Who asks for records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// One of those that read whatever nobody has reserved.
    Any,
    /// The reader of the partition with this token.
    Of(u64),
}

/// One partition of a consumer, for a task of its own; see [`Consumer::next_partition`].
#[must_use = "dropped, the partition is the consumer's again"]
pub struct PartitionConsumer {
    inner: Arc<Inner>,
    token: u64,
    topic_partition: TopicPartition,
    owner: Option<Arc<Owner>>,
    /// There may be something to hand out, or the partition is gone.
    news: Arc<Notify>,
}

impl Consumer {
    /// A partition that is read and that nobody has taken yet, for a task of its own; `None` when the consumer is closed.
    /// Each of them is given once, and again after a rebalance or when its [`PartitionConsumer`] was dropped.
    ///
    /// What is taken is not handed out by [`poll`](Consumer::poll), [`recv`](Consumer::recv) and the stream.
    ///
    /// # Errors
    /// What the group has to say before anything else, and that a topic is not there, as for [`Consumer::poll`].
    ///
    /// # Cancel safety
    /// Nothing is taken when the future is dropped before it is ready.
    pub async fn next_partition(&self) -> Result<Option<PartitionConsumer>> {
        let inner = self.inner();
        inner.has_readers.store(true, Ordering::Release);
        loop {
            let news = inner.untaken.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            let turned = inner.gate.turned.notified();
            tokio::pin!(turned);
            turned.as_mut().enable();
            if inner.is_closed() {
                return Ok(None);
            }
            if let Some(taken) = PartitionConsumer::take(inner) {
                return Ok(Some(taken));
            }
            // Without a partition there is nobody else who could tell it.
            inner.may_hand_out()?;
            inner.next_absent()?;
            tokio::select! {
                biased;
                () = news => {}
                () = turned => {}
            }
        }
    }
}

impl PartitionConsumer {
    fn take(inner: &Arc<Inner>) -> Option<Self> {
        let news = Arc::<Notify>::default();
        let (token, topic_partition, owner) = inner.with(|state| state.reserve(&news))?;
        // Whoever is handing out a record of it by `recv` has done so before its reader begins.
        inner.on_change();
        Some(Self { inner: Arc::clone(inner), token, topic_partition, owner, news })
    }

    /// The partition.
    #[must_use]
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// The ownership of the partition, for completing records by offset.
    #[must_use]
    pub fn assignment(&self) -> Assignment {
        Assignment::of(self.topic_partition.clone(), &self.inner, self.owner.clone())
    }

    /// Its next records, in order; `None` when the partition was revoked or lost, or the consumer closed. What was handed
    /// out before may then still be completed for [some time](crate::ConsumerBuilder::drain_timeout).
    ///
    /// # Errors
    /// As [`Consumer::poll`], about this partition only.
    ///
    /// # Cancel safety
    /// Nothing is taken when the future is dropped before it is ready.
    pub async fn poll(&self) -> Result<Option<Batch>> {
        give_way().await;
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            let turned = self.inner.gate.turned.notified();
            tokio::pin!(turned);
            turned.as_mut().enable();
            if self.is_gone() {
                return Ok(None);
            }
            if let Some(batch) = self.inner.try_poll(Reader::Of(self.token))? {
                return Ok(Some(batch));
            }
            tokio::select! {
                biased;
                () = news => {}
                () = turned => {}
            }
        }
    }

    fn is_gone(&self) -> bool {
        self.inner.is_closed()
            || self.owner.as_ref().is_some_and(|owner| owner.revoking.is_set())
            || self.inner.with(|state| state.partitions.ticket(self.token).is_none())
    }
}

impl Drop for PartitionConsumer {
    fn drop(&mut self) {
        self.inner.with(|state| {
            state.readers.remove(&self.token);
            state.partitions.reserve(self.token, false);
        });
        self.inner.on_change();
        self.inner.wake_one();
    }
}

impl fmt::Debug for PartitionConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionConsumer")
            .field("topic_partition", &self.topic_partition)
            .finish_non_exhaustive()
    }
}

impl State {
    /// Gives a partition that flows and has no reader to one.
    fn reserve(&mut self, news: &Arc<Notify>) -> Option<(u64, TopicPartition, Option<Arc<Owner>>)> {
        let is_free = |token: &u64| !self.partitions.is_reserved(*token) && self.has_begun(*token);
        let token = self.partitions.tokens().find(is_free)?;
        let (topic, partition) = self.partitions.name(token)?;
        let topic_partition = TopicPartition::new(&**topic, partition);
        self.partitions.reserve(token, true);
        self.readers.insert(token, Arc::clone(news));
        Some((token, topic_partition, self.owner_of(token)))
    }

    /// Whether there is something for the reader of a partition, or nothing ever more.
    fn has_news(&self, token: u64) -> bool {
        self.partitions.has_something(token)
            || self.can_go_again(token)
            || self.owner_of(token).is_some_and(|owner| owner.revoking.is_set())
            || self.partitions.ticket(token).is_none()
    }
}

impl Inner {
    /// Something may be there for whoever reads: wakes one of those that read everything, and the readers of their own
    /// partitions for whom something is there.
    pub(super) fn wake_one(&self) {
        self.ready.notify_one();
        if self.has_readers.load(Ordering::Acquire) {
            self.untaken.notify_waiters();
            self.with(|state| {
                let woken = state.readers.iter().filter(|(token, _)| state.has_news(**token));
                woken.for_each(|(_, news)| news.notify_one());
            });
        }
    }

    /// Everybody has to look: the consumer is closed.
    pub(super) fn wake_all_readers(&self) {
        self.ready.notify_all();
        self.untaken.notify_waiters();
        self.with(|state| state.readers.values().for_each(|news| news.notify_one()));
    }
}
