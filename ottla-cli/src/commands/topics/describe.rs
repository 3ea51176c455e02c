//! `ottla topics describe`.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use clap::Args;
use ottla::{
    Admin, OffsetSpec, TopicPartition,
    admin::{ConfigSource, PartitionDescription, TopicDescription},
};
use serde_json::json;

use super::why_not;
use crate::{
    complete,
    output::{Failure, Failures},
    text::{
        each_once,
        table::{NOTHING, Table, number},
    },
};

/// Leaders that do not say it sooner leave the offsets open; everything else is known by then.
const OFFSETS: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct Describe {
    /// All topics when none are named.
    #[arg(value_name = "TOPIC", add = complete::topics())]
    topics: Vec<String>,
    /// Only partitions with replicas that are not in sync.
    #[arg(long)]
    under_replicated: bool,
    /// Only partitions without a leader.
    #[arg(long)]
    unavailable: bool,
}

type Offsets = BTreeMap<TopicPartition, i64>;

impl Describe {
    pub(super) async fn run(self, admin: &Admin, json: bool) -> Result<(), Failure> {
        let is_whole = !self.topics.is_empty() && !self.under_replicated && !self.unavailable;
        let names = match self.topics.is_empty() {
            true => admin.list_topics().await?.into_iter().map(|topic| topic.name).collect(),
            false => each_once(self.topics.clone()),
        };
        let mut failed = Failures::default();
        let mut topics = Vec::new();
        for (name, result) in admin.describe_topics(names).await? {
            match result {
                Ok(mut topic) => {
                    topic.partitions.retain(|partition| self.shows(partition));
                    topics.push(topic);
                }
                Err(error) => failed.add_words(&name, &why_not(admin, &name, &error).await),
            }
        }
        let (starts, ends) = tokio::join!(
            offsets(admin, &topics, OffsetSpec::Earliest),
            offsets(admin, &topics, OffsetSpec::Latest)
        );
        let settings = if is_whole && !json { settings(admin, &topics).await } else { BTreeMap::new() };
        let mut out = io::stdout().lock();
        let mut table = table();
        for (nth, topic) in topics.iter().enumerate() {
            if json {
                write_lines(topic, (&starts, &ends), &mut out)?;
                continue;
            }
            if is_whole {
                if nth > 0 {
                    writeln!(out)?;
                }
                write_summary(topic, settings.get(&topic.name), &mut out)?;
                table = self::table();
            }
            add(topic, (&starts, &ends), &mut table);
            if is_whole {
                table.write(&mut out)?;
            }
        }
        if !json && !is_whole {
            table.write(&mut out)?;
        }
        failed.into_result()
    }

    fn shows(&self, partition: &PartitionDescription) -> bool {
        (!self.under_replicated || partition.isr.len() < partition.replicas.len())
            && (!self.unavailable || partition.leader.is_none())
    }
}

/// Where the logs begin or end, as far as their leaders say it.
async fn offsets(admin: &Admin, topics: &[TopicDescription], spec: OffsetSpec) -> Offsets {
    let led = topics.iter().flat_map(|topic| {
        let led = topic.partitions.iter().filter(|partition| partition.leader.is_some());
        led.map(|partition| (TopicPartition::new(topic.name.as_str(), partition.partition), spec))
    });
    let asked = admin.list_offsets(led.collect::<Vec<_>>()).timeout(OFFSETS).await;
    let told = asked.into_iter().flatten();
    told.filter_map(|(partition, place)| Some((partition, place.ok()??.offset))).collect()
}

/// What somebody has set, topic by topic; nothing of those that must not be read.
async fn settings(admin: &Admin, topics: &[TopicDescription]) -> BTreeMap<String, String> {
    let names = topics.iter().map(|topic| topic.name.as_str());
    let described = admin.describe_topic_configs(names).await.into_iter().flatten();
    let set = |(topic, entries): (String, ottla::Result<Vec<_>>)| {
        let set = entries
            .ok()?
            .into_iter()
            .filter(|entry: &ottla::admin::ConfigEntry| entry.source == ConfigSource::Topic);
        let set: Vec<_> =
            set.map(|entry| format!("{}={}", entry.name, entry.value.unwrap_or_default())).collect();
        Some((topic, set.join(" ")))
    };
    described.filter_map(set).collect()
}

fn table() -> Table {
    Table::new(&[
        "TOPIC",
        "PARTITION",
        "LEADER",
        "EPOCH",
        "REPLICAS",
        "ISR",
        "OFFLINE",
        "LOG-START",
        "LOG-END",
    ])
}

fn add(topic: &TopicDescription, (starts, ends): (&Offsets, &Offsets), table: &mut Table) {
    for partition in &topic.partitions {
        let at = TopicPartition::new(topic.name.as_str(), partition.partition);
        table.row([
            topic.name.clone(),
            partition.partition.to_string(),
            partition.leader.map_or("none".to_owned(), |leader| leader.to_string()),
            partition.leader_epoch.to_string(),
            ids(&partition.replicas),
            ids(&partition.isr),
            ids(&partition.offline),
            number(starts.get(&at).copied()),
            number(ends.get(&at).copied()),
        ]);
    }
}

fn write_summary(
    topic: &TopicDescription,
    settings: Option<&String>,
    out: &mut impl Write,
) -> io::Result<()> {
    let replicas = topic.partitions.iter().map(|partition| partition.replicas.len()).max().unwrap_or(0);
    let settings = settings.map(String::as_str).filter(|settings| !settings.is_empty());
    writeln!(out, "TOPIC       {}", topic.name)?;
    writeln!(out, "ID          {}", topic.id)?;
    writeln!(out, "INTERNAL    {}", topic.internal)?;
    writeln!(out, "PARTITIONS  {}", topic.partitions.len())?;
    writeln!(out, "REPLICAS    {replicas}")?;
    writeln!(out, "SETTINGS    {}", settings.unwrap_or(NOTHING))?;
    writeln!(out)
}

fn write_lines(
    topic: &TopicDescription,
    (starts, ends): (&Offsets, &Offsets),
    out: &mut impl Write,
) -> io::Result<()> {
    for partition in &topic.partitions {
        let at = TopicPartition::new(topic.name.as_str(), partition.partition);
        let line = json!({
            "topic": topic.name, "id": topic.id.to_string(), "internal": topic.internal,
            "partition": partition.partition, "leader": partition.leader, "leader_epoch": partition.leader_epoch,
            "replicas": partition.replicas, "isr": partition.isr, "offline": partition.offline,
            "log_start": starts.get(&at), "log_end": ends.get(&at),
        });
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn ids(ids: &[i32]) -> String {
    ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}
