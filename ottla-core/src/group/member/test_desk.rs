//! A member on a desk: the test is its driver, its clock and its coordinator.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use ottla_protocol::{
    ErrorCode, Str,
    messages::{
        HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupResponse,
        SyncGroupRequest, SyncGroupResponse, join_group_response::JoinGroupResponseMember,
    },
};

use super::{
    super::{
        Assignor, Membership, Moment, TopicPartition,
        subscription::{encode_assignment, encode_subscription},
    },
    Action, CallError, Departure, Member, MemberConfig, TopicCount,
};

pub(super) const GROUP: &str = "billing";

pub(super) fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// `orders-0 orders-1` and so on.
pub(super) fn partitions(topic: &str, numbers: &[i32]) -> BTreeSet<TopicPartition> {
    numbers.iter().map(|number| TopicPartition::new(topic, *number)).collect()
}

fn membership(generation_id: i32) -> Membership {
    Membership { group_id: GROUP.into(), member_id: "me".into(), generation_id, instance_id: None }
}

pub(super) struct Desk {
    pub(super) member: Member,
    start: Instant,
    pub(super) time: Duration,
    /// How long the machine was suspended, which timers do not notice.
    pub(super) suspended: Duration,
}

impl Desk {
    pub(super) fn new(config: MemberConfig) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a fixed moment to count from; tests have no clock")]
        let start = Instant::now();
        Self { member: Member::new(config), start, time: Duration::ZERO, suspended: Duration::ZERO }
    }

    pub(super) fn config() -> MemberConfig {
        MemberConfig::new(GROUP)
    }

    pub(super) fn eager() -> MemberConfig {
        MemberConfig { assignors: vec![Assignor::Range], ..Self::config() }
    }

    /// A member of generation 1, led by another, that owns these partitions of `orders`.
    pub(super) fn settled(config: MemberConfig, owned: &[i32]) -> Self {
        let mut desk = Self::new(config);
        desk.member.subscribe(["orders".into()].into());
        desk.take_join();
        desk.joined(1);
        desk.take_sync();
        desk.synced(&partitions("orders", owned));
        desk.actions();
        desk.member.on_assigned(&partitions("orders", owned));
        desk.heartbeat_answered(ErrorCode::NONE);
        desk.committed();
        desk
    }

    pub(super) fn at(&self) -> Moment {
        Moment { now: self.start + self.time, elapsed: self.time + self.suspended, random: 0 }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.time += time;
    }

    /// The next deadline, as time from now.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.member.next_deadline().map(|at| at.saturating_duration_since(self.at().now))
    }

    /// All that is to be done now.
    pub(super) fn actions(&mut self) -> Vec<Action> {
        let at = self.at();
        std::iter::from_fn(|| self.member.next(at)).collect()
    }

    /// All that is to be done now, besides heartbeats and metadata.
    pub(super) fn news(&mut self) -> Vec<Action> {
        let mut actions = self.actions();
        actions.retain(|action| !matches!(action, Action::Heartbeat { .. } | Action::Watch(_)));
        actions
    }

    pub(super) fn take_join(&mut self) -> JoinGroupRequest {
        let actions = self.news();
        match actions.into_iter().next_back() {
            Some(Action::Join { request, .. }) => request,
            other => panic!("JoinGroup expected, not {other:?}"),
        }
    }

    pub(super) fn take_sync(&mut self) -> SyncGroupRequest {
        let actions = self.news();
        match actions.into_iter().next_back() {
            Some(Action::Sync { request, .. }) => request,
            other => panic!("SyncGroup expected, not {other:?}"),
        }
    }

    pub(super) fn take_heartbeat(&mut self) -> HeartbeatRequest {
        match self.actions().pop() {
            Some(Action::Heartbeat { request, .. }) => request,
            other => panic!("Heartbeat expected, not {other:?}"),
        }
    }

    /// JoinGroup is answered; `leader` leads.
    pub(super) fn joined(&mut self, generation: i32) {
        let answer = self.join_answer(generation, "leader", Vec::new());
        self.member.on_join(self.at(), Ok(answer));
    }

    /// JoinGroup is answered; this member leads members that want these topics.
    pub(super) fn joined_as_leader(&mut self, generation: i32, members: &[(&str, &[&str])]) {
        let members = members.iter().map(|(id, topics)| {
            let topics = topics.iter().copied().map(Str::from).collect();
            JoinGroupResponseMember {
                member_id: (*id).into(),
                group_instance_id: None,
                metadata: encode_subscription(&topics, &BTreeSet::new(), -1, None, false),
            }
        });
        let answer = self.join_answer(generation, "me", members.collect());
        self.member.on_join(self.at(), Ok(answer));
    }

    pub(super) fn join_answer(
        &self,
        generation_id: i32,
        leader: &str,
        members: Vec<JoinGroupResponseMember>,
    ) -> JoinGroupResponse {
        let assignor = self.member.config.assignors[0].name();
        JoinGroupResponse {
            generation_id,
            protocol_type: Some("consumer".into()),
            protocol_name: Some(assignor.into()),
            leader: leader.into(),
            member_id: "me".into(),
            members,
            ..JoinGroupResponse::default()
        }
    }

    pub(super) fn join_refused(&mut self, error_code: ErrorCode) {
        self.member.on_join(self.at(), Ok(JoinGroupResponse { error_code, ..JoinGroupResponse::default() }));
    }

    pub(super) fn synced(&mut self, assigned: &BTreeSet<TopicPartition>) {
        let assignment = encode_assignment(assigned);
        self.member.on_sync(self.at(), Ok(SyncGroupResponse { assignment, ..SyncGroupResponse::default() }));
    }

    pub(super) fn sync_refused(&mut self, error_code: ErrorCode) {
        self.member.on_sync(self.at(), Ok(SyncGroupResponse { error_code, ..SyncGroupResponse::default() }));
    }

    pub(super) fn heartbeat_answered(&mut self, error_code: ErrorCode) {
        let answer = HeartbeatResponse { error_code, ..HeartbeatResponse::default() };
        self.member.on_heartbeat(self.at(), Ok(answer));
    }

    pub(super) fn heartbeat_lost(&mut self) {
        self.member.on_heartbeat(self.at(), Err(CallError::Lost));
    }

    /// The interval passes, and the heartbeat that is due is answered.
    pub(super) fn beat(&mut self, error_code: ErrorCode) {
        self.pass(s(3));
        self.take_heartbeat();
        self.heartbeat_answered(error_code);
    }

    pub(super) fn left(&mut self, error_code: ErrorCode) {
        let answer = LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() };
        self.member.on_leave(self.at(), Ok(answer));
    }

    /// A commit is sent and acknowledged at once.
    pub(super) fn committed(&mut self) {
        self.committed_in(self.member.membership().unwrap().generation_id);
    }

    /// A commit that is sent now is acknowledged at once, in a generation that may be over by now.
    pub(super) fn committed_in(&mut self, generation_id: i32) {
        self.member.on_write_acknowledged(self.at(), &membership(generation_id));
    }

    /// A commit of that generation is refused.
    pub(super) fn commit_refused(&mut self, generation_id: i32, code: ErrorCode) {
        self.member.on_rejected(self.at(), &membership(generation_id), code);
    }

    pub(super) fn leave_within(&mut self, time: Duration) {
        let until = self.at().now + time;
        self.member.leave(Departure { until, reason: "closed".into(), remain: None });
    }

    pub(super) fn counts(&mut self, counts: &[(&str, TopicCount)]) {
        self.member.on_metadata(&|topic| {
            counts.iter().find(|(name, _)| *name == topic).map_or(TopicCount::Unknown, |(_, count)| *count)
        });
    }

    /// How much of the lease is left.
    pub(super) fn lease(&self) -> Option<Duration> {
        self.member.lease_until().map(|until| until.saturating_sub(self.at().elapsed))
    }
}
