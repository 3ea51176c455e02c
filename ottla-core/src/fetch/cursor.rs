//! One partition: where it stands, and why.
//!
//! ```text
//!            seek(Earliest, Latest, Timestamp)            seek(At)
//!                      │                                    │
//!                      ▼        offset known                ▼
//!   ┌─────────────▶ Resolving ─────────────────────────▶ Fetching ◀────────────── log intact,
//!   │                  ▲                                 │  │  │                  or cut in front of us
//!   │ reset policy     │ reset policy        new leader  │  │  └─────▶ Validating ──────┤
//!   │                  │                     epoch       │  │                           │ cut behind us, policy: back to
//!   │                  │                                 │  │                           │ where the log differs
//!   │                Draining ◀──────────────────────────┘  │                           │
//!   │  trouble while   │  no policy helps                   │ corrupt twice             │ cut behind us, no policy
//!   │  records wait    ▼                                    ▼                           ▼
//!   └──────────────── Held ◀────────────────────────────────┴───────────────────────────┘
//!        seek          told to the user once
//! ```
//!
//! A member of a group begins at the committed offset (*Validating*, if its leader epoch is known); where there is none,
//! with the reset policy (*Resolving*), or *Held*.
//!
//! Two positions: `position` is the next record to hand out, `fetch` the next to ask a broker for. What lies between
//! them waits in the queue. The *generation* grows when either of them moves otherwise than forward record by record (seek,
//! reset, truncation, a second try at a corrupt batch): what was asked for, fetched or unpacked under an older
//! generation is dropped wherever it turns up. A new leader and a pause change no byte of the log: they keep what is
//! buffered, and nothing is fetched twice.

use std::time::{Instant, SystemTime};

use ottla_protocol::{ErrorCode, Str, TopicId, batch::BatchError};

use super::{
    EpochEnd, OffsetSpec, Pause, Position, Query, Reset, Tick, Trouble,
    budget::Account,
    buffer::RangeQueue,
    source::Source,
    trouble::{NO_COMMITTED_OFFSET, Remedy, remedy},
    truncation::{Trail, Verdict},
};
use crate::{backoff::BackoffPolicy, metadata::LIE_BELIEVED};

/// One assigned partition.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) topic: Str,
    pub(super) partition: i32,
    pub(super) topic_id: TopicId,
    pub(super) leader: Option<i32>,
    pub(super) leader_epoch: i32,
    source: Source,
    pub(super) known: bool,
    pub(super) generation: u64,
    /// How often the user has moved it: what was handed out before is out of date.
    pub(super) seeks: u64,
    pub(super) phase: Phase,
    /// The next record to hand out; `None` until it is known.
    pub(super) position: Option<Position>,
    /// The next record to fetch; meaningful once `position` is known.
    pub(super) fetch: Position,
    /// The epochs of what was read up to `fetch`.
    pub(super) trail: Trail,
    /// While `fetch` is being validated: the log is known to be another one from here on, and asked whether it is so in front
    /// of it.
    parts_at: Option<Position>,
    pub(super) queue: RangeQueue,
    /// A range is being unpacked by somebody's `poll`: order demands that nobody takes the next one meanwhile.
    pub(super) lent: bool,
    /// It stands in line for `poll`.
    pub(super) listed: bool,
    /// Something else has to be handed out first.
    pub(super) held_back: bool,
    /// It is handed out to a reader of its own, and to nobody else.
    pub(super) reserved: bool,
    pub(super) account: Account,
    pub(super) log: LogMarks,
    pub(super) pauses: Vec<Paused>,
    pub(super) retry: Retry,
    /// Where the bytes were found corrupt once.
    corrupt: Option<i64>,
    /// The newest epoch in which a fetch was answered; -1 if none has. No metadata can make it untrue.
    proven_epoch: i32,
    /// Since when the leader does not know the epoch of `fetch`.
    epoch_unknown_since: Option<Instant>,
    /// How often the part of an answer was doubled because no batch fitted into it.
    pub(super) stretch: u32,
    /// The generation and offset that were asked for beside a long poll.
    pub(super) caught_up: Option<(u64, i64)>,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// The offset of the position is asked for.
    Resolving { target: Target, reset: Option<ResetNote> },
    /// The leader is asked whether its log is still the one that was read.
    Validating,
    /// All is well.
    Fetching,
    /// Something is wrong at `fetch`; what was buffered in front of it is handed out first.
    Draining { trouble: Trouble },
    /// The user decides.
    Held { trouble: Trouble, told: bool },
}

