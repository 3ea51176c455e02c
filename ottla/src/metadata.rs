//! Keeps what is known of the cluster current: the driver of `ottla_core::metadata`.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ottla_core::metadata::{
    ClusterSnapshot, LeaderHint, Lookup, MetadataCache, Overdue, Refresh, TopicMetadata, Useless,
};
use ottla_protocol::{
    ErrorCode, Str,
    messages::{MetadataRequest, MetadataResponse, metadata_request::MetadataRequestTopic},
};
use tokio::sync::Notify;

use crate::{
    Error, Result,
    event::Event,
    net::{Brokers, Connection, Context, Lane, lock, now, sleep_until_some},
};

/// What is known of the cluster, and the wish to know more. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MetadataDriver(Arc<Inner>);

struct Inner {
    context: Arc<Context>,
    brokers: Brokers,
    state: Mutex<State>,
    /// The driver has to look at `state` again.
    wake: Notify,
    /// Whoever waits has to look at `state` again.
    news: Notify,
}

struct State {
    cache: MetadataCache,
    refresh: Refresh,
    /// Why the last attempt failed; none after an answer.
    last_error: Option<Error>,
    closed: bool,
}

/// Brokers learn of a new topic one after the other; one that is unknown for this long does not exist.
const UNKNOWN_TOPIC_GRACE: Duration = Duration::from_secs(5);

impl MetadataDriver {
    /// Starts the driver; it asks nobody before somebody is interested.
    pub(crate) fn start(context: &Arc<Context>, brokers: &Brokers) -> Self {
        let config = &context.config;
        let state = State {
            cache: MetadataCache::new(UNKNOWN_TOPIC_GRACE),
            refresh: Refresh::new(config.metadata_max_age, config.retry_backoff),
            last_error: None,
            closed: false,
        };
        let driver = Self(Arc::new(Inner {
            context: context.clone(),
            brokers: brokers.clone(),
            state: Mutex::new(state),
            wake: Notify::new(),
            news: Notify::new(),
        }));
        context.spawn("metadata", drive(CloseOnDrop(driver.0.clone())));
        driver
    }

    /// What is known now.
    pub(crate) fn snapshot(&self) -> Arc<ClusterSnapshot> {
        lock(&self.0.state).cache.snapshot().clone()
    }

    /// A topic, as soon as it is known. Waits as long as it takes: the caller bounds it, and may say why with
    /// [`MetadataDriver::last_error`].
    ///
    /// # Errors
    /// `UNKNOWN_TOPIC_OR_PARTITION` after some seconds of grace, another code at once; `Closed`.
    ///
    /// # Cancel safety
    /// The look-up goes on when the future is dropped; the next one profits from it.
    pub(crate) async fn topic(&self, name: &str) -> Result<Arc<TopicMetadata>> {
        self.watch(name);
        self.wait_for(|state| match state.cache.lookup(name) {
            Lookup::Known(topic) => Some(Ok(topic)),
            Lookup::Refused(code) => Some(Err(cannot_use(name, code))),
            Lookup::Pending => None,
        })
        .await?
    }

    /// A topic, if it is known; else its look-up begins.
    pub(crate) fn topic_now(&self, name: &str) -> Option<Arc<TopicMetadata>> {
        self.watch(name);
        match lock(&self.0.state).cache.lookup(name) {
            Lookup::Known(topic) => Some(topic),
            _ => None,
        }
    }

    /// Why a topic cannot be used, if the cluster said so.
    pub(crate) fn refusal(&self, name: &str) -> Option<ErrorCode> {
        match lock(&self.0.state).cache.lookup(name) {
            Lookup::Refused(code) => Some(code),
            _ => None,
        }
    }

    /// Something was sent to the wrong broker, or has no broker: ask again soon. May be called as often as it happens.
    pub(crate) fn refresh(&self) {
        lock(&self.0.state).refresh.on_routing_failure();
        self.0.wake.notify_one();
    }

