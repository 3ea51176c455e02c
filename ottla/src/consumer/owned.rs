//! The partitions that a member owns, beside their cursors and under the same lock.
//!
//! ```text
//!            own                     open                 claim acknowledged
//!   none ──────────▶ found ────────────────▶ opened ──────────────────────────▶ flowing ◀─┐
//!                      │                       │                                 │   │    │ all taken
//!                      │ disown                │ disown           drain, release │   ▼    │
//!                      ▼                       ▼                                 └▶ held back
//!                    over ◀────────────────────┴─────────────────── disown ─────────┘
//! ```
//!
//! Until it flows, a partition is fetched and buffered, and nothing of it is handed out.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use ottla_core::{
    backoff::BackoffPolicy,
    fetch::{Finished, Handout, OffsetSpec, Outcome, Position, PositionReset, Start, Tick, Ticket},
    group::{
        CommitPlan, CommitSettings, Commits, Committable, Committed, CommittedOffset, Due, Kept, Membership,
        Moment, Ownership, Parcel, Promise, Rest, Stall, StallWatch, TopicPartition as Name,
    },
};
use ottla_protocol::{ErrorCode, messages::OffsetCommitResponse};

use super::{
    batch::{Pack, Portion},
    duty::Owner,
    group::GroupConfig,
    inner::{Inner, State},
    partition::Reader,
};
use crate::TopicPartition;

/// What a member owns.
#[derive(Debug)]
pub(super) struct Owned {
    by_token: BTreeMap<u64, Held>,
    commits: Commits,
    /// Of these something has to be handed out before anything new.
    waiting: BTreeSet<u64>,
    stalls: StallWatch,
}

#[derive(Debug)]
struct Held {
    owner: Arc<Owner>,
    ownership: Ownership<Arc<Pack>>,
    open: bool,
}

/// Something for the user.
pub(super) enum Next {
    /// Again, or for the first time after all.
    Again(Portion),
    /// For the first time. With its owner, if it has one.
    New(Handout, Option<Arc<Owner>>),
}

/// Whether records that were unpacked may be handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// They are next.
    First,
    /// Something earlier of the partition comes first, or it is being given back.
    Later,
    /// They are out of date.
    Stale,
}

impl Owned {
    pub(super) fn new(commits: CommitSettings, processing_timeout: Option<Duration>) -> Self {
        Self {
            by_token: BTreeMap::new(),
            commits: Commits::new(commits),
            waiting: BTreeSet::new(),
            stalls: StallWatch::new(processing_timeout),
        }
    }

    /// How often [`State::look_for_stall`] is to be called; `None`: not at all.
    pub(super) fn stall_interval(&self) -> Option<Duration> {
        self.stalls.interval()
    }

    /// The answer to a commit, or that there is none.
    pub(super) fn on_committed(&mut self, at: Moment, answer: Answered) -> Committed {
        match answer {
            Answered::Response(response) => self.commits.on_answer(at, &response),
            Answered::Refused(code) => self.commits.on_refused(at, code),
            Answered::Lost => {
                self.commits.on_lost(at);
                Committed::default()
            }
        }
    }

    /// Ends the back-off of what has waited long enough. `true`: there is something to hand out since.
    pub(super) fn wake(&mut self, now: Instant) -> bool {
        let mut woken = false;
        for token in &self.waiting {
            if let Some(held) = self.by_token.get_mut(token) {
                woken |= held.ownership.wake(now);
            }
        }
        woken
    }

    /// When the next back-off ends.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().filter_map(|token| self.by_token.get(token)?.ownership.due());
        waiting.filter_map(|due| if let Due::At(at) = due { Some(at) } else { None }).min()
    }

    /// Whether nothing of these partitions is handed out and incomplete.
    pub(super) fn is_drained(&self, tokens: &[u64]) -> bool {
        let mut held = tokens.iter().filter_map(|token| self.by_token.get(token));
        held.all(|held| held.ownership.is_drained())
    }

    fn holds_back(&self, token: u64) -> bool {
        self.by_token
            .get(&token)
            .is_some_and(|held| !held.open || !self.commits.is_claimed(token) || held.ownership.holds_back())
    }
}

/// What came of a commit.
pub(super) enum Answered {
    Response(OffsetCommitResponse),
    /// It cannot be asked for at all.
    Refused(ErrorCode),
    Lost,
}

impl State {
    /// What a member owns of a partition.
    pub(super) fn owner(&self, topic: &str, partition: i32) -> Option<Arc<Owner>> {
        let token = self.partitions.token(topic, partition)?;
        self.owner_of(token)
    }

