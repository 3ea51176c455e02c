//! `ottla consume --group`: record by record as a member of a group.
//!
//! A record is complete when it is printed and flushed, and only what is complete is committed: within a second, when
//! partitions go to another member, and at the end, however it comes.

use std::{collections::BTreeSet, time::Duration};

use clap::{Args, ValueEnum};
use ottla::{
    Absence, Admin, Assignor, Client, CloseOptions, Consumer, Error, ErrorCode, Properties, Reset, Stall,
};
use regex::Regex;

use super::{Consume, printer::Printer, reading, silence};
use crate::{
    bounds, complete,
    output::{Failure, say, with_causes},
    signals::{Signals, Stop},
    text::{
        offset_range::{Bound, OffsetRange},
        time,
    },
};

/// What its options are listed under; each says it for itself, as those for the connection do.
const HEADING: &str = "As a member of a group";

/// The part of a group that this is.
#[derive(Debug, Args)]
pub(super) struct Membership {
    /// Share the partitions with the other members, and go on where the group has left off. `--offset` is where to begin
    /// where it has not begun yet: `earliest` or `latest`. The same as `-X group.id=GROUP`; a file cannot say it.
    #[arg(long, short = 'g', help_heading = HEADING, value_name = "GROUP", conflicts_with_all = ["partition", "exit"], add = complete::groups())]
    pub(super) group: Option<String>,
    /// How partitions are spread over the members, the best first; cooperative-sticky if nothing is said.
    #[arg(long, help_heading = HEADING, requires = "group", value_delimiter = ',', value_name = "NAME,…")]
    assignor: Vec<Strategy>,
    /// After how long without a sign of life the others take over, as 10s; 45s if nothing is said.
    #[arg(long, help_heading = HEADING, requires = "group", value_name = "DURATION", value_parser = time::duration)]
    session_timeout: Option<Duration>,
    /// A name that outlives the process: coming back within the session moves no partitions.
    #[arg(long, help_heading = HEADING, requires = "group", value_name = "NAME")]
    group_instance_id: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Strategy {
    CooperativeSticky,
    Range,
}

impl From<Strategy> for Assignor {
    fn from(strategy: Strategy) -> Self {
        match strategy {
            Strategy::CooperativeSticky => Self::CooperativeSticky,
            Strategy::Range => Self::Range,
        }
    }
}

/// The client's default.
const HEARTBEAT: Duration = Duration::from_secs(3);

impl Consume {
    pub(super) async fn as_member(
        &self,
        client: &Client,
        expressions: &[Regex],
        group: &str,
        begin: Option<Reset>,
        signals: Signals,
    ) -> Result<(), Failure> {
        let mut stop = signals.stop("what was not committed yet will come again").or_when_unread();
        let membership = &self.membership;
        // Only what was said on the command line: it wins over properties, and nothing else may.
        let mut builder = self.builder(client).group(group);
        if let Some(begin) = begin {
            builder = builder.on_missing_offset(begin);
        }
        if !membership.assignor.is_empty() {
            builder = builder.assignors(membership.assignor.iter().copied().map(Assignor::from));
        }
        if let Some(session) = membership.session_timeout {
            let millis = |duration: Duration| duration.as_millis().to_string();
            let settings = [
                ("session.timeout.ms", millis(session)),
                ("heartbeat.interval.ms", millis(HEARTBEAT.min(session / 3))),
            ];
            builder = builder.properties(Properties::from_iter(settings).called("--session-timeout"));
        }
        if let Some(name) = &membership.group_instance_id {
            builder = builder.group_instance_id(name);
        }
        let consumer = builder.build()?;
        let look_up = async {
            let topics = self.topics(client, expressions).await?;
            say_what_is_missing(client, &topics).await?;
            Ok(topics)
        };
        let topics = tokio::select! {
            biased;
            () = stop.asked() => return Ok(()),
            topics = bounds::within(bounds::LOOK_UP, bounds::LOOKED, look_up) => topics?,
        };
        consumer.subscribe(&topics)?;
        let mut watch = silence::Watch::new(client);
        let printed = self.print(&consumer, topics.len(), &mut stop, &mut watch, group).await;
        // Whatever ended it: what was printed is committed, and the others need not wait for the session to end.
        match (printed, leave(&consumer, group).await) {
            (printed, Ok(())) => printed,
            (Ok(()), Err(why)) => Err(Failure::new(why)),
            (Err(failure), Err(why)) => {
                say(format_args!("ottla: {why}"));
                Err(failure)
            }
        }
    }

