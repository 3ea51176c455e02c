//! The queue against a model of a broker, under random faults.
//!
//! The model checks epoch and sequence as Kafka does, remembers five batches, accepts any first sequence of a producer
//! it does not know, may lose what it has not acknowledged when it fails over, and may process requests of a closed
//! connection long after the client gave up on them. Whatever happens: what is reported written is in the log once,
//! what is reported not written never is, and the log has the order in which records were appended.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::{Duration, Instant},
};

use ottla_protocol::{
    ErrorCode,
    batch::{BatchHeader, RecordHeader, SealedBatch, batches},
    compression::Decompressor,
};
use proptest::prelude::*;

use super::*;
use crate::backoff::BackoffPolicy;

const BACKOFF: Duration = Duration::from_millis(100);
const DELIVERY: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
enum Step {
    Append(u8),
    Close,
    Send,
    /// The broker takes the next request and answers.
    Deliver,
    /// It refuses it without looking.
    Refuse(ErrorCode),
    /// It appends it and answers with an error, or the answer is lost with the connection.
    AppendAndFail(Option<ErrorCode>),
    Reset,
    /// A request of a connection that was reset reaches the broker after all.
    DeliverStale,
    FailOver {
        lose_tail: bool,
    },
    /// The client learns who leads.
    LearnLeader,
    Pass(u16),
    /// Batches above this many records are too large from now on.
    LimitRecords(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let refusals = prop::sample::select(vec![
        ErrorCode::NOT_ENOUGH_REPLICAS,
        ErrorCode::CORRUPT_MESSAGE,
        ErrorCode::INVALID_RECORD,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::UNKNOWN_SERVER_ERROR,
    ]);
    let failures = prop::option::of(prop::sample::select(vec![
        ErrorCode::REQUEST_TIMED_OUT,
        ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ErrorCode::UNKNOWN_SERVER_ERROR,
    ]));
    prop_oneof![
        6 => (1_u8..4).prop_map(Step::Append),
        4 => Just(Step::Close),
        10 => Just(Step::Send),
        8 => Just(Step::Deliver),
        2 => refusals.prop_map(Step::Refuse),
        2 => failures.prop_map(Step::AppendAndFail),
        2 => Just(Step::Reset),
        2 => Just(Step::DeliverStale),
        1 => any::<bool>().prop_map(|lose_tail| Step::FailOver { lose_tail }),
        3 => Just(Step::LearnLeader),
        4 => (1_u16..150).prop_map(Step::Pass),
        1 => (1_u16..1500).prop_map(Step::Pass),
        1 => (1_u8..8).prop_map(Step::LimitRecords),
    ]
}

/// The values that a completion stands for.
#[derive(Debug, Clone)]
struct Told(Rc<RefCell<Vec<u32>>>);

impl Completion for Told {
    fn split(self, at: u32) -> (Self, Self) {
        let rest = self.0.borrow_mut().split_off(at as usize);
        (self, Self(Rc::new(RefCell::new(rest))))
    }
}

struct Request {
    ticket: Ticket,
    batch: SealedBatch,
    leader_epoch: i32,
}

/// A batch in the log of the model.
struct Appended {
    header: BatchHeader,
    values: Vec<u32>,
    acknowledged: bool,
}

impl Appended {
    fn sequences(&self) -> (i32, i32) {
        let first = self.header.base_sequence;
        (first, first + self.values.len() as i32 - 1)
    }
}

#[derive(Default)]
struct Broker {
    log: Vec<Appended>,
    leader_epoch: i32,
    most_records: usize,
}

impl Broker {
    /// Appends a batch as a leader does, or says why not; the offset of its first record.
    fn append(&mut self, batch: &SealedBatch) -> Result<(usize, i64), ErrorCode> {
        let raw = batches(batch.bytes()).next().expect("a batch").expect("well-formed");
        raw.verify_crc().expect("the checksum is right");
        let mut decompressor = Decompressor::new();
        let values: Vec<u32> = raw
            .views(&mut decompressor)
            .expect("decodes")
            .map(|record| record.expect("decodes").value.expect("a value"))
            .map(|value| u32::from_be_bytes(value.try_into().expect("four bytes")))
            .collect();
        if values.len() > self.most_records {
            return Err(ErrorCode::MESSAGE_TOO_LARGE);
        }
        let new = Appended { header: *raw.header(), values, acknowledged: false };
        let of_producer = |old: &&Appended| old.header.producer_id == new.header.producer_id;
        if let Some(last) = self.log.iter().rev().find(of_producer) {
            let (epoch, last_epoch) = (new.header.producer_epoch, last.header.producer_epoch);
            if epoch < last_epoch {
                return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
            }
            let remembered = self.log.iter().enumerate().rev().filter(|(_, old)| of_producer(old)).take(5);
            let same =
                |old: &Appended| old.header.producer_epoch == epoch && old.sequences() == new.sequences();
            if let Some((at, _)) = remembered.into_iter().find(|(_, old)| same(old)) {
                return Ok((at, self.offset_of(at)));
            }
            let expected = if epoch > last_epoch { 0 } else { last.sequences().1 + 1 };
            if new.header.base_sequence != expected {
                return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
            }
        }
        self.log.push(new);
        let at = self.log.len() - 1;
        Ok((at, self.offset_of(at)))
    }

