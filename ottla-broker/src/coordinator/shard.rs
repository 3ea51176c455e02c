//! The groups of one partition of `__consumer_offsets`, on the node that leads it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::batch;
use ottla_protocol::compression::Decompressor;
use ottla_protocol::messages::describe_groups_response::DescribedGroup;
use ottla_protocol::messages::leave_group_response::MemberResponse;
use ottla_protocol::messages::list_groups_response::ListedGroup;
use ottla_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use ottla_protocol::messages::{HeartbeatRequest, LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest};
use ottla_protocol::{ErrorCode, Str};

use super::group::{Group, State};
use super::join::Join;
use super::member::Identity;
use super::offsets::{Commit, Deletion, Offsets};
use super::records::Record;
use super::writes::{WriteId, Writes};
use super::{Answer, Ask, Context, Effect, Output, Reply, Then, Ticket};

/// Tombstones that are written as one batch.
const TOMBSTONES: usize = 500;

/// The groups of one partition.
#[derive(Debug)]
pub(crate) struct Shard {
    /// The leader epoch in which this node leads the partition.
    epoch: i32,
    /// What is still to be read, while it is loading: from where, and where the log ended when it began.
    loading: Option<(i64, i64)>,
    /// Where the log ended when it was loaded. What was loaded counts as committed from there on.
    loaded: i64,
    replicated: i64,
    groups: BTreeMap<Str, Group>,
    offsets: Offsets,
    writes: Writes,
    deadlines: BTreeSet<(Instant, Str)>,
    /// The deadline of each group that has one.
    armed: BTreeMap<Str, Instant>,
}

impl Shard {
    /// The shard of a partition that this node leads in a new epoch, and whose log ends there.
    pub(crate) fn new(epoch: i32, end: i64) -> Self {
        Self {
            epoch,
            loading: (end > 0).then_some((0, end)),
            loaded: end,
            replicated: 0,
            groups: BTreeMap::new(),
            offsets: Offsets::default(),
            writes: Writes::default(),
            deadlines: BTreeSet::new(),
            armed: BTreeMap::new(),
        }
    }

    /// The leader epoch in which this node leads the partition.
    pub(crate) fn epoch(&self) -> i32 {
        self.epoch
    }

    /// What is to be read next, from the first of these offsets on and up to the second; nothing when all is loaded.
    pub(crate) fn to_load(&self) -> Option<(i64, i64)> {
        self.loading
    }

    /// Takes in batches that were read, up to the offset `next`.
    pub(crate) fn load(&mut self, cx: Context, data: Bytes, next: i64, out: &mut Vec<Output>) {
        let Some((_, end)) = self.loading else { return };
        let mut decompressor = Decompressor::new();
        for found in batch::batches(data).map_while(Result::ok) {
            let Ok(records) = found.views(&mut decompressor) else { continue };
            for record in records.map_while(Result::ok) {
                let copied = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
                // What cannot be read was not written by a coordinator.
                let key = record.key.map(copied).unwrap_or_default();
                if let Ok(Some(record)) = Record::decode(key, record.value.map(copied)) {
                    self.replay(cx, record);
                }
            }
        }
        self.loading = (next < end).then_some((next, end));
        if self.loading.is_none() {
            for id in self.groups.keys().cloned().collect::<Vec<_>>() {
                self.with_group(cx, &id, out, |group, effects| group.begin_sessions(cx, effects));
            }
        }
    }

    fn replay(&mut self, cx: Context, record: Record) {
        match record {
            Record::Group(id, Some(value)) => {
                self.groups.insert(id.clone(), Group::loaded(id, value));
            }
            Record::Group(id, None) => {
                self.groups.remove(&id);
            }
            Record::Offset(key, value) => {
                if value.is_some() {
                    self.group_or_new(cx, &key.group);
                }
                self.offsets.set(key, value);
            }
        }
    }

