//! The producer under faults: nothing acknowledged is lost, nothing is there twice, the order is kept, and what it calls
//! not written is not there.

use std::{cell::Cell, rc::Rc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use ottla::{Producer, ProducerBuilder, Record, SendError, TopicProducer};
use ottla_broker::disk::Tail;
use ottla_sim::{
    Cluster, Conditions, Host, Sim, World,
    history::{Fate, History},
};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);
const TOPIC: &str = "orders";
const PARTITIONS: i32 = 3;

/// Senders that go on until they are stopped.
struct Load {
    cluster: Cluster,
    history: History,
    stop: Rc<Cell<bool>>,
    running: Vec<ottla_sim::Running<()>>,
    producer: Producer,
}

impl Load {
    async fn start(world: &World, configure: impl FnOnce(ProducerBuilder) -> ProducerBuilder) -> Self {
        let cluster = world.cluster(3).await;
        cluster.topic(TOPIC, PARTITIONS).await;
        let builder = Producer::builder(&cluster.client_on("app"));
        let producer = configure(builder).build().expect("valid settings");
        let (history, stop) = (History::new(), Rc::new(Cell::new(false)));
        let mut running = Vec::new();
        for sender in 0..3 {
            let (history, stop) = (history.clone(), Rc::clone(&stop));
            let (topic, random) = (producer.topic(TOPIC), world.random());
            running.push(world.spawn("app", send(topic, sender, random, history, stop)));
        }
        Self { cluster, history, stop, running, producer }
    }

    fn app(&self, world: &World) -> Host {
        world.host("app")
    }

    /// Faults are over: sending must go on, and everything must come to an end and be right.
    async fn finish(self, world: &World) {
        self.cluster.healed(TOPIC).await;
        let before = self.history.acknowledged();
        world.until("sending goes on", || self.history.acknowledged() > before + 20).await;
        self.stop.set(true);
        for running in self.running {
            running.finished().await;
        }
        // Failures that nobody waited for are told here, and are none of this test.
        let _ = self.producer.close().await;
        self.history.check(world, &self.cluster.logs(TOPIC));
    }
}

/// Sends bursts of records, and waits for most of them.
async fn send(
    topic: TopicProducer,
    sender: u32,
    mut random: fastrand::Rng,
    history: History,
    stop: Rc<Cell<bool>>,
) {
    let mut open = FuturesUnordered::new();
    let mut count = 0;
    while !stop.get() {
        for _ in 0..random.u32(1..8) {
            count += 1;
            let partition = random.i32(0..PARTITIONS);
            let value = Bytes::from(format!("{sender}: {count} {}", "x".repeat(random.usize(0..200))));
            let number = history.sending(sender, partition, value.clone());
            match topic.enqueue(Record::new(&value).partition(partition)).await {
                Ok(receipt) if random.u8(..) < 250 => open.push(async move { (number, receipt.await) }),
                // Dropped: it is sent all the same, and its sender cannot say more.
                Ok(_) => history.settled(number, Fate::PossiblyWritten),
                Err(_) => history.settled(number, Fate::NotWritten),
            }
        }
        while open.len() > random.usize(0..40) {
            if let Some((number, outcome)) = open.next().await {
                history.settled(number, fate(outcome));
            }
        }
        sleep(Duration::from_millis(random.u64(0..300))).await;
    }
    while let Some((number, outcome)) = open.next().await {
        history.settled(number, fate(outcome));
    }
}

fn fate(outcome: Result<ottla::RecordMetadata, SendError>) -> Fate {
    match outcome {
        Ok(written) => Fate::Written(written.offset()),
        Err(SendError::NotWritten(_)) => Fate::NotWritten,
        Err(SendError::PossiblyWritten(_)) => Fate::PossiblyWritten,
    }
}

#[test]
fn without_faults_everything_is_acknowledged_in_order() {
    Sim::seeds(0..4).run(async |world| {
        let load = Load::start(world, |builder| builder).await;
        sleep(10 * SECOND).await;
        let history = load.history.clone();
        load.finish(world).await;
        let failed = history.count(|fate| fate == Fate::NotWritten);
        world.expect(failed == 0, "no record to fail", || format!("{failed} failed"));
    });
}

