//! What a group has committed: OffsetFetch in the forms of its versions.

use std::collections::BTreeMap;

use ottla_protocol::{
    ErrorCode, Str,
    messages::{
        OffsetFetchRequest, OffsetFetchResponse,
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
    },
};

use super::TopicPartition;

/// What a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The offset of the next record to process.
    pub offset: i64,
    /// Epoch of the leader that wrote the record in front of it; -1 if that is not known.
    pub leader_epoch: i32,
    /// What the committer wrote beside it.
    pub metadata: Str,
}

/// What an answer to OffsetFetch says.
#[derive(Debug, PartialEq, Eq)]
pub enum FetchedOffsets {
    /// All of it: what is committed, for each partition; `None` where nothing is, and an error where that may not be known.
    All(BTreeMap<TopicPartition, Result<Option<CommittedOffset>, ErrorCode>>),
    /// Ask again later. `moved`: another node is the coordinator.
    Again {
        /// What the broker said.
        code: ErrorCode,
        /// Another node is the coordinator.
        moved: bool,
    },
    /// Asking again would not help.
    Refused(ErrorCode),
}

/// The versions that name topics.
pub const OFFSET_FETCH_VERSIONS: std::ops::RangeInclusive<i16> = 1..=9;
/// Offsets of transactions that are not decided are waited for from this version on (KIP-447).
const FIRST_STABLE: i16 = 7;
/// Several groups in one request from this version on (KIP-709).
const FIRST_WITH_GROUPS: i16 = 8;

/// Asks what `group` has committed for these partitions.
#[must_use]
pub fn offset_fetch<'a>(
    group: &Str,
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
    version: i16,
) -> OffsetFetchRequest {
    let mut topics = BTreeMap::<Str, Vec<i32>>::new();
    for partition in partitions {
        topics.entry(partition.topic.clone()).or_default().push(partition.partition);
    }
    let require_stable = version >= FIRST_STABLE;
    if version < FIRST_WITH_GROUPS {
        let topics = topics.into_iter();
        let topics =
            topics.map(|(name, partition_indexes)| OffsetFetchRequestTopic { name, partition_indexes });
        let topics = Some(topics.collect());
        return OffsetFetchRequest {
            group_id: group.clone(),
            topics,
            require_stable,
            ..OffsetFetchRequest::default()
        };
    }
    let topics = topics.into_iter().map(|(name, partition_indexes)| OffsetFetchRequestTopics {
        name,
        partition_indexes,
        ..OffsetFetchRequestTopics::default()
    });
    let group = OffsetFetchRequestGroup {
        group_id: group.clone(),
        topics: Some(topics.collect()),
        ..OffsetFetchRequestGroup::default()
    };
    OffsetFetchRequest { groups: vec![group], require_stable, ..OffsetFetchRequest::default() }
}

/// What the answer to [`offset_fetch`] for these partitions says.
#[must_use]
pub fn fetched_offsets<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
    response: &OffsetFetchResponse,
) -> FetchedOffsets {
    let group = response.groups.first();
    let code = group.map_or(response.error_code, |group| group.error_code);
    if !code.is_ok() {
        return again(code).unwrap_or(FetchedOffsets::Refused(code));
    }
    let mut found = BTreeMap::new();
    let mut add =
        |topic: &Str, partition: i32, offset: i64, leader_epoch: i32, metadata: &Option<Str>, code| {
            let metadata = metadata.as_ref().map(Str::detached).unwrap_or_default();
            // A negative offset is how brokers say that there is none.
            let committed = (offset >= 0).then_some(CommittedOffset { offset, leader_epoch, metadata });
            found.insert(TopicPartition::new(topic.detached(), partition), (code, committed));
        };
    for topic in &response.topics {
        for part in &topic.partitions {
            let (at, epoch) = (part.committed_offset, part.committed_leader_epoch);
            add(&topic.name, part.partition_index, at, epoch, &part.metadata, part.error_code);
        }
    }
    for topic in group.into_iter().flat_map(|group| &group.topics) {
        for part in &topic.partitions {
            let (at, epoch) = (part.committed_offset, part.committed_leader_epoch);
            add(&topic.name, part.partition_index, at, epoch, &part.metadata, part.error_code);
        }
    }
    let mut all = BTreeMap::new();
    for partition in partitions {
        let missing = (ErrorCode::UNKNOWN_SERVER_ERROR, None);
        let (code, committed) = found.remove(partition).unwrap_or(missing);
        if let Some(again) = again(code) {
            return again;
        }
        all.insert(partition.clone(), if code.is_ok() { Ok(committed) } else { Err(code) });
    }
    FetchedOffsets::All(all)
}

