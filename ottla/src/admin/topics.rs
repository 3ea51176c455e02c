//! Topics: create, delete, describe, list.

use std::{sync::Arc, time::Duration};

use ottla_protocol::{
    Str, TopicId,
    messages::{
        CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
        create_topics_response::CreatableTopicResult,
        delete_topics_request::DeleteTopicState,
        metadata_response::MetadataResponseTopic,
    },
};

use super::{
    PerItem,
    controller::ask_controller,
    items::Answers,
    metadata::ask_metadata,
    request::{awaited, check},
    retry::Retry,
};
use crate::{Error, Result, client::Shared, net::Connection};

/// From here on topics may be named by id, and are told of by id (KIP-516).
const DELETE_BY_ID: i16 = 6;

/// A topic to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a topic is created by `Admin::create_topics`"]
pub struct NewTopic {
    name: String,
    partitions: i32,
    replication_factor: i16,
    config: Vec<(String, String)>,
}

impl NewTopic {
    /// A topic with so many partitions and so many copies of each; -1 leaves either to the broker (KIP-464).
    pub fn new(name: impl Into<String>, partitions: i32, replication_factor: i16) -> Self {
        Self { name: name.into(), partitions, replication_factor, config: Vec::new() }
    }

    /// Sets one of the topic's own settings, as `retention.ms`.
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.push((key.into(), value.into()));
        self
    }

    fn to_wire(&self) -> CreatableTopic {
        let config = |(name, value): &(String, String)| CreatableTopicConfig {
            name: Str::from(name.as_str()),
            value: Some(Str::from(value.as_str())),
        };
        CreatableTopic {
            name: Str::from(self.name.as_str()),
            num_partitions: self.partitions,
            replication_factor: self.replication_factor,
            configs: self.config.iter().map(config).collect(),
            ..CreatableTopic::default()
        }
    }
}

/// A topic that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreatedTopic {
    /// Its id; zero on clusters without topic ids.
    pub id: TopicId,
    /// How many partitions it has; as asked for, where the broker does not say.
    pub partitions: i32,
    /// How many copies of each partition there are; as asked for, where the broker does not say.
    pub replication_factor: i16,
}

/// A request of [`Admin::create_topics`](super::Admin::create_topics).
///
/// Awaiting it gives what was created, topic by topic.
///
/// # Errors
/// When the controller cannot be reached in time. A topic may have been created all the same: after such an error
/// `TOPIC_ALREADY_EXISTS` may mean that it was by this very request.
///
/// # Cancel safety
/// The topics may have been created when the future is dropped.
#[derive(Clone)]
#[must_use = "a request is sent when it is awaited"]
pub struct CreateTopics {
    shared: Arc<Shared>,
    topics: Vec<NewTopic>,
    timeout: Option<Duration>,
    validate_only: bool,
}

impl CreateTopics {
    pub(super) fn new(shared: &Arc<Shared>, topics: Vec<NewTopic>) -> Self {
        Self { shared: shared.clone(), topics, timeout: None, validate_only: false }
    }

    /// The bound of it all, in place of `default.api.timeout.ms`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Only says what would be done.
    pub fn validate_only(mut self) -> Self {
        self.validate_only = true;
        self
    }

    async fn run(self) -> Result<PerItem<String, CreatedTopic>> {
        let names = self.topics.iter().map(|topic| topic.name.clone()).collect();
        let this = &self;
        let ask = |connection, open, left| async move { this.ask(connection, open, left).await };
        let done = ask_controller(&self.shared, "create topics", self.timeout, names, ask).await;
        self.shared.metadata.refresh();
        done
    }

