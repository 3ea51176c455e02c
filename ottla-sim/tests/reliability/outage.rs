//! All brokers are gone at once.

use std::time::Duration;

use ottla_sim::{Broker, Sim};
use tokio::time::sleep;

use crate::support::{self, Load, Plan, SEEDS, TOPIC};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn n05_a_client_does_not_hammer_dead_brokers_and_goes_on_when_they_are_back() {
    Sim::seeds(SEEDS).run(async |world| {
        let plan = Plan::default();
        let cluster = support::cluster(world, plan).await;
        let load = Load::begin(world, &cluster, plan);
        sleep(5 * SECOND).await;
        cluster.brokers().for_each(|broker| broker.kill());

        let hosts = ["sender-1", "sender-2", "reader"].map(|name| world.host(name));
        let before = hosts.each_ref().map(ottla_sim::Host::dials);
        sleep(60 * SECOND).await;
        for (host, before) in hosts.iter().zip(before) {
            let dials = host.dials() - before;
            let name = host.name();
            world.expect(dials <= 600, &format!("{name} to dial at most ten times a second"), || {
                format!("it dialled {dials} times in a minute")
            });
            world.expect(dials >= 10, &format!("{name} to go on trying"), || {
                format!("it dialled {dials} times in a minute")
            });
        }

        cluster.brokers().for_each(|broker: Broker| broker.start());
        load.settle_all(world, &cluster).await;
    });
}

#[test]
fn p07_records_wait_while_too_few_replicas_are_in_sync_and_keep_their_order() {
    Sim::seeds(SEEDS).run(async |world| {
        let plan = Plan { records: 1000, records_of_producer: 20, ..Plan::default() };
        let cluster = support::cluster(world, plan).await;
        let load = Load::begin(world, &cluster, plan);
        let mut random = world.random();
        for _ in 0..2 {
            sleep(3 * SECOND).await;
            let alone = random.usize(..3);
            let others: Vec<Broker> =
                cluster.brokers().filter(|broker| broker.id() != alone as i32 + 1).collect();
            others.iter().for_each(Broker::kill);
            sleep(Duration::from_millis(random.u64(5_000..40_000))).await;
            for broker in &others {
                broker.start();
                sleep(Duration::from_millis(random.u64(..3_000))).await;
            }
            cluster.healed(TOPIC).await;
        }
        load.settle_all(world, &cluster).await;
    });
}
