//! In-sync sets and elections: what changes when a node comes, goes, or lags.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::{ErrorCode, TopicId};

use super::Controller;
use super::topics::Refusal;
use crate::image::{Broker, Image, Partition, Topic};
use crate::io::NodeId;

impl Controller {
    /// A node has gone: it leaves the in-sync sets, and others lead.
    pub(super) fn fenced(&mut self, node: NodeId) {
        self.each_partition(|partition, living, unclean| {
            let mut next = partition.clone();
            // The last in-sync replica stays: it is the only one that is known to hold everything.
            if next.isr.len() > 1 {
                next.isr.retain(|member| *member != node);
            }
            if next.leader == Some(node) {
                elect(&mut next, living, unclean);
            }
            next
        });
    }

    /// A node has started. It may have lost the end of its logs, so that it is in sync no longer where another
    /// in-sync replica lives; its leadership ended with its former life in any case.
    pub(super) fn restarted(&mut self, node: NodeId) {
        self.each_partition(|partition, living, unclean| {
            let mut next = partition.clone();
            if next.isr.iter().any(|member| *member != node && living.contains_key(member)) {
                next.isr.retain(|member| *member != node);
            }
            if next.leader.is_none_or(|leader| leader == node) {
                elect(&mut next, living, unclean);
            }
            next
        });
    }

    /// A leader wants another in-sync set. Refused unless it leads in that epoch and has seen the last change, and
    /// unless each replica that joins lives and has not restarted since it reported.
    pub(super) fn alter_isr(
        &mut self,
        node: NodeId,
        (topic, index): (TopicId, i32),
        (leader_epoch, version): (i32, i32),
        isr: &[(NodeId, u64)],
    ) -> bool {
        let Some(partition) = self.image.partition(topic, index) else { return false };
        let may_be_in = |(member, incarnation): &(NodeId, u64)| {
            let registered = self.image.brokers.get(member).map(|broker| broker.incarnation);
            partition.isr.contains(member)
                || (partition.replicas.contains(member) && registered == Some(*incarnation))
        };
        let valid = partition.leader == Some(node)
            && (partition.leader_epoch, partition.version) == (leader_epoch, version)
            && isr.iter().any(|(member, _)| *member == node)
            && isr.iter().all(may_be_in);
        let Some(name) = self.image.names.get(&topic).cloned().filter(|_| valid) else { return false };
        let partition = self.edit_topic(&name).and_then(|topic| {
            let index = usize::try_from(index).ok()?;
            topic.partitions.get_mut(index)
        });
        if let Some(partition) = partition {
            partition.isr = isr.iter().map(|(member, _)| *member).collect();
            partition.version += 1;
        }
        true
    }

    /// An operator wants another leader. Where that one is not alive and in sync, nothing changes.
    pub(super) fn move_leader(&mut self, (topic, index): (TopicId, i32), to: NodeId) {
        let Some(partition) = self.image.partition(topic, index) else { return };
        let can = partition.isr.contains(&to) && self.image.brokers.contains_key(&to);
        let Some(name) =
            self.image.names.get(&topic).cloned().filter(|_| can && partition.leader != Some(to))
        else {
            return;
        };
        let partition = self.edit_topic(&name).and_then(|topic| {
            let index = usize::try_from(index).ok()?;
            topic.partitions.get_mut(index)
        });
        if let Some(partition) = partition {
            partition.leader = Some(to);
            partition.leader_epoch += 1;
            partition.version += 1;
        }
    }

    /// The topic with another leader of a partition: its first replica, or with an unclean election anybody who lives.
    pub(super) fn elected(&self, mut topic: Topic, index: i32, unclean: bool) -> Result<Topic, Refusal> {
        let at = usize::try_from(index).ok();
        let Some(partition) = at.and_then(|at| topic.partitions.get_mut(at)) else {
            let message = format!("No such partition as {}-{index}", topic.name);
            return Err((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, message));
        };
        if !partition.lacks_leader(unclean) {
            let message = "Leader election not needed for topic partition.".to_owned();
            return Err((ErrorCode::ELECTION_NOT_NEEDED, message));
        }
        if unclean {
            elect(partition, &self.image.brokers, true);
            if partition.leader.is_none() {
                let message = "Eligible topic partition leaders are not available.".to_owned();
                return Err((ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE, message));
            }
        } else {
            let can = |node: &NodeId| partition.isr.contains(node) && self.image.brokers.contains_key(node);
            let Some(preferred) = partition.replicas.first().copied().filter(can) else {
                let message = "The preferred leader was not available.".to_owned();
                return Err((ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE, message));
            };
            partition.leader = Some(preferred);
            partition.leader_epoch += 1;
        }
        partition.version += 1;
        Ok(topic)
    }

    /// Replaces each partition that `change` changes.
    fn each_partition(&mut self, change: impl Fn(&Partition, &BTreeMap<NodeId, Broker>, bool) -> Partition) {
        let mut changes = Vec::new();
        for topic in self.image.topics.values() {
            let unclean =
                topic.number("unclean.leader.election.enable").unwrap_or(self.config.unclean_leader_election);
            for (index, partition) in topic.partitions.iter().enumerate() {
                let mut next = change(partition, &self.image.brokers, unclean);
                if next != *partition {
                    next.version = partition.version + 1;
                    changes.push((topic.name.clone(), index, next));
                }
            }
        }
        for (name, index, next) in changes {
            let partition = self.edit_topic(&name).and_then(|topic| topic.partitions.get_mut(index));
            if let Some(partition) = partition {
                *partition = next;
            }
        }
    }
}

/// Nodes that live register after a start of the controller. One that never comes back must not lead for ever.
pub(super) fn nobody_leads(image: &mut Image) {
    for topic in image.topics.values_mut() {
        for partition in &mut Arc::make_mut(topic).partitions {
            partition.leader = None;
        }
    }
}

/// The first replica that lives and is in sync leads; where there is none, any that lives if the election may be
/// unclean, and then it alone is in sync. Each election is an epoch of its own, even if it elects nobody.
fn elect(partition: &mut Partition, living: &BTreeMap<NodeId, Broker>, unclean: bool) {
    let lives = |node: &&NodeId| living.contains_key(*node);
    let clean = partition.replicas.iter().filter(lives).find(|node| partition.isr.contains(node));
    let before = partition.leader;
    partition.leader = clean.copied();
    if partition.leader.is_none() && unclean {
        partition.leader = partition.replicas.iter().find(lives).copied();
        partition.isr =
            partition.leader.map_or_else(|| std::mem::take(&mut partition.isr), |leader| vec![leader]);
    }
    if before.is_some() || partition.leader.is_some() {
        partition.leader_epoch += 1;
    }
}
