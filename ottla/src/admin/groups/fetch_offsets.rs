//! OffsetFetch, of one group or of several.

use std::time::Duration;

use ottla_protocol::{
    ErrorCode, Str,
    messages::{
        OffsetFetchRequest, OffsetFetchResponse,
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
    },
};

use super::offsets::{GroupOffsets, NEWEST_BY_NAME, by_topic};
use crate::{
    OffsetAndMetadata, Result, TopicPartition,
    admin::{
        items::{Answers, Items},
        request::check,
    },
    net::Connection,
};

/// From here on one request asks for several groups (KIP-709).
const SEVERAL_GROUPS: i16 = 8;
/// From here on brokers can be asked to wait for transactions (KIP-447).
const REQUIRE_STABLE: i16 = 7;
/// From here on all partitions of a group can be asked for.
const ALL_PARTITIONS: i16 = 2;

/// Of which partitions the commits are wanted, and in which state.
#[derive(Clone, Default)]
pub(super) struct Wanted {
    /// All that have one, if none are named.
    pub(super) partitions: Option<Vec<TopicPartition>>,
    pub(super) require_stable: bool,
}

/// What one broker says.
struct Told<'a> {
    topic: &'a Str,
    partition: i32,
    offset: i64,
    leader_epoch: i32,
    metadata: Option<&'a Str>,
    code: ErrorCode,
}

pub(super) async fn fetch_offsets(
    connection: Connection,
    groups: Vec<String>,
    wanted: &Wanted,
    left: Duration,
) -> Result<Answers<String, GroupOffsets>> {
    let oldest = if wanted.require_stable { REQUIRE_STABLE } else { ALL_PARTITIONS };
    let version = connection.version::<OffsetFetchRequest>(oldest..=NEWEST_BY_NAME)?;
    if version >= SEVERAL_GROUPS {
        return fetch_several(&connection, version, groups, wanted, left).await;
    }
    let mut answers = Answers::new();
    for group in groups {
        let answer = fetch_one(&connection, version, &group, wanted, left).await?;
        answers.insert(group, answer);
    }
    Ok(answers)
}

async fn fetch_several(
    connection: &Connection,
    version: i16,
    groups: Vec<String>,
    wanted: &Wanted,
    left: Duration,
) -> Result<Answers<String, GroupOffsets>> {
    let question = |group: &String| OffsetFetchRequestGroup {
        group_id: Str::from(group.as_str()),
        topics: wanted.topics(|name, partition_indexes| OffsetFetchRequestTopics {
            name,
            partition_indexes,
            ..OffsetFetchRequestTopics::default()
        }),
        ..OffsetFetchRequestGroup::default()
    };
    let request = OffsetFetchRequest {
        groups: groups.iter().map(question).collect(),
        require_stable: wanted.require_stable,
        ..OffsetFetchRequest::default()
    };
    let response: OffsetFetchResponse = connection.call(&request, version, left).await?;
    let answers = response.groups.iter().map(|told| {
        let group = told.group_id.to_string();
        let parts = told.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|part| Told {
                topic: &topic.name,
                partition: part.partition_index,
                offset: part.committed_offset,
                leader_epoch: part.committed_leader_epoch,
                metadata: part.metadata.as_ref(),
                code: part.error_code,
            })
        });
        let answer = wanted.read(&group, told.error_code, parts);
        (group, answer)
    });
    Ok(answers.collect())
}

/// The outer error is the connection's, the inner one the group's.
async fn fetch_one(
    connection: &Connection,
    version: i16,
    group: &str,
    wanted: &Wanted,
    left: Duration,
) -> Result<Result<GroupOffsets>> {
    let request = OffsetFetchRequest {
        group_id: Str::from(group),
        topics: wanted.topics(|name, partition_indexes| OffsetFetchRequestTopic { name, partition_indexes }),
        require_stable: wanted.require_stable,
        ..OffsetFetchRequest::default()
    };
    let response: OffsetFetchResponse = connection.call(&request, version, left).await?;
    let parts = response.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|part| Told {
            topic: &topic.name,
            partition: part.partition_index,
            offset: part.committed_offset,
            leader_epoch: part.committed_leader_epoch,
            metadata: part.metadata.as_ref(),
            code: part.error_code,
        })
    });
    Ok(wanted.read(group, response.error_code, parts))
}

impl Wanted {
    fn topics<T>(&self, topic: impl Fn(Str, Vec<i32>) -> T) -> Option<Vec<T>> {
        let mut partitions = self.partitions.clone()?;
        partitions.sort();
        partitions.dedup();
        Some(by_topic(&partitions, topic))
    }

    fn read<'a>(
        &self,
        group: &str,
        code: ErrorCode,
        told: impl Iterator<Item = Told<'a>>,
    ) -> Result<GroupOffsets> {
        check(code, None, || format!("list the offsets of group {group}"))?;
        let mut answers = Answers::new();
        for told in told {
            let partition = TopicPartition::new(&**told.topic, told.partition);
            let outcome =
                check(told.code, None, || format!("list the offset of {partition} in group {group}"));
            // A transaction is open: the whole group is asked for again.
            if told.code == ErrorCode::UNSTABLE_OFFSET_COMMIT {
                outcome?;
                continue;
            }
            answers.insert(partition, outcome.map(|()| told.commit()));
        }
        let asked = match &self.partitions {
            Some(partitions) => partitions.clone(),
            None => answers.keys().cloned().collect(),
        };
        let mut items = Items::new("list the offsets of groups", asked);
        items.take_all(answers);
        Ok(items.into_results())
    }
}

impl Told<'_> {
    fn commit(&self) -> Option<OffsetAndMetadata> {
        (self.offset >= 0).then(|| OffsetAndMetadata {
            offset: self.offset,
            leader_epoch: Some(self.leader_epoch).filter(|epoch| *epoch >= 0),
            metadata: self.metadata.map(ToString::to_string).unwrap_or_default(),
        })
    }
}
