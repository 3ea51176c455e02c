//! Sockets of the virtual network, as programs hold them.

use std::{
    fmt,
    future::poll_fn,
    io::{self, IoSlice},
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use ottla::env::Duplex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Side, address};
use crate::world::{HostId, Shared};

/// A socket of one connection.
struct Socket {
    shared: Arc<Shared>,
    connection: u64,
    side: Side,
}

/// The reading half.
struct Reader(Socket);

/// The writing half. Dropping it sends a FIN.
struct Writer(Socket);

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Socket { shared, connection, side } = &self.0;
        let most = buffer.remaining();
        shared.with_net(|net, _, _| {
            net.poll_read(*connection, *side, most, cx.waker(), |bytes| buffer.put_slice(bytes))
        })
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Socket { shared, connection, side } = &self.0;
        shared.with_net(|net, now, _| net.poll_write(now, *connection, *side, pieces, cx.waker()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Socket { shared, connection, side } = &self.0;
        shared.with_net(|net, now, _| net.finish(now, *connection, *side));
        Poll::Ready(Ok(()))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let Socket { shared, connection, side } = &self.0;
        shared.with_net(|net, now, _| net.drop_reader(now, *connection, *side));
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let Socket { shared, connection, side } = &self.0;
        shared.with_net(|net, now, _| net.drop_writer(now, *connection, *side));
    }
}

fn duplex(shared: &Arc<Shared>, connection: u64, side: Side) -> Duplex {
    let socket = || Socket { shared: Arc::clone(shared), connection, side };
    Duplex { reader: Box::new(Reader(socket())), writer: Box::new(Writer(socket())) }
}

/// Aborts an attempt that nobody waits for any more.
struct Attempt<'a> {
    shared: &'a Arc<Shared>,
    connection: u64,
    established: bool,
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.established {
            self.shared.with_net(|net, now, _| net.close(now, self.connection, Side::Caller));
        }
    }
}

/// Opens a connection. Dropping the future gives the attempt up.
pub(crate) async fn connect(shared: &Arc<Shared>, from: HostId, to: SocketAddr) -> io::Result<Duplex> {
    let connection = shared.with_net(|net, now, trace| net.open(now, from, to, trace));
    let mut attempt = Attempt { shared, connection, established: false };
    poll_fn(|cx| shared.with_net(|net, _, _| net.poll_open(connection, cx.waker()))).await?;
    attempt.established = true;
    Ok(duplex(shared, connection, Side::Caller))
}

/// A listening socket. Dropping it closes what was not accepted yet.
pub struct Listener {
    shared: Arc<Shared>,
    host: HostId,
    generation: u32,
    port: u16,
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// Its number in the world, unique for the run.
    pub number: u64,
    /// Where it comes from.
    pub from: IpAddr,
    /// Its bytes.
    pub stream: Duplex,
}

impl Listener {
    pub(crate) fn bind(shared: Arc<Shared>, host: HostId, generation: u32, port: u16) -> io::Result<Self> {
        shared.with_net(|net, _, _| net.listen(host, port))?;
        Ok(Self { shared, host, generation, port })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(address(self.host), self.port)
    }

    /// The next connection. It was established by the host's kernel, whether or not anybody waited here.
    ///
    /// # Errors
    /// When the host crashed since.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn accept(&self) -> io::Result<Accepted> {
        let accept = |cx: &mut Context<'_>| {
            self.shared.with_net(|net, _, _| net.poll_accept(self.host, self.port, cx.waker()))
        };
        let (number, from) = poll_fn(accept).await?;
        Ok(Accepted { number, from: address(from), stream: duplex(&self.shared, number, Side::Listener) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // After a crash, the port may belong to the next incarnation already.
        if self.shared.is_current(self.host, self.generation) {
            self.shared.with_net(|net, now, _| net.unlisten(now, self.host, self.port));
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listener").field(&self.address()).finish()
    }
}
