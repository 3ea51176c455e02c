//! Everything that waits to be written to one partition, in order.
//!
//! ```text
//!                    full, or due                compressed
//!  append ──▶ open ───────────────▶ closed ─────────────────▶ ready ────────── next ─────────▶ in flight
//!               │                                             ▲  ▲                              │ │ │
//!               └── due, no codec ────────────────────────────┘  └── again: same bytes, ────────┘ │ │
//!                                                                    or renumbered, or split      │ │
//!                                                                         settled: written ◀──────┘ │
//!                                                                                or failed ◀────────┘
//! ```
//!
//! Batches stay in the order in which their records were appended, whatever becomes of each. From the first sending on
//! a batch has a sequence, and until its fate is known its bytes never change: it is sent again as it is, alone, before
//! anything behind it that was not yet sent. What the caller was told at the deadline does not change that.
//!
//! Where a numbered batch leaves without being written, the numbers behind it are of no use. Then the epoch is raised
//! and everything that is left is numbered anew from 0, but only once nothing is in doubt: a batch that was written
//! under the old epoch would not be recognised under the new one.

mod send;
mod settle;

use std::{
    collections::VecDeque,
    mem,
    time::{Duration, Instant},
};

use ottla_protocol::batch::{AppendError, BatchBuilder, RecordHeader, SealedBatch};

use super::{
    in_flight::{Leader, Window},
    outcome::{Doubt, Fate},
    sequence::{ProducerIdentity, Sequences, Stamp},
};
use crate::backoff::BackoffPolicy;

/// What all partitions of a producer have in common.
#[derive(Debug, Clone, Copy)]
pub struct QueueSettings {
    /// Bytes at which a batch is full, header included and before compression. A larger record gets its own batch.
    pub batch_size: usize,
    /// How long an open batch waits for more records at most (`linger.ms`).
    pub linger: Duration,
    /// How long after its first record a batch is told of its fate at the latest (`delivery.timeout.ms`).
    pub delivery_timeout: Duration,
    /// How long a broker may not know the topic before its records fail.
    pub unknown_topic_grace: Duration,
    /// Batches of this partition in flight at most, up to [`MAX_IN_FLIGHT`](super::MAX_IN_FLIGHT).
    pub max_in_flight: usize,
    /// Whether batches carry producer id and sequence (`enable.idempotence`).
    pub idempotent: bool,
    /// Whether batches are compressed.
    pub compressed: bool,
    /// Waits between attempts (`retry.backoff.ms`, `retry.backoff.max.ms`).
    pub backoff: BackoffPolicy,
}

/// Whom to tell what became of a batch.
pub trait Completion: Sized {
    /// Divides it: the first `at` records, and the rest.
    fn split(self, at: u32) -> (Self, Self);
}

/// Names one batch of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket(u64);

/// Why a record was not appended; nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no open batch: [`PartitionQueue::open`] one.
    NoBatch,
    /// The open batch is full: [`PartitionQueue::close`] it.
    Full,
    /// The open batch needs `to` bytes of memory: [`PartitionQueue::grow`] it.
    Grow {
        /// Bytes that the batch would have.
        to: usize,
    },
}

/// What to do next for a partition.
#[derive(Debug)]
pub enum Next {
    /// Send this batch; answer with [`PartitionQueue::settle`].
    Send(Outgoing),
    /// Compress this batch; answer with [`PartitionQueue::compressed`]. Ask again at once: another may be ready.
    Compress(Ticket, BatchBuilder),
    /// The next batch has more bytes than there is room for.
    NoRoom,
    /// Nothing before this moment, unless the broker is idle before: a batch lingers.
    Linger(Instant),
    /// Nothing before this moment: a failure is slept over.
    BackOff(Instant),
    /// Nothing before an answer, or a compressed batch, comes back.
    Waiting,
    /// A producer id is needed: [`PartitionQueue::adopt`].
    NeedsIdentity,
    /// Nobody leads the partition: [`PartitionQueue::set_leader`].
    NoLeader,
    /// Nothing is left to do.
    Empty,
}

/// A batch on its way out.
#[derive(Debug)]
pub struct Outgoing {
    /// Names it when it is settled.
    pub ticket: Ticket,
    /// The batch; [`Outgoing::stamp`] it before its bytes are taken.
    pub batch: SealedBatch,
    /// What has to be written into the header: an identity, or that there is none. `None` if the header has it.
    stamp: Option<Option<Stamp>>,
}

