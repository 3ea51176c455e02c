//! Members come, go, and crash; partitions move between them while records flow.

use std::time::Duration;

use ottla::{Assignor, TopicPartition};
use ottla_sim::{
    Sim,
    group::{Group, Member, Settings},
    history::What,
};
use tokio::time::sleep;

use crate::{SECOND, busy, flow};

#[test]
fn members_that_join_and_leave_hand_their_partitions_over_without_a_duplicate() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 3, 6).await;
        group.cluster.nothing_hinders(Some(Duration::ZERO));
        let first = group.start_with("billing-1", &busy());
        flow(&group, 10).await;
        let second = group.start_with("billing-2", &busy());
        flow(&group, 10).await;
        let third = group.start_with("billing-3", &busy());
        flow(&group, 10).await;
        for member in [&first, &second, &third] {
            member.owns(&group, 2).await;
        }
        first.stop().await?;
        flow(&group, 10).await;
        for member in [&second, &third] {
            member.owns(&group, 3).await;
        }
        second.stop().await?;
        flow(&group, 10).await;
        group.check_once().await;
        third.stop().await
    });
}

#[test]
fn g01_with_an_eager_assignor_all_partitions_change_hands_without_a_duplicate() {
    Sim::seeds(0..6).run(async |world| {
        let range = Settings { assignors: vec![Assignor::Range], ..busy() };
        let group = Group::new(world, 3, 6).await;
        group.cluster.nothing_hinders(Some(Duration::ZERO));
        let first = group.start_with("billing-1", &range);
        flow(&group, 5).await;
        let second = group.start_with("billing-2", &range);
        flow(&group, 10).await;
        second.owns(&group, 3).await;
        first.stop().await?;
        flow(&group, 5).await;
        group.check_once().await;
        second.stop().await
    });
}

#[test]
fn g03_a_group_goes_from_range_to_cooperative_sticky_member_by_member() {
    Sim::seeds(0..6).run(async |world| {
        let range = Settings { assignors: vec![Assignor::Range], ..busy() };
        let both = Settings { assignors: vec![Assignor::CooperativeSticky, Assignor::Range], ..busy() };
        let group = Group::new(world, 3, 6).await;
        let mut members = vec![group.start_with("billing-1", &range), group.start_with("billing-2", &range)];
        flow(&group, 5).await;
        for settings in [both, busy()] {
            for name in ["billing-1", "billing-2"] {
                members.remove(0).stop().await?;
                flow(&group, 3).await;
                members.push(group.start_with(name, &settings));
                flow(&group, 3).await;
            }
        }
        for member in &members {
            member.owns(&group, 3).await;
        }
        group.check_once().await;
        for member in members {
            member.stop().await?;
        }
        Ok::<_, ottla::Error>(())
    });
}

/// The longest time since `from` in which a member handled nothing of a partition.
fn longest_gap(group: &Group, member: &Member, partition: &TopicPartition, from: Duration) -> Duration {
    let told = group.history.told();
    let handled = told.iter().filter(|told| {
        let handled = matches!(told.what, What::Handled(_)) && told.at > from;
        handled && told.member == member.history.number() && told.partition == *partition
    });
    let mut longest = Duration::ZERO;
    let mut last = from;
    for told in handled {
        longest = longest.max(told.at - last);
        last = told.at;
    }
    longest.max(group.history.now().saturating_sub(last))
}

#[test]
fn g02_partitions_that_a_member_keeps_flow_while_others_move() {
    Sim::seeds(0..6).run(async |world| {
        let settings = Settings { handling: Duration::from_millis(4), ..Settings::default() };
        let group = Group::new(world, 3, 4).await;
        let first = group.start_with("billing-1", &settings);
        first.owns(&group, 4).await;
        let from = group.history.now();
        flow(&group, 10).await;
        let second = group.start_with("billing-2", &settings);
        flow(&group, 20).await;
        assert_eq!(second.history.owned().len(), 2);
        for partition in first.history.owned() {
            let gap = longest_gap(&group, &first, &partition, from);
            assert!(gap < 3 * SECOND, "nothing of {partition} was handled for {gap:?}");
        }
        group.check_once().await;
        first.stop().await?;
        second.stop().await
    });
}

#[test]
fn g02_what_was_fetched_of_partitions_that_a_member_keeps_is_not_fetched_again() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 3, 12).await;
        // Buffers are full before the second member comes.
        group.produce(2_000).await;
        let first = group.start_with("billing-1", &busy());
        group.world.until("the first one is at work", || group.history.handled() > 100).await;
        let before = first.fetched();
        let second = group.start_with("billing-2", &busy());
        second.owns(&group, 6).await;
        group.check_once().await;
        let again = first.fetched() - before;
        assert!(again < before / 2, "{before} bytes were fetched before the rebalance, and {again} after it");
        first.stop().await?;
        second.stop().await
    });
}

#[test]
fn g04_g12_after_a_crash_others_go_on_at_what_was_committed() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 3, 6).await;
        let mut members: Vec<Member> =
            ["billing-1", "billing-2", "billing-3"].map(|host| group.start_with(host, &busy())).into();
        group.all_owned(6).await;
        flow(&group, 10).await;
        let crashed = members.remove(world.random().usize(..3));
        crashed.crash();
        flow(&group, 60).await;
        group.all_owned(6).await;
        let again = group.start_with(&crashed.host.name(), &busy());
        again.owns(&group, 2).await;
        flow(&group, 5).await;
        let verdict = group.check().await;
        // What was handled in one interval of automatic commits, and while the last of them was on its way.
        assert!(verdict.twice.len() < 300, "{} records were handled twice", verdict.twice.len());
        for member in members {
            member.stop().await?;
        }
        again.stop().await
    });
}

#[test]
fn a_group_that_is_stopped_and_started_goes_on_where_it_was() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 3, 4).await;
        for _ in 0..4 {
            let [first, second] = ["billing-1", "billing-2"].map(|host| group.start_with(host, &busy()));
            group.produce(200).await;
            sleep(Duration::from_millis(world.random().u64(4_000..8_000))).await;
            let host = first.host.clone();
            first.stop().await?;
            second.stop().await?;
            assert_eq!((host.tasks(), host.sockets()), (0, 0));
            assert_eq!(group.committed(), group.history.handled() as i64);
        }
        let last = group.start("billing-1");
        group.check_once().await;
        last.stop().await
    });
}

#[test]
fn a_topic_that_is_created_after_the_subscription_is_read_from_its_beginning() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::of(world, &world.cluster(3).await);
        let [first, second] = ["billing-1", "billing-2"].map(|host| group.start(host));
        sleep(20 * SECOND).await;
        group.cluster.topic(ottla_sim::load::TOPIC, 4).await;
        group.produce(400).await;
        group.check_once().await;
        first.stop().await?;
        second.stop().await
    });
}
