//! OffsetDelete and DeleteGroups: what an administrator may throw away.

use std::slice;

use ottla_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use ottla_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, OffsetDeleteRequest, OffsetDeleteResponse,
};
use ottla_protocol::{ErrorCode, Str, TopicId};

use crate::broker::{Broker, Topic};
use crate::fetching::committed;
use crate::group::Group;
use crate::member::{Member, dynamic, subscription};

async fn delete_offsets(group: &Group, offsets: &[(&Topic, i32)]) -> OffsetDeleteResponse {
    let topic = |(topic, partition_index): &(&Topic, i32)| OffsetDeleteRequestTopic {
        name: topic.name.clone(),
        partitions: vec![OffsetDeleteRequestPartition { partition_index: *partition_index }],
    };
    let topics = offsets.iter().map(topic).collect();
    group.call(0, &OffsetDeleteRequest { group_id: group.id.clone(), topics }).await
}

fn codes(deleted: &OffsetDeleteResponse) -> Vec<(Str, i32, ErrorCode)> {
    let mut codes = Vec::new();
    for topic in &deleted.topics {
        codes.extend(topic.partitions.iter().map(|p| (topic.name.clone(), p.partition_index, p.error_code)));
    }
    codes.sort();
    codes
}

async fn delete_group(group: &Group) -> ErrorCode {
    delete_groups(group, &[group], 2).await.results[0].error_code
}

async fn delete_groups(at: &Group, groups: &[&Group], version: i16) -> DeleteGroupsResponse {
    let groups_names = groups.iter().map(|group| group.id.clone()).collect();
    at.call(version, &DeleteGroupsRequest { groups_names }).await
}

async fn commit(group: &Group, topic: &Topic) {
    let nobody = Member { group: group.clone(), profile: dynamic(), id: Str::default(), generation: -1 };
    assert_eq!(nobody.commit(topic, 5).await, ErrorCode::NONE);
}

fn nowhere() -> Topic {
    Topic { name: "no-such-topic".into(), id: TopicId::ZERO }
}

#[tokio::test]
async fn offsets_of_a_group_without_members_are_deleted() {
    let broker = Broker::start().await;
    let (group, topic, other) = (broker.group().await, broker.topic(2).await, broker.topic(1).await);
    commit(&group, &topic).await;
    commit(&group, &other).await;
    let nowhere = nowhere();
    // One that is there, one of which nothing is known, one beyond the end, and a topic that does not exist.
    let deleted = delete_offsets(&group, &[(&topic, 0), (&other, 7), (&nowhere, 0)]).await;
    assert_eq!(deleted.error_code, ErrorCode::NONE);
    let missing = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let mut expected = vec![
        (topic.name.clone(), 0, ErrorCode::NONE),
        (other.name.clone(), 7, missing),
        (nowhere.name.clone(), 0, missing),
    ];
    expected.sort();
    assert_eq!(codes(&deleted), expected);
    assert_eq!((committed(&group, &topic).await, committed(&group, &other).await), (-1, 5));
    let again = delete_offsets(&group, &[(&topic, 1)]).await;
    assert_eq!(codes(&again), [(topic.name, 1, ErrorCode::NONE)]);
}

#[tokio::test]
async fn offsets_are_not_deleted_while_members_read_the_topic() {
    let broker = Broker::start().await;
    let (group, read, unread) = (broker.group().await, broker.topic(1).await, broker.topic(1).await);
    let reader = || dynamic().metadata(subscription(&[&read.name]));
    let [leader, follower] = group.joined([dynamic(), reader()]).await;
    check_subscribed(&group, "CompletingRebalance", &read, &unread).await;
    group.settle(&[leader.clone(), follower.clone()]).await;
    check_subscribed(&group, "Stable", &read, &unread).await;
    let parked = leader.rejoin().await;
    group.until("PreparingRebalance", 2).await;
    check_subscribed(&group, "PreparingRebalance", &read, &unread).await;
    parked.assert_unanswered().await;
}

async fn check_subscribed(group: &Group, state: &str, read: &Topic, unread: &Topic) {
    group.assert_state(state).await;
    let deleted = delete_offsets(group, &[(read, 0), (unread, 0)]).await;
    assert_eq!(deleted.error_code, ErrorCode::NONE);
    let mut expected = vec![
        (read.name.clone(), 0, ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC),
        (unread.name.clone(), 0, ErrorCode::NONE),
    ];
    expected.sort();
    assert_eq!(codes(&deleted), expected, "{state}");
}

#[tokio::test]
async fn offsets_are_deleted_once_the_readers_are_gone() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    let [member] = group.stable([dynamic().metadata(subscription(&[&topic.name]))]).await;
    assert_eq!(member.commit(&topic, 5).await, ErrorCode::NONE);
    assert_eq!(member.leave().await, ErrorCode::NONE);
    group.until("Empty", 0).await;
    let deleted = delete_offsets(&group, &[(&topic, 0)]).await;
    assert_eq!(codes(&deleted), [(topic.name.clone(), 0, ErrorCode::NONE)]);
    assert_eq!(committed(&group, &topic).await, -1);
}

