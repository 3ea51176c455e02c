//! A fault proxy over TCP: between any client and any cluster, where the simulation cannot be.
//!
//! ```text
//!            ┌── listener of broker 1 ──▶ connections, each two pumps ──▶ broker 1
//!   client ──┤                                ▲ conditions of broker 1
//!            └── listener of broker 2 ──▶ …   │
//!                      ▲                      └── Proxy::broker(2).freeze(), .cut(), …
//!                      └── addresses in answers are rewritten: nobody learns a way around the proxy
//! ```
//!
//! Every broker that an answer names (Metadata, FindCoordinator, DescribeCluster, leader hints) gets a listener of its own
//! on loopback, and the client is told that one. Everything else passes byte for byte. Faults are conditions of a broker and
//! hold for its present and future connections until they are changed.

mod conditions;
mod pump;
mod rewrite;

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use self::conditions::{Conditions, Flow, Shared};

/// A cluster as it is reached through the proxy. Everything ends when it is dropped.
#[derive(Debug)]
pub struct Proxy(Arc<Brokers>);

/// The listeners, by the address of the broker behind each.
#[derive(Debug, Default)]
struct Brokers(Mutex<BTreeMap<Address, Listener>>);

/// Host and port as the cluster names them.
type Address = (String, u16);

#[derive(Debug)]
struct Listener {
    port: u16,
    conditions: Arc<Shared>,
    task: AbortHandle,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
        self.conditions.close();
    }
}

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the broker.
    Requests,
    /// From the broker to the client.
    Responses,
}

impl Proxy {
    /// Starts with one listener for each bootstrap server (`host:port`); the other brokers get theirs when they are named.
    ///
    /// # Errors
    /// When an address is not `host:port`, or no listener can be opened.
    pub async fn start<S: AsRef<str>>(bootstrap: impl IntoIterator<Item = S>) -> io::Result<Self> {
        let proxy = Self(Arc::default());
        for server in bootstrap {
            let (host, port) = address(server.as_ref())?;
            proxy.0.listener(&host, port).await?;
        }
        Ok(proxy)
    }

    /// Where the client finds the cluster.
    #[must_use]
    pub fn bootstrap_servers(&self) -> Vec<String> {
        self.0.lock().values().map(|listener| format!("127.0.0.1:{}", listener.port)).collect()
    }

    /// The faults of the broker with that real address (`host:port`); it must be a bootstrap server or have been named by
    /// the cluster.
    ///
    /// # Errors
    /// When no such broker is known.
    pub fn broker(&self, server: &str) -> io::Result<Faults> {
        let listeners = self.0.lock();
        let listener = listeners.get(&address(server)?);
        let listener = listener.ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("the proxy has not heard of broker {server}"))
        })?;
        Ok(Faults(Arc::clone(&listener.conditions)))
    }

    /// The faults of all brokers that are known.
    #[must_use]
    pub fn all(&self) -> Vec<Faults> {
        self.0.lock().values().map(|listener| Faults(Arc::clone(&listener.conditions))).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.0.lock().clear();
    }
}

fn address(server: &str) -> io::Result<Address> {
    let invalid =
        || io::Error::new(io::ErrorKind::InvalidInput, format!("{server:?} is not of the form host:port"));
    let (host, port) = server.rsplit_once(':').ok_or_else(invalid)?;
    Ok((host.trim_matches(['[', ']']).to_owned(), port.parse().map_err(|_| invalid())?))
}

impl Brokers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Address, Listener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The port at which the proxy stands for that broker; opened if it is new.
    async fn listener(self: &Arc<Self>, host: &str, port: u16) -> io::Result<u16> {
        let address = (host.to_owned(), port);
        if let Some(known) = self.lock().get(&address) {
            return Ok(known.port);
        }
        let socket = TcpListener::bind(("127.0.0.1", 0)).await?;
        let local = socket.local_addr()?.port();
        let mut listeners = self.lock();
        // Somebody may have been faster meanwhile.
        let listener = listeners.entry(address.clone()).or_insert_with(|| {
            let conditions = Arc::<Shared>::default();
            let accepting = accept(socket, address, Arc::downgrade(self), Arc::clone(&conditions));
            Listener { port: local, task: spawn(accepting), conditions }
        });
        Ok(listener.port)
    }
}

