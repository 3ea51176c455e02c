//! The group coordinator of a node: the shards of the partitions of `__consumer_offsets` that it leads, their place in
//! the logs, their timers, and the answers that they give.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::batch::BatchBuilder;
use ottla_protocol::messages::HeartbeatRequest;
use ottla_protocol::messages::describe_groups_response::DescribedGroup;
use ottla_protocol::messages::list_groups_response::ListedGroup;
use ottla_protocol::{ErrorCode, Str};

use super::replicas::Purpose;
use super::{Node, RequestId, Timer, Work};
use crate::api::has_enough_in_sync;
use crate::coordinator::{self, Answer, Ask, Context, Identity, Output, Record, Shard, Ticket};
use crate::image::{Image, Topic};
use crate::io::{DiskRequest, FileId, NodeId, Now};
use crate::log::Slice;
use crate::peer::NewTopic;
use crate::replica::{Replica, ReplicaKey};

/// How much of a log is read at a time when a shard is loaded.
const LOAD_BYTES: u32 = 1 << 20;

/// What a node coordinates.
#[derive(Debug, Default)]
pub(super) struct Groups {
    shards: BTreeMap<ReplicaKey, Shard>,
    /// The timer of each shard that has one.
    armed: BTreeMap<ReplicaKey, Instant>,
    /// Answers that their requests have not picked up yet.
    answers: BTreeMap<RequestId, Vec<(usize, Answer)>>,
}

/// The node that looks after a group.
pub(crate) fn coordinator_of(image: &Image, group: &str) -> Option<NodeId> {
    let (topic, partition) = image.partition_of_group(group)?;
    image.partition(topic, partition)?.leader
}

impl Node {
    /// Asks the coordinator of a group something; the answer comes for the ticket, and may have come already.
    pub(crate) fn ask(&mut self, now: Now, ticket: Ticket, group: &Str, ask: Ask) {
        let asked = self.image.partition_of_group(group).and_then(|key| {
            self.with_shard(now, key, |shard, cx, out| shard.ask(cx, ticket, group, ask, out))
        });
        if asked.is_none() {
            self.answer(ticket, Err(ErrorCode::NOT_COORDINATOR));
        }
    }

    /// The answers that have come for a request.
    pub(crate) fn take_answers(&mut self, request: RequestId) -> Vec<(usize, Answer)> {
        self.groups.answers.remove(&request).unwrap_or_default()
    }

    /// A member of a group says that it lives.
    pub(crate) fn group_heartbeat(&mut self, now: Now, request: &HeartbeatRequest) -> ErrorCode {
        let said = self
            .image
            .partition_of_group(&request.group_id)
            .and_then(|key| self.with_shard(now, key, |shard, cx, _| shard.heartbeat(cx, request)));
        said.unwrap_or(ErrorCode::NOT_COORDINATOR)
    }

    /// A group as administrators see it.
    pub(crate) fn describe_group(&self, group: &str) -> Result<DescribedGroup, ErrorCode> {
        let key = self.image.partition_of_group(group);
        let shard = key.and_then(|key| self.groups.shards.get(&key));
        shard.ok_or(ErrorCode::NOT_COORDINATOR)?.describe(group)
    }

    /// Of a member, as it asked for it, if the group is here and has the member.
    pub(super) fn session_timeout(&self, group: &str, member: &str) -> Option<Duration> {
        let key = self.image.partition_of_group(group)?;
        self.groups.shards.get(&key)?.session_timeout(group, member)
    }

    /// What each member was assigned in a generation, if it is the present one.
    pub(super) fn group_assignments(&self, group: &str, generation: i32) -> Vec<(Identity, Bytes)> {
        let shard = self.image.partition_of_group(group).and_then(|key| self.groups.shards.get(&key));
        shard.map(|shard| shard.assignments(group, generation)).unwrap_or_default()
    }

    /// The groups that this node looks after.
    pub(crate) fn list_groups(&self) -> Result<Vec<ListedGroup>, ErrorCode> {
        let mut groups = Vec::new();
        for shard in self.groups.shards.values() {
            groups.extend(shard.list()?);
        }
        Ok(groups)
    }