    async fn ask(
        &self,
        connection: Connection,
        open: Vec<String>,
        left: Duration,
    ) -> Result<Answers<String, CreatedTopic>> {
        let topics = self.topics.iter().filter(|topic| open.contains(&topic.name));
        let request = CreateTopicsRequest {
            topics: topics.map(NewTopic::to_wire).collect(),
            timeout_ms: broker_timeout(left),
            validate_only: self.validate_only,
        };
        let version = connection.version::<CreateTopicsRequest>(0..=i16::MAX)?;
        let response: CreateTopicsResponse = connection.call(&request, version, left).await?;
        let throttled = |error: Error| match u64::try_from(response.throttle_time_ms) {
            Ok(ms @ 1..) => error.with_retry_after(Duration::from_millis(ms)),
            _ => error,
        };
        let created = |told| self.created(told).map_err(throttled);
        Ok(response.topics.iter().map(|told| (told.name.to_string(), created(told))).collect())
    }

    fn created(&self, told: &CreatableTopicResult) -> Result<CreatedTopic> {
        check(told.error_code, told.error_message.as_ref(), || format!("create topic {}", told.name))?;
        let asked = self.topics.iter().find(|topic| topic.name == told.name.as_str());
        let told_or = |told: i32, asked: Option<i32>| if told < 0 { asked.unwrap_or(told) } else { told };
        let copies = asked.map(|topic| topic.replication_factor);
        Ok(CreatedTopic {
            id: told.topic_id,
            partitions: told_or(told.num_partitions, asked.map(|topic| topic.partitions)),
            replication_factor: if told.replication_factor < 0 {
                copies.unwrap_or(-1)
            } else {
                told.replication_factor
            },
        })
    }
}

/// A request of [`Admin::delete_topics`](super::Admin::delete_topics).
///
/// # Errors
/// When the controller cannot be reached in time. A topic may have been deleted all the same.
///
/// # Cancel safety
/// The topics may have been deleted when the future is dropped.
#[derive(Clone)]
#[must_use = "a request is sent when it is awaited"]
pub struct DeleteTopics {
    shared: Arc<Shared>,
    topics: Vec<String>,
    timeout: Option<Duration>,
}

impl DeleteTopics {
    pub(super) fn new(shared: &Arc<Shared>, topics: Vec<String>) -> Self {
        Self { shared: shared.clone(), topics, timeout: None }
    }

    /// The bound of it all, in place of `default.api.timeout.ms`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(self) -> Result<PerItem<String, ()>> {
        let done = ask_controller(&self.shared, "delete topics", self.timeout, self.topics, delete).await;
        self.shared.metadata.refresh();
        done
    }
}

async fn delete(connection: Connection, names: Vec<String>, left: Duration) -> Result<Answers<String, ()>> {
    let version = connection.version::<DeleteTopicsRequest>(0..=i16::MAX)?;
    let mut request =
        DeleteTopicsRequest { timeout_ms: broker_timeout(left), ..DeleteTopicsRequest::default() };
    let names = names.iter().map(|name| Str::from(name.as_str()));
    if version >= DELETE_BY_ID {
        let state = |name| DeleteTopicState { name: Some(name), ..DeleteTopicState::default() };
        request.topics = names.map(state).collect();
    } else {
        request.topic_names = names.collect();
    }
    let response: DeleteTopicsResponse = connection.call(&request, version, left).await?;
    let answers = response.responses.iter().filter_map(|told| {
        let name = told.name.as_ref()?;
        let outcome = check(told.error_code, told.error_message.as_ref(), || format!("delete topic {name}"));
        Some((name.to_string(), outcome))
    });
    Ok(answers.collect())
}

/// A topic and its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// The name.
    pub name: String,
    /// Its id; zero on clusters without topic ids.
    pub id: TopicId,
    /// Whether it belongs to Kafka itself.
    pub internal: bool,
    /// Ordered by number.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its number, from 0.
    pub partition: i32,
    /// The broker that leads it, if one does.
    pub leader: Option<i32>,
    /// Grows with every new leader; -1 on clusters that do not say.
    pub leader_epoch: i32,
    /// The brokers that have a copy.
    pub replicas: Vec<i32>,
    /// The brokers whose copy is complete.
    pub isr: Vec<i32>,
    /// The brokers whose copy cannot be used now: they, or their disk, are gone. Empty on clusters that do not say.
    pub offline: Vec<i32>,
}

