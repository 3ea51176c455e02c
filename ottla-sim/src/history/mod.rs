//! What was sent and what was read, told by those who did it; and whether that fits the brokers' logs.
//!
//! The logs are the truth: the checks need no guess about what a broker may have done. Each violation says what was
//! expected and what happened, with the record concerned.

mod group;

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use bytes::Bytes;

use crate::{Logged, World};

pub use self::group::{
    Commits, GroupHistory, MemberHistory, Stored, Told, Twice, Verdict, What, check_group,
};

/// What the senders' settings promise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Each record is there once, and in the order in which it was sent.
    #[default]
    ExactlyOnce,
    /// What is sent again may be there twice, and behind what was sent later: idempotence is off.
    AtLeastOnce,
}

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

/// A record that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Who sent it; the order is checked per sender and partition.
    pub sender: u32,
    /// Where to.
    pub partition: i32,
    /// Unique in the history.
    pub value: Bytes,
    /// What became of it.
    pub fate: Fate,
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

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What should be.
    pub expected: String,
    /// What is instead.
    pub happened: String,
}

/// The logs of a topic, by partition.
pub type Logs = BTreeMap<i32, Vec<Logged>>;

/// All that was sent to, and read from, one topic. Cheap to clone: clones share it.
#[derive(Debug, Clone, Default)]
pub struct History(Rc<RefCell<Records>>);

#[derive(Debug, Default)]
struct Records {
    delivery: Delivery,
    sent: Vec<Sent>,
    /// By reader.
    read: BTreeMap<u32, Vec<Read>>,
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

    /// A record is about to be sent. Returns its number.
    pub fn sending(&self, sender: u32, partition: i32, value: Bytes) -> usize {
        let mut records = self.0.borrow_mut();
        records.sent.push(Sent { sender, partition, value, fate: Fate::Pending });
        records.sent.len() - 1
    }

    /// What became of it.
    pub fn settled(&self, number: usize, fate: Fate) {
        self.0.borrow_mut().sent[number].fate = fate;
    }

    /// A record was handed out by a consumer.
    pub fn read(&self, reader: u32, read: Read) {
        self.0.borrow_mut().read.entry(reader).or_default().push(read);
    }

    /// How many records were sent with that fate.
    #[must_use]
    pub fn count(&self, is: impl Fn(Fate) -> bool) -> usize {
        self.0.borrow().sent.iter().filter(|sent| is(sent.fate)).count()
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
        self.0.borrow().read.get(&reader).map_or(0, Vec::len)
    }

    /// Checks everything, and fails the run at the first violation.
    pub fn check(&self, world: &World, logs: &Logs) {
        let records = self.0.borrow();
        let mut reads = records.read.iter();
        let checked = check_sent(&records.sent, logs, records.delivery)
            .and_then(|()| reads.try_for_each(|(reader, read)| check_read(*reader, read, logs)));
        if let Err(Violation { expected, happened }) = checked {
            world.expect(false, &expected, || happened);
        }
    }
}

/// Nothing acknowledged is lost, and what was not written is not there. Unless [`Delivery::AtLeastOnce`] is all that was
/// promised, nothing is there twice, and order is kept.
///
/// # Errors
/// The first violation.
pub fn check_sent(sent: &[Sent], logs: &Logs, delivery: Delivery) -> Result<(), Violation> {
    let places = places(logs);
    if delivery == Delivery::ExactlyOnce {
        check_once(&places)?;
    }
    sent.iter().try_for_each(|sent| check_fate(sent, &places))?;
    check_strangers(sent, &places)?;
    match delivery {
        Delivery::ExactlyOnce => check_order(sent, &places),
        Delivery::AtLeastOnce => Ok(()),
    }
}

/// A reader saw each record of each partition exactly once, without gaps, in order.
///
/// # Errors
/// The first violation.
pub fn check_read(reader: u32, read: &[Read], logs: &Logs) -> Result<(), Violation> {
    for (partition, log) in logs {
        let mut seen = read.iter().filter(|read| read.partition == *partition);
        for logged in log {
            let expected = format!(
                "reader {reader} to get {} of partition {partition} next, at offset {}",
                show(&logged.value),
                logged.offset
            );
            let happened = match seen.next() {
                Some(read) if read.offset == logged.offset && read.value == logged.value => continue,
                Some(read) => format!("it got {} at offset {}", show(&read.value), read.offset),
                None => "it got nothing more".to_owned(),
            };
            return Err(Violation { expected, happened });
        }
        if let Some(more) = seen.next() {
            return Err(Violation {
                expected: format!("reader {reader} to get nothing more of partition {partition}"),
                happened: format!("it got {} at offset {}", show(&more.value), more.offset),
            });
        }
    }
    Ok(())
}

