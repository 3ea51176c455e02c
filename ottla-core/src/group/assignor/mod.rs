//! Who gets which partition: run by the leader of a group, from what all members told about themselves.
//!
//! The result depends on nothing but the members, their subscriptions and the partition counts: whoever leads, and in
//! whatever order the coordinator lists them, the same group is assigned the same.

mod range;
mod sticky;

#[cfg(test)]
mod properties;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use ottla_protocol::Str;

use super::{TopicPartition, subscription::Subscription};

/// A strategy by which the leader of a group spreads partitions over members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Assignor {
    /// Balanced, moves as few partitions as possible, and takes nothing away from a member before it gave it up (KIP-429).
    CooperativeSticky,
    /// For every topic, neighbouring partitions to each member in turn; all partitions are given up in every rebalance.
    Range,
}

impl Assignor {
    /// The protocol name by which all clients know it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Range => "range",
        }
    }

    /// Whether members keep what stays theirs through a rebalance.
    #[must_use]
    pub const fn is_cooperative(self) -> bool {
        matches!(self, Self::CooperativeSticky)
    }

    /// Assigns all partitions of the topics that somebody wants. `counts` has the topics that exist.
    pub(super) fn assign(self, mut candidates: Vec<Candidate>, counts: &BTreeMap<Str, i32>) -> Assignments {
        candidates.sort_unstable_by(Candidate::order);
        let topics = wanted_topics(&candidates, counts);
        let assigned = match self {
            Self::CooperativeSticky => sticky::assign(&candidates, &topics),
            Self::Range => range::assign(candidates.len(), &topics),
        };
        candidates.into_iter().map(|candidate| candidate.member_id).zip(assigned).collect()
    }
}

/// Everything that every member is assigned, by member id.
pub(super) type Assignments = BTreeMap<Str, BTreeSet<TopicPartition>>;

/// A member as the leader sees it.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) member_id: Str,
    pub(super) instance_id: Option<Str>,
    pub(super) subscription: Subscription,
}

impl Candidate {
    /// Java's order: static members first, by the name that survives their restarts, then the others by member id.
    fn order(left: &Self, right: &Self) -> Ordering {
        match (&left.instance_id, &right.instance_id) {
            (Some(left_id), Some(right_id)) => {
                left_id.cmp(right_id).then_with(|| left.member_id.cmp(&right.member_id))
            }
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => left.member_id.cmp(&right.member_id),
        }
    }
}

/// A topic that exists and that somebody wants. Members are named by their place in the order of candidates.
#[derive(Debug)]
struct Topic<'a> {
    name: &'a Str,
    partitions: i32,
    /// In ascending order, each once.
    subscribers: Vec<usize>,
}

/// In the order of their names.
fn wanted_topics<'a>(candidates: &[Candidate], counts: &'a BTreeMap<Str, i32>) -> Vec<Topic<'a>> {
    let mut subscribers: BTreeMap<&Str, Vec<usize>> = BTreeMap::new();
    for (member, candidate) in candidates.iter().enumerate() {
        for topic in &candidate.subscription.topics {
            let subscribers = subscribers.entry(topic).or_default();
            if subscribers.last() != Some(&member) {
                subscribers.push(member);
            }
        }
    }
    let topics = subscribers.into_iter().filter_map(|(topic, subscribers)| {
        let (name, partitions) = counts.get_key_value(topic)?;
        Some(Topic { name, partitions: *partitions, subscribers })
    });
    topics.collect()
}
