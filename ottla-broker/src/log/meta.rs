//! What a log keeps in memory of each batch in its file.

use ottla_protocol::batch::BatchHeader;

/// What a log keeps in memory of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchMeta {
    /// The offset of the first record.
    pub base_offset: i64,
    /// The offset of the last record.
    pub last_offset: i64,
    /// Where the batch begins in the file.
    pub position: u64,
    /// Its size in bytes, header included.
    pub size: u32,
    /// The epoch of the leader that appended it.
    pub leader_epoch: i32,
    /// The largest timestamp of its records.
    pub max_timestamp: i64,
    /// The producer's id; -1 without idempotence.
    pub producer_id: i64,
    /// The sequence of the first record; -1 without idempotence.
    pub base_sequence: i32,
    /// The producer's epoch; -1 without idempotence.
    pub producer_epoch: i16,
}

impl BatchMeta {
    /// The metadata of a batch that begins at `position`.
    #[must_use]
    pub fn of(header: &BatchHeader, position: u64) -> Self {
        Self {
            base_offset: header.base_offset,
            last_offset: header.last_offset(),
            position,
            // The length of a batch is a positive i32 on the wire, and 12 bytes lie before it.
            size: u32::try_from(header.size()).unwrap_or(u32::MAX),
            leader_epoch: header.partition_leader_epoch,
            max_timestamp: header.max_timestamp,
            producer_id: header.producer_id,
            base_sequence: header.base_sequence,
            producer_epoch: header.producer_epoch,
        }
    }

    /// The sequence of the last record. Sequences wrap to 0 behind the largest positive number.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        let delta = self.last_offset.saturating_sub(self.base_offset);
        let last = i64::from(self.base_sequence).saturating_add(delta);
        // Taken modulo 2^31 it is a positive i32.
        if last > i64::from(i32::MAX) { (last & i64::from(i32::MAX)) as i32 } else { last as i32 }
    }
}

impl Default for BatchMeta {
    fn default() -> Self {
        Self {
            base_offset: 0,
            last_offset: 0,
            position: 0,
            size: 0,
            leader_epoch: 0,
            max_timestamp: -1,
            producer_id: -1,
            base_sequence: -1,
            producer_epoch: -1,
        }
    }
}
