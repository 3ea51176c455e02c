//! A history as a file: one event per line.
//!
//! ```json
//! {"i":4,"t":1200000,"proc":1,"inc":1,"type":"invoke","f":"send","v":{"records":[["orders-0",null,"1-0-17"]]}}
//! {"i":9,"t":1900000,"proc":1,"inc":1,"type":"ok","f":"send","v":{"records":[["orders-0",17,"1-0-17"]]}}
//! {"i":12,"t":2500000,"proc":3,"inc":1,"type":"info","f":"rebalance","v":{"assigned":["orders-0"]}}
//! {"i":15,"t":2600000,"proc":3,"inc":1,"type":"ok","f":"commit","v":{"offsets":[["orders-0",18]]}}
//! ```
//!
//! `i` is the place in the file, `t` nanoseconds since the history began, `proc` and `inc` a process and which of its lives,
//! `err` what went wrong (`code`, `definite`, `retriable`). Records are `[partition, offset, value]`, and the end of such a
//! list may be missing. Fields that are not known are skipped.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    io::{self, BufRead, Write},
    time::Duration,
};

use ottla::TopicPartition;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, SeqAccess, Visitor},
    ser::SerializeSeq,
};

use super::event::{Actor, Change, Delivery, Entry, Event, Failed, Open, Outcome, What};

/// Writes a history, event by event.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    next: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a file. Writes are small: `out` should be buffered.
    pub fn new(out: W) -> Self {
        Self { out, next: 0 }
    }

    /// One more line.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn write(&mut self, event: &Event) -> io::Result<()> {
        let mut line = Line::of(event);
        line.i = self.next;
        self.next += 1;
        serde_json::to_writer(&mut self.out, &line)?;
        self.out.write_all(b"\n")
    }

    /// Hands everything on.
    ///
    /// # Errors
    /// Those of the writer below.
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Reads a history, event by event; it keeps one line in memory.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    line: String,
    number: u64,
    /// Partitions are named again and again.
    partitions: BTreeMap<Box<str>, TopicPartition>,
}

/// Why a line is no event.
#[derive(Debug)]
pub struct ReadError {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for ReadError {}

impl<R: BufRead> Reader<R> {
    /// Begins at the first line. Empty lines and those that begin with `#` are skipped.
    pub fn new(from: R) -> Self {
        Self { from, line: String::new(), number: 0, partitions: BTreeMap::new() }
    }

    fn read(&mut self) -> Result<Option<Event>, String> {
        loop {
            self.line.clear();
            self.number += 1;
            if self.from.read_line(&mut self.line).map_err(|error| error.to_string())? == 0 {
                return Ok(None);
            }
            let line = self.line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line: Line<'_> = serde_json::from_str(line).map_err(|error| error.to_string())?;
            return line.event(&mut self.partitions).map(Some);
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Event, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.read() {
            Ok(event) => event.map(Ok),
            Err(reason) => Some(Err(ReadError { line: self.number, reason })),
        }
    }
}

/// A line as it is written.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    #[serde(default)]
    i: u64,
    t: u64,
    #[serde(default)]
    proc: u32,
    #[serde(default)]
    inc: u32,
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(borrow)]
    f: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Values::is_empty")]
    v: Values<'a>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    err: Option<Err<'a>>,
}

#[derive(Serialize, Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Invoke,
    Ok,
    Fail,
    Info,
}

#[derive(Serialize, Deserialize)]
struct Err<'a> {
    #[serde(borrow)]
    code: Cow<'a, str>,
    definite: bool,
    retriable: bool,
}

/// All that `v` may say; which of it, depends on `f`.
#[derive(Serialize, Deserialize, Default, PartialEq)]
struct Values<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    records: Option<Vec<Place<'a>>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    offsets: Option<Vec<Place<'a>>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    group: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    assigned: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    revoked: Option<Vec<Cow<'a, str>>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    lost: Option<Vec<Cow<'a, str>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    committed: Option<bool>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    idempotent: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overlap: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bound: Option<u64>,
}

impl Values<'_> {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `[partition, offset, value]`.
#[derive(PartialEq)]
struct Place<'a> {
    partition: Cow<'a, str>,
    offset: Option<i64>,
    value: Option<Cow<'a, str>>,
}

