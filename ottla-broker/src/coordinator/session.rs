//! Sessions: heartbeats keep them, leaving ends them, and time does.

use std::time::Instant;

use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::leave_group_response::MemberResponse;
use ottla_protocol::messages::{HeartbeatRequest, LeaveGroupRequest, LeaveGroupResponse};
use ottla_protocol::{ErrorCode, Str};

use super::group::{Group, State};
use super::member::Member;
use super::{Context, Effect, Ticket};

/// What comes to its time next.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    /// The session of a member.
    Session(Str),
    /// A member id that was given out.
    Pending(Str),
    /// The wait for members to join.
    Join,
    /// The wait for members to ask for their assignment.
    Sync,
}

impl Group {
    /// The sessions of the members begin: the group was loaded.
    pub(super) fn begin_sessions(&mut self, cx: Context, out: &mut Vec<Effect>) {
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            self.renew(cx.now.monotonic, &id);
        }
        if self.members.len() > cx.config.max_size {
            self.prepare_rebalance(cx, out);
        }
    }

    /// A member says that it lives; it is told how the group is.
    pub(super) fn heartbeat(&mut self, cx: Context, request: &HeartbeatRequest) -> ErrorCode {
        let id = &request.member_id;
        if let Err(error) = self.check_member(id, request.group_instance_id.as_ref()) {
            return error;
        }
        if request.generation_id != self.generation {
            return ErrorCode::ILLEGAL_GENERATION;
        }
        self.renew(cx.now.monotonic, id);
        match self.state {
            State::Empty => ErrorCode::UNKNOWN_MEMBER_ID,
            State::PreparingRebalance => ErrorCode::REBALANCE_IN_PROGRESS,
            State::CompletingRebalance | State::Stable => ErrorCode::NONE,
        }
    }

    /// Members leave, or are removed by an administrator, who names static ones by their instance id (KIP-345).
    pub(super) fn leave(
        &mut self,
        cx: Context,
        request: &LeaveGroupRequest,
        out: &mut Vec<Effect>,
    ) -> LeaveGroupResponse {
        let mut members = Vec::with_capacity(request.members.len());
        for leaving in &request.members {
            members.push(MemberResponse {
                member_id: leaving.member_id.clone(),
                group_instance_id: leaving.group_instance_id.clone(),
                error_code: self.leave_one(leaving, out).err().unwrap_or(ErrorCode::NONE),
            });
        }
        if members.iter().any(|member| member.error_code.is_ok()) && self.state != State::Empty {
            self.rebalance_or_go_on(cx, out);
        }
        LeaveGroupResponse { members, ..LeaveGroupResponse::default() }
    }

    fn leave_one(&mut self, leaving: &MemberIdentity, out: &mut Vec<Effect>) -> Result<(), ErrorCode> {
        let id = if leaving.member_id.is_empty() {
            let named = leaving.group_instance_id.as_ref();
            let found = named.and_then(|instance_id| self.static_members.get(instance_id));
            found.cloned().ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?
        } else {
            if !self.pending.contains_key(&leaving.member_id) {
                self.check_member(&leaving.member_id, leaving.group_instance_id.as_ref())?;
            }
            leaving.member_id.clone()
        };
        self.dismiss(&id, out);
        Ok(())
    }

    /// Removes a member. Should its client wait for the coordinator, it hears of it and may join again.
    fn dismiss(&mut self, id: &str, out: &mut Vec<Effect>) {
        if let Some(member) = self.members.get_mut(id) {
            if let Some(ticket) = member.joining.take() {
                out.push(Effect::Answer(
                    ticket,
                    super::join::refusal(Str::EMPTY, ErrorCode::UNKNOWN_MEMBER_ID),
                ));
            }
            if let Some(ticket) = member.syncing.take() {
                out.push(Effect::Answer(ticket, super::sync::refusal(ErrorCode::UNKNOWN_MEMBER_ID)));
            }
        }
        self.remove(id);
    }

    /// The group could not be written for the member that waits for it: the member is out again.
    pub(super) fn withdraw(&mut self, cx: Context, ticket: Ticket, error: ErrorCode, out: &mut Vec<Effect>) {
        let waits = |member: &&mut Member| member.joining == Some(ticket);
        let Some(member) = self.members.values_mut().find(waits) else { return };
        member.joining = None;
        let id = member.id.clone();
        out.push(Effect::Answer(ticket, super::join::refusal(Str::EMPTY, error)));
        self.remove(&id);
        if !self.members.is_empty() {
            self.someone_is_gone(cx, out);
        }
    }

    /// When something comes to its time.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next_due().map(|(at, _)| at)
    }

    /// Does what has come to its time, in the order of the times.
    pub(super) fn expire(&mut self, cx: Context, out: &mut Vec<Effect>) {
        while let Some((_, due)) = self.next_due().filter(|(at, _)| *at <= cx.now.monotonic) {
            match due {
                Due::Session(id) => self.session_ended(cx, &id, out),
                Due::Pending(id) => {
                    self.pending.remove(&id);
                    self.someone_is_gone(cx, out);
                }
                Due::Join => self.join_timed_out(cx, out),
                Due::Sync => self.sync_timed_out(cx, out),
            }
        }
    }

    fn next_due(&self) -> Option<(Instant, Due)> {
        let sessions = self.members.values();
        let sessions = sessions.filter_map(|member| Some((member.expires?, Due::Session(member.id.clone()))));
        let pending = self.pending.iter().map(|(id, at)| (*at, Due::Pending(id.clone())));
        let join = self.join_timer.iter().map(|timer| (timer.at, Due::Join));
        let sync = self.sync_timer.iter().map(|at| (*at, Due::Sync));
        sessions.chain(pending).chain(join).chain(sync).min()
    }

    fn session_ended(&mut self, cx: Context, id: &str, out: &mut Vec<Effect>) {
        let Some(member) = self.members.get_mut(id) else { return };
        // Its session begins anew with the answer that it waits for.
        member.expires = None;
        if member.is_kept_waiting() {
            return;
        }
        self.dismiss(id, out);
        if matches!(self.state, State::Stable | State::CompletingRebalance) {
            self.prepare_rebalance(cx, out);
        } else {
            self.someone_is_gone(cx, out);
        }
    }

    /// One fewer to wait for: even the first rebalance does not wait for nobody.
    fn someone_is_gone(&mut self, cx: Context, out: &mut Vec<Effect>) {
        if self.state == State::PreparingRebalance && self.everybody_has_joined() {
            self.complete_join(cx, out);
        }
    }

    /// Members that know of the generation and did not ask for their assignment are out.
    fn sync_timed_out(&mut self, cx: Context, out: &mut Vec<Effect>) {
        self.sync_timer = None;
        let unsynced = std::mem::take(&mut self.unsynced);
        let waits = matches!(self.state, State::CompletingRebalance | State::Stable);
        if !waits || unsynced.is_empty() {
            return;
        }
        for id in &unsynced {
            self.remove(id);
        }
        self.prepare_rebalance(cx, out);
    }
}
