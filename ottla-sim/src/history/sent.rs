//! What was sent to, and read from, one topic by consumers without group.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

use bytes::Bytes;
use ottla::TopicPartition;
use tokio::time::Instant;

use super::{
    Delivery, Logs, check,
    event::{Actor, Entry, Event, Failed, Open, Outcome, What, value_of},
    fail, truth,
};
use crate::World;

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
        let partition = TopicPartition::new(TOPIC, read.partition);
        let entry = Entry::record(partition, Some(read.offset), value_of(&read.value));
        records.event(Actor::first(READERS + reader), Outcome::Ok, What::Poll(vec![entry]), None);
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
        self.0.borrow().read.get(&reader).copied().unwrap_or_default()
    }

    /// All of it, and the truth.
    #[must_use]
    pub fn events(&self, logs: &Logs) -> Vec<Event> {
        let mut records = self.0.borrow_mut();
        let now = records.now();
        records.events.iter().cloned().chain(truth(now, TOPIC, logs)).collect()
    }

    /// Checks everything, and fails the run at the worst violation.
    pub fn check(&self, world: &World, logs: &Logs) {
        fail(world, &check(&self.events(logs)));
    }
}
