//! `ottla demo`: one round trip, explained while it happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    io::{self, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use ottla::{Admin, Client, Consumer, NewTopic, OffsetSpec, Producer, Record, TopicPartition};
use ottla_broker::{ClusterConfig, disk::Tail, tcp::Cluster};
use ottla_protocol::crc32c;

use crate::output::Failure;

const TOPIC: &str = "demo";
const PARTITIONS: i32 = 3;
/// How long reading may take, the election of new leaders included.
const PATIENCE: Duration = Duration::from_secs(30);

/// Start a cluster of three nodes, produce lines to it, crash a node, and read all lines back from the others.
///
/// The lines are those of FILE, or of this command's own source.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ottla demo
  ottla demo /etc/services")]
pub(crate) struct Demo {
    /// A file whose lines are produced.
    file: Option<PathBuf>,
}

impl Demo {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let lines = self.lines()?;
        let mut report = Report::new();
        let cluster = start(&mut report).await?;
        let client = Client::builder().bootstrap_servers(cluster.bootstrap_servers()).connect().await?;
        let outcome = round_trip(&cluster, &client, &lines, &mut report).await;
        let closed = client.close().await;
        cluster.stop().await;
        outcome.and(Ok(closed?))
    }

    fn lines(&self) -> Result<Vec<Vec<u8>>, Failure> {
        let text = match &self.file {
            Some(path) => {
                fs::read(path).map_err(|error| Failure::new(format!("{}: {error}", path.display())))?
            }
            None => include_bytes!("demo.rs").to_vec(),
        };
        let lines: Vec<_> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        Ok(lines)
    }
}

async fn start(report: &mut Report) -> Result<Cluster, Failure> {
    let mut config = ClusterConfig::with_nodes(3, "127.0.0.1", 0);
    // A production cluster waits longer before it believes that a node is gone; here somebody is watching.
    config.broker_heartbeat_interval = Duration::from_millis(100);
    config.broker_session_timeout = Duration::from_millis(600);
    let cluster = Cluster::start(config, None).await?;
    report
        .step("broker", format_args!("3 nodes at {}, in memory", cluster.bootstrap_servers().join(", ")))?;
    Ok(cluster)
}

async fn round_trip(
    cluster: &Cluster,
    client: &Client,
    lines: &[Vec<u8>],
    report: &mut Report,
) -> Result<(), Failure> {
    let admin = Admin::new(client);
    admin.create_topics([NewTopic::new(TOPIC, PARTITIONS, 3)]).await?.all()?;
    report.step("topic", format_args!("{TOPIC:?} with {PARTITIONS} partitions of 3 replicas"))?;

    let written = produce(client, lines).await?;
    let (checksum, bytes) = (checksum(lines), lines.iter().map(Vec::len).sum::<usize>());
    report.step("produce", format_args!("{} lines, {bytes} bytes, checksum {checksum:08x}", lines.len()))?;
    for (partition, (first, last)) in &written {
        report.detail(format_args!(
            "partition {partition}: offsets {first} to {last}, acknowledged by all replicas in sync"
        ))?;
    }

    let leader = leader_of_first_partition(&admin).await?;
    cluster.crash(leader, Tail::Lost).await?;
    report.step("crash", format_args!("node {leader}, which led partition 0, is gone, memory and all"))?;

    let read = consume(client, lines.len(), report).await?;
    report.step("consume", format_args!("{} lines, checksum {:08x}", read.len(), self::checksum(&read)))?;
    if read != lines {
        return Err(Failure::new("what was read is not what was written"));
    }
    report.step("result", format_args!("the same lines: nothing lost, nothing twice"))?;
    Ok(())
}

/// Produces the lines, with their numbers as keys; gives the first and the last offset in each partition.
async fn produce(client: &Client, lines: &[Vec<u8>]) -> Result<BTreeMap<i32, (i64, i64)>, Failure> {
    let producer = Producer::builder(client).build()?;
    let topic = producer.topic(TOPIC);
    let mut receipts = Vec::with_capacity(lines.len());
    for (number, line) in lines.iter().enumerate() {
        receipts.push(topic.enqueue(Record::new(line).key(&number.to_string())).await?);
    }
    let mut written = BTreeMap::new();
    for receipt in receipts {
        let metadata = receipt.await.map_err(ottla::Error::from)?;
        let offset = metadata.offset().unwrap_or_default();
        let (_, last) = written.entry(metadata.partition()).or_insert((offset, offset));
        *last = offset;
    }
    producer.close().await.map_err(ottla::Error::from)?;
    Ok(written)
}

async fn leader_of_first_partition(admin: &Admin) -> Result<i32, Failure> {
    for (_, topic) in admin.describe_topics([TOPIC]).await? {
        if let Some(leader) = topic?.partitions.first().and_then(|partition| partition.leader) {
            return Ok(leader);
        }
    }
    Err(Failure::new("partition 0 has no leader"))
}

/// Reads `expected` records from the beginning and puts them in the order of their keys.
async fn consume(client: &Client, expected: usize, report: &mut Report) -> Result<Vec<Vec<u8>>, Failure> {
    let consumer = Consumer::builder(client).build()?;
    let partitions = (0..PARTITIONS).map(|partition| TopicPartition::new(TOPIC, partition));
    consumer.assign(partitions.map(|partition| (partition, OffsetSpec::Earliest)))?;
    let mut read = Vec::with_capacity(expected);
    let mut shown = BTreeSet::new();
    let reading = async {
        while read.len() < expected
            && let Some(batch) = consumer.poll().await?
        {
            for record in &batch {
                let number =
                    record.key().and_then(number).ok_or_else(|| Failure::new("a record has no number"))?;
                let value = record.value().unwrap_or_default();
                // One of each partition, and one that says something.
                if value.len() > 30 && shown.insert(record.partition()) {
                    report.record(record.partition(), record.offset(), value)?;
                }
                read.push((number, value.to_vec()));
            }
        }
        Ok::<_, Failure>(())
    };
    let in_time = tokio::time::timeout(PATIENCE, reading).await;
    consumer.close().await?;
    in_time.map_err(|_| Failure::new(format!("only {} of {expected} lines came back", read.len())))??;
    read.sort();
    Ok(read.into_iter().map(|(_, line)| line).collect())
}

fn number(key: &[u8]) -> Option<usize> {
    std::str::from_utf8(key).ok()?.parse().ok()
}

fn checksum(lines: &[Vec<u8>]) -> u32 {
    crc32c(&lines.join(&b'\n'))
}

/// What happened, line by line, with the time that each step took.
struct Report {
    begin: Instant,
}

impl Report {
    fn new() -> Self {
        Self { begin: now() }
    }

    fn step(&mut self, name: &str, what: fmt::Arguments<'_>) -> io::Result<()> {
        let took = now().duration_since(self.begin);
        writeln!(io::stdout(), "{name:<8} {what} ({} ms)", took.as_millis())?;
        self.begin = now();
        Ok(())
    }

    fn detail(&self, what: fmt::Arguments<'_>) -> io::Result<()> {
        writeln!(io::stdout(), "{:<8} {what}", "")
    }

    fn record(&self, partition: i32, offset: i64, value: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(value);
        self.detail(format_args!("partition {partition}, offset {offset}: {}", text.trim()))
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
