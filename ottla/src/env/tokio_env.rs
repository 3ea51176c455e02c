//! The default world: tokio and the operating system.
#![expect(clippy::disallowed_methods, reason = "this is the one place that these calls belong")]

use std::{
    any::Any,
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    net::TcpStream,
    runtime::{Builder, Handle, Runtime},
};

use super::{
    BoxFuture, Duplex, Env, Work,
    suspend_clock::{Readings, SuspendClock},
};

/// Tokio's sockets and tasks, the operating system's clocks, names and files.
#[derive(Debug, Clone)]
pub struct Tokio {
    runtime: Handle,
    started: Arc<Started>,
    /// A runtime of our own, which ends with the last clone.
    _dedicated: Option<Arc<Dedicated>>,
}

/// When the clock that counts suspend stood at zero.
#[derive(Debug)]
struct Started {
    monotonic: Instant,
    wall: SystemTime,
    clock: SuspendClock,
}

impl Started {
    fn now() -> Arc<Self> {
        let (monotonic, wall) = (Instant::now(), SystemTime::now());
        Arc::new(Self { monotonic, wall, clock: SuspendClock::default() })
    }

    fn elapsed(&self) -> Duration {
        let monotonic = u64::try_from(self.monotonic.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let signed = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        let wall = match self.wall.elapsed() {
            Ok(later) => signed(later),
            Err(earlier) => -signed(earlier.duration()),
        };
        self.clock.elapsed(Readings { monotonic, wall })
    }
}

/// Ends its runtime without waiting for it: the last handle may be dropped in a task, where nothing may block.
#[derive(Debug)]
struct Dedicated(Option<Runtime>);

impl Drop for Dedicated {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Tokio {
    /// The runtime that the calling task runs on.
    ///
    /// # Errors
    /// Outside of a tokio runtime.
    pub fn current() -> Result<Self, tokio::runtime::TryCurrentError> {
        Ok(Self { runtime: Handle::try_current()?, started: Started::now(), _dedicated: None })
    }

    /// A runtime with a thread of its own: what blocks the threads of another runtime does not hold up its tasks.
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn dedicated() -> io::Result<Self> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("ottla-io").enable_all().build()?;
        let handle = runtime.handle().clone();
        let dedicated = Some(Arc::new(Dedicated(Some(runtime))));
        Ok(Self { runtime: handle, started: Started::now(), _dedicated: dedicated })
    }
}

impl Env for Tokio {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Duplex>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (reader, writer) = stream.into_split();
            Ok(Duplex { reader: Box::new(reader), writer: Box::new(writer) })
        })
    }

    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }

    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) {
        let task = self.runtime.spawn(future);
        // A second, tiny task watches the first, so that a panic in it is reported and not only printed.
        self.runtime.spawn(async move {
            if let Err(error) = task.await
                && error.is_panic()
            {
                tracing::error!(task = name, "a task of the client panicked; this is a bug in ottla");
            }
        });
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }

    fn read_file<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Vec<u8>>> {
        let path = path.to_owned();
        Box::pin(async move {
            self.runtime.spawn_blocking(move || std::fs::read(path)).await.map_err(io::Error::other)?
        })
    }

    fn offload_any(&self, work: Work) -> BoxFuture<'_, Box<dyn Any + Send>> {
        Box::pin(async move {
            match self.runtime.spawn_blocking(work).await {
                Ok(value) => value,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime is shutting down and took the work with it: this future will not be polled again.
                Err(_) => std::future::pending().await,
            }
        })
    }
}
