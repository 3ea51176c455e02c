//! Creating and deleting topics, with the checks, the error codes and the words of Apache Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::{ErrorCode, TopicId};

use super::Controller;
use crate::image::{Partition, Topic};
use crate::io::NodeId;
use crate::peer::{NewTopic, TopicResult};

/// `org.apache.kafka.common.internals.Topic.MAX_NAME_LENGTH`
const MAX_NAME_LENGTH: usize = 249;

/// No cluster for tests or development needs more, and each is a file.
pub(super) const MAX_PARTITIONS: i32 = 10_000;

pub(super) type Refusal = (ErrorCode, String);

impl Controller {
    pub(super) fn create_topic(&mut self, new: &NewTopic, validate_only: bool) -> TopicResult {
        match self.plan(new) {
            Ok(topic) => {
                let result = TopicResult {
                    name: Some(topic.name.clone()),
                    id: topic.id,
                    // `plan` bounds both.
                    partitions: topic.partitions.len() as i32,
                    replication_factor: topic
                        .partitions
                        .first()
                        .map_or(0, |first| first.replicas.len() as i16),
                    ..TopicResult::default()
                };
                if !validate_only {
                    let image = self.edit();
                    image.names.insert(topic.id, topic.name.clone());
                    image.topics.insert(topic.name.clone(), Arc::new(topic));
                }
                result
            }
            Err((error, message)) => {
                let (name, message) = (Some(new.name.clone()), Some(message));
                TopicResult { name, error, message, ..TopicResult::default() }
            }
        }
    }

    pub(super) fn delete_topic(&mut self, id: TopicId) -> TopicResult {
        let Some(name) = self.image.names.get(&id).cloned() else {
            return TopicResult { id, error: ErrorCode::UNKNOWN_TOPIC_ID, ..TopicResult::default() };
        };
        let image = self.edit();
        image.names.remove(&id);
        image.topics.remove(&name);
        TopicResult { name: Some(name), id, ..TopicResult::default() }
    }

    /// The topic as it would be created.
    fn plan(&mut self, new: &NewTopic) -> Result<Topic, Refusal> {
        check_name(&new.name).map_err(|message| (ErrorCode::INVALID_TOPIC_EXCEPTION, message))?;
        if self.image.topics.contains_key(&new.name) {
            let message = format!("Topic '{}' already exists.", new.name);
            return Err((ErrorCode::TOPIC_ALREADY_EXISTS, message));
        }
        let unified = new.name.replace('.', "_");
        if let Some(other) = self.image.topics.keys().find(|other| other.replace('.', "_") == unified) {
            let message = format!("Topic '{}' collides with existing topic: {other}", new.name);
            return Err((ErrorCode::INVALID_TOPIC_EXCEPTION, message));
        }
        let config = check_config(&new.config)?;
        let assignments =
            if new.assignments.is_empty() { self.place(new)? } else { self.check_assignments(new)? };
        let partitions = assignments.into_iter().map(|replicas| self.new_partition(replicas)).collect();
        Ok(Topic { name: new.name.clone(), id: TopicId(self.rng.uuid()), config, partitions })
    }

    /// Replicas for each partition: the nodes in turn, beginning anywhere, those that live first.
    fn place(&mut self, new: &NewTopic) -> Result<Vec<Vec<NodeId>>, Refusal> {
        let factor = match new.replication_factor {
            -1 => self.config.default_replication_factor,
            factor if factor > 0 => factor,
            _ => {
                let message = "Replication factor must be larger than 0, or -1 to use the default value.";
                return Err((ErrorCode::INVALID_REPLICATION_FACTOR, message.to_owned()));
            }
        };
        let partitions = match new.partitions {
            -1 => self.config.default_partitions,
            count if (1..=MAX_PARTITIONS).contains(&count) => count,
            count if count > MAX_PARTITIONS => {
                let message = format!("Number of partitions is larger than {MAX_PARTITIONS}.");
                return Err((ErrorCode::INVALID_PARTITIONS, message));
            }
            _ => {
                let message = "Number of partitions was set to an invalid non-positive value.";
                return Err((ErrorCode::INVALID_PARTITIONS, message.to_owned()));
            }
        };
        self.spread(partitions, factor)
    }

