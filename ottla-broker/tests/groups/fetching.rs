//! OffsetFetch: what was committed, asked for by name, by id, by group, or all at once.

use std::slice;

use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions,
};
use ottla_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use ottla_protocol::{ErrorCode, Str, TopicId};

use crate::broker::{Broker, Topic, until};
use crate::group::Group;
use crate::member::{Member, dynamic};

/// What is committed for partitions of a topic, in their order.
pub(crate) async fn fetch(
    group: &Group,
    topic: &Topic,
    partitions: &[i32],
) -> Vec<OffsetFetchResponsePartitions> {
    let mut fetched = fetch_of(group, &[group], Some(&[(topic, partitions)]), 9).await;
    assert_eq!(fetched[0].error_code, ErrorCode::NONE);
    let mut offsets = fetched.remove(0).topics.remove(0).partitions;
    offsets.sort_by_key(|partition| partition.partition_index);
    assert!(offsets.iter().all(|partition| partition.error_code.is_ok()));
    offsets
}

/// What is committed for partition 0; -1 if nothing is.
pub(crate) async fn committed(group: &Group, topic: &Topic) -> i64 {
    fetch(group, topic, &[0]).await[0].committed_offset
}

/// The same with what the coordinator has not yet seen replicated, if it waits for that before it answers (KIP-447).
/// A coordinator that has just taken over would otherwise give what was true a moment ago.
pub(crate) async fn committed_stably(group: &Group, topic: &Topic) -> i64 {
    let request = OffsetFetchRequest {
        group_id: group.id.clone(),
        topics: Some(vec![OffsetFetchRequestTopic { name: topic.name.clone(), partition_indexes: vec![0] }]),
        require_stable: true,
        ..OffsetFetchRequest::default()
    };
    let fetched = group.call(7, &request).await;
    assert_eq!(fetched.error_code, ErrorCode::NONE);
    fetched.topics[0].partitions[0].committed_offset
}

/// The same of several groups, which is possible from version 8 on (KIP-709); all topics if none are named.
async fn fetch_of(
    at: &Group,
    groups: &[&Group],
    topics: Option<&[(&Topic, &[i32])]>,
    version: i16,
) -> Vec<OffsetFetchResponseGroup> {
    let topic = |(topic, partitions): &(&Topic, &[i32])| OffsetFetchRequestTopics {
        name: topic.name.clone(),
        topic_id: topic.id,
        partition_indexes: partitions.to_vec(),
    };
    let group = |group: &&Group| OffsetFetchRequestGroup {
        group_id: group.id.clone(),
        topics: topics.map(|topics| topics.iter().map(topic).collect()),
        ..OffsetFetchRequestGroup::default()
    };
    let request = OffsetFetchRequest { groups: groups.iter().map(group).collect(), ..Default::default() };
    at.call(version, &request).await.groups
}

/// As before version 8: one group.
async fn fetch_one(group: &Group, topics: Option<&[(&Topic, &[i32])]>, version: i16) -> OffsetFetchResponse {
    let topic = |(topic, partitions): &(&Topic, &[i32])| OffsetFetchRequestTopic {
        name: topic.name.clone(),
        partition_indexes: partitions.to_vec(),
    };
    let request = OffsetFetchRequest {
        group_id: group.id.clone(),
        topics: topics.map(|topics| topics.iter().map(topic).collect()),
        require_stable: version == 7,
        ..OffsetFetchRequest::default()
    };
    group.call(version, &request).await
}

/// Commits for one who is no member.
async fn commit(group: &Group, offsets: &[(&Topic, i32, i64)]) {
    let nobody = Member { group: group.clone(), profile: dynamic(), id: Str::default(), generation: -1 };
    let committed = group.call(9, &nobody.commit_request(offsets)).await;
    let mut partitions = committed.topics.iter().flat_map(|topic| &topic.partitions);
    assert!(partitions.all(|partition| partition.error_code.is_ok()));
}

