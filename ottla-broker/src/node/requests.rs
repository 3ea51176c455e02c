//! Requests that wait: for replication, for data, for the disk, for the controller.
//!
//! ```text
//!              ┌── something it watches has moved, or its time is up ──┐
//!              ▼                                                       │
//!   Wait ──► look ── not yet ──────────────────────────────────────────┘
//!              └── Reply / Close / Silence
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bytes::Bytes;

use super::scripted::ScriptWait;
use super::{CallId, Exchange, Node, Outcome, Timer, Work};
use crate::api::{
    DeleteRecordsWait, FetchWait, GroupWait, ListOffsetsWait, ProduceWait, ProducerIdWait, TopicsWait,
};
use crate::io::Now;
use crate::peer::TopicResult;
use crate::replica::ReplicaKey;

/// A request that waits; numbered in the order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RequestId(u64);

#[cfg(test)]
impl RequestId {
    /// An id that no node has given.
    pub(crate) fn numbered(number: u64) -> Self {
        Self(number)
    }
}

/// What a request waits for, by API.
#[derive(Debug)]
pub(crate) enum Waiting {
    Produce(ProduceWait),
    Fetch(FetchWait),
    ListOffsets(ListOffsetsWait),
    Topics(TopicsWait),
    DeleteRecords(DeleteRecordsWait),
    ProducerId(ProducerIdWait),
    Group(GroupWait),
    Script(ScriptWait),
}

#[derive(Debug, Default)]
pub(super) struct Requests {
    next: u64,
    waiting: BTreeMap<RequestId, Entry>,
    watchers: BTreeMap<ReplicaKey, BTreeSet<RequestId>>,
}

#[derive(Debug)]
struct Entry {
    exchange: Exchange,
    waiting: Waiting,
    /// What it watched when it began to wait, and when its time is up.
    watched: Vec<ReplicaKey>,
    deadline: Option<Instant>,
}

impl Waiting {
    /// The replicas whose progress matters to it.
    fn watched(&self) -> Vec<ReplicaKey> {
        match self {
            Self::Produce(wait) => wait.watched(),
            Self::Fetch(wait) => wait.watched(),
            Self::DeleteRecords(wait) => wait.watched(),
            Self::ListOffsets(_)
            | Self::Topics(_)
            | Self::ProducerId(_)
            | Self::Group(_)
            | Self::Script(_) => Vec::new(),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Produce(wait) => Some(wait.deadline),
            Self::Fetch(wait) => Some(wait.deadline),
            Self::Topics(wait) => Some(wait.deadline),
            Self::DeleteRecords(wait) => Some(wait.deadline),
            Self::ProducerId(wait) => Some(wait.deadline),
            Self::Script(wait) => Some(wait.deadline),
            // The coordinator has the deadlines of what it lets wait.
            Self::ListOffsets(_) | Self::Group(_) => None,
        }
    }

    /// A replica that it watches has moved: of a request of ten thousand partitions, only that one is looked at.
    fn on_moved(&mut self, key: ReplicaKey) {
        if let Self::Produce(wait) = self {
            wait.on_moved(key);
        }
    }

    /// What has become of the request; `None` while it has to wait on.
    fn look(&mut self, node: &mut Node, now: Now, id: RequestId, exchange: &mut Exchange) -> Option<Outcome> {
        match self {
            Self::Produce(wait) => wait.look(node, now, exchange),
            Self::Fetch(wait) => wait.look(node, now, id, exchange),
            Self::ListOffsets(wait) => wait.look(node, id, exchange),
            Self::Topics(wait) => wait.look(now, exchange),
            Self::DeleteRecords(wait) => wait.look(node, now, exchange),
            Self::ProducerId(wait) => wait.look(node, now, exchange),
            Self::Group(wait) => wait.look(node, now, id, exchange),
            Self::Script(wait) => wait.look(node, now, exchange),
        }
    }
}

