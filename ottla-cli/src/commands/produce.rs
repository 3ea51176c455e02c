//! `ottla produce`: lines of stdin become records.

use std::{
    collections::VecDeque,
    io::{self, BufRead},
    time::{Duration, SystemTime},
};

use clap::{Args, ValueEnum};
use ottla::{Compression, Header, Producer, Receipt, Record, TopicProducer};

use crate::{
    connect::Connect,
    output::{Failure, say, with_causes},
    text::json_line::{self, Line},
};

/// Produce each line of stdin as a record.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  echo hello | ottla produce greetings
  printf 'ada:1\\nbob:2\\n' | ottla produce users --key-separator :
  ottla consume orders --json --exit | ottla produce orders-copy --json")]
pub(crate) struct Produce {
    /// The topic.
    topic: String,
    #[command(flatten)]
    connect: Connect,
    /// The key is what stands before the first SEPARATOR of a line.
    #[arg(long, short = 'K', value_name = "SEPARATOR", conflicts_with = "json")]
    key_separator: Option<String>,
    /// The key of every record.
    #[arg(long, short = 'k', conflicts_with_all = ["json", "key_separator"])]
    key: Option<String>,
    /// A header of every record; may be repeated, also with the same name.
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// Lines are JSON, as `ottla consume --json` prints them: keys, headers and bytes survive.
    #[arg(long)]
    json: bool,
    /// An empty line is a tombstone (a record without a value).
    #[arg(long, short = 'Z', conflicts_with = "json")]
    tombstone: bool,
    /// The partition of every record; by the key's hash when left out.
    #[arg(long, short = 'p')]
    partition: Option<i32>,
    /// Compression of the batches.
    #[arg(long, short = 'z', value_enum, default_value_t = Codec::None)]
    compression_codec: Codec,
    /// How many replicas must have a record: all, 1 or 0.
    #[arg(long, value_parser = ["all", "-1", "1", "0"], default_value = "all")]
    request_required_acks: String,
    /// How long a batch may wait for more records, in milliseconds.
    #[arg(long, value_name = "MS")]
    linger: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("use NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

impl Produce {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.connect.client().await?;
        let compression = match self.compression_codec {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip,
            Codec::Snappy => Compression::Snappy,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
        };
        let mut builder = Producer::builder(&client).compression(compression);
        builder =
            builder.properties(ottla::Properties::from_iter([("acks", self.request_required_acks.as_str())]));
        if let Some(linger) = self.linger {
            builder = builder.linger(Duration::from_millis(linger));
        }
        let producer = builder.build()?;
        let result = self.produce_lines(&producer.topic(&self.topic)).await;
        let closed = producer.close().await;
        client.close().await?;
        result.and(closed.map_err(|error| Failure::new(with_causes(&error))))
    }

    /// Produces until the end of stdin, or the first line that is no record. What was taken before it is waited for
    /// either way, so that the failure can say how far it went.
    async fn produce_lines(&self, topic: &TopicProducer) -> Result<(), Failure> {
        let mut outcomes = Outcomes::default();
        let read = self.enqueue_lines(topic, &mut outcomes).await;
        while !outcomes.pending.is_empty() {
            outcomes.settle_first().await;
        }
        let all = outcomes.to_result();
        read.map_err(|error| {
            Failure::new(format!("{error}; {} records before it were written", outcomes.written))
        })
        .and(all)
    }

    async fn enqueue_lines(&self, topic: &TopicProducer, outcomes: &mut Outcomes) -> Result<(), String> {
        let mut lines = lines_of_stdin();
        let mut number = 0_u64;
        while let Some(line) = lines.recv().await {
            number += 1;
            let line = line.map_err(|error| format!("stdin: {error}"))?;
            let line = self.read(line).map_err(|error| format!("line {number}: {error}"))?;
            let receipt = self.enqueue(topic, &line).await;
            let receipt = receipt.map_err(|error| format!("line {number}: {}", with_causes(&error)))?;
            outcomes.pending.push_back(receipt);
            // Receipts are cheap, but not free: settle from the front once there are many.
            while outcomes.pending.len() > 10_000 {
                outcomes.settle_first().await;
            }
        }
        Ok(())
    }

    async fn enqueue(&self, topic: &TopicProducer, line: &Line) -> ottla::Result<Receipt> {
        let mut headers: Vec<_> = self.header.iter().map(|(k, v)| Header::new(k, v)).collect();
        headers.extend(line.headers.iter().map(|(k, v)| match v {
            Some(v) => Header::new(k, v),
            None => Header::null(k),
        }));
        let mut record = Record::from_parts(line.key.as_deref(), line.value.as_deref()).headers(&headers);
        if let Some(partition) = line.partition.or(self.partition) {
            record = record.partition(partition);
        }
        if let Some(ms) = line.timestamp {
            record = record.timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
        }
        topic.enqueue(record).await
    }

    fn read(&self, line: Vec<u8>) -> Result<Line, String> {
        if self.json {
            let text = std::str::from_utf8(&line).map_err(|_| "not UTF-8, so not JSON")?;
            return json_line::read(text);
        }
        let separator = self.key_separator.as_deref().map(str::as_bytes);
        let (key, value) = match separator {
            Some(separator) => {
                let at = line.windows(separator.len().max(1)).position(|window| window == separator);
                let at = at.ok_or("the key separator is missing")?;
                (Some(line[..at].to_vec()), line[at + separator.len()..].to_vec())
            }
            None => (self.key.clone().map(String::into_bytes), line),
        };
        let value = if self.tombstone && value.is_empty() { None } else { Some(value) };
        Ok(Line { key, value, ..Line::default() })
    }
}

/// Lines of stdin without their ends, read on a thread of its own: a terminal may be silent for hours.
fn lines_of_stdin() -> tokio::sync::mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1_024);
    #[expect(
        clippy::disallowed_methods,
        reason = "a blocking read of stdin cannot be cancelled, so it gets a thread"
    )]
    std::thread::spawn(move || {
        for line in io::stdin().lock().split(b'\n') {
            let line = line.map(|mut line| {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                line
            });
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

#[derive(Debug, Default)]
struct Outcomes {
    pending: VecDeque<Receipt>,
    written: u64,
    failed: u64,
}

impl Outcomes {
    async fn settle_first(&mut self) {
        let Some(receipt) = self.pending.pop_front() else { return };
        match receipt.await {
            Ok(_) => self.written += 1,
            Err(error) => {
                self.failed += 1;
                // The first ones name the cause; a million more would only bury it.
                if self.failed <= 10 {
                    say(format_args!("ottla: {}", with_causes(&error)));
                }
            }
        }
    }

    fn to_result(&self) -> Result<(), Failure> {
        if self.failed == 0 {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{} records were not acknowledged, {} were written",
            self.failed, self.written
        )))
    }
}
