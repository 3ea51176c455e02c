//! What an answer says about a batch, and what it does not.
//!
//! Every attempt ends in one of three ways, and none of them may be taken for another: the batch is *written*; this
//! attempt did *not write* it; it is *possibly written*. An attempt that did not write says nothing about an earlier
//! one whose answer was lost, unless the broker looked at its memory of the producer before it refused. That is kept
//! apart as [`Doubt`].

use ottla_protocol::ErrorCode;

/// How one attempt to write a batch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// The broker answered for this partition.
    Answered {
        /// Its error code.
        code: ErrorCode,
        /// Offset of the first record, if it was written; -1 if the broker does not say.
        base_offset: i64,
        /// First offset that the partition still has; -1 if the broker does not say.
        log_start_offset: i64,
    },
    /// The request was written as far as the socket, and `acks=0` asks for no more.
    Unacknowledged,
    /// Not a byte left this process.
    NotSent,
    /// The connection ended, the deadline passed, or the answer left this partition out.
    Lost,
}

/// The fate of a record as its sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is not in the log and never will be: sending it again cannot duplicate it.
    NotWritten,
    /// It may be in the log, now or a little later.
    PossiblyWritten,
}

/// What an attempt means for the doubt whether a batch was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Neither this attempt wrote it nor an earlier one: the broker compared it with what it remembers.
    Cleared,
    /// This attempt did not write it.
    Kept,
    /// This attempt may have written it.
    Raised,
}

/// What to do with a batch after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Done.
    Written { base_offset: Option<i64> },
    /// Send the same bytes again; `refresh` if another broker may be the right one.
    Again { doubt: Doubt, refresh: bool },
    /// The broker does not know the topic, yet or any more: again, for a while. It may have been appended: requests that
    /// wait for followers are answered so when the topic is deleted.
    UnknownTopic,
    /// The sequence does not continue what the broker has: again behind a failed batch, renumbered otherwise.
    OutOfSequence { doubt: Doubt, leader_has_state: bool },
    /// Too many bytes: in smaller pieces.
    TooLarge,
    /// Sending it again would give the same answer.
    Rejected { doubt: Doubt },
}

