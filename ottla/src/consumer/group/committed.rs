//! Offsets as the group keeps them.

use ottla_core::fetch::OffsetSpec;

/// What a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// The offset of the next record that is to be processed.
    pub offset: i64,
    /// The leader epoch of the record before it, if that is known (KIP-320).
    pub leader_epoch: Option<i32>,
    /// What the application has put beside it.
    pub metadata: String,
}

/// An offset with nothing beside it.
impl From<i64> for OffsetAndMetadata {
    fn from(offset: i64) -> Self {
        Self { offset, leader_epoch: None, metadata: String::new() }
    }
}

/// Where reading goes on, checked against the log as [`OffsetSpec::behind`] says if the leader epoch is known.
impl From<&OffsetAndMetadata> for OffsetSpec {
    fn from(committed: &OffsetAndMetadata) -> Self {
        match committed.leader_epoch {
            Some(leader_epoch) => Self::AtEpoch { offset: committed.offset, leader_epoch },
            None => Self::At(committed.offset),
        }
    }
}

impl From<ottla_core::group::CommittedOffset> for OffsetAndMetadata {
    fn from(found: ottla_core::group::CommittedOffset) -> Self {
        Self {
            offset: found.offset,
            leader_epoch: (found.leader_epoch >= 0).then_some(found.leader_epoch),
            metadata: found.metadata.as_str().to_owned(),
        }
    }
}
