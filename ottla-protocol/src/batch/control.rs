#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::Bytes;

use super::builder::BatchBuilder;
use super::header::NO_SEQUENCE;
use super::patch::set_base_offset_and_epoch;
use super::record::RecordView;

/// What a control record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ControlType {
    /// The transaction of this producer id was aborted.
    Abort,
    /// The transaction of this producer id was committed.
    Commit,
    /// Another kind, such as those of KRaft's own log; consumers skip it.
    Other(i16),
}

impl ControlType {
    fn from_id(id: i16) -> Self {
        match id {
            0 => Self::Abort,
            1 => Self::Commit,
            other => Self::Other(other),
        }
    }

    fn id(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::Other(id) => id,
        }
    }
}

/// The record of a control batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlRecord {
    /// Offset of the record; it takes one like any other.
    pub offset: i64,
    /// What it says.
    pub control_type: ControlType,
    /// Epoch of the transaction coordinator that wrote a commit or abort marker; -1 when it is not told.
    pub coordinator_epoch: i32,
}

impl ControlRecord {
    /// Reads key (version, type) and value (version, coordinator epoch). Both may grow in later versions, and a key
    /// that cannot be read is of an unknown kind, which consumers skip as well.
    pub(super) fn parse(record: &RecordView<'_>) -> Self {
        let id =
            record.key.and_then(|key| key.get(2..)?.first_chunk().copied()).map_or(-1, i16::from_be_bytes);
        let epoch = record.value.and_then(|value| value.get(2..)?.first_chunk().copied());
        Self {
            offset: record.offset,
            control_type: ControlType::from_id(id),
            coordinator_epoch: epoch.map_or(-1, i32::from_be_bytes),
        }
    }
}

/// A transaction marker as a coordinator's `WriteTxnMarkers` puts it into a partition: a control batch of one record.
///
/// `timestamp` is in milliseconds since 1970; `leader_epoch` is the partition's.
#[must_use]
pub fn control_batch(
    base_offset: i64,
    leader_epoch: i32,
    timestamp: i64,
    producer: (i64, i16),
    control_type: ControlType,
    coordinator_epoch: i32,
) -> Bytes {
    let mut key = [0; 4];
    let (_version, id) = key.split_at_mut(2);
    id.copy_from_slice(&control_type.id().to_be_bytes());
    let mut value = [0; 6];
    let (_version, epoch) = value.split_at_mut(2);
    epoch.copy_from_slice(&coordinator_epoch.to_be_bytes());

    let mut builder = BatchBuilder::new(128).transactional(true).control(true);
    builder
        .append(timestamp, Some(&key), Some(&value), std::iter::empty())
        .expect("an empty batch has room for 17 bytes");
    let mut batch = builder.seal();
    batch.stamp(producer.0, producer.1, NO_SEQUENCE);
    let mut bytes = Vec::from(batch.into_bytes());
    set_base_offset_and_epoch(&mut bytes, base_offset, leader_epoch);
    Bytes::from(bytes)
}
