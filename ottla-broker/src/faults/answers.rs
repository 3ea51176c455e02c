//! Answers of each API that say an error.

use ottla_protocol::messages::{
    ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteGroupsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeGroupsRequest, DescribeTopicPartitionsRequest, FetchRequest, FindCoordinatorRequest,
    HeartbeatRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest, SyncGroupRequest,
    create_partitions_response::CreatePartitionsTopicResult, create_topics_response::CreatableTopicResult,
    delete_groups_response::DeletableGroupResult, delete_records_response as dropped,
    delete_topics_response::DeletableTopicResult, describe_configs_response::DescribeConfigsResult,
    describe_groups_response::DescribedGroup,
    describe_topic_partitions_response::DescribeTopicPartitionsResponseTopic, fetch_response::PartitionData,
    find_coordinator_response::Coordinator, incremental_alter_configs_response::AlterConfigsResourceResponse,
    list_offsets_response as offsets_at, metadata_response::MetadataResponseTopic,
    offset_commit_response as committed, offset_delete_response as deleted, offset_fetch_response as fetched,
    offset_for_leader_epoch_response as epoch_ends, produce_response as produced,
};
use ottla_protocol::{ErrorCode, Request, Str, TopicId};

/// The part of a request that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chosen {
    All,
    /// A topic, or one partition of it. The id is zero while there is no such topic.
    Topic(Str, TopicId, Option<i32>),
}

impl Chosen {
    /// As what answers speak of.
    pub(crate) fn about(&self) -> About<'_> {
        match self {
            Self::All => None,
            Self::Topic(name, id, partition) => Some((name, *id, *partition)),
        }
    }

    fn is_topic(&self, name: &str, id: TopicId) -> bool {
        match self {
            Self::All => true,
            Self::Topic(chosen, chosen_id, _) => {
                if name.is_empty() {
                    *chosen_id == id && id != TopicId::ZERO
                } else {
                    &**chosen == name
                }
            }
        }
    }

    pub(crate) fn has(&self, name: &str, id: TopicId, partition: i32) -> bool {
        let is_partition = match self {
            Self::All | Self::Topic(_, _, None) => true,
            Self::Topic(_, _, Some(chosen)) => *chosen == partition,
        };
        is_partition && self.is_topic(name, id)
    }
}

/// What an error code is about: a topic, or one partition of it. All of what was asked for, if nothing is said.
pub(crate) type About<'a> = Option<(&'a str, TopicId, Option<i32>)>;

/// A part of an answer, and its error code.
pub(crate) type Said<'a> = (About<'a>, ErrorCode);

fn partition(name: &str, id: TopicId, index: i32) -> About<'_> {
    Some((name, id, Some(index)))
}

/// What a scripted fault has to know of an API.
pub(crate) trait Answers: Request + Send + Sync + 'static {
    /// The answer to a request of which nothing is carried out, before it says an error.
    fn nothing_done(&self) -> Self::Response;

    /// Lets an answer say an error of what was chosen.
    fn fail(response: &mut Self::Response, error: ErrorCode, chosen: &Chosen);

    /// The error codes that an answer says and of what, with those that say that there is none.
    fn codes(response: &Self::Response) -> impl Iterator<Item = Said<'_>>;

    /// Whether the request is about a part. Of an API without parts, no request is.
    fn names(&self, _part: &Chosen) -> bool {
        false
    }

    /// The fetch session whose partitions it is about as well.
    fn session(&self) -> Option<i32> {
        None
    }

    /// Takes the chosen part out, for requests that change something; the part is returned if something else is left.
    fn split(&mut self, _chosen: &Chosen) -> Option<Self> {
        None
    }

    /// Whether an error of a part can be put into the answer afterwards, since nothing was changed.
    const ONLY_READS: bool = false;

    /// Puts the answer of a part back.
    fn join(_response: &mut Self::Response, _part: Self::Response) {}
}

macro_rules! one_error {
    ($($request:ty),*) => {$(
        impl Answers for $request {
            fn nothing_done(&self) -> Self::Response {
                Default::default()
            }

            fn fail(response: &mut Self::Response, error: ErrorCode, _: &Chosen) {
                response.error_code = error;
            }

            fn codes(response: &Self::Response) -> impl Iterator<Item = Said<'_>> {
                [(None, response.error_code)].into_iter()
            }
        }
    )*};
}

one_error!(
    ApiVersionsRequest,
    DescribeClusterRequest,
    HeartbeatRequest,
    InitProducerIdRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    ListGroupsRequest,
    SyncGroupRequest
);

