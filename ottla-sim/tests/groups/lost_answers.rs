//! Requests of a group, or their answers, get lost: what was carried out and what was not is for the member to find out.

use std::time::Duration;

use crate::{SECOND, flow};
use ottla_protocol::{
    Request,
    messages::{
        find_coordinator_request::FindCoordinatorRequest, heartbeat_request::HeartbeatRequest,
        join_group_request::JoinGroupRequest, leave_group_request::LeaveGroupRequest,
        offset_commit_request::OffsetCommitRequest, offset_fetch_request::OffsetFetchRequest,
        sync_group_request::SyncGroupRequest,
    },
};
use ottla_sim::{
    Interference, Sim, World,
    group::{Group, Settings},
};

/// What is silent is given up early.
fn impatient() -> Settings {
    let handling = Duration::from_millis(10);
    Settings { session: 10 * SECOND, rebalance: 10 * SECOND, handling, ..Settings::default() }
}

/// Members come, work, and go, and each time requests of one kind go wrong.
async fn lose<R: Request>(world: &World, how: Interference) {
    let group = Group::new(world, 3, 4).await;
    let mut random = world.random();
    let mut spoil = || {
        let times = random.u32(1..=2);
        group.cluster.brokers().for_each(|broker| broker.interfere::<R>(how, times));
    };
    spoil();
    group.produce(100).await;
    let first = group.start_with("billing-1", &impatient());
    group.all_committed().await;
    spoil();
    let second = group.start_with("billing-2", &impatient());
    flow(&group, 10).await;
    spoil();
    flow(&group, 10).await;
    second.owns(&group, 2).await;
    first.owns(&group, 2).await;
    spoil();
    let mut lost = first.sessions_lost();
    first.stop().await.expect("it leaves in time");
    flow(&group, 5).await;
    second.owns(&group, 4).await;
    let verdict = group.check().await;
    lost += second.sessions_lost();
    assert!(verdict.twice.is_empty() || lost > 0, "without any need: {:?}", verdict.twice.first());
    second.stop().await.expect("it leaves in time");
}

fn lose_each_way<R: Request>() {
    for how in [Interference::LoseRequest, Interference::LoseAnswer, Interference::Silence] {
        Sim::seeds(0..3).run(async |world| lose::<R>(world, how).await);
    }
}

#[test]
fn g17_joining_survives_what_gets_lost() {
    lose_each_way::<JoinGroupRequest>();
}

#[test]
fn g17_synchronising_survives_what_gets_lost() {
    lose_each_way::<SyncGroupRequest>();
}

#[test]
fn heartbeats_survive_what_gets_lost() {
    lose_each_way::<HeartbeatRequest>();
}

#[test]
fn g11_commits_survive_what_gets_lost() {
    lose_each_way::<OffsetCommitRequest>();
}

#[test]
fn g13_reading_what_is_committed_survives_what_gets_lost() {
    lose_each_way::<OffsetFetchRequest>();
}

#[test]
fn leaving_survives_what_gets_lost() {
    lose_each_way::<LeaveGroupRequest>();
}

#[test]
fn looking_for_the_coordinator_survives_what_gets_lost() {
    lose_each_way::<FindCoordinatorRequest>();
}

/// The coordinator waits for whom it has given a member id that got lost, but not longer than for any other member.
#[test]
fn g17_a_lost_answer_to_joining_leaves_no_ghost() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 1, 2).await;
        let first = group.start("billing-1");
        first.owns(&group, 2).await;
        group.cluster.broker(0).interfere::<JoinGroupRequest>(Interference::LoseAnswer, 2);
        let second = group.start("billing-2");
        let both = || first.history.owned().len() == 1 && second.history.owned().len() == 1;
        group.world.until_within(60 * SECOND, "both have a partition", both).await;
        group.produce(100).await;
        group.check_once().await;
        first.stop().await?;
        second.stop().await
    });
}
