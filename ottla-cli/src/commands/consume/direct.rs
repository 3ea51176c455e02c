//! `ottla consume` without a group: the partitions that are wanted, from where and until where they are.

use std::time::Duration;

use ottla::{Admin, Client, TopicPartition};
use regex::Regex;
use tokio::time::Instant;

use super::{Consume, printer::Printer, reading, silence, spans::Spans};
use crate::{
    bounds,
    commands::topics::{no_such_partition, why_not},
    output::{Failure, say},
    text::{each_once, offset_range::OffsetRange},
};

/// How long to wait for records before looking whether the end has come by other means.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Consume {
    pub(super) async fn directly(
        &self,
        client: &Client,
        expressions: &[Regex],
        range: OffsetRange,
    ) -> Result<(), Failure> {
        let consumer = self.builder(client).build()?;
        let look_up = async {
            let topics = self.topics(client, expressions).await?;
            let partitions = self.partitions(client, &topics).await?;
            Spans::resolve(&consumer, &partitions, range, self.exit).await
        };
        let mut spans = bounds::within(bounds::LOOK_UP, bounds::LOOKED, look_up).await?;
        consumer.assign(spans.assignment())?;
        let mut printer = Printer::new(self, &consumer, spans.total());
        let mut last = Instant::now();
        let mut looked = last;
        while !printer.is_done() && !spans.have_ended() {
            match tokio::time::timeout(LOOK_AGAIN, consumer.poll()).await {
                Ok(Ok(Some(batch))) => {
                    last = Instant::now();
                    let partition = batch.topic_partition().clone();
                    printer.batch(&batch, spans.limit(&partition))?;
                    drop(batch);
                    if printer.has_enough_of(&partition) {
                        spans.end(&consumer, &partition);
                    }
                    spans.end_if_reached(&consumer, &partition);
                }
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return Err(reading(&error)),
                Err(_) if self.exit && last.elapsed() >= self.timeout.unwrap_or(bounds::STALL) => {
                    spans.end_all_reached(&consumer);
                    if !spans.have_ended() {
                        let why = silence::explained(&consumer, &spans.open());
                        return Err(silence::failure(last.elapsed(), &why));
                    }
                }
                Err(_) if self.timeout.is_some_and(|silence| last.elapsed() >= silence) => {
                    let is_end = silence::is_of_the_end(&consumer, &spans.open()).await;
                    is_end.map_err(|why| silence::failure(last.elapsed(), &why))?;
                    break;
                }
                Err(_) => {
                    spans.end_all_reached(&consumer);
                    if last.max(looked).elapsed() >= bounds::STALL && !spans.have_ended() {
                        looked = Instant::now();
                        if let Err(why) = silence::is_of_the_end(&consumer, &spans.open()).await {
                            say(format_args!(
                                "ottla: nothing came for {} s. {why}",
                                last.elapsed().as_secs()
                            ));
                        }
                    }
                }
            }
        }
        consumer.close().await?;
        Ok(())
    }

    /// The partitions to read, each once; a topic or a partition that does not exist is an error here.
    async fn partitions(&self, client: &Client, topics: &[String]) -> Result<Vec<TopicPartition>, Failure> {
        let mut wanted = Vec::new();
        let admin = Admin::new(client);
        for (topic, described) in admin.describe_topics(topics).await? {
            let described = match described {
                Ok(described) => described,
                Err(error) => return Err(Failure::new(why_not(&admin, &topic, &error).await)),
            };
            let existing = 0..i32::try_from(described.partitions.len()).unwrap_or(i32::MAX);
            if let Some(missing) = self.partition.iter().find(|partition| !existing.contains(partition)) {
                return Err(no_such_partition(&topic, *missing, described.partitions.len()));
            }
            let numbers = if self.partition.is_empty() {
                existing.collect()
            } else {
                each_once(self.partition.clone())
            };
            wanted.extend(numbers.into_iter().map(|number| TopicPartition::new(topic.as_str(), number)));
        }
        Ok(wanted)
    }
}