/// One result for each thing that the request names.
macro_rules! one_error_each {
    ($request:ty, $results:ident, |$asked:ident| $nothing_done:expr) => {
        impl Answers for $request {
            fn nothing_done(&self) -> Self::Response {
                let $asked = self;
                let mut response = Self::Response::default();
                response.$results = $nothing_done.collect();
                response
            }

            fn fail(response: &mut Self::Response, error: ErrorCode, _: &Chosen) {
                response.$results.iter_mut().for_each(|result| result.error_code = error);
            }

            fn codes(response: &Self::Response) -> impl Iterator<Item = Said<'_>> {
                response.$results.iter().map(|result| (None, result.error_code))
            }
        }
    };
}

one_error_each!(CreateTopicsRequest, topics, |asked| asked
    .topics
    .iter()
    .map(|topic| CreatableTopicResult { name: topic.name.clone(), ..Default::default() }));
one_error_each!(CreatePartitionsRequest, results, |asked| asked
    .topics
    .iter()
    .map(|topic| CreatePartitionsTopicResult { name: topic.name.clone(), ..Default::default() }));
one_error_each!(IncrementalAlterConfigsRequest, responses, |asked| asked.resources.iter().map(|resource| {
    AlterConfigsResourceResponse {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        ..Default::default()
    }
}));
one_error_each!(DeleteGroupsRequest, results, |asked| asked
    .groups_names
    .iter()
    .map(|group| DeletableGroupResult { group_id: group.clone(), ..Default::default() }));
one_error_each!(DescribeGroupsRequest, groups, |asked| asked
    .groups
    .iter()
    .map(|group| DescribedGroup { group_id: group.clone(), ..Default::default() }));
one_error_each!(DescribeConfigsRequest, results, |asked| asked.resources.iter().map(|resource| {
    DescribeConfigsResult {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        ..Default::default()
    }
}));
one_error_each!(DescribeTopicPartitionsRequest, topics, |asked| asked.topics.iter().map(|topic| {
    DescribeTopicPartitionsResponseTopic { name: Some(topic.name.clone()), ..Default::default() }
}));
one_error_each!(DeleteTopicsRequest, responses, |asked| {
    let by_name = asked.topic_names.iter().map(|name| (Some(name.clone()), TopicId::ZERO));
    let either = asked.topics.iter().map(|topic| (topic.name.clone(), topic.topic_id));
    by_name.chain(either).map(|(name, topic_id)| DeletableTopicResult {
        name,
        topic_id,
        ..Default::default()
    })
});

impl Answers for FindCoordinatorRequest {
    fn nothing_done(&self) -> Self::Response {
        let nobody =
            |key: &Str| Coordinator { key: key.clone(), node_id: -1, port: -1, ..Default::default() };
        let coordinators = self.coordinator_keys.iter().map(nobody).collect();
        Self::Response { node_id: -1, port: -1, coordinators, ..Default::default() }
    }

    fn fail(response: &mut Self::Response, error: ErrorCode, _: &Chosen) {
        match &mut response.coordinators[..] {
            [] => response.error_code = error,
            several => several.iter_mut().for_each(|one| one.error_code = error),
        }
    }

    fn codes(response: &Self::Response) -> impl Iterator<Item = Said<'_>> {
        let each = response.coordinators.iter().map(|one| one.error_code);
        each.chain([response.error_code]).map(|code| (None, code))
    }
}

impl Answers for MetadataRequest {
    const ONLY_READS: bool = true;

    fn nothing_done(&self) -> Self::Response {
        let asked = self.topics.iter().flatten();
        let topics = asked.map(|topic| MetadataResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            ..Default::default()
        });
        Self::Response { topics: topics.collect(), ..Default::default() }
    }

    fn fail(response: &mut Self::Response, error: ErrorCode, chosen: &Chosen) {
        for topic in &mut response.topics {
            if !chosen.is_topic(topic.name.as_deref().unwrap_or_default(), topic.topic_id) {
                continue;
            }
            match chosen {
                Chosen::Topic(_, _, Some(index)) => {
                    let partitions = topic.partitions.iter_mut();
                    partitions.filter(|p| p.partition_index == *index).for_each(|p| {
                        p.error_code = error;
                        p.leader_id = -1;
                    });
                }
                Chosen::All | Chosen::Topic(..) => {
                    topic.error_code = error;
                    topic.partitions.clear();
                }
            }
        }
    }

    fn codes(response: &Self::Response) -> impl Iterator<Item = Said<'_>> {
        response.topics.iter().flat_map(|topic| {
            let (name, id) = (topic.name.as_deref().unwrap_or_default(), topic.topic_id);
            let parts = topic.partitions.iter();
            let parts = parts.map(move |part| (partition(name, id, part.partition_index), part.error_code));
            parts.chain([(Some((name, id, None)), topic.error_code)])
        })
    }

    fn names(&self, part: &Chosen) -> bool {
        let Some(topics) = &self.topics else { return true };
        topics.iter().any(|topic| part.is_topic(topic.name.as_deref().unwrap_or_default(), topic.topic_id))
    }
}

