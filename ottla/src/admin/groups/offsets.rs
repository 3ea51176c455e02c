//! What groups have committed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ottla_protocol::{
    ErrorCode, Str,
    messages::{
        OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
    },
};

use super::fetch_offsets::{Wanted, fetch_offsets};
use crate::{
    OffsetAndMetadata, Result, TopicPartition,
    admin::{
        PerItem,
        coordinators::{ask_coordinator, ask_coordinators, is_for_another_time},
        items::{Answers, Items},
        request::{awaited, check},
    },
    client::Shared,
    net::Connection,
};

/// From here on topics are named by id, which a group's dead topics do not have.
pub(super) const NEWEST_BY_NAME: i16 = 9;

/// What a group has committed, partition by partition.
pub type GroupOffsets = PerItem<TopicPartition, Option<OffsetAndMetadata>>;

/// A request of [`Admin::list_group_offsets`](crate::Admin::list_group_offsets).
///
/// Awaiting it gives the commits of each group: of all its partitions that have one, or of those that were
/// [chosen](ListGroupOffsets::partitions), with `None` where nothing is committed.
///
/// # Errors
/// When no coordinator can be reached in time. A group that does not exist has committed nothing, which is no error
/// (some newer brokers say `GROUP_ID_NOT_FOUND`).
///
/// # Cancel safety
/// Nothing changes when the future is dropped.
#[derive(Clone)]
#[must_use = "a request is sent when it is awaited"]
pub struct ListGroupOffsets {
    shared: Arc<Shared>,
    groups: Vec<String>,
    wanted: Wanted,
    timeout: Option<Duration>,
}

impl ListGroupOffsets {
    pub(in crate::admin) fn new(shared: &Arc<Shared>, groups: Vec<String>) -> Self {
        Self { shared: shared.clone(), groups, wanted: Wanted::default(), timeout: None }
    }

    /// Only these partitions, of every group.
    pub fn partitions(mut self, partitions: impl IntoIterator<Item = impl Into<TopicPartition>>) -> Self {
        self.wanted.partitions = Some(partitions.into_iter().map(Into::into).collect());
        self
    }

    /// Waits for open transactions that commit offsets (KIP-447). Needs Kafka 2.5.
    pub fn require_stable(mut self) -> Self {
        self.wanted.require_stable = true;
        self
    }

    /// The bound of it all, in place of `default.api.timeout.ms`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(self) -> Result<PerItem<String, GroupOffsets>> {
        let wanted = &self.wanted;
        let ask = |connection, groups, left| fetch_offsets(connection, groups, wanted, left);
        ask_coordinators(&self.shared, "list the offsets of groups", self.timeout, self.groups, ask).await
    }
}

/// A request of [`Admin::alter_group_offsets`](crate::Admin::alter_group_offsets).
///
/// # Errors
/// When the coordinator cannot be reached in time; the offsets may have been changed all the same. Of one partition:
/// `UNKNOWN_MEMBER_ID` while the group has members, which would go on from where they are;
/// `UNKNOWN_TOPIC_OR_PARTITION`; `OFFSET_METADATA_TOO_LARGE`.
///
/// # Cancel safety
/// The offsets may have been changed when the future is dropped.
#[derive(Clone)]
#[must_use = "a request is sent when it is awaited"]
pub struct AlterGroupOffsets {
    shared: Arc<Shared>,
    group: String,
    offsets: Vec<(TopicPartition, OffsetAndMetadata)>,
    timeout: Option<Duration>,
}

impl AlterGroupOffsets {
    pub(in crate::admin) fn new(
        shared: &Arc<Shared>,
        group: String,
        offsets: Vec<(TopicPartition, OffsetAndMetadata)>,
    ) -> Self {
        Self { shared: shared.clone(), group, offsets, timeout: None }
    }

    /// The bound of it all, in place of `default.api.timeout.ms`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(self) -> Result<PerItem<TopicPartition, ()>> {
        let mut items = asked("alter offsets", self.offsets.iter().map(|(partition, _)| partition));
        if items.open().is_empty() {
            return Ok(items.into_results());
        }
        let request = &OffsetCommitRequest {
            group_id: Str::from(self.group.as_str()),
            // Nobody's commit: it is taken only from a group without members.
            generation_id_or_member_epoch: -1,
            topics: self.to_wire(),
            ..OffsetCommitRequest::default()
        };
        let ask = |connection: Connection, group: String, left| async move {
            let version = connection.version::<OffsetCommitRequest>(0..=NEWEST_BY_NAME)?;
            let response: OffsetCommitResponse = connection.call(request, version, left).await?;
            let told = response.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|part| (&topic.name, part.partition_index, part.error_code))
            });
            per_partition(told, |partition| format!("alter the offset of {partition} in group {group}"))
        };
        let answers = ask_coordinator(&self.shared, "alter offsets", self.timeout, self.group, ask).await?;
        items.take_all(answers);
        Ok(items.into_results())
    }

    /// Of a partition that is named twice the last word counts, and the results say that it was.
    fn to_wire(&self) -> Vec<OffsetCommitRequestTopic> {
        let last: BTreeMap<_, _> =
            self.offsets.iter().map(|(partition, offset)| (partition, offset)).collect();
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        for (partition, offset) in last {
            let part = OffsetCommitRequestPartition {
                partition_index: partition.partition(),
                committed_offset: offset.offset,
                committed_leader_epoch: offset.leader_epoch.unwrap_or(-1),
                committed_metadata: Some(Str::from(offset.metadata.as_str())),
            };
            match topics.last_mut().filter(|topic| &*topic.name == partition.topic()) {
                Some(topic) => topic.partitions.push(part),
                None => topics.push(OffsetCommitRequestTopic {
                    name: Str::from(partition.topic()),
                    partitions: vec![part],
                    ..OffsetCommitRequestTopic::default()
                }),
            }
        }
        topics
    }
}

