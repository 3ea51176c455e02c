use crate::compression::CompressionError;

/// Why a record batch cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// A message of the formats v0 or v1, which brokers stopped writing with Kafka 3.0 and stopped keeping with 4.0.
    #[error("message format v{magic} is not supported; the topic holds data from before Kafka 0.11")]
    LegacyFormat {
        /// 0 or 1.
        magic: i8,
    },
    /// A format that nobody has defined yet, or garbage.
    #[error("unknown record batch format {magic}")]
    UnknownMagic {
        /// Byte 16 of the batch.
        magic: i8,
    },
    /// The length field is negative, or too small for the header that follows it.
    #[error("record batch at offset {base_offset} claims a length of {length} bytes")]
    InvalidLength {
        /// Base offset as found.
        base_offset: i64,
        /// Length field as found.
        length: i32,
    },
    /// The bytes are not the ones that were written.
    #[error("checksum of record batch is {computed:#010x}, but the header says {stored:#010x}")]
    CrcMismatch {
        /// The header's checksum.
        stored: u32,
        /// CRC-32C of the bytes.
        computed: u32,
    },
    /// A header field that cannot be true.
    #[error("record batch at offset {base_offset} has an impossible {field}")]
    InvalidHeader {
        /// Base offset as found.
        base_offset: i64,
        /// Name of the field.
        field: &'static str,
    },
    /// The payload cannot be decompressed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// One of the records is malformed.
    #[error("record {index} of the batch is malformed: {error}")]
    Record {
        /// Position in the batch, from 0.
        index: u32,
        /// What is wrong with it.
        error: RecordError,
    },
}

/// Why one record of a batch cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The bytes end before the record does.
    #[error("it ends early")]
    Truncated,
    /// A variable-length integer is longer than its type or than it has to be.
    #[error("a varint is too long")]
    Varint,
    /// A length below -1, or one that reaches past the record.
    #[error("a length is impossible")]
    Length,
    /// An offset delta that is negative, not above the one before, or past the batch's last.
    #[error("its offset delta is out of order")]
    OffsetDelta,
    /// The header count is negative or more than the record has room for.
    #[error("its header count is impossible")]
    HeaderCount,
    /// A header without a key.
    #[error("a header key is null")]
    HeaderKey,
    /// Bytes are left after the last field of a record or after the last record of a batch.
    #[error("bytes are left over")]
    TrailingBytes,
}