    fn offset_of(&self, at: usize) -> i64 {
        self.log[..at].iter().map(|batch| batch.values.len() as i64).sum()
    }

    fn answer(&mut self, request: &Request) -> Attempt {
        if request.leader_epoch != self.leader_epoch {
            return answered(ErrorCode::NOT_LEADER_OR_FOLLOWER, -1);
        }
        match self.append(&request.batch) {
            Ok((at, offset)) => {
                self.log[..=at].iter_mut().for_each(|batch| batch.acknowledged = true);
                answered(ErrorCode::NONE, offset)
            }
            Err(code) => answered(code, -1),
        }
    }

    fn fail_over(&mut self, lose_tail: bool) {
        self.leader_epoch += 1;
        while lose_tail && self.log.last().is_some_and(|batch| !batch.acknowledged) {
            self.log.pop();
        }
    }

    fn values(&self) -> Vec<u32> {
        self.log.iter().flat_map(|batch| batch.values.clone()).collect()
    }
}

fn answered(code: ErrorCode, base_offset: i64) -> Attempt {
    Attempt::Answered { code, base_offset, log_start_offset: 0 }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Fated {
    Written(Option<i64>),
    Not,
    Possibly,
}

struct World {
    queue: PartitionQueue<Told>,
    broker: Broker,
    connection: VecDeque<Request>,
    stale: VecDeque<Request>,
    now: Instant,
    next_value: u32,
    next_id: i64,
    fates: BTreeMap<u32, Fated>,
}

impl World {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a fixed moment to count from; tests have no clock")]
        let now = Instant::now();
        let settings = QueueSettings {
            batch_size: 10_000,
            linger: Duration::from_millis(5),
            delivery_timeout: DELIVERY,
            unknown_topic_grace: Duration::from_secs(1),
            max_in_flight: 5,
            idempotent: true,
            compressed: false,
            backoff: BackoffPolicy::new(BACKOFF, BACKOFF),
        };
        let mut queue = PartitionQueue::new(settings);
        queue.set_leader(Some(Leader { node: 0, epoch: 0 }));
        let broker = Broker { most_records: usize::MAX, ..Broker::default() };
        Self {
            queue,
            broker,
            connection: VecDeque::new(),
            stale: VecDeque::new(),
            now,
            next_value: 0,
            next_id: 0,
            fates: BTreeMap::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(records) => (0..records).for_each(|_| self.append()),
            Step::Close => drop(self.queue.close()),
            Step::Send => self.send(),
            Step::Deliver => self.deliver(|broker, request| Some(broker.answer(request))),
            Step::Refuse(code) => self.deliver(|_, _| Some(answered(code, -1))),
            Step::AppendAndFail(code) => self.deliver(|broker, request| {
                if request.leader_epoch != broker.leader_epoch {
                    return Some(answered(ErrorCode::NOT_LEADER_OR_FOLLOWER, -1));
                }
                match broker.append(&request.batch) {
                    Ok(_) => code.map(|code| answered(code, -1)),
                    Err(code) => Some(answered(code, -1)),
                }
            }),
            Step::Reset => self.reset(),
            Step::DeliverStale => {
                // Nothing fences a former producer id, which is why it takes 32,767 epochs to leave one.
                if let Some(request) = self.stale.pop_front()
                    && request.leader_epoch == self.broker.leader_epoch
                    && header(&request.batch).producer_id == self.next_id
                {
                    let _nobody_hears = self.broker.append(&request.batch);
                }
            }
            Step::FailOver { lose_tail } => self.broker.fail_over(lose_tail),
            Step::LearnLeader => {
                let epoch = self.broker.leader_epoch;
                self.queue.set_leader(Some(Leader { node: epoch % 3, epoch }));
            }
            Step::Pass(milliseconds) => {
                self.now += Duration::from_millis(milliseconds.into());
                for GivenUp { to, fate, .. } in self.queue.expire(self.now, |told| told.0.borrow().clone()) {
                    self.tell(&to, |_| fate.into());
                }
            }
            Step::LimitRecords(most) => self.broker.most_records = most.into(),
        }
    }

    fn append(&mut self) {
        let value = self.next_value;
        self.next_value += 1;
        loop {
            let headers = std::iter::empty::<RecordHeader<'_>>();
            match self.queue.append(0, None, Some(&value.to_be_bytes()), headers) {
                Ok(_) => break,
                Err(Refusal::NoBatch) => self.queue.open(Vec::new(), 10_000, Told(Rc::default()), self.now),
                Err(Refusal::Full) => assert!(self.queue.close()),
                Err(Refusal::Grow { to }) => self.queue.grow(to),
            }
        }
        self.queue.open_completion().expect("open").0.borrow_mut().push(value);
    }

    fn send(&mut self) {
        match self.queue.next(self.now, self.connection.is_empty(), usize::MAX) {
            Next::Send(mut outgoing) => {
                outgoing.stamp();
                let leader_epoch = self.queue.leader().expect("sent to somebody").epoch;
                let Outgoing { ticket, batch, .. } = outgoing;
                self.connection.push_back(Request { ticket, batch, leader_epoch });
                assert!(self.connection.len() <= MAX_IN_FLIGHT);
            }
            Next::NeedsIdentity => {
                self.next_id += 1;
                self.queue.adopt(ProducerIdentity { id: self.next_id, epoch: i16::MAX - 2 });
            }
            _ => {}
        }
    }

    /// The first request meets `broker`; no answer means that the connection breaks.
    fn deliver(&mut self, broker: impl FnOnce(&mut Broker, &Request) -> Option<Attempt>) {
        let Some(request) = self.connection.pop_front() else { return };
        match broker(&mut self.broker, &request) {
            Some(attempt) => self.settle(request, attempt),
            None => {
                self.settle(request, Attempt::Lost);
                self.reset();
            }
        }
    }

    fn reset(&mut self) {
        for request in std::mem::take(&mut self.connection) {
            let Request { ticket, batch, leader_epoch } = request;
            let mut copy = batches(batch.bytes());
            let copy = copy.next().expect("a batch").expect("well-formed");
            self.settle(Request { ticket, batch, leader_epoch }, Attempt::Lost);
            self.stale.push_back(Request { ticket, batch: resealed(&copy), leader_epoch });
        }
    }

    fn settle(&mut self, request: Request, attempt: Attempt) {
        match self.queue.settle(request.ticket, request.batch, attempt, self.now, u64::MAX) {
            Settled::Written { completion, base_offset, .. } => {
                let told = completion.0.borrow().clone();
                self.tell(&told, |at| Fated::Written(base_offset.map(|base| base + at as i64)));
            }
            Settled::Failed(GivenUp { to, fate, .. }) => {
                let told = to.0.borrow().clone();
                self.tell(&told, |_| fate.into());
            }
            Settled::Again { .. } => {}
            Settled::Unknown => panic!("every request is settled once"),
        }
    }

    /// The first word counts: a batch that was reported at its deadline may be settled later.
    fn tell(&mut self, values: &[u32], fate: impl Fn(usize) -> Fated) {
        for (at, value) in values.iter().enumerate() {
            self.fates.entry(*value).or_insert_with(|| fate(at));
        }
    }

    /// No more faults: everything has to come to an end.
    fn heal(&mut self) {
        self.broker.most_records = usize::MAX;
        for _ in 0..1_000 {
            for step in [Step::Close, Step::LearnLeader, Step::Send, Step::Send, Step::Deliver, Step::Deliver]
            {
                self.step(step);
            }
            if self.queue.is_empty() {
                break;
            }
            self.now += BACKOFF;
        }
        assert!(self.queue.is_empty(), "no progress: {:?}", self.queue);
        while !self.stale.is_empty() {
            self.step(Step::DeliverStale);
        }
    }

    fn check(&self) {
        let log = self.broker.values();
        assert!(log.is_sorted_by(|a, b| a < b), "reordered or duplicated: {log:?}");
        assert_eq!(self.fates.len(), self.next_value as usize, "everybody is told");
        for (value, fate) in &self.fates {
            let at = log.iter().position(|logged| logged == value);
            match fate {
                Fated::Written(None) => assert!(at.is_some(), "{value} is lost"),
                Fated::Written(Some(offset)) => assert_eq!(at.map(|at| at as i64), Some(*offset), "{value}"),
                Fated::Not => assert_eq!(at, None, "{value} was reported not written"),
                Fated::Possibly => {}
            }
        }
    }
}

impl From<Fate> for Fated {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::NotWritten => Self::Not,
            Fate::PossiblyWritten => Self::Possibly,
        }
    }
}

fn header(batch: &SealedBatch) -> BatchHeader {
    BatchHeader::parse(&batch.bytes()).expect("well-formed").expect("whole")
}

/// Another owner of the same bytes.
fn resealed(raw: &ottla_protocol::batch::RawBatch) -> SealedBatch {
    let mut decompressor = Decompressor::new();
    let mut builder = ottla_protocol::batch::BatchBuilder::new(0);
    for record in raw.views(&mut decompressor).expect("decodes") {
        let record = record.expect("decodes");
        builder.append(record.timestamp, record.key, record.value, record.headers()).expect("fits");
    }
    let mut sealed = builder.seal();
    let header = raw.header();
    sealed.stamp(header.producer_id, header.producer_epoch, header.base_sequence);
    assert_eq!(sealed.bytes(), raw.bytes());
    sealed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_record_has_the_fate_that_its_sender_was_told(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.heal();
        world.check();
    }
}
