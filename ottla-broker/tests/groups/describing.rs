//! DescribeGroups and ListGroups: what a group looks like from outside.

use std::slice;

use bytes::Bytes;
use ottla_protocol::messages::list_groups_response::ListedGroup;
use ottla_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, ListGroupsRequest};
use ottla_protocol::{ErrorCode, Str};

use crate::broker::{Broker, call, until};
use crate::client::CLIENT_ID;
use crate::group::Group;
use crate::member::{Member, dynamic, named, subscription};

/// Says that nobody asked.
const UNASKED: i32 = i32::MIN;
/// `AclOperation`: READ, DELETE, DESCRIBE.
const OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8;

async fn describe(group: &Group, version: i16) -> DescribeGroupsResponse {
    let request = DescribeGroupsRequest { groups: vec![group.id.clone()], ..Default::default() };
    group.call(version, &request).await
}

#[tokio::test]
async fn a_group_that_is_not_there_is_dead() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    for version in broker.versions::<DescribeGroupsRequest>() {
        let described = describe(&group, version).await;
        let described = &described.groups[0];
        // An error since version 6 (KIP-1043).
        let expected = if version >= 6 { ErrorCode::GROUP_ID_NOT_FOUND } else { ErrorCode::NONE };
        assert_eq!((described.error_code, &*described.group_state), (expected, "Dead"), "v{version}");
        assert_eq!(described.error_message.is_some(), version >= 6);
        assert_eq!((&described.group_id, described.members.len()), (&group.id, 0));
        assert_eq!((&*described.protocol_type, &*described.protocol_data), ("", ""));
    }
}

#[tokio::test]
async fn what_members_said_is_told_only_when_the_group_is_stable() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader, follower] = group.joined([dynamic(), named("one")]).await;
    check(&group, "CompletingRebalance", [&leader, &follower].map(|member| (member, Default::default())))
        .await;
    group.settle(&[leader.clone(), follower.clone()]).await;
    let assigned = [&leader, &follower].map(|member| (member, member.share()));
    check(&group, "Stable", assigned.clone()).await;
    let parked = leader.rejoin().await;
    group.until("PreparingRebalance", 2).await;
    check(&group, "PreparingRebalance", assigned).await;
    parked.assert_unanswered().await;
}

/// The second member is static; each was given this assignment at last.
async fn check(group: &Group, state: &str, members: [(&Member, Bytes); 2]) {
    let described = group.describe().await;
    let is_stable = state == "Stable";
    assert_eq!((&*described.group_state, &*described.protocol_type), (state, "consumer"));
    assert_eq!(&*described.protocol_data, if is_stable { "range" } else { "" });
    assert_eq!(described.members.len(), 2);
    for ((member, assignment), instance) in members.into_iter().zip([None, Some("one")]) {
        let found =
            described.members.iter().find(|found| found.member_id == member.id).expect("it is a member");
        assert_eq!(found.group_instance_id.as_deref(), instance);
        assert_eq!((&*found.client_id, &*found.client_host), (CLIENT_ID, "/127.0.0.1"));
        let metadata = if is_stable { subscription(&[]) } else { Bytes::new() };
        assert_eq!((&found.member_metadata, &found.member_assignment), (&metadata, &assignment), "{state}");
    }
}

#[tokio::test]
async fn each_version_describes_what_it_can() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [member] = group.stable([named("one")]).await;
    for version in broker.versions::<DescribeGroupsRequest>() {
        let described = &describe(&group, version).await.groups[0];
        assert_eq!(
            (described.error_code, &*described.group_state),
            (ErrorCode::NONE, "Stable"),
            "v{version}"
        );
        assert_eq!(described.members[0].member_id, member.id);
        assert_eq!(described.members[0].group_instance_id.as_deref(), (version >= 4).then_some("one"));
        assert_eq!(described.authorized_operations, UNASKED);
        assert_eq!(described.error_message, None);
    }
}

#[tokio::test]
async fn an_empty_group_remembers_its_type() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [member] = group.stable([dynamic().kind("connect")]).await;
    assert_eq!(member.leave().await, ErrorCode::NONE);
    group.until("Empty", 0).await;
    let described = group.describe().await;
    assert_eq!((&*described.protocol_type, &*described.protocol_data), ("connect", ""));
    assert_eq!(listed(&group, &[], &[]).await.unwrap().protocol_type, "connect");
}

#[tokio::test]
async fn what_may_be_done_with_a_group_is_told_on_request() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let _member = group.stable([dynamic()]).await;
    let groups = vec![group.id.clone()];
    let request = DescribeGroupsRequest { groups, include_authorized_operations: true };
    for version in 3..=broker.newest::<DescribeGroupsRequest>() {
        let operations = group.call(version, &request).await.groups[0].authorized_operations;
        assert_eq!(operations & OPERATIONS, OPERATIONS, "v{version}: {operations:#b}");
        assert!(operations > 0, "v{version}: {operations:#b}");
    }
}

