//! A broker stops answering while its TCP connections stay up, and later goes on as if nothing had happened.

use std::time::Duration;

use crate::support::{self, Load, Plan, SEEDS, TOPIC};
use ottla_sim::Sim;
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn n04_producing_and_consuming_resume_after_the_only_broker_was_frozen_for_45_s() {
    Sim::seeds(SEEDS).run(async |world| {
        let plan = Plan { partitions: 2, ..Plan::default() };
        let cluster = world.cluster(1).await;
        cluster.topic(TOPIC, plan.partitions).await;
        let load = Load::begin(world, &cluster, plan);
        sleep(5 * SECOND).await;
        cluster.broker(0).pause_for(45 * SECOND).await;
        let before = load.acknowledged();
        world.until_within(5 * SECOND, "producing goes on", || load.acknowledged() > before).await;
        load.settle_all(world, &cluster).await;
    });
}

#[test]
fn n04_producing_goes_on_at_another_leader_while_one_of_three_brokers_is_frozen() {
    Sim::seeds(SEEDS).run(async |world| {
        let plan = Plan { records: 1000, ..Plan::default() };
        let cluster = support::cluster(world, plan).await;
        let load = Load::begin(world, &cluster, plan);
        sleep(3 * SECOND).await;
        let frozen = cluster.leader(TOPIC, 0).expect("a leader");
        frozen.freeze();
        let moved = || cluster.leader(TOPIC, 0).is_some_and(|leader| leader.id() != frozen.id());
        world.until_within(15 * SECOND, "the partition has another leader", moved).await;
        sleep(30 * SECOND).await;
        load.forget_pauses();
        sleep(10 * SECOND).await;
        let pause = load.longest_pause(|_| true);
        world.expect(pause < 5 * SECOND, "every partition to be written while one broker is frozen", || {
            format!("there was no acknowledgement for {pause:?}")
        });
        frozen.thaw();
        load.settle_all(world, &cluster).await;
    });
}

#[test]
fn n04_partitions_of_other_brokers_do_not_notice_a_frozen_broker() {
    Sim::seeds(SEEDS).run(async |world| {
        let plan = Plan { partitions: 6, pause: SECOND / 20, records: 2000, ..Plan::default() };
        let cluster = world.cluster(3).await;
        // One replica: else the others wait for the frozen one, which is in their in-sync sets.
        cluster.topic_with(TOPIC, plan.partitions, 1).await;
        let load = Load::begin(world, &cluster, plan);
        sleep(5 * SECOND).await;

        let frozen = cluster.broker(world.random().usize(..3));
        let of_frozen: Vec<i32> =
            (0..6).filter(|p| cluster.leader(TOPIC, *p).is_some_and(|l| l.id() == frozen.id())).collect();
        load.forget_pauses();
        frozen.pause_for(20 * SECOND).await;
        let pause = load.longest_pause(|partition| !of_frozen.contains(&partition));
        world.expect(pause < 2 * SECOND, "partitions of other brokers to be written all the time", || {
            format!("there was no acknowledgement for {pause:?}")
        });
        load.settle_all(world, &cluster).await;
    });
}
