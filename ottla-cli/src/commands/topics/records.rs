//! `ottla topics delete-records`: the oldest records go before their time.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::{Duration, SystemTime},
};

use clap::Args;
use ottla::{
    Admin, OffsetAndTimestamp, OffsetSpec, TopicPartition,
    admin::{PerItem, RecordsToDelete},
};
use serde_json::json;

use super::{no_such_partition, why_not};
use crate::{
    complete,
    output::{Failure, Failures, say},
    text::{
        chosen::Chosen,
        each_once,
        offset_range::{Bound, OffsetRange},
        time,
    },
};

#[derive(Debug, Args)]
pub(super) struct DeleteRecords {
    /// All partitions of a topic, or some.
    #[arg(required = true, value_name = "TOPIC[:N,…]", add = complete::topics(), value_parser = Chosen::parse)]
    topics: Vec<Chosen>,
    /// What stays begins here: an offset, @2026-11-01T10:00:00Z, @-1h; or end, where nothing stays.
    #[arg(long, value_name = "WHERE", value_parser = Before::parse)]
    before: Before,
}

/// In front of what the records are deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    End,
    Offset(i64),
    /// The first record of that time or later, in milliseconds since the epoch.
    Time(i64),
}

type Records = BTreeMap<TopicPartition, RecordsToDelete>;

impl Before {
    fn parse(text: &str) -> Result<Self, String> {
        match OffsetRange::parse(text, time::now_ms())? {
            OffsetRange { from: Bound::Latest, until: None } => Ok(Self::End),
            OffsetRange { from: Bound::At(offset), until: None } => Ok(Self::Offset(offset)),
            OffsetRange { from: Bound::Time(ms), until: None } => Ok(Self::Time(ms)),
            _ => Err("use an offset, @TIME, or end".to_owned()),
        }
    }

    /// Which records these are in each partition; of the others is said why nobody knows.
    async fn resolve(
        self,
        admin: &Admin,
        partitions: Vec<TopicPartition>,
        failed: &mut Failures,
    ) -> Result<Records, Failure> {
        let ms = match self {
            Self::End => return Ok(all(&partitions, RecordsToDelete::All).collect()),
            Self::Offset(offset) => return Ok(all(&partitions, RecordsToDelete::Before(offset)).collect()),
            Self::Time(ms) => ms,
        };
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        // The end first: what is written from here on stays, also where no record is as new as that.
        let ends = admin.list_offsets(all(&partitions, OffsetSpec::Latest)).await?;
        let mut records = Records::new();
        let mut learn = |places: PerItem<TopicPartition, Option<OffsetAndTimestamp>>| {
            for (partition, place) in places {
                match place {
                    Ok(Some(place)) => drop(records.insert(partition, place.offset.into())),
                    Ok(None) => {}
                    Err(error) => {
                        records.remove(&partition);
                        failed.add(&partition.to_string(), &error);
                    }
                }
            }
        };
        learn(ends);
        learn(admin.list_offsets(all(&partitions, OffsetSpec::Timestamp(time))).await?);
        Ok(records)
    }
}

impl DeleteRecords {
    pub(super) async fn run(self, admin: &Admin, json: bool) -> Result<(), Failure> {
        let mut failed = Failures::default();
        let partitions = meant(admin, self.topics, &mut failed).await?;
        let records = self.before.resolve(admin, partitions, &mut failed).await?;
        // What is deleted does not come back: all of it, or nothing.
        if records.is_empty() || !failed.are_none() {
            return failed.into_result();
        }
        for (partition, result) in admin.delete_records(records).await? {
            let (topic, number) = (partition.topic(), partition.partition());
            match result {
                Ok(start) if json => {
                    let line = json!({ "topic": topic, "partition": number, "log_start": start });
                    writeln!(io::stdout(), "{line}")?;
                }
                Ok(start) => say(format_args!("{partition} begins at offset {start}")),
                Err(error) => failed.add_words(&partition.to_string(), &why_not(admin, topic, &error).await),
            }
        }
        failed.into_result()
    }
}

/// The partitions that are meant, each once. One that does not exist is a failure before anything is deleted.
async fn meant(
    admin: &Admin,
    topics: Vec<Chosen>,
    failed: &mut Failures,
) -> Result<Vec<TopicPartition>, Failure> {
    let names = each_once(topics.iter().map(|chosen| chosen.topic.clone()).collect());
    let mut counts = BTreeMap::new();
    for (topic, described) in admin.describe_topics(names).await? {
        match described {
            Ok(described) => drop(counts.insert(topic, described.partitions.len())),
            Err(error) => failed.add_words(&topic, &why_not(admin, &topic, &error).await),
        }
    }
    let mut partitions = Vec::new();
    for Chosen { topic, partitions: named } in topics {
        let Some(count) = counts.get(&topic).copied() else { continue };
        let exists = |number: &i32| usize::try_from(*number).is_ok_and(|number| number < count);
        if let Some(missing) = named.iter().flatten().find(|number| !exists(number)) {
            return Err(no_such_partition(&topic, *missing, count));
        }
        let numbers = named.unwrap_or_else(|| (0..).take(count).collect());
        partitions.extend(numbers.into_iter().map(|number| TopicPartition::new(topic.as_str(), number)));
    }
    Ok(each_once(partitions))
}

fn all<T: Copy>(partitions: &[TopicPartition], value: T) -> impl Iterator<Item = (TopicPartition, T)> {
    partitions.iter().map(move |partition| (partition.clone(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_go_in_front_of_one_place() {
        assert_eq!(Before::parse("end"), Ok(Before::End));
        assert_eq!(Before::parse("42"), Ok(Before::Offset(42)));
        assert_eq!(Before::parse("@1793520000000"), Ok(Before::Time(1_793_520_000_000)));
        for wrong in ["start", "-5", "+5", "1:2", "@-1h:+1m", "", "soon"] {
            assert!(Before::parse(wrong).is_err(), "{wrong}");
        }
    }
}
