//! Snappy as Kafka has it: raw blocks in the framing of the Java library xerial-snappy.
//!
//! ```text
//! 82 "SNAPPY" 00 │ version: i32 = 1 │ lowest compatible version: i32 = 1 │ { length: i32 │ raw block } …
//! ```
//!
//! Some clients write one raw block without the framing, and everybody reads it.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::decompressor::Output;
use super::{Compression, CompressionError};

const MAGIC: &[u8; 8] = b"\x82SNAPPY\x00";
/// Uncompressed bytes per block, as Java's producer cuts them.
const BLOCK: usize = 32 << 10;
/// No raw block grows by more: a copy of at most 64 bytes takes at least 2.
const MAX_EXPANSION: usize = 32;

pub(super) struct Encoder {
    /// Boxed for its table of 2 KiB.
    raw: Box<snap::raw::Encoder>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Snappy")
    }
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { raw: Box::new(snap::raw::Encoder::new()) }
    }

    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&1_i32.to_be_bytes());
        out.extend_from_slice(&1_i32.to_be_bytes());
        for block in input.chunks(BLOCK) {
            let start = out.len();
            out.extend_from_slice(&[0; 4]);
            out.resize(out.len().saturating_add(snap::raw::max_compress_len(block.len())), 0);
            let failed = CompressionError::Failed { codec: Compression::Snappy };
            let (length, room) = out
                .get_mut(start..)
                .and_then(|tail| tail.split_first_chunk_mut::<4>())
                .ok_or(failed.clone())?;
            let written = self.raw.compress(block, room).map_err(|_| failed)?;
            // At most 32 KiB and a sixth of it.
            *length = (written as i32).to_be_bytes();
            out.truncate(start.saturating_add(4).saturating_add(written));
        }
        Ok(())
    }
}

pub(super) fn decompress(input: &[u8], out: &mut Output<'_>) -> Result<(), CompressionError> {
    // The decoder has no state worth keeping.
    let mut raw = snap::raw::Decoder::new();
    let Some(framed) = input.strip_prefix(MAGIC) else {
        return block(&mut raw, input, out);
    };
    let mut rest = framed.get(8..).ok_or_else(|| out.corrupt("it ends early"))?;
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<4>().ok_or_else(|| out.corrupt("it ends early"))?;
        let length =
            usize::try_from(i32::from_be_bytes(*length)).map_err(|_| out.corrupt("a negative length"))?;
        let (compressed, behind) =
            behind.split_at_checked(length).ok_or_else(|| out.corrupt("a block reaches past the end"))?;
        block(&mut raw, compressed, out)?;
        rest = behind;
    }
    Ok(())
}

fn block(raw: &mut snap::raw::Decoder, input: &[u8], out: &mut Output<'_>) -> Result<(), CompressionError> {
    let size = snap::raw::decompress_len(input).map_err(|_| out.corrupt("a block without a length"))?;
    if size > input.len().saturating_mul(MAX_EXPANSION) {
        return Err(out.corrupt("a block cannot be as long as it claims"));
    }
    out.extend_with(size, |_, room| raw.decompress(input, room))?.map_err(|_| out.corrupt("a bad block"))
}
