//! Topics that are deleted while somebody consumes them.

use std::time::Duration;

use ottla::{Absence, Admin, Consumer, Error, NewTopic, OffsetSpec, Record, Reset, TopicPartition};
use ottla_sim::{Cluster, Sim, World};
use tokio::time::{sleep, timeout};

use crate::support::{FEW, SECOND, TOPIC};

const GOING: &str = "refunds";

/// Of a topic that stays, records are read as soon as ever.
const SOON: Duration = Duration::from_secs(5);

/// Who comes back is found when the client looks for it the next time.
const FOUND: Duration = Duration::from_secs(90);

/// The value of the next record. Only of the topic that goes anything may be wrong.
async fn next(consumer: &Consumer) -> Option<String> {
    loop {
        match consumer.recv().await {
            Ok(record) => {
                let record = record?;
                let value = record.view().value().map(|value| String::from_utf8_lossy(value).into_owned());
                record.complete();
                return value;
            }
            Err(error) => assert_eq!(about(&error).as_deref(), Some(GOING), "{error:#}"),
        }
    }
}

/// The topic that an error is about.
fn about(error: &Error) -> Option<String> {
    let absent = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Absence>());
    let partition = error.topic_partition().map(|partition| partition.topic().to_owned());
    absent.map(|absent| absent.topic.to_string()).or(partition)
}

async fn expect(world: &World, consumer: &Consumer, value: &str, within: Duration) {
    let found = timeout(within, async { while next(consumer).await.as_deref() != Some(value) {} }).await;
    world
        .expect(found.is_ok(), &format!("{value:?} to be read within {within:?}"), || "it is not".to_owned());
}

async fn delete_and_create_anew(world: &World, cluster: &Cluster, consumer: &Consumer) -> ottla::Result<()> {
    let admin = Admin::new(&cluster.client_on("operator"));
    let produce = async |topic, value: &str| cluster.produce(topic, [Record::new(value)]).await;
    for topic in [TOPIC, GOING] {
        produce(topic, topic).await;
        expect(world, consumer, topic, FOUND).await;
    }
    admin.delete_topics([GOING]).await?.all()?;
    // Longer than it takes to tell that a topic stays away.
    for number in 0..20 {
        let value = number.to_string();
        produce(TOPIC, &value).await;
        expect(world, consumer, &value, SOON).await;
        sleep(5 * SECOND).await;
    }
    admin.create_topics([NewTopic::new(GOING, 1, 3)]).await?.all()?;
    produce(GOING, "anew").await;
    expect(world, consumer, "anew", FOUND).await;
    produce(TOPIC, "at last").await;
    expect(world, consumer, "at last", SOON).await;
    Ok(())
}

#[test]
fn c15_a_topic_that_is_deleted_while_it_is_read_holds_up_no_other() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = world.cluster(3).await;
        cluster.topic(TOPIC, 1).await;
        cluster.topic(GOING, 1).await;
        let consumer = Consumer::builder(&cluster.client()).on_out_of_range(Reset::Earliest).build()?;
        let both = [TOPIC, GOING].map(|topic| (TopicPartition::new(topic, 0), OffsetSpec::Earliest));
        consumer.assign(both)?;
        delete_and_create_anew(world, &cluster, &consumer).await
    });
}

#[test]
fn c15_a_topic_that_is_deleted_while_a_group_consumes_it_holds_up_no_other() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = world.cluster(3).await;
        cluster.topic(TOPIC, 1).await;
        cluster.topic(GOING, 1).await;
        let builder = Consumer::builder(&cluster.client()).group("billing");
        let consumer = builder.on_missing_offset(Reset::Earliest).on_out_of_range(Reset::Earliest).build()?;
        consumer.subscribe([TOPIC, GOING])?;
        delete_and_create_anew(world, &cluster, &consumer).await?;
        consumer.close().await
    });
}