/// What a position is resolved from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Spec(OffsetSpec),
    /// A duration counts from the moment of asking.
    Policy(Reset),
}

const LATEST: Target = Target::Spec(OffsetSpec::Latest);

/// Where reading begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Where the user says.
    At(OffsetSpec),
    /// What a group has committed. With a leader epoch, the leader is asked first whether its log is still the one that
    /// was read (KIP-320).
    Committed(Position),
    /// The group has committed nothing.
    Missing {
        /// The group.
        group: Str,
        /// Where to begin then.
        policy: Reset,
    },
    /// It may not be known what the group has committed: only the user can say where to begin.
    Refused(ErrorCode),
}

/// Why a position is being reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResetNote {
    pub(super) from: Option<i64>,
    pub(super) reason: &'static str,
    /// `from` was an offset of another log.
    pub(super) other_log: bool,
}

/// What the leader said about its log; -1 for what it did not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogMarks {
    /// The oldest offset.
    pub start: i64,
    /// Behind the newest record that every replica has: as far as anybody may read.
    pub high_watermark: i64,
    /// Behind the newest record of which it is decided whether it is committed.
    pub last_stable: i64,
}

impl Default for LogMarks {
    fn default() -> Self {
        Self { start: -1, high_watermark: -1, last_stable: -1 }
    }
}

/// One pause of several that may hold at once.
#[derive(Debug)]
pub(super) struct Paused {
    pub(super) id: u64,
    pub(super) pause: Pause,
    pub(super) since: Instant,
}

/// When to try again after errors.
#[derive(Debug, Default)]
pub(super) struct Retry {
    pub(super) at: Option<Instant>,
    failures: u32,
    pub(super) last: Option<ErrorCode>,
}

impl Retry {
    fn after(&mut self, code: Option<ErrorCode>, tick: Tick, policy: &BackoffPolicy) {
        self.failures = self.failures.saturating_add(1);
        let waits = !planted!("no-backoff-after-an-error");
        self.at = waits.then(|| tick.now + policy.delay(self.failures, tick.random));
        self.last = code;
    }

    /// Whether it is too early; then until when.
    pub(super) fn blocked(&self, now: Instant) -> Option<Instant> {
        self.at.filter(|at| *at > now)
    }
}

/// What the cluster says about a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaderNews {
    /// Nothing: there is no such topic or partition, or it is not known yet.
    Unknown,
    /// The topic may not be read, or cannot exist.
    Refused(ErrorCode),
    /// It exists.
    Known {
        /// The topic's id; zero on clusters without topic ids.
        topic_id: TopicId,
        /// Who leads it, if anybody does.
        leader: Option<i32>,
        /// Under which epoch; -1 if unknown.
        epoch: i32,
    },
}

impl Cursor {
    pub(super) fn new(topic: Str, partition: i32, start: Start) -> Self {
        let mut cursor = Self {
            topic,
            partition,
            topic_id: TopicId::ZERO,
            leader: None,
            leader_epoch: -1,
            source: Source::Leader,
            known: false,
            generation: 0,
            seeks: 0,
            phase: Phase::Fetching,
            position: None,
            fetch: Position::at(0),
            trail: Trail::default(),
            parts_at: None,
            queue: RangeQueue::default(),
            lent: false,
            listed: false,
            held_back: false,
            reserved: false,
            account: Account::default(),
            log: LogMarks::default(),
            pauses: Vec::new(),
            retry: Retry::default(),
            corrupt: None,
            proven_epoch: -1,
            epoch_unknown_since: None,
            stretch: 0,
            caught_up: None,
        };
        match start {
            Start::At(spec) => cursor.go_to(Target::Spec(spec), None),
            Start::Committed(position) => cursor.place_in_doubt(position),
            Start::Refused(code) => {
                cursor.phase = Phase::Held { trouble: Trouble::Refused { code }, told: false };
            }
            Start::Missing { group, policy: Reset::Error } => {
                cursor.phase = Phase::Held { trouble: Trouble::NoCommittedOffset { group }, told: false };
            }
            Start::Missing { policy, .. } => {
                let note = ResetNote { from: None, reason: NO_COMMITTED_OFFSET, other_log: false };
                cursor.go_to(Target::Policy(policy), Some(note));
            }
        }
        cursor
    }

