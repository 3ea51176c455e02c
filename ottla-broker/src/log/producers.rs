//! What a log remembers of idempotent producers: the checks of Kafka's `ProducerStateManager` (KIP-98, KIP-360).

use std::collections::{BTreeMap, VecDeque};

use ottla_protocol::ErrorCode;

use super::BatchMeta;

/// Kafka remembers this many batches of a producer, and a client may have as many in flight.
const REMEMBERED: usize = 5;

/// The producers that have written to a log, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Producers(BTreeMap<i64, Producer>);

/// What may be done with a batch of an idempotent producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It continues the sequence.
    Append,
    /// It is in the log already, with these offsets.
    Duplicate { base_offset: i64, last_offset: i64 },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    batches: VecDeque<Batch>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Batch {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    last_offset: i64,
}

impl Producers {
    /// Whether a client's batch may be appended.
    ///
    /// A batch equal to one of the last five is a duplicate. Otherwise its epoch must not be older than the
    /// producer's, a new epoch must begin with sequence 0, and within an epoch sequences have no gap. A producer
    /// that the log does not know may begin anywhere.
    pub(crate) fn verify(&self, batch: &BatchMeta) -> Result<Verdict, ErrorCode> {
        if batch.producer_id < 0 || planted!("broker-forgets-producers") {
            return Ok(Verdict::Append);
        }
        let Some(producer) = self.0.get(&batch.producer_id) else { return Ok(Verdict::Append) };
        if let Some(duplicate) = producer.duplicate_of(batch) {
            return Ok(duplicate);
        }
        if batch.producer_epoch < producer.epoch {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        let expected = if batch.producer_epoch > producer.epoch { Some(0) } else { producer.next_sequence() };
        match expected {
            Some(expected) if expected != batch.base_sequence => Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER),
            _ => Ok(Verdict::Append),
        }
    }

    /// Takes note of a batch that is in the log.
    pub(crate) fn remember(&mut self, batch: &BatchMeta) {
        if batch.producer_id < 0 {
            return;
        }
        let producer = self
            .0
            .entry(batch.producer_id)
            .or_insert_with(|| Producer { epoch: batch.producer_epoch, batches: VecDeque::new() });
        if producer.epoch != batch.producer_epoch {
            producer.epoch = batch.producer_epoch;
            producer.batches.clear();
        }
        // The marker of a transaction carries the producer's epoch, and no sequence.
        if batch.base_sequence < 0 {
            return;
        }
        producer.push(Batch {
            first_sequence: batch.base_sequence,
            last_sequence: batch.last_sequence(),
            base_offset: batch.base_offset,
            last_offset: batch.last_offset,
        });
    }

    /// What is remembered, to be written down: of each producer its id, its epoch, and of each batch the first and the last
    /// sequence, the first and the last offset.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, i16, impl Iterator<Item = [i64; 4]>)> {
        let batch = |batch: &Batch| {
            let sequences = [batch.first_sequence, batch.last_sequence].map(i64::from);
            [sequences[0], sequences[1], batch.base_offset, batch.last_offset]
        };
        self.0.iter().map(move |(id, producer)| (*id, producer.epoch, producer.batches.iter().map(batch)))
    }

    /// A producer that was written down.
    pub(super) fn restore(&mut self, id: i64, epoch: i16) {
        self.0.insert(id, Producer { epoch, batches: VecDeque::new() });
    }

    /// A batch of it; `None` when it cannot be one.
    pub(super) fn restore_batch(&mut self, id: i64, batch: [i64; 4]) -> Option<()> {
        let [first_sequence, last_sequence, base_offset, last_offset] = batch;
        let (first_sequence, last_sequence) =
            (first_sequence.try_into().ok()?, last_sequence.try_into().ok()?);
        self.0.get_mut(&id)?.push(Batch { first_sequence, last_sequence, base_offset, last_offset });
        Some(())
    }
}

impl Producer {
    fn push(&mut self, batch: Batch) {
        if self.batches.len() == REMEMBERED {
            self.batches.pop_front();
        }
        self.batches.push_back(batch);
    }

