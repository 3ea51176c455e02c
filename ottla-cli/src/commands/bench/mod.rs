//! `ottla bench`: what this client costs, and how fast it is.

mod arrivals;
mod consume;
mod e2e;
mod idle;
mod produce;
mod report;
mod target;
mod usage;

use std::time::Duration;

use clap::{Args, Subcommand};
use ottla::{Client, NewTopic, Properties};

use self::{report::Report, target::Target};
use crate::{
    commands::topics::create_missing,
    connect::Connect,
    output::{Failure, say},
};

/// Measure the client: throughput, CPU time per record, latency, memory.
///
/// CPU time and memory are those of this process. The brokers of `--against null` and `--against embedded` run in a
/// process of their own.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ottla bench produce --against null
  ottla bench produce --against null --throughput 1000 --producer-props linger.ms=0
  ottla bench consume --against embedded --record-size 1000
  ottla bench e2e --against localhost:9092 --json
  ottla bench idle --against embedded --seconds 60")]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Produce records as fast as they are taken, or at a rate; latency is from the call to the acknowledgement.
    Produce(produce::Produce),
    /// Consume what a topic holds; latency is what a poll waits for its batch.
    Consume(consume::Consume),
    /// Produce a record, wait until it is consumed, produce the next one.
    E2e(e2e::EndToEnd),
    /// Have a producer and a member of a group do nothing; what a client costs that nobody uses.
    Idle(idle::Idle),
}

/// What the benchmarks have in common.
#[derive(Debug, Args)]
struct Common {
    /// Brokers to measure against: `null` (does nothing), `embedded` (one node, in memory), or HOST:PORT,…; those of
    /// --bootstrap-server when left out.
    #[arg(long, value_name = "BROKERS")]
    against: Option<String>,
    /// The topic; it is created if it does not exist.
    #[arg(long, default_value = "ottla-bench")]
    topic: String,
    /// How many partitions the topic gets.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
    /// Bytes of a record's value.
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    record_size: u32,
    /// End with one line of JSON on stdout.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: Connect,
}

impl Common {
    /// Starts what has to be started, and connects to it.
    async fn connect(&self) -> Result<(Target, Client), Failure> {
        let target = Target::start(self).await?;
        let client = match target.servers() {
            Some(servers) => self.connect.client_of(servers, "--against").await?,
            None => self.connect.client().await?,
        };
        if !target.is_null() {
            // As many replicas as the cluster gives by default.
            let topic = NewTopic::new(&self.topic, self.partitions, -1);
            create_missing(&client, [topic], |_, _| {}).await?;
        }
        Ok((target, client))
    }
}

impl Bench {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let (report, json) = match &self.what {
            What::Produce(command) => (command.run().await?, command.common.json),
            What::Consume(command) => (command.run().await?, command.common.json),
            What::E2e(command) => (command.run().await?, command.common.json),
            What::Idle(command) => return command.run().await,
        };
        report.print(json)
    }
}

/// `acks=1 linger.ms=5` as on the command line of Kafka's own tools, in the option of that name.
fn properties(of: &[(String, String)], option: &str) -> Properties {
    let pairs = of.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let properties = Properties::from_iter(pairs).called(option);
    for warning in properties.warnings() {
        say(format_args!("ottla: {warning}"));
    }
    properties
}

fn property(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("use KEY=VALUE")?;
    Ok((key.into(), value.into()))
}

/// How much comes before what is measured: connections, metadata and memory are there then.
fn warm_up(asked: Option<u64>, records: u64) -> u64 {
    asked.unwrap_or(records / 5)
}

/// A failure to make progress is one, whatever else happens.
const PATIENCE: Duration = Duration::from_secs(60);
