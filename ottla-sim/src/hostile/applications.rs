//! What runs against a hostile broker: a producer, a reader, a member of a group, an administrator. Each goes on whatever it
//! is told, as a patient application does, and writes down what became of everything.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use ottla::{
    Admin, Client, Consumer, ConsumerBuilder, OffsetSpec, Producer, Record, Reset, SendError, TopicPartition,
};
use tokio::time::{Instant, sleep, timeout};

use crate::{Cluster, World, group::GROUP, history::Fate, load::TOPIC};

/// The hosts on which they run.
pub(super) const HOSTS: [&str; 4] = ["sender-1", "reader", "billing-1", "admin"];

/// An application pauses for so long after an error.
const PAUSE: Duration = Duration::from_secs(1);

/// No call may take longer than this, whatever a broker says. The longest of the defaults that bound one is Kafka's minute;
/// a close waits for that, and for what is behind it.
pub(super) const LONGEST_CALL: Duration = Duration::from_secs(150);

/// A consumer is replaced after so long, as by a redeployment: what it was told of its group's assignment stays otherwise.
const LIFE: Duration = Duration::from_secs(400);

/// Producers give a record up after so long.
const DELIVERY: Duration = Duration::from_secs(20);

/// A record that was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) partition: i32,
    pub(super) value: Bytes,
    pub(super) fate: Fate,
    pub(super) sent: Instant,
    pub(super) settled: Instant,
}

/// What the applications write down.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) sent: RefCell<Vec<Sent>>,
    /// Values that came.
    pub(super) read: RefCell<BTreeSet<Bytes>>,
    pub(super) handled: RefCell<BTreeSet<Bytes>>,
    /// When the administrator last succeeded.
    pub(super) administered: Cell<Option<Instant>>,
    /// What consumers last said of their partitions, by host.
    pub(super) explained: RefCell<BTreeMap<(String, i32), String>>,
    /// Calls that took too long.
    pub(super) hangs: RefCell<Vec<String>>,
    stopping: Cell<bool>,
}

/// All applications.
pub(super) struct Applications {
    pub(super) book: Rc<Book>,
    running: Vec<crate::Running<()>>,
}

impl Applications {
    pub(super) fn start(world: &World, cluster: &Cluster, partitions: i32) -> Self {
        let book = Rc::<Book>::default();
        let at = |host: &str| Application {
            world: world.clone(),
            client: cluster.client_on(host),
            book: Rc::clone(&book),
            partitions,
            host: host.to_owned(),
        };
        let running = vec![
            world.host(HOSTS[0]).spawn("sender", at(HOSTS[0]).send()),
            world.host(HOSTS[1]).spawn("reader", at(HOSTS[1]).read()),
            world.host(HOSTS[2]).spawn("member", at(HOSTS[2]).handle()),
            world.host(HOSTS[3]).spawn("admin", at(HOSTS[3]).administer()),
        ];
        Self { book, running }
    }

    /// Asks all to stop, and waits until they have.
    pub(super) async fn stop(self, world: &World) {
        self.book.stopping.set(true);
        let ended = || self.running.iter().all(crate::Running::has_ended);
        world.until("the applications end when they are asked to", ended).await;
    }
}

struct Application {
    world: World,
    client: Client,
    book: Rc<Book>,
    partitions: i32,
    host: String,
}

impl Application {
    fn stops(&self) -> bool {
        self.book.stopping.get()
    }

    /// Waits for a call, which has to end.
    async fn bounded<T>(&self, what: &str, call: impl Future<Output = T>) -> Option<T> {
        let done = timeout(LONGEST_CALL, call).await.ok();
        if done.is_none() {
            self.book.hangs.borrow_mut().push(format!("{what} on {}", self.host));
        }
        done
    }

    fn note(&self, what: &str, error: &dyn std::fmt::Display) {
        self.world.note(format!("{}: {what}: {error:#}", self.host));
    }

    async fn close(&self) {
        if let Some(Err(error)) = self.bounded("closing the client", self.client.close()).await {
            self.note("closing", &error);
        }
    }

    async fn send(self) {
        let mut random = self.world.random();
        let producer = || {
            let builder = Producer::builder(&self.client).delivery_timeout(DELIVERY);
            let builder = builder.request_timeout(DELIVERY / 4).linger(Duration::ZERO).max_block(DELIVERY);
            builder.build().expect("settings that are allowed")
        };
        let (mut current, lost) = (producer(), Rc::<Cell<bool>>::default());
        while !self.stops() {
            if lost.take() {
                // An application that is told that a producer is of no use any more takes another one.
                let old = std::mem::replace(&mut current, producer());
                drop(self.bounded("closing a producer", old.close()).await);
            }
            self.send_one(&current, random.i32(0..self.partitions), &lost).await;
            sleep(Duration::from_millis(random.u64(..200))).await;
        }
        drop(self.bounded("closing a producer", current.close()).await);
        self.close().await;
    }

