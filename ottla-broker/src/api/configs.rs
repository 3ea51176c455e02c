//! `DescribeConfigs`: the settings of topics that the broker acts upon, and those that a topic was created with.

use std::collections::BTreeMap;

use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use ottla_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use ottla_protocol::{ErrorCode, Str};

use super::text;
use crate::cluster::ClusterConfig;
use crate::image::Topic;
use crate::io::Now;
use crate::node::{Exchange, Node, Outcome};

/// `ConfigResource.Type.TOPIC` and `BROKER`
pub(super) const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;

/// `ConfigSource.DYNAMIC_TOPIC_CONFIG` and `ConfigSource.DEFAULT_CONFIG`
const SOURCE_TOPIC: i8 = 1;
const SOURCE_DEFAULT: i8 = 5;

pub(super) fn describe_configs(
    node: &mut Node,
    _: Now,
    exchange: &Exchange,
    request: DescribeConfigsRequest,
) -> Outcome {
    let response = DescribeConfigsResponse {
        throttle_time_ms: exchange.throttle_time_ms,
        results: request.resources.iter().map(|resource| describe(node, resource)).collect(),
    };
    exchange.reply::<DescribeConfigsRequest>(&response)
}

fn describe(node: &Node, resource: &DescribeConfigsResource) -> DescribeConfigsResult {
    let mut result = DescribeConfigsResult {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        ..DescribeConfigsResult::default()
    };
    match (resource.resource_type, node.image.topic(&resource.resource_name)) {
        (RESOURCE_TOPIC, Some(topic)) => result.configs = settings(&node.config, topic, resource),
        (RESOURCE_TOPIC, None) => result.error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        // The brokers have none that a client could read.
        (RESOURCE_BROKER, _) => {}
        _ => {
            result.error_code = ErrorCode::INVALID_REQUEST;
            result.error_message = Some(Str::from("Unsupported resource type"));
        }
    }
    result
}

fn settings(
    config: &ClusterConfig,
    topic: &Topic,
    resource: &DescribeConfigsResource,
) -> Vec<DescribeConfigsResourceResult> {
    let mut settings: BTreeMap<&str, (String, i8)> =
        defaults(config).into_iter().map(|(name, value)| (name, (value, SOURCE_DEFAULT))).collect();
    for (name, value) in &topic.config {
        settings.insert(name, (value.to_string(), SOURCE_TOPIC));
    }
    let wanted = |name: &str| match &resource.configuration_keys {
        Some(keys) => keys.is_empty() || keys.iter().any(|key| **key == *name),
        None => true,
    };
    let settings = settings.into_iter().filter(|(name, _)| wanted(name));
    let entry = |(name, (value, config_source))| DescribeConfigsResourceResult {
        name: text(name),
        value: Some(Str::from(value)),
        config_source,
        ..DescribeConfigsResourceResult::default()
    };
    settings.map(entry).collect()
}

/// What holds for a topic that does not say otherwise.
fn defaults(config: &ClusterConfig) -> [(&'static str, String); 9] {
    [
        ("cleanup.policy", "delete".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("max.message.bytes", config.max_message_bytes.to_string()),
        ("message.timestamp.after.max.ms", super::records::TIMESTAMP_AFTER_MAX_MS.to_string()),
        ("message.timestamp.type", "CreateTime".to_owned()),
        ("min.insync.replicas", config.min_insync_replicas.to_string()),
        ("retention.bytes", "-1".to_owned()),
        ("retention.ms", "-1".to_owned()),
        ("unclean.leader.election.enable", config.unclean_leader_election.to_string()),
    ]
}
