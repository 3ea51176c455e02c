//! What the members of a group did with the records of its topics, told by them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ottla::TopicPartition;

use super::{
    Begins, Elections, Logs, Report, begun, cut,
    event::{self, Actor, Change, Entry, Event, Open, Outcome, value_of},
    judge, truth,
};
use crate::{World, trace, world::Shared};

/// Its name in events.
const GROUP: &str = "group";

/// What a member says of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It owns the partition from now on.
    Assigned,
    /// It gave the partition up. `committed`: with everything that it has handled so far.
    Revoked {
        /// Whether the commit succeeded.
        committed: bool,
    },
    /// It learned that it does not own the partition any more.
    Lost,
    /// Its process is gone.
    Crashed,
    /// The consumer gave the application the record at this offset.
    HandedOut(i64),
    /// The application has done what the record at this offset asks for.
    Handled(i64),
    /// The coordinator has acknowledged the commit of this offset, the next one to be handled.
    Committed(i64),
}

/// One thing that a member said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// When, in virtual time.
    pub at: Duration,
    /// By which member; a process that is started again is another member.
    pub member: u32,
    /// Of which partition.
    pub partition: TopicPartition,
    /// What.
    pub what: What,
    /// The epoch of the leader that wrote the record, if it is about a record, and that is known.
    pub leader_epoch: Option<i32>,
    /// What the record says that was handed out, as [`value_of`](super::event::value_of) calls it.
    pub value: Option<Box<str>>,
}

/// A commit as the coordinator stored it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// When: as the coordinator's clock had it in whole milliseconds, or exactly.
    pub at: Duration,
    /// The offset of the next record to be handled.
    pub offset: i64,
    /// The epoch of the leader that wrote the record in front of it, if the commit says so.
    pub leader_epoch: Option<i32>,
}

/// The commits of a group, by partition, in the order in which they were stored.
pub type Commits = BTreeMap<i32, Vec<Stored>>;

/// The truth about a topic that a group handles.
#[derive(Debug, Clone, Default)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// All that was ever in its logs and is committed, also what they have dropped.
    pub logs: Logs,
    /// Where its logs began: what was dropped before it was handled is not missed.
    pub begins: Begins,
    /// What the group's coordinator stored.
    pub commits: Commits,
    /// What unclean elections have cost: see [`Cluster::lost`](crate::Cluster::lost).
    pub lost: Logs,
    /// Those elections.
    pub elections: Elections,
}

/// What must hold and what may be counted: the outcome of [`GroupHistory::check`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many records were handled at least once.
    pub handled: usize,
    /// Each time that a record was handled again. All of them are explained: there is a violation otherwise.
    pub twice: Vec<Twice>,
}

impl Verdict {
    fn of(report: &Report) -> Self {
        let twice = report.twice.iter().map(|twice| Twice {
            partition: twice.partition.clone(),
            offset: twice.offset,
            first: twice.first.process,
            again: twice.again.process,
        });
        Self { handled: report.counts.processed, twice: twice.collect() }
    }
}

/// Where a record is, and the epoch of the leader that wrote it: of one partition, there is no other of the same.
pub type Place = (i64, Option<i32>);

/// A record that was handled again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twice {
    /// Of which partition.
    pub partition: TopicPartition,
    /// At which offset.
    pub offset: i64,
    /// The member that had handled it.
    pub first: u32,
    /// The member that handled it again.
    pub again: u32,
}

/// All that the members of one group said. Cheap to clone: clones share it.
#[derive(Clone)]
pub struct GroupHistory {
    shared: Arc<Shared>,
    records: Arc<Mutex<Records>>,
}

#[derive(Default)]
struct Records {
    members: Vec<Arc<str>>,
    told: Vec<Told>,
    /// What each member owns, to say what it lost by a crash.
    owned: BTreeSet<(u32, TopicPartition)>,
    /// How often each record was, by offset and leader epoch.
    handled: BTreeMap<TopicPartition, BTreeMap<Place, u32>>,
    overlap: Duration,
    /// What goes wrong, on purpose, and that it is over.
    faults: Vec<(Duration, String)>,
}

impl GroupHistory {
    /// An empty one.
    #[must_use]
    pub fn new(world: &World) -> Self {
        Self { shared: Arc::clone(&world.shared), records: Arc::default() }
    }

    /// A new member; `name` is for reports.
    #[must_use]
    pub fn member(&self, name: &str) -> MemberHistory {
        let mut records = self.lock();
        records.members.push(name.into());
        MemberHistory { history: self.clone(), number: records.members.len() as u32 }
    }

