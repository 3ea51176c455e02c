//! Batches as a broker would serve them, for the tests of this room.

use bytes::Bytes;
use ottla_protocol::batch::{BatchBuilder, set_base_offset_and_epoch};

use super::{
    AbortedTransactions, Lease, Position, Range,
    budget::{Account, Budget},
    buffer::scan,
};

/// A batch of `count` records from `base` on.
pub(super) fn data(base: i64, count: i32, epoch: i32) -> Bytes {
    stored(base, epoch, -1, filled(count))
}

/// The same, in a transaction of `producer`.
pub(super) fn transactional(base: i64, count: i32, producer: i64) -> Bytes {
    stored(base, 0, producer, filled(count).transactional(true))
}

/// What compaction may leave of `span` records: a header.
pub(super) fn empty(base: i64, span: u32, epoch: i32) -> Bytes {
    let mut builder = BatchBuilder::new(0);
    builder.skip_offsets(span);
    stored(base, epoch, -1, builder)
}

pub(super) fn concat(batches: impl IntoIterator<Item = Bytes>) -> Bytes {
    batches.into_iter().flatten().collect()
}

/// A range of these bytes, asked for at `from`.
pub(super) fn range_of(bytes: Bytes, from: i64) -> Range {
    let charge = Budget::new(usize::MAX, || {}).charge(bytes.len());
    let end = scan(&bytes, Position::at(from), -1).end;
    let lease = Lease::new(bytes.len(), &Account::default(), &charge);
    Range { bytes, from: Position::at(from), end, aborted: AbortedTransactions::default(), lease }
}

fn filled(count: i32) -> BatchBuilder {
    let mut builder = BatchBuilder::new(256);
    for n in 0..count {
        builder.append(1_000 + i64::from(n), None, Some(&n.to_be_bytes()), std::iter::empty()).unwrap();
    }
    builder
}

fn stored(base: i64, epoch: i32, producer: i64, builder: BatchBuilder) -> Bytes {
    let mut sealed = builder.seal();
    sealed.stamp(producer, 0, if producer < 0 { -1 } else { 0 });
    let mut bytes = Vec::from(sealed.into_bytes());
    set_base_offset_and_epoch(&mut bytes, base, epoch);
    bytes.into()
}
