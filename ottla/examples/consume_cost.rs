//! What a record costs to consume: CPU time of this process per record, against a broker in another process that
//! answers at once, from batches that were made beforehand.
//!
//! ```text
//! cargo run --release -p ottla --example consume_cost            all cases
//! cargo run --release -p ottla --example consume_cost -- 3 lz4   three rounds, cases that say lz4
//! ```
//!
//! One broker on loopback, six partitions, checksums on; the application looks at each value's length and first byte.
//! Rounds are interleaved, and the median is printed with the least and the most, so that a busy neighbour spoils a
//! round and not a case. Linux only: CPU time is read from `/proc`.

use std::{
    io::{BufRead, BufReader, IoSlice, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use ottla::{Client, Compression, Consumer, OffsetSpec, Result};
use ottla_protocol::{
    ApiKey, ErrorCode, Request, RequestFrame, Str, TopicId,
    batch::{BatchBuilder, set_base_offset_and_epoch},
    compression::Compressor,
    frame::{decode_request_header, encode_response},
    messages::{
        ApiVersionsRequest, ApiVersionsResponse, FetchRequest, FetchResponse, MetadataRequest,
        MetadataResponse,
        api_versions_response::ApiVersion,
        fetch_response::{FetchableTopicResponse, PartitionData},
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
    },
};

const PARTITIONS: i32 = 6;
/// A kind of batch for each topic: its name, the size of a record, how many a batch has, and its codec.
const TOPICS: [(&str, usize, i64, Compression); 5] = [
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
}

const CASES: [Case; 8] = [
    case("100 B, poll", "small", 8_000_000, How::Poll),
    case("100 B, recv", "small", 4_000_000, How::Recv),
    case("100 B, stream", "small", 4_000_000, How::Stream),
    case("100 B, poll and detach", "small", 4_000_000, How::Detach),
    case("100 B, poll, a record a batch", "single", 1_000_000, How::Poll),
    case("1 KB, poll", "large", 2_000_000, How::Poll),
    case("100 B lz4, poll", "small-lz4", 6_000_000, How::Poll),
    case("100 B zstd, poll", "small-zstd", 5_000_000, How::Poll),
];

const fn case(name: &'static str, topic: &'static str, records: u64, how: How) -> Case {
    Case { name, topic, records, how }
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
    let consumer = Consumer::builder(&client).build()?;
    consumer.assign((0..PARTITIONS).map(|partition| ((case.topic, partition), OffsetSpec::At(0))))?;
    consume(case.how, &consumer, case.records / 5).await?;
    let (cpu, wall) = (cpu_time(), tokio::time::Instant::now());
    let count = consume(case.how, &consumer, case.records).await? as f64;
    let (cpu, wall) = (cpu_time() - cpu, wall.elapsed());
    consumer.close().await?;
    client.close().await?;
    Ok((cpu.as_nanos() as f64 / count, count / wall.as_secs_f64() / 1e6))
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
            }
            How::Stream => {
                let record = stream.next().await.expect("it is open")?;
                seen += 1;
                touch(record.view().value());
            }
        }
    }
    std::hint::black_box(touched);
    Ok(seen)
}

/// Records of exactly `size` bytes that look like JSON and compress like it.
fn records(size: usize) -> Vec<Vec<u8>> {
    let mut random = splitmix64(42);
    (0..4_096)
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

fn splitmix64(mut state: u64) -> impl FnMut() -> u64 {
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

/// Serves endless logs out of a few batches.
#[expect(clippy::disallowed_methods, reason = "a broker of its own, in a process of its own")]
fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let templates: &[Vec<Vec<u8>>; 5] = Box::leak(Box::new(TOPICS.map(templates)));
    println!("127.0.0.1:{port}");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            // The client closes connections as it likes.
            let _ = converse(stream, port, templates);
        });
    }
}

/// Eight different batches.
fn templates((_, size, per_batch, codec): (&str, usize, i64, Compression)) -> Vec<Vec<u8>> {
    let records = records(size);
    let mut compressor = Compressor::new(codec, None).expect("it is built in");
    let batches = records.chunks(512).map(|chunk| {
        let mut builder = BatchBuilder::new(1 << 20);
        for value in chunk.iter().cycle().take(per_batch as usize) {
            builder.append(1_767_225_600_000, None, Some(value), std::iter::empty()).expect("it fits");
        }
        let mut sealed = builder.seal_with(&mut compressor).expect("it is compressed");
        sealed.stamp(-1, -1, -1);
        sealed.into_bytes().to_vec()
    });
    batches.collect()
}

fn converse(mut stream: TcpStream, port: u16, templates: &[Vec<Vec<u8>>]) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut frame)?;
        let request = decode_request_header(Bytes::from(frame)).expect("a request");
        let segments = answer(request, port, templates);
        let mut slices: Vec<_> = segments.iter().map(|segment| IoSlice::new(segment)).collect();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let written = stream.write_vectored(rest)?;
            IoSlice::advance_slices(&mut rest, written);
        }
    }
}

fn answer(mut frame: RequestFrame, port: u16, templates: &[Vec<Vec<u8>>]) -> Vec<Bytes> {
    match frame.api_key {
        ApiKey::FETCH => reply::<FetchRequest>(&mut frame, |request| fetched(&request, templates)),
        ApiKey::METADATA => reply::<MetadataRequest>(&mut frame, |_| metadata(port)),
        _ => reply::<ApiVersionsRequest>(&mut frame, |_| ApiVersionsResponse {
            api_keys: [(ApiKey::FETCH, 12), (ApiKey::METADATA, 12), (ApiKey::API_VERSIONS, 3)]
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

/// As many whole batches as were asked for. There are no sessions: each request is full.
fn fetched(request: &FetchRequest, templates: &[Vec<Vec<u8>>]) -> FetchResponse {
    let responses = request.topics.iter().map(|topic| {
        let kind = TOPICS.iter().position(|(name, ..)| *name == &*topic.topic).expect("a topic of ours");
        let partitions = topic.partitions.iter().map(|asked| {
            let mut records = Vec::with_capacity(asked.partition_max_bytes as usize);
            let mut offset = asked.fetch_offset;
            loop {
                let batch = &templates[kind][offset as usize % 8];
                if !records.is_empty() && records.len() + batch.len() > asked.partition_max_bytes as usize {
                    break;
                }
                let at = records.len();
                records.extend_from_slice(batch);
                set_base_offset_and_epoch(&mut records[at..], offset, 0);
                offset += TOPICS[kind].2;
            }
            PartitionData {
                partition_index: asked.partition,
                high_watermark: i64::MAX,
                last_stable_offset: i64::MAX,
                records: Some(records.into()),
                ..PartitionData::default()
            }
        });
        FetchableTopicResponse {
            topic: topic.topic.clone(),
            partitions: partitions.collect(),
            ..FetchableTopicResponse::default()
        }
    });
    FetchResponse { responses: responses.collect(), ..FetchResponse::default() }
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
    let topic = |(name, ..): (&str, usize, i64, Compression)| MetadataResponseTopic {
        error_code: ErrorCode::NONE,
        name: Some(Str::from(name)),
        topic_id: TopicId([name.len() as u8; 16]),
        partitions: (0..PARTITIONS).map(partition).collect(),
        ..MetadataResponseTopic::default()
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
        topics: TOPICS.map(topic).into(),
        ..MetadataResponse::default()
    }
}
