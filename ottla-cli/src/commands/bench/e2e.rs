//! `ottla bench e2e`.

use std::time::Duration;

use clap::Args;
use ottla::{OffsetSpec, Producer, Record};
use ottla_broker::null::sample_values;
use tokio::time::{Instant, timeout};

use super::{
    Common, PATIENCE, Report,
    report::{Latencies, Span},
    target::partitions,
    warm_up,
};
use crate::output::Failure;

/// As Kafka's `EndToEndLatency`: one record is under way at a time.
#[derive(Debug, Args)]
pub(super) struct EndToEnd {
    #[command(flatten)]
    pub(super) common: Common,
    /// How many records are measured.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    num_records: u64,
    /// How many come before that; a fifth of them when left out.
    #[arg(long, value_name = "N")]
    warmup_records: Option<u64>,
}

impl EndToEnd {
    pub(super) async fn run(&self) -> Result<Report, Failure> {
        let (target, client) = self.common.connect().await?;
        if target.is_null() {
            return Err(Failure::usage(
                "a null broker keeps no record to be consumed: use --against embedded",
            ));
        }
        let producer = Producer::builder(&client).linger(Duration::ZERO).build()?;
        let consumer = ottla::Consumer::builder(&client).build()?;
        // From the ends as they are now: what is produced from here on is seen.
        let ends = consumer.end_offsets(partitions(&client, &self.common.topic).await?).await?;
        consumer.assign(ends.into_iter().map(|(partition, end)| (partition, OffsetSpec::At(end))))?;

        let values = sample_values(self.common.record_size as usize);
        let before = warm_up(self.warmup_records, self.num_records);
        self.round_trips(&producer, &consumer, &values, before).await?;
        let span = Span::begin();
        let latencies = self.round_trips(&producer, &consumer, &values, self.num_records).await?;
        let bytes = self.num_records * u64::from(self.common.record_size);
        let report = span.end("e2e", self.num_records, bytes, latencies);
        producer.close().await.map_err(ottla::Error::from)?;
        consumer.close().await?;
        client.close().await?;
        Ok(report)
    }

    async fn round_trips(
        &self,
        producer: &Producer,
        consumer: &ottla::Consumer,
        values: &[Vec<u8>],
        count: u64,
    ) -> Result<Latencies, Failure> {
        let topic = producer.topic(&self.common.topic);
        let mut latencies = Latencies::new();
        for (_, value) in (0..count).zip(values.iter().cycle()) {
            let sent = Instant::now();
            let receipt = topic.enqueue(Record::new(value)).await?;
            let arrived = timeout(PATIENCE, consumer.recv()).await;
            let arrived =
                arrived.map_err(|_| Failure::new("a record that was produced did not arrive"))??;
            latencies.record(sent.elapsed());
            if arrived.is_none_or(|record| record.view().value() != Some(value)) {
                return Err(Failure::new(format!(
                    "another record arrived than the one that was produced: does somebody else use {}?",
                    self.common.topic
                )));
            }
            receipt.await.map_err(ottla::Error::from)?;
        }
        Ok(latencies)
    }
}
