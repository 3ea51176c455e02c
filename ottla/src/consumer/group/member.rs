//! The consumer's place in its group, as the rest of the consumer sees it.
//!
//! ```text
//!   subscribe, close ──▶┐                      ┌──▶ gate: until when records may be handed out
//!   commits: answers ──▶├── Member (one lock) ─┤
//!   membership task  ──▶┘                      └──▶ membership: what commits are made under
//! ```
//!
//! Whoever tells the member something has the gate set before the lock is given back, and wakes the membership task,
//! which alone carries out what the member wants.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ottla_core::group::{
    Departure, Member, MemberConfig, Membership, Moment, State, TopicPartition as Owned,
};
use ottla_protocol::{ErrorCode, Str};
use tokio::sync::Notify;

use super::{
    close::{CloseOptions, Remain},
    config::GroupConfig,
    gate::Gate,
    lease_watch::{LeaseNews, LeaseWatch},
    listener::Method,
};
use crate::{
    Error, Event, Result,
    client::Shared,
    consumer::ready::Ready,
    net::{Latch, lock, now},
};

/// Nobody waits longer for a group to hear that a member leaves: its session has ended long before.
const LONGEST_DEPARTURE: Duration = Duration::from_secs(24 * 3_600);

/// The consumer's place in its group.
pub(in crate::consumer) struct Group {
    pub(in crate::consumer) config: GroupConfig,
    /// The group's name, for events.
    pub(in crate::consumer) name: Arc<str>,
    shared: Arc<Shared>,
    gate: Arc<Gate>,
    /// Wakes whoever waits for records.
    ready: Arc<Ready>,
    state: Mutex<GroupState>,
    /// The membership task has to look at the member.
    pub(super) wake: Notify,
    /// The membership task has ended; `true`: the group was told whatever it had to be told.
    pub(super) over: Latch<bool>,
}

struct GroupState {
    member: Member,
    lease: LeaseWatch,
    /// What `poll` has to say, once each.
    failures: VecDeque<Error>,
    /// What it says for ever.
    fatal: Option<Error>,
    /// Why the member has withdrawn last.
    stalled: Option<Error>,
    /// The member has left until somebody asks for records, and whoever asks has heard of it.
    away: bool,
    /// Which method of the listener runs, for which partitions, and since when.
    listening: Option<(Method, BTreeSet<Owned>, Instant)>,
    stage: Stage,
}

/// What the consumer does with its group: once it has subscribed it is never without the membership task.
///
/// ```text
///   new ── assign ──▶ reader
///    └── subscribe ──▶ member ── close ──▶ departing
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    New,
    /// Its partitions are assigned by hand.
    Reader,
    Member,
    Departing,
}

impl Group {
    pub(in crate::consumer) fn new(
        shared: &Arc<Shared>,
        config: GroupConfig,
        gate: &Arc<Gate>,
        ready: &Arc<Ready>,
    ) -> Self {
        let member = Member::new(MemberConfig {
            instance_id: config.instance_id.clone(),
            session_timeout: config.session_timeout,
            rebalance_timeout: config.rebalance_timeout,
            heartbeat_interval: config.heartbeat_interval,
            backoff: shared.config.retry_backoff,
            assignors: config.assignors.clone(),
            rack: shared.config.client_rack.as_deref().map(Str::from),
            ..MemberConfig::new(config.id.clone())
        });
        Self {
            name: Arc::from(&*config.id),
            config,
            shared: Arc::clone(shared),
            gate: Arc::clone(gate),
            ready: Arc::clone(ready),
            state: Mutex::new(GroupState {
                member,
                lease: LeaseWatch::default(),
                failures: VecDeque::new(),
                fatal: None,
                stalled: None,
                away: false,
                listening: None,
                stage: Stage::New,
            }),
            wake: Notify::new(),
            over: Latch::default(),
        }
    }

    /// Now, on both clocks.
    pub(in crate::consumer) fn moment(&self) -> Moment {
        let env = &self.shared.env;
        Moment { now: now(), elapsed: env.elapsed(), random: env.random() }
    }

    /// What commits are made under, `None` while nothing can be committed; and whether the lease waits for one.
    pub(in crate::consumer) fn commits_as(&self) -> (Option<Membership>, bool) {
        self.look(|member, at| (member.membership(), member.needs_proof(at)))
    }

