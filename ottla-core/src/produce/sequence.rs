//! Which producer id, epoch and sequence a batch is sent with.
//!
//! ```text
//!                 adopt                    a numbered batch left without being written
//!  no identity ──────────▶ numbering ────────────────────────────────────────────────▶ raise wanted
//!       ▲                   ▲     │ assign: base sequence += records                         │
//!       │                   └─────┘                                                          │
//!       │                   ▲                          nothing in doubt: epoch + 1, from 0   │
//!       │                   └────────────────────────────────────────────────────────────────┤
//!       └─────────────────────────────── nothing in doubt, and the epoch is 32767 ───────────┘
//! ```
//!
//! The broker checks epoch and sequence per partition, so every partition counts its own epochs under one producer id
//! (KIP-360 raises the epoch for all of them at once). A raise leaves the numbers of the old epoch behind, and with
//! them the broker's knowledge of what it already has: it must wait until no batch that would be sent again may have
//! been written. A new producer id knows nothing of the old one, so that it is the last resort.

/// Producer id and epoch: what a broker knows an idempotent producer by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// From InitProducerId; never reused by the cluster.
    pub id: i64,
    /// Counted per partition, from what InitProducerId answered.
    pub epoch: i16,
}

/// What is written into the header of a batch just before it is sent for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Producer id and epoch.
    pub identity: ProducerIdentity,
    /// Sequence of the first record; those behind it follow without a gap.
    pub base_sequence: i32,
}

impl Stamp {
    /// The stamp of the records from position `at` on: a record keeps its sequence for life.
    pub(super) fn skip(self, at: u32) -> Self {
        Self { base_sequence: advance(self.base_sequence, at), ..self }
    }
}

/// The numbers of one partition.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    identity: Option<ProducerIdentity>,
    /// The sequence of the next record that is sent for the first time.
    next: i32,
    raise_wanted: bool,
}

impl Sequences {
    pub(super) fn identity(&self) -> Option<ProducerIdentity> {
        self.identity
    }

    /// Takes over a producer id; numbering starts at 0.
    pub(super) fn adopt(&mut self, identity: ProducerIdentity) {
        *self = Self { identity: Some(identity), next: 0, raise_wanted: false };
    }

    /// Numbers `count` records; `None` without a producer id.
    pub(super) fn assign(&mut self, count: u32) -> Option<Stamp> {
        let stamp = Stamp { identity: self.identity?, base_sequence: self.next };
        self.next = advance(self.next, count);
        Some(stamp)
    }

    /// Numbers were used up that the broker will never see, or that it refuses: the ones behind them are of no use.
    pub(super) fn want_raise(&mut self) {
        self.raise_wanted = self.identity.is_some();
    }

    pub(super) fn raise_wanted(&self) -> bool {
        self.raise_wanted
    }

    /// Starts the next epoch. The caller has made sure that nothing is in doubt, and numbers all its batches anew.
    /// Past the last epoch there is no identity any more: another one has to be adopted.
    pub(super) fn raise(&mut self) {
        let raised = self.identity.and_then(|identity| {
            let epoch = identity.epoch.checked_add(1)?;
            Some(ProducerIdentity { epoch, ..identity })
        });
        *self = Self { identity: raised, next: 0, raise_wanted: false };
    }
}

/// The sequence `count` records after `sequence`. Behind `i32::MAX` comes 0.
pub(super) fn advance(sequence: i32, count: u32) -> i32 {
    const SEQUENCES: i64 = 1 << 31;
    // The remainder of a division by 2^31 fits.
    ((i64::from(sequence) + i64::from(count)) % SEQUENCES) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(epoch: i16) -> ProducerIdentity {
        ProducerIdentity { id: 7, epoch }
    }

    fn adopted(epoch: i16) -> Sequences {
        let mut sequences = Sequences::default();
        sequences.adopt(identity(epoch));
        sequences
    }

    #[test]
    fn sequences_follow_each_other_without_a_gap() {
        let mut sequences = adopted(0);
        assert_eq!(sequences.assign(3), Some(Stamp { identity: identity(0), base_sequence: 0 }));
        assert_eq!(sequences.assign(2), Some(Stamp { identity: identity(0), base_sequence: 3 }));
        assert_eq!(sequences.assign(1), Some(Stamp { identity: identity(0), base_sequence: 5 }));
    }

    #[test]
    fn nothing_is_numbered_without_a_producer_id() {
        assert_eq!(Sequences::default().assign(1), None);
    }

    #[test]
    fn p27_behind_the_largest_sequence_comes_zero() {
        assert_eq!(advance(i32::MAX, 1), 0);
        assert_eq!(advance(i32::MAX - 1, 1), i32::MAX);
        assert_eq!(advance(i32::MAX - 2, 10), 7);
    }

    #[test]
    fn a_raised_epoch_starts_at_zero() {
        let mut sequences = adopted(0);
        sequences.assign(9);
        sequences.want_raise();
        sequences.raise();
        assert!(!sequences.raise_wanted());
        assert_eq!(sequences.assign(1), Some(Stamp { identity: identity(1), base_sequence: 0 }));
    }

    #[test]
    fn behind_the_last_epoch_another_producer_id_is_needed() {
        let mut sequences = adopted(i16::MAX - 1);
        sequences.raise();
        assert_eq!(sequences.identity(), Some(identity(i16::MAX)));
        sequences.raise();
        assert_eq!(sequences.identity(), None);
        sequences.adopt(ProducerIdentity { id: 8, epoch: 0 });
        assert_eq!(sequences.assign(1).map(|stamp| stamp.identity.id), Some(8));
    }

    #[test]
    fn part_of_a_batch_keeps_the_sequences_of_its_records() {
        let stamp = Stamp { identity: identity(0), base_sequence: i32::MAX };
        assert_eq!(stamp.skip(1).base_sequence, 0);
    }
}
