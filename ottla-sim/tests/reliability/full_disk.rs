//! Disks that are full: the broker takes no records until there is room again, says so, and loses nothing that it has
//! acknowledged; what it has can be read all the while.

use std::time::Duration;

use ottla_broker::{ClusterConfig, disk::Tail};
use ottla_sim::{Broker, Sim, World};
use tokio::time::sleep;

use crate::support::{self, FEW, Load, Plan, SECOND, SEEDS, Stream, TOPIC};

/// Fills one disk after the other, for as long as `full` takes, which does more to a broker whose disk is full.
async fn fill_each<F: Future<Output = ()>>(world: &World, full: impl Fn(Broker, fastrand::Rng) -> F) {
    let plan = Plan { records: 1200, ..Plan::default() };
    let cluster = support::cluster(world, plan).await;
    let load = Load::begin(world, &cluster, plan);
    let mut random = world.random();
    for broker in cluster.brokers() {
        sleep(2 * SECOND).await;
        // Sometimes one more batch fits, and not the next.
        broker.disk_room(Some(random.usize(..4_000)));
        world.note(format!("the disk of broker {} is full", broker.id()));
        full(broker.clone(), random.fork()).await;
        broker.disk_room(None);
        cluster.healed(TOPIC).await;
    }
    load.settle_all(world, &cluster).await;
}

#[test]
fn p18_nothing_acknowledged_is_lost_and_nothing_is_there_twice_when_disks_are_full_for_a_while() {
    Sim::seeds(SEEDS).run(async |world| {
        fill_each(world, |_, mut random| async move {
            sleep(Duration::from_millis(random.u64(100..60_000))).await;
        })
        .await;
    });
}

#[test]
fn nothing_acknowledged_is_lost_when_a_broker_crashes_on_a_full_disk() {
    Sim::seeds(SEEDS).run(async |world| {
        fill_each(world, |broker, mut random| async move {
            sleep(Duration::from_millis(random.u64(100..3_000))).await;
            match random.u8(..3) {
                0 => broker.kill(),
                1 => broker.lose_power(Tail::Lost),
                _ => broker.lose_power(Tail::Torn(random.usize(1..2_000))),
            }
            sleep(Duration::from_millis(random.u64(100..15_000))).await;
            // What was there is enough to start with.
            broker.start();
            sleep(Duration::from_millis(random.u64(100..15_000))).await;
        })
        .await;
    });
}

/// Without anybody else to go to.
#[test]
fn p18_a_single_broker_refuses_records_while_its_disk_is_full_and_goes_on_when_there_is_room() {
    Sim::seeds(FEW).run(async |world| {
        let config = ClusterConfig::with_nodes(1, "", 0);
        let stream = Stream::with(world, config, 2, |producer| producer).await;
        stream.send(20).await;
        stream.settled().await;
        let broker = stream.cluster.brokers().next().expect("the only one");
        broker.disk_room(Some(500));
        stream.send(40).await;
        sleep(30 * SECOND).await;
        let written = stream.history.acknowledged();
        world.expect((20..60).contains(&written), "some records to find no room", || format!("{written}"));
        // Long before the deadline of anybody, and not only when requests time out.
        let met = stream.cluster.met();
        let refused = met.contains_key("PRODUCE: KAFKA_STORAGE_ERROR");
        world.expect(refused, "the broker to say that it has no room", || format!("{met:?}"));
        broker.disk_room(None);
        stream.settle_all().await;
    });
}

#[test]
fn p18_what_a_full_disk_did_not_take_by_the_deadline_is_told_truthfully() {
    Sim::seeds(FEW).run(async |world| {
        let config = ClusterConfig::with_nodes(1, "", 0);
        let stream = Stream::with(world, config, 2, |producer| {
            producer.request_timeout(5 * SECOND).delivery_timeout(10 * SECOND)
        })
        .await;
        stream.send(20).await;
        stream.settled().await;
        let broker = stream.cluster.brokers().next().expect("the only one");
        broker.disk_room(Some(500));
        stream.send(40).await;
        stream.settled().await;
        let written = stream.history.acknowledged();
        world.expect((20..60).contains(&written), "some records to fail", || format!("{written}"));
        broker.disk_room(None);
        stream.settle().await;
    });
}
