//! Where reading begins and how it moves.

use std::time::{Duration, SystemTime};

use ottla::{Consumer, OffsetSpec, Pause, Reset, TopicPartition};

use crate::World;
use crate::record::Written;
use crate::world::take;

/// Long enough for a fetch that has something to bring.
const QUIET: Duration = Duration::from_millis(1_500);

fn numbered(count: usize, partition: i32) -> Vec<Written> {
    let record =
        |n: usize| Written::value(n.to_string()).partition(partition).timestamp(1_000 * (n as u64 + 1));
    (0..count).map(record).collect()
}

pub(crate) async fn offsets_are_found_by_timestamp(world: &World) {
    let topic = world.topic(1).await;
    // Batches of their own, and one batch of many.
    for record in numbered(5, 0) {
        world.write(&topic, &[record]).await;
    }
    world.write(&topic, &numbered(20, 0)[5..]).await;

    for (millis, offset) in [(0, 0), (1_000, 0), (1_001, 1), (5_000, 4), (9_500, 9), (20_000, 19)] {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let consumer = world.consumer(&topic, 1, OffsetSpec::Timestamp(time)).await;
        let batch = consumer.poll().await.expect("it can be read").expect("it is open");
        assert_eq!(batch.iter().next().map(|record| record.offset()), Some(offset), "{millis} ms");
    }

    // Later than all: what is written from now on.
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(20_001);
    let consumer = world.consumer(&topic, 1, OffsetSpec::Timestamp(time)).await;
    assert!(tokio::time::timeout(QUIET, consumer.poll()).await.is_err(), "there is nothing to read yet");
    world.write(&topic, &[Written::value("later")]).await;
    assert_eq!(take(&consumer, 1).await[0].offset, 20);
}

pub(crate) async fn a_position_out_of_range_is_reset_as_it_was_asked_for(world: &World) {
    let topic = world.topic(1).await;
    world.write(&topic, &numbered(3, 0)).await;
    let beyond = [(TopicPartition::new(&*topic, 0), OffsetSpec::At(100))];

    let consumer = Consumer::builder(world.client()).on_out_of_range(Reset::Earliest).build().expect("valid");
    consumer.assign(beyond.clone()).expect("it exists");
    assert_eq!(take(&consumer, 3).await[0].offset, 0);

    let consumer = Consumer::builder(world.client()).on_out_of_range(Reset::Latest).build().expect("valid");
    consumer.assign(beyond).expect("it exists");
    assert!(tokio::time::timeout(QUIET, consumer.poll()).await.is_err(), "it reads from the end on");
    world.write(&topic, &[Written::value("new")]).await;
    assert_eq!(take(&consumer, 1).await[0].offset, 3);
}

pub(crate) async fn a_position_out_of_range_is_an_error_by_default(world: &World) {
    let topic = world.topic(2).await;
    world.write(&topic, &numbered(1, 0)).await;
    world.write(&topic, &numbered(1, 1)).await;
    let (bad, good) = (TopicPartition::new(&*topic, 0), TopicPartition::new(&*topic, 1));
    let consumer = Consumer::builder(world.client()).build().expect("valid");
    consumer
        .assign([(bad.clone(), OffsetSpec::At(100)), (good.clone(), OffsetSpec::Earliest)])
        .expect("they exist");

    // The error names its partition, and the other one is read.
    let (mut error, mut batch) = (None, None);
    while error.is_none() || batch.is_none() {
        match consumer.poll().await {
            Ok(next) => batch = next,
            Err(next) => error = Some(next),
        }
    }
    let error = error.expect("the loop has ended");
    assert_eq!(error.broker_code(), Some(ottla::ErrorCode::OFFSET_OUT_OF_RANGE), "{error}");
    assert_eq!(error.topic_partition(), Some(&bad));
    assert_eq!(batch.expect("the loop has ended").topic_partition(), &good);
}

pub(crate) async fn seeking_goes_back_and_forth(world: &World) {
    let topic = world.topic(1).await;
    world.write(&topic, &numbered(100, 0)).await;
    let partition = TopicPartition::new(&*topic, 0);
    let consumer = world.consumer(&topic, 1, OffsetSpec::Earliest).await;
    assert_eq!(take(&consumer, 100).await.len(), 100);
    for offset in [50, 0, 99, 7] {
        consumer.seek(&partition, OffsetSpec::At(offset)).await.expect("it is assigned");
        let read = take(&consumer, (100 - offset) as usize).await;
        assert_eq!(read.first().map(|record| record.offset), Some(offset));
    }
    consumer.seek(&partition, OffsetSpec::Earliest).await.expect("it is assigned");
    assert_eq!(take(&consumer, 100).await[0].offset, 0);
    consumer.seek(&partition, OffsetSpec::Latest).await.expect("it is assigned");
    world.write(&topic, &[Written::value("new")]).await;
    assert_eq!(take(&consumer, 1).await[0].offset, 100);
}

pub(crate) async fn a_paused_partition_waits_and_the_others_go_on(world: &World) {
    let topic = world.topic(2).await;
    let consumer = world.consumer(&topic, 2, OffsetSpec::Earliest).await;
    let pause = consumer.pause([TopicPartition::new(&*topic, 0)], Pause::by("test"));
    world.write(&topic, &numbered(10, 0)).await;
    world.write(&topic, &numbered(10, 1)).await;
    assert!(take(&consumer, 10).await.iter().all(|record| record.partition == 1));
    assert!(tokio::time::timeout(QUIET, consumer.poll()).await.is_err(), "the other partition is paused");
    pause.resume();
    assert!(take(&consumer, 10).await.iter().all(|record| record.partition == 0));
}
