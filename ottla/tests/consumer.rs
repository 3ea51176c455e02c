//! The consumer against the embedded cluster, over real sockets.

use std::{collections::BTreeMap, time::Duration};

use ottla::{
    Admin, Client, Compression, Consumer, Header, NewTopic, OffsetSpec, OwnedRecord, Producer, Record, Reset,
    Result, TopicPartition,
};
use ottla_broker::{ClusterConfig, disk::Tail, tcp::Cluster};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);
/// After this a broker that crashed is noticed, where that matters.
const MOMENT: Duration = Duration::from_millis(500);

async fn cluster(nodes: usize) -> Cluster {
    Cluster::start(ClusterConfig::with_nodes(nodes, "127.0.0.1", 0), None).await.expect("a free port")
}

async fn client(cluster: &Cluster) -> Result<Client> {
    let builder = Client::builder().bootstrap_servers(cluster.bootstrap_servers());
    builder.request_timeout(Duration::from_secs(2)).connect().await
}

async fn topic(client: &Client, name: &str, partitions: i32, replicas: i16) -> Result<()> {
    Admin::new(client).create_topics([NewTopic::new(name, partitions, replicas)]).await?.all().map(drop)
}

/// A consumer that reads partitions `0..partitions` of a topic from the start.
fn reader(client: &Client, topic: &str, partitions: i32) -> Result<Consumer> {
    let consumer = Consumer::builder(client).build()?;
    consumer.assign((0..partitions).map(|partition| ((topic, partition), OffsetSpec::Earliest)))?;
    Ok(consumer)
}

