//! `ottla bench produce`.

use std::time::Duration;

use clap::Args;
use futures::{StreamExt, stream::FuturesUnordered};
use ottla::{Producer, Receipt, Record, SendError, TopicProducer};
use ottla_broker::null::sample_values;
use tokio::{sync::mpsc, time::Instant};

use super::{
    Common, Report,
    arrivals::Arrivals,
    properties, property,
    report::{Latencies, Span},
    warm_up,
};
use crate::output::Failure;

/// Flags are named as those of `kafka-producer-perf-test`.
#[derive(Debug, Args)]
pub(super) struct Produce {
    #[command(flatten)]
    pub(super) common: Common,
    /// How many records are measured.
    #[arg(long, value_name = "N", default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    num_records: u64,
    /// How many are produced before that; a fifth of them when left out.
    #[arg(long, value_name = "N")]
    warmup_records: Option<u64>,
    /// Records a second; as fast as they are taken when left out, or -1.
    #[arg(long, value_name = "RATE", default_value_t = -1.0, allow_negative_numbers = true)]
    throughput: f64,
    /// Settings of the producer, by Java's names.
    #[arg(long, alias = "command-property", value_name = "KEY=VALUE", num_args = 1.., value_parser = property)]
    producer_props: Vec<(String, String)>,
}

/// How many latencies are taken at most: each costs a clock, a channel and a wake-up, which the others do not.
const SAMPLES: u64 = 50_000;

impl Produce {
    pub(super) async fn run(&self) -> Result<Report, Failure> {
        let (_target, client) = self.common.connect().await?;
        let producer = Producer::builder(&client)
            .properties(properties(&self.producer_props, "--producer-props"))
            .build()?;
        let topic = producer.topic(&self.common.topic);
        let values = sample_values(self.common.record_size as usize);

        self.produce(&topic, &values, warm_up(self.warmup_records, self.num_records)).await?;
        producer.flush().await.map_err(failed)?;

        let span = Span::begin();
        let latencies = self.produce(&topic, &values, self.num_records).await?;
        producer.flush().await.map_err(failed)?;
        let bytes = self.num_records * u64::from(self.common.record_size);
        let report = span.end("produce", self.num_records, bytes, latencies);
        producer.close().await.map_err(failed)?;
        client.close().await?;
        Ok(report)
    }

    /// Produces `count` records, and waits for the acknowledgements of those whose latency is taken.
    async fn produce(
        &self,
        topic: &TopicProducer,
        values: &[Vec<u8>],
        count: u64,
    ) -> Result<Latencies, Failure> {
        let every = (count / SAMPLES).max(1);
        let (sampled, mut samples) = mpsc::unbounded_channel();
        let produce = async move {
            let mut arrivals = Arrivals::begin((self.throughput > 0.0).then_some(self.throughput));
            for (n, value) in (0..count).zip(values.iter().cycle()) {
                let due = arrivals.next().await;
                if n % every == 0 {
                    let due = due.unwrap_or_else(Instant::now);
                    let receipt = topic.enqueue(Record::new(value)).await?;
                    // The other side is open for as long as this one.
                    drop(sampled.send((due, receipt)));
                    // It has to get to see what has arrived, however seldom this one has to wait.
                    tokio::task::yield_now().await;
                } else {
                    drop(topic.enqueue(Record::new(value)).await?);
                }
            }
            Ok::<_, ottla::Error>(())
        };
        let collect = async {
            let (mut latencies, mut open) = (Latencies::new(), FuturesUnordered::new());
            let mut all_sent = false;
            while !all_sent || !open.is_empty() {
                tokio::select! {
                    biased;
                    Some(latency) = open.next() => latencies.record(latency?),
                    sample = samples.recv(), if !all_sent => match sample {
                        Some((due, receipt)) => open.push(latency(due, receipt)),
                        None => all_sent = true,
                    },
                }
            }
            Ok::<_, Failure>(latencies)
        };
        let (produced, latencies) = tokio::join!(produce, collect);
        produced?;
        latencies
    }
}

async fn latency(due: Instant, receipt: Receipt) -> Result<Duration, Failure> {
    receipt.await.map_err(failed)?;
    Ok(due.elapsed())
}

fn failed(error: SendError) -> Failure {
    Failure::from(ottla::Error::from(error))
}
