//! Consumers in a group against the embedded cluster, over real sockets.

use std::{collections::BTreeSet, time::Duration};

use ottla::{Admin, Client, Consumer, Event, Events, NewTopic, Reset, Result, TopicPartition};
use ottla_broker::{ClusterConfig, tcp::Cluster};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(30);
const GROUP: &str = "billing";
const TOPIC: &str = "orders";
const PARTITIONS: i32 = 4;

async fn cluster(nodes: usize) -> Result<Cluster> {
    let mut config = ClusterConfig::with_nodes(nodes, "127.0.0.1", 0);
    config.groups.min_session_timeout = Duration::from_secs(1);
    let cluster = Cluster::start(config, None).await.expect("a free port");
    let client = client(&cluster).await?;
    Admin::new(&client).create_topics([NewTopic::new(TOPIC, PARTITIONS, 1)]).await?.all()?;
    client.close().await?;
    Ok(cluster)
}

async fn client(cluster: &Cluster) -> Result<Client> {
    Client::builder().bootstrap_servers(cluster.bootstrap_servers()).connect().await
}

fn member(client: &Client) -> Result<Consumer> {
    Consumer::builder(client).group(GROUP).on_missing_offset(Reset::Earliest).build()
}

/// The events up to the first that `wanted` gives something for.
async fn until<T>(events: &mut Events, what: &str, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    let mut seen = Vec::new();
    let look = async {
        loop {
            let event = events.recv().await.expect("the client is open");
            seen.push(format!("{event:?}"));
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    };
    match timeout(PATIENCE, look).await {
        Ok(found) => found,
        Err(_) => panic!("no {what} among {seen:#?}"),
    }
}

async fn assigned(events: &mut Events) -> BTreeSet<TopicPartition> {
    until(events, "assignment", |event| match event {
        Event::PartitionsAssigned { partitions, .. } => Some(partitions.iter().cloned().collect()),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_share_the_partitions_and_one_takes_over_from_the_other() -> Result<()> {
    let cluster = cluster(1).await?;
    let (client_a, client_b) = (client(&cluster).await?, client(&cluster).await?);
    let (mut events_a, mut events_b) = (client_a.events(), client_b.events());
    let a = member(&client_a)?;
    a.subscribe([TOPIC])?;
    assert_eq!(assigned(&mut events_a).await.len(), 4);

    let b = member(&client_b)?;
    b.subscribe([TOPIC])?;
    let moved = assigned(&mut events_b).await;
    assert_eq!(moved.len(), 2);
    let revoked = until(&mut events_a, "revocation", |event| match event {
        Event::PartitionsRevoked { partitions, .. } => {
            Some(partitions.iter().cloned().collect::<BTreeSet<_>>())
        }
        _ => None,
    });
    assert_eq!(revoked.await, moved);

    b.close().await?;
    assert_eq!(assigned(&mut events_a).await, moved);
    client_a.close().await?;
    client_b.close().await?;
    cluster.stop().await;
    Ok(())
}
