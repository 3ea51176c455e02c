//! Scripted brokers that have logs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use ottla_protocol::{
    ApiKey, ErrorCode, RequestFrame,
    batch::{BatchBuilder, set_base_offset_and_epoch},
    compression::{Compression, Compressor},
    frame::encode_response,
    messages::{
        FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse,
        fetch_response::{FetchableTopicResponse, PartitionData},
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
    },
};

use super::desk::SharedDesk;
use crate::{
    Client, ClientBuilder, Consumer, OffsetSpec, TopicPartition,
    net::lock,
    scripted::{Cluster, DecodeBody, Reply, World, answer, api_versions},
};

pub(super) const TOPIC: &str = "orders";
pub(super) const PER_BATCH: i64 = 10;

/// A cluster whose partition n of [`TOPIC`] is led by the n-th broker of the list, wrapping around.
pub(super) struct Brokers {
    pub(super) world: Arc<World>,
    pub(super) logs: Arc<Mutex<Logs>>,
    pub(super) desk: SharedDesk,
    /// Topics besides [`TOPIC`], with the leaders of their partitions.
    pub(super) topics: Arc<Mutex<BTreeMap<String, Vec<i32>>>>,
    servers: usize,
}

/// What the brokers have, and what they were asked.
#[derive(Default)]
pub(super) struct Logs {
    partitions: BTreeMap<i32, Vec<Bytes>>,
    sessions: BTreeMap<(i32, i32), BTreeMap<i32, i64>>,
    /// The code that a partition's next fetches are answered with.
    pub(super) errors: BTreeMap<i32, ErrorCode>,
    /// Brokers that accept requests and answer none.
    pub(super) frozen: Vec<i32>,
    /// Fetches by broker.
    pub(super) fetches: BTreeMap<i32, usize>,
    pub(super) sessions_closed: usize,
    /// At most so many batches of a partition in one answer.
    pub(super) batches_at_once: usize,
}

impl Brokers {
    pub(super) fn start(brokers: u16, partitions: i32) -> Self {
        let world = World::new();
        let ports: Vec<u16> = (1..=brokers).collect();
        let leaders: Vec<i32> = (0..partitions).map(|partition| partition % i32::from(brokers)).collect();
        let cluster = Cluster::new(&ports).topic(TOPIC, &leaders);
        let logs = Logs {
            partitions: (0..partitions).map(|partition| (partition, Vec::new())).collect(),
            batches_at_once: 4,
            ..Logs::default()
        };
        let logs = Arc::new(Mutex::new(logs));
        let (desk, topics) = (SharedDesk::default(), Arc::<Mutex<BTreeMap<_, _>>>::default());
        for (node, port) in (0..).zip(&ports) {
            let (cluster, logs) = (cluster.clone(), Arc::clone(&logs));
            let (desk, topics) = (Arc::clone(&desk), Arc::clone(&topics));
            let stands_still = {
                let logs = Arc::clone(&logs);
                move |api| api != ApiKey::FETCH && lock(&logs).frozen.contains(&node)
            };
            world.serve(*port, move |request| match request.api_key {
                api if stands_still(api) => Reply::Nothing,
                ApiKey::API_VERSIONS => api_versions(request, 4),
                ApiKey::METADATA => {
                    let mut cluster = cluster.clone();
                    cluster.topics.extend(lock(&topics).clone());
                    cluster.metadata(request)
                }
                ApiKey::LIST_OFFSETS => lock(&logs).list_offsets(request),
                ApiKey::FETCH => lock(&logs).fetch(node, request),
                _ => lock(&desk).serve(request).unwrap_or(Reply::Close),
            });
        }
        Self { world, logs, desk, topics, servers: ports.len() }
    }

    /// Adds `batches` batches of [`PER_BATCH`] records to a partition.
    pub(super) fn produce(&self, partition: i32, batches: i64, codec: Compression) {
        let mut logs = lock(&self.logs);
        let log = logs.partitions.entry(partition).or_default();
        for _ in 0..batches {
            let base = log.len() as i64 * PER_BATCH;
            log.push(batch(base, codec));
        }
    }

    pub(super) fn builder(&self) -> ClientBuilder {
        let servers: Vec<_> = (1..=self.servers).map(|port| format!("10.0.0.1:{port}")).collect();
        let servers: Vec<_> = servers.iter().map(String::as_str).collect();
        self.world.builder(&servers)
    }

    pub(super) fn client(&self) -> Client {
        self.builder().build().unwrap()
    }

