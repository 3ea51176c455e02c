//! The words that all parts of a group's member have in common.

use std::{
    fmt,
    time::{Duration, Instant},
};

use ottla_protocol::Str;

/// When something happens, on both clocks, and a random number to go with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The clock that timers run on. It may stand still while the machine is suspended.
    pub now: Instant,
    /// The clock that counts suspend: leases, and nothing else.
    pub elapsed: Duration,
    /// Any random number, another one each time.
    pub random: u64,
}

/// One partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Str,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    #[must_use]
    pub fn new(topic: impl Into<Str>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

/// As Kafka's tools write it: `orders-0`.
impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic.as_str(), self.partition)
    }
}

/// What a commit has to say about the member that makes it: one generation of one membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The group.
    pub group_id: Str,
    /// The name that the coordinator gave this member.
    pub member_id: Str,
    /// Raised by every rebalance.
    pub generation_id: i32,
    /// The name of a static member (KIP-345).
    pub instance_id: Option<Str>,
}
