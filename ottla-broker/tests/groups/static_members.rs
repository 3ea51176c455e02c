//! Static members (KIP-345): an instance id that outlives the member ids given to it.

use ottla_protocol::ErrorCode;

use crate::broker::Broker;
use crate::member::{SHORT, dynamic, named, subscription};

#[tokio::test]
async fn a_static_member_is_in_at_once() {
    let broker = Broker::start().await;
    for version in 5..=9 {
        let group = broker.group().await;
        let joined = group.join(&named("one").version(version), "").await.answer().await;
        assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 1), "v{version}");
        assert!(joined.member_id.starts_with("one-"), "{}", joined.member_id);
        assert_eq!(joined.leader, joined.member_id);
        assert_eq!(joined.members[0].group_instance_id.as_deref(), Some("one"));
        assert!(!joined.skip_assignment);
    }
}

#[tokio::test]
async fn a_follower_that_starts_anew_takes_its_own_place_without_a_rebalance() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, old] = group.stable([dynamic(), named("one")]).await;
    let joined = group.join(&named("one"), "").await.answer().await;
    assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 2));
    assert_eq!((&joined.leader, joined.members.len(), joined.skip_assignment), (&leader.id, 0, false));
    assert_eq!(
        (joined.protocol_name.as_deref(), joined.protocol_type.as_deref()),
        (Some("range"), Some("consumer"))
    );
    let new = group.member(&named("one"), &joined);
    assert_ne!(new.id, old.id);
    group.assert_state("Stable").await;
    assert_eq!(leader.heartbeat().await, ErrorCode::NONE);
    let synced = new.sync(&[]).await.answer().await;
    assert_eq!((synced.error_code, synced.assignment), (ErrorCode::NONE, old.share()));
    assert_eq!(new.heartbeat().await, ErrorCode::NONE);
}

#[tokio::test]
async fn the_old_self_of_a_static_member_is_fenced() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    let [_leader, old] = group.stable([dynamic(), named("one")]).await;
    let new = group.member(&named("one"), &group.join(&named("one"), "").await.answer().await);
    assert_eq!(old.heartbeat().await, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(old.synced().await, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(old.commit(&topic, 1).await, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(old.leave().await, ErrorCode::FENCED_INSTANCE_ID);
    let refused = old.rejoin().await.answer().await;
    assert_eq!((refused.error_code, refused.member_id), (ErrorCode::FENCED_INSTANCE_ID, old.id.clone()));
    // One that does not say who it is is merely unknown.
    let nameless = old.with_profile(dynamic());
    assert_eq!(nameless.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(nameless.commit(&topic, 1).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(nameless.leave().await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(new.heartbeat().await, ErrorCode::NONE);
    assert_eq!(new.commit(&topic, 1).await, ErrorCode::NONE);
}

/// Version 9 tells a leader that starts anew that it leads, and that there is nothing to assign (KIP-814).
#[tokio::test]
async fn a_leader_that_starts_anew_leads_on_and_assigns_nothing() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [old, follower] = group.stable([named("one"), dynamic()]).await;
    let joined = group.join(&named("one"), "").await.answer().await;
    assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 2));
    assert_eq!((&joined.leader, joined.skip_assignment), (&joined.member_id, true));
    let mut members: Vec<_> = joined.members.iter().map(|member| &member.member_id).collect();
    let mut expected = vec![&joined.member_id, &follower.id];
    members.sort();
    expected.sort();
    assert_eq!(members, expected);
    assert_eq!(follower.heartbeat().await, ErrorCode::NONE);
    let new = group.member(&named("one"), &joined);
    let synced = new.sync(&[]).await.answer().await;
    assert_eq!((synced.error_code, synced.assignment), (ErrorCode::NONE, old.share()));
}

/// Before, it was given the id of its old self as the leader's, so that it would not assign.
#[tokio::test]
async fn before_version_9_a_leader_that_starts_anew_is_not_told_that_it_leads() {
    let broker = Broker::start().await;
    for version in 5..9 {
        let group = broker.group().await;
        let [old, _follower] = group.stable([named("one"), dynamic()]).await;
        let joined = group.join(&named("one").version(version), "").await.answer().await;
        assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 2), "v{version}");
        assert_eq!((joined.leader, joined.members.len()), (old.id, 0), "v{version}");
        assert_ne!(joined.member_id, "");
    }
}

#[tokio::test]
async fn a_static_member_that_comes_back_with_its_id_is_as_any_other() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, follower] = group.stable([named("one"), named("two")]).await;
    let again = follower.rejoin().await.answer().await;
    assert_eq!((again.error_code, again.generation_id), (ErrorCode::NONE, 2));
    let parked = leader.rejoin().await;
    group.until("PreparingRebalance", 2).await;
    assert_eq!(follower.rejoin().await.answer().await.generation_id, 3);
    assert_eq!(parked.answer().await.generation_id, 3);
}

#[tokio::test]
async fn another_subscription_alone_does_not_rebalance() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, old] = group.stable([dynamic(), named("one")]).await;
    let changed = subscription(&[&"topic".into()]);
    let joined = group.join(&named("one").metadata(changed.clone()), "").await.answer().await;
    assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 2));
    assert_ne!(joined.member_id, old.id);
    assert_eq!(leader.heartbeat().await, ErrorCode::NONE);
    let described = group.describe().await;
    let member = described.members.iter().find(|member| member.member_id == joined.member_id).unwrap();
    assert_eq!((&member.member_metadata, &member.member_assignment), (&changed, &old.share()));
}

