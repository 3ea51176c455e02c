//! `ottla topics`: list, describe, create, delete, their settings, more partitions, fewer records.

mod configs;
mod describe;
mod missing;
mod records;

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::{Args, Subcommand};
use ottla::{Admin, NewTopic};
use serde_json::json;

pub(crate) use self::missing::{create_missing, no_such_partition, why_not};
use self::{configs::Configs, describe::Describe, records::DeleteRecords};
use crate::{
    bounds, complete,
    connect::Connect,
    output::{Failure, Failures, say},
    text::{each_once, time},
};

/// List, describe, create, change and delete topics.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ottla topics list
  ottla topics create orders --partitions 6 --replication-factor 3 --config retention.ms=86400000
  ottla topics describe orders --json
  ottla topics describe --under-replicated
  ottla topics configs orders --set retention.ms=-1 --delete retention.bytes
  ottla topics add-partitions orders --partitions 12
  ottla topics delete-records orders:0,1 --before @-7d
  ottla topics delete orders refunds")]
pub(crate) struct Topics {
    #[command(subcommand)]
    verb: Verb,
    /// Print JSON lines.
    #[arg(long, global = true, display_order = 900)]
    json: bool,
    /// End after so long, done or not.
    #[arg(long, global = true, display_order = 901, value_name = "DURATION", default_value = bounds::COMMAND, value_parser = time::duration)]
    timeout: Duration,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the names of all topics.
    List {
        /// Leave out internal topics.
        #[arg(long)]
        exclude_internal: bool,
    },
    /// Print all there is to know of topics: partitions, leaders, replicas, where the logs begin and end.
    ///
    /// Of topics that are named also their id and what was set for them.
    Describe(Describe),
    /// Print the settings of topics that somebody set, or change them.
    Configs(Configs),
    /// Give topics more partitions. The records of a key go to another one from then on.
    AddPartitions {
        /// The topics.
        #[arg(required = true, value_name = "TOPIC", add = complete::topics())]
        topics: Vec<String>,
        /// So many in all.
        #[arg(long)]
        partitions: i32,
        /// Only say whether it would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete the oldest records of topics, whatever their retention.
    DeleteRecords(DeleteRecords),
    /// Create topics.
    Create {
        /// Their names.
        #[arg(required = true, value_name = "TOPIC")]
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
        /// The topics.
        #[arg(required = true, value_name = "TOPIC", add = complete::topics())]
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
        bounds::within(self.timeout, bounds::CHANGES, self.run_unbounded()).await
    }

    async fn run_unbounded(self) -> Result<(), Failure> {
        let client = self.connect.client().await?;
        let admin = Admin::new(&client);
        let json = self.json;
        let result = match self.verb {
            Verb::List { exclude_internal } => list(&admin, exclude_internal, json).await,
            Verb::Describe(describe) => describe.run(&admin, json).await,
            Verb::Configs(configs) => configs.run(&admin, json).await,
            Verb::DeleteRecords(delete) => delete.run(&admin, json).await,
            Verb::AddPartitions { topics, partitions, dry_run } => {
                add_partitions(&admin, each_once(topics), partitions, dry_run, json).await
            }
            Verb::Create { topics, partitions, replication_factor, config, if_not_exists } => {
                let new = each_once(topics).into_iter().map(|name| {
                    let topic =
                        NewTopic::new(name, partitions.unwrap_or(-1), replication_factor.unwrap_or(-1));
                    config.iter().fold(topic, |topic, (name, value)| topic.config(name, value))
                });
                create(&admin, new.collect(), if_not_exists, json).await
            }
            Verb::Delete { topics, if_exists } => delete(&admin, each_once(topics), if_exists, json).await,
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

async fn add_partitions(
    admin: &Admin,
    topics: Vec<String>,
    partitions: i32,
    dry_run: bool,
    json: bool,
) -> Result<(), Failure> {
    let mut request = admin.create_partitions(topics.into_iter().map(|topic| (topic, partitions)));
    if dry_run {
        request = request.validate_only();
    }
    let mut failed = Failures::default();
    for (name, result) in request.await? {
        match result {
            Ok(()) if json => {
                let line = json!({ "topic": name, "partitions": partitions, "changed": !dry_run });
                writeln!(io::stdout(), "{line}")?;
            }
            Ok(()) if dry_run => say(format_args!("{name} would have {partitions} partitions")),
            Ok(()) => say(format_args!("{name} has {partitions} partitions")),
            Err(error) => failed.add_words(&name, &why_not(admin, &name, &error).await),
        }
    }
    failed.into_result()
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
            Err(error) => failed.add_words(&name, &why_not(admin, &name, &error).await),
        }
    }
    failed.into_result()
}
