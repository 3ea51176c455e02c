//! OffsetCommit: who may commit when, and what is kept.

use ottla_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use ottla_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use ottla_protocol::{ErrorCode, Str, TopicId};

use crate::broker::{Broker, Topic};
use crate::fetching::committed;
use crate::group::Group;
use crate::member::{Member, SHORT, dynamic, named};

/// `offset.metadata.max.bytes`, which Kafka counts in UTF-16 units.
const MAX_METADATA: usize = 4096;

/// Somebody who is no member and says so: a tool, or a consumer that assigns its partitions itself.
fn standalone(group: &Group) -> Member {
    Member { group: group.clone(), profile: dynamic(), id: Str::default(), generation: -1 }
}

fn partition(partition_index: i32, committed_offset: i64) -> OffsetCommitRequestPartition {
    OffsetCommitRequestPartition { partition_index, committed_offset, ..Default::default() }
}

fn codes(committed: &OffsetCommitResponse) -> Vec<(i32, ErrorCode)> {
    let partitions = committed.topics.iter().flat_map(|topic| &topic.partitions);
    let mut codes: Vec<_> =
        partitions.map(|partition| (partition.partition_index, partition.error_code)).collect();
    codes.sort();
    codes
}

#[tokio::test]
async fn a_group_needs_no_members_to_keep_offsets() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    assert_eq!(standalone(&group).commit(&topic, 5).await, ErrorCode::NONE);
    let described = group.describe().await;
    assert_eq!((&*described.group_state, &*described.protocol_type), ("Empty", ""));
    assert_eq!(committed(&group, &topic).await, 5);
    assert_eq!(standalone(&group).commit(&topic, 3).await, ErrorCode::NONE);
    assert_eq!(committed(&group, &topic).await, 3);
}

/// Only JoinGroup and what follows insist on a group id.
#[tokio::test]
async fn the_empty_group_id_is_good_enough() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.find(Str::default()).await, broker.topic(1).await);
    assert_eq!(standalone(&group).commit(&topic, 5).await, ErrorCode::NONE);
    assert_eq!(committed(&group, &topic).await, 5);
}

#[tokio::test]
async fn members_of_a_group_that_is_not_there_are_told_what_their_version_knows() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    let ghost = standalone(&group).with_id("ghost").with_generation(1);
    for version in broker.versions::<OffsetCommitRequest>() {
        let answer = group.call(version, &ghost.commit_request(&[(&topic, 0, 5)])).await;
        let expected =
            if version >= 9 { ErrorCode::GROUP_ID_NOT_FOUND } else { ErrorCode::ILLEGAL_GENERATION };
        assert_eq!(codes(&answer), [(0, expected)], "v{version}");
    }
    group.assert_state("Dead").await;
    // A member id alone does not make a member.
    assert_eq!(ghost.with_generation(-1).commit(&topic, 5).await, ErrorCode::NONE);
    group.assert_state("Empty").await;
}

#[tokio::test]
async fn an_empty_group_is_open_to_everybody_but_members() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    let [gone] = group.stable([named("one")]).await;
    assert_eq!(gone.leave().await, ErrorCode::NONE);
    group.until("Empty", 0).await;
    let nameless = gone.with_profile(dynamic());
    for generation in [0, 1, 2, 3] {
        let answer = nameless.with_generation(generation).commit(&topic, 5).await;
        assert_eq!(answer, ErrorCode::UNKNOWN_MEMBER_ID, "{generation}");
    }
    assert_eq!(gone.commit(&topic, 5).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(committed(&group, &topic).await, -1);
    assert_eq!(nameless.with_generation(-1).commit(&topic, 5).await, ErrorCode::NONE);
    assert_eq!(standalone(&group).commit(&topic, 6).await, ErrorCode::NONE);
    assert_eq!(standalone(&group).with_instance("one").commit(&topic, 7).await, ErrorCode::NONE);
}

