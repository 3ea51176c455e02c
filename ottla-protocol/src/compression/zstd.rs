#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use zstd::stream::raw::{self, Operation};
use zstd::zstd_safe::{self, CParameter, DParameter, InBuffer, OutBuffer};

use super::decompressor::Output;
use super::{Compression, CompressionError};

const FAILED: CompressionError = CompressionError::Failed { codec: Compression::Zstd };

pub(super) struct Encoder {
    context: zstd::bulk::Compressor<'static>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Zstd")
    }
}

impl Encoder {
    pub(super) fn new(level: Option<i32>) -> Result<Self, CompressionError> {
        let level = level.unwrap_or(zstd_safe::CLEVEL_DEFAULT);
        let (min, max) = (zstd_safe::min_c_level(), zstd_safe::max_c_level());
        if !(min..=max).contains(&level) {
            return Err(CompressionError::InvalidLevel { codec: Compression::Zstd, level, min, max });
        }
        let mut context = zstd::bulk::Compressor::new(level).map_err(|_| FAILED)?;
        // The batch's own checksum covers every byte.
        context.set_parameter(CParameter::ChecksumFlag(false)).map_err(|_| FAILED)?;
        Ok(Self { context })
    }

    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
        let start = out.len();
        out.resize(start.saturating_add(zstd_safe::compress_bound(input.len())), 0);
        let room = out.get_mut(start..).ok_or(FAILED)?;
        let written = self.context.compress_to_buffer(input, room).map_err(|_| FAILED)?;
        out.truncate(start.saturating_add(written));
        Ok(())
    }
}

pub(super) struct Decoder {
    context: raw::Decoder<'static>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Zstd")
    }
}

impl Decoder {
    pub(super) fn new(window_log: u32) -> Result<Self, CompressionError> {
        let failed =
            |_| CompressionError::Corrupt { codec: Compression::Zstd, reason: "no decoder could be made" };
        let mut context = raw::Decoder::new().map_err(failed)?;
        context.set_parameter(DParameter::WindowLogMax(window_log)).map_err(failed)?;
        Ok(Self { context })
    }

    /// One frame or several. Java writes frames without their size, so that the buffer grows as bytes come.
    pub(super) fn decompress(&mut self, input: &[u8], out: &mut Output<'_>) -> Result<(), CompressionError> {
        self.context.reinit().map_err(|_| out.corrupt("no decoder could be made"))?;
        reserve_content_size(input, out)?;
        let mut input = InBuffer::around(input);
        loop {
            if out.bytes.len() == out.bytes.capacity() {
                out.grow()?;
            }
            let (read, written) = (input.pos(), out.bytes.len());
            let hint = {
                let mut room = OutBuffer::around_pos(&mut *out.bytes, written);
                self.context.run(&mut input, &mut room)
            };
            let hint = hint.map_err(|_| out.corrupt("not a frame, or one whose window is too large"))?;
            out.check()?;
            let progress = input.pos() > read || out.bytes.len() > written;
            let exhausted = input.pos() == input.src.len();
            match hint {
                0 if exhausted => return Ok(()),
                _ if !progress && out.bytes.len() < out.bytes.capacity() => {
                    return Err(out.corrupt("it ends early"));
                }
                _ => {}
            }
        }
    }
}

/// Takes the memory at once if the frame tells its size, as far as the bound believes it.
fn reserve_content_size(input: &[u8], out: &mut Output<'_>) -> Result<(), CompressionError> {
    let Ok(Some(size)) = zstd_safe::get_frame_content_size(input) else { return Ok(()) };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > out.left() {
        return Err(out.too_large());
    }
    if size > 0 { out.reserve(size) } else { Ok(()) }
}
