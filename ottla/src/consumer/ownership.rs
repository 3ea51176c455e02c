//! The partitions that a group gives and takes, and what becomes of their records.
//!
//! ```text
//!   acquire ──▶ held back ── open, claimed ──▶ handed out ── complete ──▶ committed (see `committer`)
//!                                                 │  ▲
//!                            dropped incomplete   ▼  │ after back-off
//!                                              came back
//!   drain: nothing more is handed out; release, lose: nothing of it counts any more
//! ```
//!
//! Decisions are made in `ottla_core::group`: here they are carried out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use ottla_core::{
    backoff::Backoff,
    fetch::{Position, Section, Start},
    group::{
        CommitPlan, CommitSettings, Commits, CommittedOffset, Due, FetchedOffsets, Kept, Lease, Membership,
        Moment, OFFSET_FETCH_VERSIONS, Ownership, Parcel, Promise, Rest, TopicPartition as Owned,
        fetched_offsets, offset_fetch,
    },
};
use ottla_protocol::{ErrorCode, Str, messages::OffsetFetchRequest};
use tokio::time::timeout;

use super::{
    batch::Pack,
    group::{Group, GroupConfig},
    inner::{Inner, State},
    recv::Part,
};
use crate::{
    Error, Result, TopicPartition,
    client::Shared,
    net::{Lane, now},
};

/// What a member owns.
pub(super) struct Owning {
    by_token: BTreeMap<u64, Ownership<Arc<Pack>>>,
    pub(super) commits: Commits,
}

/// What a group has committed, by partition.
pub(super) type Fetched = BTreeMap<Owned, Result<Option<CommittedOffset>, ErrorCode>>;

impl Owning {
    pub(super) fn new(group: &GroupConfig, shared: &Shared) -> Self {
        let commits = Commits::new(CommitSettings {
            interval: group.auto_commit,
            proof_of_life: Lease::proof_of_life(group.session_timeout, group.rebalance_timeout),
            backoff: shared.config.retry_backoff,
        });
        Self { by_token: BTreeMap::new(), commits }
    }

    /// Records were unpacked, or, without `sections`, only passed.
    pub(super) fn unpacked(
        &mut self,
        token: u64,
        sections: &[Section],
        next: Position,
    ) -> Option<Arc<Parcel>> {
        let ownership = self.by_token.get_mut(&token)?;
        if sections.is_empty() {
            ownership.passed(next);
            return None;
        }
        let parcel = Arc::new(Parcel::new(token, sections, next));
        ownership.unpacked(Position::at(parcel.offset(0)), Arc::clone(&parcel));
        Some(parcel)
    }

    fn kept(&mut self, promise: &Promise) -> Kept {
        let Self { by_token, commits } = self;
        commits.kept(promise, &mut |token| by_token.get_mut(&token)?.committable())
    }

    fn ask(&mut self, tokens: impl IntoIterator<Item = u64>) -> Promise {
        let Self { by_token, commits } = self;
        commits.ask(tokens, &mut |token| by_token.get_mut(&token)?.committable())
    }
}

impl State {
    /// What to commit next.
    pub(super) fn plan_commit(&mut self, at: Moment, membership: Option<&Membership>) -> CommitPlan {
        let Self { partitions, owning: Some(Owning { by_token, commits }), .. } = self else {
            return CommitPlan::Wait(None);
        };
        for (token, ownership) in by_token.iter_mut().filter(|(_, ownership)| !ownership.is_started()) {
            if let Some(place) = partitions.place(*token) {
                ownership.start(place);
            }
        }
        commits.next(at, membership, &mut |token| by_token.get_mut(&token)?.committable())
    }

    /// Has records of these handed out, unless something holds them back.
    pub(super) fn let_flow(&mut self, tokens: impl IntoIterator<Item = u64>) {
        let Some(owning) = &self.owning else { return };
        for token in tokens {
            if let Some(ownership) = owning.by_token.get(&token) {
                let flows = owning.commits.is_claimed(token) && !ownership.holds_back();
                self.partitions.hold_back(token, !flows);
            }
        }
    }