    /// The topic that the coordinator needs, as it is created.
    pub(crate) fn offsets_topic(&self) -> NewTopic {
        let settings =
            [("cleanup.policy", "compact"), ("compression.type", "producer"), ("segment.bytes", "104857600")];
        NewTopic {
            name: coordinator::TOPIC.into(),
            partitions: self.config.groups.offsets_partitions,
            replication_factor: self.config.groups.offsets_replication_factor,
            assignments: Vec::new(),
            config: settings.into_iter().map(|(name, value)| (name.into(), Some(value.into()))).collect(),
        }
    }

    /// A replica has news for its shard, if it has one or is to get one.
    pub(super) fn wake_shard(&mut self, key: ReplicaKey) {
        let coordinates = self.image.topic(coordinator::TOPIC).is_some_and(|topic| topic.id == key.0);
        if coordinates || self.groups.shards.contains_key(&key) {
            self.work.push_back(Work::Shard(key));
        }
    }

    /// Looks whether this node leads a partition, and how much of it is replicated.
    pub(super) fn look_at_shard(&mut self, now: Now, key: ReplicaKey) {
        let replica = self.replicas.get(&key).filter(|replica| replica.leader().is_some());
        let leads = replica.map(|replica| (replica.leader_epoch(), replica.log.end_offset()));
        let epoch = self.groups.shards.get(&key).map(Shard::epoch);
        if epoch.is_some() && epoch != leads.map(|(epoch, _)| epoch) {
            self.resign(key);
        }
        if let Some((epoch, end)) = leads
            && !self.groups.shards.contains_key(&key)
        {
            self.groups.shards.insert(key, Shard::new(epoch, end));
            self.load(now, key);
        }
        let replica = self.replicas.get(&key).zip(self.image.topic_by_id(key.0));
        if let Some((replica, topic)) = replica {
            let end = replica.high_watermark();
            let enough = has_enough_in_sync(self, topic, replica);
            self.with_shard(now, key, |shard, cx, out| shard.replicated(cx, end, enough, out));
        }
    }

    fn resign(&mut self, key: ReplicaKey) {
        let Some(shard) = self.groups.shards.remove(&key) else { return };
        if let Some(at) = self.groups.armed.remove(&key) {
            self.timers.remove(&(at, Timer::Shard(key)));
        }
        let mut outputs = Vec::new();
        shard.resign(&mut outputs);
        for output in outputs {
            if let Output::Answer(ticket, answer) = output {
                self.answer(ticket, answer);
            }
        }
    }

    /// Reads the log of a shard that is new, as far as it is in memory; the disk is asked for the rest.
    fn load(&mut self, now: Now, key: ReplicaKey) {
        while let Some((shard, replica)) = self.groups.shards.get(&key).zip(self.replicas.get(&key)) {
            let Some((from, end)) = shard.to_load() else { break };
            let Some(slice) = replica.log.slice(from, end, LOAD_BYTES, true) else {
                self.loaded(now, key, shard.epoch(), (Bytes::new(), end));
                continue;
            };
            let Slice { position, size: length, next_offset, .. } = slice;
            if let Some(data) = replica.in_memory(&slice) {
                self.loaded(now, key, shard.epoch(), (data, next_offset));
                continue;
            }
            let purpose = Purpose::Load { key, epoch: shard.epoch(), next_offset };
            let file = FileId::Log(key.0, key.1);
            self.ask_disk(DiskRequest::Read { file, position, length }, purpose);
            return;
        }
    }

    /// The disk has read batches for a shard.
    pub(super) fn load_on(&mut self, now: Now, key: ReplicaKey, epoch: i32, read: (Bytes, i64)) {
        self.loaded(now, key, epoch, read);
        self.load(now, key);
        self.wake_shard(key);
    }

    fn loaded(&mut self, now: Now, key: ReplicaKey, epoch: i32, (data, next_offset): (Bytes, i64)) {
        if self.groups.shards.get(&key).is_none_or(|shard| shard.epoch() != epoch) {
            return;
        }
        let image = Arc::clone(&self.image);
        self.with_shard(now, key, |shard, cx, out| {
            shard.load(cx, data, next_offset, out);
            // Topics that were deleted while nobody looked after the groups.
            shard.forget_topics(cx, |topic| image.topic(topic).is_none(), out);
        });
    }

