//! How a consumer ends.

use std::time::Duration;

/// How [`Consumer::close_with`](crate::Consumer::close_with) ends a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct CloseOptions {
    pub(super) remain: Remain,
    pub(super) timeout: Duration,
}

/// Whether the group keeps the consumer's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remain {
    /// If the consumer has a `group.instance.id`.
    IfStatic,
    Yes,
    No,
}

impl CloseOptions {
    /// Leaves the group unless the consumer has a `group.instance.id`; takes at most 30 s.
    pub const fn new() -> Self {
        Self { remain: Remain::IfStatic, timeout: Duration::from_secs(30) }
    }

    /// The same, in less time than a client gives to everything that was made from it.
    pub(in crate::consumer) const fn within_client() -> Self {
        Self::new().timeout(Duration::from_secs(25))
    }

    /// Leaves the group also with a `group.instance.id`: the partitions go to others at once.
    pub const fn leave(mut self) -> Self {
        self.remain = Remain::No;
        self
    }

    /// Stays a member until the session ends: the partitions wait for whoever comes back in that time, with the same
    /// `group.instance.id`.
    pub const fn remain(mut self) -> Self {
        self.remain = Remain::Yes;
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