/// Boxed: a connection opens listeners, and those accept connections.
fn accept(
    socket: TcpListener,
    (host, port): Address,
    brokers: Weak<Brokers>,
    conditions: Arc<Shared>,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        while let Ok((client, _)) = socket.accept().await {
            if conditions.now().refuses {
                reset(&client);
                continue;
            }
            spawn(connect(client, host.clone(), port, brokers.clone(), Arc::clone(&conditions)));
        }
    })
}

/// As at a paused process the client's connection is up by now; if the broker is not there, it ends.
async fn connect(
    client: TcpStream,
    host: String,
    port: u16,
    brokers: Weak<Brokers>,
    conditions: Arc<Shared>,
) {
    #[expect(clippy::disallowed_methods, reason = "the proxy stands outside of the simulated world")]
    let connecting = TcpStream::connect((host.as_str(), port));
    match connecting.await {
        Ok(broker) => pump::run(client, broker, brokers, conditions).await,
        Err(error) => tracing::debug!(%error, host, port, "the proxy cannot reach the broker"),
    }
}

fn spawn(future: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    #[expect(clippy::disallowed_methods, reason = "the proxy stands outside of the simulated world")]
    let task = tokio::spawn(future);
    task.abort_handle()
}

/// Has the socket end with RST in place of FIN when it is dropped.
fn reset(socket: &TcpStream) {
    // A socket that is gone already needs no reset.
    let _ = socket.set_zero_linger();
}

/// What goes wrong with the connections of one broker.
#[derive(Debug, Clone)]
pub struct Faults(Arc<Shared>);

impl Faults {
    /// As SIGSTOP: connections stay up and are accepted, nothing moves until [`Faults::thaw`]; then nothing is missing.
    pub fn freeze(&self) {
        self.0.change(|conditions| (conditions.requests.held, conditions.responses.held) = (true, true));
    }

    /// Ends [`Faults::freeze`] and [`Faults::hold`].
    pub fn thaw(&self) {
        self.0.change(|conditions| (conditions.requests.held, conditions.responses.held) = (false, false));
    }

    /// One direction stands still until [`Faults::thaw`].
    pub fn hold(&self, direction: Direction) {
        self.0.change(|conditions| conditions.flow(direction).held = true);
    }

    /// Whatever is sent in this direction vanishes, on connections that are up and on new ones.
    pub fn black_hole(&self, direction: Direction) {
        self.0.change(|conditions| conditions.flow(direction).vanishes = true);
    }

    /// Each frame takes that much longer.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.0.change(|conditions| conditions.flow(direction).delay = delay);
    }

    /// Every connection is reset after so many more bytes in this direction, in the middle of a frame where they end there.
    pub fn reset_after(&self, direction: Direction, bytes: u64) {
        self.0.change(|conditions| conditions.flow(direction).reset_after = Some(bytes));
    }

    /// New connections are reset at once; the present ones go on.
    pub fn refuse(&self) {
        self.0.change(|conditions| conditions.refuses = true);
    }

    /// Resets all present connections.
    pub fn cut(&self) {
        self.0.cut();
    }

    /// Everything works again. Connections of which bytes vanished are reset: what comes next would be no frame.
    pub fn heal(&self) {
        let lossy = self.0.change(|conditions| {
            let lossy = [&conditions.requests, &conditions.responses].iter().any(|flow| flow.vanishes);
            *conditions = Conditions::default();
            lossy
        });
        if lossy {
            self.0.cut();
        }
    }
}

impl Conditions {
    fn flow(&mut self, direction: Direction) -> &mut Flow {
        match direction {
            Direction::Requests => &mut self.requests,
            Direction::Responses => &mut self.responses,
        }
    }
}