    fn duplicate_of(&self, batch: &BatchMeta) -> Option<Verdict> {
        if batch.producer_epoch != self.epoch {
            return None;
        }
        let range = (batch.base_sequence, batch.last_sequence());
        let known = self.batches.iter().find(|known| (known.first_sequence, known.last_sequence) == range)?;
        Some(Verdict::Duplicate { base_offset: known.base_offset, last_offset: known.last_offset })
    }

    /// Sequences wrap to 0 behind the largest positive number.
    fn next_sequence(&self) -> Option<i32> {
        self.batches.back().map(|last| last.last_sequence.checked_add(1).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use ottla_protocol::ErrorCode;

    use super::{Producers, Verdict};
    use crate::log::BatchMeta;

    /// A batch of `count` records of producer 9.
    fn batch(epoch: i16, base_sequence: i32, base_offset: i64, count: i32) -> BatchMeta {
        BatchMeta {
            base_offset,
            last_offset: base_offset + i64::from(count) - 1,
            producer_id: 9,
            producer_epoch: epoch,
            base_sequence,
            ..BatchMeta::default()
        }
    }

    /// Seven batches of ten records in epoch 3, from sequence and offset 0 on.
    fn producers() -> Producers {
        let mut producers = Producers::default();
        for index in 0..7 {
            producers.remember(&batch(3, index * 10, i64::from(index) * 10, 10));
        }
        producers
    }

    #[test]
    fn the_next_sequence_is_appended() {
        assert_eq!(producers().verify(&batch(3, 70, 0, 1)), Ok(Verdict::Append));
    }

    #[test]
    fn each_of_the_last_five_batches_is_known_with_its_offsets() {
        for index in 2..7 {
            let base_offset = i64::from(index) * 10;
            let duplicate = Verdict::Duplicate { base_offset, last_offset: base_offset + 9 };
            assert_eq!(producers().verify(&batch(3, index * 10, 0, 10)), Ok(duplicate));
        }
    }

    #[test]
    fn an_older_duplicate_is_out_of_order() {
        assert_eq!(producers().verify(&batch(3, 10, 0, 10)), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    }

    #[test]
    fn a_part_of_a_known_batch_is_out_of_order() {
        assert_eq!(producers().verify(&batch(3, 60, 0, 5)), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    }

    #[test]
    fn a_gap_is_out_of_order() {
        assert_eq!(producers().verify(&batch(3, 71, 0, 1)), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    }

    #[test]
    fn a_new_epoch_begins_at_zero() {
        assert_eq!(producers().verify(&batch(4, 0, 0, 1)), Ok(Verdict::Append));
        assert_eq!(producers().verify(&batch(4, 70, 0, 1)), Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
    }

    #[test]
    fn an_old_epoch_is_fenced() {
        assert_eq!(producers().verify(&batch(2, 70, 0, 1)), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
        assert_eq!(producers().verify(&batch(2, 0, 0, 10)), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
    }

    #[test]
    fn an_unknown_producer_may_begin_anywhere() {
        let unknown = BatchMeta { producer_id: 10, ..batch(0, 1234, 0, 1) };
        assert_eq!(producers().verify(&unknown), Ok(Verdict::Append));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut producers = Producers::default();
        producers.remember(&batch(0, i32::MAX - 1, 0, 2));
        assert_eq!(producers.verify(&batch(0, 0, 0, 1)), Ok(Verdict::Append));

        let mut producers = Producers::default();
        producers.remember(&batch(0, i32::MAX, 0, 3));
        assert_eq!(producers.verify(&batch(0, 2, 0, 1)), Ok(Verdict::Append));
        let duplicate = Verdict::Duplicate { base_offset: 0, last_offset: 2 };
        assert_eq!(producers.verify(&batch(0, i32::MAX, 50, 3)), Ok(duplicate));
    }

    #[test]
    fn batches_without_a_producer_are_not_checked() {
        let plain = BatchMeta { producer_id: -1, base_sequence: -1, ..batch(-1, -1, 0, 1) };
        assert_eq!(producers().verify(&plain), Ok(Verdict::Append));
    }
}
