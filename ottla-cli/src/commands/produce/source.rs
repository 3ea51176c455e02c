//! Records from stdin.

use std::io::{self, BufRead, BufReader, Read, Stdin};

use tokio::sync::mpsc;

use crate::text::{
    NewRecord,
    format::{Format, Records, too_long},
    json_line,
};

/// How records are written in the input.
#[derive(Debug)]
pub(super) enum Shape {
    Format(Format),
    JsonLines,
}

/// So many bytes of records go from the reading thread to the producer at once, so that a record does not wake up anybody.
const ENOUGH: usize = 64 << 10;

/// Records as they are read, on a thread of its own: a terminal may be silent for hours.
pub(super) struct Source {
    chunks: mpsc::Receiver<Result<Vec<NewRecord>, String>>,
    /// What records are counted as, in errors.
    pub(super) counts: &'static str,
}

impl Source {
    /// Reads stdin; the error says why no record can be read in that shape.
    pub(super) fn stdin(shape: Shape, limit: usize) -> Result<Self, String> {
        let (input, counts) = match shape {
            Shape::Format(format) => (Input::Format(Records::new(format, io::stdin(), limit)?), "record"),
            Shape::JsonLines => (Input::JsonLines(BufReader::new(io::stdin()), limit), "line"),
        };
        let (sender, chunks) = mpsc::channel(8);
        #[expect(
            clippy::disallowed_methods,
            reason = "a blocking read of stdin cannot be cancelled, so it gets a thread"
        )]
        std::thread::spawn(move || send_all(input, counts, &sender));
        Ok(Self { chunks, counts })
    }

    /// The next records, at once where they are there; none at the end. Behind an error there is nothing. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Result<Vec<NewRecord>, String>> {
        self.chunks.recv().await
    }
}

fn send_all(mut input: Input, counts: &str, chunks: &mpsc::Sender<Result<Vec<NewRecord>, String>>) {
    let mut chunk = Vec::new();
    let (mut bytes, mut number) = (0, 0_u64);
    loop {
        number += 1;
        let next = input.next();
        let goes_on = matches!(next, Ok(Some(_)));
        let failed = next.as_ref().err().map(|error| format!("{counts} {number}: {error}"));
        if let Ok(Some(record)) = next {
            bytes += record.value.as_ref().map_or(0, Vec::len) + record.key.as_ref().map_or(0, Vec::len) + 64;
            chunk.push(record);
        }
        // Whoever types, or writes slowly, wants each record to be sent.
        if bytes >= ENOUGH || !goes_on || input.may_wait() {
            bytes = 0;
            if chunks.blocking_send(Ok(std::mem::take(&mut chunk))).is_err() {
                return;
            }
        }
        if let Some(failed) = failed {
            // Nobody listens any more: then nobody misses it.
            drop(chunks.blocking_send(Err(failed)));
        }
        if !goes_on {
            return;
        }
    }
}

enum Input {
    Format(Records<Stdin>),
    JsonLines(BufReader<Stdin>, usize),
}

impl Input {
    fn next(&mut self) -> Result<Option<NewRecord>, String> {
        match self {
            Self::Format(records) => records.next(),
            Self::JsonLines(reader, limit) => {
                let mut line = Vec::new();
                // The line's end is not counted.
                let read = reader.take(*limit as u64 + 1).read_until(b'\n', &mut line);
                if read.map_err(|error| error.to_string())? == 0 {
                    return Ok(None);
                }
                if line.last() != Some(&b'\n') && line.len() > *limit {
                    return Err(too_long(*limit));
                }
                json_line::read(&line).map(Some)
            }
        }
    }

    fn may_wait(&self) -> bool {
        match self {
            Self::Format(records) => records.may_wait(),
            Self::JsonLines(reader, _) => reader.buffer().is_empty(),
        }
    }
}
