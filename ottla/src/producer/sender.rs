//! Sends the batches of all partitions that one broker leads.
//!
//! A partition, as its sender sees it:
//!
//! ```text
//!              first record, full batch, answer,
//!              new leader, flush                        drain
//!   at rest ─────────────────────────────────▶ listed ─────────▶ batch into the request, listed again
//!     ▲ ▲                                       ▲ │ │
//!     │ └── empty, or waits for an answer ──────┼─┘ │
//!     │                                         │   └── lingers, or a failure is slept over ──▶ timed
//!     │                                         └─────────── its time, or the broker is idle ─────┘
//!     └── another broker leads it: this sender drops it wherever it finds it
//! ```
//!
//! Whoever lists a partition wakes the sender only if nothing was listed. Nothing scans: a partition at rest costs
//! nothing. If nothing is in flight the caller's thread sends by itself ([`Sender::listed`]); otherwise the task does.
//! Answers are settled in the connection's reader, one hop from the futures that wait for them. While none comes although
//! something is in flight, the cluster is asked who leads by now; what is in flight stays in doubt until its request ends.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, TryLockError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use ottla_core::{backoff::Backoff, metadata::Overdue, produce::Next};
use ottla_protocol::{compression::Compression, messages::ProduceRequest};
use tokio::sync::Notify;

use super::{
    in_flight::InFlight,
    inner::Inner,
    request::{Draft, VERSIONS, ZSTD},
    topic::{Partition, Slot},
};
use crate::{
    Error, ErrorKind, Result,
    net::{Connection, Lane, RequestError, lock, now, sleep_until_some},
};

/// Sends to one broker.
pub(super) struct Sender {
    node: i32,
    /// Listed since the sender looked last.
    arrivals: Mutex<Vec<Arc<Partition>>>,
    wake: Notify,
    /// Requests in flight, and their bytes.
    requests: AtomicUsize,
    bytes: AtomicUsize,
    /// Requests that came to an end.
    ended: AtomicUsize,
    /// The task looks whether answers come: it need not be told that something is in flight.
    watched: AtomicBool,
    /// Held by whoever sends, so that batches go out in the order in which they were taken.
    line: Mutex<Line>,
}

/// What is going to be sent.
#[derive(Default)]
struct Line {
    connection: Option<Live>,
    /// Partitions with something to send, in turn.
    ready: VecDeque<Arc<Partition>>,
    lingering: Timers,
    backing_off: Timers,
}

/// Partitions by the time at which they are ready. Nobody is taken out early: one that is visited in vain costs a lock.
#[derive(Default)]
struct Timers {
    by_time: BTreeMap<(Instant, u64), Arc<Partition>>,
    next: u64,
}

/// What the task has seen of the answers.
#[derive(Clone, Copy)]
struct Watch {
    overdue: Overdue,
    ended: usize,
}

struct Live {
    connection: Connection,
    version: i16,
}

/// Bytes in flight to one broker at most: more than bandwidth times delay of most networks.
const MOST_IN_FLIGHT: usize = 8 << 20;

impl Sender {
    pub(super) fn new(node: i32) -> Self {
        Self {
            node,
            arrivals: Mutex::default(),
            wake: Notify::new(),
            requests: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            watched: AtomicBool::new(false),
            line: Mutex::default(),
        }
    }

    /// Takes a partition that [`Slot::list`] has just listed; sends at once if the broker is
    /// idle.
    pub(super) fn listed(self: &Arc<Self>, inner: &Arc<Inner>, partition: Arc<Partition>) {
        let first = self.arrive(partition);
        if self.is_idle() {
            self.send_directly(inner);
        } else if first {
            self.wake.notify_one();
        }
    }

    /// As [`Sender::listed`], but leaves sending to the task.
    pub(super) fn list_quietly(&self, partition: Arc<Partition>) {
        if self.arrive(partition) {
            self.wake.notify_one();
        }
    }

