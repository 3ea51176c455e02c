//! Changing topics that exist: more partitions (KIP-195), other settings (KIP-339), other leaders (KIP-460).

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::ErrorCode;

use super::Controller;
use super::topics::{MAX_PARTITIONS, Refusal, check_setting};
use crate::image::Topic;
use crate::io::NodeId;
use crate::peer::{Change, ConfigChange, TopicChange, TopicResult};

impl Controller {
    pub(super) fn change_topic(&mut self, change: &TopicChange, validate_only: bool) -> TopicResult {
        let name = Some(change.topic.clone());
        match self.changed(change) {
            Ok(topic) => {
                let id = topic.id;
                if !validate_only && self.image.topics.get(&topic.name).is_some_and(|known| **known != topic)
                {
                    self.edit().topics.insert(topic.name.clone(), Arc::new(topic));
                }
                TopicResult { name, id, ..TopicResult::default() }
            }
            Err((error, message)) => {
                let message = Some(message).filter(|message| !message.is_empty());
                TopicResult { name, error, message, ..TopicResult::default() }
            }
        }
    }

    /// The topic as it would be.
    fn changed(&mut self, change: &TopicChange) -> Result<Topic, Refusal> {
        let known = self.image.topics.get(&change.topic).map(|topic| Topic::clone(topic));
        match (&change.change, known) {
            (Change::Partitions { count, assignments }, Some(topic)) => {
                self.grown(topic, *count, assignments.as_deref())
            }
            (Change::Config(changes), Some(topic)) => configured(topic, changes),
            (Change::Leader { partition, unclean }, Some(topic)) => self.elected(topic, *partition, *unclean),
            (Change::Partitions { .. }, None) => Err((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, String::new())),
            (Change::Config(_), None) => {
                let message = format!("The topic '{}' does not exist.", change.topic);
                Err((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message))
            }
            (Change::Leader { .. }, None) => {
                let message = format!("No such topic as {}", change.topic);
                Err((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message))
            }
        }
    }

    fn grown(
        &mut self,
        mut topic: Topic,
        count: i32,
        assignments: Option<&[Vec<NodeId>]>,
    ) -> Result<Topic, Refusal> {
        let invalid = |message: String| Err((ErrorCode::INVALID_PARTITIONS, message));
        // `create_topic` and this bound it.
        let has = topic.partitions.len() as i32;
        if count == has {
            return invalid(format!("Topic already has {has} partition(s)."));
        }
        if count < has {
            return invalid(format!(
                "The topic {} currently has {has} partition(s); {count} would not be an increase.",
                topic.name
            ));
        }
        if count > MAX_PARTITIONS {
            return invalid(format!("Number of partitions is larger than {MAX_PARTITIONS}."));
        }
        let factor = topic.partitions.first().map_or(1, |first| first.replicas.len());
        let placed = match assignments {
            Some(chosen) => self.chosen(chosen, count - has, factor)?,
            None => self.spread(count - has, i16::try_from(factor).unwrap_or(i16::MAX))?,
        };
        let new: Vec<_> = placed.into_iter().map(|replicas| self.new_partition(replicas)).collect();
        topic.partitions.extend(new);
        Ok(topic)
    }

    fn chosen(
        &self,
        chosen: &[Vec<NodeId>],
        wanted: i32,
        factor: usize,
    ) -> Result<Vec<Vec<NodeId>>, Refusal> {
        let invalid = |message: String| Err((ErrorCode::INVALID_REPLICA_ASSIGNMENT, message));
        if usize::try_from(wanted) != Ok(chosen.len()) {
            return invalid(format!(
                "Attempted to add {wanted} additional partition(s), but only {} assignment(s) were specified.",
                chosen.len()
            ));
        }
        for replicas in chosen {
            self.check_replicas(replicas)?;
            if replicas.len() != factor {
                return invalid(format!(
                    "The manual partition assignment includes a partition with {} replica(s), but this is not consistent \
                     with previous partitions, which have {factor} replica(s).",
                    replicas.len()
                ));
            }
        }
        Ok(chosen.to_vec())
    }
}

fn configured(mut topic: Topic, changes: &[ConfigChange]) -> Result<Topic, Refusal> {
    for change in changes {
        apply(&mut topic.config, change).map_err(|message| (ErrorCode::INVALID_CONFIG, message))?;
    }
    Ok(topic)
}

fn apply(config: &mut BTreeMap<Arc<str>, Arc<str>>, change: &ConfigChange) -> Result<(), String> {
    let (name, value) = match change {
        ConfigChange::Set(name, value) => (name, Arc::clone(value)),
        ConfigChange::Delete(name) => {
            config.remove(name);
            return Ok(());
        }
        ConfigChange::Append(name, items) => {
            let mut all = list(config, name, "APPEND")?;
            let new: Vec<_> =
                items.split(',').filter(|item| !all.iter().any(|known| known == item)).collect();
            all.extend(new.into_iter().map(str::to_owned));
            (name, all.join(",").into())
        }
        ConfigChange::Subtract(name, items) => {
            let mut all = list(config, name, "SUBTRACT")?;
            all.retain(|known| !items.split(',').any(|item| item == known));
            (name, all.join(",").into())
        }
    };
    check_setting(name, &value)?;
    config.insert(name.clone(), value);
    Ok(())
}

/// The items of a setting that is a list.
fn list(config: &BTreeMap<Arc<str>, Arc<str>>, name: &str, operation: &str) -> Result<Vec<String>, String> {
    let default = match name {
        "cleanup.policy" => "delete",
        "follower.replication.throttled.replicas" | "leader.replication.throttled.replicas" => "",
        _ => return Err(format!("Can't {operation} to key {name} because its type is not LIST.")),
    };
    let value = config.get(name).map_or(default, |value| &**value);
    Ok(value.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect())
}
