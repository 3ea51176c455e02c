//! An [`Env`] of in-memory streams, and brokers that do what a test tells them.

use std::{
    any::Any,
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::{Buf, Bytes, BytesMut};
use ottla_protocol::{
    ApiKey, ErrorCode, Request, RequestFrame,
    frame::{decode_request_header, encode_response},
    messages::{
        ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse,
        api_versions_response::ApiVersion,
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::Instant,
};

use crate::{
    Client, ClientBuilder,
    env::{BoxFuture, Duplex, Env, Work},
    net::lock,
};

/// What a scripted broker does with a request.
pub(crate) enum Reply {
    Answer(Vec<Bytes>),
    /// The answer after a while, as a long poll has it; whatever comes behind it on the connection waits too.
    After(Duration, Vec<Bytes>),
    /// The bytes in pieces, a second apart.
    Slowly(Vec<u8>),
    Raw(Vec<u8>),
    Nothing,
    Close,
}

pub(crate) type Script = Arc<dyn Fn(&mut RequestFrame) -> Reply + Send + Sync>;

/// What happens at an address.
#[derive(Clone)]
pub(crate) enum Listener {
    Refuse,
    /// SYNs are lost.
    BlackHole,
    Serve(Script),
}

/// The world of one test.
#[derive(Default)]
pub(crate) struct World {
    listeners: Mutex<BTreeMap<SocketAddr, Listener>>,
    names: Mutex<BTreeMap<String, Vec<SocketAddr>>>,
    dials: Mutex<Vec<(Instant, SocketAddr)>>,
    random: AtomicU64,
    /// When somebody first looked at the clock that counts suspend.
    started: OnceLock<Instant>,
    /// Streams that the client holds open.
    open: Arc<()>,
    buffer: usize,
}

pub(crate) fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        Self::with_buffer(64 * 1024)
    }

    /// Sockets that take `buffer` bytes before they are full.
    pub(crate) fn with_buffer(buffer: usize) -> Arc<Self> {
        Arc::new(Self { buffer, ..Self::default() })
    }

    pub(crate) fn listen(&self, port: u16, listener: Listener) {
        lock(&self.listeners).insert(address(port), listener);
    }

    pub(crate) fn serve(
        &self,
        port: u16,
        script: impl Fn(&mut RequestFrame) -> Reply + Send + Sync + 'static,
    ) {
        self.listen(port, Listener::Serve(Arc::new(script)));
    }

    /// What happens at a port.
    pub(crate) fn listener(&self, port: u16) -> Listener {
        lock(&self.listeners).get(&address(port)).cloned().unwrap_or(Listener::Refuse)
    }

    /// Names resolve to what is said here, and to nothing else.
    pub(crate) fn name(&self, name: &str, addresses: Vec<SocketAddr>) {
        lock(&self.names).insert(name.to_owned(), addresses);
    }

    pub(crate) fn dials(&self) -> Vec<(Instant, SocketAddr)> {
        lock(&self.dials).clone()
    }

    pub(crate) fn open_streams(&self) -> usize {
        // Each stream has two halves.
        (Arc::strong_count(&self.open) - 1) / 2
    }

    pub(crate) fn builder(self: &Arc<Self>, servers: &[&str]) -> ClientBuilder {
        Client::builder().bootstrap_servers(servers.iter().copied()).client_id("test").env(self.clone())
    }

    pub(crate) fn client(self: &Arc<Self>, servers: &[&str]) -> Client {
        self.builder(servers).build().unwrap()
    }
}

