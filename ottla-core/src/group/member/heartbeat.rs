//! Heartbeats, and what the coordinator says about the membership in passing.

use std::time::{Duration, Instant};

use ottla_protocol::{
    ErrorCode, Str,
    messages::{HeartbeatRequest, HeartbeatResponse},
};

use super::{
    super::{Membership, Moment},
    Action, Call, CallError, Failure, LossCause, Member, Phase, Trouble, Turn,
    verdict::Verdict,
};
use crate::backoff::{Backoff, BackoffPolicy};

/// When the next heartbeat is due, and which one is under way.
#[derive(Debug)]
pub(super) struct Heartbeats {
    due: Option<Instant>,
    last: Option<Moment>,
    under_way: Option<Sent>,
    failures: Backoff,
}

/// A heartbeat that was not answered yet.
#[derive(Debug)]
struct Sent {
    at: Moment,
    member_id: Str,
    generation: i32,
    /// Whether the assignment of that generation was known when it was sent.
    settled: bool,
}

impl Heartbeats {
    pub(super) fn new(backoff: BackoffPolicy) -> Self {
        Self { due: None, last: None, under_way: None, failures: Backoff::new(backoff) }
    }

    /// The next one is due at this moment, and no later than it was.
    pub(super) fn not_after(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// There is nothing to keep alive.
    pub(super) fn stop(&mut self) {
        self.due = None;
    }

    fn is_due(&self, at: Moment, every: Duration) -> bool {
        // A timer that slept with the machine is late: the other clock knows better.
        let slept = self.last.is_some_and(|last| at.elapsed.saturating_sub(last.elapsed) >= every);
        self.under_way.is_none() && self.due.is_some_and(|due| due <= at.now || slept)
    }
}

impl Member {
    pub(super) fn heartbeat_due(&self) -> Option<Instant> {
        self.heartbeats.due.filter(|_| self.heartbeats.under_way.is_none())
    }

    pub(super) fn next_heartbeat(&mut self, at: Moment) -> Option<Action> {
        let every = self.config.heartbeat_every();
        let tenure = self.tenure.filter(|_| self.heartbeats.is_due(at, every))?;
        self.heartbeats.last = Some(at);
        self.heartbeats.due = Some(at.now + every);
        self.heartbeats.under_way = Some(Sent {
            at,
            member_id: self.member_id.clone(),
            generation: tenure.generation,
            settled: tenure.settled,
        });
        let request = HeartbeatRequest {
            group_id: self.config.group_id.clone(),
            generation_id: tenure.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.config.instance_id.clone(),
        };
        Some(Action::Heartbeat { request, timeout: self.config.heartbeat_timeout() })
    }

    /// The heartbeat was answered. The member knows when it went out and for which generation.
    pub fn on_heartbeat(&mut self, at: Moment, answer: Result<HeartbeatResponse, CallError>) {
        let Some(sent) = self.heartbeats.under_way.take().filter(|_| !self.is_over()) else { return };
        let code = match answer {
            Ok(response) => response.error_code,
            Err(CallError::Fatal) => return self.fail(Failure::Call(Call::Heartbeat)),
            Err(CallError::Lost) => {
                self.trouble = Some(Trouble::Unanswered(Call::Heartbeat));
                return self.repeat_heartbeat(at, true);
            }
        };
        match Verdict::on(code) {
            verdict @ (Verdict::Fine | Verdict::Rebalance) => {
                self.heartbeats.failures.on_success();
                self.on_sign_of_life(at, &sent, verdict == Verdict::Fine);
            }
            verdict @ (Verdict::NotCoordinator | Verdict::Later | Verdict::MemberIdRequired) => {
                self.trouble = Some(Trouble::Answered(Call::Heartbeat, code));
                self.repeat_heartbeat(at, verdict == Verdict::NotCoordinator);
            }
            Verdict::UnknownMember | Verdict::IllegalGeneration | Verdict::Fatal => {}
        }
        self.on_membership_code(at, Call::Heartbeat, &sent.member_id, sent.generation, code);
    }

