//! The fault proxy between the client and the embedded cluster, over real sockets.

use std::time::Duration;

use ottla::{Admin, Client, Consumer, Event, NewTopic, OffsetSpec, Producer, Record, Result, TopicPartition};
use ottla_broker::{ClusterConfig, tcp::Cluster};
use ottla_sim::proxy::{Direction, Proxy};

const TOPIC: &str = "orders";
const PARTITIONS: i32 = 6;

struct World {
    cluster: Cluster,
    proxy: Proxy,
    client: Client,
}

/// Three brokers, of which the client is told one, through the proxy.
async fn world() -> Result<World> {
    let cluster =
        Cluster::start(ClusterConfig::with_nodes(3, "127.0.0.1", 0), None).await.expect("free ports");
    let proxy = Proxy::start(&cluster.bootstrap_servers()[..1]).await.expect("a free port");
    let client = Client::builder()
        .bootstrap_servers(proxy.bootstrap_servers())
        .request_timeout(Duration::from_secs(2))
        .connect()
        .await?;
    Admin::new(&client).create_topics([NewTopic::new(TOPIC, PARTITIONS, 3)]).await?.all()?;
    Ok(World { cluster, proxy, client })
}

impl World {
    async fn produce(&self, values: std::ops::Range<u32>) -> Result<()> {
        let producer = Producer::builder(&self.client).build()?;
        for value in values {
            let text = value.to_string();
            producer.send(TOPIC, Record::new(&text).key(&text)).await?;
        }
        Ok(producer.close().await?)
    }

    /// Reads as many records as there should be, and says which they were.
    async fn read(&self, count: usize) -> Result<Vec<u32>> {
        let consumer = Consumer::builder(&self.client).build()?;
        consumer.assign((0..PARTITIONS).map(|at| (TopicPartition::new(TOPIC, at), OffsetSpec::Earliest)))?;
        let mut values = Vec::new();
        while values.len() < count
            && let Some(record) = consumer.recv().await?
        {
            let value = std::str::from_utf8(record.view().value().unwrap_or_default()).unwrap_or_default();
            values.push(value.parse().expect("a number"));
        }
        consumer.close().await?;
        values.sort_unstable();
        Ok(values)
    }

    async fn end(self) -> Result<()> {
        self.client.close().await?;
        self.cluster.stop().await;
        Ok(())
    }
}

#[tokio::test]
async fn a_client_never_learns_a_way_around_the_proxy() -> Result<()> {
    let world = world().await?;
    let mut events = world.client.events();
    world.produce(0..50).await?;
    assert_eq!(world.read(50).await?, (0..50).collect::<Vec<_>>());

    let real = world.cluster.bootstrap_servers();
    let proxied = world.proxy.bootstrap_servers();
    assert_eq!(proxied.len(), 3, "each broker that was named has a listener");
    let client = world.client.clone();
    world.end().await?;
    drop(client);
    let mut connections = 0;
    while let Some(event) = events.recv().await {
        if let Event::BrokerConnected { address, .. } = event {
            assert!(
                proxied.contains(&address.to_string()) && !real.contains(&address.to_string()),
                "{address}"
            );
            connections += 1;
        }
    }
    assert!(connections >= 3, "partitions of all brokers were written and read");
    Ok(())
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_when_connections_are_reset_in_the_middle_of_frames() -> Result<()> {
    let world = world().await?;
    for (round, direction) in [Direction::Requests, Direction::Responses].into_iter().enumerate() {
        for faults in world.proxy.all() {
            faults.reset_after(direction, 700);
        }
        let first = 100 * u32::try_from(round).expect("small");
        world.produce(first..first + 100).await?;
        for faults in world.proxy.all() {
            faults.heal();
        }
    }
    assert_eq!(world.read(200).await?, (0..200).collect::<Vec<_>>());
    world.end().await
}

#[tokio::test]
async fn what_was_sent_to_a_frozen_broker_arrives_when_it_thaws() -> Result<()> {
    let world = world().await?;
    world.produce(0..10).await?;
    for faults in world.proxy.all() {
        faults.freeze();
    }
    let producing = world.produce(10..20);
    let mut producing = Box::pin(producing);
    let frozen = tokio::time::timeout(Duration::from_millis(300), &mut producing).await;
    assert!(frozen.is_err(), "nobody answers");
    for faults in world.proxy.all() {
        faults.thaw();
    }
    producing.await?;
    assert_eq!(world.read(20).await?, (0..20).collect::<Vec<_>>());
    world.end().await
}

#[tokio::test]
async fn a_request_that_vanishes_is_sent_again_on_another_connection() -> Result<()> {
    let world = world().await?;
    world.produce(0..10).await?;
    for faults in world.proxy.all() {
        faults.black_hole(Direction::Responses);
    }
    let producing = world.produce(10..20);
    let mut producing = Box::pin(producing);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut producing).await.is_err());
    for faults in world.proxy.all() {
        faults.heal();
    }
    producing.await?;
    assert_eq!(
        world.read(20).await?,
        (0..20).collect::<Vec<_>>(),
        "written once, though the first answer is gone"
    );
    world.end().await
}

#[tokio::test]
async fn a_broker_that_refuses_connections_is_reached_when_it_heals() -> Result<()> {
    let world = world().await?;
    let real = world.cluster.bootstrap_servers();
    for server in &real {
        let faults = world.proxy.broker(server).expect("the cluster named all of them");
        faults.refuse();
        faults.cut();
    }
    assert!(world.proxy.broker("127.0.0.1:1").is_err(), "nobody has named that one");
    let producing = world.produce(0..10);
    let mut producing = Box::pin(producing);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut producing).await.is_err());
    for faults in world.proxy.all() {
        faults.heal();
        faults.delay(Direction::Responses, Duration::from_millis(5));
    }
    producing.await?;
    assert_eq!(world.read(10).await?, (0..10).collect::<Vec<_>>());
    world.end().await
}
