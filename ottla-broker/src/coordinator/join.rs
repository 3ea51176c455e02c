//! `JoinGroup`: members come in, and a rebalance begins and ends.

use std::time::{Duration, Instant};

use ottla_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use ottla_protocol::{ErrorCode, Str};

use super::group::{Group, State};
use super::member::{Member, Protocol};
use super::records::{Record, copied};
use super::{Answer, Context, Effect, Reply, Then, Ticket};

/// A member that has joined for the first time and waits must come back after this long: whether its client is still
/// there cannot be told. (Kafka's `GroupCoordinatorConfig.CLASSIC_GROUP_NEW_MEMBER_JOIN_TIMEOUT_MS`)
const NEW_MEMBER_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// A `JoinGroup`, and what is known of the client that sent it.
#[derive(Debug, Clone)]
pub(crate) struct Join {
    pub(crate) request: JoinGroupRequest,
    pub(crate) client_id: Str,
    pub(crate) client_host: Str,
    /// The id of the member if it is new.
    pub(crate) new_member_id: Str,
    /// A new member is told its id first, and has to come back with it (KIP-394, since version 4).
    pub(crate) id_required: bool,
    /// A static leader that comes back can be told not to assign (KIP-814, since version 9).
    pub(crate) may_skip_assignment: bool,
}

/// When the group does not wait for its members to join any longer.
#[derive(Debug, Clone, Copy)]
pub(super) struct JoinTimer {
    pub(super) at: Instant,
    /// What is left for further delays of the first rebalance; nothing in other rebalances.
    delays: Option<Delays>,
}

/// The first rebalance is delayed as long as members go on coming, up to their rebalance timeout (KIP-134).
#[derive(Debug, Clone, Copy)]
struct Delays {
    delay: Duration,
    remaining: Duration,
    member_added: bool,
}

/// A static member whose client has restarted, and came back with another member id while the group was stable.
#[derive(Debug, Clone)]
pub(crate) struct Replacement {
    ticket: Ticket,
    instance_id: Str,
    old_id: Str,
    new_id: Str,
    /// The leader as it was before.
    old_leader: Option<Str>,
    may_skip_assignment: bool,
    old_protocols: Vec<Protocol>,
    old_rebalance_timeout_ms: i32,
    old_session_timeout_ms: i32,
}

impl Group {
    /// A member wants to join.
    pub(super) fn join(&mut self, cx: Context, ticket: Ticket, join: &Join, out: &mut Vec<Effect>) {
        let id = &join.request.member_id;
        let names = || join.request.protocols.iter().map(|protocol| &protocol.name);
        if !self.has_room_for(cx, id) {
            self.remove(id);
            out.push(Effect::Answer(ticket, refusal(Str::EMPTY, ErrorCode::GROUP_MAX_SIZE_REACHED)));
        } else if !self.accepts(&join.request.protocol_type, names()) {
            out.push(Effect::Answer(ticket, refusal(id.clone(), ErrorCode::INCONSISTENT_GROUP_PROTOCOL)));
        } else if id.is_empty() {
            self.join_new(cx, ticket, join, out);
        } else if self.pending.contains_key(id) && join.request.group_instance_id.is_none() {
            self.add(cx, ticket, join, id, out);
        } else {
            match self.check_member(id, join.request.group_instance_id.as_ref()) {
                Ok(()) => self.join_again(cx, ticket, join, out),
                Err(error) => out.push(Effect::Answer(ticket, refusal_of_member(id.clone(), error))),
            }
        }
    }

