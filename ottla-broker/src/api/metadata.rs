//! `Metadata` and `DescribeTopicPartitions`: what a client knows of the cluster.

use std::collections::BTreeMap;

use ottla_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_protocol::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, MetadataRequest, MetadataResponse,
};
use ottla_protocol::{ErrorCode, Str, TopicId};

use super::text;
use crate::controller::is_topic_name;
use crate::coordinator;
use crate::image::{Image, Partition, Topic};
use crate::io::{NodeId, Now};
use crate::node::{Exchange, Node, Outcome};
use crate::peer::{NewTopic, PeerMessage};

/// Kafka's `max.request.partition.size.limit`.
const MAX_DESCRIBED: usize = 2000;

pub(super) fn metadata(node: &mut Node, _: Now, exchange: &Exchange, request: MetadataRequest) -> Outcome {
    let image = node.image.clone();
    // In version 0 an empty list means all topics, later it means none and a missing list all.
    let topics = request.topics.filter(|topics| exchange.version > 0 || !topics.is_empty());
    let mut missing = Vec::new();
    let topics = match topics {
        None => image.topics.values().map(|topic| described(&image, topic)).collect(),
        Some(topics) => topics.iter().map(|topic| find(&image, topic, &mut missing)).collect(),
    };
    // Before version 4 a client could not say that it does not want topics to be created.
    if node.config.auto_create_topics && (exchange.version < 4 || request.allow_auto_topic_creation) {
        auto_create(node, missing);
    }
    let brokers = image.brokers.iter().map(|(id, broker)| MetadataResponseBroker {
        node_id: *id,
        host: text(&broker.host),
        port: i32::from(broker.port),
        rack: broker.rack.as_deref().map(text),
    });
    let response = MetadataResponse {
        throttle_time_ms: exchange.throttle_time_ms,
        brokers: brokers.collect(),
        cluster_id: Some(text(&image.cluster_id)),
        // The controller cannot be reached by clients; any broker forwards what is meant for it.
        controller_id: image.brokers.keys().next().copied().unwrap_or(-1),
        topics,
        ..MetadataResponse::default()
    };
    exchange.reply::<MetadataRequest>(&response)
}

fn find(image: &Image, wanted: &MetadataRequestTopic, missing: &mut Vec<Str>) -> MetadataResponseTopic {
    if wanted.name.is_none() || !wanted.topic_id.is_zero() {
        return match image.topic_by_id(wanted.topic_id) {
            Some(topic) => described(image, topic),
            None => unknown(ErrorCode::UNKNOWN_TOPIC_ID, None, wanted.topic_id),
        };
    }
    let name = wanted.name.clone().unwrap_or_default();
    match image.topic(&name) {
        Some(topic) => described(image, topic),
        None if is_topic_name(&name) => {
            missing.push(name.clone());
            unknown(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Some(name), TopicId::ZERO)
        }
        None => unknown(ErrorCode::INVALID_TOPIC_EXCEPTION, Some(name), TopicId::ZERO),
    }
}

fn unknown(error_code: ErrorCode, name: Option<Str>, topic_id: TopicId) -> MetadataResponseTopic {
    // The name may be null since version 12 only, which is where ids came.
    MetadataResponseTopic { error_code, name, topic_id, ..MetadataResponseTopic::default() }
}

fn described(image: &Image, topic: &Topic) -> MetadataResponseTopic {
    let partitions = (0..).zip(&topic.partitions).map(|(partition_index, partition)| {
        let (error_code, leader_id) = leader(image, partition);
        MetadataResponsePartition {
            error_code,
            partition_index,
            leader_id,
            leader_epoch: partition.leader_epoch,
            replica_nodes: partition.replicas.clone(),
            isr_nodes: partition.isr.clone(),
            offline_replicas: offline(image, partition),
        }
    });
    MetadataResponseTopic {
        name: Some(text(&topic.name)),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: partitions.collect(),
        ..MetadataResponseTopic::default()
    }
}

