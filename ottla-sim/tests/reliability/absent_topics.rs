//! Topics that a reader named and that it cannot read: it hears of each, once, with what to do, and everything else flows.

use std::time::Duration;

use ottla::{Absence, Consumer, Error, ErrorCode, OffsetSpec, Record, Reset, TopicPartition};
use ottla_broker::{
    ClusterConfig,
    faults::{Effect, Fault},
};
use ottla_protocol::messages::MetadataRequest;
use ottla_sim::{Cluster, Sim, World};
use tokio::time::timeout;

use crate::support::{FEW, SECOND, TOPIC};

/// `default.api.timeout.ms`, and what looking takes.
const BOUND: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_secs(2);

/// One topic is there, with a partition; others are not created by asking for them.
async fn cluster(world: &World) -> Cluster {
    let mut config = ClusterConfig::with_nodes(3, "", 0);
    config.auto_create_topics = false;
    let cluster = world.cluster_with(config).await;
    cluster.topic(TOPIC, 1).await;
    cluster
}

fn member(cluster: &Cluster) -> Consumer {
    let builder = Consumer::builder(&cluster.client()).group("billing").on_missing_offset(Reset::Earliest);
    builder.build().expect("valid settings")
}

async fn produce(cluster: &Cluster, topic: &str) {
    cluster.produce(topic, [Record::new("one")]).await;
}

/// The topic of the next record.
async fn next_topic(consumer: &Consumer) -> Result<String, Error> {
    let record = consumer.recv().await?.expect("it is open");
    let topic = record.view().topic().to_owned();
    record.complete();
    Ok(topic)
}

/// What the error says is not there.
fn absence(error: &Error) -> &Absence {
    let source = std::error::Error::source(error).expect("a cause");
    source.downcast_ref().unwrap_or_else(|| panic!("{error:#}"))
}

/// The time until something is told, and what.
async fn told(world: &World, consumer: &Consumer) -> (Duration, Error) {
    let start = world.elapsed();
    let told = timeout(5 * BOUND, consumer.recv()).await.expect("it is told");
    let error = told.expect_err("a topic is not there");
    (world.elapsed() - start, error)
}

#[test]
fn a_subscribed_topic_that_may_not_be_read_is_told_once_and_others_flow() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = cluster(world).await;
        cluster.topic("payments", 1).await;
        let refusal = Effect::AnswerWith(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        let forbidden = cluster.faults().add(Fault::on::<MetadataRequest>(refusal).of_topic("payments"));
        let consumer = member(&cluster);
        consumer.subscribe([TOPIC, "payments"])?;

        let (after, error) = told(world, &consumer).await;
        assert!(after < 5 * SECOND, "{after:?}");
        assert_eq!(error.broker_code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
        assert_eq!(&*absence(&error).topic, "payments");
        let text = format!("{error:#}");
        assert!(text.contains("payments") && text.contains("rights to describe and to read"), "{text}");

        // Once, however often it is looked for; and everything else goes on.
        for _ in 0..3 {
            produce(&cluster, TOPIC).await;
            assert_eq!(next_topic(&consumer).await?, TOPIC);
            assert!(timeout(60 * SECOND, consumer.recv()).await.is_err(), "nothing more to tell");
        }

        // Somebody grants the rights.
        forbidden.end();
        produce(&cluster, "payments").await;
        assert_eq!(timeout(30 * SECOND, next_topic(&consumer)).await.expect("it is found")?, "payments");
        consumer.close().await
    });
}

#[test]
fn a_subscribed_name_that_no_topic_can_have_is_told_at_once() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = cluster(world).await;
        let consumer = member(&cluster);
        consumer.subscribe([TOPIC, "orders/eu"])?;
        let (after, error) = told(world, &consumer).await;
        assert!(after < 5 * SECOND, "{after:?}");
        assert_eq!(error.broker_code(), Some(ErrorCode::INVALID_TOPIC_EXCEPTION));
        let text = format!("{error:#}");
        assert!(text.contains("orders/eu") && text.contains("letters, digits"), "{text}");
        produce(&cluster, TOPIC).await;
        assert_eq!(next_topic(&consumer).await?, TOPIC);
        consumer.close().await
    });
}

