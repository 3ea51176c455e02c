//! Partitions that a consumer owns, as the user sees them.

use std::{fmt, sync::Arc, time::Duration};

use super::inner::Inner;
use crate::TopicPartition;

/// A partition that a consumer reads: as a member of a group, or because it was assigned by hand.
#[derive(Clone)]
pub struct Assignment {
    topic_partition: TopicPartition,
    inner: Arc<Inner>,
}

impl Assignment {
    pub(super) fn new(topic_partition: TopicPartition, inner: &Arc<Inner>) -> Self {
        Self { topic_partition, inner: Arc::clone(inner) }
    }

    /// The partition.
    #[must_use]
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// How long nobody else can have it.
    #[must_use]
    pub fn lease(&self) -> Lease {
        Lease { until: self.inner.gate.until(), now: self.inner.shared.env.elapsed() }
    }
}

impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assignment").field("topic_partition", &self.topic_partition).finish_non_exhaustive()
    }
}

/// How long a membership lasts even if nothing more is heard of the group; see [`Consumer`](crate::Consumer).
#[derive(Debug, Clone, Copy)]
pub struct Lease {
    until: Option<Duration>,
    now: Duration,
}

impl Lease {
    /// What was left of it when [`Assignment::lease`] was called; zero when nothing may be handed out, and
    /// [`Duration::MAX`] without a group.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.until.map_or(Duration::MAX, |until| until.saturating_sub(self.now))
    }
}
