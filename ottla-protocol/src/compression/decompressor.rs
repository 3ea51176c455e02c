#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::Bytes;

use super::{Compression, CompressionError};
use crate::batch::Records;

/// How far a batch may grow when it is decompressed.
///
/// The bounds hold for each batch on its own. They are enforced while decompressing, so that a bomb costs at most what
/// it is allowed, and memory is never taken on the word of a length field alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes that no decompressed batch may exceed. Default: 128 MiB.
    pub max_bytes: usize,
    /// Decompressed bytes per compressed byte. Default: 1000.
    pub max_ratio: usize,
    /// Bytes up to which the ratio does not matter. Default: 1 MiB.
    pub ratio_free_bytes: usize,
    /// Base-2 logarithm of the largest zstd window. Default: 23, which is 8 MiB; zstd's levels up to 19 stay within.
    pub zstd_window_log: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 128 << 20, max_ratio: 1_000, ratio_free_bytes: 1 << 20, zstd_window_log: 23 }
    }
}

impl Limits {
    /// The bound for `compressed` bytes of input.
    #[must_use]
    pub fn for_input(&self, compressed: usize) -> usize {
        compressed.saturating_mul(self.max_ratio).max(self.ratio_free_bytes).min(self.max_bytes)
    }
}

/// Decompresses batch after batch, reusing contexts and buffer. Contexts are made when a codec is first met.
#[derive(Debug, Default)]
pub struct Decompressor {
    limits: Limits,
    buffer: Vec<u8>,
    /// Buffers that came back, for the next records that are handed out with bytes of their own.
    spares: Vec<Vec<u8>>,
    #[cfg(feature = "gzip")]
    gzip: Option<super::gzip::Decoder>,
    #[cfg(feature = "zstd")]
    zstd: Option<super::zstd::Decoder>,
}

/// Buffers that are kept, and their size at most.
const SPARES: usize = 8;
const SPARE_CAPACITY: usize = 1 << 20;

impl Decompressor {
    /// A decompressor with the default [`Limits`]. It holds no memory until it is used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A decompressor with limits of its own.
    #[must_use]
    pub fn with_limits(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Decompresses into this value's own buffer.
    ///
    /// # Errors
    ///
    /// The data are malformed, or too large when decompressed, or this build lacks the codec.
    pub fn decompress(&mut self, codec: Compression, input: &[u8]) -> Result<&[u8], CompressionError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.decompress_into(codec, input, &mut buffer);
        self.buffer = buffer;
        result?;
        Ok(&self.buffer)
    }

    /// Decompresses into bytes of their own; their buffer is one that came back by [`Self::recycle`], or a fresh one.
    ///
    /// # Errors
    ///
    /// As [`Self::decompress`].
    pub fn decompress_owned(&mut self, codec: Compression, input: &[u8]) -> Result<Bytes, CompressionError> {
        let mut buffer = self.spares.pop().unwrap_or_default();
        match self.decompress_into(codec, input, &mut buffer) {
            Ok(()) => Ok(Bytes::from(buffer)),
            Err(error) => {
                self.keep(buffer);
                Err(error)
            }
        }
    }

