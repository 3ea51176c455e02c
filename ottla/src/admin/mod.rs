//! Administration: topics, groups, offsets.
//!
//! A request is a builder that is awaited. It gives a [`PerItem`]: the outer error says that no item was answered, an
//! inner one is that item's.

mod configs;
mod controller;
mod coordinators;
mod groups;
mod items;
mod leaders;
mod list_offsets;
mod metadata;
mod partitions;
mod per_item;
mod records;
mod request;
mod retry;
mod topics;

use std::{fmt, sync::Arc};

pub use self::{
    configs::{AlterTopicConfigs, ConfigChange, ConfigEntry, ConfigSource, DescribeTopicConfigs},
    groups::{
        AlterGroupOffsets, DeleteGroupOffsets, DeleteGroups, DescribeGroups, GroupDescription, GroupListing,
        GroupOffsets, GroupState, GroupType, ListGroupOffsets, ListGroups, ListedGroups, MemberDescription,
        Node,
    },
    list_offsets::ListOffsets,
    partitions::CreatePartitions,
    per_item::PerItem,
    records::{DeleteRecords, RecordsToDelete},
    topics::{
        CreateTopics, CreatedTopic, DeleteTopics, DescribeTopics, ListTopics, NewTopic, PartitionDescription,
        TopicDescription, TopicListing,
    },
};
use crate::{Client, OffsetAndMetadata, OffsetSpec, TopicPartition, client::Shared};

/// Creates, deletes, describes and lists topics and groups; lists offsets. Cheap to clone.
///
/// ```no_run
/// use ottla::*;
/// use std::time::Duration;
///
/// async fn ensure_topics(admin: &Admin) -> Result<()> {
///     let topics = ["orders", "refunds"].map(|name| NewTopic::new(name, 12, 3).config("retention.ms", "-1"));
///     for (topic, result) in admin.create_topics(topics).timeout(Duration::from_secs(10)).await? {
///         match result {
///             Ok(created) => println!("{topic}: {} partitions", created.partitions),
///             Err(e) if e.broker_code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => {}
///             Err(e) => return Err(e),
///         }
///     }
///     admin.delete_topics(["old"]).await?.all()?; // `all`: the first failed item is the error
///     Ok(())
/// }
///
/// /// How many records the group has not completed yet.
/// async fn lag(admin: &Admin, group: &str) -> Result<i64> {
///     let (_, committed) = admin.list_group_offsets([group]).await?.all()?.remove(0);
///     let committed = committed.all()?;
///     let ends = committed.iter().map(|(partition, _)| (partition.clone(), OffsetSpec::Latest));
///     let ends = admin.list_offsets(ends).await?.all()?;
///     let lags = ends.iter().zip(&committed).filter_map(|((_, end), (_, committed))| {
///         Some(end.as_ref()?.offset - committed.as_ref()?.offset)
///     });
///     Ok(lags.sum())
/// }
/// ```
#[derive(Clone)]
pub struct Admin(Arc<Shared>);

