//! Connections break at random bytes, over and over.

use std::time::Duration;

use crate::support::{self, Load, Plan, SEEDS};
use ottla_sim::{Conditions, Sim};
use tokio::time::sleep;

#[test]
fn n01_nothing_is_lost_or_doubled_or_reordered_when_connections_break_at_random_bytes() {
    Sim::seeds(SEEDS).run(async |world| {
        let plan = Plan::default();
        let cluster = support::cluster(world, plan).await;
        let conditions = Conditions { reset: 0.03, loss: 0.01, short: 0.2, ..Conditions::default() };
        world.network().everywhere(conditions);
        let load = Load::begin(world, &cluster, plan);
        sleep(Duration::from_secs(20)).await;
        world.network().everywhere(Conditions::default());
        load.settle_all(world, &cluster).await;
    });
}

#[test]
fn n02_answers_that_vanish_cost_time_but_no_records() {
    Sim::seeds(SEEDS).run(async |world| {
        let plan = Plan::default();
        let cluster = support::cluster(world, plan).await;
        let load = Load::begin(world, &cluster, plan);
        let (mut random, sender) = (world.random(), world.host("sender-1"));
        for _ in 0..3 {
            sleep(Duration::from_secs(3)).await;
            let broker = cluster.broker(random.usize(..3));
            world.network().block(broker.host(), &sender);
            sleep(Duration::from_secs(random.u64(1..50))).await;
            world.network().unblock(broker.host(), &sender);
        }
        load.settle_all(world, &cluster).await;
    });
}
