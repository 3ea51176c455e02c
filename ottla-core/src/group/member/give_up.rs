//! How partitions go: given up in time, lost, or on the way out, for good or for a while.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use ottla_protocol::{ErrorCode, Str, messages::LeaveGroupResponse};

use super::{
    super::{Moment, TopicPartition, lease::without_margin, subscription::NO_GENERATION},
    Action, Call, CallError, Departure, Failure, LeaveGroup, LossCause, Member, Phase, Trouble, Turn,
    action::STALLED,
    verdict::Verdict,
};

/// What the driver was asked to give up, and how long that may take.
#[derive(Debug, Default)]
pub(super) struct Revocation {
    partitions: BTreeSet<TopicPartition>,
    until: Option<Instant>,
    /// When the group was last known to be at rest: the coordinator's rebalance timer did not run then.
    at_rest: Option<Instant>,
    /// The coordinator has said that it rebalances: its timer runs.
    rebalancing: bool,
}

impl Revocation {
    pub(super) fn is_over(&self) -> bool {
        self.partitions.is_empty()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.until.filter(|_| !self.is_over())
    }

    pub(super) fn partitions(&self) -> &BTreeSet<TopicPartition> {
        &self.partitions
    }

    pub(super) fn on_rest(&mut self, at: Instant) {
        (self.at_rest, self.rebalancing) = (self.at_rest.max(Some(at)), false);
    }

    /// From now on there is no more time than the coordinator gives.
    pub(super) fn on_rebalance(&mut self, now: Instant, timeout: Duration) {
        self.rebalancing = true;
        let limit = self.limit(now, timeout);
        self.until = self.until.map(|until| until.min(limit));
    }

    /// Until when something that is asked for now has to be given up.
    fn limit(&self, now: Instant, timeout: Duration) -> Instant {
        let timer_started = self.at_rest.filter(|_| self.rebalancing).unwrap_or(now);
        timer_started + without_margin(timeout)
    }
}

/// The member goes because the application has stopped working, and comes back when it works again.
#[derive(Debug, Default)]
pub(super) struct Withdrawal {
    /// It does so by now.
    ends: bool,
}

impl Member {
    /// These partitions of [`Action::Revoke`] or [`Action::Abandon`] are given up: drained, committed, told to the listener, forgotten.
    pub fn on_revoked(&mut self, partitions: &BTreeSet<TopicPartition>) {
        for at in partitions {
            if self.revocation.partitions.remove(at) {
                self.owned.remove(at);
            }
        }
    }

    /// Asks for these to be given up, as far as that was not asked before.
    pub(super) fn revoke(&mut self, now: Instant, mut partitions: BTreeSet<TopicPartition>) {
        partitions.retain(|at| !self.revocation.partitions.contains(at));
        if partitions.is_empty() {
            return;
        }
        let limit = self.revocation.limit(now, self.config.rebalance_timeout);
        // On the way out, some time is left to say goodbye.
        let before_leaving = |departure: &Departure| {
            let remaining = departure.until.saturating_duration_since(now);
            limit.min(now + remaining * 3 / 4)
        };
        let until = self.departure.as_ref().map_or(limit, before_leaving);
        self.revocation.until = Some(self.revocation.deadline().map_or(until, |earlier| earlier.min(until)));
        self.revocation.partitions.extend(partitions.iter().cloned());
        self.outbox.push_back(match self.withdrawal {
            Some(_) => Action::Abandon { partitions, until },
            None => Action::Revoke { partitions, until },
        });
    }

    pub(super) fn end_what_is_overdue(&mut self, now: Instant) {
        if self.revocation.deadline().is_some_and(|until| until <= now) {
            let partitions = std::mem::take(&mut self.revocation.partitions);
            self.disown(partitions, LossCause::RevocationTimedOut);
        }
        if self.departure.as_ref().is_some_and(|departure| departure.until <= now) && !self.is_over() {
            self.gone(LossCause::RevocationTimedOut);
        }
    }

    fn disown(&mut self, partitions: BTreeSet<TopicPartition>, cause: LossCause) {
        self.owned.retain(|at| !partitions.contains(at));
        self.assigning.retain(|at| !partitions.contains(at));
        self.outbox.push_back(Action::Lost { partitions, cause });
    }

    /// The membership is over, and all partitions with it. The coordinator keeps the member's name, unless it has
    /// forgotten it.
    pub(super) fn lose(&mut self, cause: LossCause) {
        if matches!(cause, LossCause::UnknownMember) {
            self.set_member_id(Str::EMPTY);
        }
        if self.tenure.take().is_none() {
            return;
        }
        self.lease.end();
        self.heartbeats.stop();
        self.revocation = Revocation::default();
        (self.led, self.owned_since) = (None, NO_GENERATION);
        self.rejoin = Some(cause.as_str());
        let partitions = std::mem::take(&mut self.owned);
        self.disown(partitions, cause);
    }