    fn arrive(&self, partition: Arc<Partition>) -> bool {
        let mut arrivals = lock(&self.arrivals);
        arrivals.push(partition);
        arrivals.len() == 1
    }

    fn is_idle(&self) -> bool {
        self.requests.load(Ordering::SeqCst) == 0
    }

    fn send_directly(self: &Arc<Self>, inner: &Arc<Inner>) {
        let mut line = match self.line.try_lock() {
            Ok(line) => line,
            // Its owner may have looked already: the task looks again.
            Err(TryLockError::WouldBlock) => return self.wake.notify_one(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        };
        let before = line.next_time();
        self.drain(inner, &mut line);
        let (needs_connection, after) = (line.wants_connection(), line.next_time());
        drop(line);
        if needs_connection || (after.is_some() && after != before) {
            self.wake.notify_one();
        }
    }

    /// An answer came, or will not come.
    pub(super) fn answered(&self, bytes: usize) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        let was_full = self.bytes.fetch_sub(bytes, Ordering::AcqRel) >= MOST_IN_FLIGHT;
        let was_last = self.requests.fetch_sub(1, Ordering::AcqRel) == 1;
        // What lingers waited for the last one.
        if was_full || was_last {
            self.wake.notify_one();
        }
    }

    /// The task of the sender; ends with the producer.
    pub(super) async fn run(self: Arc<Self>, inner: Arc<Inner>) {
        let ended = inner.ended();
        tokio::pin!(ended);
        let mut backoff = Backoff::new(inner.config.retry_backoff);
        let mut overdue = None;
        loop {
            if lock(&self.line).wants_connection() {
                tokio::select! {
                    biased;
                    () = &mut ended => return,
                    () = self.connect(&inner, &mut backoff) => {}
                }
            }
            let (needs_connection, next_time) = {
                let mut line = lock(&self.line);
                self.drain(&inner, &mut line);
                (line.wants_connection(), line.next_time())
            };
            if needs_connection {
                continue;
            }
            let overdue_at = self.watch(&inner, &mut overdue);
            tokio::select! {
                biased;
                () = &mut ended => return,
                () = self.wake.notified() => {}
                () = sleep_until_some(next_time.into_iter().chain(overdue_at).min()) => {}
            }
        }
    }

    /// While answers do not come, has the cluster asked who leads by now. Gives when to look again: as long as anything is
    /// in flight, now and then; a sender at rest is not looked at.
    fn watch(&self, inner: &Inner, watch: &mut Option<Watch>) -> Option<Instant> {
        let now = now();
        if self.is_idle() && watch.as_ref().is_none_or(|watch| watch.overdue.at() <= now) {
            *watch = None;
            self.watched.store(false, Ordering::SeqCst);
            // Something may have gone out just before.
            if self.is_idle() {
                return None;
            }
            self.watched.store(true, Ordering::SeqCst);
        }
        let ended = self.ended.load(Ordering::Relaxed);
        let new = Watch { overdue: Overdue::new(now, Duration::ZERO), ended };
        let seen = watch.get_or_insert(new);
        if seen.overdue.at() <= now {
            if seen.ended == ended {
                inner.client.metadata.refresh();
                seen.overdue.asked(now);
            } else {
                *seen = new;
            }
        }
        Some(seen.overdue.at())
    }

    async fn connect(&self, inner: &Arc<Inner>, backoff: &mut Backoff) {
        let connecting = self.try_connect(inner);
        match inner.client.metadata.ask_while_overdue(Duration::ZERO, connecting).await {
            Ok(live) => {
                backoff.on_success();
                lock(&self.line).connection = Some(live);
            }
            Err(error) => {
                if error.kind() == ErrorKind::Incompatible {
                    inner.give_up(&self.take_ready(), &error);
                } else {
                    // Whoever leads these partitions now may be somebody else.
                    inner.client.metadata.refresh();
                    self.drop_moved(Some(&error));
                }
                tokio::time::sleep(backoff.on_failure(inner.client.env.random())).await;
            }
        }
    }

