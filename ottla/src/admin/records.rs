//! Records that go before their time (KIP-107).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ottla_protocol::{
    Str,
    messages::{
        DeleteRecordsRequest, DeleteRecordsResponse,
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
        delete_records_response::DeleteRecordsPartitionResult,
    },
};

use super::{
    PerItem,
    items::{Answers, Items},
    leaders::{Led, ask_leaders},
    request::{awaited, check},
    topics::broker_timeout,
};
use crate::{
    Error, Result, TopicPartition,
    client::Shared,
    net::{Lane, join_all},
};

const WHAT: &str = "delete records";

/// Which records of a partition are deleted: always the oldest ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordsToDelete {
    /// Those in front of that offset, which becomes the start of the log.
    Before(i64),
    /// All that are committed when the leader is asked.
    All,
}

impl From<i64> for RecordsToDelete {
    fn from(offset: i64) -> Self {
        Self::Before(offset)
    }
}

/// A request of [`Admin::delete_records`](super::Admin::delete_records).
///
/// Awaiting it gives the offset at which each log begins now, on all its replicas that live: further than asked for, if more
/// was gone already.
///
/// # Errors
/// When no partition was answered in time. Of one partition: `OFFSET_OUT_OF_RANGE` beyond what is committed,
/// `POLICY_VIOLATION` of a topic that is only compacted, `INVALID_TOPIC_EXCEPTION` of an internal one,
/// `UNKNOWN_TOPIC_OR_PARTITION`, a missing right, or why its leader did not answer in time. After a timeout the records may be
/// deleted all the same.
///
/// # Cancel safety
/// The records may be deleted when the future is dropped.
#[derive(Clone)]
#[must_use = "a request is sent when it is awaited"]
pub struct DeleteRecords {
    shared: Arc<Shared>,
    records: Vec<(TopicPartition, RecordsToDelete)>,
    timeout: Option<Duration>,
}

impl DeleteRecords {
    pub(super) fn new(shared: &Arc<Shared>, records: Vec<(TopicPartition, RecordsToDelete)>) -> Self {
        Self { shared: shared.clone(), records, timeout: None }
    }

    /// The bound of it all, in place of `default.api.timeout.ms`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(self) -> Result<PerItem<TopicPartition, i64>> {
        let asked = self.records.iter().map(|(partition, _)| partition.clone()).collect();
        // The first word about a partition counts.
        let records: BTreeMap<_, _> = self.records.iter().rev().cloned().collect();
        let ask = |led, left| self.ask(led, &records, left);
        ask_leaders(&self.shared, WHAT, self.timeout, Items::new(WHAT, asked), ask).await
    }

    /// Asks all leaders at the same time. Every partition has an answer, or why it has none.
    async fn ask(
        &self,
        led: Vec<Led>,
        records: &BTreeMap<TopicPartition, RecordsToDelete>,
        left: Duration,
    ) -> Answers<TopicPartition, i64> {
        let mut by_leader = BTreeMap::<i32, Vec<_>>::new();
        for Led { partition, leader, .. } in led {
            by_leader.entry(leader).or_default().push(partition);
        }
        let asked = by_leader.iter().map(|(leader, partitions)| async move {
            let response = ask_one(&self.shared, *leader, request(partitions, records, left), left).await;
            (partitions, response)
        });
        let mut answers = Answers::new();
        for (partitions, response) in join_all(asked).await {
            let told = response.as_ref().map(low_watermarks).map_err(Error::clone);
            for partition in partitions {
                let answer =
                    told.as_ref().map_err(Error::clone).and_then(|told| low_watermark(told, partition));
                let answer = answer.map_err(|error| error.with_topic_partition(partition.clone()));
                answers.insert(partition.clone(), answer);
            }
        }
        answers
    }
}

fn request(
    partitions: &[TopicPartition],
    records: &BTreeMap<TopicPartition, RecordsToDelete>,
    left: Duration,
) -> DeleteRecordsRequest {
    let mut request = DeleteRecordsRequest { topics: Vec::new(), timeout_ms: broker_timeout(left) };
    for partition in partitions {
        let offset = match records.get(partition) {
            Some(RecordsToDelete::Before(offset)) => *offset,
            // `DeleteRecordsRequest.HIGH_WATERMARK`
            Some(RecordsToDelete::All) => -1,
            None => continue,
        };
        let part = DeleteRecordsPartition { partition_index: partition.partition(), offset };
        // Those of a topic follow each other.
        match request.topics.last_mut().filter(|topic| &*topic.name == partition.topic()) {
            Some(topic) => topic.partitions.push(part),
            None => request
                .topics
                .push(DeleteRecordsTopic { name: Str::from(partition.topic()), partitions: vec![part] }),
        }
    }
    request
}

async fn ask_one(
    shared: &Shared,
    leader: i32,
    request: DeleteRecordsRequest,
    timeout: Duration,
) -> Result<DeleteRecordsResponse> {
    let connection = shared.brokers.connection(leader, Lane::Admin).await?;
    let version = connection.version::<DeleteRecordsRequest>(0..=i16::MAX)?;
    connection.call(&request, version, timeout).await
}

/// What a leader tells of each partition, by topic and index.
type LowWatermarks<'a> = BTreeMap<(&'a str, i32), &'a DeleteRecordsPartitionResult>;

fn low_watermarks(response: &DeleteRecordsResponse) -> LowWatermarks<'_> {
    let topics = response.topics.iter();
    let told = topics.flat_map(|topic| topic.partitions.iter().map(|told| (&*topic.name, told)));
    told.map(|(topic, told)| ((topic, told.partition_index), told)).collect()
}

fn low_watermark(told: &LowWatermarks<'_>, partition: &TopicPartition) -> Result<i64> {
    let Some(told) = told.get(&(partition.topic(), partition.partition())) else {
        return Err(Error::peer(format!("{WHAT}: the broker's answer leaves a partition out")));
    };
    check(told.error_code, None, || WHAT.to_owned())?;
    Ok(told.low_watermark)
}

awaited! {
    DeleteRecords => PerItem<TopicPartition, i64>,
}
