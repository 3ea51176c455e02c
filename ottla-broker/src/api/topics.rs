//! `CreateTopics` and `DeleteTopics`, which the node passes on to the controller, and waiting for what it answers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ottla_protocol::messages::create_topics_request::CreatableTopic;
use ottla_protocol::messages::create_topics_response::CreatableTopicResult;
use ottla_protocol::messages::delete_topics_response::DeletableTopicResult;
use ottla_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse, ElectLeadersRequest, ElectLeadersResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use ottla_protocol::{ErrorCode, Str};

use super::elect_leaders;
use crate::io::Now;
use crate::node::{CallId, Exchange, Node, Outcome, Waiting};
use crate::peer::{NewTopic, PeerMessage, TopicResult};

/// A request that the controller is asked to carry out.
#[derive(Debug)]
pub(crate) struct TopicsWait {
    pub(crate) deadline: Instant,
    call: CallId,
    /// Where the controller's results go, in the order of the call.
    asked: Vec<usize>,
    answer: Answer,
    done: bool,
}

/// The answer to the client, whose results come from the controller.
#[derive(Debug)]
pub(super) enum Answer {
    Create(CreateTopicsResponse),
    Delete(DeleteTopicsResponse),
    CreatePartitions(CreatePartitionsResponse),
    AlterConfigs(IncrementalAlterConfigsResponse),
    Elect(ElectLeadersResponse),
}

pub(super) fn create_topics(
    node: &mut Node,
    now: Now,
    exchange: &Exchange,
    request: CreateTopicsRequest,
) -> Outcome {
    let mut response = CreateTopicsResponse {
        throttle_time_ms: exchange.throttle_time_ms,
        ..CreateTopicsResponse::default()
    };
    let mut counts: BTreeMap<Str, usize> = BTreeMap::new();
    for topic in &request.topics {
        *counts.entry(topic.name.clone()).or_default() += 1;
    }
    let (mut asked, mut topics) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        match counts.get(&topic.name) {
            Some(1) => {
                asked.push(response.topics.len());
                topics.push(new_topic(topic));
                response.topics.push(CreatableTopicResult {
                    name: topic.name.clone(),
                    configs: Some(Vec::new()),
                    ..CreatableTopicResult::default()
                });
            }
            // Named several times: answered once.
            Some(_) => response.topics.push(CreatableTopicResult {
                name: topic.name.clone(),
                error_code: ErrorCode::INVALID_REQUEST,
                error_message: Some(Str::from("Duplicate topic name.")),
                ..CreatableTopicResult::default()
            }),
            None => continue,
        }
        if counts.get(&topic.name) != Some(&1) {
            counts.remove(&topic.name);
        }
    }
    if topics.is_empty() {
        return exchange.reply::<CreateTopicsRequest>(&response);
    }
    let validate_only = request.validate_only;
    let call = node.call(|request| PeerMessage::CreateTopics { request, topics, validate_only });
    let deadline = deadline(now, request.timeout_ms);
    TopicsWait::begin(deadline, call, asked, Answer::Create(response))
}

fn new_topic(topic: &CreatableTopic) -> NewTopic {
    let assignments = topic.assignments.iter().map(|one| (one.partition_index, one.broker_ids.clone()));
    let config = topic.configs.iter().map(|entry| {
        let value = entry.value.as_ref().map(|value| (&**value).into());
        ((&*entry.name).into(), value)
    });
    NewTopic {
        name: (&*topic.name).into(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments.collect(),
        config: config.collect(),
    }
}

pub(super) fn delete_topics(
    node: &mut Node,
    now: Now,
    exchange: &Exchange,
    request: DeleteTopicsRequest,
) -> Outcome {
    let mut response = DeleteTopicsResponse {
        throttle_time_ms: exchange.throttle_time_ms,
        ..DeleteTopicsResponse::default()
    };
    // Names alone up to version 5, names or ids since (KIP-516).
    let by_name = request.topic_names.into_iter().map(|name| (Some(name), Default::default()));
    let named = by_name.chain(request.topics.into_iter().map(|topic| (topic.name, topic.topic_id)));
    let (mut asked, mut topics) = (Vec::new(), Vec::new());
    for (name, topic_id) in named {
        let found = match &name {
            Some(name) => {
                node.image.topic(name).map(|topic| topic.id).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
            }
            None => node.image.topic_by_id(topic_id).map(|topic| topic.id).ok_or(ErrorCode::UNKNOWN_TOPIC_ID),
        };
        let mut result = DeletableTopicResult { name, topic_id, ..DeletableTopicResult::default() };
        match found {
            Ok(id) => {
                asked.push(response.responses.len());
                topics.push(id);
            }
            Err(error) => {
                result.error_code = error;
                result.error_message = Some(Str::from(message(error)));
            }
        }
        response.responses.push(result);
    }
    if topics.is_empty() {
        return exchange.reply::<DeleteTopicsRequest>(&response);
    }
    let call = node.call(|request| PeerMessage::DeleteTopics { request, topics });
    let deadline = deadline(now, request.timeout_ms);
    TopicsWait::begin(deadline, call, asked, Answer::Delete(response))
}

fn message(error: ErrorCode) -> &'static str {
    match error {
        ErrorCode::UNKNOWN_TOPIC_ID => "This server does not host this topic ID.",
        _ => "This server does not host this topic-partition.",
    }
}

