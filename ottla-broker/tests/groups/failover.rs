//! What a group looks like after its coordinator died.

use ottla_protocol::ErrorCode;

use crate::broker::{Broker, Topic, coordinator, until};
use crate::fetching::committed_stably;
use crate::group::Group;
use crate::member::{Member, SHORT, dynamic, named};

/// The node at this address, counted from 1.
fn node(broker: &Broker, address: &str) -> i32 {
    let index = broker.addresses().iter().position(|other| other == address);
    index.expect("one of the cluster's") as i32 + 1
}

/// Kills the group's coordinator and waits until another one has taken over.
async fn fail_over(broker: &Broker, group: &Group) -> Group {
    broker.kill(node(broker, &group.coordinator)).await;
    let survivor =
        broker.addresses().iter().find(|address| **address != group.coordinator).expect("one of three");
    until("another coordinator is named", async || {
        coordinator(survivor, &group.id).await.is_some_and(|address| address != group.coordinator)
    })
    .await;
    broker.find(group.id.clone()).await
}

/// The same member, told where its group is now.
fn at(member: &Member, group: &Group) -> Member {
    Member { group: group.clone(), ..member.clone() }
}

async fn check_survival(members: &[Member; 2], group: &Group, topic: &Topic) {
    let [leader, follower] = members.each_ref().map(|member| at(member, group));
    // Descriptions may be a little behind at first, as what the new leader knows to be replicated is.
    group.until("Stable", 2).await;
    for member in [&leader, &follower] {
        assert_eq!(member.heartbeat().await, ErrorCode::NONE);
        let synced = member.sync(&[]).await.answer().await;
        assert_eq!((synced.error_code, synced.assignment), (ErrorCode::NONE, member.share()));
    }
    assert_eq!(committed_stably(group, topic).await, 5);
    assert_eq!(leader.commit(topic, 6).await, ErrorCode::NONE);
    // It is known who leads and who is static.
    let described = group.describe().await;
    let found = described.members.iter().find(|member| member.member_id == follower.id).expect("a member");
    assert_eq!(found.group_instance_id.as_deref(), Some("one"));
    let again = follower.rejoin().await.answer().await;
    assert_eq!((again.generation_id, &again.leader), (2, &leader.id));
    let joined = group.join(&named("one"), "").await.answer().await;
    assert_eq!((joined.error_code, joined.generation_id, &joined.leader), (ErrorCode::NONE, 2, &leader.id));
    assert_eq!(follower.heartbeat().await, ErrorCode::FENCED_INSTANCE_ID);
}

#[tokio::test]
async fn a_stable_group_survives_its_coordinator() {
    let Some(broker) = Broker::alone(3).await else { return };
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    let members = group.stable([dynamic(), named("one")]).await;
    assert_eq!(members[0].commit(&topic, 5).await, ErrorCode::NONE);
    let elsewhere = fail_over(&broker, &group).await;
    check_survival(&members, &elsewhere, &topic).await;
}

#[tokio::test]
async fn a_stable_group_survives_a_restart() {
    let Some(broker) = Broker::alone(1).await else { return };
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    let members = group.stable([dynamic(), named("one")]).await;
    assert_eq!(members[0].commit(&topic, 5).await, ErrorCode::NONE);
    let dead = node(&broker, &group.coordinator);
    broker.kill(dead).await;
    broker.restart(dead).await;
    let group = broker.find(group.id.clone()).await;
    check_survival(&members, &group, &topic).await;
}

/// Only what was assigned is written down: joins that were parked are lost with their connections.
#[tokio::test]
async fn a_rebalance_that_was_cut_off_has_not_happened() {
    let Some(broker) = Broker::alone(3).await else { return };
    let group = broker.group().await;
    let members = group.stable([dynamic(), named("one")]).await;
    let [leader, follower] = &members;
    let _lost = leader.rejoin().await;
    group.until("PreparingRebalance", 2).await;
    let joined = follower.rejoin().await.answer().await;
    assert_eq!(joined.generation_id, 3);
    let elsewhere = fail_over(&broker, &group).await;
    elsewhere.until("Stable", 2).await;
    for member in &members {
        assert_eq!(
            at(member, &elsewhere).with_generation(3).heartbeat().await,
            ErrorCode::ILLEGAL_GENERATION
        );
        assert_eq!(at(member, &elsewhere).heartbeat().await, ErrorCode::NONE);
    }
}

/// A member has a whole session to find the new coordinator, and no more.
#[tokio::test]
async fn sessions_begin_anew_with_a_coordinator() {
    let Some(broker) = Broker::alone(3).await else { return };
    let group = broker.group().await;
    let [alive, silent] = group.stable([dynamic(), dynamic().session(SHORT * 10)]).await;
    let elsewhere = fail_over(&broker, &group).await;
    assert_eq!(at(&silent, &elsewhere).heartbeat().await, ErrorCode::NONE);
    elsewhere.until("PreparingRebalance", 1).await;
    assert_eq!(at(&silent, &elsewhere).heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(at(&alive, &elsewhere).heartbeat().await, ErrorCode::REBALANCE_IN_PROGRESS);
}

#[tokio::test]
async fn an_empty_group_and_its_offsets_survive() {
    let Some(broker) = Broker::alone(3).await else { return };
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    let [member] = group.stable([dynamic()]).await;
    assert_eq!(member.commit(&topic, 5).await, ErrorCode::NONE);
    assert_eq!(member.leave().await, ErrorCode::NONE);
    group.until("Empty", 0).await;
    // What is written behind it is acknowledged only with it: that the group is empty is safe then.
    assert_eq!(member.with_id("").with_generation(-1).commit(&topic, 6).await, ErrorCode::NONE);
    let elsewhere = fail_over(&broker, &group).await;
    elsewhere.until("Empty", 0).await;
    assert_eq!(committed_stably(&elsewhere, &topic).await, 6);
    assert_eq!(at(&member, &elsewhere).heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    let [next] = elsewhere.stable([dynamic()]).await;
    assert_eq!(next.generation, 3);
}