impl Outgoing {
    /// Writes the producer's identity and the checksum into the header, unless the batch has them from its first
    /// attempt. Apart from [`PartitionQueue::next`], since it reads every byte and needs no lock.
    pub fn stamp(&mut self) {
        match self.stamp.take() {
            Some(Some(stamp)) => {
                self.batch.stamp(stamp.identity.id, stamp.identity.epoch, stamp.base_sequence);
            }
            Some(None) => self.batch.stamp_without_producer(),
            None => {}
        }
    }
}

/// What there is to say of a batch that is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// How many records it has.
    pub records: u32,
    /// How often it was sent.
    pub attempts: u32,
    /// When its first record came.
    pub created: Instant,
}

/// A batch whose sender has to be told now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenUp<T> {
    /// Whom to tell.
    pub to: T,
    /// What is known of it.
    pub fate: Fate,
    /// Which batch it was.
    pub facts: Facts,
}

/// What came of an attempt.
#[derive(Debug)]
pub enum Settled<C> {
    /// The batch is in the log.
    Written {
        /// Whom to tell.
        completion: C,
        /// Offset of its first record, if the broker said.
        base_offset: Option<i64>,
        /// Which batch it was.
        facts: Facts,
    },
    /// The batch will not be sent again.
    Failed(GivenUp<C>),
    /// It will be sent again; `refresh` if another broker may be the right one.
    Again {
        /// Whether the cluster's metadata may be out of date.
        refresh: bool,
    },
    /// No such batch is in flight: nothing has changed.
    Unknown,
}

/// The batches of one partition. `C` is told what became of each.
#[derive(Debug)]
pub struct PartitionQueue<C> {
    settings: QueueSettings,
    open: Option<Open<C>>,
    batches: VecDeque<Batch<C>>,
    sequences: Sequences,
    window: Window,
    leader: Option<Leader>,
    next_ticket: u64,
    /// Failures in a row of the batch in front.
    failures: u32,
    retry_at: Option<Instant>,
    /// Since when every attempt ended with a broker that does not know the topic.
    unknown_since: Option<Instant>,
    /// A batch of this epoch was given up that may yet be written, and then the numbers behind it are in order.
    gap_in_doubt: bool,
}

#[derive(Debug)]
struct Open<C> {
    builder: BatchBuilder,
    /// How far it may grow before more memory has to be asked for.
    limit: usize,
    created: Instant,
    /// It is wanted on its way without lingering.
    hurried: bool,
    completion: C,
}

#[derive(Debug)]
struct Batch<C> {
    ticket: Ticket,
    state: State,
    count: u32,
    created: Instant,
    stamp: Option<Stamp>,
    /// The header has the stamp.
    stamped: bool,
    attempts: u32,
    /// Some attempt may have written it.
    in_doubt: bool,
    /// The caller was told at the deadline; only the order of the partition still depends on it.
    reported: bool,
    completion: C,
}

#[derive(Debug)]
enum State {
    Closed(BatchBuilder),
    Compressing,
    Ready(SealedBatch),
    /// To whom it was sent; to nobody who matters, if that log is gone.
    InFlight(Option<Leader>),
}

impl<C> Open<C> {
    fn given_up<T>(&self, tell: &mut impl FnMut(&C) -> T) -> GivenUp<T> {
        let facts = Facts { records: self.builder.len(), attempts: 0, created: self.created };
        GivenUp { to: tell(&self.completion), fate: Fate::NotWritten, facts }
    }
}

impl<C> Batch<C> {
    fn is_in_flight(&self) -> bool {
        matches!(self.state, State::InFlight(_))
    }

    /// What its sender has to be told if it is given up now.
    fn fate(&self) -> Fate {
        if self.in_doubt || self.is_in_flight() { Fate::PossiblyWritten } else { Fate::NotWritten }
    }

    fn identity(&self) -> Option<ProducerIdentity> {
        self.stamp.map(|stamp| stamp.identity)
    }

    fn facts(&self) -> Facts {
        Facts { records: self.count, attempts: self.attempts, created: self.created }
    }

