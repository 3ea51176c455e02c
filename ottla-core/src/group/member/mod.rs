//! The member of a group: joins, is assigned partitions, proves that it lives, gives partitions up, leaves.

mod action;
mod config;

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use ottla_protocol::{
    ErrorCode, Str,
    messages::{HeartbeatResponse, JoinGroupResponse, LeaveGroupResponse, SyncGroupResponse},
};

use super::{Lease, Membership, Moment, TopicPartition};

pub use self::{
    action::{Action, Call, CallError, Departure, Failure, Joined, LeaveGroup, LossCause, TopicCount},
    config::MemberConfig,
};

/// A member of a group.
///
/// After every input, and at [`Member::next_deadline`], call [`Member::next`] until it has nothing more to do; then look
/// at [`Member::lease_until`]. At most one heartbeat and one other call are under way at a time.
#[derive(Debug)]
pub struct Member {
    subscription: BTreeSet<Str>,
    owned: BTreeSet<TopicPartition>,
    lease: Lease,
    outbox: VecDeque<Action>,
}

/// Where a member stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing is subscribed to yet.
    Idle,
    /// Waits to join, or for the others to join.
    Joining,
    /// Has joined, and waits for its assignment.
    Syncing,
    /// Has its assignment.
    Stable,
    /// Gives partitions up before it joins again, or leaves.
    Revoking,
    /// Tells the coordinator that it goes.
    Leaving,
    /// Has left.
    Left,
    /// Has ended with a [`Failure`].
    Failed,
}

impl Member {
    /// A member that has not subscribed to anything yet.
    #[must_use]
    pub fn new(config: MemberConfig) -> Self {
        let lease = Lease::new(config.session_timeout, config.rebalance_timeout);
        Self { subscription: BTreeSet::new(), owned: BTreeSet::new(), lease, outbox: VecDeque::new() }
    }

    /// Subscribes to these topics, in place of earlier ones; joins, or joins again if they differ.
    pub fn subscribe(&mut self, topics: BTreeSet<Str>) {
        self.subscription = topics;
    }

    /// Metadata changed: looks at the topics of the last [`Action::Watch`].
    pub fn on_metadata(&mut self, count_of: &dyn Fn(&str) -> TopicCount) {
        let _ = count_of;
    }

    /// What to do next.
    pub fn next(&mut self, at: Moment) -> Option<Action> {
        let _ = at;
        self.outbox.pop_front()
    }

    /// When to call [`Member::next`] again, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// JoinGroup was answered.
    pub fn on_join(&mut self, at: Moment, answer: Result<JoinGroupResponse, CallError>) {
        let _ = (at, answer);
    }

    /// SyncGroup was answered.
    pub fn on_sync(&mut self, at: Moment, answer: Result<SyncGroupResponse, CallError>) {
        let _ = (at, answer);
    }

    /// The heartbeat was answered. The member knows when it went out and for which generation.
    pub fn on_heartbeat(&mut self, at: Moment, answer: Result<HeartbeatResponse, CallError>) {
        let _ = (at, answer);
    }

    /// LeaveGroup was answered.
    pub fn on_leave(&mut self, at: Moment, answer: Result<LeaveGroupResponse, CallError>) {
        let _ = (at, answer);
    }

    /// These partitions of [`Action::Revoke`] are given up: drained, committed, told to the listener, forgotten.
    pub fn on_revoked(&mut self, at: Moment, partitions: &BTreeSet<TopicPartition>) {
        let _ = (at, partitions);
    }

    /// These partitions of [`Action::Assign`] have their positions, and the listener knows of them.
    pub fn on_assigned(&mut self, partitions: &BTreeSet<TopicPartition>) {
        let _ = partitions;
    }

    /// A commit of this membership was refused with a code about membership: UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION,
    /// FENCED_INSTANCE_ID, REBALANCE_IN_PROGRESS. Other codes, and memberships that are over, change nothing.
    pub fn on_rejected(&mut self, at: Moment, membership: &Membership, code: ErrorCode) {
        let _ = (at, membership, code);
    }

    /// A commit of this membership was acknowledged; `sent` was taken before it was written.
    pub fn on_write_acknowledged(&mut self, sent: Moment, membership: &Membership) {
        let _ = (sent, membership);
    }

    /// Gives up everything and leaves: [`Action::Revoke`], [`Action::Leave`], then [`State::Left`].
    pub fn leave(&mut self, at: Moment, departure: Departure) {
        let _ = (at, departure);
    }

    /// What commits are made under. `None` while there is no membership, and between the answers to JoinGroup and
    /// SyncGroup: the coordinator would refuse them, and what is owned is about to be said anew.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        None
    }

    /// Until when records may be handed out, on the clock that counts suspend; `None`: not at all.
    #[must_use]
    pub fn lease_until(&self) -> Option<Duration> {
        self.lease.until()
    }

    /// All that is owned, including what is being assigned or given up.
    #[must_use]
    pub fn owned(&self) -> &BTreeSet<TopicPartition> {
        &self.owned
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        State::Idle
    }

    /// Where it stands and why, in one line.
    #[must_use]
    pub fn describe(&self, at: Moment) -> String {
        let _ = at;
        String::new()
    }
}