    /// The user moved the position of a partition.
    pub(super) fn on_seek(&mut self, topic: &str, partition: i32) {
        if let Some(ownership) = self.ownership(topic, partition) {
            ownership.restart();
        }
        self.let_flow(self.partitions.token(topic, partition));
    }

    /// The position of a partition moved by itself.
    pub(super) fn on_reset(&mut self, topic: &str, partition: i32, to: i64) {
        if let Some(ownership) = self.ownership(topic, partition) {
            ownership.passed(Position::at(to));
        }
    }

    fn ownership(&mut self, topic: &str, partition: i32) -> Option<&mut Ownership<Arc<Pack>>> {
        let token = self.partitions.token(topic, partition)?;
        self.owning.as_mut()?.by_token.get_mut(&token)
    }

    fn tokens(&self, partitions: &BTreeSet<Owned>) -> Vec<u64> {
        partitions.iter().filter_map(|each| self.partitions.token(&each.topic, each.partition)).collect()
    }

    fn own(
        &mut self,
        partition: &Owned,
        found: Result<Option<CommittedOffset>, ErrorCode>,
        group: &GroupConfig,
    ) {
        let start = match &found {
            Ok(Some(found)) => Start::Committed(Position::with_epoch(found.offset, found.leader_epoch)),
            Ok(None) => Start::Missing { group: group.id.clone(), policy: group.on_missing_offset },
            Err(code) => Start::Refused(*code),
        };
        let token = self.partitions.add(partition.topic.clone(), partition.partition, start);
        self.partitions.hold_back(token, true);
        if let Some(owning) = &mut self.owning {
            owning.by_token.insert(token, Ownership::default());
            owning.commits.own(token, partition.clone(), found.ok().flatten());
        }
    }

    fn disown(&mut self, token: u64) {
        if let Some(owning) = &mut self.owning {
            owning.commits.disown(token);
            if let Some(mut ownership) = owning.by_token.remove(&token) {
                ownership.end();
            }
        }
        self.partitions.remove(token);
    }
}

