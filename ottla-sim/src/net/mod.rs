//! The network: TCP as a program sees it, without packets that a program cannot tell apart.
//!
//! What is kept of TCP: bytes arrive in order or not at all; a lost packet is a delay; windows fill; short reads and
//! writes; FIN and RST are different things; a connection to a frozen host is established (its kernel does that), to
//! a killed process refused, to a host without power unanswered; after a silent loss of a host the other end is
//! half open until it writes to the host that came back; packets between hosts can vanish in one direction only.

//!
//! ```text
//!   stream (what programs hold) ──▶ opening · transfer · closing ──▶ agenda ──▶ arrivals, in order of time
//!                                        │                             ▲
//!                                        └── link: when, whether ──────┘   faults: links and hosts that fail
//! ```

mod agenda;
mod closing;
mod connection;
mod faults;
mod link;
mod opening;
mod parcels;
mod stream;
mod transfer;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    task::Waker,
    time::Duration,
};

use self::{
    agenda::{Agenda, Due},
    connection::{Connection, Side},
    link::Links,
    opening::Listening,
    parcels::Inbox,
};
pub use self::{
    link::{Conditions, Ending},
    stream::{Accepted, Listener},
};
use crate::{trace::Trace, world::HostId};

pub(crate) use self::{link::Toll, parcels::Parcel, stream::connect};

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
    agenda: Agenda,
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
            agenda: Agenda::default(),
            next_connection: 0,
            wakers: Vec::new(),
        }
    }

    /// Does everything that is due, and says when it wants to be called again.
    pub(crate) fn carry(&mut self, now: Duration, trace: &mut Trace) {
        while let Some(due) = self.agenda.take_due(now) {
            self.carry_one(now, due, trace);
        }
    }

    /// When there is something to deliver.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.agenda.next()
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
        self.agenda.schedule(at, due);
    }

    fn arrival(&mut self, now: Duration, path: (HostId, HostId), length: usize) -> Duration {
        self.links.arrival(&mut self.random, now, path, length)
    }

    fn vanishes(&mut self, path: (HostId, HostId)) -> bool {
        self.links.vanishes(path) || self.without_power.contains(&path.1)
    }

    fn wake(&mut self, waker: Option<Waker>) {
        self.wakers.extend(waker);
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
