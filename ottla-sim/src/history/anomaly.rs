//! What must not be, by name. Where Jepsen's Kafka workload looks for the same thing, its name is used.

use std::fmt;

/// A kind of violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Anomaly {
    /// An acknowledged record is not in the log; or it was never read, although later ones were.
    LostWrite,
    /// What definitely was not written was read, or is in the log.
    G1a,
    /// A record is there more than once.
    Duplicate,
    /// One process' records are in another order than they were sent.
    NonmonotonicSend,
    /// The same, among the records of one operation.
    IntNonmonotonicSend,
    /// Two accounts of what is at an offset differ.
    InconsistentOffsets,
    /// A record is in another partition than it was sent to.
    Misrouted,
    /// A record that nobody sent.
    Unsent,
    /// A reader leaves out records between two polls.
    PollSkip,
    /// The same, within one poll.
    IntPollSkip,
    /// A reader gets older records again, or in another order.
    NonmonotonicPoll,
    /// The same, within one poll.
    IntNonmonotonicPoll,
    /// An acknowledged record that no reader got until the end.
    Unseen,
    /// A member gets records of a partition that another one owns by now.
    TwoOwners,
    /// A member gets or processes records of a partition that it does not own.
    NotOwner,
    /// A member goes on elsewhere than at the last commit.
    ResumeElsewhere,
    /// A commit goes back, and stays there.
    CommitBack,
    /// A commit passes what nobody has processed.
    CommitUnprocessed,
    /// A commit that was acknowledged is not stored.
    LostCommit,
    /// What was processed is processed again, though it was committed or nobody else had got it.
    ProcessedAgain,
    /// Nobody processed a record of a topic that a group handles.
    Unprocessed,
    /// An operation never ends.
    Unsettled,
    /// Nothing is written or read although all faults are over.
    NoProgress,
    /// The client did what a strict broker does not allow.
    Protocol,
    /// More is in use than may be.
    Resources,
    /// A task panicked.
    Panic,
    /// An error without a name, or one that does not say whether it is definite.
    Taxonomy,
    /// The history contradicts itself.
    Malformed,
}

impl Anomaly {
    /// All of them, by weight.
    pub const ALL: [Self; 28] = [
        Self::Malformed,
        Self::Panic,
        Self::LostWrite,
        Self::G1a,
        Self::Misrouted,
        Self::Duplicate,
        Self::InconsistentOffsets,
        Self::Unsent,
        Self::IntNonmonotonicSend,
        Self::NonmonotonicSend,
        Self::IntPollSkip,
        Self::PollSkip,
        Self::IntNonmonotonicPoll,
        Self::NonmonotonicPoll,
        Self::NotOwner,
        Self::TwoOwners,
        Self::ResumeElsewhere,
        Self::CommitBack,
        Self::CommitUnprocessed,
        Self::LostCommit,
        Self::ProcessedAgain,
        Self::Unprocessed,
        Self::Unseen,
        Self::Unsettled,
        Self::NoProgress,
        Self::Protocol,
        Self::Resources,
        Self::Taxonomy,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::LostWrite => "lost-write",
            Self::G1a => "G1a",
            Self::Duplicate => "duplicate",
            Self::NonmonotonicSend => "nonmonotonic-send",
            Self::IntNonmonotonicSend => "int-nonmonotonic-send",
            Self::InconsistentOffsets => "inconsistent-offsets",
            Self::Misrouted => "misrouted",
            Self::Unsent => "unsent",
            Self::PollSkip => "poll-skip",
            Self::IntPollSkip => "int-poll-skip",
            Self::NonmonotonicPoll => "nonmonotonic-poll",
            Self::IntNonmonotonicPoll => "int-nonmonotonic-poll",
            Self::Unseen => "unseen",
            Self::TwoOwners => "two-owners",
            Self::NotOwner => "not-owner",
            Self::ResumeElsewhere => "resume-elsewhere",
            Self::CommitBack => "commit-back",
            Self::CommitUnprocessed => "commit-unprocessed",
            Self::LostCommit => "lost-commit",
            Self::ProcessedAgain => "processed-again",
            Self::Unprocessed => "unprocessed",
            Self::Unsettled => "unsettled",
            Self::NoProgress => "no-progress",
            Self::Protocol => "protocol",
            Self::Resources => "resources",
            Self::Panic => "panic",
            Self::Taxonomy => "taxonomy",
            Self::Malformed => "malformed",
        }
    }

    /// The invariant that it breaks; 0 for a history that is none.
    #[must_use]
    pub fn invariant(self) -> u8 {
        match self {
            Self::LostWrite => 1,
            Self::G1a => 2,
            Self::Duplicate => 3,
            Self::NonmonotonicSend | Self::IntNonmonotonicSend => 4,
            Self::InconsistentOffsets | Self::Misrouted | Self::Unsent => 5,
            Self::PollSkip | Self::IntPollSkip | Self::NonmonotonicPoll | Self::IntNonmonotonicPoll => 6,
            Self::TwoOwners | Self::NotOwner => 7,
            Self::ResumeElsewhere | Self::CommitBack | Self::CommitUnprocessed | Self::LostCommit => 8,
            Self::ProcessedAgain | Self::Unprocessed => 9,
            Self::Unseen | Self::Unsettled | Self::NoProgress => 13,
            Self::Protocol => 14,
            Self::Resources => 15,
            Self::Panic => 16,
            Self::Taxonomy => 17,
            Self::Malformed => 0,
        }
    }
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_have_names_of_their_own() {
        let names: BTreeSet<&str> = Anomaly::ALL.iter().map(|anomaly| anomaly.name()).collect();
        assert_eq!(names.len(), Anomaly::ALL.len());
    }
}
