//! What clients learn of the cluster.

use std::time::Duration;

use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::{
    ApiVersionsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeTopicPartitionsRequest,
    FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdRequest, MetadataRequest,
};
use ottla_protocol::{ApiKey, ErrorCode, TopicId};

use super::harness::Cluster;
use crate::cluster::ClusterConfig;
use crate::disk::Tail;
use crate::faults::{Effect, Fault};
use crate::io::CloseReason;

fn named(names: &[&str], create: bool) -> MetadataRequest {
    let topic = |name: &&str| MetadataRequestTopic { name: Some((*name).into()), topic_id: TopicId::ZERO };
    MetadataRequest {
        topics: Some(names.iter().map(topic).collect()),
        allow_auto_topic_creation: create,
        ..MetadataRequest::default()
    }
}

#[test]
fn versions_are_announced_as_they_are_served() {
    let mut cluster = Cluster::new(1);
    let client = cluster.any_client();
    let request = ApiVersionsRequest {
        client_software_name: "ottla".into(),
        client_software_version: "1".into(),
        ..Default::default()
    };
    for version in 0..=5 {
        let response = cluster.call(client, version, &request);
        let produce = response.api_keys.iter().find(|api| api.api_key == ApiKey::PRODUCE.0).unwrap();
        assert_eq!((response.error_code, produce.min_version, produce.max_version), (ErrorCode::NONE, 0, 13));
    }
    let nameless = cluster.call(client, 3, &ApiVersionsRequest::default());
    assert_eq!(nameless.error_code, ErrorCode::INVALID_REQUEST);
    let stranger = ApiVersionsRequest { cluster_id: Some("other".into()), ..request };
    assert_eq!(cluster.call(client, 5, &stranger).error_code, ErrorCode::REBOOTSTRAP_REQUIRED);
}

#[test]
fn a_version_from_the_future_is_answered_in_version_zero() {
    let mut cluster = Cluster::new(1);
    let client = cluster.any_client();
    let mut frame = Vec::new();
    frame.extend_from_slice(&ApiKey::API_VERSIONS.0.to_be_bytes());
    frame.extend_from_slice(&999_i16.to_be_bytes());
    frame.extend_from_slice(&7_i32.to_be_bytes());
    frame.extend_from_slice(&[0xFF, 0xFF, 0, 1, 2, 3]);
    cluster.input(1, crate::io::Input::Frame(client.connection, frame.into()));
    let response = cluster.reply::<ApiVersionsRequest>(client, 0).unwrap();
    assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION);
    let announced: Vec<_> = response.api_keys.iter().map(|api| (api.api_key, api.max_version)).collect();
    assert_eq!(announced, [(18, 5)]);
}

#[test]
fn other_apis_in_unknown_versions_close_the_connection() {
    let mut cluster = Cluster::new(1);
    for (api_key, version) in [(ApiKey::METADATA.0, 99_i16), (9999, 0), (ApiKey::PRODUCE.0, 2)] {
        let client = cluster.any_client();
        let mut frame = Vec::new();
        frame.extend_from_slice(&api_key.to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 7, 0xFF, 0xFF, 0]);
        cluster.input(1, crate::io::Input::Frame(client.connection, frame.into()));
        let reason = CloseReason::Unsupported { api_key, api_version: version };
        assert_eq!(cluster.closed(client), Some(&reason));
    }
}

#[test]
fn metadata_names_brokers_topics_and_leaders_in_every_version() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3], &[2, 3, 1]], &[]);
    let client = cluster.connect(3);
    for version in 0..=13 {
        let response = cluster.call(client, version, &named(&["t", "un known"], true));
        assert_eq!(response.topics[1].error_code, ErrorCode::INVALID_TOPIC_EXCEPTION);
        assert_eq!(response.brokers.iter().map(|broker| broker.port).collect::<Vec<_>>(), [9092, 9093, 9094]);
        let described = &response.topics[0];
        assert_eq!(described.error_code, ErrorCode::NONE);
        assert_eq!(described.partitions.iter().map(|one| one.leader_id).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(described.topic_id, if version >= 10 { topic } else { TopicId::ZERO });
    }
}

