//! From raw bytes to records, in the caller's `poll`: checksum, decompression, one walk over the records.
//!
//! ```text
//!   range ─▶ batch ─┬─ ends before the position ─────────────────────▶ skip
//!                   ├─ checksum wrong, malformed ────────────────────▶ stop in front of it
//!                   ├─ control batch, aborted transaction, no records ▶ skip, position behind it
//!                   └─ records at or behind the position ────────────▶ section
//! ```
//!
//! The walk here makes the later iteration infallible: what is handed out was read once from end to end, so that an
//! error always comes from `poll`, with an offset, and never in the middle of a loop over records.

use ottla_protocol::{
    batch::{self, BatchError, ControlType, RawBatch, RecordCursor, Records},
    compression::Decompressor,
};

use super::{Position, Range};

/// The records of one batch, from the first that is wanted on.
#[derive(Debug)]
pub struct Section {
    /// All records of the batch; every one of them is well-formed.
    pub records: Records,
    /// Where the first wanted one is.
    pub start: RecordCursor,
    /// How many there are from there on; never 0.
    pub count: usize,
    /// The offset of the first of them.
    pub first: i64,
    /// The offset of the last.
    pub last: i64,
}

/// What a range holds.
#[derive(Debug)]
pub struct Unpacked {
    /// Records, oldest first.
    pub sections: Vec<Section>,
    /// The position once they are handed out.
    pub next: Position,
    /// What was not unpacked yet.
    pub rest: Option<Range>,
    /// Why the batch at `next` cannot be read. Told only when there is nothing to hand out in front of it.
    pub corrupt: Option<BatchError>,
}

/// Unpacks batches from the front of `range` until `enough` decompressed bytes are together.
pub fn unpack(mut range: Range, decompressor: &mut Decompressor, enough: usize) -> Unpacked {
    let mut sections = Vec::new();
    let (mut unpacked, mut taken) = (0, 0);
    let mut batches = batch::batches(range.bytes.clone());
    while unpacked < enough {
        let Some(batch) = batches.next() else { break };
        match batch.and_then(|batch| Ok((wanted_records(&batch, &mut range, decompressor)?, batch))) {
            Ok((section, batch)) => {
                let header = batch.header();
                if header.next_offset() > range.from.offset {
                    range.from = Position::with_epoch(header.next_offset(), header.partition_leader_epoch);
                }
                taken += header.size();
                if let Some(section) = section {
                    unpacked += section.records.payload().len();
                    sections.push(section);
                }
            }
            Err(error) if sections.is_empty() => {
                return Unpacked { sections, next: range.from, rest: None, corrupt: Some(error) };
            }
            // The next call comes to it first, and tells.
            Err(_) => break,
        }
    }
    let next = range.from;
    range.bytes = range.bytes.slice(taken.min(range.bytes.len())..);
    let rest = (!range.bytes.is_empty()).then_some(range);
    Unpacked { sections, next, rest, corrupt: None }
}

/// What is to be handed out of `batch`, if anything is.
fn wanted_records(
    batch: &RawBatch,
    range: &mut Range,
    decompressor: &mut Decompressor,
) -> Result<Option<Section>, BatchError> {
    let header = batch.header();
    if header.next_offset() <= range.from.offset {
        return Ok(None);
    }
    batch.verify_crc()?;
    if header.is_control() {
        if let Some(marker) = batch.control_record()?
            && marker.control_type == ControlType::Abort
        {
            range.aborted.on_abort_marker(header.producer_id, marker.offset);
        }
        return Ok(None);
    }
    if header.is_transactional() && range.aborted.hides(header.producer_id, header.last_offset()) {
        return Ok(None);
    }
    let records = batch.records(decompressor)?;
    let from = if planted!("records-below-the-position") { 0 } else { range.from.offset };
    walk(records, from)
}

