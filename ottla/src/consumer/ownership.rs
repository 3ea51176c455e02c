//! What becomes of the partitions that a group gives and takes.

use std::{
    collections::BTreeSet,
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use ottla_core::{
    fetch::{OffsetSpec, Ticket},
    group::{Kept, Promise, Rest, Stall, TopicPartition as Name},
};
use ottla_protocol::ErrorCode;

use super::{
    batch::{Pack, Portion},
    duty::{Duty, Owner},
    inner::Inner,
    offset_fetch,
};
use crate::{
    Error, Event, Result, TopicPartition,
    net::{now, sleep_until_some},
};

impl Inner {
    /// Finds the places where reading begins, and fetches from there, but hands out nothing before [`Self::open`].
    ///
    /// # Cancel safety
    /// Can be called again, for some of them or for others.
    pub(super) async fn acquire(self: &Arc<Self>, partitions: &BTreeSet<Name>) {
        let Some(group) = &self.group else { return };
        let known = |name: &Name| self.with(|state| state.owner(&name.topic, name.partition).is_some());
        let missing: BTreeSet<Name> = partitions.iter().filter(|name| !known(name)).cloned().collect();
        if missing.is_empty() {
            return;
        }
        let found = match offset_fetch::until_answered(self, group, &missing).await {
            Ok(found) => found,
            Err(error) => {
                let code = error.broker_code().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR);
                missing.iter().map(|name| (name.clone(), Err(code))).collect()
            }
        };
        self.with(|state| {
            for (name, found) in found {
                state.own(Arc::downgrade(self), &name, found, &group.config);
            }
        });
        for topic in missing.iter().map(|name| &name.topic).collect::<BTreeSet<_>>() {
            self.shared.metadata.topic_now(topic);
        }
        self.on_metadata(&self.shared.metadata.snapshot());
    }

    /// Has records of these partitions handed out, as soon as that is certain to be right.
    pub(super) fn open(&self, partitions: &BTreeSet<Name>) {
        self.with(|state| {
            for token in state.tokens(partitions) {
                state.open(token);
                state.settle(token);
            }
            state.note_starts();
        });
        self.commits.notify_one();
        // There may be something to tell about one that is held.
        self.wake_one();
    }

    /// Hands out nothing more of these partitions, and waits until everything that was handed out is complete, or has
    /// come back; until `deadline` at most.
    pub(super) async fn drain(&self, partitions: &BTreeSet<Name>, deadline: Instant) {
        let tokens = self.with(|state| {
            let tokens = state.tokens(partitions);
            for token in &tokens {
                state.drain(*token);
            }
            tokens
        });
        self.on_change();
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            drained.as_mut().enable();
            if self.with(|state| state.owned.as_ref().is_none_or(|owned| owned.is_drained(&tokens))) {
                return;
            }
            tokio::select! {
                biased;
                () = drained => {}
                () = sleep_until_some(Some(deadline)) => return,
            }
        }
    }

    /// Commits what is complete of these partitions. Tries again until it is dropped.
    pub(super) async fn commit_owned(&self, partitions: &BTreeSet<Name>) -> Result<()> {
        let tokens = self.with(|state| state.tokens(partitions));
        self.commit_tokens(&tokens).await
    }

    /// Commits what is complete of all partitions. Tries again until it is dropped.
    pub(super) async fn commit_all(&self) -> Result<()> {
        let tokens = self.with(|state| state.all_tokens());
        self.commit_tokens(&tokens).await
    }

    /// Has what is complete of all partitions committed, and waits for nothing.
    pub(super) fn commit_soon(&self) {
        self.with(|state| {
            let tokens = state.all_tokens();
            state.ask(&tokens);
        });
        self.commits.notify_one();
    }

    async fn commit_tokens(&self, tokens: &[u64]) -> Result<()> {
        let promise = self.with(|state| {
            state.note_starts();
            state.ask(tokens)
        });
        self.commits.notify_one();
        match promise {
            Some(promise) => self.until_kept(promise).await,
            None => Ok(()),
        }
    }

    async fn until_kept(&self, mut promise: Promise) -> Result<()> {
        loop {
            let committed = self.committed.notified();
            tokio::pin!(committed);
            committed.as_mut().enable();
            match self.with(|state| state.kept(&mut promise)) {
                Kept::Yes => return Ok(()),
                Kept::NotYet | Kept::AskedAgain if self.closed.is_set() => return Err(Error::closed()),
                Kept::NotYet => committed.await,
                Kept::AskedAgain => {
                    self.commits.notify_one();
                    committed.await;
                }
                Kept::Refused(name, code) => {
                    let error = Error::broker(code, "the offset cannot be committed");
                    return Err(error.with_topic_partition((&*name.topic, name.partition).into()));
                }
                Kept::Lost(name) => {
                    let what = "a partition was given up before what is complete of it was committed";
                    let error = Error::timeout(what).with_retriable();
                    return Err(error.with_topic_partition((&*name.topic, name.partition).into()));
                }
            }
        }
    }

    /// These partitions are not owned any more; what was handed out of them can be completed no more.
    pub(super) fn release(&self, partitions: &BTreeSet<Name>) {
        self.with(|state| {
            for token in state.tokens(partitions) {
                state.disown(token);
            }
        });
        self.on_user_change();
        self.drained.notify_waiters();
        self.committed.notify_waiters();
        self.settled.notify_waiters();
        self.commits.notify_one();
    }

    /// How often [`Self::look_for_stall`] is to be called; `None`: not at all.
    pub(super) fn stall_interval(&self) -> Option<Duration> {
        self.with(|state| state.owned.as_ref()?.stall_interval())
    }

    /// Whether the program has stopped working, on which partition.
    pub(super) fn look_for_stall(&self) -> Option<(TopicPartition, Stall)> {
        let unasked = !self.asked.swap(false, Ordering::Relaxed) && self.is_gate_open();
        let unpacked = self.first_unpacked();
        self.with(|state| state.look_for_stall(now(), unasked, unpacked))
    }

    /// Commits are made under another membership from now on.
    pub(super) fn on_membership(&self) {
        self.commits.notify_one();
    }

    /// Records come back from whoever held them.
    pub(super) fn take_back(&self, pack: &Arc<Pack>, duty: &Duty, range: Range<u32>) {
        let tick = self.tick();
        let rest = Rest { pack: Arc::clone(pack), parcel: Arc::clone(&duty.parcel), range };
        if self.with(|state| state.release(rest, tick, &self.config.fetch.backoff)) {
            // What is later of the partition waits behind them.
            self.changes.fetch_add(1, Ordering::Release);
            self.commits.notify_one();
        }
        self.drained.notify_waiters();
    }

    /// Records were not handed out after all.
    pub(super) fn put_back(&self, portion: Portion) {
        self.with(|state| state.put_back(portion));
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Goes on at `offset`, which is behind everything that is complete; else `false`.
    pub(super) fn skip_to(&self, owner: &Owner, offset: i64, reason: &str) -> bool {
        let (topic, partition) = (owner.topic_partition.topic(), owner.topic_partition.partition());
        let from = self.with(|state| {
            let from = state.first_incomplete(owner.token).filter(|from| *from <= offset)?;
            state.seek(topic, partition, OffsetSpec::At(offset)).then_some(from)
        });
        let Some(from) = from else { return false };
        self.on_seek();
        let (topic_partition, reason) = (owner.topic_partition.clone(), Arc::from(reason));
        self.shared.events.emit(Event::RecordsSkipped { topic_partition, from, to: offset, reason });
        true
    }

    /// The user has moved a position. Nobody waits any more for what was handed out before.
    pub(super) fn on_seek(&self) {
        self.on_user_change();
        self.drained.notify_waiters();
        self.commits.notify_one();
    }

    /// Whether the lease holds.
    pub(super) fn is_gate_open(&self) -> bool {
        self.gate.is_open(|| self.shared.env.elapsed())
    }

    /// Whether what was handed out under this ticket still counts.
    pub(super) fn is_current(&self, ticket: Ticket) -> bool {
        self.is_gate_open() && self.with(|state| state.partitions.is_current(ticket))
    }
}
