//! What the network does at a time of its own, in the order of time, and then of scheduling.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::Duration,
};

use super::{connection::Side, parcels::Parcel};
use crate::world::HostId;

/// Something that is to be done.
pub(super) enum Due {
    Syn { connection: u64, attempt: u32 },
    SynAck { connection: u64, attempt: u32 },
    Refuse { connection: u64, attempt: u32 },
    Arrive { connection: u64, to: Side },
    Reset { connection: u64, to: Side },
    Deliver { to: HostId, parcel: Parcel },
}

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
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// All that is to be done.
#[derive(Default)]
pub(super) struct Agenda {
    entries: BinaryHeap<Reverse<Entry>>,
    scheduled: u64,
}

impl Agenda {
    pub(super) fn schedule(&mut self, at: Duration, due: Due) {
        self.scheduled += 1;
        self.entries.push(Reverse(Entry { at, number: self.scheduled, due }));
    }

    /// Takes the next thing that is due by now, if any.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<Due> {
        if self.next()? > now {
            return None;
        }
        self.entries.pop().map(|Reverse(entry)| entry.due)
    }

    /// When the next thing is due.
    pub(super) fn next(&self) -> Option<Duration> {
        self.entries.peek().map(|Reverse(entry)| entry.at)
    }

    /// Forgets what is not wanted any more.
    pub(super) fn retain(&mut self, wanted: impl Fn(&Due) -> bool) {
        self.entries.retain(|Reverse(entry)| wanted(&entry.due));
    }
}
