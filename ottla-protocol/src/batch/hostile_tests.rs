use bytes::Bytes;
use proptest::prelude::*;

use super::round_trip_tests::{Owned, any_record, batch, codecs, only};
use super::*;
use crate::compression::{Compression, CompressionError, Decompressor, Limits};

fn three_records() -> Vec<u8> {
    let value = |text: &str| Owned { value: Some(text.into()), ..Owned::default() };
    Vec::from(batch(&[value("one"), value("two"), value("three")], Compression::None))
}

fn with(at: usize, bytes: &[u8]) -> Bytes {
    let mut batch = three_records();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    Bytes::from(batch)
}

/// The first error on the way from the field to the last record.
fn error_of(field: Bytes) -> Option<BatchError> {
    let mut decompressor = Decompressor::with_limits(small());
    for raw in batches(field) {
        let raw = match raw {
            Ok(raw) => raw,
            Err(error) => return Some(error),
        };
        match raw.views(&mut decompressor) {
            Ok(mut records) => {
                if let Some(Err(error)) = records.find(Result::is_err) {
                    assert!(records.next().is_none(), "an iterator goes on after its error");
                    return Some(error);
                }
            }
            Err(error) => return Some(error),
        }
    }
    None
}

fn small() -> Limits {
    Limits { max_bytes: 1 << 20, ..Limits::default() }
}

#[test]
fn c06_other_formats_are_named() {
    for magic in [0, 1] {
        assert_eq!(error_of(with(16, &[magic])), Some(BatchError::LegacyFormat { magic: magic as i8 }));
    }
    for magic in [3, 127, 255] {
        assert_eq!(error_of(with(16, &[magic])), Some(BatchError::UnknownMagic { magic: magic as i8 }));
    }
}

#[test]
fn c06_unknown_codecs_are_named() {
    for id in 5..=7 {
        let expected = BatchError::Compression(CompressionError::UnknownCodec { id });
        assert_eq!(error_of(with(22, &[id])), Some(expected));
    }
}

#[test]
fn a_length_that_cannot_be_is_an_error_and_one_too_long_is_a_batch_cut_short() {
    for length in [-1, i32::MIN, 0, 1, 48] {
        let expected = BatchError::InvalidLength { base_offset: 0, length };
        assert_eq!(error_of(with(8, &length.to_be_bytes())), Some(expected));
    }
    for length in [1_000, i32::MAX] {
        let field = with(8, &length.to_be_bytes());
        let mut iter = batches(field.clone());
        assert!(iter.next().is_none());
        assert_eq!(iter.leftover(), field.len());
    }
}

