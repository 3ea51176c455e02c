//! The end of a connection: FIN, RST, and sockets that go away.

use std::time::Duration;

use super::{
    Net,
    agenda::Due,
    connection::{Opening, Segment, Side},
};
use crate::trace::{Event, Trace};

impl Net {
    /// The program at `side` dropped its reading half.
    pub(super) fn drop_reader(&mut self, now: Duration, number: u64, side: Side) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let end = connection.end_mut(side);
        end.reader_dropped = true;
        if end.writer_dropped {
            self.close(now, number, side);
        }
    }

    /// The program at `side` dropped its writing half.
    pub(super) fn drop_writer(&mut self, now: Duration, number: u64, side: Side) {
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
    pub(super) fn finish(&mut self, now: Duration, number: u64, side: Side) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        let pipe = connection.pipe(side.other());
        if !std::mem::replace(&mut pipe.finish_sent, true) && !pipe.cut {
            self.send_segment(now, number, side.other(), Segment::Finish);
        }
    }

    /// The socket at `side` goes away: with a RST if there is data that nobody read, else with a FIN.
    pub(super) fn close(&mut self, now: Duration, number: u64, side: Side) {
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

    pub(super) fn send_reset(&mut self, now: Duration, number: u64, to: Side) {
        let Some(path) = self.connections.get(&number).map(|connection| connection.path_to(to)) else {
            return;
        };
        let at = self.arrival(now, path, 0);
        self.schedule(at, Due::Reset { connection: number, to });
    }

    /// A RST is never sent again: where packets vanish, the end stays half open.
    pub(super) fn reset_arrives(&mut self, now: Duration, number: u64, to: Side, trace: &mut Trace) {
        let Some(connection) = self.connections.get(&number) else { return };
        if !self.vanishes(connection.path_to(to)) {
            self.reset(now, number, to, trace);
        }
    }

    pub(super) fn reset(&mut self, now: Duration, number: u64, to: Side, trace: &mut Trace) {
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
