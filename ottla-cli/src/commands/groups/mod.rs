//! `ottla groups`: list, describe, seek, delete, delete offsets.

mod describe;
mod lag;
mod seek;

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::{Args, Subcommand};
use ottla::{
    Admin, ErrorCode, TopicPartition,
    admin::{GroupState, GroupType},
};
use serde_json::json;

use self::{lag::Filter, seek::Seek};
use crate::{
    bounds, complete,
    connect::Connect,
    output::{Failure, Failures, say},
    text::{chosen::Chosen, each_once, similar::similar, table::Table, time},
};

/// List, describe, move and delete consumer groups, and show how far they are behind.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ottla groups list --state Stable,Empty
  ottla groups describe billing
  ottla groups describe billing --lag '>0' --json | jq '.partitions[]'
  ottla groups seek billing --to @-1h                   # shows what would change; --execute does it
  ottla groups seek billing orders:0,1 --to -1000 --execute
  ottla groups delete-offsets billing orders:0,1 refunds
  ottla groups delete billing")]
pub(crate) struct Groups {
    #[command(subcommand)]
    verb: Verb,
    /// Print JSON lines, one for each group (of seek and delete-offsets: for each partition).
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
    /// Print all groups: state, type, what their members are, coordinator.
    List {
        /// Only groups in these states: Empty, PreparingRebalance, CompletingRebalance, Stable, Dead, Assigning,
        /// Reconciling, NotReady.
        #[arg(long, value_delimiter = ',', value_name = "STATE,…", value_parser = state)]
        state: Vec<GroupState>,
        /// Only groups of these types: classic, consumer, share, streams.
        #[arg(long = "type", value_delimiter = ',', value_name = "TYPE,…", value_parser = kind)]
        kind: Vec<GroupType>,
    },
    /// Print what groups do, who is in them, and how far each partition is behind.
    ///
    /// A partition of which nothing is committed has no lag: `-`.
    Describe {
        /// The groups.
        #[arg(required = true, value_name = "GROUP", add = complete::groups())]
        groups: Vec<String>,
        /// Only partitions with such a lag, as '>0'; those of which it is not known are always shown.
        #[arg(long, value_name = "CONDITION", value_parser = Filter::parse)]
        lag: Option<Filter>,
    },
    /// Set where a group without members goes on; without `--execute` only show it.
    ///
    /// An offset that is not in the log becomes the nearest one that is. A group that does not exist comes into being with it.
    Seek(Seek),
    /// Delete groups without members, with all that they have committed.
    Delete {
        /// The groups.
        #[arg(required = true, value_name = "GROUP", add = complete::groups())]
        groups: Vec<String>,
        /// A group that does not exist is no failure.
        #[arg(long)]
        if_exists: bool,
    },
    /// Delete what a group has committed for topics that none of its members reads.
    DeleteOffsets {
        /// The group.
        #[arg(add = complete::groups())]
        group: String,
        /// All partitions of a topic, or some.
        #[arg(required = true, add = complete::topics(), value_name = "TOPIC[:N,…]", value_parser = Chosen::parse)]
        topics: Vec<Chosen>,
    },
}

fn state(text: &str) -> Result<GroupState, String> {
    use GroupState::*;
    let known =
        [Empty, PreparingRebalance, CompletingRebalance, Stable, Dead, Assigning, Reconciling, NotReady];
    match GroupState::from(text) {
        Other(word) => Err(unknown(&word, known.iter().map(GroupState::as_str))),
        state => Ok(state),
    }
}

fn kind(text: &str) -> Result<GroupType, String> {
    use GroupType::*;
    match GroupType::from(text) {
        Other(word) => Err(unknown(&word, [Classic, Consumer, Share, Streams].iter().map(GroupType::as_str))),
        kind => Ok(kind),
    }
}

