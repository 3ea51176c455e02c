use proptest::prelude::*;

use super::*;

fn codecs() -> impl Iterator<Item = Compression> {
    Compression::ALL.into_iter().filter(|codec| codec.is_available())
}

fn compressed(codec: Compression, input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::new(codec, None).unwrap().compress(input, &mut out).unwrap();
    out
}

/// Compressible, but not trivially so.
fn text(size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(size + 32);
    let mut state = 42_u32;
    while out.len() < size {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.extend_from_slice(format!("{{\"user\":{},\"event\":\"click\"}}", state >> 20).as_bytes());
    }
    out.truncate(size);
    out
}

#[test]
fn ids_and_names_are_those_of_the_protocol() {
    for (id, name) in ["none", "gzip", "snappy", "lz4", "zstd"].into_iter().enumerate() {
        let codec = Compression::from_id(id as u8).unwrap();
        assert_eq!((codec.id(), codec.name()), (id as u8, name));
        assert_eq!(name.parse(), Ok(codec));
    }
    for id in 5..=7 {
        assert_eq!(Compression::from_id(id), Err(CompressionError::UnknownCodec { id }));
    }
    assert_eq!("lzma".parse::<Compression>(), Err(UnknownCompression));
}

#[test]
fn a_context_is_as_good_the_second_time_also_after_an_error() {
    let mut decompressor = Decompressor::new();
    for codec in codecs() {
        let mut compressor = Compressor::new(codec, None).unwrap();
        for size in [0, 1, 100, 32 << 10, 64 << 10, (64 << 10) + 1, 300_000, 3_000_000, 17] {
            let input = text(size);
            let mut wire = Vec::new();
            compressor.compress(&input, &mut wire).unwrap();
            assert_eq!(decompressor.decompress(codec, &wire).unwrap(), input, "{codec} of {size} bytes");
            if codec != Compression::None {
                decompressor.decompress(codec, &wire[..wire.len() - 1]).unwrap_err();
            }
        }
    }
}

#[test]
fn bytes_that_cannot_be_compressed_survive() {
    let mut state = 1_u64;
    let bytes = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    });
    let noise: Vec<u8> = bytes.take(200_000).collect();
    for codec in codecs() {
        let wire = compressed(codec, &noise);
        assert_eq!(Decompressor::new().decompress(codec, &wire).unwrap(), noise, "{codec}");
    }
}

#[test]
fn levels_outside_the_codec_are_refused_before_anything_is_compressed() {
    #[cfg(feature = "gzip")]
    for level in [0, 10, -2] {
        assert!(matches!(
            Compressor::new(Compression::Gzip, Some(level)),
            Err(CompressionError::InvalidLevel { min: 1, max: 9, .. })
        ));
    }
    #[cfg(feature = "zstd")]
    assert!(matches!(
        Compressor::new(Compression::Zstd, Some(23)),
        Err(CompressionError::InvalidLevel { max: 22, .. })
    ));
}

#[test]
fn a_codec_that_was_left_out_says_so_by_name() {
    for codec in Compression::ALL.into_iter().filter(|codec| !codec.is_available()) {
        let missing = CompressionError::NotBuilt { codec };
        assert_eq!(Compressor::new(codec, None).unwrap_err(), missing);
        assert_eq!(Decompressor::new().decompress(codec, b"x").unwrap_err(), missing);
        assert!(missing.to_string().contains(&format!("built without the feature `{codec}`")));
    }
}

#[test]
fn d03_a_bomb_costs_no_more_than_its_bound() {
    // 64 MiB of zeros: above 1000:1 with zstd and at most 1000:1 with the others, which therefore get less room.
    let zeros = vec![0; 64 << 20];
    for codec in codecs().filter(|codec| *codec != Compression::None) {
        let wire = compressed(codec, &zeros);
        let limits = Limits { max_bytes: 8 << 20, ..Limits::default() };
        let mut out = Vec::new();
        let error = Decompressor::with_limits(limits).decompress_into(codec, &wire, &mut out).unwrap_err();
        let limit = limits.for_input(wire.len());
        assert_eq!(error, CompressionError::TooLarge { codec, compressed: wire.len(), limit });
        assert!(out.capacity() <= limit, "{codec} took {} bytes", out.capacity());
    }
}

#[cfg(feature = "zstd")]
#[test]
fn d03_the_ratio_is_bounded_and_small_batches_are_free_of_it() {
    let wire = compressed(Compression::Zstd, &vec![0; 16 << 20]);
    assert!(wire.len() < 2_000, "the bomb is worth its name");
    let error = Decompressor::new().decompress(Compression::Zstd, &wire).unwrap_err();
    assert!(matches!(error, CompressionError::TooLarge { .. }), "{error}");

    let wire = compressed(Compression::Zstd, &vec![0; 1 << 20]);
    assert_eq!(Decompressor::new().decompress(Compression::Zstd, &wire).unwrap().len(), 1 << 20);
}

#[cfg(feature = "zstd")]
#[test]
fn zstd_frames_without_a_size_and_several_in_a_row_are_read() {
    use ::zstd::stream::write::Encoder as StreamEncoder;
    let input = text(700_000);
    let mut wire = Vec::new();
    for part in input.chunks(300_000) {
        // As Java writes it: a stream whose size nobody knows beforehand.
        let mut encoder = StreamEncoder::new(Vec::new(), 3).unwrap();
        std::io::Write::write_all(&mut encoder, part).unwrap();
        wire.extend(encoder.finish().unwrap());
    }
    assert_eq!(Decompressor::new().decompress(Compression::Zstd, &wire).unwrap(), input);
}

