//! What a member commits, and when.
//!
//! ```text
//!            claim, dirty, or proof of life                        all acknowledged
//!   idle ──────────────────────────────────▶ in flight ──────────────────────────────────▶ idle
//!    ▲                                         │   │
//!    │ back-off over                           │   │ UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION,
//!    │ or another generation                   │   ▼ FENCED_INSTANCE_ID
//!    └───────────── backing off ◀──────────────┘  refused: until there is another generation
//!                    lost, or retriable (REBALANCE_IN_PROGRESS as well)
//! ```
//!
//! One request is under way at a time, so that none overtakes another (a later one on another connection would move the
//! committed offset back). A request names only partitions that are owned when it is made, under the generation of that
//! moment; within a run of an ownership no commit is below an earlier one.
//!
//! * *Claim*: the first commit of an ownership, of the offset where reading begins. It proves that the coordinator can
//!   write, makes a start at the end of the log survive a crash, and says to later members that somebody owned the
//!   partition. Nothing of a partition is handed out before its claim is acknowledged.
//! * *Dirty*: something is complete that was not committed. Committed once an interval, or when somebody asks.
//! * *Doubt*: a request that got lost can be carried out late, out of a socket's buffer, and move the committed offset back.
//!   As long as its generation lives, what is committed of its partitions is repeated now and then, and whenever somebody
//!   asks: before they are given up, in particular.
//! * *Proof of life*: a member that has nothing to commit repeats a commit before the lease ends for want of one, and at once
//!   where records wait for nothing else. A coordinator that is cut off from its peers, or still loading, goes on answering
//!   heartbeats, but acknowledges no write.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ottla_protocol::{
    ErrorCode, Str,
    messages::{
        OffsetCommitRequest, OffsetCommitResponse,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    },
};

use super::{CommittedOffset, Membership, Moment, Run, TopicPartition};
use crate::{backoff::BackoffPolicy, fetch::Position};

/// When to commit.
#[derive(Debug, Clone)]
pub struct CommitSettings {
    /// How long what is complete may wait to be committed by itself; `None`: until somebody asks.
    pub interval: Option<Duration>,
    /// How old the last acknowledged commit may become, and that of a partition in doubt:
    /// [`super::Lease::proof_of_life`].
    pub proof_of_life: Duration,
    /// How long to wait before a request is repeated.
    pub backoff: BackoffPolicy,
}

/// What a member commits, and when. Partitions are named by the token of their ownership.
#[derive(Debug)]
pub struct Commits {
    settings: CommitSettings,
    slots: BTreeMap<u64, Slot>,
    in_flight: Option<InFlight>,
    next_auto: Option<Instant>,
    /// When the last request was sent that was acknowledged, on the clock of the lease, which counts suspend.
    last_write: Option<Duration>,
    /// Somebody waits for everything that is complete now.
    asked: bool,
    failures: u32,
    /// Nothing is sent before this moment under this generation.
    backing_off: Option<(Instant, Membership)>,
    /// The coordinator will have nothing from this generation any more.
    refused: Option<Membership>,
}

/// Which run of an ownership, and what may be committed in it: [`super::Completions::committable`].
pub type Committable<'a> = dyn FnMut(u64) -> Option<(Run, Position)> + 'a;

/// One owned partition.
#[derive(Debug)]
struct Slot {
    partition: TopicPartition,
    /// What the group had committed when the ownership began.
    found: Option<CommittedOffset>,
    /// Records of it may be handed out, once it is claimed.
    open: bool,
    claimed: bool,
    /// What the coordinator has, and in which run it was committed, if that was here; `None` if that is not known.
    written: Option<(Option<Run>, Position)>,
    /// What was sent last, and in which run.
    sent: Option<(Run, Position)>,
    /// It cannot be committed: why, and when it is tried again.
    refused: Option<(ErrorCode, Instant)>,
    /// How often in a row the coordinator did not know the partition.
    unknown: u32,
    /// A commit of it got lost.
    doubt: Option<Doubt>,
}

/// What is committed may go back.
#[derive(Debug)]
struct Doubt {
    /// Under which the commit was made that got lost.
    membership: Membership,
    /// When to repeat what is committed.
    due: Instant,
}

#[derive(Debug)]
struct InFlight {
    sent: Moment,
    membership: Membership,
    /// What was sent, by token.
    offsets: BTreeMap<u64, (Run, Position)>,
    /// It has what was dirty, and not only claims or a proof of life.
    is_flush: bool,
}

