use super::{Compression, CompressionError};

/// Compresses batch after batch with one codec at one level, reusing context and buffer.
#[derive(Debug)]
pub struct Compressor {
    codec: Encoder,
    /// Takes the compressed bytes, then trades places with the batch's own buffer.
    scratch: Vec<u8>,
}

#[derive(Debug)]
enum Encoder {
    None,
    #[cfg(feature = "gzip")]
    Gzip(super::gzip::Encoder),
    #[cfg(feature = "snappy")]
    Snappy(super::snappy::Encoder),
    #[cfg(feature = "lz4")]
    Lz4(super::lz4::Encoder),
    #[cfg(feature = "zstd")]
    Zstd(super::zstd::Encoder),
}

impl Compressor {
    /// A compressor for `codec`. `level` is the codec's own (`compression.gzip.level`, `compression.zstd.level`,
    /// KIP-390); `None` is its default: 6 for gzip, 3 for zstd. Snappy and LZ4 have none here and ignore it.
    ///
    /// # Errors
    ///
    /// [`CompressionError::NotBuilt`] or [`CompressionError::InvalidLevel`]: both before the first record is lost.
    pub fn new(codec: Compression, level: Option<i32>) -> Result<Self, CompressionError> {
        let codec = match codec {
            Compression::None => Encoder::None,
            #[cfg(feature = "gzip")]
            Compression::Gzip => Encoder::Gzip(super::gzip::Encoder::new(level)?),
            #[cfg(feature = "snappy")]
            Compression::Snappy => Encoder::Snappy(super::snappy::Encoder::new()),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => Encoder::Lz4(super::lz4::Encoder::new()),
            #[cfg(feature = "zstd")]
            Compression::Zstd => Encoder::Zstd(super::zstd::Encoder::new(level)?),
            #[allow(unreachable_patterns)]
            codec => {
                let _ = level;
                return Err(CompressionError::NotBuilt { codec });
            }
        };
        Ok(Self { codec, scratch: Vec::new() })
    }

    /// A compressor that leaves everything as it is.
    #[must_use]
    pub fn none() -> Self {
        Self { codec: Encoder::None, scratch: Vec::new() }
    }

    /// The codec.
    #[must_use]
    pub fn compression(&self) -> Compression {
        match self.codec {
            Encoder::None => Compression::None,
            #[cfg(feature = "gzip")]
            Encoder::Gzip(_) => Compression::Gzip,
            #[cfg(feature = "snappy")]
            Encoder::Snappy(_) => Compression::Snappy,
            #[cfg(feature = "lz4")]
            Encoder::Lz4(_) => Compression::Lz4,
            #[cfg(feature = "zstd")]
            Encoder::Zstd(_) => Compression::Zstd,
        }
    }

    /// Appends the compressed form of `input` to `out`.
    ///
    /// # Errors
    ///
    /// [`CompressionError::Failed`].
    pub fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
        match &mut self.codec {
            Encoder::None => {
                out.extend_from_slice(input);
                Ok(())
            }
            #[cfg(feature = "gzip")]
            Encoder::Gzip(encoder) => encoder.compress(input, out),
            #[cfg(feature = "snappy")]
            Encoder::Snappy(encoder) => encoder.compress(input, out),
            #[cfg(feature = "lz4")]
            Encoder::Lz4(encoder) => encoder.compress(input, out),
            #[cfg(feature = "zstd")]
            Encoder::Zstd(encoder) => encoder.compress(input, out),
        }
    }

    /// Replaces what `batch` holds behind its first `reserved` bytes by its compressed form, unless that is not
    /// smaller; tells whether it did. The first bytes are zero then.
    pub(crate) fn compress_batch(
        &mut self,
        batch: &mut Vec<u8>,
        reserved: usize,
    ) -> Result<bool, CompressionError> {
        if matches!(self.codec, Encoder::None) {
            return Ok(false);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.resize(reserved, 0);
        let result = self.compress(&batch[reserved..], &mut scratch);
        self.scratch = scratch;
        result?;
        let gained = self.scratch.len() < batch.len();
        if gained {
            std::mem::swap(batch, &mut self.scratch);
        }
        Ok(gained)
    }
}
