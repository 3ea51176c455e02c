//! The log of one replica: what is in the file, held as the metadata of each batch.
//!
//! The log decides nothing and waits for nothing: it knows its end as soon as an append is asked of the disk, and
//! the replica above it knows how much of that the disk has confirmed. Epochs and producers are derived from the
//! batches, so that a truncation or a restart rebuilds them and they cannot disagree with the file.
//!
//! An entry takes about 80 bytes of memory per batch, which is what a cluster for tests and development can afford
//! in place of segments and sparse indexes.

pub(crate) mod epochs;
pub(crate) mod meta;
pub(crate) mod producers;
pub mod recovery;

use ottla_protocol::ErrorCode;

pub use epochs::EpochEnd;
pub use meta::BatchMeta;
pub use recovery::RecoveredLog;

use epochs::Epochs;
use producers::{Producers, Verdict};

/// The log of one replica.
#[derive(Debug, Default)]
pub(crate) struct Log {
    batches: Vec<BatchMeta>,
    /// Which batches have a larger timestamp than everything before them: the only ones that a look-up by time can
    /// find, and ordered by offset and by timestamp alike.
    newest: Vec<usize>,
    epochs: Epochs,
    producers: Producers,
    end_offset: i64,
    size: u64,
}

/// Whole batches that lie next to each other in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) base_offset: i64,
    pub(crate) position: u64,
    pub(crate) size: u32,
    pub(crate) next_offset: i64,
}

impl Log {
    pub(crate) fn recovered(recovered: RecoveredLog) -> Self {
        let mut log = Self::default();
        for batch in recovered.batches {
            log.push(batch);
        }
        log
    }

    /// The first offset that can be read.
    pub(crate) fn start_offset(&self) -> i64 {
        0
    }

    /// The offset that the next record gets.
    pub(crate) fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// The size of the file.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The leader epoch of the last batch; -1 when there is none.
    pub(crate) fn last_epoch(&self) -> i32 {
        self.batches.last().map_or(-1, |batch| batch.leader_epoch)
    }

    /// Where the given leader epoch ends (`OffsetForLeaderEpoch`, KIP-101 and KIP-279).
    pub(crate) fn epoch_end(&self, epoch: i32) -> EpochEnd {
        self.epochs.end_of(epoch, self.end_offset)
    }

    /// A leader begins its epoch at the end of the log, even if it never appends anything.
    pub(crate) fn begin_epoch(&mut self, epoch: i32) {
        self.epochs.begin(epoch, self.end_offset);
    }

    /// Whether a batch of a client may be appended (idempotent producers, KIP-98).
    pub(crate) fn verify_producer(&self, batch: &BatchMeta) -> Result<Verdict, ErrorCode> {
        self.producers.verify(batch)
    }

    /// Takes in a batch that is appended to the end of the file. Its position is the log's business; a batch that
    /// begins before the end of the log is refused, since offsets only grow.
    pub(crate) fn append(&mut self, mut batch: BatchMeta) -> bool {
        if batch.base_offset < self.end_offset {
            return false;
        }
        batch.position = self.size;
        self.push(batch);
        true
    }

    /// Cuts the log at the first batch that reaches to `offset` or further; the new size of the file is returned,
    /// `None` when nothing is to be cut.
    pub(crate) fn truncate(&mut self, offset: i64) -> Option<u64> {
        if offset >= self.end_offset {
            return None;
        }
        let keep = self.batches.partition_point(|batch| batch.last_offset < offset);
        let mut kept = std::mem::take(self);
        kept.batches.truncate(keep);
        for batch in kept.batches {
            self.push(batch);
        }
        Some(self.size)
    }

    /// The batches from the one that holds `offset` (or the next behind it) on, none of which reaches to `limit` or
    /// further, of at most `max_bytes` in sum. The first is returned whatever its size if `at_least_one` (KIP-74).
    pub(crate) fn slice(&self, offset: i64, limit: i64, max_bytes: u32, at_least_one: bool) -> Option<Slice> {
        let from = self.batches.partition_point(|batch| batch.last_offset < offset);
        let mut slice: Option<Slice> = None;
        for batch in self.batches.get(from..)?.iter().take_while(|batch| batch.last_offset < limit) {
            let size = slice.map_or(0, |slice| slice.size);
            let Some(grown) = size.checked_add(batch.size) else { break };
            if grown > max_bytes && !(at_least_one && slice.is_none()) {
                break;
            }
            let first = slice.get_or_insert(Slice {
                base_offset: batch.base_offset,
                position: batch.position,
                size: 0,
                next_offset: 0,
            });
            first.size = grown;
            first.next_offset = batch.last_offset + 1;
        }
        slice
    }

    /// How many bytes `slice` would find without a limit on bytes.
    pub(crate) fn bytes_between(&self, offset: i64, limit: i64) -> u64 {
        let from = self.batches.partition_point(|batch| batch.last_offset < offset);
        let to = self.batches.partition_point(|batch| batch.last_offset < limit);
        let position = |at: usize| self.batches.get(at).map_or(self.size, |batch| batch.position);
        position(to).saturating_sub(position(from))
    }

