//! The member of a group: joins, is assigned partitions, proves that it lives, gives partitions up, leaves.
//!
//! ```text
//!          subscribe           JoinGroup answered           counts are known          SyncGroup answered
//!   Idle ────────────▶ Joining ─────────┬──────▶ Balancing ────────┬──▶ Syncing ──────────────────▶ Stable
//!                       ▲ ▲ │ ▲         └── another member leads ──┘     │ REBALANCE_IN_PROGRESS     │
//!                       │ │ └─┘ 14–16, 79, no answer: again              │                           │ must join again
//!                       │ └──────────────────────────────────────────────┘                           ▼
//!                       └──────────────── nothing, or no more, to give up ─────────────────────── Revoking
//!
//!   UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION:   lost ──▶ Joining        FENCED_INSTANCE_ID, no right to: lost ──▶ Failed
//!   leave, from anywhere:                    Revoking ──▶ Leaving ──▶ Left
//!   the application has stopped working:     Revoking ──▶ Leaving ──▶ Away ── it asks for records again ──▶ Joining
//! ```
//!
//! *Must join again*: the coordinator said REBALANCE_IN_PROGRESS, the subscription changed, this member leads and a topic
//! changed, or the new assignment took something away that others wait for. A cooperative member (KIP-429) gives up only
//! what it may not keep, and goes on with the rest; an eager one gives up everything first.
//!
//! Beside all this, heartbeats go on from the first JoinGroup answer to the end, for the newest generation that is known.
//! Only the coordinator ends a membership. Timers of this member end the *lease*, which is something else: no record is
//! handed out any more, but the membership may well be alive, and the next heartbeat tells.

mod action;
mod config;
mod explain;
mod give_up;
mod heartbeat;
mod join;
mod verdict;

#[cfg(test)]
mod test_desk;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use ottla_protocol::{ErrorCode, Str};

use self::{
    give_up::{Revocation, Withdrawal},
    heartbeat::Heartbeats,
    join::Round,
};
use super::{Assignor, Lease, Membership, Moment, TopicPartition, subscription::NO_GENERATION};
use crate::backoff::Backoff;

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
    config: MemberConfig,
    subscription: BTreeSet<Str>,
    /// What is known of the topics of the last [`Action::Watch`].
    counts: BTreeMap<Str, TopicCount>,
    phase: Phase,
    /// Why the next JoinGroup is sent; `None`: no need to.
    rejoin: Option<&'static str>,
    /// Empty until the coordinator has given one.
    member_id: Str,
    /// The group has been written under that id: a coordinator that takes over knows it too.
    is_on_record: bool,
    /// The id under which the last JoinGroup or SyncGroup was sent.
    asked_as: Str,
    /// So many JoinGroups without an id got lost: each may be carried out late, and take this member's place.
    ghosts: u32,
    tenure: Option<Tenure>,
    /// All that is owned, including what is being assigned or given up.
    owned: BTreeSet<TopicPartition>,
    /// In which generation that was assigned.
    owned_since: i32,
    /// The part of it that the driver is still busy with.
    assigning: BTreeSet<TopicPartition>,
    revocation: Revocation,
    /// The partition counts that the last assignment of this leader was made from.
    led: Option<BTreeMap<Str, Option<i32>>>,
    heartbeats: Heartbeats,
    lease: Lease,
    /// Calls other than heartbeats that failed in a row.
    tries: Backoff,
    /// Rebalances in a row without a heartbeat in between that found the group at rest.
    restless: u32,
    trouble: Option<Trouble>,
    departure: Option<Departure>,
    /// The departure is for a while.
    withdrawal: Option<Withdrawal>,
    outbox: VecDeque<Action>,
}

/// What the member waits for.
#[derive(Debug)]
enum Phase {
    Idle,
    Joining(Turn),
    Balancing(Round),
    Syncing(Round, Turn),
    Stable,
    Revoking,
    Leaving(Turn),
    Away,
    Left,
    Failed,
}

/// Where the one call stands that the phase is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Now,
    At(Instant),
    UnderWay,
}

impl Turn {
    fn is_due(self, now: Instant) -> bool {
        match self {
            Self::Now => true,
            Self::At(at) => at <= now,
            Self::UnderWay => false,
        }
    }
}

/// A membership that the coordinator has confirmed by answering JoinGroup. It survives rebalances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tenure {
    generation: i32,
    /// The generation that it began with.
    since: i32,
    /// Whether the assignment of this generation is known.
    settled: bool,
    assignor: Assignor,
}

/// What went wrong last, for whoever wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    Unanswered(Call),
    Answered(Call, ErrorCode),
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
    /// Has left until the application works again.
    Away,
    /// Has left.
    Left,
    /// Has ended with a [`Failure`].
    Failed,
}