#[test]
fn a_subscribed_topic_that_stays_away_is_told_after_a_minute_and_read_when_it_comes() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = cluster(world).await;
        let consumer = member(&cluster);
        consumer.subscribe([TOPIC, "refunds"])?;
        let (after, error) = told(world, &consumer).await;
        assert!((BOUND..BOUND + LOOK).contains(&after), "{after:?}");
        assert_eq!(error.broker_code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
        let text = format!("{error:#}");
        assert!(text.contains("refunds") && text.contains("create it"), "{text}");

        assert!(timeout(10 * BOUND, consumer.recv()).await.is_err(), "nothing more to tell");
        cluster.topic("refunds", 1).await;
        produce(&cluster, "refunds").await;
        assert_eq!(timeout(30 * SECOND, next_topic(&consumer)).await.expect("it is found")?, "refunds");
        consumer.close().await
    });
}

#[test]
fn a_topic_that_comes_late_is_no_error() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = cluster(world).await;
        let (subscribed, assigned) = (member(&cluster), Consumer::builder(&cluster.client()).build()?);
        subscribed.subscribe(["refunds"])?;
        assigned.assign([(TopicPartition::new("refunds", 0), OffsetSpec::Earliest)])?;
        for consumer in [&subscribed, &assigned] {
            assert!(timeout(25 * SECOND, consumer.recv()).await.is_err(), "there is nothing to tell yet");
        }
        cluster.topic("refunds", 1).await;
        produce(&cluster, "refunds").await;
        assert_eq!(next_topic(&subscribed).await?, "refunds");
        assert_eq!(next_topic(&assigned).await?, "refunds");
        subscribed.close().await
    });
}

#[test]
fn an_assigned_topic_or_partition_that_stays_away_is_told_after_a_minute() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = cluster(world).await;
        let consumer = Consumer::builder(&cluster.client()).build()?;
        let named = [(TOPIC, 0), (TOPIC, 7), ("refunds", 0), ("refunds", 1)];
        consumer.assign(named.map(|(topic, partition)| ((topic, partition), OffsetSpec::Earliest)))?;
        produce(&cluster, TOPIC).await;
        assert_eq!(next_topic(&consumer).await?, TOPIC);

        let mut missing = Vec::new();
        for _ in 0..2 {
            let (_, error) = told(world, &consumer).await;
            let Absence { topic, partition, .. } = absence(&error);
            assert_eq!(error.topic_partition().map(TopicPartition::partition), *partition);
            missing.push((topic.to_string(), *partition));
        }
        missing.sort();
        assert_eq!(missing, [(TOPIC.to_owned(), Some(7)), ("refunds".to_owned(), None)]);
        assert!((BOUND..BOUND + 2 * LOOK).contains(&world.elapsed()), "{:?}", world.elapsed());

        assert!(timeout(10 * BOUND, consumer.recv()).await.is_err(), "nothing more to tell");
        produce(&cluster, TOPIC).await;
        assert_eq!(next_topic(&consumer).await?, TOPIC);
        Ok::<_, Error>(())
    });
}

#[test]
fn nobody_hears_that_a_topic_is_unknown_while_no_broker_can_be_asked() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = cluster(world).await;
        let consumer = Consumer::builder(&cluster.client()).build()?;
        cluster.brokers().for_each(|broker| broker.freeze());
        consumer.assign([((TOPIC, 0), OffsetSpec::Earliest)])?;
        assert!(timeout(5 * BOUND, consumer.recv()).await.is_err(), "nothing is known");
        cluster.brokers().for_each(|broker| broker.thaw());
        produce(&cluster, TOPIC).await;
        assert_eq!(next_topic(&consumer).await?, TOPIC);
        Ok::<_, Error>(())
    });
}
