//! Where the demo takes place: in an embedded cluster, or in one that is there already.

use std::{sync::Arc, time::Duration};

use ottla::{
    Admin, Client, ErrorCode, NewTopic,
    env::{Env, Tokio},
};
use ottla_broker::{ClusterConfig, tcp::Cluster};

use super::holding::{Gate, Holding};
use crate::output::{Failure, say, with_causes};

/// How many partitions the orders have.
const PARTITIONS: i32 = 3;
/// How long a broker that is awake may take to answer.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
/// As many copies as the cluster thinks right.
const BROKERS_CHOICE: i16 = -1;

/// A cluster, a topic for it, and the gate on the way there.
pub(super) struct World {
    /// None: it is not ours, and only the gate freezes it.
    cluster: Option<Cluster>,
    pub(super) servers: Vec<String>,
    pub(super) topic: String,
    pub(super) group: String,
    gate: Arc<Gate>,
    /// A client that is never held.
    pub(super) outside: Client,
}

impl World {
    /// A cluster of one node, in memory, that allows sessions as short as `session` and may be frozen for `pause`.
    pub(super) async fn embedded(session: Duration, pause: Duration) -> Result<Self, Failure> {
        let mut config = ClusterConfig::with_nodes(1, "127.0.0.1", 0);
        // Nobody watches a node that is a whole cluster, so that it leads its partitions when it wakes up as if nothing had
        // been.
        config.broker_session_timeout = config.broker_session_timeout.max(2 * pause);
        config.groups.min_session_timeout = config.groups.min_session_timeout.min(session);
        let cannot = |error| Failure::new(format!("cannot start an embedded node: {error}"));
        let cluster = Cluster::start(config, None).await.map_err(cannot)?;
        let servers = cluster.bootstrap_servers();
        Self::new(Some(cluster), servers, "orders".into(), "demo".into()).await
    }

    /// A cluster that is there, for a topic and a group whose names nobody else has.
    pub(super) async fn against(servers: Vec<String>) -> Result<Self, Failure> {
        let unique = world()?.random();
        let (topic, group) =
            (format!("ottla-demo-orders-{unique:016x}"), format!("ottla-demo-{unique:016x}"));
        Self::new(None, servers, topic, group).await
    }

    async fn new(
        cluster: Option<Cluster>,
        servers: Vec<String>,
        topic: String,
        group: String,
    ) -> Result<Self, Failure> {
        let outside = Client::builder().client_id("ottla-demo").bootstrap_servers(&servers).connect().await?;
        Ok(Self { cluster, servers, topic, group, gate: Arc::default(), outside })
    }

    /// The topic of the orders, which is not there yet.
    pub(super) async fn create_topic(&self) -> Result<(), Failure> {
        let topics = [NewTopic::new(&self.topic, PARTITIONS, BROKERS_CHOICE)];
        Admin::new(&self.outside).create_topics(topics).await?.all()?;
        Ok(())
    }

    /// What it is, in words.
    pub(super) fn description(&self) -> String {
        let servers = self.servers.join(", ");
        match self.cluster {
            Some(_) => format!("an embedded node at {servers}"),
            None => format!("the cluster at {servers}, topic {}", self.topic),
        }
    }

    /// A client that can be held for `pause`, and keeps its connections.
    ///
    /// If it gave up a connection for records, it would look for the leader on one that comes back with the group's, and
    /// records could not come first.
    pub(super) async fn client(&self, pause: Duration) -> Result<Client, Failure> {
        let env = Holding::new(world()?, self.gate.clone());
        let builder = Client::builder().client_id("ottla-demo").bootstrap_servers(&self.servers);
        Ok(builder.request_timeout(ANSWERED_WITHIN + pause).env(Arc::new(env)).connect().await?)
    }

    /// For the client that can be held, every broker stands still from now on. An embedded one really does.
    pub(super) async fn freeze(&self) -> Result<(), Failure> {
        self.gate.hold();
        if let Some(cluster) = &self.cluster {
            for node in &cluster.config().nodes {
                cluster.freeze(node.id).await?;
            }
        }
        Ok(())
    }

    /// The brokers go on, and the client that is held has not heard of it yet.
    pub(super) async fn wake(&self) -> Result<(), Failure> {
        if let Some(cluster) = &self.cluster {
            for node in &cluster.config().nodes {
                cluster.thaw(node.id).await?;
            }
        }
        Ok(())
    }

    /// Records reach the client again, and nothing else.
    pub(super) fn let_data_go(&self) {
        self.gate.let_data_go();
    }

    /// The client and the brokers hear all of each other again.
    pub(super) fn let_all_go(&self) {
        self.gate.let_all_go();
    }

    /// Leaves the cluster as it was found.
    pub(super) async fn end(self) {
        let Some(cluster) = self.cluster else {
            if let Err(error) = self.clean_up().await {
                let Self { topic, group, .. } = &self;
                say(format_args!("ottla: {topic} and {group} may be left: {}", with_causes(&error)));
            }
            return drop(self.outside.close().await);
        };
        // Everything that was there goes with the process.
        drop(self.outside.close().await);
        cluster.stop().await;
    }

    async fn clean_up(&self) -> ottla::Result<()> {
        let admin = Admin::new(&self.outside);
        let topic = admin.delete_topics([self.topic.as_str()]).await.and_then(|deleted| deleted.all());
        let group = admin.delete_groups([self.group.as_str()]).await.and_then(|deleted| deleted.all());
        gone(topic.map(drop)).and(gone(group.map(drop)))
    }
}

/// Who was interrupted early has made nothing yet that could be deleted.
fn gone(deleted: ottla::Result<()>) -> ottla::Result<()> {
    let never_was = [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::GROUP_ID_NOT_FOUND];
    deleted.or_else(|error| match error.broker_code() {
        Some(code) if never_was.contains(&code) => Ok(()),
        _ => Err(error),
    })
}

fn world() -> Result<Tokio, Failure> {
    Tokio::current().map_err(|error| Failure::new(error.to_string()))
}
