//! A small model of the classic coordinator, by Apache Kafka's rules: one group, dynamic members. It can move to another
//! broker, which takes its time to load what was written of the group and answers heartbeats blindly meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use ottla_protocol::{
    ErrorCode, Str,
    messages::{
        JoinGroupRequest, JoinGroupResponse, SyncGroupRequest, SyncGroupResponse,
        join_group_response::JoinGroupResponseMember,
    },
};

/// Which request an answer belongs to.
pub(super) type CallId = u64;

/// An answer that leaves now, possibly to a request that was parked.
pub(super) enum Answer {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Preparing {
        until: Duration,
    },
    Completing {
        until: Duration,
    },
    /// Also without members.
    Stable,
}

#[derive(Clone)]
struct Known {
    request: JoinGroupRequest,
    joins: Option<CallId>,
    syncs: Option<CallId>,
    expires: Duration,
    assignment: Bytes,
}

pub(super) struct Coordinator {
    stage: Stage,
    generation: i32,
    members: BTreeMap<Str, Known>,
    removed: BTreeSet<Str>,
    leader: Str,
    named: u32,
    answers: Vec<(CallId, Answer)>,
    /// The group as it was written last: when a generation was assigned.
    written: (i32, BTreeMap<Str, Known>, Str),
    loading_until: Option<Duration>,
}