    async fn print(
        &self,
        consumer: &Consumer,
        topics: usize,
        stop: &mut Stop,
        watch: &mut silence::Watch,
        group: &str,
    ) -> Result<(), Failure> {
        let mut printer = Printer::new(self, consumer, None);
        let mut absent = BTreeSet::new();
        let silence = self.timeout.unwrap_or(Duration::MAX);
        while !printer.is_done() {
            let received = tokio::select! {
                biased;
                () = stop.asked() => break,
                failure = watch.has_failed(group) => return Err(failure),
                received = tokio::time::timeout(silence, consumer.recv()) => received,
            };
            let Ok(received) = received else {
                let owned: Vec<_> =
                    consumer.assignment().iter().map(|owned| owned.topic_partition().clone()).collect();
                let is_end = match watch.trouble() {
                    Some(trouble) => Err(trouble.to_owned()),
                    None => silence::is_of_the_end(consumer, &owned).await,
                };
                return is_end.map_err(|why| silence::failure(silence, &why));
            };
            let record = match received {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(error) => {
                    // The others go on, if there are others; and so does who was held up by whoever reads what is printed.
                    absent.extend(absence(&error).map(|absence| absence.topic.clone()));
                    if !is_stall(&error) && (absence(&error).is_none() || absent.len() >= topics) {
                        return Err(reading(&error));
                    }
                    say(format_args!("ottla: {}", with_causes(&error)));
                    continue;
                }
            };
            // Without a reader the record stays open: dropped, it is for the next member that reads the partition.
            printer.record(&record.view())?;
            record.complete();
        }
        Ok(())
    }
}

/// Commits what was printed, and leaves; the error says what becomes of it.
async fn leave(consumer: &Consumer, group: &str) -> Result<(), String> {
    let committed = tokio::time::timeout(bounds::COMMIT, consumer.commit()).await;
    let left = consumer.close_with(CloseOptions::new().timeout(bounds::LEAVE)).await;
    let why_not = match committed {
        Ok(Ok(())) => {
            let only =
                "all that was printed is committed, but the other members wait until the session is over";
            return left.map_err(|error| format!("leaving {group}: {}; {only}", with_causes(&error)));
        }
        Ok(Err(error)) => with_causes(&error),
        Err(_) => format!("{group} has not acknowledged it within {:?}", bounds::COMMIT),
    };
    Err(format!("what was printed last may not be committed, and be printed again then: {why_not}"))
}

/// What cannot be read, if the error is about that.
fn absence(error: &Error) -> Option<&Absence> {
    std::error::Error::source(error)?.downcast_ref()
}

/// Whether the member has left because nothing was printed for so long.
fn is_stall(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<Stall>())
}

/// A topic that does not exist is waited for, which looks like one without records.
async fn say_what_is_missing(client: &Client, topics: &[String]) -> Result<(), Failure> {
    for (topic, result) in Admin::new(client).describe_topics(topics).await? {
        if result.is_err_and(|error| error.broker_code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)) {
            say(format_args!("{topic} does not exist yet; waiting for it"));
        }
    }
    Ok(())
}

/// What holds if neither the command line nor a properties file says it. A start that is not there any more is said, not
/// skipped.
pub(crate) const DEFAULTS: &[&[(&str, &str)]] =
    &[&[("auto.offset.reset", "latest")], &[("on.out.of.range", "none")]];

/// Where to begin in a partition that the group has committed nothing of.
pub(super) fn begin(range: OffsetRange) -> Result<Reset, Failure> {
    match range {
        OffsetRange { from: Bound::Earliest, until: None } => Ok(Reset::Earliest),
        OffsetRange { from: Bound::Latest, until: None } => Ok(Reset::Latest),
        _ => Err(Failure::usage(
            "--offset: with --group it is earliest or latest, for partitions without a commit",
        )),
    }
}