    /// An owner may go on for so long after another has begun: for what is documented not to be exclusive.
    pub fn tolerate_overlap(&self, overlap: Duration) {
        self.lock().overlap = overlap;
    }

    /// Something goes wrong, on purpose; or that is over.
    pub fn fault(&self, line: &str) {
        let at = self.now();
        self.lock().faults.push((at, line.to_owned()));
    }

    /// How many different records were handled.
    #[must_use]
    pub fn handled(&self) -> usize {
        self.lock().handled.values().map(BTreeMap::len).sum()
    }

    /// How many records were handled again; one that was handled three times counts twice.
    #[must_use]
    pub fn handled_twice(&self) -> usize {
        let records = self.lock();
        records.handled.values().flat_map(BTreeMap::values).map(|times| *times as usize - 1).sum()
    }

    /// How many partitions are owned by members that have not crashed; more than there are while one of the owners does
    /// not know yet.
    #[must_use]
    pub fn owned(&self) -> usize {
        self.lock().owned.len()
    }

    /// All that was told so far.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        self.lock().told.clone()
    }

    /// The time by which things are told: virtual time since the world began, in which the cluster lives.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.lived()
    }

    /// How many records were handed out after `from` and until `until` ([`GroupHistory::now`]).
    #[must_use]
    pub fn handed_out_between(&self, from: Duration, until: Duration) -> usize {
        let of_then =
            |told: &&Told| matches!(told.what, What::HandedOut(_)) && told.at > from && told.at <= until;
        self.lock().told.iter().filter(of_then).count()
    }

    /// Whether the record at that place was handled.
    #[must_use]
    pub fn has_handled(&self, partition: &TopicPartition, place: Place) -> bool {
        self.lock().handled.get(partition).is_some_and(|handled| handled.contains_key(&place))
    }

    /// What no member can know of: see [`cut`].
    pub(crate) fn hidden(&self, topic: &Topic) -> BTreeSet<(TopicPartition, Place)> {
        cut::hidden(&self.lock().told, topic)
    }

    /// All of it, and the truth.
    #[must_use]
    pub fn events(&self, topics: &[Topic]) -> Vec<Event> {
        let records = self.lock();
        let mut events =
            events(&records.members, &records.told, topics, records.overlap, self.shared.lived());
        events.extend(records.faults.iter().map(|(at, line)| Event {
            at: *at,
            actor: Actor::OBSERVER,
            outcome: Outcome::Info,
            what: event::What::Fault(line.clone()),
            error: None,
        }));
        events
    }

    /// Checks everything, and fails the run at the worst violation. Once the group has handled all there is of these topics,
    /// which are all that its members subscribe to.
    pub fn check(&self, world: &World, topics: &[Topic]) -> Verdict {
        let unheard_of = cut::unheard_of(&self.lock().told, topics).cloned();
        let expected = "members to get what is in the logs, or was";
        world.expect(unheard_of.is_none(), expected, || format!("{unheard_of:?}"));
        Verdict::of(&judge(world, GROUP, &self.events(topics)))
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        // What a panic leaves behind is read by nobody but the report.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for GroupHistory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupHistory").field("told", &self.lock().told.len()).finish_non_exhaustive()
    }
}

/// What one member tells. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MemberHistory {
    history: GroupHistory,
    number: u32,
}

impl MemberHistory {
    /// Its number in the history.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// What its partitions are now.
    #[must_use]
    pub fn owned(&self) -> Vec<TopicPartition> {
        let records = self.history.lock();
        let mine = records.owned.iter().filter(|(member, _)| *member == self.number);
        mine.map(|(_, partition)| partition.clone()).collect()
    }

    /// It owns these from now on.
    pub fn assigned(&self, partitions: impl IntoIterator<Item = TopicPartition>) {
        partitions.into_iter().for_each(|partition| self.tell(partition, What::Assigned, None));
    }

    /// It gave these up; `committed`: with all that it has handled.
    pub fn revoked(&self, partitions: impl IntoIterator<Item = TopicPartition>, committed: bool) {
        partitions.into_iter().for_each(|partition| self.tell(partition, What::Revoked { committed }, None));
    }

    /// It learned that it does not own these any more.
    pub fn lost(&self, partitions: impl IntoIterator<Item = TopicPartition>) {
        partitions.into_iter().for_each(|partition| self.tell(partition, What::Lost, None));
    }