#[cfg(feature = "zstd")]
#[test]
fn d03_a_zstd_window_above_the_bound_is_refused() {
    // Magic, a descriptor without size or checksum, and a window of 1 GiB.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 0x01, 0x00, 0x00];
    let error = Decompressor::new().decompress(Compression::Zstd, &frame).unwrap_err();
    assert!(matches!(error, CompressionError::Corrupt { .. }), "{error}");
}

#[cfg(feature = "snappy")]
#[test]
fn snappy_is_written_in_javas_framing_and_read_with_and_without() {
    let input = text(100_000);
    let wire = compressed(Compression::Snappy, &input);
    assert_eq!(&wire[..16], b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");

    let raw = snap::raw::Encoder::new().compress_vec(&input).unwrap();
    assert_eq!(Decompressor::new().decompress(Compression::Snappy, &raw).unwrap(), input);
}

#[cfg(feature = "snappy")]
#[test]
fn d03_a_snappy_length_that_no_block_can_have_takes_no_memory() {
    // Raw: "I have 4 GiB - 1 bytes".
    let raw = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
    let mut framed = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x06".to_vec();
    framed.extend_from_slice(&raw);
    let mut too_long = framed.clone();
    too_long[16] = 0x7f;
    let mut negative = framed.clone();
    negative[16] = 0xff;
    for wire in [&raw[..], &framed, &too_long, &negative] {
        let mut out = Vec::new();
        let error = Decompressor::new().decompress_into(Compression::Snappy, wire, &mut out).unwrap_err();
        assert!(matches!(error, CompressionError::Corrupt { .. }), "{error}");
        assert_eq!(out.capacity(), 0);
    }
}

#[cfg(feature = "lz4")]
#[test]
fn lz4_is_written_as_independent_64_kib_blocks() {
    let wire = compressed(Compression::Lz4, &text(200_000));
    assert_eq!(&wire[..7], [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82]);
    assert_eq!(&wire[wire.len() - 4..], [0; 4]);
}

#[cfg(feature = "lz4")]
mod lz4_frames_of_others {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

    use super::*;

    fn framed(info: FrameInfo, input: &[u8]) -> Vec<u8> {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        std::io::Write::write_all(&mut encoder, input).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn all_shapes_are_read() {
        let input = text(5_000_000);
        for mode in [BlockMode::Independent, BlockMode::Linked] {
            for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
                for checksums in [false, true] {
                    let info = FrameInfo::new()
                        .block_mode(mode)
                        .block_size(size)
                        .block_checksums(checksums)
                        .content_checksum(checksums)
                        .content_size(checksums.then_some(input.len() as u64));
                    let wire = framed(info, &input);
                    assert_eq!(Decompressor::new().decompress(Compression::Lz4, &wire).unwrap(), input);
                }
            }
        }
    }

    #[test]
    fn ours_are_read_by_the_other_reader() {
        let input = text(200_000);
        let wire = compressed(Compression::Lz4, &input);
        let mut out = Vec::new();
        let mut decoder = lz4_flex::frame::FrameDecoder::new(wire.as_slice());
        std::io::Read::read_to_end(&mut decoder, &mut out).unwrap();
        assert_eq!(out, input);
    }
}

#[cfg(feature = "gzip")]
#[test]
fn gzip_members_with_optional_fields_and_several_in_a_row_are_read() {
    let input = text(100_000);
    let (first, second) = input.split_at(40_000);
    let mut wire = Vec::new();
    for part in [first, second] {
        let builder =
            flate2::GzBuilder::new().filename("records").comment("two members").extra(vec![1, 2, 3]);
        let mut encoder = builder.write(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut encoder, part).unwrap();
        wire.extend(encoder.finish().unwrap());
    }
    assert_eq!(Decompressor::new().decompress(Compression::Gzip, &wire).unwrap(), input);
}

#[cfg(feature = "gzip")]
#[test]
fn gzip_is_read_by_the_other_reader() {
    let input = text(100_000);
    let wire = compressed(Compression::Gzip, &input);
    let mut out = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(wire.as_slice()), &mut out).unwrap();
    assert_eq!(out, input);
}

proptest! {
    #[test]
    fn any_bytes_round_trip(input in prop::collection::vec(0_u8..8, 0..5_000)) {
        let mut decompressor = Decompressor::new();
        for codec in codecs() {
            let wire = compressed(codec, &input);
            prop_assert_eq!(decompressor.decompress(codec, &wire).unwrap(), input.as_slice());
        }
    }

    #[test]
    fn garbage_and_damage_never_panic_and_stay_in_bounds(
        noise in prop::collection::vec(any::<u8>(), 0..500),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let limits = Limits { max_bytes: 1 << 20, ..Limits::default() };
        let mut decompressor = Decompressor::with_limits(limits);
        for codec in codecs() {
            let _ = decompressor.decompress(codec, &noise);
            let mut wire = compressed(codec, &text(2_000));
            let at = at.index(wire.len());
            wire[at] ^= flip;
            if let Ok(out) = decompressor.decompress(codec, &wire) {
                prop_assert!(out.len() <= 1 << 20);
            }
            let _ = decompressor.decompress(codec, &wire[..at]);
        }
    }
}
