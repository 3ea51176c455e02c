#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::decompressor::Output;
use super::{Compression, CompressionError};

const WINDOW_BITS: u8 = 15;
const DEFAULT_LEVEL: i32 = 6;

#[derive(Debug)]
pub(super) struct Encoder {
    stream: Compress,
}

impl Encoder {
    pub(super) fn new(level: Option<i32>) -> Result<Self, CompressionError> {
        let level = match level.unwrap_or(DEFAULT_LEVEL) {
            // Java's `Deflater.DEFAULT_COMPRESSION`, which is 6 in the end.
            -1 => DEFAULT_LEVEL,
            level @ 1..=9 => level,
            level => {
                return Err(CompressionError::InvalidLevel {
                    codec: Compression::Gzip,
                    level,
                    min: 1,
                    max: 9,
                });
            }
        };
        let stream = Compress::new_gzip(flate2::Compression::new(level.unsigned_abs()), WINDOW_BITS);
        Ok(Self { stream })
    }

    pub(super) fn compress(&mut self, mut input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
        self.stream.reset();
        // What deflate needs at the worst, when nothing can be compressed, plus header and trailer.
        out.reserve(input.len().saturating_add(input.len() >> 10).saturating_add(64));
        loop {
            let before = self.stream.total_in();
            let status = self.stream.compress_vec(input, out, FlushCompress::Finish);
            match status.map_err(|_| CompressionError::Failed { codec: Compression::Gzip })? {
                Status::StreamEnd => return Ok(()),
                Status::Ok | Status::BufError => {
                    let read = self.stream.total_in().saturating_sub(before);
                    input = input.get(usize::try_from(read).unwrap_or(usize::MAX)..).unwrap_or_default();
                    out.reserve(input.len().max(4 << 10));
                }
            }
        }
    }
}

/// Inflates members of a gzip stream one after the other, as Java's `GZIPInputStream` does.
#[derive(Debug)]
pub(super) struct Decoder {
    stream: Decompress,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { stream: Decompress::new(false) }
    }
}

impl Decoder {
    pub(super) fn decompress(
        &mut self,
        mut input: &[u8],
        out: &mut Output<'_>,
    ) -> Result<(), CompressionError> {
        loop {
            skip_member_header(&mut input).ok_or_else(|| out.corrupt("no gzip header"))?;
            let start = out.bytes.len();
            self.inflate(&mut input, out)?;
            // The CRC-32 in front of the length is left alone: the batch's own checksum covers every byte of this.
            let (trailer, rest) =
                input.split_first_chunk::<8>().ok_or_else(|| out.corrupt("it ends early"))?;
            let [_, _, _, _, length @ ..] = *trailer;
            if u32::from_le_bytes(length) != out.bytes.len().saturating_sub(start) as u32 {
                return Err(out.corrupt("wrong length in the trailer"));
            }
            input = rest;
            if input.is_empty() {
                return Ok(());
            }
        }
    }

    fn inflate(&mut self, input: &mut &[u8], out: &mut Output<'_>) -> Result<(), CompressionError> {
        // Headers are skipped here, so that the context can be reused: resetting it would forget the gzip mode.
        self.stream.reset(false);
        loop {
            if out.bytes.len() == out.bytes.capacity() {
                out.grow()?;
            }
            let (read, written) = (self.stream.total_in(), self.stream.total_out());
            let status = self.stream.decompress_vec(input, out.bytes, FlushDecompress::None);
            let status = status.map_err(|_| out.corrupt("not a deflate stream"))?;
            out.check()?;
            let read = self.stream.total_in().saturating_sub(read);
            let written = self.stream.total_out().saturating_sub(written);
            *input = input.get(usize::try_from(read).unwrap_or(usize::MAX)..).unwrap_or_default();
            if status == Status::StreamEnd {
                return Ok(());
            }
            if read == 0 && written == 0 && out.bytes.len() < out.bytes.capacity() {
                return Err(out.corrupt("it ends early"));
            }
        }
    }
}

/// Skips ten bytes and the optional fields that their flags announce (RFC 1952, 2.3).
fn skip_member_header(input: &mut &[u8]) -> Option<()> {
    const CRC: u8 = 0b0000_0010;
    const EXTRA: u8 = 0b0000_0100;
    const NAME: u8 = 0b0000_1000;
    const COMMENT: u8 = 0b0001_0000;

    let (fixed, mut rest) = input.split_first_chunk::<10>()?;
    let [0x1f, 0x8b, 8, flags, ..] = *fixed else { return None };
    if flags & EXTRA != 0 {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        rest = behind.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = rest.get(end..)?.split_first()?.1;
        }
    }
    if flags & CRC != 0 {
        rest = rest.get(2..)?;
    }
    *input = rest;
    Some(())
}