/// `None`: asking again would not help.
fn again(code: ErrorCode) -> Option<FetchedOffsets> {
    match code {
        ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => {
            Some(FetchedOffsets::Again { code, moved: true })
        }
        // UNSTABLE_OFFSET_COMMIT is one of them: a transaction that commits offsets is open, and is waited for (KIP-447).
        // The broker itself does not know what an unknown error is.
        code if code.is_retriable() || code == ErrorCode::UNKNOWN_SERVER_ERROR => {
            Some(FetchedOffsets::Again { code, moved: false })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ottla_protocol::messages::offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
        OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    };

    use super::*;

    fn partitions() -> [TopicPartition; 2] {
        [TopicPartition::new("orders", 0), TopicPartition::new("orders", 1)]
    }

    fn old_answer(codes: [ErrorCode; 2]) -> OffsetFetchResponse {
        let partitions = (0..).zip(codes).map(|(partition_index, error_code)| OffsetFetchResponsePartition {
            partition_index,
            committed_offset: if partition_index == 0 { 7 } else { -1 },
            error_code,
            ..Default::default()
        });
        let topics =
            vec![OffsetFetchResponseTopic { name: "orders".into(), partitions: partitions.collect() }];
        OffsetFetchResponse { topics, ..Default::default() }
    }

    fn new_answer(code: ErrorCode) -> OffsetFetchResponse {
        let partitions = (0..2).map(|partition_index| OffsetFetchResponsePartitions {
            partition_index,
            committed_offset: i64::from(partition_index) * 10 - 1,
            committed_leader_epoch: 4,
            metadata: Some("note".into()),
            ..Default::default()
        });
        let topics = vec![OffsetFetchResponseTopics {
            name: "orders".into(),
            partitions: partitions.collect(),
            ..Default::default()
        }];
        let groups = vec![OffsetFetchResponseGroup { group_id: "billing".into(), topics, error_code: code }];
        OffsetFetchResponse { groups, ..Default::default() }
    }

    #[test]
    fn every_version_can_say_what_is_asked() {
        for version in OFFSET_FETCH_VERSIONS {
            let request = offset_fetch(&"billing".into(), &partitions(), version);
            let mut out = ottla_protocol::Encoder::new();
            ottla_protocol::Message::encode(&request, version, &mut out).unwrap();
            assert_eq!(request.require_stable, version >= 7);
            assert_eq!(request.groups.len(), usize::from(version >= 8));
        }
    }

    #[test]
    fn both_forms_of_the_answer_are_read() {
        let FetchedOffsets::All(old) = fetched_offsets(&partitions(), &old_answer([ErrorCode::NONE; 2]))
        else {
            panic!("there is no error in it")
        };
        let committed = CommittedOffset { offset: 7, leader_epoch: -1, metadata: Str::EMPTY };
        assert_eq!(old.into_values().collect::<Vec<_>>(), [Ok(Some(committed)), Ok(None)]);

        let FetchedOffsets::All(new) = fetched_offsets(&partitions(), &new_answer(ErrorCode::NONE)) else {
            panic!("there is no error in it")
        };
        let committed = CommittedOffset { offset: 9, leader_epoch: 4, metadata: "note".into() };
        assert_eq!(new.into_values().collect::<Vec<_>>(), [Ok(None), Ok(Some(committed))]);
    }

    #[test]
    fn what_passes_is_asked_again_and_what_does_not_is_told() {
        let unstable = old_answer([ErrorCode::NONE, ErrorCode::UNSTABLE_OFFSET_COMMIT]);
        let again = FetchedOffsets::Again { code: ErrorCode::UNSTABLE_OFFSET_COMMIT, moved: false };
        assert_eq!(fetched_offsets(&partitions(), &unstable), again);
        let moved = FetchedOffsets::Again { code: ErrorCode::NOT_COORDINATOR, moved: true };
        assert_eq!(fetched_offsets(&partitions(), &new_answer(ErrorCode::NOT_COORDINATOR)), moved);
        let denied = fetched_offsets(&partitions(), &new_answer(ErrorCode::GROUP_AUTHORIZATION_FAILED));
        assert_eq!(denied, FetchedOffsets::Refused(ErrorCode::GROUP_AUTHORIZATION_FAILED));
        let one = old_answer([ErrorCode::NONE, ErrorCode::TOPIC_AUTHORIZATION_FAILED]);
        let FetchedOffsets::All(all) = fetched_offsets(&partitions(), &one) else {
            panic!("it is about one partition only")
        };
        assert_eq!(all.into_values().filter(Result::is_err).count(), 1);
    }

    #[test]
    fn a_partition_that_was_left_out_is_not_taken_for_one_without_a_commit() {
        let third = [TopicPartition::new("orders", 2)];
        let answer = fetched_offsets(&third, &old_answer([ErrorCode::NONE; 2]));
        assert!(matches!(answer, FetchedOffsets::Again { .. }), "{answer:?}");
    }
}