    /// Topics are gone: the offsets that were committed for them go too.
    pub(super) fn forget_offsets(&mut self, now: Now, topics: &BTreeSet<Arc<str>>) {
        if !topics.is_empty() {
            for key in self.groups.shards.keys().copied().collect::<Vec<_>>() {
                self.with_shard(now, key, |shard, cx, out| {
                    shard.forget_topics(cx, |topic| topics.contains(topic), out);
                });
            }
        }
    }

    /// A deadline of a shard has come.
    pub(super) fn tick_shard(&mut self, now: Now, key: ReplicaKey) {
        self.groups.armed.remove(&key);
        self.with_shard(now, key, |shard, cx, out| shard.tick(cx, out));
    }

    /// Lets a shard do something, and does what it wants.
    fn with_shard<T>(
        &mut self,
        now: Now,
        key: ReplicaKey,
        act: impl FnOnce(&mut Shard, Context, &mut Vec<Output>) -> T,
    ) -> Option<T> {
        let config = Arc::clone(&self.config);
        let cx = Context { now, config: &config.groups };
        let mut outputs = Vec::new();
        let done = act(self.groups.shards.get_mut(&key)?, cx, &mut outputs);
        let mut outputs = VecDeque::from(outputs);
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Answer(ticket, answer) => self.answer(ticket, answer),
                Output::Append(write, records) => {
                    let appended = self.append_records(now, key, &records);
                    let mut more = Vec::new();
                    if let Some(shard) = self.groups.shards.get_mut(&key) {
                        shard.appended(cx, write, appended, &mut more);
                    }
                    outputs.extend(more);
                }
            }
        }
        self.arm_shard(key);
        Some(done)
    }

    /// Appends a batch of records; where the log ends behind it is returned.
    fn append_records(&mut self, now: Now, key: ReplicaKey, records: &[Record]) -> Result<i64, ErrorCode> {
        let leads = |replica: &&Replica| replica.leader().is_some();
        let replica = self.replicas.get(&key).filter(leads).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
        let topic: &Topic = self.image.topic_by_id(key.0).ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)?;
        if self.groups.shards.get(&key).is_none_or(|shard| shard.epoch() != replica.leader_epoch()) {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        if replica.is_starved() {
            return Err(ErrorCode::KAFKA_STORAGE_ERROR);
        }
        if !has_enough_in_sync(self, topic, replica) {
            return Err(ErrorCode::NOT_ENOUGH_REPLICAS);
        }
        let most = topic.number("max.message.bytes").unwrap_or(self.config.max_message_bytes);
        let batch = batch(records, now.wall_ms, usize::try_from(most).unwrap_or(0))?;
        let appended = self.with_replica(key, |replica, effects| {
            replica.lead_append(now, &batch, None, effects);
            replica.log.end_offset()
        });
        appended.ok_or(ErrorCode::NOT_LEADER_OR_FOLLOWER)
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.groups.answers.entry(ticket.request).or_default().push((ticket.part, answer));
        self.work.push_back(Work::Request(ticket.request));
    }

    fn arm_shard(&mut self, key: ReplicaKey) {
        let wanted = self.groups.shards.get(&key).and_then(Shard::next_deadline);
        if let Some(at) = self.groups.armed.remove(&key) {
            self.timers.remove(&(at, Timer::Shard(key)));
        }
        if let Some(at) = wanted {
            self.timers.insert((at, Timer::Shard(key)));
            self.groups.armed.insert(key, at);
        }
    }
}

fn batch(records: &[Record], wall_ms: i64, most: usize) -> Result<Bytes, ErrorCode> {
    let mut batch = BatchBuilder::new(256);
    for record in records {
        let (key, value) = record.encode().map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
        let appended = batch.append_within(most, wall_ms, Some(&key), value.as_deref(), [].into_iter());
        appended.map_err(|_| ErrorCode::RECORD_LIST_TOO_LARGE)?;
    }
    let mut sealed = batch.seal();
    sealed.stamp_without_producer();
    Ok(sealed.into_bytes())
}