    pub(super) fn owner_of(&self, token: u64) -> Option<Arc<Owner>> {
        Some(Arc::clone(&self.owned.as_ref()?.by_token.get(&token)?.owner))
    }

    /// The tokens of those of these partitions that are owned.
    pub(super) fn tokens<'a>(&self, partitions: impl IntoIterator<Item = &'a Name>) -> Vec<u64> {
        let Some(owned) = &self.owned else { return Vec::new() };
        let tokens =
            partitions.into_iter().filter_map(|name| self.partitions.token(&name.topic, name.partition));
        tokens.filter(|token| owned.by_token.contains_key(token)).collect()
    }

    /// All owned partitions.
    pub(super) fn all_tokens(&self) -> Vec<u64> {
        self.owned.iter().flat_map(|owned| owned.by_token.keys().copied()).collect()
    }

    /// Owns a partition from now on. Nothing of it is handed out before it is opened.
    pub(super) fn own(
        &mut self,
        inner: Weak<Inner>,
        name: &Name,
        found: Result<Option<CommittedOffset>, ErrorCode>,
        config: &GroupConfig,
    ) {
        let start = match &found {
            Ok(Some(found)) => Start::Committed(Position::with_epoch(found.offset, found.leader_epoch)),
            Ok(None) => Start::Missing { group: config.id.clone(), policy: config.on_missing_offset },
            Err(code) => Start::Refused(*code),
        };
        let Some(owned) = &mut self.owned else { return };
        let token = self.partitions.add(name.topic.clone(), name.partition, start);
        self.partitions.hold_back(token, true);
        let topic_partition = TopicPartition::new(&*name.topic, name.partition);
        let owner = Arc::new(Owner::new(token, topic_partition, inner));
        owned.commits.own(token, name.clone(), found.ok().flatten());
        owned.by_token.insert(token, Held { owner, ownership: Ownership::default(), open: false });
    }

    /// Has the partition flow as soon as it is claimed.
    pub(super) fn open(&mut self, token: u64) {
        if let Some(owned) = &mut self.owned
            && let Some(held) = owned.by_token.get_mut(&token)
        {
            held.open = true;
            owned.commits.open(token);
        }
    }

    /// Does not own the partition any more.
    pub(super) fn disown(&mut self, token: u64) {
        self.partitions.remove(token);
        let Some(owned) = &mut self.owned else { return };
        owned.commits.disown(token);
        owned.waiting.remove(&token);
        if let Some(mut held) = owned.by_token.remove(&token) {
            held.ownership.end();
            held.owner.end();
        }
    }

    /// Hands out nothing more of the partition.
    pub(super) fn drain(&mut self, token: u64) {
        if let Some(held) = self.held(token) {
            held.ownership.drain();
            held.owner.revoking.set(());
        }
        self.settle(token);
    }

    fn held(&mut self, token: u64) -> Option<&mut Held> {
        self.owned.as_mut()?.by_token.get_mut(&token)
    }

    /// Has the cursor hold back new records exactly while something stands in front of them.
    pub(super) fn settle(&mut self, token: u64) {
        let Some(owned) = &mut self.owned else { return };
        let waits = owned.by_token.get(&token).is_some_and(|held| held.ownership.due().is_some());
        if waits {
            owned.waiting.insert(token)
        } else {
            owned.waiting.remove(&token)
        };
        self.partitions.hold_back(token, owned.holds_back(token));
    }

    /// Notes where reading begins, where that became known.
    pub(super) fn note_starts(&mut self) {
        let Some(owned) = &mut self.owned else { return };
        for (token, held) in &mut owned.by_token {
            if !held.ownership.is_started()
                && let Some(place) = self.partitions.place(*token)
            {
                held.ownership.start(place);
            }
        }
    }

    /// Positions moved by themselves. To be noted under the same lock as the answer that moved them.
    pub(super) fn on_resets(&mut self, resets: &[PositionReset]) {
        for reset in resets {
            let token = self.partitions.token(&reset.topic, reset.partition);
            let Some(held) = token.and_then(|token| self.held(token)) else { continue };
            if reset.other_log {
                held.ownership.restart();
            }
            held.ownership.passed(reset.to);
        }
    }

    /// The user moves the position. `false`: the partition is not assigned.
    pub(super) fn seek(&mut self, topic: &str, partition: i32, to: OffsetSpec) -> bool {
        if !self.partitions.seek(topic, partition, to) {
            return false;
        }
        if let Some(token) = self.partitions.token(topic, partition) {
            if let Some(held) = self.held(token) {
                held.ownership.restart();
            }
            self.note_starts();
            self.settle(token);
        }
        true
    }

    /// The next thing for somebody who reads.
    pub(super) fn take(&mut self, reader: Reader) -> Option<Next> {
        if let Some(portion) = self.take_again(reader) {
            return Some(Next::Again(portion));
        }
        let handout = match reader {
            Reader::Any => self.partitions.take(),
            Reader::Of(token) => self.partitions.take_of(token),
        }?;
        let owner = match &handout {
            Handout::Range { ticket, .. } => self.owner_of(ticket.token()),
            Handout::Trouble { .. } | Handout::Absent(_) => None,
        };
        Some(Next::New(handout, owner))
    }

    fn take_again(&mut self, reader: Reader) -> Option<Portion> {
        let token = match reader {
            Reader::Any => self.next_again()?,
            Reader::Of(token) => Some(token).filter(|token| self.can_go_again(*token))?,
        };
        // `None` when everything that waited was completed meanwhile: then it holds back nothing any more.
        let rest = self.held(token)?.ownership.take();
        self.settle(token);
        let Rest { pack, range, .. } = rest?;
        Some(Portion { at: pack.place(range), pack })
    }

    /// The partition of which something can be handed out again now, to anybody.
    fn next_again(&self) -> Option<u64> {
        let mut waiting = self.owned.as_ref()?.waiting.iter().copied();
        waiting.find(|token| !self.partitions.is_reserved(*token) && self.can_go_again(*token))
    }

    /// Whether something of a partition can be handed out again now.
    pub(super) fn can_go_again(&self, token: u64) -> bool {
        let held = self.owned.as_ref().and_then(|owned| owned.by_token.get(&token));
        let is_due = |held: &Held| held.open && held.ownership.due() == Some(Due::Now);
        let is_paused = |ticket| self.partitions.is_ticket_paused(ticket);
        held.is_some_and(is_due) && self.partitions.ticket(token).is_some_and(|ticket| !is_paused(ticket))
    }

    /// Whether somebody may read a partition: in a group, once the listener has been told.
    pub(super) fn has_begun(&self, token: u64) -> bool {
        let Some(owned) = &self.owned else { return true };
        match owned.by_token.get(&token) {
            Some(held) => held.open && !held.owner.revoking.is_set(),
            None => owned.by_token.is_empty(),
        }
    }

    /// Whether somebody else who polls would get something.
    pub(super) fn has_more(&self) -> bool {
        self.partitions.has_more() || self.next_again().is_some()
    }

    /// A range was unpacked that begins at `from`: `parcel` has its records, if it has any.
    pub(super) fn finish(
        &mut self,
        ticket: Ticket,
        from: Position,
        parcel: Option<Arc<Parcel>>,
        outcome: Outcome,
    ) -> Finished {
        let next = outcome.next;
        let finished = self.partitions.finish(ticket, outcome);
        if finished != Finished::Stale
            && let Some(held) = self.held(ticket.token())
        {
            match parcel {
                Some(parcel) => held.ownership.unpacked(from, parcel),
                None => held.ownership.passed(next),
            }
        }
        finished
    }

    /// Whether these records may be handed out.
    pub(super) fn standing(&self, portion: &Portion) -> Standing {
        if !self.partitions.is_current(portion.pack.ticket()) {
            return Standing::Stale;
        }
        let Some(duty) = portion.pack.duty() else { return Standing::First };
        let held = self.owned.as_ref().and_then(|owned| owned.by_token.get(&duty.owner.token));
        let first = duty.parcel.offset(portion.at.index());
        match held {
            None => Standing::Stale,
            Some(held) if held.ownership.goes_before(first) => Standing::Later,
            Some(_) => Standing::First,
        }
    }

    /// Records come back: what is not complete of them is handed out again after a back-off. `true`: that is something.
    pub(super) fn release(&mut self, rest: Rest<Arc<Pack>>, tick: Tick, backoff: &BackoffPolicy) -> bool {
        let token = rest.parcel.token();
        if let Some(owned) = &mut self.owned {
            let last = rest.range.end.saturating_sub(1);
            owned
                .stalls
                .on_release(token, rest.parcel.offset(rest.range.start)..rest.parcel.offset(last) + 1);
        }
        let released = self.held(token).is_some_and(|held| held.ownership.release(rest, tick, backoff));
        self.settle(token);
        released
    }

    /// Records were not handed out after all. They go first, without a back-off.
    pub(super) fn put_back(&mut self, portion: Portion) {
        let Some(duty) = portion.pack.duty() else { return };
        let (token, parcel) = (duty.owner.token, Arc::clone(&duty.parcel));
        if let Some(held) = self.held(token) {
            held.ownership.put_back(Rest { range: portion.at.range(), pack: portion.pack, parcel });
        }
        self.settle(token);
    }

    /// Completes records by their offsets. `None`: one of them was not handed out.
    pub(super) fn complete(&mut self, token: u64, offsets: Range<i64>) -> Option<bool> {
        self.held(token).map_or(Some(false), |held| held.ownership.complete(offsets))
    }

    /// The first offset of a partition that is not complete.
    pub(super) fn first_incomplete(&mut self, token: u64) -> Option<i64> {
        self.held(token)?.ownership.committable().map(|(_, position)| position.offset)
    }

    /// The first record that waits to be handed out again.
    pub(super) fn first_waiting(&self, topic: &str, partition: i32) -> Option<i64> {
        let token = self.partitions.token(topic, partition)?;
        self.owned.as_ref()?.by_token.get(&token)?.ownership.first_waiting()
    }

    /// Whether the program has stopped working, on which partition. `unasked`: it has not asked for records since the last
    /// look although it might have; `unpacked`: a record that `recv` would get.
    pub(super) fn look_for_stall(
        &mut self,
        now: Instant,
        unasked: bool,
        unpacked: Option<(u64, i64)>,
    ) -> Option<(TopicPartition, Stall)> {
        let again = || {
            let token = self.next_again()?;
            Some((token, self.owned.as_ref()?.by_token.get(&token)?.ownership.first_waiting()?))
        };
        let to_be_had = || unpacked.or_else(again).or_else(|| self.partitions.first_to_be_had());
        let to_be_had = if unasked { to_be_had() } else { None };
        let Owned { by_token, stalls, .. } = self.owned.as_mut()?;
        let in_hand =
            by_token.iter().filter_map(|(token, held)| Some((*token, held.ownership.first_open()?)));
        let (token, stall) = stalls.look(now, in_hand, to_be_had)?;
        Some((by_token.get(&token)?.owner.topic_partition.clone(), stall))
    }

    /// What to commit next. `prove`: the lease waits for a commit.
    pub(super) fn plan_commit(
        &mut self,
        at: Moment,
        membership: Option<&Membership>,
        prove: bool,
    ) -> CommitPlan {
        let plan = self.with_commits(|commits, committable| commits.next(at, membership, prove, committable));
        plan.unwrap_or(CommitPlan::Wait(None))
    }

    /// Has what is complete of these partitions committed.
    pub(super) fn ask(&mut self, tokens: &[u64]) -> Option<Promise> {
        self.with_commits(|commits, committable| commits.ask(tokens.iter().copied(), committable))
    }

    /// What became of a promise. Without a group nothing was promised.
    pub(super) fn kept(&mut self, promise: &mut Promise) -> Kept {
        self.with_commits(|commits, committable| commits.kept(promise, committable)).unwrap_or(Kept::Yes)
    }

    fn with_commits<T>(&mut self, work: impl FnOnce(&mut Commits, &mut Committable<'_>) -> T) -> Option<T> {
        let Self { partitions, owned: Some(Owned { by_token, commits, .. }), .. } = self else { return None };
        // An offset of a log that is gone would be taken for one of its successor.
        let mut committable = |token| {
            let held = by_token.get_mut(&token).filter(|_| !partitions.is_log_gone(token))?;
            held.ownership.committable()
        };
        Some(work(commits, &mut committable))
    }

    /// Why an owned partition does not move, as far as that is because of its records or commits.
    pub(super) fn explain_owned(&self, topic: &str, partition: i32, now: Instant) -> Option<String> {
        let token = self.partitions.token(topic, partition)?;
        let owned = self.owned.as_ref()?;
        let held = owned.by_token.get(&token)?;
        if let Some(code) = owned.commits.refusal(token) {
            return Some(format!("its offsets cannot be committed: {code}"));
        }
        if !held.open {
            return Some("was assigned just now".to_owned());
        }
        if held.ownership.is_started() && !owned.commits.is_claimed(token) {
            return Some("waits until the group has its first commit".to_owned());
        }
        let offset = held.ownership.first_waiting()?;
        match held.ownership.due()? {
            Due::At(at) => {
                let wait = at.saturating_duration_since(now).as_millis();
                Some(format!(
                    "the record at offset {offset} came back incomplete: handed out again in {wait} ms"
                ))
            }
            Due::Now => Some(format!("waits for poll: the record at offset {offset} came back incomplete")),
        }
    }
}