    async fn send_one(&self, producer: &Producer, partition: i32, lost: &Rc<Cell<bool>>) {
        let number = self.book.sent.borrow().len();
        let value = Bytes::from(format!("{partition}-{number}"));
        let now = Instant::now();
        let sent = Sent { partition, value: value.clone(), fate: Fate::Pending, sent: now, settled: now };
        self.book.sent.borrow_mut().push(sent);
        let record = Record::new(&value[..]).partition(partition);
        let receipt = match self.bounded("enqueue", producer.enqueue(TOPIC, record)).await {
            Some(Ok(receipt)) => receipt,
            Some(Err(error)) => {
                lost.set(error.is_fatal());
                self.note("a record was not taken", &error);
                return self.book.settle(number, Fate::NotWritten);
            }
            None => return,
        };
        let (book, lost) = (Rc::clone(&self.book), Rc::clone(lost));
        drop(self.world.host(&self.host).spawn("receipt", async move {
            let fate = match receipt.await {
                Ok(written) => Fate::Written(written.offset()),
                Err(SendError::NotWritten(error)) => {
                    lost.set(lost.get() || error.is_fatal());
                    Fate::NotWritten
                }
                Err(SendError::PossiblyWritten(error)) => {
                    lost.set(lost.get() || error.is_fatal());
                    Fate::PossiblyWritten
                }
            };
            book.settle(number, fate);
        }));
    }

    async fn read(self) {
        while !self.stops() {
            let consumer = self.patient().build().expect("settings that are allowed");
            let all = (0..self.partitions)
                .map(|partition| (TopicPartition::new(TOPIC, partition), OffsetSpec::Earliest));
            consumer.assign(all).expect("partitions that can be named");
            if let Err(error) = self.consume(&consumer, &self.book.read).await {
                self.note("reading", &error);
            }
            drop(self.bounded("closing a consumer", consumer.close()).await);
            sleep(PAUSE).await;
        }
        self.close().await;
    }

    async fn handle(self) {
        while !self.stops() {
            let consumer = self.patient().group(GROUP).session_timeout(Duration::from_secs(10));
            let consumer = consumer.build().expect("settings that are allowed");
            consumer.subscribe([TOPIC]).expect("a topic that can be named");
            if let Err(error) = self.consume(&consumer, &self.book.handled).await {
                self.note("handling", &error);
            }
            drop(self.bounded("closing a member", consumer.close()).await);
            sleep(PAUSE).await;
        }
        self.close().await;
    }

    /// Begins anew wherever it is told that there is nothing.
    fn patient(&self) -> ConsumerBuilder {
        Consumer::builder(&self.client).on_missing_offset(Reset::Earliest).on_out_of_range(Reset::Earliest)
    }

    async fn consume(&self, consumer: &Consumer, into: &RefCell<BTreeSet<Bytes>>) -> ottla::Result<()> {
        let (mut explained, begun) = (Instant::now(), Instant::now());
        while !self.stops() && begun.elapsed() < LIFE {
            if explained.elapsed() > 10 * PAUSE {
                self.explain(consumer);
                explained = Instant::now();
            }
            // That nothing comes for a while is no error, and no reason to build another consumer.
            let Ok(received) = timeout(PAUSE, consumer.recv()).await else { continue };
            let Some(record) = received? else { return Ok(()) };
            into.borrow_mut().extend(record.view().value().map(Bytes::copy_from_slice));
            record.complete();
        }
        Ok(())
    }

    /// For reports.
    fn explain(&self, consumer: &Consumer) {
        let mut explained = self.book.explained.borrow_mut();
        for partition in 0..self.partitions {
            let said = consumer.explain(&TopicPartition::new(TOPIC, partition));
            explained.insert((self.host.clone(), partition), said);
        }
    }

    async fn administer(self) {
        let mut random = self.world.random();
        let admin = Admin::new(&self.client);
        while !self.stops() {
            let done = match random.u32(..6) {
                0 => self.bounded("list topics", async { admin.list_topics().await.map(drop) }).await,
                1 => {
                    let described = async { admin.describe_topics([TOPIC]).await.map(drop) };
                    self.bounded("describe topics", described).await
                }
                2 => self.bounded("list groups", async { admin.list_groups().await.map(drop) }).await,
                3 => {
                    let described = async { admin.describe_groups([GROUP]).await.map(drop) };
                    self.bounded("describe groups", described).await
                }
                4 => {
                    let listed = async { admin.list_group_offsets([GROUP]).await.map(drop) };
                    self.bounded("list group offsets", listed).await
                }
                _ => {
                    let ends = (0..self.partitions)
                        .map(|partition| (TopicPartition::new(TOPIC, partition), OffsetSpec::Latest));
                    self.bounded("list offsets", async { admin.list_offsets(ends).await.map(drop) }).await
                }
            };
            match done {
                Some(Ok(())) => self.book.administered.set(Some(Instant::now())),
                Some(Err(error)) => self.note("administering", &error),
                None => {}
            }
            sleep(Duration::from_millis(random.u64(..2_000))).await;
        }
        self.close().await;
    }
}

impl Book {
    fn settle(&self, number: usize, fate: Fate) {
        let sent = &mut self.sent.borrow_mut()[number];
        (sent.fate, sent.settled) = (fate, Instant::now());
    }

    /// How many records wait for their fate.
    pub(super) fn pending(&self) -> usize {
        self.sent.borrow().iter().filter(|sent| sent.fate == Fate::Pending).count()
    }
}
