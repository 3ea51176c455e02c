//! What was sent to, and read from, one topic by consumers without group.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use ottla::TopicPartition;
use tokio::time::Instant;

use super::{
    Begins, Delivery, Elected, Elections, Logs, begun,
    event::{Actor, Entry, Event, Failed, Open, Outcome, What, value_of},
    incarnations, judge, truth,
};
use crate::{Logged, World};

/// What its file is called.
const NAME: &str = "readers";

/// The topic's name in events.
const TOPIC: &str = "topic";

/// Numbers of readers begin here, so that they differ from those of senders.
const READERS: u32 = 1_000_000;

/// What became of a record that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nobody knows yet.
    Pending,
    /// Acknowledged; the offset is missing where the broker no longer knew it.
    Written(Option<i64>),
    /// The producer says that it is definitely not in the log.
    NotWritten,
    /// The producer cannot say.
    PossiblyWritten,
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// Where from.
    pub partition: i32,
    /// At which offset.
    pub offset: i64,
    /// What it said.
    pub value: Bytes,
}

/// A record at its place: partition, offset, value.
type Place = (i32, i64, Box<str>);

fn place(entry: &Entry) -> Option<Place> {
    Some((entry.partition.partition(), entry.offset?, entry.value.clone()?))
}

fn places(logs: &Logs) -> BTreeSet<Place> {
    let of = |(partition, log): (&i32, &Vec<Logged>)| {
        let partition = *partition;
        let places = log.iter().map(move |logged| (partition, logged.offset, value_of(&logged.value)));
        places.collect::<Vec<_>>()
    };
    logs.iter().flat_map(of).collect()
}

/// Who goes through a partition, seen backwards.
#[derive(Default)]
struct Lane {
    /// What it gets next, and when.
    next: Option<(i64, Duration)>,
    /// Where it goes back to, and when; the earliest is the last.
    back: Vec<(i64, Duration)>,
}

/// Forgets what a reader got of a log that was another one then. Behind an election it goes back once, and no further than
/// to where the logs part: `parted` says whether somebody elected by then did not have a record. What it goes back behind
/// otherwise stays, and contradicts what comes then.
fn forget_other_logs(events: &mut [Event], elections: &Elections, parted: impl Fn(&Entry, Duration) -> bool) {
    let mut lanes: BTreeMap<(Actor, i32), Lane> = BTreeMap::new();
    for event in events.iter_mut().rev() {
        let (actor, at, What::Poll(entries)) = (event.actor, event.at, &mut event.what) else { continue };
        for index in (0..entries.len()).rev() {
            let (partition, Some(offset)) = (entries[index].partition.partition(), entries[index].offset)
            else {
                continue;
            };
            let lane = lanes.entry((actor, partition)).or_default();
            lane.back.extend(lane.next.filter(|(next, _)| *next <= offset));
            lane.next = Some((offset, at));
            // The times that are too many are the first ones: they are the last of the list.
            let most = elections.get(&partition).map_or(0, Vec::len);
            let allowed = lane.back.len() <= most;
            let goes_back = lane.back.iter().rev().find(|(to, _)| *to <= offset);
            if goes_back.is_some_and(|(_, when)| allowed && parted(&entries[index], *when)) {
                entries.remove(index);
            }
        }
    }
}

/// Elections that a record's log has lost, though it is there in the end since a later one brought it back: who was elected
/// did not have it, and told its producer so.
fn lost_with<'e>(
    elections: &'e Elections,
    partition: i32,
    logged: &Logged,
) -> impl Iterator<Item = &'e Elected> {
    let place = (logged.offset, Some(logged.leader_epoch));
    elections.get(&partition).into_iter().flatten().filter(move |elected| elected.lacks(place))
}

