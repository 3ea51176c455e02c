//! Records on stdout.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, IsTerminal, Write},
};

use ottla::{Batch, Consumer, RecordView, TimestampKind, TopicPartition};

use super::Consume;
use crate::{
    progress::Progress,
    text::{InLog, Printed, json_line},
};

/// Prints the records that are wanted, and counts them.
pub(super) struct Printer<'a> {
    out: BufWriter<io::Stdout>,
    command: &'a Consume,
    consumer: &'a Consumer,
    /// The format says what is known of partitions, and not only of records.
    wants_log_offsets: bool,
    progress: Progress,
    printed: u64,
    /// Counted only if there is a limit for each partition.
    printed_of: BTreeMap<TopicPartition, u64>,
}

impl<'a> Printer<'a> {
    /// `total` is how many records will come at the most, if that is known.
    pub(super) fn new(command: &'a Consume, consumer: &'a Consumer, total: Option<u64>) -> Self {
        let out = io::stdout();
        let total = total.map(|total| total.min(command.max_messages.unwrap_or(u64::MAX)));
        let progress = Progress::of_records(out.is_terminal(), total);
        Self {
            out: BufWriter::new(out),
            command,
            consumer,
            wants_log_offsets: command.format.wants_log_offsets(),
            progress,
            printed: 0,
            printed_of: BTreeMap::new(),
        }
    }

    /// Whether as many records are printed as are wanted.
    pub(super) fn is_done(&self) -> bool {
        self.command.max_messages.is_some_and(|max| self.printed >= max)
    }

    /// Whether as many records of a partition are printed as are wanted of each.
    pub(super) fn has_enough_of(&self, partition: &TopicPartition) -> bool {
        let printed = || self.printed_of.get(partition).copied().unwrap_or_default();
        self.command.max_messages_per_partition.is_some_and(|max| printed() >= max)
    }

    /// Prints the records below `limit`, and flushes: whoever reads along sees them now.
    pub(super) fn batch(&mut self, batch: &Batch, limit: i64) -> io::Result<()> {
        for record in batch {
            if record.offset() >= limit || self.is_done() || self.has_enough_of(batch.topic_partition()) {
                break;
            }
            if self.print(&record)? && self.command.max_messages_per_partition.is_some() {
                *self.printed_of.entry(batch.topic_partition().clone()).or_default() += 1;
            }
        }
        self.progress.add(batch.len() as u64);
        self.out.flush()
    }

    /// Prints one record, and flushes. Without an error the reader has it, as far as a pipe can tell.
    pub(super) fn record(&mut self, record: &RecordView<'_>) -> io::Result<()> {
        self.progress.add(1);
        match self.print(record)? {
            true => self.out.flush(),
            false => Ok(()),
        }
    }

    /// Prints a record unless a filter hides it, and says which it was.
    fn print(&mut self, record: &RecordView<'_>) -> io::Result<bool> {
        if !self.command.grep.iter().all(|filter| filter.shows(record)) {
            return Ok(false);
        }
        let headers: Vec<_> = record.headers().map(|header| (header.key_bytes(), header.value())).collect();
        let printed = Printed {
            topic: record.topic(),
            partition: record.partition(),
            offset: record.offset(),
            timestamp: record.timestamp().millis(),
            key: record.key(),
            value: record.value(),
            headers: &headers,
            log: self.in_log(record),
        };
        self.printed += 1;
        if self.command.json {
            writeln!(self.out, "{}", json_line::write(&printed))?;
        } else {
            self.command.format.write(&printed, self.printed, &mut self.out)?;
        }
        Ok(true)
    }

    fn in_log(&self, record: &RecordView<'_>) -> InLog {
        let known =
            self.wants_log_offsets.then(|| self.consumer.log_offsets(record.topic_partition())).flatten();
        let nothing = InLog::default();
        let (producer_id, producer_epoch) =
            record.producer().unwrap_or((nothing.producer_id, nothing.producer_epoch));
        let timestamp = record.timestamp();
        InLog {
            leader_epoch: record.leader_epoch().unwrap_or(nothing.leader_epoch),
            producer_id,
            producer_epoch,
            compression: record.compression(),
            timestamp_type: match timestamp.kind() {
                TimestampKind::LogAppendTime => 1,
                _ if timestamp.millis() < 0 => nothing.timestamp_type,
                _ => 0,
            },
            transactional: record.is_transactional(),
            start: known.map_or(nothing.start, |known| known.start),
            last_stable: known.map_or(nothing.last_stable, |known| known.last_stable),
            high_watermark: known.map_or(nothing.high_watermark, |known| known.high_watermark),
        }
    }
}
