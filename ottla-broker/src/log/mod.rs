//! The log of one replica: what is in the file, held as the metadata of each batch.
//!
//! The log decides nothing and waits for nothing: it knows its end as soon as an append is asked of the disk, and
//! the replica above it knows how much of that the disk has confirmed. Epochs and producers are derived from the
//! batches, so that a truncation or a restart rebuilds them and they cannot disagree with the file.
//!
//! What is dropped at the beginning goes batch by batch from memory, and its bytes from the file; positions stay what they
//! are. What is left of it is the log's [`Floor`], which is written down first.
//!
//! An entry takes about 80 bytes of memory per batch, which is what a cluster for tests and development can afford
//! in place of segments and sparse indexes.

pub(crate) mod epochs;
pub(crate) mod floor;
pub(crate) mod meta;
pub(crate) mod producers;
pub mod recovery;

use ottla_protocol::ErrorCode;

pub use epochs::EpochEnd;
pub use floor::{FLOOR, Floor};
pub use meta::BatchMeta;
pub use recovery::RecoveredLog;

use epochs::Epochs;
use producers::{Producers, Verdict};

/// The log of one replica.
#[derive(Debug, Default)]
pub(crate) struct Log {
    floor: Floor,
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
        let start_offset = recovered.floor.start_offset;
        let mut log = Self::rebuilt(recovered.floor, recovered.batches);
        // Of a tail that was lost, what was below the start would have been dropped anyway.
        log.end_offset = start_offset.max(log.end_offset);
        log.drop_front();
        log
    }

    fn rebuilt(floor: Floor, batches: Vec<BatchMeta>) -> Self {
        let mut log = Self::default();
        log.epochs.begin(floor.last_epoch, floor.start_offset);
        log.producers.clone_from(&floor.producers);
        (log.end_offset, log.size) = (floor.start_offset, floor.position);
        log.floor = floor;
        for batch in batches {
            log.push(batch);
        }
        log
    }

    /// The first offset that can be read.
    pub(crate) fn start_offset(&self) -> i64 {
        self.floor.start_offset
    }

    /// What is left of what was dropped at the beginning.
    pub(crate) fn floor(&self) -> &Floor {
        &self.floor
    }

    /// Whether no batch is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// What another log has to know that begins with the first batch of this one.
    pub(crate) fn beginning(&self) -> Floor {
        Floor { start_offset: self.first_offset(), position: 0, ..self.floor.clone() }
    }

    /// The first offset that is in the file: the batch that holds the start may begin before it.
    pub(crate) fn first_offset(&self) -> i64 {
        self.batches.first().map_or(self.floor.start_offset, |batch| batch.base_offset)
    }

    /// The leader epoch of the record at the start; -1 when there never was one.
    pub(crate) fn first_epoch(&self) -> i32 {
        self.epochs.first().unwrap_or(-1)
    }

    /// The log begins at `offset` from now on, which must not be behind its end. Batches that lie wholly below go. Whether
    /// that is further than before is returned.
    pub(crate) fn advance_start(&mut self, offset: i64) -> bool {
        if offset <= self.floor.start_offset {
            return false;
        }
        self.floor.start_offset = offset;
        self.drop_front();
        true
    }

    /// How far a log may be dropped whose records are kept for so many milliseconds, and of which so many bytes are kept;
    /// nothing behind `limit` goes. Kafka looks at segments; here each batch is one.
    pub(crate) fn expired(&self, before_ms: Option<i64>, keep_bytes: Option<u64>, limit: i64) -> i64 {
        let mut left = self.size - self.floor.position;
        let mut start = self.floor.start_offset;
        for batch in self.batches.iter().take_while(|batch| batch.last_offset < limit) {
            let old = before_ms.is_some_and(|before| (0..before).contains(&batch.max_timestamp));
            let excess = keep_bytes.is_some_and(|keep| left.saturating_sub(u64::from(batch.size)) >= keep);
            if !old && !excess {
                break;
            }
            left -= u64::from(batch.size);
            start = batch.last_offset + 1;
        }
        start
    }

    fn drop_front(&mut self) {
        let start = self.floor.start_offset;
        let dropped = self.batches.partition_point(|batch| batch.last_offset < start);
        for batch in self.batches.drain(..dropped) {
            self.floor.take(&batch);
        }
        self.epochs.cut_front(start);
        if dropped > 0 {
            self.newest.clear();
            for at in 0..self.batches.len() {
                self.note_time(at);
            }
        }
    }

    /// The offset that the next record gets.
    pub(crate) fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// The size of the file.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The leader epoch of the last batch that is or was there; -1 when there was none.
    pub(crate) fn last_epoch(&self) -> i32 {
        self.batches.last().map_or(self.floor.last_epoch, |batch| batch.leader_epoch)
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

    /// Cuts the log at the first batch that reaches to `offset` or further, which is not below the start; the new size of the
    /// file is returned, `None` when nothing is to be cut.
    pub(crate) fn truncate(&mut self, offset: i64) -> Option<u64> {
        if offset >= self.end_offset {
            return None;
        }
        let keep = self.batches.partition_point(|batch| batch.last_offset < offset);
        let mut kept = std::mem::take(self);
        if let Some(first) = kept.batches.first().filter(|_| keep == 0) {
            // Nothing is left of the batch in whose midst the log began: it continues where that one did.
            kept.floor.start_offset = kept.floor.start_offset.min(first.base_offset);
        }
        kept.batches.truncate(keep);
        *self = Self::rebuilt(kept.floor, kept.batches);
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

    /// The first batch from `offset` on and below `limit` that holds a record at `timestamp` or later.
    pub(crate) fn first_behind(&self, offset: i64, timestamp: i64, limit: i64) -> Option<&BatchMeta> {
        let from = self.batches.partition_point(|batch| batch.base_offset < offset);
        let mut below = self.batches.get(from..)?.iter().take_while(|batch| batch.last_offset < limit);
        below.find(|batch| batch.max_timestamp >= timestamp)
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
        self.batches.push(batch);
        self.note_time(self.batches.len() - 1);
    }

    fn note_time(&mut self, at: usize) {
        if self.newest.last().is_none_or(|last| self.max_timestamp(*last) < self.max_timestamp(at)) {
            self.newest.push(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BatchMeta, EpochEnd, Floor, Log, RecoveredLog, Verdict};

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
    fn a_log_begins_where_it_is_told_and_drops_whole_batches() {
        let mut log = log(&[0, 2, 2, 3]);
        assert!(log.advance_start(15));
        assert_eq!((log.start_offset(), log.first_offset(), log.first_epoch()), (15, 10, 2));
        assert_eq!((log.floor().position, log.floor().last_epoch), (100, 0));
        assert_eq!(log.slice(15, 40, 1000, false).unwrap().position, 100);
        assert_eq!(log.epoch_end(0), EpochEnd { epoch: 0, end_offset: 15 });
        assert_eq!(log.epoch_end(2), EpochEnd { epoch: 2, end_offset: 30 });
        assert_eq!(log.first_at(0, 40).unwrap().base_offset, 10);
        assert!(!log.advance_start(15), "nor does it ever go back");

        assert!(log.advance_start(40));
        assert_eq!((log.first_offset(), log.end_offset(), log.size(), log.last_epoch()), (40, 40, 400, 3));
        assert_eq!(log.epoch_end(3), EpochEnd { epoch: 3, end_offset: 40 });
        assert!(log.latest(40).is_none());
        assert!(log.append(BatchMeta { base_offset: 40, last_offset: 40, size: 7, ..BatchMeta::default() }));
        assert_eq!(log.slice(40, 41, 1000, false).unwrap().position, 400);
    }

    #[test]
    fn a_log_that_was_cut_at_both_ends_is_what_recovery_finds() {
        let mut log = log(&[0, 2, 2, 3]);
        log.advance_start(15);
        assert_eq!(log.truncate(30), Some(300));
        let (floor, batches) = (log.floor().clone(), log.batches.clone());
        let recovered = Log::recovered(RecoveredLog { floor, batches, ..RecoveredLog::default() });
        for log in [&log, &recovered] {
            assert_eq!(
                (log.start_offset(), log.end_offset(), log.last_epoch(), log.size()),
                (15, 30, 2, 300)
            );
            assert_eq!(log.epoch_end(2), EpochEnd { epoch: 2, end_offset: 30 });
        }
    }

    #[test]
    fn a_log_whose_tail_was_lost_begins_no_earlier_than_it_was_told() {
        let batches = log(&[0, 1]).batches;
        let recovered = RecoveredLog { floor: Floor::at(25), batches, ..RecoveredLog::default() };
        let log = Log::recovered(recovered);
        assert_eq!((log.start_offset(), log.end_offset(), log.first_offset()), (25, 25, 25));
        assert_eq!((log.size(), log.last_epoch()), (200, 1));
    }

    #[test]
    fn producers_of_records_that_were_dropped_are_remembered() {
        let batch = |base_sequence: i32, base_offset: i64| BatchMeta {
            producer_id: 9,
            producer_epoch: 0,
            base_sequence,
            base_offset,
            last_offset: base_offset,
            ..BatchMeta::default()
        };
        let mut log = Log::default();
        for index in 0..3 {
            log.append(batch(index, i64::from(index)));
        }
        log.advance_start(2);
        log.truncate(2);
        let duplicate = Verdict::Duplicate { base_offset: 1, last_offset: 1 };
        assert_eq!(log.verify_producer(&batch(1, 50)), Ok(duplicate));
        assert_eq!(log.verify_producer(&batch(2, 50)), Ok(Verdict::Append), "it was cut off, not dropped");
    }

    #[test]
    fn what_is_old_or_too_much_expires_from_the_beginning_on() {
        let log = log(&[0, 0, 0, 0]); // whose batches are of the times 0, 10, 20 and 30
        assert_eq!(log.expired(None, None, 40), 0);
        assert_eq!(log.expired(Some(20), None, 40), 20);
        assert_eq!(log.expired(Some(20), None, 15), 10, "what is not committed stays");
        assert_eq!(log.expired(None, Some(150), 40), 20);
        assert_eq!(log.expired(None, Some(0), 40), 40);
        assert_eq!(log.expired(Some(100), None, 40), 40);
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
