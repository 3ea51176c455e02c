//! A history in columns: what the checks need of ten million events, in some hundred megabytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::BuildHasher as _,
    time::Duration,
};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use ottla::TopicPartition;

use crate::history::event::{Actor, Change, Delivery, Entry, Event, Open, Outcome, What};

/// An event's place in the history.
pub(super) type Place = u32;

/// A record whose value is not known.
pub(super) const NO_VALUE: u32 = u32::MAX;

/// A process in one of its lives.
#[derive(Debug)]
pub(super) struct ActorRow {
    pub(super) actor: Actor,
    pub(super) open: Open,
    /// When it crashed or closed.
    pub(super) ended: Option<Place>,
    pub(super) crashed: bool,
    /// Where its consumer is.
    lanes: BTreeSet<u32>,
}

impl ActorRow {
    /// As reports call it.
    pub(super) fn name(&self) -> String {
        let Actor { process, incarnation } = self.actor;
        match (&*self.open.name, incarnation) {
            ("", 0 | 1) => format!("process {process}"),
            ("", life) => format!("process {process} (life {life})"),
            (name, 0 | 1) => name.to_owned(),
            (name, life) => format!("{name} (life {life})"),
        }
    }
}

/// What became of a record that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Pending,
    Written(Option<i64>),
    NotWritten,
    PossiblyWritten,
}

/// A record that was sent.
#[derive(Debug)]
pub(super) struct Send {
    pub(super) actor: u32,
    pub(super) partition: u32,
    pub(super) value: u32,
    pub(super) invoked: Place,
    pub(super) settled: Place,
    pub(super) fate: Fate,
}

/// Who says that something is at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    Log,
    Acknowledged,
    Polled,
}

/// That a value is at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen {
    pub(super) partition: u32,
    pub(super) offset: i64,
    pub(super) source: Source,
    pub(super) value: u32,
    pub(super) place: Place,
}

/// One partition, as one group or one consumer without group reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lane {
    pub(super) reader: Reader,
    pub(super) partition: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reader {
    Group(u32),
    Alone(u32),
}

/// What a reader did in a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) lane: u32,
    pub(super) place: Place,
    pub(super) actor: u32,
    pub(super) did: Did,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Did {
    /// A consumer without group reads from here on.
    Placed(Option<i64>),
    /// A consumer without group does not read here any more.
    Left,
    Assigned,
    Gone(End),
    Polled(i64),
    Processed(i64),
}

/// How an ownership ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Revoked { committed: bool },
    Lost,
    Crashed,
    Closed,
}

/// A commit of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Commit {
    pub(super) group: u32,
    pub(super) partition: u32,
    pub(super) place: Place,
    pub(super) offset: i64,
    /// By its coordinator; else by a member, which was told that it is.
    pub(super) stored: bool,
}

/// Things that happen to all partitions.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) place: Place,
    pub(super) text: String,
}

/// Names with numbers.
#[derive(Debug)]
pub(super) struct Names<T>(Vec<T>, BTreeMap<T, u32>);

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self(Vec::new(), BTreeMap::new())
    }
}

impl<T: Ord + Clone> Names<T> {
    pub(super) fn number(&mut self, name: &T) -> u32 {
        if let Some(number) = self.1.get(name) {
            return *number;
        }
        let number = self.0.len() as u32;
        self.0.push(name.clone());
        self.1.insert(name.clone(), number);
        number
    }

    pub(super) fn of(&self, number: u32) -> &T {
        &self.0[number as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn all(&self) -> &[T] {
        &self.0
    }
}

/// Values with numbers: there are millions, so all texts are one.
#[derive(Debug, Default)]
pub(super) struct Values {
    text: String,
    /// By number: where it ends in the text.
    ends: Vec<usize>,
    numbers: HashTable<u32>,
    /// By number: the send with that value.
    pub(super) sent: Vec<Option<u32>>,
}

impl Values {
    fn number(&mut self, value: &str) -> u32 {
        let hash = |value: &str| FixedState::default().hash_one(value);
        let known = self.numbers.find(hash(value), |number| self.of(*number) == value);
        if let Some(number) = known {
            return *number;
        }
        let number = self.ends.len() as u32;
        self.text.push_str(value);
        self.ends.push(self.text.len());
        self.sent.push(None);
        let Self { text, ends, numbers, .. } = self;
        numbers.insert_unique(hash(value), number, |number| hash(text_of(text, ends, *number)));
        number
    }

    pub(super) fn of(&self, number: u32) -> &str {
        text_of(&self.text, &self.ends, number)
    }
}

fn text_of<'t>(text: &'t str, ends: &[usize], number: u32) -> &'t str {
    let at = number as usize;
    let from = if at == 0 { 0 } else { ends[at - 1] };
    &text[from..ends[at]]
}