impl Coordinator {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::Stable,
            generation: 0,
            members: BTreeMap::new(),
            removed: BTreeSet::new(),
            leader: Str::EMPTY,
            named: 0,
            answers: Vec::new(),
            written: (0, BTreeMap::new(), Str::EMPTY),
            loading_until: None,
        }
    }

    /// Another broker coordinates the group from now on, and has loaded it at that moment. Whoever waits for an answer of
    /// the one before waits in vain.
    pub(super) fn moves(&mut self, loaded: Duration) {
        (self.generation, self.members, self.leader) = self.written.clone();
        for (id, known) in &mut self.members {
            (known.joins, known.syncs) = (None, None);
            self.removed.remove(id);
        }
        self.stage = Stage::Stable;
        self.answers.clear();
        self.loading_until = Some(loaded);
    }

    fn write(&mut self) {
        self.written = (self.generation, self.members.clone(), self.leader.clone());
    }

    pub(super) fn take_answers(&mut self) -> Vec<(CallId, Answer)> {
        std::mem::take(&mut self.answers)
    }

    pub(super) fn join(&mut self, now: Duration, call: CallId, request: JoinGroupRequest) {
        if self.loading_until.is_some() {
            let error_code = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
            let refused = JoinGroupResponse { error_code, ..JoinGroupResponse::default() };
            return self.answers.push((call, Answer::Join(refused)));
        }
        if request.member_id.is_empty() {
            self.named += 1;
            let named = JoinGroupResponse {
                error_code: ErrorCode::MEMBER_ID_REQUIRED,
                member_id: format!("m{}", self.named).into(),
                ..JoinGroupResponse::default()
            };
            return self.answers.push((call, Answer::Join(named)));
        }
        if self.removed.contains(&request.member_id) {
            let error_code = ErrorCode::UNKNOWN_MEMBER_ID;
            let unknown = JoinGroupResponse { error_code, ..JoinGroupResponse::default() };
            return self.answers.push((call, Answer::Join(unknown)));
        }
        let (id, expires) = (request.member_id.clone(), now + millis(request.session_timeout_ms));
        let before = self.members.get(&id).map(|known| known.request.protocols.clone());
        let is_same = before.as_ref() == Some(&request.protocols);
        let assignment = Bytes::new();
        let fresh = Known { request: request.clone(), joins: None, syncs: None, expires, assignment };
        let known = self.members.entry(id.clone()).or_insert(fresh);
        (known.request, known.expires) = (request, expires);
        let repeats = match self.stage {
            Stage::Completing { .. } => is_same,
            Stage::Stable => is_same && self.leader != id,
            Stage::Preparing { .. } => false,
        };
        if repeats {
            let answer = self.join_answer(&id);
            return self.answers.push((call, Answer::Join(answer)));
        }
        known.joins = Some(call);
        self.prepare(now);
        self.go_on_if_all_joined(now);
    }

    fn prepare(&mut self, now: Duration) {
        if matches!(self.stage, Stage::Preparing { .. }) {
            return;
        }
        let timeout =
            self.members.values().map(|known| known.request.rebalance_timeout_ms).max().unwrap_or(0);
        self.stage = Stage::Preparing { until: now + millis(timeout) };
        for known in self.members.values_mut() {
            let call = known.syncs.take();
            let answer = sync_refusal(ErrorCode::REBALANCE_IN_PROGRESS);
            self.answers.extend(call.map(|call| (call, answer)));
        }
    }

    fn go_on_if_all_joined(&mut self, now: Duration) {
        let preparing = matches!(self.stage, Stage::Preparing { .. });
        if preparing && self.members.values().all(|known| known.joins.is_some()) {
            self.next_generation(now);
        }
    }

    fn next_generation(&mut self, now: Duration) {
        let absent = self.members.iter().filter(|(_, known)| known.joins.is_none());
        let absent: Vec<_> = absent.map(|(id, _)| id.clone()).collect();
        for id in absent {
            self.members.remove(&id);
            self.removed.insert(id);
        }
        self.generation += 1;
        if !self.members.contains_key(&self.leader) {
            self.leader = self.members.keys().next().cloned().unwrap_or_default();
        }
        let timeout =
            self.members.values().map(|known| known.request.rebalance_timeout_ms).max().unwrap_or(0);
        self.stage = match self.members.is_empty() {
            true => Stage::Stable,
            false => Stage::Completing { until: now + millis(timeout) },
        };
        if self.members.is_empty() {
            self.write();
        }
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.join_answer(&id);
            if let Some(known) = self.members.get_mut(&id) {
                known.expires = now + millis(known.request.session_timeout_ms);
                self.answers.extend(known.joins.take().map(|call| (call, Answer::Join(answer))));
            }
        }
    }

    fn join_answer(&self, member_id: &Str) -> JoinGroupResponse {
        let members = self.members.iter().map(|(id, known)| JoinGroupResponseMember {
            member_id: id.clone(),
            group_instance_id: None,
            metadata: known.request.protocols[0].metadata.clone(),
        });
        JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: Some("consumer".into()),
            protocol_name: self.members.values().next().map(|known| known.request.protocols[0].name.clone()),
            leader: self.leader.clone(),
            member_id: member_id.clone(),
            members: if *member_id == self.leader { members.collect() } else { Vec::new() },
            ..JoinGroupResponse::default()
        }
    }

    /// What is wrong with a request of that member in that generation.
    fn refusal(&self, member_id: &Str, generation: i32) -> Option<ErrorCode> {
        match self.members.contains_key(member_id) {
            _ if self.loading_until.is_some() => Some(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
            false => Some(ErrorCode::UNKNOWN_MEMBER_ID),
            true if generation != self.generation => Some(ErrorCode::ILLEGAL_GENERATION),
            true => None,
        }
    }

    pub(super) fn sync(&mut self, now: Duration, call: CallId, request: SyncGroupRequest) {
        let SyncGroupRequest { member_id, generation_id, assignments, .. } = request;
        if let Some(code) = self.refusal(&member_id, generation_id) {
            return self.answers.push((call, sync_refusal(code)));
        }
        if matches!(self.stage, Stage::Preparing { .. }) {
            return self.answers.push((call, sync_refusal(ErrorCode::REBALANCE_IN_PROGRESS)));
        }
        if let Some(known) = self.members.get_mut(&member_id) {
            known.syncs = Some(call);
        }
        if matches!(self.stage, Stage::Completing { .. }) {
            if member_id != self.leader {
                return;
            }
            for known in self.members.values_mut() {
                known.assignment = Bytes::new();
            }
            for assigned in assignments {
                if let Some(known) = self.members.get_mut(&assigned.member_id) {
                    known.assignment = assigned.assignment;
                }
            }
            self.stage = Stage::Stable;
            self.write();
        }
        for known in self.members.values_mut() {
            if let Some(call) = known.syncs.take() {
                known.expires = now + millis(known.request.session_timeout_ms);
                let assignment = known.assignment.clone();
                let answer = SyncGroupResponse { assignment, ..SyncGroupResponse::default() };
                self.answers.push((call, Answer::Sync(answer)));
            }
        }
    }

    pub(super) fn heartbeat(&mut self, now: Duration, member_id: &Str, generation: i32) -> ErrorCode {
        if self.loading_until.is_some() {
            // It cannot be told yet whether it is a member.
            return ErrorCode::NONE;
        }
        if let Some(code) = self.refusal(member_id, generation) {
            return code;
        }
        if let Some(known) = self.members.get_mut(member_id) {
            known.expires = now + millis(known.request.session_timeout_ms);
        }
        match self.stage {
            Stage::Preparing { .. } => ErrorCode::REBALANCE_IN_PROGRESS,
            Stage::Completing { .. } | Stage::Stable => ErrorCode::NONE,
        }
    }

    pub(super) fn commit(&self, member_id: &Str, generation: i32) -> ErrorCode {
        match (self.refusal(member_id, generation), self.stage) {
            (Some(code), _) => code,
            (None, Stage::Completing { .. }) => ErrorCode::REBALANCE_IN_PROGRESS,
            (None, _) => ErrorCode::NONE,
        }
    }

    pub(super) fn leave(&mut self, now: Duration, member_id: &Str) {
        if self.loading_until.is_none() && self.members.remove(member_id).is_some() {
            self.removed.insert(member_id.clone());
            self.prepare(now);
            self.go_on_if_all_joined(now);
        }
    }

    /// Lets its timers fire.
    pub(super) fn tick(&mut self, now: Duration) {
        if let Some(until) = self.loading_until {
            if until > now {
                return;
            }
            self.loading_until = None;
            for known in self.members.values_mut() {
                known.expires = now + millis(known.request.session_timeout_ms);
            }
        }
        // Whoever waits for an answer is alive.
        let silent = |known: &Known| known.joins.is_none() && known.syncs.is_none() && known.expires <= now;
        let gone: Vec<_> =
            self.members.iter().filter(|(_, known)| silent(known)).map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.leave(now, &id);
        }
        match self.stage {
            Stage::Preparing { until } if until <= now => self.next_generation(now),
            Stage::Completing { until } if until <= now => {
                let late = self.members.iter().filter(|(_, known)| known.syncs.is_none());
                let late: Vec<_> = late.map(|(id, _)| id.clone()).collect();
                for id in &late {
                    self.members.remove(id);
                    self.removed.insert(id.clone());
                }
                self.prepare(now);
                self.go_on_if_all_joined(now);
            }
            _ => {}
        }
    }
}

fn sync_refusal(error_code: ErrorCode) -> Answer {
    Answer::Sync(SyncGroupResponse { error_code, ..SyncGroupResponse::default() })
}

fn millis(millis: i32) -> Duration {
    Duration::from_millis(millis.unsigned_abs().into())
}
