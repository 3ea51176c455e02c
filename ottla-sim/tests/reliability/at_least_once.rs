//! Producers that are not idempotent: records may be there twice, and what is acknowledged is there.

use std::time::Duration;

use ottla::Acks;
use ottla_sim::{Cluster, Conditions, Sim, World, history::Delivery};
use tokio::time::sleep;

use crate::support::{self, Load, Plan, SEEDS, TOPIC};

const SECOND: Duration = Duration::from_secs(1);

/// How packets travel between clients and brokers, or with none, as everywhere. Brokers hear each other throughout.
fn clients_have(world: &World, cluster: &Cluster, conditions: Option<&Conditions>) {
    for client in ["sender-1", "sender-2", "reader", "slow-reader"] {
        let client = world.host(client);
        for broker in cluster.brokers() {
            world.network().set(broker.host(), &client, conditions.cloned());
            world.network().set(&client, broker.host(), conditions.cloned());
        }
    }
}

fn breaking() -> Conditions {
    Conditions { reset: 0.03, loss: 0.01, short: 0.2, ..Conditions::default() }
}

/// The log has nothing of idempotent producers, which would hide what this is about.
fn expect_no_producer_ids(world: &World, cluster: &Cluster) {
    let logs = cluster.logs(TOPIC);
    let numbered = logs.values().flatten().find(|logged| logged.producer_id != -1);
    world.expect(numbered.is_none(), "no record to have a producer id", || format!("{numbered:?}"));
}

#[test]
fn p03_with_acks_of_all_nothing_acknowledged_is_lost_when_connections_break_and_leaders_move() {
    Sim::seeds(SEEDS).run(async |world| {
        let plan = Plan { records: 1000, delivery: Delivery::AtLeastOnce, ..Plan::default() };
        let cluster = support::cluster(world, plan).await;
        let load = Load::begin(world, &cluster, plan);
        clients_have(world, &cluster, Some(&breaking()));
        let (controller, mut random) = (world.host("controller"), world.random());
        for _ in 0..3 {
            sleep(2 * SECOND).await;
            // The controller takes a broker that it does not hear for dead, and gives its partitions to others.
            let broker = cluster.broker(random.usize(..3));
            world.network().block(broker.host(), &controller);
            sleep(Duration::from_millis(random.u64(9_000..20_000))).await;
            world.network().unblock(broker.host(), &controller);
            cluster.healed(TOPIC).await;
        }
        clients_have(world, &cluster, None);
        expect_no_producer_ids(world, &cluster);
        load.settle_all(world, &cluster).await;
    });
}

#[test]
fn with_acks_of_the_leader_nothing_acknowledged_is_lost_while_the_leader_lives() {
    Sim::seeds(SEEDS).run(async |world| {
        let plan = Plan { acks: Acks::Leader, delivery: Delivery::AtLeastOnce, ..Plan::default() };
        let cluster = support::cluster(world, plan).await;
        let load = Load::begin(world, &cluster, plan);
        clients_have(world, &cluster, Some(&breaking()));
        sleep(20 * SECOND).await;
        clients_have(world, &cluster, None);
        expect_no_producer_ids(world, &cluster);
        load.settle_all(world, &cluster).await;
    });
}
