//! What the coordinator's codes mean for a member, whatever they answer.

use ottla_protocol::{ErrorCode, Str};

use super::Member;

impl Member {
    /// What a code says that answers something sent under this id.
    ///
    /// FENCED_INSTANCE_ID says that the coordinator knows the static member by another id. That is another process, and the
    /// end of this one, unless
    /// * the id is not on record: a coordinator writes the id that it gives down with the assignment. If it is deposed
    ///   before, its successor knows the id from before;
    /// * it was given up meanwhile;
    /// * or a JoinGroup of this member, which had no id and got lost, was carried out late.
    ///
    /// Then the member joins without an id, and takes its own place.
    pub(super) fn verdict(&mut self, id: &Str, code: ErrorCode) -> Verdict {
        if code != ErrorCode::FENCED_INSTANCE_ID {
            return Verdict::on(code);
        }
        if !id.is_empty() && (*id != self.member_id || !self.is_on_record) {
            return Verdict::UnknownMember;
        }
        match self.ghosts.checked_sub(1) {
            Some(left) => {
                self.ghosts = left;
                Verdict::UnknownMember
            }
            None => Verdict::Fatal,
        }
    }
}

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