/// The records at each place, of what is there and what was: another epoch may have written the same there again.
fn by_place<'l>(logs: &'l Logs, lost: &'l Logs) -> BTreeMap<Place, Vec<&'l Logged>> {
    let mut by_place: BTreeMap<Place, Vec<&Logged>> = BTreeMap::new();
    for (partition, log) in logs.iter().chain(lost) {
        for logged in log {
            let place = (*partition, logged.offset, value_of(&logged.value));
            by_place.entry(place).or_default().push(logged);
        }
    }
    by_place
}

/// Where records are that an election was lost with and a later one brought back, when they had been written again. No
/// producer can know of that: then those count that it wrote again.
fn revived(logs: &Logs, elections: &Elections) -> BTreeSet<Place> {
    let mut revived = BTreeSet::new();
    for (partition, log) in logs {
        let mut again = BTreeMap::new();
        for logged in log.iter().rev() {
            if let Some(epoch) = again.insert(&logged.value, logged.leader_epoch)
                && lost_with(elections, *partition, logged).any(|elected| elected.leader_epoch <= epoch)
            {
                revived.insert((*partition, logged.offset, value_of(&logged.value)));
            }
        }
    }
    revived
}

/// All that was sent to, and read from, one topic. Cheap to clone: clones share it.
#[derive(Debug, Clone, Default)]
pub struct History(Rc<RefCell<Records>>);

#[derive(Debug, Default)]
struct Records {
    delivery: Delivery,
    began: Option<Instant>,
    events: Vec<Event>,
    sent: Vec<Sent>,
    /// How many records each reader got.
    read: BTreeMap<u32, usize>,
    /// Behind the last record that each reader got of each partition.
    reached: BTreeMap<(u32, i32), i64>,
}

#[derive(Debug)]
struct Sent {
    actor: Actor,
    record: Entry,
    fate: Fate,
}

impl Records {
    fn now(&mut self) -> Duration {
        let now = Instant::now();
        now - *self.began.get_or_insert(now)
    }

    fn event(&mut self, actor: Actor, outcome: Outcome, what: What, error: Option<Failed>) {
        let at = self.now();
        self.events.push(Event { at, actor, outcome, what, error });
    }
}

impl History {
    /// An empty one of senders that deliver exactly once.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one of senders that promise this.
    #[must_use]
    pub fn promising(delivery: Delivery) -> Self {
        Self(Rc::new(RefCell::new(Records { delivery, ..Records::default() })))
    }

    /// A record is about to be sent. Returns its number. The order is checked per sender and partition; `value` is unique
    /// in the history.
    pub fn sending(&self, sender: u32, partition: i32, value: Bytes) -> usize {
        let records = &mut *self.0.borrow_mut();
        let actor = Actor::first(sender);
        let delivery = records.delivery;
        if delivery != Delivery::default() && records.sent.iter().all(|sent| sent.actor != actor) {
            let open = Open { delivery, ..Open::default() };
            records.event(actor, Outcome::Info, What::Open(open), None);
        }
        let record = Entry::record(TopicPartition::new(TOPIC, partition), None, value_of(&value));
        records.sent.push(Sent { actor, record: record.clone(), fate: Fate::Pending });
        records.event(actor, Outcome::Invoke, What::Send(vec![record]), None);
        records.sent.len() - 1
    }

    /// What became of it.
    pub fn settled(&self, number: usize, fate: Fate) {
        let records = &mut *self.0.borrow_mut();
        let sent = &mut records.sent[number];
        sent.fate = fate;
        let (actor, mut record) = (sent.actor, sent.record.clone());
        let failed = |definite| {
            let code = if definite { "NotWritten" } else { "PossiblyWritten" };
            Some(Failed { code: code.to_owned(), definite, retriable: false })
        };
        let (outcome, error) = match fate {
            Fate::Pending => return,
            Fate::Written(offset) => {
                record.offset = offset;
                (Outcome::Ok, None)
            }
            Fate::NotWritten => (Outcome::Fail, failed(true)),
            Fate::PossiblyWritten => (Outcome::Info, failed(false)),
        };
        records.event(actor, outcome, What::Send(vec![record]), error);
    }

