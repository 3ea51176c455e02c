//! LZ4 frames. Written as Java writes them: 64 KiB blocks that do not refer to each other, no checksums, no content
//! size. Read in any shape but with a dictionary.
//!
//! Frames are taken apart here and not by a library, since a general frame reader sets up a window of the largest block
//! size (4 MiB) for each frame; blocks go straight into the one reused buffer. Checksums inside the frame are skipped:
//! the batch's own covers every byte of it.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use lz4_flex::block::{self, CompressTable};

use super::decompressor::Output;
use super::{Compression, CompressionError};

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
/// Version 1, independent blocks, nothing optional; 64 KiB; and the checksum of these two bytes.
const DESCRIPTOR: [u8; 3] = [0b0110_0000, 0b0100_0000, 0x82];
const BLOCK: usize = 64 << 10;
/// In a block's length: its bytes are not compressed.
const STORED: u32 = 1 << 31;
/// How far back a block may refer.
const DICTIONARY: usize = 64 << 10;

pub(super) struct Encoder {
    table: CompressTable,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lz4")
    }
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self { table: CompressTable::large() }
    }

    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&DESCRIPTOR);
        for block in input.chunks(BLOCK) {
            self.compress_block(block, out)?;
        }
        out.extend_from_slice(&[0; 4]);
        Ok(())
    }

    fn compress_block(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
        let failed = CompressionError::Failed { codec: Compression::Lz4 };
        let start = out.len();
        out.resize(start.saturating_add(4).saturating_add(block::get_maximum_output_size(input.len())), 0);
        let (length, room) =
            out.get_mut(start..).and_then(|tail| tail.split_first_chunk_mut::<4>()).ok_or(failed.clone())?;
        let written = block::compress_into_with_table(input, room, &mut self.table).map_err(|_| failed)?;
        let stored = written >= input.len();
        // At most 64 KiB.
        let marker = if stored { input.len() as u32 | STORED } else { written as u32 };
        *length = marker.to_le_bytes();
        if stored {
            out.truncate(start.saturating_add(4));
            out.extend_from_slice(input);
        } else {
            out.truncate(start.saturating_add(4).saturating_add(written));
        }
        Ok(())
    }
}

pub(super) fn decompress(mut input: &[u8], out: &mut Output<'_>) -> Result<(), CompressionError> {
    let frame = Frame::take_header(&mut input).map_err(|reason| out.corrupt(reason))?;
    loop {
        let (length, rest) = input.split_first_chunk::<4>().ok_or_else(|| out.corrupt("no end mark"))?;
        let length = u32::from_le_bytes(*length);
        if length == 0 {
            // A checksum of the content may follow, and nothing else does.
            return Ok(());
        }
        let (block, rest) = rest
            .split_at_checked((length & !STORED) as usize)
            .ok_or_else(|| out.corrupt("a block reaches past the end"))?;
        if length & STORED != 0 {
            frame.check_block_size(block.len()).map_err(|reason| out.corrupt(reason))?;
            out.extend(block)?;
        } else {
            frame.decompress_block(block, out)?;
        }
        let checksum = if frame.block_checksums { 4 } else { 0 };
        input = rest.get(checksum..).ok_or_else(|| out.corrupt("it ends early"))?;
    }
}

struct Frame {
    block_size: usize,
    block_checksums: bool,
    independent: bool,
}

impl Frame {
    fn take_header(input: &mut &[u8]) -> Result<Self, &'static str> {
        const VERSION: u8 = 0b1100_0000;
        const INDEPENDENT: u8 = 0b0010_0000;
        const BLOCK_CHECKSUM: u8 = 0b0001_0000;
        const CONTENT_SIZE: u8 = 0b0000_1000;
        const DICTIONARY_ID: u8 = 0b0000_0001;

        let rest = input.strip_prefix(&MAGIC).ok_or("no frame header")?;
        let ([flags, block], rest) = rest.split_first_chunk::<2>().ok_or("it ends early")?;
        if flags & VERSION != 0b0100_0000 {
            return Err("unknown frame version");
        }
        if flags & DICTIONARY_ID != 0 {
            return Err("a frame with a dictionary");
        }
        let block_size = match (block >> 4) & 0b111 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err("unknown block size"),
        };
        let content_size = if flags & CONTENT_SIZE == 0 { 0 } else { 8 };
        let rest = rest.get(content_size..).ok_or("it ends early")?;
        let (_checksum, rest) = rest.split_first().ok_or("it ends early")?;
        *input = rest;
        Ok(Self {
            block_size,
            block_checksums: flags & BLOCK_CHECKSUM != 0,
            independent: flags & INDEPENDENT != 0,
        })
    }

    fn check_block_size(&self, size: usize) -> Result<(), &'static str> {
        if size <= self.block_size { Ok(()) } else { Err("a block above the frame's block size") }
    }

    /// Gives the block the room that its length justifies: LZ4 grows by 255 at most, whatever the frame promises.
    fn decompress_block(&self, input: &[u8], out: &mut Output<'_>) -> Result<(), CompressionError> {
        let wanted = self.block_size.min(input.len().saturating_mul(255));
        let size = wanted.min(out.left());
        let filled = out.extend_with(size, |before, room| {
            if self.independent {
                block::decompress_into(input, room)
            } else {
                let dictionary = before.get(before.len().saturating_sub(DICTIONARY)..).unwrap_or_default();
                block::decompress_into_with_dict(input, room, dictionary)
            }
        })?;
        match filled {
            Ok(()) => Ok(()),
            Err(block::DecompressError::OutputTooSmall { .. }) if size < wanted => Err(out.too_large()),
            Err(_) => Err(out.corrupt("a bad block")),
        }
    }
}
