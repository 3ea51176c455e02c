//! `range`: the partitions of each topic in one run per member, the first members get one more if it does not divide.
//!
//! Topics that have the same number of partitions and the same subscribers are thereby assigned alike, so that records with
//! the same key meet at one member. As Java's RangeAssignor without racks.

use std::collections::BTreeSet;

use super::{super::TopicPartition, Topic};

/// Assigns to `members` members, by their place in the order of candidates.
pub(super) fn assign(members: usize, topics: &[Topic<'_>]) -> Vec<BTreeSet<TopicPartition>> {
    let mut assigned = vec![BTreeSet::new(); members];
    for topic in topics {
        let partitions = usize::try_from(topic.partitions).unwrap_or(0);
        // A topic is in the list because it has a subscriber.
        let (each, extra) = (partitions / topic.subscribers.len(), partitions % topic.subscribers.len());
        let mut next = 0;
        for (place, member) in topic.subscribers.iter().enumerate() {
            let end = next + i32::try_from(each + usize::from(place < extra)).unwrap_or(i32::MAX);
            assigned[*member]
                .extend((next..end).map(|partition| TopicPartition { topic: topic.name.clone(), partition }));
            next = end;
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::super::properties::{member, shown};
    use crate::group::Assignor::Range;

    #[test]
    fn the_first_members_get_one_more() {
        let members = vec![member("c2", &["t"]), member("c1", &["t"])];
        assert_eq!(shown(Range, members, &[("t", 3)]), ["c1: t-0 t-1", "c2: t-2"]);
    }

    #[test]
    fn more_members_than_partitions_leave_some_without() {
        let members = vec![member("c1", &["t"]), member("c2", &["t"]), member("c3", &["t"])];
        assert_eq!(shown(Range, members, &[("t", 2)]), ["c1: t-0", "c2: t-1", "c3:"]);
    }

    #[test]
    fn topics_of_the_same_size_are_assigned_alike() {
        let members = vec![member("c1", &["t", "u"]), member("c2", &["u", "t"])];
        assert_eq!(shown(Range, members, &[("t", 3), ("u", 3)]), ["c1: t-0 t-1 u-0 u-1", "c2: t-2 u-2"]);
    }

    #[test]
    fn only_subscribers_count() {
        let members = vec![member("c1", &["t"]), member("c2", &["t", "u"]), member("c3", &["missing"])];
        assert_eq!(shown(Range, members, &[("t", 3), ("u", 2)]), ["c1: t-0 t-1", "c2: t-2 u-0 u-1", "c3:"]);
    }

    #[test]
    fn static_members_come_first_and_by_their_instance_id() {
        let mut members = vec![member("c1", &["t"]), member("c2", &["t"]), member("c3", &["t"])];
        members[1].instance_id = Some("b".into());
        members[2].instance_id = Some("a".into());
        assert_eq!(shown(Range, members, &[("t", 4)]), ["c1: t-3", "c2: t-2", "c3: t-0 t-1"]);
    }
}