/// So many rebalances follow each other at once; more of them in a row, without rest in between, are spaced.
const FREE_REBALANCES: u32 = 4;

impl Member {
    /// A member that has not subscribed to anything yet.
    #[must_use]
    pub fn new(config: MemberConfig) -> Self {
        Self {
            subscription: BTreeSet::new(),
            counts: BTreeMap::new(),
            phase: Phase::Idle,
            rejoin: None,
            member_id: Str::EMPTY,
            is_on_record: false,
            asked_as: Str::EMPTY,
            ghosts: 0,
            tenure: None,
            owned: BTreeSet::new(),
            owned_since: NO_GENERATION,
            assigning: BTreeSet::new(),
            revocation: Revocation::default(),
            led: None,
            heartbeats: Heartbeats::new(config.backoff),
            lease: Lease::new(config.session_timeout, config.rebalance_timeout),
            tries: Backoff::new(config.backoff),
            restless: 0,
            trouble: None,
            departure: None,
            withdrawal: None,
            outbox: VecDeque::new(),
            config,
        }
    }

    /// Subscribes to these topics, in place of earlier ones; joins, or joins again if they differ.
    pub fn subscribe(&mut self, topics: BTreeSet<Str>) {
        if matches!(self.phase, Phase::Idle) {
            self.phase = Phase::Joining(Turn::Now);
            self.rejoin = Some("the consumer subscribed");
        } else if topics != self.subscription {
            self.rejoin = Some("the subscription changed");
        }
        self.subscription = topics;
        self.watch();
    }

    /// Metadata changed: looks at the topics of the last [`Action::Watch`].
    pub fn on_metadata(&mut self, count_of: &dyn Fn(&str) -> TopicCount) {
        for (topic, count) in &mut self.counts {
            *count = count_of(topic);
        }
    }

    /// What to do next.
    pub fn next(&mut self, at: Moment) -> Option<Action> {
        self.advance(at);
        if let Some(action) = self.outbox.pop_front() {
            return Some(action);
        }
        self.next_call(at.now).or_else(|| self.next_heartbeat(at))
    }