impl Answers for ProduceRequest {
    fn nothing_done(&self) -> Self::Response {
        let responses = self.topic_data.iter().map(|topic| produced::TopicProduceResponse {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partition_responses: topic.partition_data.iter().map(|p| not_appended(p.index)).collect(),
        });
        Self::Response { responses: responses.collect(), ..Default::default() }
    }

    fn fail(response: &mut Self::Response, error: ErrorCode, chosen: &Chosen) {
        for topic in &mut response.responses {
            let partitions = topic.partition_responses.iter_mut();
            for partition in partitions.filter(|p| chosen.has(&topic.name, topic.topic_id, p.index)) {
                *partition = not_appended(partition.index);
                partition.error_code = error;
            }
        }
    }

    fn codes(response: &Self::Response) -> impl Iterator<Item = Said<'_>> {
        response.responses.iter().flat_map(|topic| {
            let parts = topic.partition_responses.iter();
            parts.map(|part| (partition(&topic.name, topic.topic_id, part.index), part.error_code))
        })
    }

    fn names(&self, part: &Chosen) -> bool {
        let of_topic = |topic: &ottla_protocol::produce_request::TopicProduceData| {
            topic.partition_data.iter().any(|p| part.has(&topic.name, topic.topic_id, p.index))
        };
        self.topic_data.iter().any(of_topic)
    }

    fn split(&mut self, chosen: &Chosen) -> Option<Self> {
        let mut part = self.clone();
        for topic in &mut part.topic_data {
            topic.partition_data.retain(|p| chosen.has(&topic.name, topic.topic_id, p.index));
        }
        for topic in &mut self.topic_data {
            topic.partition_data.retain(|p| !chosen.has(&topic.name, topic.topic_id, p.index));
        }
        self.topic_data.iter().any(|topic| !topic.partition_data.is_empty()).then_some(part)
    }

    fn join(response: &mut Self::Response, part: Self::Response) {
        response.responses.extend(part.responses);
        response.responses.retain(|topic| !topic.partition_responses.is_empty());
    }
}

fn not_appended(index: i32) -> produced::PartitionProduceResponse {
    produced::PartitionProduceResponse {
        index,
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        ..Default::default()
    }
}

/// An incremental request names what has changed; what else its session holds is added by the node.
impl Answers for FetchRequest {
    const ONLY_READS: bool = true;

    fn nothing_done(&self) -> Self::Response {
        Self::Response::default()
    }

    fn fail(response: &mut Self::Response, error: ErrorCode, chosen: &Chosen) {
        let Chosen::Topic(name, id, index) = chosen else {
            response.error_code = error;
            return;
        };
        let failed = |partition_index| PartitionData {
            partition_index,
            error_code: error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            preferred_read_replica: -1,
            ..Default::default()
        };
        let mut found = false;
        for topic in &mut response.responses {
            let partitions = topic.partitions.iter_mut();
            for partition in
                partitions.filter(|p| chosen.has(&topic.topic, topic.topic_id, p.partition_index))
            {
                *partition = failed(partition.partition_index);
                found = true;
            }
        }
        if let (false, Some(index)) = (found, index) {
            let (topic, topic_id, partitions) = (name.clone(), *id, vec![failed(*index)]);
            response.responses.push(ottla_protocol::fetch_response::FetchableTopicResponse {
                topic,
                topic_id,
                partitions,
            });
        }
    }

    fn codes(response: &Self::Response) -> impl Iterator<Item = Said<'_>> {
        let of_topics = response.responses.iter().flat_map(|topic| {
            let parts = topic.partitions.iter();
            parts.map(|part| (partition(&topic.topic, topic.topic_id, part.partition_index), part.error_code))
        });
        of_topics.chain([(None, response.error_code)])
    }

    fn session(&self) -> Option<i32> {
        (self.session_epoch > 0).then_some(self.session_id)
    }

    fn names(&self, part: &Chosen) -> bool {
        let of_topic = |topic: &ottla_protocol::fetch_request::FetchTopic| {
            topic.partitions.iter().any(|p| part.has(&topic.topic, topic.topic_id, p.partition))
        };
        self.topics.iter().any(of_topic)
    }
}

