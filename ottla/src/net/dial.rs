//! From an address to a connection: resolve, connect, agree on versions, all within one deadline.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use ottla_core::connection::{DialLimit, DialPermit, Handshake, HandshakeMemory, HandshakeStep};
use ottla_core::versions::Versions;
use ottla_protocol::frame::encode_request;
use tokio::{
    io::{AsyncRead, AsyncWriteExt},
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    Connection, Context,
    broker::Lane,
    connection::Peer,
    frame_reader::{FrameError, FrameReader},
    lock, now,
};
use crate::{Error, ErrorKind, Result, config::HostPort, env::Duplex};

/// No broker's list of versions is anywhere near this long.
const FIRST_ANSWER: usize = 1 << 20;

/// Who is dialled, and for what.
pub(super) struct Dial<'a> {
    pub(super) context: &'a Arc<Context>,
    pub(super) node: i32,
    pub(super) address: &'a HostPort,
    pub(super) lane: Lane,
    pub(super) limit: &'a Mutex<DialLimit>,
}

/// Leave to connect once; counts as a failure unless it is said to have succeeded.
struct Permit<'a> {
    limit: &'a Mutex<DialLimit>,
    permit: Option<DialPermit>,
}

impl<'a> Permit<'a> {
    async fn wait(limit: &'a Mutex<DialLimit>) -> Self {
        loop {
            let permit = lock(limit).permit(now());
            match permit {
                Ok(permit) => return Self { limit, permit: Some(permit) },
                Err(later) => sleep_until(later.into()).await,
            }
        }
    }

    fn succeeded(mut self) {
        if let Some(permit) = self.permit.take() {
            lock(self.limit).on_success(permit);
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            lock(self.limit).on_failure(now(), permit);
        }
    }
}

