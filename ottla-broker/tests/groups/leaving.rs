//! LeaveGroup: members that say so when they go, and static ones that an administrator removes.

use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use ottla_protocol::{ErrorCode, Str};

use crate::broker::Broker;
use crate::group::Group;
use crate::member::{dynamic, named};

/// Has members leave together, which is possible from version 3 on.
async fn leave(group: &Group, version: i16, members: &[(&str, Option<&str>)]) -> LeaveGroupResponse {
    let identity = |(member_id, instance): &(&str, Option<&str>)| MemberIdentity {
        member_id: Str::from(*member_id),
        group_instance_id: instance.map(Str::from),
        reason: None,
    };
    let members = members.iter().map(identity).collect();
    let request = LeaveGroupRequest { group_id: group.id.clone(), members, ..Default::default() };
    group.call(version, &request).await
}

/// The same, alone, as before version 3.
async fn leave_alone(group: &Group, version: i16, member_id: &str) -> LeaveGroupResponse {
    let request = LeaveGroupRequest {
        group_id: group.id.clone(),
        member_id: Str::from(member_id),
        ..LeaveGroupRequest::default()
    };
    group.call(version, &request).await
}

fn codes(left: &LeaveGroupResponse) -> Vec<ErrorCode> {
    left.members.iter().map(|member| member.error_code).collect()
}

#[tokio::test]
async fn the_others_share_what_one_leaves_behind() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, gone] = group.stable([dynamic(), dynamic()]).await;
    assert_eq!(gone.leave().await, ErrorCode::NONE);
    assert_eq!(gone.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    group.until("PreparingRebalance", 1).await;
    assert_eq!(leader.heartbeat().await, ErrorCode::REBALANCE_IN_PROGRESS);
    let joined = leader.rejoin().await.answer().await;
    assert_eq!((joined.generation_id, joined.members.len()), (3, 1));
}

#[tokio::test]
async fn a_group_that_all_have_left_is_empty_in_a_generation_of_its_own() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [member] = group.stable([dynamic()]).await;
    assert_eq!(member.leave().await, ErrorCode::NONE);
    group.until("Empty", 0).await;
    assert_eq!(member.leave().await, ErrorCode::UNKNOWN_MEMBER_ID);
    let [next] = group.stable([dynamic()]).await;
    assert_eq!(next.generation, 3);
}

