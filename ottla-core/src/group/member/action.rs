//! What a member wants done, and what it is told.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, Instant},
};

use ottla_protocol::{
    ErrorCode, Str,
    messages::{
        HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest,
        leave_group_request::MemberIdentity,
    },
};

use super::super::{Assignor, Membership, TopicPartition};

/// What the driver has to do next. Actions are carried out in the order in which they come; only calls to the
/// coordinator, draining and looking up positions go on beside each other.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send it to the coordinator and tell [`Member::on_join`](super::Member::on_join). It is parked there until all
    /// members have joined, so that nothing else may share its connection. If the group's coordinator is known to be
    /// another one meanwhile, the call counts as lost.
    Join {
        /// What to send.
        request: JoinGroupRequest,
        /// After this the call counts as lost.
        timeout: Duration,
    },
    /// Likewise, answered with [`Member::on_sync`](super::Member::on_sync). Parked until the leader has sent its own.
    Sync {
        /// What to send.
        request: SyncGroupRequest,
        /// After this the call counts as lost.
        timeout: Duration,
    },
    /// Send it at once on a connection of its own and tell [`Member::on_heartbeat`](super::Member::on_heartbeat). The lease
    /// counts from the moment at which the member handed out this action.
    Heartbeat {
        /// What to send.
        request: HeartbeatRequest,
        /// After this the call counts as lost.
        timeout: Duration,
    },
    /// Send it on a connection on which nothing is parked and tell [`Member::on_leave`](super::Member::on_leave). Calls that
    /// are still under way may be dropped.
    Leave {
        /// What to send.
        leave: LeaveGroup,
        /// After this the call counts as lost.
        timeout: Duration,
    },
    /// The node that this call went to is not the coordinator, or cannot be reached: look it up again.
    ForgetCoordinator(Call),
    /// Tell the partition counts of these topics with [`Member::on_metadata`](super::Member::on_metadata), now and when
    /// they change. All that are wanted, in place of earlier ones.
    Watch(BTreeSet<Str>),
    /// A rebalance is over. What it changed follows.
    Joined(Joined),
    /// These are owned from now on, besides those that are owned already: find their positions, commit them as proof
    /// that the coordinator can write, tell the listener, [`Member::on_assigned`](super::Member::on_assigned).
    Assign {
        /// What was added; never empty.
        partitions: BTreeSet<TopicPartition>,
    },
    /// Give them up: hand out nothing more of them, wait for what is being handled, commit, tell the listener,
    /// [`Member::on_revoked`](super::Member::on_revoked). Partitions that are still being assigned can be among them.
    Revoke {
        /// Which; never empty.
        partitions: BTreeSet<TopicPartition>,
        /// By then they must be given up, or the member declares them lost.
        until: Instant,
    },
    /// As [`Action::Revoke`], except that the listener is not asked, but told afterwards that they are lost: the application
    /// has stopped working ([`Member::withdraw`](super::Member::withdraw)).
    Abandon {
        /// Which; never empty.
        partitions: BTreeSet<TopicPartition>,
        /// By then they must be given up, or the member declares them lost.
        until: Instant,
    },
    /// They are not owned any more, as of now: nothing may be handed out or committed. What was to be revoked among them is
    /// not to be reported as revoked.
    Lost {
        /// Which; empty if none were owned.
        partitions: BTreeSet<TopicPartition>,
        /// Why.
        cause: LossCause,
    },
    /// The member has ended. A new one may be made.
    Failed(Failure),
}

/// A kind of request to the coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// JoinGroup.
    Join,
    /// SyncGroup.
    Sync,
    /// Heartbeat.
    Heartbeat,
    /// LeaveGroup.
    Leave,
    /// OffsetCommit: not a call of the member's, but one that may end it.
    Commit,
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallError {
    /// No connection, or the connection broke, or time was up. The coordinator may have carried out the request.
    Lost,
    /// Trying again cannot help: a version that the broker lacks, an authentication that failed, a client that was closed.
    /// The driver keeps the reason.
    Fatal,
}

/// A rebalance that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The membership from now on.
    pub membership: Membership,
    /// Which assignor the group agreed on.
    pub assignor: Assignor,
    /// How many members the leader assigned to; `None`: another member leads.
    pub led: Option<usize>,
}

/// A LeaveGroup whose form depends on the version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveGroup {
    /// Who leaves.
    pub membership: Membership,
    /// Why (KIP-800).
    pub reason: Str,
}

impl LeaveGroup {
    /// The request as `version` wants it: one member up to 2, a list from 3 on (KIP-345).
    #[must_use]
    pub fn request(&self, version: i16) -> LeaveGroupRequest {
        let Membership { group_id, member_id, instance_id, .. } = self.membership.clone();
        let request = LeaveGroupRequest { group_id, ..LeaveGroupRequest::default() };
        if version < 3 {
            return LeaveGroupRequest { member_id, ..request };
        }
        let member =
            MemberIdentity { member_id, group_instance_id: instance_id, reason: Some(self.reason.clone()) };
        LeaveGroupRequest { members: vec![member], ..request }
    }
}

/// How to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// By then all is over, whether the coordinator answered or not.
    pub until: Instant,
    /// Told to the coordinator (KIP-800).
    pub reason: Str,
    /// Whether the coordinator is told nothing, so that the partitions wait for the session to end. `None`: a static
    /// member remains, any other leaves.
    pub remain: Option<bool>,
}

/// Why partitions are owned no more without having been given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossCause {
    /// UNKNOWN_MEMBER_ID: the session ended, or the rebalance did not wait for this member.
    UnknownMember,
    /// ILLEGAL_GENERATION: the group went on without this member.
    IllegalGeneration,
    /// FENCED_INSTANCE_ID: another process has the same `group.instance.id`.
    FencedInstance,
    /// They were not given up in time.
    RevocationTimedOut,
    /// The leader's assignment could not be read.
    UnreadableAssignment,
    /// The application has stopped working, and the member has left for that.
    Stalled,
    /// The member ended for another reason.
    Failed,
}

impl LossCause {
    /// As logs and events name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownMember => "the coordinator does not know the member any more (UNKNOWN_MEMBER_ID)",
            Self::IllegalGeneration => "the group went on without the member (ILLEGAL_GENERATION)",
            Self::FencedInstance => "another process has the same group.instance.id (FENCED_INSTANCE_ID)",
            Self::RevocationTimedOut => "they were not given up in time",
            Self::UnreadableAssignment => "the leader's assignment cannot be read",
            Self::Stalled => STALLED,
            Self::Failed => "the member has ended",
        }
    }
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Also told to the coordinator (KIP-800).
pub(super) const STALLED: &str = "the application has stopped working on what it was handed out";

/// Why a member cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The coordinator's answer to a call; INCONSISTENT_GROUP_PROTOCOL also if it contradicts what was asked for.
    Refused(Call, ErrorCode),
    /// A call failed with [`CallError::Fatal`].
    Call(Call),
}

/// What is known of the partitions of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicCount {
    /// Not asked yet, or not answered.
    Unknown,
    /// There is no such topic, or it must not be seen.
    Missing,
    /// It has so many partitions.
    Partitions(i32),
}
