//! Where places in the logs are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    PerItem,
    items::Items,
    leaders::{Led, ask_leaders},
    request::awaited,
};
use crate::{
    IsolationLevel, OffsetAndTimestamp, OffsetSpec, Result, Timestamp, TimestampKind, TopicPartition,
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
        let asked = self.places.iter().map(|(partition, _)| partition.clone()).collect();
        let mut items = Items::new("list offsets", asked);
        let places: BTreeMap<_, _> = self.places.iter().cloned().collect();
        for (partition, spec) in &places {
            if let OffsetSpec::At(offset) | OffsetSpec::AtEpoch { offset, .. } = *spec {
                let timestamp = Timestamp::new(-1, TimestampKind::CreateTime);
                items.settle(partition, Ok(Some(OffsetAndTimestamp { offset, timestamp })));
            }
        }
        let shared = &*self.shared;
        let ask = |led: Vec<Led>, left| {
            let mut questions = Questions::new(self.isolation);
            for Led { partition, leader, leader_epoch } in &led {
                let spec = places.get(partition).copied().unwrap_or(OffsetSpec::Latest);
                questions.add(*leader, *leader_epoch, partition, spec);
            }
            async move { questions.ask(shared, left).await }
        };
        ask_leaders(shared, "list offsets", self.timeout, items, ask).await
    }
}

awaited! {
    ListOffsets => PerItem<TopicPartition, Option<OffsetAndTimestamp>>,
}