    async fn try_connect(&self, inner: &Arc<Inner>) -> Result<Live> {
        let connection = inner.client.brokers.connection(self.node, Lane::Produce).await?;
        let version = match inner.config.compression {
            Compression::Zstd => connection.version::<ProduceRequest>(ZSTD).map_err(|error| {
                error.context("zstd is for brokers since Kafka 2.1: use another compression")
            }),
            _ => connection.version::<ProduceRequest>(VERSIONS),
        };
        Ok(Live { connection, version: version? })
    }

    fn take_ready(&self) -> Vec<Arc<Partition>> {
        self.drop_moved(None);
        let ready = std::mem::take(&mut lock(&self.line).ready);
        ready.into_iter().inspect(|partition| partition.lock().listed = false).collect()
    }

    /// Forgets partitions that are none of this sender's, or have nothing to send, so that a broker that is gone is
    /// not dialled for ever. The others have this trouble, if there is any.
    fn drop_moved(&self, trouble: Option<&Error>) {
        let mut line = lock(&self.line);
        line.ready.extend(lock(&self.arrivals).drain(..));
        line.ready.retain(|partition| {
            let mut slot = partition.lock();
            let mine = self.leads(&slot);
            let stays = mine && !slot.queue.is_empty();
            if mine {
                slot.listed = stays;
            }
            if stays && let Some(trouble) = trouble {
                slot.trouble = Some(trouble.clone());
            }
            stays
        });
    }

    /// Whether the partition is this sender's.
    fn leads(&self, slot: &Slot) -> bool {
        slot.sender.as_ref().is_some_and(|sender| std::ptr::eq(&**sender, self))
    }

    /// Sends what can be sent now.
    fn drain(self: &Arc<Self>, inner: &Arc<Inner>, line: &mut Line) {
        inner.clock.publish(inner.client.env.now());
        line.ready.extend(lock(&self.arrivals).drain(..));
        let now = now();
        let idle = self.is_idle();
        let (lingering, backing_off) = (line.lingering.due(now, idle), line.backing_off.due(now, false));
        for partition in lingering.into_iter().chain(backing_off) {
            let mut slot = partition.lock();
            if self.leads(&slot) && !std::mem::replace(&mut slot.listed, true) {
                drop(slot);
                line.ready.push_back(partition);
            }
        }
        while !line.ready.is_empty() && self.bytes.load(Ordering::Acquire) < MOST_IN_FLIGHT {
            let Some(live) = line.connection.as_ref().filter(|live| !live.connection.is_closed()) else {
                line.connection = None;
                return;
            };
            let (connection, newest) = (live.connection.clone(), live.version);
            let draft = self.fill(inner, line, now);
            if draft.parts.is_empty() {
                return;
            }
            self.send(inner, &connection, newest, draft);
        }
    }

    /// Puts a request together: at most one batch of each partition, in turn, so that a busy one starves nobody.
    fn fill(self: &Arc<Self>, inner: &Arc<Inner>, line: &mut Line, now: Instant) -> Draft {
        let mut draft = Draft::new(inner.next_draft());
        let idle = self.is_idle();
        for _ in 0..line.ready.len() {
            let Some(partition) = line.ready.pop_front() else { break };
            match self.next_of(inner, line, &partition, now, idle, &mut draft) {
                Turn::Again => line.ready.push_back(partition),
                Turn::Over => {}
                Turn::Full => {
                    line.ready.push_front(partition);
                    break;
                }
            }
        }
        draft
    }

