//! Members of a group against the embedded cluster, over real sockets.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ottla::{Admin, Client, Consumer, ConsumerBuilder, Event, NewTopic, Producer, Record, Reset, Result};
use ottla_broker::{ClusterConfig, tcp::Cluster};
use tokio::time::timeout;

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 4;
/// For what takes well below a second unless something is wrong.
const SOON: Duration = Duration::from_secs(20);

async fn cluster() -> (Cluster, Client) {
    let cluster =
        Cluster::start(ClusterConfig::with_nodes(1, "127.0.0.1", 0), None).await.expect("a free port");
    let client = client(&cluster).await;
    let topics = [NewTopic::new(TOPIC, PARTITIONS, 1)];
    Admin::new(&client).create_topics(topics).await.and_then(|created| created.all()).expect("it is new");
    (cluster, client)
}

async fn client(cluster: &Cluster) -> Client {
    Client::builder().bootstrap_servers(cluster.bootstrap_servers()).connect().await.expect("it runs")
}

fn member(client: &Client) -> ConsumerBuilder {
    Consumer::builder(client)
        .group("billing")
        .on_missing_offset(Reset::Earliest)
        .session_timeout(Duration::from_secs(6))
}

async fn produce(client: &Client, numbers: std::ops::Range<u32>) -> Result<()> {
    let producer = Producer::builder(client).build()?;
    for number in numbers {
        let text = number.to_string();
        drop(producer.enqueue(TOPIC, Record::new(&text).key(&text)).await?);
    }
    producer.flush().await?;
    Ok(producer.close().await?)
}

/// Counts how often each number is handled.
#[derive(Default)]
struct Effects(BTreeMap<u32, u32>);

impl Effects {
    fn handle(&mut self, value: Option<&[u8]>) {
        let text = std::str::from_utf8(value.unwrap_or_default()).unwrap_or_default();
        *self.0.entry(text.parse().expect("a number")).or_default() += 1;
    }

    fn is_each_once(&self, numbers: std::ops::Range<u32>) -> bool {
        self.0.keys().copied().eq(numbers) && self.0.values().all(|times| *times == 1)
    }
}

async fn handle_until(consumer: &Consumer, effects: &mut Effects, count: usize) -> Result<()> {
    let handling = async {
        while effects.0.len() < count
            && let Some(record) = consumer.recv().await?
        {
            effects.handle(record.view().value());
            record.complete();
        }
        Ok(())
    };
    timeout(SOON, handling).await.expect("all of it arrives")
}

#[tokio::test]
async fn what_was_completed_is_not_handed_out_to_the_next_member() -> Result<()> {
    let (cluster, client) = cluster().await;
    produce(&client, 0..100).await?;
    let mut effects = Effects::default();
    let first = member(&client).build()?;
    first.subscribe([TOPIC])?;
    handle_until(&first, &mut effects, 100).await?;
    first.close().await?;

    produce(&client, 100..150).await?;
    let second = member(&client).build()?;
    second.subscribe([TOPIC])?;
    handle_until(&second, &mut effects, 150).await?;
    assert!(effects.is_each_once(0..150), "{:?}", effects.0);
    let partitions = (0..PARTITIONS).map(|partition| (TOPIC, partition));
    second.commit().await?;
    let committed = second.committed(partitions).await?;
    assert_eq!(committed.iter().filter_map(|(_, found)| Some(found.as_ref()?.offset)).sum::<i64>(), 150);
    second.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_is_dropped_incomplete_is_handed_out_again_and_nothing_else() -> Result<()> {
    let (cluster, client) = cluster().await;
    produce(&client, 0..40).await?;
    let consumer = member(&client).build()?;
    consumer.subscribe([TOPIC])?;
    let mut effects = Effects::default();
    let mut refused = BTreeSet::new();
    let handling = async {
        while effects.0.len() < 40
            && let Some(batch) = consumer.poll().await?
        {
            for record in &batch {
                // Each partition's third record fails the first time.
                if record.offset() == 2 && refused.insert(record.partition()) {
                    continue;
                }
                effects.handle(record.value());
                record.complete();
            }
        }
        Ok::<_, ottla::Error>(())
    };
    timeout(SOON, handling).await.expect("all of it arrives")?;
    assert!(effects.is_each_once(0..40), "{:?}", effects.0);
    assert!(!refused.is_empty());
    consumer.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn two_members_share_the_partitions_and_nothing_is_handled_twice() -> Result<()> {
    let (cluster, client) = cluster().await;
    produce(&client, 0..200).await?;
    let first = member(&client).build()?;
    first.subscribe([TOPIC])?;
    let mut effects = Effects::default();
    handle_until(&first, &mut effects, 200).await?;
    let other_client = self::client(&cluster).await;
    let second = member(&other_client).build()?;
    second.subscribe([TOPIC])?;
    produce(&client, 200..400).await?;
    let mut shares = [0, 0];
    let sharing = async {
        while effects.0.len() < 400 || second.assignment().len() != 2 {
            let (received, who) = tokio::select! {
                biased;
                received = first.recv() => (received?, 0),
                received = second.recv() => (received?, 1),
                () = tokio::time::sleep(Duration::from_millis(20)) => continue,
            };
            let Some(record) = received else { break };
            effects.handle(record.view().value());
            record.complete();
            shares[who] += 1;
        }
        Ok::<_, ottla::Error>(())
    };
    timeout(SOON, sharing).await.expect("both get their share")?;
    assert_eq!((first.assignment().len(), second.assignment().len()), (2, 2));
    assert!(
        effects.is_each_once(0..400),
        "{:?}",
        effects.0.iter().filter(|(_, n)| **n != 1).collect::<Vec<_>>()
    );
    second.close().await?;
    first.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_broker_that_was_frozen_past_the_session_causes_no_duplicate_and_no_loss() -> Result<()> {
    let (cluster, client) = cluster().await;
    let mut events = client.events();
    produce(&client, 0..1_000).await?;
    let consumer = member(&client).build()?;
    consumer.subscribe([TOPIC])?;
    let mut effects = Effects::default();
    handle_until(&consumer, &mut effects, 1_000).await?;
    consumer.commit().await?;

    cluster.freeze(1).await.expect("it exists");
    let waiting = timeout(Duration::from_secs(8), consumer.recv()).await;
    assert!(waiting.is_err(), "nothing comes from a frozen broker");
    cluster.thaw(1).await.expect("it exists");
    produce(&self::client(&cluster).await, 1_000..2_000).await?;
    handle_until(&consumer, &mut effects, 2_000).await?;
    assert!(effects.is_each_once(0..2_000));

    consumer.close().await?;
    client.close().await?;
    let mut names = BTreeSet::new();
    while let Some(event) = events.recv().await {
        assert!(!matches!(event, Event::Missed { .. }));
        names.insert(event.name());
    }
    assert!(names.contains("group.session_lost"), "{names:?}");
    cluster.stop().await;
    Ok(())
}
