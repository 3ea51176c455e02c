//! Administration against scripted brokers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ottla_protocol::{
    ApiKey, ErrorCode, RequestFrame,
    messages::{
        CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsRequest, DeleteRecordsResponse,
        DeleteTopicsRequest, DeleteTopicsResponse, ListOffsetsRequest, ListOffsetsResponse,
        create_topics_response::CreatableTopicResult,
        delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
        delete_topics_response::DeletableTopicResult,
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
    },
};
use tokio::time::Instant;

use super::*;
use crate::{
    Error, ErrorKind,
    scripted::{Cluster, DecodeBody, Reply, World, answer},
};

const SECOND: Duration = Duration::from_secs(1);

/// A broker that knows `orders`, and answers CreateTopics and DeleteTopics as `admin` says.
fn world(admin: impl Fn(&mut RequestFrame) -> Reply + Send + Sync + 'static) -> Arc<World> {
    let world = World::new();
    let others = Cluster::new(&[1]).topic("orders", &[0, -1]).script();
    world.serve(1, move |request| match request.api_key {
        ApiKey::CREATE_TOPICS | ApiKey::DELETE_TOPICS => admin(request),
        _ => others(request),
    });
    world
}

fn admin(world: &Arc<World>) -> Admin {
    Admin::new(&world.client(&["10.0.0.1:1"]))
}

/// Answers each topic with the code that `code` gives.
fn created(request: &mut RequestFrame, code: impl Fn(&str) -> Option<ErrorCode>) -> Reply {
    let asked = CreateTopicsRequest::decode_body(request);
    let topics = asked.topics.iter().filter_map(|topic| {
        Some(CreatableTopicResult {
            name: topic.name.clone(),
            error_code: code(&topic.name)?,
            num_partitions: 12,
            replication_factor: 3,
            ..Default::default()
        })
    });
    let response = CreateTopicsResponse { topics: topics.collect(), ..Default::default() };
    answer::<CreateTopicsRequest>(request, &response)
}

fn new(name: &str) -> NewTopic {
    NewTopic::new(name, -1, -1).config("retention.ms", "-1")
}

fn kinds<T>(results: PerItem<String, T>) -> Vec<(String, Option<ErrorKind>)> {
    results.into_iter().map(|(item, result)| (item, result.err().map(|error| error.kind()))).collect()
}

#[tokio::test(start_paused = true)]
async fn every_topic_has_its_own_result_in_the_order_asked_for() {
    let world = world(|request| {
        created(request, |name| match name {
            "b" => Some(ErrorCode::TOPIC_ALREADY_EXISTS),
            "c" => None,
            _ => Some(ErrorCode::NONE),
        })
    });
    let results = admin(&world).create_topics(["d", "b", "c", "a"].map(new)).await.unwrap();
    assert_eq!(
        results.iter().next().and_then(|(_, result)| result.as_ref().ok()).map(|d| d.partitions),
        Some(12)
    );
    let exists = Some(ErrorKind::Broker(ErrorCode::TOPIC_ALREADY_EXISTS));
    let expected = [("d", None), ("b", exists), ("c", Some(ErrorKind::Peer)), ("a", None)];
    assert_eq!(kinds(results.clone()), expected.map(|(name, kind)| (name.to_owned(), kind)));
    let first = results.all().unwrap_err();
    assert!(first.to_string().contains("create topic b"), "{first}");
}

#[tokio::test(start_paused = true)]
async fn what_the_controller_did_not_do_is_asked_for_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let world = world(move |request| {
        let attempt = count.fetch_add(1, Ordering::Relaxed);
        created(request, |name| match (name, attempt) {
            (_, 0) => Some(ErrorCode::NOT_CONTROLLER),
            ("b", 1) => Some(ErrorCode::THROTTLING_QUOTA_EXCEEDED),
            ("a", 2..) => panic!("it was done already"),
            _ => Some(ErrorCode::NONE),
        })
    });
    admin(&world).create_topics(["a", "b"].map(new)).await.unwrap().all().unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_tried_again() {
    let lost = Arc::new(AtomicUsize::new(0));
    let count = lost.clone();
    let world = world(move |request| match count.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => Reply::Close,
        _ => created(request, |_| Some(ErrorCode::NONE)),
    });
    admin(&world).create_topics([new("a")]).await.unwrap().all().unwrap();
}