    pub(super) fn is_paused(&self) -> bool {
        !self.pauses.is_empty()
    }

    /// The user wants to go on somewhere else. It also ends a hold.
    pub(super) fn seek(&mut self, spec: OffsetSpec) {
        self.corrupt = None;
        self.proven_epoch = -1;
        self.seeks += 1;
        self.go_to(Target::Spec(spec), None);
    }

    fn go_to(&mut self, target: Target, reset: Option<ResetNote>) {
        self.invalidate();
        match target {
            Target::Spec(OffsetSpec::At(offset)) => self.place(Position::at(offset)),
            Target::Spec(OffsetSpec::AtEpoch { offset, leader_epoch }) => {
                self.place_in_doubt(Position::with_epoch(offset, leader_epoch));
            }
            target => {
                self.position = None;
                self.phase = Phase::Resolving { target, reset };
            }
        }
    }

    fn place(&mut self, position: Position) {
        self.trail.go_on_behind(position);
        self.position = Some(position);
        self.fetch = position;
        self.phase = Phase::Fetching;
    }

    /// Goes on at a place of a log that may have been cut since.
    fn place_in_doubt(&mut self, position: Position) {
        self.place(position);
        if position.epoch >= 0 {
            self.phase = Phase::Validating;
        }
    }

    /// From here on, nothing that was asked for, fetched or taken before counts.
    fn invalidate(&mut self) {
        self.generation += 1;
        self.queue.clear();
        self.lent = false;
        self.parts_at = None;
        self.stretch = 0;
        self.retry = Retry::default();
    }

    /// The epoch that whoever answers has to have reached: the leader's, or that of what was read or committed, when the
    /// cluster's word is older than that. Who was deposed since then refuses (UNKNOWN_LEADER_EPOCH), where it would speak
    /// of a log that it does not have otherwise (KIP-320). -1 if the cluster says nothing of epochs.
    pub(super) fn epoch_to_know(&self) -> i32 {
        if self.leader_epoch < 0 { -1 } else { self.leader_epoch.max(self.fetch.epoch) }
    }

    /// The cluster's newest word. What is older than what is known has been sorted out already
    /// ([`MetadataCache`](crate::metadata::MetadataCache)): an epoch that goes back all the same takes a lie back, and a place
    /// of that epoch is of unknown epoch. But it goes back behind no epoch that was read in: then whoever says so was
    /// deposed, is the only one whom the client reaches, and would have it read a log that is over.
    pub(super) fn on_leader(&mut self, news: LeaderNews) {
        self.known = matches!(news, LeaderNews::Known { .. });
        let (topic_id, leader, epoch) = match news {
            LeaderNews::Known { topic_id, leader, epoch } => (topic_id, leader, epoch),
            LeaderNews::Refused(code) => return self.on_refused(code),
            // A topic that is gone may come back, and a broker that starts knows no topics.
            LeaderNews::Unknown => return,
        };
        let recreated = !topic_id.is_zero() && !self.topic_id.is_zero() && topic_id != self.topic_id;
        // Without topic ids, a topic that was made anew tells so by nothing else.
        if !recreated && !topic_id.is_zero() && (0..self.proven_epoch).contains(&epoch) {
            return;
        }
        if !recreated && (0..self.leader_epoch).contains(&epoch) {
            self.disbelieve(epoch);
        }
        if !topic_id.is_zero() {
            self.topic_id = topic_id;
        }
        let (was, was_epoch) = (self.leader, self.leader_epoch);
        self.leader = leader;
        self.leader_epoch = epoch;
        if recreated {
            self.read_from(Source::Leader);
            self.on_recreated();
        } else if (leader, epoch) != (was, was_epoch) {
            (self.retry, self.parts_at) = (Retry::default(), None);
            self.read_from(Source::Leader);
            let unread = self.fetch.epoch < 0;
            if matches!(self.phase, Phase::Fetching) && epoch > was_epoch && !unread {
                self.phase = Phase::Validating;
            }
        }
    }

