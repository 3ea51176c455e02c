//! The write side of a connection: one request at a time, its segments in as few calls as the socket allows.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::{io::AsyncWrite, sync::oneshot};

use super::RequestError;

/// Slices in one call: the system takes up to 1,024, but beyond this a request of many small batches gains nothing.
const MAX_SLICES: usize = 64;

/// The socket, and the request that is being written.
///
/// Whoever holds it writes. A caller that finds the socket full leaves the rest to the connection's task: from then on
/// (`blocked`) only the task may poll the socket, since a poll with another waker would take the task's place.
pub(super) struct Writer {
    socket: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    current: Option<Writing>,
    blocked: bool,
}

/// A request that is being written.
pub(super) struct Writing {
    pub(super) correlation_id: i32,
    segments: Vec<Bytes>,
    /// The first segment that is not written in full.
    at: usize,
    /// Whether any byte was taken by the socket.
    touched: bool,
    on_written: Option<oneshot::Sender<Result<(), RequestError>>>,
}

impl Writing {
    pub(super) fn new(
        correlation_id: i32,
        segments: Vec<Bytes>,
        on_written: Option<oneshot::Sender<Result<(), RequestError>>>,
    ) -> Self {
        Self { correlation_id, segments, at: 0, touched: false, on_written }
    }

    /// Tells whoever waits for it to be written that it will not be.
    pub(super) fn failed(self, error: &RequestError) {
        let _ = self.on_written.map(|waiting| waiting.send(Err(error.clone())));
    }

    fn is_done(&self) -> bool {
        self.at == self.segments.len()
    }

    /// Skips what was written, and empty segments.
    fn advance(&mut self, mut written: usize) {
        self.touched |= written > 0;
        while let Some(segment) = self.segments.get_mut(self.at) {
            if segment.len() > written {
                segment.advance(written);
                return;
            }
            written -= segment.len();
            // Freed now: the rest of the request may be large and slow.
            *segment = Bytes::new();
            self.at += 1;
        }
    }
}

/// Why writing stopped.
pub(super) enum Stopped {
    /// Nothing is left to write.
    Idle,
    /// The socket is full.
    Blocked,
    /// The connection is of no use; the id is that of a request of which no byte was written.
    Failed(io::Error, Option<i32>),
}

impl Writer {
    pub(super) fn new(socket: Box<dyn AsyncWrite + Send + Unpin>) -> Self {
        Self { socket: Some(socket), current: None, blocked: false }
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// The request that is being written.
    pub(super) fn writing(&self) -> Option<i32> {
        self.current.as_ref().map(|writing| writing.correlation_id)
    }

    /// Writes what `next` gives until it gives nothing or the socket is full.
    pub(super) fn write(
        &mut self,
        cx: &mut Context<'_>,
        mut next: impl FnMut() -> Option<Writing>,
    ) -> Stopped {
        self.blocked = false;
        loop {
            if self.current.is_none() {
                self.current = next();
            }
            let Some(writing) = &mut self.current else { return Stopped::Idle };
            let Some(socket) = &mut self.socket else {
                return Stopped::Failed(io::ErrorKind::NotConnected.into(), None);
            };
            match poll_write(Pin::new(socket), writing, cx) {
                Poll::Ready(Ok(())) => {
                    let written = self.current.take().and_then(|writing| writing.on_written);
                    // Whoever waited may have given up.
                    let _ = written.map(|waiting| waiting.send(Ok(())));
                }
                Poll::Ready(Err(error)) => {
                    let unsent = (!writing.touched).then_some(writing.correlation_id);
                    return Stopped::Failed(error, unsent);
                }
                Poll::Pending => {
                    self.blocked = true;
                    return Stopped::Blocked;
                }
            }
        }
    }

    /// Gives the socket and everything else back.
    pub(super) fn close(&mut self, error: &RequestError) {
        self.socket = None;
        if let Some(writing) = self.current.take() {
            writing.failed(error);
        }
    }
}

fn poll_write(
    mut socket: Pin<&mut Box<dyn AsyncWrite + Send + Unpin>>,
    writing: &mut Writing,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    writing.advance(0);
    while !writing.is_done() {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let unwritten = writing.segments.iter().skip(writing.at);
        let count =
            slices.iter_mut().zip(unwritten).map(|(slice, segment)| *slice = IoSlice::new(segment)).count();
        match socket.as_mut().poll_write_vectored(cx, slices.get(..count).unwrap_or(&[])) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(written)) => writing.advance(written),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
    // Plain sockets have nothing to flush; others (a TLS stream) must not sit on the end of a request.
    socket.as_mut().poll_flush(cx)
}