#[tokio::test]
async fn before_version_3_one_leaves_alone() {
    let broker = Broker::start().await;
    for version in 0..3 {
        let group = broker.group().await;
        assert_eq!(leave_alone(&group, version, "nobody").await.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
        let [member] = group.stable([dynamic()]).await;
        assert_eq!(leave_alone(&group, version, "nobody").await.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
        assert_eq!(leave_alone(&group, version, &member.id).await.error_code, ErrorCode::NONE);
        group.until("Empty", 0).await;
    }
}

#[tokio::test]
async fn several_leave_together_and_each_is_told() {
    let broker = Broker::start().await;
    for version in 3..=broker.newest::<LeaveGroupRequest>() {
        let group = broker.group().await;
        let [one, two, three] = group.stable([dynamic(), named("two"), named("three")]).await;
        let left = leave(
            &group,
            version,
            &[
                ("nobody", None),
                (&two.id, Some("two")),
                (&one.id, None),
                (&one.id, None),
                ("nobody", Some("three")),
                (&three.id, Some("four")),
            ],
        )
        .await;
        assert_eq!(left.error_code, ErrorCode::NONE);
        let expected = [
            ErrorCode::UNKNOWN_MEMBER_ID,
            ErrorCode::NONE,
            ErrorCode::NONE,
            ErrorCode::UNKNOWN_MEMBER_ID,
            ErrorCode::FENCED_INSTANCE_ID,
            ErrorCode::UNKNOWN_MEMBER_ID,
        ];
        assert_eq!(codes(&left), expected, "v{version}");
        assert_eq!(
            (&left.members[1].member_id, left.members[1].group_instance_id.as_deref()),
            (&two.id, Some("two"))
        );
        group.until("PreparingRebalance", 1).await;
        assert_eq!(three.heartbeat().await, ErrorCode::REBALANCE_IN_PROGRESS);
    }
}

#[tokio::test]
async fn an_administrator_removes_static_members_by_their_instance() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, removed] = group.stable([dynamic(), named("one")]).await;
    let left = leave(&group, 5, &[("", Some("one")), ("", Some("two")), ("", None)]).await;
    assert_eq!(codes(&left), [ErrorCode::NONE, ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::UNKNOWN_MEMBER_ID]);
    assert_eq!(
        (&*left.members[0].member_id, left.members[0].group_instance_id.as_deref()),
        ("", Some("one"))
    );
    group.until("PreparingRebalance", 1).await;
    assert_eq!(removed.heartbeat().await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(leader.heartbeat().await, ErrorCode::REBALANCE_IN_PROGRESS);
}

#[tokio::test]
async fn nobody_leaves_a_group_that_is_not_there() {
    let broker = Broker::start().await;
    let mut group = broker.group().await;
    let left = leave(&group, 5, &[("nobody", None), ("", Some("one"))]).await;
    assert_eq!(left.error_code, ErrorCode::NONE);
    assert_eq!(codes(&left), [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::UNKNOWN_MEMBER_ID]);
    assert_eq!(left.members[1].group_instance_id.as_deref(), Some("one"));
    group.id = Str::default();
    let left = leave(&group, 5, &[("nobody", None)]).await;
    assert_eq!((left.error_code, left.members.len()), (ErrorCode::INVALID_GROUP_ID, 0));
    assert_eq!(leave_alone(&group, 2, "nobody").await.error_code, ErrorCode::INVALID_GROUP_ID);
}

#[tokio::test]
async fn nobody_leaving_changes_nothing() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [member] = group.stable([dynamic()]).await;
    assert_eq!(leave(&group, 5, &[]).await.members, []);
    assert_eq!(codes(&leave(&group, 5, &[("nobody", None)]).await), [ErrorCode::UNKNOWN_MEMBER_ID]);
    group.assert_state("Stable").await;
    assert_eq!(member.heartbeat().await, ErrorCode::NONE);
}

#[tokio::test]
async fn a_rebalance_does_not_wait_for_who_has_left() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, gone] = group.stable([dynamic(), dynamic()]).await;
    let parked = leader.rejoin().await;
    group.until("PreparingRebalance", 2).await;
    assert_eq!(gone.leave().await, ErrorCode::NONE);
    let joined = parked.answer().await;
    assert_eq!((joined.generation_id, joined.members.len()), (3, 1));
}

#[tokio::test]
async fn who_leaves_while_others_sync_starts_a_rebalance() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, follower] = group.joined([dynamic(), dynamic()]).await;
    let parked = follower.sync(&[]).await;
    parked.assert_unanswered().await;
    assert_eq!(leader.leave().await, ErrorCode::NONE);
    assert_eq!(parked.answer().await.error_code, ErrorCode::REBALANCE_IN_PROGRESS);
    let joined = follower.rejoin().await.answer().await;
    assert_eq!((&joined.leader, joined.generation_id), (&follower.id, 3));
}

#[tokio::test]
async fn the_parked_join_of_who_leaves_is_answered() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, waiting] = group.stable([dynamic(), dynamic()]).await;
    let parked = leader.rejoin().await;
    group.until("PreparingRebalance", 2).await;
    assert_eq!(leader.leave().await, ErrorCode::NONE);
    let refused = parked.answer().await;
    assert_eq!((refused.error_code, &*refused.member_id), (ErrorCode::UNKNOWN_MEMBER_ID, ""));
    // The other one leads now.
    let joined = waiting.rejoin().await.answer().await;
    assert_eq!((&joined.leader, joined.members.len()), (&waiting.id, 1));
}

#[tokio::test]
async fn a_pending_member_gives_its_id_back() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let id = group.new_id(&dynamic()).await;
    assert_eq!(codes(&leave(&group, 5, &[(&id, None)]).await), [ErrorCode::NONE]);
    assert_eq!(codes(&leave(&group, 5, &[(&id, None)]).await), [ErrorCode::UNKNOWN_MEMBER_ID]);
    assert_eq!(group.refused(&dynamic(), &id).await, ErrorCode::UNKNOWN_MEMBER_ID);
    group.assert_state("Empty").await;
}
