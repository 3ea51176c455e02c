//! A load of known records, and readers that write down what they get.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use ottla::{
    Absence, Acks, Client, Compression, Consumer, ConsumerBuilder, ErrorCode, ErrorKind, Event, OffsetSpec,
    Producer, Record, Reset, SendError, TopicPartition, Trouble,
};
use ottla_broker::{ClusterConfig, ReplicaSelector};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep},
};

use crate::{
    Cluster, Conditions, Host, World,
    history::{Delivery, Fate, History, Read},
};

/// The topic that is written and read.
pub const TOPIC: &str = "orders";

/// Everything is read at the latest so long after all is well.
const PATIENCE: Duration = Duration::from_secs(600);

const READER: u32 = 1;
const SLOW_READER: u32 = 2;

/// How much is sent, and how fast.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Of the topic.
    pub partitions: i32,
    /// Hosts that send.
    pub senders: u32,
    /// Of each sender.
    pub records: u32,
    /// The longest pause between two records of a sender.
    pub pause: Duration,
    /// After so many records a sender takes a new producer: a broker that does not know one accepts anything from it.
    pub records_of_producer: u32,
    /// Producers give up on a record after this long (`delivery.timeout.ms`); the default is Kafka's two minutes.
    pub deadline: Option<Duration>,
    /// How long producers wait for an answer (`request.timeout.ms`); half of the deadline, or Kafka's half a minute, if
    /// nothing is said.
    pub request_timeout: Option<Duration>,
    /// When a record counts as written.
    pub acks: Acks,
    /// Replicas that are not in sync may be elected: what that costs is not held against the client, and readers go back
    /// to where the logs part.
    pub unclean: bool,
    /// Records may be dropped before they are read: one reader goes on at the beginning of the log by itself, the other one
    /// when it was told.
    pub dropping: bool,
    /// The topic may be deleted and created anew: records may be refused while it is away, one reader goes on at the beginning
    /// of the new one by itself, the other one when it was told, and at the end each producer must write once more.
    pub recreated: bool,
    /// `retention.ms` of the topic; records are kept for good, if nothing is said.
    pub retention: Option<Duration>,
    /// Brokers have racks, and clients read from the replica in theirs (KIP-392).
    pub racks: bool,
    /// Without [`Delivery::ExactlyOnce`], producers are not idempotent.
    pub delivery: Delivery,
}

impl Default for Plan {
    fn default() -> Self {
        let pause = Duration::from_millis(100);
        Self {
            partitions: 4,
            senders: 2,
            records: 600,
            pause,
            records_of_producer: 60,
            deadline: None,
            request_timeout: None,
            acks: Acks::All,
            unclean: false,
            dropping: false,
            recreated: false,
            retention: None,
            racks: false,
            delivery: Delivery::ExactlyOnce,
        }
    }
}

/// Senders and a reader at work.
pub struct Load {
    /// What was sent and read.
    pub history: History,
    plan: Plan,
    /// Of senders and readers, with their hosts.
    clients: Vec<(Host, Client)>,
    done: Rc<Cell<u32>>,
    /// Closed when all faults are over: it wakes its waiters in their order, which a `watch` does not.
    healed: Rc<Semaphore>,
    /// The records that were sent after that.
    last: Rc<RefCell<Vec<usize>>>,
    pauses: Rc<RefCell<BTreeMap<i32, Pauses>>>,
    /// What a reader passed, and what its client told of that.
    passed: Rc<RefCell<Vec<Passed>>>,
    resets: Rc<RefCell<Vec<Passed>>>,
}

/// Offsets of a partition that a reader did not get: from the first on, up to the other.
#[derive(Debug, Clone, Copy)]
struct Passed {
    partition: i32,
    from: i64,
    to: i64,
}

/// When acknowledgements of a partition came.
#[derive(Default)]
struct Pauses {
    last: Option<Instant>,
    longest: Duration,
}