    /// Replicas for so many partitions.
    pub(super) fn spread(&mut self, partitions: i32, factor: i16) -> Result<Vec<Vec<NodeId>>, Refusal> {
        let mut nodes: Vec<NodeId> = self.config.nodes.iter().map(|node| node.id).collect();
        self.check_factor(factor, nodes.len())?;
        let start = self.rng.next_u64() as usize % nodes.len().max(1);
        nodes.rotate_left(start);
        let place = |_| {
            let mut order = nodes.clone();
            order.sort_by_key(|node| !self.image.brokers.contains_key(node));
            order.truncate(usize::try_from(factor).unwrap_or(0));
            nodes.rotate_left(1);
            order
        };
        Ok((0..partitions).map(place).collect())
    }

    fn check_factor(&self, factor: i16, nodes: usize) -> Result<(), Refusal> {
        let prefix = format!("Unable to replicate the partition {factor} time(s): ");
        let why = if usize::try_from(factor).unwrap_or(0) > nodes {
            format!(
                "The target replication factor of {factor} cannot be reached because only {nodes} broker(s) are \
                 registered."
            )
        } else if self.image.brokers.is_empty() {
            "All brokers are currently fenced.".to_owned()
        } else {
            return Ok(());
        };
        Err((ErrorCode::INVALID_REPLICATION_FACTOR, prefix + &why))
    }

    /// The replicas that the client chose for each partition.
    fn check_assignments(&self, new: &NewTopic) -> Result<Vec<Vec<NodeId>>, Refusal> {
        let invalid = |message: String| Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
        if new.replication_factor != -1 || new.partitions != -1 {
            let what = if new.partitions == -1 { "replication factor" } else { "numPartitions" };
            let message =
                format!("A manual partition assignment was specified, but {what} was not set to -1.");
            return Err((ErrorCode::INVALID_REQUEST, message));
        }
        let mut assignments = BTreeMap::new();
        for (index, replicas) in &new.assignments {
            self.check_replicas(replicas)?;
            if !replicas.iter().any(|node| self.image.brokers.contains_key(node)) {
                return invalid(format!(
                    "All brokers specified in the manual partition assignment for partition {index} are fenced or in \
                     controlled shutdown."
                ));
            }
            if assignments.insert(*index, replicas.clone()).is_some() {
                return invalid(format!("Found multiple manual partition assignments for partition {index}"));
            }
        }
        if assignments.keys().zip(0..).any(|(index, expected)| *index != expected) {
            return invalid("partitions should be a consecutive 0-based integer sequence".to_owned());
        }
        let assignments: Vec<Vec<NodeId>> = assignments.into_values().collect();
        let factor = assignments.first().map_or(0, Vec::len);
        match assignments.iter().find(|replicas| replicas.len() != factor) {
            Some(other) => invalid(format!(
                "The manual partition assignment includes a partition with {} replica(s), but this is not consistent \
                 with previous partitions, which have {factor} replica(s).",
                other.len()
            )),
            None => Ok(assignments),
        }
    }

    pub(super) fn check_replicas(&self, replicas: &[NodeId]) -> Result<(), Refusal> {
        let invalid = |message: String| Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
        if replicas.is_empty() {
            return invalid("The manual partition assignment includes an empty replica list.".to_owned());
        }
        for (index, node) in replicas.iter().enumerate() {
            if self.config.node(*node).is_none() {
                return invalid(format!(
                    "The manual partition assignment includes broker {node}, but no such broker is registered."
                ));
            }
            if replicas.iter().skip(index + 1).any(|other| other == node) {
                return invalid(format!(
                    "The manual partition assignment includes the broker {node} more than once."
                ));
            }
        }
        Ok(())
    }

