//! Whatever stands at the other end, and whatever is asked for: it ends soon, in an error that tells a user what is wrong
//! and where, with few dials, little memory, and no panic.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, BytesMut};
use ottla::{Client, ClientBuilder, Consumer, ErrorCode, OffsetSpec, Producer, Result};
use ottla_protocol::{
    ApiKey, ApiVersionsRequest, Message, MetadataRequest, ProduceRequest, Request, RequestFrame,
    frame::{decode_request_header, encode_response},
    messages::{
        ApiVersionsResponse, FetchRequest, FetchResponse, MetadataResponse, ProduceResponse,
        api_versions_response::ApiVersion,
        fetch_response::{FetchableTopicResponse, PartitionData},
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
        produce_response::{PartitionProduceResponse, TopicProduceResponse},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

const SECOND: Duration = Duration::from_secs(1);
/// By when every case has ended, on a machine that is busy with all the others.
const SOON: Duration = Duration::from_secs(20);
/// What a case may hold of memory at any time; its server is counted too.
const MEMORY: u64 = 4 << 20;
/// As above, where a peer really sends the 64 MiB that `receive.message.max.bytes` lets it: that buffer, and the third of it
/// that it grew out of.
const MUCH_MEMORY: u64 = MEMORY + (64 << 20) / 3 * 4;
const _: () = assert!(MUCH_MEMORY < 100_000_000);

struct Case {
    name: &'static str,
    peer: Peer,
    call: Call,
    /// What the error says, with its causes; `{address}` stands for the peer's.
    says: &'static [&'static str],
}

/// Who is at the address.
#[derive(Clone, Copy)]
enum Peer {
    /// Nobody, and it is this address.
    Nobody(&'static str),
    /// Speaks first, and never again.
    Greets(&'static [u8]),
    /// Answers what is asked; the port is its own.
    Answers(fn(&mut RequestFrame, u16) -> Reply),
}

enum Reply {
    Bytes(Vec<u8>),
    /// The last bytes of the connection.
    Last(Vec<u8>),
    /// The bytes, then zeros for ever.
    Endless(Vec<u8>),
    /// The bytes and then zeros, one each second.
    Drip(Vec<u8>),
    Reset,
    Silence,
}

/// What is called; all of it has to fail.
#[derive(Clone, Copy, PartialEq)]
enum Call {
    /// Connecting; and producing with a client that was built without.
    Anything,
    Produce,
    /// A record of 2 MB.
    ProduceLarge,
    Consume,
    /// The offset of the first record.
    LookUp,
}

const fn case(name: &'static str, peer: Peer, call: Call, says: &'static [&'static str]) -> Case {
    Case { name, peer, call, says }
}

fn cases() -> Vec<Case> {
    use Call::{Anything, Consume, LookUp, Produce, ProduceLarge};
    use Peer::{Answers, Greets, Nobody};
    vec![
        case(
            "unknown host",
            Nobody("no-such-host.invalid:9092"),
            Anything,
            &["{address}", "cannot resolve the name no-such-host.invalid"],
        ),
        case("refused port", Nobody("127.0.0.1:1"), Anything, &["{address}", "Connection refused"]),
        case("HTTP", Answers(http), Anything, &["{address}", "HTTP, not Kafka"]),
        case("SSH", Greets(b"SSH-2.0-OpenSSH_9.6\r\n"), Anything, &["{address}", "SSH, not Kafka"]),
        case(
            "SMTP",
            Greets(b"220 mail.example.org ESMTP\r\n"),
            Anything,
            &["{address}", "\"220 \"", "no Kafka broker"],
        ),
        case(
            "TLS alert",
            Answers(|_, _| Reply::Last(vec![0x15, 3, 3, 0, 2, 2, 70])),
            Anything,
            &["{address}", "speaks TLS", "plaintext"],
        ),
        case(
            "random bytes",
            Answers(|_, _| Reply::Bytes(noise(4_096))),
            Anything,
            &["{address}", "does not answer as a Kafka broker"],
        ),
        case(
            "silence",
            Answers(|_, _| Reply::Silence),
            Anything,
            &["{address}", "did not answer within 1000 ms", "TLS?"],
        ),
        case(
            "one byte per second",
            Answers(|_, _| Reply::Drip(vec![0, 0, 1, 0])),
            Anything,
            &["{address}", "did not answer within 1000 ms", "TLS?"],
        ),
        case(
            "reset at once",
            Answers(|_, _| Reply::Reset),
            Anything,
            &["{address}", "closes the connection at once", "TLS"],
        ),
        case(
            "closed at once",
            Answers(|_, _| Reply::Last(Vec::new())),
            Anything,
            &["{address}", "closes the connection at once; does it expect TLS or SASL?"],
        ),
        case(
            "half a frame",
            Answers(|_, _| Reply::Last(vec![0, 0, 0, 100, 0, 0])),
            Anything,
            &["{address}", "cut inside of an answer"],
        ),
        case(
            "negative length",
            Answers(|_, _| Reply::Bytes(vec![0xff; 4])),
            Anything,
            &["{address}", "answer of -1 bytes"],
        ),
        case(
            "2 GiB length",
            Answers(|_, _| Reply::Bytes(vec![0x7f, 0xff, 0xff, 0xff])),
            Anything,
            &["{address}", "answer of 2147483647 bytes"],
        ),
        case(
            "2 GiB length of a later answer",
            Answers(long_metadata),
            Anything,
            &["{address}", "answer of 2147483647 bytes"],
        ),
        case(
            "endless frame",
            Answers(|_, _| Reply::Endless(vec![0, 0x10, 0, 0])),
            Anything,
            &["{address}", "ApiVersions cannot be decoded"],
        ),
        case("endless later answer", Answers(endless_metadata), Anything, &["{address}", "Metadata"]),
        case(
            "wrong correlation id",
            Answers(wrong_correlation),
            Anything,
            &["{address}", "correlation id", "Kafka broker?"],
        ),
        case(
            "wrong later correlation id",
            Answers(wrong_later_correlation),
            Anything,
            &["{address}", "mixed-up answers", "correlation id"],
        ),
        case(
            "huge array",
            Answers(|request, _| body(request, &[0, 0, 0xff, 0xff, 0xff, 0xff, 7])),
            Anything,
            &["{address}", "ApiVersions cannot be decoded"],
        ),
        case(
            "overlong varint",
            Answers(|request, _| body(request, &[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
            Anything,
            &["{address}", "ApiVersions cannot be decoded", "variable-length integer"],
        ),
        case("huge arrays of partitions", Answers(huge_metadata), Anything, &["{address}", "Metadata"]),
        case(
            "no API that is needed",
            Answers(|request, _| versions(request, &[])),
            Anything,
            &["{address}", "Metadata"],
        ),
        case(
            "no version in common",
            Answers(|request, _| versions(request, &[(ApiKey::METADATA, 90, 99)])),
            Anything,
            &["{address}", "Metadata", "90"],
        ),
        case(
            "ApiVersions refused with an unknown code",
            Answers(refused_versions),
            Anything,
            &["{address}", "ApiVersions", "9999"],
        ),
        case(
            "closed for every Metadata",
            Answers(|request, port| on_metadata(request, port, |_| Reply::Last(Vec::new()))),
            Anything,
            &["{address}", "lost the connection"],
        ),
        case(
            "invalid UTF-8 in a host",
            Answers(|request, port| damaged(request, port, b"127.0.0.1")),
            Anything,
            &["{address}", "Metadata", "UTF-8", "host"],
        ),
        case(
            "invalid UTF-8 in a topic's name",
            Answers(|request, port| damaged(request, port, b"orders")),
            Produce,
            &["orders", "{address}", "UTF-8", "name"],
        ),
        case(
            "closed after every Metadata",
            Answers(closes_after_metadata),
            Produce,
            &["orders-0", "{address}", "lost the connection"],
        ),
        case(
            "topic that does not exist",
            Answers(no_topic),
            Produce,
            &["orders", "no broker knows it", "create it", "UNKNOWN_TOPIC_OR_PARTITION"],
        ),
        case(
            "topic to look up that does not exist",
            Answers(no_topic),
            LookUp,
            &["orders", "no broker knows it", "create it", "UNKNOWN_TOPIC_OR_PARTITION"],
        ),
        case(
            "topic with an unknown code",
            Answers(|request, port| broker(request, port, ErrorCode(9999))),
            Produce,
            &["orders", "9999"],
        ),
        case(
            "record over the client's limit",
            Answers(|request, port| broker(request, port, ErrorCode::NONE)),
            ProduceLarge,
            &["orders", "max.request.size"],
        ),
        case(
            "record over the broker's limit",
            Answers(|request, port| produced(request, port, ErrorCode::MESSAGE_TOO_LARGE)),
            Produce,
            &["orders-0", "MESSAGE_TOO_LARGE", "max.message.bytes"],
        ),
        case(
            "produced with an unknown code",
            Answers(|request, port| produced(request, port, ErrorCode(9999))),
            Produce,
            &["orders-0", "9999"],
        ),
        case(
            "not allowed to produce",
            Answers(|request, port| produced(request, port, ErrorCode::TOPIC_AUTHORIZATION_FAILED)),
            Produce,
            &["orders-0", "TOPIC_AUTHORIZATION_FAILED"],
        ),
        case(
            "not allowed to consume",
            Answers(|request, port| fetched(request, port, ErrorCode::TOPIC_AUTHORIZATION_FAILED)),
            Consume,
            &["orders-0", "TOPIC_AUTHORIZATION_FAILED"],
        ),
        case(
            "consumed with an unknown code",
            Answers(|request, port| fetched(request, port, ErrorCode(9999))),
            Consume,
            &["orders-0", "9999"],
        ),
    ]
}

// What servers answer.

fn answer<R: Request>(request: &RequestFrame, response: &R::Response) -> Reply {
    let segments = encode_response::<R>(request.api_version, request.correlation_id, response);
    Reply::Bytes(segments.expect("it can be encoded").concat())
}

/// An answer with this body, which is made by hand.
fn body(request: &RequestFrame, body: &[u8]) -> Reply {
    let length = (4 + body.len()) as u32;
    Reply::Bytes([&length.to_be_bytes()[..], &request.correlation_id.to_be_bytes(), body].concat())
}

fn noise(length: usize) -> Vec<u8> {
    // The first four bytes are no length that an answer can have.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(byte).take(length).collect()
}

fn http(_: &mut RequestFrame, _: u16) -> Reply {
    Reply::Last(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec())
}

fn wrong_correlation(request: &mut RequestFrame, _: u16) -> Reply {
    request.correlation_id += 7;
    usual_versions(request)
}

fn wrong_later_correlation(request: &mut RequestFrame, port: u16) -> Reply {
    on_metadata(request, port, |request| {
        request.correlation_id += 7;
        answer::<MetadataRequest>(request, &MetadataResponse::default())
    })
}

fn long_metadata(request: &mut RequestFrame, port: u16) -> Reply {
    on_metadata(request, port, |_| Reply::Bytes(vec![0x7f, 0xff, 0xff, 0xff]))
}

fn endless_metadata(request: &mut RequestFrame, port: u16) -> Reply {
    // All that is allowed, of 64 MiB.
    on_metadata(request, port, |request| {
        Reply::Endless([[4, 0, 0, 0], request.correlation_id.to_be_bytes()].concat())
    })
}

fn huge_metadata(request: &mut RequestFrame, port: u16) -> Reply {
    // No tags, no throttling, and 2^32 - 2 brokers.
    on_metadata(request, port, |request| body(request, &[0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xf]))
}

fn refused_versions(request: &mut RequestFrame, _: u16) -> Reply {
    let response = ApiVersionsResponse { error_code: ErrorCode(9999), ..Default::default() };
    answer::<ApiVersionsRequest>(request, &response)
}

fn versions(request: &RequestFrame, apis: &[(ApiKey, i16, i16)]) -> Reply {
    let api = |(api, min_version, max_version): &(ApiKey, i16, i16)| ApiVersion {
        api_key: api.0,
        min_version: *min_version,
        max_version: *max_version,
    };
    let api_keys = apis.iter().map(api).collect();
    answer::<ApiVersionsRequest>(request, &ApiVersionsResponse { api_keys, ..Default::default() })
}

fn usual_versions(request: &RequestFrame) -> Reply {
    let apis = [
        (ApiKey::PRODUCE, 3, 9),
        (ApiKey::FETCH, 4, 12),
        (ApiKey::LIST_OFFSETS, 1, 7),
        (ApiKey::METADATA, 0, 12),
        (ApiKey::API_VERSIONS, 0, 4),
    ];
    versions(request, &apis)
}

/// Right but for Metadata.
fn on_metadata(request: &mut RequestFrame, _: u16, reply: fn(&mut RequestFrame) -> Reply) -> Reply {
    match request.api_key {
        ApiKey::METADATA => reply(request),
        _ => usual_versions(request),
    }
}

/// A broker alone that leads orders-0, unless the topic has an error.
fn broker(request: &mut RequestFrame, port: u16, topic: ErrorCode) -> Reply {
    match request.api_key {
        ApiKey::METADATA => {}
        ApiKey::API_VERSIONS => return usual_versions(request),
        _ => return Reply::Last(Vec::new()),
    }
    let broker = MetadataResponseBroker {
        node_id: 1,
        host: "127.0.0.1".into(),
        port: i32::from(port),
        ..Default::default()
    };
    let partition = MetadataResponsePartition { leader_id: 1, ..Default::default() };
    let orders = MetadataResponseTopic {
        error_code: topic,
        name: Some("orders".into()),
        partitions: if topic == ErrorCode::NONE { vec![partition] } else { Vec::new() },
        ..Default::default()
    };
    let asked = MetadataRequest::decode(request.api_version, &mut request.body).expect("a request");
    let is_asked = asked.topics.is_none_or(|topics| !topics.is_empty());
    let topics = if is_asked { vec![orders] } else { Vec::new() };
    answer::<MetadataRequest>(
        request,
        &MetadataResponse { brokers: vec![broker], topics, ..Default::default() },
    )
}

/// A right answer in which some name is no UTF-8.
fn damaged(request: &mut RequestFrame, port: u16, name: &[u8]) -> Reply {
    match broker(request, port, ErrorCode::NONE) {
        Reply::Bytes(mut bytes) => {
            let at = bytes.windows(name.len()).position(|window| window == name);
            if let Some(at) = at {
                bytes[at..at + name.len()].fill(0xff);
            }
            Reply::Bytes(bytes)
        }
        other => other,
    }
}

fn no_topic(request: &mut RequestFrame, port: u16) -> Reply {
    broker(request, port, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

fn closes_after_metadata(request: &mut RequestFrame, port: u16) -> Reply {
    match (request.api_key, broker(request, port, ErrorCode::NONE)) {
        (ApiKey::METADATA, Reply::Bytes(bytes)) => Reply::Last(bytes),
        (_, other) => other,
    }
}

fn produced(request: &mut RequestFrame, port: u16, error_code: ErrorCode) -> Reply {
    if request.api_key != ApiKey::PRODUCE {
        return broker(request, port, ErrorCode::NONE);
    }
    let partition = PartitionProduceResponse { index: 0, error_code, ..Default::default() };
    let orders = TopicProduceResponse {
        name: "orders".into(),
        partition_responses: vec![partition],
        ..Default::default()
    };
    answer::<ProduceRequest>(request, &ProduceResponse { responses: vec![orders], ..Default::default() })
}

fn fetched(request: &mut RequestFrame, port: u16, error_code: ErrorCode) -> Reply {
    if request.api_key != ApiKey::FETCH {
        return broker(request, port, ErrorCode::NONE);
    }
    let partition = PartitionData { partition_index: 0, error_code, ..Default::default() };
    let orders =
        FetchableTopicResponse { topic: "orders".into(), partitions: vec![partition], ..Default::default() };
    answer::<FetchRequest>(request, &FetchResponse { responses: vec![orders], ..Default::default() })
}

// How they serve.

#[expect(clippy::disallowed_methods, reason = "a server, not the client")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

/// Serves whoever connects, for as long as the runtime lasts; gives the address and the count of connections.
async fn serve(peer: Peer) -> (String, Arc<AtomicUsize>) {
    let accepted = Arc::new(AtomicUsize::new(0));
    if let Peer::Nobody(address) = peer {
        return (address.to_owned(), accepted);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let count = accepted.clone();
    spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            spawn(async move {
                // The client may leave at any time.
                let _ = talk(stream, peer, address.port()).await;
            });
        }
    });
    (address.to_string(), accepted)
}

/// A connection until somebody closes it.
async fn talk(mut stream: TcpStream, peer: Peer, port: u16) -> std::io::Result<()> {
    if let Peer::Greets(greeting) = peer {
        stream.write_all(greeting).await?;
    }
    let mut bytes = BytesMut::new();
    while stream.read_buf(&mut bytes).await? > 0 {
        while let Some(mut request) = next_request(&mut bytes) {
            let Peer::Answers(reply) = peer else { continue };
            if !carry_out(reply(&mut request, port), &mut stream).await? {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn next_request(bytes: &mut BytesMut) -> Option<RequestFrame> {
    let length = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
    if bytes.len() < 4 + length {
        return None;
    }
    bytes.advance(4);
    Some(decode_request_header(bytes.split_to(length).freeze()).expect("a client's request"))
}

/// Whether the connection goes on.
async fn carry_out(reply: Reply, stream: &mut TcpStream) -> std::io::Result<bool> {
    match reply {
        Reply::Bytes(bytes) => stream.write_all(&bytes).await.map(|()| true),
        Reply::Last(bytes) => stream.write_all(&bytes).await.map(|()| false),
        Reply::Endless(bytes) => {
            stream.write_all(&bytes).await?;
            loop {
                stream.write_all(&[0; 16 * 1024]).await?;
            }
        }
        Reply::Drip(bytes) => {
            for byte in bytes.into_iter().chain(std::iter::repeat(0)) {
                stream.write_all(&[byte]).await?;
                tokio::time::sleep(SECOND).await;
            }
            Ok(false)
        }
        Reply::Reset => stream.set_zero_linger().map(|()| false),
        Reply::Silence => Ok(true),
    }
}

// What clients call.

fn client(address: &str) -> ClientBuilder {
    let builder = Client::builder().bootstrap_servers([address]);
    builder.request_timeout(SECOND).socket_connection_setup_timeout(SECOND)
}

async fn produce(client: &Client, max_block: Duration, value: &[u8]) -> Result<()> {
    let producer = Producer::builder(client).enable_idempotence(false).request_timeout(SECOND);
    let producer = producer.max_block(max_block).delivery_timeout(2 * SECOND).build()?;
    producer.send("orders", value).await?;
    Ok(())
}

async fn consume(client: &Client) -> Result<()> {
    let consumer = Consumer::builder(client).build()?;
    consumer.assign([(("orders", 0), OffsetSpec::At(0))])?;
    consumer.recv().await?;
    Ok(())
}

async fn look_up(client: &Client) -> Result<()> {
    let consumer = Consumer::builder(client).build()?;
    consumer.beginning_offsets([("orders", 0)]).await?;
    Ok(())
}

/// The errors of all that is called; what works is told as if it were one.
async fn errors(call: Call, address: &str) -> Vec<String> {
    let told = |what: Result<()>| match what {
        Ok(()) => "it works".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    let built = client(address).build().expect("the settings are right");
    let grace = 10 * SECOND;
    let errors = match call {
        Call::Anything => vec![
            told(client(address).connect().await.map(drop)),
            told(produce(&built, 2 * SECOND, b"value").await),
        ],
        Call::Produce => vec![told(produce(&built, grace, b"value").await)],
        Call::ProduceLarge => vec![told(produce(&built, grace, &[7; 2_000_000]).await)],
        Call::Consume => vec![told(consume(&built).await)],
        Call::LookUp => vec![told(look_up(&built).await)],
    };
    built.close().await.expect("it closes in time");
    errors
}

/// What is wrong with how a case ends, each with a line.
async fn run(case: &Case) -> Vec<String> {
    let (address, accepted) = serve(case.peer).await;
    let begin = Instant::now();
    let Ok(errors) = timeout(SOON, errors(case.call, &address)).await else {
        return vec![format!("no end within {SOON:?}")];
    };
    let seconds = begin.elapsed().as_secs() as usize + 1;
    let mut wrong = Vec::new();
    for error in errors {
        println!("{}: {error}", case.name);
        for words in case.says {
            let words = words.replace("{address}", &address);
            if !error.contains(&words) {
                wrong.push(format!("{words:?} is not in: {error}"));
            }
        }
    }
    let dials = accepted.load(Ordering::Relaxed);
    if dials > 10 * seconds {
        wrong.push(format!("{dials} dials in {seconds} s"));
    }
    wrong
}

/// Runs a case on a thread of its own, whose allocations are the case's.
fn run_alone(case: &Case) -> Vec<String> {
    let mut wrong = Vec::new();
    let used = allocation_counter::measure(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        wrong = runtime.expect("a runtime").block_on(run(case));
    });
    let sends_much = case.name == "endless later answer" || case.call == Call::ProduceLarge;
    let limit = if sends_much { MUCH_MEMORY } else { MEMORY };
    if used.bytes_max > limit {
        wrong.push(format!("{} bytes were allocated at once", used.bytes_max));
    }
    wrong.into_iter().map(|wrong| format!("{}: {wrong}", case.name)).collect()
}

#[test]
fn whatever_is_at_the_other_end_the_error_tells_it_soon() {
    let panics = Arc::new(Mutex::new(Vec::new()));
    let (seen, usual) = (panics.clone(), std::panic::take_hook());
    // A task's panic would go unnoticed.
    std::panic::set_hook(Box::new(move |panic| {
        if let Ok(mut seen) = seen.lock() {
            seen.push(panic.to_string());
        }
    }));
    let wrong: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = cases().into_iter().map(|case| scope.spawn(move || run_alone(&case))).collect();
        running.into_iter().flat_map(|case| case.join().unwrap_or_default()).collect()
    });
    std::panic::set_hook(usual);
    assert_eq!(*panics.lock().expect("nobody panics with it"), Vec::<String>::new());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