/// Reads every record once, and finds those at or behind `from`.
fn walk(records: Records, from: i64) -> Result<Option<Section>, BatchError> {
    let mut iter = records.iter();
    let (mut start, mut count) = (records.cursor(&iter), 0);
    let (mut first, mut last) = (None, from);
    if records.header().base_offset < from {
        // Only the first batch of a response, or the first after a seek, begins before the position.
        let mut before = iter.clone();
        while let Some(record) = iter.next() {
            let offset = record?.offset;
            if offset >= from {
                start = records.cursor(&before);
                (first, last, count) = (Some(offset), offset, 1);
                break;
            }
            before = iter.clone();
        }
    }
    for record in iter {
        last = record?.offset;
        first.get_or_insert(last);
        count += 1;
    }
    Ok(first.map(|first| Section { records, start, count, first, last }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ottla_protocol::batch::control_batch;

    use super::super::{
        AbortedTransactions,
        budget::{Account, Budget},
        test_batches::{concat, data, empty, range_of, transactional},
    };
    use super::*;

    fn offsets(unpacked: &Unpacked) -> Vec<i64> {
        let mut offsets = Vec::new();
        for section in &unpacked.sections {
            let records = section.records.resume(section.start);
            let before = offsets.len();
            offsets.extend(records.map(|record| record.unwrap().offset));
            assert_eq!(offsets.len() - before, section.count);
            assert_eq!((offsets[before], offsets[offsets.len() - 1]), (section.first, section.last));
        }
        offsets
    }

    fn unpack_all(bytes: Bytes, from: i64) -> Unpacked {
        unpack(range_of(bytes, from), &mut Decompressor::new(), usize::MAX)
    }

    #[test]
    fn records_below_the_position_are_skipped() {
        let unpacked = unpack_all(concat([data(0, 5, 0), data(5, 5, 0)]), 3);
        assert_eq!(offsets(&unpacked), [3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(unpacked.next.offset, 10);
        assert!(unpacked.rest.is_none() && unpacked.corrupt.is_none());
    }

    #[test]
    fn whole_batches_below_the_position_are_not_even_summed() {
        let mut old = data(0, 5, 0).to_vec();
        *old.last_mut().unwrap() ^= 1;
        let unpacked = unpack_all(concat([old.into(), data(5, 2, 0)]), 5);
        assert_eq!(offsets(&unpacked), [5, 6]);
    }

    #[test]
    fn control_and_empty_batches_move_the_position() {
        let marker = control_batch(5, 3, 0, (1, 0), ControlType::Commit, 0);
        let unpacked = unpack_all(concat([data(0, 5, 3), marker, empty(6, 10, 3)]), 0);
        assert_eq!(offsets(&unpacked), [0, 1, 2, 3, 4]);
        assert_eq!((unpacked.next.offset, unpacked.next.epoch), (16, 3));

        let unpacked = unpack_all(control_batch(5, 3, 0, (1, 0), ControlType::Commit, 0), 5);
        assert!(unpacked.sections.is_empty());
        assert_eq!(unpacked.next.offset, 6);
    }

    #[test]
    fn enough_is_enough_and_the_rest_goes_on_where_it_stopped() {
        let bytes = concat([data(0, 5, 0), data(5, 5, 0), data(10, 5, 0)]);
        let mut unpacked = unpack(range_of(bytes, 2), &mut Decompressor::new(), 1);
        let mut seen = offsets(&unpacked);
        while let Some(rest) = unpacked.rest.take() {
            unpacked = unpack(rest, &mut Decompressor::new(), 1);
            seen.extend(offsets(&unpacked));
        }
        assert_eq!(seen, (2..15).collect::<Vec<_>>());
    }

    #[test]
    fn a_corrupt_batch_is_told_only_when_it_is_first() {
        let mut bad = data(5, 5, 0).to_vec();
        *bad.last_mut().unwrap() ^= 1;
        let unpacked = unpack_all(concat([data(0, 5, 0), bad.into(), data(10, 5, 0)]), 0);
        assert_eq!(offsets(&unpacked), [0, 1, 2, 3, 4]);
        assert_eq!((unpacked.next.offset, &unpacked.corrupt), (5, &None));

        let again = unpack(unpacked.rest.unwrap(), &mut Decompressor::new(), usize::MAX);
        assert!(matches!(again.corrupt, Some(BatchError::CrcMismatch { .. })));
        assert_eq!(again.next.offset, 5);
    }

    #[test]
    fn aborted_records_are_left_out_and_committed_ones_of_the_same_producer_are_not() {
        let abort = control_batch(5, 0, 0, (7, 0), ControlType::Abort, 0);
        let bytes = concat([transactional(0, 5, 7), abort, transactional(6, 2, 7), data(8, 2, 0)]);
        let (budget, account) = (Budget::new(1 << 20, || {}), Account::default());
        let mut range = range_of(bytes, 0);
        range.lease = super::super::Lease::new(1, &account, &budget.charge(1));
        range.aborted = AbortedTransactions::new([(7, 0)]);
        assert_eq!(offsets(&unpack(range, &mut Decompressor::new(), usize::MAX)), [6, 7, 8, 9]);
    }
}
