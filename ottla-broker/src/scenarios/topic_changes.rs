//! Topics that get more partitions and other settings.

use ottla_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use ottla_protocol::messages::{
    CreatePartitionsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
};
use ottla_protocol::{ErrorCode, Str};

use super::harness::Cluster;

type Told = (ErrorCode, String);

fn told(error: ErrorCode, message: Option<Str>) -> Told {
    (error, message.map(String::from).unwrap_or_default())
}

fn grow(cluster: &mut Cluster, name: &str, count: i32, assignments: Option<&[&[i32]]>) -> Told {
    let assignment = |ids: &&[i32]| CreatePartitionsAssignment { broker_ids: ids.to_vec() };
    let assignments = assignments.map(|all| all.iter().map(assignment).collect());
    let topics = vec![CreatePartitionsTopic { name: name.into(), count, assignments }];
    let client = cluster.any_client();
    let request = CreatePartitionsRequest { topics, timeout_ms: 1000, validate_only: false };
    let response = cluster.call(client, 3, &request);
    told(response.results[0].error_code, response.results[0].error_message.clone())
}

/// `operation` is Kafka's: 0 sets, 1 deletes, 2 appends, 3 subtracts.
fn alter(cluster: &mut Cluster, topic: &str, changes: &[(&str, i8, Option<&str>)]) -> Told {
    let config = |(name, config_operation, value): &(&str, i8, Option<&str>)| AlterableConfig {
        name: (*name).into(),
        config_operation: *config_operation,
        value: value.map(Into::into),
    };
    let resource = AlterConfigsResource {
        resource_type: 2,
        resource_name: topic.into(),
        configs: changes.iter().map(config).collect(),
    };
    let client = cluster.any_client();
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let response = cluster.call(client, 1, &request);
    told(response.responses[0].error_code, response.responses[0].error_message.clone())
}

fn setting(cluster: &mut Cluster, topic: &str, name: &str) -> (String, i8) {
    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: topic.into(),
        configuration_keys: Some(vec![name.into()]),
    };
    let client = cluster.any_client();
    let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
    let config = cluster.call(client, 4, &request).results[0].configs[0].clone();
    (config.value.map(String::from).unwrap_or_default(), config.config_source)
}

#[test]
fn new_partitions_are_led_and_the_old_ones_stay_as_they_are() {
    let mut cluster = Cluster::new(3);
    let id = cluster.create("t", &[&[1, 2], &[2, 3]], &[]);
    let before = [cluster.partition(id, 0), cluster.partition(id, 1)];
    assert_eq!(grow(&mut cluster, "t", 4, None), (ErrorCode::NONE, String::new()));
    assert_eq!([cluster.partition(id, 0), cluster.partition(id, 1)], before);
    for index in [2, 3] {
        let partition = cluster.partition(id, index);
        assert_eq!((partition.replicas.len(), partition.isr.len()), (2, 2), "{partition:?}");
        assert!(partition.leader.is_some());
    }
    assert_eq!(grow(&mut cluster, "t", 5, Some(&[&[3, 1]])).0, ErrorCode::NONE);
    assert_eq!(cluster.partition(id, 4).replicas, [3, 1]);
}

#[test]
fn partitions_that_cannot_be_are_refused_as_kafka_words_it() {
    let mut cluster = Cluster::new(2);
    cluster.create("t", &[&[1], &[2]], &[]);
    type Case<'a> = (&'a str, i32, Option<&'a [&'a [i32]]>, ErrorCode, &'a str);
    let cases: [Case<'_>; 7] = [
        ("u", 3, None, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ""),
        ("t", 2, None, ErrorCode::INVALID_PARTITIONS, "Topic already has 2 partition(s)."),
        (
            "t",
            1,
            None,
            ErrorCode::INVALID_PARTITIONS,
            "The topic t currently has 2 partition(s); 1 would not be an increase.",
        ),
        ("t", 20_000, None, ErrorCode::INVALID_PARTITIONS, "Number of partitions is larger than 10000."),
        (
            "t",
            4,
            Some(&[&[1]]),
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
        ),
        (
            "t",
            3,
            Some(&[&[7]]),
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment includes broker 7, but no such broker is registered.",
        ),
        (
            "t",
            3,
            Some(&[&[1, 2]]),
            ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            "The manual partition assignment includes a partition with 2 replica(s), but this is not consistent with \
             previous partitions, which have 1 replica(s).",
        ),
    ];
    for (name, count, assignments, error, message) in cases {
        assert_eq!(grow(&mut cluster, name, count, assignments), (error, message.to_owned()));
    }
}

#[test]
fn settings_change_one_by_one() {
    let mut cluster = Cluster::new(1);
    cluster.create("t", &[&[1]], &[("retention.ms", "5")]);
    let done = (ErrorCode::NONE, String::new());
    assert_eq!(alter(&mut cluster, "t", &[("max.message.bytes", 0, Some("7"))]), done);
    assert_eq!(setting(&mut cluster, "t", "max.message.bytes"), ("7".to_owned(), 1));
    assert_eq!(setting(&mut cluster, "t", "retention.ms"), ("5".to_owned(), 1));
    let changes = [("cleanup.policy", 2, Some("compact")), ("retention.ms", 1, None)];
    assert_eq!(alter(&mut cluster, "t", &changes), done);
    assert_eq!(setting(&mut cluster, "t", "cleanup.policy"), ("delete,compact".to_owned(), 1));
    assert_eq!(setting(&mut cluster, "t", "retention.ms"), ("-1".to_owned(), 5));
    assert_eq!(alter(&mut cluster, "t", &[("cleanup.policy", 3, Some("delete"))]), done);
    assert_eq!(setting(&mut cluster, "t", "cleanup.policy"), ("compact".to_owned(), 1));
}

#[test]
fn a_setting_that_cannot_be_changes_nothing() {
    let mut cluster = Cluster::new(1);
    cluster.create("t", &[&[1]], &[]);
    type Case<'a> = (&'a str, &'a [(&'a str, i8, Option<&'a str>)], ErrorCode, &'a str);
    let cases: [Case<'_>; 6] = [
        ("u", &[], ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "The topic 'u' does not exist."),
        (
            "t",
            &[("retention.ms", 0, Some("5")), ("colour", 0, Some("red"))],
            ErrorCode::INVALID_CONFIG,
            "Unknown topic config name: colour",
        ),
        (
            "t",
            &[("retention.ms", 2, Some("5"))],
            ErrorCode::INVALID_CONFIG,
            "Can't APPEND to key retention.ms because its type is not LIST.",
        ),
        (
            "t",
            &[("retention.ms", 0, None)],
            ErrorCode::INVALID_REQUEST,
            "Null value not supported for : retention.ms",
        ),
        (
            "t",
            &[("retention.ms", 9, Some("5"))],
            ErrorCode::INVALID_REQUEST,
            "Unknown operation type 9 for config retention.ms",
        ),
        (
            "t",
            &[("retention.ms", 0, Some("5")), ("retention.ms", 1, None)],
            ErrorCode::INVALID_REQUEST,
            "Error due to duplicate config keys",
        ),
    ];
    for (topic, changes, error, message) in cases {
        assert_eq!(alter(&mut cluster, topic, changes), (error, message.to_owned()));
    }
    assert_eq!(setting(&mut cluster, "t", "retention.ms"), ("-1".to_owned(), 5));
}
