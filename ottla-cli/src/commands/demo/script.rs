//! What happens, in order.
//!
//! ```text
//!   orders    ── first half ──┐                             ┌── second half
//!   consumer     handled and committed                      │        handled and committed again
//!   brokers   ────────────────┤        frozen               ├──── awake ───────────────────────▶
//!   data      ────────────────┤                             ├──────▶
//!   group     ────────────────┤  session ends here somewhere├── DATA_FIRST ──▶
//! ```
//!
//! A broker that wakes up answers its connections in any order. Here it is the worst one: records come before the client
//! can hear that the group has gone on without it.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use ottla::{Client, Consumer, Error, Producer, Record, Reset, TopicPartition};
use tokio::{task::coop::consume_budget, time::timeout};

use super::{
    diary::Diary,
    interrupted,
    ledger::Ledger,
    report::{Report, Thousands},
    screen::{Screen, Who},
    world::World,
};
use crate::{output::Failure, signals::Stop};

/// How long records reach the client before word of its membership does.
const DATA_FIRST: Duration = Duration::from_secs(1);
/// How long anything may take that does not wait for a session to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// So many orders before the pause, and as many after it.
    pub(super) orders: u64,
    pub(super) session: Duration,
    pub(super) pause: Duration,
    /// Whether the consumer heeds its lease.
    pub(super) lease: bool,
}

impl Plan {
    pub(super) fn all_orders(&self) -> u64 {
        2 * self.orders
    }

    fn consumer(&self, client: &Client, world: &World) -> Result<Consumer, Failure> {
        let consumer = Consumer::builder(client)
            .group(&world.group)
            .session_timeout(self.session)
            .heartbeat_interval(Duration::from_secs(3).min(self.session / 3))
            .on_missing_offset(Reset::Earliest)
            .lease_gate(self.lease)
            .build()?;
        consumer.subscribe([world.topic.as_str()])?;
        Ok(consumer)
    }
}

/// Plays it all, and says what it came to.
pub(super) async fn play(
    plan: Plan,
    world: &World,
    screen: &Screen,
    stop: &mut Stop,
) -> Result<Report, Failure> {
    world.create_topic().await?;
    let client = world.client(plan.pause).await?;
    let events = client.events();
    let consumer = plan.consumer(&client, world)?;
    let producer = Producer::builder(&world.outside).build()?;
    let stage = Stage {
        plan,
        world,
        screen,
        producer: &producer,
        consumer: &consumer,
        ledger: Ledger::default(),
        diary: Diary::new(screen, plan.lease),
    };
    let outcome = tokio::select! {
        biased;
        () = stop.asked() => Err(interrupted()),
        Err(failure) = stage.diary.keep(events) => Err(failure),
        Err(failure) = stage.handle() => Err(failure),
        outcome = stage.acts() => outcome,
    };
    // Whatever ended it: there is no leaving a group that stands still.
    world.wake().await?;
    world.let_all_go();
    let closed = close(&producer, &consumer, &client).await;
    let report = outcome?;
    closed?;
    Ok(report)
}

async fn close(producer: &Producer, consumer: &Consumer, client: &Client) -> ottla::Result<()> {
    producer.close().await?;
    consumer.close().await?;
    client.close().await
}

/// Everybody and everything that takes part.
struct Stage<'a> {
    plan: Plan,
    world: &'a World,
    screen: &'a Screen,
    producer: &'a Producer,
    consumer: &'a Consumer,
    ledger: Ledger,
    diary: Diary<'a>,
}

/// The offset behind the last order of each partition.
type Ends = BTreeMap<TopicPartition, i64>;

