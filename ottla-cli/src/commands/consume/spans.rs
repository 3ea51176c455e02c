//! From where to where each partition is read.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use ottla::{Consumer, OffsetSpec, Pause, PauseHandle, TopicPartition};

use crate::{
    output::Failure,
    text::offset_range::{Bound, OffsetRange},
};

/// The partitions whose end has not been reached.
pub(super) struct Spans {
    open: BTreeMap<TopicPartition, Span>,
    ended: Vec<PauseHandle>,
}

/// Offsets of a partition; without `until` there is no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    from: i64,
    /// Exclusive.
    until: Option<i64>,
}

impl Spans {
    /// Looks where the range begins and ends in each partition, now. A partition that it has nothing of is left out. With
    /// `exit` no more than what is there now belongs to it.
    pub(super) async fn resolve(
        consumer: &Consumer,
        partitions: &[TopicPartition],
        range: OffsetRange,
        exit: bool,
    ) -> Result<Self, Failure> {
        let logs = Logs::look_up(consumer, partitions, range).await?;
        let mut open = BTreeMap::new();
        for partition in partitions {
            let Some(log) = logs.0.get(partition) else { continue };
            let span = span(partition, log, range, exit)?;
            if span.until.is_none_or(|until| span.from < until) {
                open.insert(partition.clone(), span);
            }
        }
        Ok(Self { open, ended: Vec::new() })
    }

    /// What to read, and where to begin.
    pub(super) fn assignment(&self) -> impl Iterator<Item = (TopicPartition, OffsetSpec)> {
        self.open.iter().map(|(partition, span)| (partition.clone(), OffsetSpec::At(span.from)))
    }

    /// How many offsets there are from the beginnings to the ends; none where there is no end.
    pub(super) fn total(&self) -> Option<u64> {
        let length = |span: &Span| u64::try_from(span.until? - span.from).ok();
        self.open.values().map(length).sum()
    }

    /// Records of the partition from here on are not wanted.
    pub(super) fn limit(&self, partition: &TopicPartition) -> i64 {
        self.open.get(partition).map_or(0, |span| span.until.unwrap_or(i64::MAX))
    }

    /// Reads no more of a partition.
    pub(super) fn end(&mut self, consumer: &Consumer, partition: &TopicPartition) {
        if self.open.remove(partition).is_some() {
            let why = Pause::by("ottla consume").because("all that is wanted of it was read");
            self.ended.push(consumer.pause([partition.clone()], why));
        }
    }

    /// What is not read to its end.
    pub(super) fn open(&self) -> Vec<TopicPartition> {
        self.open.keys().cloned().collect()
    }

    /// Ends the partition if it has been read to its end.
    pub(super) fn end_if_reached(&mut self, consumer: &Consumer, partition: &TopicPartition) {
        let until = self.open.get(partition).and_then(|span| span.until);
        if until.is_some_and(|until| consumer.position(partition).is_some_and(|position| position >= until)) {
            self.end(consumer, partition);
        }
    }

    /// Ends what has been read to its end without a record that said so: the last offsets may hold none (compaction,
    /// transaction markers).
    pub(super) fn end_all_reached(&mut self, consumer: &Consumer) {
        for partition in &self.open() {
            self.end_if_reached(consumer, partition);
        }
    }

    /// Whether everything has been read.
    pub(super) fn have_ended(&self) -> bool {
        self.open.is_empty()
    }
}

/// What is there of each partition.
struct Logs(BTreeMap<TopicPartition, Log>);

#[derive(Debug, Clone, Copy)]
struct Log {
    start: i64,
    end: i64,
    /// Where the times of the range are, if they are not behind the end.
    from_time: Option<i64>,
    until_time: Option<i64>,
}

impl Logs {
    async fn look_up(
        consumer: &Consumer,
        partitions: &[TopicPartition],
        range: OffsetRange,
    ) -> Result<Self, Failure> {
        let all = || partitions.iter().cloned();
        let starts: BTreeMap<_, _> = consumer.beginning_offsets(all()).await?.into_iter().collect();
        let from_times = at_time(consumer, partitions, Some(range.from)).await?;
        let until_times = at_time(consumer, partitions, range.until).await?;
        let log = |(partition, end): (TopicPartition, i64)| {
            let log = Log {
                start: starts.get(&partition).copied().unwrap_or(0),
                end,
                from_time: from_times.get(&partition).copied(),
                until_time: until_times.get(&partition).copied(),
            };
            (partition, log)
        };
        Ok(Self(consumer.end_offsets(all()).await?.into_iter().map(log).collect()))
    }
}

