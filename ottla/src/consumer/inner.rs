//! What the handles and the tasks of a consumer share.
//!
//! ```text
//!   handles ── assign, seek, pause ──▶ Partitions ◀── plan, answer ── fetcher of broker 1, 2, …
//!      ▲                               (one lock)  ◀── plan, answer ── look-ups of broker 1, 2, …
//!      └──────── take, finish ─────────┘     ▲
//!                                            └── leaders ── watcher of the metadata
//! ```
//!
//! The lock is held for decisions only: never across an await, and never while bytes are summed or decompressed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use ottla_core::{
    fetch::{
        Absence, Budget, Effects, Finished, Handout, LeaderNews, Outcome, Partitions, Range, Tick, Ticket,
        TopicWord, Trouble, unpack,
    },
    group::{CommitSettings, Lease, Parcel},
    metadata::{ClusterSnapshot, LeaderHint},
};
use ottla_protocol::{ErrorCode, Str};
use tokio::sync::Notify;

use super::{
    batch::{Pack, Portion},
    builder::ConsumerConfig,
    duty::{Duty, Owner},
    fetcher,
    group::{CloseOptions, Gate, Group},
    handle::Handle,
    look_up,
    owned::{Next, Owned},
    partition::Reader,
    pool::Pool,
    ready::Ready,
    recv::Current,
};
use crate::{
    Error, Event, Result, TopicPartition,
    client::{Resource, Shared},
    env::BoxFuture,
    net::{Lane, Latch, lock, now, sleep_until_some},
};

pub(super) struct Inner {
    pub(super) shared: Arc<Shared>,
    pub(super) config: ConsumerConfig,
    /// Differs from those of the client's other consumers.
    pub(super) id: u64,
    state: Mutex<State>,
    /// Something is there for `poll`.
    pub(super) ready: Arc<Ready>,
    /// Somebody reads partitions one by one, or has done so.
    pub(super) has_readers: AtomicBool,
    /// There may be a partition that nobody has taken.
    pub(super) untaken: Notify,
    /// Positions became known, or partitions were held.
    pub(super) settled: Notify,
    /// Something that was handed out was completed, or has come back, while somebody waits for that.
    pub(super) drained: Notify,
    /// The task that commits has to look again.
    pub(super) commits: Notify,
    /// A commit has come to something.
    pub(super) committed: Notify,
    /// A topic that is read may not be known to the cluster.
    unknown: Notify,
    /// Grows whenever batches that were unpacked may be out of date or paused.
    pub(super) changes: AtomicU64,
    pub(super) current: Mutex<Current>,
    /// Somebody has asked for records since that was last looked at.
    pub(super) asked: AtomicBool,
    /// Whether records may be handed out.
    pub(super) gate: Arc<Gate>,
    /// The consumer's place in its group.
    pub(super) group: Option<Arc<Group>>,
    /// The handle that the user's clones share.
    pub(super) handle: OnceLock<Weak<Handle>>,
    pool: Arc<Pool>,
    pub(super) closed: Latch<()>,
    /// The same, for a look at every record.
    is_closed: AtomicBool,
    wakes: Arc<Wakes>,
}

pub(super) struct State {
    pub(super) partitions: Partitions,
    /// In a group.
    pub(super) owned: Option<Owned>,
    /// Whom to wake when there is something of a partition that is read on its own.
    pub(super) readers: BTreeMap<u64, Arc<Notify>>,
    /// Why brokers could not be asked last.
    pub(super) unreachable: BTreeMap<i32, Error>,
}

/// The tasks that ask brokers.
#[derive(Debug, Default)]
struct Wakes(Mutex<BTreeMap<i32, Arc<BrokerWake>>>);

/// Tells the tasks of one broker that there may be something to ask.
#[derive(Debug, Default)]
pub(super) struct BrokerWake {
    pub(super) fetch: Notify,
    pub(super) look_up: Notify,
}

impl Wakes {
    fn wake_all(&self) {
        for wake in lock(&self.0).values() {
            wake.fetch.notify_one();
            wake.look_up.notify_one();
        }
    }
}

/// So many unpacked bytes are handed out at once: more would leave the processor's cache before they are read.
const UNPACK_AT_ONCE: usize = 256 << 10;
/// How often topics that are not there are asked for.
const UNKNOWN_TOPIC_INTERVAL: Duration = Duration::from_secs(1);