    fn given_up<T>(&self, tell: &mut impl FnMut(&C) -> T) -> GivenUp<T> {
        GivenUp { to: tell(&self.completion), fate: self.fate(), facts: self.facts() }
    }

    fn doubt(&mut self, doubt: Doubt) {
        match doubt {
            Doubt::Cleared => self.in_doubt = false,
            Doubt::Kept => {}
            Doubt::Raised => self.in_doubt = true,
        }
    }
}

/// Records come in.
impl<C: Completion> PartitionQueue<C> {
    /// An empty queue of a partition whose leader is not known.
    #[must_use]
    pub fn new(settings: QueueSettings) -> Self {
        Self {
            window: Window::new(settings.max_in_flight),
            settings,
            open: None,
            batches: VecDeque::new(),
            sequences: Sequences::default(),
            leader: None,
            next_ticket: 0,
            failures: 0,
            retry_at: None,
            unknown_since: None,
            gap_in_doubt: false,
        }
    }

    /// Appends a record to the open batch; the result is its position there.
    ///
    /// # Errors
    /// What has to be done first; then try again.
    #[inline]
    pub fn append<'h, H>(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: H,
    ) -> Result<u32, Refusal>
    where
        H: ExactSizeIterator<Item = RecordHeader<'h>> + Clone,
    {
        let Some(open) = &mut self.open else { return Err(Refusal::NoBatch) };
        let batch_size = if open.builder.is_empty() { usize::MAX } else { self.settings.batch_size };
        match open.builder.append_within(open.limit.min(batch_size), timestamp, key, value, headers) {
            Ok(index) => Ok(index),
            Err(AppendError::Full { size, .. }) if size <= batch_size => Err(Refusal::Grow { to: size }),
            Err(_) => Err(Refusal::Full),
        }
    }

    /// Opens a batch in `buffer` that may grow to `limit` bytes. There must be no open one.
    pub fn open(&mut self, buffer: Vec<u8>, limit: usize, completion: C, now: Instant) {
        debug_assert!(self.open.is_none(), "a partition has one open batch");
        let builder = BatchBuilder::with_buffer(buffer);
        self.open = Some(Open { builder, limit, created: now, hurried: false, completion });
    }

    /// Allows the open batch `limit` bytes.
    pub fn grow(&mut self, limit: usize) {
        if let Some(open) = &mut self.open {
            open.limit = limit;
        }
    }

    /// Closes the open batch, since it is full; true if there was one with records.
    pub fn close(&mut self) -> bool {
        let Some(open) = self.open.take_if(|open| !open.builder.is_empty()) else { return false };
        let count = open.builder.len();
        let state = if self.settings.compressed {
            State::Closed(open.builder)
        } else {
            State::Ready(open.builder.seal())
        };
        let ticket = self.new_ticket();
        self.batches.push_back(Batch {
            ticket,
            state,
            count,
            created: open.created,
            stamp: None,
            stamped: false,
            attempts: 0,
            in_doubt: false,
            reported: false,
            completion: open.completion,
        });
        true
    }

    /// Timestamp of the open batch's first record, in milliseconds since 1970; `None` if the next record is the first.
    #[must_use]
    pub fn base_timestamp(&self) -> Option<i64> {
        self.filled().map(|open| open.builder.base_timestamp())
    }

    /// Whom the open batch reports to.
    pub fn open_completion(&mut self) -> Option<&mut C> {
        self.open.as_mut().map(|open| &mut open.completion)
    }

    /// Sends what is there without lingering.
    pub fn hurry(&mut self) {
        if let Some(open) = &mut self.open {
            open.hurried = true;
        }
    }

    /// Batches that are not written yet, the open one included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batches.len() + usize::from(self.filled().is_some())
    }

    /// Whether no batch is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether another batch could go as far as those in flight are concerned. While it could not, a batch that
    /// becomes full makes no difference to anybody.
    #[must_use]
    pub fn has_room_in_flight(&self) -> bool {
        self.leader.is_none_or(|leader| self.window.has_room(self.sequences.identity(), leader))
    }

    /// All whose fate is open, oldest first.
    pub fn completions(&self) -> impl Iterator<Item = &C> {
        let told = |batch: &&Batch<C>| !batch.reported;
        let batches = self.batches.iter().filter(told).map(|batch| &batch.completion);
        batches.chain(self.filled().map(|open| &open.completion))
    }

    /// The open batch, if it has records.
    fn filled(&self) -> Option<&Open<C>> {
        self.open.as_ref().filter(|open| !open.builder.is_empty())
    }

    fn new_ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }
}

