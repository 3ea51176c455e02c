//! The client: what everything else is made from.

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{runtime::Handle, sync::oneshot};

use crate::{
    Error, Result,
    config::{ClientConfig, NEVER, Properties, Settings, millis},
    coordinator::Coordinators,
    env::{BoxFuture, Env, Tokio},
    event::{EventBus, Events},
    metadata::MetadataDriver,
    net::{Brokers, Context, lock},
};

/// A client of one Kafka cluster: its connections, and what is known of the cluster.
///
/// Producers, consumers and admins are made from it and share it. Cheap to clone. It lives on the tokio runtime that it
/// was built on, or [on its own](ClientBuilder::dedicated_io), and may be used from any other; when that is gone, every call
/// answers [`ErrorKind::Closed`](crate::ErrorKind::Closed), and who waits gets `None` from a consumer. While nobody runs it
/// (a runtime of the current thread, outside of `block_on`) the client stands still, deadlines included.
///
/// When the last handle is dropped, also of what was made from it, it closes in the background; [`Client::close`]
/// waits for that.
///
/// ```no_run
/// use ottla::*;
///
/// async fn in_code() -> Result<Client> {
///     Client::builder()
///         .bootstrap_servers(["b1.internal:9092", "b2.internal:9092"])
///         .client_id("billing-7") // goes out byte for byte
///         .dedicated_io() // goes on when a handler blocks every thread of the program's runtime
///         .connect()
///         .await // wrong address: an error here
/// }
///
/// fn from_outside() -> Result<Client> {
///     let file = Properties::load("client.properties")?; // Java's or librdkafka's names, unchanged
///     println!("{:?}", file.warnings()); // client.properties:7: unknown key linger.mss …
///     let env = Properties::from_env("KAFKA_"); // KAFKA_BOOTSTRAP_SERVERS
///     let pairs = Properties::from_iter([("linger.ms", "20"), ("acks", "all")]);
///     Client::builder().properties(file).properties(env).properties(pairs).build()
/// }
///
/// async fn share(client: Client) -> Result<()> {
///     let mut events = client.events(); // also a Stream; too slow: Event::Missed
///     tokio::spawn(async move {
///         while let Some(event) = events.recv().await {
///             println!("{}: {event:?}", event.name());
///         }
///     });
///     println!("{}", client.config()); // effective settings, secrets masked
///     client.close().await // closes all that was made from it; bounded
/// }
/// ```
#[derive(Clone)]
pub struct Client(Arc<Shared>);

/// What a client and everything made from it share.
pub(crate) struct Shared {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) config: Arc<ClientConfig>,
    /// What the client was told, for the builders of what is made from it.
    pub(crate) settings: Settings,
    pub(crate) metadata: MetadataDriver,
    pub(crate) brokers: Brokers,
    pub(crate) coordinators: Coordinators,
    pub(crate) events: EventBus,
    context: Arc<Context>,
    resources: Mutex<Vec<Weak<dyn Resource>>>,
    next_id: AtomicU64,
    has_own_runtime: bool,
}

/// Something that was made from a client and that has to be closed before it: a producer, a consumer.
pub(crate) trait Resource: Send + Sync {
    /// Closes it, within its own bound. What cannot be done is an event.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// The bound of [`Client::close`] for what was made from the client.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);
/// Tasks end as soon as they are polled; a runtime that does not poll them must not hold up `close`.
const TASKS_TIMEOUT: Duration = Duration::from_secs(5);

impl Client {
    /// Settings for a new client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// What happens inside the client, from now on.
    pub fn events(&self) -> Events {
        self.0.events.listen()
    }

    /// The settings in effect, each with its origin; secrets masked.
    #[must_use]
    pub fn config(&self) -> &ClientConfig {
        &self.0.config
    }