/// All columns.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// When each event happened, in nanoseconds.
    pub(super) times: Vec<u64>,
    pub(super) partitions: Names<TopicPartition>,
    pub(super) groups: Names<Box<str>>,
    pub(super) lanes: Names<Lane>,
    pub(super) actors: Vec<ActorRow>,
    actor_numbers: BTreeMap<Actor, u32>,
    pub(super) values: Values,
    pub(super) sends: Vec<Send>,
    pub(super) seen: Vec<Seen>,
    pub(super) steps: Vec<Step>,
    pub(super) commits: Vec<Commit>,
    pub(super) marks: Vec<Mark>,
    /// Where logs began, from when on, by partition.
    pub(super) begins: BTreeMap<u32, Vec<(Duration, i64)>>,
    /// Partitions whose log is known.
    pub(super) truth: BTreeSet<u32>,
    /// Groups whose stored commits are known.
    pub(super) stored: BTreeSet<u32>,
    /// Faults were over at that event, and progress must resume within so long.
    pub(super) heals: Vec<(Place, Duration)>,
    /// What contradicts what was said before.
    pub(super) malformed: Vec<(Place, String)>,
}

impl Tables {
    pub(super) fn add(&mut self, event: &Event) -> Place {
        let place = Place::try_from(self.times.len()).unwrap_or(Place::MAX);
        self.times.push(u64::try_from(event.at.as_nanos()).unwrap_or(u64::MAX));
        let actor = self.actor(event.actor);
        match &event.what {
            What::Open(open) => self.actors[actor as usize].open = open.clone(),
            What::Send(entries) => self.send(place, actor, event.outcome, entries),
            What::Poll(entries) if event.outcome == Outcome::Ok => self.poll(place, actor, entries),
            What::Process(entries) if event.outcome == Outcome::Ok => {
                entries.iter().for_each(|entry| self.step_at(place, actor, entry, Did::Processed));
            }
            What::Commit(entries) if event.outcome == Outcome::Ok => {
                if let Some(group) = self.actors[actor as usize].open.group.clone() {
                    self.commit(place, &group, entries, false);
                }
            }
            What::Stored { group, offsets } => self.commit(place, group, offsets, true),
            What::Assign(entries) => self.assign(place, actor, entries),
            What::Seek(entries) => entries.iter().for_each(|entry| self.position(place, actor, entry)),
            What::Rebalance { change, partitions } => self.rebalance(place, actor, *change, partitions),
            What::Close => self.end(place, actor, End::Closed),
            What::Crash => self.end(place, actor, End::Crashed),
            What::Log(entries) => self.log(place, entries),
            What::Begin(entries) => self.begin(event.at, entries),
            What::Fault(text) => self.marks.push(Mark { place, text: text.clone() }),
            What::Heal(within) => {
                self.marks.push(Mark { place, text: "all faults are over".to_owned() });
                self.heals.push((place, *within));
            }
            What::Poll(_) | What::Process(_) | What::Commit(_) => {}
            What::Complaint(_) | What::Panic(_) | What::Resource { .. } => {}
        }
        place
    }

    pub(super) fn at(&self, place: Place) -> Duration {
        Duration::from_nanos(self.times.get(place as usize).copied().unwrap_or_default())
    }

    pub(super) fn actor(&mut self, actor: Actor) -> u32 {
        *self.actor_numbers.entry(actor).or_insert_with(|| {
            let (open, lanes) = (Open::default(), BTreeSet::new());
            self.actors.push(ActorRow { actor, open, ended: None, crashed: false, lanes });
            self.actors.len() as u32 - 1
        })
    }

    pub(super) fn exactly_once(&self, send: &Send) -> bool {
        self.actors[send.actor as usize].open.delivery == Delivery::ExactlyOnce
    }

    /// A value as reports show it.
    pub(super) fn value(&self, number: u32) -> String {
        if number == NO_VALUE { "something".to_owned() } else { format!("{:?}", self.values.of(number)) }
    }

    /// A process as reports call it.
    pub(super) fn name(&self, actor: u32) -> String {
        self.actors[actor as usize].name()
    }

    /// A moment as reports show it.
    pub(super) fn second(&self, place: Place) -> String {
        format!("{:.3} s", self.at(place).as_secs_f64())
    }

    fn send(&mut self, place: Place, actor: u32, outcome: Outcome, entries: &[Entry]) {
        for Entry { partition, offset, value } in entries {
            let Some(value) = value else {
                self.malformed.push((place, "a record is sent that has no value".to_owned()));
                continue;
            };
            let (partition, number) = (self.partitions.number(partition), self.values.number(value));
            let known = self.values.sent[number as usize];
            let fate = match outcome {
                Outcome::Invoke => {
                    if known.is_some() {
                        self.malformed.push((place, format!("{value:?} is sent again")));
                        continue;
                    }
                    self.values.sent[number as usize] = Some(self.sends.len() as u32);
                    let fate = Fate::Pending;
                    let send = Send { actor, partition, value: number, invoked: place, settled: place, fate };
                    self.sends.push(send);
                    continue;
                }
                Outcome::Ok => Fate::Written(*offset),
                Outcome::Fail => Fate::NotWritten,
                Outcome::Info => Fate::PossiblyWritten,
            };
            let Some(send) = known.map(|send| &mut self.sends[send as usize]) else {
                self.malformed.push((place, format!("{value:?} has an outcome and was never sent")));
                continue;
            };
            if send.fate != Fate::Pending || send.actor != actor || send.partition != partition {
                self.malformed
                    .push((place, format!("{value:?} has another outcome already, or another sender")));
                continue;
            }
            (send.fate, send.settled) = (fate, place);
            if let Fate::Written(Some(offset)) = fate {
                let source = Source::Acknowledged;
                self.seen.push(Seen { partition, offset, source, value: number, place });
            }
        }
    }