impl Inner {
    pub(super) fn start(shared: Arc<Shared>, config: ConsumerConfig) -> Result<Arc<Self>> {
        if shared.is_closed() {
            return Err(Error::closed());
        }
        let wakes = Arc::<Wakes>::default();
        let waker = Arc::clone(&wakes);
        let budget = Budget::new(config.buffered_bytes, move || waker.wake_all());
        let partitions = Partitions::new(config.fetch.clone(), budget);
        let id = shared.next_id();
        let (gate, ready) = (Arc::<Gate>::default(), Arc::<Ready>::default());
        let group = config.group.clone().map(|group| Arc::new(Group::new(&shared, group, &gate, &ready)));
        let owned = config.group.as_ref().map(|group| {
            let commits = CommitSettings {
                interval: group.auto_commit,
                proof_of_life: Lease::proof_of_life(group.session_timeout, group.rebalance_timeout),
                backoff: shared.config.retry_backoff,
            };
            Owned::new(commits, group.processing_timeout)
        });
        let inner = Arc::new(Self {
            shared,
            id,
            config,
            state: Mutex::new(State {
                partitions,
                owned,
                readers: BTreeMap::new(),
                unreachable: BTreeMap::new(),
            }),
            ready,
            has_readers: AtomicBool::new(false),
            untaken: Notify::new(),
            settled: Notify::new(),
            drained: Notify::new(),
            commits: Notify::new(),
            committed: Notify::new(),
            unknown: Notify::new(),
            changes: AtomicU64::new(0),
            current: Mutex::default(),
            asked: AtomicBool::new(false),
            gate,
            group,
            handle: OnceLock::new(),
            pool: Arc::default(),
            closed: Latch::default(),
            is_closed: AtomicBool::new(false),
            wakes,
        });
        let resource: Weak<dyn Resource> = Arc::downgrade(&(Arc::clone(&inner) as Arc<dyn Resource>));
        inner.shared.register(resource);
        inner.shared.spawn("consumer metadata", Arc::clone(&inner).watch_metadata());
        Ok(inner)
    }

    pub(super) fn tick(&self) -> Tick {
        Tick { now: now(), wall: self.shared.env.now(), random: self.shared.env.random() }
    }

