//! A whole cluster in one thread: messages arrive at once, disks are memory, time moves when told to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ottla_protocol::batch::{self, BatchBuilder};
use ottla_protocol::compression::Decompressor;
use ottla_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use ottla_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use ottla_protocol::{Request, TopicId, frame};

use crate::controller::{self, ControllerInput, ControllerOutput};
use crate::disk::{Disk, MemoryDisk, Tail};
use crate::faults::Faults;
use crate::image::{Image, Partition};
use crate::io::{
    CloseReason, ConnectionId, DiskRequest, DiskResult, DiskToken, FileId, Input, NodeId, Now, Output, Sender,
};
use crate::peer::PeerMessage;
use crate::strict::Strict;
use crate::{ClusterConfig, Controller, Node, Recovered, Rng};

/// Milliseconds since 1970 when a test begins.
pub(crate) const WALL_MS: i64 = 1_800_000_000_000;

pub(crate) struct Cluster {
    pub(crate) config: Arc<ClusterConfig>,
    pub(crate) faults: Faults,
    pub(crate) strict: Strict,
    pub(crate) nodes: BTreeMap<NodeId, Host>,
    controller: Controller,
    controller_disk: MemoryDisk,
    start: Instant,
    now: Instant,
    queue: VecDeque<Event>,
    /// Pairs of nodes that do not hear each other; 0 is the controller.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// A third of the messages between machines are lost.
    loss: Option<Rng>,
    next_connection: u64,
    seed: u64,
}

/// A machine on which a node runs, or not.
pub(crate) struct Host {
    pub(crate) node: Option<Node>,
    pub(crate) disk: MemoryDisk,
    pub(crate) halted: Option<String>,
    /// Inputs that wait while the node is frozen.
    frozen: Option<VecDeque<Input>>,
    /// Requests that wait while the disk is slow.
    slow: Option<VecDeque<(DiskToken, DiskRequest)>>,
    replies: BTreeMap<ConnectionId, VecDeque<Bytes>>,
    closed: BTreeMap<ConnectionId, CloseReason>,
}

enum Event {
    Node(NodeId, Input),
    Controller(ControllerInput),
}

/// A connection of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub(crate) node: NodeId,
    pub(crate) connection: ConnectionId,
}

impl Cluster {
    pub(crate) fn new(nodes: usize) -> Self {
        Self::with(ClusterConfig::with_nodes(nodes, "localhost", 9092))
    }

    pub(crate) fn with(config: ClusterConfig) -> Self {
        let config = Arc::new(config);
        let now = tokio::time::Instant::now().into_std();
        let controller = Controller::new(Arc::clone(&config), None, Rng::seeded(99)).unwrap();
        let mut cluster = Self {
            faults: Faults::default(),
            strict: Strict::default(),
            nodes: BTreeMap::new(),
            controller,
            controller_disk: MemoryDisk::new(),
            start: now,
            now,
            queue: VecDeque::from([Event::Controller(ControllerInput::Tick)]),
            cut: BTreeSet::new(),
            loss: None,
            next_connection: 0,
            seed: 0,
            config,
        };
        for node in cluster.config.clone().nodes.iter() {
            cluster.nodes.insert(node.id, Host::new());
            cluster.start(node.id);
        }
        cluster.run();
        cluster
    }

    pub(crate) fn now(&self) -> Now {
        let elapsed = i64::try_from(self.now.duration_since(self.start).as_millis()).unwrap();
        Now { monotonic: self.now, wall_ms: WALL_MS + elapsed }
    }

    pub(crate) fn start(&mut self, id: NodeId) {
        self.seed += 1;
        let host = self.nodes.get_mut(&id).unwrap();
        let recovered = Recovered::read(&mut host.disk).unwrap();
        let node = Node::new(id, Arc::clone(&self.config), recovered, Rng::seeded(self.seed));
        host.node = Some(node.with_faults(self.faults.clone()).with_strict(self.strict.clone()));
        self.queue.push_back(Event::Node(id, Input::Tick));
        self.run();
    }