    /// Awaits an answer of a leader that should come within `takes`. While it does not, the cluster is asked now and then
    /// who leads by now: a broker that stands still breaks no connection.
    ///
    /// # Cancel safety
    /// As safe as `answer`.
    pub(crate) async fn ask_while_overdue<T>(&self, takes: Duration, answer: impl Future<Output = T>) -> T {
        tokio::pin!(answer);
        let mut overdue = Overdue::new(now(), takes);
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer,
                () = sleep_until_some(Some(overdue.at())) => {
                    self.refresh();
                    overdue.asked(now());
                }
            }
        }
    }

    /// The first snapshot with a version above `seen`; never, once the client is closed. Cancel safe.
    pub(crate) async fn changed(&self, seen: u64) -> Arc<ClusterSnapshot> {
        let newer = |state: &mut State| {
            Some(state.cache.snapshot()).filter(|snapshot| snapshot.version > seen).cloned()
        };
        match self.wait_for(newer).await {
            Ok(snapshot) => snapshot,
            Err(_) => std::future::pending().await,
        }
    }

    /// The brokers of the cluster, asked for now if nobody has asked yet.
    ///
    /// # Errors
    /// When nobody answers (one attempt at every broker), or the client is closed.
    pub(crate) async fn cluster(&self) -> Result<Arc<ClusterSnapshot>> {
        {
            let mut state = lock(&self.0.state);
            if state.cache.snapshot().version > 0 {
                return Ok(state.cache.snapshot().clone());
            }
            state.last_error = None;
            state.refresh.on_new_interest();
        }
        self.0.wake.notify_one();
        self.wait_for(|state| match &state.last_error {
            Some(error) => Some(Err(error.clone())),
            None => Some(state.cache.snapshot()).filter(|snapshot| snapshot.version > 0).cloned().map(Ok),
        })
        .await?
    }

    /// Why nobody answers, if that is so.
    pub(crate) fn last_error(&self) -> Option<Error> {
        lock(&self.0.state).last_error.clone()
    }

    /// An answer named the leaders of partitions in passing (KIP-951).
    pub(crate) fn leader_hints<'a>(&self, hints: impl IntoIterator<Item = LeaderHint<'a>>) {
        let mut hints = hints.into_iter().peekable();
        if hints.peek().is_none() {
            return;
        }
        let snapshot = {
            let mut state = lock(&self.0.state);
            if !state.cache.on_leader_hints(hints) {
                return;
            }
            state.cache.snapshot().clone()
        };
        self.0.publish(&snapshot);
    }

    fn watch(&self, name: &str) {
        let asks = {
            let mut state = lock(&self.0.state);
            let asks = state.cache.watch(now(), name);
            if asks {
                state.refresh.on_new_interest();
            }
            asks
        };
        if asks {
            self.0.wake.notify_one();
        }
    }

    async fn wait_for<T>(&self, look: impl Fn(&mut State) -> Option<T>) -> Result<T> {
        loop {
            let news = self.0.news.notified();
            tokio::pin!(news);
            // From here on no news is missed.
            news.as_mut().enable();
            {
                let mut state = lock(&self.0.state);
                if state.closed {
                    return Err(Error::closed());
                }
                if let Some(found) = look(&mut state) {
                    return Ok(found);
                }
            }
            news.await;
        }
    }
}

impl Inner {
    /// Connections first: whoever sees the snapshot may want one at once.
    fn publish(&self, snapshot: &ClusterSnapshot) {
        self.brokers.set_brokers(snapshot.brokers.values());
        self.news.notify_waiters();
    }

    fn next_attempt(&self) -> Option<Instant> {
        lock(&self.state).refresh.next_attempt(now())
    }

    /// Asks somebody and takes the answer.
    async fn refresh(&self) {
        let (last, request) = self.request();
        let timeout = self.context.config.request_timeout;
        let request = &request;
        let answer = self
            .brokers
            .ask_any_but(&last, Lane::Control, |connection: Connection| async move {
                let version = connection.version::<MetadataRequest>(0..=i16::MAX)?;
                let answer = connection.call(request, version, timeout).await?;
                // Within the attempt, so that the next broker is asked.
                match Useless::check(&answer) {
                    None => Ok((connection.node_id(), answer)),
                    Some(useless) => Err(self.useless(useless, &connection)),
                }
            })
            .await;
        self.on_answer(answer);
    }

    /// Whom to ask after all the others, and what.
    fn request(&self) -> (Vec<i32>, MetadataRequest) {
        let mut state = lock(&self.state);
        let last = state.refresh.begin(now()).to_vec();
        let topic = |name: &Str| MetadataRequestTopic { name: Some(name.clone()), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(state.cache.watched().map(topic).collect()),
            allow_auto_topic_creation: self.context.config.allow_auto_create_topics,
            ..MetadataRequest::default()
        };
        (last, request)
    }

    fn useless(&self, useless: Useless, told_by: &Connection) -> Error {
        if useless.requires_rebootstrap() {
            self.brokers.rebootstrap();
        }
        Error::peer(format!("no metadata from {}", told_by.address())).with_source(useless)
    }

    fn on_answer(&self, answer: Result<(i32, MetadataResponse)>) {
        let random = self.context.env.random();
        let now = now();
        let mut state = lock(&self.state);
        let applied = answer.and_then(|(told_by, answer)| match state.cache.apply(now, &answer) {
            Ok(applied) => Ok((told_by, applied)),
            Err(useless) => Err(Error::peer("no metadata").with_source(useless)),
        });
        match applied {
            Ok((told_by, applied)) => {
                state.last_error = None;
                state.refresh.on_answer(now, told_by, applied.complete, random);
                let snapshot = state.cache.snapshot().clone();
                drop(state);
                self.publish(&snapshot);
                if applied.changed {
                    let (version, brokers) = (snapshot.version, snapshot.brokers.len());
                    let topics = snapshot.topics.len();
                    self.context.events.emit(Event::MetadataRefreshed { version, brokers, topics });
                }
            }
            Err(error) => {
                state.last_error = Some(error.clone());
                state.refresh.on_failure(now, random);
                drop(state);
                self.news.notify_waiters();
                self.context.events.emit(Event::MetadataFailed { error });
            }
        }
    }
}

fn cannot_use(topic: &str, code: ErrorCode) -> Error {
    let advice = match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => " (no broker knows it: is the name right? else create it)",
        _ => "",
    };
    Error::broker(code, format!("topic {topic} cannot be used{advice}"))
}

/// Tells whoever waits that nothing will come any more, whatever ended the driver.
struct CloseOnDrop(Arc<Inner>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        lock(&self.0.state).closed = true;
        self.0.news.notify_waiters();
    }
}

async fn drive(driver: CloseOnDrop) {
    let inner = &*driver.0;
    let shutdown = inner.context.shutdown.wait();
    tokio::pin!(shutdown);
    loop {
        let due = inner.next_attempt();
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            () = inner.wake.notified() => continue,
            () = sleep_until_some(due) => {}
        }
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            () = inner.refresh() => {}
        }
    }
}
