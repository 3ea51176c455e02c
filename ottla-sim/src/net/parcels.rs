//! Messages between brokers, outside of any stream: in order per sender, or not at all.

use std::{
    any::Any,
    collections::VecDeque,
    task::{Poll, Waker},
    time::Duration,
};

use super::{Net, agenda::Due};
use crate::{
    trace::{Event, Trace},
    world::HostId,
};

/// A message.
pub(crate) struct Parcel {
    pub(crate) from: HostId,
    pub(crate) hash: u64,
    pub(crate) content: Box<dyn Any + Send>,
}

/// What has arrived at a host.
#[derive(Default)]
pub(super) struct Inbox {
    parcels: VecDeque<Parcel>,
    waker: Option<Waker>,
}

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

    pub(super) fn parcel_arrives(&mut self, now: Duration, to: HostId, parcel: Parcel, trace: &mut Trace) {
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