    /// No leader was ever in an epoch behind this one.
    fn disbelieve(&mut self, epoch: i32) {
        for place in [Some(&mut self.fetch), self.position.as_mut()].into_iter().flatten() {
            if place.epoch > epoch {
                *place = Position::at(place.offset);
            }
        }
        self.trail.disbelieve(epoch);
        self.parts_at = None;
        if self.fetch.epoch < 0 {
            // There is nothing left to compare logs by.
            self.skip_validation();
        }
    }

    fn on_refused(&mut self, code: ErrorCode) {
        let hopeless = remedy(code) == Remedy::Hold;
        if hopeless && !matches!(self.phase, Phase::Draining { .. } | Phase::Held { .. }) {
            self.phase = Phase::Draining { trouble: Trouble::Refused { code } };
        }
    }

    fn on_recreated(&mut self) {
        self.retry = Retry::default();
        self.log = LogMarks::default();
        self.proven_epoch = -1;
        if matches!(self.phase, Phase::Fetching | Phase::Validating) {
            let offset = self.fetch.offset;
            self.phase = Phase::Draining { trouble: Trouble::Recreated { offset } };
        }
    }

    /// The leader said where the wanted place is. `None`: there is no record of that time or later.
    /// Gives the reset that is done with it, if it was one.
    pub(super) fn on_resolved(
        &mut self,
        found: Option<Position>,
        tick: Tick,
        backoff: &BackoffPolicy,
    ) -> Option<(ResetNote, Position)> {
        let Phase::Resolving { target, reset } = &mut self.phase else { return None };
        let Some(position) = found else {
            // The end of the log is always somewhere: a leader that does not know where is asked again.
            if *target == LATEST {
                self.retry.after(None, tick, backoff);
            }
            *target = LATEST;
            return None;
        };
        let note = reset.take().map(|note| (note, position));
        self.retry = Retry::default();
        self.place(position);
        self.trail.begin_at(position);
        note
    }

    /// The leader said where the epoch of `fetch` ends in its log, or a fetch came back with that in place of records.
    /// Gives the reset that follows from it, if one does.
    pub(super) fn on_epoch_end(&mut self, end: EpochEnd, policy: Reset) -> Option<(ResetNote, Position)> {
        let position = self.position?;
        self.retry = Retry::default();
        let verdict = match (self.trail.judge(self.doubtful(), end), self.parts_at) {
            // Up to the place where it is known to be another one.
            (Verdict::Intact, Some(place)) => Verdict::Diverged(place),
            (verdict, _) => verdict,
        };
        self.parts_at = None;
        match verdict {
            Verdict::AskAbout(place) => {
                self.parts_at = Some(place);
                self.phase = Phase::Validating;
                None
            }
            Verdict::Intact => {
                if !planted!("validation-loop") {
                    self.phase = Phase::Fetching;
                }
                None
            }
            Verdict::Diverged(cut) if cut.offset >= position.offset => {
                // Only what nobody has seen yet is different: fetched again, it is the new log's.
                self.invalidate();
                self.place(position);
                None
            }
            Verdict::Diverged(cut) if policy != Reset::Error => {
                let from = Some(position.offset);
                self.invalidate();
                self.place(cut);
                Some((ResetNote { from, reason: "log truncated", other_log: false }, cut))
            }
            Verdict::Diverged(cut) => {
                self.lose(
                    Trouble::Truncated { offset: position.offset, divergent: Some(cut.offset) },
                    policy,
                );
                None
            }
            Verdict::Unknown => {
                self.lose(Trouble::Truncated { offset: position.offset, divergent: None }, policy);
                None
            }
        }
    }

    /// The place of whose epoch the leader is asked.
    pub(super) fn doubtful(&self) -> Position {
        self.parts_at.unwrap_or(self.fetch)
    }

    /// The leader cannot be asked (an old broker): the position counts as good, as it did before KIP-320.
    pub(super) fn skip_validation(&mut self) {
        if matches!(self.phase, Phase::Validating) {
            self.phase = Phase::Fetching;
        }
    }