    /// `group.max.size`. While a rebalance is prepared, those that have joined count, so that the last ones to come are
    /// those that find no room.
    fn has_room_for(&self, cx: Context, id: &str) -> bool {
        let most = cx.config.max_size;
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                let joined = self.members.values().filter(|member| member.joining.is_some()).count();
                joined < most || self.members.get(id).is_some_and(|member| member.joining.is_some())
            }
            State::CompletingRebalance | State::Stable => {
                self.members.len() < most || self.members.contains_key(id)
            }
        }
    }

    fn join_new(&mut self, cx: Context, ticket: Ticket, join: &Join, out: &mut Vec<Effect>) {
        let new_id = &join.new_member_id;
        let known = join
            .request
            .group_instance_id
            .as_ref()
            .map(|instance_id| (instance_id.clone(), self.static_members.get(instance_id).cloned()));
        match known {
            Some((instance_id, Some(old_id))) => {
                self.join_again_as_static(cx, ticket, join, (instance_id, old_id), out);
            }
            None if join.id_required => {
                let session = super::member::milliseconds(join.request.session_timeout_ms);
                self.pending.insert(new_id.clone(), cx.now.monotonic + session);
                out.push(Effect::Answer(ticket, refusal(new_id.clone(), ErrorCode::MEMBER_ID_REQUIRED)));
            }
            Some((_, None)) | None => self.add(cx, ticket, join, new_id, out),
        }
    }

    /// A new member comes in.
    fn add(&mut self, cx: Context, ticket: Ticket, join: &Join, id: &Str, out: &mut Vec<Effect>) {
        let request = &join.request;
        if let Some(delays) = self.join_timer.as_mut().and_then(|timer| timer.delays.as_mut()) {
            delays.member_added = true;
        }
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.detached());
        }
        self.insert(Member {
            id: id.detached(),
            instance_id: request.group_instance_id.as_ref().map(Str::detached),
            client_id: join.client_id.detached(),
            client_host: join.client_host.clone(),
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: protocols(request),
            assignment: Default::default(),
            joining: Some(ticket),
            syncing: None,
            is_new: true,
            expires: Some(cx.now.monotonic + NEW_MEMBER_TIMEOUT),
        });
        self.rebalance_or_go_on(cx, out);
    }

    /// A member of the group joins once more.
    fn join_again(&mut self, cx: Context, ticket: Ticket, join: &Join, out: &mut Vec<Effect>) {
        let id = &join.request.member_id;
        let same = self.members.get(id).is_some_and(|member| member.protocols == protocols(&join.request));
        match self.state {
            // It may not have received the answer, or its subscription has not changed: it is told what is.
            State::CompletingRebalance if same => self.answer_current(ticket, id, out),
            State::Stable if same && !self.is_leader(id) => self.answer_current(ticket, id, out),
            // A leader that joins wants to assign anew, since topics have changed.
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                self.update(ticket, id, &join.request);
                self.rebalance_or_go_on(cx, out);
            }
            State::Empty => {
                out.push(Effect::Answer(ticket, refusal(id.clone(), ErrorCode::UNKNOWN_MEMBER_ID)))
            }
        }
    }

    /// A static member joins without its member id: its client has restarted (KIP-345). Whoever used the former member
    /// id is fenced.
    fn join_again_as_static(
        &mut self,
        cx: Context,
        ticket: Ticket,
        join: &Join,
        (instance_id, old_id): (Str, Str),
        out: &mut Vec<Effect>,
    ) {
        let new_id = join.new_member_id.clone();
        let old_leader = self.leader.clone();
        let Some(old) = self.replace(&instance_id, &old_id, &new_id, out) else { return };
        let (old_protocols, old_rebalance_timeout_ms, old_session_timeout_ms) = old;
        self.renew(cx.now.monotonic, &new_id);
        self.update(ticket, &new_id, &join.request);
        match self.state {
            // Nothing changes for the others: it gets the assignment that it had, once its new id is written.
            State::Stable if self.favourite() == self.protocol => {
                let replacement = Replacement {
                    ticket,
                    instance_id,
                    old_id,
                    new_id,
                    old_leader,
                    may_skip_assignment: join.may_skip_assignment,
                    old_protocols,
                    old_rebalance_timeout_ms,
                    old_session_timeout_ms,
                };
                let value = self.value(|member| member.assignment.clone());
                let record = Record::Group(self.id.clone(), Some(value));
                out.push(Effect::Write(vec![record], Then::Replaced(self.id.clone(), Box::new(replacement))));
            }
            // In the middle of a rebalance the leader may be assigning to the former member id.
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(cx, out),
            State::PreparingRebalance | State::Empty => self.complete_if_all_have_joined(cx, out),
        }
    }

    /// The member gets another id. What its client had said is returned.
    fn replace(
        &mut self,
        instance_id: &Str,
        old_id: &Str,
        new_id: &Str,
        out: &mut Vec<Effect>,
    ) -> Option<(Vec<Protocol>, i32, i32)> {
        let mut member = self.members.remove(old_id)?;
        if let Some(ticket) = member.joining.take() {
            out.push(Effect::Answer(
                ticket,
                refusal_of_member(old_id.clone(), ErrorCode::FENCED_INSTANCE_ID),
            ));
        }
        if let Some(ticket) = member.syncing.take() {
            out.push(Effect::Answer(ticket, super::sync::refusal(ErrorCode::FENCED_INSTANCE_ID)));
        }
        member.id = new_id.clone();
        member.is_new = false;
        let old = (member.protocols.clone(), member.rebalance_timeout_ms, member.session_timeout_ms);
        self.members.insert(new_id.clone(), member);
        self.unsynced.remove(old_id);
        self.static_members.insert(instance_id.clone(), new_id.clone());
        if self.is_leader(old_id) {
            self.leader = Some(new_id.clone());
        }
        Some(old)
    }

    /// The new id of a static member is written, or could not be.
    pub(super) fn replaced(
        &mut self,
        cx: Context,
        replacement: Replacement,
        written: Result<(), ErrorCode>,
        out: &mut Vec<Effect>,
    ) {
        let (ticket, new_id) = (replacement.ticket, &replacement.new_id);
        let waits = self.members.get(new_id).is_some_and(|member| member.joining == Some(ticket));
        // A rebalance that has begun meanwhile answers it.
        if !waits || (written.is_ok() && self.state != State::Stable) {
            return;
        }
        if let Some(member) = self.members.get_mut(new_id) {
            member.joining = None;
        }
        let mut response = self.current(new_id);
        match written {
            Ok(()) if replacement.may_skip_assignment => {
                let is_leader = self.is_leader(new_id);
                response.skip_assignment = is_leader;
                response.members = if is_leader { self.for_leader() } else { Vec::new() };
            }
            // Told of the leader of before, it does not take itself for the leader, and does not assign.
            Ok(()) => response.leader = replacement.old_leader.clone().unwrap_or_default(),
            Err(error_code) => {
                response.error_code = error_code;
                response.member_id = Str::EMPTY;
                response.leader = replacement.old_leader.clone().unwrap_or_default();
                self.restore(cx, replacement, out);
            }
        }
        out.push(Effect::Answer(ticket, Ok(Reply::Join(response))));
    }

    fn restore(&mut self, cx: Context, replacement: Replacement, out: &mut Vec<Effect>) {
        let Replacement { instance_id, old_id, new_id, .. } = &replacement;
        self.replace(instance_id, new_id, old_id, out);
        self.renew(cx.now.monotonic, old_id);
        if let Some(member) = self.members.get_mut(old_id) {
            member.protocols = replacement.old_protocols;
            member.rebalance_timeout_ms = replacement.old_rebalance_timeout_ms;
            member.session_timeout_ms = replacement.old_session_timeout_ms;
        }
    }

    fn update(&mut self, ticket: Ticket, id: &str, request: &JoinGroupRequest) {
        if let Some(member) = self.members.get_mut(id) {
            member.protocols = protocols(request);
            member.rebalance_timeout_ms = request.rebalance_timeout_ms;
            member.session_timeout_ms = request.session_timeout_ms;
            member.joining = Some(ticket);
        }
    }

    /// Members or their metadata have changed: a rebalance begins, or the one that is being prepared may be complete.
    pub(super) fn rebalance_or_go_on(&mut self, cx: Context, out: &mut Vec<Effect>) {
        match self.state {
            State::PreparingRebalance => self.complete_if_all_have_joined(cx, out),
            State::Empty | State::CompletingRebalance | State::Stable => self.prepare_rebalance(cx, out),
        }
    }

    /// A rebalance begins: members are told by their heartbeats.
    pub(super) fn prepare_rebalance(&mut self, cx: Context, out: &mut Vec<Effect>) {
        if self.state == State::CompletingRebalance {
            self.fail_sync(cx, ErrorCode::REBALANCE_IN_PROGRESS, out);
        }
        self.unsynced.clear();
        self.sync_timer = None;
        self.initial = self.state == State::Empty;
        self.enter(State::PreparingRebalance, cx.now.wall_ms);
        if self.initial {
            let delay = cx.config.initial_rebalance_delay;
            let remaining = self.rebalance_timeout().saturating_sub(delay);
            self.delay(cx, Delays { delay, remaining, member_added: false });
        } else if self.everybody_has_joined() {
            self.complete_join(cx, out);
        } else {
            self.wait_for_members(cx);
        }
    }

    fn delay(&mut self, cx: Context, delays: Delays) {
        self.join_timer = Some(JoinTimer { at: cx.now.monotonic + delays.delay, delays: Some(delays) });
    }

    fn wait_for_members(&mut self, cx: Context) {
        let at = cx.now.monotonic + self.rebalance_timeout();
        self.join_timer = Some(JoinTimer { at, delays: None });
    }

    /// Of a first rebalance, the delay has to be over too.
    pub(super) fn complete_if_all_have_joined(&mut self, cx: Context, out: &mut Vec<Effect>) {
        if self.state == State::PreparingRebalance && !self.initial && self.everybody_has_joined() {
            self.complete_join(cx, out);
        }
    }

    /// The join timer has run out.
    pub(super) fn join_timed_out(&mut self, cx: Context, out: &mut Vec<Effect>) {
        match self.join_timer.take().and_then(|timer| timer.delays) {
            Some(Delays { delay, remaining, member_added: true }) if !remaining.is_zero() => {
                let (next, remaining) =
                    (cx.config.initial_rebalance_delay.min(remaining), remaining.saturating_sub(delay));
                self.delay(cx, Delays { delay: next, remaining, member_added: false });
            }
            _ => self.complete_join(cx, out),
        }
    }

    /// Whoever has joined is in the next generation. Dynamic members that have not are out.
    pub(super) fn complete_join(&mut self, cx: Context, out: &mut Vec<Effect>) {
        self.join_timer = None;
        let absent = |member: &&Member| member.joining.is_none() && member.instance_id.is_none();
        let absent: Vec<Str> = self.members.values().filter(absent).map(|member| member.id.clone()).collect();
        for id in absent {
            self.remove(&id);
        }
        if !self.members.is_empty() && !self.elect_joined_leader() {
            // Static members alone are left, and none of them has joined: their sessions will tell.
            return self.wait_for_members(cx);
        }
        // A generation is never negative, and the number is large.
        self.generation = self.generation.wrapping_add(1).max(0);
        self.protocol = self.favourite();
        self.subscribed = self.subscriptions();
        self.unsynced.clear();
        if self.members.is_empty() {
            self.enter(State::Empty, cx.now.wall_ms);
            let record = Record::Group(self.id.clone(), Some(self.value(|_| Default::default())));
            out.push(Effect::Write(vec![record], Then::Nothing));
        } else {
            self.enter(State::CompletingRebalance, cx.now.wall_ms);
            self.answer_joined(cx, out);
        }
    }

    /// The leader must be a member that has joined; whether there is one.
    fn elect_joined_leader(&mut self) -> bool {
        let joined = |member: &&Member| member.joining.is_some();
        let current = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        if !current.as_ref().is_some_and(joined) {
            let Some(other) = self.members.values().find(joined) else { return false };
            self.leader = Some(other.id.clone());
        }
        true
    }

    fn answer_joined(&mut self, cx: Context, out: &mut Vec<Effect>) {
        let ids: Vec<Str> = self.members.keys().cloned().collect();
        for id in ids {
            let response = self.current(&id);
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
                if let Some(ticket) = member.joining.take() {
                    out.push(Effect::Answer(ticket, Ok(Reply::Join(response))));
                }
            }
            self.renew(cx.now.monotonic, &id);
            self.unsynced.insert(id);
        }
        self.sync_timer = Some(cx.now.monotonic + self.rebalance_timeout());
    }

    fn answer_current(&self, ticket: Ticket, id: &Str, out: &mut Vec<Effect>) {
        out.push(Effect::Answer(ticket, Ok(Reply::Join(self.current(id)))));
    }

    /// The generation as a member is told of it: only the leader of a rebalance gets the members.
    fn current(&self, id: &Str) -> JoinGroupResponse {
        let assigns = self.state == State::CompletingRebalance && self.is_leader(id);
        JoinGroupResponse {
            generation_id: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: id.clone(),
            members: if assigns { self.for_leader() } else { Vec::new() },
            ..JoinGroupResponse::default()
        }
    }
}

fn protocols(request: &JoinGroupRequest) -> Vec<Protocol> {
    let copy = |protocol: &ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol| Protocol {
        name: protocol.name.detached(),
        metadata: copied(&protocol.metadata),
    };
    request.protocols.iter().map(copy).collect()
}

/// An error as the answer to a `JoinGroup`.
pub(super) fn refusal(member_id: Str, error_code: ErrorCode) -> Answer {
    Ok(Reply::Join(JoinGroupResponse { error_code, member_id, ..JoinGroupResponse::default() }))
}

/// The same where Kafka sends null for the protocol: where it has looked at the member.
fn refusal_of_member(member_id: Str, error_code: ErrorCode) -> Answer {
    let protocol_name = None;
    Ok(Reply::Join(JoinGroupResponse {
        error_code,
        member_id,
        protocol_name,
        ..JoinGroupResponse::default()
    }))
}
