//! `ottla produce`: stdin becomes records.

mod outcomes;
mod source;

use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use ottla::{Admin, Client, Header, Producer, ProducerBuilder, Properties, Receipt, Record};

use self::{
    outcomes::{Outcomes, was},
    source::{Numbered, Shape, Source},
};
use crate::{
    bounds,
    commands::topics::no_such_partition,
    complete,
    connect::Connect,
    output::{Failure, with_causes},
    text::{
        NewRecord, counted,
        format::{self, Format},
    },
};

/// Produce stdin: each line a record, or as --format or --json say.
///
/// The first record that fails, wherever, ends it: no more of stdin is read, what was read before is waited for, and every
/// record that is not written is named by its number in stdin, with the reason. Exit code 1.
#[derive(Debug, Args)]
#[command(after_help = format!("{}

Examples:
  echo hello | ottla produce greetings
  printf 'ada:1\\nbob:2\\n' | ottla produce users --format '%k:%v\\n'
  ottla produce photos --key cat.jpg --format '%v' < cat.jpg
  ottla consume orders --json --exit | ottla produce orders-copy --json
  ottla produce orders --output-format '%k went to %p@%o\\n' --key-separator , < orders.csv", format::help()))]
pub(crate) struct Produce {
    /// The topic; when left out, what %t or a JSON line says.
    #[arg(add = complete::topics())]
    topic: Option<String>,
    /// How a record is read: a text ends at what stands behind it, or is as long as %K, %V, %T in front of it say.
    #[arg(long, short = 'f', default_value = "%v\\n", value_parser = Format::parse, allow_hyphen_values = true)]
    format: Format,
    /// Lines are JSON, as `ottla consume --json` prints them: keys, headers and bytes survive.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// The key is what stands before the first SEPARATOR of a line: the same as --format '%k<SEPARATOR>%v\n'.
    #[arg(long, short = 'K', value_name = "SEPARATOR", conflicts_with_all = ["json", "format"], value_parser = Format::key_and_value)]
    key_separator: Option<Format>,
    /// The key of every record that has none.
    #[arg(long, short = 'k')]
    key: Option<String>,
    /// A header of every record; may be repeated, also with the same name.
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = header)]
    header: Vec<(String, String)>,
    /// An empty value is a tombstone (a record without a value).
    #[arg(long, short = 'Z')]
    tombstone: bool,
    /// The partition of every record, or `any` (or -1): by the key's hash, whatever %p or a JSON line says.
    #[arg(long, short = 'p', value_name = "N|any", allow_negative_numbers = true, value_parser = Target::parse)]
    partition: Option<Target>,
    /// Compression of the batches.
    #[arg(long, short = 'z', value_enum)]
    compression_codec: Option<Codec>,
    /// How many replicas must have a record: all (the default), 1 or 0.
    #[arg(long, visible_alias = "acks", value_parser = ["all", "-1", "1", "0"], allow_hyphen_values = true)]
    request_required_acks: Option<String>,
    /// How long a batch may wait for more records, in milliseconds.
    #[arg(long, value_name = "MS")]
    linger: Option<u64>,
    /// Print each record when it is written, in this format: %p and %o say where it is.
    #[arg(long, value_name = "FORMAT", value_parser = Format::parse_for_written, allow_hyphen_values = true)]
    output_format: Option<Format>,
    /// The longest record that is read from stdin: what a broken input may take of the memory.
    #[arg(long, value_name = "BYTES", default_value = "16777216")]
    max_record_bytes: usize,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Where records go.
#[derive(Debug, Clone, Copy)]
enum Target {
    Any,
    Partition(i32),
}

impl Target {
    fn parse(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("any" | "-1", _) => Ok(Self::Any),
            (_, Ok(partition @ 0..)) => Ok(Self::Partition(partition)),
            _ => Err("use a partition's number, or any".to_owned()),
        }
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("use NAME=VALUE")?;
    Ok((name.into(), value.into()))
}

