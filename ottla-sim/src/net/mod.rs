//! The network: TCP as a program sees it, without packets that a program cannot tell apart.
//!
//! What is kept of TCP: bytes arrive in order or not at all; a lost packet is a delay; windows fill; short reads and
//! writes; FIN and RST are different things; a connection to a frozen host is established (its kernel does that), to
//! a killed process refused, to a host without power unanswered; after a silent loss of a host the other end is
//! half open until it writes to the host that came back; packets between hosts can vanish in one direction only.

mod connection;
mod link;
mod stream;

use std::{
    any::Any,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    io::{self, IoSlice},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;

use self::{
    connection::{Connection, Opening, Segment, Side},
    link::{Links, retransmitted},
};
pub use self::{
    link::{Conditions, Ending},
    stream::{Accepted, Listener},
};
use crate::{
    trace::{Event, Trace, hash_bytes},
    world::HostId,
};

pub(crate) use self::stream::connect;

/// Linux' default for `tcp_syn_retries`: 1, 2, 4 … 64 s between attempts.
const SYN_RETRIES: u32 = 6;

/// Connections that wait to be accepted, as `listen(2)` gets it from tokio by default or less.
const BACKLOG: usize = 128;

/// The largest piece that travels at once.
const SEGMENT: usize = 16 * 1024;

/// A message between brokers, outside of any stream.
pub(crate) struct Parcel {
    pub(crate) from: HostId,
    pub(crate) hash: u64,
    pub(crate) content: Box<dyn Any + Send>,
}

/// Something that the network does at a time of its own.
enum Due {
    Syn { connection: u64, attempt: u32 },
    SynAck { connection: u64, attempt: u32 },
    Refuse { connection: u64, attempt: u32 },
    Arrive { connection: u64, to: Side },
    Reset { connection: u64, to: Side },
    Deliver { to: HostId, parcel: Parcel },
}

/// An entry of the agenda; the order is by time, then by the order of scheduling.
struct Entry {
    at: Duration,
    number: u64,
    due: Due,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[derive(Default)]
struct Listening {
    backlog: VecDeque<u64>,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Inbox {
    parcels: VecDeque<Parcel>,
    waker: Option<Waker>,
}

/// The state of the network. Every method takes the virtual time and leaves the tasks to wake in `wakers`.
pub(crate) struct Net {
    random: fastrand::Rng,
    links: Links,
    without_power: BTreeSet<HostId>,
    listeners: BTreeMap<(HostId, u16), Listening>,
    connections: BTreeMap<u64, Connection>,
    inboxes: BTreeMap<HostId, Inbox>,
    /// By the host that dialled.
    dials: BTreeMap<HostId, u64>,
    last_parcel: BTreeMap<(HostId, HostId), Duration>,
    agenda: BinaryHeap<Reverse<Entry>>,
    scheduled: u64,
    next_connection: u64,
    pub(crate) wakers: Vec<Waker>,
}

/// The address of a host.
pub(crate) fn address(host: HostId) -> IpAddr {
    let [_, _, high, low] = host.0.to_be_bytes();
    Ipv4Addr::new(10, 0, high, low).into()
}

fn host_at(address: IpAddr) -> Option<HostId> {
    match address {
        IpAddr::V4(v4) => match v4.octets() {
            [10, 0, high, low] => Some(HostId(u32::from_be_bytes([0, 0, high, low]))),
            _ => None,
        },
        IpAddr::V6(_) => None,
    }
}

impl Net {
    pub(crate) fn new(random: fastrand::Rng) -> Self {
        Self {
            random,
            links: Links::default(),
            without_power: BTreeSet::new(),
            listeners: BTreeMap::new(),
            connections: BTreeMap::new(),
            inboxes: BTreeMap::new(),
            dials: BTreeMap::new(),
            last_parcel: BTreeMap::new(),
            agenda: BinaryHeap::new(),
            scheduled: 0,
            next_connection: 0,
            wakers: Vec::new(),
        }
    }

    /// Does everything that is due, and says when it wants to be called again.
    pub(crate) fn carry(&mut self, now: Duration, trace: &mut Trace) -> Option<Duration> {
        while let Some(Reverse(entry)) = self.agenda.peek() {
            if entry.at > now {
                return Some(entry.at);
            }
            if let Some(Reverse(entry)) = self.agenda.pop() {
                self.carry_one(now, entry.due, trace);
            }
        }
        None
    }

    fn carry_one(&mut self, now: Duration, due: Due, trace: &mut Trace) {
        match due {
            Due::Syn { connection, attempt } => self.syn_arrives(now, connection, attempt, trace),
            Due::SynAck { connection, attempt } => self.syn_ack_arrives(now, connection, attempt),
            Due::Refuse { connection, attempt } => self.refusal_arrives(now, connection, attempt, trace),
            Due::Arrive { connection, to } => self.segment_arrives(now, connection, to, trace),
            Due::Reset { connection, to } => self.reset_arrives(now, connection, to, trace),
            Due::Deliver { to, parcel } => self.parcel_arrives(now, to, parcel, trace),
        }
    }

    fn schedule(&mut self, at: Duration, due: Due) {
        self.scheduled += 1;
        self.agenda.push(Reverse(Entry { at, number: self.scheduled, due }));
    }

    fn arrival(&mut self, now: Duration, path: (HostId, HostId), length: usize) -> Duration {
        self.links.arrival(&mut self.random, now, path, length)
    }

    fn vanishes(&self, (from, to): (HostId, HostId)) -> bool {
        self.links.is_blocked(from, to) || self.without_power.contains(&to)
    }

    fn wake(&mut self, waker: Option<Waker>) {
        self.wakers.extend(waker);
    }
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

    fn syn_arrives(&mut self, now: Duration, number: u64, attempt: u32, trace: &mut Trace) {
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

    fn syn_ack_arrives(&mut self, now: Duration, number: u64, attempt: u32) {
        let Some(connection) = self.connections.get(&number) else { return };
        let path = connection.path_to(Side::Caller);
        if self.vanishes(path) {
            return self.try_again(now, number, attempt);
        }
        if connection.end(Side::Caller).open {
            self.finish_opening(number, None);
        } else {
            // The caller gave up: its kernel does not know the connection.
            self.send_reset(now, number, Side::Listener);
        }
    }

    fn refusal_arrives(&mut self, now: Duration, number: u64, attempt: u32, trace: &mut Trace) {
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

/// Moving bytes.
impl Net {
    fn poll_read(
        &mut self,
        number: u64,
        side: Side,
        most: usize,
        waker: &Waker,
        into: impl FnMut(&[u8]),
    ) -> Poll<io::Result<()>> {
        let Some(connection) = self.connections.get_mut(&number) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let (from, to) = connection.path_to(side);
        let reset = connection.end(side).reset;
        let pipe = connection.pipe(side);
        if pipe.received.is_empty() {
            if reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if pipe.finish_received {
                return Poll::Ready(Ok(()));
            }
            pipe.reader = Some(waker.clone());
            return Poll::Pending;
        }
        let available = pipe.received.iter().map(Bytes::len).sum::<usize>().min(most);
        let short = self.links.conditions(from, to).short;
        pipe.take(shortened(&mut self.random, short, available), into);
        let writer = pipe.writer.take();
        self.wake(writer);
        Poll::Ready(Ok(()))
    }

    fn poll_write(
        &mut self,
        now: Duration,
        number: u64,
        side: Side,
        pieces: &[IoSlice<'_>],
        waker: &Waker,
    ) -> Poll<io::Result<usize>> {
        let Some(connection) = self.connections.get_mut(&number) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let path = connection.path_to(side.other());
        let (reset, cut) = (connection.end(side).reset, connection.pipe(side.other()).cut);
        let pipe = connection.pipe(side.other());
        if reset || pipe.finish_sent {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let conditions = self.links.conditions(path.0, path.1);
        let wanted = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        let space = conditions.window.saturating_sub(pipe.buffered).min(wanted);
        if space == 0 && wanted > 0 {
            pipe.writer = Some(waker.clone());
            return Poll::Pending;
        }
        let short = conditions.short;
        let length = shortened(&mut self.random, short, space);
        if !cut {
            self.send(now, number, side.other(), gather(pieces, length));
        }
        Poll::Ready(Ok(length))
    }

    /// Puts bytes on the way, in pieces.
    fn send(&mut self, now: Duration, number: u64, to: Side, mut bytes: Bytes) {
        let Some(path) = self.connections.get(&number).map(|connection| connection.path_to(to)) else {
            return;
        };
        let conditions = self.links.conditions(path.0, path.1);
        let (reset, short) = (conditions.reset, conditions.short);
        while !bytes.is_empty() {
            let most = bytes.len().min(SEGMENT);
            let piece = bytes.split_to(shortened(&mut self.random, short, most));
            if let Some((kept, ending)) = self.links.ending_within(path, piece.len()) {
                return self.end_behind(now, number, to, piece.slice(..kept), ending);
            }
            if reset > 0.0 && self.random.f64() < reset {
                let kept = piece.slice(..self.random.usize(..=piece.len()));
                if !kept.is_empty() {
                    self.send_segment(now, number, to, Segment::Data(kept));
                }
                self.send_segment(now, number, to, Segment::Cut);
                return;
            }
            self.send_segment(now, number, to, Segment::Data(piece));
        }
    }

    /// The network ends a connection behind these bytes.
    fn end_behind(&mut self, now: Duration, number: u64, to: Side, kept: Bytes, ending: Ending) {
        if !kept.is_empty() {
            self.send_segment(now, number, to, Segment::Data(kept));
        }
        match ending {
            Ending::Fin => self.finish(now, number, to.other()),
            Ending::Rst => self.send_segment(now, number, to, Segment::Cut),
        }
    }

    fn send_segment(&mut self, now: Duration, number: u64, to: Side, segment: Segment) {
        let Some(path) = self.connections.get(&number).map(|connection| connection.path_to(to)) else {
            return;
        };
        let length = if let Segment::Data(bytes) = &segment { bytes.len() } else { 0 };
        let arrival = self.arrival(now, path, length);
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let pipe = connection.pipe(to);
        let at = arrival.max(pipe.last_arrival);
        pipe.last_arrival = at;
        pipe.buffered += length;
        pipe.cut |= matches!(segment, Segment::Cut);
        pipe.in_flight.push_back(segment);
        self.schedule(at, Due::Arrive { connection: number, to });
    }

    fn segment_arrives(&mut self, now: Duration, number: u64, to: Side, trace: &mut Trace) {
        let Some(connection) = self.connections.get(&number) else { return };
        let vanishes = self.vanishes(connection.path_to(to));
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let end = connection.end(to);
        let (open, host) = (end.open && !end.reset, end.host);
        let pipe = connection.pipe(to);
        if vanishes || pipe.held > 0 {
            if pipe.held == 0 {
                pipe.held_since = now;
            }
            pipe.held += 1;
            return;
        }
        match pipe.in_flight.pop_front() {
            Some(Segment::Data(bytes)) if open => {
                let event = Event::Delivered {
                    connection: number,
                    to: host,
                    length: bytes.len(),
                    hash: hash_bytes(&bytes),
                };
                pipe.received.push_back(bytes);
                let reader = pipe.reader.take();
                trace.event(now, event);
                self.wake(reader);
            }
            Some(Segment::Data(_)) => self.send_reset(now, number, to.other()),
            Some(Segment::Finish) => {
                pipe.finish_received = true;
                let reader = pipe.reader.take();
                trace.event(now, Event::Finished { connection: number, to: host });
                self.wake(reader);
            }
            Some(Segment::Cut) => {
                self.reset(now, number, to, trace);
                self.reset(now, number, to.other(), trace);
            }
            None => {}
        }
    }
}

/// Ending connections.
impl Net {
    /// The program at `side` dropped its reading half.
    fn drop_reader(&mut self, now: Duration, number: u64, side: Side) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let end = connection.end_mut(side);
        end.reader_dropped = true;
        if end.writer_dropped {
            self.close(now, number, side);
        }
    }

    /// The program at `side` dropped its writing half.
    fn drop_writer(&mut self, now: Duration, number: u64, side: Side) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let end = connection.end_mut(side);
        end.writer_dropped = true;
        if end.reader_dropped {
            self.close(now, number, side);
        } else {
            self.finish(now, number, side);
        }
    }

    /// Sends a FIN from `side`, once.
    fn finish(&mut self, now: Duration, number: u64, side: Side) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let pipe = connection.pipe(side.other());
        if !std::mem::replace(&mut pipe.finish_sent, true) && !pipe.cut {
            self.send_segment(now, number, side.other(), Segment::Finish);
        }
    }

    /// The socket at `side` goes away: with a RST if there is data that nobody read, else with a FIN.
    pub(self) fn close(&mut self, now: Duration, number: u64, side: Side) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let end = connection.end_mut(side);
        if !std::mem::replace(&mut end.open, false) {
            return;
        }
        let reset = end.reset;
        let unread = !connection.pipe(side).received.is_empty();
        let peer_open = connection.end(side.other()).open;
        let opened = !matches!(connection.opening, Opening::Waiting(_));
        if !peer_open && (opened || side == Side::Listener) {
            self.connections.remove(&number);
        } else if opened && !reset && unread {
            self.send_reset(now, number, side.other());
        } else if opened && !reset {
            self.finish(now, number, side);
        }
    }

    fn send_reset(&mut self, now: Duration, number: u64, to: Side) {
        let Some(path) = self.connections.get(&number).map(|connection| connection.path_to(to)) else {
            return;
        };
        let at = self.arrival(now, path, 0);
        self.schedule(at, Due::Reset { connection: number, to });
    }

    /// A RST is never sent again: where packets vanish, the end stays half open.
    fn reset_arrives(&mut self, now: Duration, number: u64, to: Side, trace: &mut Trace) {
        let Some(connection) = self.connections.get(&number) else { return };
        if !self.vanishes(connection.path_to(to)) {
            self.reset(now, number, to, trace);
        }
    }

    fn reset(&mut self, now: Duration, number: u64, to: Side, trace: &mut Trace) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let end = connection.end_mut(to);
        if !end.open || std::mem::replace(&mut end.reset, true) {
            return;
        }
        let host = end.host;
        trace.event(now, Event::Reset { connection: number, to: host });
        // What is in the buffer may or may not be read after a reset, depending on the system.
        if self.random.bool() {
            let pipe = connection.pipe(to);
            pipe.take(usize::MAX, |_| ());
        }
        let wakers = [connection.pipe(to).reader.take(), connection.pipe(to.other()).writer.take()];
        self.wakers.extend(wakers.into_iter().flatten());
    }
}

/// Faults.
impl Net {
    pub(crate) fn links_set_everywhere(&mut self, conditions: Conditions) {
        self.links.set_everywhere(conditions);
    }

    pub(crate) fn set_ending(&mut self, from: HostId, to: HostId, ends_after: Option<(usize, Ending)>) {
        self.links.set_ending(from, to, ends_after);
    }

    pub(crate) fn set_link(&mut self, from: HostId, to: HostId, conditions: Option<Conditions>) {
        self.links.set(from, to, conditions);
    }

    /// Breaks every connection between two hosts; both ends notice at once.
    pub(crate) fn reset_between(&mut self, now: Duration, one: HostId, other: HostId, trace: &mut Trace) {
        let between =
            |(number, connection): (&u64, &Connection)| connection.is_between(one, other).then_some(*number);
        let numbers: Vec<u64> = self.connections.iter().filter_map(between).collect();
        for number in numbers {
            for side in Side::BOTH {
                self.reset(now, number, side, trace);
            }
        }
    }

    /// From now on packets from `from` to `to` vanish, or arrive again.
    pub(crate) fn set_blocked(
        &mut self,
        now: Duration,
        from: HostId,
        to: HostId,
        blocked: bool,
        trace: &mut Trace,
    ) {
        if !self.links.set_blocked(from, to, blocked) {
            return;
        }
        if blocked {
            trace.event(now, Event::Blocked { from, to });
        } else {
            trace.event(now, Event::Unblocked { from, to });
            self.retransmit(now, |path| path == (from, to));
        }
    }

    /// Sends again what vanished on the paths of `healed`.
    fn retransmit(&mut self, now: Duration, healed: impl Fn((HostId, HostId)) -> bool) {
        let mut again = Vec::new();
        for (number, connection) in &mut self.connections {
            for to in Side::BOTH {
                let path = connection.path_to(to);
                let pipe = connection.pipe(to);
                if pipe.held > 0 && healed(path) {
                    let at = retransmitted(pipe.held_since, now);
                    pipe.last_arrival = pipe.last_arrival.max(at);
                    again.extend(std::iter::repeat_n((at, *number, to), pipe.held));
                    pipe.held = 0;
                }
            }
        }
        for (at, connection, to) in again {
            self.schedule(at, Due::Arrive { connection, to });
        }
    }

    /// All sockets of a host go away: with the kernel's farewell, or silently.
    pub(crate) fn crash(&mut self, now: Duration, host: HostId, power_lost: bool) {
        self.listeners.retain(|(of, _), _| *of != host);
        self.inboxes.remove(&host);
        if power_lost {
            self.without_power.insert(host);
            // What waited in its network card is gone, or was on the wire already.
            if self.random.bool() {
                self.silence(host);
            }
        }
        let numbers: Vec<u64> = self.connections.keys().copied().collect();
        for number in numbers {
            for side in Side::BOTH {
                let Some(connection) = self.connections.get_mut(&number) else { break };
                if connection.end(side).host != host {
                    continue;
                }
                if power_lost {
                    connection.end_mut(side).open = false;
                } else {
                    self.close(now, number, side);
                }
            }
        }
        let in_use = |connection: &Connection| Side::BOTH.iter().any(|side| connection.end(*side).open);
        self.connections.retain(|_, connection| in_use(connection));
    }

    /// Takes back what a host has sent and nobody has received yet.
    fn silence(&mut self, host: HostId) {
        let sent_by_host = |due: &Due| matches!(due, Due::Deliver { parcel, .. } if parcel.from == host);
        self.agenda.retain(|Reverse(entry)| !sent_by_host(&entry.due));
        for connection in self.connections.values_mut() {
            for to in Side::BOTH {
                if connection.path_to(to).0 == host {
                    let pipe = connection.pipe(to);
                    pipe.in_flight.clear();
                    pipe.buffered = pipe.received.iter().map(Bytes::len).sum();
                }
            }
        }
    }

    /// The host has power again.
    pub(crate) fn start(&mut self, now: Duration, host: HostId) {
        if self.without_power.remove(&host) {
            self.retransmit(now, |(_, to)| to == host);
        }
    }

    /// How many connections a host has begun to open.
    pub(crate) fn dials(&self, host: HostId) -> u64 {
        self.dials.get(&host).copied().unwrap_or_default()
    }

    /// How many sockets a host has.
    pub(crate) fn sockets(&self, host: HostId) -> usize {
        let ends =
            self.connections.values().flat_map(|connection| Side::BOTH.map(|side| connection.end(side)));
        ends.filter(|end| end.open && end.host == host).count()
    }
}

/// Messages between brokers: in order per sender, or not at all.
impl Net {
    pub(crate) fn post(&mut self, now: Duration, to: HostId, parcel: Parcel) {
        let path = (parcel.from, to);
        let last = self.last_parcel.get(&path).copied().unwrap_or_default();
        let at = self.arrival(now, path, 0).max(last);
        self.last_parcel.insert(path, at);
        self.schedule(at, Due::Deliver { to, parcel });
    }

    pub(crate) fn poll_parcel(&mut self, host: HostId, waker: &Waker) -> Poll<Parcel> {
        let inbox = self.inboxes.entry(host).or_default();
        if let Some(parcel) = inbox.parcels.pop_front() {
            return Poll::Ready(parcel);
        }
        inbox.waker = Some(waker.clone());
        Poll::Pending
    }

    fn parcel_arrives(&mut self, now: Duration, to: HostId, parcel: Parcel, trace: &mut Trace) {
        let from = parcel.from;
        let vanishes = self.vanishes((from, to));
        match self.inboxes.get_mut(&to) {
            Some(inbox) if !vanishes => {
                trace.event(now, Event::Message { from, to, hash: parcel.hash });
                inbox.parcels.push_back(parcel);
                let waker = inbox.waker.take();
                self.wake(waker);
            }
            _ => trace.event(now, Event::MessageLost { from, to }),
        }
    }

    /// Opens the inbox of a host, which is closed by a crash.
    pub(crate) fn open_inbox(&mut self, host: HostId) {
        self.inboxes.entry(host).or_default();
    }
}

/// `length`, or now and then less, but never nothing of something.
fn shortened(random: &mut fastrand::Rng, probability: f64, length: usize) -> usize {
    if length > 1 && random.f64() < probability { random.usize(1..=length) } else { length }
}

/// The first `length` bytes of some pieces.
fn gather(pieces: &[IoSlice<'_>], length: usize) -> Bytes {
    let mut gathered = Vec::with_capacity(length);
    for piece in pieces {
        let rest = length - gathered.len();
        gathered.extend_from_slice(&piece[..piece.len().min(rest)]);
    }
    gathered.into()
}