pub(super) fn deadline(now: Now, timeout_ms: i32) -> Instant {
    now.monotonic + Duration::from_millis(u64::try_from(timeout_ms).unwrap_or(0))
}

impl TopicsWait {
    /// Waits for the controller's results, which go where `asked` says.
    pub(super) fn begin(deadline: Instant, call: CallId, asked: Vec<usize>, answer: Answer) -> Outcome {
        Outcome::Wait(Waiting::Topics(Self { deadline, call, asked, answer, done: false }))
    }

    pub(crate) fn call(&self) -> CallId {
        self.call
    }

    /// The controller has answered.
    pub(crate) fn deliver(&mut self, results: Vec<TopicResult>) {
        for (slot, result) in self.asked.iter().zip(results) {
            self.answer.put(*slot, result);
        }
        self.done = true;
    }

    pub(crate) fn look(&mut self, now: Now, exchange: &Exchange) -> Option<Outcome> {
        if !self.done && now.monotonic < self.deadline {
            return None;
        }
        if !self.done {
            let error = ErrorCode::REQUEST_TIMED_OUT;
            let message = Some("The request timed out.".to_owned());
            for slot in &self.asked {
                self.answer
                    .put(*slot, TopicResult { error, message: message.clone(), ..TopicResult::default() });
            }
        }
        Some(match &self.answer {
            Answer::Create(response) => exchange.reply::<CreateTopicsRequest>(response),
            Answer::Delete(response) => exchange.reply::<DeleteTopicsRequest>(response),
            Answer::CreatePartitions(response) => exchange.reply::<CreatePartitionsRequest>(response),
            Answer::AlterConfigs(response) => exchange.reply::<IncrementalAlterConfigsRequest>(response),
            Answer::Elect(response) => exchange.reply::<ElectLeadersRequest>(response),
        })
    }
}

impl Answer {
    fn put(&mut self, slot: usize, result: TopicResult) {
        match self {
            Self::Create(response) => {
                let Some(topic) = response.topics.get_mut(slot) else { return };
                topic.topic_id = result.id;
                topic.error_code = result.error;
                topic.error_message = result.message.map(Str::from);
                if result.error.is_ok() {
                    topic.num_partitions = result.partitions;
                    topic.replication_factor = result.replication_factor;
                }
            }
            Self::Delete(response) => {
                let Some(topic) = response.responses.get_mut(slot) else { return };
                topic.name = topic.name.take().or(result.name.map(|name| Str::from(&*name)));
                topic.topic_id = result.id;
                topic.error_code = result.error;
                topic.error_message = result.message.map(Str::from);
            }
            Self::CreatePartitions(response) => {
                let Some(topic) = response.results.get_mut(slot) else { return };
                topic.error_code = result.error;
                topic.error_message = result.message.map(Str::from);
            }
            Self::AlterConfigs(response) => {
                let Some(topic) = response.responses.get_mut(slot) else { return };
                topic.error_code = result.error;
                topic.error_message = result.message.map(Str::from);
            }
            Self::Elect(response) => {
                let Some(partition) = elect_leaders::results_of(response).nth(slot) else { return };
                partition.error_code = result.error;
                partition.error_message = result.message.map(Str::from);
            }
        }
    }
}
