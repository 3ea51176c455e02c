//! The client's seam to the world, as one host of the simulation sees it.

use std::{
    any::Any,
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ottla::env::{BoxFuture, Duplex, Env, Work};

use crate::{
    gate::NewTask,
    net,
    world::{HostId, Shared},
};

/// What wall clocks show when a world begins: 2026-01-01T00:00:00Z.
pub(crate) const BEGINNING: Duration = Duration::from_secs(1_767_225_600);

/// One incarnation of one host, as the client's [`Env`].
#[derive(Clone)]
pub struct SimEnv {
    shared: Arc<Shared>,
    host: HostId,
    generation: u32,
}

impl SimEnv {
    pub(crate) fn new(shared: Arc<Shared>, host: HostId, generation: u32) -> Self {
        Self { shared, host, generation }
    }
}

/// The wall clock of a host.
pub(crate) fn wall_clock(shared: &Shared, host: HostId) -> SystemTime {
    let now = UNIX_EPOCH + BEGINNING + shared.lived();
    let skew = shared.clock_skew(host);
    let distance = Duration::from_secs(skew.unsigned_abs());
    if skew < 0 { now - distance } else { now + distance }
}

impl Env for SimEnv {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Duplex>> {
        Box::pin(async move {
            if !self.shared.is_current(self.host, self.generation) {
                return Err(io::Error::new(io::ErrorKind::NetworkDown, "this host has crashed"));
            }
            net::connect(&self.shared, self.host, address).await
        })
    }

    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            let answer = self.shared.resolve(self.host, host);
            if !answer.after.is_zero() {
                tokio::time::sleep(answer.after).await;
            }
            Ok(answer.addresses?.into_iter().map(|address| SocketAddr::new(address, port)).collect())
        })
    }

    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) {
        self.shared.spawn(NewTask { host: self.host, generation: self.generation, name, future });
    }

    fn now(&self) -> SystemTime {
        wall_clock(&self.shared, self.host)
    }

    fn elapsed(&self) -> Duration {
        self.shared.lived()
    }

    fn random(&self) -> u64 {
        self.shared.random(self.host)
    }

    fn read_file<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Vec<u8>>> {
        let error =
            io::Error::new(io::ErrorKind::NotFound, format!("{}: hosts have no files", path.display()));
        Box::pin(std::future::ready(Err(error)))
    }

    fn offload_any(&self, work: Work) -> BoxFuture<'_, Box<dyn Any + Send>> {
        Box::pin(async move { work() })
    }
}

impl std::fmt::Debug for SimEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SimEnv").field(&self.shared.host_name(self.host)).finish()
    }
}
