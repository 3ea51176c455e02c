//! Bytes that are not what they should be: always an error, never a panic.

use std::sync::LazyLock;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::any::Entry;
use super::generated::MESSAGES;
use super::vectors::{Vector, vectors};

#[test]
fn a_message_cut_off_anywhere_is_an_error() {
    for entry in MESSAGES {
        for vector in vectors(entry) {
            for length in cuts(vector.bytes.len()) {
                let cut = vector.bytes.slice(..length);
                let result = entry.decode(vector.version, cut);
                assert!(result.is_err(), "{} v{} {length}", entry.name, vector.version);
            }
        }
    }
}

/// Every length below `whole`; of a message that is large since its elements are many, the middle only in steps.
fn cuts(whole: usize) -> impl Iterator<Item = usize> {
    const EDGE: usize = 400;
    (0..whole).filter(move |length| *length < EDGE || whole - length < EDGE || length % 29 == 0)
}

#[test]
fn bytes_behind_a_message_are_an_error() {
    for entry in MESSAGES {
        for vector in vectors(entry) {
            let longer = [&vector.bytes[..], &[0]].concat();
            assert!(
                entry.decode(vector.version, longer.into()).is_err(),
                "{} v{}",
                entry.name,
                vector.version
            );
        }
    }
}

/// Decodes, and if the bytes happen to be a message, writes it and reads it again.
fn survives(entry: &Entry, version: i16, bytes: Bytes) -> Result<(), TestCaseError> {
    if let Ok(message) = entry.decode(version, bytes) {
        let written = message.encode(version).unwrap().to_bytes();
        let read_again = entry.decode(version, written.clone()).unwrap();
        // Not the values: a floating-point number may be NaN.
        prop_assert_eq!(read_again.encode(version).unwrap().to_bytes(), written);
    }
    Ok(())
}

/// A change to a message.
#[derive(Debug, Clone)]
enum Damage {
    Set(usize, u8),
    Flip(usize, u8),
    Insert(usize, u8),
    Remove(usize),
}

impl Damage {
    fn any() -> impl Strategy<Value = Self> {
        let telling = select(vec![0u8, 1, 2, 0x7f, 0x80, 0xfe, 0xff]);
        prop_oneof![
            (any::<usize>(), telling.clone()).prop_map(|(at, byte)| Self::Set(at, byte)),
            (any::<usize>(), 0u8..8).prop_map(|(at, bit)| Self::Flip(at, bit)),
            (any::<usize>(), telling).prop_map(|(at, byte)| Self::Insert(at, byte)),
            any::<usize>().prop_map(Self::Remove),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len().max(1);
        match *self {
            Self::Set(at, byte) => bytes.iter_mut().skip(at % length).take(1).for_each(|place| *place = byte),
            Self::Flip(at, bit) => {
                bytes.iter_mut().skip(at % length).take(1).for_each(|place| *place ^= 1 << bit)
            }
            Self::Insert(at, byte) => bytes.insert(at % (bytes.len() + 1), byte),
            Self::Remove(at) if !bytes.is_empty() => drop(bytes.remove(at % length)),
            Self::Remove(_) => {}
        }
    }
}

/// All vectors, without those that only differ by their length.
static VECTORS: LazyLock<Vec<(&Entry, Vector)>> = LazyLock::new(|| {
    let of_entry = |entry| vectors(entry).into_iter().map(move |vector| (entry, vector));
    MESSAGES.iter().flat_map(of_entry).filter(|(_, vector)| vector.variant != "long").collect()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 60_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_an_error_or_a_message(
        index in 0..MESSAGES.len(),
        version in 0i16..14,
        bytes in vec(any::<u8>(), 0..200),
    ) {
        survives(&MESSAGES[index], version, bytes.into())?;
    }

    #[test]
    fn d02_damaged_messages_are_an_error_or_another_message(
        index in 0..VECTORS.len(),
        damages in vec(Damage::any(), 1..6),
    ) {
        let (entry, vector) = &VECTORS[index];
        let mut bytes = vector.bytes.to_vec();
        damages.iter().for_each(|damage| damage.apply(&mut bytes));
        survives(entry, vector.version, bytes.into())?;
    }
}
