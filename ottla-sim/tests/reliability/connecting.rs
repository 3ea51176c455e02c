//! The client finds the cluster, whatever the network does.

use std::time::Duration;

use ottla_sim::{Conditions, Sim};
use tokio::time::{Instant, timeout};

use crate::support::SEEDS;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn n16_a_client_connects_through_a_network_that_breaks_connections() {
    Sim::seeds(SEEDS).run(async |world| {
        let cluster = world.cluster(3).await;
        world.network().everywhere(Conditions { reset: 0.2, loss: 0.1, short: 0.5, ..Conditions::default() });
        for _ in 0..5 {
            let connecting = async {
                // Each is a client of its own, and has to bear nothing for those before it.
                for attempt in 0.. {
                    let client = cluster.client_builder("app").client_id(format!("app-{attempt}"));
                    if client.connect().await.is_ok() {
                        return;
                    }
                }
            };
            timeout(60 * SECOND, connecting).await.expect("connected within a minute");
        }
    });
}

#[test]
fn n05_a_client_connects_while_all_but_one_bootstrap_server_are_dead_frozen_or_without_power() {
    Sim::seeds(SEEDS).run(async |world| {
        let cluster = world.cluster(4).await;
        cluster.broker(0).kill();
        cluster.broker(1).freeze();
        cluster.broker(2).lose_power(ottla_broker::disk::Tail::Kept);
        let begin = Instant::now();
        let client = cluster.client_builder("app").connect().await?;
        let took = begin.elapsed();
        world.expect(took < 15 * SECOND, "an answer of the only server that lives", || {
            format!("it took {took:?}")
        });
        client.close().await
    });
}

#[test]
fn n05_a_client_that_reaches_nobody_says_so_in_bounded_time_and_leaves_nothing_behind() {
    Sim::seeds(SEEDS).run(async |world| {
        let cluster = world.cluster(3).await;
        cluster.brokers().for_each(|broker| broker.kill());
        let begin = Instant::now();
        let error = cluster.client_builder("app").connect().await.expect_err("nobody is there");
        let (took, text) = (begin.elapsed(), error.to_string());
        world.expect(took < 60 * SECOND, "an error in bounded time", || format!("it took {took:?}"));
        world.expect(text.contains("broker-1:9092"), "the error to name the servers", || text.clone());
        let app = world.host("app");
        world.until("no task and no socket is left", || app.tasks() + app.sockets() == 0).await;
    });
}