    /// A commit was acknowledged: the coordinator can write. `sent` was taken before it was sent.
    pub(in crate::consumer) fn on_commit_acknowledged(&self, sent: Moment, membership: &Membership) {
        self.tell(|member, _| member.on_write_acknowledged(sent, membership));
    }

    /// A commit was answered with a code that is about the membership.
    pub(in crate::consumer) fn on_commit_rejected(&self, membership: &Membership, code: ErrorCode) {
        self.tell(|member, at| member.on_rejected(at, membership, code));
    }

    /// Reads partitions that are assigned by hand.
    ///
    /// # Errors
    /// `Misuse` after [`Self::subscribe`].
    pub(in crate::consumer) fn read(&self) -> Result<()> {
        let stage = &mut lock(&self.state).stage;
        if matches!(stage, Stage::Member | Stage::Departing) {
            return Err(Error::misuse("the consumer has subscribed: its group assigns partitions"));
        }
        *stage = Stage::Reader;
        Ok(())
    }

    /// Subscribes to these topics, in place of others. `true`: this is the first time, and a membership task is needed.
    ///
    /// # Errors
    /// `Misuse` after [`Self::read`]; `Closed`.
    pub(super) fn subscribe(&self, topics: BTreeSet<Str>) -> Result<bool> {
        let before = {
            let stage = &mut lock(&self.state).stage;
            match stage {
                Stage::New | Stage::Member => std::mem::replace(stage, Stage::Member),
                Stage::Reader => return Err(Error::misuse("partitions are assigned by hand")),
                Stage::Departing => return Err(Error::closed()),
            }
        };
        self.tell(|member, _| member.subscribe(topics));
        Ok(before == Stage::New)
    }

    /// Begins to leave; the first call counts. `false`: there is nothing to leave.
    pub(super) fn depart(&self, options: CloseOptions) -> bool {
        // The clock may not reach further.
        let until = now() + options.timeout.min(LONGEST_DEPARTURE);
        {
            let stage = &mut lock(&self.state).stage;
            match stage {
                Stage::New | Stage::Reader => return false,
                Stage::Departing => return true,
                Stage::Member => *stage = Stage::Departing,
            }
        }
        let remain = match options.remain {
            Remain::IfStatic => None,
            Remain::Yes => Some(true),
            Remain::No => Some(false),
        };
        let departure = Departure { until, reason: "the consumer is closed".into(), remain };
        self.tell(|member, _| member.leave(departure));
        true
    }

    /// Whether the consumer has subscribed, whatever became of its membership.
    pub(in crate::consumer) fn has_subscribed(&self) -> bool {
        matches!(lock(&self.state).stage, Stage::Member | Stage::Departing)
    }

    /// Whether the consumer is on its way out of the group, or has left it.
    pub(super) fn is_departing(&self) -> bool {
        lock(&self.state).stage == Stage::Departing
    }

    /// Tells the member something, and has what follows from it carried out.
    pub(super) fn tell<T>(&self, work: impl FnOnce(&mut Member, Moment) -> T) -> T {
        let result = self.with_member(work);
        self.wake.notify_one();
        result
    }

    /// [`Self::tell`] for the membership task, which carries out what follows by itself.
    pub(super) fn with_member<T>(&self, work: impl FnOnce(&mut Member, Moment) -> T) -> T {
        let at = self.moment();
        let (result, news) = {
            let mut state = lock(&self.state);
            let result = work(&mut state.member, at);
            (result, self.look_at_lease(&mut state, at.elapsed))
        };
        for event in news {
            self.shared.events.emit(event);
        }
        result
    }

    /// The topics that are subscribed to.
    pub(in crate::consumer) fn wanted_topics(&self) -> BTreeSet<Str> {
        self.look(|member, _| member.wants())
    }