    pub(super) fn new_partition(&self, replicas: Vec<NodeId>) -> Partition {
        let lives = |node: &NodeId| self.image.brokers.contains_key(node);
        let isr: Vec<NodeId> = replicas.iter().copied().filter(lives).collect();
        Partition { leader: isr.first().copied(), leader_epoch: 0, version: 0, replicas, isr }
    }
}

/// Whether a topic may have that name.
pub(crate) fn is_topic_name(name: &str) -> bool {
    check_name(name).is_ok()
}

fn check_name(name: &str) -> Result<(), String> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let why = match name {
        "" => "the empty string is not allowed".to_owned(),
        "." | ".." => format!("'{name}' is not allowed"),
        _ if name.len() > MAX_NAME_LENGTH => {
            format!("the length of '{name}' is longer than the max allowed length {MAX_NAME_LENGTH}")
        }
        _ if !name.bytes().all(legal) => {
            format!(
                "'{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
            )
        }
        _ => return Ok(()),
    };
    Err(format!("Topic name is invalid: {why}"))
}

type Settings = BTreeMap<Arc<str>, Arc<str>>;

fn check_config(config: &BTreeMap<Arc<str>, Option<Arc<str>>>) -> Result<Settings, Refusal> {
    let nulls: Vec<&str> =
        config.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| &**name).collect();
    if !nulls.is_empty() {
        let message = format!("Null value not supported for topic configs: {}", nulls.join(","));
        return Err((ErrorCode::INVALID_CONFIG, message));
    }
    let settings: Settings =
        config.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
    for (name, value) in &settings {
        check_setting(name, value).map_err(|message| (ErrorCode::INVALID_CONFIG, message))?;
    }
    Ok(settings)
}

/// The settings that a topic of Kafka has. Those that change what the broker does are checked; the others are kept.
pub(super) fn check_setting(name: &str, value: &str) -> Result<(), String> {
    let valid = match name {
        "max.message.bytes" => value.parse::<i32>().is_ok_and(|bytes| bytes >= 0),
        "min.insync.replicas" => value.parse::<i32>().is_ok_and(|replicas| replicas >= 1),
        "message.timestamp.type" => matches!(value, "CreateTime" | "LogAppendTime"),
        "message.timestamp.after.max.ms" | "message.timestamp.before.max.ms" => {
            value.parse::<i64>().is_ok_and(|ms| ms >= 0)
        }
        "unclean.leader.election.enable" => matches!(value, "true" | "false"),
        "cleanup.policy" => value.split(',').all(|policy| matches!(policy.trim(), "delete" | "compact" | "")),
        "compression.type" => {
            matches!(value, "producer" | "uncompressed" | "gzip" | "snappy" | "lz4" | "zstd")
        }
        "compression.gzip.level"
        | "compression.lz4.level"
        | "compression.zstd.level"
        | "delete.retention.ms"
        | "file.delete.delay.ms"
        | "flush.messages"
        | "flush.ms"
        | "index.interval.bytes"
        | "local.retention.bytes"
        | "local.retention.ms"
        | "max.compaction.lag.ms"
        | "min.compaction.lag.ms"
        | "retention.bytes"
        | "retention.ms"
        | "segment.bytes"
        | "segment.index.bytes"
        | "segment.jitter.ms"
        | "segment.ms" => value.parse::<i64>().is_ok(),
        "min.cleanable.dirty.ratio" => value.parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio)),
        "preallocate"
        | "remote.storage.enable"
        | "remote.log.copy.disable"
        | "remote.log.delete.on.disable" => matches!(value, "true" | "false"),
        "follower.replication.throttled.replicas" | "leader.replication.throttled.replicas" => true,
        _ => return Err(format!("Unknown topic config name: {name}")),
    };
    if valid { Ok(()) } else { Err(format!("Invalid value {value} for configuration {name}")) }
}
