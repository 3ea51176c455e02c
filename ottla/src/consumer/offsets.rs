//! Questions about offsets that have nothing to do with what is assigned.

use std::{collections::BTreeMap, time::SystemTime};

use ottla_core::{
    backoff::Backoff,
    fetch::{OffsetSpec, Query},
};
use ottla_protocol::{
    ErrorCode, Str,
    messages::{
        ListOffsetsRequest, ListOffsetsResponse,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        list_offsets_response::ListOffsetsPartitionResponse,
    },
};
use tokio::time::{sleep, timeout};

use super::inner::Inner;
use crate::{
    Error, Result, TopicPartition,
    net::{Lane, Reply},
    record_view::{Timestamp, TimestampKind},
};

/// An offset, and the timestamp of the record that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffsetAndTimestamp {
    /// The offset.
    pub offset: i64,
    /// The timestamp.
    pub timestamp: Timestamp,
}

/// Where each of these places is; `None` when there is no record of that time or later.
pub(super) async fn list(
    inner: &Inner,
    places: Vec<(TopicPartition, OffsetSpec)>,
) -> Result<Vec<Option<OffsetAndTimestamp>>> {
    let bound = inner.shared.config.default_api_timeout;
    let mut question = Question { found: vec![None; places.len()], places, last_error: None };
    match timeout(bound, question.ask_until_answered(inner)).await {
        Ok(result) => result?,
        Err(_) => return Err(question.timed_out(inner)),
    }
    Ok(question.found.into_iter().flatten().collect())
}

/// The offset of each of these places, at the end of the log where there is no record of that time or later.
pub(super) async fn list_present(
    inner: &Inner,
    partitions: impl IntoIterator<Item = impl Into<TopicPartition>>,
    spec: OffsetSpec,
) -> Result<Vec<(TopicPartition, i64)>> {
    let places: Vec<_> = partitions.into_iter().map(|partition| (partition.into(), spec)).collect();
    let found = list(inner, places.clone()).await?;
    let offsets = places.into_iter().zip(found);
    // Both ends of a log are always somewhere.
    Ok(offsets.filter_map(|((partition, _), found)| Some((partition, found?.offset))).collect())
}

/// The place in each partition of the first record that is at least as new as that time.
pub(super) async fn list_for_times(
    inner: &Inner,
    times: impl IntoIterator<Item = (impl Into<TopicPartition>, SystemTime)>,
) -> Result<Vec<(TopicPartition, Option<OffsetAndTimestamp>)>> {
    let places: Vec<_> =
        times.into_iter().map(|(partition, time)| (partition.into(), OffsetSpec::Timestamp(time))).collect();
    let found = list(inner, places.clone()).await?;
    Ok(places.into_iter().map(|(partition, _)| partition).zip(found).collect())
}

struct Question {
    places: Vec<(TopicPartition, OffsetSpec)>,
    /// The answers so far, by the place of their question.
    found: Vec<Option<Option<OffsetAndTimestamp>>>,
    last_error: Option<Error>,
}

impl Question {
    async fn ask_until_answered(&mut self, inner: &Inner) -> Result<()> {
        let mut backoff = Backoff::new(inner.config.fetch.backoff);
        loop {
            self.ask(inner).await?;
            if self.found.iter().all(Option::is_some) {
                return Ok(());
            }
            inner.shared.metadata.refresh();
            sleep(backoff.on_failure(inner.shared.env.random())).await;
        }
    }

    /// Asks every leader once for what is open, all at the same time.
    async fn ask(&mut self, inner: &Inner) -> Result<()> {
        let mut by_leader = BTreeMap::<i32, ListOffsetsRequest>::new();
        for ((partition, spec), found) in self.places.iter().zip(&self.found) {
            if found.is_some() {
                continue;
            }
            let topic = inner.shared.metadata.topic(partition.topic()).await?;
            let Some(known) = topic.partition(partition.partition()) else {
                let error = Error::broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "list offsets");
                return Err(error.with_topic_partition(partition.clone()));
            };
            if let Some(leader) = known.leader {
                let request = by_leader.entry(leader).or_insert_with(|| new_request(inner));
                add(request, partition, *spec, known.leader_epoch);
            }
        }
        let mut replies = Vec::new();
        for (node, request) in &by_leader {
            match send(inner, *node, request).await {
                Ok(reply) => replies.push(reply),
                Err(error) => self.last_error = Some(error),
            }
        }
        for reply in replies {
            match reply.await {
                Ok(response) => self.on_answer(&response)?,
                Err(failed) => self.last_error = Some(failed.error),
            }
        }
        Ok(())
    }

    fn on_answer(&mut self, response: &ListOffsetsResponse) -> Result<()> {
        for topic in &response.topics {
            for part in &topic.partitions {
                let asked = self.places.iter().position(|(partition, _)| {
                    partition.topic() == &*topic.name && partition.partition() == part.partition_index
                });
                let Some((slot, (partition, _))) =
                    asked.and_then(|at| Some((self.found.get_mut(at)?, self.places.get(at)?)))
                else {
                    continue;
                };
                if part.error_code.is_ok() {
                    *slot = Some(found(part));
                    continue;
                }
                let error =
                    Error::broker(part.error_code, "list offsets").with_topic_partition(partition.clone());
                if !part.error_code.is_retriable() {
                    return Err(error);
                }
                self.last_error = Some(error);
            }
        }
        Ok(())
    }

    fn timed_out(&mut self, inner: &Inner) -> Error {
        let what = "the offsets were not found in time";
        let cause = self.last_error.take().or_else(|| inner.shared.metadata.last_error());
        let error = Error::timeout(what);
        match cause {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }
}

fn new_request(inner: &Inner) -> ListOffsetsRequest {
    ListOffsetsRequest {
        replica_id: -1,
        isolation_level: inner.config.fetch.isolation.to_wire(),
        ..ListOffsetsRequest::default()
    }
}

fn add(request: &mut ListOffsetsRequest, partition: &TopicPartition, spec: OffsetSpec, leader_epoch: i32) {
    let Query::Timestamp(timestamp) = spec.to_query() else { return };
    let part = ListOffsetsPartition {
        partition_index: partition.partition(),
        current_leader_epoch: leader_epoch,
        timestamp,
    };
    match request.topics.iter_mut().find(|topic| &*topic.name == partition.topic()) {
        Some(topic) => topic.partitions.push(part),
        None => {
            let name = Str::from(partition.topic());
            request.topics.push(ListOffsetsTopic { name, partitions: vec![part] });
        }
    }
}

async fn send(inner: &Inner, node: i32, request: &ListOffsetsRequest) -> Result<Reply<ListOffsetsRequest>> {
    let connection = inner.shared.brokers.connection(node, Lane::Control).await?;
    let version = connection.version::<ListOffsetsRequest>(1..=i16::MAX)?;
    connection.send(request, version, inner.shared.config.request_timeout)
}

fn found(part: &ListOffsetsPartitionResponse) -> Option<OffsetAndTimestamp> {
    let timestamp = Timestamp::new(part.timestamp, TimestampKind::CreateTime);
    (part.offset >= 0).then_some(OffsetAndTimestamp { offset: part.offset, timestamp })
}
