//! The group's coordinator crashes, restarts, moves, or is cut off from the other brokers.

use std::time::Duration;

use ottla_broker::disk::Tail;
use ottla_sim::{
    Broker, Host, Sim, World,
    group::{GROUP, Group, Settings},
    load::TOPIC,
};
use tokio::time::{sleep, timeout};

use crate::{SECOND, busy};

/// Two members at work while something happens to their coordinator three times. Nothing is handled twice, nobody loses
/// a membership, and nobody has to join again.
async fn coordinator_suffers(world: &World, harm: impl AsyncFn(&Group, &Broker)) {
    let group = Group::new(world, 3, 4).await;
    let members = [group.start_with("billing-1", &busy()), group.start_with("billing-2", &busy())];
    for member in &members {
        member.owns(&group, 2).await;
    }
    group.produce(100).await;
    group.all_committed().await;
    let joined = members.each_ref().map(|member| member.events("group.joined").len());
    for _ in 0..3 {
        let coordinator = group.cluster.coordinator(GROUP).expect("a coordinator");
        group.begin_to_produce(300).await;
        harm(&group, &coordinator).await;
        healed(&group).await;
        group.all_committed().await;
    }
    group.check_once().await;
    for (member, joined) in members.into_iter().zip(joined) {
        assert_eq!((member.sessions_lost(), member.events("group.joined").len()), (0, joined));
        member.stop().await.expect("nothing is wrong at the end");
    }
}

async fn healed(group: &Group) {
    group.cluster.healed(TOPIC).await;
    group.cluster.healed("__consumer_offsets").await;
}

#[test]
fn g09_a_coordinator_that_crashes_is_replaced_and_the_members_stay() {
    Sim::seeds(0..6).run(async |world| {
        coordinator_suffers(world, async |_: &Group, coordinator: &Broker| {
            coordinator.kill();
            sleep(30 * SECOND).await;
            coordinator.start();
        })
        .await;
    });
}

/// It cannot write commits, and says so; members do not hand out what nobody could know of.
#[test]
fn a_coordinator_whose_disk_is_full_keeps_its_members_and_goes_on_when_there_is_room() {
    Sim::seeds(0..6).run(async |world| {
        let mut random = world.random();
        let rooms: Vec<usize> = (0..3).map(|_| random.usize(..2_000)).collect();
        let next = std::cell::Cell::new(0);
        coordinator_suffers(world, async |_: &Group, coordinator: &Broker| {
            coordinator.disk_room(Some(rooms[next.replace(next.get() + 1)]));
            sleep(30 * SECOND).await;
            coordinator.disk_room(None);
        })
        .await;
    });
}

#[test]
fn g09_a_coordinator_that_moves_to_another_broker_takes_the_members_along() {
    Sim::seeds(0..6).run(async |world| {
        coordinator_suffers(world, async |group: &Group, coordinator: &Broker| {
            // The controller does not hear it, and gives its partitions to others; clients and followers do.
            let controller = group.world.host("controller");
            group.world.network().block(coordinator.host(), &controller);
            let moved = || group.cluster.coordinator(GROUP).is_some_and(|now| now.id() != coordinator.id());
            group.world.until("the group has another coordinator", moved).await;
            sleep(10 * SECOND).await;
            group.world.network().unblock(coordinator.host(), &controller);
        })
        .await;
    });
}

#[test]
fn what_a_coordinator_acknowledged_survives_the_loss_of_its_power_and_of_its_tail() {
    Sim::seeds(0..9).run(async |world| {
        let tail = [Tail::Kept, Tail::Lost, Tail::Torn(1_000)][world.seed() as usize % 3];
        coordinator_suffers(world, async |_: &Group, coordinator: &Broker| {
            coordinator.lose_power(tail);
            sleep(20 * SECOND).await;
            coordinator.start();
        })
        .await;
    });
}

#[test]
fn a_single_broker_that_restarts_knows_its_group_again() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 1, 2).await;
        let member = group.start_with("billing-1", &busy());
        group.produce(100).await;
        group.all_committed().await;
        for _ in 0..3 {
            group.begin_to_produce(200).await;
            group.cluster.broker(0).kill();
            sleep(Duration::from_millis(world.random().u64(100..20_000))).await;
            group.cluster.broker(0).start();
            group.all_committed().await;
        }
        group.check_once().await;
        assert_eq!(member.sessions_lost(), 0);
        member.stop().await
    });
}

/// A member and its coordinator are cut off from everybody else for two minutes, in which the member has plenty to do
/// without them. The others go on with a coordinator of their own.
async fn split_brain(world: &World, settings: &Settings) {
    let group = Group::new(world, 3, 2).await;
    group.produce(6_000).await;
    let [first, second] = ["billing-1", "billing-2"].map(|host| group.start_with(host, settings));
    first.owns(&group, 1).await;
    second.owns(&group, 1).await;
    group.world.until("both are at work", || group.history.handled() > 200).await;

    let coordinator = group.cluster.coordinator(GROUP).expect("a coordinator");
    let others = group.cluster.brokers().filter(|broker| broker.id() != coordinator.id());
    let mut others: Vec<Host> = others.map(|broker| broker.host().clone()).collect();
    others.extend(["billing-2", "shop", "controller"].map(|name| world.host(name)));
    let sides = [coordinator.host(), &first.host].map(|one| others.iter().map(move |other| (one, other)));
    let across: Vec<_> =
        sides.into_iter().flatten().flat_map(|(one, other)| [(one, other), (other, one)]).collect();
    across.iter().for_each(|(from, to)| world.network().block(from, to));
    sleep(120 * SECOND).await;
    assert_eq!(second.history.owned().len(), 2, "the group goes on without the member that is cut off");
    across.iter().for_each(|(from, to)| world.network().unblock(from, to));

    healed(&group).await;
    group.check().await;
    first.stop().await.expect("nothing is wrong at the end");
    second.stop().await.expect("nothing is wrong at the end");
}

/// What the lease assumes of coordinators: of all that believe to be one, only one can write.
#[test]
fn a_coordinator_cut_off_from_its_peers_keeps_no_lease_alive() {
    let slow = Settings { handling: Duration::from_millis(100), ..Settings::default() };
    Sim::seeds(0..6).run(async |world| split_brain(world, &slow).await);
}

/// The scenario can fail.
#[test]
fn without_the_lease_a_coordinator_cut_off_from_its_peers_leaves_a_partition_with_two_owners() {
    let no_lease =
        Settings { handling: Duration::from_millis(100), lease_gate: false, ..Settings::default() };
    let report = Sim::seed(1).try_run(async |world: &World| split_brain(world, &no_lease).await);
    let report = report.expect_err("two owners");
    assert!(report.expected.contains(" to get nothing of orders-"), "{report}");
}

#[test]
fn g18_closing_takes_bounded_time_when_the_coordinator_is_dead_or_frozen() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 1, 2).await;
        let member = group.start("billing-1");
        group.produce(100).await;
        group.all_handled().await;
        let broker = group.cluster.broker(0);
        if world.seed() % 2 == 0 {
            broker.kill();
        } else {
            broker.freeze();
        }
        let host = member.host.clone();
        let stopped = timeout(60 * SECOND, member.stop()).await;
        assert!(stopped.is_ok(), "the member stops within a minute");
        world.until("no task and no socket is left", || host.tasks() + host.sockets() == 0).await;
    });
}