    fn next_of(
        self: &Arc<Self>,
        inner: &Arc<Inner>,
        line: &mut Line,
        partition: &Arc<Partition>,
        now: Instant,
        idle: bool,
        draft: &mut Draft,
    ) -> Turn {
        loop {
            let mut slot = partition.lock();
            // It may be here twice, where leaders came and went; it is in line again for the next request. A broker
            // would take only one of two batches for a partition, and answer once.
            if !self.leads(&slot) || slot.draft == draft.id {
                return Turn::Over;
            }
            match slot.queue.next(now, idle, draft.room(&inner.config)) {
                Next::Send(outgoing) => {
                    let topic_id = slot.topic_id;
                    slot.draft = draft.id;
                    // The checksum reads every byte: not under the lock that records wait for.
                    drop(slot);
                    draft.add(partition.clone(), topic_id, outgoing);
                    return Turn::Again;
                }
                Next::NoRoom => return Turn::Full,
                Next::Compress(ticket, builder) => {
                    drop(slot);
                    if !inner.compress(partition, ticket, builder) {
                        return Turn::Over;
                    }
                }
                Next::NeedsIdentity => {
                    slot.listed = false;
                    let former = slot.adopted;
                    drop(slot);
                    match inner.identity.get(inner, partition, former) {
                        Some(identity) => {
                            let mut slot = partition.lock();
                            slot.queue.adopt(identity);
                            slot.adopted = Some(identity.id);
                            slot.listed = true;
                        }
                        None => return Turn::Over,
                    }
                }
                Next::Linger(until) => {
                    slot.listed = false;
                    line.lingering.add(until, partition);
                    return Turn::Over;
                }
                Next::BackOff(until) => {
                    slot.listed = false;
                    line.backing_off.add(until, partition);
                    return Turn::Over;
                }
                Next::Waiting | Next::NoLeader | Next::Empty => {
                    slot.listed = false;
                    return Turn::Over;
                }
            }
        }
    }

    fn send(self: &Arc<Self>, inner: &Arc<Inner>, connection: &Connection, newest: i16, mut draft: Draft) {
        let message = draft.message(&inner.config);
        let version = draft.version(newest);
        let timeout = inner.config.request_timeout;
        // Counted before it is sent: the answer may be here before this function returns.
        self.requests.fetch_add(1, Ordering::SeqCst);
        if !self.watched.load(Ordering::SeqCst) && !self.watched.swap(true, Ordering::SeqCst) {
            self.wake.notify_one();
        }
        self.bytes.fetch_add(draft.bytes, Ordering::AcqRel);
        let in_flight = InFlight::new(inner.clone(), self.clone(), draft);
        if inner.config.acks.code() == 0 {
            match connection.send_no_reply(&message, version, timeout) {
                Ok(written) => inner.client.spawn("unacknowledged produce", async move {
                    in_flight.written(written.await);
                }),
                Err(error) => in_flight.written(Err(RequestError { error, sent: false })),
            }
        } else {
            connection.send_with(&message, version, timeout, |answer| in_flight.answered(answer));
        }
    }
}

/// What becomes of a partition's turn in a request.
enum Turn {
    /// It may have more.
    Again,
    Over,
    /// The request is full.
    Full,
}

impl Line {
    fn wants_connection(&self) -> bool {
        self.connection.is_none() && !self.ready.is_empty()
    }

    /// When something is ready by itself.
    fn next_time(&self) -> Option<Instant> {
        [self.lingering.first(), self.backing_off.first()].into_iter().flatten().min()
    }
}

impl Timers {
    fn add(&mut self, at: Instant, partition: &Arc<Partition>) {
        self.next += 1;
        self.by_time.insert((at, self.next), partition.clone());
    }

    fn first(&self) -> Option<Instant> {
        self.by_time.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes those whose time has come, or all.
    fn due(&mut self, now: Instant, all: bool) -> Vec<Arc<Partition>> {
        let mut due = Vec::new();
        while let Some(entry) = self.by_time.first_entry().filter(|entry| all || entry.key().0 <= now) {
            due.push(entry.remove());
        }
        due
    }
}