#[tokio::test]
async fn several_groups_are_described_at_once() {
    let broker = Broker::start().await;
    let [one, two] = [broker.group().await, broker.group().await];
    if one.coordinator != two.coordinator {
        // Each with a coordinator of its own.
        return;
    }
    let _member = one.stable([dynamic()]).await;
    let request =
        DescribeGroupsRequest { groups: vec![two.id.clone(), one.id.clone()], ..Default::default() };
    let described = one.call(5, &request).await;
    let mut states: Vec<_> =
        described.groups.iter().map(|group| (&group.group_id, &*group.group_state)).collect();
    states.sort();
    let mut expected = vec![(&one.id, "Stable"), (&two.id, "Dead")];
    expected.sort();
    assert_eq!(states, expected);
}

/// The group as its coordinator lists it.
async fn listed(group: &Group, states: &[&str], types: &[&str]) -> Option<ListedGroup> {
    let texts = |texts: &[&str]| texts.iter().copied().map(Str::from).collect();
    let request = ListGroupsRequest { states_filter: texts(states), types_filter: texts(types) };
    list(group, 5, &request).await
}

async fn list(group: &Group, version: i16, request: &ListGroupsRequest) -> Option<ListedGroup> {
    let listed = group.call(version, request).await;
    assert_eq!(listed.error_code, ErrorCode::NONE);
    let mut found = listed.groups.into_iter().filter(|listed| listed.group_id == group.id);
    let first = found.next();
    assert_eq!(found.next(), None, "it is listed once");
    first
}

#[tokio::test]
async fn each_version_lists_what_it_can() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let _member = group.stable([dynamic()]).await;
    for version in broker.versions::<ListGroupsRequest>() {
        let found = list(&group, version, &ListGroupsRequest::default()).await.expect("it is listed");
        assert_eq!(&*found.protocol_type, "consumer", "v{version}");
        assert_eq!(&*found.group_state, if version >= 4 { "Stable" } else { "" }, "v{version}");
        assert_eq!(&*found.group_type, if version >= 5 { "classic" } else { "" }, "v{version}");
    }
}

#[tokio::test]
async fn groups_are_listed_by_state_and_type() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    assert_eq!(listed(&group, &[], &[]).await, None);
    let [leader] = group.joined([dynamic()]).await;
    until("a new group is listed", async || listed(&group, &[], &[]).await.is_some()).await;
    let check = async |state: &str| {
        assert_eq!(listed(&group, &[], &[]).await.expect("it is listed").group_state, state);
        for other in ["Empty", "CompletingRebalance", "Stable", "PreparingRebalance", "Dead"] {
            assert_eq!(listed(&group, &[other], &[]).await.is_some(), other == state, "{other} of {state}");
        }
        assert!(listed(&group, &["Dead", state], &["consumer", "classic"]).await.is_some());
    };
    check("CompletingRebalance").await;
    group.settle(slice::from_ref(&leader)).await;
    check("Stable").await;
    let parked = group.enter(&dynamic()).await;
    group.until("PreparingRebalance", 2).await;
    check("PreparingRebalance").await;
    parked.assert_unanswered().await;

    assert!(listed(&group, &["preparingREBALANCE"], &["CLASSIC"]).await.is_some());
    assert!(listed(&group, &[], &["classic"]).await.is_some());
    assert!(listed(&group, &[], &["consumer"]).await.is_none());
    assert!(listed(&group, &["Stable"], &["classic"]).await.is_none());
    assert!(listed(&group, &["no such state"], &[]).await.is_none());
    assert!(listed(&group, &[], &["no such type"]).await.is_none());
}

#[tokio::test]
async fn groups_without_members_are_listed_too() {
    let broker = Broker::start().await;
    let (simple, pending, topic) = (broker.group().await, broker.group().await, broker.topic(1).await);
    let nobody = Member { group: simple.clone(), profile: dynamic(), id: Str::default(), generation: -1 };
    assert_eq!(nobody.commit(&topic, 5).await, ErrorCode::NONE);
    let found = listed(&simple, &["Empty"], &[]).await.expect("it is listed");
    assert_eq!((&*found.protocol_type, &*found.group_type), ("", "classic"));
    pending.new_id(&dynamic()).await;
    pending.until("Empty", 0).await;
    let found = listed(&pending, &["Empty"], &[]).await.expect("it is listed");
    assert_eq!((&*found.protocol_type, &*found.group_type), ("", "classic"));
}

#[tokio::test]
async fn a_node_lists_the_groups_that_it_looks_after() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let _member = group.stable([dynamic()]).await;
    for address in broker.addresses() {
        let listed = call(address, 5, &ListGroupsRequest::default()).await;
        assert_eq!(listed.error_code, ErrorCode::NONE);
        let is_there = listed.groups.iter().any(|listed| listed.group_id == group.id);
        assert_eq!(is_there, *address == group.coordinator, "{address}");
    }
}