    /// Closes everything that was made from the client, then its connections. Takes at most about 30 s, whatever the
    /// brokers do. A second call has nothing to do. With [`ClientBuilder::dedicated_io`], and outside of any tokio
    /// runtime, it runs on the client's runtime, which has to be running.
    ///
    /// # Errors
    /// `Timeout` when something did not close in time; it is abandoned. `Closed` when the client's runtime ended first.
    ///
    /// # Cancel safety
    /// When the future is dropped the client may be half closed; call it again, or drop the last handle.
    pub async fn close(&self) -> Result<()> {
        if !self.0.has_own_runtime && Handle::try_current().is_ok() {
            return self.0.close().await;
        }
        // The caller may have no timers: ours are on the runtime that the client lives on.
        let (done, closed) = oneshot::channel();
        let shared = self.0.clone();
        let close = async move {
            // Nobody listens when the caller gave up.
            let _ = done.send(shared.close().await);
        };
        self.0.env.spawn("close", Box::pin(close));
        closed.await.unwrap_or_else(|_| Err(Error::closed()))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Shared {
    /// Has `resource` closed when the client closes.
    pub(crate) fn register(&self, resource: Weak<dyn Resource>) {
        let mut resources = lock(&self.resources);
        resources.retain(|each| each.strong_count() > 0);
        resources.push(resource);
    }

    /// A number that nothing else made from this client has.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Runs a task that has to end soon after [`Shared::closed`].
    pub(crate) fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        self.context.spawn(name, future);
    }

    /// Waits until the client closes. Cancel safe.
    pub(crate) async fn closed(&self) {
        self.context.shutdown.wait().await;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.context.shutdown.is_set()
    }

    async fn close(&self) -> Result<()> {
        let resources: Vec<_> = lock(&self.resources).drain(..).filter_map(|weak| weak.upgrade()).collect();
        let mut closing: Vec<_> = resources.iter().map(|resource| resource.close()).collect();
        let all_closed = poll_fn(|cx| {
            closing.retain_mut(|each| each.as_mut().poll(cx).is_pending());
            if closing.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        });
        let resources_closed = tokio::time::timeout(CLOSE_TIMEOUT, all_closed).await;
        self.shut_down();
        let tasks_ended = tokio::time::timeout(TASKS_TIMEOUT, self.context.all_tasks_ended()).await;
        match resources_closed.and(tasks_ended) {
            Ok(()) => Ok(()),
            Err(_) => Err(Error::timeout("the client did not close in time; what was left is abandoned")),
        }
    }

    fn shut_down(&self) {
        if self.context.shutdown.set(()) {
            self.events.close();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.shut_down();
    }
}

/// Settings for a new [`Client`]. Setters never fail: `build` reports every problem at once. The last call wins.
#[derive(Clone, Default)]
#[must_use = "nothing happens before `build` or `connect`"]
pub struct ClientBuilder {
    settings: Settings,
    world: World,
}

/// Where the client's tasks and sockets live.
#[derive(Clone, Default)]
enum World {
    /// On the runtime that `build` is called on.
    #[default]
    Current,
    /// On a runtime of the client's own.
    Dedicated,
    Given(Arc<dyn Env>),
}

impl World {
    fn env(self) -> Result<Arc<dyn Env>> {
        match self {
            Self::Given(env) => Ok(env),
            Self::Current => match Tokio::current() {
                Ok(env) => Ok(Arc::new(env)),
                Err(error) => {
                    let what = "a client has to be built inside of a tokio runtime, or with `dedicated_io`";
                    Err(Error::misuse(what).with_source(error))
                }
            },
            Self::Dedicated => match Tokio::dedicated() {
                Ok(env) => Ok(Arc::new(env)),
                Err(error) => Err(Error::io("cannot start a thread for the client's I/O", error)),
            },
        }
    }
}

impl ClientBuilder {
    /// Where to find the cluster: `host:port` of some of its brokers. Mandatory.
    pub fn bootstrap_servers<S: Into<String>>(self, servers: impl IntoIterator<Item = S>) -> Self {
        let servers: Vec<String> = servers.into_iter().map(Into::into).collect();
        self.set("bootstrap.servers", servers.join(","))
    }

    /// What the client calls itself in every request; goes out byte for byte.
    pub fn client_id(self, id: impl Into<String>) -> Self {
        self.set("client.id", id)
    }

    /// The rack or zone that the client stands in, by the names of the brokers' `broker.rack`: none.
    ///
    /// Consumers read from a replica that stands there, if the cluster has a `replica.selector.class` that looks at racks
    /// (KIP-392). The leader names it, and is asked again after [`metadata_max_age`](Self::metadata_max_age) at the latest; while
    /// that replica fails, or is not in sync, records come from the leader. Groups are told the rack, too (KIP-881).
    pub fn client_rack(self, rack: impl Into<String>) -> Self {
        self.set("client.rack", rack)
    }

    /// How long a broker may take to answer; then its connection is closed. 30 s.
    pub fn request_timeout(self, timeout: Duration) -> Self {
        self.set("request.timeout.ms", millis(timeout))
    }

    /// The bound of an administrative call with all its retries. 60 s.
    pub fn default_api_timeout(self, timeout: Duration) -> Self {
        self.set("default.api.timeout.ms", millis(timeout))
    }

    /// After how long an idle connection is closed, from 1 s to 24 h; `Duration::MAX`: never. 9 min.
    pub fn connections_max_idle(self, idle: Duration) -> Self {
        let value = if idle == Duration::MAX { NEVER.to_owned() } else { millis(idle) };
        self.set("connections.max.idle.ms", value)
    }

    /// The wait before a broker is dialled again after a failure; doubles up to [`ClientBuilder::reconnect_backoff_max`].
    /// 50 ms; 0 counts as 1 ms.
    pub fn reconnect_backoff(self, backoff: Duration) -> Self {
        self.set("reconnect.backoff.ms", millis(backoff))
    }

    /// The longest wait before a broker is dialled again. 1 s.
    pub fn reconnect_backoff_max(self, backoff: Duration) -> Self {
        self.set("reconnect.backoff.max.ms", millis(backoff))
    }

    /// The wait before a request is tried again; doubles up to [`ClientBuilder::retry_backoff_max`]. 100 ms;
    /// 0 counts as 1 ms.
    pub fn retry_backoff(self, backoff: Duration) -> Self {
        self.set("retry.backoff.ms", millis(backoff))
    }

    /// The longest wait before a request is tried again. 1 s.
    pub fn retry_backoff_max(self, backoff: Duration) -> Self {
        self.set("retry.backoff.max.ms", millis(backoff))
    }

    /// How long setting up a connection may take: name, connect, and the first answer. 10 s.
    pub fn socket_connection_setup_timeout(self, timeout: Duration) -> Self {
        self.set("socket.connection.setup.timeout.ms", millis(timeout))
    }

    /// After how long the cluster's metadata is asked for again although nothing failed. 5 min.
    pub fn metadata_max_age(self, age: Duration) -> Self {
        self.set("metadata.max.age.ms", millis(age))
    }

    /// Whether looking for a topic that does not exist may create it, if the brokers allow that. Off.
    pub fn allow_auto_create_topics(self, allow: bool) -> Self {
        self.set("allow.auto.create.topics", allow.to_string())
    }

    /// The largest answer that is accepted, in bytes; it protects against a peer that is no broker. 64 MiB.
    pub fn receive_message_max_bytes(self, bytes: usize) -> Self {
        self.set("receive.message.max.bytes", bytes.to_string())
    }

    /// Settings by their Java or librdkafka names, for the client and for all that is made from it.
    pub fn properties(mut self, properties: Properties) -> Self {
        self.settings.extend(&properties);
        self
    }

    /// Gives the client a runtime and a thread of its own, so that a program that blocks every thread of its runtime
    /// does not hold up the client's I/O.
    pub fn dedicated_io(mut self) -> Self {
        self.world = World::Dedicated;
        self
    }

    /// The world that the client lives in, in place of tokio and the operating system: for tests and simulation.
    pub fn env(mut self, env: Arc<dyn Env>) -> Self {
        self.world = World::Given(env);
        self
    }

    /// Validates the settings and makes the client. No I/O: brokers are connected to when they are needed.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) with everything that is wrong, and
    /// [`ErrorKind::Misuse`](crate::ErrorKind::Misuse) outside of a tokio runtime (unless with `dedicated_io`).
    pub fn build(self) -> Result<Client> {
        let config = ClientConfig::read(&self.settings)?;
        let has_own_runtime = matches!(self.world, World::Dedicated);
        let env = self.world.env()?;
        let context = Context::new(env, config);
        let brokers = Brokers::new(&context);
        let metadata = MetadataDriver::start(&context, &brokers);
        let coordinators = Coordinators::new(&context, &brokers);
        Ok(Client(Arc::new(Shared {
            env: context.env.clone(),
            config: context.config.clone(),
            settings: self.settings,
            metadata,
            brokers,
            coordinators,
            events: context.events.clone(),
            context,
            resources: Mutex::default(),
            next_id: AtomicU64::new(0),
            has_own_runtime,
        })))
    }

    /// [`ClientBuilder::build`], and the first answer of the cluster.
    ///
    /// # Errors
    /// As `build`, and when no bootstrap server answers: the error names each with its cause. Takes at most about
    /// `socket.connection.setup.timeout.ms` and half a second per server.
    ///
    /// # Cancel safety
    /// Nothing is left when the future is dropped.
    pub async fn connect(self) -> Result<Client> {
        let client = self.build()?;
        client.0.metadata.cluster().await?;
        Ok(client)
    }

    fn set(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.settings.set(key, value);
        self
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder").finish_non_exhaustive()
    }
}