#[test]
fn d04_counts_that_cannot_be_are_errors() {
    let impossible = |field| Some(BatchError::InvalidHeader { base_offset: 0, field });
    for count in [-1, i32::MIN, 4, i32::MAX] {
        assert_eq!(error_of(with(57, &i32::to_be_bytes(count))), impossible("record count"), "{count}");
    }
    // Also when the offsets would allow for them, and when there are records but none are promised.
    let mut many = three_records();
    many[23..27].copy_from_slice(&i32::MAX.to_be_bytes());
    many[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    assert_eq!(error_of(Bytes::from(many)), impossible("record count"));
    assert_eq!(error_of(with(57, &[0; 4])), impossible("record count"));
    // One fewer than there are.
    let trailing = BatchError::Record { index: 1, error: RecordError::TrailingBytes };
    assert_eq!(error_of(with(57, &2_i32.to_be_bytes())), Some(trailing));
}

#[test]
fn d04_offsets_that_cannot_be_are_errors() {
    let field = |name| Some(BatchError::InvalidHeader { base_offset: 0, field: name });
    assert_eq!(error_of(with(23, &(-1_i32).to_be_bytes())), field("last offset delta"));
    for base_offset in [i64::MAX, i64::MAX - 2] {
        let expected = BatchError::InvalidHeader { base_offset, field: "base offset" };
        assert_eq!(error_of(with(0, &base_offset.to_be_bytes())), Some(expected));
    }
    // The second record, 9 bytes behind the first, says that it is the first, or past the last.
    for delta in [0, 1, 6] {
        let expected = BatchError::Record { index: 1, error: RecordError::OffsetDelta };
        assert_eq!(error_of(with(61 + 10 + 3, &[delta])), Some(expected), "{delta}");
    }
}

#[test]
fn d04_lengths_inside_a_record_that_cannot_be_are_errors() {
    let record = |error| Some(BatchError::Record { index: 0, error });
    // Of the record: negative, none, past the end.
    assert_eq!(error_of(with(61, &[1])), record(RecordError::Length));
    assert_eq!(error_of(with(61, &[0])), record(RecordError::Truncated));
    assert_eq!(error_of(with(61, &[126])), record(RecordError::Truncated));
    // Of the key: -2, and past the end.
    assert_eq!(error_of(with(65, &[3])), record(RecordError::Length));
    assert_eq!(error_of(with(65, &[100])), record(RecordError::Length));
    // Of the value.
    assert_eq!(error_of(with(66, &[3])), record(RecordError::Length));
    assert_eq!(error_of(with(66, &[100])), record(RecordError::Length));
    // A value shorter than written leaves its last byte as the header count.
    assert_eq!(error_of(with(66, &[4])), record(RecordError::HeaderCount));
    // Header count.
    assert_eq!(error_of(with(70, &[1])), record(RecordError::HeaderCount));
    assert_eq!(error_of(with(70, &[2])), record(RecordError::HeaderCount));
}

#[test]
fn header_keys_are_never_null() {
    let headers = vec![(b"key".to_vec(), Some(b"value".to_vec()))];
    let bytes = batch(&[Owned { headers, ..Owned::default() }], Compression::None);
    let mut bytes = bytes.to_vec();
    let key = bytes.len() - 6 - 4;
    bytes[key] = 1; // -1
    let expected = BatchError::Record { index: 0, error: RecordError::HeaderKey };
    assert_eq!(error_of(Bytes::from(bytes)), Some(expected));
}

#[test]
fn a_flipped_bit_fails_the_checksum_wherever_it_is_covered() {
    let good = three_records();
    for at in 21..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        // Some are caught before.
        if let Some(Ok(raw)) = batches(Bytes::from(bytes)).next() {
            assert!(matches!(raw.verify_crc(), Err(BatchError::CrcMismatch { .. })), "byte {at}");
        }
    }
}

#[test]
fn nothing_is_read_from_a_batch_cut_at_any_byte() {
    for codec in codecs() {
        let bytes = batch(&[Owned { value: Some(vec![b'x'; 300]), ..Owned::default() }], codec);
        for cut in 0..bytes.len() {
            let mut iter = batches(bytes.slice(..cut));
            assert!(iter.next().is_none());
            assert_eq!(iter.leftover(), cut);

            // With the length put right the payload is what ends early.
            if cut >= HEADER_LEN {
                let mut short = bytes[..cut].to_vec();
                short[8..12].copy_from_slice(&(cut as i32 - 12).to_be_bytes());
                assert!(error_of(Bytes::from(short)).is_some(), "{codec} cut at {cut}");
            }
        }
    }
}

#[cfg(feature = "zstd")]
#[test]
fn a_bomb_of_a_batch_is_a_typed_error() {
    let bytes = batch(&[Owned { value: Some(vec![0; 32 << 20]), ..Owned::default() }], Compression::Zstd);
    let error = only(bytes).views(&mut Decompressor::new()).unwrap_err();
    assert!(matches!(error, BatchError::Compression(CompressionError::TooLarge { .. })), "{error}");
}

proptest! {
    #[test]
    fn random_bytes_behind_a_plausible_header_never_panic(
        noise in prop::collection::vec(any::<u8>(), 0..200),
        attributes in 0_u8..64,
        count in 0_i32..40,
    ) {
        let mut bytes = vec![0; HEADER_LEN];
        bytes[8..12].copy_from_slice(&(noise.len() as i32 + 49).to_be_bytes());
        bytes[16] = 2;
        bytes[22] = attributes;
        bytes[23..27].copy_from_slice(&count.to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        bytes.extend_from_slice(&noise);
        let bytes = Bytes::from(bytes);
        let _ = error_of(bytes.clone());
        let _ = only(bytes).control_record();
    }

    #[test]
    fn d04_random_flips_never_panic(
        records in prop::collection::vec(any_record(), 1..10),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..6),
    ) {
        for codec in codecs() {
            let mut bytes = Vec::from(batch(&records, codec));
            for (at, flip) in &flips {
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
            }
            let _ = error_of(Bytes::from(bytes));
        }
    }

    #[test]
    fn random_bytes_never_panic(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = error_of(Bytes::from(noise));
    }
}
