//! What has to hold of every assignment, for random groups.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::Str;
use proptest::prelude::*;

use super::{super::subscription::Subscription, Assignments, Assignor, Candidate};

/// A dynamic member that owns nothing.
pub(super) fn member(id: &str, topics: &[&str]) -> Candidate {
    owning(id, topics, &[], -1)
}

/// A dynamic member that claims what it was assigned in a generation.
pub(super) fn owning(id: &str, topics: &[&str], owned: &[(&str, &[i32])], generation: i32) -> Candidate {
    let owned = owned.iter().map(|(topic, partitions)| (Str::from(*topic), partitions.to_vec())).collect();
    let topics = names(topics);
    let subscription = Subscription { topics, owned, generation };
    Candidate { member_id: id.into(), instance_id: None, subscription }
}

fn names(names: &[&str]) -> Vec<Str> {
    names.iter().copied().map(Str::from).collect()
}

fn counts(counts: &[(&str, i32)]) -> BTreeMap<Str, i32> {
    counts.iter().map(|(topic, count)| (Str::from(*topic), *count)).collect()
}

/// The assignment in words, a line per member.
pub(super) fn shown(assignor: Assignor, members: Vec<Candidate>, of: &[(&str, i32)]) -> Vec<String> {
    let assigned = assignor.assign(members, &counts(of));
    let line = |(member, partitions): (Str, BTreeSet<_>)| {
        let names: String = partitions.iter().map(|partition| format!(" {partition}")).collect();
        format!("{}:{names}", member.as_str())
    };
    assigned.into_iter().map(line).collect()
}

const TOPICS: [&str; 4] = ["t", "u", "v", "w"];

/// A group: what exists, and who wants what.
#[derive(Debug, Clone)]
struct Group {
    counts: BTreeMap<Str, i32>,
    members: Vec<Candidate>,
}

impl Group {
    fn assign(&self, assignor: Assignor) -> Assignments {
        assignor.assign(self.members.clone(), &self.counts)
    }

    /// Rebalances, as members do it, until nobody has to give anything up any more; the rounds that it took.
    fn settle(&mut self) -> usize {
        for round in 1.. {
            let assigned = self.assign(Assignor::CooperativeSticky);
            let mut gave_up = false;
            for member in &mut self.members {
                let (before, after) = (owned(member), &assigned[&member.member_id]);
                gave_up |= !before.is_subset(after);
                own(member, after);
            }
            if !gave_up {
                return round;
            }
        }
        unreachable!("the range of rounds has no end")
    }

    fn wanted(&self) -> BTreeSet<super::TopicPartition> {
        let wanted: BTreeSet<_> =
            self.members.iter().flat_map(|member| &member.subscription.topics).collect();
        let existing = self.counts.iter().filter(|(topic, _)| wanted.contains(topic));
        existing
            .flat_map(|(topic, count)| {
                (0..*count).map(|partition| super::TopicPartition { topic: topic.clone(), partition })
            })
            .collect()
    }
}

fn owned(member: &Candidate) -> BTreeSet<super::TopicPartition> {
    let owned = member.subscription.owned.iter();
    owned
        .flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(|partition| super::TopicPartition { topic: topic.clone(), partition: *partition })
        })
        .collect()
}

fn own(member: &mut Candidate, partitions: &BTreeSet<super::TopicPartition>) {
    let mut of_topic: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
    for at in partitions {
        of_topic.entry(at.topic.clone()).or_default().push(at.partition);
    }
    member.subscription.owned = of_topic.into_iter().collect();
    member.subscription.generation += 1;
}

/// Each partition that somebody wants goes to exactly one of those that want it.
fn check_complete(group: &Group, assigned: &Assignments) {
    let mut seen = BTreeSet::new();
    for member in &group.members {
        for at in &assigned[&member.member_id] {
            assert!(member.subscription.topics.contains(&at.topic), "{at} was not wanted");
            assert!(seen.insert(at.clone()), "{at} was assigned twice");
        }
    }
    assert_eq!(seen, group.wanted());
}

/// Nobody could hand a partition, over any chain of members, to one with at least two less.
fn check_balanced(group: &Group, assigned: &Assignments) {
    for start in &group.members {
        let (mut reached, mut open) = (BTreeSet::from([&start.member_id]), vec![&start.member_id]);
        while let Some(from) = open.pop() {
            for topic in assigned[from].iter().map(|at| &at.topic) {
                let others = group.members.iter().filter(|member| member.subscription.topics.contains(topic));
                open.extend(others.map(|member| &member.member_id).filter(|id| reached.insert(id)));
            }
        }
        for end in reached {
            let (more, less) = (assigned[&start.member_id].len(), assigned[end].len());
            assert!(more <= less + 1, "{:?} has {more} and {end:?} has {less}", start.member_id);
        }
    }
}

fn groups() -> impl Strategy<Value = Group> {
    let counts = proptest::collection::vec(0_i32..12, TOPICS.len());
    let members = proptest::collection::vec(any::<u8>(), 1..8);
    (counts, members, any::<bool>()).prop_map(|(counts, members, alike)| {
        let counts = names(&TOPICS).into_iter().zip(counts).filter(|(_, count)| *count > 0).collect();
        let members = members.iter().enumerate().map(|(at, wants)| {
            let topics: Vec<_> = (0..TOPICS.len())
                .filter(|topic| alike || wants & (1 << topic) != 0)
                .map(|topic| TOPICS[topic])
                .collect();
            member(&format!("m{at}"), &topics)
        });
        Group { counts, members: members.collect() }
    })
}

