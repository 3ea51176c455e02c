//! `ottla consume`: records of topics, printed.

mod group;
mod printer;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use clap::Args;
use ottla::{Admin, Client, Consumer, OffsetSpec, Pause, PauseHandle, TopicPartition};

use self::{group::Membership, printer::Printer};
use crate::{
    connect::Connect,
    output::Failure,
    signals::Signals,
    text::{
        format::{self, Format},
        offset_range::{Bound, OffsetRange},
        time,
    },
};

/// How long to wait for records before looking whether the end has come by other means.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Print the records of a topic, or of topics as a member of a group.
///
/// In a group, a record is committed at most a second after it was printed, and all that was printed at the end: after
/// -n records, SIGTERM, Ctrl-C (a second one ends it at once), or when nobody reads stdout any more.
#[derive(Debug, Args)]
#[command(after_help = format!("Offsets:
  earliest, latest, 42, -10 (ten before the end), 10:20, :end, @2026-11-01T10:00:00Z, @-1h, @-1h:-5m

{}

Examples:
  ottla consume orders --from-beginning
  ottla consume orders --offset @-1h --exit --format '%p@%o %k=%v\\n'
  ottla consume orders --partition 0 --offset 100:200 --json
  ottla consume orders refunds --group billing --offset earliest --format '%p %o %v\\n'
  ottla consume a --exit --format '%K{{big32}}%k%V{{big32}}%v' | ottla produce b --format '%K{{big32}}%k%V{{big32}}%v'", format::help()))]
pub(crate) struct Consume {
    /// The topic; several with --group.
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    #[command(flatten)]
    connect: Connect,
    #[command(flatten)]
    membership: Membership,
    /// Only these partitions, comma separated.
    #[arg(long, short = 'p', value_delimiter = ',', value_name = "N,…")]
    partition: Vec<i32>,
    /// From where, and until where.
    #[arg(long, short = 'o', default_value = "latest", allow_hyphen_values = true, value_name = "RANGE")]
    offset: String,
    /// The same as `--offset earliest`.
    #[arg(long, conflicts_with = "offset")]
    from_beginning: bool,
    /// Stop after that many records.
    #[arg(long, short = 'n', value_name = "N")]
    max_messages: Option<u64>,
    /// Stop at the end that the partitions have now.
    #[arg(long, short = 'e')]
    exit: bool,
    /// How a record is printed.
    #[arg(long, short = 'f', default_value = "%v\\n", value_parser = Format::parse, allow_hyphen_values = true)]
    format: Format,
    /// Print JSON lines, without loss; `ottla produce --json` reads them.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl Consume {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let text = if self.from_beginning { "earliest" } else { &self.offset };
        let mut range = OffsetRange::parse(text, time::now_ms())
            .map_err(|error| Failure::usage(format!("--offset: {error}")))?;
        if self.exit && range.until.is_none() {
            range.until = Some(Bound::Latest);
        }
        let result = match &self.membership.group {
            Some(group) => {
                let begin = group::begin(range)?;
                let client = self.connect.client().await?;
                (self.as_member(&client, group, begin).await, client)
            }
            None => {
                let topic = self.only_topic()?;
                let mut signals = Signals::new()?;
                let client = self.connect.client().await?;
                let result = tokio::select! {
                    biased;
                    () = signals.recv() => Ok(()),
                    result = self.consume(&client, topic, range) => result,
                };
                (result, client)
            }
        };
        let (result, client) = result;
        let closed = client.close().await;
        result.and(Ok(closed?))
    }

    fn only_topic(&self) -> Result<&str, Failure> {
        match self.topics.as_slice() {
            [topic] => Ok(topic),
            _ => Err(Failure::usage("several topics are read with --group")),
        }
    }

    async fn consume(&self, client: &Client, topic: &str, range: OffsetRange) -> Result<(), Failure> {
        let partitions = self.partitions(client, topic).await?;
        let consumer = Consumer::builder(client).build()?;
        let until = match range.until {
            Some(bound) => Some(resolve(&consumer, &partitions, bound).await?),
            None => None,
        };
        let from = resolve(&consumer, &partitions, range.from).await?;
        let mut open = until.map(|until| Open::new(until, &from));
        // Where the range is empty there is nothing to ask for, and its start may lie behind the end of the log.
        let wanted =
            from.iter().filter(|(partition, _)| open.as_ref().is_none_or(|open| open.has(partition)));
        consumer.assign(wanted.map(|(partition, offset)| (partition.clone(), OffsetSpec::At(*offset))))?;
        let mut printer = Printer::new(self);
        while !printer.is_done() && !open.as_mut().is_some_and(|open| open.all_ended(&consumer)) {
            match tokio::time::timeout(LOOK_AGAIN, consumer.poll()).await {
                Ok(Ok(Some(batch))) => {
                    let limit = open.as_ref().map_or(i64::MAX, |open| open.limit(batch.topic_partition()));
                    printer.batch(&batch, limit)?;
                }
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => {}
            }
        }
        consumer.close().await?;
        Ok(())
    }

    /// The partitions to read; a topic or a partition that does not exist is an error here.
    async fn partitions(&self, client: &Client, topic: &str) -> Result<Vec<TopicPartition>, Failure> {
        let mut described = Admin::new(client).describe_topics([topic]).await?.all()?;
        let count = described.pop().map_or(0, |(_, topic)| topic.partitions.len());
        let existing = 0..i32::try_from(count).unwrap_or(i32::MAX);
        if let Some(missing) = self.partition.iter().find(|partition| !existing.contains(partition)) {
            let last = existing.end - 1;
            return Err(Failure::new(format!("{topic} has no partition {missing}: they are 0 to {last}")));
        }
        let wanted = if self.partition.is_empty() { existing.collect() } else { self.partition.clone() };
        Ok(wanted.into_iter().map(|partition| TopicPartition::new(topic, partition)).collect())
    }
}

