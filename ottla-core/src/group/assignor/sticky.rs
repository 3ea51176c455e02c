//! `cooperative-sticky`: balanced, moving as little as possible, and never before the owner has given up (KIP-429).
//!
//! ```text
//!   claims ──▶ keep ──▶ spread what nobody keeps ──▶ level ──▶ restore ──▶ withhold
//!              every    to the least loaded          along      swap back   what still has another
//!              rightful                              shortest   what moved  owner, until that one
//!              owner                                 paths      needlessly  has given it up
//! ```
//!
//! *Balanced* means that no partition, and no chain of partitions handed from member to member, could be moved so that a
//! member with more gives to one with at least two less. As all partitions of a topic can go to the same members, chains
//! are looked for from topic to topic.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use ottla_protocol::Str;

use super::{super::TopicPartition, Candidate, Topic};

/// Assigns to candidates, by their place in the order of candidates.
pub(super) fn assign(candidates: &[Candidate], topics: &[Topic<'_>]) -> Vec<BTreeSet<TopicPartition>> {
    let claims = Claims::read(candidates, topics);
    let mut board = Board::new(candidates.len(), topics);
    board.keep(&claims);
    board.spread();
    board.level(&claims, Movable::Unclaimed);
    board.level(&claims, Movable::All);
    board.restore(&claims);
    board.into_assigned(&claims)
}

/// Who says that it has which partition.
struct Claims {
    /// By topic and partition, all members that say so, in ascending order.
    claimants: Vec<Vec<Vec<usize>>>,
    /// By topic and partition, whose claim is the newest, if that one may keep it.
    rightful: Vec<Vec<Option<usize>>>,
}

impl Claims {
    /// A claim of an older generation is that of a member that missed a rebalance: it counts only if nobody has a newer
    /// one. If two members claim the same partition in the same generation, neither is believed.
    fn read(candidates: &[Candidate], topics: &[Topic<'_>]) -> Self {
        let places: BTreeMap<&Str, usize> =
            topics.iter().enumerate().map(|(place, topic)| (topic.name, place)).collect();
        let sizes = || topics.iter().map(|topic| usize::try_from(topic.partitions).unwrap_or(0));
        let mut claimants: Vec<_> = sizes().map(|size| vec![Vec::new(); size]).collect();
        for (member, candidate) in candidates.iter().enumerate() {
            for (name, partitions) in &candidate.subscription.owned {
                let Some(of_topic) = places.get(name).and_then(|place| claimants.get_mut(*place)) else {
                    continue;
                };
                for partition in partitions {
                    let claimed = usize::try_from(*partition).ok().and_then(|at| of_topic.get_mut(at));
                    // A member that claims a partition twice claims it.
                    if let Some(claimed) = claimed.filter(|claimed| claimed.last() != Some(&member)) {
                        claimed.push(member);
                    }
                }
            }
        }
        let rightful = topics.iter().zip(&claimants).map(|(topic, claimants)| {
            claimants.iter().map(|claimants| rightful_owner(candidates, topic, claimants)).collect()
        });
        Self { rightful: rightful.collect(), claimants }
    }

    fn owner(&self, at: Place) -> Option<usize> {
        self.rightful[at.topic][at.index()]
    }

    /// Whether another member than `member` has to give the partition up first. Any claim counts, however old: its member
    /// may not know yet that it is out of date.
    fn is_held_by_another(&self, at: Place, member: usize) -> bool {
        let claimants = &self.claimants[at.topic][at.index()];
        !claimants.is_empty() && !claimants.contains(&member)
    }
}

fn rightful_owner(candidates: &[Candidate], topic: &Topic<'_>, claimants: &[usize]) -> Option<usize> {
    let generation = |member: &usize| candidates[*member].subscription.generation;
    let newest = claimants.iter().map(generation).max()?;
    let mut with_newest = claimants.iter().filter(|member| generation(member) == newest);
    match (with_newest.next(), with_newest.next()) {
        (Some(owner), None) => Some(*owner).filter(|owner| topic.subscribers.binary_search(owner).is_ok()),
        _ => None,
    }
}

/// A partition: the place of its topic, and its number, which is not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    topic: usize,
    partition: i32,
}

impl Place {
    fn index(self) -> usize {
        // Partitions are counted from 0 up to an `i32`.
        usize::try_from(self.partition).unwrap_or(0)
    }
}

/// Who is to get what.
struct Board<'a> {
    topics: &'a [Topic<'a>],
    /// By member and topic: its partitions.
    held: Vec<BTreeMap<usize, BTreeSet<i32>>>,
    /// By member: how many partitions it has.
    load: Vec<usize>,
    /// By topic and partition: whose it is.
    holder: Vec<Vec<Option<usize>>>,
}

