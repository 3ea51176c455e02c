//! The brokers that the suite runs against.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use ottla_broker::{ClusterConfig, disk::Tail, tcp};
use ottla_protocol::messages::create_topics_request::CreatableTopic;
use ottla_protocol::messages::delete_topics_request::DeleteTopicState;
use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::{
    ApiVersionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    FindCoordinatorRequest, MetadataRequest, MetadataResponse,
};
use ottla_protocol::{ErrorCode, Request, Str, TopicId};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::client::{Client, PATIENCE};
use crate::group::Group;
use crate::quirks::{Quirk, Release};

/// `group.min.session.timeout.ms`
pub(crate) const MIN_SESSION: Duration = Duration::from_millis(100);
/// `group.max.session.timeout.ms`
pub(crate) const MAX_SESSION: Duration = Duration::from_secs(1800);
/// `group.max.size`
pub(crate) const MAX_SIZE: usize = 4;

/// Between two looks at something that the broker is about to do.
const GLANCE: Duration = Duration::from_millis(10);

/// Tests share the real Kafka, but for those that harm it.
static TURN: LazyLock<RwLock<()>> = LazyLock::new(|| RwLock::new(()));

/// A cluster, and the way to harm it.
pub(crate) struct Broker {
    backend: Backend,
    addresses: Vec<String>,
    release: Release,
    newest: Vec<(i16, i16)>,
    killed: Mutex<BTreeSet<i32>>,
    _turn: Turn,
}

enum Backend {
    Embedded(Box<tcp::Cluster>),
    Real,
}

/// Held, never looked at.
enum Turn {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// A topic that no other test has.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) name: Str,
    pub(crate) id: TopicId,
}

impl Broker {
    /// The broker that is tested: the one that `OTTLA_KAFKA_BOOTSTRAP` names, and otherwise an embedded one.
    pub(crate) async fn start() -> Self {
        let turn = Turn::Shared { _guard: TURN.read().await };
        Self::with(1, turn).await
    }

    /// One with so many nodes, that no other test uses meanwhile; none, and a word about it, where there is none.
    pub(crate) async fn alone(nodes: usize) -> Option<Self> {
        if let Some(there) = real_addresses().map(|all| all.len())
            && there < nodes
        {
            eprintln!("not run: this Kafka has {there} nodes, and {nodes} are needed");
            return None;
        }
        let turn = Turn::Alone { _guard: TURN.write().await };
        Some(Self::with(nodes, turn).await)
    }

    async fn with(nodes: usize, turn: Turn) -> Self {
        let (backend, addresses) = match real_addresses() {
            Some(addresses) => (Backend::Real, addresses),
            None => {
                let cluster = tcp::Cluster::start(config(nodes), None).await.expect("a cluster starts");
                let addresses = cluster.bootstrap_servers();
                (Backend::Embedded(Box::new(cluster)), addresses)
            }
        };
        let newest = versions(&addresses[0]).await;
        let release = match backend {
            Backend::Embedded(_) => Release::Embedded,
            Backend::Real => Release::of(&newest),
        };
        let broker = Self { backend, addresses, release, newest, killed: Mutex::default(), _turn: turn };
        if matches!(broker.backend, Backend::Real) {
            broker.require("group.min.session.timeout.ms", MIN_SESSION.as_millis()).await;
            broker.require("group.max.size", MAX_SIZE as u128).await;
        }
        broker
    }

    /// Whether the broker differs from the others in this.
    pub(crate) fn has(&self, quirk: Quirk) -> bool {
        quirk.is_of(self.release)
    }

    /// The newest version of an API that both sides know.
    pub(crate) fn newest<R: Request>(&self) -> i16 {
        let theirs = self.newest.iter().find(|(key, _)| *key == R::API_KEY.0);
        let theirs = theirs.unwrap_or_else(|| panic!("{} is not served", R::API_KEY)).1;
        theirs.min(*R::VERSIONS.end())
    }

    /// All versions of an API that both sides know.
    pub(crate) fn versions<R: Request>(&self) -> std::ops::RangeInclusive<i16> {
        *R::VERSIONS.start()..=self.newest::<R>()
    }

    /// The `host:port` of each node, by ascending id from 1.
    pub(crate) fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// Asks the first node.
    pub(crate) async fn call<R: Request>(&self, version: i16, request: &R) -> R::Response {
        call(&self.addresses[0], version, request).await
    }

    /// A group that nobody has heard of, and whose coordinator is ready.
    pub(crate) async fn group(&self) -> Group {
        self.find(fresh_name("group")).await
    }

    /// A group by its id, once it has a coordinator that is ready.
    pub(crate) async fn find(&self, id: Str) -> Group {
        let find = async {
            loop {
                for address in &self.addresses {
                    if let Some(coordinator) = coordinator(address, &id).await
                        && let group = (Group { id: id.clone(), coordinator })
                        && group.is_served().await
                    {
                        return group;
                    }
                }
                tokio::time::sleep(GLANCE).await;
            }
        };
        tokio::time::timeout(PATIENCE, find).await.expect("the group has no coordinator")
    }

    /// Creates a topic, and waits until each node knows it.
    pub(crate) async fn topic(&self, partitions: i32) -> Topic {
        let name = fresh_name("topic");
        let topic = CreatableTopic {
            name: name.clone(),
            num_partitions: partitions,
            replication_factor: self.addresses.len().min(3) as i16,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, validate_only: false };
        let created = self.call(7, &request).await;
        assert_eq!(created.topics[0].error_code, ErrorCode::NONE, "{:?}", created.topics[0].error_message);
        let known = |metadata: &MetadataResponse| {
            let topic = &metadata.topics[0];
            topic.error_code.is_ok() && topic.partitions.len() as i32 == partitions
        };
        self.metadata_until(&name, known).await;
        Topic { name, id: created.topics[0].topic_id }
    }