impl Node {
    /// Keeps a request until it can be answered, which may be at once.
    pub(super) fn wait(&mut self, exchange: Exchange, waiting: Waiting) -> RequestId {
        let id = RequestId(self.requests.next);
        self.requests.next += 1;
        let entry = Entry { watched: waiting.watched(), deadline: waiting.deadline(), exchange, waiting };
        for key in &entry.watched {
            self.requests.watchers.entry(*key).or_default().insert(id);
        }
        if let Some(deadline) = entry.deadline {
            self.timers.insert((deadline, Timer::Request(id)));
        }
        self.requests.waiting.insert(id, entry);
        self.work.push_back(Work::Request(id));
        id
    }

    /// Its connection has gone.
    pub(super) fn forget(&mut self, id: RequestId) {
        if let Some(entry) = self.requests.waiting.remove(&id) {
            self.unwatch(id, &entry);
        }
        self.take_answers(id);
    }

    /// Looks whether a request can be answered.
    pub(super) fn look_again(&mut self, now: Now, id: RequestId) {
        // It is taken out, so that it can look at the node; nothing that it does can reach itself.
        let Some(mut entry) = self.requests.waiting.remove(&id) else {
            // A coordinator has answered somebody who has gone.
            self.take_answers(id);
            return;
        };
        let mut exchange = entry.exchange.clone();
        match entry.waiting.look(self, now, id, &mut exchange) {
            Some(outcome) => {
                self.unwatch(id, &entry);
                // What was delayed may wait for something else now.
                self.answered(exchange.connection);
                self.conclude(now, &exchange, outcome);
            }
            None => {
                self.requests.waiting.insert(id, entry);
            }
        }
    }

    /// A replica has moved: whoever watches it looks again.
    pub(super) fn wake_watchers(&mut self, key: ReplicaKey) {
        for id in self.requests.watchers.get(&key).into_iter().flatten() {
            if let Some(entry) = self.requests.waiting.get_mut(id) {
                entry.waiting.on_moved(key);
            }
            self.work.push_back(Work::Request(*id));
        }
        self.wake_shard(key);
    }

    /// Whoever waits for producer ids looks again.
    pub(super) fn wake_producers(&mut self) {
        let waits = |entry: &Entry| matches!(entry.waiting, Waiting::ProducerId(_));
        let waiting = self.requests.waiting.iter().filter(|(_, entry)| waits(entry));
        self.work.extend(waiting.map(|(id, _)| Work::Request(*id)));
    }

    /// The disk has read something for a request.
    pub(super) fn deliver_read(&mut self, id: RequestId, slot: usize, data: Bytes) {
        match self.requests.waiting.get_mut(&id).map(|entry| &mut entry.waiting) {
            Some(Waiting::Fetch(wait)) => wait.deliver(slot, data),
            Some(Waiting::ListOffsets(wait)) => wait.deliver(slot, data),
            _ => return,
        }
        self.work.push_back(Work::Request(id));
    }

    /// The controller has answered a call.
    pub(super) fn deliver_results(&mut self, call: CallId, results: &[TopicResult]) {
        for (id, entry) in &mut self.requests.waiting {
            if let Waiting::Topics(wait) = &mut entry.waiting
                && wait.call() == call
            {
                wait.deliver(results.to_vec());
                self.work.push_back(Work::Request(*id));
            }
        }
    }

    fn unwatch(&mut self, id: RequestId, entry: &Entry) {
        if let Some(deadline) = entry.deadline {
            self.timers.remove(&(deadline, Timer::Request(id)));
        }
        for key in &entry.watched {
            if let Some(watchers) = self.requests.watchers.get_mut(key) {
                watchers.remove(&id);
                if watchers.is_empty() {
                    self.requests.watchers.remove(key);
                }
            }
        }
    }

    /// How many requests wait, and how many replicas are watched for them.
    #[cfg(test)]
    pub(crate) fn waiting_and_watched(&self) -> (usize, usize) {
        (self.requests.waiting.len(), self.requests.watchers.len())
    }
}