/// What may be moved to level the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Movable {
    /// What its member did not have before. Tried first: if a balanced assignment exists in which everybody keeps what
    /// they have, this finds one, so that what was given up in one rebalance is given out in the next without another.
    Unclaimed,
    All,
}

/// One partition of a topic goes from one member to another.
#[derive(Debug, Clone, Copy)]
struct Step {
    from: usize,
    topic: usize,
    to: usize,
}

impl<'a> Board<'a> {
    fn new(members: usize, topics: &'a [Topic<'a>]) -> Self {
        let holder = topics.iter().map(|topic| vec![None; usize::try_from(topic.partitions).unwrap_or(0)]);
        Self {
            topics,
            held: vec![BTreeMap::new(); members],
            load: vec![0; members],
            holder: holder.collect(),
        }
    }

    fn places(&self) -> impl Iterator<Item = Place> + use<'a> {
        let topics = self.topics.iter().enumerate();
        topics.flat_map(|(topic, of)| (0..of.partitions).map(move |partition| Place { topic, partition }))
    }

    fn holder(&self, at: Place) -> Option<usize> {
        self.holder[at.topic][at.index()]
    }

    fn give(&mut self, at: Place, to: usize) {
        if let Some(from) = self.holder[at.topic][at.index()].replace(to) {
            self.load[from] -= 1;
            if let Some(of_topic) = self.held[from].get_mut(&at.topic) {
                of_topic.remove(&at.partition);
            }
        }
        self.load[to] += 1;
        self.held[to].entry(at.topic).or_default().insert(at.partition);
    }

    fn keep(&mut self, claims: &Claims) {
        for at in self.places() {
            if let Some(owner) = claims.owner(at) {
                self.give(at, owner);
            }
        }
    }

    /// What nobody keeps goes to whoever has least, the first of them.
    fn spread(&mut self) {
        for (topic, of) in self.topics.iter().enumerate() {
            let mut least: BinaryHeap<_> =
                of.subscribers.iter().map(|member| Reverse((self.load[*member], *member))).collect();
            for partition in 0..of.partitions {
                let at = Place { topic, partition };
                if self.holder(at).is_some() {
                    continue;
                }
                let Some(mut top) = least.peek_mut() else { break };
                let Reverse((load, member)) = *top;
                *top = Reverse((load + 1, member));
                drop(top);
                self.give(at, member);
            }
        }
    }

    /// Moves partitions from members with more to members with at least two less, until none is left that could. Whoever has
    /// most gives first: no member then gives away what it could have kept.
    fn level(&mut self, claims: &Claims, movable: Movable) {
        let mut moved = true;
        while std::mem::take(&mut moved) {
            let mut most: BinaryHeap<_> = self.load.iter().copied().zip(0..).collect();
            let least = self.load.iter().min().copied().unwrap_or(0);
            while let Some((load, start)) = most.pop().filter(|(load, _)| *load > least + 1) {
                if load != self.load[start] {
                    continue;
                }
                let Some(path) = self.path_to_less(start, claims, movable) else { continue };
                let end = path.first().map_or(start, |step| step.to);
                path.into_iter().for_each(|step| self.take(step, claims));
                most.extend([start, end].map(|member| (self.load[member], member)));
                moved = true;
            }
        }
    }

    /// The shortest chain of members from `start` to one with at least two partitions less, last step first. A chain costs a
    /// move for each step, and changes the load of its ends only.
    fn path_to_less(&self, start: usize, claims: &Claims, movable: Movable) -> Option<Vec<Step>> {
        let mut reached: Vec<Option<Step>> = vec![None; self.load.len()];
        let mut seen_topic = vec![false; self.topics.len()];
        let mut level = vec![start];
        while !level.is_empty() {
            let mut next = Vec::new();
            for from in level {
                for (topic, partitions) in &self.held[from] {
                    let topic = *topic;
                    let may_move = |partition: &i32| match movable {
                        Movable::All => true,
                        Movable::Unclaimed => {
                            claims.owner(Place { topic, partition: *partition }) != Some(from)
                        }
                    };
                    if seen_topic[topic] || !partitions.iter().any(may_move) {
                        continue;
                    }
                    seen_topic[topic] = true;
                    for to in &self.topics[topic].subscribers {
                        if *to != start && reached[*to].is_none() {
                            reached[*to] = Some(Step { from, topic, to: *to });
                            next.push(*to);
                        }
                    }
                }
            }
            let least = next.iter().copied().min_by_key(|member| (self.load[*member], *member));
            if let Some(end) = least.filter(|member| self.load[*member] + 2 <= self.load[start]) {
                let path = std::iter::successors(reached[end], |step| reached[step.from]);
                return Some(path.collect());
            }
            level = next;
        }
        None
    }

    /// Takes the step with the partition that is missed least: one that comes home, else one that was not at home anyway.
    fn take(&mut self, step: Step, claims: &Claims) {
        let Some(partitions) = self.held[step.from].get(&step.topic) else { return };
        let missed = |partition: &i32| match claims.owner(Place { topic: step.topic, partition: *partition })
        {
            Some(owner) if owner == step.to => 0,
            Some(owner) if owner == step.from => 2,
            _ => 1,
        };
        if let Some(partition) = partitions.iter().copied().min_by_key(missed) {
            self.give(Place { topic: step.topic, partition }, step.to);
        }
    }

    /// Lets partitions stay where they were if that costs no balance: by moving them back to an owner that has less, or in
    /// exchange for one that moves anyway.
    fn restore(&mut self, claims: &Claims) {
        let is_away = |board: &Self, at: Place| {
            let (owner, holder) = (claims.owner(at)?, board.holder(at)?);
            (owner != holder).then_some((owner, holder))
        };
        let mut away: Vec<_> = self.places().filter(|at| is_away(self, *at).is_some()).collect();
        loop {
            let before = away.len();
            for at in away.iter().copied() {
                let Some((owner, holder)) = is_away(self, at) else { continue };
                if self.load[owner] < self.load[holder] {
                    self.give(at, owner);
                } else if let Some(other) = self.exchangeable(owner, holder, claims) {
                    self.give(other, holder);
                    self.give(at, owner);
                }
            }
            away.retain(|at| is_away(self, *at).is_some());
            if away.len() == before {
                return;
            }
        }
    }

    /// A partition that `from` has without having had it before, and that `to` may have.
    fn exchangeable(&self, from: usize, to: usize, claims: &Claims) -> Option<Place> {
        let places = self.held[from].iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(|partition| Place { topic: *topic, partition: *partition })
        });
        let mut other = places.filter(|at| claims.owner(*at) != Some(from));
        other.find(|at| self.topics[at.topic].subscribers.binary_search(&to).is_ok())
    }

    /// The assignment without what its new member has to wait for: as soon as the old one has given it up it joins again,
    /// and nobody claims it any more.
    fn into_assigned(self, claims: &Claims) -> Vec<BTreeSet<TopicPartition>> {
        let topics = self.topics;
        let of_member = |(member, held): (usize, BTreeMap<usize, BTreeSet<i32>>)| {
            let places = held.into_iter().flat_map(|(topic, partitions)| {
                partitions.into_iter().map(move |partition| Place { topic, partition })
            });
            let is_free = |at: &Place| !claims.is_held_by_another(*at, member);
            let free = places.filter(|at| is_free(at) || planted!("two-owners-after-a-rebalance"));
            free.map(|at| TopicPartition { topic: topics[at.topic].name.clone(), partition: at.partition })
                .collect()
        };
        self.held.into_iter().enumerate().map(of_member).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::properties::{member, owning, shown};
    use crate::group::Assignor::CooperativeSticky;

    fn assigned(members: Vec<super::Candidate>, counts: &[(&str, i32)]) -> Vec<String> {
        shown(CooperativeSticky, members, counts)
    }

    #[test]
    fn new_members_share_alike() {
        let members = vec![member("a", &["t", "u"]), member("b", &["t", "u"])];
        assert_eq!(assigned(members, &[("t", 3), ("u", 3)]), ["a: t-0 t-2 u-1", "b: t-1 u-0 u-2"]);
    }

    #[test]
    fn a_member_that_joins_waits_for_what_others_have_to_give_up() {
        let mut members = vec![owning("a", &["t"], &[("t", &[0, 1, 2, 3])], 1), member("b", &["t"])];
        let first = assigned(members.clone(), &[("t", 4)]);
        assert_eq!(first, ["a: t-2 t-3", "b:"]);
        members[0] = owning("a", &["t"], &[("t", &[2, 3])], 2);
        assert_eq!(assigned(members, &[("t", 4)]), ["a: t-2 t-3", "b: t-0 t-1"]);
    }

    #[test]
    fn what_a_lost_member_had_is_spread_over_the_rest() {
        let members =
            vec![owning("a", &["t"], &[("t", &[0, 3])], 1), owning("b", &["t"], &[("t", &[1, 4])], 1)];
        assert_eq!(assigned(members, &[("t", 6)]), ["a: t-0 t-2 t-3", "b: t-1 t-4 t-5"]);
    }

    #[test]
    fn the_newest_generation_is_believed() {
        let members =
            vec![owning("a", &["t"], &[("t", &[0, 1])], 4), owning("b", &["t"], &[("t", &[0, 1])], 5)];
        let all = assigned(members, &[("t", 2)]);
        assert_eq!(all, ["a: t-0", "b: t-1"], "a claims what moves to it, so that it may go on");
    }

    #[test]
    fn a_claim_of_an_older_generation_counts_if_it_is_the_only_one() {
        let members = vec![
            owning("a", &["t"], &[("t", &[1, 2])], 4),
            owning("b", &["t"], &[("t", &[3])], 5),
            member("c", &["t"]),
        ];
        assert_eq!(assigned(members, &[("t", 4)]), ["a: t-1 t-2", "b: t-3", "c: t-0"]);
    }

    #[test]
    fn two_claims_of_one_generation_cancel_each_other() {
        let members = vec![
            owning("a", &["t"], &[("t", &[0])], 4),
            owning("b", &["t"], &[("t", &[0, 1])], 4),
            member("c", &["u"]),
        ];
        assert_eq!(assigned(members, &[("t", 2), ("u", 1)]), ["a: t-0", "b: t-1", "c: u-0"]);
    }

    #[test]
    fn a_chain_of_topics_levels_members_that_have_none_in_common() {
        // a → b by t, b → c by u: b keeps its number and passes one on.
        let members = vec![
            owning("a", &["t"], &[("t", &[0, 1, 2])], 1),
            owning("b", &["t", "u"], &[("u", &[0, 1])], 1),
            member("c", &["u"]),
        ];
        let moved = assigned(members, &[("t", 3), ("u", 2)]);
        assert_eq!(moved, ["a: t-1 t-2", "b: u-1", "c:"], "t-0 and u-0 are on their way");
    }

    #[test]
    fn topics_that_are_not_wanted_any_more_are_given_up_before_others_get_them() {
        let members = vec![owning("a", &["u"], &[("t", &[0])], 1), member("b", &["t"])];
        assert_eq!(assigned(members, &[("t", 2), ("u", 1)]), ["a: u-0", "b: t-1"]);
    }
}