/// A half of a stream that counts as open while it exists.
struct Counted<T>(T, #[expect(dead_code, reason = "it counts")] Arc<()>);

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

impl Env for World {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Duplex>> {
        lock(&self.dials).push((Instant::now(), address));
        let listener = lock(&self.listeners).get(&address).cloned().unwrap_or(Listener::Refuse);
        Box::pin(async move {
            match listener {
                Listener::Refuse => Err(io::ErrorKind::ConnectionRefused.into()),
                Listener::BlackHole => std::future::pending().await,
                Listener::Serve(script) => {
                    let (ours, theirs) = tokio::io::duplex(self.buffer);
                    self.spawn("scripted broker", Box::pin(serve(theirs, script)));
                    let (reader, writer) = tokio::io::split(ours);
                    Ok(Duplex {
                        reader: Box::new(Counted(reader, self.open.clone())),
                        writer: Box::new(Counted(writer, self.open.clone())),
                    })
                }
            }
        })
    }

    fn resolve<'a>(&'a self, host: &'a str, _: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        let addresses = lock(&self.names).get(host).cloned();
        Box::pin(async move {
            match addresses {
                Some(addresses) if addresses.is_empty() => std::future::pending().await,
                Some(addresses) => Ok(addresses),
                None => Err(io::Error::new(io::ErrorKind::NotFound, "NXDOMAIN")),
            }
        })
    }

    #[expect(clippy::disallowed_methods, reason = "this is the world of a test")]
    fn spawn(&self, _: &'static str, future: BoxFuture<'static, ()>) {
        tokio::spawn(future);
    }

    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn elapsed(&self) -> Duration {
        let now = Instant::now();
        now - *self.started.get_or_init(|| now)
    }

    fn random(&self) -> u64 {
        // A step of the golden ratio: evenly spread and the same in every run.
        self.random.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed)
    }

    fn read_file<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, io::Result<Vec<u8>>> {
        Box::pin(async { Err(io::ErrorKind::NotFound.into()) })
    }

    fn offload_any(&self, work: Work) -> BoxFuture<'_, Box<dyn Any + Send>> {
        Box::pin(async move { work() })
    }
}