    /// The first batch below `limit` that holds a record at `timestamp` or later.
    pub(crate) fn first_at(&self, timestamp: i64, limit: i64) -> Option<&BatchMeta> {
        let before = |at: &usize| self.max_timestamp(*at) < timestamp;
        let at = self.newest.get(self.newest.partition_point(before))?;
        self.batches.get(*at).filter(|batch| batch.last_offset < limit)
    }

    /// The first batch below `limit` with the largest timestamp (KIP-734).
    pub(crate) fn latest(&self, limit: i64) -> Option<&BatchMeta> {
        let below = |at: &usize| self.batches.get(*at).is_some_and(|batch| batch.last_offset < limit);
        let last = self.newest.partition_point(below).checked_sub(1)?;
        self.batches.get(*self.newest.get(last)?)
    }

    fn max_timestamp(&self, at: usize) -> i64 {
        self.batches.get(at).map_or(i64::MIN, |batch| batch.max_timestamp)
    }

    fn push(&mut self, batch: BatchMeta) {
        self.epochs.begin(batch.leader_epoch, batch.base_offset);
        self.producers.remember(&batch);
        self.end_offset = batch.last_offset + 1;
        self.size = batch.position + u64::from(batch.size);
        if self.newest.last().is_none_or(|at| self.max_timestamp(*at) < batch.max_timestamp) {
            self.newest.push(self.batches.len());
        }
        self.batches.push(batch);
    }
}

#[cfg(test)]
mod tests {
    use super::{BatchMeta, EpochEnd, Log};

    /// A log of batches of ten records and a hundred bytes each, in the given leader epochs.
    fn log(epochs: &[i32]) -> Log {
        let mut log = Log::default();
        for (index, &leader_epoch) in epochs.iter().enumerate() {
            let base_offset = 10 * index as i64;
            let batch = BatchMeta {
                base_offset,
                last_offset: base_offset + 9,
                size: 100,
                max_timestamp: base_offset,
                leader_epoch,
                ..BatchMeta::default()
            };
            assert!(log.append(batch));
        }
        log
    }

    #[test]
    fn a_slice_starts_with_the_batch_that_holds_the_offset() {
        let slice = log(&[0, 0, 0]).slice(15, 30, 1000, false).unwrap();
        assert_eq!((slice.base_offset, slice.position, slice.size, slice.next_offset), (10, 100, 200, 30));
    }

    #[test]
    fn a_slice_ends_before_a_batch_that_passes_the_limit() {
        let slice = log(&[0, 0, 0]).slice(0, 25, 1000, false).unwrap();
        assert_eq!((slice.size, slice.next_offset), (200, 20));
    }

    #[test]
    fn a_first_batch_that_is_too_large_is_given_only_when_asked() {
        assert_eq!(log(&[0]).slice(0, 10, 99, false), None);
        assert_eq!(log(&[0]).slice(0, 10, 99, true).unwrap().size, 100);
    }

    #[test]
    fn nothing_is_sliced_at_the_end() {
        assert_eq!(log(&[0]).slice(10, 10, 1000, true), None);
        assert_eq!(log(&[0]).bytes_between(10, 10), 0);
        assert_eq!(log(&[0, 0]).bytes_between(5, 20), 200);
    }

    #[test]
    fn a_truncation_cuts_whole_batches_and_forgets_their_epochs() {
        let mut log = log(&[0, 0, 3]);
        assert_eq!(log.truncate(25), Some(200));
        assert_eq!((log.end_offset(), log.last_epoch()), (20, 0));
        assert_eq!(log.epoch_end(3), EpochEnd::UNKNOWN);
        assert_eq!(log.truncate(20), None);
    }

    #[test]
    fn offsets_only_grow() {
        let mut log = log(&[0]);
        assert!(!log.append(BatchMeta { base_offset: 9, last_offset: 12, ..BatchMeta::default() }));
    }

    #[test]
    fn batches_are_found_by_timestamp() {
        let log = log(&[0, 0, 0]);
        assert_eq!(log.first_at(5, 30).unwrap().base_offset, 10);
        assert!(log.first_at(20, 20).is_none());
        assert_eq!(log.latest(20).unwrap().base_offset, 10);
    }

    #[test]
    fn timestamps_that_go_back_are_found_as_a_walk_through_the_log_finds_them() {
        let timestamps = [5, 3, 5, 9, 1, 9, 7, 12, -1];
        let mut log = Log::default();
        for (index, max_timestamp) in (0..).zip(timestamps) {
            log.append(BatchMeta {
                base_offset: index,
                last_offset: index,
                max_timestamp,
                ..BatchMeta::default()
            });
        }
        for cut in (0..=9).rev() {
            log.truncate(cut);
            for limit in 0..=cut {
                let below = log.batches.iter().filter(|batch| batch.last_offset < limit);
                for timestamp in -2..14 {
                    let first = below.clone().find(|batch| batch.max_timestamp >= timestamp);
                    assert_eq!(log.first_at(timestamp, limit), first, "{timestamp} below {limit}");
                }
                let oldest_of_the_newest =
                    below.min_by_key(|batch| (-batch.max_timestamp, batch.base_offset));
                assert_eq!(log.latest(limit), oldest_of_the_newest, "below {limit}");
            }
        }
    }
}
