//! What a scenario stands on: a broker, a client, and the short ways to write and read.

use std::sync::LazyLock;
use std::time::Duration;

use ottla::{Admin, Client, Consumer, NewTopic, OffsetSpec, Producer, RecordMetadata, Reset, TopicPartition};
use tokio::sync::RwLock;

use crate::backend::{Backend, RealKafka};
use crate::java::Java;
use crate::record::{Read, Written};

/// Nothing here takes long, but a machine may be busy.
const LIMIT: Duration = Duration::from_secs(180);

/// Scenarios share the real Kafka, but for those that harm it.
static REAL_KAFKA: LazyLock<RwLock<()>> = LazyLock::new(|| RwLock::new(()));

pub(crate) struct World {
    backend: Backend,
    client: Client,
    java: Option<Java>,
}

/// Runs a scenario on an embedded cluster of its own.
pub(crate) async fn on_embedded(nodes: usize, scenario: impl AsyncFnOnce(&World)) {
    run(Backend::embedded(nodes).await, scenario).await;
}

/// Runs a scenario on the real Kafka, if there is one and it has enough nodes.
pub(crate) async fn on_real_kafka(nodes: usize, alone: bool, scenario: impl AsyncFnOnce(&World)) {
    let Some(kafka) = RealKafka::from_environment() else {
        eprintln!("no real Kafka: cargo xtask kafka run -- cargo test -p ottla --test conformance");
        return;
    };
    if kafka.nodes() < nodes {
        eprintln!("not run: this Kafka has {} nodes, and {nodes} are needed", kafka.nodes());
        return;
    }
    if alone {
        let _alone = REAL_KAFKA.write().await;
        run(Backend::Real(kafka), scenario).await;
    } else {
        let _shared = REAL_KAFKA.read().await;
        run(Backend::Real(kafka), scenario).await;
    }
}

async fn run(backend: Backend, scenario: impl AsyncFnOnce(&World)) {
    let client = Client::builder().bootstrap_servers(backend.bootstrap_servers()).connect().await;
    let world =
        World { backend, client: client.expect("the broker answers"), java: Java::from_environment() };
    tokio::time::timeout(LIMIT, scenario(&world)).await.expect("the scenario ends in time");
    world.client.close().await.expect("nothing is left to do");
    world.backend.stop().await;
}

impl World {
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.backend
    }

    pub(crate) fn admin(&self) -> Admin {
        Admin::new(&self.client)
    }

    /// A client of its own, whose events nobody else causes.
    pub(crate) async fn another_client(&self) -> Client {
        let client = Client::builder().bootstrap_servers(self.backend.bootstrap_servers());
        client.connect().await.expect("the brokers answer")
    }

    /// The broker that coordinates a group that has members.
    pub(crate) async fn coordinator(&self, group: &str) -> i32 {
        let described = self.admin().describe_groups([group]).await.expect("the brokers answer");
        let (_, group) = described.into_iter().next().expect("one was asked for");
        group.expect("it has a member").coordinator.id
    }

    /// Java's client on the same broker, where there is Java.
    pub(crate) fn java(&self) -> Option<&Java> {
        if self.java.is_none() {
            eprintln!("not run: no Java client (OTTLA_KAFKA_LIBS)");
        }
        self.java.as_ref()
    }

    pub(crate) fn bootstrap_servers(&self) -> String {
        self.backend.bootstrap_servers().join(",")
    }

    /// A new topic, on all brokers up to three, whose name no other test has.
    pub(crate) async fn topic(&self, partitions: i32) -> String {
        let replicas = self.backend.bootstrap_servers().len().min(3) as i16;
        let name = fresh_name();
        // Tests write records of long ago.
        let topic = NewTopic::new(name.clone(), partitions, replicas).config("retention.ms", "-1");
        let created = self.admin().create_topics([topic]).timeout(Duration::from_secs(30)).await;
        created.and_then(|topics| topics.all().map(drop)).expect("the topic is created");
        self.is_known(&name).await;
        name
    }

    /// Waits until brokers have heard of a topic that is created: one that is busy with thousands of others takes seconds.
    async fn is_known(&self, topic: &str) {
        let known = async || {
            let described = self.admin().describe_topics([topic]).await;
            described.is_ok_and(|topics| topics.all().is_ok())
        };
        let look = async {
            while !known().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), look).await.expect("brokers hear of what is created");
    }

    pub(crate) fn producer(&self) -> Producer {
        Producer::builder(&self.client).build().expect("the defaults are valid")
    }

    /// Writes the records with a producer of defaults, one after the other, and tells where they went.
    pub(crate) async fn write(&self, topic: &str, records: &[Written]) -> Vec<RecordMetadata> {
        let producer = self.producer();
        let written = write_with(&producer, topic, records).await;
        producer.close().await.expect("everything was acknowledged");
        written
    }

    /// A consumer of all partitions of the topic, from `spec` on.
    pub(crate) async fn consumer(&self, topic: &str, partitions: i32, spec: OffsetSpec) -> Consumer {
        let consumer = Consumer::builder(&self.client).on_out_of_range(Reset::Error).build().expect("valid");
        let all = (0..partitions).map(|partition| (TopicPartition::new(topic, partition), spec));
        consumer.assign(all).expect("they exist");
        consumer
    }

    /// The first `count` records of the topic, by partition and offset.
    pub(crate) async fn read(&self, topic: &str, partitions: i32, count: usize) -> Vec<Read> {
        let consumer = self.consumer(topic, partitions, OffsetSpec::Earliest).await;
        let mut records = take(&consumer, count).await;
        consumer.close().await.expect("nothing is left to do");
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }
}

/// Enqueues all records, then waits for each of them.
pub(crate) async fn write_with(producer: &Producer, topic: &str, records: &[Written]) -> Vec<RecordMetadata> {
    let mut receipts = Vec::with_capacity(records.len());
    for record in records {
        let headers = record.headers();
        receipts.push(producer.enqueue(topic, record.as_record(&headers)).await.expect("there is room"));
    }
    let mut written = Vec::with_capacity(receipts.len());
    for receipt in receipts {
        written.push(receipt.await.expect("the record is acknowledged"));
    }
    written
}

/// Reads until there are `count` records, and fails if a batch brings more.
pub(crate) async fn take(consumer: &Consumer, count: usize) -> Vec<Read> {
    let mut records = Vec::new();
    while records.len() < count {
        let batch = consumer.poll().await.expect("the partitions can be read").expect("the consumer is open");
        records.extend(batch.iter().map(|record| Read::of(&record)));
    }
    assert_eq!(records.len(), count, "more records than were written");
    records
}

/// A topic name that nobody else has, also not an earlier run against the same cluster.
#[allow(clippy::disallowed_methods, reason = "names must differ from run to run")]
pub(crate) fn fresh_name() -> String {
    format!("conformance-{:016x}", fastrand::u64(..))
}
