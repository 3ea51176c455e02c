//! Records that go before their time (KIP-107).

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ottla_protocol::{
    Str,
    messages::{
        DeleteRecordsRequest, DeleteRecordsResponse,
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
    },
};

use super::{
    PerItem,
    items::{Answers, Items},
    list_offsets::{is_for_another_time, leader},
    metadata::{ask_metadata, introduce},
    request::{awaited, check},
    retry::Retry,
    topics::broker_timeout,
};
use crate::{
    Error, Result, TopicPartition,
    client::Shared,
    net::{Lane, join_all},
};

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
        let mut retry = Retry::new(&self.shared, "delete records", self.timeout);
        let asked = self.records.iter().map(|(partition, _)| partition.clone()).collect();
        let mut items = Items::new("delete records", asked);
        // The first word about a partition counts.
        let records = self.records.iter().rev().cloned().collect();
        while !items.open().is_empty() {
            let again = match self.round(&mut retry, &mut items, &records).await {
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
        items: &mut Items<TopicPartition, i64>,
        records: &BTreeMap<TopicPartition, RecordsToDelete>,
    ) -> Result<Option<Error>> {
        let open = items.open().to_vec();
        let mut topics: Vec<_> = open.iter().map(|partition| partition.topic().to_owned()).collect();
        topics.dedup();
        let cluster = ask_metadata(retry, Some(&topics)).await?;
        introduce(retry, &cluster);
        let (mut by_leader, mut answers) = (BTreeMap::<i32, Vec<_>>::new(), Answers::new());
        for partition in &open {
            match leader(&cluster, partition) {
                Ok(part) => by_leader.entry(part.leader_id).or_default().push(partition),
                Err(code) => {
                    let error = Error::broker(code, "delete records").with_topic_partition(partition.clone());
                    answers.insert(partition.clone(), Err(error));
                }
            }
        }
        let left = retry.left();
        let asked = by_leader.iter().map(|(leader, partitions)| async move {
            let response = ask_one(&self.shared, *leader, request(partitions, records, left), left).await;
            (partitions, response)
        });
        for (partitions, response) in retry.bound(async { Ok(join_all(asked).await) }).await? {
            for partition in partitions {
                let answer = response.clone().and_then(|response| low_watermark(&response, partition));
                let answer = answer.map_err(|error| error.with_topic_partition((*partition).clone()));
                answers.insert((*partition).clone(), answer);
            }
        }
        // A leader that does not know its partition has not heard yet that it was created.
        let has_leader = |partition: &TopicPartition| leader(&cluster, partition).is_ok();
        Ok(items.take(&open, answers, |partition, error| match has_leader(partition) {
            true => error.is_retriable(),
            false => is_for_another_time(error),
        }))
    }
}

fn request(
    partitions: &[&TopicPartition],
    records: &BTreeMap<TopicPartition, RecordsToDelete>,
    left: Duration,
) -> DeleteRecordsRequest {
    let mut request = DeleteRecordsRequest { topics: Vec::new(), timeout_ms: broker_timeout(left) };
    for partition in partitions {
        let offset = match records.get(*partition) {
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
    let connection = shared.brokers.connection(leader, Lane::Control).await?;
    let version = connection.version::<DeleteRecordsRequest>(0..=i16::MAX)?;
    connection.call(&request, version, timeout).await
}

fn low_watermark(response: &DeleteRecordsResponse, partition: &TopicPartition) -> Result<i64> {
    let topics = response.topics.iter().filter(|topic| &*topic.name == partition.topic());
    let mut told = topics.flat_map(|topic| &topic.partitions);
    let Some(told) = told.find(|told| told.partition_index == partition.partition()) else {
        return Err(Error::peer("delete records: the broker's answer leaves a partition out"));
    };
    check(told.error_code, None, || "delete records".to_owned())?;
    Ok(told.low_watermark)
}

awaited! {
    DeleteRecords => PerItem<TopicPartition, i64>,
}