/// What to say about a word that is none of those that there are.
fn unknown<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match similar(word, known.clone()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("there are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

impl Groups {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        bounds::within(self.timeout, bounds::CHANGES, self.run_unbounded()).await
    }

    async fn run_unbounded(self) -> Result<(), Failure> {
        let client = self.connect.client().await?;
        let (admin, json) = (Admin::new(&client), self.json);
        let result = match self.verb {
            Verb::List { state, kind } => list(&admin, state, kind, json).await,
            Verb::Describe { groups, lag } => describe::describe(&admin, each_once(groups), lag, json).await,
            Verb::Seek(seek) => seek.run(&admin, json).await,
            Verb::Delete { groups, if_exists } => delete(&admin, each_once(groups), if_exists, json).await,
            Verb::DeleteOffsets { group, topics } => delete_offsets(&admin, &group, topics, json).await,
        };
        let closed = client.close().await;
        result.and(Ok(closed?))
    }
}

async fn list(
    admin: &Admin,
    states: Vec<GroupState>,
    types: Vec<GroupType>,
    json: bool,
) -> Result<(), Failure> {
    let listed = admin.list_groups().in_states(states).with_types(types).await?;
    let mut failed = Failures::default();
    for (broker, error) in &listed.failed {
        failed.add(&format!("broker {broker}"), error);
    }
    let mut out = io::stdout().lock();
    let mut table = Table::new(&["GROUP", "STATE", "TYPE", "PROTOCOL", "COORDINATOR"]);
    for group in listed.groups {
        let state = group.state.as_ref().map(GroupState::as_str);
        let kind = group.group_type.as_ref().map(GroupType::as_str);
        if json {
            let line = json!({
                "group": group.group, "state": state, "type": kind,
                "protocol_type": group.protocol_type, "coordinator": group.coordinator,
            });
            writeln!(out, "{line}")?;
        } else {
            let word = |word: Option<&str>| word.unwrap_or_default().to_owned();
            let coordinator = group.coordinator.to_string();
            table.row([group.group.clone(), word(state), word(kind), group.protocol_type, coordinator]);
        }
    }
    if !json {
        table.write(&mut out)?;
    }
    failed.into_result()
}

async fn delete(admin: &Admin, groups: Vec<String>, if_exists: bool, json: bool) -> Result<(), Failure> {
    let mut failed = Failures::default();
    for (group, result) in admin.delete_groups(groups).await? {
        match result {
            Ok(()) if json => writeln!(io::stdout(), "{}", json!({ "group": group, "deleted": true }))?,
            Ok(()) => say(format_args!("deleted {group}")),
            Err(error) if if_exists && error.broker_code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => {
                say(format_args!("{group} does not exist"));
            }
            Err(error) => failed.add(&group, &error),
        }
    }
    failed.into_result()
}

async fn delete_offsets(admin: &Admin, group: &str, topics: Vec<Chosen>, json: bool) -> Result<(), Failure> {
    let mut failed = Failures::default();
    let partitions = chosen(admin, group, topics).await?;
    for (partition, result) in admin.delete_group_offsets(group, partitions).await? {
        let (topic, number) = (partition.topic(), partition.partition());
        match result {
            Ok(()) if json => {
                let line = json!({ "group": group, "topic": topic, "partition": number, "deleted": true });
                writeln!(io::stdout(), "{line}")?;
            }
            Ok(()) => say(format_args!("deleted the offset of {partition}")),
            Err(error) => failed.add(&partition.to_string(), &error),
        }
    }
    failed.into_result()
}

/// The partitions that are meant, each once.
async fn chosen(admin: &Admin, group: &str, topics: Vec<Chosen>) -> Result<Vec<TopicPartition>, Failure> {
    let committed = match topics.iter().any(|chosen| chosen.partitions.is_none()) {
        true => {
            admin.list_group_offsets([group]).await?.all()?.into_iter().flat_map(|(_, all)| all).collect()
        }
        false => Vec::new(),
    };
    let mut partitions = Vec::new();
    for Chosen { topic, partitions: named } in topics {
        let of_topic = committed.iter().map(|(partition, _)| partition).filter(|p| p.topic() == topic);
        let meant: Vec<_> = match named {
            Some(named) => {
                named.into_iter().map(|number| TopicPartition::new(topic.as_str(), number)).collect()
            }
            None => of_topic.cloned().collect(),
        };
        if meant.is_empty() {
            return Err(Failure::new(format!("{group} has committed nothing for {topic}")));
        }
        partitions.extend(meant);
    }
    partitions.sort();
    partitions.dedup();
    Ok(partitions)
}