#[test]
fn all_topics_are_described_when_none_is_named() {
    let mut cluster = Cluster::new(1);
    cluster.create("a", &[&[1]], &[]);
    cluster.create("b", &[&[1]], &[]);
    let client = cluster.any_client();
    let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
    assert_eq!(cluster.metadata(client, &all).topics.len(), 2);
    assert_eq!(cluster.metadata(client, &named(&[], false)).topics.len(), 0);
    // In version 0 an empty list stands for all.
    assert_eq!(cluster.call(client, 0, &named(&[], true)).topics.len(), 2);
}

#[test]
fn topics_are_found_by_id() {
    let mut cluster = Cluster::new(1);
    let topic = cluster.create("t", &[&[1]], &[]);
    let client = cluster.any_client();
    let by_id = |id| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name: None, topic_id: id }]),
        ..MetadataRequest::default()
    };
    let response = cluster.metadata(client, &by_id(topic));
    assert_eq!(response.topics[0].name.as_deref(), Some("t"));
    let response = cluster.metadata(client, &by_id(TopicId([3; 16])));
    assert_eq!(response.topics[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
}

#[test]
fn a_missing_topic_is_created_when_both_sides_want_it() {
    let mut cluster = Cluster::new(1);
    let client = cluster.any_client();
    let error = |cluster: &mut Cluster, name: &str, create| {
        cluster.metadata(client, &named(&[name], create)).topics[0].error_code
    };
    assert_eq!(error(&mut cluster, "a", false), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(error(&mut cluster, "a", true), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(error(&mut cluster, "a", true), ErrorCode::NONE);
    assert_eq!(error(&mut cluster, "a b", true), ErrorCode::INVALID_TOPIC_EXCEPTION);

    let config = ClusterConfig { auto_create_topics: false, ..ClusterConfig::with_nodes(1, "localhost", 1) };
    let mut cluster = Cluster::with(config);
    let client = cluster.any_client();
    for _ in 0..2 {
        let response = cluster.metadata(client, &named(&["a"], true));
        assert_eq!(response.topics[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
}

#[test]
fn a_partition_without_leader_says_so() {
    let mut cluster = Cluster::new(2);
    cluster.create("t", &[&[1]], &[]);
    cluster.crash(1, Tail::Kept);
    cluster.advance(Duration::from_secs(10));
    let client = cluster.connect(2);
    let response = cluster.metadata(client, &named(&["t"], false));
    let partition = &response.topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.leader_id), (ErrorCode::LEADER_NOT_AVAILABLE, -1));
    assert_eq!((&partition.offline_replicas[..], &partition.isr_nodes[..]), (&[1][..], &[1][..]));
    assert_eq!(response.brokers.len(), 1);
}

#[test]
fn a_node_cut_off_from_the_controller_tells_old_news() {
    let mut cluster = Cluster::new(3);
    cluster.create("t", &[&[1, 2, 3]], &[]);
    cluster.cut(0, 3);
    cluster.crash(1, Tail::Kept);
    cluster.advance(Duration::from_secs(5));
    let client = cluster.connect(3);
    assert_eq!(cluster.metadata(client, &named(&["t"], false)).topics[0].partitions[0].leader_id, 1);
}

#[test]
fn requests_wait_until_the_node_has_metadata() {
    let mut cluster = Cluster::new(1);
    cluster.crash(1, Tail::Kept);
    cluster.cut(0, 1);
    cluster.start(1);
    let client = cluster.connect(1);
    cluster.send(client, 13, &named(&[], false));
    cluster.advance(Duration::from_secs(3));
    assert!(cluster.reply::<MetadataRequest>(client, 13).is_none());
    cluster.heal();
    cluster.advance(Duration::from_secs(2));
    assert_eq!(cluster.reply::<MetadataRequest>(client, 13).unwrap().brokers.len(), 1);
}

#[test]
fn coordinators_are_the_same_whoever_is_asked() {
    let mut cluster = Cluster::new(3);
    let mut found = Vec::new();
    for node in 1..=3 {
        let client = cluster.connect(node);
        for version in 0..=6 {
            let request = FindCoordinatorRequest {
                key: if version < 4 { "g".into() } else { Default::default() },
                coordinator_keys: if version < 4 { vec![] } else { vec!["g".into()] },
                ..Default::default()
            };
            let mut response = cluster.call(client, version, &request);
            let error = |response: &FindCoordinatorResponse| {
                response.coordinators.first().map_or(response.error_code, |one| one.error_code)
            };
            while error(&response) == ErrorCode::COORDINATOR_NOT_AVAILABLE {
                // The topic is being created.
                cluster.advance(Duration::from_millis(10));
                response = cluster.call(client, version, &request);
            }
            assert!(error(&response).is_ok());
            found.push(response.coordinators.first().map_or(response.node_id, |one| one.node_id));
        }
    }
    assert!(found.iter().all(|node| *node == found[0]), "{found:?}");
}

#[test]
fn clusters_partitions_and_settings_are_described() {
    let mut cluster = Cluster::new(2);
    cluster.create("t", &[&[1], &[2], &[1]], &[("max.message.bytes", "1000")]);
    let client = cluster.any_client();
    let request = DescribeClusterRequest { endpoint_type: 1, ..Default::default() };
    assert_eq!(cluster.call(client, 2, &request).brokers.len(), 2);

    let topics = vec![TopicRequest { name: "t".into() }];
    let page = |cluster: &mut Cluster, cursor| {
        let request =
            DescribeTopicPartitionsRequest { topics: topics.clone(), response_partition_limit: 2, cursor };
        let response = cluster.call(client, 0, &request);
        (response.topics[0].partitions.len(), response.next_cursor.map(|cursor| cursor.partition_index))
    };
    assert_eq!(page(&mut cluster, None), (2, Some(2)));
    assert_eq!(page(&mut cluster, Some(Cursor { topic_name: "t".into(), partition_index: 2 })), (1, None));

    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: "t".into(),
        configuration_keys: Some(vec!["max.message.bytes".into()]),
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let response = cluster.call(client, 4, &request);
    let settings: Vec<_> =
        response.results[0].configs.iter().map(|one| (one.value.as_deref(), one.config_source)).collect();
    assert_eq!(settings, [(Some("1000"), 1)]);
}

#[test]
fn descriptions_are_given_in_every_version() {
    let mut cluster = Cluster::new(1);
    cluster.create("t", &[&[1]], &[]);
    let client = cluster.any_client();
    for version in 0..=2 {
        let request = DescribeClusterRequest { endpoint_type: 1, ..Default::default() };
        assert_eq!(cluster.call(client, version, &request).brokers.len(), 1);
    }
    for version in 1..=4 {
        let resource = |resource_type, name: &str| DescribeConfigsResource {
            resource_type,
            resource_name: name.into(),
            configuration_keys: None,
        };
        let resources = vec![resource(2, "t"), resource(2, "u"), resource(4, "1"), resource(9, "")];
        let response =
            cluster.call(client, version, &DescribeConfigsRequest { resources, ..Default::default() });
        let errors: Vec<_> = response.results.iter().map(|one| one.error_code).collect();
        let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        assert_eq!(errors, [ErrorCode::NONE, unknown, ErrorCode::NONE, ErrorCode::INVALID_REQUEST]);
    }
    for version in 0..=5 {
        let request = InitProducerIdRequest { transactional_id: None, ..Default::default() };
        assert_eq!(cluster.call(client, version, &request).error_code, ErrorCode::NONE);
        let request = InitProducerIdRequest { transactional_id: Some("x".into()), ..Default::default() };
        assert_eq!(cluster.call(client, version, &request).error_code, ErrorCode::INVALID_REQUEST);
    }
}

#[test]
fn throttled_clients_are_told_and_not_listened_to() {
    let mut cluster = Cluster::new(1);
    let client = cluster.any_client();
    let throttle = Fault::on::<MetadataRequest>(Effect::Throttle(Duration::from_secs(2)));
    cluster.faults.add(throttle);
    assert_eq!(cluster.metadata(client, &named(&[], false)).throttle_time_ms, 2000);
    cluster.send(client, 13, &named(&[], false));
    cluster.advance(Duration::from_millis(1999));
    assert!(cluster.reply::<MetadataRequest>(client, 13).is_none());
    cluster.advance(Duration::from_millis(1));
    assert!(cluster.reply::<MetadataRequest>(client, 13).is_some());
}