    /// When to call [`Member::next`] again, if nothing happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let phase = match &self.phase {
            // Who is about to go does not join any more.
            Phase::Joining(_) if self.departure.is_some() => None,
            Phase::Joining(Turn::At(at)) | Phase::Syncing(_, Turn::At(at)) | Phase::Leaving(Turn::At(at)) => {
                Some(*at)
            }
            Phase::Balancing(round) => Some(round.waits_until()),
            _ => None,
        };
        let departure = self.departure.as_ref().filter(|_| !self.is_over()).map(|departure| departure.until);
        [phase, departure, self.revocation.deadline(), self.heartbeat_due()].into_iter().flatten().min()
    }

    /// These partitions of [`Action::Assign`] have their positions, and the listener knows of them.
    pub fn on_assigned(&mut self, partitions: &BTreeSet<TopicPartition>) {
        self.assigning.retain(|assigning| !partitions.contains(assigning));
    }

    /// A commit of this membership was acknowledged; `sent` was taken before it was written.
    pub fn on_write_acknowledged(&mut self, sent: Moment, membership: &Membership) {
        let is_current = |tenure: Tenure| {
            membership.member_id == self.member_id && membership.generation_id >= tenure.since
        };
        if self.tenure.is_some_and(is_current) {
            self.lease.on_write(sent.elapsed);
        }
    }

    /// What commits are made under. `None` while there is no membership, and from the answer to JoinGroup to that to
    /// SyncGroup: the coordinator would refuse them, and what is owned is about to be said anew.
    #[must_use]
    pub fn membership(&self) -> Option<Membership> {
        self.tenure.filter(|tenure| tenure.settled).map(|tenure| self.membership_in(tenure.generation))
    }

    /// Until when records may be handed out, on the clock that counts suspend; `None`: not at all.
    #[must_use]
    pub fn lease_until(&self) -> Option<Duration> {
        self.lease.until()
    }

    /// Whether records wait for a commit, any commit: [`Commits::next`](super::Commits::next).
    #[must_use]
    pub fn needs_proof(&self, at: Moment) -> bool {
        self.tenure.is_some_and(|tenure| tenure.settled) && self.lease.waits_for_write(at.elapsed)
    }

    /// All that is owned, including what is being assigned or given up.
    #[must_use]
    pub fn owned(&self) -> &BTreeSet<TopicPartition> {
        &self.owned
    }

    /// The topics that it wants; none once it is on its way out, or refused for good.
    #[must_use]
    pub fn wants(&self) -> BTreeSet<Str> {
        let goes = self.departure.is_some() && self.withdrawal.is_none();
        if goes || self.is_over() { BTreeSet::new() } else { self.subscription.clone() }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Idle => State::Idle,
            Phase::Joining(_) => State::Joining,
            Phase::Balancing(_) | Phase::Syncing(..) => State::Syncing,
            Phase::Stable => State::Stable,
            Phase::Revoking => State::Revoking,
            Phase::Leaving(_) => State::Leaving,
            Phase::Away => State::Away,
            Phase::Left => State::Left,
            Phase::Failed => State::Failed,
        }
    }

    fn membership_in(&self, generation_id: i32) -> Membership {
        Membership {
            group_id: self.config.group_id.clone(),
            member_id: self.member_id.clone(),
            generation_id,
            instance_id: self.config.instance_id.clone(),
        }
    }

    /// The coordinator knows the member by this name from now on, or by none.
    fn set_member_id(&mut self, member_id: Str) {
        (self.member_id, self.is_on_record) = (member_id, false);
    }

    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Left | Phase::Failed)
    }

    /// Takes the steps that need no answer from outside.
    fn advance(&mut self, at: Moment) {
        self.end_what_is_overdue(at.now);
        if matches!(&self.phase, Phase::Balancing(round) if self.can_balance(round, at.now)) {
            self.balance();
        }
        if self.departure.is_some() {
            self.depart(at.now);
        } else if matches!(self.phase, Phase::Stable | Phase::Revoking) {
            self.rest_or_rejoin(at);
        }
    }

    /// With its assignment at hand, the member stays as it is, gives something up, or joins again.
    fn rest_or_rejoin(&mut self, at: Moment) {
        if self.topics_changed() {
            self.rejoin = Some("the topics of the group changed");
        }
        if self.rejoin.is_some() {
            let keeps = self.config.is_cooperative() || planted!("eager-member-gives-nothing-up");
            let stays = |at: &TopicPartition| keeps && self.subscription.contains(&at.topic);
            let surplus = self.owned.iter().filter(|at| !stays(at)).cloned().collect();
            self.revoke(at.now, surplus);
        }
        self.phase = match (self.revocation.is_over(), self.rejoin) {
            (false, _) => Phase::Revoking,
            (true, Some(_)) => Phase::Joining(self.rejoin_turn(at)),
            (true, None) => Phase::Stable,
        };
    }

    /// When to join again: at once, unless the group does not come to rest.
    fn rejoin_turn(&self, at: Moment) -> Turn {
        let wait = self.config.backoff.delay(self.restless.saturating_sub(FREE_REBALANCES), at.random);
        Turn::At(at.now + wait)
    }

    /// The call of this phase, if it is due.
    fn next_call(&mut self, now: Instant) -> Option<Action> {
        match self.phase {
            // Who is about to go does not join any more.
            Phase::Joining(turn) if turn.is_due(now) && self.departure.is_none() => {
                self.phase = Phase::Joining(Turn::UnderWay);
                self.asked_as = self.member_id.clone();
                let timeout = self.config.rebalance_call_timeout();
                Some(Action::Join { request: self.join_request(), timeout })
            }
            Phase::Syncing(ref round, ref mut turn) if turn.is_due(now) => {
                *turn = Turn::UnderWay;
                self.asked_as = self.member_id.clone();
                let request = round.request();
                Some(Action::Sync { request, timeout: self.config.rebalance_call_timeout() })
            }
            Phase::Leaving(turn) if turn.is_due(now) => {
                self.phase = Phase::Leaving(Turn::UnderWay);
                self.leave_action(now)
            }
            _ => None,
        }
    }

    /// The call had no answer, or one that says nothing: the same again after a while.
    fn again(&mut self, at: Moment) {
        let turn = Turn::At(at.now + self.tries.on_failure(at.random));
        match &mut self.phase {
            Phase::Joining(of) | Phase::Syncing(_, of) | Phase::Leaving(of) => *of = turn,
            _ => {}
        }
    }

    /// Asks for the partition counts of all topics that matter: its own, and as the leader those of all members.
    fn watch(&mut self) {
        let of_group = match &self.phase {
            Phase::Balancing(round) => Some(round.topics()),
            _ => None,
        };
        let led = self.led.iter().flat_map(BTreeMap::keys).cloned().collect();
        let mut wanted: BTreeSet<Str> = of_group.unwrap_or(led);
        wanted.extend(self.subscription.iter().cloned());
        if wanted.iter().eq(self.counts.keys()) {
            return;
        }
        let known = std::mem::take(&mut self.counts);
        self.counts = wanted
            .iter()
            .map(|topic| (topic.clone(), known.get(topic).copied().unwrap_or(TopicCount::Unknown)))
            .collect();
        self.outbox.push_back(Action::Watch(wanted));
    }
}
