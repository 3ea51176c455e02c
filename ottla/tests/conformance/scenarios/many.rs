//! Thousands of partitions.

use std::time::Duration;

use ottla::{Admin, Consumer, NewTopic, OffsetSpec, Producer, Record, TopicPartition};

use crate::World;
use crate::backend::Backend;
use crate::world::{fresh_name, take};

/// Between two looks at what a broker knows.
const GLANCE: Duration = Duration::from_millis(20);
/// For what makes a broker open thousands of files.
const LONG: Duration = Duration::from_secs(120);

/// 10,000 of them: an answer of half a megabyte, as many batches as partitions, and a consumer that looks up a place in
/// each. Apache Kafka needs minutes to make and remove the files of so many, and so it has 1,000 unless
/// `OTTLA_PARTITIONS_PER_TOPIC` says otherwise.
pub(crate) async fn thousands_of_partitions_are_known_written_and_read(world: &World) {
    const TOPICS: usize = 10;
    let partitions = match world.backend() {
        Backend::Embedded(_) => 1_000,
        Backend::Real(_) => {
            std::env::var("OTTLA_PARTITIONS_PER_TOPIC").map_or(100, |count| count.parse().expect("a number"))
        }
    };
    let names: Vec<_> = (0..TOPICS).map(|_| fresh_name()).collect();
    for name in &names {
        // One by one: a controller of Kafka takes no more than 10,000 changes at once.
        let created = world.admin().create_topics([NewTopic::new(name, partitions, 1)]).timeout(LONG).await;
        created.and_then(|topics| topics.all().map(drop)).expect("it is created");
    }

    let client = world.another_client().await;
    let admin = Admin::new(&client);
    until_all_have_leaders(&admin, &names, partitions).await;
    let all: Vec<_> = names
        .iter()
        .flat_map(|name| (0..partitions).map(|partition| TopicPartition::new(&**name, partition)))
        .collect();
    let producer = Producer::builder(&client).build().expect("valid");
    for place in &all {
        let record = Record::new("one").partition(place.partition());
        drop(producer.enqueue(place.topic(), record).await.expect("there is room"));
    }
    producer.flush().await.expect("all are acknowledged");

    let consumer = Consumer::builder(&client).build().expect("valid");
    consumer.assign(all.iter().map(|place| (place.clone(), OffsetSpec::Earliest))).expect("they exist");
    let read = take(&consumer, all.len()).await;
    assert!(read.iter().all(|record| record.offset == 0));
    consumer.close().await.expect("nothing is left to do");
    let deleted = world.admin().delete_topics(&names).timeout(LONG).await;
    deleted.and_then(|topics| topics.all().map(drop)).expect("they go");
    client.close().await.expect("nothing is left to do");
}

async fn until_all_have_leaders(admin: &Admin, names: &[String], partitions: i32) {
    loop {
        let described = admin.describe_topics(names).await.expect("a broker answers");
        let is_complete = |topic: &ottla::admin::TopicDescription| {
            topic.partitions.len() == partitions as usize
                && topic.partitions.iter().all(|partition| partition.leader.is_some())
        };
        if described.into_iter().all(|(_, topic)| topic.is_ok_and(|topic| is_complete(&topic))) {
            return;
        }
        tokio::time::sleep(GLANCE).await;
    }
}