    /// Looks at the partitions, or carries a decision of them out.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut lock(&self.state))
    }

    /// The user changed something: what was unpacked may be out of date, and brokers may have to be asked.
    pub(super) fn on_user_change(&self) {
        self.on_change();
        self.wakes.wake_all();
        self.wake_one();
    }

    /// A broker has answered: what moved by itself is noted before anybody can read from there.
    pub(super) fn answered(&self, work: impl FnOnce(&mut Partitions) -> Effects) -> Effects {
        self.with(|state| {
            let effects = work(&mut state.partitions);
            state.on_resets(&effects.resets);
            effects
        })
    }

    /// Passes on what follows from an answer.
    pub(super) fn apply(&self, effects: Effects) {
        if effects.ready > 0 || self.has_readers.load(Ordering::Acquire) {
            self.wake_one();
        }
        for reset in effects.resets {
            let topic_partition = TopicPartition::new(&*reset.topic, reset.partition);
            let (from, to, reason) = (reset.from, reset.to.offset, reset.reason);
            self.shared.events.emit(Event::PositionReset { topic_partition, from, to, reason });
        }
        self.shared.metadata.leader_hints(effects.hints.iter().map(|hint| LeaderHint {
            topic: &hint.topic,
            partition: hint.partition,
            leader_id: hint.leader,
            leader_epoch: hint.epoch,
            endpoint: hint.endpoint.clone(),
        }));
        if effects.refresh_metadata {
            self.shared.metadata.refresh();
        }
    }

    /// The next records for the user, if some can be had without waiting.
    ///
    /// # Errors
    /// A partition is held; the others go on with the next call.
    pub(super) fn next_portion(&self, reader: Reader) -> Result<Option<Portion>> {
        loop {
            let (next, more) = self.with(|state| (state.take(reader), state.has_more()));
            if more {
                // Whoever else waits gets the next one.
                self.ready.notify_one();
            }
            match next {
                None => return Ok(None),
                Some(Next::Again(portion)) => return Ok(Some(portion)),
                Some(Next::New(Handout::Trouble { topic, partition, trouble }, _)) => {
                    return Err(self.held(TopicPartition::new(&*topic, partition), trouble));
                }
                Some(Next::New(Handout::Absent(absence), _)) => return Err(self.absent(absence)),
                Some(Next::New(Handout::Range { topic, partition, ticket, range }, owner)) => {
                    let topic_partition = match &owner {
                        Some(owner) => owner.topic_partition.clone(),
                        None => TopicPartition::new(&*topic, partition),
                    };
                    if let Some(pack) = self.unpack(topic_partition, ticket, range, owner) {
                        let at = pack.start();
                        return Ok(Some(Portion { pack: Arc::new(pack), at }));
                    }
                }
            }
        }
    }

    /// `None` when there is no record in it, or it is out of date by now.
    fn unpack(
        &self,
        topic_partition: TopicPartition,
        ticket: Ticket,
        range: Range,
        owner: Option<Arc<Owner>>,
    ) -> Option<Pack> {
        let (lease, from) = (range.lease.clone(), range.from);
        let unpacked = self.pool.with(|decompressor| unpack(range, decompressor, UNPACK_AT_ONCE));
        let sections = unpacked.sections;
        let duty = owner.filter(|_| !sections.is_empty()).map(|owner| {
            let parcel = Arc::new(Parcel::new(owner.token, &sections, unpacked.next));
            Duty { parcel, owner }
        });
        let parcel = duty.as_ref().map(|duty| Arc::clone(&duty.parcel));
        let outcome = Outcome { next: unpacked.next, rest: unpacked.rest, corrupt: unpacked.corrupt };
        let (finished, more) =
            self.with(|state| (state.finish(ticket, from, parcel, outcome), state.has_more()));
        if more || self.has_readers.load(Ordering::Acquire) {
            self.wake_one();
        }
        if finished == Finished::AskAgain {
            self.wakes.wake_all();
        }
        let wanted = finished != Finished::Stale && !sections.is_empty();
        wanted.then(|| Pack::new(topic_partition, ticket, sections, duty, lease, &self.pool))
    }

    /// What the user has to know although nothing may be handed out: that a partition is held, or something not there.
    pub(super) fn next_trouble<T>(&self, reader: Reader) -> Result<Option<T>> {
        let take = |state: &mut State| match reader {
            Reader::Any => state.partitions.take_trouble(),
            Reader::Of(token) => state.partitions.take_trouble_of(token),
        };
        match self.with(take) {
            Some(Handout::Trouble { topic, partition, trouble }) => {
                Err(self.held(TopicPartition::new(&*topic, partition), trouble))
            }
            Some(Handout::Absent(absence)) => Err(self.absent(absence)),
            Some(Handout::Range { .. }) | None => Ok(None),
        }
    }

    /// The same for who has no partition yet.
    pub(super) fn next_absent(&self) -> Result<()> {
        match self.with(|state| state.partitions.take_absent()) {
            Some(absence) => Err(self.absent(absence)),
            None => Ok(()),
        }
    }

    fn absent(&self, absence: Absence) -> Error {
        let topic: Arc<str> = Arc::from(&*absence.topic);
        let what = format!("topic {topic} cannot be read; it is looked for, and all else goes on");
        let partition = absence.partition.map(|partition| TopicPartition::new(&*topic, partition));
        let error = Error::broker(absence.code, what).with_source(absence);
        let error = match partition {
            Some(partition) => error.with_topic_partition(partition),
            None => error,
        };
        self.shared.events.emit(Event::TopicAbsent { topic, error: error.clone() });
        error
    }

    fn held(&self, topic_partition: TopicPartition, trouble: Trouble) -> Error {
        self.settled.notify_waiters();
        let error = to_error(trouble, &topic_partition);
        self.shared.events.emit(Event::PartitionHeld { topic_partition, error: error.clone() });
        error
    }

    /// Positions may be known that somebody waits for.
    pub(super) fn on_positions_known(&self) {
        self.settled.notify_waiters();
        if self.group.is_some() {
            self.commits.notify_one();
        }
        self.wakes.wake_all();
        self.wake_one();
    }

    /// Waits until the position of a partition is known, or the partition held, or everything over.
    pub(super) async fn until_resolved(&self, topic: &str, partition: i32) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            let resolving = self.with(|state| state.partitions.is_resolving(topic, partition));
            if !resolving || self.is_closed() {
                return;
            }
            settled.await;
        }
    }

    /// What the consumer's fetch requests go over: its own connections, since a broker answers the requests of one
    /// connection one after the other, and a long poll of another consumer would stand in front.
    pub(super) fn lane(&self) -> Lane {
        Lane::Fetch(self.id)
    }

    /// Hands out nothing more: every call from now on says that the consumer is closed.
    pub(super) fn shut(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.wake_all_readers();
        self.settled.notify_waiters();
    }

    /// Stops all tasks as well.
    pub(super) fn stop(&self) {
        self.shut();
        self.closed.set(());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    async fn watch_metadata(self: Arc<Self>) {
        let this = StopOnDrop(self);
        let this = &this.0;
        let mut seen = 0;
        let mut look_at = None;
        loop {
            let changed = this.shared.metadata.changed(seen);
            // Nobody is woken for nothing while all is well.
            let has_unknown = this.with(|state| {
                state.partitions.is_anything_absent() || !state.partitions.unknown_topics().is_empty()
            });
            look_at = has_unknown.then(|| look_at.unwrap_or_else(|| now() + UNKNOWN_TOPIC_INTERVAL));
            tokio::select! {
                biased;
                () = this.closed.wait() => return,
                () = this.shared.closed() => return,
                snapshot = changed => {
                    seen = snapshot.version;
                    this.on_metadata(&snapshot);
                }
                () = this.unknown.notified() => {}
                () = sleep_until_some(look_at) => {
                    look_at = None;
                    this.look_for_unknown_topics();
                }
            }
            this.look_for_absent();
        }
    }

    fn look_for_unknown_topics(self: &Arc<Self>) {
        let unknown = self.with(|state| state.partitions.unknown_topics());
        for topic in &unknown {
            // Also keeps the interest in it alive.
            self.shared.metadata.topic_now(topic);
        }
        if !unknown.is_empty() {
            self.on_metadata(&self.shared.metadata.snapshot());
        }
    }

    /// Topics were subscribed to.
    pub(super) fn on_subscribed(&self) {
        self.unknown.notify_one();
    }

    /// Has the user hear of what was named and is not there.
    fn look_for_absent(&self) {
        let subscribed = self.group.as_ref().map(|group| group.wanted_topics()).unwrap_or_default();
        let metadata = &self.shared.metadata;
        let snapshot = metadata.snapshot();
        let word_of = |topic: &str| match snapshot.topics.get(topic) {
            Some(known) => TopicWord::Partitions(i32::try_from(known.partitions.len()).unwrap_or(i32::MAX)),
            None => metadata.refusal(topic).map_or(TopicWord::Pending, TopicWord::Refused),
        };
        if self.with(|state| state.partitions.look_for_absent(now(), &subscribed, word_of)) {
            self.wake_one();
            self.gate.turned.notify_waiters();
        }
    }

    /// Takes over who leads what, and starts tasks for brokers that are asked for the first time.
    pub(super) fn on_metadata(self: &Arc<Self>, snapshot: &ClusterSnapshot) {
        let (brokers, has_unknown) = self.with(|state| {
            let refusals: BTreeMap<Str, ErrorCode> = state
                .partitions
                .topics()
                .filter_map(|topic| Some((topic.clone(), self.shared.metadata.refusal(topic)?)))
                .collect();
            state.partitions.on_metadata(snapshot.version, |topic, partition| match refusals.get(topic) {
                Some(code) => LeaderNews::Refused(*code),
                None => news(snapshot, topic, partition),
            });
            state.partitions.on_replicas(snapshot.version, |topic, partition, node| {
                let known = snapshot.partition(topic, partition);
                snapshot.brokers.contains_key(&node) && known.is_some_and(|known| known.isr.contains(&node))
            });
            (state.partitions.brokers(now()), !state.partitions.unknown_topics().is_empty())
        });
        if has_unknown {
            self.unknown.notify_one();
        }
        self.start_tasks(brokers);
        self.wakes.wake_all();
        self.wake_one();
    }

    /// Partitions are fetched from other brokers than before.
    pub(super) fn on_moved(self: &Arc<Self>) {
        self.start_tasks(self.with(|state| state.partitions.brokers(now())));
        self.wakes.wake_all();
    }

    /// Starts the tasks of these brokers that have none.
    fn start_tasks(self: &Arc<Self>, brokers: BTreeSet<i32>) {
        let mut wakes = lock(&self.wakes.0);
        for node in brokers {
            if self.is_closed() || wakes.contains_key(&node) {
                continue;
            }
            let wake = Arc::<BrokerWake>::default();
            wakes.insert(node, Arc::clone(&wake));
            self.shared.spawn("consumer fetcher", fetcher::run(Arc::clone(self), node, Arc::clone(&wake)));
            self.shared.spawn("consumer look-ups", look_up::run(Arc::clone(self), node, wake));
        }
    }
}