#[tokio::test(start_paused = true)]
async fn time_is_bounded_and_the_last_reason_told() {
    let never = world(|request| created(request, |_| Some(ErrorCode::NOT_CONTROLLER)));
    let started = Instant::now();
    let error = admin(&never).create_topics([new("a")]).timeout(7 * SECOND).await.unwrap_err();
    assert!(started.elapsed() <= 7 * SECOND && started.elapsed() > 5 * SECOND);
    assert!(format!("{error:#}").contains("NOT_CONTROLLER"), "{error:#}");

    let silent = world(|_| Reply::Nothing);
    let started = Instant::now();
    let error = admin(&silent).create_topics([new("a")]).timeout(7 * SECOND).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(started.elapsed() <= 7 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn topics_are_deleted_by_name() {
    let world = world(|request| {
        let asked = DeleteTopicsRequest::decode_body(request);
        let told = asked.topics.iter().map(|topic| DeletableTopicResult {
            name: topic.name.clone(),
            error_code: match topic.name.as_deref() {
                Some("old") => ErrorCode::NONE,
                _ => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            },
            ..Default::default()
        });
        let response = DeleteTopicsResponse { responses: told.collect(), ..Default::default() };
        answer::<DeleteTopicsRequest>(request, &response)
    });
    let results = kinds(admin(&world).delete_topics(["old", "none"]).await.unwrap());
    let unknown = Some(ErrorKind::Broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert_eq!(results, [("old".to_owned(), None), ("none".to_owned(), unknown)]);
}

#[tokio::test(start_paused = true)]
async fn topics_are_described_and_listed() {
    let world = world(|_| Reply::Close);
    let admin = admin(&world);
    let described = admin.describe_topics(["orders", "none"]).await.unwrap();
    let leaders: Vec<_> = described
        .iter()
        .filter_map(|(_, result)| result.as_ref().ok())
        .flat_map(|topic| topic.partitions.iter().map(|partition| partition.leader))
        .collect();
    assert_eq!(leaders, [Some(0), None]);
    let unknown = Some(ErrorKind::Broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert_eq!(kinds(described)[1], ("none".to_owned(), unknown));
    let names: Vec<_> = admin.list_topics().await.unwrap().into_iter().map(|topic| topic.name).collect();
    assert_eq!(names, ["orders"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_asked_for_is_nothing_done() {
    let world = world(|_| Reply::Close);
    assert!(admin(&world).create_topics([]).await.unwrap().is_empty());
    assert_eq!(world.dials().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_quota_says_how_long_to_wait() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let world = world(move |request| {
        let error_code = match count.fetch_add(1, Ordering::Relaxed) {
            0 | 2 => ErrorCode::THROTTLING_QUOTA_EXCEEDED,
            _ => ErrorCode::NONE,
        };
        let topics = vec![CreatableTopicResult { name: "a".into(), error_code, ..Default::default() }];
        let throttle_time_ms = if error_code == ErrorCode::NONE { 0 } else { 3_000 };
        answer::<CreateTopicsRequest>(request, &CreateTopicsResponse { topics, throttle_time_ms })
    });
    let started = Instant::now();
    admin(&world).create_topics([new("a")]).await.unwrap().all().unwrap();
    assert!(started.elapsed() >= 3 * SECOND);
    let error = admin(&world).create_topics([new("a")]).timeout(SECOND).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(3 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_look_at_the_topics_outlasts_an_outage() {
    let world = World::new();
    let admin = admin(&world);
    let comes_back = async {
        tokio::time::sleep(20 * SECOND).await;
        world.serve(1, Cluster::new(&[1]).topic("orders", &[0]).script());
    };
    let (described, listed, ()) =
        tokio::join!(admin.describe_topics(["orders"]), admin.list_topics(), comes_back);
    assert!(described.unwrap().all().is_ok());
    assert_eq!(listed.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_look_at_the_topics_ends_in_time_and_tells_why() {
    let started = Instant::now();
    let error = admin(&World::new()).list_topics().timeout(7 * SECOND).await.unwrap_err();
    assert!((5..=7).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    assert!(error.is_retriable() && format!("{error:#}").contains("10.0.0.1:1"), "{error:#}");
}

/// An answer to ListOffsets for the partitions that were asked for: 10 records, or the code that `code` gives.
fn places(request: &mut RequestFrame, code: impl Fn(i32) -> ErrorCode) -> Reply {
    let asked = ListOffsetsRequest::decode_body(request);
    let topics = asked.topics.iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|part| ListOffsetsPartitionResponse {
                partition_index: part.partition_index,
                error_code: code(part.partition_index),
                offset: 10,
                ..Default::default()
            })
            .collect(),
    });
    let response = ListOffsetsResponse { topics: topics.collect(), ..Default::default() };
    answer::<ListOffsetsRequest>(request, &response)
}

#[tokio::test(start_paused = true)]
async fn places_in_logs_are_asked_for_again_where_leaders_move_and_nowhere_else() {
    let world = World::new();
    let asked = Arc::new(AtomicUsize::new(0));
    for port in [1, 2] {
        let others = Cluster::new(&[1, 2]).topic("orders", &[0, 1, -1]).script();
        let asked = asked.clone();
        world.serve(port, move |request| match request.api_key {
            ApiKey::LIST_OFFSETS => {
                let attempt = asked.fetch_add(1, Ordering::Relaxed);
                places(request, |partition| match (partition, attempt) {
                    (1, 0..=2) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
                    _ => ErrorCode::NONE,
                })
            }
            _ => others(request),
        });
    }
    let orders = |partition| (TopicPartition::new("orders", partition), OffsetSpec::Latest);
    let request = admin(&world).list_offsets([2, 1, 0, 9].map(orders)).timeout(7 * SECOND);
    let results: Vec<_> = request.await.unwrap().into_iter().map(|(_, result)| result).collect();
    let code = |at: usize| results[at].as_ref().err().and_then(Error::broker_code);
    assert_eq!(code(0), Some(ErrorCode::LEADER_NOT_AVAILABLE), "until time is up");
    assert_eq!(code(3), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    for answered in [1, 2] {
        assert_eq!(results[answered].as_ref().unwrap().map(|place| place.offset), Some(10));
    }
    assert!(asked.load(Ordering::Relaxed) <= 5, "what is answered is not asked for again");
}

/// An answer to DeleteRecords: each log begins where it was asked to, or the code that `code` gives.
fn dropped(request: &mut RequestFrame, code: impl Fn(i32) -> ErrorCode) -> Reply {
    let asked = DeleteRecordsRequest::decode_body(request);
    let topics = asked.topics.iter().map(|topic| DeleteRecordsTopicResult {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|part| DeleteRecordsPartitionResult {
                partition_index: part.partition_index,
                low_watermark: if part.offset == -1 { 99 } else { part.offset },
                error_code: code(part.partition_index),
            })
            .collect(),
    });
    let response = DeleteRecordsResponse { topics: topics.collect(), ..Default::default() };
    answer::<DeleteRecordsRequest>(request, &response)
}

#[tokio::test(start_paused = true)]
async fn records_are_deleted_by_the_leaders_and_asked_for_again_where_those_have_moved() {
    let world = World::new();
    let asked = Arc::new(AtomicUsize::new(0));
    for port in [1, 2] {
        let others = Cluster::new(&[1, 2]).topic("orders", &[0, 1, -1]).script();
        let asked = asked.clone();
        world.serve(port, move |request| match request.api_key {
            ApiKey::DELETE_RECORDS => {
                let attempt = asked.fetch_add(1, Ordering::Relaxed);
                dropped(request, |partition| match (partition, attempt) {
                    // It has not heard of the topic yet, which the other one has.
                    (0, 0..=1) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    (1, 0..=2) => ErrorCode::NOT_LEADER_OR_FOLLOWER,
                    _ => ErrorCode::NONE,
                })
            }
            _ => others(request),
        });
    }
    let orders = |partition| TopicPartition::new("orders", partition);
    let records = [
        (orders(2), 7.into()),
        (orders(1), 5.into()),
        (orders(0), RecordsToDelete::All),
        (orders(9), 1.into()),
    ];
    let results = admin(&world).delete_records(records).timeout(7 * SECOND).await.unwrap();
    let results: Vec<_> = results.into_iter().map(|(_, result)| result).collect();
    let code = |at: usize| results[at].as_ref().err().and_then(Error::broker_code);
    assert_eq!(code(0), Some(ErrorCode::LEADER_NOT_AVAILABLE), "until time is up");
    assert_eq!((results[1].as_ref().unwrap(), results[2].as_ref().unwrap()), (&5, &99));
    assert_eq!(code(3), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert!(asked.load(Ordering::Relaxed) <= 5, "what is answered is not asked for again");
}
