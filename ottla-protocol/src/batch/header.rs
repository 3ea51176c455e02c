#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::error::BatchError;
use crate::compression::{Compression, CompressionError};

/// Bytes of a v2 batch header.
pub const HEADER_LEN: usize = 61;
/// Producer id of a batch that no idempotent producer wrote.
pub const NO_PRODUCER_ID: i64 = -1;
/// Producer epoch of a batch that no idempotent producer wrote.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// Base sequence of a batch that no idempotent producer wrote.
pub const NO_SEQUENCE: i32 = -1;

/// Bytes in front of the length's own count: base offset and the length itself.
pub(super) const LENGTH_PREFIX: usize = 12;
/// Where the bytes begin that the checksum covers.
pub(super) const CRC_START: usize = 21;

/// What a batch's timestamps mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// Each record has the time that its producer gave it.
    CreateTime,
    /// All records have the time at which the leader appended the batch (`message.timestamp.type=LogAppendTime`).
    LogAppendTime,
}

/// The attribute bits of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0b0000_0111;
    pub(super) const LOG_APPEND_TIME: i16 = 0b0000_1000;
    pub(super) const TRANSACTIONAL: i16 = 0b0001_0000;
    pub(super) const CONTROL: i16 = 0b0010_0000;
    const DELETE_HORIZON: i16 = 0b0100_0000;

    /// The codec of the payload.
    ///
    /// # Errors
    ///
    /// The three bits say 5, 6 or 7.
    pub fn compression(self) -> Result<Compression, CompressionError> {
        Compression::from_id((self.0 & Self::CODEC) as u8)
    }

    /// Whether the records carry the producer's time or the broker's.
    #[must_use]
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction, so that a later control batch decides about it.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the batch holds a control record and no data.
    #[must_use]
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is the time after which the log cleaner may drop this batch's tombstones and
    /// markers (KIP-534). Record timestamps are relative to it as ever.
    #[must_use]
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }
}

/// The header of a v2 batch, as found; only magic, length and the sums that everybody computes are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the batch; a producer writes 0, the broker the real one.
    pub base_offset: i64,
    /// Bytes after the length field, thus 12 less than the whole batch.
    pub length: i32,
    /// Epoch of the leader that appended the batch; -1 before it is appended.
    pub partition_leader_epoch: i32,
    /// Format of the batch; always 2.
    pub magic: i8,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// Offset of the last record less the base offset. Compaction keeps it, so that it may be more than `count - 1`.
    pub last_offset_delta: i32,
    /// Milliseconds since 1970 to which the records' deltas are added.
    pub base_timestamp: i64,
    /// The highest timestamp of the batch, in milliseconds since 1970.
    pub max_timestamp: i64,
    /// Identity of an idempotent producer, or [`NO_PRODUCER_ID`].
    pub producer_id: i64,
    /// Epoch of that identity, or [`NO_PRODUCER_EPOCH`].
    pub producer_epoch: i16,
    /// Sequence number of the first record, or [`NO_SEQUENCE`].
    pub base_sequence: i32,
    /// Records in the batch. Compaction may leave none.
    pub count: i32,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`, which may go on behind it; `Ok(None)` when they end before the
    /// header does.
    ///
    /// # Errors
    ///
    /// [`BatchError::LegacyFormat`] and [`BatchError::UnknownMagic`] for other formats, [`BatchError::InvalidLength`]
    /// for a length that leaves no room for the header, [`BatchError::InvalidHeader`] for a negative last offset
    /// delta or record count, more records than offsets, or offsets past `i64::MAX - 1`.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, BatchError> {
        check_length_and_magic(bytes)?;
        let mut input = Fields(bytes);
        let Some(header) = input.header() else { return Ok(None) };
        header.check()?;
        Ok(Some(header))
    }

    fn check(&self) -> Result<(), BatchError> {
        let impossible = |field| Err(BatchError::InvalidHeader { base_offset: self.base_offset, field });
        if self.last_offset_delta < 0 {
            return impossible("last offset delta");
        }
        if self.base_offset.checked_add(i64::from(self.last_offset_delta)).is_none_or(|last| last == i64::MAX)
        {
            return impossible("base offset");
        }
        // A record has an offset of its own.
        if self.count < 0 || self.count.saturating_sub(1) > self.last_offset_delta {
            return impossible("record count");
        }
        Ok(())
    }

    /// Bytes of the whole batch, header included.
    #[must_use]
    pub fn size(&self) -> usize {
        // `parse` refuses negative lengths; for a header made by hand they count as nothing.
        usize::try_from(self.length).unwrap_or(0).saturating_add(LENGTH_PREFIX)
    }

    /// The codec of the records.
    ///
    /// # Errors
    ///
    /// A codec that nobody has defined (5 to 7).
    pub fn compression(&self) -> Result<Compression, CompressionError> {
        self.attributes.compression()
    }

    /// Whether the batch is a control batch: no data, to be skipped by consumers.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes.is_control()
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes.is_transactional()
    }

    /// Whether the timestamps are the producer's or the broker's.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        self.attributes.timestamp_type()
    }

    /// Offset of the last record that the batch had when it was written.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Offset from which to go on behind this batch, also when compaction took records from it.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }

    /// Sequence number of the last record, which wraps to 0 behind `i32::MAX`; [`NO_SEQUENCE`] without a producer.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return NO_SEQUENCE;
        }
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }
}

/// The length and the magic lie at the same place in every format, and the magic decides what the rest means.
fn check_length_and_magic(bytes: &[u8]) -> Result<(), BatchError> {
    let mut input = Fields(bytes);
    let (Some(base_offset), Some(length)) = (input.i64(), input.i32()) else { return Ok(()) };
    if length < 0 {
        return Err(BatchError::InvalidLength { base_offset, length });
    }
    let (Some(_), Some(magic)) = (input.i32(), input.i8()) else { return Ok(()) };
    match magic {
        2 if (length as usize) < HEADER_LEN.saturating_sub(LENGTH_PREFIX) => {
            Err(BatchError::InvalidLength { base_offset, length })
        }
        2 => Ok(()),
        0 | 1 => Err(BatchError::LegacyFormat { magic }),
        _ => Err(BatchError::UnknownMagic { magic }),
    }
}

/// Big-endian fields from the front of a slice.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn header(&mut self) -> Option<BatchHeader> {
        Some(BatchHeader {
            base_offset: self.i64()?,
            length: self.i32()?,
            partition_leader_epoch: self.i32()?,
            magic: self.i8()?,
            crc: self.take().map(u32::from_be_bytes)?,
            attributes: Attributes(self.i16()?),
            last_offset_delta: self.i32()?,
            base_timestamp: self.i64()?,
            max_timestamp: self.i64()?,
            producer_id: self.i64()?,
            producer_epoch: self.i16()?,
            base_sequence: self.i32()?,
            count: self.i32()?,
        })
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn i8(&mut self) -> Option<i8> {
        self.take().map(i8::from_be_bytes)
    }

    fn i16(&mut self) -> Option<i16> {
        self.take().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }
}