    /// Deletes a topic, and waits until each node has forgotten it.
    pub(crate) async fn delete(&self, topic: &Topic) {
        let doomed = DeleteTopicState { name: Some(topic.name.clone()), topic_id: TopicId::ZERO };
        let request = DeleteTopicsRequest { topics: vec![doomed], timeout_ms: 30_000, ..Default::default() };
        let deleted = self.call(6, &request).await;
        assert_eq!(deleted.responses[0].error_code, ErrorCode::NONE);
        self.metadata_until(&topic.name, |metadata| !metadata.topics[0].error_code.is_ok()).await;
    }

    async fn metadata_until(&self, topic: &Str, wanted: impl Fn(&MetadataResponse) -> bool) {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic { name: Some(topic.clone()), ..Default::default() }]),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        for address in &self.addresses {
            until("the metadata is as wanted", async || wanted(&call(address, 12, &request).await)).await;
        }
    }

    /// Kills a node as `kill -9` does. When the test is over, however it ends, the real one runs again.
    pub(crate) async fn kill(&self, node: i32) {
        self.killed.lock().unwrap().insert(node);
        match &self.backend {
            Backend::Embedded(cluster) => cluster.crash(node, Tail::Kept).await.expect("the node runs"),
            Backend::Real => control("kill", node),
        }
    }

    /// Starts a killed node with what it had on its disk.
    pub(crate) async fn restart(&self, node: i32) {
        match &self.backend {
            Backend::Embedded(cluster) => cluster.restart(node).await.expect("the node was killed"),
            Backend::Real => control("restart", node),
        }
        self.killed.lock().unwrap().remove(&node);
    }

    async fn require(&self, setting: &str, value: u128) {
        let resource = DescribeConfigsResource {
            resource_type: 4,
            resource_name: Str::from("1"),
            configuration_keys: Some(vec![Str::from(setting)]),
        };
        let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
        let described = self.call(4, &request).await;
        let found = described.results[0].configs.first().and_then(|config| config.value.clone());
        assert_eq!(
            found,
            Some(Str::from(value.to_string())),
            "start Kafka with --property {setting}={value}"
        );
    }
}

fn config(nodes: usize) -> ClusterConfig {
    let mut config = ClusterConfig::with_nodes(nodes, "127.0.0.1", 0);
    // A node that is killed is noticed soon.
    config.broker_heartbeat_interval = Duration::from_millis(50);
    config.broker_session_timeout = Duration::from_millis(500);
    config.peer_retry = Duration::from_millis(100);
    config.groups.min_session_timeout = MIN_SESSION;
    config.groups.max_size = MAX_SIZE;
    config
}

fn real_addresses() -> Option<Vec<String>> {
    let servers = std::env::var("OTTLA_KAFKA_BOOTSTRAP").ok()?;
    Some(servers.split(',').map(str::to_owned).collect())
}

/// Also from where nothing can be awaited; nobody else waits meanwhile, since whoever harms is alone.
fn control(verb: &str, node: i32) {
    let program = std::env::var_os("OTTLA_KAFKA_CTL").expect("it is set beside OTTLA_KAFKA_BOOTSTRAP");
    let node = node.to_string();
    let mut command = Command::new(program);
    command.args(["kafka", verb, "--node", &node]).stdin(Stdio::null());
    assert!(command.status().expect("the program runs").success(), "kafka {verb} --node {node}");
}

impl Drop for Broker {
    fn drop(&mut self) {
        if matches!(self.backend, Backend::Real) {
            self.killed.get_mut().unwrap().iter().for_each(|node| control("restart", *node));
        }
    }
}

/// Asks a node that is there.
pub(crate) async fn call<R: Request>(address: &str, version: i16, request: &R) -> R::Response {
    try_call(address, version, request).await.expect("the broker answers")
}

/// Asks a node that may just be dying.
pub(crate) async fn try_call<R: Request>(
    address: &str,
    version: i16,
    request: &R,
) -> std::io::Result<R::Response> {
    Client::connect(address).await?.call(version, request).await
}

/// Waits until something has come true, and fails if it does not.
pub(crate) async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_true().await {
            tokio::time::sleep(GLANCE).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "never: {what}");
}

/// The newest version of each API that the broker serves.
async fn versions(address: &str) -> Vec<(i16, i16)> {
    let request = ApiVersionsRequest {
        client_software_name: Str::from("suite"),
        client_software_version: Str::from("1"),
        ..ApiVersionsRequest::default()
    };
    let served = call(address, 3, &request).await;
    served.api_keys.iter().map(|api| (api.api_key, api.max_version)).collect()
}

/// The coordinator of a group, as far as this node knows one.
pub(crate) async fn coordinator(address: &str, group: &str) -> Option<String> {
    let request = FindCoordinatorRequest { coordinator_keys: vec![Str::from(group)], ..Default::default() };
    let found = try_call(address, 4, &request).await.ok()?.coordinators.into_iter().next()?;
    found.error_code.is_ok().then(|| format!("{}:{}", found.host, found.port))
}

/// A name that nobody else has, also not an earlier run against the same broker.
pub(crate) fn fresh_name(kind: &str) -> Str {
    use std::hash::{BuildHasher as _, Hasher as _};
    // A random number without a dependency: each state is seeded differently.
    let random = std::hash::RandomState::new().build_hasher().finish();
    Str::from(format!("{kind}-{random:016x}"))
}
