//! Committed offsets: Kafka's `OffsetMetadataManager`.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use ottla_protocol::{ErrorCode, Str, TopicId};

use super::group::{Group, State};
use super::records::{OffsetKey, OffsetValue, Record};
use super::writes::Writes;
use super::{Context, Reply, Then, Ticket};

/// Offsets that a group wants to commit, for partitions that exist.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) member_id: Str,
    pub(crate) instance_id: Option<Str>,
    /// -1 for a consumer that assigns by itself, and for administrators.
    pub(crate) generation: i32,
    /// What is said of a group that does not exist: it depends on the version of the request.
    pub(crate) unknown_group: ErrorCode,
    pub(crate) partitions: Vec<CommitPartition>,
}

/// An offset that a group wants to commit.
#[derive(Debug, Clone)]
pub(crate) struct CommitPartition {
    pub(crate) topic: Str,
    pub(crate) topic_id: TopicId,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Option<Str>,
}

/// An offset that is to be forgotten, of a partition that exists.
#[derive(Debug, Clone)]
pub(crate) struct Deletion {
    pub(crate) topic: Str,
    pub(crate) partition: i32,
}

/// The offsets of the groups of a shard that are replicated, by group, topic and partition.
#[derive(Debug, Default)]
pub(super) struct Offsets(BTreeMap<Str, BTreeMap<Str, BTreeMap<i32, OffsetValue>>>);

impl Offsets {
    pub(super) fn set(&mut self, key: OffsetKey, value: Option<OffsetValue>) {
        let OffsetKey { group, topic, partition } = key;
        if let Some(value) = value {
            self.0.entry(group).or_default().entry(topic).or_default().insert(partition, value);
            return;
        }
        let Some(topics) = self.0.get_mut(&group) else { return };
        if let Some(partitions) = topics.get_mut(&topic) {
            partitions.remove(&partition);
            if partitions.is_empty() {
                topics.remove(&topic);
            }
        }
        if topics.is_empty() {
            self.0.remove(&group);
        }
    }

    fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&OffsetValue> {
        self.0.get(group)?.get(topic)?.get(&partition)
    }

    fn keys(&self) -> impl Iterator<Item = OffsetKey> {
        self.0.iter().flat_map(|(group, topics)| {
            topics.iter().flat_map(move |(topic, partitions)| {
                let key = |partition: &i32| OffsetKey {
                    group: group.clone(),
                    topic: topic.clone(),
                    partition: *partition,
                };
                partitions.keys().map(key).collect::<Vec<_>>()
            })
        })
    }

    /// Tombstones for the offsets, written or being written, that satisfy a condition.
    pub(super) fn tombstones(&self, writes: &Writes, condition: impl Fn(&OffsetKey) -> bool) -> Vec<Record> {
        let all: BTreeSet<OffsetKey> = self.keys().chain(writes.offset_keys().cloned()).collect();
        let there = |key: &OffsetKey| match writes.offset(key) {
            Some(value) => value.is_some(),
            None => self.get(&key.group, &key.topic, key.partition).is_some(),
        };
        let wanted = all.into_iter().filter(|key| condition(key) && there(key));
        wanted.map(|key| Record::Offset(key, None)).collect()
    }

    /// The offsets that a group asks for, by name and id of the topic; all that it has when it names no topics.
    pub(super) fn fetch(&self, request: &OffsetFetchRequestGroup) -> Vec<OffsetFetchResponseTopics> {
        let Some(topics) = &request.topics else { return self.fetch_all(&request.group_id) };
        let topic = |topic: &ottla_protocol::messages::offset_fetch_request::OffsetFetchRequestTopics| {
            let partition = |index: &i32| {
                let found = self.get(&request.group_id, &topic.name, *index);
                // It may have been committed for another topic of that name, which was deleted.
                fetched(*index, found.filter(|value| value.topic_id == topic.topic_id))
            };
            OffsetFetchResponseTopics {
                name: topic.name.clone(),
                topic_id: topic.topic_id,
                partitions: topic.partition_indexes.iter().map(partition).collect(),
            }
        };
        topics.iter().map(topic).collect()
    }