/// Partitions and offsets of each value; one or more.
type Places<'a> = BTreeMap<&'a [u8], Vec<(i32, i64)>>;

fn places(logs: &Logs) -> Places<'_> {
    let mut places = Places::new();
    for (partition, log) in logs {
        for logged in log {
            places.entry(&logged.value[..]).or_default().push((*partition, logged.offset));
        }
    }
    places
}

fn check_once(places: &Places<'_>) -> Result<(), Violation> {
    match places.iter().find(|(_, places)| places.len() > 1) {
        None => Ok(()),
        Some((value, places)) => Err(Violation {
            expected: format!("{} to be in the log once", show(value)),
            happened: found(places),
        }),
    }
}

/// Where a value is.
fn found(places: &[(i32, i64)]) -> String {
    let places: Vec<_> = places
        .iter()
        .map(|(partition, offset)| format!("at offset {offset} of partition {partition}"))
        .collect();
    if places.is_empty() {
        "it is not in the log".to_owned()
    } else {
        format!("it is {}", places.join(", and "))
    }
}

fn check_fate(sent: &Sent, places: &Places<'_>) -> Result<(), Violation> {
    let places = places.get(&sent.value[..]).map_or(&[][..], Vec::as_slice);
    let value = show(&sent.value);
    let partition = sent.partition;
    let only_there = places.iter().all(|(at, _)| *at == partition);
    let (holds, expected) = match sent.fate {
        Fate::Written(Some(offset)) => (
            only_there && places.contains(&(partition, offset)),
            format!("{value} to be at offset {offset} of partition {partition}, as acknowledged"),
        ),
        Fate::Written(None) => (
            only_there && !places.is_empty(),
            format!("{value} to be in partition {partition}, as acknowledged"),
        ),
        Fate::NotWritten => {
            (places.is_empty(), format!("{value} not to be in the log, as the producer said"))
        }
        Fate::PossiblyWritten => (only_there, format!("{value} to be in partition {partition}, or nowhere")),
        Fate::Pending => (false, format!("the fate of {value} to be known at the end")),
    };
    if holds { Ok(()) } else { Err(Violation { expected, happened: found(places) }) }
}

fn check_strangers(sent: &[Sent], places: &Places<'_>) -> Result<(), Violation> {
    let known: BTreeMap<&[u8], ()> = sent.iter().map(|sent| (&sent.value[..], ())).collect();
    match places.iter().find(|(value, _)| !known.contains_key(*value)) {
        None => Ok(()),
        Some((value, places)) => Err(Violation {
            expected: "nothing in the log but what was sent".to_owned(),
            happened: format!("{} is there: {}", show(value), found(places)),
        }),
    }
}

/// Of records that are there once.
fn check_order(sent: &[Sent], places: &Places<'_>) -> Result<(), Violation> {
    let mut last: BTreeMap<(u32, i32), (&Sent, i64)> = BTreeMap::new();
    for record in sent {
        let Some([(partition, offset)]) = places.get(&record.value[..]).map(Vec::as_slice) else { continue };
        let (partition, offset) = (*partition, *offset);
        let before = last.insert((record.sender, partition), (record, offset));
        if let Some((before, earlier)) = before.filter(|(_, earlier)| *earlier > offset) {
            return Err(Violation {
                expected: format!(
                    "{} to be before {} in partition {partition}, since it was sent before",
                    show(&before.value),
                    show(&record.value)
                ),
                happened: format!("they are at offsets {earlier} and {offset}"),
            });
        }
    }
    Ok(())
}