    /// The session goes on, and if the group is at rest, no rebalance timer runs.
    ///
    /// Between the answers to JoinGroup and SyncGroup the coordinator answers NONE as well, while a timer runs for members
    /// that do not sync: such a heartbeat keeps the session alive and proves nothing else.
    fn on_sign_of_life(&mut self, at: Moment, sent: &Sent, is_fine: bool) {
        let of_now = |generation| sent.member_id == self.member_id && sent.generation == generation;
        if !self.tenure.is_some_and(|tenure| of_now(tenure.generation)) {
            return;
        }
        let at_rest = is_fine && sent.settled;
        match is_fine {
            true => self.lease.on_heartbeat(sent.at.elapsed, at.elapsed, at_rest),
            false => self.lease.on_rebalance(sent.at.elapsed),
        }
        if at_rest {
            self.revocation.on_rest(sent.at.now);
            (self.restless, self.trouble) = (0, None);
        }
    }

    fn repeat_heartbeat(&mut self, at: Moment, elsewhere: bool) {
        let wait = self.heartbeats.failures.on_failure(at.random).min(self.config.heartbeat_every());
        if self.heartbeats.due.is_some() {
            self.heartbeats.due = Some(at.now + wait);
        }
        if elsewhere {
            self.outbox.push_back(Action::ForgetCoordinator(Call::Heartbeat));
        }
    }

    /// A commit of this membership was refused with a code about membership: UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION,
    /// FENCED_INSTANCE_ID, REBALANCE_IN_PROGRESS. Other codes, and memberships that are over, change nothing.
    pub fn on_rejected(&mut self, at: Moment, membership: &Membership, code: ErrorCode) {
        let about_membership = [
            ErrorCode::UNKNOWN_MEMBER_ID,
            ErrorCode::ILLEGAL_GENERATION,
            ErrorCode::FENCED_INSTANCE_ID,
            ErrorCode::REBALANCE_IN_PROGRESS,
        ];
        if about_membership.contains(&code) && !self.is_over() {
            let Membership { member_id, generation_id, .. } = membership;
            self.on_membership_code(at, Call::Commit, member_id, *generation_id, code);
        }
    }

    /// What was sent by this member in this generation, beside JoinGroup and SyncGroup, was answered with this code.
    ///
    /// While one of those two is under way, the coordinator may have begun the next generation already: what it says about
    /// the generation then is neither a loss nor news.
    fn on_membership_code(
        &mut self,
        at: Moment,
        call: Call,
        member_id: &Str,
        generation: i32,
        code: ErrorCode,
    ) {
        let Some(tenure) = self.tenure.filter(|_| *member_id == self.member_id) else { return };
        let is_at_rest = matches!(self.phase, Phase::Stable | Phase::Revoking);
        match self.verdict(member_id, code) {
            Verdict::Rebalance if is_at_rest && tenure.generation == generation => {
                self.revocation.on_rebalance(at.now, self.config.rebalance_timeout);
                self.rejoin = self.rejoin.or(Some("the group is rebalanced"));
            }
            Verdict::IllegalGeneration if is_at_rest && tenure.generation == generation => {
                self.trouble = Some(Trouble::Answered(call, code));
                self.lose(LossCause::IllegalGeneration);
                self.phase = Phase::Joining(self.rejoin_turn(at));
            }
            Verdict::UnknownMember => {
                self.trouble = Some(Trouble::Answered(call, code));
                self.lose(LossCause::UnknownMember);
                match self.phase {
                    // What is under way will be answered with the same.
                    Phase::Joining(Turn::UnderWay)
                    | Phase::Syncing(_, Turn::UnderWay)
                    | Phase::Leaving(_) => {}
                    _ => self.phase = Phase::Joining(self.rejoin_turn(at)),
                }
            }
            Verdict::Fatal => self.fail(Failure::Refused(call, code)),
            _ => {}
        }
    }
}