/// A request of [`Admin::describe_topics`](super::Admin::describe_topics).
///
/// # Errors
/// When no broker answers in time; until then all are asked again and again, with back-off.
///
/// # Cancel safety
/// Nothing changes when the future is dropped.
#[derive(Clone)]
#[must_use = "a request is sent when it is awaited"]
pub struct DescribeTopics {
    shared: Arc<Shared>,
    topics: Vec<String>,
    timeout: Option<Duration>,
}

impl DescribeTopics {
    pub(super) fn new(shared: &Arc<Shared>, topics: Vec<String>) -> Self {
        Self { shared: shared.clone(), topics, timeout: None }
    }

    /// The bound of it all, in place of `default.api.timeout.ms`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(self) -> Result<PerItem<String, TopicDescription>> {
        let mut retry = Retry::new(&self.shared, "describe topics", self.timeout);
        let response = ask_metadata(&mut retry, Some(&self.topics)).await?;
        let describe = |name: String| {
            let told = response.topics.iter().find(|topic| topic.name.as_deref() == Some(&name));
            let described = match told {
                Some(told) => check(told.error_code, None, || format!("describe topic {name}"))
                    .map(|()| description(&name, told)),
                None => Err(Error::peer(format!("describe topic {name}: the broker's answer leaves it out"))),
            };
            (name, described)
        };
        Ok(PerItem::new(self.topics.into_iter().map(describe).collect()))
    }
}

fn description(name: &str, told: &MetadataResponseTopic) -> TopicDescription {
    let mut partitions: Vec<_> = told
        .partitions
        .iter()
        .map(|partition| PartitionDescription {
            partition: partition.partition_index,
            leader: Some(partition.leader_id).filter(|leader| *leader >= 0),
            leader_epoch: partition.leader_epoch,
            replicas: partition.replica_nodes.clone(),
            isr: partition.isr_nodes.clone(),
            offline: partition.offline_replicas.clone(),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.partition);
    TopicDescription { name: name.to_owned(), id: told.topic_id, internal: told.is_internal, partitions }
}

/// A topic of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicListing {
    /// The name.
    pub name: String,
    /// Its id; zero on clusters without topic ids.
    pub id: TopicId,
    /// Whether it belongs to Kafka itself.
    pub internal: bool,
}

/// A request of [`Admin::list_topics`](super::Admin::list_topics).
///
/// # Errors
/// When no broker answers in time; until then all are asked again and again, with back-off.
///
/// # Cancel safety
/// Nothing changes when the future is dropped.
#[derive(Clone)]
#[must_use = "a request is sent when it is awaited"]
pub struct ListTopics {
    shared: Arc<Shared>,
    timeout: Option<Duration>,
}

impl ListTopics {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: shared.clone(), timeout: None }
    }

    /// The bound of it all, in place of `default.api.timeout.ms`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    async fn run(self) -> Result<Vec<TopicListing>> {
        let mut retry = Retry::new(&self.shared, "list topics", self.timeout);
        let response = ask_metadata(&mut retry, None).await?;
        let mut topics: Vec<_> = response
            .topics
            .iter()
            .filter_map(|topic| {
                let name = topic.name.as_deref()?.to_owned();
                Some(TopicListing { name, id: topic.topic_id, internal: topic.is_internal })
            })
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }
}

/// The broker shall give up before we do.
pub(super) fn broker_timeout(left: Duration) -> i32 {
    i32::try_from(left.as_millis() * 9 / 10).unwrap_or(i32::MAX)
}

awaited! {
    CreateTopics => PerItem<String, CreatedTopic>,
    DeleteTopics => PerItem<String, ()>,
    DescribeTopics => PerItem<String, TopicDescription>,
    ListTopics => Vec<TopicListing>,
}