impl Serialize for Place<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        seq.serialize_element(&self.partition)?;
        if self.offset.is_some() || self.value.is_some() {
            seq.serialize_element(&self.offset)?;
        }
        if let Some(value) = &self.value {
            seq.serialize_element(value)?;
        }
        seq.end()
    }
}

/// Without it, serde would copy each string.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Place<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Places;

        impl<'de> Visitor<'de> for Places {
            type Value = Place<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("[partition, offset, value]")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Place<'de>, A::Error> {
                let missing = || serde::de::Error::invalid_length(0, &self);
                let Text(partition) = seq.next_element()?.ok_or_else(missing)?;
                let offset = seq.next_element::<Option<i64>>()?.flatten();
                let value = seq.next_element::<Option<Text<'_>>>()?.flatten().map(|Text(value)| value);
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Place { partition, offset, value })
            }
        }

        deserializer.deserialize_seq(Places)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What is written only where it differs from the default.
fn unless_zero(duration: Duration) -> Option<u64> {
    Some(nanos(duration)).filter(|nanos| *nanos > 0)
}

impl<'a> Line<'a> {
    fn of(event: &'a Event) -> Self {
        let kind = match event.outcome {
            Outcome::Invoke => Kind::Invoke,
            Outcome::Ok => Kind::Ok,
            Outcome::Fail => Kind::Fail,
            Outcome::Info => Kind::Info,
        };
        let err = event.error.as_ref().map(|Failed { code, definite, retriable }| Err {
            code: code.into(),
            definite: *definite,
            retriable: *retriable,
        });
        let Actor { process: proc, incarnation: inc } = event.actor;
        let (f, v) = (event.what.name().into(), Values::of(&event.what));
        Self { i: 0, t: nanos(event.at), proc, inc, kind, f, v, err }
    }

    fn event(self, partitions: &mut BTreeMap<Box<str>, TopicPartition>) -> Result<Event, String> {
        let outcome = match self.kind {
            Kind::Invoke => Outcome::Invoke,
            Kind::Ok => Outcome::Ok,
            Kind::Fail => Outcome::Fail,
            Kind::Info => Outcome::Info,
        };
        let error = self.err.map(|Err { code, definite, retriable }| Failed {
            code: code.into_owned(),
            definite,
            retriable,
        });
        let actor = Actor { process: self.proc, incarnation: self.inc };
        let what = self.v.what(&self.f, partitions)?;
        Ok(Event { at: Duration::from_nanos(self.t), actor, outcome, what, error })
    }
}

impl<'a> Values<'a> {
    fn of(what: &'a What) -> Self {
        let some = |text: &'a str| Some(Cow::Borrowed(text)).filter(|text| !text.is_empty());
        let empty = Self::default();
        match what {
            What::Send(entries) | What::Poll(entries) | What::Process(entries) | What::Log(entries) => {
                Self { records: Some(places(entries)), ..empty }
            }
            What::Commit(entries) | What::Assign(entries) | What::Seek(entries) | What::Begin(entries) => {
                Self { offsets: Some(places(entries)), ..empty }
            }
            What::Stored { group, offsets } => {
                Self { offsets: Some(places(offsets)), group: some(group), ..empty }
            }
            What::Open(Open { name, delivery, group, overlap }) => Self {
                text: some(name),
                idempotent: (*delivery == Delivery::AtLeastOnce).then_some(false),
                group: group.as_deref().and_then(some),
                overlap: unless_zero(*overlap),
                ..empty
            },
            What::Rebalance { change, partitions } => {
                let names = Some(partitions.iter().map(|of| of.to_string().into()).collect());
                match change {
                    Change::Assigned => Self { assigned: names, ..empty },
                    Change::Revoked { committed } => {
                        Self { revoked: names, committed: Some(*committed), ..empty }
                    }
                    Change::Lost => Self { lost: names, ..empty },
                }
            }
            What::Close | What::Crash => empty,
            What::Fault(text) | What::Complaint(text) | What::Panic(text) => {
                Self { text: some(text), ..empty }
            }
            What::Heal(within) => Self { within: unless_zero(*within), ..empty },
            What::Resource { name, used, bound } => {
                Self { text: some(name), used: Some(*used), bound: Some(*bound), ..empty }
            }
        }
    }

