//! From the SYN to the established connection, and the sockets that listen.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    task::{Poll, Waker},
    time::Duration,
};

use super::{
    Net,
    agenda::Due,
    connection::{Connection, Opening, Side},
    host_at,
};
use crate::{
    trace::{Event, Trace},
    world::HostId,
};

/// Linux' default for `tcp_syn_retries`: 1, 2, 4 … 64 s between attempts.
const SYN_RETRIES: u32 = 6;

/// Connections that wait to be accepted, as `listen(2)` gets it from tokio by default or less.
const BACKLOG: usize = 128;

/// A socket that listens.
#[derive(Default)]
pub(super) struct Listening {
    backlog: VecDeque<u64>,
    waker: Option<Waker>,
}

/// Opening connections.
impl Net {
    /// Sends a SYN, and returns the connection's number.
    pub(crate) fn open(&mut self, now: Duration, from: HostId, to: SocketAddr, trace: &mut Trace) -> u64 {
        self.next_connection += 1;
        let number = self.next_connection;
        *self.dials.entry(from).or_default() += 1;
        // An address that belongs to nobody is a host without power.
        let host = host_at(to.ip()).unwrap_or(HostId(u32::MAX));
        if host.0 == u32::MAX {
            self.without_power.insert(host);
        }
        trace.event(now, Event::Connecting { connection: number, from, to: host });
        self.connections.insert(number, Connection::new(from, host, to.port()));
        let at = self.arrival(now, (from, host), 0);
        self.schedule(at, Due::Syn { connection: number, attempt: 0 });
        number
    }

    pub(crate) fn poll_open(&mut self, number: u64, waker: &Waker) -> Poll<io::Result<()>> {
        match self.connections.get_mut(&number).map(|connection| &mut connection.opening) {
            Some(Opening::Waiting(waiting)) => {
                *waiting = Some(waker.clone());
                Poll::Pending
            }
            Some(Opening::Done(None)) => Poll::Ready(Ok(())),
            Some(Opening::Done(Some(kind))) => Poll::Ready(Err((*kind).into())),
            None => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
        }
    }

    pub(super) fn syn_arrives(&mut self, now: Duration, number: u64, attempt: u32, trace: &mut Trace) {
        let Some(connection) = self.connections.get(&number) else { return };
        let path = connection.path_to(Side::Listener);
        let (port, accepted) = (connection.port, connection.end(Side::Listener).open);
        if self.vanishes(path) {
            return self.try_again(now, number, attempt);
        }
        if accepted {
            return self.send_syn_ack(now, number, attempt, path);
        }
        let Some(listening) = self.listeners.get_mut(&(path.1, port)) else {
            let at = self.arrival(now, (path.1, path.0), 0);
            return self.schedule(at, Due::Refuse { connection: number, attempt });
        };
        if listening.backlog.len() >= BACKLOG {
            return self.try_again(now, number, attempt);
        }
        listening.backlog.push_back(number);
        let waker = listening.waker.take();
        self.wake(waker);
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.end_mut(Side::Listener).open = true;
        }
        trace.event(now, Event::Connected { connection: number });
        self.send_syn_ack(now, number, attempt, path);
    }

    fn send_syn_ack(&mut self, now: Duration, number: u64, attempt: u32, (from, to): (HostId, HostId)) {
        let at = self.arrival(now, (to, from), 0);
        self.schedule(at, Due::SynAck { connection: number, attempt });
    }

    pub(super) fn syn_ack_arrives(&mut self, now: Duration, number: u64, attempt: u32) {
        let Some(connection) = self.connections.get(&number) else { return };
        let (path, waits) = (connection.path_to(Side::Caller), connection.end(Side::Caller).open);
        if self.vanishes(path) {
            return self.try_again(now, number, attempt);
        }
        if waits {
            self.finish_opening(number, None);
        } else {
            // The caller gave up: its kernel does not know the connection.
            self.send_reset(now, number, Side::Listener);
        }
    }

    pub(super) fn refusal_arrives(&mut self, now: Duration, number: u64, attempt: u32, trace: &mut Trace) {
        let Some(connection) = self.connections.get(&number) else { return };
        if self.vanishes(connection.path_to(Side::Caller)) {
            return self.try_again(now, number, attempt);
        }
        trace.event(now, Event::Refused { connection: number });
        self.finish_opening(number, Some(io::ErrorKind::ConnectionRefused));
    }

    /// The SYN, or its answer, vanished at `now`.
    fn try_again(&mut self, now: Duration, number: u64, attempt: u32) {
        if attempt > SYN_RETRIES {
            return;
        }
        if attempt == SYN_RETRIES {
            self.finish_opening(number, Some(io::ErrorKind::TimedOut));
            return;
        }
        // The attempt left a latency ago; that is nothing beside a second.
        let wait = Duration::from_secs(1 << attempt);
        self.schedule(now + wait, Due::Syn { connection: number, attempt: attempt + 1 });
    }

    fn finish_opening(&mut self, number: u64, error: Option<io::ErrorKind>) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        if let Opening::Waiting(waker) = &mut connection.opening {
            let waker = waker.take();
            connection.opening = Opening::Done(error);
            let forgotten = !connection.end(Side::Caller).open && !connection.end(Side::Listener).open;
            self.wake(waker);
            if forgotten {
                self.connections.remove(&number);
            }
        }
    }
}

/// Listening.
impl Net {
    pub(crate) fn listen(&mut self, host: HostId, port: u16) -> io::Result<()> {
        if self.listeners.contains_key(&(host, port)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        self.listeners.insert((host, port), Listening::default());
        Ok(())
    }

    pub(crate) fn unlisten(&mut self, now: Duration, host: HostId, port: u16) {
        if let Some(listening) = self.listeners.remove(&(host, port)) {
            for number in listening.backlog {
                self.close(now, number, Side::Listener);
            }
        }
    }

    pub(crate) fn poll_accept(
        &mut self,
        host: HostId,
        port: u16,
        waker: &Waker,
    ) -> Poll<io::Result<(u64, HostId)>> {
        let Some(listening) = self.listeners.get_mut(&(host, port)) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        };
        while let Some(number) = listening.backlog.pop_front() {
            if let Some(connection) = self.connections.get(&number) {
                return Poll::Ready(Ok((number, connection.end(Side::Caller).host)));
            }
        }
        listening.waker = Some(waker.clone());
        Poll::Pending
    }
}
