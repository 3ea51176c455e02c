//! Fetches from one broker, by itself: the driver of `ottla_core::fetch`.
//!
//! ```text
//!          something to fetch          connected            answer: headers read, ranges queued
//!   idle ─────────────────────▶ dial ───────────▶ in flight ──────────────────────────────────┐
//!    ▲ ▲                         │ failed             │ lost                                   │
//!    │ └─────── back-off ────────┴────────────────────┘                                        │
//!    └──────────────────────── nothing to fetch ───────────────────────────────────────────────┘
//! ```
//!
//! One request is in flight. The next one goes out as soon as the headers of the answer's batches were read, so that
//! the network works while the application does. What another broker does is of no importance here.
//!
//! The one request may be a long poll. A partition that becomes readable meanwhile (a seek, a resume, a leader that
//! moved here, memory that is free again) is asked for beside it, without a session and without waiting.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ottla_core::{
    backoff::Backoff,
    fetch::{Effects, FetchAsk, FetchPlan},
};
use ottla_protocol::{
    ErrorCode,
    messages::{FetchRequest, FetchResponse},
};
use tokio::time::sleep_until;

use super::inner::{BrokerWake, Inner};
use crate::{
    Error, Event, Result,
    net::{Connection, Lane, Reply, now, sleep_until_some},
};

/// From this version on Fetch names topics by id (KIP-516).
const FIRST_VERSION_WITH_IDS: i16 = 13;

pub(super) async fn run(inner: Arc<Inner>, node: i32, wake: Arc<BrokerWake>) {
    let backoff = Backoff::new(inner.config.fetch.backoff);
    let mut fetcher = Fetcher { inner: Arc::clone(&inner), node, wake, backoff, connection: None };
    tokio::select! {
        biased;
        () = inner.closed.wait() => {}
        () = fetcher.fetch_for_ever() => {}
    }
    fetcher.close_session();
}

struct Fetcher {
    inner: Arc<Inner>,
    node: i32,
    wake: Arc<BrokerWake>,
    backoff: Backoff,
    /// The one that was used last.
    connection: Option<Connection>,
}

impl Fetcher {
    async fn fetch_for_ever(&mut self) {
        loop {
            let wants = self.inner.with(|state| state.partitions.wants_fetch(self.node, now()));
            let result = match wants {
                Err(until) => {
                    self.idle(until).await;
                    continue;
                }
                Ok(()) => self.fetch().await,
            };
            let wait = match result {
                Ok(None) => {
                    self.backoff.on_success();
                    continue;
                }
                // A session that is gone is opened anew at once, the first time.
                Ok(Some(code)) if is_session_error(code) && self.backoff.failures() == 0 => {
                    self.backoff.on_failure(0);
                    continue;
                }
                Ok(Some(_)) => self.backoff.on_failure(self.inner.shared.env.random()),
                Err(error) => {
                    self.on_failure(error);
                    self.backoff.on_failure(self.inner.shared.env.random())
                }
            };
            sleep_until((now() + wait).into()).await;
        }
    }

    /// One request and its answer. Gives the code if the broker refused the request as a whole.
    async fn fetch(&mut self) -> Result<Option<ErrorCode>> {
        let metadata = &self.inner.shared.metadata;
        let dialling = self.inner.shared.brokers.connection(self.node, self.inner.lane());
        let connection = metadata.ask_while_overdue(Duration::ZERO, dialling).await?;
        let ids = with_ids(&connection);
        self.connection = Some(connection.clone());
        let tick = self.inner.tick();
        let plan = self.inner.with(|state| {
            state.unreachable.remove(&self.node);
            state.partitions.plan_fetch(self.node, ids, tick)
        });
        match plan {
            FetchPlan::Wait(_) => Ok(None),
            FetchPlan::Send(ask) => {
                let reply = self.send(&connection, &ask)?;
                // If it does not come, the partitions may have another leader, whose fetcher then goes on.
                let takes = self.inner.config.fetch.max_wait;
                let answer = self.inner.shared.metadata.ask_while_overdue(takes, self.catch_up_until(reply));
                let response = answer.await?;
                let tick = self.inner.tick();
                let effects =
                    self.inner.answered(|partitions| partitions.on_fetch(self.node, response, tick));
                Ok(self.apply(effects))
            }
        }
    }

