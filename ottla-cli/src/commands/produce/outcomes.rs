//! What became of the records.

use std::{
    collections::VecDeque,
    io::{self, BufWriter, IsTerminal, Write},
};

use ottla::{Receipt, RecordMetadata};

use crate::{
    output::{Failure, say, with_causes},
    progress::Progress,
    text::{InLog, NewRecord, Printed, format::Format},
};

/// Receipts are cheap, but not free.
const MOST_PENDING: usize = 10_000;
/// Nor are the records that are kept in order to be printed.
const MOST_BYTES: usize = 32 << 20;

/// Waits for receipts from the first on, says what failed, and prints what was written.
pub(super) struct Outcomes<'a> {
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    format: Option<&'a Format>,
    out: BufWriter<io::Stdout>,
    progress: Progress,
    written: u64,
    failed: u64,
}

struct Pending {
    receipt: Receipt,
    /// For printing.
    record: Option<NewRecord>,
}

impl<'a> Outcomes<'a> {
    pub(super) fn new(format: Option<&'a Format>) -> Self {
        let out = BufWriter::new(io::stdout());
        let terminal_is_in_use =
            io::stdin().is_terminal() || (format.is_some() && io::stdout().is_terminal());
        let progress = Progress::of_records(terminal_is_in_use, None);
        Self { pending: VecDeque::new(), pending_bytes: 0, format, out, progress, written: 0, failed: 0 }
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Takes a receipt, and settles from the front when there are many.
    pub(super) async fn expect(&mut self, receipt: Receipt, record: NewRecord) -> Result<(), Failure> {
        let record = self.format.map(|_| record);
        self.pending_bytes += record.as_ref().map_or(0, size);
        self.pending.push_back(Pending { receipt, record });
        while self.pending.len() > MOST_PENDING || self.pending_bytes > MOST_BYTES {
            self.settle_first().await?;
        }
        Ok(())
    }

    /// Waits for all of them.
    pub(super) async fn settle_all(&mut self) -> Result<(), Failure> {
        while !self.pending.is_empty() {
            self.settle_first().await?;
        }
        self.out.flush()?;
        match self.failed {
            0 => Ok(()),
            failed => Err(Failure::new(format!(
                "{failed} records were not acknowledged, {} were written",
                self.written
            ))),
        }
    }

    /// Whether there is a receipt to wait for.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Waits for the oldest receipt. Cancel safe.
    pub(super) async fn settle_first(&mut self) -> Result<(), Failure> {
        let Some(first) = self.pending.front_mut() else { return Ok(()) };
        let settled = (&mut first.receipt).await;
        let Some(Pending { record, .. }) = self.pending.pop_front() else { return Ok(()) };
        self.pending_bytes -= record.as_ref().map_or(0, size);
        match settled {
            Ok(metadata) => {
                self.written += 1;
                self.progress.add(1);
                if let (Some(format), Some(record)) = (self.format, record) {
                    print(format, &record, &metadata, self.written, &mut self.out)?;
                    // Whoever types wants to see it now.
                    if self.pending.is_empty() {
                        self.out.flush()?;
                    }
                }
            }
            Err(error) => {
                self.failed += 1;
                // The first ones name the cause; a million more would only bury it.
                if self.failed <= 10 {
                    say(format_args!("ottla: {}", with_causes(&error)));
                }
            }
        }
        Ok(())
    }
}

fn size(record: &NewRecord) -> usize {
    record.key.as_ref().map_or(0, Vec::len) + record.value.as_ref().map_or(0, Vec::len)
}

fn print(
    format: &Format,
    record: &NewRecord,
    metadata: &RecordMetadata,
    running: u64,
    out: &mut dyn Write,
) -> io::Result<()> {
    let headers: Vec<_> =
        record.headers.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
    let printed = Printed {
        topic: metadata.topic(),
        partition: metadata.partition(),
        offset: metadata.offset().unwrap_or(-1),
        timestamp: record.timestamp.and_then(|ms| i64::try_from(ms).ok()).unwrap_or(-1),
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: &headers,
        log: InLog::default(),
    };
    format.write(&printed, running, out)
}