/// Reads until `count` records have come; by partition, and checks that offsets come once and in order.
async fn read(consumer: &Consumer, count: usize) -> Result<BTreeMap<i32, Vec<OwnedRecord>>> {
    let mut seen = BTreeMap::<i32, Vec<OwnedRecord>>::new();
    let mut records = 0;
    while records < count {
        let batch = timeout(PATIENCE, consumer.poll()).await.expect("records come")?.expect("it is open");
        let of_partition = seen.entry(batch.partition()).or_default();
        for record in &batch {
            let before = of_partition.last().map(OwnedRecord::offset);
            assert!(before.is_none_or(|before| before < record.offset()), "{batch:?} after {before:?}");
            of_partition.push(record.detach());
            records += 1;
        }
    }
    Ok(seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_produced_comes_back_as_it_was() -> Result<()> {
    let cluster = cluster(1).await;
    let client = client(&cluster).await?;
    topic(&client, "orders", 1, 1).await?;
    let codecs =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let large = vec![7_u8; 300_000];
    for codec in codecs {
        let producer = Producer::builder(&client).compression(codec).build()?;
        let headers = [
            Header::new("via", "web"),
            Header::null("via"),
            Header::new("", ""),
            Header::new(b"caf\xe9", "1"),
        ];
        for record in [
            Record::new("plain"),
            Record::new("with headers").key("k").headers(&headers),
            Record::new("").key(""),
            Record::tombstone("gone"),
            Record::new(&large),
        ] {
            producer.send("orders", record).await?;
        }
        producer.close().await?;
    }
    let consumer = reader(&client, "orders", 1)?;
    let seen = read(&consumer, 5 * codecs.len()).await?.remove(&0).unwrap();
    for of_codec in seen.chunks(5) {
        let texts: Vec<_> =
            of_codec.iter().map(|record| (record.key(), record.value().map(|v| v.len()))).collect();
        let (k, empty, gone) = ("k".into(), "".into(), "gone".into());
        let expected = [
            (None, Some(5)),
            (Some(&k), Some(12)),
            (Some(&empty), Some(0)),
            (Some(&gone), None),
            (None, Some(large.len())),
        ];
        assert_eq!(texts, expected);
        let headers: Vec<_> = of_codec[1]
            .headers()
            .iter()
            .map(|header| (header.key_bytes(), header.value().map(|value| &value[..])))
            .collect();
        let expected =
            [(&b"via"[..], Some(&b"web"[..])), (b"via", None), (b"", Some(b"")), (b"caf\xe9", Some(b"1"))];
        assert_eq!(headers, expected);
        assert!(of_codec[0].timestamp().to_system_time().is_some());
    }
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_forwarded_as_it_was_read() -> Result<()> {
    let cluster = cluster(1).await;
    let client = client(&cluster).await?;
    topic(&client, "in", 1, 1).await?;
    topic(&client, "out", 1, 1).await?;
    let producer = Producer::builder(&client).build()?;
    let headers = [Header::new("via", "web"), Header::new("via", "eu")];
    producer.send("in", Record::new("v").key("k").headers(&headers)).await?;
    let incoming = reader(&client, "in", 1)?.recv().await?.unwrap();
    producer.send("out", incoming.view()).await?;
    let outgoing = reader(&client, "out", 1)?.recv().await?.unwrap();
    let (sent, got) = (incoming.view(), outgoing.view());
    assert_eq!((got.key(), got.value(), got.timestamp()), (sent.key(), sent.value(), sent.timestamp()));
    assert_eq!(got.headers().collect::<Vec<_>>(), headers);
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c03_leaders_that_crash_and_come_back_cost_no_record_and_repeat_none() -> Result<()> {
    const RECORDS: usize = 3_000;
    let mut config = ClusterConfig::with_nodes(3, "127.0.0.1", 0);
    (config.broker_heartbeat_interval, config.broker_session_timeout) = (MOMENT / 5, MOMENT);
    let cluster = Cluster::start(config, None).await.expect("a free port");
    let client = client(&cluster).await?;
    topic(&client, "orders", 3, 3).await?;
    let producer = Producer::builder(&client).build()?;
    let consumer = reader(&client, "orders", 3)?;
    let producing = async {
        for n in 0..RECORDS {
            let value = n.to_string();
            producer.send("orders", Record::new(&value).partition((n % 3) as i32)).await?;
            match n {
                500 => cluster.crash(1, Tail::Lost).await.expect("it runs"),
                1_000 => cluster.restart(1).await.expect("it was crashed"),
                1_500 => cluster.crash(2, Tail::Lost).await.expect("it runs"),
                2_000 => cluster.restart(2).await.expect("it was crashed"),
                _ => {}
            }
        }
        Ok::<_, ottla::Error>(())
    };
    let (produced, seen) = tokio::join!(producing, read(&consumer, RECORDS));
    produced?;
    for (partition, records) in seen? {
        let values: Vec<_> = records.iter().map(|record| record.value().unwrap().to_vec()).collect();
        let expected: Vec<_> =
            (0..RECORDS).skip(partition as usize).step_by(3).map(|n| n.to_string().into_bytes()).collect();
        assert_eq!(values, expected, "partition {partition}");
    }
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_holds_up_only_its_own_partitions() -> Result<()> {
    let cluster = cluster(2).await;
    let client = client(&cluster).await?;
    topic(&client, "orders", 2, 1).await?;
    let producer = Producer::builder(&client).build()?;
    for n in 0..2_000_i32 {
        drop(producer.enqueue("orders", Record::new(&n.to_be_bytes()).partition(n % 2)).await?);
    }
    producer.flush().await?;
    let consumer = reader(&client, "orders", 2)?;
    let first = consumer.recv().await?.expect("it is open").view().partition();
    let leaders = Admin::new(&client).describe_topics(["orders"]).await?.all()?;
    let other = leaders[0].1.partitions[(1 - first) as usize].leader.expect("it has one");
    cluster.freeze(other).await.expect("it runs");
    consumer.assign((0..2).map(|partition| (("orders", partition), OffsetSpec::At(0))))?;
    let mut of_first = 0;
    while of_first < 1_000 {
        let batch = timeout(PATIENCE, consumer.poll()).await.expect("records come")?.expect("it is open");
        of_first += if batch.partition() == first { batch.len() } else { 0 };
    }
    cluster.thaw(other).await.expect("it was frozen");
    consumer.assign([(("orders", 1 - first), OffsetSpec::At(0))])?;
    assert_eq!(read(&consumer, 1_000).await?[&(1 - first)].len(), 1_000);
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c08_a_topic_that_is_created_anew_is_read_from_where_the_policy_says() -> Result<()> {
    let cluster = cluster(1).await;
    let builder = Client::builder().bootstrap_servers(cluster.bootstrap_servers());
    let client = builder.metadata_max_age(Duration::from_millis(100)).connect().await?;
    topic(&client, "orders", 1, 1).await?;
    let producer = Producer::builder(&client).build()?;
    for value in ["a", "b", "c"] {
        producer.send("orders", Record::new(value)).await?;
    }
    let consumer = Consumer::builder(&client).on_out_of_range(Reset::Earliest).build()?;
    let orders = TopicPartition::new("orders", 0);
    consumer.assign([(orders.clone(), OffsetSpec::Earliest)])?;
    assert_eq!(read(&consumer, 3).await?[&0].len(), 3);

    Admin::new(&client).delete_topics(["orders"]).await?.all()?;
    topic(&client, "orders", 1, 1).await?;
    let producer = Producer::builder(&client).build()?;
    producer.send("orders", Record::new("d")).await?;
    let record = timeout(PATIENCE, consumer.recv()).await.expect("it comes")?.expect("it is open");
    assert_eq!((record.view().offset(), record.view().value()), (0, Some(&b"d"[..])));
    client.close().await?;
    cluster.stop().await;
    Ok(())
}
