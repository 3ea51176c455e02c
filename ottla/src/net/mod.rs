//! Connections to brokers: the driver of `ottla_core::connection`.
//!
//! A request goes out by [`Connection::send`]; [`Brokers`] has a connection for each broker and [`Lane`], and dials
//! where there is none.

mod broker;
mod connection;
mod dial;
mod frame_reader;
mod latch;
mod race;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

pub(crate) use self::{
    broker::{Brokers, Lane},
    connection::{Connection, Reply, RequestError},
    latch::Latch,
    race::join_all,
};
use crate::{config::ClientConfig, env::Env, event::EventBus};

/// What every part of a client needs.
pub(crate) struct Context {
    pub(crate) env: Arc<dyn Env>,
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) events: EventBus,
    /// Set once, when the client closes: every task ends.
    pub(crate) shutdown: Latch<()>,
    /// How many tasks run, and who waits for them to end.
    tasks: AtomicUsize,
    task_ended: tokio::sync::Notify,
}

impl Context {
    pub(crate) fn new(env: Arc<dyn Env>, config: ClientConfig) -> Arc<Self> {
        Arc::new(Self {
            env,
            config: Arc::new(config),
            events: EventBus::default(),
            shutdown: Latch::default(),
            tasks: AtomicUsize::new(0),
            task_ended: tokio::sync::Notify::new(),
        })
    }

    /// Runs a task that has to end soon after `shutdown`.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) {
        let running = Running::new(self.clone());
        self.env.spawn(
            name,
            Box::pin(async move {
                let _running = running;
                future.await;
            }),
        );
    }

    /// Waits until no task runs any more.
    pub(crate) async fn all_tasks_ended(&self) {
        loop {
            let ended = self.task_ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.tasks.load(Ordering::Acquire) == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// Counts a task from before it is spawned until it has ended, was cancelled, or was never started.
struct Running(Arc<Context>);

impl Running {
    fn new(context: Arc<Context>) -> Self {
        context.tasks.fetch_add(1, Ordering::Relaxed);
        Self(context)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.tasks.fetch_sub(1, Ordering::Release);
        self.0.task_ended.notify_waiters();
    }
}

/// The client's monotonic clock; virtual when tokio's is.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Sleeps until that moment; for ever if there is none.
pub(crate) async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Locks a mutex whose holders never panic half-way through a change.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
