//! What an endless log is made of.

use bytes::{BufMut, BytesMut};
use ottla_protocol::{
    batch::{BatchBuilder, set_base_offset_and_epoch},
    compression::{Compression, CompressionError, Compressor},
};

/// What the batches of a log look like. 595 records of 100 bytes, not compressed, if not set otherwise: 64 KB.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Bytes of a record's value; it has neither key nor headers.
    pub record_size: usize,
    /// How many records a batch has; at least one.
    pub records_per_batch: u32,
    /// The codec of the batches.
    pub compression: Compression,
}

impl Default for Shape {
    fn default() -> Self {
        Self { record_size: 100, records_per_batch: 595, compression: Compression::None }
    }
}

impl Shape {
    /// As many batches that differ as it takes to keep a branch predictor honest.
    const BATCHES: usize = 8;

    pub(super) fn prepare(&self) -> Result<Prepared, CompressionError> {
        let values = sample_values(self.record_size);
        let mut compressor = Compressor::new(self.compression, None)?;
        let batch = |values: &[Vec<u8>]| {
            let mut builder = BatchBuilder::new(1 << 20);
            for value in values.iter().cycle().take(self.records_per_batch.max(1) as usize) {
                // Without headers, nothing is too large for a record but what memory does not hold either.
                let appended = builder.append(1_767_225_600_000, None, Some(value), std::iter::empty());
                debug_assert!(appended.is_ok(), "{appended:?}");
            }
            let mut sealed = builder.seal_with(&mut compressor)?;
            sealed.stamp_without_producer();
            Ok(sealed.into_bytes().to_vec())
        };
        let batches = values.chunks(values.len() / Self::BATCHES).map(batch);
        Ok(Prepared {
            batches: batches.collect::<Result<_, _>>()?,
            records: self.records_per_batch.max(1).into(),
        })
    }
}

/// The batches of an endless log, which follow each other in turn.
#[derive(Debug)]
pub(super) struct Prepared {
    batches: Vec<Vec<u8>>,
    /// How many records each has.
    records: i64,
}

impl Prepared {
    /// Copies out the log from `offset` on: whole batches of at most `max_bytes`, but one at least. Any offset is the
    /// first of a batch.
    pub(super) fn read(&self, offset: i64, max_bytes: usize, into: &mut BytesMut) {
        let begin = into.len();
        // What a client may not ask for is the beginning.
        let mut offset = offset.max(0);
        for batch in self.batches.iter().cycle().skip((offset as u64 % self.batches.len() as u64) as usize) {
            let at = into.len();
            if at > begin && at - begin + batch.len() > max_bytes {
                break;
            }
            into.put_slice(batch);
            if let Some(copy) = into.get_mut(at..) {
                set_base_offset_and_epoch(copy, offset, 0);
            }
            offset = offset.wrapping_add(self.records);
        }
    }
}

/// 16,384 different values of exactly `size` bytes that look like JSON and compress like it; the same every time.
#[must_use]
pub fn sample_values(size: usize) -> Vec<Vec<u8>> {
    let mut random = splitmix64(42);
    let value = |n: usize| {
        let event = ["view", "click", "cart", "order", "refund", "login", "logout", "search"][n % 8];
        let mut value = format!(
            "{{\"ts\":{},\"user\":{},\"event\":\"{event}\",\"qty\":{},\"sid\":\"",
            1_767_225_600_000_u64 + n as u64 * 7,
            random() % 1_000_000,
            random() % 10
        );
        while value.len() < size {
            value.push_str(&format!("{:016x}", random()));
        }
        value.truncate(size);
        value.into_bytes()
    };
    (0..16_384).map(value).collect()
}

fn splitmix64(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