/// Whatever ends the task, and be it the runtime that it lived on, nobody waits for records that will not come.
struct StopOnDrop(Arc<Inner>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn news(snapshot: &ClusterSnapshot, topic: &str, partition: i32) -> LeaderNews {
    let Some(topic) = snapshot.topics.get(topic) else { return LeaderNews::Unknown };
    match topic.partition(partition) {
        Some(known) => {
            LeaderNews::Known { topic_id: topic.id, leader: known.leader, epoch: known.leader_epoch }
        }
        None => LeaderNews::Unknown,
    }
}

/// The error that the user gets for a held partition; its source is the [`Trouble`].
fn to_error(trouble: Trouble, topic_partition: &TopicPartition) -> Error {
    let what = "the partition is held until a seek";
    let error = match &trouble {
        Trouble::OutOfRange { .. } => Error::broker(ErrorCode::OFFSET_OUT_OF_RANGE, what),
        Trouble::Refused { code } => Error::broker(*code, what),
        Trouble::NoCommittedOffset { .. } => Error::misuse(what),
        _ => Error::data(what),
    };
    error.with_source(trouble).with_topic_partition(topic_partition.clone())
}

impl Resource for Inner {
    fn close(&self) -> BoxFuture<'_, ()> {
        // What cannot be done is an event.
        Box::pin(async { drop(self.close_with(CloseOptions::within_client()).await) })
    }
}
