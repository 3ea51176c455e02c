//! Topics that had one name one after the other, told apart: what happened to each, as if it had a name of its own. The rules
//! then hold for each of them.
//!
//! ```text
//!   orders:   0 1 2 3 deleted │ 0 1 2 deleted │ 0 1 2 3 4
//!   becomes   orders          │ orders#2      │ orders#3
//! ```
//!
//! * A record is one of every incarnation in whose log it is: what was in doubt in one may be written to the next. It was
//!   acknowledged in those that have it at the offset that was told, and is in doubt in the others. One that is in no log is
//!   one of the newest, which lacks it then.
//! * What a reader gets from offset 0 on, up to the next 0, is of one incarnation: the last one that has all of it, in the
//!   order in which they were. Whoever goes on elsewhere than at the beginning is thereby found in a log that has something
//!   else there.
//! * Readers may leave out the end of an incarnation that was deleted, or all of it, and nothing in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ottla::TopicPartition;

use super::{
    Logs,
    event::{Actor, Entry, Event, Failed, Outcome, What, value_of},
    truth,
};
use crate::Logged;

/// What happened to a topic whose incarnations had these logs, the oldest first, and that truth. Events are about one record
/// at most.
pub(super) fn apart(events: Vec<Event>, now: Duration, topic: &str, logs: &[Logs]) -> Vec<Event> {
    let incarnations = Incarnations::new(logs);
    let read = incarnations.of_polls(&events);
    let mut apart = Vec::with_capacity(events.len());
    for (index, event) in events.into_iter().enumerate() {
        match &event.what {
            What::Send(entries) => incarnations.sends(&event, &entries[0], &mut apart),
            What::Poll(_) => apart.push(named(event, read.get(&index).copied().unwrap_or_default())),
            _ => apart.push(event),
        }
    }
    for (number, logs) in logs.iter().enumerate() {
        apart.extend(truth(now, topic, logs).map(|event| named(event, number)));
        if number + 1 < incarnations.count() {
            apart.extend(ended(now, topic, logs).map(|event| named(event, number)));
        }
    }
    apart
}

/// Nothing of a topic that is deleted is left, for whoever has not read it yet.
fn ended(now: Duration, topic: &str, logs: &Logs) -> impl Iterator<Item = Event> {
    logs.iter().map(move |(partition, log)| {
        let end = log.last().map_or(0, |last| last.offset + 1);
        let what = What::Begin(vec![Entry::at(TopicPartition::new(topic, *partition), end)]);
        Event { at: now, actor: Actor::OBSERVER, outcome: Outcome::Ok, what, error: None }
    })
}

/// An event of the incarnation of that number, counted from 0.
fn named(mut event: Event, number: usize) -> Event {
    if let (1.., What::Send(entries) | What::Poll(entries) | What::Log(entries) | What::Begin(entries)) =
        (number, &mut event.what)
    {
        let nth = number + 1;
        for Entry { partition, value, .. } in entries {
            let name = format!("{}#{nth}", partition.topic());
            *partition = TopicPartition::new(name, partition.partition());
            // Values are unique in a history.
            *value = value.take().map(|value| format!("{value}#{nth}").into());
        }
    }
    event
}

/// A partition and an offset.
type Place = (i32, i64);

/// Polls from offset 0 on, by their places among the events.
type Run<'a> = Vec<(usize, &'a Entry)>;

struct Incarnations {
    logs: Vec<BTreeMap<Place, Box<str>>>,
    /// Where a value is: in which incarnation, and at which place.
    places: BTreeMap<Box<str>, Vec<(usize, Place)>>,
}

impl Incarnations {
    fn new(logs: &[Logs]) -> Self {
        let by_place = |logs: &Logs| -> BTreeMap<Place, Box<str>> {
            let of = |(partition, log): (&i32, &Vec<Logged>)| {
                let partition = *partition;
                let place = move |logged: &Logged| ((partition, logged.offset), value_of(&logged.value));
                log.iter().map(place).collect::<Vec<_>>()
            };
            logs.iter().flat_map(of).collect()
        };
        let logs: Vec<_> = logs.iter().map(by_place).collect();
        let mut places = BTreeMap::<Box<str>, Vec<_>>::new();
        for (number, log) in logs.iter().enumerate() {
            for (place, value) in log {
                places.entry(value.clone()).or_default().push((number, *place));
            }
        }
        Self { logs, places }
    }

