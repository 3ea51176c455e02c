//! What goes wrong: with links, and with whole hosts.

use std::time::Duration;

use bytes::Bytes;

use super::{
    Net,
    agenda::Due,
    connection::{Connection, Side},
    link::{Conditions, Ending, Toll, retransmitted},
};
use crate::{
    trace::{Event, Trace},
    world::HostId,
};

impl Net {
    pub(crate) fn links_set_everywhere(&mut self, conditions: Conditions) {
        self.links.set_everywhere(conditions);
    }

    pub(crate) fn set_ending(&mut self, from: HostId, to: HostId, ends_after: Option<(usize, Ending)>) {
        self.links.set_ending(from, to, ends_after);
    }

    pub(crate) fn toll(&self, from: HostId, to: HostId) -> Toll {
        self.links.toll((from, to))
    }

    pub(crate) fn toll_everywhere(&self) -> Toll {
        self.links.toll_everywhere()
    }

    pub(crate) fn set_link(&mut self, from: HostId, to: HostId, conditions: Option<Conditions>) {
        self.links.set(from, to, conditions);
    }

    /// Breaks every connection between two hosts; both ends notice at once. Gives how many there were.
    pub(crate) fn reset_between(
        &mut self,
        now: Duration,
        one: HostId,
        other: HostId,
        trace: &mut Trace,
    ) -> usize {
        let between =
            |(number, connection): (&u64, &Connection)| connection.is_between(one, other).then_some(*number);
        let numbers: Vec<u64> = self.connections.iter().filter_map(between).collect();
        for number in &numbers {
            for side in Side::BOTH {
                self.reset(now, *number, side, trace);
            }
        }
        numbers.len()
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
        self.agenda.retain(|due| !sent_by_host(due));
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
}
