//! JoinGroup: who gets in, when a generation begins, and who leads it.

use std::time::Duration;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::{HeartbeatRequest, JoinGroupRequest, JoinGroupResponse};
use tokio::time::Instant;

use crate::broker::{Broker, MAX_SESSION, MAX_SIZE, MIN_SESSION};
use crate::client::CLIENT_ID;
use crate::member::{Profile, SHORT, dynamic, named, subscription};
use crate::quirks::Quirk;

const NOBODY: i32 = -1;

#[tokio::test]
async fn an_empty_group_id_is_refused_before_anything_else() {
    let broker = Broker::start().await;
    let group = broker.find("".into()).await;
    let joined = group.join(&dynamic().session(Duration::ZERO).protocols(&[]), "me").await.answer().await;
    assert_eq!(joined.error_code, ErrorCode::INVALID_GROUP_ID);
    assert_eq!(joined.member_id, "me");
}

#[tokio::test]
async fn a_session_is_as_long_as_the_broker_allows() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let tick = Duration::from_millis(1);
    for session in [Duration::ZERO, MIN_SESSION - tick, MAX_SESSION + tick] {
        let joined = group.join(&dynamic().session(session).protocols(&[]), "me").await.answer().await;
        assert_eq!(joined.error_code, ErrorCode::INVALID_SESSION_TIMEOUT, "{session:?}");
        assert_eq!(joined.member_id, "me");
    }
    group.assert_state("Dead").await;
    for session in [MIN_SESSION, MAX_SESSION] {
        group.new_id(&dynamic().session(session)).await;
    }
}

#[tokio::test]
async fn a_new_dynamic_member_is_given_an_id_and_asked_to_return() {
    let broker = Broker::start().await;
    for version in 4..=9 {
        let group = broker.group().await;
        let profile = dynamic().version(version);
        let asked = group.join(&profile, "").await.answer().await;
        assert_eq!(asked.error_code, ErrorCode::MEMBER_ID_REQUIRED, "v{version}");
        assert!(asked.member_id.starts_with(&format!("{CLIENT_ID}-")), "{}", asked.member_id);
        assert_eq!((asked.generation_id, &*asked.leader, asked.members.len()), (NOBODY, "", 0));
        group.until("Empty", 0).await;
        let joined = group.join(&profile, &asked.member_id).await.answer().await;
        assert_leads_alone(&joined, version);
        assert_eq!(joined.member_id, asked.member_id);
    }
}

#[tokio::test]
async fn before_version_4_a_new_member_is_in_at_once() {
    let broker = Broker::start().await;
    for version in 0..4 {
        let group = broker.group().await;
        let joined = group.join(&dynamic().version(version), "").await.answer().await;
        assert_leads_alone(&joined, version);
        assert!(joined.member_id.starts_with(&format!("{CLIENT_ID}-")), "{}", joined.member_id);
    }
}

fn assert_leads_alone(joined: &JoinGroupResponse, version: i16) {
    assert_eq!(joined.error_code, ErrorCode::NONE, "v{version}");
    assert_eq!(joined.generation_id, 1);
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.protocol_type.as_deref(), (version >= 7).then_some("consumer"));
    assert_eq!(joined.leader, joined.member_id);
    assert!(!joined.skip_assignment);
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.members[0].member_id, joined.member_id);
    assert_eq!(joined.members[0].group_instance_id, None);
    assert_eq!(joined.members[0].metadata, subscription(&[]));
}

#[tokio::test]
async fn an_id_that_was_never_given_is_unknown() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let joined = group.join(&dynamic(), "nobody").await.answer().await;
    assert_eq!((joined.error_code, &*joined.member_id), (ErrorCode::UNKNOWN_MEMBER_ID, "nobody"));
    group.assert_state("Dead").await;

    let [leader] = group.stable([dynamic()]).await;
    let joined = group.join(&dynamic(), "nobody").await.answer().await;
    assert_eq!((joined.error_code, &*joined.member_id), (ErrorCode::UNKNOWN_MEMBER_ID, "nobody"));
    assert_eq!(leader.leave().await, ErrorCode::NONE);
    group.until("Empty", 0).await;
    assert_eq!(group.refused(&dynamic(), "nobody").await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(group.refused(&dynamic(), &leader.id).await, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test]
async fn a_group_has_a_protocol_type_and_protocols() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    for profile in [dynamic().protocols(&[]), dynamic().kind(""), named("one").protocols(&[])] {
        let joined = group.join(&profile, "").await.answer().await;
        assert_eq!(joined.error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        assert_eq!(joined.member_id, "");
    }
}

#[tokio::test]
async fn all_members_have_a_protocol_in_common() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader] = group.stable([dynamic().protocols(&["a", "b"])]).await;
    for profile in [
        dynamic().protocols(&["c"]),
        dynamic().protocols(&[]),
        dynamic().protocols(&["a"]).kind("connect"),
        named("one").protocols(&["c"]),
    ] {
        // Before the new member is given an id, and before the id that it claims is looked at.
        let joined = group.join(&profile, "").await.answer().await;
        assert_eq!((joined.error_code, &*joined.member_id), (ErrorCode::INCONSISTENT_GROUP_PROTOCOL, ""));
        let joined = group.join(&profile, "nobody").await.answer().await;
        assert_eq!(
            (joined.error_code, &*joined.member_id),
            (ErrorCode::INCONSISTENT_GROUP_PROTOCOL, "nobody")
        );
    }
    // A member has itself to agree with as well.
    let changed = leader.with_profile(dynamic().protocols(&["c"]));
    assert_eq!(changed.rejoin().await.answer().await.error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(leader.heartbeat().await, ErrorCode::NONE);
}