    fn count(&self) -> usize {
        self.logs.len()
    }

    /// The beginning or the end of a send.
    fn sends(&self, event: &Event, record: &Entry, out: &mut Vec<Event>) {
        let value = record.value.as_deref().unwrap_or_default();
        let places = self.places.get(value).map_or(&[][..], Vec::as_slice);
        let told = record.offset.map(|offset| (record.partition.partition(), offset));
        let has_it = |number: usize| places.iter().any(|place| told == Some(place.1) && place.0 == number);
        let mut there: BTreeSet<usize> = places.iter().map(|(number, _)| *number).collect();
        if there.is_empty() {
            there.insert(self.count().saturating_sub(1));
        }
        let somewhere = there.iter().any(|number| has_it(*number));
        for number in there {
            let mut event = event.clone();
            if somewhere && !has_it(number) {
                let code = "WrittenElsewhere".to_owned();
                event.error = Some(Failed { code, definite: false, retriable: false });
                event.outcome = Outcome::Info;
            }
            out.push(named(event, number));
        }
    }

    /// Which incarnation each poll is of, by its place among the events.
    fn of_polls(&self, events: &[Event]) -> BTreeMap<usize, usize> {
        let mut lanes: BTreeMap<(Actor, i32), Vec<Run<'_>>> = BTreeMap::new();
        for (index, event) in events.iter().enumerate() {
            let What::Poll(entries) = &event.what else { continue };
            let lane = lanes.entry((event.actor, entries[0].partition.partition())).or_default();
            match lane.last_mut().filter(|_| entries[0].offset != Some(0)) {
                Some(run) => run.push((index, &entries[0])),
                None => lane.push(vec![(index, &entries[0])]),
            }
        }
        let mut found = BTreeMap::new();
        for runs in lanes.into_values() {
            // Backwards: the last one that fits leaves the most to those before it.
            let mut newer = self.count();
            for run in runs.iter().rev() {
                let fits = |number: &usize| run.iter().filter(|(_, entry)| self.has(*number, entry)).count();
                newer = (0..newer).max_by_key(fits).unwrap_or_default();
                found.extend(run.iter().map(|(index, _)| (*index, newer)));
            }
        }
        found
    }

    fn has(&self, number: usize, entry: &Entry) -> bool {
        let place = entry.offset.map(|offset| (entry.partition.partition(), offset));
        let there = place.and_then(|place| self.logs[number].get(&place));
        there == entry.value.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Anomaly, check};

    const TOPIC: &str = "orders";