impl Admin {
    /// An admin that uses the client's connections.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self(client.shared().clone())
    }

    /// Creates topics. Gives what was created, topic by topic.
    pub fn create_topics(&self, topics: impl IntoIterator<Item = NewTopic>) -> CreateTopics {
        CreateTopics::new(&self.0, topics.into_iter().collect())
    }

    /// Deletes topics and all their records.
    pub fn delete_topics<S: Into<String>>(&self, topics: impl IntoIterator<Item = S>) -> DeleteTopics {
        DeleteTopics::new(&self.0, topics.into_iter().map(Into::into).collect())
    }

    /// Describes topics: their ids, and of each partition the leader and the replicas.
    pub fn describe_topics<S: Into<String>>(&self, topics: impl IntoIterator<Item = S>) -> DescribeTopics {
        DescribeTopics::new(&self.0, topics.into_iter().map(Into::into).collect())
    }

    /// Lists all topics that the client may see, ordered by name.
    pub fn list_topics(&self) -> ListTopics {
        ListTopics::new(&self.0)
    }

    /// Gives topics more partitions, so many in all (KIP-195). A key's records go to another partition from then on.
    pub fn create_partitions<S: Into<String>>(
        &self,
        totals: impl IntoIterator<Item = (S, i32)>,
    ) -> CreatePartitions {
        let totals = totals.into_iter().map(|(topic, total)| (topic.into(), total));
        CreatePartitions::new(&self.0, totals.collect())
    }

    /// Describes the settings of topics that are in effect, with where they come from.
    pub fn describe_topic_configs<S: Into<String>>(
        &self,
        topics: impl IntoIterator<Item = S>,
    ) -> DescribeTopicConfigs {
        DescribeTopicConfigs::new(&self.0, topics.into_iter().map(Into::into).collect())
    }

    /// Changes settings of topics; those that are not named stay as they are (KIP-339).
    ///
    /// ```no_run
    /// # use ottla::{Admin, Result, admin::ConfigChange};
    /// # async fn keep_for_ever(admin: &Admin) -> Result<()> {
    /// let changes = [ConfigChange::set("retention.ms", "-1"), ConfigChange::delete("retention.bytes")];
    /// admin.alter_topic_configs([("orders", changes)]).await?.all()?;
    /// # Ok(()) }
    /// ```
    pub fn alter_topic_configs<S: Into<String>, C: IntoIterator<Item = ConfigChange>>(
        &self,
        changes: impl IntoIterator<Item = (S, C)>,
    ) -> AlterTopicConfigs {
        let changes = changes.into_iter().map(|(topic, all)| (topic.into(), all.into_iter().collect()));
        AlterTopicConfigs::new(&self.0, changes.collect())
    }

    /// Lists the groups of the cluster, ordered by name.
    pub fn list_groups(&self) -> ListGroups {
        ListGroups::new(&self.0)
    }

    /// Describes groups: what they do, who is in them, who has which partitions. Groups of the classic protocol, and
    /// those of KIP-848.
    pub fn describe_groups<S: Into<String>>(&self, groups: impl IntoIterator<Item = S>) -> DescribeGroups {
        DescribeGroups::new(&self.0, groups.into_iter().map(Into::into).collect())
    }

    /// Deletes groups without members, with all their committed offsets (KIP-229).
    pub fn delete_groups<S: Into<String>>(&self, groups: impl IntoIterator<Item = S>) -> DeleteGroups {
        DeleteGroups::new(&self.0, groups.into_iter().map(Into::into).collect())
    }

    /// Lists what groups have committed.
    pub fn list_group_offsets<S: Into<String>>(
        &self,
        groups: impl IntoIterator<Item = S>,
    ) -> ListGroupOffsets {
        ListGroupOffsets::new(&self.0, groups.into_iter().map(Into::into).collect())
    }

    /// Sets where a group without members will go on (KIP-396). The group comes into being with that if there is none.
    pub fn alter_group_offsets(
        &self,
        group: impl Into<String>,
        offsets: impl IntoIterator<Item = (impl Into<TopicPartition>, impl Into<OffsetAndMetadata>)>,
    ) -> AlterGroupOffsets {
        let offsets = offsets.into_iter().map(|(partition, offset)| (partition.into(), offset.into()));
        AlterGroupOffsets::new(&self.0, group.into(), offsets.collect())
    }

    /// Deletes what a group has committed for partitions of topics that no member of it reads (KIP-496): the next member
    /// that reads them starts where its reset policy says.
    pub fn delete_group_offsets(
        &self,
        group: impl Into<String>,
        partitions: impl IntoIterator<Item = impl Into<TopicPartition>>,
    ) -> DeleteGroupOffsets {
        DeleteGroupOffsets::new(&self.0, group.into(), partitions.into_iter().map(Into::into).collect())
    }

    /// Deletes the oldest records of partitions (KIP-107). Gives where each log begins from then on.
    ///
    /// ```no_run
    /// # use ottla::{Admin, Result, TopicPartition, admin::RecordsToDelete};
    /// # async fn forget(admin: &Admin) -> Result<()> {
    /// let [first, second] = [0, 1].map(|partition| TopicPartition::new("orders", partition));
    /// let records = [(first, RecordsToDelete::Before(1_000)), (second, RecordsToDelete::All)];
    /// for (partition, start) in admin.delete_records(records).await?.all()? {
    ///     println!("{partition} begins at offset {start}");
    /// }
    /// # Ok(()) }
    /// ```
    pub fn delete_records(
        &self,
        records: impl IntoIterator<Item = (impl Into<TopicPartition>, impl Into<RecordsToDelete>)>,
    ) -> DeleteRecords {
        let records = records.into_iter().map(|(partition, records)| (partition.into(), records.into()));
        DeleteRecords::new(&self.0, records.collect())
    }

    /// Lists where places in logs are: the start, the end, the first record of a time or later.
    pub fn list_offsets(
        &self,
        places: impl IntoIterator<Item = (impl Into<TopicPartition>, OffsetSpec)>,
    ) -> ListOffsets {
        let places = places.into_iter().map(|(partition, spec)| (partition.into(), spec));
        ListOffsets::new(&self.0, places.collect())
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admin")
    }
}

#[cfg(test)]
mod tests;