/// What members of other types read is unknown to the coordinator.
#[tokio::test]
async fn offsets_of_other_than_consumers_are_deleted_only_when_all_are_gone() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    let [member] = group.stable([dynamic().kind("connect")]).await;
    assert_eq!(member.commit(&topic, 5).await, ErrorCode::NONE);
    let refused = delete_offsets(&group, &[(&topic, 0)]).await;
    assert_eq!((refused.error_code, refused.topics.len()), (ErrorCode::NON_EMPTY_GROUP, 0));
    assert_eq!(committed(&group, &topic).await, 5);
    assert_eq!(member.leave().await, ErrorCode::NONE);
    group.until("Empty", 0).await;
    assert_eq!(codes(&delete_offsets(&group, &[(&topic, 0)]).await), [(topic.name, 0, ErrorCode::NONE)]);
}

#[tokio::test]
async fn what_is_wrong_with_the_group_hides_what_is_wrong_with_its_partitions() {
    let broker = Broker::start().await;
    let mut group = broker.group().await;
    for offsets in [&[][..], &[(&nowhere(), 0)]] {
        let refused = delete_offsets(&group, offsets).await;
        assert_eq!((refused.error_code, refused.topics.len()), (ErrorCode::GROUP_ID_NOT_FOUND, 0));
    }
    group.id = Str::default();
    let refused = delete_offsets(&group, &[(&nowhere(), 0)]).await;
    assert_eq!((refused.error_code, refused.topics.len()), (ErrorCode::INVALID_GROUP_ID, 0));
}

#[tokio::test]
async fn a_group_without_members_is_deleted_with_its_offsets() {
    let broker = Broker::start().await;
    let topic = broker.topic(1).await;
    for version in broker.versions::<DeleteGroupsRequest>() {
        let group = broker.group().await;
        let [member] = group.stable([dynamic()]).await;
        assert_eq!(member.commit(&topic, 5).await, ErrorCode::NONE);
        let refused = delete_groups(&group, &[&group], version).await;
        assert_eq!(refused.results[0].error_code, ErrorCode::NON_EMPTY_GROUP, "v{version}");
        assert_eq!(member.leave().await, ErrorCode::NONE);
        group.until("Empty", 0).await;
        let deleted = delete_groups(&group, &[&group], version).await;
        assert_eq!(deleted.results.len(), 1);
        assert_eq!(
            (&deleted.results[0].group_id, deleted.results[0].error_code),
            (&group.id, ErrorCode::NONE)
        );
        group.assert_state("Dead").await;
        assert_eq!(committed(&group, &topic).await, -1);
        let again = delete_groups(&group, &[&group], version).await;
        assert_eq!(again.results[0].error_code, ErrorCode::GROUP_ID_NOT_FOUND, "v{version}");
    }
}

#[tokio::test]
async fn a_group_with_members_is_deleted_in_no_state() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [leader] = group.joined([dynamic()]).await;
    assert_eq!(delete_group(&group).await, ErrorCode::NON_EMPTY_GROUP);
    group.settle(slice::from_ref(&leader)).await;
    assert_eq!(delete_group(&group).await, ErrorCode::NON_EMPTY_GROUP);
    let parked = group.enter(&dynamic()).await;
    group.until("PreparingRebalance", 2).await;
    assert_eq!(delete_group(&group).await, ErrorCode::NON_EMPTY_GROUP);
    parked.assert_unanswered().await;
    assert_eq!(leader.heartbeat().await, ErrorCode::REBALANCE_IN_PROGRESS);
}

#[tokio::test]
async fn each_group_is_told_about() {
    let broker = Broker::start().await;
    let topic = broker.topic(1).await;
    let [full, empty, unknown] = [broker.group().await, broker.group().await, broker.group().await];
    if [&empty, &unknown].iter().any(|group| group.coordinator != full.coordinator) {
        // Each with a coordinator of its own.
        return;
    }
    let _member = full.stable([dynamic()]).await;
    commit(&empty, &topic).await;
    let deleted = delete_groups(&full, &[&full, &empty, &unknown, &empty], 2).await;
    let mut codes: Vec<_> =
        deleted.results.iter().map(|result| (&result.group_id, result.error_code)).collect();
    codes.sort();
    let mut expected = vec![
        (&full.id, ErrorCode::NON_EMPTY_GROUP),
        (&empty.id, ErrorCode::NONE),
        (&unknown.id, ErrorCode::GROUP_ID_NOT_FOUND),
    ];
    expected.sort();
    assert_eq!(codes, expected);
}

#[tokio::test]
async fn the_empty_group_id_is_one_like_others() {
    let broker = Broker::start().await;
    let mut group = broker.find(Str::default()).await;
    group.id = Str::default();
    // Another test may have committed under it.
    let deleted = delete_group(&group).await;
    assert!([ErrorCode::NONE, ErrorCode::GROUP_ID_NOT_FOUND].contains(&deleted), "{deleted}");
}

/// Ids that were given out do not make members.
#[tokio::test]
async fn pending_members_do_not_keep_a_group() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let id = group.new_id(&dynamic()).await;
    assert_eq!(delete_group(&group).await, ErrorCode::NONE);
    assert_eq!(group.refused(&dynamic(), &id).await, ErrorCode::UNKNOWN_MEMBER_ID);
    group.assert_state("Dead").await;
}

#[tokio::test]
async fn a_group_that_was_deleted_begins_anew() {
    let broker = Broker::start().await;
    let group = broker.group().await;
    let [member] = group.stable([dynamic()]).await;
    assert_eq!(member.leave().await, ErrorCode::NONE);
    group.until("Empty", 0).await;
    assert_eq!(delete_group(&group).await, ErrorCode::NONE);
    let [member] = group.stable([dynamic()]).await;
    assert_eq!(member.generation, 1);
}
