use bytes::{Bytes, BytesMut};

use super::header::{Attributes, HEADER_LEN, LENGTH_PREFIX, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE};
use super::patch::set_crc;
use super::record::RecordHeader;
use super::varint::{put_varint, put_varlong, varint_len, varlong_len};
use crate::compression::{Compression, CompressionError, Compressor};

/// Why a record was not appended. The batch is as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The batch would grow past the limit.
    #[error("the batch would have {size} bytes, more than {limit}")]
    Full {
        /// Bytes that the batch would have, header included.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The batch has as many records as the format can count.
    #[error("the batch has as many records as the format can count")]
    TooManyRecords,
}

/// An open batch: records are encoded straight into the buffer that will be sent.
///
/// ```text
/// BatchBuilder ──append──▶ BatchBuilder ──seal / seal_with──▶ SealedBatch ──stamp──▶ Bytes on the wire
/// ```
///
/// The buffer begins with 61 zero bytes. [`Self::seal`] writes over them what the records determine, and
/// [`SealedBatch::stamp`] what is known only when the batch is sent.
#[derive(Debug)]
pub struct BatchBuilder {
    buffer: Vec<u8>,
    count: u32,
    next_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    attributes: Attributes,
}

impl BatchBuilder {
    /// Bytes of a batch without records.
    pub const OVERHEAD: usize = HEADER_LEN;
    /// The largest batch that the format can express; brokers accept far less (`message.max.bytes`).
    pub const MAX_SIZE: usize = i32::MAX as usize;

    /// An empty batch with room for `capacity` bytes, header included.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self::with_buffer(Vec::with_capacity(capacity.max(HEADER_LEN)))
    }

    /// An empty batch in a buffer that was used before; what it holds is lost.
    #[must_use]
    pub fn with_buffer(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.resize(HEADER_LEN, 0);
        Self {
            buffer,
            count: 0,
            next_delta: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            attributes: Attributes::default(),
        }
    }

    /// Marks the batch as part of a transaction.
    #[must_use]
    pub fn transactional(mut self, yes: bool) -> Self {
        self.set_attribute(Attributes::TRANSACTIONAL, yes);
        self
    }

    /// Marks the batch as a control batch; see [`super::control_batch`].
    #[must_use]
    pub fn control(mut self, yes: bool) -> Self {
        self.set_attribute(Attributes::CONTROL, yes);
        self
    }

    fn set_attribute(&mut self, bit: i16, yes: bool) {
        self.attributes.0 = if yes { self.attributes.0 | bit } else { self.attributes.0 & !bit };
    }

    /// Bytes so far, header included.
    #[must_use]
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    /// Records so far.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether there is no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Timestamp of the first record, in milliseconds since 1970; -1 without records.
    #[must_use]
    pub fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// The highest timestamp so far, in milliseconds since 1970; -1 without records.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// Bytes by which [`Self::append`] with the same arguments would make the batch grow: exact, before compression.
    #[must_use]
    pub fn record_size<'h, H>(
        &self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: H,
    ) -> usize
    where
        H: ExactSizeIterator<Item = RecordHeader<'h>>,
    {
        let body = self.body_len(timestamp, key, value, headers);
        // A body past i32::MAX is refused whatever its prefix says.
        varint_len(i32::try_from(body).unwrap_or(i32::MAX)).saturating_add(body)
    }

    /// Appends a record and returns its position in the batch, from 0.
    ///
    /// `timestamp` is in milliseconds since 1970. `headers` is walked twice: for the size, then to write.
    ///
    /// # Errors
    ///
    /// The format has no room; in practice a limit is reached first: see [`Self::append_within`].
    pub fn append<'h, H>(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: H,
    ) -> Result<u32, AppendError>
    where
        H: ExactSizeIterator<Item = RecordHeader<'h>> + Clone,
    {
        self.append_within(Self::MAX_SIZE, timestamp, key, value, headers)
    }

    /// Appends a record if the batch will not have more than `limit` bytes, header included, before compression.
    ///
    /// # Errors
    ///
    /// [`AppendError::Full`] tells how large the batch would have become.
    #[inline]
    pub fn append_within<'h, H>(
        &mut self,
        limit: usize,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: H,
    ) -> Result<u32, AppendError>
    where
        H: ExactSizeIterator<Item = RecordHeader<'h>> + Clone,
    {
        if self.next_delta == i32::MAX {
            return Err(AppendError::TooManyRecords);
        }
        let body = self.body_len(timestamp, key, value, headers.clone());
        let limit = limit.min(Self::MAX_SIZE);
        let size = self.buffer.len().saturating_add(body).saturating_add(5);
        // The exact prefix matters only for a record that just fits.
        if size > limit {
            let size = size - 5 + varint_len(i32::try_from(body).unwrap_or(i32::MAX));
            if size > limit {
                return Err(AppendError::Full { size, limit });
            }
        }
        if self.count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.buffer.reserve(body + 5);
        self.write_record(body as i32, timestamp, key, value, headers);
        let index = self.count;
        self.count += 1;
        self.next_delta += 1;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Ok(index)
    }

    /// Leaves out `offsets` offsets, as compaction does when it drops records. Brokers accept no such batch from a
    /// producer.
    ///
    /// # Panics
    ///
    /// The offsets exceed what a batch can span.
    pub fn skip_offsets(&mut self, offsets: u32) {
        let next = i64::from(self.next_delta) + i64::from(offsets);
        self.next_delta = i32::try_from(next).expect("a batch spans at most 2^31 - 1 offsets");
    }

    /// Bytes of a record behind its length prefix.
    #[inline]
    fn body_len<'h, H>(&self, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: H) -> usize
    where
        H: ExactSizeIterator<Item = RecordHeader<'h>>,
    {
        let base = if self.count == 0 { timestamp } else { self.base_timestamp };
        let fixed = 1
            + varlong_len(timestamp.wrapping_sub(base))
            + varint_len(self.next_delta)
            + varint_len(clamp(headers.len()));
        let headers = headers.fold(0_usize, |sum, header| {
            sum.saturating_add(nullable_len(Some(header.key))).saturating_add(nullable_len(header.value))
        });
        fixed.saturating_add(nullable_len(key)).saturating_add(nullable_len(value)).saturating_add(headers)
    }

    #[inline]
    fn write_record<'h, H>(
        &mut self,
        body: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: H,
    ) where
        H: ExactSizeIterator<Item = RecordHeader<'h>>,
    {
        let out = &mut self.buffer;
        put_varint(out, body);
        out.push(0);
        // Wrapping on both sides keeps even the most distant timestamps exact.
        put_varlong(out, timestamp.wrapping_sub(self.base_timestamp));
        put_varint(out, self.next_delta);
        put_nullable(out, key);
        put_nullable(out, value);
        put_varint(out, clamp(headers.len()));
        for header in headers {
            put_nullable(out, Some(header.key));
            put_nullable(out, header.value);
        }
    }

    /// Closes the batch as it is.
    #[must_use]
    pub fn seal(mut self) -> SealedBatch {
        self.write_header(Compression::None);
        self.into_sealed()
    }

    /// Compresses the records and closes the batch. Where compression gains nothing, the records stay as they are and
    /// the header says so.
    ///
    /// `compressor` lends its scratch buffer, takes this batch's in exchange, and so allocates nothing once warm.
    ///
    /// # Errors
    ///
    /// The codec failed, which it does for want of memory.
    pub fn seal_with(mut self, compressor: &mut Compressor) -> Result<SealedBatch, CompressionError> {
        if compressor.compress_batch(&mut self.buffer, HEADER_LEN)? {
            self.write_header(compressor.compression());
        } else {
            self.write_header(Compression::None);
        }
        Ok(self.into_sealed())
    }

    fn write_header(&mut self, compression: Compression) {
        let length = self.buffer.len() - LENGTH_PREFIX;
        let length =
            i32::try_from(length).expect("append keeps a batch below MAX_SIZE, and compression shrinks it");
        self.attributes.0 |= i16::from(compression.id());
        let header = &mut self.buffer[..HEADER_LEN];
        header[0..8].fill(0);
        header[8..12].copy_from_slice(&length.to_be_bytes());
        header[12..16].copy_from_slice(&(-1_i32).to_be_bytes());
        header[16] = 2;
        header[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        header[23..27].copy_from_slice(&(self.next_delta - 1).to_be_bytes());
        header[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        header[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        header[57..61].copy_from_slice(&self.count.to_be_bytes());
    }

    fn into_sealed(self) -> SealedBatch {
        SealedBatch {
            count: self.count,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            bytes: Bytes::from(self.buffer),
        }
    }
}

/// Bytes of a nullable byte string with its length prefix.
#[inline]
fn nullable_len(bytes: Option<&[u8]>) -> usize {
    match bytes {
        Some(bytes) => varint_len(clamp(bytes.len())).saturating_add(bytes.len()),
        None => 1,
    }
}

#[inline]
fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_varint(out, clamp(bytes.len()));
            out.extend_from_slice(bytes);
        }
        None => put_varint(out, -1),
    }
}