    pub(crate) fn crash(&mut self, id: NodeId, tail: Tail) {
        let host = self.nodes.get_mut(&id).unwrap();
        *host = Host { disk: std::mem::take(&mut host.disk), ..Host::new() };
        host.disk.crash(tail);
        self.queue.retain(|event| !matches!(event, Event::Node(node, _) if *node == id));
    }

    pub(crate) fn freeze(&mut self, id: NodeId) {
        self.nodes.get_mut(&id).unwrap().frozen = Some(VecDeque::new());
    }

    pub(crate) fn thaw(&mut self, id: NodeId) {
        let waiting = self.nodes.get_mut(&id).unwrap().frozen.take().unwrap();
        self.queue.extend(waiting.into_iter().map(|input| Event::Node(id, input)));
        self.run();
    }

    /// The disk takes requests and does nothing until it is told to.
    pub(crate) fn slow_disk(&mut self, id: NodeId) {
        self.nodes.get_mut(&id).unwrap().slow = Some(VecDeque::new());
    }

    pub(crate) fn fast_disk(&mut self, id: NodeId) {
        let host = self.nodes.get_mut(&id).unwrap();
        for (token, request) in host.slow.take().unwrap() {
            let result = host.disk.handle(request);
            self.queue.push_back(Event::Node(id, Input::Disk(token, result)));
        }
        self.run();
    }

    pub(crate) fn fail_disk(&mut self, id: NodeId) {
        let host = self.nodes.get_mut(&id).unwrap();
        for (token, _) in host.slow.take().unwrap() {
            self.queue
                .push_back(Event::Node(id, Input::Disk(token, DiskResult::Failed("broken".to_owned()))));
        }
        self.run();
    }

    /// Two nodes do not hear each other any more; 0 is the controller.
    pub(crate) fn cut(&mut self, one: NodeId, other: NodeId) {
        self.cut.extend([(one, other), (other, one)]);
    }

