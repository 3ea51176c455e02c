//! Who is asked for a partition's records: its leader, or the replica that the leader has named since it is closer (KIP-392).
//!
//! ```text
//!                  the leader names a replica
//!   Leader ─────────────────────────────────────▶ Replica
//!    ▲  ▲                                          │  │
//!    │  └─ time is over, another leader or epoch, ─┘  │ it refuses, cannot be reached,
//!    │     not in sync, bytes that are corrupt        │ or knows nothing of the offset
//!    │                                                ▼
//!    └──────────────── half a minute ─────────── LeaderAlone
//! ```
//!
//! A leader gives nothing to whom it sends elsewhere, and hears late that a follower is of no use: it would name it again and
//! again. So for a while it is not told where the client stands, and serves it itself.

use std::time::{Duration, Instant};

/// By then a leader knows by itself of a follower that is behind or gone (`replica.lag.time.max.ms`).
const ALONE: Duration = Duration::from_secs(30);

/// Who is asked for a partition's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Source {
    /// The leader, which may name a replica.
    #[default]
    Leader,
    /// The replica that the leader has named, until it is asked again.
    Replica { node: i32, until: Instant },
    /// The leader, which is not told where the client stands until then.
    LeaderAlone { until: Instant },
}

impl Source {
    /// What follows when the replica is of no use.
    pub(super) fn leader_alone(now: Instant) -> Self {
        Self::LeaderAlone { until: now + ALONE }
    }

    /// The replica that is read in place of the leader.
    pub(super) fn replica(self, now: Instant) -> Option<i32> {
        match self {
            Self::Replica { node, until } if now < until => Some(node),
            _ => None,
        }
    }

    /// When the leader is asked again without anything else happening.
    pub(super) fn returns_at(self, now: Instant) -> Option<Instant> {
        match self {
            Self::Replica { until, .. } if now < until => Some(until),
            _ => None,
        }
    }

    /// Whether that is the replica, be its time over or not: what it was asked for it may still answer.
    pub(super) fn is_replica(self, node: i32) -> bool {
        matches!(self, Self::Replica { node: replica, .. } if replica == node)
    }

    /// Whether the leader is told where the client stands.
    pub(super) fn tells_rack(self, now: Instant) -> bool {
        !matches!(self, Self::LeaderAlone { until } if now < until)
    }
}