impl Load {
    /// Senders on hosts `sender-1` …, and one reader on host `reader`.
    pub fn begin(world: &World, cluster: &Cluster, plan: Plan) -> Self {
        let history = History::promising(plan.delivery);
        let mut load = Self {
            history,
            plan,
            clients: Vec::new(),
            done: Rc::default(),
            healed: Rc::new(Semaphore::new(0)),
            last: Rc::default(),
            pauses: Rc::default(),
            passed: Rc::default(),
            resets: Rc::default(),
        };
        let mut client_on = |host: &str| {
            let client = cluster.client_on(host);
            cluster.listen_to(&client);
            load.clients.push((world.host(host), client.clone()));
            client
        };
        let senders: Vec<_> = (1..=plan.senders).map(|it| (it, client_on(&format!("sender-{it}")))).collect();
        let (reader, slow_reader) = (client_on("reader"), client_on("slow-reader"));
        senders.into_iter().for_each(|(sender, client)| load.send(world, sender, client));
        load.read(world, reader);
        load.read_slowly(world, slow_reader);
        load
    }

    fn send(&self, world: &World, sender: u32, client: Client) {
        let host = world.host(&format!("sender-{sender}"));
        let (receipts, mut outstanding) = mpsc::unbounded_channel();
        let (history, plan, done) = (self.history.clone(), self.plan, Rc::clone(&self.done));
        let (healed, last) = (Rc::clone(&self.healed), Rc::clone(&self.last));
        let (mut random, noted, here) = (world.random(), world.clone(), host.clone());
        drop(host.spawn("sender", async move {
            let mut producer = producer(&client, plan, &mut random);
            // After all that went wrong, one more for each partition.
            let more = if plan.recreated { plan.partitions as u32 } else { 0 };
            for number in 0..plan.records + more {
                if number == plan.records {
                    // There is nothing to be had of it before it is closed.
                    drop(healed.acquire().await);
                }
                if number > 0 && number < plan.records && number % plan.records_of_producer == 0 {
                    // The old one goes on with what it has; order is promised within each.
                    let fresh = self::producer(&client, plan, &mut random);
                    let old = std::mem::replace(&mut producer, fresh);
                    drop(here.spawn("old producer", async move { drop(old.flush().await) }));
                }
                let partition = match number.checked_sub(plan.records) {
                    Some(partition) => partition as i32,
                    None => random.i32(0..plan.partitions),
                };
                let longest = random.usize(1..800);
                let padding = "=".repeat(random.usize(..longest));
                let value = format!("{sender}-{partition}-{number} {padding}");
                let of_producer = sender * 1000 + number.min(plan.records - 1) / plan.records_of_producer;
                let record = history.sending(of_producer, partition, Bytes::from(value.clone()));
                if number >= plan.records {
                    last.borrow_mut().push(record);
                }
                match producer.enqueue(TOPIC, Record::new(&value).partition(partition)).await {
                    Ok(receipt) => drop(receipts.send((record, receipt))),
                    Err(error) => {
                        noted.note(format!("{value} was not taken: {error:#}"));
                        history.settled(record, Fate::NotWritten);
                    }
                }
                // Bursts and pauses: batches of one record, and of many.
                if random.u32(..4) == 0 {
                    sleep(Duration::from_nanos(random.u64(..plan.pause.as_nanos() as u64 * 4))).await;
                }
            }
            drop(receipts);
            // Each failure is told by its receipt.
            drop(producer.flush().await);
            done.set(done.get() + 1);
        }));
        let (history, pauses, noted) = (self.history.clone(), Rc::clone(&self.pauses), world.clone());
        drop(host.spawn("receipts", async move {
            while let Some((record, receipt)) = outstanding.recv().await {
                let fate = match receipt.await {
                    Ok(written) => {
                        pauses.borrow_mut().entry(written.partition()).or_default().acknowledged();
                        Fate::Written(written.offset())
                    }
                    Err(SendError::NotWritten(error)) => {
                        noted.note(format!("record {record} is not written: {error:#}"));
                        Fate::NotWritten
                    }
                    Err(SendError::PossiblyWritten(error)) => {
                        noted.note(format!("record {record} is possibly written: {error:#}"));
                        Fate::PossiblyWritten
                    }
                };
                history.settled(record, fate);
            }
        }));
    }

