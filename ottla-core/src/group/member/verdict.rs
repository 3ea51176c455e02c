//! What the coordinator's codes mean for a member, whatever they answer.

use ottla_protocol::ErrorCode;

/// What an error code says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    /// The group is being rebalanced: join again.
    Rebalance,
    /// The coordinator wants to hear the member id that it just gave (KIP-394).
    MemberIdRequired,
    UnknownMember,
    IllegalGeneration,
    /// Another broker is the coordinator, or none is.
    NotCoordinator,
    /// Trying again cannot help.
    Fatal,
    /// The same again, later: the coordinator is loading, or says something that members need not know.
    Later,
}

impl Verdict {
    /// What a code says that answers something sent under an id which is, or is not, on record.
    ///
    /// A coordinator writes the id that it gives to a static member down with the assignment. If it is deposed before, its
    /// successor knows the id from before, and fences the new one: that is no other process, but an id that is forgotten.
    /// Whoever joins without one takes its own place.
    pub(super) fn on_id(code: ErrorCode, off_record: bool) -> Self {
        match code {
            ErrorCode::FENCED_INSTANCE_ID if off_record => Self::UnknownMember,
            _ => Self::on(code),
        }
    }

    pub(super) fn on(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NONE => Self::Fine,
            ErrorCode::REBALANCE_IN_PROGRESS => Self::Rebalance,
            ErrorCode::MEMBER_ID_REQUIRED => Self::MemberIdRequired,
            ErrorCode::UNKNOWN_MEMBER_ID => Self::UnknownMember,
            ErrorCode::ILLEGAL_GENERATION => Self::IllegalGeneration,
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => Self::NotCoordinator,
            ErrorCode::FENCED_INSTANCE_ID
            | ErrorCode::GROUP_AUTHORIZATION_FAILED
            | ErrorCode::GROUP_MAX_SIZE_REACHED
            | ErrorCode::INCONSISTENT_GROUP_PROTOCOL
            | ErrorCode::INVALID_GROUP_ID
            | ErrorCode::INVALID_REQUEST
            | ErrorCode::INVALID_SESSION_TIMEOUT
            | ErrorCode::UNSUPPORTED_VERSION => Self::Fatal,
            _ => Self::Later,
        }
    }
}