#[tokio::test]
async fn the_protocol_that_most_members_prefer_wins_among_those_that_all_know() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let profiles =
        [&["a", "b", "x"][..], &["c", "b", "a"], &["b", "a"]].map(|names| dynamic().protocols(names));
    let members = group.joined(profiles).await;
    let joined = members[0].rejoin().await.answer().await;
    assert_eq!(joined.protocol_name.as_deref(), Some("b"));
    // The leader is given what each has to say about the chosen one.
    assert_eq!(joined.members.len(), 3);
    assert!(joined.members.iter().all(|member| &*member.metadata == b"b"));
}

#[tokio::test]
async fn only_the_leader_is_told_the_members() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, follower] = group.joined([dynamic(), dynamic()]).await;
    let (first, second) = (leader.rejoin().await.answer().await, follower.rejoin().await.answer().await);
    assert_eq!((first.leader.clone(), second.leader.clone()), (leader.id.clone(), leader.id.clone()));
    let mut ids: Vec<_> = first.members.iter().map(|member| &member.member_id).collect();
    let mut expected = vec![&leader.id, &follower.id];
    ids.sort();
    expected.sort();
    assert_eq!((ids, second.members.len()), (expected, 0));
}

#[tokio::test]
async fn a_join_waits_until_all_have_come_back() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, follower] = group.stable([dynamic(), dynamic()]).await;
    assert_eq!(leader.generation, 2);
    let new = group.enter(&dynamic()).await;
    group.until("PreparingRebalance", 3).await;
    let leader_again = leader.rejoin().await;
    new.assert_unanswered().await;
    leader_again.assert_unanswered().await;
    let follower_again = follower.rejoin().await;
    for parked in [new, leader_again, follower_again] {
        let joined = parked.answer().await;
        assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 3));
        assert_eq!(joined.leader, leader.id);
    }
    group.assert_state("CompletingRebalance").await;
}

#[tokio::test]
async fn what_is_sent_behind_a_parked_join_waits_for_it() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader] = group.stable([dynamic()]).await;
    let profile = dynamic();
    let id = group.new_id(&profile).await;
    let mut connection = group.join(&profile, &id).await.into_client();
    let heartbeat = HeartbeatRequest {
        group_id: group.id.clone(),
        generation_id: 2,
        member_id: id,
        ..Default::default()
    };
    connection.send(4, &heartbeat).await.unwrap();
    group.until("PreparingRebalance", 2).await;
    assert!(!connection.has_answer().await);
    let again = leader.rejoin().await.answer().await;
    assert_eq!(again.generation_id, 2);
    let joined = connection.receive::<JoinGroupRequest>(1, profile.version).await.unwrap();
    assert_eq!(joined.generation_id, 2);
    let beaten = connection.receive::<HeartbeatRequest>(2, 4).await.unwrap();
    assert_eq!(beaten.error_code, ErrorCode::NONE);
}

#[tokio::test]
async fn a_repeated_join_takes_the_place_of_the_parked_one() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader] = group.stable([dynamic()]).await;
    let profile = dynamic();
    let id = group.new_id(&profile).await;
    let lost = group.join(&profile, &id).await;
    group.until("PreparingRebalance", 2).await;
    // The client gave up its connection and connects anew.
    let repeated = group.join(&profile.clone().protocols(&["range", "repeated"]), &id).await;
    repeated.assert_unanswered().await;
    let joined = leader.rejoin().await.answer().await;
    assert_eq!(joined.members.len(), 2);
    assert_eq!(repeated.answer().await.generation_id, 2);
    lost.assert_unanswered().await;
}