    fn what(self, f: &str, known: &mut BTreeMap<Box<str>, TopicPartition>) -> Result<What, String> {
        let duration = |nanos: Option<u64>| Duration::from_nanos(nanos.unwrap_or_default());
        let text = |text: Option<Cow<'_, str>>| text.unwrap_or_default().into_owned();
        Ok(match f {
            "send" => What::Send(entries(self.records, known)?),
            "poll" => What::Poll(entries(self.records, known)?),
            "process" => What::Process(entries(self.records, known)?),
            "log" => What::Log(entries(self.records, known)?),
            "commit" => What::Commit(entries(self.offsets, known)?),
            "assign" => What::Assign(entries(self.offsets, known)?),
            "seek" => What::Seek(entries(self.offsets, known)?),
            "begin" => What::Begin(entries(self.offsets, known)?),
            "stored" => {
                What::Stored { group: text(self.group).into(), offsets: entries(self.offsets, known)? }
            }
            "open" => What::Open(Open {
                name: text(self.text).into(),
                delivery: match self.idempotent {
                    Some(false) => Delivery::AtLeastOnce,
                    _ => Delivery::ExactlyOnce,
                },
                group: self.group.map(|group| group.into_owned().into()),
                overlap: duration(self.overlap),
            }),
            "rebalance" => {
                let (change, names) = match (self.assigned, self.revoked, self.lost) {
                    (Some(names), None, None) => (Change::Assigned, names),
                    (None, Some(names), None) => {
                        (Change::Revoked { committed: self.committed.unwrap_or_default() }, names)
                    }
                    (None, None, Some(names)) => (Change::Lost, names),
                    _ => return Err("a rebalance says one of assigned, revoked, lost".to_owned()),
                };
                let partitions = names.iter().map(|name| partition(name, known)).collect::<Result<_, _>>()?;
                What::Rebalance { change, partitions }
            }
            "close" => What::Close,
            "crash" => What::Crash,
            "fault" => What::Fault(text(self.text)),
            "heal" => What::Heal(duration(self.within)),
            "complaint" => What::Complaint(text(self.text)),
            "panic" => What::Panic(text(self.text)),
            "resource" => What::Resource {
                name: text(self.text),
                used: self.used.unwrap_or_default(),
                bound: self.bound.unwrap_or(u64::MAX),
            },
            unknown => return Err(format!("nothing is called {unknown:?}")),
        })
    }
}

fn places(entries: &[Entry]) -> Vec<Place<'_>> {
    let place = |entry| {
        let Entry { partition, offset, value }: &Entry = entry;
        Place {
            partition: partition.to_string().into(),
            offset: *offset,
            value: value.as_deref().map(Cow::from),
        }
    };
    entries.iter().map(place).collect()
}

fn entries(
    places: Option<Vec<Place<'_>>>,
    known: &mut BTreeMap<Box<str>, TopicPartition>,
) -> Result<Vec<Entry>, String> {
    let places = places.unwrap_or_default();
    let mut entries = Vec::with_capacity(places.len());
    for Place { partition: name, offset, value } in places {
        let partition = partition(&name, known)?;
        entries.push(Entry { partition, offset, value: value.map(|value| value.into_owned().into()) });
    }
    Ok(entries)
}