/// What to do next.
#[derive(Debug)]
pub enum CommitPlan {
    /// Send this; its answer goes to [`Commits::on_answer`], or [`Commits::on_lost`] if there is none.
    Send(OffsetCommitRequest),
    /// Nothing until something changes, or until this moment.
    Wait(Option<Instant>),
}

/// What followed from an answer.
#[derive(Debug, Default)]
pub struct Committed {
    /// What the coordinator has now.
    pub acknowledged: Vec<(TopicPartition, i64)>,
    /// Ownerships whose claim was acknowledged: their records may be handed out.
    pub claimed: Vec<u64>,
    /// When the request was sent, and by which member, if anything was acknowledged: the coordinator can write.
    pub written: Option<(Moment, Membership)>,
    /// What cannot be committed, and why. Tried again later.
    pub refused: Vec<(TopicPartition, ErrorCode)>,
    /// What the coordinator thinks of the membership, if it is not as it was: [`super::Member::on_rejected`].
    pub rejected: Option<(Membership, ErrorCode)>,
    /// Another node is the coordinator.
    pub moved: bool,
}

/// What somebody waits for: that what was complete at a moment is committed.
#[derive(Debug)]
pub struct Promise {
    targets: Vec<Target>,
}

/// The place up to which a partition is to be committed.
#[derive(Debug)]
struct Target {
    token: u64,
    partition: TopicPartition,
    run: Run,
    place: Position,
}

/// What became of a [`Promise`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// All of it is committed.
    Yes,
    /// Not all of it yet.
    NotYet,
    /// Neither, since a log was cut: what still stands is to be committed at once ([`Commits::next`]).
    AskedAgain,
    /// A partition could not be committed.
    Refused(TopicPartition, ErrorCode),
    /// A partition was lost before.
    Lost(TopicPartition),
}

/// How long a partition that cannot be committed is left alone, unless somebody asks.
const REFUSED_PAUSE: Duration = Duration::from_secs(10);
/// So often in a row a coordinator may say that it does not know a partition: one that has just started learns of it.
/// After that the partition counts as deleted, so that nobody waits for its commit, least of all a rebalance.
pub(super) const LONGEST_UNKNOWN: u32 = 4;

impl Commits {
    /// Nothing is owned yet.
    #[must_use]
    pub fn new(settings: CommitSettings) -> Self {
        Self {
            settings,
            slots: BTreeMap::new(),
            in_flight: None,
            next_auto: None,
            last_write: None,
            asked: false,
            failures: 0,
            backing_off: None,
            refused: None,
        }
    }

    /// A partition is owned from now on; `found` is what the group had committed. Nothing of it is committed before
    /// [`Self::open`].
    pub fn own(&mut self, token: u64, partition: TopicPartition, found: Option<CommittedOffset>) {
        let written = found.as_ref().map(|it| (None, Position::with_epoch(it.offset, it.leader_epoch)));
        let slot = Slot {
            partition,
            found,
            open: false,
            claimed: false,
            written,
            sent: None,
            refused: None,
            unknown: 0,
            doubt: None,
        };
        self.slots.insert(token, slot);
    }

    /// Records of the partition may be handed out as soon as it is claimed.
    pub fn open(&mut self, token: u64) {
        if let Some(slot) = self.slots.get_mut(&token) {
            slot.open = true;
        }
    }

    /// The partition is not owned any more: nothing of it is committed from now on.
    pub fn disown(&mut self, token: u64) {
        if planted!("commit-of-a-revoked-partition") {
            return;
        }
        self.slots.remove(&token);
        if self.slots.is_empty() {
            // A member that joins again as it was may get the same generation again, if the refusal came from a coordinator
            // that knew less than the next one.
            self.refused = None;
        }
    }

    /// Whether the partition is claimed.
    #[must_use]
    pub fn is_claimed(&self, token: u64) -> bool {
        self.slots.get(&token).is_some_and(|slot| slot.claimed)
    }

    /// Why the partition cannot be committed, if so.
    #[must_use]
    pub fn refusal(&self, token: u64) -> Option<ErrorCode> {
        self.slots.get(&token)?.refused.map(|(code, _)| code)
    }

    /// Has what is complete of these ownerships committed at once, together with that of all others.
    pub fn ask(
        &mut self,
        tokens: impl IntoIterator<Item = u64>,
        committable: &mut Committable<'_>,
    ) -> Promise {
        let mut targets = Vec::new();
        for token in tokens {
            let Some(slot) = self.slots.get_mut(&token).filter(|slot| slot.open) else { continue };
            if let Some((run, place)) = committable(token) {
                targets.push(Target { token, partition: slot.partition.clone(), run, place });
                slot.ask();
            }
        }
        self.asked = true;
        Promise { targets }
    }