impl Inner {
    /// Finds the places where reading begins, and fetches from there, but hands out nothing before [`Self::open`].
    ///
    /// # Cancel safety
    /// Can be called again, for some of them or for others.
    pub(super) async fn acquire(self: &Arc<Self>, partitions: &BTreeSet<Owned>) {
        let Some(group) = &self.group else { return };
        let is_new =
            |state: &State, each: &&Owned| state.partitions.token(&each.topic, each.partition).is_none();
        let new: BTreeSet<Owned> =
            self.with(|state| partitions.iter().filter(|each| is_new(state, each)).cloned().collect());
        if new.is_empty() {
            return;
        }
        let found = match self.fetch_committed(group, &new).await {
            Ok(found) => found,
            Err(error) => {
                let code = error.broker_code().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR);
                new.iter().map(|each| (each.clone(), Err(code))).collect()
            }
        };
        self.with(|state| {
            for (partition, found) in found {
                state.own(&partition, found, &group.config);
            }
        });
        for topic in new.iter().map(|each| &each.topic).collect::<BTreeSet<_>>() {
            self.shared.metadata.topic_now(topic);
        }
        self.on_metadata(&self.shared.metadata.snapshot());
    }

    /// Has records of these partitions handed out, as soon as that is certain to be right.
    pub(super) fn open(&self, partitions: &BTreeSet<Owned>) {
        self.with(|state| {
            let tokens = state.tokens(partitions);
            if let Some(owning) = &mut state.owning {
                tokens.iter().for_each(|token| owning.commits.open(*token));
            }
            state.let_flow(tokens);
        });
        self.commit_wake.notify_one();
    }

    /// Hands out nothing more of these partitions, and waits until everything that was handed out is complete, or has
    /// come back; until `deadline` at most.
    pub(super) async fn drain(&self, partitions: &BTreeSet<Owned>, deadline: Instant) {
        let tokens = self.with(|state| {
            let tokens = state.tokens(partitions);
            for token in &tokens {
                if let Some(owning) = &mut state.owning
                    && let Some(ownership) = owning.by_token.get_mut(token)
                {
                    ownership.drain();
                }
                state.partitions.hold_back(*token, true);
            }
            tokens
        });
        self.changes.fetch_add(1, Ordering::Release);
        let is_drained = |state: &mut State| {
            let Some(owning) = &state.owning else { return true };
            tokens.iter().all(|token| owning.by_token.get(token).is_none_or(Ownership::is_drained))
        };
        let all = async {
            loop {
                let drained = self.drained.notified();
                tokio::pin!(drained);
                drained.as_mut().enable();
                if self.with(is_drained) {
                    return;
                }
                drained.await;
            }
        };
        // Whatever is not complete by then is handed out again by the next owner.
        let _ = tokio::time::timeout_at(deadline.into(), all).await;
    }

    /// Commits what is complete of these partitions. Tries again until it is dropped.
    ///
    /// # Errors
    /// What trying again does not cure.
    pub(super) async fn commit_owned(&self, partitions: &BTreeSet<Owned>) -> Result<()> {
        let tokens = self.with(|state| state.tokens(partitions));
        self.commit_tokens(tokens).await
    }

    /// Commits what is complete of everything that is owned. Tries again until it is dropped.
    ///
    /// # Errors
    /// What trying again does not cure.
    pub(super) async fn commit_all(&self) -> Result<()> {
        self.commit_tokens(self.owned_tokens()).await
    }

    /// Has everything that is complete committed soon.
    pub(super) fn commit_soon(&self) {
        let tokens = self.owned_tokens();
        self.with(|state| state.owning.as_mut().map(|owning| owning.ask(tokens)));
        self.commit_wake.notify_one();
    }

    fn owned_tokens(&self) -> Vec<u64> {
        self.with(|state| state.owning.iter().flat_map(|owning| owning.by_token.keys().copied()).collect())
    }

    async fn commit_tokens(&self, tokens: Vec<u64>) -> Result<()> {
        let Some(promise) = self.with(|state| state.owning.as_mut().map(|owning| owning.ask(tokens))) else {
            return Ok(());
        };
        self.commit_wake.notify_one();
        loop {
            let committed = self.committed.notified();
            tokio::pin!(committed);
            committed.as_mut().enable();
            match self.with(|state| state.owning.as_mut().map(|owning| owning.kept(&promise))) {
                None | Some(Kept::Yes) => return Ok(()),
                Some(Kept::Lost) => {
                    return Err(Error::broker(
                        ErrorCode::UNKNOWN_MEMBER_ID,
                        "a partition was lost before its offset was committed",
                    ));
                }
                Some(Kept::Refused(partition, code)) => {
                    let partition = TopicPartition::new(&*partition.topic, partition.partition);
                    return Err(
                        Error::broker(code, "the offset was not committed").with_topic_partition(partition)
                    );
                }
                Some(Kept::NotYet) => committed.await,
            }
        }
    }

    /// These partitions are not owned any more; what was handed out of them can be completed no more.
    pub(super) fn release(&self, partitions: &BTreeSet<Owned>) {
        self.with(|state| state.tokens(partitions).into_iter().for_each(|token| state.disown(token)));
        self.changes.fetch_add(1, Ordering::Release);
        self.drained.notify_waiters();
        self.committed.notify_waiters();
        self.ready.notify_one();
    }

    /// As [`Self::release`], at once, and while anything may be going on.
    pub(super) fn lose(&self, partitions: &BTreeSet<Owned>) {
        self.release(partitions);
    }

    /// Commits are made under another membership from now on.
    pub(super) fn on_membership(&self) {
        self.commit_wake.notify_one();
    }

    /// Records came back incomplete.
    pub(super) fn take_back(&self, rest: Rest<Arc<Pack>>) {
        let (tick, backoff) = (self.tick(), self.shared.config.retry_backoff);
        let taken = self.with(|state| {
            let token = rest.parcel.token();
            let ownership = state.owning.as_mut().and_then(|owning| owning.by_token.get_mut(&token));
            let Some(ownership) = ownership else { return false };
            let taken = ownership.release(rest, tick, &backoff);
            if taken {
                state.partitions.hold_back(token, true);
            }
            taken
        });
        if taken {
            self.changes.fetch_add(1, Ordering::Release);
            self.again_wake.notify_one();
            self.drained.notify_waiters();
        }
    }

    /// What has to be handed out again, if its back-off is over.
    pub(super) fn take_again(&self) -> Option<Part> {
        if !self.has_again.load(Ordering::Acquire) {
            return None;
        }
        let part = self.with(|state| {
            let State { partitions, owning: Some(owning), .. } = state else { return None };
            let found = owning.by_token.iter_mut().find_map(|(token, ownership)| {
                let paused =
                    partitions.ticket(*token).is_none_or(|ticket| partitions.is_ticket_paused(ticket));
                if paused { None } else { Some((*token, ownership.take()?)) }
            });
            let Some((token, rest)) = found else {
                self.has_again.store(false, Ordering::Release);
                return None;
            };
            state.let_flow([token]);
            Some(Part { place: rest.pack.place(rest.range), pack: rest.pack, again: true })
        });
        if part.is_some() {
            self.changes.fetch_add(1, Ordering::Release);
            self.ready.notify_one();
        }
        part
    }

    /// Waits for back-offs, and says when they are over.
    pub(super) async fn wake_again(self: Arc<Self>) {
        tokio::select! {
            biased;
            () = self.closed.wait() => {}
            () = self.wake_again_for_ever() => {}
        }
    }

    async fn wake_again_for_ever(&self) {
        loop {
            let (due, next) = self.with(|state| {
                let (now, mut due, mut next) = (now(), false, None::<Instant>);
                for ownership in state.owning.iter_mut().flat_map(|owning| owning.by_token.values_mut()) {
                    ownership.wake(now);
                    match ownership.due() {
                        Some(Due::Now) => due = true,
                        Some(Due::At(at)) => next = Some(next.map_or(at, |next| next.min(at))),
                        None => {}
                    }
                }
                (due, next)
            });
            if due {
                self.has_again.store(true, Ordering::Release);
                self.ready.notify_one();
            }
            tokio::select! {
                biased;
                () = self.again_wake.notified() => {}
                () = crate::net::sleep_until_some(next) => {}
            }
        }
    }

    /// Asks what the group has committed, until it is known.
    ///
    /// # Errors
    /// What asking again does not cure.
    pub(super) async fn fetch_committed(
        &self,
        group: &Group,
        partitions: &BTreeSet<Owned>,
    ) -> Result<Fetched> {
        let mut backoff = Backoff::new(self.shared.config.retry_backoff);
        loop {
            match self.ask_committed(&group.config.id, partitions).await {
                Ok(FetchedOffsets::All(all)) => return Ok(all),
                Ok(FetchedOffsets::Refused(code)) => {
                    return Err(Error::broker(code, format!("read what group {} has committed", group.name)));
                }
                Ok(FetchedOffsets::Again { .. }) => {}
                Err(error) if error.is_retriable() => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(backoff.on_failure(self.shared.env.random())).await;
        }
    }

    async fn ask_committed(&self, group: &Str, partitions: &BTreeSet<Owned>) -> Result<FetchedOffsets> {
        let limit = self.shared.config.request_timeout;
        let connecting = self.shared.coordinators.connection(group, Lane::Control);
        let Ok(connection) = timeout(limit, connecting).await else {
            return Err(Error::timeout(format!("the coordinator of group {group} was not found in time")));
        };
        let connection = connection?;
        let version = connection.version::<OffsetFetchRequest>(OFFSET_FETCH_VERSIONS)?;
        let request = offset_fetch(group, partitions, version);
        let answer = connection.call(&request, version, limit).await;
        let fetched = answer.map(|answer| fetched_offsets(partitions, &answer));
        let is_elsewhere = match &fetched {
            Ok(FetchedOffsets::Again { moved, .. }) => *moved,
            Ok(_) => false,
            Err(error) => error.is_retriable(),
        };
        if is_elsewhere {
            self.shared.coordinators.forget(group, connection.node_id());
        }
        fetched
    }
}
