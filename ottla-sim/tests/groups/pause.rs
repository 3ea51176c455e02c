//! The pause: the broker stands still for longer than the session, and goes on as if nothing had happened. What was
//! written meanwhile reaches a member that does not know yet that it is out.

use std::time::Duration;

use ottla_protocol::messages::heartbeat_request::HeartbeatRequest;
use ottla_sim::{
    Sim, World,
    group::{GROUP, Group, Member, Settings},
};
use tokio::time::sleep;

use crate::SECOND;

/// How the broker's connections come back.
#[derive(Clone, Copy)]
enum WakesUp {
    AtOnce,
    /// The group's are a second late.
    DataFirst,
}

/// 10,000 orders are handled and committed. Then the only broker is frozen, its connections stay up, and 10,000 more
/// orders arrive in the moment of waking up.
async fn pause(world: &World, lasts: Duration, wakes_up: WakesUp, settings: &Settings) -> (Group, Member) {
    let group = Group::new(world, 1, 1).await;
    let member = group.start_with("billing-1", settings);
    group.produce(10_000).await;
    group.all_committed().await;
    // Any moment between two heartbeats.
    sleep(Duration::from_millis(world.random().u64(..3_000))).await;

    let broker = group.cluster.broker(0);
    broker.freeze();
    sleep(lasts).await;
    group.begin_to_produce(10_000).await;
    match wakes_up {
        WakesUp::AtOnce => broker.thaw(),
        WakesUp::DataFirst => {
            broker.hold::<HeartbeatRequest>();
            broker.thaw();
            sleep(SECOND).await;
            broker.release::<HeartbeatRequest>();
        }
    }
    (group, member)
}

#[test]
fn rp_a1_a_broker_frozen_past_the_session_causes_no_duplicates_and_no_loss() {
    Sim::seeds(0..6).run(async |world| {
        let (group, member) = pause(world, 50 * SECOND, WakesUp::AtOnce, &Settings::default()).await;
        let verdict = group.check().await;
        assert_eq!((verdict.handled, verdict.twice.len()), (20_000, 0));
        assert_eq!(member.sessions_lost(), 1);
        member.stop().await
    });
}

/// The worst order.
#[test]
fn rp_a1_records_that_come_back_before_the_heartbeats_wait_for_them() {
    Sim::seeds(0..6).run(async |world| {
        let (group, member) = pause(world, 50 * SECOND, WakesUp::DataFirst, &Settings::default()).await;
        let verdict = group.check().await;
        assert_eq!((verdict.handled, verdict.twice.len()), (20_000, 0));
        assert_eq!(member.sessions_lost(), 1);

        let lease_ended = member.events("group.lease_ended")[0];
        let joined_again = member.events("group.joined")[1];
        assert_eq!(group.history.handed_out_between(lease_ended, joined_again), 0);
        member.stop().await
    });
}

/// What the lease is for, and that the scenario can fail.
#[test]
fn without_the_lease_the_same_pause_causes_duplicates() {
    Sim::seeds(0..6).run(async |world| {
        let no_lease = Settings { lease_gate: false, ..Settings::default() };
        let (group, member) = pause(world, 50 * SECOND, WakesUp::DataFirst, &no_lease).await;
        let verdict = group.check().await;
        assert_eq!(verdict.handled, 20_000);
        assert!(!verdict.twice.is_empty(), "the lease has no effect");
        member.stop().await
    });
}

/// A pause that the session survives is no event at all.
#[test]
fn a_broker_frozen_for_less_than_the_session_costs_nothing_but_time() {
    Sim::seeds(0..6).run(async |world| {
        let (group, member) = pause(world, 30 * SECOND, WakesUp::DataFirst, &Settings::default()).await;
        let verdict = group.check().await;
        assert_eq!((verdict.handled, verdict.twice.len()), (20_000, 0));
        assert_eq!(member.sessions_lost(), 0);
        member.stop().await
    });
}

/// One of three brokers, the one that coordinates.
#[test]
fn g16_a_frozen_coordinator_is_replaced_and_the_members_stay() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 3, 3).await;
        let members = [group.start("billing-1"), group.start("billing-2")];
        group.produce(1_000).await;
        group.all_committed().await;

        let frozen = group.cluster.coordinator(GROUP).expect("a coordinator");
        frozen.freeze();
        group.produce(1_000).await;
        let go_on = || group.history.handled() == 2_000;
        group.world.until_within(90 * SECOND, "the group goes on without it", go_on).await;
        sleep(50 * SECOND).await;
        frozen.thaw();
        group.produce(1_000).await;
        group.check_once().await;
        for member in members {
            assert_eq!(member.sessions_lost(), 0);
            member.stop().await?;
        }
        Ok::<_, ottla::Error>(())
    });
}
