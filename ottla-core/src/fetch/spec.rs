//! Where to read from: what a caller may ask for, and what to do when a position is of no use.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A place in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OffsetSpec {
    /// The oldest record that there is.
    Earliest,
    /// Behind the newest record: only what is written from now on.
    Latest,
    /// This offset; a record need not be there, but it must lie within the log.
    At(i64),
    /// This offset of the log in which the record in front of it was written under this leader epoch: see
    /// [`OffsetSpec::behind`].
    AtEpoch {
        /// The next offset.
        offset: i64,
        /// The leader epoch of the record in front of it.
        leader_epoch: i32,
    },
    /// The first record that is at least as new as this; [`OffsetSpec::Latest`] when there is none.
    Timestamp(SystemTime),
}

/// What to do when a position is of no use, because retention or a truncation took what was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Reset {
    /// Hold the partition and say so: nothing is skipped or repeated without somebody deciding it.
    #[default]
    Error,
    /// Go on with the oldest record that there is.
    Earliest,
    /// Go on behind the newest record.
    Latest,
    /// Go on with the first record that is at most this old (KIP-1106).
    ByDuration(Duration),
}

impl Reset {
    /// Where to go on, at a wall clock of `wall`; `None` if nobody but the user can tell.
    #[must_use]
    pub fn spec(self, wall: SystemTime) -> Option<OffsetSpec> {
        match self {
            Self::Error => None,
            Self::Earliest => Some(OffsetSpec::Earliest),
            Self::Latest => Some(OffsetSpec::Latest),
            // A duration longer than time itself reaches back to the beginning.
            Self::ByDuration(age) => {
                Some(wall.checked_sub(age).map_or(OffsetSpec::Earliest, OffsetSpec::Timestamp))
            }
        }
    }
}

impl OffsetSpec {
    /// Behind a record that was read: the place to go on with, for whoever keeps places beside results. With the record's
    /// leader epoch the leader is asked first whether its log is still the one that was read; if it was cut in front of the
    /// place, the policy for positions that are out of range says what becomes of that (KIP-320). A bare offset means
    /// whatever the log has there by now.
    #[must_use]
    pub fn behind(offset: i64, leader_epoch: Option<i32>) -> Self {
        let offset = offset.saturating_add(1);
        match leader_epoch {
            Some(leader_epoch) => Self::AtEpoch { offset, leader_epoch },
            None => Self::At(offset),
        }
    }

    /// The `timestamp` field of a ListOffsets request, or the offset itself if none is needed.
    #[must_use]
    pub fn to_query(self) -> Query {
        match self {
            Self::At(offset) | Self::AtEpoch { offset, .. } => Query::Known(offset),
            Self::Earliest => Query::Timestamp(EARLIEST_TIMESTAMP),
            Self::Latest => Query::Timestamp(LATEST_TIMESTAMP),
            Self::Timestamp(time) => Query::Timestamp(to_millis(time)),
        }
    }
}

/// [`OffsetSpec`] as ListOffsets asks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query {
    /// Nobody needs to be asked.
    Known(i64),
    /// Milliseconds since 1970, or one of the negative numbers with a meaning.
    Timestamp(i64),
}

/// ListOffsets: the end of the log (for a reader of committed records only, the last stable offset).
pub const LATEST_TIMESTAMP: i64 = -1;
/// ListOffsets: the start of the log.
pub const EARLIEST_TIMESTAMP: i64 = -2;

/// Milliseconds since 1970. Nothing in a log is older than that: negative timestamps have other meanings.
#[must_use]
pub fn to_millis(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_before_1970_never_becomes_one_with_a_meaning() {
        let ancient = UNIX_EPOCH - Duration::from_millis(1);
        assert_eq!(OffsetSpec::Timestamp(ancient).to_query(), Query::Timestamp(0));
    }

    #[test]
    fn a_reset_by_duration_counts_back_from_the_wall_clock() {
        let wall = UNIX_EPOCH + Duration::from_secs(100);
        let spec = Reset::ByDuration(Duration::from_secs(40)).spec(wall).unwrap();
        assert_eq!(spec.to_query(), Query::Timestamp(60_000));
        assert_eq!(Reset::ByDuration(Duration::MAX).spec(wall), Some(OffsetSpec::Earliest));
    }

    #[test]
    fn nobody_but_the_user_decides_by_default() {
        assert_eq!(Reset::default().spec(UNIX_EPOCH), None);
    }
}
