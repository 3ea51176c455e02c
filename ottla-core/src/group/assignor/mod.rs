//! Who gets which partition.

/// A strategy by which the leader of a group spreads partitions over members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Assignor {
    /// Balanced, moves as few partitions as possible, and takes nothing away from a member before it gave it up (KIP-429).
    CooperativeSticky,
    /// For every topic, neighbouring partitions to each member in turn; all partitions are given up in every rebalance.
    Range,
}

impl Assignor {
    /// The protocol name by which all clients know it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Range => "range",
        }
    }

    /// Whether members keep what stays theirs through a rebalance.
    #[must_use]
    pub const fn is_cooperative(self) -> bool {
        matches!(self, Self::CooperativeSticky)
    }
}
