//! One rebalance: JoinGroup, the leader's assignment, SyncGroup.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use ottla_protocol::{
    ErrorCode, Str,
    messages::{
        JoinGroupRequest, JoinGroupResponse, SyncGroupRequest, SyncGroupResponse,
        join_group_request::JoinGroupRequestProtocol, join_group_response::JoinGroupResponseMember,
        sync_group_request::SyncGroupRequestAssignment,
    },
};

use super::{
    super::{
        Assignor, Moment,
        assignor::{Assignments, Candidate},
        subscription::{
            PROTOCOL_TYPE, Subscription, decode_assignment, decode_subscription, encode_assignment,
            encode_subscription,
        },
    },
    Action, Call, CallError, Failure, Joined, LossCause, Member, Phase, Tenure, TopicCount, Trouble, Turn,
    verdict::Verdict,
};

/// How long a leader waits to hear of topics that it has not asked for before. What is still unknown then is left out, and
/// the group is rebalanced when it is known.
const WAIT_FOR_TOPICS: Duration = Duration::from_secs(1);

/// What the coordinator has told about the rebalance, and what it is told in return.
#[derive(Debug)]
pub(super) struct Round {
    assignor: Assignor,
    /// As the leader: the members of the group, until they are assigned to.
    members: Vec<Candidate>,
    /// As the leader: how many there are.
    led: Option<usize>,
    /// KIP-814: the leader has come back under its old name, and the assignment stays as it is.
    keeps_assignment: bool,
    waits_until: Instant,
    sync: SyncGroupRequest,
}

impl Round {
    pub(super) fn waits_until(&self) -> Instant {
        self.waits_until
    }

    pub(super) fn request(&self) -> SyncGroupRequest {
        self.sync.clone()
    }

    /// All topics that members of the group want.
    pub(super) fn topics(&self) -> BTreeSet<Str> {
        self.members.iter().flat_map(|member| &member.subscription.topics).map(Str::detached).collect()
    }

    fn assign(&mut self, assigned: Assignments) {
        self.sync.assignments = assigned
            .into_iter()
            .map(|(member_id, partitions)| SyncGroupRequestAssignment {
                member_id,
                assignment: encode_assignment(&partitions),
            })
            .collect();
    }
}

impl Member {
    pub(super) fn join_request(&mut self) -> JoinGroupRequest {
        let reason = self.rejoin.take();
        let protocols = self.config.assignors.iter().map(|assignor| JoinGroupRequestProtocol {
            name: Str::from_static(assignor.name()),
            metadata: encode_subscription(
                &self.subscription,
                &self.owned,
                self.owned_since,
                self.config.rack.clone(),
                *assignor == Assignor::CooperativeSticky,
            ),
        });
        JoinGroupRequest {
            group_id: self.config.group_id.clone(),
            session_timeout_ms: millis(self.config.session_timeout),
            rebalance_timeout_ms: millis(self.config.rebalance_timeout),
            member_id: self.member_id.clone(),
            group_instance_id: self.config.instance_id.clone(),
            protocol_type: PROTOCOL_TYPE,
            protocols: protocols.collect(),
            reason: reason.map(Str::from_static),
        }
    }

    /// JoinGroup was answered.
    pub fn on_join(&mut self, at: Moment, answer: Result<JoinGroupResponse, CallError>) {
        if !matches!(self.phase, Phase::Joining(Turn::UnderWay)) {
            return;
        }
        let Some(response) = self.heard(at, Call::Join, answer, |answer| answer.error_code) else { return };
        match Verdict::on(response.error_code) {
            Verdict::Fine => self.joined(at, response),
            Verdict::MemberIdRequired if self.member_id.is_empty() && !response.member_id.is_empty() => {
                self.set_member_id(response.member_id.detached());
                self.phase = Phase::Joining(Turn::Now);
            }
            _ => self.again(at),
        }
    }

