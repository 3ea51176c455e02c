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

/// A record with its place in the input: which record it is, or which line.
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) record: NewRecord,
}

/// Some records, or why there are no more.
type Chunk = Result<Vec<Numbered>, String>;

/// Records as they are read, on a thread of its own: a terminal may be silent for hours.
pub(super) struct Source {
    chunks: mpsc::Receiver<Chunk>,
    /// What records are counted as, in errors.
    pub(super) counts: &'static str,
}

impl Source {
    /// Reads stdin; the error says why no record can be read in that shape.
    pub(super) fn stdin(shape: Shape, limit: usize) -> Result<Self, String> {
        let (input, counts) = match shape {
            Shape::Format(format) => (Input::Format(Records::new(format, io::stdin(), limit)?), "record"),
            Shape::JsonLines => {
                let reader = BufReader::new(io::stdin());
                (Input::JsonLines(JsonLines { reader, limit, line: 0 }), "line")
            }
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
    pub(super) async fn next(&mut self) -> Option<Chunk> {
        self.chunks.recv().await
    }
}

fn send_all(mut input: Input, counts: &str, chunks: &mpsc::Sender<Chunk>) {
    let mut chunk = Vec::new();
    let (mut bytes, mut records) = (0, 0_u64);
    loop {
        records += 1;
        let next = input.next();
        let number = input.line().unwrap_or(records);
        let goes_on = matches!(next, Ok(Some(_)));
        let failed = next.as_ref().err().map(|error| format!("{counts} {number}: {error}"));
        if let Ok(Some(record)) = next {
            bytes += record.value.as_ref().map_or(0, Vec::len) + record.key.as_ref().map_or(0, Vec::len) + 64;
            chunk.push(Numbered { number, record });
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
    JsonLines(JsonLines<BufReader<Stdin>>),
}

impl Input {
    fn next(&mut self) -> Result<Option<NewRecord>, String> {
        match self {
            Self::Format(records) => records.next(),
            Self::JsonLines(lines) => lines.next(),
        }
    }

    /// The number of the line that was read last, where records are lines.
    fn line(&self) -> Option<u64> {
        match self {
            Self::Format(_) => None,
            Self::JsonLines(lines) => Some(lines.line),
        }
    }

    fn may_wait(&self) -> bool {
        match self {
            Self::Format(records) => records.may_wait(),
            Self::JsonLines(lines) => lines.reader.buffer().is_empty(),
        }
    }
}

/// What some editors put in front of UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

struct JsonLines<R> {
    reader: R,
    /// So long may a line be, without its end.
    limit: usize,
    /// How many were read.
    line: u64,
}

impl<R: BufRead> JsonLines<R> {
    /// The next record; what is blank between them is none.
    fn next(&mut self) -> Result<Option<NewRecord>, String> {
        let mut line = Vec::new();
        loop {
            line.clear();
            self.line += 1;
            let read = self.reader.by_ref().take(self.limit as u64 + 1).read_until(b'\n', &mut line);
            if read.map_err(|error| format!("stdin: {error}"))? == 0 {
                return Ok(None);
            }
            if line.last() != Some(&b'\n') && line.len() > self.limit {
                return Err(too_long(self.limit));
            }
            let mark = line.strip_prefix(BYTE_ORDER_MARK).filter(|_| self.line == 1);
            let text = mark.unwrap_or(&line).trim_ascii();
            if !text.is_empty() {
                return json_line::read(text).map(Some);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::JsonLines;

    fn lines(text: &[u8]) -> JsonLines<&[u8]> {
        JsonLines { reader: text, limit: 20, line: 0 }
    }

    #[test]
    fn blank_lines_and_a_mark_in_front_are_no_records() {
        let mut lines = lines("\u{feff}{\"value\":\"a\"}\r\n\n \t\r\n{\"value\":\"b\"}".as_bytes());
        for (line, value) in [(1, "a"), (4, "b")] {
            let record = lines.next().unwrap().unwrap();
            assert_eq!((lines.line, record.value.as_deref()), (line, Some(value.as_bytes())));
        }
        assert_eq!(lines.next(), Ok(None));
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_also_if_it_is_blank() {
        for text in [[b' '; 30], [b'x'; 30]] {
            assert!(lines(&text).next().unwrap_err().contains("--max-record-bytes"));
        }
    }
}
