//! Records on stdout.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, IsTerminal, Write},
};

use ottla::{Batch, RecordView, TopicPartition};

use super::Consume;
use crate::{
    progress::Progress,
    text::{Printed, json_line},
};

/// Prints the records that are wanted, and counts them.
pub(super) struct Printer<'a> {
    out: BufWriter<io::Stdout>,
    command: &'a Consume,
    progress: Progress,
    printed: u64,
    /// Counted only if there is a limit for each partition.
    printed_of: BTreeMap<TopicPartition, u64>,
}

impl<'a> Printer<'a> {
    /// `total` is how many records will come at the most, if that is known.
    pub(super) fn new(command: &'a Consume, total: Option<u64>) -> Self {
        let out = io::stdout();
        let total = total.map(|total| total.min(command.max_messages.unwrap_or(u64::MAX)));
        let progress = Progress::of_records(out.is_terminal(), total);
        Self { out: BufWriter::new(out), command, progress, printed: 0, printed_of: BTreeMap::new() }
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
        let headers: Vec<_> = record.headers().map(|header| (header.key(), header.value())).collect();
        let printed = Printed {
            topic: record.topic(),
            partition: record.partition(),
            offset: record.offset(),
            timestamp: record.timestamp().millis(),
            key: record.key(),
            value: record.value(),
            headers: &headers,
        };
        self.printed += 1;
        if self.command.json {
            writeln!(self.out, "{}", json_line::write(&printed))?;
        } else {
            self.command.format.write(&printed, self.printed, &mut self.out)?;
        }
        Ok(true)
    }
}