fn partition(name: &str, known: &mut BTreeMap<Box<str>, TopicPartition>) -> Result<TopicPartition, String> {
    if let Some(known) = known.get(name) {
        return Ok(known.clone());
    }
    let parsed = name.rsplit_once('-').and_then(|(topic, number)| Some((topic, number.parse().ok()?)));
    let (topic, number) = parsed.ok_or_else(|| format!("{name:?} is no partition: orders-0"))?;
    let partition = TopicPartition::new(topic, number);
    known.insert(name.into(), partition.clone());
    Ok(partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> TopicPartition {
        TopicPartition::new("a-topic", number)
    }

    /// One of each kind, with everything that it can say.
    fn all() -> Vec<Event> {
        let entries = vec![Entry::record(partition(0), Some(17), "1-0-\"17\""), Entry::at(partition(1), 5)];
        let open = Open {
            name: "app".into(),
            delivery: Delivery::AtLeastOnce,
            group: Some("billing".into()),
            overlap: Duration::from_secs(2),
        };
        let both = vec![partition(0), partition(1)];
        let rebalance = |change| What::Rebalance { change, partitions: both.clone() };
        let what = [
            What::Open(open),
            What::Open(Open::default()),
            What::Send(vec![Entry::record(partition(3), None, "x")]),
            What::Poll(entries.clone()),
            What::Process(entries.clone()),
            What::Commit(entries.clone()),
            What::Assign(vec![Entry { partition: partition(0), offset: None, value: None }]),
            What::Seek(entries.clone()),
            What::Begin(entries.clone()),
            rebalance(Change::Assigned),
            rebalance(Change::Revoked { committed: true }),
            rebalance(Change::Revoked { committed: false }),
            rebalance(Change::Lost),
            What::Close,
            What::Crash,
            What::Fault("broker 2: SIGSTOP".to_owned()),
            What::Heal(Duration::from_secs(60)),
            What::Log(entries.clone()),
            What::Stored { group: "billing".into(), offsets: entries },
            What::Complaint("too many in flight".to_owned()),
            What::Panic("oh".to_owned()),
            What::Resource { name: "bytes".to_owned(), used: 2, bound: 1 },
        ];
        let event = |(at, what): (usize, What)| Event {
            at: Duration::from_nanos(at as u64),
            actor: Actor { process: 7, incarnation: 2 },
            outcome: [Outcome::Invoke, Outcome::Ok, Outcome::Fail, Outcome::Info][at % 4],
            what,
            error: (at % 4 > 1).then(|| Failed {
                code: "TIMED_OUT".to_owned(),
                definite: at % 4 == 2,
                retriable: true,
            }),
        };
        what.into_iter().enumerate().map(event).collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file);
        all().iter().for_each(|event| writer.write(event).unwrap());
        writer.flush().unwrap();
        assert_eq!(file.iter().filter(|byte| **byte == b'\n').count(), all().len());
        let read: Vec<Event> = Reader::new(&file[..]).collect::<Result<_, _>>().unwrap();
        assert_eq!(read, all());
    }

    #[test]
    fn lines_look_as_documented() {
        let mut file = Vec::new();
        let send = What::Send(vec![Entry::record(TopicPartition::new("orders", 0), None, "1-0-17")]);
        let (at, actor) = (Duration::from_micros(1200), Actor::first(1));
        let event = Event { at, actor, outcome: Outcome::Invoke, what: send, error: None };
        Writer::new(&mut file).write(&event).unwrap();
        assert_eq!(
            String::from_utf8(file).unwrap(),
            "{\"i\":0,\"t\":1200000,\"proc\":1,\"inc\":1,\"type\":\"invoke\",\"f\":\"send\",\
             \"v\":{\"records\":[[\"orders-0\",null,\"1-0-17\"]]}}\n"
        );
    }

    #[test]
    fn what_is_no_event_is_told_with_its_line() {
        let told = |text: &str| {
            let read: Result<Vec<Event>, _> = Reader::new(text.as_bytes()).collect();
            read.unwrap_err().to_string()
        };
        let good = "# a comment\n\n{\"t\":1,\"type\":\"info\",\"f\":\"close\",\"new\":[1]}\n";
        assert_eq!(Reader::new(good.as_bytes()).count(), 1);
        assert_eq!(
            told(&format!("{good}{{\"t\":1,\"type\":\"ok\",\"f\":\"dance\"}}")),
            "line 4: nothing is called \"dance\""
        );
        assert!(told("{\"t\":1").starts_with("line 1: "));
        let nowhere = "{\"t\":1,\"type\":\"ok\",\"f\":\"poll\",\"v\":{\"records\":[[\"orders\",1]]}}";
        assert_eq!(told(nowhere), "line 1: \"orders\" is no partition: orders-0");
        let both = "{\"t\":1,\"type\":\"ok\",\"f\":\"rebalance\",\"v\":{\"assigned\":[],\"lost\":[]}}";
        assert_eq!(told(both), "line 1: a rebalance says one of assigned, revoked, lost");
    }
}
