//! One TCP connection: two ends, and a pipe towards each.
//!
//! ```text
//!            SYN arrives, somebody listens          SYN-ACK arrives
//!  opening ───────────────────────────────> accepted ─────────────> established
//!     │ nobody listens: refused                 (the listener's end exists from here on,
//!     │ 127 s without an answer: timed out       whether or not anybody accepts it)
//!
//!  an end:   open ──shutdown──> half closed ──both halves dropped──> gone ──> data that still comes: RST back
//!              └──RST arrives──> reset: reads and writes fail
//! ```

use std::{collections::VecDeque, io, task::Waker, time::Duration};

use bytes::Bytes;

use crate::world::HostId;

/// A side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    /// The one that connected.
    Caller,
    /// The one that listened.
    Listener,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Caller, Self::Listener];

    pub(super) fn other(self) -> Self {
        match self {
            Self::Caller => Self::Listener,
            Self::Listener => Self::Caller,
        }
    }
}

/// What travels.
#[derive(Debug)]
pub(super) enum Segment {
    Data(Bytes),
    /// No more data.
    Finish,
    /// The network breaks the connection when this arrives.
    Cut,
}

/// A socket.
#[derive(Debug)]
pub(super) struct End {
    pub(super) host: HostId,
    /// The kernel has a socket for it.
    pub(super) open: bool,
    /// A reset arrived.
    pub(super) reset: bool,
    pub(super) reader_dropped: bool,
    pub(super) writer_dropped: bool,
}

/// The bytes on their way to one end.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    pub(super) in_flight: VecDeque<Segment>,
    /// In the socket buffer of the receiver.
    pub(super) received: VecDeque<Bytes>,
    /// Bytes in both.
    pub(super) buffered: usize,
    pub(super) finish_sent: bool,
    pub(super) finish_received: bool,
    /// The network cut the connection: what is written now goes nowhere.
    pub(super) cut: bool,
    pub(super) last_arrival: Duration,
    /// So many segments at the front would have arrived, but vanished; since when.
    pub(super) held: usize,
    pub(super) held_since: Duration,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl Pipe {
    /// Moves received bytes to `into`, at most `most`.
    pub(super) fn take(&mut self, most: usize, mut into: impl FnMut(&[u8])) -> usize {
        let mut taken = 0;
        while taken < most
            && let Some(first) = self.received.front_mut()
        {
            let piece = first.split_to(first.len().min(most - taken));
            into(&piece);
            taken += piece.len();
            if first.is_empty() {
                self.received.pop_front();
            }
        }
        self.buffered -= taken;
        taken
    }
}

/// How far the caller is.
#[derive(Debug)]
pub(super) enum Opening {
    Waiting(Option<Waker>),
    Done(Option<io::ErrorKind>),
}

/// A connection, from the SYN until both ends are gone.
#[derive(Debug)]
pub(super) struct Connection {
    ends: [End; 2],
    /// By the side they lead to.
    pipes: [Pipe; 2],
    pub(super) opening: Opening,
    pub(super) port: u16,
}

impl Connection {
    pub(super) fn new(from: HostId, to: HostId, port: u16) -> Self {
        let end = |host, open| End { host, open, reset: false, reader_dropped: false, writer_dropped: false };
        Self {
            ends: [end(from, true), end(to, false)],
            pipes: [Pipe::default(), Pipe::default()],
            opening: Opening::Waiting(None),
            port,
        }
    }

    pub(super) fn end(&self, side: Side) -> &End {
        &self.ends[side as usize]
    }

    pub(super) fn end_mut(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    /// The pipe towards `side`.
    pub(super) fn pipe(&mut self, side: Side) -> &mut Pipe {
        &mut self.pipes[side as usize]
    }

    /// From and to, for packets towards `side`.
    pub(super) fn path_to(&self, side: Side) -> (HostId, HostId) {
        (self.end(side.other()).host, self.end(side).host)
    }

    pub(super) fn is_between(&self, one: HostId, other: HostId) -> bool {
        let hosts = self.path_to(Side::Listener);
        hosts == (one, other) || hosts == (other, one)
    }
}