/// Partitions of topics that are named by name, each with an error of its own.
macro_rules! by_partition {
    (
        $request:ty, $topics:ident, $name:ident, $partitions:ident, $index:ident;
        $answers:ident :: $answer_topic:ident, $answer_name:ident, $answer:ident, $answer_index:ident,
        { $($field:ident : $value:expr),* }
    ) => {
        impl Answers for $request {
            const ONLY_READS: bool = true;

            fn nothing_done(&self) -> Self::Response {
                let topics = self.$topics.iter().map(|topic| $answers::$answer_topic {
                    $answer_name: topic.$name.clone(),
                    partitions: topic
                        .$partitions
                        .iter()
                        .map(|p| $answers::$answer { $answer_index: p.$index, $($field: $value,)* ..Default::default() })
                        .collect(),
                });
                Self::Response { topics: topics.collect(), ..Default::default() }
            }

            fn fail(response: &mut Self::Response, error: ErrorCode, chosen: &Chosen) {
                for topic in &mut response.topics {
                    for p in &mut topic.partitions {
                        if chosen.has(&topic.$answer_name, TopicId::ZERO, p.$answer_index) {
                            $(p.$field = $value;)*
                            p.error_code = error;
                        }
                    }
                }
            }

            fn codes(response: &Self::Response) -> impl Iterator<Item = Said<'_>> {
                response.topics.iter().flat_map(|topic| {
                    let parts = topic.partitions.iter();
                    parts.map(|p| (partition(&topic.$answer_name, TopicId::ZERO, p.$answer_index), p.error_code))
                })
            }

            fn names(&self, part: &Chosen) -> bool {
                let mut topics = self.$topics.iter();
                topics.any(|topic| topic.$partitions.iter().any(|p| part.has(&topic.$name, TopicId::ZERO, p.$index)))
            }
        }
    };
}

by_partition!(
    ListOffsetsRequest, topics, name, partitions, partition_index;
    offsets_at::ListOffsetsTopicResponse, name, ListOffsetsPartitionResponse, partition_index,
    { offset: -1, timestamp: -1 }
);
by_partition!(
    OffsetForLeaderEpochRequest, topics, topic, partitions, partition;
    epoch_ends::OffsetForLeaderTopicResult, topic, EpochEndOffset, partition,
    { leader_epoch: -1, end_offset: -1 }
);

impl Answers for OffsetDeleteRequest {
    fn nothing_done(&self) -> Self::Response {
        let topics = self.topics.iter().map(|topic| deleted::OffsetDeleteResponseTopic {
            name: topic.name.clone(),
            partitions: Vec::new(),
        });
        Self::Response { topics: topics.collect(), ..Default::default() }
    }

    fn fail(response: &mut Self::Response, error: ErrorCode, _: &Chosen) {
        response.error_code = error;
    }

    fn codes(response: &Self::Response) -> impl Iterator<Item = Said<'_>> {
        let of_topics = response.topics.iter().flat_map(|topic| {
            let parts = topic.partitions.iter();
            parts.map(|part| (partition(&topic.name, TopicId::ZERO, part.partition_index), part.error_code))
        });
        of_topics.chain([(None, response.error_code)])
    }
}

impl Answers for DeleteRecordsRequest {
    fn nothing_done(&self) -> Self::Response {
        let nothing = |partition_index| dropped::DeleteRecordsPartitionResult {
            partition_index,
            low_watermark: -1,
            ..Default::default()
        };
        let topics = self.topics.iter().map(|topic| dropped::DeleteRecordsTopicResult {
            name: topic.name.clone(),
            partitions: topic.partitions.iter().map(|p| nothing(p.partition_index)).collect(),
        });
        Self::Response { topics: topics.collect(), ..Default::default() }
    }

    fn fail(response: &mut Self::Response, error: ErrorCode, chosen: &Chosen) {
        for topic in &mut response.topics {
            let partitions = topic.partitions.iter_mut();
            partitions
                .filter(|p| chosen.has(&topic.name, TopicId::ZERO, p.partition_index))
                .for_each(|p| (p.error_code, p.low_watermark) = (error, -1));
        }
    }

    fn codes(response: &Self::Response) -> impl Iterator<Item = Said<'_>> {
        response.topics.iter().flat_map(|topic| {
            let parts = topic.partitions.iter();
            parts.map(|part| (partition(&topic.name, TopicId::ZERO, part.partition_index), part.error_code))
        })
    }
}

