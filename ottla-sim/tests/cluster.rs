//! The brokers in the world by themselves, asked by hand: one idempotent batch at a time, sent again until it is
//! acknowledged.

use std::{cell::Cell, io, rc::Rc, time::Duration};

use bytes::Bytes;
use ottla_broker::disk::Tail;
use ottla_protocol::{
    ErrorCode,
    batch::BatchBuilder,
    messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData},
};
use ottla_sim::{
    Broker, Cluster, Host, Sim, Wire, World,
    history::{Fate, History},
};
use tokio::time::{sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
const TOPIC: &str = "orders";
const PRODUCE: i16 = 9;
const PORT: u16 = 9092;

fn batch(producer: i64, sequence: i32, value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(256);
    let none: [ottla_protocol::batch::RecordHeader<'_>; 0] = [];
    builder.append(1_767_225_600_000, None, Some(value), none.iter().copied()).expect("a small record");
    let mut sealed = builder.seal();
    sealed.stamp(producer, 0, sequence);
    sealed.into_bytes()
}

/// Sends one batch to whoever leads, until it is acknowledged.
struct Sender {
    cluster: Cluster,
    host: Host,
    wire: Option<(i32, Wire)>,
}

impl Sender {
    async fn send(&mut self, records: &Bytes) -> i64 {
        loop {
            match timeout(5 * SECOND, self.try_send(records)).await {
                Ok(Ok(offset)) => return offset,
                Ok(Err(_)) | Err(_) => self.wire = None,
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn try_send(&mut self, records: &Bytes) -> io::Result<i64> {
        let leader = self.cluster.leader(TOPIC, 0).ok_or(io::ErrorKind::NotFound)?;
        let wire = match self.wire.take() {
            Some((id, wire)) if id == leader.id() => wire,
            _ => Wire::open(&self.host, leader.host(), PORT).await?,
        };
        let (_, wire) = self.wire.insert((leader.id(), wire));
        let data = PartitionProduceData { index: 0, records: Some(records.clone()) };
        let topic = TopicProduceData { name: TOPIC.into(), partition_data: vec![data], ..Default::default() };
        let request =
            ProduceRequest { acks: -1, timeout_ms: 3000, topic_data: vec![topic], ..Default::default() };
        let response = wire.call(&request, PRODUCE).await?;
        let partition = &response.responses[0].partition_responses[0];
        match partition.error_code {
            ErrorCode::NONE => Ok(partition.base_offset),
            error => Err(io::Error::other(error.to_string())),
        }
    }
}

/// Sends until told to stop, while `faults` happen, and checks the log.
async fn while_sending(world: &World, faults: impl AsyncFn(&Cluster)) {
    while_sending_to(world, 3, faults).await;
}

async fn while_sending_to(world: &World, replicas: i16, faults: impl AsyncFn(&Cluster)) {
    let cluster = world.cluster(3).await;
    cluster.topic_with(TOPIC, 1, replicas).await;
    let (history, stop) = (History::new(), Rc::new(Cell::new(false)));
    let host = world.host("sender");
    let mut sender = Sender { cluster: cluster.clone(), host: host.clone(), wire: None };
    let (sent, stopped) = (history.clone(), Rc::clone(&stop));
    let running = host.spawn("sender", async move {
        let mut sequence = 0;
        while !stopped.get() {
            let value = Bytes::from(format!("record {sequence}"));
            let number = sent.sending(1, 0, value.clone());
            let offset = sender.send(&batch(4711, sequence, &value)).await;
            sent.settled(number, Fate::Written((offset >= 0).then_some(offset)));
            sequence += 1;
            sleep(Duration::from_millis(20)).await;
        }
    });
    faults(&cluster).await;
    cluster.healed(TOPIC).await;
    let before = history.acknowledged();
    world.until("sending goes on", || history.acknowledged() > before).await;
    stop.set(true);
    running.finished().await;
    sleep(5 * SECOND).await;
    history.check(world, &cluster.logs(TOPIC));
    if replicas < 3 {
        return;
    }
    let logs: Vec<_> = cluster.brokers().map(|broker| broker.log(TOPIC, 0)).collect();
    world.expect(logs.iter().all(|log| *log == logs[0]), "all replicas to be the same", || {
        format!("they have {:?} records", logs.iter().map(Vec::len).collect::<Vec<_>>())
    });
}

async fn one_after_the_other(world: &World, crash: impl Fn(&Broker)) {
    while_sending(world, async |cluster: &Cluster| {
        let mut random = world.random();
        for broker in cluster.brokers() {
            sleep(2 * SECOND).await;
            crash(&broker);
            sleep(Duration::from_millis(random.u64(50..20_000))).await;
            broker.start();
            cluster.healed(TOPIC).await;
        }
    })
    .await;
}

#[test]
fn killed_brokers_lose_nothing() {
    Sim::seeds(0..6).run(async |world| one_after_the_other(world, Broker::kill).await);
}

#[test]
fn brokers_without_power_lose_nothing_that_was_acknowledged() {
    for tail in [Tail::Kept, Tail::Lost, Tail::Torn(1000)] {
        Sim::seeds(0..6).run(async |world| {
            one_after_the_other(world, |broker| broker.lose_power(tail)).await;
        });
    }
}

#[test]
fn a_frozen_leader_that_comes_back_adds_nothing_of_its_own() {
    Sim::seeds(0..6).run(async |world| {
        while_sending(world, async |cluster: &Cluster| {
            sleep(2 * SECOND).await;
            let leader = cluster.leader(TOPIC, 0).expect("a leader");
            leader.pause_for(45 * SECOND).await;
        })
        .await;
    });
}

#[test]
fn a_leader_that_the_controller_does_not_hear_acknowledges_nothing_that_gets_lost() {
    Sim::seeds(0..6).run(async |world| {
        while_sending(world, async |cluster: &Cluster| {
            sleep(2 * SECOND).await;
            let (leader, controller) =
                (cluster.leader(TOPIC, 0).expect("a leader"), world.host("controller"));
            world.network().block(leader.host(), &controller);
            world.network().block(&controller, leader.host());
            sleep(20 * SECOND).await;
            world.network().unblock(leader.host(), &controller);
            world.network().unblock(&controller, leader.host());
        })
        .await;
    });
}

#[test]
fn the_checks_find_what_a_single_replica_loses() {
    let report = Sim::seed(1).try_run(async |world: &World| {
        while_sending_to(world, 1, async |cluster: &Cluster| {
            sleep(2 * SECOND).await;
            let only = cluster.leader(TOPIC, 0).expect("a leader");
            only.lose_power(Tail::Lost);
            sleep(SECOND).await;
            only.start();
        })
        .await;
    });
    let report = report.expect_err("what was only in the tail is lost");
    assert_eq!(report.expected, "\"record 0\" to be at offset 0 of topic-0, as acknowledged");
    assert!(report.happened.starts_with("it is not in the log (lost-write)\n"), "{}", report.happened);
}
