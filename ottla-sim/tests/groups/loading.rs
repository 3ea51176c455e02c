//! A coordinator that has just taken over answers heartbeats before it knows who is a member.

use std::time::Duration;

use ottla_broker::faults::{Effect, Fault};
use ottla_protocol::messages::JoinGroupRequest;
use ottla_sim::{
    Sim,
    group::{GROUP, Group},
};
use tokio::time::sleep;

use crate::{SECOND, busy};

/// A member cannot join again, and at the end of the rebalance it is out. Before it hears of that the coordinator moves, and
/// the new one takes its time to load the group: until then it tells whoever asks that all is well.
#[test]
fn a_heartbeat_that_a_loading_coordinator_answers_gives_nobody_his_partitions_back() {
    Sim::seeds(0..8).run(async |world| {
        let group = Group::new(world, 3, 4).await;
        group.produce(6_000).await;
        let first = group.start_with("billing-1", &busy());
        first.owns(&group, 4).await;
        group.world.until("it is at work", || group.history.handled() > 100).await;

        let parked =
            group.cluster.faults().add(Fault::on::<JoinGroupRequest>(Effect::Hold).from_client("billing-1"));
        let second = group.start_with("billing-2", &busy());
        let old = group.cluster.coordinator(GROUP).expect("a coordinator");
        // The rebalance ends a minute after it began.
        sleep(55 * SECOND).await;
        world.network().block(old.host(), &first.host);
        second.owns(&group, 4).await;
        let before = group.history.handled();
        group.world.until("the second is at work", || group.history.handled() > before + 50).await;
        let others: Vec<_> = group.cluster.brokers().filter(|broker| broker.id() != old.id()).collect();
        others.iter().for_each(|broker| broker.slow_disk(20 * SECOND));
        old.kill();
        sleep(Duration::from_secs(40)).await;
        others.iter().for_each(|broker| broker.slow_disk(Duration::ZERO));
        old.start();
        world.network().unblock(old.host(), &first.host);
        parked.end();

        group.all_owned(4).await;
        group.check().await;
        first.stop().await?;
        second.stop().await
    });
}