    fn log(records: &[&'static str]) -> Logs {
        let logged = |(offset, value): (i64, &&'static str)| Logged {
            offset,
            value: (*value).into(),
            ..Logged::default()
        };
        Logs::from([(0, (0..).zip(records).map(logged).collect())])
    }

    fn event(actor: u32, outcome: Outcome, what: What) -> Event {
        let failed = |definite| Some(Failed { code: "test".to_owned(), definite, retriable: false });
        let error = match outcome {
            Outcome::Fail => failed(true),
            Outcome::Info => failed(false),
            _ => None,
        };
        Event { at: Duration::ZERO, actor: Actor::first(actor), outcome, what, error }
    }

    fn entry(offset: Option<i64>, value: &str) -> Entry {
        Entry::record(TopicPartition::new(TOPIC, 0), offset, value)
    }

    fn sent(value: &str, outcome: Outcome, offset: Option<i64>) -> [Event; 2] {
        let send = |outcome, offset| event(1, outcome, What::Send(vec![entry(offset, value)]));
        [send(Outcome::Invoke, None), send(outcome, offset)]
    }

    fn read(records: &[(i64, &str)]) -> Vec<Event> {
        let poll = |(offset, value): &(i64, &str)| What::Poll(vec![entry(Some(*offset), value)]);
        records.iter().map(|record| event(2, Outcome::Ok, poll(record))).collect()
    }

    fn written(values: &[(&str, i64)]) -> Vec<Event> {
        values.iter().flat_map(|(value, offset)| sent(value, Outcome::Ok, Some(*offset))).collect()
    }

    fn found(events: Vec<Event>, logs: &[Logs]) -> Vec<Anomaly> {
        let events = apart(events, Duration::from_secs(1), TOPIC, logs);
        check(&events).violations.iter().map(|violation| violation.anomaly).collect()
    }

    /// Two incarnations, of which all was written as acknowledged.
    fn two() -> (Vec<Event>, [Logs; 2]) {
        let sent = written(&[("a", 0), ("b", 1), ("c", 2), ("d", 0), ("e", 1), ("f", 2)]);
        (sent, [log(&["a", "b", "c"]), log(&["d", "e", "f"])])
    }

    fn found_by_reader(records: &[(i64, &str)]) -> Vec<Anomaly> {
        let (mut events, logs) = two();
        events.extend(read(records));
        found(events, &logs)
    }

    #[test]
    fn a_reader_may_leave_out_the_end_of_what_was_deleted_or_all_of_it() {
        assert_eq!(found_by_reader(&[(0, "a"), (1, "b"), (0, "d"), (1, "e"), (2, "f")]), []);
        assert_eq!(found_by_reader(&[(0, "d"), (1, "e"), (2, "f")]), []);
    }

    #[test]
    fn a_reader_that_keeps_its_position_has_left_something_out() {
        let found = found_by_reader(&[(0, "a"), (1, "b"), (2, "f")]);
        assert!(found.contains(&Anomaly::InconsistentOffsets), "{found:?}");
    }

    #[test]
    fn nothing_is_left_out_in_between_nor_got_twice() {
        assert_eq!(found_by_reader(&[(0, "a"), (2, "c"), (0, "d"), (1, "e"), (2, "f")]), [Anomaly::PollSkip]);
        assert_eq!(found_by_reader(&[(0, "d"), (2, "f")]), [Anomaly::PollSkip]);
        assert!(!found_by_reader(&[(0, "d"), (1, "e"), (0, "d"), (1, "e"), (2, "f")]).is_empty());
    }

    #[test]
    fn the_newest_is_read_to_its_end() {
        assert_eq!(found_by_reader(&[(0, "a"), (1, "b"), (2, "c"), (0, "d"), (1, "e")]), [Anomaly::Unseen]);
    }

    #[test]
    fn what_is_acknowledged_is_in_some_incarnation_where_it_was_said_to_be() {
        let (events, [first, _]) = two();
        let without = [first.clone(), log(&["d", "e"])];
        assert_eq!(found(events.clone(), &without), [Anomaly::LostWrite]);
        assert_eq!(
            found(events, &[first, log(&["d", "f", "e"])]).first(),
            Some(&Anomaly::InconsistentOffsets)
        );
    }

    #[test]
    fn what_was_not_written_is_in_no_incarnation() {
        for logs in [[log(&["a"]), log(&[])], [log(&[]), log(&["a"])]] {
            assert_eq!(found(sent("a", Outcome::Fail, None).to_vec(), &logs), [Anomaly::G1a]);
        }
    }

    #[test]
    fn what_was_in_doubt_may_be_in_two_incarnations_but_in_neither_twice() {
        let events = sent("a", Outcome::Ok, Some(0)).to_vec();
        assert_eq!(found(events.clone(), &[log(&["a"]), log(&["a"])]), []);
        assert_eq!(found(events, &[log(&[]), log(&["a", "a"])]), [Anomaly::Duplicate]);
    }

    #[test]
    fn order_is_kept_within_an_incarnation() {
        let events = written(&[("a", 0), ("b", 0)]);
        assert_eq!(found(events, &[log(&["a"]), log(&["b"])]), []);
        let events = written(&[("a", 1), ("b", 0)]);
        assert_eq!(found(events, &[log(&[]), log(&["b", "a"])]), [Anomaly::NonmonotonicSend]);
    }
}
