//! What a record costs to produce: CPU time of this process per record, against a broker in another process that
//! answers at once and stores nothing.
//!
//! ```text
//! cargo run --release -p ottla --example produce_cost            all cases
//! cargo run --release -p ottla --example produce_cost -- 3       three rounds
//! cargo run --release -p ottla --example produce_cost -- 3 lz4   of the cases with that in their name
//! ```
//!
//! One broker on loopback, six partitions, `acks=all`, idempotent, linger 5 ms. Rounds are interleaved, and the median
//! is printed with the least and the most, so that a busy neighbour spoils a round and not a case. Linux only: CPU time
//! is read from `/proc`.

mod measured;

use measured::Span;
use ottla::{Client, Compression, MIB, Producer, Record, Result};
use ottla_broker::null::sample_values;

const TOPIC: &str = "t";

struct Case {
    name: &'static str,
    records: u64,
    size: usize,
    how: How,
    compression: Compression,
}

#[derive(Clone, Copy)]
enum How {
    /// One thread, `try_enqueue` through a topic handle; the receipt is dropped, `flush` at the end.
    Enqueue,
    /// The same with a key of 12 bytes.
    Keyed,
    /// One task, `enqueue(..).await`, and every receipt is awaited in order, 200,000 behind.
    Receipts,
    /// 10,000 tasks that each await `send`.
    Tasks,
}

const CASES: [Case; 7] = [
    case("100 B, receipts dropped", 4_000_000, 100, How::Enqueue, Compression::None),
    case("100 B, 12 B keys", 4_000_000, 100, How::Keyed, Compression::None),
    case("100 B, receipts awaited", 2_000_000, 100, How::Receipts, Compression::None),
    case("100 B, 10,000 tasks awaiting send", 1_000_000, 100, How::Tasks, Compression::None),
    case("1 KB, receipts dropped", 1_500_000, 1_000, How::Enqueue, Compression::None),
    case("100 B, lz4", 3_000_000, 100, How::Enqueue, Compression::Lz4),
    case("100 B, zstd", 2_000_000, 100, How::Enqueue, Compression::Zstd),
];

const fn case(name: &'static str, records: u64, size: usize, how: How, compression: Compression) -> Case {
    Case { name, records, size, how, compression }
}

fn main() -> Result<()> {
    measured::run(&CASES, |case| case.name, |broker| broker, measure)
}

async fn measure(case: &Case, client: &Client, span: &mut Span) -> Result<()> {
    let producer = Producer::builder(client).compression(case.compression).buffer_memory(32 * MIB).build()?;
    let records = sample_values(case.size);
    produce(case, &producer, &records, case.records / 5).await?;
    span.begin();
    produce(case, &producer, &records, case.records).await?;
    span.end(case.records);
    Ok(producer.close().await?)
}

async fn produce(case: &Case, producer: &Producer, records: &[Vec<u8>], count: u64) -> Result<()> {
    let topic = producer.topic(TOPIC);
    let mut values = records.iter().cycle();
    let mut value = || values.next().expect("endless");
    match case.how {
        How::Enqueue => {
            for _ in 0..count {
                drop(topic.enqueue(Record::new(value())).await?);
            }
            producer.flush().await?;
        }
        How::Keyed => {
            for n in 0..count {
                let mut key = [b'k'; 12];
                key[..8].copy_from_slice(&(n % 100_000).to_be_bytes());
                drop(topic.enqueue(Record::new(value()).key(&key)).await?);
            }
            producer.flush().await?;
        }
        How::Receipts => {
            let mut open = std::collections::VecDeque::new();
            for _ in 0..count {
                open.push_back(topic.enqueue(Record::new(value())).await?);
                if open.len() > 200_000 {
                    open.pop_front().expect("not empty").await?;
                }
            }
            for receipt in open {
                receipt.await?;
            }
        }
        How::Tasks => {
            const TASKS: u64 = 10_000;
            let tasks: Vec<_> = (0..TASKS)
                .map(|task| {
                    let (topic, value) = (topic.clone(), records[task as usize % records.len()].clone());
                    #[expect(clippy::disallowed_methods, reason = "an application's own tasks")]
                    tokio::spawn(async move {
                        for _ in 0..count / TASKS {
                            topic.send(&value).await?;
                        }
                        Ok::<_, ottla::Error>(())
                    })
                })
                .collect();
            for task in tasks {
                task.await.expect("no panic")?;
            }
        }
    }
    Ok(())
}