/// Classifies the end of an attempt. Exhaustive for what brokers answer to Produce; an unknown code counts as one
/// that may have been written and that repeating does not help.
pub(super) fn classify(attempt: Attempt) -> Verdict {
    use Verdict::{Again, OutOfSequence, Rejected, TooLarge, UnknownTopic, Written};
    let (code, base_offset, log_start_offset) = match attempt {
        Attempt::Answered { code, base_offset, log_start_offset } => (code, base_offset, log_start_offset),
        Attempt::Unacknowledged => return Written { base_offset: None },
        Attempt::NotSent => return Again { doubt: Doubt::Kept, refresh: true },
        Attempt::Lost if planted!("acknowledge-on-timeout") => return Written { base_offset: None },
        Attempt::Lost if planted!("lost-means-not-written") => {
            return Again { doubt: Doubt::Kept, refresh: true };
        }
        Attempt::Lost => return Again { doubt: Doubt::Raised, refresh: true },
    };
    match code {
        ErrorCode::NONE => Written { base_offset: (base_offset >= 0).then_some(base_offset) },
        // The broker has it from an earlier attempt and no longer knows where.
        ErrorCode::DUPLICATE_SEQUENCE_NUMBER => {
            Written { base_offset: (base_offset >= 0).then_some(base_offset) }
        }

        // A former leader may have appended before it learnt that it is none (KAFKA-13574).
        ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::KAFKA_STORAGE_ERROR | ErrorCode::NETWORK_EXCEPTION => {
            Again { doubt: Doubt::Raised, refresh: true }
        }
        // In the leader's log, and not in enough replicas yet.
        ErrorCode::REQUEST_TIMED_OUT | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND => {
            Again { doubt: Doubt::Raised, refresh: false }
        }
        ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::FENCED_LEADER_EPOCH
        | ErrorCode::UNKNOWN_LEADER_EPOCH
        | ErrorCode::BROKER_NOT_AVAILABLE
        | ErrorCode::REPLICA_NOT_AVAILABLE => Again { doubt: Doubt::Kept, refresh: true },
        ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::CORRUPT_MESSAGE
        | ErrorCode::THROTTLING_QUOTA_EXCEEDED => Again { doubt: Doubt::Kept, refresh: false },
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::INCONSISTENT_TOPIC_ID => UnknownTopic,

        // A duplicate would have been recognised before the sequence was found wrong.
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER => {
            OutOfSequence { doubt: Doubt::Cleared, leader_has_state: true }
        }
        // The broker lost its memory of the producer together with the records that it was about (KIP-360).
        ErrorCode::UNKNOWN_PRODUCER_ID if log_start_offset < 0 => {
            Again { doubt: Doubt::Kept, refresh: false }
        }
        ErrorCode::UNKNOWN_PRODUCER_ID => OutOfSequence { doubt: Doubt::Cleared, leader_has_state: false },
        // The epoch is compared before duplicates are looked for.
        ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED => {
            OutOfSequence { doubt: Doubt::Kept, leader_has_state: false }
        }

        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => TooLarge,
        ErrorCode::INVALID_RECORD
        | ErrorCode::INVALID_TIMESTAMP
        | ErrorCode::INVALID_REQUIRED_ACKS
        | ErrorCode::INVALID_REQUEST
        | ErrorCode::INVALID_TOPIC_EXCEPTION
        | ErrorCode::POLICY_VIOLATION
        | ErrorCode::SECURITY_DISABLED
        | ErrorCode::TOPIC_AUTHORIZATION_FAILED
        | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
        | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        | ErrorCode::UNSUPPORTED_VERSION
        | ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT
        | ErrorCode::UNSUPPORTED_COMPRESSION_TYPE => Rejected { doubt: Doubt::Kept },

        code if code.is_retriable() => Again { doubt: Doubt::Raised, refresh: true },
        // UNKNOWN_SERVER_ERROR comes from anywhere in the broker, also from behind the append.
        _ => Rejected { doubt: Doubt::Raised },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: ErrorCode) -> Verdict {
        classify(Attempt::Answered { code, base_offset: -1, log_start_offset: -1 })
    }

    #[test]
    fn p10_a_duplicate_is_a_success_whose_offset_is_never_invented() {
        assert_eq!(answer(ErrorCode::DUPLICATE_SEQUENCE_NUMBER), Verdict::Written { base_offset: None });
        let known = Attempt::Answered { code: ErrorCode::NONE, base_offset: 42, log_start_offset: 0 };
        assert_eq!(classify(known), Verdict::Written { base_offset: Some(42) });
    }

    #[test]
    fn what_may_have_been_appended_is_never_called_not_written() {
        for code in [
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::REQUEST_TIMED_OUT,
            ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
            ErrorCode::KAFKA_STORAGE_ERROR,
        ] {
            assert!(matches!(answer(code), Verdict::Again { doubt: Doubt::Raised, .. }), "{code}");
        }
        for code in [ErrorCode::UNKNOWN_SERVER_ERROR, ErrorCode(9_999)] {
            assert_eq!(answer(code), Verdict::Rejected { doubt: Doubt::Raised }, "{code}");
        }
        assert!(matches!(classify(Attempt::Lost), Verdict::Again { doubt: Doubt::Raised, .. }));
    }

    #[test]
    fn only_who_looked_for_duplicates_clears_a_doubt() {
        let cleared: Vec<_> = ErrorCode::ALL
            .iter()
            .filter(|code| match answer(**code) {
                Verdict::Again { doubt, .. }
                | Verdict::OutOfSequence { doubt, .. }
                | Verdict::Rejected { doubt } => doubt == Doubt::Cleared,
                Verdict::Written { .. } | Verdict::UnknownTopic | Verdict::TooLarge => false,
            })
            .collect();
        assert_eq!(cleared, [&ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER]);
    }

    #[test]
    fn p09_a_forgotten_producer_is_retried_unless_its_records_are_gone_as_well() {
        assert!(matches!(answer(ErrorCode::UNKNOWN_PRODUCER_ID), Verdict::Again { .. }));
        let code = ErrorCode::UNKNOWN_PRODUCER_ID;
        let gone = Attempt::Answered { code, base_offset: -1, log_start_offset: 90 };
        assert!(matches!(classify(gone), Verdict::OutOfSequence { .. }));
    }

    #[test]
    fn whatever_java_retries_is_retried() {
        for code in ErrorCode::ALL.iter().filter(|code| code.is_retriable()) {
            assert!(!matches!(answer(*code), Verdict::Rejected { .. }), "{code}");
        }
    }

    #[test]
    fn a_request_that_never_left_leaves_doubts_as_they_were() {
        assert_eq!(classify(Attempt::NotSent), Verdict::Again { doubt: Doubt::Kept, refresh: true });
    }
}
