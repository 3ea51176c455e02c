//! Keeping the cluster's metadata current.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use ottla_core::metadata::LeaderHint;
use ottla_protocol::{
    ApiKey, ErrorCode,
    messages::{MetadataRequest, MetadataResponse},
};
use tokio::time::{Instant, sleep, timeout};

use crate::scripted::{Cluster, Listener, Reply, World, answer, api_versions, api_versions_with};
use crate::{
    Client, ErrorKind,
    metadata::MetadataDriver,
    net::{Lane, lock},
};

const SECOND: Duration = Duration::from_secs(1);

/// A cluster of one broker that tells what `cluster` holds at the moment, and counts how often it is asked.
fn telling(world: &Arc<World>, cluster: Cluster) -> (Arc<Mutex<Cluster>>, Arc<AtomicUsize>) {
    let (cluster, asked) = (Arc::new(Mutex::new(cluster)), Arc::new(AtomicUsize::new(0)));
    let (told, count) = (cluster.clone(), asked.clone());
    world.serve(1, move |request| match request.api_key {
        ApiKey::API_VERSIONS => api_versions(request, 4),
        _ => {
            count.fetch_add(1, Ordering::Relaxed);
            lock(&told).metadata(request)
        }
    });
    (cluster, asked)
}

fn metadata(client: &Client) -> &MetadataDriver {
    &client.shared().metadata
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_known_as_soon_as_the_broker_tells() {
    let world = World::new();
    let (_, asked) = telling(&world, Cluster::new(&[1]).topic("orders", &[0, 0]));
    let client = world.client(&["10.0.0.1:1"]);
    assert!(metadata(&client).topic_now("orders").is_none());
    let topics = join_all((0..20).map(|_| metadata(&client).topic("orders"))).await;
    assert!(topics.iter().all(|topic| topic.as_ref().is_ok_and(|topic| topic.partitions.len() == 2)));
    assert_eq!(asked.load(Ordering::Relaxed), 1, "however many wait, one question is enough");
    assert!(metadata(&client).topic_now("orders").is_some());
}

#[tokio::test(start_paused = true)]
async fn topics_looked_up_one_after_the_other_do_not_wait() {
    let world = World::new();
    let mut cluster = Cluster::new(&[1]);
    for n in 0..20 {
        cluster = cluster.topic(&format!("t{n}"), &[0]);
    }
    telling(&world, cluster);
    let client = world.client(&["10.0.0.1:1"]);
    let started = Instant::now();
    for n in 0..20 {
        metadata(&client).topic(&format!("t{n}")).await.unwrap();
    }
    assert!(started.elapsed() < SECOND / 10, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_created_meanwhile_is_found() {
    let world = World::new();
    let (cluster, _) = telling(&world, Cluster::new(&[1]));
    let client = world.client(&["10.0.0.1:1"]);
    let create = async {
        sleep(2 * SECOND).await;
        lock(&cluster).topics.insert("orders".to_owned(), vec![0]);
    };
    let (found, ()) = tokio::join!(metadata(&client).topic("orders"), create);
    assert_eq!(found.unwrap().name.as_str(), "orders");
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_does_not_exist_is_refused_after_the_grace_time() {
    let world = World::new();
    let (_, asked) = telling(&world, Cluster::new(&[1]));
    let client = world.client(&["10.0.0.1:1"]);
    let started = Instant::now();
    let error = metadata(&client).topic("orders").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert!((5..8).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    let asked_then = asked.load(Ordering::Relaxed);
    assert!(asked_then < 15, "{asked_then}");
    sleep(60 * SECOND).await;
    assert_eq!(asked.load(Ordering::Relaxed), asked_then, "nobody is interested any more");
}

#[tokio::test(start_paused = true)]
async fn metadata_is_asked_for_again_by_age_and_changes_are_told() {
    let world = World::new();
    let (cluster, _) = telling(&world, Cluster::new(&[1]).topic("orders", &[0]));
    let client = world.builder(&["10.0.0.1:1"]).metadata_max_age(10 * SECOND).connect().await.unwrap();
    metadata(&client).topic("orders").await.unwrap();
    let seen = metadata(&client).snapshot().version;
    lock(&cluster).topics.insert("orders".to_owned(), vec![0, 0, 0]);
    let started = Instant::now();
    let snapshot = metadata(&client).changed(seen).await;
    assert_eq!(snapshot.topics["orders"].partitions.len(), 3);
    assert!(started.elapsed() <= 11 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_swarm_of_routing_failures_is_a_handful_of_questions() {
    let world = World::new();
    let (_, asked) = telling(&world, Cluster::new(&[1]).topic("orders", &[0]));
    let client = world.client(&["10.0.0.1:1"]);
    metadata(&client).topic("orders").await.unwrap();
    for _ in 0..10_000 {
        metadata(&client).refresh();
        sleep(Duration::from_millis(1)).await;
    }
    let asked = asked.load(Ordering::Relaxed);
    assert!((8..=16).contains(&asked), "{asked} questions in 10 s");
}

#[tokio::test(start_paused = true)]
async fn a_frozen_broker_does_not_hold_up_the_question() {
    let world = World::new();
    let cluster = Cluster::new(&[1, 2]).topic("orders", &[0]);
    let frozen = Arc::new(Mutex::new(None::<u16>));
    for port in [1, 2] {
        let (script, frozen) = (cluster.clone().script(), frozen.clone());
        world.serve(port, move |request| match *lock(&frozen) {
            Some(which) if which == port => Reply::Nothing,
            _ => script(request),
        });
    }
    let client = world.builder(&["10.0.0.1:1"]).connect().await.unwrap();
    for port in [1, 2] {
        *lock(&frozen) = Some(port);
        let started = Instant::now();
        metadata(&client).topic(&format!("new-{port}")).await.unwrap_err();
        assert!(started.elapsed() < 9 * SECOND, "{:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn while_nobody_answers_the_reason_is_known_and_the_wait_goes_on() {
    let world = World::new();
    let client = world.client(&["10.0.0.1:1"]);
    let waiting = timeout(60 * SECOND, metadata(&client).topic("orders")).await;
    assert!(waiting.is_err(), "the caller bounds it");
    let reason = metadata(&client).last_error().unwrap();
    assert!(format!("{reason:#}").contains("10.0.0.1:1"), "{reason:#}");
    telling(&world, Cluster::new(&[1]).topic("orders", &[0]));
    let healed = Instant::now();
    metadata(&client).topic("orders").await.unwrap();
    assert!(healed.elapsed() <= 3 * SECOND, "{:?}", healed.elapsed());
    assert!(metadata(&client).last_error().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_leader_named_in_passing_is_told_at_once() {
    let world = World::new();
    let (_, asked) = telling(&world, Cluster::new(&[1, 2]).topic("orders", &[0]));
    world.listen(2, Listener::Refuse);
    let client = world.client(&["10.0.0.1:1"]);
    metadata(&client).topic("orders").await.unwrap();
    let seen = metadata(&client).snapshot().version;
    metadata(&client).leader_hints([LeaderHint {
        topic: "orders",
        partition: 0,
        leader_id: 1,
        leader_epoch: 1,
        endpoint: None,
    }]);
    assert_eq!(metadata(&client).changed(seen).await.leader("orders", 0), Some(1));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_tells_nothing_is_passed_over() {
    let world = World::new();
    let cluster = Cluster::new(&[1, 2]).topic("orders", &[0]);
    world.serve(1, Cluster::new(&[]).script());
    world.serve(2, cluster.script());
    let client = world.client(&["10.0.0.1:1", "10.0.0.1:2"]);
    let started = Instant::now();
    metadata(&client).topic("orders").await.unwrap();
    assert!(started.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_requires_it_is_left_for_the_bootstrap_servers() {
    let world = World::new();
    let refuses = Arc::new(AtomicBool::new(false));
    for port in [1, 2] {
        let (script, refuses) = (Cluster::new(&[2]).script(), refuses.clone());
        world.serve(port, move |request| match request.api_key {
            ApiKey::METADATA if port == 2 && refuses.load(Ordering::Relaxed) => {
                // The error is told from version 13 on.
                request.api_version = 13;
                let error_code = ErrorCode::REBOOTSTRAP_REQUIRED;
                answer::<MetadataRequest>(request, &MetadataResponse { error_code, ..Default::default() })
            }
            ApiKey::API_VERSIONS => api_versions_with(request, &[(ApiKey::METADATA, 13)]),
            _ => {
                request.api_version = 13;
                script(request)
            }
        });
    }
    let client = world.client(&["10.0.0.1:1"]);
    client.shared().metadata.cluster().await.unwrap();
    let left = client.shared().brokers.connection(0, Lane::Control).await.unwrap();
    refuses.store(true, Ordering::Relaxed);
    metadata(&client).refresh();
    left.closed().await;
    metadata(&client).cluster().await.unwrap();
    client.shared().brokers.connection(0, Lane::Control).await.unwrap();
}
