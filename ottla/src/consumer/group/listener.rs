//! What a program does when partitions come and go.

use std::{fmt, future::Future, time::Duration};

use tokio::time::Instant;

use crate::{Assignment, Consumer, env::BoxFuture};

/// Any error, as programs have them.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Told when partitions come and go; see [`ConsumerBuilder::rebalance_listener`](crate::ConsumerBuilder::rebalance_listener).
///
/// The three methods are called one after the other, never two at once, and each may use the consumer:
///
/// ```no_run
/// use ottla::*;
///
/// /// Offsets that are kept beside the results.
/// struct Restore(std::collections::HashMap<TopicPartition, i64>);
///
/// impl RebalanceListener for Restore {
///     async fn on_assigned(&self, rebalance: &Rebalance<'_>) -> Result<(), BoxError> {
///         for owned in rebalance.partitions() { // nothing is delivered before this returns
///             if let Some(offset) = self.0.get(owned.topic_partition()) {
///                 rebalance.consumer().seek(owned.topic_partition(), OffsetSpec::At(*offset)).await?;
///             }
///         }
///         Ok(())
///     }
///
///     async fn on_revoked(&self, rebalance: &Rebalance<'_>) -> Result<(), BoxError> {
///         let commit = rebalance.consumer().commit(); // still the owner, until the deadline
///         Ok(tokio::time::timeout(rebalance.remaining(), commit).await??)
///     }
/// }
/// ```
///
/// # When it fails
/// An error and a panic are told by [`Event::ListenerFailed`](crate::Event::ListenerFailed) and by the next `poll` or
/// `recv`; then the group goes on. So does it when a method is not done at [its deadline](Rebalance::remaining): its
/// future is dropped. A method must not block its thread, which is one of the client's.
pub trait RebalanceListener: Send + Sync + 'static {
    /// These partitions came, in addition to those that were there. Nothing of them is handed out before this returns.
    fn on_assigned(&self, rebalance: &Rebalance<'_>) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = rebalance;
        async { Ok(()) }
    }

    /// These partitions go. What was handed out of them is complete, or had its time
    /// ([`drain_timeout`](crate::ConsumerBuilder::drain_timeout)), and nothing more is handed out; the consumer still owns
    /// them, and commits what is complete when this returns.
    fn on_revoked(&self, rebalance: &Rebalance<'_>) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = rebalance;
        async { Ok(()) }
    }

    /// These partitions are gone: the group has ended the membership, and another consumer may have them already.
    /// Nothing of them can be committed any more.
    fn on_lost(&self, rebalance: &Rebalance<'_>) -> impl Future<Output = Result<(), BoxError>> + Send {
        let _ = rebalance;
        async { Ok(()) }
    }
}

/// Partitions that come or go, as a [`RebalanceListener`] is told.
pub struct Rebalance<'a> {
    consumer: &'a Consumer,
    partitions: &'a [Assignment],
    deadline: Instant,
}

impl<'a> Rebalance<'a> {
    pub(super) fn new(consumer: &'a Consumer, partitions: &'a [Assignment], deadline: Instant) -> Self {
        Self { consumer, partitions, deadline }
    }

    /// The consumer.
    #[must_use]
    pub fn consumer(&self) -> &'a Consumer {
        self.consumer
    }

    /// The partitions.
    #[must_use]
    pub fn partitions(&self) -> &'a [Assignment] {
        self.partitions
    }

    /// How long the group waits for the listener; then its future is dropped, and the group goes on without it.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

impl fmt::Debug for Rebalance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rebalance")
            .field("partitions", &self.partitions)
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}

/// A method of a [`RebalanceListener`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::consumer) enum Method {
    Assigned,
    Revoked,
    Lost,
}

impl Method {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Assigned => "on_assigned",
            Self::Revoked => "on_revoked",
            Self::Lost => "on_lost",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// [`RebalanceListener`] as an object.
pub(in crate::consumer) trait Listener: Send + Sync {
    fn call<'a>(
        &'a self,
        method: Method,
        rebalance: &'a Rebalance<'a>,
    ) -> BoxFuture<'a, Result<(), BoxError>>;
}

impl<L: RebalanceListener> Listener for L {
    fn call<'a>(
        &'a self,
        method: Method,
        rebalance: &'a Rebalance<'a>,
    ) -> BoxFuture<'a, Result<(), BoxError>> {
        match method {
            Method::Assigned => Box::pin(self.on_assigned(rebalance)),
            Method::Revoked => Box::pin(self.on_revoked(rebalance)),
            Method::Lost => Box::pin(self.on_lost(rebalance)),
        }
    }
}