impl Dial<'_> {
    /// Connects to the first address of the name that works. The name is resolved anew each time.
    ///
    /// # Errors
    /// What the last address said, within `socket.connection.setup.timeout.ms` and what the limit makes it wait.
    pub(super) async fn run(&self, memory: &mut HandshakeMemory) -> Result<Connection> {
        let mut deadline = Instant::now() + self.context.config.connection_setup_timeout;
        let addresses = self.resolve().await?;
        let mut failed = None;
        for (at, address) in addresses.iter().enumerate() {
            let left = u32::try_from(addresses.len() - at).unwrap_or(u32::MAX);
            loop {
                let asked = Instant::now();
                let permit = Permit::wait(self.limit).await;
                // Waiting for one's turn is nobody's fault.
                deadline += asked.elapsed();
                // A black hole among the addresses must not use up the time of the others.
                let share = deadline.saturating_duration_since(Instant::now()) / left;
                failed = match self.connect(*address, share, *memory).await {
                    Ok(connection) => {
                        permit.succeeded();
                        memory.on_ready();
                        return Ok(connection);
                    }
                    // Azure Event Hubs and others cut the connection where Kafka answers UNSUPPORTED_VERSION.
                    Err(ConnectFailed::Unanswered(_)) if memory.on_closed_unanswered().is_some() => continue,
                    Err(ConnectFailed::Unanswered(error)) => {
                        let what =
                            format!("{address} closes the connection at once; does it expect TLS or SASL?");
                        Some(Error::io(what, error))
                    }
                    Err(ConnectFailed::Other(error)) => Some(error),
                };
                break;
            }
        }
        Err(failed.unwrap_or_else(|| {
            Error::io(format!("{} has no address", self.address.host), io::ErrorKind::NotFound.into())
        }))
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>> {
        let HostPort { host, port } = self.address;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, *port)]);
        }
        // Half of the time at most: there must be some left for connecting.
        let wait = self.context.config.connection_setup_timeout / 2;
        match timeout(wait, self.context.env.resolve(host, *port)).await {
            Ok(Ok(mut addresses)) => {
                let mut seen = Vec::new();
                addresses.retain(|address| {
                    !seen.contains(address) && {
                        seen.push(*address);
                        true
                    }
                });
                Ok(addresses)
            }
            Ok(Err(error)) => Err(Error::io(format!("cannot resolve the name {host}"), error)),
            Err(_) => Err(Error::timeout(format!("the name {host} was not resolved within {wait:?}"))),
        }
    }

    async fn connect(
        &self,
        address: SocketAddr,
        share: Duration,
        memory: HandshakeMemory,
    ) -> Result<Connection, ConnectFailed> {
        let deadline = Instant::now() + share;
        let duplex = match timeout_at(deadline, self.context.env.connect(address)).await {
            Ok(Ok(duplex)) => duplex,
            Ok(Err(error)) => return Err(Error::io(format!("cannot connect to {address}"), error).into()),
            Err(_) => {
                let what = format!(
                    "cannot connect to {address} within {} ms (socket.connection.setup.timeout.ms)",
                    in_ms(share)
                );
                return Err(Error::timeout(what).into());
            }
        };
        match timeout_at(deadline, self.handshake(duplex, Handshake::new(memory))).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let what = format!(
                    "{address} accepts connections, but did not answer within {} ms \
                     (socket.connection.setup.timeout.ms); is it a Kafka broker, and does it expect TLS?",
                    in_ms(share)
                );
                Err(Error::timeout(what).into())
            }
        }
    }

    async fn handshake(&self, duplex: Duplex, mut handshake: Handshake) -> Result<Connection, ConnectFailed> {
        let Duplex { reader, mut writer } = duplex;
        let mut frames = FrameReader::new(reader, FIRST_ANSWER);
        let (versions, throttle_time_ms) = self.agree(&mut frames, &mut writer, &mut handshake).await?;
        frames.set_max_length(self.context.config.max_response_bytes);
        let peer =
            Peer { node: self.node, address: self.address.to_string().into(), lane: self.lane, versions };
        let connection = Connection::start(self.context, peer, frames, writer);
        connection.throttled(throttle_time_ms);
        Ok(connection)
    }

    /// What the broker speaks, and for how many milliseconds it wants to hear nothing more.
    async fn agree<R: AsyncRead + Unpin>(
        &self,
        frames: &mut FrameReader<R>,
        writer: &mut (impl AsyncWriteExt + Unpin),
        handshake: &mut Handshake,
    ) -> Result<(Versions, i32), ConnectFailed> {
        for correlation_id in 0.. {
            let unanswered = |error| match correlation_id {
                0 => ConnectFailed::Unanswered(error),
                _ => Error::io(format!("lost {} during the handshake", self.address), error).into(),
            };
            for segment in self.question(handshake, correlation_id)? {
                writer.write_all(&segment).await.map_err(unanswered)?;
            }
            writer.flush().await.map_err(unanswered)?;
            let frame = match frames.next().await {
                Ok(frame) => frame,
                Err(FrameError::Io(error)) => return Err(unanswered(error)),
                Err(closed @ FrameError::Closed) => {
                    return Err(unanswered(io::Error::new(io::ErrorKind::UnexpectedEof, closed)));
                }
                Err(cut @ FrameError::Truncated) => {
                    let eof = io::Error::new(io::ErrorKind::UnexpectedEof, cut);
                    return Err(Error::io(format!("lost {} during the handshake", self.address), eof).into());
                }
                Err(wrong @ FrameError::BadLength(_)) => return Err(self.no_broker(wrong).into()),
            };
            match handshake.on_answer(correlation_id, frame).map_err(|error| self.no_broker(error))? {
                HandshakeStep::AskAgain => {}
                HandshakeStep::Ready { versions, throttle_time_ms } => {
                    return Ok((versions, throttle_time_ms));
                }
            }
        }
        // The handshake goes strictly downwards through a handful of versions.
        unreachable!("the handshake ends before the numbers do")
    }

    fn question(&self, handshake: &Handshake, correlation_id: i32) -> Result<Vec<Bytes>> {
        let request = handshake.request(env!("CARGO_PKG_VERSION"));
        let client_id = self.context.config.client_id.as_deref();
        encode_request(handshake.version(), correlation_id, client_id, &request)
            .map_err(|error| Error::misuse("ApiVersions cannot be encoded").with_source(error))
    }

    fn no_broker(&self, error: impl std::error::Error + Send + Sync + 'static) -> Error {
        Error::peer(format!("{} does not answer as a Kafka broker", self.address)).with_source(error)
    }
}

enum ConnectFailed {
    /// The peer closed the connection without a word.
    Unanswered(io::Error),
    Other(Error),
}

impl From<Error> for ConnectFailed {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// Without what was lost while the deadlines were reckoned.
fn in_ms(time: Duration) -> u128 {
    (time + Duration::from_micros(500)).as_millis()
}

/// Whether the peer could not even be reached, so that it may be something else when it comes back.
pub(super) fn was_unreachable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Io | ErrorKind::Timeout)
}