    /// A consumer that reads all partitions from the start.
    pub(super) fn consumer(&self, client: &Client) -> Consumer {
        let consumer = Consumer::builder(client).build().unwrap();
        let partitions = lock(&self.logs).partitions.keys().copied().collect::<Vec<_>>();
        let places = partitions.into_iter().map(|partition| ((TOPIC, partition), OffsetSpec::Earliest));
        consumer.assign(places).unwrap();
        consumer
    }

    pub(super) fn fetches(&self, node: i32) -> usize {
        lock(&self.logs).fetches.get(&node).copied().unwrap_or(0)
    }
}

pub(super) fn partition(number: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, number)
}

fn batch(base: i64, codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(1_024);
    for n in base..base + PER_BATCH {
        let value = format!("value {n}, and the same again for the codec: value {n}");
        builder.append(1_000 + n, Some(b"key"), Some(value.as_bytes()), std::iter::empty()).unwrap();
    }
    let mut sealed = builder.seal_with(&mut Compressor::new(codec, None).unwrap()).unwrap();
    sealed.stamp(-1, -1, -1);
    let mut bytes = Vec::from(sealed.into_bytes());
    set_base_offset_and_epoch(&mut bytes, base, 0);
    bytes.into()
}

impl Logs {
    fn list_offsets(&self, frame: &mut RequestFrame) -> Reply {
        let request = ListOffsetsRequest::decode_body(frame);
        let partitions = request.topics[0].partitions.iter().map(|part| {
            let end = self.partitions[&part.partition_index].len() as i64 * PER_BATCH;
            let offset = match part.timestamp {
                -2 => 0,
                -1 => end,
                time if time - 1_000 < end => (time - 1_000).max(0),
                _ => -1,
            };
            let timestamp = if part.timestamp < 0 || offset < 0 { -1 } else { 1_000 + offset };
            ListOffsetsPartitionResponse {
                partition_index: part.partition_index,
                offset,
                timestamp,
                leader_epoch: 0,
                ..Default::default()
            }
        });
        let topics = vec![ListOffsetsTopicResponse { name: TOPIC.into(), partitions: partitions.collect() }];
        answer::<ListOffsetsRequest>(frame, &ListOffsetsResponse { topics, ..Default::default() })
    }

    fn fetch(&mut self, node: i32, frame: &mut RequestFrame) -> Reply {
        let request = FetchRequest::decode_body(frame);
        *self.fetches.entry(node).or_default() += 1;
        if self.frozen.contains(&node) {
            return Reply::Nothing;
        }
        if request.session_epoch < 0 && request.session_id > 0 {
            self.sessions_closed += 1;
        }
        let session_id = if request.session_epoch == 0 { node + 1 } else { request.session_id };
        // Consumers of one client have a session each; in these tests their partitions tell them apart well enough.
        let asked = self.sessions.entry((node, session_id)).or_default();
        if request.session_epoch <= 0 {
            asked.clear();
        }
        for partition in request.forgotten_topics_data.iter().flat_map(|topic| &topic.partitions) {
            asked.remove(partition);
        }
        for part in request.topics.iter().flat_map(|topic| &topic.partitions) {
            asked.insert(part.partition, part.fetch_offset);
        }
        let asked = asked.clone();
        let partitions: Vec<_> =
            asked.iter().filter_map(|(partition, offset)| self.part(*partition, *offset)).collect();
        let idle = partitions.is_empty();
        let responses = if idle {
            Vec::new()
        } else {
            vec![FetchableTopicResponse { topic: TOPIC.into(), partitions, ..Default::default() }]
        };
        let response = FetchResponse { session_id, responses, ..Default::default() };
        let bytes =
            encode_response::<FetchRequest>(frame.api_version, frame.correlation_id, &response).unwrap();
        let wait = if idle { request.max_wait_ms } else { 0 };
        Reply::After(Duration::from_millis(u64::try_from(wait).unwrap_or(0)), bytes)
    }

    /// `None`: no news of this partition.
    fn part(&mut self, partition: i32, offset: i64) -> Option<PartitionData> {
        let log = &self.partitions[&partition];
        let end = log.len() as i64 * PER_BATCH;
        let mut part = PartitionData {
            partition_index: partition,
            high_watermark: end,
            last_stable_offset: end,
            log_start_offset: 0,
            ..Default::default()
        };
        if let Some(code) = self.errors.get(&partition) {
            part.error_code = *code;
        } else if offset > end {
            part.error_code = ErrorCode::OFFSET_OUT_OF_RANGE;
        } else if offset == end {
            return None;
        } else {
            let from = (offset / PER_BATCH) as usize;
            part.records = Some(log[from..].iter().take(self.batches_at_once).flatten().copied().collect());
        }
        Some(part)
    }
}
