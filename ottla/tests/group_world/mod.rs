//! A group over the embedded cluster: what its tests have in common.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{collections::BTreeMap, time::Duration};

use ottla::{Admin, Client, Consumer, ConsumerBuilder, NewTopic, Producer, Record, Reset, Result};
use ottla_broker::{ClusterConfig, tcp::Cluster};
use tokio::time::timeout;

pub(crate) const TOPIC: &str = "orders";
pub(crate) const PARTITIONS: i32 = 4;
/// For what takes well below a second unless something is wrong.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// One node, and a topic with that many partitions.
pub(crate) async fn cluster_with(partitions: i32) -> (Cluster, Client) {
    let cluster =
        Cluster::start(ClusterConfig::with_nodes(1, "127.0.0.1", 0), None).await.expect("a free port");
    let client = connect(&cluster).await;
    let topics = [NewTopic::new(TOPIC, partitions, 1)];
    Admin::new(&client).create_topics(topics).await.and_then(|created| created.all()).expect("it is new");
    (cluster, client)
}

pub(crate) async fn cluster() -> (Cluster, Client) {
    cluster_with(PARTITIONS).await
}

pub(crate) async fn connect(cluster: &Cluster) -> Client {
    Client::builder().bootstrap_servers(cluster.bootstrap_servers()).connect().await.expect("it runs")
}

pub(crate) fn member(client: &Client) -> ConsumerBuilder {
    Consumer::builder(client)
        .group("billing")
        .on_missing_offset(Reset::Earliest)
        .session_timeout(Duration::from_secs(6))
}

pub(crate) async fn produce(client: &Client, numbers: std::ops::Range<u32>) -> Result<()> {
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
pub(crate) struct Effects(pub(crate) BTreeMap<u32, u32>);

impl Effects {
    pub(crate) fn handle(&mut self, value: Option<&[u8]>) {
        let text = std::str::from_utf8(value.unwrap_or_default()).unwrap_or_default();
        *self.0.entry(text.parse().expect("a number")).or_default() += 1;
    }

    pub(crate) fn is_each_once(&self, numbers: std::ops::Range<u32>) -> bool {
        self.0.keys().copied().eq(numbers) && self.0.values().all(|times| *times == 1)
    }
}

pub(crate) async fn handle_until(consumer: &Consumer, effects: &mut Effects, count: usize) -> Result<()> {
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