    /// A record was handed out by a consumer.
    pub fn read(&self, reader: u32, read: Read) {
        let records = &mut *self.0.borrow_mut();
        *records.read.entry(reader).or_default() += 1;
        records.reached.insert((reader, read.partition), read.offset + 1);
        let partition = TopicPartition::new(TOPIC, read.partition);
        let entry = Entry::record(partition, Some(read.offset), value_of(&read.value));
        records.event(Actor::first(READERS + reader), Outcome::Ok, What::Poll(vec![entry]), None);
    }

    /// Something goes wrong, on purpose; or that is over.
    pub fn fault(&self, line: &str) {
        self.0.borrow_mut().event(Actor::OBSERVER, Outcome::Info, What::Fault(line.to_owned()), None);
    }

    /// How many records were sent with that fate.
    #[must_use]
    pub fn count(&self, is: impl Fn(Fate) -> bool) -> usize {
        self.0.borrow().sent.iter().filter(|sent| is(sent.fate)).count()
    }

    /// What became of a record.
    #[must_use]
    pub fn fate(&self, number: usize) -> Fate {
        self.0.borrow().sent.get(number).map_or(Fate::Pending, |sent| sent.fate)
    }

    /// How many records were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.count(|fate| matches!(fate, Fate::Written(_)))
    }

    /// How many records wait for their fate.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.count(|fate| fate == Fate::Pending)
    }

    /// How many records a reader got.
    #[must_use]
    pub fn read_by(&self, reader: u32) -> usize {
        self.0.borrow().read.get(&reader).copied().unwrap_or_default()
    }

    /// The offset behind the last record that a reader got of a partition.
    #[must_use]
    pub fn reached(&self, reader: u32, partition: i32) -> i64 {
        self.0.borrow().reached.get(&(reader, partition)).copied().unwrap_or_default()
    }

    /// All of it, and the truth.
    #[must_use]
    pub fn events(&self, logs: &Logs) -> Vec<Event> {
        self.events_since(logs, &Begins::new())
    }

    /// [`History::events`] of logs whose beginnings have moved: `logs` has what was dropped as well.
    #[must_use]
    pub fn events_since(&self, logs: &Logs, begins: &Begins) -> Vec<Event> {
        let mut records = self.0.borrow_mut();
        let now = records.now();
        let began = records.began.unwrap_or_else(Instant::now);
        let begun = begun(TOPIC, begins, |begin| begin.instant.saturating_duration_since(began));
        records.events.iter().cloned().chain(begun).chain(truth(now, TOPIC, logs)).collect()
    }

    /// Whether a reader got everything that is in the logs.
    #[must_use]
    pub fn has_read(&self, reader: u32, logs: &Logs) -> bool {
        let actor = Actor::first(READERS + reader);
        let records = self.0.borrow();
        let polls = records.events.iter().filter(|event| event.actor == actor);
        let entries =
            polls.flat_map(|event| if let What::Poll(entries) = &event.what { &entries[..] } else { &[] });
        let read: BTreeSet<Place> = entries.filter_map(place).collect();
        places(logs).is_subset(&read)
    }

    /// [`History::check`], where unclean elections have cost some records: `lost` (see [`Cluster::lost`]). Those, and no
    /// others, may be missing although they were acknowledged, and may have been read although they are not there. A reader
    /// may go back once for each of the unclean `elections` of a partition (see [`Cluster::unclean_elections`]) that happened
    /// before, no further than to what who was elected did not have, and still leaves nothing out. What an election was lost with, and a later one brought back, may be there although its producer
    /// was told meanwhile that it is not, or have been written again: no producer can know of that.
    ///
    /// [`Cluster::lost`]: crate::Cluster::lost
    /// [`Cluster::unclean_elections`]: crate::Cluster::unclean_elections
    pub fn check_but(&self, world: &World, logs: &Logs, lost: &Logs, elections: &Elections) {
        judge(world, NAME, &self.events_but(logs, lost, elections));
    }

    fn events_but(&self, logs: &Logs, lost: &Logs, elections: &Elections) -> Vec<Event> {
        let (revived, by_place) = (revived(logs, elections), by_place(logs, lost));
        let mut counts = logs.clone();
        for (partition, log) in &mut counts {
            log.retain(|logged| !revived.contains(&(*partition, logged.offset, value_of(&logged.value))));
        }
        let there = places(logs);
        let values: BTreeSet<&str> = there.iter().map(|(.., value)| &**value).collect();
        let lost: BTreeSet<Place> = places(lost).difference(&there).cloned().collect();
        let lost_values: BTreeSet<&str> = lost.iter().map(|(.., value)| &**value).collect();
        let is_lost = |entry: &Entry| place(entry).is_some_and(|place| lost.contains(&place));
        let is_revived = |entry: &Entry| place(entry).is_some_and(|place| revived.contains(&place));
        let mut events = self.events(&counts);
        let began = self.0.borrow().began.unwrap_or_else(Instant::now);
        // What its producer was told is not there, and was not by then.
        let was_lost = |entry: &Entry, at: Duration| {
            let partition = entry.partition.partition();
            let is_it = |logged: &&Logged| entry.value.as_deref() == Some(&*value_of(&logged.value));
            let found = logs.get(&partition).and_then(|log| log.iter().find(is_it));
            found.is_some_and(|logged| {
                lost_with(elections, partition, logged).any(|elected| elected.instant <= began + at)
            })
        };
        forget_other_logs(&mut events, elections, |entry, at| {
            let Some(place) = place(entry) else { return false };
            let written = by_place.get(&place).into_iter().flatten();
            let mut lacking = written.flat_map(|logged| lost_with(elections, place.0, logged));
            lacking.any(|elected| elected.instant <= began + at)
        });
        for event in &mut events {
            match (&mut event.what, event.outcome) {
                (What::Poll(entries), _) => {
                    entries.retain(|entry| !is_lost(entry) && !is_revived(entry));
                }
                (What::Send(entries), Outcome::Fail) if entries.iter().all(|it| was_lost(it, event.at)) => {
                    let revived = Failed { code: "Revived".to_owned(), definite: false, retriable: false };
                    (event.outcome, event.error) = (Outcome::Info, Some(revived));
                }
                (What::Send(entries), Outcome::Ok) => {
                    // A record is sent by itself.
                    for entry in entries.iter_mut() {
                        let value = entry.value.as_deref().unwrap_or_default();
                        if is_lost(entry) || entry.offset.is_none() && lost_values.contains(value) {
                            let code = "Truncated".to_owned();
                            let truncated = Failed { code, definite: false, retriable: false };
                            (event.outcome, event.error) = match values.contains(value) {
                                true => (Outcome::Ok, None),
                                false => (Outcome::Info, Some(truncated)),
                            };
                            entry.offset = None;
                        }
                    }
                }
                _ => {}
            }
        }
        events.retain(|event| !matches!(&event.what, What::Poll(entries) if entries.is_empty()));
        events
    }

    /// Checks everything, and fails the run at the worst violation.
    pub fn check(&self, world: &World, logs: &Logs) {
        self.check_since(world, logs, &Begins::new());
    }

    /// [`History::check`] of a topic that was deleted and created anew, by the logs of its incarnations, the oldest first (see
    /// [`Cluster::incarnations`](crate::Cluster::incarnations)). Readers may leave out the ends of those that are gone.
    pub fn check_incarnations(&self, world: &World, logs: &[Logs]) {
        judge(world, NAME, &self.events_apart(logs));
    }

    fn events_apart(&self, logs: &[Logs]) -> Vec<Event> {
        let (now, events) = {
            let mut records = self.0.borrow_mut();
            (records.now(), records.events.clone())
        };
        incarnations::apart(events, now, TOPIC, logs)
    }

    /// [`History::check`] of logs whose beginnings have moved: readers may pass what was dropped before they came to it.
    /// `logs` has that as well.
    pub fn check_since(&self, world: &World, logs: &Logs, begins: &Begins) {
        judge(world, NAME, &self.events_since(logs, begins));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Anomaly, Begin, Elected, check};

    /// Records a, b, c were written and read; then b and c were cut, and d was written in their place.
    fn cut() -> (History, Logs, Logs) {
        let history = History::new();
        for (offset, value) in ["a", "b", "c"].into_iter().enumerate() {
            let number = history.sending(1, 0, value.into());
            history.settled(number, Fate::Written(Some(offset as i64)));
            read(&history, offset as i64, value);
        }
        let number = history.sending(1, 0, "d".into());
        history.settled(number, Fate::Written(Some(1)));
        (history, log(&[(0, "a"), (1, "d")]), log(&[(1, "b"), (2, "c")]))
    }

    fn read(history: &History, offset: i64, value: &'static str) {
        history.read(1, Read { partition: 0, offset, value: value.into() });
    }

    fn log(records: &[(i64, &'static str)]) -> Logs {
        let logged = |(offset, value): &(i64, &'static str)| Logged {
            offset: *offset,
            value: (*value).into(),
            ..Logged::default()
        };
        Logs::from([(0, records.iter().map(logged).collect())])
    }

    /// An election of a replica whose log ended there, with everything of one epoch.
    fn elected(leader_epoch: i32, end: i64) -> Elected {
        let (at, instant) = (Duration::ZERO, Instant::now());
        Elected { at, instant, leader_epoch, ends: BTreeMap::from([(0, end)]) }
    }

    fn found_behind(history: &History, logs: &Logs, lost: &Logs, elected: Vec<Elected>) -> Vec<Anomaly> {
        let events = history.events_but(logs, lost, &Elections::from([(0, elected)]));
        check(&events).violations.iter().map(|violation| violation.anomaly).collect()
    }

    #[test]
    fn what_an_unclean_election_has_cost_is_nobodys_fault() {
        let (history, logs, lost) = cut();
        read(&history, 1, "d");
        assert_eq!(found_behind(&history, &logs, &lost, vec![elected(1, 1)]), []);
    }

    #[test]
    fn what_was_lost_otherwise_is() {
        let (history, logs, _) = cut();
        read(&history, 1, "d");
        let lost = log(&[(2, "c")]);
        let found = found_behind(&history, &logs, &lost, vec![elected(1, 1)]);
        assert!(found.contains(&Anomaly::LostWrite));
    }

    #[test]
    fn a_reader_that_goes_on_behind_the_cut_has_left_something_out() {
        let (history, logs, lost) = cut();
        assert_eq!(found_behind(&history, &logs, &lost, vec![elected(1, 1)]), [Anomaly::Unseen]);
    }

    /// All of a, b and c was brought back, after d had been read in the place of b.
    fn cut_and_brought_back() -> (History, Logs, Logs) {
        let (history, ..) = cut();
        for (offset, value) in [(1, "d"), (1, "b"), (2, "c")] {
            read(&history, offset, value);
        }
        let mut lost = log(&[(1, "d")]);
        lost.values_mut().flatten().for_each(|logged| logged.leader_epoch = 1);
        (history, log(&[(0, "a"), (1, "b"), (2, "c")]), lost)
    }

    #[test]
    fn a_reader_goes_back_to_where_the_logs_part_once_for_each_election() {
        let (lacks, brings_back) = (elected(1, 1), elected(2, 3));
        let (history, logs, lost) = cut_and_brought_back();
        let elections = vec![lacks.clone(), brings_back];
        assert_eq!(found_behind(&history, &logs, &lost, elections), []);
        let found = found_behind(&history, &logs, &lost, vec![lacks]);
        assert!(found.contains(&Anomaly::NonmonotonicPoll), "twice behind one: {found:?}");
    }

    #[test]
    fn a_reader_goes_back_no_further_than_to_where_the_logs_part() {
        let (lacks_all, lacks_more) = (elected(1, 0), elected(1, 1));
        let (history, logs, lost) = cut();
        [(0, "a"), (1, "d")].into_iter().for_each(|(at, value)| read(&history, at, value));
        let found = |elected| found_behind(&history, &logs, &lost, vec![elected]);
        assert_eq!(found(lacks_all), []);
        assert_eq!(found(lacks_more), [Anomaly::NonmonotonicPoll], "who was elected had the first one");
    }

    #[test]
    fn a_reader_does_not_go_back_behind_an_election_that_comes_later() {
        let (history, logs, lost) = cut_and_brought_back();
        let later = Elected { instant: Instant::now() + Duration::from_secs(1), ..elected(1, 1) };
        let found = found_behind(&history, &logs, &lost, vec![later, elected(2, 3)]);
        assert!(found.contains(&Anomaly::NonmonotonicPoll), "{found:?}");
    }

    /// The log that the election of epoch 1 was lost with, and that came back in epoch 3.
    fn brought_back(again: Option<i32>) -> Logs {
        let logged = |(offset, leader_epoch): (i64, i32)| Logged {
            offset,
            leader_epoch,
            value: "a".into(),
            ..Logged::default()
        };
        let places = [Some((0, 0)), again.map(|epoch| (1, epoch))];
        Logs::from([(0, places.into_iter().flatten().map(logged).collect())])
    }

    #[test]
    fn a_record_that_was_brought_back_may_be_there_twice_if_its_leader_had_lost_it_when_it_was_written_again()
    {
        let history = History::new();
        let number = history.sending(1, 0, "a".into());
        history.settled(number, Fate::Written(Some(1)));
        read(&history, 0, "a");
        read(&history, 1, "a");
        let found =
            |again, elected| found_behind(&history, &brought_back(Some(again)), &Logs::new(), elected);
        assert_eq!(found(3, vec![elected(1, 0), elected(3, 1)]), []);
        let twice = [Anomaly::Duplicate];
        assert_eq!(found(3, vec![elected(1, 1), elected(3, 1)]), twice, "it was there all the time");
        assert_eq!(found(0, vec![elected(1, 0)]), twice, "it was lost later");
        assert_eq!(found(3, vec![]), twice);
    }

    #[test]
    fn a_record_that_was_brought_back_may_be_there_though_its_producer_was_told_meanwhile_that_it_is_not() {
        let history = History::new();
        let early = history.sending(1, 0, "a".into());
        let before = elected(1, 0);
        history.settled(early, Fate::NotWritten);
        read(&history, 0, "a");
        let found = |elected| found_behind(&history, &brought_back(None), &Logs::new(), elected);
        assert_eq!(found(vec![before.clone()]), []);
        assert_eq!(found(vec![elected(1, 1)]), [Anomaly::G1a], "it was there all the time");
        let later = Elected { instant: Instant::now() + Duration::from_secs(1), ..before };
        assert_eq!(found(vec![later]), [Anomaly::G1a], "nobody could have known");
    }

    #[test]
    fn a_reader_may_pass_what_was_dropped_and_nothing_else() {
        let (instant, history) = (Instant::now(), History::new());
        for (offset, value) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let number = history.sending(1, 0, value.into());
            history.settled(number, Fate::Written(Some(offset as i64)));
        }
        read(&history, 0, "a");
        read(&history, 2, "c");
        let logs = log(&[(0, "a"), (1, "b"), (2, "c"), (3, "d")]);
        let found = |offset: i64| {
            let begin = Begin { at: Duration::ZERO, instant, offset };
            let report = check(&history.events_since(&logs, &Begins::from([(0, vec![begin])])));
            report.violations.into_iter().map(|violation| violation.anomaly).collect::<Vec<_>>()
        };
        assert_eq!(found(1), [Anomaly::PollSkip, Anomaly::Unseen]);
        assert_eq!(found(2), [Anomaly::Unseen], "the last one is left");
        assert!(found(4).is_empty());
    }
}
