//! `ottla consume`: records of topics, printed.

mod direct;
mod filter;
mod group;
mod printer;
mod silence;
mod spans;

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use clap::{Args, ValueEnum};
use ottla::{Admin, Client, Consumer, ConsumerBuilder, Error, ErrorCode, IsolationLevel, Trouble};
use regex::Regex;

pub(crate) use self::group::DEFAULTS;
use self::{filter::Filter, group::Membership};
use crate::{
    complete,
    connect::Connect,
    output::{Failure, say, with_causes},
    reader,
    signals::Signals,
    text::{
        each_once,
        format::{self, Format},
        offset_range::OffsetRange,
        time,
    },
};

/// Print the records of topics, or share them as a member of a group.
///
/// In a group, a record is committed at most a second after it was printed, and all that was printed at the end: after
/// -n records, SIGTERM, Ctrl-C (a second one ends it at once), or when nobody reads stdout any more.
#[derive(Debug, Args)]
#[command(after_help = format!("Offsets:
  earliest, latest, 42, -10 (ten before the end), +10 (ten behind the beginning), 10:20, 10:+5, :end
  @2026-11-01T10:00:00Z, @1793520000000, @-1h (an hour ago), @-1h:-5m, @2026-11-01:+1h, @:-1d

Filters (all must hold; ! in front: must not):
  k:EXPRESSION (key), v: (value), t: (topic), hk: and hv: (any header's key, value), h:NAME=EXPRESSION

{}

Examples:
  ottla consume orders --from-beginning
  ottla consume orders --offset @-1h --exit --format '%p@%o %k=%v\\n'
  ottla consume orders --partition 0 --offset 100:200 --json
  ottla consume orders --from-beginning --exit --grep k:^ada --grep '!h:via=web'
  ottla consume orders refunds --group billing --offset earliest --format '%p %o %v\\n'
  ottla consume a --from-beginning --exit --format \"$F\" | ottla produce b --format \"$F\"
                                # F='%K{{big32}}%k%V{{big32}}%v%H{{big32}}%h{{%K{{big32}}%k%V{{big32}}%v}}'", format::help()))]
pub(crate) struct Consume {
    /// The topics.
    #[arg(required = true, value_name = "TOPIC", add = complete::topics())]
    topics: Vec<String>,
    /// TOPIC is a regular expression: all topics that exist now and match one, internal ones aside.
    #[arg(long, short = 'r')]
    regex: bool,
    /// Only these partitions, comma separated.
    #[arg(long, short = 'p', value_delimiter = ',', value_name = "N,…", allow_negative_numbers = true, value_parser = partition)]
    partition: Vec<i32>,
    /// From where, and until where. When left out, from where `auto.offset.reset` says (also in a file), or else from
    /// `latest` on.
    #[arg(long, short = 'o', allow_hyphen_values = true, value_name = "RANGE")]
    offset: Option<String>,
    /// The same as `--offset earliest`.
    #[arg(long, conflicts_with = "offset")]
    from_beginning: bool,
    /// Stop after that many records.
    #[arg(long, short = 'n', value_name = "N", allow_negative_numbers = true, value_parser = count)]
    max_messages: Option<u64>,
    /// Print no more than that many records of each partition.
    #[arg(long, visible_alias = "num-per-partition", value_name = "N", allow_negative_numbers = true, value_parser = count, conflicts_with = "group")]
    max_messages_per_partition: Option<u64>,
    /// Stop at the end that the partitions have now.
    #[arg(long, short = 'e')]
    exit: bool,
    /// Stop when nothing came for so long, as 10s.
    #[arg(long, value_name = "DURATION", value_parser = time::duration)]
    timeout: Option<Duration>,
    /// Print only records that match; may be repeated.
    #[arg(long, short = 'G', value_name = "FILTER", value_parser = str::parse::<Filter>, allow_hyphen_values = true)]
    grep: Vec<Filter>,
    /// Whether records of transactions are printed that are not decided yet, or were aborted.
    #[arg(long, value_enum, value_name = "LEVEL")]
    isolation_level: Option<Isolation>,
    /// How a record is printed.
    #[arg(long, short = 'f', default_value = "%v\\n", value_parser = Format::parse_for_printing, allow_hyphen_values = true)]
    format: Format,
    /// Print JSON lines, without loss; `ottla produce --json` reads them.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    #[command(flatten)]
    membership: Membership,
    #[command(flatten)]
    connect: Connect,
}

fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "use a number from 0 on, or leave it out for no limit".to_owned())
}

