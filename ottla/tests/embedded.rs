//! The client against the embedded cluster, over real sockets.

use std::time::Duration;

use ottla::{Admin, Client, ClientBuilder, ErrorCode, NewTopic, Result};
use ottla_broker::{ClusterConfig, tcp::Cluster};

async fn cluster(nodes: usize) -> Cluster {
    Cluster::start(ClusterConfig::with_nodes(nodes, "127.0.0.1", 0), None).await.expect("a free port")
}

fn builder(cluster: &Cluster) -> ClientBuilder {
    Client::builder().bootstrap_servers(cluster.bootstrap_servers())
}

#[tokio::test]
async fn topics_come_and_go() -> Result<()> {
    let cluster = cluster(3).await;
    let client = builder(&cluster).connect().await?;
    let admin = Admin::new(&client);

    let topics = ["orders", "refunds"].map(|name| NewTopic::new(name, 4, 3));
    let created = admin.create_topics(topics).timeout(Duration::from_secs(10)).await?.all()?;
    assert!(created.iter().all(|(_, topic)| topic.partitions == 4 && !topic.id.is_zero()));
    let again = admin.create_topics([NewTopic::new("orders", 1, 1)]).await?.all().unwrap_err();
    assert_eq!(again.broker_code(), Some(ErrorCode::TOPIC_ALREADY_EXISTS));

    let described = admin.describe_topics(["orders"]).await?.all()?;
    assert_eq!(described[0].1.partitions.len(), 4);
    admin.delete_topics(["refunds"]).await?.all()?;
    let names: Vec<_> = admin.list_topics().await?.into_iter().map(|topic| topic.name).collect();
    assert_eq!(names, ["orders"]);

    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_frozen_broker_delays_administration_by_a_request_timeout_at_most() -> Result<()> {
    let cluster = cluster(3).await;
    let client = builder(&cluster).request_timeout(Duration::from_millis(300)).connect().await?;
    let admin = Admin::new(&client);
    for node in 1..=3 {
        cluster.freeze(node).await.expect("it exists");
        let topic = NewTopic::new(format!("while-{node}-is-frozen"), 1, 1);
        admin.create_topics([topic]).timeout(Duration::from_secs(10)).await?.all()?;
        cluster.thaw(node).await.expect("it exists");
    }
    client.close().await?;
    cluster.stop().await;
    Ok(())
}
