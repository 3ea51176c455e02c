//! Brokers that know no more than old releases of Kafka did: all of it goes on, in the versions that they have. The embedded
//! cluster says so in its answer to ApiVersions, and every answer after that is looked at.

mod group_world;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use group_world::{Effects, TOPIC, cluster, connect, handle_until, member, produce};
use ottla::{Admin, NewTopic, Result};
use ottla_broker::{
    faults::{Effect, Fault},
    tcp::Cluster,
};
use ottla_protocol::{ApiKey, ApiVersionsRequest};

/// The newest version of each API that a client needs; others are not there at all.
type Release = &'static [(ApiKey, i16)];

const KAFKA_2_1: Release = &[
    (ApiKey::PRODUCE, 7),
    (ApiKey::FETCH, 10),
    (ApiKey::LIST_OFFSETS, 4),
    (ApiKey::METADATA, 7),
    (ApiKey::OFFSET_COMMIT, 6),
    (ApiKey::OFFSET_FETCH, 5),
    (ApiKey::FIND_COORDINATOR, 2),
    (ApiKey::JOIN_GROUP, 3),
    (ApiKey::HEARTBEAT, 2),
    (ApiKey::LEAVE_GROUP, 2),
    (ApiKey::SYNC_GROUP, 2),
    (ApiKey::DESCRIBE_GROUPS, 2),
    (ApiKey::LIST_GROUPS, 2),
    (ApiKey::API_VERSIONS, 2),
    (ApiKey::CREATE_TOPICS, 3),
    (ApiKey::DELETE_TOPICS, 3),
    (ApiKey::INIT_PRODUCER_ID, 1),
    (ApiKey::OFFSET_FOR_LEADER_EPOCH, 2),
    (ApiKey::DESCRIBE_CONFIGS, 2),
    (ApiKey::CREATE_PARTITIONS, 1),
    (ApiKey::DELETE_GROUPS, 1),
];

const KAFKA_3_0: Release = &[
    (ApiKey::PRODUCE, 9),
    (ApiKey::FETCH, 12),
    (ApiKey::LIST_OFFSETS, 7),
    (ApiKey::METADATA, 11),
    (ApiKey::OFFSET_COMMIT, 8),
    (ApiKey::OFFSET_FETCH, 8),
    (ApiKey::FIND_COORDINATOR, 4),
    (ApiKey::JOIN_GROUP, 7),
    (ApiKey::HEARTBEAT, 4),
    (ApiKey::LEAVE_GROUP, 4),
    (ApiKey::SYNC_GROUP, 5),
    (ApiKey::DESCRIBE_GROUPS, 5),
    (ApiKey::LIST_GROUPS, 4),
    (ApiKey::API_VERSIONS, 3),
    (ApiKey::CREATE_TOPICS, 7),
    (ApiKey::DELETE_TOPICS, 6),
    (ApiKey::INIT_PRODUCER_ID, 4),
    (ApiKey::OFFSET_FOR_LEADER_EPOCH, 4),
    (ApiKey::DESCRIBE_CONFIGS, 4),
    (ApiKey::CREATE_PARTITIONS, 3),
    (ApiKey::DELETE_GROUPS, 2),
];

/// The versions in which requests were answered.
type Answered = Arc<Mutex<BTreeMap<i16, i16>>>;

/// From here on the brokers are of that release.
fn become_old(cluster: &Cluster, release: Release) -> Answered {
    cluster.faults().add(Fault::on::<ApiVersionsRequest>(Effect::edit::<ApiVersionsRequest>(|answer| {
        answer.api_keys.retain_mut(|range| {
            let newest = release.iter().find(|(key, _)| key.0 == range.api_key);
            newest.is_some_and(|(_, newest)| {
                range.max_version = range.max_version.min(*newest);
                true
            })
        });
    })));
    let answered = Answered::default();
    let noted = Arc::clone(&answered);
    cluster.faults().add(Fault::on_any(Effect::rewrite(move |api, version, answer| {
        let mut noted = noted.lock().expect("nobody panics with it");
        let newest = noted.entry(api.0).or_insert(version);
        *newest = version.max(*newest);
        answer
    })));
    answered
}

async fn serves_everything(release: Release) -> Result<()> {
    let (cluster, modern) = cluster().await;
    modern.close().await?;
    let answered = become_old(&cluster, release);

    let client = connect(&cluster).await;
    let admin = Admin::new(&client);
    admin.create_topics([NewTopic::new("another", 2, 1)]).await?.all()?;
    assert_eq!(admin.describe_topics(["another"]).await?.all()?[0].1.partitions.len(), 2);
    admin.delete_topics(["another"]).await?.all()?;

    produce(&client, 0..100).await?;
    let consumer = member(&client).build()?;
    consumer.subscribe([TOPIC])?;
    let mut effects = Effects::default();
    handle_until(&consumer, &mut effects, 100).await?;
    consumer.commit().await?;
    consumer.close().await?;
    produce(&client, 100..120).await?;
    let successor = member(&client).build()?;
    successor.subscribe([TOPIC])?;
    handle_until(&successor, &mut effects, 120).await?;
    assert!(effects.is_each_once(0..120), "the next member goes on where the first has ended");
    successor.close().await?;
    client.close().await?;

    let answered = answered.lock().expect("nobody panics with it").clone();
    for (api, version) in &answered {
        let newest = release.iter().find(|(key, _)| key.0 == *api).map(|(_, newest)| *newest);
        assert!(newest >= Some(*version), "{} in version {version}", ApiKey(*api));
    }
    let needed =
        [ApiKey::PRODUCE, ApiKey::FETCH, ApiKey::JOIN_GROUP, ApiKey::OFFSET_COMMIT, ApiKey::OFFSET_FETCH];
    assert!(needed.iter().all(|api| answered.contains_key(&api.0)), "{answered:?}");
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn brokers_of_kafka_2_1_serve_topics_producers_and_groups() -> Result<()> {
    serves_everything(KAFKA_2_1).await
}

#[tokio::test]
async fn brokers_of_kafka_3_0_serve_topics_producers_and_groups() -> Result<()> {
    serves_everything(KAFKA_3_0).await
}