/// The offset that a bound is in each partition, now.
async fn resolve(
    consumer: &Consumer,
    partitions: &[TopicPartition],
    bound: Bound,
) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    let all = || partitions.iter().cloned();
    let ends = consumer.end_offsets(all()).await?;
    let starts: BTreeMap<_, _> = consumer.beginning_offsets(all()).await?.into_iter().collect();
    let start = |partition: &TopicPartition| starts.get(partition).copied().unwrap_or(0);
    Ok(match bound {
        Bound::Earliest => starts,
        Bound::Latest => ends.into_iter().collect(),
        Bound::At(offset) => all().map(|partition| (partition, offset)).collect(),
        Bound::BeforeEnd(count) => ends
            .into_iter()
            .map(|(partition, end)| (partition.clone(), (end - count).max(start(&partition))))
            .collect(),
        Bound::Time(ms) => {
            let ms = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
            let times = all().map(|partition| (partition, SystemTime::UNIX_EPOCH + ms));
            let found: BTreeMap<_, _> = consumer.offsets_for_times(times).await?.into_iter().collect();
            // Nothing that new: it would come at the end.
            let at = |partition: &TopicPartition, end| {
                found.get(partition).and_then(|f| *f).map_or(end, |f| f.offset)
            };
            ends.into_iter().map(|(partition, end)| (partition.clone(), at(&partition, end))).collect()
        }
    })
}

/// The partitions whose end has not been reached, and where that is.
struct Open {
    until: BTreeMap<TopicPartition, i64>,
    ended: Vec<PauseHandle>,
}

impl Open {
    fn new(mut until: BTreeMap<TopicPartition, i64>, from: &BTreeMap<TopicPartition, i64>) -> Self {
        until.retain(|partition, until| from.get(partition).is_none_or(|from| from < until));
        Self { until, ended: Vec::new() }
    }

    fn has(&self, partition: &TopicPartition) -> bool {
        self.until.contains_key(partition)
    }

    fn limit(&self, partition: &TopicPartition) -> i64 {
        self.until.get(partition).copied().unwrap_or(0)
    }

    /// Looks at the positions, not at the records: the last offsets may hold none (compaction, transaction markers).
    fn all_ended(&mut self, consumer: &Consumer) -> bool {
        let reached: Vec<_> = self
            .until
            .iter()
            .filter(|(partition, until)| {
                consumer.position(partition).is_some_and(|position| position >= **until)
            })
            .map(|(partition, _)| partition.clone())
            .collect();
        for partition in reached {
            self.until.remove(&partition);
            self.ended
                .push(consumer.pause([partition], Pause::by("ottla consume").because("its end is reached")));
        }
        self.until.is_empty()
    }
}