    /// A broker refused to fetch at `fetch`. Says whether the cluster has to be asked who leads the partition.
    pub(super) fn on_fetch_error(&mut self, code: ErrorCode, tick: Tick, backoff: &BackoffPolicy) -> bool {
        self.on_unknown_epoch(code, tick);
        let remedy = remedy(code);
        match remedy {
            Remedy::Reset => {
                self.phase = Phase::Draining { trouble: Trouble::OutOfRange { offset: self.fetch.offset } };
            }
            Remedy::Refetch => {
                self.retry.after(Some(code), tick, backoff);
                self.on_corrupt_at_fetch(None);
            }
            Remedy::Hold => self.phase = Phase::Draining { trouble: Trouble::Refused { code } },
            Remedy::Reroute | Remedy::Retry => self.retry.after(Some(code), tick, backoff),
        }
        remedy == Remedy::Reroute
    }

    /// A broker refused to say where an offset or an epoch is. Says whether the cluster has to be asked who leads the
    /// partition.
    pub(super) fn on_look_up_error(&mut self, code: ErrorCode, tick: Tick, backoff: &BackoffPolicy) -> bool {
        self.on_unknown_epoch(code, tick);
        let remedy = remedy(code);
        if remedy == Remedy::Hold {
            self.phase = Phase::Draining { trouble: Trouble::Refused { code } };
        } else {
            self.retry.after(Some(code), tick, backoff);
        }
        remedy == Remedy::Reroute
    }

    /// What was read or committed is of an epoch that the leader does not know. It may have been deposed, and the cluster
    /// says so soon. It does not: then there never was such an epoch, and somebody has lied.
    fn on_unknown_epoch(&mut self, code: ErrorCode, tick: Tick) {
        let known = self.fetch.epoch <= self.leader_epoch.max(self.proven_epoch);
        if code != ErrorCode::UNKNOWN_LEADER_EPOCH || known {
            self.epoch_unknown_since = None;
            return;
        }
        let since = *self.epoch_unknown_since.get_or_insert(tick.now);
        if tick.now >= since + LIE_BELIEVED {
            self.disbelieve(self.leader_epoch);
            self.epoch_unknown_since = None;
        }
    }

    /// An answer brought bytes of which nothing is of use; asking again at once would go on for ever.
    pub(super) fn on_useless_answer(&mut self, tick: Tick, backoff: &BackoffPolicy) {
        self.retry.after(None, tick, backoff);
    }

    /// A leader or a replica has answered, in this epoch.
    pub(super) fn on_proven_epoch(&mut self, epoch: i32) {
        self.proven_epoch = self.proven_epoch.max(epoch);
    }

    /// An answer was good.
    pub(super) fn on_success(&mut self) {
        self.retry = Retry::default();
        self.epoch_unknown_since = None;
    }

    /// What was fetched at `fetch` does not begin with a batch.
    pub(super) fn on_corrupt_at_fetch(&mut self, cause: Option<BatchError>) {
        let offset = self.fetch.offset;
        if self.corrupt == Some(offset) {
            self.phase = Phase::Draining { trouble: Trouble::Corrupt { offset, cause } };
        }
        self.corrupt = Some(offset);
        self.read_from(Source::Leader);
    }

    /// A range was unpacked: the records up to `next` are handed out.
    pub(super) fn on_handed_out(&mut self, next: Position) {
        self.lent = false;
        self.position = Some(next);
        // The second try was good.
        if self.corrupt.is_some_and(|offset| offset < next.offset) {
            self.corrupt = None;
        }
    }

    /// The batch at the position cannot be read: it is fetched once more, then the partition is held.
    pub(super) fn on_corrupt_at_position(&mut self, cause: BatchError) {
        let Some(position) = self.position else { return };
        let again = self.corrupt == Some(position.offset);
        self.invalidate();
        self.place(position);
        self.corrupt = Some(position.offset);
        self.read_from(Source::Leader);
        if again {
            let (offset, cause) = (position.offset, Some(cause));
            self.phase = Phase::Held { trouble: Trouble::Corrupt { offset, cause }, told: false };
        }
    }

    /// What is wrong at `fetch` is dealt with once everything in front of it is handed out.
    pub(super) fn settle(&mut self, policy: Reset) {
        if let Phase::Draining { trouble } = &self.phase
            && self.queue.is_empty()
            && !self.lent
        {
            let trouble = trouble.clone();
            self.lose(trouble, policy);
        }
    }