fn partition(text: &str) -> Result<i32, String> {
    let number = text.parse().ok().filter(|number| *number >= 0);
    number.ok_or_else(|| "use a number from 0 on, or leave it out for all partitions".to_owned())
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Isolation {
    ReadCommitted,
    ReadUncommitted,
}

impl Consume {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let said = if self.from_beginning { Some("earliest") } else { self.offset.as_deref() };
        let group = self.group()?;
        let start = match said {
            Some(said) => said,
            None if group.is_some() => LATEST,
            None => self.start()?,
        };
        let range = OffsetRange::parse(start, time::now_ms())
            .map_err(|error| Failure::usage(format!("--offset: {error}")))?;
        let expressions = self.expressions()?;
        let mut signals = Signals::new()?;
        let (result, client) = match group {
            Some(group) => {
                let begin = said.map(|_| group::begin(range)).transpose()?;
                let client = self.connect.client_unless_said(group::DEFAULTS).await?;
                (self.as_member(&client, &expressions, &group, begin, signals).await, client)
            }
            None => {
                let client = self.connect.client().await?;
                if said.is_none() && start == LATEST && !self.exit && io::stderr().is_terminal() {
                    say("ottla: waiting for new records; --from-beginning prints what is there");
                }
                let result = tokio::select! {
                    biased;
                    () = signals.recv() => Ok(()),
                    () = reader::gone() => Ok(()),
                    result = self.directly(&client, &expressions, range) => result,
                };
                (result, client)
            }
        };
        let closed = client.close().await;
        result.and(Ok(closed?))
    }

    /// Where to begin without a group if no option says it, in the words of `--offset`.
    fn start(&self) -> Result<&'static str, Failure> {
        let reset = self.connect.said_of("auto.offset.reset")?.unwrap_or_default().to_ascii_lowercase();
        match reset.as_str() {
            "earliest" | "smallest" | "beginning" => Ok("earliest"),
            reset if reset.starts_with("by_duration:") => Err(Failure::usage(format!(
                "auto.offset.reset = {reset:?} is for groups: --offset @-1h begins an hour ago"
            ))),
            // Other words are refused with all other settings that are wrong.
            _ => Ok(LATEST),
        }
    }

    /// The group to be a member of. One in a file is that of the program that the file is for: whoever joined it by
    /// accident would take partitions from it.
    fn group(&self) -> Result<Option<String>, Failure> {
        if let Some(group) = &self.membership.group {
            return Ok(Some(group.clone()));
        }
        let Some(group) = self.connect.single("group.id") else {
            if let Some(group) = self.connect.said_of("group.id")? {
                say(format_args!(
                    "ottla: group.id = {group} in a file has no effect; --group {group} joins it"
                ));
            }
            return Ok(None);
        };
        if self.exit || !self.partition.is_empty() || self.max_messages_per_partition.is_some() {
            return Err(Failure::usage(format!(
                "-X group.id={group} is --group {group}: a member has no --partition, --exit or \
                 --max-messages-per-partition"
            )));
        }
        Ok(Some(group))
    }

    /// What was said on the command line; what was not is as the configuration has it.
    fn builder(&self, client: &Client) -> ConsumerBuilder {
        let builder = Consumer::builder(client);
        match self.isolation_level {
            Some(Isolation::ReadCommitted) => builder.isolation_level(IsolationLevel::ReadCommitted),
            Some(Isolation::ReadUncommitted) => builder.isolation_level(IsolationLevel::ReadUncommitted),
            None => builder,
        }
    }

    fn expressions(&self) -> Result<Vec<Regex>, Failure> {
        if !self.regex {
            return Ok(Vec::new());
        }
        let expression =
            |topic: &String| Regex::new(topic).map_err(|error| Failure::usage(error.to_string()));
        self.topics.iter().map(expression).collect()
    }

    /// The topics that are meant, each once.
    async fn topics(&self, client: &Client, expressions: &[Regex]) -> Result<Vec<String>, Failure> {
        if !self.regex {
            return Ok(each_once(self.topics.clone()));
        }
        let all = Admin::new(client).list_topics().await?;
        let is_meant = |name: &str| expressions.iter().any(|expression| expression.is_match(name));
        let meant: Vec<_> = all
            .into_iter()
            .filter(|topic| !topic.internal && is_meant(&topic.name))
            .map(|topic| topic.name)
            .collect();
        match meant.is_empty() {
            true => Err(Failure::new(format!("no topic matches {}", self.topics.join(", ")))),
            false => Ok(meant),
        }
    }
}

/// Where to begin, in the words of `--offset`.
const LATEST: &str = "latest";

/// An error of reading; where the log has lost what is wanted, with what to do.
fn reading(error: &Error) -> Failure {
    let said = with_causes(error);
    let trouble = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    let recreated = matches!(trouble, Some(Trouble::Recreated { .. }));
    match error.broker_code() {
        Some(ErrorCode::OFFSET_OUT_OF_RANGE) => Failure::new(format!(
            "{said}. What was there is deleted, or the topic was made anew: start with --offset earliest; a group needs \
             `ottla groups delete-offsets` first"
        )),
        _ if recreated => Failure::new(format!(
            "{said}. Run it again to read the new one; `ottla groups describe` shows whether a group still has offsets of the \
             old one"
        )),
        _ => Failure::new(said),
    }
}