    /// Its process is gone.
    pub fn crashed(&self) {
        self.owned().into_iter().for_each(|partition| self.tell(partition, What::Crashed, None));
    }

    /// It got this record, which says this: it has to be what the log has there.
    pub fn handed_out(&self, partition: &TopicPartition, (offset, leader_epoch): Place, value: &[u8]) {
        self.tell_of(partition.clone(), What::HandedOut(offset), leader_epoch, Some(value_of(value)));
    }

    /// It has done what this record asks for.
    pub fn handled(&self, partition: &TopicPartition, (offset, leader_epoch): Place) {
        self.tell(partition.clone(), What::Handled(offset), leader_epoch);
    }

    /// The coordinator has acknowledged its commit of this offset.
    pub fn committed(&self, partition: &TopicPartition, offset: i64) {
        self.tell(partition.clone(), What::Committed(offset), None);
    }

    fn tell(&self, partition: TopicPartition, what: What, leader_epoch: Option<i32>) {
        self.tell_of(partition, what, leader_epoch, None);
    }

    fn tell_of(
        &self,
        partition: TopicPartition,
        what: What,
        leader_epoch: Option<i32>,
        value: Option<Box<str>>,
    ) {
        let GroupHistory { shared, .. } = &self.history;
        let mut records = self.history.lock();
        match what {
            What::Assigned => drop(records.owned.insert((self.number, partition.clone()))),
            What::Revoked { .. } | What::Lost | What::Crashed => {
                records.owned.remove(&(self.number, partition.clone()));
            }
            What::Handled(offset) => {
                let handled = records.handled.entry(partition.clone()).or_default();
                *handled.entry((offset, leader_epoch)).or_default() += 1;
            }
            What::HandedOut(_) | What::Committed(_) => {}
        }
        let name = Arc::clone(&records.members[self.number as usize - 1]);
        let (at, member) = (shared.lived(), self.number);
        records.told.push(Told { at, member, partition: partition.clone(), what, leader_epoch, value });
        drop(records);
        if !matches!(what, What::HandedOut(_) | What::Handled(_) | What::Committed(_)) {
            shared.record(trace::Event::Note(format!("{name} of {partition}: {what:?}").into()));
        }
    }
}

/// What members told, and the truth, as events.
fn events(
    members: &[Arc<str>],
    told: &[Told],
    topics: &[Topic],
    overlap: Duration,
    now: Duration,
) -> Vec<Event> {
    let event = |at, process, outcome, what| {
        let actor = if process == 0 { Actor::OBSERVER } else { Actor::first(process) };
        Event { at, actor, outcome, what, error: None }
    };
    let mut events = Vec::new();
    for (number, name) in (1..).zip(members) {
        let (name, group) = (Box::from(&**name), Some(GROUP.into()));
        let open = Open { name, group, overlap, ..Open::default() };
        events.push(event(Duration::ZERO, number, Outcome::Info, event::What::Open(open)));
    }
    let (told, topics) = cut::forget(told, topics);
    events.extend(told.iter().map(|told| event(told.at, told.member, Outcome::Ok, told.what())));
    for Topic { name, logs, begins, commits, .. } in topics.iter() {
        for (partition, stored) in commits {
            for Stored { at, offset, .. } in stored {
                let offsets = vec![Entry::at(TopicPartition::new(Arc::clone(name), *partition), *offset)];
                let what = event::What::Stored { group: GROUP.into(), offsets };
                events.push(event(*at, 0, Outcome::Ok, what));
            }
        }
        events.extend(truth(now, name, logs));
        events.extend(begun(name, begins, |begin| begin.at));
    }
    events
}

impl Told {
    fn what(&self) -> event::What {
        let partition = self.partition.clone();
        let change = match self.what {
            What::HandedOut(offset) => {
                let (offset, value) = (Some(offset), self.value.clone());
                return event::What::Poll(vec![Entry { partition, offset, value }]);
            }
            What::Handled(offset) => return event::What::Process(vec![Entry::at(partition, offset)]),
            What::Committed(offset) => return event::What::Commit(vec![Entry::at(partition, offset)]),
            // Its partitions are told one by one, and the process ends with the first of them.
            What::Crashed => return event::What::Crash,
            What::Assigned => Change::Assigned,
            What::Revoked { committed } => Change::Revoked { committed },
            What::Lost => Change::Lost,
        };
        event::What::Rebalance { change, partitions: vec![partition] }
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
