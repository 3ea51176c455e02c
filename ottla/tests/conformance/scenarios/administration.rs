//! Groups and offsets as an administrator sees them.

use std::time::Duration;

use ottla::admin::{GroupState, PerItem, RecordsToDelete};
use ottla::{Consumer, ErrorCode, OffsetAndMetadata, OffsetSpec, Reset, TopicPartition};

use crate::World;
use crate::world::{fresh_name, take};

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

pub(crate) async fn the_oldest_records_are_deleted_and_the_log_goes_on(world: &World) {
    let (admin, topic) = (world.admin(), world.topic(2).await);
    let [used, empty, nowhere] = [0, 1, 9].map(|number| TopicPartition::new(topic.as_str(), number));
    let producer = world.producer();
    let send = async |value: &str| {
        let record = ottla::Record::new(value).partition(0);
        producer.send(&topic, record).await.expect("it is written").offset()
    };
    for value in ["a", "b", "c", "d", "e"] {
        send(value).await;
    }

    let deleted =
        admin.delete_records([(used.clone(), 3), (empty.clone(), 0), (nowhere, 0), (used.clone(), 1)]);
    let results: Vec<_> = deleted.await.expect("the leader answers").into_iter().collect();
    assert_eq!(results[0].1.as_ref().ok(), Some(&3), "{results:?}");
    assert_eq!(results[1].1.as_ref().ok(), Some(&0), "{results:?}");
    let code = results[2].1.as_ref().err().and_then(ottla::Error::broker_code);
    assert_eq!(code, Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{results:?}");
    assert_eq!(results[3].1.as_ref().err().map(ottla::Error::kind), Some(ottla::ErrorKind::Misuse));

    let earliest = || async {
        let places = admin.list_offsets([(used.clone(), OffsetSpec::Earliest)]).await.expect("it is there");
        places.all().expect("it exists")[0].1.map(|place| place.offset)
    };
    assert_eq!(earliest().await, Some(3));
    let consumer = Consumer::builder(world.client()).on_out_of_range(Reset::Earliest).build().expect("valid");
    consumer.assign([(used.clone(), OffsetSpec::At(1))]).expect("it exists");
    let read: Vec<_> = take(&consumer, 2).await.into_iter().map(|record| record.offset).collect();
    assert_eq!(read, [3, 4]);

    let start_of = async |records: RecordsToDelete| {
        let mut told = admin.delete_records([(used.clone(), records)]).await.expect("it answers").into_iter();
        told.next().expect("one was asked for").1.map_err(|error| error.broker_code())
    };
    assert_eq!(start_of(2.into()).await, Ok(3), "a log does not begin earlier again");
    assert_eq!(start_of(6.into()).await, Err(Some(ErrorCode::OFFSET_OUT_OF_RANGE)));
    assert_eq!(start_of(RecordsToDelete::All).await, Ok(5));
    assert_eq!(earliest().await, Some(5));
    assert_eq!(send("f").await, Some(5), "the producer whose records are gone goes on");
    assert_eq!(take(&consumer, 1).await[0].offset, 5);

    let compacted = fresh_name();
    let new = ottla::NewTopic::new(compacted.as_str(), 1, 1).config("cleanup.policy", "compact");
    admin.create_topics([new]).await.and_then(PerItem::all).expect("it is created");
    let compacted = TopicPartition::new(compacted, 0);
    let refused = async || {
        let answered = admin.delete_records([(compacted.clone(), 0)]).await.expect("it answers");
        answered.all().expect_err("only what replaces a record deletes it").broker_code()
    };
    let mut code = refused().await;
    // Any broker is asked who leads, and one that is busy has not heard of the topic yet.
    while code == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        code = refused().await;
    }
    assert_eq!(code, Some(ErrorCode::POLICY_VIOLATION));
}
