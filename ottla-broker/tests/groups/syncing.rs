//! SyncGroup: how the leader's assignment reaches the members, and who is not given one.

use ottla_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use ottla_protocol::{ErrorCode, Str};

use crate::broker::Broker;
use crate::member::{Member, SHORT, dynamic, named};

#[tokio::test]
async fn followers_wait_for_the_leaders_assignment() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, one, two] = group.joined([dynamic(), dynamic(), dynamic()]).await;
    let parked =
        [one.sync(&[]).await, two.sync(&[(leader.id.clone(), "a follower has no say".into())]).await];
    for parked in &parked {
        parked.assert_unanswered().await;
    }
    group.assert_state("CompletingRebalance").await;
    // The second is forgotten, and somebody unknown is thought of.
    let assignments =
        [(leader.id.clone(), "a".into()), (one.id.clone(), "b".into()), ("nobody".into(), "c".into())];
    let synced = leader.sync(&assignments).await.answer().await;
    assert_eq!((synced.error_code, &*synced.assignment), (ErrorCode::NONE, &b"a"[..]));
    group.assert_state("Stable").await;
    for (parked, assignment) in parked.into_iter().zip([&b"b"[..], b""]) {
        let synced = parked.answer().await;
        assert_eq!((synced.error_code, &*synced.assignment), (ErrorCode::NONE, assignment));
        assert_eq!(
            (synced.protocol_type.as_deref(), synced.protocol_name.as_deref()),
            (Some("consumer"), Some("range"))
        );
    }
}

#[tokio::test]
async fn a_stable_group_gives_each_its_assignment_again() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let members = group.stable([dynamic(), dynamic()]).await;
    for member in &members {
        // Also the leader has no say any more.
        let synced = member.sync(&[(member.id.clone(), "something else".into())]).await.answer().await;
        assert_eq!((synced.error_code, synced.assignment), (ErrorCode::NONE, member.share()));
    }
}

#[tokio::test]
async fn each_version_says_what_it_can() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [member] = group.stable([dynamic()]).await;
    for version in broker.versions::<SyncGroupRequest>() {
        let synced = sync_in(&member, version).await;
        assert_eq!((synced.error_code, synced.assignment), (ErrorCode::NONE, member.share()), "v{version}");
        let expected = if version >= 5 { (Some("consumer"), Some("range")) } else { (None, None) };
        assert_eq!(
            (synced.protocol_type.as_deref(), synced.protocol_name.as_deref()),
            expected,
            "v{version}"
        );
        let refused = sync_in(&member.with_id("nobody"), version).await;
        assert_eq!(refused.error_code, ErrorCode::UNKNOWN_MEMBER_ID, "v{version}");
        assert_eq!((refused.protocol_type, refused.protocol_name, refused.assignment.len()), (None, None, 0));
    }
}

async fn sync_in(member: &Member, version: i16) -> SyncGroupResponse {
    member.group.call(version, &member.sync_request(&[])).await
}

#[tokio::test]
async fn an_empty_group_id_is_refused() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [mut member] = group.stable([dynamic()]).await;
    member.group.id = Str::default();
    assert_eq!(member.synced().await, ErrorCode::INVALID_GROUP_ID);
}

