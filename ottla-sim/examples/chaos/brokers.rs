//! The cluster, and what can be done to its processes.

use std::{
    io,
    path::PathBuf,
    process::{Child, Command, ExitStatus},
    time::Duration,
};

use ottla_broker::{ClusterConfig, disk::Tail, io::NodeId, tcp::Cluster};
use tokio::time::sleep;

use super::Result;

/// A cluster.
pub(crate) enum Brokers {
    /// In this process, over TCP.
    Embedded(Box<Cluster>),
    /// The one of `cargo xtask kafka run`.
    Kafka { control: PathBuf, servers: Vec<String> },
}

/// What can be done to a broker's process.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verb {
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Continue,
    /// SIGKILL.
    Kill,
    /// And up again, on the same port and files.
    Restart,
}

impl Brokers {
    pub(crate) async fn embedded() -> Result<Self> {
        let config = ClusterConfig::with_nodes(3, "127.0.0.1", 0);
        Ok(Self::Embedded(Box::new(Cluster::builder(config).strict().start().await?)))
    }

    /// What clients must not have done, where brokers look for that.
    pub(crate) fn complaints(&self) -> Vec<String> {
        match self {
            Self::Embedded(cluster) => cluster.violations().iter().map(ToString::to_string).collect(),
            Self::Kafka { .. } => Vec::new(),
        }
    }

    pub(crate) fn kafka() -> Result<Self> {
        let variable = |name: &str| {
            std::env::var(name)
                .map_err(|_| format!("{name} is not set: run this inside `cargo xtask kafka run`"))
        };
        let servers = variable("OTTLA_KAFKA_BOOTSTRAP")?.split(',').map(str::to_owned).collect();
        Ok(Self::Kafka { control: variable("OTTLA_KAFKA_CTL")?.into(), servers })
    }

    pub(crate) fn servers(&self) -> Vec<String> {
        match self {
            Self::Embedded(cluster) => cluster.bootstrap_servers(),
            Self::Kafka { servers, .. } => servers.clone(),
        }
    }

    /// Brokers are counted from 0.
    pub(crate) async fn order(&self, broker: usize, verb: Verb) -> Result<()> {
        match self {
            Self::Embedded(cluster) => Ok(order_embedded(cluster, broker as NodeId + 1, verb).await?),
            Self::Kafka { control, .. } => {
                let verb = match verb {
                    Verb::Stop => "stop",
                    Verb::Continue => "cont",
                    Verb::Kill => "kill",
                    Verb::Restart => "restart",
                };
                let node = (broker + 1).to_string();
                let mut command = Command::new(control);
                command.args(["kafka", verb, "--node", &node]);
                let status = ended(command.spawn()?).await?;
                if status.success() { Ok(()) } else { Err(format!("{verb} of node {node}: {status}").into()) }
            }
        }
    }

    pub(crate) async fn stop(self) {
        if let Self::Embedded(cluster) = self {
            cluster.stop().await;
        }
    }
}

/// Waits for a process' end while everything else goes on.
async fn ended(mut child: Child) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn order_embedded(cluster: &Cluster, node: NodeId, verb: Verb) -> io::Result<()> {
    match verb {
        Verb::Stop => cluster.freeze(node).await,
        Verb::Continue => cluster.thaw(node).await,
        Verb::Kill => cluster.crash(node, Tail::Kept).await,
        Verb::Restart => cluster.restart(node).await,
    }
}
