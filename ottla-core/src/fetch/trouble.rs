//! What only the user can decide about a partition, and what the client does about the rest.

use ottla_protocol::{ErrorCode, Str, batch::BatchError};

use super::absence::advice;

/// Why a partition is held. The others go on; this one goes on after a seek.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Trouble {
    /// The log does not have the position, or not any more.
    #[error("offset {offset} is not in the log")]
    OutOfRange {
        /// The position.
        offset: i64,
    },
    /// Records that were handed out are not in the log any more (KIP-320).
    #[error("the log was truncated below offset {offset}, up to which it was read: {}", differs(*divergent))]
    Truncated {
        /// The position.
        offset: i64,
        /// Where the log begins to differ from what was read, if that is known: everything in front of it is what it was.
        divergent: Option<i64>,
    },
    /// The topic was deleted and created again: its offsets mean something else now (KIP-516).
    #[error("the topic was deleted and created again; offset {offset} was one of its predecessor")]
    Recreated {
        /// The position.
        offset: i64,
    },
    /// The group has committed nothing for the partition, and nobody has said where to begin.
    #[error(
        "group {group} has no committed offset for it: seek, or say with `on_missing_offset` where to begin \
         (in a file: auto.offset.reset)"
    )]
    NoCommittedOffset {
        /// The group.
        group: Str,
    },
    /// The batch at the position cannot be read, also when fetched a second time.
    #[error("the batch at offset {offset} cannot be read")]
    Corrupt {
        /// The position.
        offset: i64,
        /// What is wrong with it; `None` if the broker itself found it out.
        #[source]
        cause: Option<BatchError>,
    },
    /// The batch at the position is larger than any answer may be.
    #[error("the batch at offset {offset} is larger than {limit} bytes")]
    TooLarge {
        /// The position.
        offset: i64,
        /// What was asked for at last.
        limit: i32,
    },
    /// A broker refused, and asking again would not help.
    #[error("the broker refused: {code}{}", in_brackets(*code))]
    Refused {
        /// What it said.
        code: ErrorCode,
    },
}

fn differs(divergent: Option<i64>) -> String {
    match divergent {
        Some(offset) => format!("from offset {offset} on it is another one"),
        None => "what of it is as it was is not known".to_owned(),
    }
}

fn in_brackets(code: ErrorCode) -> String {
    advice(code).map(|advice| format!(" ({advice})")).unwrap_or_default()
}

impl Trouble {
    /// Whether the position is of no use, so that the reset policy decides.
    pub(super) fn is_lost_position(&self) -> bool {
        matches!(self, Self::OutOfRange { .. } | Self::Truncated { .. } | Self::Recreated { .. })
    }

    /// In a few words, for events.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::OutOfRange { .. } => "offset out of range",
            Self::Truncated { .. } => "log truncated",
            Self::Recreated { .. } => "topic recreated",
            Self::NoCommittedOffset { .. } => NO_COMMITTED_OFFSET,
            Self::Corrupt { .. } => "corrupt batch",
            Self::TooLarge { .. } => "batch too large",
            Self::Refused { .. } => "refused by the broker",
        }
    }
}

/// Why a position is reset that nobody has committed.
pub(super) const NO_COMMITTED_OFFSET: &str = "no committed offset";

/// What to do about an error code for a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Ask the cluster who leads it, and try again.
    Reroute,
    /// Try again later.
    Retry,
    /// The reset policy decides.
    Reset,
    /// Fetch it once more.
    Refetch,
    /// Nothing helps.
    Hold,
}

/// What to do about `code`.
pub(super) fn remedy(code: ErrorCode) -> Remedy {
    match code {
        ErrorCode::OFFSET_OUT_OF_RANGE => Remedy::Reset,
        code if code.is_retriable() && planted!("reset-on-a-transient-error") => Remedy::Reset,
        ErrorCode::CORRUPT_MESSAGE => Remedy::Refetch,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::UNKNOWN_LEADER_EPOCH
        | ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::REPLICA_NOT_AVAILABLE
        | ErrorCode::KAFKA_STORAGE_ERROR
        | ErrorCode::OFFSET_NOT_AVAILABLE
        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::INCONSISTENT_TOPIC_ID => Remedy::Reroute,
        // Java retries it as well: the broker itself does not know what went wrong.
        ErrorCode::UNKNOWN_SERVER_ERROR => Remedy::Retry,
        code if code.is_retriable() => Remedy::Retry,
        _ => Remedy::Hold,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_that_are_not_there_are_waited_for() {
        assert_eq!(remedy(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), Remedy::Reroute);
        assert_eq!(remedy(ErrorCode::UNKNOWN_TOPIC_ID), Remedy::Reroute);
    }

    #[test]
    fn missing_rights_hold_the_partition() {
        assert_eq!(remedy(ErrorCode::TOPIC_AUTHORIZATION_FAILED), Remedy::Hold);
        assert_eq!(remedy(ErrorCode(9999)), Remedy::Hold);
    }
}