#[tokio::test]
async fn a_follower_that_joins_again_unchanged_is_told_where_the_group_stands() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, follower] = group.stable([dynamic(), dynamic()]).await;
    let again = follower.rejoin().await.answer().await;
    assert_eq!((again.error_code, again.generation_id), (ErrorCode::NONE, 2));
    assert_eq!((&again.leader, again.members.len()), (&leader.id, 0));
    assert_eq!(
        (again.protocol_name.as_deref(), again.protocol_type.as_deref()),
        (Some("range"), Some("consumer"))
    );
    group.assert_state("Stable").await;
    assert_eq!(leader.heartbeat().await, ErrorCode::NONE);
}

#[tokio::test]
async fn a_follower_that_joins_again_changed_starts_a_rebalance() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, follower] = group.stable([dynamic(), dynamic()]).await;
    let changed = subscription(&[&"topic".into()]);
    let parked = follower.with_profile(dynamic().metadata(changed.clone())).rejoin().await;
    group.until("PreparingRebalance", 2).await;
    assert_eq!(leader.heartbeat().await, ErrorCode::REBALANCE_IN_PROGRESS);
    let joined = leader.rejoin().await.answer().await;
    assert_eq!(joined.generation_id, 3);
    let metadata =
        |id: &str| joined.members.iter().find(|member| member.member_id == *id).unwrap().metadata.clone();
    assert_eq!(metadata(&follower.id), changed);
    assert_eq!(parked.answer().await.generation_id, 3);
}

#[tokio::test]
async fn a_leader_that_joins_again_starts_a_rebalance() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, follower] = group.stable([dynamic(), dynamic()]).await;
    let parked = leader.rejoin().await;
    group.until("PreparingRebalance", 2).await;
    parked.assert_unanswered().await;
    assert_eq!(follower.heartbeat().await, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(follower.rejoin().await.answer().await.generation_id, 3);
    assert_eq!(parked.answer().await.generation_id, 3);
}

#[tokio::test]
async fn whoever_joins_again_unchanged_before_the_sync_is_told_the_generation_again() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, follower] = group.joined([dynamic(), dynamic()]).await;
    let again = leader.rejoin().await.answer().await;
    assert_eq!((again.error_code, again.generation_id, again.members.len()), (ErrorCode::NONE, 2, 2));
    let again = follower.rejoin().await.answer().await;
    assert_eq!((again.error_code, again.generation_id, again.members.len()), (ErrorCode::NONE, 2, 0));
    group.assert_state("CompletingRebalance").await;
}

#[tokio::test]
async fn whoever_joins_again_changed_before_the_sync_starts_another_rebalance() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, follower] = group.joined([dynamic(), dynamic()]).await;
    let syncing = follower.sync(&[]).await;
    syncing.assert_unanswered().await;
    let changed = leader.with_profile(changed()).rejoin().await;
    assert_eq!(syncing.answer().await.error_code, ErrorCode::REBALANCE_IN_PROGRESS);
    group.assert_state("PreparingRebalance").await;
    assert_eq!(follower.rejoin().await.answer().await.generation_id, 3);
    assert_eq!(changed.answer().await.generation_id, 3);
}

#[tokio::test]
async fn who_does_not_come_back_within_the_rebalance_timeout_is_removed() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let short = || dynamic().rebalance(SHORT);
    let [leader, gone] = group.stable([short(), short()]).await;
    let again = leader.rejoin().await.answer().await;
    assert_eq!((again.error_code, again.generation_id, again.members.len()), (ErrorCode::NONE, 3, 1));
    assert_eq!(gone.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(gone.rejoin().await.answer().await.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test]
async fn the_longest_rebalance_timeout_of_the_members_counts() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    const LONGEST: Duration = Duration::from_millis(900);
    let long = || dynamic().rebalance(LONGEST);
    let [leader, _gone] = group.stable([long(), long()]).await;
    let leader = leader.with_profile(dynamic().rebalance(Duration::from_millis(1)));
    let begun = Instant::now();
    let again = leader.rejoin().await.answer().await;
    assert_eq!(again.members.len(), 1);
    assert!(begun.elapsed() >= LONGEST, "{:?}", begun.elapsed());
}

