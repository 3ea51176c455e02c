//! `ottla topics`: list, describe, create, delete.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use ottla::{Admin, NewTopic};
use serde_json::json;

use crate::{
    connect::Connect,
    output::{Failure, Failures, say},
};

/// List, describe, create and delete topics.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ottla topics list
  ottla topics create orders --partitions 6 --replication-factor 3 --config retention.ms=86400000
  ottla topics describe orders --json
  ottla topics delete orders refunds")]
pub(crate) struct Topics {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    connect: Connect,
    /// Print JSON lines.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the names of all topics.
    List {
        /// Leave out internal topics.
        #[arg(long)]
        exclude_internal: bool,
    },
    /// Print the partitions of topics: leader, epoch, replicas, in-sync replicas.
    Describe {
        #[arg(required = true)]
        topics: Vec<String>,
    },
    /// Create topics.
    Create {
        #[arg(required = true)]
        topics: Vec<String>,
        /// Partitions of each topic; the broker's default when left out.
        #[arg(long)]
        partitions: Option<i32>,
        /// Copies of each partition; the broker's default when left out.
        #[arg(long)]
        replication_factor: Option<i16>,
        /// A topic's setting; may be repeated.
        #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
        config: Vec<(String, String)>,
        /// A topic that exists already is no failure.
        #[arg(long)]
        if_not_exists: bool,
    },
    /// Delete topics and all their records.
    Delete {
        #[arg(required = true)]
        topics: Vec<String>,
        /// A topic that does not exist is no failure.
        #[arg(long)]
        if_exists: bool,
    },
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("use NAME=VALUE, as in retention.ms=86400000".into()),
    }
}

impl Topics {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.connect.client().await?;
        let admin = Admin::new(&client);
        let json = self.json;
        let result = match self.verb {
            Verb::List { exclude_internal } => list(&admin, exclude_internal, json).await,
            Verb::Describe { topics } => describe(&admin, topics, json).await,
            Verb::Create { topics, partitions, replication_factor, config, if_not_exists } => {
                let new = topics.into_iter().map(|name| {
                    let topic =
                        NewTopic::new(name, partitions.unwrap_or(-1), replication_factor.unwrap_or(-1));
                    config.iter().fold(topic, |topic, (name, value)| topic.config(name, value))
                });
                create(&admin, new.collect(), if_not_exists, json).await
            }
            Verb::Delete { topics, if_exists } => delete(&admin, topics, if_exists, json).await,
        };
        let closed = client.close().await;
        result.and(Ok(closed?))
    }
}

async fn list(admin: &Admin, exclude_internal: bool, json: bool) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    for topic in admin.list_topics().await? {
        if exclude_internal && topic.internal {
            continue;
        }
        if json {
            writeln!(
                out,
                "{}",
                json!({ "topic": topic.name, "id": topic.id.to_string(), "internal": topic.internal })
            )?;
        } else {
            writeln!(out, "{}", topic.name)?;
        }
    }
    Ok(())
}

async fn describe(admin: &Admin, topics: Vec<String>, json: bool) -> Result<(), Failure> {
    let mut failed = Failures::default();
    let mut out = io::stdout().lock();
    if !json {
        writeln!(out, "TOPIC\tPARTITION\tLEADER\tEPOCH\tREPLICAS\tISR")?;
    }
    for (name, result) in admin.describe_topics(topics).await? {
        let topic = match result {
            Ok(topic) => topic,
            Err(error) => {
                failed.add(&name, &error);
                continue;
            }
        };
        for partition in &topic.partitions {
            if json {
                let line = json!({
                    "topic": name, "id": topic.id.to_string(), "partition": partition.partition,
                    "leader": partition.leader, "leader_epoch": partition.leader_epoch,
                    "replicas": partition.replicas, "isr": partition.isr,
                });
                writeln!(out, "{line}")?;
            } else {
                let leader = partition.leader.map_or("none".to_string(), |leader| leader.to_string());
                let (replicas, isr) = (ids(&partition.replicas), ids(&partition.isr));
                let (number, epoch) = (partition.partition, partition.leader_epoch);
                writeln!(out, "{name}\t{number}\t{leader}\t{epoch}\t{replicas}\t{isr}")?;
            }
        }
    }
    failed.into_result()
}

fn ids(ids: &[i32]) -> String {
    ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

async fn create(
    admin: &Admin,
    topics: Vec<NewTopic>,
    if_not_exists: bool,
    json: bool,
) -> Result<(), Failure> {
    let mut failed = Failures::default();
    for (name, result) in admin.create_topics(topics).await? {
        match result {
            Ok(created) if json => {
                let line = json!({ "topic": name, "created": true, "partitions": created.partitions });
                writeln!(io::stdout(), "{line}")?;
            }
            Ok(_) => say(format_args!("created {name}")),
            Err(error)
                if if_not_exists && error.broker_code() == Some(ottla::ErrorCode::TOPIC_ALREADY_EXISTS) =>
            {
                say(format_args!("{name} exists already"));
            }
            Err(error) => failed.add(&name, &error),
        }
    }
    failed.into_result()
}

async fn delete(admin: &Admin, topics: Vec<String>, if_exists: bool, json: bool) -> Result<(), Failure> {
    let mut failed = Failures::default();
    for (name, result) in admin.delete_topics(topics).await? {
        match result {
            Ok(()) if json => writeln!(io::stdout(), "{}", json!({ "topic": name, "deleted": true }))?,
            Ok(()) => say(format_args!("deleted {name}")),
            Err(error)
                if if_exists && error.broker_code() == Some(ottla::ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) =>
            {
                say(format_args!("{name} does not exist"));
            }
            Err(error) => failed.add(&name, &error),
        }
    }
    failed.into_result()
}
