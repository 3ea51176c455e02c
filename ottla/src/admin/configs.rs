//! What topics have as settings, and changing them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ottla_protocol::{
    Str,
    messages::{
        DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest,
        IncrementalAlterConfigsResponse,
        describe_configs_request::DescribeConfigsResource,
        describe_configs_response::DescribeConfigsResourceResult,
        incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig},
    },
};

use super::{
    PerItem,
    controller::ask_controller,
    items::Answers,
    request::{awaited, check},
};
use crate::{Result, client::Shared, net::Connection};

/// `ConfigResource.Type.TOPIC`
const TOPIC: i8 = 2;

/// A setting in effect.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigEntry {
    /// Its name, as `retention.ms`.
    pub name: String,
    /// Its value; `None` where it is a secret, or not set.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it cannot be changed.
    pub read_only: bool,
    /// Whether its value is a secret.
    pub sensitive: bool,
}

/// Where the value of a setting comes from, the most specific first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ConfigSource {
    /// The topic's own.
    Topic,
    /// Set for one broker while it ran.
    DynamicBroker,
    /// Set for all brokers while they ran.
    DynamicDefaultBroker,
    /// The broker's file.
    StaticBroker,
    /// Nowhere: it is Kafka's default.
    Default,
    /// What this version does not know, by Kafka's number.
    Other(i8),
}

impl From<i8> for ConfigSource {
    fn from(number: i8) -> Self {
        match number {
            1 => Self::Topic,
            2 => Self::DynamicBroker,
            3 => Self::DynamicDefaultBroker,
            4 => Self::StaticBroker,
            5 => Self::Default,
            other => Self::Other(other),
        }
    }
}

/// A change of one setting; the others stay as they are (KIP-339).
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a setting is changed by `Admin::alter_topic_configs`"]
pub struct ConfigChange {
    name: String,
    /// `AlterConfigOp.OpType`
    operation: i8,
    value: Option<String>,
}

impl ConfigChange {
    /// Sets it.
    pub fn set(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), operation: 0, value: Some(value.into()) }
    }

    /// Takes back what was set: what is set for all topics, or Kafka's default, counts again.
    pub fn delete(name: impl Into<String>) -> Self {
        Self { name: name.into(), operation: 1, value: None }
    }

    /// Adds to a setting that is a list, as `cleanup.policy`.
    pub fn append(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), operation: 2, value: Some(value.into()) }
    }

    /// Takes out of a setting that is a list.
    pub fn subtract(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), operation: 3, value: Some(value.into()) }
    }
}

/// A request of [`Admin::describe_topic_configs`](super::Admin::describe_topic_configs).
///
/// Awaiting it gives the settings of each topic, ordered by name.
///
/// # Errors
/// When no broker answers in time.
///
/// # Cancel safety
/// Nothing changes when the future is dropped.
#[derive(Clone)]
#[must_use = "a request is sent when it is awaited"]
pub struct DescribeTopicConfigs {
    shared: Arc<Shared>,
    topics: Vec<String>,
    timeout: Option<Duration>,
}

impl DescribeTopicConfigs {
    pub(super) fn new(shared: &Arc<Shared>, topics: Vec<String>) -> Self {
        Self { shared: shared.clone(), topics, timeout: None }
    }

    /// The bound of it all, in place of `default.api.timeout.ms`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(self) -> Result<PerItem<String, Vec<ConfigEntry>>> {
        ask_controller(&self.shared, "describe topic configs", self.timeout, self.topics, describe).await
    }
}

async fn describe(
    connection: Connection,
    topics: Vec<String>,
    left: Duration,
) -> Result<Answers<String, Vec<ConfigEntry>>> {
    let resource = |topic: &String| DescribeConfigsResource {
        resource_type: TOPIC,
        resource_name: Str::from(topic.as_str()),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: topics.iter().map(resource).collect(),
        ..DescribeConfigsRequest::default()
    };
    let version = connection.version::<DescribeConfigsRequest>(0..=i16::MAX)?;
    let response: DescribeConfigsResponse = connection.call(&request, version, left).await?;
    let answers = response.results.iter().map(|told| {
        let what = || format!("describe the configs of topic {}", told.resource_name);
        let entries = || {
            let mut entries: Vec<_> = told.configs.iter().map(entry).collect();
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            entries
        };
        let outcome = check(told.error_code, told.error_message.as_ref(), what).map(|()| entries());
        (told.resource_name.to_string(), outcome)
    });
    Ok(answers.collect())
}

fn entry(told: &DescribeConfigsResourceResult) -> ConfigEntry {
    ConfigEntry {
        name: told.name.to_string(),
        value: told.value.as_ref().map(ToString::to_string),
        source: ConfigSource::from(told.config_source),
        read_only: told.read_only,
        sensitive: told.is_sensitive,
    }
}

/// A request of [`Admin::alter_topic_configs`](super::Admin::alter_topic_configs).
///
/// # Errors
/// When the controller cannot be reached in time. The settings may have been changed all the same.
///
/// # Cancel safety
/// The settings may have been changed when the future is dropped.
#[derive(Clone)]
#[must_use = "a request is sent when it is awaited"]
pub struct AlterTopicConfigs {
    shared: Arc<Shared>,
    changes: Vec<(String, Vec<ConfigChange>)>,
    timeout: Option<Duration>,
    validate_only: bool,
}

impl AlterTopicConfigs {
    pub(super) fn new(shared: &Arc<Shared>, changes: Vec<(String, Vec<ConfigChange>)>) -> Self {
        Self { shared: shared.clone(), changes, timeout: None, validate_only: false }
    }

    /// The bound of it all, in place of `default.api.timeout.ms`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Only says whether it would be done.
    pub fn validate_only(mut self) -> Self {
        self.validate_only = true;
        self
    }

    async fn run(self) -> Result<PerItem<String, ()>> {
        let topics = self.changes.iter().map(|(topic, _)| topic.clone()).collect();
        let changes: &BTreeMap<_, _> =
            &self.changes.iter().map(|(topic, all)| (topic.as_str(), all)).collect();
        let validate_only = self.validate_only;
        let ask = |connection, open: Vec<String>, left| async move {
            let resource =
                |topic: &String| resource(topic, changes.get(topic.as_str()).map_or(&[], |all| &all[..]));
            let resources = open.iter().map(resource).collect();
            alter(connection, IncrementalAlterConfigsRequest { resources, validate_only }, left).await
        };
        ask_controller(&self.shared, "alter topic configs", self.timeout, topics, ask).await
    }
}

fn resource(topic: &str, changes: &[ConfigChange]) -> AlterConfigsResource {
    let config = |change: &ConfigChange| AlterableConfig {
        name: Str::from(change.name.as_str()),
        config_operation: change.operation,
        value: change.value.as_deref().map(Str::from),
    };
    AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: Str::from(topic),
        configs: changes.iter().map(config).collect(),
    }
}

async fn alter(
    connection: Connection,
    request: IncrementalAlterConfigsRequest,
    left: Duration,
) -> Result<Answers<String, ()>> {
    let version = connection.version::<IncrementalAlterConfigsRequest>(0..=i16::MAX)?;
    let response: IncrementalAlterConfigsResponse = connection.call(&request, version, left).await?;
    let answers = response.responses.iter().map(|told| {
        let what = || format!("alter the configs of topic {}", told.resource_name);
        (told.resource_name.to_string(), check(told.error_code, told.error_message.as_ref(), what))
    });
    Ok(answers.collect())
}

awaited! {
    DescribeTopicConfigs => PerItem<String, Vec<ConfigEntry>>,
    AlterTopicConfigs => PerItem<String, ()>,
}