impl Stage<'_> {
    async fn acts(&self) -> Result<Report, Failure> {
        let Plan { orders, session, pause, .. } = self.plan;
        let ends = self.produce(0..orders).await?;
        if !self.all_done(orders, &ends).await? {
            return Err(Failure::new("the first orders were not handled and committed in time"));
        }
        self.screen.line(Who::Orders, format_args!("{} handled and committed", Thousands(orders)));

        let (secs, longest) = (pause.as_secs_f64(), session.as_secs_f64());
        self.screen.line(Who::Broker, format_args!("frozen for {secs} s; a session lasts {longest} s"));
        self.world.freeze().await?;
        self.screen.wait("frozen", pause).await;
        self.world.wake().await?;
        self.screen.line(Who::Broker, "awake");
        let ends = self.produce(orders..self.plan.all_orders()).await?;

        self.screen.line(Who::Broker, "answers fetches again, and heartbeats a second later");
        self.let_data_go_first().await;

        let all = self.plan.all_orders();
        match self.all_done(all, &ends).await? {
            true => self.screen.line(Who::Orders, format_args!("{} handled and committed", Thousands(all))),
            // What is missing is in the report.
            false => self.screen.line(Who::Orders, format_args!("not all handled after {PATIENCE:?}")),
        }
        Ok(self.report())
    }

    /// The consumer has records, and cannot know yet what has become of its membership.
    async fn let_data_go_first(&self) {
        let before = self.diary.seen().fetched;
        self.world.let_data_go();
        self.screen.wait("no heartbeats", DATA_FIRST).await;
        let kilobytes = (self.diary.seen().fetched - before) / 1000;
        let handled = Thousands(self.ledger.tally().handled.saturating_sub(self.plan.orders));
        self.screen.line(
            Who::Consumer,
            format_args!("{} kB of new orders are here, {handled} of them handled", Thousands(kilobytes)),
        );
        self.world.let_all_go();
    }

    fn report(&self) -> Report {
        let seen = self.diary.seen();
        Report {
            lease: self.plan.lease,
            produced: self.plan.all_orders(),
            tally: self.ledger.tally(),
            sessions_lost: seen.sessions_lost,
            regained: seen.regained,
            took: self.screen.elapsed(),
        }
    }

    /// Produces the orders with these numbers, and waits until all are acknowledged.
    async fn produce(&self, orders: Range<u64>) -> Result<Ends, Failure> {
        let topic = self.producer.topic(&self.world.topic);
        let mut receipts = Vec::new();
        for order in orders.clone() {
            let value = format!(r#"{{"order":{order},"tickets":{}}}"#, order % 4 + 1);
            receipts.push(topic.enqueue(Record::new(&value).key(&order.to_string())).await?);
            let_others_go_on().await;
        }
        let mut ends = Ends::new();
        for receipt in receipts {
            let metadata = receipt.await.map_err(Error::from)?;
            let partition = TopicPartition::new(self.world.topic.as_str(), metadata.partition());
            let offset = metadata.offset().ok_or_else(|| Failure::new("a broker tells no offsets"))?;
            let end = ends.entry(partition).or_default();
            *end = (offset + 1).max(*end);
            self.screen.produced_one();
            let_others_go_on().await;
        }
        let more = if orders.start > 0 { " more" } else { "" };
        self.screen
            .line(Who::Orders, format_args!("{}{more} produced", Thousands(orders.end - orders.start)));
        Ok(ends)
    }

    /// Handles what the consumer hands out, until it is closed.
    async fn handle(&self) -> Result<(), Failure> {
        let mut again = false;
        while let Some(record) = self.consumer.recv().await? {
            let view = record.view();
            let order = view.key().and_then(number).ok_or_else(|| Failure::new("a record is no order"))?;
            match self.ledger.record(order, (view.partition(), view.offset())) {
                None => self.screen.handled_one(),
                Some(_) => {
                    self.screen.handled_one_again();
                    if !std::mem::replace(&mut again, true) {
                        self.screen
                            .line(Who::Orders, format_args!("order {order} is handled a second time …"));
                    }
                }
            }
            record.complete();
        }
        Ok(())
    }

    /// Waits until so many orders are handled, and the group has written down that all are. `false`: not in time.
    async fn all_done(&self, orders: u64, ends: &Ends) -> Result<bool, Failure> {
        let done = async {
            self.ledger.holds(orders).await;
            self.committed(ends).await
        };
        match timeout(PATIENCE, done).await {
            Ok(done) => done.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    async fn committed(&self, ends: &Ends) -> Result<(), Failure> {
        loop {
            let mut next = std::pin::pin!(self.diary.next_commit());
            // Before asking: a commit in between must not be missed.
            next.as_mut().enable();
            let committed = self.consumer.committed(ends.keys().cloned()).await?;
            let all = committed
                .into_iter()
                .all(|(partition, at)| at.map(|at| at.offset) == ends.get(&partition).copied());
            if all {
                return Ok(());
            }
            next.await;
        }
    }
}

/// Much of what happens here is ready at once, and everybody on stage has a turn, now and then.
async fn let_others_go_on() {
    consume_budget().await;
}

fn number(key: &[u8]) -> Option<u64> {
    std::str::from_utf8(key).ok()?.parse().ok()
}
