//! Requests one by one, each on a connection of its own, so that what is parked holds up nothing else.

use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::{Request, decode_response, encode_request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Long enough for a machine that does much else, short enough to end a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What the members of these tests call themselves.
pub(crate) const CLIENT_ID: &str = "suite";

/// How long an answer that must not come is waited for.
const GLANCE: Duration = Duration::from_millis(30);

/// A connection.
pub(crate) struct Client {
    stream: TcpStream,
    sent: i32,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> std::io::Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await.expect("the broker listens")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, sent: 0 })
    }

    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) -> std::io::Result<()> {
        self.sent += 1;
        let segments = encode_request(version, self.sent, Some(CLIENT_ID), request).expect("it can be said");
        self.stream.write_all(&segments.concat()).await
    }

    /// The next answer, which must be the one to the request with this number, counted from 1.
    pub(crate) async fn receive<R: Request>(
        &mut self,
        number: i32,
        version: i16,
    ) -> std::io::Result<R::Response> {
        let frame = timeout(PATIENCE, self.frame()).await;
        let frame = frame.unwrap_or_else(|_| panic!("no answer to {} v{version}", R::API_KEY))?;
        let (correlation, response) = decode_response::<R>(version, frame).expect("an answer to it");
        assert_eq!(correlation, number);
        Ok(response)
    }

    async fn frame(&mut self) -> std::io::Result<Bytes> {
        let length = self.stream.read_i32().await?;
        let mut frame = vec![0; usize::try_from(length).expect("a length")];
        self.stream.read_exact(&mut frame).await?;
        Ok(frame.into())
    }

    pub(crate) async fn call<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> std::io::Result<R::Response> {
        self.send(version, request).await?;
        self.receive::<R>(self.sent, version).await
    }

    /// Whether something has arrived.
    pub(crate) async fn has_answer(&self) -> bool {
        timeout(GLANCE, self.stream.peek(&mut [0])).await.is_ok()
    }
}

/// A request that was sent, and may be answered late.
#[must_use = "the answer must be looked at"]
pub(crate) struct Parked<R> {
    client: Client,
    version: i16,
    request: PhantomData<fn(R)>,
}

impl<R: Request> Parked<R> {
    pub(crate) async fn send(address: &str, version: i16, request: &R) -> Self {
        let mut client = Client::connect(address).await.expect("the broker listens");
        client.send(version, request).await.expect("the broker reads");
        Self { client, version, request: PhantomData }
    }

    pub(crate) async fn answer(mut self) -> R::Response {
        self.client.receive::<R>(1, self.version).await.expect("the broker answers")
    }

    /// To be called when the broker has seen the request.
    pub(crate) async fn assert_unanswered(&self) {
        assert!(!self.client.has_answer().await, "{} was answered at once", R::API_KEY);
    }

    /// What is sent behind it on the same connection, answered behind it.
    pub(crate) fn into_client(self) -> Client {
        self.client
    }
}