#[tokio::test]
async fn what_is_wrong_is_told_member_first_then_generation_then_state() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    let [leader, static_one] = group.joined([dynamic(), named("one")]).await;
    // Joined and not synced: what a member says is checked before it is told to wait.
    check_order(&leader, &static_one, &topic).await;
    assert_eq!(leader.commit(&topic, 5).await, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(static_one.commit(&topic, 5).await, ErrorCode::REBALANCE_IN_PROGRESS);
    // Stable.
    group.settle(&[leader.clone(), static_one.clone()]).await;
    check_order(&leader, &static_one, &topic).await;
    assert_eq!(committed(&group, &topic).await, -1);
    assert_eq!(leader.commit(&topic, 5).await, ErrorCode::NONE);
    assert_eq!(static_one.commit(&topic, 6).await, ErrorCode::NONE);
    // Being rebalanced: the generation that ends may commit what it has done.
    let parked = leader.rejoin().await;
    group.until("PreparingRebalance", 2).await;
    check_order(&leader, &static_one, &topic).await;
    assert_eq!(committed(&group, &topic).await, 6);
    assert_eq!(static_one.commit(&topic, 7).await, ErrorCode::NONE);
    assert_eq!(leader.commit(&topic, 8).await, ErrorCode::NONE);
    assert_eq!(static_one.rejoin().await.answer().await.generation_id, 3);
    assert_eq!(parked.answer().await.generation_id, 3);
    // Not any more.
    assert_eq!(static_one.commit(&topic, 9).await, ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(committed(&group, &topic).await, 8);
}

async fn check_order(leader: &Member, static_one: &Member, topic: &Topic) {
    let nobody = leader.with_id("nobody");
    assert_eq!(nobody.commit(topic, 1).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(nobody.with_generation(-1).commit(topic, 1).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(leader.with_id("").commit(topic, 1).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(standalone(&leader.group).commit(topic, 1).await, ErrorCode::UNKNOWN_MEMBER_ID);
    for generation in [-1, 0, leader.generation - 1, leader.generation + 1] {
        assert_eq!(leader.with_generation(generation).commit(topic, 1).await, ErrorCode::ILLEGAL_GENERATION);
    }
    let wrong = static_one.with_generation(7);
    assert_eq!(wrong.with_instance("two").commit(topic, 1).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(wrong.with_id("nobody").commit(topic, 1).await, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(wrong.with_id("").with_generation(-1).commit(topic, 1).await, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(wrong.commit(topic, 1).await, ErrorCode::ILLEGAL_GENERATION);
}

#[tokio::test]
async fn a_pending_member_commits_nothing() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    let [member] = group.stable([dynamic()]).await;
    let pending = member.with_id(&group.new_id(&dynamic()).await);
    assert_eq!(pending.commit(&topic, 5).await, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[tokio::test]
async fn a_member_that_was_removed_commits_nothing() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    let [leader, silent] = group.stable([dynamic(), dynamic().session(SHORT)]).await;
    group.until("PreparingRebalance", 1).await;
    assert_eq!(silent.commit(&topic, 5).await, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(leader.commit(&topic, 6).await, ErrorCode::NONE);
    assert_eq!(committed(&group, &topic).await, 6);
}

/// The coordinator does not know whose a partition is: that is for members to know.
#[tokio::test]
async fn any_member_commits_for_any_partition() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    for member in group.stable([dynamic(), dynamic()]).await {
        assert_eq!(member.commit(&topic, 5).await, ErrorCode::NONE);
    }
}

#[tokio::test]
async fn partitions_that_are_not_there_are_told_and_the_others_kept() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(2).await);
    let unknown = Topic { name: "no-such-topic".into(), id: TopicId::ZERO };
    let mut request = standalone(&group).commit_request(&[(&topic, 0, 5), (&unknown, 3, 5)]);
    request.topics[0].partitions.extend([partition(1, 6), partition(2, 7), partition(-1, 8)]);
    let answer = group.call(9, &request).await;
    let missing = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(
        codes(&answer),
        [(-1, missing), (0, ErrorCode::NONE), (1, ErrorCode::NONE), (2, missing), (3, missing)]
    );
    let mut names: Vec<_> = answer.topics.iter().map(|topic| &topic.name).collect();
    names.sort();
    let mut expected = vec![&topic.name, &unknown.name];
    expected.sort();
    assert_eq!(names, expected);
    assert_eq!(committed(&group, &topic).await, 5);
}

#[tokio::test]
async fn partitions_are_looked_at_before_the_member_is() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    let [member] = group.stable([dynamic()]).await;
    let nobody = member.with_id("nobody");
    let (missing, unknown) = (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::UNKNOWN_MEMBER_ID);
    let mut request = nobody.commit_request(&[(&topic, 7, 5)]);
    assert_eq!(codes(&group.call(9, &request).await), [(7, missing)]);
    request.topics[0].partitions.push(partition(0, 5));
    assert_eq!(codes(&group.call(9, &request).await), [(0, unknown), (7, missing)]);
    assert_eq!(codes(&group.call(9, &nobody.commit_request(&[])).await), []);
}

#[tokio::test]
async fn metadata_has_room_for_4096_utf_16_units() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(4).await);
    let texts = [
        "x".repeat(MAX_METADATA),
        "ü".repeat(MAX_METADATA),
        "x".repeat(MAX_METADATA + 1),
        "😀".repeat(MAX_METADATA / 2 + 1),
    ];
    let mut request = standalone(&group).commit_request(&[(&topic, 0, 5)]);
    request.topics[0].partitions = (0..)
        .zip(texts)
        .map(|(index, text)| OffsetCommitRequestPartition {
            committed_metadata: Some(text.into()),
            ..partition(index, 5)
        })
        .collect();
    let answer = group.call(9, &request).await;
    let (kept, large) = (ErrorCode::NONE, ErrorCode::OFFSET_METADATA_TOO_LARGE);
    assert_eq!(codes(&answer), [(0, kept), (1, kept), (2, large), (3, large)]);
    // Who commits comes first.
    request.member_id = "nobody".into();
    request.generation_id_or_member_epoch = 7;
    let [_member] = group.stable([dynamic()]).await;
    assert!(
        codes(&group.call(9, &request).await).iter().all(|(_, code)| *code == ErrorCode::UNKNOWN_MEMBER_ID)
    );
}

#[tokio::test]
async fn each_version_keeps_what_it_can_say() {
    let broker = Broker::start().await;
    for version in broker.versions::<OffsetCommitRequest>() {
        let (group, topic) = (broker.group().await, broker.topic(2).await);
        let [member] = group.stable([dynamic()]).await;
        let mut request = member.commit_request(&[(&topic, 0, 5)]);
        request.topics[0].partitions = vec![
            OffsetCommitRequestPartition {
                committed_leader_epoch: 0,
                committed_metadata: Some("why".into()),
                ..partition(0, 5)
            },
            OffsetCommitRequestPartition { committed_metadata: None, ..partition(1, 0) },
        ];
        if (2..5).contains(&version) {
            request.retention_time_ms = 3_600_000;
        }
        let answer = group.call(version, &request).await;
        assert_eq!(codes(&answer), [(0, ErrorCode::NONE), (1, ErrorCode::NONE)], "v{version}");
        let named = (&answer.topics[0].name, answer.topics[0].topic_id);
        let expected = if version >= 10 { (&Str::default(), topic.id) } else { (&topic.name, TopicId::ZERO) };
        assert_eq!(named, expected, "v{version}");

        let offsets = crate::fetching::fetch(&group, &topic, &[0, 1]).await;
        let epoch = if version >= 6 { 0 } else { -1 };
        assert_eq!(
            (offsets[0].committed_offset, offsets[0].committed_leader_epoch),
            (5, epoch),
            "v{version}"
        );
        assert_eq!(offsets[0].metadata.as_deref(), Some("why"));
        assert_eq!((offsets[1].committed_offset, offsets[1].committed_leader_epoch), (0, -1));
        assert_eq!(offsets[1].metadata.as_deref(), Some(""));
    }
}

/// Topics are named by their id from version 10 on (KIP-848).
#[tokio::test]
async fn a_topic_id_must_be_known() {
    let broker = Broker::start().await;
    if broker.newest::<OffsetCommitRequest>() < 10 {
        return;
    }
    let (group, topic, gone) = (broker.group().await, broker.topic(1).await, broker.topic(1).await);
    broker.delete(&gone).await;
    let answer = group
        .call(10, &standalone(&group).commit_request(&[(&gone, 0, 5), (&topic, 0, 6), (&topic, 9, 7)]))
        .await;
    let find = |topic: &Topic| {
        let topics = answer.topics.iter().filter(|answer| answer.topic_id == topic.id);
        topics
            .flat_map(|topic| &topic.partitions)
            .map(|partition| (partition.partition_index, partition.error_code))
            .collect::<Vec<_>>()
    };
    assert_eq!(find(&gone), [(0, ErrorCode::UNKNOWN_TOPIC_ID)]);
    let mut found = find(&topic);
    found.sort();
    assert_eq!(found, [(0, ErrorCode::NONE), (9, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]);
    assert_eq!(committed(&group, &topic).await, 6);
}

#[tokio::test]
async fn offsets_outlive_the_members() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    let [member] = group.stable([dynamic()]).await;
    assert_eq!(member.commit(&topic, 5).await, ErrorCode::NONE);
    assert_eq!(member.leave().await, ErrorCode::NONE);
    group.until("Empty", 0).await;
    assert_eq!(committed(&group, &topic).await, 5);
    let [next] = group.stable([dynamic()]).await;
    assert_eq!(next.commit(&topic, 4).await, ErrorCode::NONE);
    assert_eq!(committed(&group, &topic).await, 4);
}

#[tokio::test]
async fn a_topic_that_is_named_twice_is_committed_twice() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(2).await);
    let answer = group.call(9, &standalone(&group).commit_request(&[(&topic, 0, 5), (&topic, 1, 6)])).await;
    assert_eq!(codes(&answer), [(0, ErrorCode::NONE), (1, ErrorCode::NONE)]);
    let offsets = crate::fetching::fetch(&group, &topic, &[0, 1]).await;
    assert_eq!(offsets.iter().map(|offset| offset.committed_offset).collect::<Vec<_>>(), [5, 6]);
}
