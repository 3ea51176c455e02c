//! Heartbeats, and what becomes of members that are not heard of.

use ottla_protocol::messages::HeartbeatRequest;
use ottla_protocol::{ErrorCode, Str};

use crate::broker::Broker;
use crate::member::{Member, SHORT, dynamic, named};

/// Heartbeats within a session, and the sessions that a member is kept alive for: long enough to see that it works.
const BEATS: u32 = 8;
const SESSIONS: u32 = 2;

/// Has time pass as a living member sees it: each heartbeat is answered with `expected`.
async fn beat(member: &Member, expected: ErrorCode) {
    let mut pace = tokio::time::interval(SHORT / BEATS);
    for _ in 0..BEATS * SESSIONS {
        pace.tick().await;
        assert_eq!(member.heartbeat().await, expected);
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_member_first_then_generation() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, static_one] = group.stable([dynamic(), named("one")]).await;
    assert_eq!(leader.with_id("nobody").with_generation(7).heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(leader.with_id("").heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    for generation in [-1, 0, 1, 3] {
        assert_eq!(leader.with_generation(generation).heartbeat().await, ErrorCode::ILLEGAL_GENERATION);
    }
    let wrong = static_one.with_generation(7);
    assert_eq!(wrong.with_instance("two").heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(wrong.with_id("nobody").heartbeat().await, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(wrong.heartbeat().await, ErrorCode::ILLEGAL_GENERATION);
    // A static member may omit its instance id.
    assert_eq!(static_one.with_profile(dynamic()).heartbeat().await, ErrorCode::NONE);

    let mut elsewhere = leader.clone();
    elsewhere.group = broker.group().await;
    assert_eq!(elsewhere.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    elsewhere.group.id = Str::default();
    assert_eq!(elsewhere.heartbeat().await, ErrorCode::INVALID_GROUP_ID);
}

#[tokio::test]
async fn every_version_is_answered() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [member] = group.stable([dynamic()]).await;
    for version in broker.versions::<HeartbeatRequest>() {
        for (member_id, expected) in
            [(&member.id, ErrorCode::NONE), (&"nobody".into(), ErrorCode::UNKNOWN_MEMBER_ID)]
        {
            let request = HeartbeatRequest {
                group_id: group.id.clone(),
                generation_id: 1,
                member_id: member_id.clone(),
                group_instance_id: None,
            };
            assert_eq!(group.call(version, &request).await.error_code, expected, "v{version}");
        }
    }
}

#[tokio::test]
async fn a_heartbeat_tells_of_a_rebalance_only_while_members_are_to_join() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, follower] = group.joined([dynamic(), dynamic()]).await;
    group.assert_state("CompletingRebalance").await;
    assert_eq!(follower.heartbeat().await, ErrorCode::NONE);
    group.settle(&[leader.clone(), follower.clone()]).await;
    assert_eq!(follower.heartbeat().await, ErrorCode::NONE);
    let parked = leader.rejoin().await;
    group.until("PreparingRebalance", 2).await;
    assert_eq!(follower.heartbeat().await, ErrorCode::REBALANCE_IN_PROGRESS);
    // Also of the one that has joined and waits.
    assert_eq!(leader.heartbeat().await, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(follower.with_generation(3).heartbeat().await, ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(follower.rejoin().await.answer().await.generation_id, 3);
    assert_eq!(parked.answer().await.generation_id, 3);
    assert_eq!(follower.heartbeat().await, ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(follower.with_generation(3).heartbeat().await, ErrorCode::NONE);
}

#[tokio::test]
async fn a_pending_member_has_no_heartbeat() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [member] = group.stable([dynamic()]).await;
    let pending = member.with_id(&group.new_id(&dynamic()).await);
    assert_eq!(pending.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test]
async fn a_silent_member_is_removed_after_its_session() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [alive, silent] = group.stable([dynamic(), dynamic().session(SHORT)]).await;
    group.until("PreparingRebalance", 1).await;
    assert_eq!(silent.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(alive.heartbeat().await, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(alive.rejoin().await.answer().await.members.len(), 1);
}

#[tokio::test]
async fn a_group_whose_last_member_is_silent_becomes_empty_in_a_generation_of_its_own() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [silent] = group.stable([dynamic().session(SHORT)]).await;
    group.until("Empty", 0).await;
    assert_eq!(silent.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(silent.rejoin().await.answer().await.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    let [next] = group.stable([dynamic().kind("connect")]).await;
    assert_eq!(next.generation, 3);
}

#[tokio::test]
async fn heartbeats_keep_a_member() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [member] = group.stable([dynamic().session(SHORT)]).await;
    beat(&member, ErrorCode::NONE).await;
    group.until("Empty", 0).await;
}

#[tokio::test]
async fn heartbeats_keep_a_member_that_has_not_synced_yet() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [member] = group.joined([dynamic().session(SHORT)]).await;
    beat(&member, ErrorCode::NONE).await;
    group.assert_state("CompletingRebalance").await;
}

#[tokio::test]
async fn heartbeats_keep_a_member_that_has_not_joined_again_yet() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, member] = group.stable([dynamic(), dynamic().session(SHORT)]).await;
    let parked = leader.rejoin().await;
    group.until("PreparingRebalance", 2).await;
    beat(&member, ErrorCode::REBALANCE_IN_PROGRESS).await;
    parked.assert_unanswered().await;
    assert_eq!(member.rejoin().await.answer().await.generation_id, 3);
    assert_eq!(parked.answer().await.members.len(), 2);
}

#[tokio::test]
async fn commits_keep_a_member() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    let [leader, member] = group.stable([dynamic(), dynamic().session(SHORT)]).await;
    let mut pace = tokio::time::interval(SHORT / BEATS);
    for offset in 0..i64::from(BEATS * SESSIONS) {
        pace.tick().await;
        assert_eq!(member.commit(&topic, offset).await, ErrorCode::NONE);
    }
    let parked = leader.rejoin().await;
    group.until("PreparingRebalance", 2).await;
    for offset in 0..i64::from(BEATS * SESSIONS) {
        pace.tick().await;
        assert_eq!(member.commit(&topic, offset).await, ErrorCode::NONE);
    }
    parked.assert_unanswered().await;
    // Silence.
    assert_eq!(parked.answer().await.members.len(), 1);
}

#[tokio::test]
async fn a_heartbeat_that_is_refused_keeps_nobody() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [member] = group.stable([dynamic().session(SHORT)]).await;
    let wrong = member.with_generation(7);
    let mut pace = tokio::time::interval(SHORT / BEATS);
    while wrong.heartbeat().await == ErrorCode::ILLEGAL_GENERATION {
        pace.tick().await;
    }
    assert_eq!(member.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test]
async fn a_member_whose_join_is_parked_is_not_silent() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [waiting, silent] =
        group.stable([dynamic().session(SHORT), dynamic().session(SHORT * SESSIONS)]).await;
    let joined = waiting.rejoin().await.answer().await;
    // Nothing was heard of it for two of its sessions. The other one is gone.
    assert_eq!((joined.error_code, joined.members.len()), (ErrorCode::NONE, 1));
    assert_eq!(silent.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(waiting.with_generation(3).heartbeat().await, ErrorCode::NONE);
}

#[tokio::test]
async fn a_member_whose_sync_is_parked_is_not_silent() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, waiting, silent] =
        group.joined([dynamic(), dynamic().session(SHORT), dynamic().session(SHORT * SESSIONS)]).await;
    let parked = waiting.sync(&[]).await;
    // The one that neither waits nor beats is given up, and that is the end of this generation.
    assert_eq!(parked.answer().await.error_code, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(silent.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    // Two sessions late, and still a member.
    let joined = [leader.rejoin().await, waiting.rejoin().await];
    for joined in joined {
        assert_eq!(joined.answer().await.generation_id, 3);
    }
}

#[tokio::test]
async fn a_session_begins_with_the_answer_to_a_parked_sync() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, waiting] = group.joined([dynamic(), dynamic().session(SHORT)]).await;
    let parked = waiting.sync(&[]).await;
    beat(&leader, ErrorCode::NONE).await;
    assert_eq!(leader.synced().await, ErrorCode::NONE);
    assert_eq!(parked.answer().await.error_code, ErrorCode::NONE);
    group.assert_state("Stable").await;
    group.until("PreparingRebalance", 1).await;
    assert_eq!(waiting.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test]
async fn a_rebalance_does_not_wait_for_a_member_that_died() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, dead] = group.stable([dynamic(), dynamic().session(SHORT)]).await;
    // The rebalance timeout is minutes.
    let joined = leader.rejoin().await.answer().await;
    assert_eq!((joined.error_code, joined.generation_id, joined.members.len()), (ErrorCode::NONE, 3, 1));
    assert_eq!(dead.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
}
