//! What the brokers of a cluster did, as far as their disks do not tell it any more, or not exactly: the records that their
//! logs have dropped, where those began from when on, the logs of topics that were deleted, and when commits were stored,
//! whatever the brokers' clocks said.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use ottla_broker::{
    disk::MemoryDisk,
    io::{DiskRequest, FileId},
    log::{FLOOR, Floor},
};
use ottla_protocol::{TopicId, batch::batches};
use tokio::time::Instant;

use crate::{
    history::Begin,
    logged::{Logged, read_log},
};

/// A partition of a topic.
type Key = (TopicId, i32);

/// Of all brokers of a cluster. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Truth(Rc<RefCell<Known>>);

#[derive(Default)]
struct Known {
    /// By offset. What is dropped was committed, and so is the same everywhere.
    dropped: BTreeMap<Key, BTreeMap<i64, Logged>>,
    begins: BTreeMap<Key, Vec<Begin>>,
    /// The logs of topics that were deleted: of all replicas' the one that would have been elected.
    deleted: BTreeMap<Key, Vec<Logged>>,
    /// When the first replica, which is the leader's, appended the batch with that leader epoch and base offset.
    appended: BTreeMap<Key, BTreeMap<(i32, i64), Duration>>,
}

impl Truth {
    /// A broker asks this of its disk; the topic with that id is that of the committed offsets.
    pub(crate) fn asked(&self, at: Duration, request: &DiskRequest, offsets: Option<TopicId>) {
        let known = &mut *self.0.borrow_mut();
        match request {
            DiskRequest::Append(FileId::Log(topic, partition), bytes) if Some(*topic) == offsets => {
                let appended = known.appended.entry((*topic, *partition)).or_default();
                for batch in batches(bytes.clone()).map_while(Result::ok) {
                    let header = batch.header();
                    appended.entry((header.partition_leader_epoch, header.base_offset)).or_insert(at);
                }
            }
            DiskRequest::Replace(FileId::ReplicaMeta(topic, partition, FLOOR), file) => {
                let Some(floor) = Floor::read(file) else { return };
                let begins = known.begins.entry((*topic, *partition)).or_default();
                if begins.last().is_none_or(|last| last.offset < floor.start_offset()) {
                    begins.push(Begin { at, instant: Instant::now(), offset: floor.start_offset() });
                }
            }
            _ => {}
        }
    }

    /// The disk is about to release the beginning of a log, or to remove all of it.
    pub(crate) fn goes(&self, disk: &MemoryDisk, request: &DiskRequest) {
        let known = &mut *self.0.borrow_mut();
        match request {
            DiskRequest::Release(file @ FileId::Log(topic, partition), position) => {
                // A log is released between batches.
                let records = read_log(file, disk.split(file, *position).0);
                let dropped = known.dropped.entry((*topic, *partition)).or_default();
                dropped.extend(records.into_iter().map(|logged| (logged.offset, logged)));
            }
            DiskRequest::Remove(file @ FileId::Log(topic, partition)) => {
                // A replica that has never been written to has no file.
                let records = read_log(file, disk.contents(file).unwrap_or_default());
                let kept = known.deleted.entry((*topic, *partition)).or_default();
                // As leaders are elected: such a replica has everything that was committed.
                let end = |log: &[Logged]| log.last().map(|last| (last.leader_epoch, last.offset));
                if end(&records) > end(kept) {
                    *kept = records;
                }
            }
            _ => {}
        }
    }

    /// The log of a topic that was deleted, with all that it has dropped.
    pub(crate) fn deleted(&self, key: Key) -> Vec<Logged> {
        let log = self.0.borrow().deleted.get(&key).cloned().unwrap_or_default();
        self.whole(key, log)
    }

    /// A log with all that it has dropped.
    pub(crate) fn whole(&self, key: Key, log: Vec<Logged>) -> Vec<Logged> {
        let known = self.0.borrow();
        let Some(dropped) = known.dropped.get(&key) else { return log };
        let mut whole = dropped.clone();
        whole.extend(log.into_iter().map(|logged| (logged.offset, logged)));
        whole.into_values().collect()
    }

    /// Where a log began, in the order in which it was so.
    pub(crate) fn begins(&self, key: Key) -> Vec<Begin> {
        self.0.borrow().begins.get(&key).cloned().unwrap_or_default()
    }

    /// When a record was appended by the leader of its epoch.
    pub(crate) fn appended(&self, key: Key, logged: &Logged) -> Option<Duration> {
        let known = self.0.borrow();
        let place = (logged.leader_epoch, logged.offset);
        let (found, at) = known.appended.get(&key)?.range(..=place).next_back()?;
        (found.0 == logged.leader_epoch).then_some(*at)
    }
}
