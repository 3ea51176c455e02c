//! Asks leaders where places in their logs are, each leader once for all of its partitions.

use std::{collections::BTreeMap, time::Duration};

use ottla_core::fetch::{IsolationLevel, OffsetSpec, Query};
use ottla_protocol::{
    Str,
    messages::{
        ListOffsetsRequest, ListOffsetsResponse,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        list_offsets_response::ListOffsetsPartitionResponse,
    },
};

use crate::{
    Error, OffsetAndTimestamp, Result, Timestamp, TimestampKind, TopicPartition,
    client::Shared,
    net::{Lane, join_all},
};

/// Where a place is; `None` when there is no record of that time or later.
pub(crate) type Place = Option<OffsetAndTimestamp>;

/// The question of every leader.
pub(crate) struct Questions {
    isolation: IsolationLevel,
    by_leader: BTreeMap<i32, ListOffsetsRequest>,
}

impl Questions {
    pub(crate) fn new(isolation: IsolationLevel) -> Self {
        Self { isolation, by_leader: BTreeMap::new() }
    }

    /// Adds a place in a partition, which must not be there yet. An offset is no question: it is where it is.
    pub(crate) fn add(
        &mut self,
        leader: i32,
        leader_epoch: i32,
        partition: &TopicPartition,
        spec: OffsetSpec,
    ) {
        let Query::Timestamp(timestamp) = spec.to_query() else { return };
        let isolation_level = self.isolation.to_wire();
        let request = self.by_leader.entry(leader).or_insert_with(|| ListOffsetsRequest {
            replica_id: -1,
            isolation_level,
            ..ListOffsetsRequest::default()
        });
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

    /// Asks all leaders at the same time. Every partition has an answer, or why it has none.
    ///
    /// # Cancel safety
    /// Nothing changes.
    pub(crate) async fn ask(
        &self,
        shared: &Shared,
        timeout: Duration,
    ) -> BTreeMap<TopicPartition, Result<Place>> {
        let asked = self.by_leader.iter().map(|(leader, request)| async move {
            (request, ask_one(shared, *leader, request, timeout).await)
        });
        let mut answers = BTreeMap::new();
        for (request, outcome) in join_all(asked).await {
            read(request, outcome, &mut answers);
        }
        answers
    }
}

async fn ask_one(
    shared: &Shared,
    leader: i32,
    request: &ListOffsetsRequest,
    timeout: Duration,
) -> Result<ListOffsetsResponse> {
    let connection = shared.brokers.connection(leader, Lane::Control).await?;
    let version = connection.version::<ListOffsetsRequest>(1..=i16::MAX)?;
    connection.call(request, version, timeout).await
}

fn read(
    request: &ListOffsetsRequest,
    outcome: Result<ListOffsetsResponse>,
    answers: &mut BTreeMap<TopicPartition, Result<Place>>,
) {
    for topic in &request.topics {
        let told = outcome
            .as_ref()
            .map(|response| response.topics.iter().filter(|told| told.name == topic.name))
            .map(|told| told.flat_map(|topic| &topic.partitions));
        for part in &topic.partitions {
            let partition = TopicPartition::new(&*topic.name, part.partition_index);
            let answer = match &told {
                Ok(told) => match told.clone().find(|told| told.partition_index == part.partition_index) {
                    Some(told) => place(told),
                    None => Err(Error::peer("list offsets: the broker's answer leaves a partition out")),
                },
                Err(error) => Err((*error).clone()),
            };
            let answer = answer.map_err(|error| error.with_topic_partition(partition.clone()));
            answers.insert(partition, answer);
        }
    }
}

fn place(told: &ListOffsetsPartitionResponse) -> Result<Place> {
    if !told.error_code.is_ok() {
        return Err(Error::broker(told.error_code, "list offsets"));
    }
    let timestamp = Timestamp::new(told.timestamp, TimestampKind::CreateTime);
    Ok((told.offset >= 0).then_some(OffsetAndTimestamp { offset: told.offset, timestamp }))
}
