//! What happens at the moment when a partition is given up.

use std::time::Duration;

use ottla_protocol::messages::{
    offset_commit_request::OffsetCommitRequest, sync_group_request::SyncGroupRequest,
};
use ottla_sim::{
    Sim,
    group::{GROUP, Group, Settings},
};
use tokio::time::sleep;

use crate::{SECOND, busy};

/// It drains, and commits, in whatever order the answers come.
#[test]
fn g10_a_commit_under_way_is_waited_for_before_a_partition_is_given_up() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 1, 4).await;
        group.produce(4_000).await;
        let settings = Settings { commit_on_revoke: world.seed() % 2 == 0, ..busy() };
        let first = group.start_with("billing-1", &settings);
        first.owns(&group, 4).await;
        group.world.until("it is at work", || group.history.handled() > 200).await;

        let coordinator = group.cluster.broker(0);
        coordinator.hold::<OffsetCommitRequest>();
        let second = group.start_with("billing-2", &settings);
        sleep(Duration::from_millis(world.random().u64(3_000..9_000))).await;
        coordinator.release::<OffsetCommitRequest>();
        second.owns(&group, 2).await;
        group.check_once().await;
        first.stop().await?;
        second.stop().await
    });
}

#[test]
fn a_handler_that_is_too_slow_for_the_hand_over_is_the_only_one_whose_work_is_done_again() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 3, 2).await;
        group.produce(40).await;
        let slow = Settings { handling: 40 * SECOND, ..Settings::default() };
        let first = group.start_with("billing-1", &slow);
        first.owns(&group, 2).await;
        sleep(20 * SECOND).await;
        let second = group.start_with("billing-2", &busy());
        second.owns(&group, 1).await;
        let verdict = group.check().await;
        // One record is in hand at a time, and partitions move once.
        assert!(verdict.twice.len() <= 1, "{:?}", verdict.twice);
        first.stop().await?;
        second.stop().await
    });
}

#[test]
fn a_listener_slower_than_the_rebalance_costs_the_membership_and_gives_no_partition_two_owners() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 3, 4).await;
        group.produce(4_000).await;
        let quick = Settings { rebalance: 15 * SECOND, ..busy() };
        let slow = Settings { giving_up: 40 * SECOND, ..quick.clone() };
        let first = group.start_with("billing-1", &slow);
        first.owns(&group, 4).await;
        let second = group.start_with("billing-2", &quick);
        second.owns(&group, 2).await;
        group.check().await;
        first.stop().await?;
        second.stop().await
    });
}

#[test]
fn a_session_that_ends_in_the_middle_of_a_rebalance_gives_no_partition_two_owners() {
    Sim::seeds(0..12).run(async |world| {
        let group = Group::new(world, 3, 4).await;
        group.produce(6_000).await;
        let first = group.start_with("billing-1", &busy());
        first.owns(&group, 4).await;
        group.world.until("it is at work", || group.history.handled() > 200).await;

        // The second comes, and the first does not hear of it, or cannot say that it has.
        let mut random = world.random();
        let coordinator = group.cluster.coordinator(GROUP).expect("a coordinator");
        let second = group.start_with("billing-2", &busy());
        sleep(Duration::from_millis(random.u64(..8_000))).await;
        world.network().block(&first.host, coordinator.host());
        if random.bool() {
            world.network().block(coordinator.host(), &first.host);
        }
        sleep(Duration::from_millis(random.u64(20_000..80_000))).await;
        world.network().unblock(&first.host, coordinator.host());
        world.network().unblock(coordinator.host(), &first.host);
        second.owns(&group, 2).await;
        first.owns(&group, 2).await;
        group.check().await;
        first.stop().await?;
        second.stop().await
    });
}

/// The leader's assignment does not come, so that the rebalance hangs and starts anew.
#[test]
fn a_leader_that_is_slow_to_assign_holds_up_the_group_and_nothing_else() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 1, 4).await;
        group.produce(4_000).await;
        let first = group.start_with("billing-1", &busy());
        first.owns(&group, 4).await;
        let coordinator = group.cluster.broker(0);
        coordinator.hold::<SyncGroupRequest>();
        let second = group.start_with("billing-2", &busy());
        sleep(Duration::from_millis(world.random().u64(5_000..90_000))).await;
        coordinator.release::<SyncGroupRequest>();
        second.owns(&group, 2).await;
        first.owns(&group, 2).await;
        group.check().await;
        first.stop().await?;
        second.stop().await
    });
}
