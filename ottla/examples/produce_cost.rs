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

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use ottla::{Client, Compression, MIB, Producer, Record, Result};
use ottla_protocol::{
    ApiKey, ErrorCode, Request, RequestFrame, Str, TopicId,
    frame::{decode_request_header, encode_response},
    messages::{
        ApiVersionsRequest, ApiVersionsResponse, InitProducerIdRequest, InitProducerIdResponse,
        MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse,
        api_versions_response::ApiVersion,
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
        produce_response::{PartitionProduceResponse, TopicProduceResponse},
    },
};

const TOPIC: &str = "t";
const PARTITIONS: i32 = 6;

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
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("broker") {
        serve();
        return Ok(());
    }
    let rounds = argument.and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let wanted = std::env::args().nth(2).unwrap_or_default();
    let cases: Vec<_> = CASES.iter().filter(|case| case.name.contains(&wanted)).collect();
    let broker = Broker::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut results = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for (case, results) in cases.iter().zip(&mut results) {
            results.push(runtime.block_on(measure(case, &broker.address))?);
        }
    }
    println!("{:<36} {:>22} {:>12}", "", "ns CPU per record", "M records/s");
    for (case, mut results) in cases.iter().zip(results) {
        results.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (least, median, most) = (results[0], results[results.len() / 2], results[results.len() - 1]);
        let range = format!("({:.0} to {:.0})", least.0, most.0);
        println!("{:<36} {:>6.0} {range:>15} {:>12.2}", case.name, median.0, median.1);
    }
    println!("peak memory: {} MB", peak_memory() / 1_000);
    Ok(())
}

/// CPU nanoseconds per record, and million records per second.
async fn measure(case: &Case, broker: &str) -> Result<(f64, f64)> {
    let client = Client::builder().bootstrap_servers([broker]).connect().await?;
    let producer =
        Producer::builder(&client).compression(case.compression).buffer_memory(32 * MIB).build()?;
    let records = records(case.size);
    produce(case, &producer, &records, case.records / 5).await?;
    let (cpu, wall) = (cpu_time(), tokio::time::Instant::now());
    produce(case, &producer, &records, case.records).await?;
    let (cpu, wall) = (cpu_time() - cpu, wall.elapsed());
    producer.close().await?;
    client.close().await?;
    let count = case.records as f64;
    Ok((cpu.as_nanos() as f64 / count, count / wall.as_secs_f64() / 1e6))
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

/// Records of exactly `size` bytes that look like JSON and compress like it.
fn records(size: usize) -> Vec<Vec<u8>> {
    let mut random = fastrand_like(42);
    (0..16_384)
        .map(|n| {
            let event = ["view", "click", "cart", "order", "refund", "login", "logout", "search"][n % 8];
            let mut record = format!(
                "{{\"ts\":{},\"user\":{},\"event\":\"{event}\",\"qty\":{},\"sid\":\"",
                1_767_225_600_000_u64 + n as u64 * 7,
                random() % 1_000_000,
                random() % 10
            );
            while record.len() < size {
                record.push_str(&format!("{:016x}", random()));
            }
            record.truncate(size);
            record.into_bytes()
        })
        .collect()
}

/// splitmix64.
fn fastrand_like(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// User and system time of this process.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    // Behind the command's name in parentheses: utime and stime are fields 14 and 15, in ticks of 10 ms.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// In kilobytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// The broker's process.
struct Broker {
    child: Child,
    address: String,
}

impl Broker {
    fn start() -> Self {
        let program = std::env::current_exe().expect("this program");
        let child = Command::new(program).arg("broker").stdout(Stdio::piped()).spawn();
        let mut child = child.expect("this program starts");
        let mut address = String::new();
        let out = child.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut address).expect("the broker's address");
        Self { child, address: address.trim().to_owned() }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have died by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Accepts everything at once and keeps nothing.
#[expect(clippy::disallowed_methods, reason = "a broker of its own, in a process of its own")]
fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    println!("127.0.0.1:{port}");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            // The client closes connections as it likes.
            let _ = converse(stream, port);
        });
    }
}

fn converse(mut stream: TcpStream, port: u16) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut offset = 0;
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut frame)?;
        let request = decode_request_header(Bytes::from(frame)).expect("a request");
        for segment in answer(request, port, &mut offset) {
            stream.write_all(&segment)?;
        }
    }
}

fn answer(mut frame: RequestFrame, port: u16, offset: &mut i64) -> Vec<Bytes> {
    match frame.api_key {
        ApiKey::PRODUCE => reply::<ProduceRequest>(&mut frame, |request| produced(request, offset)),
        ApiKey::METADATA => reply::<MetadataRequest>(&mut frame, |_| metadata(port)),
        ApiKey::INIT_PRODUCER_ID => reply::<InitProducerIdRequest>(&mut frame, |_| InitProducerIdResponse {
            producer_id: 1_000 + i64::from(std::process::id()),
            ..InitProducerIdResponse::default()
        }),
        _ => reply::<ApiVersionsRequest>(&mut frame, |_| ApiVersionsResponse {
            api_keys: [
                (ApiKey::PRODUCE, 12),
                (ApiKey::METADATA, 12),
                (ApiKey::INIT_PRODUCER_ID, 4),
                (ApiKey::API_VERSIONS, 3),
            ]
            .map(|(key, max_version)| ApiVersion { api_key: key.0, min_version: 0, max_version })
            .into(),
            ..ApiVersionsResponse::default()
        }),
    }
}

fn reply<R: Request>(frame: &mut RequestFrame, answer: impl FnOnce(R) -> R::Response) -> Vec<Bytes> {
    let request = R::decode(frame.api_version, &mut frame.body).expect("a request of that API");
    encode_response::<R>(frame.api_version, frame.correlation_id, &answer(request)).expect("an answer")
}

fn produced(request: ProduceRequest, offset: &mut i64) -> ProduceResponse {
    let topics = request.topic_data.into_iter().map(|topic| TopicProduceResponse {
        name: topic.name,
        partition_responses: topic
            .partition_data
            .into_iter()
            .map(|partition| {
                *offset += 1;
                PartitionProduceResponse {
                    index: partition.index,
                    base_offset: *offset,
                    ..Default::default()
                }
            })
            .collect(),
        ..TopicProduceResponse::default()
    });
    ProduceResponse { responses: topics.collect(), ..ProduceResponse::default() }
}

fn metadata(port: u16) -> MetadataResponse {
    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        leader_epoch: 0,
        replica_nodes: vec![1],
        isr_nodes: vec![1],
        ..MetadataResponsePartition::default()
    };
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: 1,
            host: Str::from("127.0.0.1"),
            port: port.into(),
            ..MetadataResponseBroker::default()
        }],
        cluster_id: Some(Str::from("null")),
        controller_id: 1,
        topics: vec![MetadataResponseTopic {
            error_code: ErrorCode::NONE,
            name: Some(Str::from(TOPIC)),
            topic_id: TopicId([7; 16]),
            partitions: (0..PARTITIONS).map(partition).collect(),
            ..MetadataResponseTopic::default()
        }],
        ..MetadataResponse::default()
    }
}