#[tokio::test]
async fn what_is_wrong_is_told_member_first_then_generation_then_protocol() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, follower, static_one] = group.joined([dynamic(), dynamic(), named("one")]).await;
    for member in [&leader, &follower] {
        check_order(member).await;
    }
    group.settle(&[leader.clone(), follower.clone(), static_one.clone()]).await;
    check_order(&leader).await;

    let wrong = static_one.with_generation(7).with_profile(named("one").kind("connect"));
    assert_eq!(wrong.with_instance("two").synced().await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(wrong.with_id("nobody").synced().await, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(wrong.with_id(&leader.id).synced().await, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(wrong.synced().await, ErrorCode::ILLEGAL_GENERATION);
}

async fn check_order(member: &Member) {
    let foreign = member.with_profile(dynamic().kind("connect"));
    let other = member.with_profile(dynamic().protocols(&["roundrobin"]));
    assert_eq!(foreign.with_id("nobody").with_generation(7).synced().await, ErrorCode::UNKNOWN_MEMBER_ID);
    for generation in [-1, 0, member.generation - 1, member.generation + 1] {
        assert_eq!(foreign.with_generation(generation).synced().await, ErrorCode::ILLEGAL_GENERATION);
    }
    assert_eq!(foreign.synced().await, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(other.synced().await, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
}

/// They are mandatory from version 5 on (KIP-559), and are looked for before anything else.
#[tokio::test]
async fn protocol_type_and_name_may_not_be_missing() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [member] = group.stable([dynamic()]).await;
    let whole = member.sync_request(&[]);
    for request in [
        SyncGroupRequest { protocol_type: None, ..whole.clone() },
        SyncGroupRequest { protocol_name: None, ..whole.clone() },
        SyncGroupRequest { protocol_name: None, member_id: "nobody".into(), ..whole.clone() },
        SyncGroupRequest { protocol_type: None, group_id: Str::default(), ..whole },
    ] {
        let synced = group.call(5, &request).await;
        assert_eq!(synced.error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
}

#[tokio::test]
async fn a_group_without_members_knows_nobody() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [member] = group.stable([dynamic()]).await;
    let mut elsewhere = member.clone();
    elsewhere.group = broker.group().await;
    assert_eq!(elsewhere.synced().await, ErrorCode::UNKNOWN_MEMBER_ID);
    let pending = member.with_id(&group.new_id(&dynamic()).await);
    assert_eq!(pending.synced().await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(member.leave().await, ErrorCode::NONE);
    group.until("Empty", 0).await;
    assert_eq!(member.synced().await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(pending.with_generation(2).synced().await, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test]
async fn during_a_rebalance_a_member_is_told_to_join_again() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, follower] = group.stable([dynamic(), dynamic()]).await;
    let rejoining = leader.rejoin().await;
    group.until("PreparingRebalance", 2).await;
    assert_eq!(follower.synced().await, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(leader.synced().await, ErrorCode::REBALANCE_IN_PROGRESS);
    // The generation is still the old one.
    assert_eq!(follower.with_generation(3).synced().await, ErrorCode::ILLEGAL_GENERATION);
    rejoining.assert_unanswered().await;
    assert_eq!(follower.rejoin().await.answer().await.generation_id, 3);
    assert_eq!(follower.synced().await, ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(rejoining.answer().await.generation_id, 3);
}

#[tokio::test]
async fn a_parked_sync_is_told_of_a_new_member() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, follower] = group.joined([dynamic(), dynamic()]).await;
    let syncing = follower.sync(&[]).await;
    syncing.assert_unanswered().await;
    let joining = group.enter(&dynamic()).await;
    let synced = syncing.answer().await;
    assert_eq!((synced.error_code, synced.assignment.len()), (ErrorCode::REBALANCE_IN_PROGRESS, 0));
    assert_eq!((synced.protocol_type, synced.protocol_name), (None, None));
    assert_eq!(leader.synced().await, ErrorCode::REBALANCE_IN_PROGRESS);
    let again = [leader.rejoin().await, follower.rejoin().await, joining];
    for joined in again {
        assert_eq!(joined.answer().await.generation_id, 3);
    }
}

#[tokio::test]
async fn a_leader_that_does_not_sync_within_the_rebalance_timeout_is_removed() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let short = || dynamic().rebalance(SHORT);
    let [leader, follower] = group.joined([short(), short()]).await;
    let parked = follower.sync(&[]).await;
    assert_eq!(parked.answer().await.error_code, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(leader.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    let joined = follower.rejoin().await.answer().await;
    assert_eq!((&joined.leader, joined.generation_id, joined.members.len()), (&follower.id, 3, 1));
}

#[tokio::test]
async fn a_follower_that_does_not_sync_within_the_rebalance_timeout_is_removed() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let short = || dynamic().rebalance(SHORT);
    let [leader, follower] = group.joined([short(), short()]).await;
    assert_eq!(leader.synced().await, ErrorCode::NONE);
    group.assert_state("Stable").await;
    // A heartbeat is no sync.
    group.until("PreparingRebalance", 1).await;
    assert_eq!(leader.heartbeat().await, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(follower.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(leader.rejoin().await.answer().await.members.len(), 1);
}