fn leader(image: &Image, partition: &Partition) -> (ErrorCode, NodeId) {
    match partition.leader.filter(|leader| image.brokers.contains_key(leader)) {
        Some(leader) => (ErrorCode::NONE, leader),
        None => (ErrorCode::LEADER_NOT_AVAILABLE, -1),
    }
}

fn offline(image: &Image, partition: &Partition) -> Vec<NodeId> {
    partition.replicas.iter().copied().filter(|replica| !image.brokers.contains_key(replica)).collect()
}

/// Asks the controller; the client finds the topic when it asks again.
fn auto_create(node: &mut Node, names: Vec<Str>) {
    if names.is_empty() {
        return;
    }
    let new = |name: &Str| match &**name {
        coordinator::TOPIC => node.offsets_topic(),
        name => NewTopic {
            name: name.into(),
            partitions: -1,
            replication_factor: -1,
            assignments: Vec::new(),
            config: BTreeMap::new(),
        },
    };
    let topics = names.iter().map(new).collect();
    node.call(|request| PeerMessage::CreateTopics { request, topics, validate_only: false });
}

/// `DescribeTopicPartitions` (KIP-966): topics by name, some partitions at a time.
pub(super) fn describe_topic_partitions(
    node: &mut Node,
    _: Now,
    exchange: &Exchange,
    request: DescribeTopicPartitionsRequest,
) -> Outcome {
    let image = &node.image;
    let (from, from_partition) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.clone(), usize::try_from(cursor.partition_index).unwrap_or(0)),
        None => (Str::default(), 0),
    };
    let mut names: Vec<Str> = match request.topics.is_empty() {
        true => image.topics.keys().map(|name| text(name)).collect(),
        false => request.topics.into_iter().map(|topic| topic.name).collect(),
    };
    names.sort();
    names.dedup();
    names.retain(|name| *name >= from);

    let mut response =
        DescribeTopicPartitionsResponse { throttle_time_ms: exchange.throttle_time_ms, ..Default::default() };
    let mut room = usize::try_from(request.response_partition_limit).unwrap_or(1).clamp(1, MAX_DESCRIBED);
    for name in names {
        let skip = if name == from { from_partition } else { 0 };
        if room == 0 {
            response.next_cursor = Some(cursor(name, skip));
            break;
        }
        let topic = page(image, &name, skip, room);
        room -= topic.partitions.len();
        let reached = skip + topic.partitions.len();
        let cut = image.topic(&name).is_some_and(|topic| topic.partitions.len() > reached);
        response.topics.push(topic);
        if cut {
            response.next_cursor = Some(cursor(name, reached));
            break;
        }
    }
    exchange.reply::<DescribeTopicPartitionsRequest>(&response)
}

fn cursor(topic_name: Str, partition: usize) -> Cursor {
    Cursor { topic_name, partition_index: i32::try_from(partition).unwrap_or(i32::MAX) }
}

fn page(image: &Image, name: &Str, skip: usize, room: usize) -> DescribeTopicPartitionsResponseTopic {
    let Some(topic) = image.topic(name) else {
        let valid = is_topic_name(name);
        return DescribeTopicPartitionsResponseTopic {
            error_code: if valid {
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            } else {
                ErrorCode::INVALID_TOPIC_EXCEPTION
            },
            name: Some(name.clone()),
            ..DescribeTopicPartitionsResponseTopic::default()
        };
    };
    let partitions =
        (0..).zip(&topic.partitions).skip(skip).take(room).map(|(partition_index, partition)| {
            let (error_code, leader_id) = leader(image, partition);
            DescribeTopicPartitionsResponsePartition {
                error_code,
                partition_index,
                leader_id,
                leader_epoch: partition.leader_epoch,
                replica_nodes: partition.replicas.clone(),
                isr_nodes: partition.isr.clone(),
                eligible_leader_replicas: Some(Vec::new()),
                last_known_elr: Some(Vec::new()),
                offline_replicas: offline(image, partition),
            }
        });
    DescribeTopicPartitionsResponseTopic {
        name: Some(name.clone()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: partitions.collect(),
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}