    /// A reader with default settings, on host `reader`.
    fn read(&self, world: &World, client: Client) {
        let Plan { unclean, dropping, recreated, .. } = self.plan;
        let goes_on = unclean || dropping || recreated;
        let consumer = consumer(&client, goes_on).build().expect("settings that are allowed");
        let (history, partitions) = (self.history.clone(), self.plan.partitions);
        let (passed, resets) = (Rc::clone(&self.passed), Rc::clone(&self.resets));
        let mut events = client.events();
        drop(world.host("test").spawn("resets", async move {
            while let Some(event) = events.recv().await {
                if let Event::PositionReset { topic_partition, from: Some(from), to, .. } = event {
                    resets.borrow_mut().push(Passed { partition: topic_partition.partition(), from, to });
                }
            }
        }));
        drop(world.host("reader").spawn("reader", async move {
            consumer.assign(from_the_beginning(partitions)).expect("partitions that exist");
            loop {
                let batch = match consumer.poll().await {
                    Err(error) if recreated && is_absent(&error) => continue,
                    received => received.expect("nothing that needs the user"),
                };
                let Some(batch) = batch else { return };
                for record in &batch {
                    let (partition, to) = (record.partition(), record.offset());
                    let from = history.reached(READER, partition);
                    // It may begin wherever the log does. Nobody goes back, but to the beginning of another log.
                    if 0 < from && from != to && (from < to || recreated && to == 0) {
                        passed.borrow_mut().push(Passed { partition, from, to });
                    }
                    let value = record.value().map(Bytes::copy_from_slice).unwrap_or_default();
                    history
                        .read(READER, Read { partition: record.partition(), offset: record.offset(), value });
                }
            }
        }));
    }

    /// A reader that gets little at a time, takes one record after the other, and now and then seeks to where it is, or
    /// starts anew there, in the middle of a batch; on host `slow-reader`.
    fn read_slowly(&self, world: &World, client: Client) {
        let (history, partitions, mut random) = (self.history.clone(), self.plan.partitions, world.random());
        let Plan { unclean, dropping, recreated, .. } = self.plan;
        drop(world.host("slow-reader").spawn("reader", async move {
            let mut next: BTreeMap<i32, (i64, OffsetSpec)> = BTreeMap::new();
            loop {
                let consumer = self::consumer(&client, unclean)
                    .fetch_max_bytes(10_000)
                    .max_partition_fetch_bytes(3_000)
                    .max_buffered_bytes(20_000)
                    .build()
                    .expect("settings that are allowed");
                let from = (0..partitions).map(|partition| {
                    let place = next.get(&partition).map_or(OffsetSpec::Earliest, |(_, place)| *place);
                    (TopicPartition::new(TOPIC, partition), place)
                });
                consumer.assign(from).expect("partitions that exist");
                // Whoever begins anew knows one epoch of the log in front of its place, and a cut may go through several.
                // And a place says nothing of the log that it is one of.
                let most = if unclean || recreated { u32::MAX } else { random.u32(1..200) };
                for _ in 0..most {
                    let received = match consumer.recv().await {
                        Err(error) if recreated && is_absent(&error) => continue,
                        Err(error) if dropping && is_out_of_range(&error) || recreated && is_gone(&error) => {
                            // It is told where, and decides to go on at the beginning of the log.
                            let partition = error.topic_partition().expect("the error is about one").clone();
                            next.remove(&partition.partition());
                            // Nobody can say where that is for as long as there is no topic.
                            while let Err(error) = consumer.seek(&partition, OffsetSpec::Earliest).await {
                                assert_eq!(error.kind(), ErrorKind::Timeout, "{error:#}");
                            }
                            continue;
                        }
                        received => received.expect("nothing that needs the user"),
                    };
                    let Some(record) = received else { return };
                    let view = record.view();
                    let value = view.value().map(Bytes::copy_from_slice).unwrap_or_default();
                    // Elsewhere no log is cut below what was read.
                    let place = match unclean {
                        true => OffsetSpec::behind(view.offset(), view.leader_epoch()),
                        false => OffsetSpec::At(view.offset() + 1),
                    };
                    let before = next.insert(view.partition(), (view.offset() + 1, place));
                    assert!(
                        before.is_none_or(|(next, _)| unclean || next == view.offset()),
                        "nothing is passed untold"
                    );
                    history.read(
                        SLOW_READER,
                        Read { partition: view.partition(), offset: view.offset(), value },
                    );
                    if random.u32(..20) == 0 {
                        sleep(Duration::from_millis(random.u64(..50))).await;
                    }
                    // To where it is anyway, unless it was sent back meanwhile: what is on its way has to be thrown away.
                    let partition = random.i32(0..partitions);
                    let seeks = random.u32(..50) == 0 && !recreated;
                    if let Some(&(offset, place)) = next.get(&partition).filter(|_| seeks) {
                        let partition = TopicPartition::new(TOPIC, partition);
                        if consumer.position(&partition) == Some(offset) {
                            consumer.seek(&partition, place).await.expect("a partition that is assigned");
                        }
                    }
                }
            }
        }));
    }

