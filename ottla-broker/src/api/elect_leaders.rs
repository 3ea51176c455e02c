//! `ElectLeaders` (KIP-183, KIP-460), which the node passes on to the controller.

use std::sync::Arc;

use ottla_protocol::messages::elect_leaders_request::TopicPartitions;
use ottla_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use ottla_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};
use ottla_protocol::{ErrorCode, Str, TopicId};

use super::text;
use super::topics::{Answer, TopicsWait, deadline};
use crate::faults::{Answers, Chosen, Said};
use crate::image::Image;
use crate::io::Now;
use crate::node::{Exchange, Node, Outcome};
use crate::peer::{Change, PeerMessage, TopicChange};

pub(super) fn elect_leaders(
    node: &mut Node,
    now: Now,
    exchange: &Exchange,
    request: ElectLeadersRequest,
) -> Outcome {
    let unclean = match request.election_type {
        0 => false,
        1 => true,
        other => {
            let mut response = request.nothing_done();
            ElectLeadersRequest::fail(&mut response, ErrorCode::INVALID_REQUEST, &Chosen::All);
            let message = Str::from(format!("Unknown election type {other}"));
            results_of(&mut response).for_each(|result| result.error_message = Some(message.clone()));
            response.throttle_time_ms = exchange.throttle_time_ms;
            return exchange.reply::<ElectLeadersRequest>(&response);
        }
    };
    let timeout_ms = request.timeout_ms;
    let topics = request.topic_partitions.unwrap_or_else(|| lacking(&node.image, unclean));
    let changes: Vec<TopicChange> = topics.iter().flat_map(|topic| changes(topic, unclean)).collect();
    let asked = ElectLeadersRequest { topic_partitions: Some(topics), ..ElectLeadersRequest::default() };
    let mut response = asked.nothing_done();
    response.throttle_time_ms = exchange.throttle_time_ms;
    if changes.is_empty() {
        return exchange.reply::<ElectLeadersRequest>(&response);
    }
    let slots = (0..changes.len()).collect();
    let call = node.call(|request| PeerMessage::ChangeTopics { request, changes, validate_only: false });
    TopicsWait::begin(deadline(now, timeout_ms), call, slots, Answer::Elect(response))
}

/// What a request without partitions is about: those that an election would change. As in Kafka the answer names the other
/// topics too, with nothing in them.
fn lacking(image: &Image, unclean: bool) -> Vec<TopicPartitions> {
    let topics = image.topics.values().map(|topic| {
        let partitions = (0..).zip(&topic.partitions);
        let lacking = partitions.filter(|(_, partition)| partition.lacks_leader(unclean));
        TopicPartitions { topic: text(&topic.name), partitions: lacking.map(|(index, _)| index).collect() }
    });
    topics.collect()
}

fn changes(topic: &TopicPartitions, unclean: bool) -> impl Iterator<Item = TopicChange> {
    let name: Arc<str> = (&*topic.topic).into();
    let change = move |partition: &i32| {
        let change = Change::Leader { partition: *partition, unclean };
        TopicChange { topic: Arc::clone(&name), change }
    };
    topic.partitions.iter().map(change)
}

/// The results of all partitions, in the order of the request.
pub(super) fn results_of(response: &mut ElectLeadersResponse) -> impl Iterator<Item = &mut PartitionResult> {
    response.replica_election_results.iter_mut().flat_map(|topic| &mut topic.partition_result)
}

impl Answers for ElectLeadersRequest {
    fn nothing_done(&self) -> Self::Response {
        let result = |index: &i32| PartitionResult { partition_id: *index, ..PartitionResult::default() };
        let topics = self.topic_partitions.iter().flatten().map(|asked| ReplicaElectionResult {
            topic: asked.topic.clone(),
            partition_result: asked.partitions.iter().map(result).collect(),
        });
        Self::Response { replica_election_results: topics.collect(), ..Default::default() }
    }

    fn fail(response: &mut Self::Response, error: ErrorCode, _: &Chosen) {
        response.error_code = error;
        results_of(response).for_each(|result| result.error_code = error);
    }

    fn codes(response: &Self::Response) -> impl Iterator<Item = Said<'_>> {
        let of_topics = response.replica_election_results.iter().flat_map(|topic| {
            let about = |partition| Some((&*topic.topic, TopicId::ZERO, Some(partition)));
            topic.partition_result.iter().map(move |result| (about(result.partition_id), result.error_code))
        });
        of_topics.chain([(None, response.error_code)])
    }
}