#[tokio::test]
async fn where_nothing_was_committed_there_is_no_offset_and_no_error() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    let unknown = Topic { name: "no-such-topic".into(), id: TopicId::ZERO };
    for is_there in [false, true] {
        if is_there {
            let _member = group.stable([dynamic()]).await;
        }
        for (topic, partition) in [(&topic, 0), (&topic, 7), (&unknown, 0)] {
            let offsets = fetch(&group, topic, &[partition]).await;
            let offset = &offsets[0];
            assert_eq!((offset.partition_index, offset.committed_offset), (partition, -1));
            assert_eq!((offset.committed_leader_epoch, offset.metadata.as_deref()), (-1, Some("")));
        }
        assert_eq!(fetch_of(&group, &[&group], None, 9).await[0].topics, []);
    }
}

#[tokio::test]
async fn versions_before_8_ask_for_one_group() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(2).await);
    commit(&group, &[(&topic, 1, 5)]).await;
    for version in 1..8 {
        let fetched = fetch_one(&group, Some(&[(&topic, &[0, 1])]), version).await;
        assert_eq!((fetched.error_code, fetched.topics.len()), (ErrorCode::NONE, 1), "v{version}");
        assert_eq!(fetched.topics[0].name, topic.name);
        let offsets = fetched.topics[0].partitions.iter();
        let mut offsets: Vec<_> =
            offsets.map(|p| (p.partition_index, p.committed_offset, p.error_code)).collect();
        offsets.sort();
        assert_eq!(offsets, [(0, -1, ErrorCode::NONE), (1, 5, ErrorCode::NONE)], "v{version}");
    }
}

#[tokio::test]
async fn all_offsets_of_a_group_are_given_from_version_2_on() {
    let broker = Broker::start().await;
    let (group, one, two) = (broker.group().await, broker.topic(2).await, broker.topic(1).await);
    let offsets = [(&one, 0, 1), (&one, 1, 2), (&two, 0, 3)];
    commit(&group, &offsets).await;
    let mut expected: Vec<_> =
        offsets.map(|(topic, partition, offset)| (topic.name.clone(), partition, offset)).to_vec();
    expected.sort();
    for version in 2..8 {
        let fetched = fetch_one(&group, None, version).await;
        assert_eq!(fetched.error_code, ErrorCode::NONE);
        let mut all = Vec::new();
        for topic in &fetched.topics {
            all.extend(
                topic.partitions.iter().map(|p| (topic.name.clone(), p.partition_index, p.committed_offset)),
            );
        }
        all.sort();
        assert_eq!(all, expected, "v{version}");
    }
    for version in 8..=broker.newest::<OffsetFetchRequest>() {
        let fetched = &fetch_of(&group, &[&group], None, version).await[0];
        assert_eq!((fetched.error_code, &fetched.group_id), (ErrorCode::NONE, &group.id));
        let mut all = Vec::new();
        for topic in &fetched.topics {
            let known = [&one, &two].into_iter().find(|known| {
                if version >= 10 { known.id == topic.topic_id } else { known.name == topic.name }
            });
            let name = &known.expect("one of ours").name;
            all.extend(
                topic.partitions.iter().map(|p| (name.clone(), p.partition_index, p.committed_offset)),
            );
        }
        all.sort();
        assert_eq!(all, expected, "v{version}");
    }
}

#[tokio::test]
async fn several_groups_are_asked_about_at_once() {
    let broker = Broker::start().await;
    let topic = broker.topic(1).await;
    let [one, two, nobodys] = [broker.group().await, broker.group().await, broker.group().await];
    if [&two, &nobodys].iter().any(|group| group.coordinator != one.coordinator) {
        // Each with a coordinator of its own.
        return;
    }
    commit(&one, &[(&topic, 0, 1)]).await;
    commit(&two, &[(&topic, 0, 2)]).await;
    for version in 8..=broker.newest::<OffsetFetchRequest>() {
        let fetched = fetch_of(&one, &[&one, &two, &nobodys], Some(&[(&topic, &[0])]), version).await;
        let offset = |group: &Group| {
            let group =
                fetched.iter().find(|fetched| fetched.group_id == group.id).expect("it was asked about");
            assert_eq!(group.error_code, ErrorCode::NONE);
            group.topics[0].partitions[0].committed_offset
        };
        assert_eq!(
            (fetched.len(), offset(&one), offset(&two), offset(&nobodys)),
            (3, 1, 2, -1),
            "v{version}"
        );
    }
}