    fn fetch_all(&self, group: &str) -> Vec<OffsetFetchResponseTopics> {
        let mut found: BTreeMap<(&Str, TopicId), OffsetFetchResponseTopics> = BTreeMap::new();
        for (name, partitions) in self.0.get(group).into_iter().flatten() {
            for (index, value) in partitions {
                let topic_id = value.topic_id;
                let topic = found.entry((name, topic_id)).or_insert_with(|| OffsetFetchResponseTopics {
                    name: name.clone(),
                    topic_id,
                    partitions: Vec::new(),
                });
                topic.partitions.push(fetched(*index, Some(value)));
            }
        }
        found.into_values().collect()
    }
}

fn fetched(partition_index: i32, value: Option<&OffsetValue>) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: value.map_or(-1, |value| value.offset),
        committed_leader_epoch: value.map_or(-1, |value| value.leader_epoch),
        metadata: Some(value.map(|value| value.metadata.clone()).unwrap_or_default()),
        error_code: ErrorCode::NONE,
    }
}

impl Group {
    /// Whether offsets may be committed by whoever says so: `ClassicGroup.validateOffsetCommit`.
    fn check_commit(&self, commit: &Commit) -> Result<(), ErrorCode> {
        let empty = self.state == State::Empty;
        // A consumer that assigns by itself, or an administrator.
        if commit.generation < 0 && empty {
            return Ok(());
        }
        if planted!("broker-takes-commits-of-old-generations") {
            return Ok(());
        }
        let names_member = !commit.member_id.is_empty() || commit.instance_id.is_some();
        if commit.generation >= 0 || names_member {
            self.check_member(&commit.member_id, commit.instance_id.as_ref())?;
            if commit.generation != self.generation {
                return Err(ErrorCode::ILLEGAL_GENERATION);
            }
        } else {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        // The member knows of the generation, and its assignment is not known yet.
        if self.state == State::CompletingRebalance {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        Ok(())
    }

    /// Commits offsets: what to write for it, and the answer when that is done.
    pub(super) fn commit(
        &mut self,
        cx: Context,
        ticket: Ticket,
        commit: &Commit,
    ) -> Result<(Vec<Record>, Then), ErrorCode> {
        self.check_commit(commit)?;
        // A commit keeps the session, as a heartbeat does.
        if matches!(self.state, State::Stable | State::PreparingRebalance) {
            self.renew(cx.now.monotonic, &commit.member_id);
        }
        let mut records = Vec::with_capacity(commit.partitions.len());
        let mut codes = Vec::with_capacity(commit.partitions.len());
        for one in &commit.partitions {
            let metadata = one.metadata.as_ref().map(Str::detached).unwrap_or_default();
            // Kafka counts Java's characters.
            if metadata.encode_utf16().count() > cx.config.offset_metadata_max {
                codes.push(ErrorCode::OFFSET_METADATA_TOO_LARGE);
                continue;
            }
            codes.push(ErrorCode::NONE);
            let key =
                OffsetKey { group: self.id.clone(), topic: one.topic.detached(), partition: one.partition };
            let value = OffsetValue {
                offset: one.offset,
                leader_epoch: one.leader_epoch,
                metadata,
                commit_timestamp_ms: cx.now.wall_ms,
                topic_id: one.topic_id,
            };
            records.push(Record::Offset(key, Some(value)));
        }
        Ok((records, Then::Answer(ticket, Reply::Partitions(codes))))
    }

    /// Whether offsets may be deleted: of a group with members, those of topics that it does not use may.
    pub(super) fn check_offset_deletion(&self) -> Result<(), ErrorCode> {
        let may = self.state == State::Empty || self.speaks_consumer();
        if may { Ok(()) } else { Err(ErrorCode::NON_EMPTY_GROUP) }
    }
}
