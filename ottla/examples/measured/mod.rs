//! What the examples that measure have in common: rounds, clocks, records, and a broker in a process of its own.

use std::{
    io::{BufRead, BufReader, IoSlice, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::Bytes;
use ottla::{Client, Result};
use ottla_protocol::{
    ApiKey, ErrorCode, Request, RequestFrame, Str, TopicId,
    frame::{decode_request_header, encode_response},
    messages::{
        ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse,
        api_versions_response::ApiVersion,
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
    },
};

pub(crate) const PARTITIONS: i32 = 6;

/// Runs the cases in turn, and prints the median, the least and the most of the rounds. The program's arguments are the
/// number of rounds and a part of the names of the wanted cases; or `broker`, and then it is the broker: `serve`.
///
/// `work` says in its [`Span`] what of it counts.
pub(crate) fn run<C>(
    cases: &[C],
    name: impl Fn(&C) -> &str,
    serve: impl FnOnce(),
    work: impl AsyncFn(&C, &Client, &mut Span) -> Result<()>,
) -> Result<()> {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("broker") {
        serve();
        return Ok(());
    }
    let rounds = argument.and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let wanted = std::env::args().nth(2).unwrap_or_default();
    let cases: Vec<_> = cases.iter().filter(|case| name(case).contains(&wanted)).collect();
    let broker = Broker::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let mut results = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for (case, results) in cases.iter().zip(&mut results) {
            results.push(runtime.block_on(async {
                let client = Client::builder().bootstrap_servers([&broker.address]).connect().await?;
                let mut span = Span::default();
                work(case, &client, &mut span).await?;
                client.close().await?;
                Ok::<_, ottla::Error>(span.result())
            })?);
        }
    }
    println!("{:<36} {:>22} {:>12}", "", "ns CPU per record", "M records/s");
    for (case, mut results) in cases.iter().zip(results) {
        results.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (least, median, most) = (results[0], results[results.len() / 2], results[results.len() - 1]);
        let range = format!("({:.0} to {:.0})", least.0, most.0);
        println!("{:<36} {:>6.0} {range:>15} {:>12.2}", name(case), median.0, median.1);
    }
    println!("peak memory: {} MB", peak_memory() / 1_000);
    Ok(())
}

/// What is measured of a case: everything between `begin` and `end`.
#[derive(Default)]
pub(crate) struct Span {
    began: Option<(Duration, tokio::time::Instant)>,
    took: Option<(Duration, Duration, u64)>,
}

impl Span {
    pub(crate) fn begin(&mut self) {
        self.began = Some((cpu_time(), tokio::time::Instant::now()));
    }

    pub(crate) fn end(&mut self, records: u64) {
        let (cpu, wall) = self.began.expect("it began");
        self.took = Some((cpu_time() - cpu, wall.elapsed(), records));
    }

    /// CPU nanoseconds per record, and million records per second.
    fn result(&self) -> (f64, f64) {
        let (cpu, wall, records) = self.took.expect("it ended");
        let count = records as f64;
        (cpu.as_nanos() as f64 / count, count / wall.as_secs_f64() / 1e6)
    }
}

/// Records of exactly `size` bytes that look like JSON and compress like it.
pub(crate) fn records(size: usize) -> Vec<Vec<u8>> {
    let mut random = splitmix64(42);
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

/// Answers every connection with a function that `answers` makes for it.
#[expect(clippy::disallowed_methods, reason = "a broker of its own, in a process of its own")]
pub(crate) fn serve<A>(answers: impl Fn(u16) -> A)
where
    A: FnMut(RequestFrame) -> Vec<Bytes> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    println!("127.0.0.1:{port}");
    for stream in listener.incoming().flatten() {
        let mut answer = answers(port);
        std::thread::spawn(move || {
            // The client closes connections as it likes.
            let _ = converse(stream, &mut answer);
        });
    }
}

fn converse(
    mut stream: TcpStream,
    answer: &mut impl FnMut(RequestFrame) -> Vec<Bytes>,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut frame)?;
        let segments = answer(decode_request_header(Bytes::from(frame)).expect("a request"));
        let mut slices: Vec<_> = segments.iter().map(|segment| IoSlice::new(segment)).collect();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            let written = stream.write_vectored(rest)?;
            IoSlice::advance_slices(&mut rest, written);
        }
    }
}

/// The answer to one request.
pub(crate) fn reply<R: Request>(
    frame: &mut RequestFrame,
    answer: impl FnOnce(R) -> R::Response,
) -> Vec<Bytes> {
    let request = R::decode(frame.api_version, &mut frame.body).expect("a request of that API");
    encode_response::<R>(frame.api_version, frame.correlation_id, &answer(request)).expect("an answer")
}

/// The answer to Metadata, or else to ApiVersions: `apis` are offered besides these two, up to a version each.
pub(crate) fn introduce(
    frame: &mut RequestFrame,
    port: u16,
    topics: &[&str],
    apis: &[(ApiKey, i16)],
) -> Vec<Bytes> {
    if frame.api_key == ApiKey::METADATA {
        return reply::<MetadataRequest>(frame, |_| metadata(port, topics));
    }
    let common = [(ApiKey::METADATA, 12), (ApiKey::API_VERSIONS, 3)];
    let api = |(key, max_version): &(ApiKey, i16)| ApiVersion {
        api_key: key.0,
        min_version: 0,
        max_version: *max_version,
    };
    reply::<ApiVersionsRequest>(frame, |_| ApiVersionsResponse {
        api_keys: common.iter().chain(apis).map(api).collect(),
        ..ApiVersionsResponse::default()
    })
}

fn metadata(port: u16, topics: &[&str]) -> MetadataResponse {
    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        leader_epoch: 0,
        replica_nodes: vec![1],
        isr_nodes: vec![1],
        ..MetadataResponsePartition::default()
    };
    let topic = |name: &&str| MetadataResponseTopic {
        error_code: ErrorCode::NONE,
        name: Some(Str::from(*name)),
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
        topics: topics.iter().map(topic).collect(),
        ..MetadataResponse::default()
    }
}
