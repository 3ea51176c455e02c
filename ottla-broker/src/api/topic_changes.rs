//! `CreatePartitions` and `IncrementalAlterConfigs`, which the node passes on to the controller.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ottla_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use ottla_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use ottla_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use ottla_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use ottla_protocol::{ErrorCode, Str};

use super::configs::RESOURCE_TOPIC;
use super::topics::{Answer, TopicsWait, deadline};
use crate::io::Now;
use crate::node::{Exchange, Node, Outcome};
use crate::peer::{Change, ConfigChange, PeerMessage, TopicChange};

/// The request has no bound of its own; this is `request.timeout.ms` of Kafka's brokers.
const ALTER_CONFIGS_TIMEOUT: Duration = Duration::from_secs(30);

type Refusal = (ErrorCode, String);

pub(super) fn create_partitions(
    node: &mut Node,
    now: Now,
    exchange: &Exchange,
    request: CreatePartitionsRequest,
) -> Outcome {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in &request.topics {
        *counts.entry(&topic.name).or_default() += 1;
    }
    let (mut asked, mut changes, mut results, mut named) =
        (Vec::new(), Vec::new(), Vec::new(), BTreeSet::new());
    for topic in &request.topics {
        // Named several times: answered once.
        if !named.insert(&topic.name) {
            continue;
        }
        let mut result = CreatePartitionsTopicResult { name: topic.name.clone(), ..Default::default() };
        if counts.get(&*topic.name).is_some_and(|count| *count > 1) {
            result.error_code = ErrorCode::INVALID_REQUEST;
            result.error_message = Some(Str::from("Duplicate topic name."));
        } else {
            asked.push(results.len());
            let assignments = topic.assignments.as_ref();
            let assignments = assignments.map(|all| all.iter().map(|one| one.broker_ids.clone()).collect());
            let change = Change::Partitions { count: topic.count, assignments };
            changes.push(TopicChange { topic: (&*topic.name).into(), change });
        }
        results.push(result);
    }
    let response = CreatePartitionsResponse { throttle_time_ms: exchange.throttle_time_ms, results };
    if changes.is_empty() {
        return exchange.reply::<CreatePartitionsRequest>(&response);
    }
    let validate_only = request.validate_only;
    let call = node.call(|request| PeerMessage::ChangeTopics { request, changes, validate_only });
    TopicsWait::begin(deadline(now, request.timeout_ms), call, asked, Answer::CreatePartitions(response))
}

pub(super) fn incremental_alter_configs(
    node: &mut Node,
    now: Now,
    exchange: &Exchange,
    request: IncrementalAlterConfigsRequest,
) -> Outcome {
    let (mut asked, mut changes, mut responses) = (Vec::new(), Vec::new(), Vec::new());
    for (at, resource) in request.resources.iter().enumerate() {
        let is_same = |other: &AlterConfigsResource| {
            (other.resource_type, &other.resource_name) == (resource.resource_type, &resource.resource_name)
        };
        let others = request.resources.iter().enumerate().filter(|(other, _)| *other != at);
        let mut response = AlterConfigsResourceResponse {
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.clone(),
            ..AlterConfigsResourceResponse::default()
        };
        let is_named_twice = others.map(|(_, other)| other).any(is_same);
        match change(resource, is_named_twice) {
            Ok(change) => {
                asked.push(responses.len());
                changes.push(change);
            }
            Err((error, message)) => {
                response.error_code = error;
                response.error_message = Some(Str::from(message));
            }
        }
        responses.push(response);
    }
    let response = IncrementalAlterConfigsResponse { throttle_time_ms: exchange.throttle_time_ms, responses };
    if changes.is_empty() {
        return exchange.reply::<IncrementalAlterConfigsRequest>(&response);
    }
    let validate_only = request.validate_only;
    let call = node.call(|request| PeerMessage::ChangeTopics { request, changes, validate_only });
    TopicsWait::begin(now.monotonic + ALTER_CONFIGS_TIMEOUT, call, asked, Answer::AlterConfigs(response))
}

fn change(resource: &AlterConfigsResource, is_named_twice: bool) -> Result<TopicChange, Refusal> {
    let invalid = |message: String| (ErrorCode::INVALID_REQUEST, message);
    if is_named_twice {
        return Err(invalid("Each resource must appear at most once.".to_owned()));
    }
    if resource.resource_type != RESOURCE_TOPIC {
        return Err(invalid("Unsupported resource type".to_owned()));
    }
    let names: BTreeSet<&str> = resource.configs.iter().map(|config| &*config.name).collect();
    if names.len() < resource.configs.len() {
        return Err(invalid("Error due to duplicate config keys".to_owned()));
    }
    let changes = resource.configs.iter().map(config_change).collect::<Result<_, _>>().map_err(invalid)?;
    Ok(TopicChange { topic: (&*resource.resource_name).into(), change: Change::Config(changes) })
}

/// `AlterConfigOp.OpType`
fn config_change(config: &AlterableConfig) -> Result<ConfigChange, String> {
    let name = (&*config.name).into();
    let value = || match &config.value {
        Some(value) => Ok((&**value).into()),
        None => Err(format!("Null value not supported for : {}", config.name)),
    };
    Ok(match config.config_operation {
        0 => ConfigChange::Set(name, value()?),
        1 => ConfigChange::Delete(name),
        2 => ConfigChange::Append(name, value()?),
        3 => ConfigChange::Subtract(name, value()?),
        other => return Err(format!("Unknown operation type {other} for config {}", config.name)),
    })
}
