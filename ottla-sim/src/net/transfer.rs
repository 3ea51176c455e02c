//! Bytes on their way.

use std::{
    io::{self, IoSlice},
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;

use super::{
    Net,
    agenda::Due,
    connection::{Segment, Side},
    link::Ending,
};
use crate::trace::{Event, Trace, hash_bytes};

/// The largest piece that travels at once.
const SEGMENT: usize = 16 * 1024;

impl Net {
    pub(super) fn poll_read(
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

    pub(super) fn poll_write(
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
                self.links.broke(path);
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

    pub(super) fn send_segment(&mut self, now: Duration, number: u64, to: Side, segment: Segment) {
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

    pub(super) fn segment_arrives(&mut self, now: Duration, number: u64, to: Side, trace: &mut Trace) {
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