/// A value as a person can read it.
fn show(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    match text.char_indices().nth(48) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(value: &'static str, fate: Fate) -> Sent {
        Sent { sender: 1, partition: 0, value: Bytes::from_static(value.as_bytes()), fate }
    }

    fn logs(values: &[&'static str]) -> Logs {
        let logged = |(offset, value): (usize, &&'static str)| Logged {
            offset: offset as i64,
            value: Bytes::from_static(value.as_bytes()),
            ..Logged::default()
        };
        Logs::from([(0, values.iter().enumerate().map(logged).collect())])
    }

    fn read(offset: i64, value: &'static str) -> Read {
        Read { partition: 0, offset, value: Bytes::from_static(value.as_bytes()) }
    }

    #[test]
    fn what_is_as_told_passes() {
        let sent = [
            sent("a", Fate::Written(Some(0))),
            sent("b", Fate::PossiblyWritten),
            sent("c", Fate::NotWritten),
            sent("d", Fate::Written(None)),
        ];
        assert_eq!(check_sent(&sent, &logs(&["a", "d"]), Delivery::ExactlyOnce), Ok(()));
        assert_eq!(check_sent(&sent, &logs(&["a", "b", "d"]), Delivery::ExactlyOnce), Ok(()));
    }

    #[test]
    fn each_anomaly_is_found_and_told() {
        let told = |sent: &[Sent], log: &[&'static str]| {
            let violation = check_sent(sent, &logs(log), Delivery::ExactlyOnce).unwrap_err();
            format!("{}; {}", violation.expected, violation.happened)
        };
        let acknowledged = [sent("a", Fate::Written(Some(0))), sent("b", Fate::Written(Some(1)))];
        assert_eq!(
            told(&acknowledged, &["a"]),
            "\"b\" to be at offset 1 of partition 0, as acknowledged; it is not in the log"
        );
        assert_eq!(
            told(&acknowledged, &["a", "b", "a"]),
            "\"a\" to be in the log once; it is at offset 0 of partition 0, and at offset 2 of partition 0"
        );
        let unordered = [sent("b", Fate::PossiblyWritten), sent("a", Fate::Written(None))];
        assert_eq!(
            told(&unordered, &["a", "b"]),
            "\"b\" to be before \"a\" in partition 0, since it was sent before; they are at offsets 1 and 0"
        );
        assert_eq!(
            told(&[sent("a", Fate::NotWritten)], &["a"]),
            "\"a\" not to be in the log, as the producer said; it is at offset 0 of partition 0"
        );
        assert_eq!(
            told(&acknowledged, &["a", "b", "x"]),
            "nothing in the log but what was sent; \"x\" is there: it is at offset 2 of partition 0"
        );
        assert!(
            told(&[sent("a", Fate::Pending)], &[]).starts_with("the fate of \"a\" to be known at the end")
        );
    }

    #[test]
    fn without_idempotence_records_may_be_there_twice_and_must_be_there_once() {
        let check = |sent: &[Sent], log: &[&'static str]| check_sent(sent, &logs(log), Delivery::AtLeastOnce);
        let acknowledged = [sent("a", Fate::Written(Some(2))), sent("b", Fate::Written(Some(1)))];
        assert_eq!(check(&acknowledged, &["a", "b", "a"]), Ok(()));
        assert!(check(&acknowledged, &["a", "b"]).is_err(), "nothing is where the acknowledgement says");
        assert!(check(&acknowledged, &["b", "b"]).is_err(), "one is lost");
        assert!(check(&acknowledged, &["a", "b", "a", "x"]).is_err(), "nobody sent that");
        assert!(check(&[sent("a", Fate::NotWritten)], &["a"]).is_err(), "the producer was wrong");
    }

    #[test]
    fn a_reader_must_see_every_record_once_and_in_order() {
        let log = logs(&["a", "b", "c"]);
        assert_eq!(check_read(1, &[read(0, "a"), read(1, "b"), read(2, "c")], &log), Ok(()));
        for wrong in [
            &[read(0, "a"), read(2, "c")][..],
            &[read(0, "a"), read(1, "b"), read(1, "b"), read(2, "c")],
            &[read(0, "a"), read(1, "x"), read(2, "c")],
            &[read(0, "a"), read(1, "b"), read(2, "c"), read(3, "d")],
            &[read(1, "b"), read(0, "a"), read(2, "c")],
        ] {
            assert!(check_read(1, wrong, &log).is_err(), "{wrong:?}");
        }
    }
}
