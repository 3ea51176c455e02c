//! What a broker changes in a batch that a producer sent.

use super::crc::crc32c;
use super::header::{Attributes, CRC_START, HEADER_LEN};

/// Writes the base offset and the partition leader epoch, as the leader does when it appends. Both lie outside the
/// checksum, which therefore stays the producer's.
///
/// # Panics
///
/// `batch` is shorter than a batch header; parse it first.
pub fn set_base_offset_and_epoch(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Makes `timestamp` (milliseconds since 1970) the time of all records, for `message.timestamp.type=LogAppendTime`.
/// The records stay as they are; flag and maximum are inside the checksum, which is computed anew.
///
/// # Panics
///
/// `batch` is shorter than a batch header; parse it first.
pub fn set_log_append_time(batch: &mut [u8], timestamp: i64) {
    let attributes = i16::from_be_bytes([batch[21], batch[22]]) | Attributes::LOG_APPEND_TIME;
    batch[21..23].copy_from_slice(&attributes.to_be_bytes());
    batch[35..43].copy_from_slice(&timestamp.to_be_bytes());
    set_crc(batch);
}

/// Computes the checksum and writes it.
pub(super) fn set_crc(batch: &mut [u8]) {
    debug_assert!(batch.len() >= HEADER_LEN);
    let crc = crc32c(&batch[CRC_START..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}