    /// How many records were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.history.acknowledged()
    }

    /// The longest time without an acknowledgement, of the given partitions.
    pub fn longest_pause(&self, of: impl Fn(i32) -> bool) -> Duration {
        let pauses = self.pauses.borrow();
        pauses
            .iter()
            .filter(|(partition, _)| of(**partition))
            .map(|(_, p)| p.longest)
            .max()
            .unwrap_or_default()
    }

    /// Forgets the pauses so far.
    pub fn forget_pauses(&self) {
        self.pauses.borrow_mut().values_mut().for_each(|pauses| pauses.longest = Duration::ZERO);
    }

    /// Waits until all is sent and read, and checks everything; every record must have been acknowledged.
    pub async fn settle_all(&self, world: &World, cluster: &Cluster) {
        self.settle(world, cluster).await;
        let (acknowledged, all) = (self.acknowledged(), (self.plan.senders * self.plan.records) as usize);
        world.expect(acknowledged == all, "all records to be acknowledged in the end", || {
            format!("{acknowledged} of {all} were")
        });
    }

    /// Waits until all is sent and read, and checks everything, whatever became of the records.
    pub async fn settle(&self, world: &World, cluster: &Cluster) {
        let Self { history, plan, done, .. } = self;
        self.healed.close();
        world.until("all records are sent", || done.get() == plan.senders).await;
        world.until("the fate of every record is known", || history.pending() == 0).await;
        cluster.healed(TOPIC).await;
        // Whatever is written late, or twice, has time to show.
        sleep(Duration::from_secs(10)).await;
        if plan.recreated {
            return self.settle_recreated(world, cluster).await;
        }
        let logs = cluster.logs(TOPIC);
        let logged: usize = logs.values().map(Vec::len).sum();
        if plan.unclean {
            return self.settle_unclean(world, cluster).await;
        }
        if plan.dropping {
            return self.settle_dropping(world, cluster).await;
        }
        world.until("everything is read", || history.read_by(READER) >= logged).await;
        world.until("everything is read slowly", || history.read_by(SLOW_READER) >= logged).await;
        sleep(Duration::from_secs(10)).await;
        history.check(world, &cluster.logs(TOPIC));
    }

    /// Senders and readers close, and leave nothing behind.
    pub async fn close(&self, world: &World) {
        for (host, client) in &self.clients {
            let closed = client.close().await;
            let what = format!("the client of {} to close in peace", host.name());
            world.expect(closed.is_ok(), &what, || format!("{closed:?}"));
            world.until_nothing_is_left_of(host).await;
        }
    }

    async fn settle_dropping(&self, world: &World, cluster: &Cluster) {
        let (logs, history) = (cluster.whole_logs(TOPIC), &self.history);
        let read_by = |reader| {
            let begins = cluster.begins(TOPIC);
            logs.iter().all(|(partition, log)| {
                let begin =
                    begins.get(partition).and_then(|begins| begins.last()).map_or(0, |last| last.offset);
                let end = log.last().map_or(0, |last| last.offset + 1);
                history.reached(reader, *partition).max(begin) >= end
            })
        };
        world.until("everything is read that is not dropped", || read_by(READER)).await;
        world.until("everything is read slowly that is not dropped", || read_by(SLOW_READER)).await;
        sleep(Duration::from_secs(10)).await;
        history.check_since(world, &cluster.whole_logs(TOPIC), &cluster.begins(TOPIC));
        self.expect_to_be_told(world);
    }

    async fn settle_recreated(&self, world: &World, cluster: &Cluster) {
        let (incarnations, history) = (cluster.incarnations(TOPIC), &self.history);
        let refused = self
            .last
            .borrow()
            .iter()
            .filter(|last| !matches!(history.fate(**last), Fate::Written(_)))
            .count();
        world.expect(refused == 0, "everything to be written once all faults are over", || {
            format!("{refused} records are not")
        });
        let newest = incarnations.last().cloned().unwrap_or_default();
        let all = || history.has_read(READER, &newest) && history.has_read(SLOW_READER, &newest);
        let begun = Instant::now();
        while !all() && begun.elapsed() < PATIENCE {
            sleep(Duration::from_secs(1)).await;
        }
        sleep(Duration::from_secs(10)).await;
        history.check_incarnations(world, &cluster.incarnations(TOPIC));
        world.expect(all(), "everything of the newest incarnation to be read", || "it is not".to_owned());
        self.expect_to_be_told(world);
    }

    fn expect_to_be_told(&self, world: &World) {
        let mut resets = self.resets.borrow().clone();
        for passed in self.passed.borrow().iter() {
            let told = is_told(*passed, &mut resets);
            world.expect(told, "a reader to be told when its position is reset", || format!("{passed:?}"));
        }
    }

    async fn settle_unclean(&self, world: &World, cluster: &Cluster) {
        let (logs, history) = (cluster.logs(TOPIC), &self.history);
        let all = || history.has_read(READER, &logs) && history.has_read(SLOW_READER, &logs);
        for _ in 0..600 {
            if all() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        // Who has not read everything is told by the check.
        let (lost, elections) = (cluster.lost(TOPIC), cluster.unclean_elections(TOPIC));
        history.check_but(world, &cluster.logs(TOPIC), &lost, &elections);
    }
}

