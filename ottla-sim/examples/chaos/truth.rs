//! What the cluster has in the end, read past the proxy.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ottla::{Admin, Client, Consumer, OffsetSpec, OwnedRecord, TopicPartition};
use ottla_sim::history::{
    event::{Actor, Entry, Event, Outcome, What, value_of},
    read_commit,
};

use super::{GROUP, PARTITIONS, Result, TOPIC};

/// Where coordinators keep commits.
const OFFSETS: &str = "__consumer_offsets";

/// All records of the topic, and that there are no more.
pub(crate) async fn log(client: &Client) -> Result<Vec<Entry>> {
    let partitions = (0..PARTITIONS).map(|number| TopicPartition::new(TOPIC, number));
    let mut log: Vec<Entry> =
        partitions.clone().map(|partition| Entry { partition, offset: None, value: None }).collect();
    for record in read(client, partitions).await? {
        let value = value_of(record.value().map(|value| &value[..]).unwrap_or_default());
        log.push(Entry::record(record.topic_partition().clone(), Some(record.offset()), value));
    }
    Ok(log)
}

/// Partitions and offsets of a log.
pub(crate) fn records(log: &[Entry]) -> BTreeSet<(i32, i64)> {
    log.iter().filter_map(|entry| Some((entry.partition.partition(), entry.offset?))).collect()
}

/// The commits of the group, dated by its coordinator.
pub(crate) async fn commits(client: &Client, began: SystemTime) -> Result<Vec<Event>> {
    let described = Admin::new(client).describe_topics([OFFSETS]).await?.all()?;
    let count = described.first().map_or(0, |(_, topic)| topic.partitions.len());
    let partitions = (0..i32::try_from(count)?).map(|number| TopicPartition::new(OFFSETS, number));
    let began = began.duration_since(UNIX_EPOCH)?;
    let mut commits = Vec::new();
    for record in read(client, partitions).await? {
        let (Some(key), Some(value)) = (record.key(), record.value()) else { continue };
        match read_commit(key, value) {
            Some((group, partition, offset)) if &*group == GROUP && partition.topic() == TOPIC => {
                let at = Duration::from_millis(u64::try_from(record.timestamp().millis())?);
                let what = What::Stored { group, offsets: vec![Entry::at(partition, offset)] };
                let at = at.saturating_sub(began);
                commits.push(Event { at, actor: Actor::OBSERVER, outcome: Outcome::Ok, what, error: None });
            }
            _ => {}
        }
    }
    Ok(commits)
}

/// All that is in partitions now.
async fn read(
    client: &Client,
    partitions: impl Iterator<Item = TopicPartition> + Clone,
) -> Result<Vec<OwnedRecord>> {
    let consumer = Consumer::builder(client).build()?;
    let ends = consumer.end_offsets(partitions.clone()).await?;
    let ends: BTreeMap<TopicPartition, i64> = ends.into_iter().collect();
    consumer.assign(partitions.map(|partition| (partition, OffsetSpec::Earliest)))?;
    let mut records = Vec::new();
    let at_end = || {
        ends.iter()
            .all(|(partition, end)| *end == 0 || consumer.position(partition).is_some_and(|at| at >= *end))
    };
    while !at_end() {
        let Some(batch) = consumer.poll().await? else { break };
        records.extend(batch.iter().map(|record| record.detach()));
    }
    consumer.close().await?;
    Ok(records)
}