#[tokio::test]
async fn another_protocol_rebalances() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, old] =
        group.stable([dynamic().protocols(&["a", "b"]), named("one").protocols(&["a", "b"])]).await;
    let parked = group.join(&named("one").protocols(&["b"]), "").await;
    group.until("PreparingRebalance", 2).await;
    parked.assert_unanswered().await;
    assert_eq!(old.heartbeat().await, ErrorCode::FENCED_INSTANCE_ID);
    let joined = leader.rejoin().await.answer().await;
    assert_eq!((joined.generation_id, joined.protocol_name.as_deref()), (3, Some("b")));
    assert_eq!(parked.answer().await.generation_id, 3);
}

#[tokio::test]
async fn a_parked_join_of_the_old_self_is_fenced() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, old] = group.stable([dynamic(), named("one")]).await;
    let rejoining = leader.rejoin().await;
    group.until("PreparingRebalance", 2).await;
    // The last one that is waited for would complete the generation: another one has to be waited for.
    let pending = group.new_id(&dynamic()).await;
    let parked = old.rejoin().await;
    parked.assert_unanswered().await;
    let new = group.join(&named("one"), "").await;
    let fenced = parked.answer().await;
    assert_eq!((fenced.error_code, &fenced.member_id), (ErrorCode::FENCED_INSTANCE_ID, &old.id));
    assert_eq!((&*fenced.leader, fenced.members.len()), ("", 0));
    assert_eq!(leader.with_id(&pending).leave().await, ErrorCode::NONE);
    let joined = rejoining.answer().await;
    assert_eq!((joined.generation_id, joined.members.len()), (3, 2));
    let joined = new.answer().await;
    assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 3));
    assert_ne!(joined.member_id, old.id);
}

/// The leader may have been told the old id already.
#[tokio::test]
async fn a_parked_sync_of_the_old_self_is_fenced_and_all_join_again() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, old, other] = group.joined([dynamic(), named("one"), dynamic()]).await;
    let (parked, others) = (old.sync(&[]).await, other.sync(&[]).await);
    parked.assert_unanswered().await;
    others.assert_unanswered().await;
    let new = group.join(&named("one"), "").await;
    assert_eq!(parked.answer().await.error_code, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(others.answer().await.error_code, ErrorCode::REBALANCE_IN_PROGRESS);
    let again = [leader.rejoin().await, other.rejoin().await, new];
    for joined in again {
        assert_eq!(joined.answer().await.generation_id, 3);
    }
}

#[tokio::test]
async fn a_static_member_that_does_not_come_back_in_time_stays_until_its_session_ends() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, away] = group.stable([dynamic().rebalance(SHORT), named("one").rebalance(SHORT)]).await;
    let joined = leader.rejoin().await.answer().await;
    assert_eq!((joined.generation_id, joined.members.len()), (3, 2));
    // It is a member of the generation that it did not join, in the place that it had.
    assert_eq!(away.heartbeat().await, ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(away.with_generation(3).heartbeat().await, ErrorCode::NONE);
}

#[tokio::test]
async fn another_leads_where_a_static_leader_is_away() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [away, follower] = group.stable([named("one").rebalance(SHORT), dynamic().rebalance(SHORT)]).await;
    let changed = dynamic().rebalance(SHORT).metadata(subscription(&[&"topic".into()]));
    let joined = follower.with_profile(changed).rejoin().await.answer().await;
    assert_eq!((&joined.leader, joined.generation_id, joined.members.len()), (&follower.id, 3, 2));
    assert_eq!(away.with_generation(3).heartbeat().await, ErrorCode::NONE);
}

#[tokio::test]
async fn a_silent_static_member_is_removed_after_its_session() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [alive, silent] = group.stable([dynamic(), named("one").session(SHORT)]).await;
    group.until("PreparingRebalance", 1).await;
    assert_eq!(silent.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(silent.rejoin().await.answer().await.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    let new = group.join(&named("one"), "").await;
    // The rebalance ends when all who are there by then have joined.
    group.until("PreparingRebalance", 2).await;
    assert_eq!(alive.rejoin().await.answer().await.members.len(), 2);
    assert_ne!(new.answer().await.member_id, silent.id);
}

/// Kafka counts the first session of the new self with the timeout of the old one.
#[tokio::test]
async fn the_session_of_a_new_self_counts_from_its_first_heartbeat() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [_leader, old] = group.stable([dynamic(), named("one")]).await;
    let short = named("one").session(SHORT);
    let new = group.member(&short, &group.join(&short, "").await.answer().await);
    assert_eq!(new.heartbeat().await, ErrorCode::NONE);
    group.until("PreparingRebalance", 1).await;
    assert_eq!(new.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(old.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test]
async fn an_instance_id_belongs_to_one_member() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, static_one] = group.stable([dynamic(), named("one")]).await;
    let refused = group.join(&named("one"), &leader.id).await.answer().await;
    assert_eq!((refused.error_code, &refused.member_id), (ErrorCode::FENCED_INSTANCE_ID, &leader.id));
    assert_eq!(group.refused(&named("one"), "nobody").await, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(group.refused(&named("two"), &leader.id).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(group.refused(&named("two"), &static_one.id).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(leader.heartbeat().await, ErrorCode::NONE);
}