    /// What became of a promise.
    pub fn kept(&mut self, promise: &mut Promise, committable: &mut Committable<'_>) -> Kept {
        let (mut kept, mut asked_again) = (Kept::Yes, false);
        for target in &mut promise.targets {
            let Some(slot) = self.slots.get_mut(&target.token) else {
                return Kept::Lost(target.partition.clone());
            };
            // What a seek has made meaningless is not waited for.
            let current = committable(target.token).filter(|(run, _)| run.is_of_the_same_seek(target.run));
            let Some((run, now)) = current else { continue };
            if run != target.run {
                // What a cut has left of it is complete, and may never have been committed.
                (target.run, target.place) = (run, now);
                slot.ask();
                asked_again = true;
            }
            match slot.refused {
                _ if slot.has(run, target.place) => {}
                _ if now.offset >= target.place.offset && !slot.is_dirty(now) => {}
                Some((code, _)) => return Kept::Refused(target.partition.clone(), code),
                None => kept = Kept::NotYet,
            }
        }
        self.asked |= asked_again;
        if asked_again && kept == Kept::NotYet { Kept::AskedAgain } else { kept }
    }

    /// What to send next. `prove`: the lease waits for a commit ([`super::Member::needs_proof`]).
    pub fn next(
        &mut self,
        at: Moment,
        membership: Option<&Membership>,
        prove: bool,
        committable: &mut Committable<'_>,
    ) -> CommitPlan {
        if self.in_flight.is_some() || self.slots.is_empty() {
            return CommitPlan::Wait(None);
        }
        let Some(membership) = membership.filter(|now| self.refused.as_ref() != Some(*now)) else {
            return CommitPlan::Wait(None);
        };
        if let Some((until, under)) = &self.backing_off
            && *until > at.now
            && under == membership
        {
            return CommitPlan::Wait(Some(*until));
        }
        let is_flush = self.is_auto_due(at.now) | std::mem::take(&mut self.asked);
        let mut offsets = BTreeMap::new();
        let mut wake = self.next_auto;
        for (token, slot) in self.slots.iter().filter(|(_, slot)| slot.open) {
            let stale = slot.sent.filter(|_| planted!("commit-of-a-revoked-partition"));
            let Some((run, position)) = committable(*token).or(stale) else { continue };
            let position = slot.at_least_sent(run, position);
            match slot.refused {
                Some((_, again)) if again > at.now => wake = earlier(wake, again),
                _ if !slot.claimed || (is_flush && (slot.is_dirty(position) || stale.is_some())) => {
                    offsets.insert(*token, (run, position));
                }
                _ => match slot.repeat(run, membership) {
                    Some((due, again)) if due <= at.now => drop(offsets.insert(*token, (run, again))),
                    Some((due, _)) => wake = earlier(wake, due),
                    None => {}
                },
            }
        }
        if offsets.is_empty() {
            match self.proof_of_life(at, prove, committable) {
                Ok((token, proof)) => drop(offsets.insert(token, proof)),
                Err(due) => return CommitPlan::Wait(due.into_iter().fold(wake, earlier)),
            }
        }
        CommitPlan::Send(self.send(at, membership, offsets, is_flush))
    }

    /// Whether what is complete is to be committed by itself now. The next time is an interval later.
    fn is_auto_due(&mut self, now: Instant) -> bool {
        let Some(interval) = self.settings.interval else { return false };
        let due = self.next_auto.is_some_and(|at| at <= now);
        if due || self.next_auto.is_none() {
            self.next_auto = Some(now + interval);
        }
        due
    }

    /// Any commit, repeated, if none was acknowledged for long, or one is needed now; else when that will be so.
    fn proof_of_life(
        &self,
        at: Moment,
        prove: bool,
        committable: &mut Committable<'_>,
    ) -> Result<(u64, (Run, Position)), Option<Instant>> {
        let Some(due) = self.last_write.map(|at| at + self.settings.proof_of_life) else { return Err(None) };
        if due > at.elapsed && !prove {
            return Err(Some(at.now + (due - at.elapsed)));
        }
        let mut slots = self.slots.iter().filter(|(_, slot)| slot.claimed && slot.refused.is_none());
        let proof = |(token, slot): (&u64, &Slot)| {
            let (run, position) = committable(*token)?;
            let (known, sent) = slot.sent?;
            // No more than was sent before: what is complete waits for its interval, or for its user. Nor more than can be
            // committed since a seek: the log of before may be gone.
            let proof = match () {
                () if known == run => sent,
                () if sent.offset < position.offset => sent.in_a_log_with(position),
                () => position,
            };
            Some((*token, (run, proof)))
        };
        slots.find_map(proof).ok_or(None)
    }