/// Without transactions every offset is stable (KIP-447).
#[tokio::test]
async fn stable_offsets_are_what_was_committed() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    commit(&group, &[(&topic, 0, 5)]).await;
    for topics in [
        None,
        Some(vec![OffsetFetchRequestTopics {
            name: topic.name.clone(),
            partition_indexes: vec![0],
            ..Default::default()
        }]),
    ] {
        let groups =
            vec![OffsetFetchRequestGroup { group_id: group.id.clone(), topics, ..Default::default() }];
        let request = OffsetFetchRequest { groups, require_stable: true, ..Default::default() };
        let fetched = group.call(9, &request).await;
        assert_eq!(fetched.groups[0].error_code, ErrorCode::NONE);
        assert_eq!(fetched.groups[0].topics[0].partitions[0].committed_offset, 5);
    }
}

/// Member and epoch are for groups of the other protocol.
#[tokio::test]
async fn a_classic_group_does_not_ask_who_asks() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    let [member] = group.stable([dynamic()]).await;
    assert_eq!(member.commit(&topic, 5).await, ErrorCode::NONE);
    for (member_id, member_epoch) in [(None, -1), (Some("nobody".into()), 7), (Some(member.id), 7)] {
        let topics = vec![OffsetFetchRequestTopics {
            name: topic.name.clone(),
            partition_indexes: vec![0],
            ..OffsetFetchRequestTopics::default()
        }];
        let groups = vec![OffsetFetchRequestGroup {
            group_id: group.id.clone(),
            member_id,
            member_epoch,
            topics: Some(topics),
        }];
        let fetched = group.call(9, &OffsetFetchRequest { groups, ..Default::default() }).await;
        assert_eq!(fetched.groups[0].error_code, ErrorCode::NONE);
        assert_eq!(fetched.groups[0].topics[0].partitions[0].committed_offset, 5);
    }
}

#[tokio::test]
async fn offsets_are_there_in_every_state_of_the_group() {
    let broker = Broker::start().await;
    let (group, topic) = (broker.group().await, broker.topic(1).await);
    commit(&group, &[(&topic, 0, 5)]).await;
    let [leader] = group.joined([dynamic()]).await;
    group.assert_state("CompletingRebalance").await;
    assert_eq!(committed(&group, &topic).await, 5);
    group.settle(slice::from_ref(&leader)).await;
    assert_eq!(committed(&group, &topic).await, 5);
    let parked = group.enter(&dynamic()).await;
    group.until("PreparingRebalance", 2).await;
    assert_eq!(committed(&group, &topic).await, 5);
    parked.assert_unanswered().await;
}

/// Topics are named by their id from version 10 on (KIP-848).
#[tokio::test]
async fn a_topic_id_must_be_known() {
    let broker = Broker::start().await;
    if broker.newest::<OffsetFetchRequest>() < 10 {
        return;
    }
    let (group, topic, gone) = (broker.group().await, broker.topic(1).await, broker.topic(1).await);
    commit(&group, &[(&topic, 0, 5), (&gone, 0, 6)]).await;
    broker.delete(&gone).await;
    let fetched = fetch_of(&group, &[&group], Some(&[(&gone, &[0]), (&topic, &[0])]), 10).await;
    assert_eq!(fetched[0].error_code, ErrorCode::NONE);
    let find = |topic: &Topic| {
        let topic =
            fetched[0].topics.iter().find(|fetched| fetched.topic_id == topic.id).expect("it was asked for");
        (topic.partitions[0].error_code, topic.partitions[0].committed_offset)
    };
    assert_eq!(find(&gone), (ErrorCode::UNKNOWN_TOPIC_ID, -1));
    assert_eq!(find(&topic), (ErrorCode::NONE, 5));
}

#[tokio::test]
async fn offsets_go_with_their_topic() {
    let broker = Broker::start().await;
    let (group, topic, gone) = (broker.group().await, broker.topic(1).await, broker.topic(1).await);
    commit(&group, &[(&topic, 0, 5), (&gone, 0, 6)]).await;
    broker.delete(&gone).await;
    until("the offset is forgotten", async || committed(&group, &gone).await == -1).await;
    assert_eq!(committed(&group, &topic).await, 5);
}
