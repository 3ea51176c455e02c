//! What was appended and is not replicated yet, in the order of the log.

use std::collections::VecDeque;
use std::time::Instant;

use super::Then;
use super::records::{OffsetKey, OffsetValue, Record};

/// Numbers the writes of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WriteId(u64);

/// What was appended and is not replicated yet.
#[derive(Debug, Default)]
pub(super) struct Writes {
    next: u64,
    queue: VecDeque<Write>,
}

#[derive(Debug)]
struct Write {
    id: WriteId,
    /// Where the log ends behind it; unknown until it is appended.
    end: Option<i64>,
    /// When whoever waits for it is told that it failed; what it wrote may still become replicated.
    deadline: Instant,
    /// Nothing once it has failed.
    then: Option<Then>,
    offsets: Vec<(OffsetKey, Option<OffsetValue>)>,
}

/// A write that is replicated.
#[derive(Debug)]
pub(super) struct Replicated {
    pub(super) then: Option<Then>,
    /// The offsets that are committed by it.
    pub(super) offsets: Vec<(OffsetKey, Option<OffsetValue>)>,
}

impl Writes {
    /// A write begins.
    pub(super) fn begin(&mut self, records: &[Record], then: Then, deadline: Instant) -> WriteId {
        let id = WriteId(self.next);
        self.next += 1;
        let offset = |record: &Record| match record {
            Record::Offset(key, value) => Some((key.clone(), value.clone())),
            Record::Group(..) => None,
        };
        let offsets = records.iter().filter_map(offset).collect();
        self.queue.push_back(Write { id, end: None, deadline, then: Some(then), offsets });
        id
    }

    /// It is in the log, which ends there now.
    pub(super) fn appended(&mut self, id: WriteId, end: i64) {
        if let Some(write) = self.queue.iter_mut().find(|write| write.id == id) {
            write.end = Some(end);
        }
    }

    /// It could not be appended: nothing of it is left.
    pub(super) fn refused(&mut self, id: WriteId) -> Option<Then> {
        let at = self.queue.iter().position(|write| write.id == id)?;
        self.queue.remove(at)?.then
    }

    /// Something follows when all that is in the log up to `end` is replicated, though nothing is written for it.
    pub(super) fn wait(&mut self, end: i64, then: Then, deadline: Instant) {
        let id = WriteId(self.next);
        self.next += 1;
        self.queue.push_back(Write { id, end: Some(end), deadline, then: Some(then), offsets: Vec::new() });
    }

    /// Where the log ends behind all that is under way; nothing when nothing is.
    pub(super) fn end(&self) -> Option<i64> {
        self.queue.iter().filter_map(|write| write.end).max()
    }

    /// The log is replicated up to there.
    pub(super) fn replicated(&mut self, end: i64) -> Option<Replicated> {
        let done = |write: &Write| write.end.is_some_and(|reached| reached <= end);
        let write = self.queue.iter().position(done).and_then(|at| self.queue.remove(at))?;
        Some(Replicated { then: write.then, offsets: write.offsets })
    }

    /// What is to be told that it takes too long.
    pub(super) fn late(&mut self, now: Instant) -> Option<Then> {
        let late = |write: &&mut Write| write.deadline <= now && write.then.is_some();
        self.queue.iter_mut().find(late)?.then.take()
    }

    /// When the next of them takes too long.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.queue.iter().filter(|write| write.then.is_some()).map(|write| write.deadline).min()
    }

    /// Everything fails.
    pub(super) fn fail(&mut self) -> Vec<Then> {
        std::mem::take(&mut self.queue).into_iter().filter_map(|write| write.then).collect()
    }

    /// What the offset of a partition is going to be, if it is being written.
    pub(super) fn offset(&self, key: &OffsetKey) -> Option<&Option<OffsetValue>> {
        let written = self.queue.iter().rev().flat_map(|write| write.offsets.iter().rev());
        written.filter(|(written, _)| written == key).map(|(_, value)| value).next()
    }

    /// The partitions whose offsets are being written.
    pub(super) fn offset_keys(&self) -> impl Iterator<Item = &OffsetKey> {
        self.queue.iter().flat_map(|write| write.offsets.iter().map(|(key, _)| key))
    }
}