    /// What all answers of the coordinator have in common; `None`: there is nothing more to it.
    fn heard<T>(
        &mut self,
        at: Moment,
        call: Call,
        answer: Result<T, CallError>,
        code_of: impl Fn(&T) -> ErrorCode,
    ) -> Option<T> {
        let response = match answer {
            Ok(response) => response,
            Err(CallError::Fatal) => {
                self.fail(Failure::Call(call));
                return None;
            }
            Err(CallError::Lost) => {
                let is_ghost = call == Call::Join && self.asked_as.is_empty();
                self.ghosts = self.ghosts.saturating_add(u32::from(is_ghost));
                self.trouble = Some(Trouble::Unanswered(call));
                self.outbox.push_back(Action::ForgetCoordinator(call));
                self.again(at);
                return None;
            }
        };
        let code = code_of(&response);
        if !matches!(Verdict::on(code), Verdict::Fine | Verdict::MemberIdRequired) {
            self.trouble = Some(Trouble::Answered(call, code));
        }
        match self.verdict(&self.asked_as.clone(), code) {
            Verdict::Fatal => self.fail(Failure::Refused(call, code)),
            Verdict::UnknownMember => self.lose_and_rejoin(at, LossCause::UnknownMember),
            Verdict::IllegalGeneration => self.lose_and_rejoin(at, LossCause::IllegalGeneration),
            Verdict::NotCoordinator => {
                self.outbox.push_back(Action::ForgetCoordinator(call));
                self.again(at);
            }
            Verdict::Later => self.again(at),
            Verdict::Fine | Verdict::Rebalance | Verdict::MemberIdRequired => return Some(response),
        }
        None
    }

    fn lose_and_rejoin(&mut self, at: Moment, cause: LossCause) {
        self.lose(cause);
        self.phase = Phase::Joining(Turn::Now);
        self.again(at);
    }

