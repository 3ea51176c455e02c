//! The brokers that the suite runs against.

use std::process::Stdio;

use ottla_broker::disk::Tail;
use ottla_broker::{ClusterConfig, ReplicaSelector, tcp};
use tokio::process::Command;

/// A cluster that can be asked for its address and harmed.
pub(crate) enum Backend {
    Embedded(Box<tcp::Cluster>),
    Real(RealKafka),
}

impl Backend {
    /// An embedded cluster in memory, in racks as `cargo xtask kafka` sets them up.
    pub(crate) async fn embedded(nodes: usize) -> Self {
        let mut config = ClusterConfig::with_nodes(nodes, "127.0.0.1", 0);
        config.replica_selector = ReplicaSelector::RackAware;
        for node in &mut config.nodes {
            node.rack = Some(format!("rack-{}", node.id));
        }
        Self::Embedded(Box::new(tcp::Cluster::start(config, None).await.expect("an embedded cluster starts")))
    }

    pub(crate) fn bootstrap_servers(&self) -> Vec<String> {
        match self {
            Self::Embedded(cluster) => cluster.bootstrap_servers(),
            Self::Real(kafka) => kafka.bootstrap_servers.clone(),
        }
    }

    /// Kills a broker as `kill -9` does.
    pub(crate) async fn kill(&self, node: i32) {
        match self {
            Self::Embedded(cluster) => cluster.crash(node, Tail::Kept).await.expect("the node runs"),
            Self::Real(kafka) => kafka.control("kill", node).await,
        }
    }

    /// Shuts a broker down, so that others can take over at once. An embedded one has nothing to hand over: it is killed.
    pub(crate) async fn shut_down(&self, node: i32) {
        match self {
            Self::Embedded(_) => self.kill(node).await,
            Self::Real(kafka) => kafka.control("term", node).await,
        }
    }

    /// Starts a broker that has ended with what it had on its disk.
    pub(crate) async fn restart(&self, node: i32) {
        match self {
            Self::Embedded(cluster) => cluster.restart(node).await.expect("the node was killed"),
            Self::Real(kafka) => kafka.control("restart", node).await,
        }
    }

    /// [`Self::restart`] on another port. `false`: an embedded broker keeps the one that it has.
    pub(crate) async fn restart_at(&self, node: i32, port: u16) -> bool {
        match self {
            Self::Embedded(_) => false,
            Self::Real(kafka) => {
                kafka.run("restart", node, &["--port", &port.to_string()]).await;
                true
            }
        }
    }

    /// Freezes a broker as SIGSTOP does: its connections stay up and nothing answers.
    pub(crate) async fn freeze(&self, node: i32) {
        match self {
            Self::Embedded(cluster) => cluster.freeze(node).await.expect("the node runs"),
            Self::Real(kafka) => kafka.control("stop", node).await,
        }
    }

    /// Lets a frozen broker go on.
    pub(crate) async fn thaw(&self, node: i32) {
        match self {
            Self::Embedded(cluster) => cluster.thaw(node).await.expect("the node runs"),
            Self::Real(kafka) => kafka.control("cont", node).await,
        }
    }

    pub(crate) async fn stop(self) {
        if let Self::Embedded(cluster) = self {
            cluster.stop().await;
        }
    }
}

/// The cluster of `cargo xtask kafka run`.
pub(crate) struct RealKafka {
    bootstrap_servers: Vec<String>,
    control: Option<String>,
}

impl RealKafka {
    pub(crate) fn from_environment() -> Option<Self> {
        let servers = std::env::var("OTTLA_KAFKA_BOOTSTRAP").ok()?;
        let control = std::env::var("OTTLA_KAFKA_CTL").ok();
        Some(Self { bootstrap_servers: servers.split(',').map(str::to_owned).collect(), control })
    }

    pub(crate) fn nodes(&self) -> usize {
        self.bootstrap_servers.len()
    }

    async fn control(&self, verb: &str, node: i32) {
        self.run(verb, node, &[]).await;
    }

    async fn run(&self, verb: &str, node: i32, more: &[&str]) {
        let program = self.control.as_deref().expect("OTTLA_KAFKA_CTL is set beside OTTLA_KAFKA_BOOTSTRAP");
        let status = Command::new(program)
            .args(["kafka", verb, "--node", &node.to_string()])
            .args(more)
            .stdin(Stdio::null())
            .status()
            .await
            .expect("the program that started Kafka is there");
        assert!(status.success(), "kafka {verb} --node {node}");
    }
}
