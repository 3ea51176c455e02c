//! The only place where the client touches the world.
//!
//! Sockets, tasks, the wall clock, randomness, names, files and CPU-heavy work all go through [`Env`]. The default,
//! [`Tokio`], is tokio and the operating system. The simulation implements the same trait with in-memory streams and
//! one seeded source of randomness, so that the *whole real client* runs in it. `tokio::time` and `tokio::sync` are
//! used as they are: a paused clock drives them.

use std::{
    any::Any,
    fmt,
    future::Future,
    io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::io::{AsyncRead, AsyncWrite};

mod suspend_clock;
mod tokio_env;

pub use tokio_env::Tokio;

/// A boxed future, as the object-safe [`Env`] returns it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The two halves of a byte stream to a broker.
///
/// The writer must forward vectored writes (`is_write_vectored() == true`): batches are never copied together.
pub struct Duplex {
    /// Bytes from the peer; end of stream when it closed.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// Bytes to the peer; dropping it closes that direction.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
}

impl fmt::Debug for Duplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Duplex")
    }
}

/// Everything that the client asks of the world around it.
pub trait Env: Send + Sync + 'static {
    /// Opens a byte stream to `address`. The caller bounds the wait.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Duplex>>;

    /// All addresses of a name, in the resolver's order. The caller bounds the wait.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// Runs `future` to its end in the background. A panic in it must not go unnoticed.
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>);

    /// The wall clock: timestamps of records, expiry of tokens.
    fn now(&self) -> SystemTime;

    /// Time since some fixed moment, on a clock that also counts while the machine sleeps. Leases only.
    fn elapsed(&self) -> Duration;

    /// The next random number: jitter, sticky partitions, ids.
    fn random(&self) -> u64;

    /// A whole file: certificates, keys, properties.
    fn read_file<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Vec<u8>>>;

    /// Runs CPU-heavy work (compression) away from the I/O tasks. Use [`offload`], which keeps the type.
    fn offload_any(&self, work: Work) -> BoxFuture<'_, Box<dyn Any + Send>>;
}

/// An environment that is another one but for what it overrides.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use ottla::env::{Layer, Tokio};
///
/// /// The world, an hour ago.
/// struct Yesterday(Tokio);
///
/// impl Layer for Yesterday {
///     type Below = Tokio;
///
///     fn below(&self) -> &Tokio {
///         &self.0
///     }
///
///     fn now(&self) -> SystemTime {
///         SystemTime::now() - Duration::from_secs(3_600)
///     }
/// }
/// ```
pub trait Layer: Send + Sync + 'static {
    /// What is below.
    type Below: Env;

    /// What does everything that is not overridden.
    fn below(&self) -> &Self::Below;

    /// [`Env::connect`].
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Duplex>> {
        self.below().connect(address)
    }

    /// [`Env::resolve`].
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        self.below().resolve(host, port)
    }

    /// [`Env::spawn`].
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) {
        self.below().spawn(name, future);
    }

    /// [`Env::now`].
    fn now(&self) -> SystemTime {
        self.below().now()
    }

    /// [`Env::elapsed`].
    fn elapsed(&self) -> Duration {
        self.below().elapsed()
    }

    /// [`Env::random`].
    fn random(&self) -> u64 {
        self.below().random()
    }

    /// [`Env::read_file`].
    fn read_file<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Vec<u8>>> {
        self.below().read_file(path)
    }

    /// [`Env::offload_any`].
    fn offload_any(&self, work: Work) -> BoxFuture<'_, Box<dyn Any + Send>> {
        self.below().offload_any(work)
    }
}

impl<L: Layer> Env for L {
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Duplex>> {
        Layer::connect(self, address)
    }

    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Layer::resolve(self, host, port)
    }

    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) {
        Layer::spawn(self, name, future);
    }

    fn now(&self) -> SystemTime {
        Layer::now(self)
    }

    fn elapsed(&self) -> Duration {
        Layer::elapsed(self)
    }

    fn random(&self) -> u64 {
        Layer::random(self)
    }

    fn read_file<'a>(&'a self, path: &'a Path) -> BoxFuture<'a, io::Result<Vec<u8>>> {
        Layer::read_file(self, path)
    }

    fn offload_any(&self, work: Work) -> BoxFuture<'_, Box<dyn Any + Send>> {
        Layer::offload_any(self, work)
    }
}

/// A piece of CPU-heavy work with its result erased.
pub type Work = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

/// Runs `work` through [`Env::offload_any`] and gives its result back with its type.
pub async fn offload<T: Send + 'static>(env: &Arc<dyn Env>, work: impl FnOnce() -> T + Send + 'static) -> T {
    let result = env.offload_any(Box::new(move || Box::new(work()))).await;
    match result.downcast::<T>() {
        Ok(value) => *value,
        // `offload_any` returns what `work` returned, and `work` was boxed two lines above with this very type.
        Err(_) => unreachable!("offload_any must return the value of the work it was given"),
    }
}
