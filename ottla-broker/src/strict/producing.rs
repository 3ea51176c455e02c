//! Sequences and epochs of idempotent producers (KIP-98, KIP-360).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use ottla_protocol::messages::ProduceRequest;
use ottla_protocol::{Decoder, Message, TopicId, batch};

use super::{Broken, Rule, pace::Part};
use crate::{image::Image, io::NodeId, replica::ReplicaKey};

/// How many batches of a producer may be unanswered: what brokers remember of it.
const IN_FLIGHT: usize = 5;

/// How many of the last batches of a producer are compared with what comes.
const REMEMBERED: usize = 32;

/// A batch of an idempotent producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Batch {
    key: Key,
    epoch: i16,
    first: i32,
    last: i32,
    crc: u32,
}

/// A producer and a partition that it writes to.
type Key = (i64, ReplicaKey);

/// The requests of a connection that are not answered, and the newest epoch of each producer on it.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    requests: VecDeque<Vec<Batch>>,
    epochs: BTreeMap<Key, i16>,
}

/// What is known of all producers, over all nodes.
#[derive(Debug, Default)]
pub(super) struct Producing {
    written: BTreeMap<Key, Written>,
    /// The last that came, whatever became of them.
    sent: BTreeMap<Key, VecDeque<Batch>>,
    /// The epochs under which a node has acknowledged something.
    acknowledged: BTreeSet<(NodeId, Key, i16)>,
}

#[derive(Debug)]
struct Written {
    epoch: i16,
    batches: VecDeque<Batch>,
}

impl Batch {
    /// None for records without a producer id, and for what is no batch.
    pub(crate) fn of(partition: ReplicaKey, records: &Bytes) -> Option<Self> {
        let batch = batch::batches(records.clone()).next()?.ok()?;
        let header = batch.header();
        let delta = u32::try_from(header.last_offset_delta).ok()?;
        // Behind the largest sequence comes 0.
        let last = (i64::from(header.base_sequence) + i64::from(delta)) & i64::from(i32::MAX);
        (header.producer_id >= 0 && header.base_sequence >= 0).then_some(Self {
            key: (header.producer_id, partition),
            epoch: header.producer_epoch,
            first: header.base_sequence,
            last: last as i32,
            crc: header.crc,
        })
    }

    fn overlaps(&self, other: &Self) -> bool {
        // What wraps around zero is left alone: it is once in two thousand million records.
        self.first <= self.last
            && other.first <= other.last
            && self.first <= other.last
            && other.first <= self.last
    }

    pub(super) fn text(&self) -> String {
        let Self { key: (producer, (topic, partition)), epoch, first, last, crc } = self;
        format!(
            "sequences {first} to {last} (checksum {crc:08x}) of producer {producer}, epoch {epoch}, partition \
             {partition} of topic {topic}"
        )
    }
}

/// The batches of a produce request of which brokers look at the sequence.
pub(crate) fn batches_of(image: &Image, version: i16, mut body: Decoder) -> Option<Vec<Batch>> {
    if !ProduceRequest::VERSIONS.contains(&version) {
        return None;
    }
    let request = ProduceRequest::decode(version, &mut body).ok()?;
    let batches = request.topic_data.iter().flat_map(|topic| {
        let named = image.topic(&topic.name).map(|topic| topic.id);
        // What is sent to a topic that is gone counts as well.
        let id = named.or_else(|| Some(topic.topic_id).filter(|id| *id != TopicId::default()));
        topic
            .partition_data
            .iter()
            .filter_map(move |partition| Batch::of((id?, partition.index), partition.records.as_ref()?))
    });
    Some(batches.collect())
}

impl Outstanding {
    pub(super) fn answered(&mut self) {
        self.requests.pop_front();
    }

    /// Which batches of the oldest request failed, where that is known: several producers may write to one partition.
    pub(super) fn failed(&self, parts: Vec<Part>) -> Vec<Part> {
        let batches = self.requests.front().map(Vec::as_slice).unwrap_or_default();
        let failed = |part: Part| {
            let Part::Topic(_, topic, Some(partition)) = part else { return part };
            let same = |batch: &&Batch| {
                let (_, (id, index)) = batch.key;
                index == partition && (topic == TopicId::ZERO || topic == id)
            };
            batches.iter().find(same).map_or(part, |batch| Part::Batch(*batch))
        };
        parts.into_iter().map(failed).collect()
    }
}