/// A broker's end of a connection.
pub(crate) async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, script: Script) {
    let mut bytes = BytesMut::new();
    loop {
        while let Some(prefix) = bytes.first_chunk::<4>() {
            let length = u32::from_be_bytes(*prefix) as usize;
            if bytes.len() < 4 + length {
                break;
            }
            bytes.advance(4);
            let mut request = decode_request_header(bytes.split_to(length).freeze()).unwrap();
            let raw = match script(&mut request) {
                Reply::Answer(segments) => segments.concat(),
                Reply::After(wait, segments) => {
                    tokio::time::sleep(wait).await;
                    segments.concat()
                }
                Reply::Raw(raw) => raw,
                Reply::Nothing => continue,
                Reply::Close => return,
                Reply::Slowly(raw) => {
                    for byte in raw {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        if stream.write_all(&[byte]).await.is_err() {
                            return;
                        }
                    }
                    continue;
                }
            };
            if stream.write_all(&raw).await.is_err() {
                return;
            }
        }
        match stream.read_buf(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

pub(crate) fn answer<R: Request>(request: &RequestFrame, response: &R::Response) -> Reply {
    Reply::Answer(encode_response::<R>(request.api_version, request.correlation_id, response).unwrap())
}

/// The answer of a current broker to ApiVersions, and of an older one to a version it does not know.
pub(crate) fn api_versions(request: &RequestFrame, newest: i16) -> Reply {
    answer_versions(request, newest, &[])
}

/// The answer of a broker that knows some APIs up to other versions.
pub(crate) fn api_versions_with(request: &RequestFrame, newest: &[(ApiKey, i16)]) -> Reply {
    answer_versions(request, 4, newest)
}

fn answer_versions(request: &RequestFrame, newest: i16, limits: &[(ApiKey, i16)]) -> Reply {
    let apis = [
        (ApiKey::PRODUCE, 12),
        (ApiKey::FETCH, 17),
        (ApiKey::LIST_OFFSETS, 10),
        (ApiKey::OFFSET_FOR_LEADER_EPOCH, 4),
        (ApiKey::INIT_PRODUCER_ID, 5),
        (ApiKey::METADATA, 12),
        (ApiKey::API_VERSIONS, newest),
        (ApiKey::CREATE_TOPICS, 7),
        (ApiKey::DELETE_TOPICS, 6),
        (ApiKey::DELETE_RECORDS, 2),
        (ApiKey::FIND_COORDINATOR, 6),
        (ApiKey::JOIN_GROUP, 9),
        (ApiKey::SYNC_GROUP, 5),
        (ApiKey::HEARTBEAT, 4),
        (ApiKey::LEAVE_GROUP, 5),
        (ApiKey::OFFSET_COMMIT, 9),
        (ApiKey::OFFSET_FETCH, 9),
        (ApiKey::OFFSET_DELETE, 0),
        (ApiKey::LIST_GROUPS, 5),
        (ApiKey::DESCRIBE_GROUPS, 6),
        (ApiKey::DELETE_GROUPS, 2),
    ];
    // Limits may also add what the others do not have.
    let mut apis = BTreeMap::from(apis);
    apis.extend(limits.iter().copied());
    let api = |(api, max_version): (ApiKey, i16)| ApiVersion { api_key: api.0, min_version: 0, max_version };
    let api_keys = apis.into_iter().map(api).collect();
    let mut response = ApiVersionsResponse { api_keys, ..Default::default() };
    let mut version = request.api_version;
    if request.api_version > newest {
        response.error_code = ErrorCode::UNSUPPORTED_VERSION;
        version = 0;
    }
    Reply::Answer(encode_response::<ApiVersionsRequest>(version, request.correlation_id, &response).unwrap())
}

/// A cluster as scripted brokers tell of it.
#[derive(Clone, Default)]
pub(crate) struct Cluster {
    /// Ports of the brokers; ids count from 0.
    pub(crate) brokers: Vec<u16>,
    /// Topics with the leaders of their partitions.
    pub(crate) topics: BTreeMap<String, Vec<i32>>,
}

impl Cluster {
    pub(crate) fn new(brokers: &[u16]) -> Self {
        Self { brokers: brokers.to_vec(), topics: BTreeMap::new() }
    }

    pub(crate) fn topic(mut self, name: &str, leaders: &[i32]) -> Self {
        self.topics.insert(name.to_owned(), leaders.to_vec());
        self
    }

    pub(crate) fn metadata(&self, request: &mut RequestFrame) -> Reply {
        let asked = MetadataRequest::decode_body(request);
        let broker = |(id, port): (i32, &u16)| MetadataResponseBroker {
            node_id: id,
            host: address(0).ip().to_string().into(),
            port: i32::from(*port),
            ..Default::default()
        };
        let topic = |name: &str| match self.topics.get(name) {
            Some(leaders) => MetadataResponseTopic {
                name: Some(name.into()),
                partitions: (0..)
                    .zip(leaders)
                    .map(|(partition_index, leader_id)| MetadataResponsePartition {
                        partition_index,
                        leader_id: *leader_id,
                        leader_epoch: 0,
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            },
            None => MetadataResponseTopic {
                error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                name: Some(name.into()),
                ..Default::default()
            },
        };
        let names: Vec<String> = match asked.topics {
            Some(topics) => {
                topics.iter().filter_map(|topic| Some(topic.name.as_deref()?.to_owned())).collect()
            }
            None => self.topics.keys().cloned().collect(),
        };
        let response = MetadataResponse {
            brokers: (0..).zip(&self.brokers).map(broker).collect(),
            controller_id: 0,
            topics: names.iter().map(|name| topic(name)).collect(),
            ..Default::default()
        };
        answer::<MetadataRequest>(request, &response)
    }

    /// A script of a broker that tells of this cluster.
    pub(crate) fn script(self) -> impl Fn(&mut RequestFrame) -> Reply + Send + Sync + 'static {
        move |request| match request.api_key {
            ApiKey::API_VERSIONS => api_versions(request, 4),
            ApiKey::METADATA => self.metadata(request),
            _ => Reply::Close,
        }
    }
}

/// Decoding the body of a request that the script expects.
pub(crate) trait DecodeBody: Request {
    fn decode_body(request: &mut RequestFrame) -> Self {
        Self::decode(request.api_version, &mut request.body).unwrap()
    }
}

impl<R: Request> DecodeBody for R {}
