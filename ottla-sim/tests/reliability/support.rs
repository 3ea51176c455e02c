//! What the scenarios have in common.

use std::{
    cell::{Cell, RefCell},
    ops::Range,
    time::Duration,
};

use bytes::Bytes;
use ottla::{Client, Consumer, OffsetSpec, Producer, ProducerBuilder, Record, SendError, TopicPartition};
use ottla_broker::ClusterConfig;
use ottla_sim::{
    Cluster, World,
    history::{Fate, History, Read},
};
use tokio::time::sleep;

pub(crate) use ottla_sim::load::{Load, Plan, TOPIC, cluster};

/// The seeds of each scenario under load: what takes about a minute. `OTTLA_SIM_SEEDS=0..1000` runs more.
pub(crate) const SEEDS: Range<u64> = 0..12;

/// The seeds of scenarios in which one thing happens.
pub(crate) const FEW: Range<u64> = 0..4;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

const READER: u32 = 1;

/// One producer on host `app`, record after record, and what became of them.
pub(crate) struct Stream {
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
    pub(crate) producer: Producer,
    pub(crate) history: History,
    world: World,
    partitions: i32,
    sent: Cell<u32>,
    checked: RefCell<bool>,
}

impl Stream {
    /// Three brokers and two partitions.
    pub(crate) async fn start(
        world: &World,
        configure: impl FnOnce(ProducerBuilder) -> ProducerBuilder,
    ) -> Self {
        let config = ClusterConfig::with_nodes(3, "", 0);
        Self::with(world, config, 2, configure).await
    }

    pub(crate) async fn with(
        world: &World,
        config: ClusterConfig,
        partitions: i32,
        configure: impl FnOnce(ProducerBuilder) -> ProducerBuilder,
    ) -> Self {
        let cluster = world.cluster_with(config).await;
        cluster.topic(TOPIC, partitions).await;
        // Stale metadata shows soon.
        let client = cluster.client_builder("app").client_id("app").metadata_max_age(2 * SECOND);
        let client = client.build().expect("valid settings");
        let builder = Producer::builder(&client).linger(Duration::ZERO).batch_size(300);
        let producer = configure(builder).build().expect("valid settings");
        let (history, world) = (History::new(), world.clone());
        let (sent, checked) = (Cell::new(0), RefCell::new(false));
        Self { cluster, client, producer, history, world, partitions, sent, checked }
    }

    /// Sends so many records, to one partition after the other, as fast as they are taken.
    pub(crate) async fn send(&self, count: u32) {
        for _ in 0..count {
            let partition = self.sent.get() as i32 % self.partitions;
            self.send_to(partition, 40).await;
        }
    }

    /// Sends one record of about so many bytes.
    pub(crate) async fn send_to(&self, partition: i32, bytes: usize) {
        let number = self.sent.replace(self.sent.get() + 1);
        let value = format!("{number} {}", "=".repeat(bytes));
        let record = self.history.sending(0, partition, Bytes::from(value.clone()));
        let receipt = match self.producer.enqueue(TOPIC, Record::new(&value).partition(partition)).await {
            Ok(receipt) => receipt,
            Err(error) => {
                self.world.note(format!("record {number} was not taken: {error:#}"));
                return self.history.settled(record, Fate::NotWritten);
            }
        };
        let (history, world) = (self.history.clone(), self.world.clone());
        drop(self.world.spawn("app", async move {
            let fate = match receipt.await {
                Ok(written) => Fate::Written(written.offset()),
                Err(error) => {
                    world.note(format!("record {number}: {error:#}"));
                    fate_of(&error)
                }
            };
            history.settled(record, fate);
        }));
    }

    /// The number of records sent with that fate.
    pub(crate) fn count(&self, is: impl Fn(Fate) -> bool) -> usize {
        self.history.count(is)
    }

    /// Waits until the fate of every record is known.
    pub(crate) async fn settled(&self) {
        self.world.until("the fate of every record is known", || self.history.pending() == 0).await;
    }

    /// Waits until everything is known and read, and checks it, whatever became of the records.
    pub(crate) async fn settle(&self) {
        self.settled().await;
        self.cluster.healed(TOPIC).await;
        // What comes late, or twice, has time to show.
        sleep(40 * SECOND).await;
        let logs = self.cluster.logs(TOPIC);
        let logged: usize = logs.values().map(Vec::len).sum();
        if !self.checked.replace(true) {
            self.read();
        }
        self.world.until("everything is read", || self.history.read_by(READER) >= logged).await;
        self.history.check(&self.world, &logs);
    }

    /// [`Stream::settle`]; and every record must have been acknowledged.
    pub(crate) async fn settle_all(&self) {
        self.settle().await;
        let (acknowledged, sent) = (self.history.acknowledged(), self.sent.get() as usize);
        self.world.expect(acknowledged == sent, "all records to be acknowledged", || {
            format!("{acknowledged} of {sent} were")
        });
    }

    fn read(&self) {
        let consumer = Consumer::builder(&self.cluster.client_on("reader")).build().expect("defaults");
        let from = (0..self.partitions).map(|p| (TopicPartition::new(TOPIC, p), OffsetSpec::Earliest));
        consumer.assign(from).expect("partitions that exist");
        let history = self.history.clone();
        drop(self.world.host("reader").spawn("reader", async move {
            while let Some(record) = consumer.recv().await.expect("nothing that needs the user") {
                let view = record.view();
                let value = view.value().map(Bytes::copy_from_slice).unwrap_or_default();
                let (partition, offset) = (view.partition(), view.offset());
                history.read(READER, Read { partition, offset, value });
            }
        }));
    }
}

pub(crate) fn fate_of(error: &SendError) -> Fate {
    match error {
        SendError::NotWritten(_) => Fate::NotWritten,
        SendError::PossiblyWritten(_) => Fate::PossiblyWritten,
    }
}