impl Produce {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let shape = self.shape()?;
        let client = self.connect.client_unless_said(bounds::PRODUCING).await?;
        self.check_partition(&client).await?;
        let builder = self.properties().fold(Producer::builder(&client), ProducerBuilder::properties);
        let producer = builder.build()?;
        let result = match Source::stdin(shape, self.max_record_bytes) {
            Ok(source) => self.produce(&producer, source).await,
            Err(error) => Err(Failure::usage(format!("--format: {error}"))),
        };
        let closed = producer.close().await;
        client.close().await?;
        result.and(closed.map_err(|error| Failure::new(with_causes(&error))))
    }

    fn shape(&self) -> Result<Shape, Failure> {
        let format = self.key_separator.as_ref().unwrap_or(&self.format);
        if self.topic.is_none() && !self.json && !format.has_topic() {
            return Err(Failure::usage("which topic? Give TOPIC, or records that say it: %t, --json"));
        }
        Ok(if self.json { Shape::JsonLines } else { Shape::Format(format.clone()) })
    }

    /// A producer waits for a partition that is missing; whoever has mistyped its number need not.
    async fn check_partition(&self, client: &Client) -> Result<(), Failure> {
        let (Some(topic), Some(Target::Partition(number))) = (&self.topic, self.partition) else {
            return Ok(());
        };
        for (_, described) in Admin::new(client).describe_topics([topic]).await? {
            // One that does not exist may come into being, and who may not look may still write.
            let partitions = described.map_or(usize::MAX, |topic| topic.partitions.len());
            if usize::try_from(number).is_ok_and(|number| number >= partitions) {
                return Err(no_such_partition(topic, number, partitions));
            }
        }
        Ok(())
    }

    /// What was said on the command line; what was not is as the configuration has it.
    fn properties(&self) -> impl Iterator<Item = Properties> {
        let codec = self.compression_codec.map(|codec| match codec {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        });
        let all = [
            ("--compression-codec", "compression.type", codec.map(str::to_owned)),
            ("--request-required-acks", "acks", self.request_required_acks.clone()),
            ("--linger", "linger.ms", self.linger.map(|ms| ms.to_string())),
        ];
        let said = |(option, key, value)| Some(Properties::from_iter([(key, value?)]).called(option));
        all.into_iter().filter_map(said)
    }

    /// Produces until the end of stdin, or the first record that fails. What was taken before it is waited for either way,
    /// so that the failure can say how far it went.
    async fn produce(&self, producer: &Producer, source: Source) -> Result<(), Failure> {
        let counts = source.counts;
        let mut outcomes = Outcomes::new(self.output_format.as_ref(), counts);
        let read = self.enqueue_all(producer, source, &mut outcomes).await;
        outcomes.settle_all().await;
        match read {
            Err(error) => {
                let written = counted(outcomes.written(), "record");
                Err(Failure::new(format!("{error}; {written} before it {} written", was(outcomes.written()))))
            }
            Ok(()) => outcomes.result(),
        }
    }

    /// The error is one of the input: a record that is none, or that the producer does not take.
    async fn enqueue_all(
        &self,
        producer: &Producer,
        mut source: Source,
        outcomes: &mut Outcomes<'_>,
    ) -> Result<(), String> {
        loop {
            let records = tokio::select! {
                biased;
                records = source.next() => records,
                () = outcomes.settle_first(), if outcomes.is_pending() => match outcomes.has_failed() {
                    true => return Ok(()),
                    false => continue,
                },
            };
            let Some(records) = records else { return Ok(()) };
            for Numbered { number, record } in records? {
                let failed = |error| format!("{} {number}: {error}", source.counts);
                let record = self.complete(record).map_err(failed)?;
                let receipt = Self::enqueue(producer, &record).await;
                let receipt = receipt.map_err(|error| failed(with_causes(&error)))?;
                outcomes.expect(receipt, number, record).await;
                if outcomes.has_failed() {
                    return Ok(());
                }
            }
        }
    }

    /// What the arguments say of every record.
    fn complete(&self, mut record: NewRecord) -> Result<NewRecord, String> {
        if self.topic.is_some() {
            record.topic.clone_from(&self.topic);
        }
        if record.topic.is_none() {
            return Err("it has no topic, and none is given".to_owned());
        }
        record.key = record.key.or_else(|| self.key.clone().map(String::into_bytes));
        record.value = record.value.filter(|value| !(self.tombstone && value.is_empty()));
        match self.partition {
            Some(Target::Any) => record.partition = None,
            Some(Target::Partition(partition)) => record.partition = Some(partition),
            None => {}
        }
        let fixed = self
            .header
            .iter()
            .map(|(name, value)| (name.clone().into_bytes(), Some(value.clone().into_bytes())));
        record.headers.splice(0..0, fixed);
        Ok(record)
    }

    async fn enqueue(producer: &Producer, new: &NewRecord) -> ottla::Result<Receipt> {
        let headers: Vec<_> = new
            .headers
            .iter()
            .map(|(name, value)| match value {
                Some(value) => Header::new(name, value),
                None => Header::null(name),
            })
            .collect();
        let mut record = Record::from_parts(new.key.as_deref(), new.value.as_deref()).headers(&headers);
        if let Some(partition) = new.partition {
            record = record.partition(partition);
        }
        if let Some(ms) = new.timestamp {
            record = record.timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(ms));
        }
        producer.enqueue(new.topic.as_deref().unwrap_or_default(), record).await
    }
}
