//! Leaders move while records are produced and consumed.

use std::time::Duration;

use crate::support::{self, Load, Plan, SEEDS, TOPIC};
use ottla_sim::{Conditions, Sim};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn p05_records_keep_their_order_and_are_there_once_while_leaders_move() {
    Sim::seeds(SEEDS).run(async |world| {
        let plan = Plan { records: 1500, ..Plan::default() };
        let cluster = support::cluster(world, plan).await;
        let load = Load::begin(world, &cluster, plan);
        // Answers of a former leader come after those of its successor.
        let late = Conditions { latency: Duration::ZERO..=3 * SECOND, ..Conditions::default() };
        for broker in cluster.brokers() {
            world.network().set(broker.host(), &world.host("reader"), late.clone());
        }
        let controller = world.host("controller");
        let mut random = world.random();
        for _ in 0..4 {
            sleep(2 * SECOND).await;
            // The controller takes a broker that it does not hear for dead; clients and the broker itself know
            // nothing of it, and go on until they are told.
            let broker = cluster.broker(random.usize(..3));
            world.network().block(broker.host(), &controller);
            if random.bool() {
                world.network().block(&controller, broker.host());
            }
            sleep(Duration::from_millis(random.u64(9_000..20_000))).await;
            world.network().unblock(broker.host(), &controller);
            world.network().unblock(&controller, broker.host());
            cluster.healed(TOPIC).await;
        }
        load.settle_all(world, &cluster).await;
    });
}