/// Things change around the partition.
impl<C: Completion> PartitionQueue<C> {
    /// Who leads the partition.
    #[must_use]
    pub fn leader(&self) -> Option<Leader> {
        self.leader
    }

    /// Another leader, or none; true if that is news. What failed with the old one need not wait any longer.
    pub fn set_leader(&mut self, leader: Option<Leader>) -> bool {
        if self.leader == leader {
            return false;
        }
        self.leader = leader;
        self.retry_at = None;
        self.failures = 0;
        true
    }

    /// The topic was deleted and created again: nobody knows this producer any more.
    pub fn recreated(&mut self) {
        self.window.forget();
        // What is on its way went to the log that is gone: its answer says nothing of the new one, though the same node may
        // lead it, in the same epoch.
        for batch in self.batches.iter_mut().filter(|batch| batch.is_in_flight()) {
            batch.state = State::InFlight(None);
        }
        self.retry_at = None;
        self.unknown_since = None;
    }

    /// Takes over a producer id, if one is needed.
    pub fn adopt(&mut self, identity: ProducerIdentity) {
        if self.sequences.identity().is_none() {
            self.sequences.adopt(identity);
        }
    }

    /// Which producer id and epoch the partition has.
    #[must_use]
    pub fn identity(&self) -> Option<ProducerIdentity> {
        self.sequences.identity()
    }

    /// The first moment at which [`PartitionQueue::expire`] has something to do.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let batches = self.batches.iter().filter(|batch| !batch.reported).map(|batch| batch.created);
        let created = batches.chain(self.filled().map(|open| open.created)).min()?;
        Some(created + self.settings.delivery_timeout)
    }

    /// Reports what is overdue: `tell` makes of each completion what the caller wants to keep. What was never sent, or
    /// surely not written, is given up; the rest stays until its fate is known.
    pub fn expire<T>(&mut self, now: Instant, mut tell: impl FnMut(&C) -> T) -> Vec<GivenUp<T>> {
        let timeout = self.settings.delivery_timeout;
        let overdue = |created: Instant| now.saturating_duration_since(created) >= timeout;
        let mut told = Vec::new();
        let mut at = 0;
        while let Some(batch) = self.batches.get_mut(at) {
            if batch.reported || !overdue(batch.created) {
                at += 1;
                continue;
            }
            told.push(batch.given_up(&mut tell));
            let stays = batch.is_in_flight() || (batch.in_doubt && self.settings.idempotent);
            if stays {
                batch.reported = true;
                at += 1;
            } else {
                let batch = self.remove(at);
                self.abandoned(&batch);
            }
        }
        if let Some(open) = self.open.take_if(|open| overdue(open.created)) {
            told.push(open.given_up(&mut tell));
        }
        told
    }

    /// Gives up everything, as when the producer is closed or a broker will never have it. Batches in flight stay
    /// until they are settled, but nobody waits for them any more.
    pub fn give_up<T>(&mut self, mut tell: impl FnMut(&C) -> T) -> Vec<GivenUp<T>> {
        let mut told = Vec::new();
        for mut batch in mem::take(&mut self.batches) {
            if !batch.reported {
                told.push(batch.given_up(&mut tell));
            }
            if batch.is_in_flight() {
                batch.reported = true;
                self.batches.push_back(batch);
            } else {
                self.abandoned(&batch);
            }
        }
        if let Some(open) = self.open.take() {
            told.push(open.given_up(&mut tell));
        }
        told
    }

    fn remove(&mut self, at: usize) -> Batch<C> {
        // The next one in front has not failed yet.
        if at == 0 {
            self.failures = 0;
            self.retry_at = None;
        }
        self.batches.remove(at).expect("callers found the batch at this position")
    }

    /// A batch leaves without having been acknowledged.
    fn abandoned(&mut self, batch: &Batch<C>) {
        if batch.stamp.is_some() {
            self.sequences.want_raise();
            self.gap_in_doubt |= batch.in_doubt;
        }
    }
}
