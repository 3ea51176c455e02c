//! `SyncGroup`: the leader assigns, the others are told.

use std::collections::BTreeMap;

use bytes::Bytes;
use ottla_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use ottla_protocol::{ErrorCode, Str};

use super::group::{Group, State};
use super::records::{Record, copied};
use super::{Answer, Context, Effect, Reply, Then, Ticket};

/// What the leader of a generation has assigned to its members.
#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    generation: i32,
    parts: BTreeMap<Str, Bytes>,
}

impl Group {
    /// A member asks for its assignment; the leader brings all of them.
    pub(super) fn sync(&mut self, ticket: Ticket, request: &SyncGroupRequest, out: &mut Vec<Effect>) {
        if let Err(error_code) = self.check_sync(request) {
            return out.push(Effect::Answer(ticket, refusal(error_code)));
        }
        let id = &request.member_id;
        match self.state {
            State::Empty => out.push(Effect::Answer(ticket, refusal(ErrorCode::UNKNOWN_MEMBER_ID))),
            State::PreparingRebalance => {
                out.push(Effect::Answer(ticket, refusal(ErrorCode::REBALANCE_IN_PROGRESS)))
            }
            State::CompletingRebalance => {
                if let Some(member) = self.members.get_mut(id) {
                    member.syncing = Some(ticket);
                }
                self.has_synced(id);
                if self.is_leader(id) {
                    self.write_assignment(request, out);
                }
            }
            State::Stable => {
                self.has_synced(id);
                answer(ticket, self.assigned(id), out);
            }
        }
    }

    fn check_sync(&self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        self.check_member(&request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let differs = |said: &Option<Str>, known: &Option<Str>| match (said, known) {
            (Some(said), Some(known)) => said != known,
            _ => false,
        };
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol_name, &self.protocol)
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        Ok(())
    }

    fn has_synced(&mut self, id: &str) {
        self.unsynced.remove(id);
        if self.unsynced.is_empty() {
            self.sync_timer = None;
        }
    }

    /// The assignment counts, and is told, once it is written.
    fn write_assignment(&self, request: &SyncGroupRequest, out: &mut Vec<Effect>) {
        let part = |one: &ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment| {
            (one.member_id.detached(), copied(&one.assignment))
        };
        let parts: BTreeMap<Str, Bytes> = request.assignments.iter().map(part).collect();
        let value = self.value(|member| parts.get(&member.id).cloned().unwrap_or_default());
        let record = Record::Group(self.id.clone(), Some(value));
        let assignment = Assignment { generation: self.generation, parts };
        out.push(Effect::Write(vec![record], Then::Assigned(self.id.clone(), assignment)));
    }

    /// The assignment is written, or could not be.
    pub(super) fn assignment_written(
        &mut self,
        cx: Context,
        assignment: Assignment,
        written: Result<(), ErrorCode>,
        out: &mut Vec<Effect>,
    ) {
        // A member may have come or gone meanwhile.
        if self.state != State::CompletingRebalance || self.generation != assignment.generation {
            return;
        }
        if let Err(error) = written {
            self.fail_sync(cx, error, out);
            return self.prepare_rebalance(cx, out);
        }
        self.enter(State::Stable, cx.now.wall_ms);
        for member in self.members.values_mut() {
            member.assignment = assignment.parts.get(&member.id).cloned().unwrap_or_default();
        }
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            let response = self.assigned(&id);
            self.answer_sync(cx, &id, response, out);
        }
    }

    /// Whoever waits for an assignment gets an error, and nobody has an assignment any more.
    pub(super) fn fail_sync(&mut self, cx: Context, error_code: ErrorCode, out: &mut Vec<Effect>) {
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            if let Some(member) = self.members.get_mut(&id) {
                member.assignment = Bytes::new();
            }
            let response = SyncGroupResponse { error_code, ..SyncGroupResponse::default() };
            self.answer_sync(cx, &id, response, out);
        }
    }

    fn answer_sync(&mut self, cx: Context, id: &str, response: SyncGroupResponse, out: &mut Vec<Effect>) {
        if let Some(ticket) = self.members.get_mut(id).and_then(|member| member.syncing.take()) {
            answer(ticket, response, out);
            // The end of its session did not matter while it was kept waiting.
            self.renew(cx.now.monotonic, id);
        }
    }

    fn assigned(&self, id: &str) -> SyncGroupResponse {
        SyncGroupResponse {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            assignment: self.members.get(id).map(|member| member.assignment.clone()).unwrap_or_default(),
            ..SyncGroupResponse::default()
        }
    }
}

/// An error as the answer to a `SyncGroup`.
pub(super) fn refusal(error_code: ErrorCode) -> Answer {
    Ok(Reply::Sync(SyncGroupResponse { error_code, ..SyncGroupResponse::default() }))
}

fn answer(ticket: Ticket, response: SyncGroupResponse, out: &mut Vec<Effect>) {
    out.push(Effect::Answer(ticket, Ok(Reply::Sync(response))));
}
