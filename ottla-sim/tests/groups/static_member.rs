//! Members with a `group.instance.id`, and what happens when two live processes have the same.

use std::time::Duration;

use ottla::{Assignor, ErrorKind};
use ottla_broker::faults::{Effect, Fault};
use ottla_protocol::{
    ErrorCode,
    messages::{JoinGroupRequest, SyncGroupRequest},
};
use ottla_sim::{
    Sim,
    group::{GROUP, Group, Settings},
};
use tokio::time::sleep;

use crate::{SECOND, busy};

fn named(instance: &'static str) -> Settings {
    Settings { instance: Some(instance), ..busy() }
}

#[test]
fn g08_a_static_member_that_restarts_within_its_session_finds_its_partitions_and_nobody_notices() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 3, 4).await;
        let mut first = group.start_with("billing-1", &named("one"));
        let second = group.start_with("billing-2", &named("two"));
        first.owns(&group, 2).await;
        second.owns(&group, 2).await;
        group.produce(400).await;
        group.all_committed().await;
        let (had, joined) = (first.history.owned(), second.events("group.joined").len());
        for _ in 0..2 {
            group.begin_to_produce(200).await;
            // Stopped or killed: neither leaves the group.
            if world.random().bool() {
                first.stop().await?;
            } else {
                first.crash();
            }
            sleep(Duration::from_millis(world.random().u64(1_000..30_000))).await;
            first = group.start_with("billing-1", &named("one"));
            first.owns(&group, 2).await;
            assert_eq!(first.history.owned(), had);
            group.all_committed().await;
        }
        assert_eq!(second.events("group.joined").len(), joined, "the other member notices nothing");
        group.check().await;
        first.stop().await?;
        second.stop().await
    });
}

#[test]
fn a_static_member_that_does_not_come_back_is_replaced_after_its_session() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 3, 4).await;
        let first = group.start_with("billing-1", &named("one"));
        let second = group.start_with("billing-2", &named("two"));
        first.owns(&group, 2).await;
        second.owns(&group, 2).await;
        first.stop().await?;
        let left = group.history.now();
        group.produce(400).await;
        second.owns(&group, 4).await;
        let took = group.history.now() - left;
        assert!(took > 30 * SECOND && took < 60 * SECOND, "its partitions waited for {took:?}");
        group.check_once().await;
        second.stop().await
    });
}

/// What the lease assumes of processes: no two that live have one instance id. The coordinator puts the second in the
/// place of the first at once, and no timer tells the first: for a heartbeat's time both hand out records. What holds all
/// the same: the first stops then, for good; nothing is lost; and no commit of it counts any more.
#[test]
fn g07_of_two_processes_with_one_instance_id_the_second_goes_on_and_the_first_ends_within_a_heartbeat() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 3, 2).await;
        group.history.tolerate_overlap(4 * SECOND);
        group.produce(4_000).await;
        let first = group.start_with("billing-1", &named("one"));
        group.world.until("it is at work", || group.history.handled() > 200).await;
        let second = group.start_with("billing-2", &named("one"));
        second.owns(&group, 2).await;
        group.world.until_within(5 * SECOND, "the first process ends", || first.has_ended()).await;
        let error = first.ended().await.expect("it did not crash").expect_err("it was fenced");
        assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::FENCED_INSTANCE_ID));
        assert!(error.is_fatal(), "{error}");
        let verdict = group.check().await;
        assert!(!verdict.twice.is_empty(), "the lease covers this by now: say so in its documentation");
        second.stop().await
    });
}

/// A new id is written down with the assignment: until then only this coordinator knows it. The next one knows the id from
/// before, and fences the new one, though there is no other process.
#[test]
fn a_static_member_whose_new_id_dies_with_the_coordinator_takes_its_place_again() {
    let with = |assignors: &[Assignor]| Settings { assignors: assignors.to_vec(), ..named("one") };
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 3, 2).await;
        let first = group.start_with("billing-1", &with(&[Assignor::CooperativeSticky, Assignor::Range]));
        first.owns(&group, 2).await;
        group.produce(100).await;
        group.all_committed().await;
        first.stop().await?;
        // It comes back and prefers another assignor: the coordinator does not write at once, but rebalances.
        let coordinator = group.cluster.coordinator(GROUP).expect("a coordinator");
        let sync = Fault::on::<SyncGroupRequest>(Effect::Hold).at(coordinator.id());
        let sync = group.cluster.faults().add(sync);
        let again = group.start_with("billing-1", &with(&[Assignor::Range, Assignor::CooperativeSticky]));
        world.until("it has its new id, and wants its assignment", || sync.strikes() > 0).await;
        coordinator.kill();
        again.owns(&group, 2).await;
        assert!(
            group.cluster.met().contains_key("SYNC_GROUP: FENCED_INSTANCE_ID"),
            "{:?}",
            group.cluster.met()
        );
        group.produce(100).await;
        group.check_once().await;
        again.stop().await
    });
}

/// It joins without an id, and whoever does that takes the place of the member of that name.
#[test]
fn a_static_member_that_its_own_late_request_has_fenced_takes_its_place_back() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 3, 2).await;
        let late = Fault::on::<JoinGroupRequest>(Effect::CarryOutLate(5 * SECOND)).times(1);
        group.cluster.faults().add(late);
        let member = group.start_with("billing-1", &named("one"));
        member.owns(&group, 2).await;
        world.until("it is told that another one has its place", || member.sessions_lost() == 1).await;
        member.owns(&group, 2).await;
        group.produce(100).await;
        group.check_once().await;
        member.stop().await
    });
}
