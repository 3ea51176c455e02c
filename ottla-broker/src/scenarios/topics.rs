//! Topics that come, go, and come again.

use std::time::Duration;

use ottla_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use ottla_protocol::messages::delete_topics_request::DeleteTopicState;
use ottla_protocol::messages::{CreateTopicsRequest, DeleteTopicsRequest};
use ottla_protocol::{ErrorCode, TopicId};

use super::harness::{Cluster, plain};
use super::requests::fetch_request;
use crate::disk::Tail;
use crate::io::FileId;

fn topic(name: &str, num_partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic { name: name.into(), num_partitions, replication_factor, ..CreatableTopic::default() }
}

fn create(cluster: &mut Cluster, topic: CreatableTopic) -> (ErrorCode, String) {
    let client = cluster.any_client();
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, validate_only: false };
    let response = cluster.call(client, 7, &request);
    let result = response.topics[0].clone();
    (result.error_code, result.error_message.map(String::from).unwrap_or_default())
}

#[test]
fn refusals_are_worded_as_kafka_words_them() {
    let mut cluster = Cluster::new(1);
    assert_eq!(create(&mut cluster, topic("a.b", 1, 1)).0, ErrorCode::NONE);
    let assigned = |replicas: &[&[i32]]| CreatableTopic {
        assignments: (0..)
            .zip(replicas)
            .map(|(partition_index, ids)| CreatableReplicaAssignment {
                partition_index,
                broker_ids: ids.to_vec(),
            })
            .collect(),
        ..topic("x", -1, -1)
    };
    let configured = |name: &str, value: Option<&str>| CreatableTopic {
        configs: vec![CreatableTopicConfig { name: name.into(), value: value.map(Into::into) }],
        ..topic("x", 1, 1)
    };
    let cases = [
        (topic("a.b", 1, 1), ErrorCode::TOPIC_ALREADY_EXISTS, "Topic 'a.b' already exists."),
        (
            topic("a_b", 1, 1),
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            "Topic 'a_b' collides with existing topic: a.b",
        ),
        (
            topic("", 1, 1),
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            "Topic name is invalid: the empty string is not allowed",
        ),
        (topic("..", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION, "Topic name is invalid: '..' is not allowed"),
        (
            topic("a b", 1, 1),
            ErrorCode::INVALID_TOPIC_EXCEPTION,
            "Topic name is invalid: 'a b' contains one or more characters other than ASCII alphanumerics, '.', '_' \
             and '-'",
        ),
        (
            topic("x", 0, 1),
            ErrorCode::INVALID_PARTITIONS,
            "Number of partitions was set to an invalid non-positive value.",
        ),
        (
            topic("x", 1, 0),
            ErrorCode::INVALID_REPLICATION_FACTOR,
            "Replication factor must be larger than 0, or -1 to use the default value.",
        ),
        (
            topic("x", 1, 2),
            ErrorCode::INVALID_REPLICATION_FACTOR,
            "Unable to replicate the partition 2 time(s): The target replication factor of 2 cannot be reached \
             because only 1 broker(s) are registered.",
        ),
        (
            assigned(&[&[1], &[2]]),
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment includes broker 2, but no such broker is registered.",
        ),
        (
            assigned(&[&[1, 1]]),
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment includes the broker 1 more than once.",
        ),
        (configured("a.b", Some("c")), ErrorCode::INVALID_CONFIG, "Unknown topic config name: a.b"),
        (
            configured("retention.ms", None),
            ErrorCode::INVALID_CONFIG,
            "Null value not supported for topic configs: retention.ms",
        ),
    ];
    for (topic, error, message) in cases {
        assert_eq!(create(&mut cluster, topic), (error, message.to_owned()));
    }
}

#[test]
fn a_topic_gets_the_clusters_defaults() {
    let mut cluster = Cluster::new(3);
    let client = cluster.any_client();
    let request =
        CreateTopicsRequest { topics: vec![topic("t", -1, -1)], timeout_ms: 1000, validate_only: false };
    let created = cluster.call(client, 7, &request).topics[0].clone();
    assert_eq!((created.num_partitions, created.replication_factor), (1, 3));
}

#[test]
fn leaders_are_spread_over_the_nodes() {
    let mut cluster = Cluster::new(3);
    let client = cluster.any_client();
    let request =
        CreateTopicsRequest { topics: vec![topic("t", 9, 2)], timeout_ms: 1000, validate_only: false };
    let id = cluster.call(client, 7, &request).topics[0].topic_id;
    let mut leaders = [0; 4];
    for index in 0..9 {
        leaders[usize::try_from(cluster.partition(id, index).leader.unwrap()).unwrap()] += 1;
    }
    assert_eq!(leaders, [0, 3, 3, 3]);
}

#[test]
fn a_topic_named_twice_is_created_not_at_all() {
    let mut cluster = Cluster::new(1);
    let client = cluster.any_client();
    let topics = vec![topic("a", 1, 1), topic("b", 1, 1), topic("a", 1, 1)];
    let response =
        cluster.call(client, 7, &CreateTopicsRequest { topics, timeout_ms: 1000, validate_only: false });
    let results: Vec<_> = response.topics.iter().map(|one| (&*one.name, one.error_code)).collect();
    assert_eq!(results, [("a", ErrorCode::INVALID_REQUEST), ("b", ErrorCode::NONE)]);
}

#[test]
fn topics_are_created_and_deleted_in_every_version() {
    let mut cluster = Cluster::new(1);
    let client = cluster.any_client();
    for version in 2..=7 {
        let topics = vec![topic("t", 1, 1), topic("", 1, 1)];
        let request = CreateTopicsRequest { topics, timeout_ms: 1000, validate_only: false };
        let response = cluster.call(client, version, &request);
        let errors: Vec<_> = response.topics.iter().map(|one| one.error_code).collect();
        assert_eq!(errors, [ErrorCode::NONE, ErrorCode::INVALID_TOPIC_EXCEPTION], "version {version}");
        let delete = if version < 6 {
            DeleteTopicsRequest {
                topic_names: vec!["t".into(), "u".into()],
                timeout_ms: 1000,
                ..Default::default()
            }
        } else {
            let state = |name: &str| DeleteTopicState { name: Some(name.into()), topic_id: TopicId::ZERO };
            DeleteTopicsRequest {
                topics: vec![state("t"), state("u")],
                timeout_ms: 1000,
                ..Default::default()
            }
        };
        let response = cluster.call(client, if version < 6 { version - 1 } else { 6 }, &delete);
        let errors: Vec<_> = response.responses.iter().map(|one| one.error_code).collect();
        assert_eq!(errors, [ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION], "version {version}");
    }
}

#[test]
fn validation_alone_creates_nothing() {
    let mut cluster = Cluster::new(1);
    let client = cluster.any_client();
    for _ in 0..2 {
        let request =
            CreateTopicsRequest { topics: vec![topic("a", 1, 1)], timeout_ms: 1000, validate_only: true };
        assert_eq!(cluster.call(client, 7, &request).topics[0].error_code, ErrorCode::NONE);
    }
}

#[test]
fn a_controller_that_does_not_answer_is_waited_for_as_long_as_the_client_said() {
    let mut cluster = Cluster::new(1);
    let client = cluster.any_client();
    cluster.cut(0, 1);
    let request =
        CreateTopicsRequest { topics: vec![topic("a", 1, 1)], timeout_ms: 1000, validate_only: false };
    cluster.send(client, 7, &request);
    cluster.advance(Duration::from_millis(999));
    assert!(cluster.reply::<CreateTopicsRequest>(client, 7).is_none());
    cluster.advance(Duration::from_millis(1));
    let response = cluster.reply::<CreateTopicsRequest>(client, 7).unwrap();
    assert_eq!(response.topics[0].error_code, ErrorCode::REQUEST_TIMED_OUT);
}

#[test]
fn a_deleted_topic_takes_its_files_with_it() {
    let mut cluster = Cluster::new(2);
    let id = cluster.create("t", &[&[1, 2]], &[]);
    let client = cluster.connect(1);
    cluster.produce(client, id, plain(&["a"]));
    cluster.crash(2, Tail::Kept);
    let request = DeleteTopicsRequest {
        topic_names: vec!["t".into(), "u".into()],
        timeout_ms: 1000,
        ..Default::default()
    };
    let response = cluster.call(client, 5, &request);
    let results: Vec<_> = response.responses.iter().map(|one| one.error_code).collect();
    assert_eq!(results, [ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]);
    assert!(cluster.nodes[&1].disk.contents(&FileId::Log(id, 0)).is_none());
    // The other was down, and finds the log of a topic that nobody knows.
    cluster.start(2);
    assert!(cluster.nodes[&2].disk.contents(&FileId::Log(id, 0)).is_none());

    let by_id = |topic_id| DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: None, topic_id }],
        timeout_ms: 1000,
        ..Default::default()
    };
    assert_eq!(cluster.call(client, 6, &by_id(id)).responses[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
}

#[test]
fn a_topic_created_again_is_another_one() {
    let mut cluster = Cluster::new(1);
    let first = cluster.create("t", &[&[1]], &[]);
    let client = cluster.connect(1);
    cluster.produce(client, first, plain(&["a"]));
    let states = vec![DeleteTopicState { name: Some("t".into()), topic_id: TopicId::ZERO }];
    let request = DeleteTopicsRequest { topics: states, timeout_ms: 1000, ..Default::default() };
    assert_eq!(cluster.call(client, 6, &request).responses[0].topic_id, first);
    let second = cluster.create("t", &[&[1]], &[]);
    assert_ne!(first, second);
    assert_eq!(cluster.produce(client, second, plain(&["b"])).base_offset, 0);
    assert_eq!(cluster.fetch(client, first, 0).error_code, ErrorCode::UNKNOWN_TOPIC_ID);
}

#[test]
fn a_fetch_ends_when_its_topic_is_deleted() {
    let mut cluster = Cluster::new(1);
    let id = cluster.create("t", &[&[1]], &[]);
    let client = cluster.connect(1);
    cluster.send(client, 17, &fetch_request(id, 0));
    let other = cluster.connect(1);
    let request =
        DeleteTopicsRequest { topic_names: vec!["t".into()], timeout_ms: 1000, ..Default::default() };
    cluster.call(other, 5, &request);
    let response = cluster.reply::<ottla_protocol::messages::FetchRequest>(client, 17).unwrap();
    assert_eq!(super::requests::fetched(&response).error_code, ErrorCode::UNKNOWN_TOPIC_ID);
}