/// A length as the format has it. Lengths past `i32::MAX` never get as far as being written.
#[inline]
fn clamp(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}

/// A closed batch: its records and its size are final, its producer identity is not.
#[derive(Debug)]
pub struct SealedBatch {
    bytes: Bytes,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl SealedBatch {
    /// Writes producer id, epoch and the sequence of the first record, and computes the checksum over all of it.
    /// [`NO_PRODUCER_ID`], [`NO_PRODUCER_EPOCH`] and [`NO_SEQUENCE`] are for a producer that is not idempotent.
    ///
    /// A batch may be stamped again. If somebody still holds its bytes, a socket perhaps, then a copy is stamped:
    /// bytes that may be on their way never change.
    pub fn stamp(&mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) {
        let bytes = std::mem::take(&mut self.bytes);
        let mut batch = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        batch[43..51].copy_from_slice(&producer_id.to_be_bytes());
        batch[51..53].copy_from_slice(&producer_epoch.to_be_bytes());
        batch[53..57].copy_from_slice(&base_sequence.to_be_bytes());
        set_crc(&mut batch);
        self.bytes = batch.freeze();
    }

    /// Stamps the batch as that of a producer without idempotence.
    pub fn stamp_without_producer(&mut self) {
        self.stamp(NO_PRODUCER_ID, NO_PRODUCER_EPOCH, NO_SEQUENCE);
    }

    /// The batch as it goes to the broker; shares the buffer. Stamp it before.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.bytes.clone()
    }

    /// As [`Self::bytes`], giving up the batch.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// Bytes on the wire, header included.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Records in the batch.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Timestamp of the first record, in milliseconds since 1970.
    #[must_use]
    pub fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// The highest timestamp, in milliseconds since 1970.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }
}
