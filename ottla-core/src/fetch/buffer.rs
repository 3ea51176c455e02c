//! Fetched bytes that nobody has looked into: a queue of ranges for each partition.

use std::collections::VecDeque;

use bytes::Bytes;
use ottla_protocol::batch::{self, BatchError};

use super::{AbortedTransactions, Lease, Position};

/// A partition's part of one response: whole batches, raw. Only their headers were read.
#[derive(Debug)]
pub struct Range {
    /// The batches; a slice of the response's frame.
    pub bytes: Bytes,
    /// What in front of this was handed out, or lies before the position that was asked for.
    pub from: Position,
    /// Where the range ends.
    pub end: Position,
    /// For a reader of committed records: what to leave out.
    pub aborted: AbortedTransactions,
    /// Keeps the bytes counted while anybody can see them.
    pub lease: Lease,
}

/// What the headers of fetched bytes say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Bytes of the whole batches at the front.
    pub(super) whole: usize,
    /// The place behind them.
    pub(super) end: Position,
    /// The epochs that begin in them, and where.
    pub(super) epochs: Vec<(i32, i64)>,
    /// Bytes behind them: a batch that the size limit cut short.
    pub(super) cut: usize,
    /// Why the bytes behind them are no batch.
    pub(super) error: Option<BatchError>,
}

/// Reads the headers of what was fetched at `from`: 61 bytes a batch, and no record. `leader_epoch` is that of the leader
/// who gave it; -1 if unknown.
pub(super) fn scan(bytes: &Bytes, from: Position, leader_epoch: i32) -> Scan {
    let mut batches = batch::batches(bytes.clone());
    let (mut whole, mut end, mut epochs, mut error) = (0, from, Vec::new(), None);
    for batch in batches.by_ref() {
        match batch {
            Ok(batch) => {
                let header = batch.header();
                whole += header.size();
                // A broker may begin with batches that end before the offset asked for.
                if header.next_offset() > end.offset {
                    // No checksum covers it, and no leader has anything of a later epoch than its own.
                    let epoch = header.partition_leader_epoch;
                    let epoch = if leader_epoch < 0 { epoch } else { epoch.min(leader_epoch) };
                    if epoch != end.epoch {
                        epochs.push((epoch, header.base_offset.max(end.offset)));
                    }
                    end = Position::with_epoch(header.next_offset(), epoch);
                }
            }
            Err(malformed) => error = Some(malformed),
        }
    }
    let cut = if error.is_some() { 0 } else { batches.leftover() };
    Scan { whole, end, epochs, cut, error }
}

/// The ranges of one partition, each beginning where the one before it ends.
#[derive(Debug, Default)]
pub(super) struct RangeQueue(VecDeque<Range>);

impl RangeQueue {
    pub(super) fn push(&mut self, range: Range) {
        self.0.push_back(range);
    }

    pub(super) fn pop(&mut self) -> Option<Range> {
        self.0.pop_front()
    }

    /// Puts the rest of the first range back.
    pub(super) fn put_back(&mut self, range: Range) {
        self.0.push_front(range);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|range| range.bytes.len()).sum()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_batches::{concat, data};
    use super::*;

    #[test]
    fn a_scan_ends_in_front_of_a_batch_cut_short() {
        let whole = concat([data(10, 5, 1), data(15, 5, 2)]);
        let mut bytes = whole.to_vec();
        bytes.extend_from_slice(&data(20, 5, 2)[..70]);
        let scan = scan(&bytes.into(), Position::at(12), -1);
        assert_eq!(scan.whole, whole.len());
        assert_eq!((scan.end, scan.epochs), (Position::with_epoch(20, 2), vec![(1, 12), (2, 15)]));
        assert_eq!((scan.cut, scan.error), (70, None));
    }

    #[test]
    fn no_batch_is_of_a_later_epoch_than_its_leader() {
        let scan = scan(&concat([data(0, 5, 3), data(5, 5, 1_000)]), Position::at(0), 4);
        assert_eq!((scan.end, scan.epochs), (Position::with_epoch(10, 4), vec![(3, 0), (4, 5)]));
    }

    #[test]
    fn batches_in_front_of_the_position_do_not_move_it_back() {
        let scan = scan(&data(0, 5, 1), Position::at(40), -1);
        assert_eq!(scan.end, Position::at(40));
    }

    #[test]
    fn garbage_behind_good_batches_is_told_apart_from_them() {
        let mut bytes = data(0, 3, 0).to_vec();
        let good = bytes.len();
        bytes.extend_from_slice(&[0xff; 80]);
        let scan = scan(&bytes.into(), Position::at(0), -1);
        assert_eq!((scan.whole, scan.end.offset), (good, 3));
        assert!(scan.error.is_some());
    }
}