#[test]
fn connection_resets_lose_and_repeat_nothing() {
    Sim::seeds(0..6).run(async |world| {
        let load = Load::start(world, |builder| builder).await;
        world.network().everywhere(Conditions { reset: 0.02, loss: 0.02, ..Conditions::default() });
        sleep(30 * SECOND).await;
        world.network().everywhere(Conditions::default());
        load.finish(world).await;
    });
}

#[test]
fn brokers_killed_in_turn_lose_and_repeat_nothing() {
    Sim::seeds(0..6).run(async |world| {
        let load = Load::start(world, |builder| builder).await;
        let mut random = world.random();
        for broker in load.cluster.brokers() {
            sleep(2 * SECOND).await;
            broker.kill();
            sleep(Duration::from_millis(random.u64(50..20_000))).await;
            broker.start();
            load.cluster.healed(TOPIC).await;
        }
        load.finish(world).await;
    });
}

#[test]
fn brokers_that_lose_their_tail_lose_nothing_that_was_acknowledged() {
    for tail in [Tail::Kept, Tail::Lost, Tail::Torn(500)] {
        Sim::seeds(0..4).run(async |world| {
            let load = Load::start(world, |builder| builder).await;
            let mut random = world.random();
            for broker in load.cluster.brokers() {
                sleep(2 * SECOND).await;
                broker.lose_power(tail);
                sleep(Duration::from_millis(random.u64(50..20_000))).await;
                broker.start();
                load.cluster.healed(TOPIC).await;
            }
            load.finish(world).await;
        });
    }
}

#[test]
fn a_frozen_broker_is_left_and_what_it_does_later_changes_nothing() {
    Sim::seeds(0..6).run(async |world| {
        let load = Load::start(world, |builder| builder).await;
        sleep(2 * SECOND).await;
        let leader = load.cluster.leader(TOPIC, 0).expect("a leader");
        leader.pause_for(45 * SECOND).await;
        load.finish(world).await;
    });
}

#[test]
fn in_a_long_outage_deadlines_are_kept_and_told_truthfully() {
    let short = |builder: ProducerBuilder| {
        builder.request_timeout(3 * SECOND).delivery_timeout(8 * SECOND).max_block(5 * SECOND)
    };
    Sim::seeds(0..6).run(async |world| {
        let load = Load::start(world, short).await;
        sleep(2 * SECOND).await;
        let app = load.app(world);
        for broker in load.cluster.brokers() {
            world.network().block(&app, broker.host());
            world.network().block(broker.host(), &app);
        }
        sleep(60 * SECOND).await;
        let history = load.history.clone();
        let failed = history.count(|fate| fate == Fate::NotWritten);
        world.expect(failed > 0, "deadlines to be told during the outage", || "nothing failed".to_owned());
        for broker in load.cluster.brokers() {
            world.network().unblock(&app, broker.host());
            world.network().unblock(broker.host(), &app);
        }
        load.finish(world).await;
    });
}

#[test]
fn n14_an_application_that_is_frozen_itself_tells_the_truth_afterwards() {
    Sim::seeds(0..4).run(async |world| {
        let load = Load::start(world, |builder| builder).await;
        sleep(2 * SECOND).await;
        load.app(world).pause_for(600 * SECOND).await;
        load.finish(world).await;
    });
}

/// One partition, 5 ms there and back: only several large batches on their way at once fill the pipe. One at a time
/// would be 50 MB/s, batches of 16 KB would be 16.
#[test]
fn a_long_way_to_the_broker_is_filled() {
    const RECORDS: u32 = 20_000;
    let far = Duration::from_micros(2_500);
    Sim::seed(0).run(async |world| {
        let cluster = world.cluster(1).await;
        cluster.topic(TOPIC, 1).await;
        let producer = Producer::builder(&cluster.client()).build()?;
        producer.send(TOPIC, "warm up").await?;
        let conditions =
            Conditions { latency: far..=far, window: 16 << 20, short: 0.0, ..Conditions::default() };
        world.network().everywhere(conditions);
        let (started, value) = (world.elapsed(), [b'x'; 1_000]);
        for _ in 0..RECORDS {
            drop(producer.enqueue(TOPIC, &value).await?);
        }
        producer.flush().await?;
        let took = world.elapsed() - started;
        let megabytes = f64::from(RECORDS) / 1_000.0 / took.as_secs_f64();
        world.expect(megabytes > 150.0, "more than 150 MB/s", || format!("{megabytes:.0} MB/s"));
        Ok::<_, ottla::Error>(())
    });
}
