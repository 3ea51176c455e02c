use std::{io, net::IpAddr, path::PathBuf, time::Duration};

use super::Cluster;
use crate::{ClusterConfig, strict::Strict};

/// What a [`Cluster`] is built from: the cluster's configuration, and what only a cluster on TCP has.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is started"]
pub struct ClusterBuilder {
    pub(super) config: ClusterConfig,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) listen: Option<IpAddr>,
    pub(super) max_idle: Duration,
    pub(super) strict: Option<Strict>,
}

impl ClusterBuilder {
    pub(super) fn new(config: ClusterConfig) -> Self {
        Self { config, data_dir: None, listen: None, max_idle: Duration::from_secs(600), strict: None }
    }

    /// Keeps everything in files below this directory, which is created if need be, and continues what is there.
    /// Without it the cluster lives in memory.
    pub fn data_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(path.into());
        self
    }

    /// The local address to listen on, where it is not the advertised host: `0.0.0.0` in a container, for example.
    pub fn listen(mut self, address: IpAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// `connections.max.idle.ms`: a connection on which nothing happens for this long is closed. 10 minutes if not
    /// set. A client that waits for an answer is not idle; one that does not take its answers is.
    pub fn max_idle(mut self, time: Duration) -> Self {
        self.max_idle = time;
        self
    }

    /// Checks what clients do, and keeps what they do wrong for [`Cluster::violations`]: see
    /// [`strict`](crate::strict). Meant for tests.
    pub fn strict(mut self) -> Self {
        self.strict = Some(Strict::default());
        self
    }

    /// Recovers what the data directory holds, listens, and starts all nodes. Nodes whose port is 0 get one that is
    /// free.
    ///
    /// # Errors
    /// When a port is in use ([`io::ErrorKind::AddrInUse`]), when the data directory is
    /// ([`io::ErrorKind::ResourceBusy`]) or holds something else ([`io::ErrorKind::InvalidData`]), and when it
    /// cannot be read.
    ///
    /// # Cancel safety
    /// Dropping the future stops what was started.
    pub async fn start(self) -> io::Result<Cluster> {
        Cluster::launch(self).await
    }
}
