//! One Produce request: what goes into it, and what its answer says of each part.

use std::{ops::RangeInclusive, sync::Arc};

use ottla_core::{
    metadata::{BrokerAddress, LeaderHint},
    produce::{Attempt, Outgoing, Ticket},
};
use ottla_protocol::{
    Str, TopicId,
    batch::SealedBatch,
    messages::{
        ProduceRequest, ProduceResponse,
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::PartitionProduceResponse,
    },
};

use super::{config::ProducerConfig, topic::Partition};

/// Versions that this client knows the meaning of. From 13 on topics go by id.
pub(super) const VERSIONS: RangeInclusive<i16> = 3..=13;
/// The newest version in which topics go by name.
pub(super) const NEWEST_BY_NAME: i16 = 12;
/// The first version in which brokers take zstd (KIP-110).
pub(super) const ZSTD: RangeInclusive<i16> = 7..=13;

/// A request that is being put together.
pub(super) struct Draft {
    /// Differs from those of the producer's other requests, and is never 0.
    pub(super) id: u64,
    pub(super) parts: Vec<Part>,
    pub(super) bytes: usize,
    /// Some topic has no id.
    by_name: bool,
}

/// A batch on its way, with everything that is needed when its answer comes.
pub(super) struct Part {
    pub(super) partition: Arc<Partition>,
    pub(super) ticket: Ticket,
    pub(super) batch: SealedBatch,
    topic_id: TopicId,
}

impl Draft {
    pub(super) fn new(id: u64) -> Self {
        Self { id, parts: Vec::new(), bytes: 0, by_name: false }
    }

    pub(super) fn add(&mut self, partition: Arc<Partition>, topic_id: TopicId, mut outgoing: Outgoing) {
        outgoing.stamp();
        let Outgoing { ticket, batch, .. } = outgoing;
        self.bytes += batch.size();
        self.by_name |= topic_id.is_zero();
        self.parts.push(Part { partition, ticket, batch, topic_id });
    }

    /// Bytes that another batch may have.
    pub(super) fn room(&self, config: &ProducerConfig) -> usize {
        if self.parts.is_empty() { usize::MAX } else { config.max_batch().saturating_sub(self.bytes) }
    }

    pub(super) fn version(&self, newest: i16) -> i16 {
        if self.by_name { newest.min(NEWEST_BY_NAME) } else { newest }
    }

    /// The message. Partitions of one topic stand together; the batches are shared, not copied.
    pub(super) fn message(&mut self, config: &ProducerConfig) -> ProduceRequest {
        let key = |part: &Part| (part.partition.wire_name.clone(), part.topic_id);
        if !self.parts.is_sorted_by(|a, b| a.partition.wire_name <= b.partition.wire_name) {
            self.parts.sort_by_key(key);
        }
        let mut topics: Vec<TopicProduceData> = Vec::new();
        for part in &self.parts {
            let data =
                PartitionProduceData { index: part.partition.number(), records: Some(part.batch.bytes()) };
            match topics.last_mut() {
                Some(topic) if topic.topic_id == part.topic_id && topic.name == part.partition.wire_name => {
                    topic.partition_data.push(data);
                }
                _ => topics.push(TopicProduceData {
                    name: part.partition.wire_name.clone(),
                    topic_id: part.topic_id,
                    partition_data: vec![data],
                }),
            }
        }
        ProduceRequest {
            acks: config.acks.code(),
            timeout_ms: i32::try_from(config.request_timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data: topics,
            ..ProduceRequest::default()
        }
    }
}

/// The answer to a request, looked up part by part.
pub(super) struct Answer {
    response: ProduceResponse,
    /// Where the next part probably is: brokers answer in the order of the request.
    next: (usize, usize),
    used: usize,
}

impl Answer {
    pub(super) fn new(response: ProduceResponse) -> Self {
        Self { response, next: (0, 0), used: 0 }
    }

    /// What the answer says of a part; `None` if it leaves it out.
    pub(super) fn of(&mut self, part: &Part) -> Option<PartitionProduceResponse> {
        let found = self.at(self.next, part).or_else(|| {
            let topics = self.response.responses.iter().enumerate();
            let all = topics.flat_map(|(t, topic)| (0..topic.partition_responses.len()).map(move |p| (t, p)));
            all.into_iter().find_map(|at| self.at(at, part))
        });
        let (t, p) = found?;
        self.used += 1;
        let topic = self.response.responses.get_mut(t)?;
        self.next = if p + 1 < topic.partition_responses.len() { (t, p + 1) } else { (t + 1, 0) };
        let answer = topic.partition_responses.get_mut(p)?;
        // An answer counts once; another for the same partition is surplus.
        let taken = PartitionProduceResponse { index: TAKEN, ..PartitionProduceResponse::default() };
        Some(std::mem::replace(answer, taken))
    }

    fn at(&self, at: (usize, usize), part: &Part) -> Option<(usize, usize)> {
        let topic = self.response.responses.get(at.0)?;
        let same_topic = if topic.topic_id.is_zero() {
            topic.name == part.partition.wire_name
        } else {
            topic.topic_id == part.topic_id
        };
        let answer = topic.partition_responses.get(at.1)?;
        (same_topic && answer.index == part.partition.number()).then_some(at)
    }

    /// Answers for partitions that nobody asked about.
    pub(super) fn surplus(&self) -> usize {
        let all: usize = self.response.responses.iter().map(|topic| topic.partition_responses.len()).sum();
        all - self.used
    }

    /// Who leads the partition, if what was answered about it says so (KIP-951).
    pub(super) fn hint<'a>(
        &self,
        part: &'a Part,
        answer: &PartitionProduceResponse,
    ) -> Option<LeaderHint<'a>> {
        let leader = &answer.current_leader;
        if leader.leader_id < 0 || answer.error_code.is_ok() {
            return None;
        }
        let endpoint = self.response.node_endpoints.iter().find(|node| node.node_id == leader.leader_id);
        let endpoint = endpoint.map(|node| BrokerAddress {
            id: node.node_id,
            host: Str::from(&*node.host),
            port: u16::try_from(node.port).unwrap_or(0),
            rack: node.rack.as_ref().map(|rack| Str::from(&**rack)),
        });
        Some(LeaderHint {
            topic: &part.partition.destination.topic,
            partition: part.partition.number(),
            leader_id: leader.leader_id,
            leader_epoch: leader.leader_epoch,
            endpoint,
        })
    }
}

/// No partition has this number.
const TAKEN: i32 = -1;

/// The answer as core has it.
pub(super) fn attempt(answer: &PartitionProduceResponse) -> Attempt {
    Attempt::Answered {
        code: answer.error_code,
        base_offset: answer.base_offset,
        log_start_offset: answer.log_start_offset,
    }
}