    fn send(
        &mut self,
        sent: Moment,
        membership: &Membership,
        offsets: BTreeMap<u64, (Run, Position)>,
        is_flush: bool,
    ) -> OffsetCommitRequest {
        let mut topics = BTreeMap::<Str, Vec<OffsetCommitRequestPartition>>::new();
        for (token, (run, position)) in &offsets {
            let Some(slot) = self.slots.get_mut(token) else { continue };
            slot.sent = Some((*run, *position));
            topics.entry(slot.partition.topic.clone()).or_default().push(OffsetCommitRequestPartition {
                partition_index: slot.partition.partition,
                committed_offset: position.offset,
                committed_leader_epoch: position.epoch,
                committed_metadata: Some(slot.metadata_for(*position)),
            });
        }
        let topics = topics.into_iter().map(|(name, partitions)| OffsetCommitRequestTopic {
            name,
            partitions,
            ..OffsetCommitRequestTopic::default()
        });
        let request = OffsetCommitRequest {
            group_id: membership.group_id.clone(),
            generation_id_or_member_epoch: membership.generation_id,
            member_id: membership.member_id.clone(),
            group_instance_id: membership.instance_id.clone(),
            topics: topics.collect(),
            ..OffsetCommitRequest::default()
        };
        self.in_flight = Some(InFlight { sent, membership: membership.clone(), offsets, is_flush });
        request
    }

    /// The coordinator answered.
    pub fn on_answer(&mut self, at: Moment, response: &OffsetCommitResponse) -> Committed {
        let mut outcome = Committed::default();
        let Some(in_flight) = self.in_flight.take() else { return outcome };
        let mut repeat = false;
        for (token, (run, position)) in &in_flight.offsets {
            let Some(slot) = self.slots.get_mut(token) else { continue };
            let code = code_for(response, &slot.partition);
            match verdict(code) {
                Verdict::Written => {
                    outcome.acknowledged.push((slot.partition.clone(), position.offset));
                    outcome.claimed.extend(slot.acknowledge(*run, *position).then_some(*token));
                    slot.doubt = slot.doubt.take().filter(|doubt| doubt.membership == in_flight.membership);
                    if let Some(doubt) = &mut slot.doubt {
                        doubt.due = at.now + self.settings.proof_of_life;
                    }
                }
                Verdict::Refused => {
                    slot.refused = Some((code, at.now + REFUSED_PAUSE));
                    outcome.refused.push((slot.partition.clone(), code));
                }
                Verdict::Rejected { repeat: again } => {
                    outcome.rejected = Some((in_flight.membership.clone(), code));
                    repeat |= again;
                    self.asked |= in_flight.is_flush;
                }
                Verdict::Unknown if slot.unknown >= LONGEST_UNKNOWN => {
                    slot.refused = Some((code, at.now + REFUSED_PAUSE));
                    outcome.refused.push((slot.partition.clone(), code));
                }
                Verdict::Unknown => {
                    slot.unknown += 1;
                    repeat = true;
                    self.asked |= in_flight.is_flush;
                }
                Verdict::Repeat { moved } => {
                    outcome.moved |= moved;
                    repeat = true;
                    self.asked |= in_flight.is_flush;
                }
            }
        }
        if repeat {
            self.back_off(at, in_flight.membership.clone());
        } else if outcome.rejected.is_some() {
            self.refused = Some(in_flight.membership.clone());
        } else {
            self.failures = 0;
            self.backing_off = None;
        }
        if !outcome.acknowledged.is_empty() {
            self.last_write = self.last_write.max(Some(in_flight.sent.elapsed));
            outcome.written = Some((in_flight.sent, in_flight.membership));
        }
        outcome
    }

    /// The request cannot be made, and repeating it would not help: all that it has was answered with `code`.
    pub fn on_refused(&mut self, at: Moment, code: ErrorCode) -> Committed {
        let mut outcome = Committed::default();
        let Some(in_flight) = self.in_flight.take() else { return outcome };
        for token in in_flight.offsets.keys() {
            if let Some(slot) = self.slots.get_mut(token) {
                slot.refused = Some((code, at.now + REFUSED_PAUSE));
                outcome.refused.push((slot.partition.clone(), code));
            }
        }
        outcome
    }

