//! What a member is told once and for all.

use std::time::Duration;

use ottla_protocol::Str;

use super::super::Assignor;
use crate::backoff::BackoffPolicy;

/// The settings of a member.
#[derive(Debug, Clone)]
pub struct MemberConfig {
    /// `group.id`.
    pub group_id: Str,
    /// `group.instance.id`: makes it a static member (KIP-345), whose place is kept for a session when it goes away.
    pub instance_id: Option<Str>,
    /// `session.timeout.ms`: silent for so long, a member is removed. 45 s; brokers allow 6 s to 30 min by default.
    pub session_timeout: Duration,
    /// How long a rebalance waits for this member to give up what it owns and to join again. 60 s.
    pub rebalance_timeout: Duration,
    /// `heartbeat.interval.ms`. 3 s; never more than a third of the session is used.
    pub heartbeat_interval: Duration,
    /// Between tries that failed.
    pub backoff: BackoffPolicy,
    /// `partition.assignment.strategy`, best first. Cooperative rebalances need all of them to be cooperative.
    pub assignors: Vec<Assignor>,
    /// `client.rack` (KIP-881): told to the leader; our own assignors do not look at it.
    pub rack: Option<Str>,
}

impl MemberConfig {
    /// The defaults.
    #[must_use]
    pub fn new(group_id: impl Into<Str>) -> Self {
        Self {
            group_id: group_id.into(),
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(60),
            heartbeat_interval: Duration::from_secs(3),
            backoff: BackoffPolicy::new(Duration::from_millis(100), Duration::from_secs(1)),
            assignors: vec![Assignor::CooperativeSticky],
            rack: None,
        }
    }

    /// Whether partitions that stay are kept through a rebalance (KIP-429). One eager assignor makes the member eager, as
    /// in Java: that is how a group is moved from one to the other.
    #[must_use]
    pub fn is_cooperative(&self) -> bool {
        !self.assignors.is_empty() && self.assignors.iter().all(|assignor| assignor.is_cooperative())
    }

    /// Time between two heartbeats.
    pub(super) fn heartbeat_every(&self) -> Duration {
        if planted!("heartbeats-too-rare") {
            return self.session_timeout * 2 / 3;
        }
        self.heartbeat_interval.min(self.session_timeout / 3)
    }

    /// How long the answer to a heartbeat, or to a farewell, is waited for: there must be time for another one in the same
    /// session.
    pub(super) fn heartbeat_timeout(&self) -> Duration {
        self.session_timeout / 3
    }

    /// How long JoinGroup and SyncGroup are waited for: both are answered when the slowest member has done its part.
    pub(super) fn rebalance_call_timeout(&self) -> Duration {
        self.rebalance_timeout + PARKED_LONGER
    }
}

/// The coordinator's own timer gets time to fire and its answer to arrive, as in Java.
const PARKED_LONGER: Duration = Duration::from_secs(5);
