//! How a consumer ends.

use std::time::Duration;

/// How [`Consumer::close_with`](crate::Consumer::close_with) ends a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct CloseOptions {
    pub(in crate::consumer) membership: Membership,
    pub(in crate::consumer) timeout: Duration,
}

/// What becomes of the membership in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::consumer) enum Membership {
    /// It ends, unless the consumer has a `group.instance.id`.
    Default,
    Leave,
    Remain,
}

impl CloseOptions {
    /// Leaves the group unless the consumer has a `group.instance.id`; takes at most 30 s.
    pub const fn new() -> Self {
        Self { membership: Membership::Default, timeout: Duration::from_secs(30) }
    }

    /// Leaves the group also with a `group.instance.id`: the partitions go to others at once.
    pub const fn leave(mut self) -> Self {
        self.membership = Membership::Leave;
        self
    }

    /// Stays a member until the session ends: the partitions wait for whoever comes back in that time, with the same
    /// `group.instance.id`.
    pub const fn remain(mut self) -> Self {
        self.membership = Membership::Remain;
        self
    }

    /// How long closing may take at most.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl Default for CloseOptions {
    fn default() -> Self {
        Self::new()
    }
}