/// A request of [`Admin::delete_group_offsets`](crate::Admin::delete_group_offsets). Needs Kafka 2.4 (KIP-496).
///
/// # Errors
/// When the coordinator cannot be reached in time (the offsets may be gone all the same), and `GROUP_ID_NOT_FOUND`. Of
/// one partition: `GROUP_SUBSCRIBED_TO_TOPIC` while members of the group read its topic; `UNKNOWN_TOPIC_OR_PARTITION`.
///
/// # Cancel safety
/// The offsets may be gone when the future is dropped.
#[derive(Clone)]
#[must_use = "a request is sent when it is awaited"]
pub struct DeleteGroupOffsets {
    shared: Arc<Shared>,
    group: String,
    partitions: Vec<TopicPartition>,
    timeout: Option<Duration>,
}

impl DeleteGroupOffsets {
    pub(in crate::admin) fn new(
        shared: &Arc<Shared>,
        group: String,
        partitions: Vec<TopicPartition>,
    ) -> Self {
        Self { shared: shared.clone(), group, partitions, timeout: None }
    }

    /// The bound of it all, in place of `default.api.timeout.ms`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(self) -> Result<PerItem<TopicPartition, ()>> {
        let mut items = asked("delete offsets", &self.partitions);
        if items.open().is_empty() {
            return Ok(items.into_results());
        }
        let request = &OffsetDeleteRequest {
            group_id: Str::from(self.group.as_str()),
            topics: by_topic(items.open(), |name, partitions| OffsetDeleteRequestTopic {
                name,
                partitions: partitions
                    .into_iter()
                    .map(|partition_index| OffsetDeleteRequestPartition { partition_index })
                    .collect(),
            }),
        };
        let ask = |connection: Connection, group: String, left| async move {
            let version = connection.version::<OffsetDeleteRequest>(0..=i16::MAX)?;
            let response: OffsetDeleteResponse = connection.call(request, version, left).await?;
            check(response.error_code, None, || format!("delete offsets of group {group}"))?;
            let told = response.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|part| (&topic.name, part.partition_index, part.error_code))
            });
            per_partition(told, |partition| format!("delete the offset of {partition} in group {group}"))
        };
        let answers = ask_coordinator(&self.shared, "delete offsets", self.timeout, self.group, ask).await?;
        items.take_all(answers);
        Ok(items.into_results())
    }
}

fn asked<'a>(
    what: &'static str,
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
) -> Items<TopicPartition, ()> {
    Items::new(what, partitions.into_iter().cloned().collect())
}

/// The partitions, which are in order, with each topic named once.
pub(super) fn by_topic<T>(partitions: &[TopicPartition], topic: impl Fn(Str, Vec<i32>) -> T) -> Vec<T> {
    let of_one_topic = partitions.chunk_by(|a, b| a.topic() == b.topic());
    let numbers = |chunk: &[TopicPartition]| chunk.iter().map(TopicPartition::partition).collect();
    of_one_topic.filter_map(|chunk| Some(topic(Str::from(chunk.first()?.topic()), numbers(chunk)))).collect()
}

/// What became of each partition; an error of its own when the broker was the wrong one for all of them.
fn per_partition<'a>(
    told: impl Iterator<Item = (&'a Str, i32, ErrorCode)>,
    what: impl Fn(&TopicPartition) -> String,
) -> Result<Answers<TopicPartition, ()>> {
    let mut answers = Answers::new();
    for (topic, number, code) in told {
        let partition = TopicPartition::new(&**topic, number);
        let outcome = check(code, None, || what(&partition));
        if let Err(error) = &outcome
            && is_for_another_time(error)
        {
            return Err(error.clone());
        }
        answers.insert(partition, outcome);
    }
    Ok(answers)
}

awaited! {
    ListGroupOffsets => PerItem<String, GroupOffsets>,
    AlterGroupOffsets => PerItem<TopicPartition, ()>,
    DeleteGroupOffsets => PerItem<TopicPartition, ()>,
}
