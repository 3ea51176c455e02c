//! Brokers crash: killed, with all that they wrote, or without power, with or without the tail of their logs.

use std::time::Duration;

use crate::support::{self, Load, Plan, SEEDS, TOPIC};
use ottla_broker::disk::Tail;
use ottla_sim::{Cluster, Sim, World};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// Crashes one broker after the other, each as `crash` does it, and lets the cluster recover in between.
async fn crash_each(world: &World, crash: impl Fn(&ottla_sim::Broker, &mut fastrand::Rng)) {
    let plan = Plan { records: 1200, ..Plan::default() };
    let cluster = support::cluster(world, plan).await;
    let load = Load::begin(world, &cluster, plan);
    let mut random = world.random();
    for broker in cluster.brokers() {
        sleep(3 * SECOND).await;
        crash(&broker, &mut random);
        // Sometimes back before anybody noticed, sometimes long after its partitions have moved.
        sleep(Duration::from_millis(random.u64(100..25_000))).await;
        broker.start();
        recovered(world, &cluster).await;
    }
    load.settle_all(world, &cluster).await;
}

async fn recovered(world: &World, cluster: &Cluster) {
    world.note("waiting for all replicas");
    cluster.healed(TOPIC).await;
}

#[test]
fn p01_nothing_acknowledged_is_lost_when_brokers_are_killed() {
    Sim::seeds(SEEDS).run(async |world| crash_each(world, |broker, _| broker.kill()).await);
}

#[test]
fn nothing_acknowledged_is_lost_when_brokers_lose_power_but_not_their_tails() {
    Sim::seeds(SEEDS).run(async |world| crash_each(world, |broker, _| broker.lose_power(Tail::Kept)).await);
}

#[test]
fn nothing_acknowledged_is_lost_when_a_broker_comes_back_without_its_tail() {
    Sim::seeds(SEEDS).run(async |world| crash_each(world, |broker, _| broker.lose_power(Tail::Lost)).await);
}

#[test]
fn nothing_acknowledged_is_lost_when_a_broker_comes_back_with_a_torn_tail() {
    Sim::seeds(SEEDS).run(async |world| {
        crash_each(world, |broker, random| broker.lose_power(Tail::Torn(random.usize(1..20_000)))).await;
    });
}