    /// Decompresses into `out`, in place of what it holds.
    ///
    /// # Errors
    ///
    /// As [`Self::decompress`]; `out` then holds anything.
    pub fn decompress_into(
        &mut self,
        codec: Compression,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CompressionError> {
        out.clear();
        let mut out =
            Output { codec, compressed: input.len(), limit: self.limits.for_input(input.len()), bytes: out };
        match codec {
            Compression::None => out.extend(input),
            #[cfg(feature = "gzip")]
            Compression::Gzip => self.gzip.get_or_insert_default().decompress(input, &mut out),
            #[cfg(feature = "snappy")]
            Compression::Snappy => super::snappy::decompress(input, &mut out),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => super::lz4::decompress(input, &mut out),
            #[cfg(feature = "zstd")]
            Compression::Zstd => {
                let decoder = match &mut self.zstd {
                    Some(decoder) => decoder,
                    none => none.insert(super::zstd::Decoder::new(self.limits.zstd_window_log)?),
                };
                decoder.decompress(input, &mut out)
            }
            #[allow(unreachable_patterns)]
            codec => Err(CompressionError::NotBuilt { codec }),
        }
    }

    /// Takes back the buffer of records that nobody looks at any more, so that the next batch has it. Does nothing if
    /// somebody still does, if the records were not compressed, or if enough buffers are kept.
    pub fn recycle(&mut self, records: Records) {
        let compressed = records.header().compression().is_ok_and(|codec| codec != Compression::None);
        if !compressed {
            return;
        }
        if let Ok(buffer) = records.into_payload().try_into_mut() {
            self.keep(Vec::from(buffer));
        }
    }

    /// A few buffers of ordinary size: one that was needed once for a huge batch is not worth its memory.
    fn keep(&mut self, buffer: Vec<u8>) {
        if self.spares.len() < SPARES && buffer.capacity() <= SPARE_CAPACITY {
            self.spares.push(buffer);
        }
    }
}

/// Where decompressed bytes go, with their bound.
pub(super) struct Output<'a> {
    pub(super) bytes: &'a mut Vec<u8>,
    codec: Compression,
    compressed: usize,
    limit: usize,
}

// Each codec needs some of these.
#[cfg_attr(
    not(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd")),
    allow(dead_code)
)]
impl Output<'_> {
    /// Bytes that may still come.
    pub(super) fn left(&self) -> usize {
        self.limit.saturating_sub(self.bytes.len())
    }

    /// Makes room for `wanted` more bytes, or for as many as the bound leaves; fails if it leaves none. Memory at least
    /// doubles and never passes the bound, but a buffer that was used before may have more: see [`Self::check`].
    pub(super) fn reserve(&mut self, wanted: usize) -> Result<(), CompressionError> {
        let left = self.left();
        if left == 0 {
            return Err(self.too_large());
        }
        if self.bytes.capacity().saturating_sub(self.bytes.len()) < wanted.min(left) {
            self.bytes.reserve_exact(wanted.max(self.bytes.len()).min(left));
        }
        Ok(())
    }

    /// Makes room when nobody knows how much is wanted.
    pub(super) fn grow(&mut self) -> Result<(), CompressionError> {
        self.reserve(self.compressed.saturating_mul(4).max(4 << 10))
    }

    /// Fails if more bytes came than may.
    pub(super) fn check(&self) -> Result<(), CompressionError> {
        if self.bytes.len() <= self.limit { Ok(()) } else { Err(self.too_large()) }
    }

    /// Appends bytes that need no codec.
    pub(super) fn extend(&mut self, bytes: &[u8]) -> Result<(), CompressionError> {
        if bytes.len() > self.left() {
            return Err(self.too_large());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Has `fill` write up to `size` bytes at the end and keeps as many as it says.
    pub(super) fn extend_with<E>(
        &mut self,
        size: usize,
        fill: impl FnOnce(&[u8], &mut [u8]) -> Result<usize, E>,
    ) -> Result<Result<(), E>, CompressionError> {
        let start = self.bytes.len();
        let end = start.saturating_add(size);
        if end > self.limit {
            return Err(self.too_large());
        }
        if size > 0 {
            self.reserve(size)?;
        }
        self.bytes.resize(end, 0);
        let (before, room) = self.bytes.split_at_mut(start);
        let filled = fill(before, room);
        let kept = filled.as_ref().map_or(0, |filled| *filled);
        self.bytes.truncate(start.saturating_add(kept));
        Ok(filled.map(|_| ()))
    }

    pub(super) fn too_large(&self) -> CompressionError {
        CompressionError::TooLarge { codec: self.codec, compressed: self.compressed, limit: self.limit }
    }

    pub(super) fn corrupt(&self, reason: &'static str) -> CompressionError {
        CompressionError::Corrupt { codec: self.codec, reason }
    }
}