/// Whether the resets lead from where it stood to where it went on. Those that do are used up.
fn is_told(passed: Passed, resets: &mut Vec<Passed>) -> bool {
    let mut at = passed.from;
    resets.retain(|reset| {
        let leads = at != passed.to && reset.partition == passed.partition && reset.from == at;
        if leads {
            at = reset.to;
        }
        !leads
    });
    at == passed.to
}

/// The topic is away.
fn is_absent(error: &ottla::Error) -> bool {
    source::<Absence>(error).is_some()
}

/// The log that was read is gone. The next one has its name, and may say first what the place means there.
fn is_gone(error: &ottla::Error) -> bool {
    let gone = |trouble: &Trouble| {
        matches!(trouble, Trouble::Recreated { .. } | Trouble::OutOfRange { .. } | Trouble::Truncated { .. })
    };
    source::<Trouble>(error).is_some_and(gone)
}

fn source<T: std::error::Error + 'static>(error: &ottla::Error) -> Option<&T> {
    std::error::Error::source(error)?.downcast_ref()
}

fn is_out_of_range(error: &ottla::Error) -> bool {
    error.broker_code() == Some(ErrorCode::OFFSET_OUT_OF_RANGE)
}

/// With default settings, as far as a log that is never cut is concerned.
fn consumer(client: &Client, goes_on: bool) -> ConsumerBuilder {
    let reset = if goes_on { Reset::Earliest } else { Reset::Error };
    Consumer::builder(client).on_out_of_range(reset)
}