impl Answers for OffsetCommitRequest {
    fn nothing_done(&self) -> Self::Response {
        let topics = self.topics.iter().map(|topic| committed::OffsetCommitResponseTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|p| committed::OffsetCommitResponsePartition {
                    partition_index: p.partition_index,
                    ..Default::default()
                })
                .collect(),
        });
        Self::Response { topics: topics.collect(), ..Default::default() }
    }

    fn fail(response: &mut Self::Response, error: ErrorCode, chosen: &Chosen) {
        for topic in &mut response.topics {
            let partitions = topic.partitions.iter_mut();
            partitions
                .filter(|p| chosen.has(&topic.name, topic.topic_id, p.partition_index))
                .for_each(|p| p.error_code = error);
        }
    }

    fn codes(response: &Self::Response) -> impl Iterator<Item = Said<'_>> {
        response.topics.iter().flat_map(|topic| {
            let parts = topic.partitions.iter();
            parts.map(|part| (partition(&topic.name, topic.topic_id, part.partition_index), part.error_code))
        })
    }

    fn names(&self, part: &Chosen) -> bool {
        let of_topic = |topic: &ottla_protocol::offset_commit_request::OffsetCommitRequestTopic| {
            topic.partitions.iter().any(|p| part.has(&topic.name, topic.topic_id, p.partition_index))
        };
        self.topics.iter().any(of_topic)
    }

    fn split(&mut self, chosen: &Chosen) -> Option<Self> {
        let mut part = self.clone();
        for topic in &mut part.topics {
            topic.partitions.retain(|p| chosen.has(&topic.name, topic.topic_id, p.partition_index));
        }
        for topic in &mut self.topics {
            topic.partitions.retain(|p| !chosen.has(&topic.name, topic.topic_id, p.partition_index));
        }
        self.topics.iter().any(|topic| !topic.partitions.is_empty()).then_some(part)
    }

    fn join(response: &mut Self::Response, part: Self::Response) {
        response.topics.extend(part.topics);
        response.topics.retain(|topic| !topic.partitions.is_empty());
    }
}

/// One group, or several since version 8; the error is that of the group, or of one partition.
impl Answers for OffsetFetchRequest {
    const ONLY_READS: bool = true;

    fn nothing_done(&self) -> Self::Response {
        let groups = self.groups.iter().map(|group| fetched::OffsetFetchResponseGroup {
            group_id: group.group_id.clone(),
            ..Default::default()
        });
        Self::Response { groups: groups.collect(), ..Default::default() }
    }

    fn fail(response: &mut Self::Response, error: ErrorCode, chosen: &Chosen) {
        if *chosen == Chosen::All {
            match &mut response.groups[..] {
                [] => response.error_code = error,
                several => several.iter_mut().for_each(|group| group.error_code = error),
            }
        }
        for topic in &mut response.topics {
            let partitions = topic.partitions.iter_mut();
            let chosen = partitions.filter(|p| chosen.has(&topic.name, TopicId::ZERO, p.partition_index));
            chosen.for_each(|p| (p.error_code, p.committed_offset) = (error, -1));
        }
        for topic in response.groups.iter_mut().flat_map(|group| &mut group.topics) {
            let partitions = topic.partitions.iter_mut();
            let chosen = partitions.filter(|p| chosen.has(&topic.name, topic.topic_id, p.partition_index));
            chosen.for_each(|p| (p.error_code, p.committed_offset) = (error, -1));
        }
    }

    fn codes(response: &Self::Response) -> impl Iterator<Item = Said<'_>> {
        let by_name = response.topics.iter().flat_map(|topic| {
            let parts = topic.partitions.iter();
            parts.map(|part| (partition(&topic.name, TopicId::ZERO, part.partition_index), part.error_code))
        });
        let by_group = response.groups.iter().flat_map(|group| &group.topics).flat_map(|topic| {
            let parts = topic.partitions.iter();
            parts.map(|part| (partition(&topic.name, topic.topic_id, part.partition_index), part.error_code))
        });
        let of_groups = response.groups.iter().map(|group| group.error_code);
        let of_all = of_groups.chain([response.error_code]).map(|code| (None, code));
        by_name.chain(by_group).chain(of_all)
    }

    fn names(&self, part: &Chosen) -> bool {
        let by_name = self.topics.iter().flatten().any(|topic| {
            topic.partition_indexes.iter().any(|index| part.has(&topic.name, TopicId::ZERO, *index))
        });
        let mut by_either = self.groups.iter().flat_map(|group| group.topics.iter().flatten());
        by_name
            || by_either.any(|topic| {
                topic.partition_indexes.iter().any(|index| part.has(&topic.name, topic.topic_id, *index))
            })
    }
}
