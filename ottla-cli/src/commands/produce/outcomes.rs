//! What became of the records.

use std::{
    collections::VecDeque,
    io::{self, BufWriter, IsTerminal, Write},
};

use ottla::{Receipt, RecordMetadata};

use crate::{
    output::{Failure, say, with_causes},
    progress::Progress,
    text::{InLog, NewRecord, Printed, counted, format::Format},
};

/// Receipts are cheap, but not free.
const MOST_PENDING: usize = 10_000;
/// Nor are the records that are kept in order to be printed.
const MOST_BYTES: usize = 32 << 20;

/// The first ones name the cause; a million more would only bury it.
const MOST_SAID: u64 = 10;

/// Waits for receipts from the first on, says what failed, and prints what was written.
pub(super) struct Outcomes<'a> {
    pending: VecDeque<Pending>,
    pending_bytes: usize,
    format: Option<&'a Format>,
    out: BufWriter<io::Stdout>,
    /// Why nothing is printed any more.
    unprinted: Option<io::Error>,
    progress: Progress,
    /// What records are counted as, in errors.
    counts: &'static str,
    written: u64,
    failed: u64,
    /// The last one that was given to the producer.
    last: u64,
}

struct Pending {
    receipt: Receipt,
    /// Its place in the input.
    number: u64,
    /// For printing.
    record: Option<NewRecord>,
}

impl<'a> Outcomes<'a> {
    pub(super) fn new(format: Option<&'a Format>, counts: &'static str) -> Self {
        let out = BufWriter::new(io::stdout());
        let terminal_is_in_use =
            io::stdin().is_terminal() || (format.is_some() && io::stdout().is_terminal());
        let progress = Progress::of_records(terminal_is_in_use, None);
        let (pending, pending_bytes, unprinted) = (VecDeque::new(), 0, None);
        Self {
            pending,
            pending_bytes,
            format,
            out,
            unprinted,
            progress,
            counts,
            written: 0,
            failed: 0,
            last: 0,
        }
    }

    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Whether something went wrong: a record was not written, or one that was cannot be printed.
    pub(super) fn has_failed(&self) -> bool {
        self.failed > 0 || self.unprinted.is_some()
    }

    /// Takes a receipt, and settles from the front when there are many.
    pub(super) async fn expect(&mut self, receipt: Receipt, number: u64, record: NewRecord) {
        let record = self.format.map(|_| record);
        self.pending_bytes += record.as_ref().map_or(0, size);
        self.pending.push_back(Pending { receipt, number, record });
        self.last = number;
        while self.pending.len() > MOST_PENDING || self.pending_bytes > MOST_BYTES {
            self.settle_first().await;
        }
    }

    /// Waits for all of them.
    pub(super) async fn settle_all(&mut self) {
        while !self.pending.is_empty() {
            self.settle_first().await;
        }
        let flushed = self.out.flush();
        self.note(flushed);
    }

    /// What came of all of them, once they are settled.
    pub(super) fn result(self) -> Result<(), Failure> {
        let Self { counts, last, failed, .. } = self;
        let written = format!("{} {} written", self.written, was(self.written));
        if failed > 0 {
            let failed = format!("{} {} not acknowledged", counted(failed, "record"), was(failed));
            let behind = format!("nothing behind {counts} {last} was sent");
            return Err(Failure::new(format!("{failed}, {written}; {behind}")));
        }
        match self.unprinted {
            None => Ok(()),
            Some(error) => Err(Failure::new(format!(
                "stdout: {error}; {written} all the same, up to {counts} {last}, and nothing behind it was sent"
            ))),
        }
    }

    /// Whether there is a receipt to wait for.
    pub(super) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Waits for the oldest receipt. Cancel safe.
    pub(super) async fn settle_first(&mut self) {
        let Some(first) = self.pending.front_mut() else { return };
        let settled = (&mut first.receipt).await;
        let Some(Pending { number, record, .. }) = self.pending.pop_front() else { return };
        self.pending_bytes -= record.as_ref().map_or(0, size);
        match settled {
            Ok(metadata) => {
                self.written += 1;
                self.progress.add(1);
                if let (Some(format), Some(record), None) = (self.format, record, &self.unprinted) {
                    let mut printed = print(format, &record, &metadata, self.written, &mut self.out);
                    // Whoever types wants to see it now.
                    if self.pending.is_empty() {
                        printed = printed.and_then(|()| self.out.flush());
                    }
                    self.note(printed);
                }
            }
            Err(error) => {
                self.failed += 1;
                if self.failed <= MOST_SAID {
                    say(format_args!("ottla: {} {number}: {}", self.counts, with_causes(&error)));
                }
            }
        }
    }

    fn note(&mut self, printed: io::Result<()>) {
        if let Err(error) = printed {
            self.unprinted.get_or_insert(error);
        }
    }
}

/// The word that goes with that many.
pub(super) fn was(count: u64) -> &'static str {
    if count == 1 { "was" } else { "were" }
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