    fn lose(&mut self, trouble: Trouble, policy: Reset) {
        if policy != Reset::Error && trouble.is_lost_position() {
            let from = self.position.map(|position| position.offset);
            let other_log = matches!(trouble, Trouble::Recreated { .. });
            let note = ResetNote { from, reason: trouble.reason(), other_log };
            self.go_to(Target::Policy(policy), Some(note));
        } else {
            self.invalidate();
            self.phase = Phase::Held { trouble, told: false };
        }
    }

    /// Whom to ask for records: the leader, or the replica that it has named.
    pub(super) fn source(&self, now: Instant) -> Option<i32> {
        self.source.replica(now).or(self.leader)
    }

    /// Whether `node` is the one, or was when it was asked.
    pub(super) fn may_answer(&self, node: i32) -> bool {
        self.leader == Some(node) || self.source.is_replica(node)
    }

    /// When the leader is asked again, if somebody else is asked in its place.
    pub(super) fn returns_at(&self, now: Instant) -> Option<Instant> {
        self.source.returns_at(now)
    }

    /// Whether whoever is asked is told where the client stands. The second try at a corrupt batch is the leader's.
    pub(super) fn tells_rack(&self, now: Instant) -> bool {
        self.corrupt.is_none() && self.source.tells_rack(now)
    }

    fn read_from(&mut self, source: Source) {
        if self.source != source {
            // Whoever it is has not been asked.
            (self.source, self.caught_up) = (source, None);
        }
    }

    /// The leader has answered, with the replica to read from for a while, or without.
    pub(super) fn on_named(&mut self, node: i32, until: Instant, tick: Tick, backoff: &BackoffPolicy) {
        // It is not to send us to a replica that is of no use, and knows better: not as fast as we can.
        if !self.tells_rack(tick.now) || self.leader == Some(node) {
            self.retry.after(None, tick, backoff);
        } else {
            self.on_success();
        }
        if self.leader != Some(node) {
            self.read_from(Source::Replica { node, until });
        }
    }

    /// The leader gives its records itself.
    pub(super) fn on_served_by_leader(&mut self) {
        if matches!(self.source, Source::Replica { .. }) {
            self.read_from(Source::Leader);
        }
    }

    /// The replica `node` refused, or cannot be reached: its leader knows better, also whether the offset is in the log.
    /// Gives whether anything changes by that.
    pub(super) fn on_replica_failed(&mut self, node: i32, now: Instant) -> bool {
        let was_read = self.source.is_replica(node);
        if was_read {
            self.read_from(Source::leader_alone(now));
        }
        was_read
    }

    /// The replica that is read, if it is not `in_sync`, is not read any more: what it lacks would come late.
    pub(super) fn on_replicas(&mut self, in_sync: impl FnOnce(&str, i32, i32) -> bool) {
        if let Source::Replica { node, .. } = self.source
            && !in_sync(&self.topic, self.partition, node)
        {
            self.read_from(Source::Leader);
        }
    }

    /// The offset or the timestamp to ask the leader for, while the position is being resolved.
    pub(super) fn query(&self, wall: SystemTime) -> Option<Query> {
        let Phase::Resolving { target, .. } = &self.phase else { return None };
        match target {
            Target::Spec(spec) => Some(spec.to_query()),
            // A policy that names no place is never a target: see `lose`.
            Target::Policy(policy) => policy.spec(wall).map(OffsetSpec::to_query),
        }
    }

    /// Whether `poll` has something to do here.
    pub(super) fn is_ready(&self) -> bool {
        !self.reserved && self.has_something()
    }

    /// Whether there is something for whoever reads the partition.
    pub(super) fn has_something(&self) -> bool {
        if self.lent {
            return false;
        }
        match &self.phase {
            Phase::Held { told, .. } => !told,
            _ => !self.queue.is_empty() && !self.is_paused() && !self.held_back,
        }
    }

    /// Whether the log that was read is gone, and the place in the one that has its name now is not found yet.
    pub(super) fn is_log_gone(&self) -> bool {
        match &self.phase {
            Phase::Draining { trouble } | Phase::Held { trouble, .. } => {
                matches!(trouble, Trouble::Recreated { .. })
            }
            Phase::Resolving { reset, .. } => reset.as_ref().is_some_and(|note| note.other_log),
            Phase::Fetching | Phase::Validating => false,
        }
    }

    /// Whether it is held, and its reader was not told.
    pub(super) fn has_trouble(&self) -> bool {
        matches!(self.phase, Phase::Held { told: false, .. })
    }
}
