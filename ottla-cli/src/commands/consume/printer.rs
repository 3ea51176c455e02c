//! Records on stdout.

use std::io::{self, BufWriter, Write};

use ottla::{Batch, RecordView};

use super::Consume;
use crate::text::{Printed, json_line};

pub(super) struct Printer<'a> {
    out: BufWriter<io::Stdout>,
    command: &'a Consume,
    printed: u64,
}

impl<'a> Printer<'a> {
    pub(super) fn new(command: &'a Consume) -> Self {
        Self { out: BufWriter::new(io::stdout()), command, printed: 0 }
    }

    /// Whether as many records are printed as are wanted.
    pub(super) fn is_done(&self) -> bool {
        self.command.max_messages.is_some_and(|max| self.printed >= max)
    }

    /// Prints the records below `limit`, and flushes: whoever reads along sees them now.
    pub(super) fn batch(&mut self, batch: &Batch, limit: i64) -> io::Result<()> {
        for record in batch {
            if record.offset() >= limit || self.is_done() {
                break;
            }
            self.write(&record)?;
        }
        self.out.flush()
    }

    /// Prints one record, and flushes. Without an error the reader has it, as far as a pipe can tell.
    pub(super) fn record(&mut self, record: &RecordView<'_>) -> io::Result<()> {
        self.write(record)?;
        self.out.flush()
    }

    fn write(&mut self, record: &RecordView<'_>) -> io::Result<()> {
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
            writeln!(self.out, "{}", json_line::write(&printed))
        } else {
            self.command.format.write(&printed, self.printed, &mut self.out)
        }
    }
}