/// Where a time is, if the bound is one and there are records as new as that.
async fn at_time(
    consumer: &Consumer,
    partitions: &[TopicPartition],
    bound: Option<Bound>,
) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    let Some(Bound::Time(ms)) = bound else { return Ok(BTreeMap::new()) };
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    let times = partitions.iter().map(|partition| (partition.clone(), time));
    let found = consumer.offsets_for_times(times).await?;
    Ok(found.into_iter().filter_map(|(partition, found)| Some((partition, found?.offset))).collect())
}

fn span(partition: &TopicPartition, log: &Log, range: OffsetRange, exit: bool) -> Result<Span, Failure> {
    let ends = exit || range.until.is_some();
    let from = match range.from {
        Bound::Earliest => log.start,
        Bound::Latest => log.end,
        Bound::BeforeEnd(count) => log.end.saturating_sub(count).max(log.start),
        Bound::Further(count) => log.start.saturating_add(count).min(log.end),
        Bound::Time(_) => log.from_time.unwrap_or(log.end),
        Bound::At(offset) => {
            // With an end, a partition that is shorter has nothing of the range; without one, nobody would know why
            // nothing comes.
            if offset < log.start || (offset > log.end && !ends) {
                return Err(Failure::new(out_of_range(partition, log, offset)));
            }
            offset
        }
    };
    let wanted = range.until.map(|until| match until {
        Bound::Earliest => log.start,
        Bound::Latest => log.end,
        Bound::At(offset) => offset,
        Bound::BeforeEnd(count) => log.end.saturating_sub(count),
        Bound::Further(count) => from.saturating_add(count),
        Bound::Time(_) => log.until_time.unwrap_or(log.end),
    });
    let until = if exit { Some(wanted.unwrap_or(log.end).min(log.end)) } else { wanted };
    Ok(Span { from, until })
}

fn out_of_range(partition: &TopicPartition, log: &Log, offset: i64) -> String {
    let Log { start, end, .. } = *log;
    let there_is = match start == end {
        true => format!("{partition} is empty, and its next record will have offset {end}"),
        false => format!("{partition} has offsets {start} to {}", end - 1),
    };
    let what_to_do = match offset < start {
        true => "what was in front is deleted. Use --offset earliest for all that is left",
        false => "more is not written yet. Use --offset latest to wait for new records, or -N for the last N",
    };
    format!("--offset {offset} is out of range: {there_is}; {what_to_do}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: Log = Log { start: 10, end: 20, from_time: Some(15), until_time: None };

    fn span(text: &str) -> Result<(i64, Option<i64>), Failure> {
        let range = OffsetRange::parse(text, 0).unwrap();
        super::span(&TopicPartition::new("t", 0), &LOG, range, false).map(|span| (span.from, span.until))
    }

    #[test]
    fn ranges_are_cut_to_what_is_there() {
        for (text, from, until) in [
            ("earliest", 10, None),
            ("latest", 20, None),
            ("20", 20, None),
            ("-3", 17, None),
            ("-300", 10, None),
            ("+3", 13, None),
            ("+300", 20, None),
            ("12:15", 12, Some(15)),
            ("12:+2", 12, Some(14)),
            ("12:-5", 12, Some(15)),
            ("99:end", 99, Some(20)),
            (":end", 10, Some(20)),
            ("@5", 15, None),
            ("@5:6", 15, Some(20)),
        ] {
            assert_eq!(span(text).unwrap(), (from, until), "{text}");
        }
    }

    #[test]
    fn whoever_leaves_at_the_end_waits_for_nothing() {
        for (text, until) in [("earliest", 20), ("12:15", 15), ("12:99", 20), ("99", 20)] {
            let range = OffsetRange::parse(text, 0).unwrap();
            let span = super::span(&TopicPartition::new("t", 0), &LOG, range, true).unwrap();
            assert_eq!(span.until, Some(until), "{text}");
        }
    }

    #[test]
    fn a_start_that_is_not_there_is_told_with_what_to_do() {
        for (text, said) in [
            ("9", "--offset 9 is out of range: t-0 has offsets 10 to 19; what was in front is deleted"),
            ("9:12", "Use --offset earliest"),
            ("21", "Use --offset latest to wait for new records"),
        ] {
            let failure = format!("{:?}", span(text).unwrap_err());
            assert!(failure.contains(said), "{text}: {failure}");
        }
    }
}