    /// Does what is asked, or lets it wait.
    pub(crate) fn ask(&mut self, cx: Context, ticket: Ticket, id: &Str, ask: Ask, out: &mut Vec<Output>) {
        if self.loading.is_some() {
            return out.push(Output::Answer(ticket, Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)));
        }
        let done = match ask {
            Ask::Join(join) => {
                self.join(cx, ticket, id, &join, out);
                Ok(())
            }
            Ask::Sync(request) => {
                self.sync(cx, ticket, id, &request, out);
                Ok(())
            }
            Ask::Leave(request) => {
                self.leave(cx, ticket, id, &request, out);
                Ok(())
            }
            Ask::Commit(commit) => self.commit(cx, ticket, id, &commit, out),
            Ask::Fetch { group, require_stable } => {
                self.fetch(cx, ticket, group, require_stable, out);
                Ok(())
            }
            Ask::DeleteOffsets(deletions) => self.delete_offsets(cx, ticket, id, &deletions, out),
            Ask::DeleteGroup => self.delete_group(cx, ticket, id, out),
        };
        if let Err(error) = done {
            out.push(Output::Answer(ticket, Err(error)));
        }
    }

    /// A member says that it lives.
    pub(crate) fn heartbeat(&mut self, cx: Context, request: &HeartbeatRequest) -> ErrorCode {
        if self.loading.is_some() {
            // It cannot be told yet whether it does.
            return ErrorCode::NONE;
        }
        let mut nothing = Vec::new();
        let said =
            self.with_group(cx, &request.group_id, &mut nothing, |group, _| group.heartbeat(cx, request));
        said.unwrap_or(ErrorCode::UNKNOWN_MEMBER_ID)
    }

    /// Of a member, as it asked for it.
    pub(crate) fn session_timeout(&self, id: &str, member: &str) -> Option<Duration> {
        Some(self.groups.get(id)?.members.get(member)?.session_timeout())
    }

    /// What each member was assigned in a generation, if it is the present one and everything is assigned.
    pub(crate) fn assignments(&self, id: &str, generation: i32) -> Vec<(Identity, Bytes)> {
        let group = self.groups.get(id).filter(|group| group.generation == generation);
        let group = group.filter(|group| group.state == State::Stable && group.speaks_consumer());
        let members = group.into_iter().flat_map(|group| group.members.values());
        members.map(|member| (member.identity(), member.assignment.clone())).collect()
    }

    /// A group as administrators see it.
    pub(crate) fn describe(&self, id: &str) -> Result<DescribedGroup, ErrorCode> {
        if self.loading.is_some() {
            return Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
        }
        self.groups.get(id).map(Group::described).ok_or(ErrorCode::GROUP_ID_NOT_FOUND)
    }

    /// The groups.
    pub(crate) fn list(&self) -> Result<impl Iterator<Item = ListedGroup>, ErrorCode> {
        if self.loading.is_some() {
            return Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
        }
        Ok(self.groups.values().map(Group::listed))
    }

    /// Topics are gone, and so are the offsets that were committed for them.
    pub(crate) fn forget_topics(&mut self, cx: Context, gone: impl Fn(&str) -> bool, out: &mut Vec<Output>) {
        if self.loading.is_none() {
            let records = self.offsets.tombstones(&self.writes, |key| gone(&key.topic));
            if !records.is_empty() {
                self.write_all(cx, records, Then::Nothing, out);
            }
        }
    }

    /// A batch is in the log, which ends there now; or it could not be appended.
    pub(crate) fn appended(
        &mut self,
        cx: Context,
        write: WriteId,
        result: Result<i64, ErrorCode>,
        out: &mut Vec<Output>,
    ) {
        match result {
            Ok(end) => {
                self.writes.appended(write, end);
                if planted!("broker-answers-commits-before-replication") {
                    self.replicated(cx, end, true, out);
                }
            }
            Err(error) => {
                if let Some(then) = self.writes.refused(write) {
                    self.follow(cx, then, Err(error), out);
                }
            }
        }
    }

    /// The log is replicated up to there: to `enough` replicas for what is written now, where what was loaded is
    /// known to be on all that may lead next.
    pub(crate) fn replicated(&mut self, cx: Context, end: i64, enough: bool, out: &mut Vec<Output>) {
        let end = if enough { end } else { end.min(self.loaded) };
        self.replicated = self.replicated.max(end);
        while let Some(done) = self.writes.replicated(self.replicated) {
            for (key, value) in done.offsets {
                self.offsets.set(key, value);
            }
            if let Some(then) = done.then {
                self.follow(cx, then, Ok(()), out);
            }
        }
    }

    /// When it wants a [`Self::tick`].
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let groups = self.deadlines.first().map(|(at, _)| *at);
        groups.into_iter().chain(self.writes.next_deadline()).min()
    }

    /// A deadline has come.
    pub(crate) fn tick(&mut self, cx: Context, out: &mut Vec<Output>) {
        while let Some(then) = self.writes.late(cx.now.monotonic) {
            self.follow(cx, then, Err(ErrorCode::REQUEST_TIMED_OUT), out);
        }
        while let Some((_, id)) = self.deadlines.first().filter(|(at, _)| *at <= cx.now.monotonic).cloned() {
            self.with_group(cx, &id, out, |group, effects| group.expire(cx, effects));
        }
    }

    /// This node does not lead the partition any more: whoever waits is told.
    pub(crate) fn resign(mut self, out: &mut Vec<Output>) {
        for member in self.groups.values_mut().flat_map(|group| group.members.values_mut()) {
            if let Some(ticket) = member.joining.take() {
                out.push(Output::Answer(
                    ticket,
                    super::join::refusal(member.id.clone(), ErrorCode::NOT_COORDINATOR),
                ));
            }
            if let Some(ticket) = member.syncing.take() {
                out.push(Output::Answer(ticket, super::sync::refusal(ErrorCode::NOT_COORDINATOR)));
            }
        }
        for then in self.writes.fail() {
            if let Then::Answer(ticket, _) | Then::Fetch(ticket, _) = then {
                out.push(Output::Answer(ticket, Err(ErrorCode::NOT_COORDINATOR)));
            }
        }
    }

    fn join(&mut self, cx: Context, ticket: Ticket, id: &Str, join: &Join, out: &mut Vec<Output>) {
        let is_new = !self.groups.contains_key(id);
        let member_id = &join.request.member_id;
        if is_new && !member_id.is_empty() {
            return out.push(Output::Answer(
                ticket,
                super::join::refusal(member_id.clone(), ErrorCode::UNKNOWN_MEMBER_ID),
            ));
        }
        self.group_or_new(cx, id);
        self.with_group(cx, id, out, |group, effects| group.join(cx, ticket, join, effects));
        if is_new {
            let id = id.detached();
            let empty = Group::new(id.clone(), cx.now.wall_ms).value(|_| Bytes::new());
            let record = Record::Group(id.clone(), Some(empty));
            self.write(cx, vec![record], Then::Created(id, ticket), out);
        }
    }

    fn sync(
        &mut self,
        cx: Context,
        ticket: Ticket,
        id: &Str,
        request: &SyncGroupRequest,
        out: &mut Vec<Output>,
    ) {
        if self.with_group(cx, id, out, |group, effects| group.sync(ticket, request, effects)).is_none() {
            out.push(Output::Answer(ticket, super::sync::refusal(ErrorCode::UNKNOWN_MEMBER_ID)));
        }
    }

    /// If the group is empty now, that is written before the answer.
    fn leave(
        &mut self,
        cx: Context,
        ticket: Ticket,
        id: &Str,
        request: &LeaveGroupRequest,
        out: &mut Vec<Output>,
    ) {
        let answered = self.with_group(cx, id, out, |group, effects| {
            let reply = Reply::Leave(group.leave(cx, request, effects));
            let written = effects.iter_mut().find_map(|effect| match effect {
                Effect::Write(_, then) => Some(then),
                Effect::Answer(..) => None,
            });
            match written {
                Some(then) => *then = Then::Answer(ticket, reply),
                None => effects.push(Effect::Answer(ticket, Ok(reply))),
            }
        });
        if answered.is_none() {
            let unknown =
                |member: &ottla_protocol::messages::leave_group_request::MemberIdentity| MemberResponse {
                    member_id: member.member_id.clone(),
                    group_instance_id: member.group_instance_id.clone(),
                    error_code: ErrorCode::UNKNOWN_MEMBER_ID,
                };
            let members = request.members.iter().map(unknown).collect();
            let response = LeaveGroupResponse { members, ..LeaveGroupResponse::default() };
            out.push(Output::Answer(ticket, Ok(Reply::Leave(response))));
        }
    }

    fn commit(
        &mut self,
        cx: Context,
        ticket: Ticket,
        id: &Str,
        commit: &Commit,
        out: &mut Vec<Output>,
    ) -> Result<(), ErrorCode> {
        if !self.groups.contains_key(id) {
            if commit.generation >= 0 {
                return Err(commit.unknown_group);
            }
            self.group_or_new(cx, id);
        }
        let done = self.with_group(cx, id, out, |group, effects| {
            let (records, then) = group.commit(cx, ticket, commit)?;
            effects.push(Effect::Write(records, then));
            Ok(())
        });
        done.unwrap_or(Err(ErrorCode::UNKNOWN_SERVER_ERROR))
    }

    /// Offsets that are being committed are waited for where the client wants that, and after a change of leader those
    /// that the former one may have committed in any case.
    fn fetch(
        &mut self,
        cx: Context,
        ticket: Ticket,
        request: OffsetFetchRequestGroup,
        require_stable: bool,
        out: &mut Vec<Output>,
    ) {
        let written = self.writes.end().filter(|_| require_stable).unwrap_or(0);
        let end = written.max(self.loaded);
        if end > self.replicated {
            self.writes.wait(end, Then::Fetch(ticket, request), cx.now.monotonic + cx.config.commit_timeout);
        } else {
            out.push(Output::Answer(ticket, Ok(Reply::Offsets(self.offsets.fetch(&request)))));
        }
    }

    fn delete_offsets(
        &mut self,
        cx: Context,
        ticket: Ticket,
        id: &Str,
        deletions: &[Deletion],
        out: &mut Vec<Output>,
    ) -> Result<(), ErrorCode> {
        let group = self.groups.get(id).ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?;
        group.check_offset_deletion()?;
        let mut codes = Vec::with_capacity(deletions.len());
        let mut deleted = BTreeSet::new();
        for Deletion { topic, partition } in deletions {
            if group.is_subscribed_to(topic) {
                codes.push(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC);
            } else {
                codes.push(ErrorCode::NONE);
                deleted.insert((&**topic, *partition));
            }
        }
        let wanted = |key: &super::records::OffsetKey| {
            key.group == *id && deleted.contains(&(&*key.topic, key.partition))
        };
        let records = self.offsets.tombstones(&self.writes, wanted);
        self.write_all(cx, records, Then::Answer(ticket, Reply::Partitions(codes)), out);
        Ok(())
    }

    fn delete_group(
        &mut self,
        cx: Context,
        ticket: Ticket,
        id: &Str,
        out: &mut Vec<Output>,
    ) -> Result<(), ErrorCode> {
        let group = self.groups.get(id).ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?;
        if group.state != State::Empty {
            return Err(ErrorCode::NON_EMPTY_GROUP);
        }
        let mut records = self.offsets.tombstones(&self.writes, |key| key.group == *id);
        records.push(Record::Group(id.detached(), None));
        self.write_all(cx, records, Then::Answer(ticket, Reply::Deleted), out);
        self.groups.remove(id);
        self.arm(id);
        Ok(())
    }

    /// Something is written, or could not be.
    fn follow(&mut self, cx: Context, then: Then, written: Result<(), ErrorCode>, out: &mut Vec<Output>) {
        let outcome = written.map_err(response_error);
        match then {
            Then::Nothing => {}
            Then::Answer(ticket, reply) => out.push(Output::Answer(ticket, outcome.map(|()| reply))),
            Then::Fetch(ticket, request) => out.push(Output::Answer(ticket, self.fetched(&request, written))),
            Then::Created(id, ticket) => {
                if let Err(error) = outcome {
                    self.not_created(cx, &id, ticket, error, out);
                }
            }
            Then::Assigned(id, assignment) => {
                self.with_group(cx, &id, out, |group, effects| {
                    group.assignment_written(cx, assignment, outcome, effects);
                });
            }
            Then::Replaced(id, replacement) => {
                self.with_group(cx, &id, out, |group, effects| {
                    group.replaced(cx, *replacement, outcome, effects);
                });
            }
        }
    }

    /// Consumers before Kafka 3.9 know `NOT_COORDINATOR` alone as an answer to a fetch that can be tried again.
    fn fetched(&self, request: &OffsetFetchRequestGroup, waited: Result<(), ErrorCode>) -> Answer {
        match waited {
            Ok(()) => Ok(Reply::Offsets(self.offsets.fetch(request))),
            Err(ErrorCode::REQUEST_TIMED_OUT | ErrorCode::NOT_ENOUGH_REPLICAS) => {
                Err(ErrorCode::NOT_COORDINATOR)
            }
            Err(error) => Err(response_error(error)),
        }
    }

    /// The group could not be written: it is as if it had never been asked for, if nobody has joined it since.
    fn not_created(
        &mut self,
        cx: Context,
        id: &Str,
        ticket: Ticket,
        error: ErrorCode,
        out: &mut Vec<Output>,
    ) {
        let left = self.with_group(cx, id, out, |group, effects| {
            group.withdraw(cx, ticket, error, effects);
            group.members.len()
        });
        if left == Some(0) {
            self.groups.remove(id);
            self.arm(id);
        }
    }

    fn group_or_new(&mut self, cx: Context, id: &Str) -> &mut Group {
        self.groups.entry(id.detached()).or_insert_with_key(|id| Group::new(id.clone(), cx.now.wall_ms))
    }

    /// Lets a group do something, and begins the writes that it wants.
    fn with_group<T>(
        &mut self,
        cx: Context,
        id: &Str,
        out: &mut Vec<Output>,
        act: impl FnOnce(&mut Group, &mut Vec<Effect>) -> T,
    ) -> Option<T> {
        let mut effects = Vec::new();
        let done = act(self.groups.get_mut(id)?, &mut effects);
        for effect in effects {
            match effect {
                Effect::Write(records, then) => self.write(cx, records, then, out),
                Effect::Answer(ticket, answer) => out.push(Output::Answer(ticket, answer)),
            }
        }
        self.arm(id);
        Some(done)
    }

    fn write(&mut self, cx: Context, records: Vec<Record>, then: Then, out: &mut Vec<Output>) {
        if records.is_empty() {
            return self.follow(cx, then, Ok(()), out);
        }
        let deadline = cx.now.monotonic + cx.config.commit_timeout;
        let write = self.writes.begin(&records, then, deadline);
        out.push(Output::Append(write, records));
    }

    /// Writes as many batches as are needed; what follows, follows the last of them.
    fn write_all(&mut self, cx: Context, mut records: Vec<Record>, then: Then, out: &mut Vec<Output>) {
        while records.len() > TOMBSTONES {
            let rest = records.split_off(TOMBSTONES);
            self.write(cx, std::mem::replace(&mut records, rest), Then::Nothing, out);
        }
        self.write(cx, records, then, out);
    }

    fn arm(&mut self, id: &Str) {
        let wanted = self.groups.get(id).and_then(Group::next_deadline);
        if let Some(at) = self.armed.remove(id) {
            self.deadlines.remove(&(at, id.clone()));
        }
        if let (Some(at), Some(group)) = (wanted, self.groups.get(id)) {
            self.deadlines.insert((at, group.id.clone()));
            self.armed.insert(group.id.clone(), at);
        }
    }
}

/// What clients are told of a write that failed.
fn response_error(error: ErrorCode) -> ErrorCode {
    match error {
        ErrorCode::NOT_ENOUGH_REPLICAS | ErrorCode::REQUEST_TIMED_OUT => ErrorCode::COORDINATOR_NOT_AVAILABLE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::KAFKA_STORAGE_ERROR => ErrorCode::NOT_COORDINATOR,
        ErrorCode::RECORD_LIST_TOO_LARGE => ErrorCode::UNKNOWN_SERVER_ERROR,
        error => error,
    }
}
