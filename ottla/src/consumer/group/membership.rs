//! The membership task: carries out what the member wants.
//!
//! ```text
//!                ┌──────────── actions ─────────────┐
//!                ▼                                  │
//!   heartbeat ── one at a time ── its own lane ──▶ Member ◀── wake: subscribe, close, answers to commits
//!   join, sync ─ one at a time ── its own lane ──▶  ▲ ▲
//!   handovers ── one after the other ───────────────┘ └── metadata, timers
//! ```
//!
//! All of it goes on at the same time in one task: a heartbeat waits neither for a JoinGroup that is parked at the
//! coordinator nor for a listener.

use std::{
    collections::BTreeSet,
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use ottla_core::{
    group::{
        Action, Call, CallError, Failure, Joined, LossCause, State, TopicCount, TopicPartition as Owned,
    },
    metadata::ClusterSnapshot,
};
use ottla_protocol::{
    ErrorCode, Str,
    messages::{HeartbeatResponse, JoinGroupResponse, LeaveGroupResponse, SyncGroupResponse},
};

use super::{
    calls::Caller,
    handover::{Handover, Handovers},
    member::Group,
};
use crate::{
    Error, Event, Result, TopicPartition,
    consumer::inner::Inner,
    env::BoxFuture,
    net::{Lane, now, sleep_until_some},
};

/// Runs until the consumer has left its group, the group refuses it for good, or the client is closed.
pub(super) async fn run(inner: Arc<Inner>, group: Arc<Group>) {
    let mut task = Task::new(&inner, &group);
    tokio::select! {
        biased;
        () = inner.shared.closed() => {}
        () = task.run() => {}
    }
}

/// However the task ends, whoever waits for it hears of it.
impl Drop for Task {
    fn drop(&mut self) {
        self.group.over.set(!self.has_to_leave);
        if self.group.is_departing() {
            self.inner.stop();
        }
    }
}

struct Task {
    inner: Arc<Inner>,
    group: Arc<Group>,
    heartbeats: Caller,
    /// JoinGroup and SyncGroup.
    joins: Caller,
    leaves: Caller,
    heartbeat: Option<BoxFuture<'static, Result<HeartbeatResponse>>>,
    call: Option<(Call, BoxFuture<'static, Answer>)>,
    handovers: Handovers,
    /// The topics whose partitions the member wants to know of.
    watched: BTreeSet<Str>,
    /// The metadata that the member has seen.
    seen: u64,
    /// When to look again for those of the topics that are not there; `None`: all are.
    look_at: Option<Instant>,
    /// When to look whether the program works; `None`: never.
    watch_at: Option<Instant>,
    /// Why the last call has no answer.
    last_error: Option<Error>,
    /// The coordinator has to be told that the member leaves.
    has_to_leave: bool,
}

/// The answer to a call other than a heartbeat.
enum Answer {
    Join(Result<JoinGroupResponse>),
    Sync(Result<SyncGroupResponse>),
    Leave(Result<LeaveGroupResponse>),
}

/// What has happened.
enum News {
    Heartbeat(Result<HeartbeatResponse>),
    Answer(Answer),
    Handover(Handover),
    Metadata(Arc<ClusterSnapshot>),
    /// It is time to look for topics that are not there.
    Unknown,
    /// It is time to look whether the program works.
    Watch,
    /// Somebody told the member something, or a moment has come.
    Look,
}

/// How often topics that are not there are asked for.
const UNKNOWN_TOPIC_INTERVAL: Duration = Duration::from_secs(1);

impl Task {
    fn new(inner: &Arc<Inner>, group: &Arc<Group>) -> Self {
        let caller = |lane| Caller::new(&inner.shared, group, lane);
        Self {
            heartbeats: caller(Lane::Heartbeat),
            joins: caller(Lane::Group(inner.id)),
            // A JoinGroup may be parked on the other one.
            leaves: caller(Lane::Offsets),
            handovers: Handovers::new(inner, group),
            inner: Arc::clone(inner),
            group: Arc::clone(group),
            heartbeat: None,
            call: None,
            watched: BTreeSet::new(),
            seen: 0,
            look_at: None,
            watch_at: inner.stall_interval().map(|interval| now() + interval),
            last_error: None,
            has_to_leave: false,
        }
    }

    async fn run(&mut self) {
        loop {
            self.carry_out();
            if self.is_over() {
                return;
            }
            let news = self.news().await;
            self.on_news(news);
        }
    }

    /// Does what the member wants, until it wants nothing more.
    fn carry_out(&mut self) {
        while let Some(action) = self.group.with_member(|member, at| member.next(at)) {
            self.act(action);
        }
    }

    fn is_over(&self) -> bool {
        let state = self.group.look(|member, _| member.state());
        matches!(state, State::Left | State::Failed) && self.handovers.is_empty()
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Heartbeat { request, timeout } => {
                let versions = versions(&request.group_instance_id, FIRST_STATIC_HEARTBEAT);
                self.heartbeat = Some(Box::pin(self.heartbeats.clone().send(versions, |_| request, timeout)));
            }
            Action::Join { request, timeout } => {
                let versions = versions(&request.group_instance_id, FIRST_STATIC_JOIN);
                let joining = self.joins.clone().send(versions, |_| request, timeout);
                self.call = Some((Call::Join, Box::pin(async { Answer::Join(joining.await) })));
            }
            Action::Sync { request, timeout } => {
                let versions = versions(&request.group_instance_id, FIRST_STATIC_SYNC);
                let syncing = self.joins.clone().send(versions, |_| request, timeout);
                self.call = Some((Call::Sync, Box::pin(async { Answer::Sync(syncing.await) })));
            }
            Action::Leave { leave, timeout } => {
                self.has_to_leave = true;
                let versions = versions(&leave.membership.instance_id, FIRST_STATIC_LEAVE);
                let leaving =
                    self.leaves.clone().send(versions, move |version| leave.request(version), timeout);
                self.call = Some((Call::Leave, Box::pin(async { Answer::Leave(leaving.await) })));
            }
            Action::ForgetCoordinator(call) => {
                if let Some(caller) = self.caller(call) {
                    caller.forget();
                }
            }
            Action::Watch(topics) => {
                self.watched = topics;
                self.look_for_topics();
            }
            Action::Joined(joined) => self.on_joined(&joined),
            Action::Assign { partitions } => self.handovers.assign(partitions),
            Action::Revoke { partitions, until } => self.handovers.revoke(partitions, until),
            Action::Abandon { partitions, until } => self.handovers.abandon(partitions, until),
            Action::Lost { partitions, cause } => self.on_lost(&partitions, cause),
            Action::Failed(failure) => self.on_failed(failure),
        }
    }

    /// Who has sent the last call of this kind; `None`: commits are not sent from here.
    fn caller(&self, call: Call) -> Option<&Caller> {
        match call {
            Call::Heartbeat => Some(&self.heartbeats),
            Call::Join | Call::Sync => Some(&self.joins),
            Call::Leave => Some(&self.leaves),
            Call::Commit => None,
        }
    }

    /// Waits until something has happened. Cancel safe.
    async fn news(&mut self) -> News {
        let deadline = self.group.look(|member, _| member.next_deadline());
        let timer = [deadline, self.group.lease_ends()].into_iter().flatten().min();
        let is_watching = !self.watched.is_empty();
        tokio::select! {
            biased;
            () = self.group.wake.notified() => News::Look,
            answer = some(self.heartbeat.as_mut()) => News::Heartbeat(answer),
            answer = some(self.call.as_mut().map(|(_, call)| call)) => News::Answer(answer),
            handover = self.handovers.next() => News::Handover(handover),
            snapshot = self.inner.shared.metadata.changed(self.seen), if is_watching => News::Metadata(snapshot),
            () = sleep_until_some(self.look_at) => News::Unknown,
            () = sleep_until_some(self.watch_at) => News::Watch,
            () = sleep_until_some(timer) => News::Look,
        }
    }

    fn on_news(&mut self, news: News) {
        match news {
            News::Heartbeat(answer) => self.on_heartbeat(answer),
            News::Answer(answer) => self.on_answer(answer),
            News::Handover(handover) => self.on_handover(handover),
            News::Metadata(snapshot) => self.tell_counts(&snapshot),
            News::Unknown => {
                self.look_at = None;
                self.look_for_topics();
            }
            News::Watch => {
                self.watch_at = self.inner.stall_interval().map(|interval| now() + interval);
                self.look_for_stall();
            }
            News::Look => {}
        }
    }

    fn on_heartbeat(&mut self, answer: Result<HeartbeatResponse>) {
        self.heartbeat = None;
        let answer = answer.map_err(|error| {
            let (group, reason) = (self.group.name.clone(), error.clone());
            self.inner.shared.events.emit(Event::HeartbeatFailed { group, error: reason });
            self.on_call_failed(error)
        });
        let needs_proof = self.group.with_member(|member, at| {
            member.on_heartbeat(at, answer);
            member.needs_proof(at)
        });
        if needs_proof {
            self.inner.commits.notify_one();
        }
    }

    fn on_answer(&mut self, answer: Answer) {
        self.call = None;
        match answer {
            Answer::Join(answer) => {
                let answer = answer.map_err(|error| self.on_join_failed(error));
                self.group.with_member(|member, at| member.on_join(at, answer));
            }
            Answer::Sync(answer) => {
                let answer = answer.map_err(|error| self.on_join_failed(error));
                self.group.with_member(|member, at| member.on_sync(at, answer));
            }
            Answer::Leave(answer) => {
                let is_gone = |code: ErrorCode| code.is_ok() || code == ErrorCode::UNKNOWN_MEMBER_ID;
                if answer.as_ref().is_ok_and(|answer| is_gone(answer.error_code)) {
                    self.has_to_leave = false;
                    self.inner.shared.events.emit(Event::GroupLeft { group: self.group.name.clone() });
                }
                let answer = answer.map_err(|error| self.on_call_failed(error));
                self.group.with_member(|member, at| member.on_leave(at, answer));
            }
        }
    }

    fn on_join_failed(&mut self, error: Error) -> CallError {
        let group = self.group.name.clone();
        self.inner.shared.events.emit(Event::JoinFailed { group, error: error.clone() });
        self.on_call_failed(error)
    }

    fn on_call_failed(&mut self, error: Error) -> CallError {
        let kind = if error.is_retriable() { CallError::Lost } else { CallError::Fatal };
        self.last_error = Some(error);
        kind
    }

    fn on_joined(&mut self, joined: &Joined) {
        let membership = &joined.membership;
        self.inner.shared.events.emit(Event::GroupJoined {
            group: self.group.name.clone(),
            member: Arc::from(&*membership.member_id),
            generation: membership.generation_id,
            leader: joined.led.is_some(),
        });
        self.inner.on_membership();
    }

    fn on_handover(&mut self, handover: Handover) {
        match handover {
            Handover::Assign(partitions) => {
                let owned = self.group.look(|member, _| member.owned() & &partitions);
                self.inner.open(&owned);
                self.group.with_member(|member, _| member.on_assigned(&partitions));
                let (group, partitions) = (self.group.name.clone(), names(&owned));
                self.inner.shared.events.emit(Event::PartitionsAssigned { group, partitions });
            }
            Handover::Revoke { partitions, .. } => {
                self.inner.release(&partitions);
                self.group.with_member(|member, _| member.on_revoked(&partitions));
                let (group, partitions) = (self.group.name.clone(), names(&partitions));
                self.inner.shared.events.emit(Event::PartitionsRevoked { group, partitions });
            }
            Handover::Abandon { partitions, .. } => {
                self.on_lost(&partitions, LossCause::Stalled);
                self.group.with_member(|member, _| member.on_revoked(&partitions));
            }
            Handover::Lost(_) => {}
        }
    }

    /// A program that has stopped working holds no partitions: heartbeats alone would keep them for ever.
    fn look_for_stall(&mut self) {
        let Some((topic_partition, stall)) = self.inner.look_for_stall() else { return };
        let group = self.group.name.clone();
        let what = format!("the consumer leaves group {group} until it is polled again");
        let error = Error::timeout(what).with_source(stall).with_topic_partition(topic_partition.clone());
        if self.group.withdraw(&error) {
            self.inner.shared.events.emit(Event::ProcessingStalled { group, topic_partition, error });
        }
    }

    fn on_lost(&mut self, partitions: &BTreeSet<Owned>, cause: LossCause) {
        self.inner.release(partitions);
        self.handovers.lose(partitions);
        let group = self.group.name.clone();
        let error = loss(cause, &group);
        if error.broker_code().is_some() {
            self.inner.shared.events.emit(Event::SessionLost { group: group.clone(), cause: error.clone() });
        }
        if !partitions.is_empty() {
            let partitions = names(partitions);
            self.inner.shared.events.emit(Event::PartitionsLost { group, partitions, cause: error });
        }
    }

    fn on_failed(&mut self, failure: Failure) {
        let group = self.group.name.clone();
        let what = |call: Call| format!("{} of group {group}", verb(call));
        let error = match failure {
            Failure::Refused(call, code) => Error::broker(code, what(call)),
            Failure::Call(call) => match self.last_error.take() {
                Some(error) => error.context(what(call)),
                None => Error::closed(),
            },
        };
        self.group.fail(error.clone());
        self.inner.shared.events.emit(Event::GroupFailed { group, error });
    }

    /// Has the cluster asked for topics that are not known, and tells the member what is known.
    fn look_for_topics(&mut self) {
        for topic in &self.watched {
            self.inner.shared.metadata.topic_now(topic);
        }
        self.tell_counts(&self.inner.shared.metadata.snapshot());
    }

    fn tell_counts(&mut self, snapshot: &ClusterSnapshot) {
        self.seen = snapshot.version;
        let metadata = &self.inner.shared.metadata;
        let count_of = |topic: &str| match snapshot.topics.get(topic) {
            Some(known) => TopicCount::Partitions(i32::try_from(known.partitions.len()).unwrap_or(i32::MAX)),
            None if metadata.refusal(topic).is_some() => TopicCount::Missing,
            None => TopicCount::Unknown,
        };
        let is_there = |topic: &Str| matches!(count_of(topic), TopicCount::Partitions(_));
        self.look_at = match self.watched.iter().all(is_there) {
            true => None,
            false => self.look_at.or_else(|| Some(now() + UNKNOWN_TOPIC_INTERVAL)),
        };
        self.group.with_member(|member, _| member.on_metadata(&count_of));
    }
}

/// The first versions in which a member can say that it is static (KIP-345).
const FIRST_STATIC_JOIN: i16 = 5;
const FIRST_STATIC_SYNC: i16 = 3;
const FIRST_STATIC_HEARTBEAT: i16 = 3;
const FIRST_STATIC_LEAVE: i16 = 3;

fn versions(instance_id: &Option<Str>, first_static: i16) -> RangeInclusive<i16> {
    if instance_id.is_some() { first_static..=i16::MAX } else { 0..=i16::MAX }
}

/// The result of a future, if there is one. Cancel safe.
async fn some<T>(future: Option<&mut BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.as_mut().await,
        None => std::future::pending().await,
    }
}

fn names(partitions: &BTreeSet<Owned>) -> Arc<[TopicPartition]> {
    partitions.iter().map(|owned| TopicPartition::new(&*owned.topic, owned.partition)).collect()
}

fn verb(call: Call) -> &'static str {
    match call {
        Call::Join | Call::Sync => "become a member",
        Call::Heartbeat | Call::Commit => "stay a member",
        Call::Leave => "leave as a member",
    }
}

fn loss(cause: LossCause, group: &str) -> Error {
    let what = format!("group {group} has ended the membership: {cause}");
    match cause {
        LossCause::UnknownMember => Error::broker(ErrorCode::UNKNOWN_MEMBER_ID, what),
        LossCause::IllegalGeneration => Error::broker(ErrorCode::ILLEGAL_GENERATION, what),
        LossCause::FencedInstance => Error::broker(ErrorCode::FENCED_INSTANCE_ID, what),
        LossCause::RevocationTimedOut | LossCause::Stalled => {
            Error::timeout(format!("group {group}: {cause}"))
        }
        LossCause::UnreadableAssignment => Error::peer(format!("group {group}: {cause}")),
        _ => Error::misuse(format!("group {group}: {cause}")),
    }
}