    /// Nothing more will come of this member.
    pub(super) fn fail(&mut self, failure: Failure) {
        let cause = match failure {
            Failure::Refused(_, ErrorCode::FENCED_INSTANCE_ID) => LossCause::FencedInstance,
            _ => LossCause::Failed,
        };
        self.finish(Phase::Failed, cause);
        self.outbox.push_back(Action::Failed(failure));
    }

    fn finish(&mut self, phase: Phase, cause: LossCause) {
        if !self.owned.is_empty() {
            self.lose(cause);
        }
        self.lease.end();
        self.heartbeats.stop();
        (self.tenure, self.rejoin) = (None, None);
        self.phase = phase;
    }

    /// Gives up everything and leaves: [`Action::Revoke`], [`Action::Leave`], then [`super::State::Left`].
    pub fn leave(&mut self, departure: Departure) {
        if self.departure.is_none() || self.withdrawal.is_some() {
            (self.departure, self.withdrawal) = (Some(departure), None);
        }
    }

    /// Leaves because the application has stopped working, so that others go on: [`Action::Abandon`], [`Action::Leave`], then
    /// [`super::State::Away`] until [`Self::come_back`]. A static member says nothing, as in Java: its partitions wait for its
    /// session to end, or for the application. `false`: it owns nothing, or goes already.
    pub fn withdraw(&mut self, now: Instant) -> bool {
        if self.departure.is_some() || self.owned.is_empty() {
            return false;
        }
        let until = now + self.config.rebalance_timeout;
        self.departure = Some(Departure { until, reason: STALLED.into(), remain: None });
        self.withdrawal = Some(Withdrawal::default());
        true
    }

    /// The application works again: whoever has withdrawn joins again, as soon as it has left.
    pub fn come_back(&mut self) {
        if let Some(withdrawal) = &mut self.withdrawal {
            withdrawal.ends = true;
        } else if matches!(self.phase, Phase::Away) {
            self.phase = Phase::Joining(Turn::Now);
            self.rejoin = Some("the application works again");
        }
    }

    /// Whether [`Self::come_back`] would change anything.
    #[must_use]
    pub fn waits_for_application(&self) -> bool {
        let goes = self.withdrawal.as_ref().is_some_and(|withdrawal| !withdrawal.ends);
        goes || matches!(self.phase, Phase::Away)
    }

    /// All is given up and said.
    fn gone(&mut self, cause: LossCause) {
        let Some(withdrawal) = self.withdrawal.take() else { return self.finish(Phase::Left, cause) };
        self.lose(LossCause::Stalled);
        self.finish(Phase::Away, cause);
        (self.departure, self.member_id) = (None, Str::EMPTY);
        if withdrawal.ends {
            self.come_back();
        }
    }

    /// On the way out. What is under way is still heard while partitions are given up: their commit needs to know the
    /// generation that the group has reached.
    pub(super) fn depart(&mut self, now: Instant) {
        if self.is_over() || matches!(self.phase, Phase::Leaving(_)) {
            return;
        }
        self.revoke(now, self.owned.clone());
        if self.revocation.is_over() {
            let remains = self.departure.as_ref().and_then(|departure| departure.remain);
            let remains = remains.unwrap_or(self.config.instance_id.is_some());
            if remains || self.member_id.is_empty() {
                self.gone(LossCause::Failed);
            } else {
                self.heartbeats.stop();
                self.phase = Phase::Leaving(Turn::Now);
            }
        } else if matches!(self.phase, Phase::Stable) {
            self.phase = Phase::Revoking;
        }
    }

    pub(super) fn leave_action(&self, now: Instant) -> Option<Action> {
        let departure = self.departure.as_ref()?;
        let generation = self.tenure.map_or(NO_GENERATION, |tenure| tenure.generation);
        let leave =
            LeaveGroup { membership: self.membership_in(generation), reason: departure.reason.clone() };
        // There must be time to say it again: whoever says it twice is told that the coordinator does not know it.
        let timeout = departure.until.saturating_duration_since(now).min(self.config.heartbeat_timeout());
        Some(Action::Leave { leave, timeout })
    }

    /// LeaveGroup was answered.
    pub fn on_leave(&mut self, at: Moment, answer: Result<LeaveGroupResponse, CallError>) {
        if !matches!(self.phase, Phase::Leaving(Turn::UnderWay)) {
            return;
        }
        let verdict = match &answer {
            Ok(response) => Verdict::on(response.error_code),
            Err(CallError::Lost) => Verdict::NotCoordinator,
            Err(CallError::Fatal) => Verdict::Fatal,
        };
        match verdict {
            Verdict::NotCoordinator | Verdict::Later => {
                self.trouble = Some(match answer {
                    Ok(response) => Trouble::Answered(Call::Leave, response.error_code),
                    Err(_) => Trouble::Unanswered(Call::Leave),
                });
                if verdict == Verdict::NotCoordinator {
                    self.outbox.push_back(Action::ForgetCoordinator(Call::Leave));
                }
                self.again(at);
            }
            // It is gone, or was gone already, or may not say so: its session ends by itself.
            _ => self.gone(LossCause::Failed),
        }
    }
}
