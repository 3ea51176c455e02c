//! A member's process, or its whole machine, stands still while others go on.

use std::{sync::Arc, time::Duration};

use ottla::env::{Env, Layer};
use ottla_sim::{
    Sim, SimEnv, World,
    group::{Group, Member, Settings},
    history::What,
};
use tokio::time::{Instant, sleep};

use crate::{SECOND, busy};

/// Two members at work, of which one is stopped for a while (SIGSTOP). Gives the moment when it goes on.
async fn freeze_one_of_two(
    world: &World,
    lasts: Duration,
    settings: &Settings,
) -> (Group, [Member; 2], Duration) {
    let group = Group::new(world, 3, 4).await;
    group.produce(4_000).await;
    let members = ["billing-1", "billing-2"].map(|host| group.start_with(host, settings));
    for member in &members {
        member.owns(&group, 2).await;
    }
    group.world.until("both are at work", || group.history.handled() > 200).await;
    sleep(Duration::from_millis(world.random().u64(..3_000))).await;
    members[0].host.pause_for(lasts).await;
    let thawed = group.history.now();
    (group, members, thawed)
}

/// How many records a member got from `since` on, before it had joined again.
fn handed_out_before_joining(group: &Group, member: &Member, since: Duration) -> usize {
    let joined = member.events("group.joined").into_iter().find(|at| *at > since).expect("it joins again");
    let told = group.history.told();
    let meanwhile = told.iter().filter(|told| told.member == member.history.number());
    let meanwhile = meanwhile.filter(|told| told.at > since && told.at < joined);
    meanwhile.filter(|told| matches!(told.what, What::HandedOut(_))).count()
}

#[test]
fn a_member_that_was_frozen_while_another_took_over_hands_out_nothing_of_what_it_had() {
    Sim::seeds(0..6).run(async |world| {
        let (group, [first, second], thawed) = freeze_one_of_two(world, 60 * SECOND, &busy()).await;
        let verdict = group.check().await;
        assert_eq!(handed_out_before_joining(&group, &first, thawed), 0);
        // What it had in hand, and what was not committed when it froze.
        assert!(verdict.twice.len() < 300, "{} records were handled twice", verdict.twice.len());
        assert_eq!(first.sessions_lost(), 1);
        first.stop().await?;
        second.stop().await
    });
}

/// The scenario can fail.
#[test]
fn without_the_lease_a_member_that_was_frozen_hands_out_what_others_own() {
    let no_lease = Settings { lease_gate: false, ..busy() };
    let report = Sim::seed(1).try_run(async |world: &World| {
        let (group, _members, _) = freeze_one_of_two(world, 60 * SECOND, &no_lease).await;
        group.check().await;
    });
    let report = report.expect_err("two owners");
    assert!(report.expected.contains(" to get nothing of orders-"), "{report}");
}

#[test]
fn a_member_that_was_frozen_for_less_than_the_session_is_still_a_member() {
    Sim::seeds(0..6).run(async |world| {
        let (group, [first, second], _) = freeze_one_of_two(world, 30 * SECOND, &busy()).await;
        group.check_once().await;
        assert_eq!(first.sessions_lost() + second.sessions_lost(), 0);
        first.stop().await?;
        second.stop().await
    });
}

#[test]
fn n14_a_member_that_was_frozen_for_ten_minutes_is_back_at_once_and_without_a_storm() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 3, 2).await;
        let member = group.start("billing-1");
        group.produce(100).await;
        group.all_committed().await;
        member.host.pause_for(600 * SECOND).await;
        let before = member.host.dials();
        group.produce(100).await;
        group.world.until_within(15 * SECOND, "the group goes on", || group.history.handled() == 200).await;
        let dials = member.host.dials() - before;
        assert!(dials < 30, "{dials} connections were opened");
        group.check_once().await;
        member.stop().await
    });
}

/// A machine sleeps; meanwhile another starts a process that takes its partitions over. When the first wakes up, it has
/// records in its buffer, and its timers have not noticed anything. Gives the moment when it wakes up.
async fn sleep_while_another_takes_over(world: &World, laptop: Arc<dyn Env>) -> (Group, Member, Duration) {
    let group = Group::new(world, 3, 2).await;
    group.produce(4_000).await;
    let asleep = group.start_in(laptop, "laptop", &busy());
    group.world.until("it is at work", || group.history.handled() > 200).await;
    asleep.host.freeze();
    group.cluster.while_clients_sleep(60 * SECOND).await;
    let other = group.start_with("billing-2", &busy());
    other.owns(&group, 2).await;
    let before = group.history.handled();
    group.world.until("the other one is at work", || group.history.handled() > before + 200).await;
    let woke = group.history.now();
    asleep.host.thaw();
    group.check().await;
    (group, asleep, woke)
}

#[test]
fn a_member_whose_machine_slept_while_another_process_took_over_hands_out_nothing_of_what_it_had() {
    Sim::seeds(0..6).run(async |world| {
        let laptop = Arc::new(world.host("laptop").env());
        let (group, member, woke) = sleep_while_another_takes_over(world, laptop).await;
        assert_eq!(handed_out_before_joining(&group, &member, woke), 0);
    });
}

/// The scenario can fail.
#[test]
fn with_a_clock_that_stops_in_sleep_a_partition_has_two_owners() {
    let report = Sim::seed(1).try_run(async |world: &World| {
        let laptop = ClockStopsInSleep { env: world.host("laptop").env(), began: Instant::now() };
        sleep_while_another_takes_over(world, Arc::new(laptop)).await;
    });
    let report = report.expect_err("two owners");
    assert!(report.expected.contains(" to get nothing of orders-"), "{report}");
}

/// An environment whose clock for leases stops while the machine sleeps, as `Instant` does on Linux.
struct ClockStopsInSleep {
    env: SimEnv,
    began: Instant,
}

impl Layer for ClockStopsInSleep {
    type Below = SimEnv;

    fn below(&self) -> &SimEnv {
        &self.env
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}