    /// There will be no answer: it is not known whether the request was carried out.
    pub fn on_lost(&mut self, at: Moment) {
        let Some(in_flight) = self.in_flight.take() else { return };
        for token in in_flight.offsets.keys() {
            if let Some(slot) = self.slots.get_mut(token) {
                slot.written = None;
                slot.doubt = Some(Doubt { membership: in_flight.membership.clone(), due: at.now });
            }
        }
        self.asked |= in_flight.is_flush;
        self.back_off(at, in_flight.membership);
    }

    fn back_off(&mut self, at: Moment, membership: Membership) {
        self.failures = self.failures.saturating_add(1);
        let until = at.now + self.settings.backoff.delay(self.failures, at.random);
        self.backing_off = Some((until, membership));
    }
}

impl Slot {
    /// Whoever asks wants to know whether it works now.
    fn ask(&mut self) {
        self.refused = None;
        self.written = self.written.filter(|_| self.doubt.is_none());
    }

    fn is_dirty(&self, position: Position) -> bool {
        self.written.is_none_or(|(_, written)| !is_at(written, position))
    }

    /// Within a run no commit is below an earlier one.
    fn at_least_sent(&self, run: Run, position: Position) -> Position {
        match self.sent {
            Some((known, sent)) if known == run && sent.offset > position.offset => sent,
            _ => position,
        }
    }

    /// What was committed last and has to be repeated, and when.
    fn repeat(&self, run: Run, membership: &Membership) -> Option<(Instant, Position)> {
        let doubt = self.doubt.as_ref().filter(|doubt| doubt.membership == *membership)?;
        let (_, sent) = self.sent.filter(|(known, _)| *known == run)?;
        Some((doubt.due, sent))
    }

    /// Whether the coordinator has all that is in front of this place of this run.
    fn has(&self, run: Run, place: Position) -> bool {
        self.written.is_some_and(|(known, written)| match known {
            Some(known) if known == run => written.offset >= place.offset,
            _ => is_at(written, place),
        })
    }

    /// `true`: this was the claim.
    fn acknowledge(&mut self, run: Run, position: Position) -> bool {
        self.written = Some((Some(run), position));
        self.refused = None;
        self.unknown = 0;
        !std::mem::replace(&mut self.claimed, true)
    }

    /// What others have written beside an offset stays with it.
    fn metadata_for(&self, position: Position) -> Str {
        match &self.found {
            Some(found) if found.offset == position.offset => found.metadata.clone(),
            _ => Str::EMPTY,
        }
    }
}

/// What an error code says about one partition of a commit.
enum Verdict {
    Written,
    /// The membership is not what it was. `repeat`: under the same generation it may be accepted later.
    Rejected {
        repeat: bool,
    },
    /// Later. `moved`: another node is the coordinator.
    Repeat {
        moved: bool,
    },
    /// There is no such partition, or the broker does not know of it yet.
    Unknown,
    /// Repeating it would not help.
    Refused,
}

fn verdict(code: ErrorCode) -> Verdict {
    match code {
        ErrorCode::NONE => Verdict::Written,
        ErrorCode::UNKNOWN_MEMBER_ID
        | ErrorCode::ILLEGAL_GENERATION
        | ErrorCode::FENCED_INSTANCE_ID
        | ErrorCode::STALE_MEMBER_EPOCH
        | ErrorCode::FENCED_MEMBER_EPOCH => Verdict::Rejected { repeat: false },
        ErrorCode::REBALANCE_IN_PROGRESS => Verdict::Rejected { repeat: true },
        ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => Verdict::Repeat { moved: true },
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => Verdict::Unknown,
        // The broker itself does not know what went wrong.
        ErrorCode::UNKNOWN_SERVER_ERROR => Verdict::Repeat { moved: false },
        code if code.is_retriable() => Verdict::Repeat { moved: false },
        _ => Verdict::Refused,
    }
}

/// What was answered for a partition. What was left out has failed in a way that nobody has told.
fn code_for(response: &OffsetCommitResponse, partition: &TopicPartition) -> ErrorCode {
    let topic = response.topics.iter().find(|topic| topic.name == partition.topic);
    let mut parts = topic.into_iter().flat_map(|topic| &topic.partitions);
    parts
        .find(|part| part.partition_index == partition.partition)
        .map_or(ErrorCode::UNKNOWN_SERVER_ERROR, |part| part.error_code)
}

/// Whether what is committed says all that is known of this place. Of another epoch it is a place in a log that was cut.
fn is_at(committed: Position, place: Position) -> bool {
    committed.offset == place.offset && (place.epoch < 0 || place.epoch == committed.epoch)
}

fn earlier(known: Option<Instant>, other: Instant) -> Option<Instant> {
    Some(known.map_or(other, |known| known.min(other)))
}
