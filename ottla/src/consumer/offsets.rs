//! Questions about offsets that have nothing to do with what is assigned.

use std::{collections::BTreeMap, time::SystemTime};

use ottla_core::{backoff::Backoff, fetch::OffsetSpec};
use ottla_protocol::ErrorCode;
use tokio::time::{sleep, timeout};

use super::inner::Inner;
use crate::{
    Error, Result, TopicPartition,
    list_offsets::{Place, Questions},
    record_view::Timestamp,
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

/// From where to where a log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogOffsets {
    /// The oldest offset; -1 if the broker does not say it.
    pub start: i64,
    /// Behind the newest record of which it is decided whether it is committed; -1 if the broker does not say it.
    pub last_stable: i64,
    /// Behind the newest record that every replica in sync has.
    pub high_watermark: i64,
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
    found: Vec<Option<Place>>,
    last_error: Option<Error>,
}

impl Question {
    async fn ask_until_answered(&mut self, inner: &Inner) -> Result<()> {
        let mut backoff = Backoff::new(inner.config.fetch.backoff);
        loop {
            let has_more_to_ask = self.ask(inner).await?;
            if self.found.iter().all(Option::is_some) {
                return Ok(());
            }
            if has_more_to_ask {
                continue;
            }
            inner.shared.metadata.refresh();
            sleep(backoff.on_failure(inner.shared.env.random())).await;
        }
    }

    /// Asks every leader once for what is open, all at the same time. A broker refuses a partition that is named twice:
    /// of several places in one, the first that is open is asked for, and the result is whether that helped, so that
    /// the next ones' turn is now.
    async fn ask(&mut self, inner: &Inner) -> Result<bool> {
        let mut questions = Questions::new(inner.config.fetch.isolation);
        let mut asked = BTreeMap::new();
        let (mut has_helped, mut has_left_out) = (false, false);
        for (at, ((partition, spec), found)) in self.places.iter().zip(&self.found).enumerate() {
            if found.is_some() {
                continue;
            }
            if asked.contains_key(partition) {
                has_left_out = true;
                continue;
            }
            asked.insert(partition.clone(), at);
            let topic = inner.shared.metadata.topic(partition.topic()).await?;
            let Some(known) = topic.partition(partition.partition()) else {
                let error = Error::broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "list offsets");
                return Err(error.with_topic_partition(partition.clone()));
            };
            if let Some(leader) = known.leader {
                questions.add(leader, known.leader_epoch, partition, *spec);
            }
        }
        let answers = questions.ask(&inner.shared, inner.shared.config.request_timeout).await;
        for (partition, answer) in answers {
            match answer {
                Ok(place) => {
                    if let Some(found) = asked.get(&partition).and_then(|at| self.found.get_mut(*at)) {
                        *found = Some(place);
                        has_helped = true;
                    }
                }
                Err(error) if error.is_retriable() => self.last_error = Some(error),
                Err(error) => return Err(error),
            }
        }
        Ok(has_helped && has_left_out)
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
