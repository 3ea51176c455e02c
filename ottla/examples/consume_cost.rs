//! What a record costs to consume: CPU time of this process per record, against a broker in another process that
//! answers at once, from batches that were made beforehand.
//!
//! ```text
//! cargo run --release -p ottla --example consume_cost            all cases
//! cargo run --release -p ottla --example consume_cost -- 3 lz4   three rounds, cases that say lz4
//! cargo run --release -p ottla --example consume_cost -- 9 plain  what a group costs, side by side
//! ```
//!
//! Cases that say *group* are a member of one: the lease is looked at, every record is completed, and what is complete is
//! committed once a second. What they cost more than their neighbours is what a group costs.
//!
//! One broker on loopback, six partitions, checksums on; the application looks at each value's length and first byte.
//! Rounds are interleaved, and the median is printed with the least and the most, so that a busy neighbour spoils a
//! round and not a case. Linux only: CPU time is read from `/proc`.

mod measured;

use futures::StreamExt;
use measured::{PARTITIONS, Span};
use ottla::{Client, Compression, Consumer, OffsetSpec, Result};
use ottla_broker::null::{NullBroker, Shape};

/// A kind of batch for each topic: its name, the size of a record, how many a batch has, and its codec.
const TOPICS: [(&str, usize, u32, Compression); 5] = [
    ("small", 100, 595, Compression::None),
    ("large", 1_000, 64, Compression::None),
    ("small-lz4", 100, 595, Compression::Lz4),
    ("small-zstd", 100, 595, Compression::Zstd),
    ("single", 100, 1, Compression::None),
];

struct Case {
    name: &'static str,
    topic: &'static str,
    records: u64,
    how: How,
    /// As a member of a group.
    group: bool,
}

#[derive(Clone, Copy)]
enum How {
    /// Views of batches.
    Poll,
    /// One record at a time.
    Recv,
    /// The stream.
    Stream,
    /// Views of batches, each detached: copied out.
    Detach,
    /// Views of batches, each completed.
    Complete,
}

const CASES: [Case; 12] = [
    case("100 B plain, poll", "small", 8_000_000, How::Poll),
    in_group("100 B plain, poll, group", "small", 8_000_000, How::Complete),
    in_group("100 B plain, poll, group, by batch", "small", 8_000_000, How::Poll),
    case("100 B plain, recv", "small", 4_000_000, How::Recv),
    in_group("100 B plain, recv, group", "small", 4_000_000, How::Recv),
    case("100 B plain, stream", "small", 4_000_000, How::Stream),
    in_group("100 B plain, stream, group", "small", 4_000_000, How::Stream),
    case("100 B, poll and detach", "small", 4_000_000, How::Detach),
    case("100 B, poll, a record a batch", "single", 1_000_000, How::Poll),
    case("1 KB, poll", "large", 2_000_000, How::Poll),
    case("100 B lz4, poll", "small-lz4", 6_000_000, How::Poll),
    case("100 B zstd, poll", "small-zstd", 5_000_000, How::Poll),
];

const fn case(name: &'static str, topic: &'static str, records: u64, how: How) -> Case {
    Case { name, topic, records, how, group: false }
}

const fn in_group(name: &'static str, topic: &'static str, records: u64, how: How) -> Case {
    Case { name, topic, records, how, group: true }
}

fn main() -> Result<()> {
    measured::run(&CASES, |case| case.name, with_topics, measure)
}

async fn measure(case: &Case, client: &Client, span: &mut Span) -> Result<()> {
    let builder = Consumer::builder(client);
    let consumer = if case.group { builder.group("measured").build()? } else { builder.build()? };
    if case.group {
        consumer.subscribe([case.topic])?;
    } else {
        consumer.assign((0..PARTITIONS).map(|partition| ((case.topic, partition), OffsetSpec::At(0))))?;
    }
    consume(case.how, &consumer, case.records / 5).await?;
    span.begin();
    let count = consume(case.how, &consumer, case.records).await?;
    span.end(count);
    consumer.close().await
}

/// Reads at least `count` records; gives how many it were.
async fn consume(how: How, consumer: &Consumer, count: u64) -> Result<u64> {
    let (mut seen, mut touched) = (0, 0_usize);
    let mut touch = |value: Option<&[u8]>| {
        if let Some(value @ [first, ..]) = value {
            touched = touched.wrapping_add(value.len() ^ usize::from(*first));
        }
    };
    let mut stream = consumer.stream();
    while seen < count {
        match how {
            How::Poll => {
                let batch = consumer.poll().await?.expect("it is open");
                seen += batch.len() as u64;
                batch.iter().for_each(|record| touch(record.value()));
                batch.complete();
            }
            How::Complete => {
                let batch = consumer.poll().await?.expect("it is open");
                seen += batch.len() as u64;
                for record in &batch {
                    touch(record.value());
                    record.complete();
                }
            }
            How::Detach => {
                let batch = consumer.poll().await?.expect("it is open");
                seen += batch.len() as u64;
                batch.iter().for_each(|record| touch(record.detach().value().map(|value| &value[..])));
            }
            How::Recv => {
                let record = consumer.recv().await?.expect("it is open");
                seen += 1;
                touch(record.view().value());
                record.complete();
            }
            How::Stream => {
                let record = stream.next().await.expect("it is open")?;
                seen += 1;
                touch(record.view().value());
                record.complete();
            }
        }
    }
    std::hint::black_box(touched);
    Ok(seen)
}

/// Its topics are of different kinds.
fn with_topics(broker: NullBroker) -> NullBroker {
    TOPICS.into_iter().fold(broker, |broker, (name, record_size, records_per_batch, compression)| {
        broker.topic(name, Shape { record_size, records_per_batch, compression })
    })
}
