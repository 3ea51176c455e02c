//! Groups and offsets as an administrator sees them.

use ottla::admin::GroupState;
use ottla::{ErrorCode, OffsetAndMetadata, OffsetSpec, TopicPartition};

use crate::World;
use crate::world::fresh_name;

pub(crate) async fn a_group_without_members_is_made_listed_and_deleted(world: &World) {
    let (admin, topic, group) = (world.admin(), world.topic(3).await, fresh_name());
    let [first, second, third] = [0, 1, 2].map(|number| TopicPartition::new(topic.as_str(), number));
    let seven = OffsetAndMetadata { offset: 7, leader_epoch: Some(0), metadata: "by hand".to_owned() };
    let offsets = [(first.clone(), OffsetAndMetadata::from(5)), (second.clone(), seven.clone())];
    let altered = admin.alter_group_offsets(group.as_str(), offsets).await.expect("there is a coordinator");
    altered.all().expect("a group without members takes offsets from anybody");

    let groups = || async { admin.list_groups().await.expect("a broker answers").all().expect("all do") };
    assert!(groups().await.iter().any(|listed| listed.group == group));
    let stable = admin.list_groups().in_states([GroupState::Stable]).await.expect("a broker answers");
    assert!(!stable.groups.iter().any(|listed| listed.group == group));
    let described = admin.describe_groups([group.as_str()]).await.expect("there is a coordinator");
    let (_, described) = described.all().expect("it exists").remove(0);
    assert_eq!((described.state, described.members), (GroupState::Empty, vec![]));

    let committed = admin.list_group_offsets([group.as_str()]).await.expect("there is a coordinator");
    let (_, committed) = committed.all().expect("it exists").remove(0);
    let mut committed = committed.all().expect("both are there");
    committed.sort_by(|(a, _), (b, _)| a.cmp(b));
    assert_eq!(committed, [(first.clone(), Some(5.into())), (second.clone(), Some(seven))]);
    let chosen = admin.list_group_offsets([group.as_str()]).partitions([third.clone(), first.clone()]);
    let (_, chosen) = chosen.await.expect("there is a coordinator").all().expect("it exists").remove(0);
    assert_eq!(chosen.all().expect("none is refused"), [(third, None), (first.clone(), Some(5.into()))]);

    let deleted = admin.delete_group_offsets(group.as_str(), [first]).await.expect("there is a coordinator");
    deleted.all().expect("nobody reads it");
    let left = admin.list_group_offsets([group.as_str()]).await.expect("there is a coordinator");
    assert_eq!(left.all().expect("it exists").remove(0).1.len(), 1);
    admin.delete_groups([group.as_str()]).await.expect("there is a coordinator").all().expect("it is empty");
    assert!(!groups().await.iter().any(|listed| listed.group == group));
}

pub(crate) async fn a_group_that_does_not_exist_is_told_so(world: &World) {
    let (admin, group) = (world.admin(), fresh_name());
    let described = admin.describe_groups([group.as_str()]).await.expect("there is a coordinator");
    let deleted = admin.delete_groups([group.as_str()]).await.expect("there is a coordinator");
    let codes = [
        described.all().expect_err("it does not exist").broker_code(),
        deleted.all().expect_err("it does not exist").broker_code(),
    ];
    assert_eq!(codes, [Some(ErrorCode::GROUP_ID_NOT_FOUND); 2]);
}

pub(crate) async fn places_in_logs_are_told_partition_by_partition(world: &World) {
    let (admin, topic) = (world.admin(), world.topic(1).await);
    let producer = world.producer();
    for value in ["a", "b", "c"] {
        producer.send(&topic, ottla::Record::new(value)).await.expect("it is written");
    }
    let there = TopicPartition::new(topic.as_str(), 0);
    let nowhere = TopicPartition::new(topic.as_str(), 9);
    for (spec, offset) in [(OffsetSpec::Earliest, 0), (OffsetSpec::Latest, 3), (OffsetSpec::At(2), 2)] {
        let places = admin.list_offsets([(nowhere.clone(), spec), (there.clone(), spec)]);
        let mut places = places.await.expect("the leader answers").into_iter();
        let (_, missing) = places.next().expect("two were asked for");
        if !matches!(spec, OffsetSpec::At(_)) {
            let error = missing.expect_err("there is one partition");
            assert_eq!(error.broker_code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}");
        }
        let (_, found) = places.next().expect("two were asked for");
        assert_eq!(found.expect("it exists").map(|found| found.offset), Some(offset));
    }
}