    fn poll(&mut self, place: Place, actor: u32, entries: &[Entry]) {
        for entry in entries {
            let Some(offset) = entry.offset else {
                self.malformed.push((place, "a record was polled that has no offset".to_owned()));
                continue;
            };
            let partition = self.partitions.number(&entry.partition);
            let value = entry.value.as_ref().map_or(NO_VALUE, |value| self.values.number(value));
            self.seen.push(Seen { partition, offset, source: Source::Polled, value, place });
            self.step_at(place, actor, entry, Did::Polled);
        }
    }

    fn log(&mut self, place: Place, entries: &[Entry]) {
        for entry in entries {
            let partition = self.partitions.number(&entry.partition);
            self.truth.insert(partition);
            // Without offset it says that there is nothing.
            if let Some(offset) = entry.offset {
                let value = entry.value.as_ref().map_or(NO_VALUE, |value| self.values.number(value));
                self.seen.push(Seen { partition, offset, source: Source::Log, value, place });
            }
        }
    }

    fn begin(&mut self, at: Duration, entries: &[Entry]) {
        for Entry { partition, offset, .. } in entries {
            let partition = self.partitions.number(partition);
            self.begins.entry(partition).or_default().extend(offset.map(|offset| (at, offset)));
        }
    }

    fn commit(&mut self, place: Place, group: &str, entries: &[Entry], stored: bool) {
        let group = self.groups.number(&group.into());
        if stored {
            self.stored.insert(group);
        }
        for entry in entries {
            let partition = self.partitions.number(&entry.partition);
            if let Some(offset) = entry.offset {
                self.commits.push(Commit { group, partition, place, offset, stored });
            }
        }
    }

    fn lane(&mut self, actor: u32, partition: &TopicPartition) -> u32 {
        let reader = match self.actors[actor as usize].open.group.clone() {
            Some(group) => Reader::Group(self.groups.number(&group)),
            None => Reader::Alone(actor),
        };
        let partition = self.partitions.number(partition);
        self.lanes.number(&Lane { reader, partition })
    }

    fn step(&mut self, place: Place, actor: u32, partition: &TopicPartition, did: Did) -> u32 {
        let lane = self.lane(actor, partition);
        self.steps.push(Step { lane, place, actor, did });
        lane
    }

    fn step_at(&mut self, place: Place, actor: u32, entry: &Entry, did: impl Fn(i64) -> Did) {
        if let Some(offset) = entry.offset {
            self.step(place, actor, &entry.partition, did(offset));
        }
    }

    fn position(&mut self, place: Place, actor: u32, entry: &Entry) {
        self.step(place, actor, &entry.partition, Did::Placed(entry.offset));
    }

    fn assign(&mut self, place: Place, actor: u32, entries: &[Entry]) {
        let before = std::mem::take(&mut self.actors[actor as usize].lanes);
        for entry in entries {
            let lane = self.step(place, actor, &entry.partition, Did::Placed(entry.offset));
            self.actors[actor as usize].lanes.insert(lane);
        }
        for lane in before {
            if !self.actors[actor as usize].lanes.contains(&lane) {
                self.steps.push(Step { lane, place, actor, did: Did::Left });
            }
        }
    }

    fn rebalance(&mut self, place: Place, actor: u32, change: Change, partitions: &[TopicPartition]) {
        if self.actors[actor as usize].open.group.is_none() {
            self.malformed.push((place, "a process without group takes part in a rebalance".to_owned()));
            return;
        }
        let did = match change {
            Change::Assigned => Did::Assigned,
            Change::Revoked { committed } => Did::Gone(End::Revoked { committed }),
            Change::Lost => Did::Gone(End::Lost),
        };
        for partition in partitions {
            let lane = self.step(place, actor, partition, did);
            let lanes = &mut self.actors[actor as usize].lanes;
            if change == Change::Assigned {
                lanes.insert(lane)
            } else {
                lanes.remove(&lane)
            };
        }
    }

    fn end(&mut self, place: Place, actor: u32, end: End) {
        let row = &mut self.actors[actor as usize];
        (row.ended, row.crashed) = (Some(place), end == End::Crashed);
        for lane in std::mem::take(&mut row.lanes) {
            let did = match self.lanes.of(lane).reader {
                Reader::Group(_) => Did::Gone(end),
                Reader::Alone(_) => Did::Left,
            };
            self.steps.push(Step { lane, place, actor, did });
        }
    }
}
