//! Where places in the logs are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ottla_protocol::{
    ErrorCode,
    messages::{MetadataResponse, metadata_response::MetadataResponsePartition},
};

use super::{
    PerItem,
    items::{Answers, Items},
    metadata::{ask_metadata, introduce},
    request::awaited,
    retry::Retry,
};
use crate::{
    Error, IsolationLevel, OffsetAndTimestamp, OffsetSpec, Result, Timestamp, TimestampKind, TopicPartition,
    client::Shared,
    list_offsets::{Place, Questions},
};

/// A request of [`Admin::list_offsets`](crate::Admin::list_offsets).
///
/// Awaiting it gives each place with the timestamp of the record there, where the broker knows it (-1: not known);
/// `None` when there is no record of that time or later.
///
/// # Errors
/// When no partition was answered in time. Of one partition: `UNKNOWN_TOPIC_OR_PARTITION`, a missing right, or why its
/// leader did not answer in time.
///
/// # Cancel safety
/// Nothing changes when the future is dropped.
#[derive(Clone)]
#[must_use = "a request is sent when it is awaited"]
pub struct ListOffsets {
    shared: Arc<Shared>,
    places: Vec<(TopicPartition, OffsetSpec)>,
    isolation: IsolationLevel,
    timeout: Option<Duration>,
}

impl ListOffsets {
    pub(super) fn new(shared: &Arc<Shared>, places: Vec<(TopicPartition, OffsetSpec)>) -> Self {
        Self { shared: shared.clone(), places, isolation: IsolationLevel::default(), timeout: None }
    }

    /// With [`ReadCommitted`](IsolationLevel::ReadCommitted), the latest offset is in front of the first open
    /// transaction. [`ReadUncommitted`](IsolationLevel::ReadUncommitted).
    pub fn isolation_level(mut self, isolation: IsolationLevel) -> Self {
        self.isolation = isolation;
        self
    }

    /// The bound of it all, in place of `default.api.timeout.ms`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(self) -> Result<PerItem<TopicPartition, Place>> {
        let mut retry = Retry::new(&self.shared, "list offsets", self.timeout);
        let asked = self.places.iter().map(|(partition, _)| partition.clone()).collect();
        let mut items = Items::new("list offsets", asked);
        let places: BTreeMap<_, _> = self.places.iter().cloned().collect();
        for (partition, spec) in &places {
            if let OffsetSpec::At(offset) | OffsetSpec::AtEpoch { offset, .. } = *spec {
                let timestamp = Timestamp::new(-1, TimestampKind::CreateTime);
                items.settle(partition, Ok(Some(OffsetAndTimestamp { offset, timestamp })));
            }
        }
        while !items.open().is_empty() {
            let again = match self.round(&mut retry, &mut items, &places).await {
                Ok(again) => again,
                Err(error) => {
                    items.fail(&error)?;
                    None
                }
            };
            let Some(error) = again else { continue };
            if let Err(error) = retry.pause(error).await {
                items.fail(&error)?;
            }
        }
        Ok(items.into_results())
    }

    /// Asks all leaders once about what is open; gives why something is still open.
    async fn round(
        &self,
        retry: &mut Retry<'_>,
        items: &mut Items<TopicPartition, Place>,
        places: &BTreeMap<TopicPartition, OffsetSpec>,
    ) -> Result<Option<Error>> {
        let open = items.open().to_vec();
        let mut topics: Vec<_> = open.iter().map(|partition| partition.topic().to_owned()).collect();
        topics.dedup();
        let cluster = ask_metadata(retry, Some(&topics)).await?;
        introduce(retry, &cluster);
        let (mut questions, mut answers) = (Questions::new(self.isolation), Answers::new());
        for partition in &open {
            let spec = places.get(partition).copied().unwrap_or(OffsetSpec::Latest);
            match leader(&cluster, partition) {
                Ok(part) => questions.add(part.leader_id, part.leader_epoch, partition, spec),
                Err(code) => {
                    let error = Error::broker(code, "list offsets").with_topic_partition(partition.clone());
                    answers.insert(partition.clone(), Err(error));
                }
            }
        }
        let asked = async { Ok(questions.ask(&self.shared, retry.left()).await) };
        answers.extend(retry.bound(asked).await?);
        Ok(items.take(&open, answers, |_, error| is_for_another_time(error)))
    }
}

pub(super) fn leader<'a>(
    cluster: &'a MetadataResponse,
    partition: &TopicPartition,
) -> Result<&'a MetadataResponsePartition, ErrorCode> {
    let topic = cluster.topics.iter().find(|topic| topic.name.as_deref() == Some(partition.topic()));
    let topic = topic.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    topic.error_code.into_result()?;
    let part = topic.partitions.iter().find(|part| part.partition_index == partition.partition());
    match part {
        None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        Some(part) if part.leader_id < 0 => Err(ErrorCode::LEADER_NOT_AVAILABLE),
        Some(part) => Ok(part),
    }
}

/// What does not exist is told at once: whoever asks an admin about a partition has seen it.
pub(super) fn is_for_another_time(error: &Error) -> bool {
    error.is_retriable() && error.broker_code() != Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
}

awaited! {
    ListOffsets => PerItem<TopicPartition, Option<OffsetAndTimestamp>>,
}