    /// One node is not heard by another; 0 is the controller.
    pub(crate) fn mute(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    /// Loses a third of the messages between machines, or none any more.
    pub(crate) fn lose(&mut self, seed: Option<u64>) {
        self.loss = seed.map(Rng::seeded);
    }

    fn delivers(&mut self, from: NodeId, to: NodeId) -> bool {
        let lost = self.loss.as_mut().is_some_and(|rng| rng.next_u64().is_multiple_of(3));
        !lost && !self.cut.contains(&(from, to))
    }

    /// Whether a node is in sync in the first partition of every topic.
    pub(crate) fn is_in_sync(&self, node: NodeId) -> bool {
        let topics = self.controller.image().topics.values();
        topics.filter_map(|topic| topic.partition(0)).all(|partition| partition.isr.contains(&node))
    }

    /// The controller's process ends and starts again.
    pub(crate) fn restart_controller(&mut self) {
        let file = self.controller_disk.contents(&FileId::Meta(controller::META)).unwrap().to_vec();
        self.controller = Controller::new(Arc::clone(&self.config), Some(&file), Rng::seeded(98)).unwrap();
    }

    /// Delivers everything that is under way.
    pub(crate) fn run(&mut self) {
        for _ in 0..100_000 {
            let Some(event) = self.queue.pop_front() else { return };
            match event {
                Event::Node(id, input) => self.run_node(id, input),
                Event::Controller(input) => self.run_controller(input),
            }
        }
        panic!("the cluster does not come to rest");
    }

    /// Lets time pass, stopping at each deadline.
    pub(crate) fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let nodes = self.nodes.values().filter(|host| host.frozen.is_none() && host.halted.is_none());
            let nodes = nodes.filter_map(|host| host.node.as_ref()?.next_deadline());
            let next = nodes.chain(self.controller.next_deadline()).min().filter(|next| *next <= end);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
            for id in ids {
                let node = self.nodes[&id].node.as_ref();
                if node.and_then(Node::next_deadline).is_some_and(|deadline| deadline <= self.now) {
                    self.queue.push_back(Event::Node(id, Input::Tick));
                }
            }
            self.queue.push_back(Event::Controller(ControllerInput::Tick));
            self.run();
        }
        self.now = end;
    }

    pub(crate) fn connect(&mut self, node: NodeId) -> Client {
        let connection = ConnectionId(self.next_connection);
        self.next_connection += 1;
        self.input(node, Input::Connected(connection, Ipv4Addr::LOCALHOST.into()));
        Client { node, connection }
    }

    pub(crate) fn disconnect(&mut self, client: Client) {
        self.input(client.node, Input::Disconnected(client.connection));
    }

    pub(crate) fn input(&mut self, node: NodeId, input: Input) {
        self.queue.push_back(Event::Node(node, input));
        self.run();
    }

    pub(crate) fn send<R: Request>(&mut self, client: Client, version: i16, request: &R) {
        let segments = frame::encode_request(version, 7, Some("test"), request).unwrap();
        let frame = concat(segments).slice(4..);
        self.input(client.node, Input::Frame(client.connection, frame));
    }

    pub(crate) fn reply<R: Request>(&mut self, client: Client, version: i16) -> Option<R::Response> {
        let replies = self.nodes.get_mut(&client.node).unwrap().replies.get_mut(&client.connection)?;
        let frame = replies.pop_front()?;
        let (correlation_id, response) = frame::decode_response::<R>(version, frame.slice(4..)).unwrap();
        assert_eq!(correlation_id, 7);
        Some(response)
    }

    /// The next answer as it would be on the wire.
    pub(crate) fn bytes(&mut self, client: Client) -> Option<Bytes> {
        self.nodes.get_mut(&client.node).unwrap().replies.get_mut(&client.connection)?.pop_front()
    }

    /// Sends a request and returns the answer, for which at most half a minute may pass.
    pub(crate) fn call<R: Request>(&mut self, client: Client, version: i16, request: &R) -> R::Response {
        self.send(client, version, request);
        for _ in 0..300 {
            if let Some(response) = self.reply::<R>(client, version) {
                return response;
            }
            self.advance(Duration::from_millis(100));
        }
        panic!("no answer; closed: {:?}", self.closed(client));
    }

    pub(crate) fn closed(&self, client: Client) -> Option<&CloseReason> {
        self.nodes[&client.node].closed.get(&client.connection)
    }

    /// Creates a topic of one partition per list of replicas.
    pub(crate) fn create(&mut self, name: &str, replicas: &[&[NodeId]], config: &[(&str, &str)]) -> TopicId {
        let assignments = (0..).zip(replicas).map(|(partition_index, replicas)| CreatableReplicaAssignment {
            partition_index,
            broker_ids: replicas.to_vec(),
        });
        let configs = config
            .iter()
            .map(|(name, value)| CreatableTopicConfig { name: (*name).into(), value: Some((*value).into()) });
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: assignments.collect(),
            configs: configs.collect(),
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, validate_only: false };
        let client = self.any_client();
        let response: CreateTopicsResponse = self.call(client, 7, &request);
        let created = response.topics.first().unwrap();
        assert!(created.error_code.is_ok(), "{created:?}");
        created.topic_id
    }

    pub(crate) fn any_client(&mut self) -> Client {
        let id = self
            .nodes
            .iter()
            .find(|(_, host)| host.node.is_some() && host.frozen.is_none())
            .map(|(id, _)| *id);
        self.connect(id.unwrap())
    }

    /// No node keeps anything for a request that is done.
    pub(crate) fn assert_at_rest(&self) {
        for node in self.nodes.values().filter_map(|host| host.node.as_ref()) {
            assert_eq!(node.waiting_and_watched(), (0, 0));
        }
    }

    /// The metadata as the controller has it.
    pub(crate) fn image(&self) -> &Image {
        self.controller.image()
    }

    /// A partition as the controller has it.
    pub(crate) fn partition(&self, topic: TopicId, index: i32) -> Partition {
        self.controller.image().partition(topic, index).unwrap().clone()
    }

    /// The values of the records in the log file of a replica, whatever is committed of them.
    pub(crate) fn stored(&self, node: NodeId, topic: TopicId, partition: i32) -> Vec<String> {
        let file = self.nodes[&node].disk.contents(&FileId::Log(topic, partition)).unwrap_or_default();
        values(Bytes::copy_from_slice(file))
    }

    fn run_node(&mut self, id: NodeId, input: Input) {
        let now = self.now();
        let host = self.nodes.get_mut(&id).unwrap();
        if let Some(waiting) = &mut host.frozen {
            waiting.push_back(input);
            return;
        }
        let Some(node) = &mut host.node else { return };
        let mut outputs = Vec::new();
        node.handle(now, input, &mut outputs);
        for output in outputs {
            self.carry_out(id, output);
        }
    }

    fn carry_out(&mut self, id: NodeId, output: Output) {
        let delivers = match &output {
            Output::Peer(Sender::Node(to), _) => self.delivers(id, *to),
            Output::Peer(Sender::Controller, _) => self.delivers(id, 0),
            _ => true,
        };
        let host = self.nodes.get_mut(&id).unwrap();
        match output {
            // A request that gets no response.
            Output::Reply(_, segments) if segments.is_empty() => {}
            Output::Reply(connection, segments) => {
                host.replies.entry(connection).or_default().push_back(concat(segments));
            }
            Output::Close(connection, reason) => {
                host.closed.insert(connection, reason);
            }
            Output::Disk(token, request) => match &mut host.slow {
                Some(waiting) => waiting.push_back((token, request)),
                None => {
                    let result = host.disk.handle(request);
                    self.queue.push_back(Event::Node(id, Input::Disk(token, result)));
                }
            },
            Output::Peer(Sender::Node(to), message) if delivers => {
                self.queue.push_back(Event::Node(to, Input::Peer(Sender::Node(id), message)));
            }
            Output::Peer(Sender::Controller, message) if delivers => {
                self.queue.push_back(Event::Controller(ControllerInput::Peer(id, message)));
            }
            Output::Peer(..) => {}
            Output::Note(_) | Output::Trouble(_) | Output::Violation(_) => {}
            Output::Halt(why) => host.halted = Some(why),
        }
    }

    fn run_controller(&mut self, input: ControllerInput) {
        let mut outputs = Vec::new();
        self.controller.handle(self.now(), input, &mut outputs);
        for output in outputs {
            match output {
                ControllerOutput::Peer(to, message) => self.controller_says(to, message),
                ControllerOutput::Disk(token, request) => {
                    let result = self.controller_disk.handle(request);
                    self.queue.push_back(Event::Controller(ControllerInput::Disk(token, result)));
                }
                ControllerOutput::Trouble(_) => {}
                ControllerOutput::Halt(why) => panic!("{why}"),
            }
        }
    }

    fn controller_says(&mut self, to: NodeId, message: PeerMessage) {
        if self.delivers(0, to) {
            self.queue.push_back(Event::Node(to, Input::Peer(Sender::Controller, message)));
        }
    }
}

