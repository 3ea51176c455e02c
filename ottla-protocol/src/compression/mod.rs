//! The codecs of record batches, both ways, each in a file of its own behind the same two functions.
//!
//! A [`Compressor`] and a [`Decompressor`] keep their contexts, tables and buffers from one batch to the next: fresh
//! memory per batch costs up to twenty times the work itself. Codecs are features of this crate (`gzip`, `snappy`,
//! `lz4`, `zstd`, all on by default), and one that was left out says so by name.

mod compressor;
mod decompressor;
#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

pub use compressor::Compressor;
pub use decompressor::{Decompressor, Limits};

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952, levels 1 to 9.
    Gzip,
    /// Snappy blocks in the framing of the Java library xerial-snappy.
    Snappy,
    /// An LZ4 frame.
    Lz4,
    /// A Zstandard frame (KIP-110), levels -131072 to 22. Brokers from Kafka 2.1.
    Zstd,
}

impl Compression {
    /// Every codec, in the order of their ids.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this id in the attributes of a batch.
    ///
    /// # Errors
    ///
    /// [`CompressionError::UnknownCodec`]; there is no codec above 4 yet.
    pub fn from_id(id: u8) -> Result<Self, CompressionError> {
        match id {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            _ => Err(CompressionError::UnknownCodec { id }),
        }
    }

    /// Id in the attributes of a batch.
    #[must_use]
    pub fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Name in `compression.type`: `none`, `gzip`, `snappy`, `lz4`, `zstd`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Whether this build has the codec.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::None => true,
            Self::Gzip => cfg!(feature = "gzip"),
            Self::Snappy => cfg!(feature = "snappy"),
            Self::Lz4 => cfg!(feature = "lz4"),
            Self::Zstd => cfg!(feature = "zstd"),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is none of `none`, `gzip`, `snappy`, `lz4` and `zstd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected one of none, gzip, snappy, lz4, zstd")]
pub struct UnknownCompression;

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(name: &str) -> Result<Self, UnknownCompression> {
        Self::ALL.into_iter().find(|codec| codec.name() == name).ok_or(UnknownCompression)
    }
}

/// Why a payload cannot be compressed or decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompressionError {
    /// The attributes of a batch name a codec that nobody has defined.
    #[error("unknown compression codec {id}")]
    UnknownCodec {
        /// 5, 6 or 7.
        id: u8,
    },
    /// This build does not have the codec.
    #[error("{codec} compression is not available: built without the feature `{codec}`")]
    NotBuilt {
        /// The codec.
        codec: Compression,
    },
    /// The codec has no such level.
    #[error("{codec} has no compression level {level}, only {min} to {max}")]
    InvalidLevel {
        /// The codec.
        codec: Compression,
        /// What was asked for.
        level: i32,
        /// The lowest level.
        min: i32,
        /// The highest level.
        max: i32,
    },
    /// The bytes are not what the codec writes.
    #[error("malformed {codec} data: {reason}")]
    Corrupt {
        /// The codec.
        codec: Compression,
        /// What is wrong.
        reason: &'static str,
    },
    /// Decompressing was given up: the result would be larger than [`Limits`] allow.
    #[error("{compressed} bytes of {codec} data exceed the bound of {limit} bytes when decompressed")]
    TooLarge {
        /// The codec.
        codec: Compression,
        /// Bytes of the compressed data.
        compressed: usize,
        /// The bound that these bytes were given.
        limit: usize,
    },
    /// The codec failed on valid input, for want of memory.
    #[error("{codec} failed to compress")]
    Failed {
        /// The codec.
        codec: Compression,
    },
}