/// JoinGroup had one timeout before version 1.
#[tokio::test]
async fn in_version_0_the_session_is_the_rebalance_timeout() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    const SESSION: Duration = Duration::from_millis(900);
    let [old] = group.stable([dynamic().version(0).session(SESSION)]).await;
    let new = group.enter(&dynamic().rebalance(Duration::from_millis(1))).await;
    let begun = Instant::now();
    // It lives, and does not come back.
    while old.heartbeat().await == ErrorCode::REBALANCE_IN_PROGRESS {
        tokio::time::sleep(SESSION / 10).await;
    }
    let joined = new.answer().await;
    assert_eq!((joined.generation_id, joined.members.len()), (2, 1));
    assert!(begun.elapsed() >= SESSION / 2, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn another_leads_where_the_leader_did_not_come_back() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let short = || dynamic().rebalance(SHORT);
    let [gone, follower] = group.stable([short(), short()]).await;
    let joined = follower.with_profile(changed().rebalance(SHORT)).rejoin().await.answer().await;
    assert_eq!((&joined.leader, joined.generation_id, joined.members.len()), (&follower.id, 3, 1));
    assert_eq!(gone.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test]
async fn a_generation_waits_for_members_that_were_given_an_id() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader] = group.stable([dynamic()]).await;
    let id = group.new_id(&dynamic()).await;
    // Being asked to return disturbs nobody yet.
    assert_eq!(leader.heartbeat().await, ErrorCode::NONE);
    let parked = leader.rejoin().await;
    group.until("PreparingRebalance", 1).await;
    parked.assert_unanswered().await;
    let joined = group.join(&dynamic(), &id).await.answer().await;
    assert_eq!((joined.generation_id, &joined.leader), (2, &leader.id));
    assert_eq!(parked.answer().await.members.len(), 2);
}

#[tokio::test]
async fn an_id_that_is_not_used_within_its_session_is_forgotten() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader] = group.stable([dynamic()]).await;
    let id = group.new_id(&dynamic().session(SHORT)).await;
    assert_eq!(leader.rejoin().await.answer().await.members.len(), 1);
    assert_eq!(group.refused(&dynamic(), &id).await, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test]
async fn a_generation_does_not_wait_for_an_id_that_was_given_back() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader] = group.stable([dynamic()]).await;
    let pending = leader.with_id(&group.new_id(&dynamic()).await);
    let parked = leader.rejoin().await;
    group.until("PreparingRebalance", 1).await;
    assert_eq!(pending.leave().await, ErrorCode::NONE);
    assert_eq!(parked.answer().await.members.len(), 1);
    assert_eq!(pending.rejoin().await.answer().await.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test]
async fn an_id_given_to_a_dynamic_member_is_not_for_a_static_one() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let id = group.new_id(&dynamic()).await;
    let expected = if broker.has(Quirk::StaticMemberWithPendingIdIsAnAccident) {
        ErrorCode::UNKNOWN_SERVER_ERROR
    } else {
        ErrorCode::UNKNOWN_MEMBER_ID
    };
    assert_eq!(group.refused(&named("one"), &id).await, expected);
}

#[tokio::test]
async fn a_group_has_only_so_many_members() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let members: [_; MAX_SIZE] = group.stable(std::array::from_fn(|_| dynamic())).await;
    for profile in [dynamic(), dynamic().version(3), named("one")] {
        let refused = group.join(&profile, "").await.answer().await;
        assert_eq!((refused.error_code, &*refused.member_id), (ErrorCode::GROUP_MAX_SIZE_REACHED, ""));
    }
    // Those who are in are let in again, and those who could be are not kept out by who once was.
    let again = members[1].rejoin().await.answer().await;
    assert_eq!((again.error_code, again.generation_id), (ErrorCode::NONE, 2));
    let refused = group.join(&dynamic(), "nobody").await.answer().await;
    assert_eq!((refused.error_code, &*refused.member_id), (ErrorCode::GROUP_MAX_SIZE_REACHED, ""));
    assert_eq!(members[1].leave().await, ErrorCode::NONE);
    group.new_id(&dynamic()).await;
}

/// More may be given an id than there is room for: room is counted when they join.
#[tokio::test]
async fn who_comes_back_too_late_finds_the_group_full() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    // Kafka forgets the one that it refuses, and does not notice that it need not wait for it any more: it waits as long
    // as the most patient who has joined when the rebalance begins, and any of these may be the first that it reads. All of
    // what follows has to be said meanwhile, on a busy machine, too.
    const REBALANCE: Duration = Duration::from_secs(10);
    let profiles = std::array::from_fn(|_| dynamic().rebalance(REBALANCE));
    let members: [_; MAX_SIZE - 1] = group.stable(profiles).await;
    let ids = [group.new_id(&dynamic()).await, group.new_id(&dynamic()).await];
    let mut parked = Vec::new();
    for member in &members {
        parked.push(member.with_profile(changed().rebalance(REBALANCE)).rejoin().await);
    }
    parked.push(group.join(&dynamic().rebalance(REBALANCE), &ids[0]).await);
    group.until("PreparingRebalance", MAX_SIZE).await;
    let refused = group.join(&dynamic(), &ids[1]).await.answer().await;
    assert_eq!((refused.error_code, &*refused.member_id), (ErrorCode::GROUP_MAX_SIZE_REACHED, ""));
    for parked in parked {
        assert_eq!(parked.answer().await.generation_id, 3);
    }
}

/// Metadata that differs from what [`dynamic`] has.
fn changed() -> Profile {
    dynamic().metadata(subscription(&[&"topic".into()]))
}