/// What happens to a group between two rebalances.
#[derive(Debug, Clone)]
enum Change {
    Joins(u8),
    Goes(prop::sample::Index),
    Grows(prop::sample::Index),
    Resubscribes(prop::sample::Index, u8),
}

fn changes() -> impl Strategy<Value = Change> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        any::<u8>().prop_map(Change::Joins),
        index().prop_map(Change::Goes),
        index().prop_map(Change::Grows),
        (index(), any::<u8>()).prop_map(|(who, what)| Change::Resubscribes(who, what)),
    ]
}

fn chosen(wants: u8) -> Vec<&'static str> {
    TOPICS.iter().enumerate().filter(|(at, _)| wants & (1 << at) != 0).map(|(_, topic)| *topic).collect()
}

impl Group {
    fn change(&mut self, change: &Change, serial: usize) {
        match change {
            Change::Joins(wants) => self.members.push(member(&format!("n{serial}"), &chosen(*wants))),
            Change::Goes(who) if self.members.len() > 1 => {
                self.members.remove(who.index(self.members.len()));
            }
            Change::Goes(_) => {}
            Change::Grows(which) => {
                *self.counts.entry(TOPICS[which.index(TOPICS.len())].into()).or_default() += 3;
            }
            Change::Resubscribes(who, wants) => {
                let member = who.index(self.members.len());
                self.members[member].subscription.topics = names(&chosen(*wants));
            }
        }
    }
}

proptest! {
    #[test]
    fn range_assigns_every_partition_once(group in groups()) {
        check_complete(&group, &group.assign(Assignor::Range));
    }

    #[test]
    fn cooperative_sticky_is_complete_and_balanced_after_every_change(
        mut group in groups(),
        changes in proptest::collection::vec(changes(), 0..8),
    ) {
        group.settle();
        for (serial, change) in changes.iter().enumerate() {
            group.change(change, serial);
            prop_assert!(group.settle() <= 2, "what moves is given up in one round and given out in the next");
            let assigned = group.assign(Assignor::CooperativeSticky);
            check_complete(&group, &assigned);
            check_balanced(&group, &assigned);
            for member in &group.members {
                prop_assert_eq!(&owned(member), &assigned[&member.member_id], "a settled group moves nothing");
            }
        }
    }

    #[test]
    fn nothing_is_given_to_two_members_at_a_time(
        mut group in groups(),
        changes in proptest::collection::vec(changes(), 1..8),
    ) {
        for (serial, change) in changes.iter().enumerate() {
            group.change(change, serial);
            let assigned = group.assign(Assignor::CooperativeSticky);
            for left in &group.members {
                for right in group.members.iter().filter(|right| right.member_id != left.member_id) {
                    let had = owned(left);
                    let gets: BTreeSet<_> = assigned[&right.member_id].difference(&owned(right)).cloned().collect();
                    prop_assert!(had.is_disjoint(&gets), "{had:?} is still with {:?}", left.member_id);
                }
            }
            for member in &mut group.members {
                own(member, &assigned[&member.member_id]);
            }
        }
    }

    #[test]
    fn members_that_want_the_same_lose_no_more_than_balance_costs(
        partitions in 1_i32..60,
        had in proptest::collection::vec(0_usize..20, 1..8),
        new in 0_usize..4,
    ) {
        let mut next = 0;
        let mut members = Vec::new();
        for (at, count) in had.iter().enumerate() {
            let last = (next + *count as i32).min(partitions);
            let owned: Vec<i32> = (next..last).collect();
            next = last;
            members.push(owning(&format!("m{at}"), &["t"], &[("t", &owned)], 1));
        }
        members.extend((0..new).map(|at| member(&format!("n{at}"), &["t"])));
        let mut claims: Vec<_> = members.iter().map(|member| owned(member).len()).collect();
        claims.sort_unstable_by(|left, right| right.cmp(left));
        let (each, extra) = (partitions as usize / members.len(), partitions as usize % members.len());
        let needed: usize =
            claims.iter().enumerate().map(|(at, claim)| claim.saturating_sub(each + usize::from(at < extra))).sum();
        let group = Group { counts: counts(&[("t", partitions)]), members };
        let assigned = group.assign(Assignor::CooperativeSticky);
        let lost: usize = group
            .members
            .iter()
            .map(|member| owned(member).difference(&assigned[&member.member_id]).count())
            .sum();
        prop_assert_eq!(lost, needed);
    }

    #[test]
    fn the_order_of_members_and_topics_does_not_matter(group in groups(), turn in 0_usize..8) {
        let mut turned = group.clone();
        let by = turn % turned.members.len();
        turned.members.rotate_left(by);
        turned.members.iter_mut().for_each(|member| member.subscription.topics.reverse());
        for assignor in [Assignor::CooperativeSticky, Assignor::Range] {
            prop_assert_eq!(group.assign(assignor), turned.assign(assignor));
        }
    }

    #[test]
    fn impossible_claims_do_no_harm(
        group in groups(),
        claims in proptest::collection::vec((any::<u8>(), -3_i32..30, any::<i32>()), 0..40),
    ) {
        let mut group = group;
        for (who, partition, generation) in claims {
            let member = usize::from(who) % group.members.len();
            let subscription = &mut group.members[member].subscription;
            subscription.generation = generation;
            subscription.owned.push((TOPICS[usize::from(who) % TOPICS.len()].into(), vec![partition, partition]));
        }
        let assigned = group.assign(Assignor::CooperativeSticky);
        let all: Vec<_> = assigned.values().flatten().collect();
        let once: BTreeSet<_> = all.iter().collect();
        prop_assert_eq!(all.len(), once.len(), "nothing twice");
        check_complete(&group, &group.assign(Assignor::Range));
    }
}