    fn joined(&mut self, at: Moment, response: JoinGroupResponse) {
        if response.member_id.is_empty() || response.generation_id < 0 {
            return self.again(at);
        }
        let Some(assignor) = self.agreed_assignor(&response) else {
            return self.fail(Failure::Refused(Call::Join, ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
        };
        if response.member_id != self.member_id {
            // A name that was never confirmed is not lost.
            self.lose(LossCause::UnknownMember);
            self.set_member_id(response.member_id.detached());
        }
        let generation = response.generation_id;
        let since = self.tenure.map_or(generation, |tenure| tenure.since);
        self.tenure = Some(Tenure { generation, since, settled: false, assignor });
        self.heartbeats.not_after(at.now + self.config.heartbeat_every());
        self.led = None;

        let is_leader = response.leader == response.member_id;
        let round = self.round(at, assignor, response, is_leader);
        self.phase = if is_leader { Phase::Balancing(round) } else { Phase::Syncing(round, Turn::Now) };
        self.watch();
    }

    /// The assignor that the group agreed on; `None`: it is none of ours.
    fn agreed_assignor(&self, response: &JoinGroupResponse) -> Option<Assignor> {
        let of_consumers = response.protocol_type.as_ref().is_none_or(|of| *of == PROTOCOL_TYPE);
        let name = response.protocol_name.as_deref().filter(|_| of_consumers)?;
        self.config.assignors.iter().copied().find(|assignor| assignor.name() == name)
    }

    fn round(&self, at: Moment, assignor: Assignor, response: JoinGroupResponse, is_leader: bool) -> Round {
        let members: Vec<_> = match is_leader {
            true => response.members.into_iter().map(candidate).collect(),
            false => Vec::new(),
        };
        let sync = SyncGroupRequest {
            group_id: self.config.group_id.clone(),
            generation_id: response.generation_id,
            member_id: self.member_id.clone(),
            group_instance_id: self.config.instance_id.clone(),
            protocol_type: Some(PROTOCOL_TYPE),
            protocol_name: Some(Str::from_static(assignor.name())),
            assignments: Vec::new(),
        };
        Round {
            assignor,
            led: is_leader.then_some(members.len()),
            members,
            keeps_assignment: response.skip_assignment,
            waits_until: at.now + WAIT_FOR_TOPICS.min(self.config.rebalance_timeout / 4),
            sync,
        }
    }

    /// Whether the leader knows all topics, or has waited long enough.
    pub(super) fn can_balance(&self, round: &Round, now: Instant) -> bool {
        round.waits_until <= now || !self.counts.values().any(|count| *count == TopicCount::Unknown)
    }

    /// The leader's part: assigns what exists to who wants it.
    pub(super) fn balance(&mut self) {
        let Phase::Balancing(mut round) = std::mem::replace(&mut self.phase, Phase::Stable) else { return };
        let known = |topic: &Str| match self.counts.get(topic) {
            Some(TopicCount::Partitions(count)) => Some(*count),
            _ => None,
        };
        let led: BTreeMap<_, _> =
            round.topics().into_iter().map(|topic| (topic.clone(), known(&topic))).collect();
        let members = std::mem::take(&mut round.members);
        if !round.keeps_assignment {
            let exist = led.iter().filter_map(|(topic, count)| Some((topic.clone(), (*count)?))).collect();
            round.assign(round.assignor.assign(members, &exist));
        }
        self.led = Some(led);
        self.phase = Phase::Syncing(round, Turn::Now);
    }

    /// Whether the group must be assigned anew since this leader made its assignment. A topic that is not known for a while
    /// has not changed.
    pub(super) fn topics_changed(&self) -> bool {
        let changed = |topic: &Str, before: &Option<i32>| match self.counts.get(topic) {
            Some(TopicCount::Partitions(count)) => Some(*count) != *before,
            Some(TopicCount::Missing) => before.is_some(),
            Some(TopicCount::Unknown) | None => false,
        };
        self.led.iter().flatten().any(|(topic, before)| changed(topic, before))
    }

    /// SyncGroup was answered.
    pub fn on_sync(&mut self, at: Moment, answer: Result<SyncGroupResponse, CallError>) {
        if !matches!(self.phase, Phase::Syncing(_, Turn::UnderWay)) {
            return;
        }
        let Some(response) = self.heard(at, Call::Sync, answer, |answer| answer.error_code) else { return };
        match Verdict::on(response.error_code) {
            Verdict::Fine => self.synced(at, response),
            _ => {
                self.rejoin = Some("the group is rebalanced again");
                self.restless = self.restless.saturating_add(1);
                self.phase = Phase::Joining(self.rejoin_turn(at));
            }
        }
    }

    fn synced(&mut self, at: Moment, response: SyncGroupResponse) {
        let Phase::Syncing(round, _) = std::mem::replace(&mut self.phase, Phase::Stable) else { return };
        let of_consumers = response.protocol_type.as_ref().is_none_or(|of| *of == PROTOCOL_TYPE);
        let of_assignor = response.protocol_name.as_ref().is_none_or(|name| *name == round.assignor.name());
        if !of_consumers || !of_assignor {
            return self.fail(Failure::Refused(Call::Sync, ErrorCode::INCONSISTENT_GROUP_PROTOCOL));
        }
        let Ok(mut assigned) = decode_assignment(response.assignment) else {
            return self.lose_and_rejoin(at, LossCause::UnreadableAssignment);
        };
        let Some(tenure) = &mut self.tenure else {
            return self.lose_and_rejoin(at, LossCause::UnknownMember);
        };
        tenure.settled = true;
        self.is_on_record = true;
        self.owned_since = tenure.generation;
        self.tries.on_success();
        self.restless = self.restless.saturating_add(1);
        self.revocation.on_rest(at.now);
        self.heartbeats.not_after(at.now);
        let membership = self.membership_in(round.sync.generation_id);
        self.outbox.push_back(Action::Joined(Joined {
            membership,
            assignor: round.assignor,
            led: round.led,
        }));
        if self.departure.is_some() {
            return;
        }
        // The subscription may have changed since JoinGroup; what nobody wants any more is given up.
        assigned.retain(|at| self.subscription.contains(&at.topic));
        let taken: BTreeSet<_> = self.owned.difference(&assigned).cloned().collect();
        if !taken.is_empty() {
            self.rejoin = Some("others wait for partitions that were given up");
            self.revoke(at.now, taken);
        }
        let added: BTreeSet<_> = assigned.difference(&self.owned).cloned().collect();
        if !added.is_empty() {
            self.owned.extend(added.iter().cloned());
            self.assigning.extend(added.iter().cloned());
            self.outbox.push_back(Action::Assign { partitions: added });
        }
    }
}

fn candidate(member: JoinGroupResponseMember) -> Candidate {
    let JoinGroupResponseMember { member_id, group_instance_id, metadata } = member;
    let subscription: Subscription = decode_subscription(metadata);
    Candidate { member_id, instance_id: group_instance_id, subscription }
}

/// A timeout as the wire has it.
fn millis(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}