impl Producing {
    /// A request came, and may wait for others of its connection.
    pub(super) fn arrives(
        &mut self,
        node: NodeId,
        outstanding: &mut Outstanding,
        batches: Vec<Batch>,
    ) -> Result<(), Broken> {
        let checked = batches.iter().try_for_each(|batch| self.check_arrival(node, outstanding, batch));
        for batch in &batches {
            remember(self.sent.entry(batch.key).or_default(), batch);
        }
        let keys: Vec<Key> = batches.iter().map(|batch| batch.key).collect();
        outstanding.requests.push_back(batches);
        checked?;
        // Several producers, and several partitions of each, may share a connection.
        for key in keys {
            let unanswered = outstanding.requests.iter().flatten().filter(|batch| batch.key == key).count();
            if unanswered > IN_FLIGHT {
                let expected =
                    format!("at most {IN_FLIGHT} unanswered batches of a producer for a partition");
                return Err((Rule::InFlight, expected, format!("there are {unanswered}")));
            }
        }
        Ok(())
    }

    fn check_arrival(
        &self,
        node: NodeId,
        outstanding: &mut Outstanding,
        batch: &Batch,
    ) -> Result<(), Broken> {
        let before = outstanding.epochs.insert(batch.key, batch.epoch).unwrap_or(batch.epoch);
        if batch.epoch < before {
            let expected = format!("epoch {before} or a later one, as before on this connection");
            return Err((Rule::Epochs, expected, format!("it sent {}", batch.text())));
        }
        let of_same = |other: &&Batch| (other.key, other.epoch) == (batch.key, batch.epoch);
        let earlier = outstanding.requests.iter().flatten().find(of_same);
        match earlier {
            Some(earlier) if !self.acknowledged.contains(&(node, batch.key, batch.epoch)) => Err((
                Rule::FirstBatchAlone,
                format!("an acknowledgement of {} before the next batch", earlier.text()),
                format!("it sent {}", batch.text()),
            )),
            _ => Ok(()),
        }
    }

    /// What the answer to the oldest unanswered request says is written.
    pub(super) fn acknowledges(
        &mut self,
        node: NodeId,
        outstanding: &Outstanding,
        partitions: &[ReplicaKey],
    ) {
        let batches = outstanding.requests.front().into_iter().flatten();
        let written = batches.filter(|batch| partitions.contains(&batch.key.1));
        self.acknowledged.extend(written.map(|batch| (node, batch.key, batch.epoch)));
    }

    /// A leader takes a batch, as a new one or as one that it has.
    pub(super) fn appends(&mut self, batch: &Batch, is_new: bool, image: &Image) -> Result<(), Broken> {
        let goes_on = batch.first == 0 || self.goes_on(batch, image);
        let written = self.written.get_mut(&batch.key);
        let Some(written) = written.filter(|written| batch.epoch <= written.epoch) else {
            let batches = VecDeque::from([*batch]);
            self.written.insert(batch.key, Written { epoch: batch.epoch, batches });
            return if goes_on {
                Ok(())
            } else {
                let expected = "the first batch of an epoch to have sequence 0".to_owned();
                Err((Rule::Epochs, expected, format!("it sent {}", batch.text())))
            };
        };
        if batch.epoch < written.epoch {
            // It was under way for long, and its epoch is over.
            return Ok(());
        }
        if let Some(other) = written.batches.iter().find(|other| other.overlaps(batch) && *other != batch) {
            return Err((
                Rule::SameSequenceSameRecords,
                format!("nothing but what was written: {}", other.text()),
                format!("it sent {}", batch.text()),
            ));
        }
        if is_new {
            remember(&mut written.batches, batch);
        }
        Ok(())
    }

    /// Whether a batch is one of those that its producer sent to a topic that is gone by now, or the next behind one of them:
    /// a producer numbers its batches by the topic's name, also those that nobody took, and who takes its place knows nothing
    /// of them.
    fn goes_on(&self, batch: &Batch, image: &Image) -> bool {
        let (producer, (_, partition)) = batch.key;
        let of_producer =
            (producer, (TopicId([0; 16]), i32::MIN))..=(producer, (TopicId([0xff; 16]), i32::MAX));
        let mut sent = self
            .sent
            .range(of_producer)
            .filter(|((_, (topic, index)), _)| *index == partition && image.topic_by_id(*topic).is_none())
            .flat_map(|(_, sent)| sent)
            .filter(|before| before.epoch == batch.epoch);
        let is_next =
            |before: &Batch| (i64::from(before.last) + 1) & i64::from(i32::MAX) == i64::from(batch.first);
        sent.any(|before| is_next(before) || Batch { key: batch.key, ..*before } == *batch)
    }
}

/// Adds a batch, unless it is there, to the last [`REMEMBERED`].
fn remember(batches: &mut VecDeque<Batch>, batch: &Batch) {
    if batches.contains(batch) {
        return;
    }
    if batches.len() == REMEMBERED {
        batches.pop_front();
    }
    batches.push_back(*batch);
}
