//! `ottla bench consume`.

use clap::Args;
use ottla::{Client, OffsetSpec, Producer, Record};
use ottla_broker::null::sample_values;
use tokio::time::{Instant, timeout};

use super::{
    Common, PATIENCE, Report, properties, property,
    report::{Latencies, Span},
    target::partitions,
    warm_up,
};
use crate::output::{Failure, say};

/// Flags are named as those of `kafka-consumer-perf-test`.
#[derive(Debug, Args)]
pub(super) struct Consume {
    #[command(flatten)]
    pub(super) common: Common,
    /// How many records are measured: up to a batch more or less, since batches are taken whole.
    #[arg(long, alias = "messages", value_name = "N", default_value_t = 5_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    num_records: u64,
    /// How many are consumed before that; a fifth of them when left out.
    #[arg(long, value_name = "N")]
    warmup_records: Option<u64>,
    /// Consume as a member of this group, and complete every batch.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// One record at a time, not a batch at a time.
    #[arg(long)]
    record_by_record: bool,
    /// Settings of the consumer, by Java's names.
    #[arg(long, alias = "command-property", value_name = "KEY=VALUE", num_args = 1.., value_parser = property)]
    consumer_props: Vec<(String, String)>,
}

impl Consume {
    pub(super) async fn run(&self) -> Result<Report, Failure> {
        let (target, client) = self.common.connect().await?;
        let before = warm_up(self.warmup_records, self.num_records);
        if target.is_ours() && !target.is_null() {
            self.fill(&client, before + self.num_records).await?;
        }
        let consumer = self.consumer(&client).await?;
        let warmed_up = self.consume(&consumer, before).await?.records;
        // It ended with a whole batch: what that had too much is not there any more, unless they never end.
        let rest = match target.is_null() {
            true => self.num_records,
            false => (before + self.num_records).saturating_sub(warmed_up),
        };
        if rest == 0 {
            return Err(Failure::usage(format!(
                "the warm-up took all {warmed_up} records, since batches are taken whole: ask for more with \
                 --num-records, or for --warmup-records 0"
            )));
        }
        let span = Span::begin();
        let consumed = self.consume(&consumer, rest).await?;
        let report = span.end("consume", consumed.records, consumed.bytes, consumed.waits);
        consumer.close().await?;
        client.close().await?;
        Ok(report)
    }

    /// A topic of a broker that was started just now is empty.
    async fn fill(&self, client: &Client, records: u64) -> Result<(), Failure> {
        say(format_args!("ottla: filling {} with {records} records first", self.common.topic));
        let producer = Producer::builder(client).build()?;
        let topic = producer.topic(&self.common.topic);
        for (_, value) in (0..records).zip(sample_values(self.common.record_size as usize).iter().cycle()) {
            drop(topic.enqueue(Record::new(value)).await?);
        }
        producer.close().await.map_err(ottla::Error::from)?;
        Ok(())
    }

    async fn consumer(&self, client: &Client) -> Result<ottla::Consumer, Failure> {
        let mut builder =
            ottla::Consumer::builder(client).properties(properties(&self.consumer_props, "--consumer-props"));
        if let Some(group) = &self.group {
            builder = builder.group(group).on_missing_offset(ottla::Reset::Earliest);
        }
        let consumer = builder.build()?;
        if self.group.is_some() {
            consumer.subscribe([&self.common.topic])?;
            return Ok(consumer);
        }
        let partitions = partitions(client, &self.common.topic).await?;
        consumer.assign(partitions.into_iter().map(|partition| (partition, OffsetSpec::Earliest)))?;
        Ok(consumer)
    }

    async fn consume(&self, consumer: &ottla::Consumer, count: u64) -> Result<Consumed, Failure> {
        let mut consumed = Consumed { records: 0, bytes: 0, waits: Latencies::new() };
        while consumed.records < count {
            let turn = timeout(PATIENCE, async {
                if self.record_by_record {
                    consumed.up_to_100(consumer, count).await
                } else {
                    consumed.batch(consumer).await
                }
            });
            match turn.await {
                Ok(turn) => turn?,
                Err(_) => {
                    return Err(Failure::new(format!(
                        "nothing arrived for {} s after {} of {count} records: does {} hold as many? Produce some first, \
                         or ask for less with --num-records",
                        PATIENCE.as_secs(),
                        consumed.records,
                        self.common.topic
                    )));
                }
            }
        }
        Ok(consumed)
    }
}

#[derive(Debug)]
struct Consumed {
    records: u64,
    bytes: u64,
    waits: Latencies,
}

impl Consumed {
    /// Takes the next batch and looks at every value.
    async fn batch(&mut self, consumer: &ottla::Consumer) -> Result<(), Failure> {
        let asked = Instant::now();
        let batch = consumer.poll().await?.ok_or_else(closed)?;
        self.waits.record(asked.elapsed());
        self.records += batch.len() as u64;
        self.bytes += batch.iter().map(|record| record.value().map_or(0, touch)).sum::<u64>();
        batch.complete();
        Ok(())
    }

    /// Takes records one by one until there are `count`, or a hundred more. The clock is asked for one wait of them: it
    /// costs as much as a record.
    async fn up_to_100(&mut self, consumer: &ottla::Consumer, count: u64) -> Result<(), Failure> {
        for n in 0..(count - self.records).min(100) {
            let asked = (n == 0).then(Instant::now);
            let record = consumer.recv().await?.ok_or_else(closed)?;
            if let Some(asked) = asked {
                self.waits.record(asked.elapsed());
            }
            self.records += 1;
            self.bytes += record.view().value().map_or(0, touch);
            record.complete();
        }
        Ok(())
    }
}

/// Looks at a value's length and first byte, as whoever parses it would.
fn touch(value: &[u8]) -> u64 {
    std::hint::black_box(value.first());
    value.len() as u64
}

fn closed() -> Failure {
    Failure::new("the consumer was closed")
}