    /// Looks at the member, and changes nothing.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Member, Moment) -> T) -> T {
        look(&lock(&self.state).member, self.moment())
    }

    /// When the lease ends unless something happens, on the clock of timers.
    pub(super) fn lease_ends(&self) -> Option<Instant> {
        let until = lock(&self.state).lease.until()?;
        Some(now() + until.saturating_sub(self.shared.env.elapsed()))
    }

    /// Sets the gate, and gives the events of what changed.
    fn look_at_lease(&self, state: &mut GroupState, elapsed: Duration) -> Vec<Event> {
        let until = state.member.lease_until();
        let news = state.lease.look(elapsed, until).into_iter().flatten();
        let events = news.map(|news| match news {
            LeaseNews::Ended => Event::LeaseEnded { group: self.name.clone() },
            LeaseNews::Renewed { after } => Event::LeaseRenewed { group: self.name.clone(), after },
        });
        let events = events.collect();
        let now = || self.shared.env.elapsed();
        let has_failed = state.fatal.is_some() || !state.failures.is_empty();
        let away = state.member.state() == State::Away;
        let has_opened = match (has_failed || away, self.config.lease_gate) {
            // `poll` has to say so, or to have the member come back, before anything else.
            (true, _) => self.gate.close(),
            (false, false) => self.gate.open(now),
            (false, true) => self.gate.set(until, now),
        };
        let has_gone = away && !std::mem::replace(&mut state.away, away);
        if has_failed || has_opened || has_gone {
            self.ready.notify_one();
            self.gate.turned.notify_waiters();
        }
        events
    }

    /// Has the next `poll` fail with this.
    pub(super) fn report(&self, error: Error) {
        lock(&self.state).failures.push_back(error);
        self.with_member(|_, _| ());
    }

    /// Has every `poll` from now on fail with this.
    pub(super) fn fail(&self, error: Error) {
        lock(&self.state).fatal = Some(error);
        self.with_member(|_, _| ());
    }

    /// What `poll` has to say before anything else: to be looked at when the gate is closed.
    pub(in crate::consumer) fn take_failure(&self) -> Option<Error> {
        let failure = {
            let mut state = lock(&self.state);
            state.failures.pop_front().or_else(|| state.fatal.clone())
        };
        if failure.is_some() {
            self.with_member(|_, _| ());
        }
        failure
    }

    /// The program has stopped working: the member leaves for a while, and `poll` says why. `false`: it goes already.
    pub(super) fn withdraw(&self, error: &Error) -> bool {
        let withdrawn = self.with_member(|member, at| member.withdraw(at.now));
        if withdrawn {
            lock(&self.state).stalled = Some(error.clone());
            self.report(error.clone());
        }
        withdrawn
    }

    /// Somebody asks for records and gets none: a member that has withdrawn comes back for that.
    pub(in crate::consumer) fn on_asked(&self) {
        if lock(&self.state).member.waits_for_application() {
            self.tell(|member, _| member.come_back());
        }
    }

    /// Why the member has withdrawn, or is about to, until somebody asks for records again.
    pub(super) fn stalled(&self) -> Option<Error> {
        let state = lock(&self.state);
        state.stalled.clone().filter(|_| state.member.waits_for_application())
    }

    /// Notes which method of the listener runs.
    pub(super) fn set_listening(&self, listening: Option<(Method, BTreeSet<Owned>)>) {
        let since = now();
        lock(&self.state).listening = listening.map(|(method, partitions)| (method, partitions, since));
    }

    /// Why a partition does not move, as far as that is because of the group; `None`: it is not.
    pub(in crate::consumer) fn explain(&self, topic: &str, partition: i32) -> Option<String> {
        let at = self.moment();
        let state = lock(&self.state);
        if let Some(error) = &state.fatal {
            return Some(format!("group {} refuses the consumer: {error:#}", self.name));
        }
        let wanted = Owned::new(topic, partition);
        if let Some((method, partitions, since)) = &state.listening
            && partitions.contains(&wanted)
        {
            let seconds = at.now.saturating_duration_since(*since).as_secs();
            return Some(format!("waits for the rebalance listener's {method} for {seconds} s"));
        }
        let member = state.member.describe(at);
        if !state.member.owned().contains(&wanted) {
            return Some(format!("not owned: {member}"));
        }
        if !self.config.lease_gate {
            return None;
        }
        match (state.lease.ended(), state.member.lease_until()) {
            (Some(since), _) => {
                let seconds = at.elapsed.saturating_sub(since).as_secs();
                Some(format!("the lease ended {seconds} s ago, no record is handed out: {member}"))
            }
            (None, None) => Some(format!("waits for the first commit under this membership: {member}")),
            (None, Some(_)) => None,
        }
    }
}