impl Host {
    fn new() -> Self {
        Self {
            node: None,
            disk: MemoryDisk::new(),
            halted: None,
            frozen: None,
            slow: None,
            replies: BTreeMap::new(),
            closed: BTreeMap::new(),
        }
    }
}

fn concat(segments: Vec<Bytes>) -> Bytes {
    let mut whole = BytesMut::new();
    for segment in segments {
        whole.extend_from_slice(&segment);
    }
    whole.freeze()
}

/// The batch of a producer without idempotence.
pub(crate) fn plain(values: &[&str]) -> Bytes {
    sequenced(values, -1, -1, -1)
}

/// The batch of an idempotent producer.
pub(crate) fn sequenced(values: &[&str], producer_id: i64, epoch: i16, base_sequence: i32) -> Bytes {
    let timed: Vec<(i64, &str)> = values.iter().map(|value| (WALL_MS, *value)).collect();
    let mut batch = builder(&timed).seal();
    batch.stamp(producer_id, epoch, base_sequence);
    batch.into_bytes()
}

/// A batch under construction, of values with their timestamps.
pub(crate) fn builder(values: &[(i64, &str)]) -> BatchBuilder {
    let mut batch = BatchBuilder::new(1024);
    for (timestamp, value) in values {
        batch.append(*timestamp, None, Some(value.as_bytes()), [].into_iter()).unwrap();
    }
    batch
}

/// The values of the records in these batches.
pub(crate) fn values(records: Bytes) -> Vec<String> {
    let mut values = Vec::new();
    for batch in batch::batches(records) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        for record in batch.views(&mut Decompressor::new()).unwrap() {
            values.push(String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
        }
    }
    values
}
