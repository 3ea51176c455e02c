//! Decoding uses no more memory than the input justifies.

use allocation_counter::measure;
use bytes::Bytes;

use super::any::Entry;
use super::generated::MESSAGES;
use super::vectors::vectors;

/// How many bytes of memory one byte of input may cost. The most wasteful element, a group in the answer to
/// `ListGroups`, takes 128 bytes of memory for 3 bytes of input, and a growing vector holds up to three times what it has.
const PER_BYTE: u64 = 128;

/// What any decoding may cost.
const FIXED: u64 = 256;

fn uses_little_memory(entry: &Entry, version: i16, bytes: Vec<u8>) {
    let length = bytes.len() as u64;
    let frame = Bytes::from(bytes);
    let used = measure(|| drop(entry.decode(version, frame.clone())));
    let bound = FIXED + PER_BYTE * length;
    assert!(used.bytes_max <= bound, "{} v{version}: {used:?} for {length} bytes", entry.name);
}

#[test]
fn messages_use_memory_in_proportion_to_their_size() {
    for entry in MESSAGES {
        for vector in vectors(entry) {
            uses_little_memory(entry, vector.version, vector.bytes.to_vec());
        }
    }
}

#[test]
fn d02_lengths_and_counts_that_lie_use_no_more_memory() {
    const LIES: [&[u8]; 6] = [
        &[0x7f, 0xff, 0xff, 0xff],
        &[0xff, 0xff, 0xff, 0xff],
        &[0x00, 0x10, 0x00, 0x00],
        &[0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0xff, 0xff, 0xff, 0xff, 0x07],
        &[0x80, 0x80, 0x40],
    ];
    for entry in MESSAGES {
        for vector in vectors(entry).into_iter().filter(|vector| vector.variant == "filled") {
            for at in 0..vector.bytes.len() {
                for lie in LIES {
                    let mut bytes = vector.bytes.to_vec();
                    bytes.splice(at..bytes.len().min(at + lie.len()), lie.iter().copied());
                    uses_little_memory(entry, vector.version, bytes);
                }
            }
        }
    }
}

#[test]
fn many_small_elements_use_memory_in_proportion() {
    for entry in MESSAGES {
        for version in entry.versions.clone() {
            for byte in [0, 1, 2] {
                for front in [&[][..], &[0, 0, 0x40, 0], &[0x80, 0x80, 0x01], &[0, 0, 0, 0, 0x80, 0x80, 0x01]]
                {
                    uses_little_memory(entry, version, [front, &[byte; 40_000]].concat());
                }
            }
        }
    }
}