/// All partitions, from their first record.
fn from_the_beginning(partitions: i32) -> impl Iterator<Item = (TopicPartition, OffsetSpec)> {
    (0..partitions).map(|partition| (TopicPartition::new(TOPIC, partition), OffsetSpec::Earliest))
}

impl Pauses {
    fn acknowledged(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            self.longest = self.longest.max(now - last);
        }
    }
}

/// A producer with settings of its own.
fn producer(client: &Client, plan: Plan, random: &mut fastrand::Rng) -> Producer {
    use Compression::{Gzip, Lz4, None, Snappy, Zstd};
    let codecs = [None, None, Gzip, Snappy, Lz4, Zstd];
    let mut builder = Producer::builder(client)
        .acks(plan.acks)
        .enable_idempotence(plan.delivery == Delivery::ExactlyOnce)
        .compression(codecs[random.usize(..codecs.len())])
        .linger(Duration::from_millis(random.u64(..20)))
        .batch_size(random.usize(1..20_000))
        .max_in_flight_requests_per_connection(random.usize(1..=5));
    if let Some(deadline) = plan.deadline {
        builder = builder.delivery_timeout(deadline).request_timeout(deadline / 2).linger(Duration::ZERO);
    }
    if let Some(timeout) = plan.request_timeout {
        builder = builder.request_timeout(timeout);
    }
    builder.build().expect("settings that are allowed")
}

/// A cluster of three with the topic. Replication takes its time, so that a crash finds something under way.
pub async fn cluster(world: &World, plan: Plan) -> Cluster {
    let mut config = ClusterConfig::with_nodes(3, "", 0);
    if plan.unclean {
        // Replicas fall out of sync soon, so that there are elections to be lost.
        config.replica_lag_time_max = Duration::from_secs(5);
    }
    if plan.racks {
        config.replica_selector = ReplicaSelector::RackAware;
        config.nodes.iter_mut().for_each(|node| node.rack = Some(format!("rack-{}", node.id)));
    }
    config.retention_check_interval = Duration::from_secs(5);
    let cluster = world.cluster_with(config).await;
    let slow = Duration::from_millis(1)..=Duration::from_millis(60);
    let slow = Conditions { latency: slow, ..Conditions::default() };
    for (from, to) in cluster.brokers().flat_map(|from| cluster.brokers().map(move |to| (from.clone(), to))) {
        world.network().set(from.host(), to.host(), slow.clone());
    }
    let mut settings = Vec::new();
    if plan.unclean {
        // What is committed is never lost: the question is what becomes of commits when the log behind them is.
        settings.push(("unclean.leader.election.enable", true.to_string()));
    }
    if let Some(retention) = plan.retention {
        settings.push(("retention.ms", retention.as_millis().to_string()));
        // Brokers whose clocks are slow take what clients with fast ones write.
        settings.push(("message.timestamp.after.max.ms", i64::MAX.to_string()));
    }
    cluster.topic_set(TOPIC, plan.partitions, &settings).await;
    cluster
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Sim;

    #[test]
    fn in_racks_a_reader_is_served_by_a_follower() {
        Sim::seed(1).once().run(async |world| {
            let plan = Plan { partitions: 1, records: 50, racks: true, ..Plan::default() };
            let cluster = cluster(world, plan).await;
            let leader = cluster.leader(TOPIC, 0).expect("a leader").id();
            let load = Load::begin(world, &cluster, plan);
            let served = Rc::<RefCell<BTreeSet<i32>>>::default();
            for (_, client) in &load.clients {
                let (mut events, served) = (client.events(), Rc::clone(&served));
                drop(world.host("test").spawn("events", async move {
                    while let Some(event) = events.recv().await {
                        if let Event::Fetched { node, .. } = event {
                            served.borrow_mut().insert(node);
                        }
                    }
                }));
            }
            load.settle_all(world, &cluster).await;
            load.close(world).await;
            assert!(served.borrow().iter().any(|node| *node != leader), "{served:?}, led by {leader}");
        });
    }
}