    fn send(&self, connection: &Connection, ask: &FetchAsk) -> Result<Reply<FetchRequest>> {
        let version = connection.version::<FetchRequest>(ask.versions.clone())?;
        // The broker may keep the answer back for the whole wait.
        let timeout = self.inner.shared.config.request_timeout + self.inner.config.fetch.max_wait;
        connection.send(&ask.request, version, timeout)
    }

    /// Awaits the answer, which may take a long poll. Partitions that come to the broker meanwhile do not wait for it.
    async fn catch_up_until(&self, mut reply: Reply<FetchRequest>) -> Result<FetchResponse> {
        loop {
            let catch_up = async {
                self.wake.fetch.notified().await;
                // What cannot be caught up on comes with the next request.
                while let Ok(true) = self.catch_up().await {}
            };
            tokio::select! {
                biased;
                answer = &mut reply => return Ok(answer?),
                () = catch_up => {}
            }
        }
    }

    /// Asks for what the request under way does not ask for, on another connection: the broker looks at nothing behind a
    /// long poll. `false`: there was nothing.
    async fn catch_up(&self) -> Result<bool> {
        if self.inner.with(|state| state.partitions.wants_fetch(self.node, now())).is_err() {
            return Ok(false);
        }
        let connection = self.inner.shared.brokers.connection(self.node, Lane::Control).await?;
        let tick = self.inner.tick();
        let ids = with_ids(&connection);
        let plan = self.inner.with(|state| state.partitions.plan_catch_up(self.node, ids, tick));
        let Some((ask, asked)) = plan else { return Ok(false) };
        let response = self.send(&connection, &ask)?.await?;
        let tick = self.inner.tick();
        let effects =
            self.inner.answered(|partitions| partitions.on_catch_up(self.node, &asked, response, tick));
        Ok(self.apply(effects).is_none())
    }

    /// Passes on what follows from an answer. Gives the code if the broker refused the request as a whole.
    fn apply(&self, effects: Effects) -> Option<ErrorCode> {
        let (refused, partitions, bytes) = (effects.refused, effects.partitions, effects.bytes);
        if partitions > 0 {
            self.inner.shared.events.emit(Event::Fetched { node: self.node, partitions, bytes });
        }
        if effects.look_up {
            self.wake.look_up.notify_one();
        }
        if effects.moved {
            self.inner.on_moved();
        }
        self.inner.apply(effects);
        refused
    }

    /// The broker cannot be reached, or its answer was lost: somebody else may lead its partitions by now.
    fn on_failure(&self, error: Error) {
        let has_moved = self.inner.with(|state| {
            state.unreachable.insert(self.node, error);
            state.partitions.on_fetch_lost(self.node, now())
        });
        if has_moved {
            self.inner.on_moved();
        }
        self.inner.shared.metadata.refresh();
    }

    async fn idle(&self, until: Option<Instant>) {
        tokio::select! {
            biased;
            () = self.wake.fetch.notified() => {}
            () = sleep_until_some(until) => {}
        }
    }

    /// Tells the broker that the session is over, without waiting for what it says to that.
    fn close_session(&self) {
        let ask = self.inner.with(|state| state.partitions.close_session(self.node));
        if let (Some(ask), Some(connection)) = (ask, &self.connection) {
            drop(self.send(connection, &ask));
        }
    }
}

fn with_ids(connection: &Connection) -> bool {
    connection.versions().choose::<FetchRequest>(&(FIRST_VERSION_WITH_IDS..=i16::MAX)).is_ok()
}

fn is_session_error(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND
            | ErrorCode::INVALID_FETCH_SESSION_EPOCH
            | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR
    )
}
