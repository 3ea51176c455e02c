//! Where brokers differ. A difference that has no entry here is a bug: of the embedded broker, or of the suite.

use ottla_protocol::ApiKey;

/// A broker that the suite knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    Embedded,
    /// Apache Kafka 4.1 and later.
    Apache4,
    /// Apache Kafka 3.9.
    Apache3,
}

impl Release {
    /// Told by the newest version of OffsetCommit: 10 came with 4.1.
    pub(crate) fn of(newest: &[(i16, i16)]) -> Self {
        let has_topic_ids =
            newest.iter().any(|(key, version)| *key == ApiKey::OFFSET_COMMIT.0 && *version >= 10);
        if has_topic_ids { Self::Apache4 } else { Self::Apache3 }
    }
}

/// What some brokers do and others do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quirk {
    /// An error of the whole group is not told in version 1 of OffsetFetch, which has no field for it: no topic is
    /// answered. Later releases tell it for each partition.
    OffsetFetchV1HidesErrors,
    /// A static member that joins with an id that was given to a dynamic one is a state that Kafka thinks impossible: the
    /// error is internal. Elsewhere nobody of that instance id has this member id.
    StaticMemberWithPendingIdIsAnAccident,
}

/// Each quirk with the brokers that have it.
const QUIRKS: &[(Quirk, &[Release])] = &[
    (Quirk::OffsetFetchV1HidesErrors, &[Release::Apache3]),
    (Quirk::StaticMemberWithPendingIdIsAnAccident, &[Release::Apache3, Release::Apache4]),
];

impl Quirk {
    pub(crate) fn is_of(self, release: Release) -> bool {
        QUIRKS.iter().any(|(quirk, releases)| *quirk == self && releases.contains(&release))
    }
}
