//! Finds the coordinators of groups: the driver of `ottla_core::coordinator`.
//!
//! Whoever wants to know waits for a *question*. As long as somebody waits for one, a task asks: any broker, for all
//! groups that are due at once, one request at a time. Questions that nobody waits for any more are not asked.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant},
};

use ottla_core::coordinator::{Coordinator, Moved, Told, questions, told};
use ottla_protocol::{Request, Str, messages::FindCoordinatorRequest};
use tokio::{sync::Notify, time::sleep_until};

use crate::{
    Error, Result,
    event::Event,
    net::{Brokers, Connection, Context, Lane, Latch, lock, now},
};

/// The coordinators of the groups that a client has to do with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Coordinators(Arc<Inner>);

struct Inner {
    context: Arc<Context>,
    brokers: Brokers,
    directory: Mutex<Directory>,
    /// The task has to look at `directory` again.
    wake: Notify,
    /// A coordinator was found that is not the one of before.
    moved: Notify,
}

#[derive(Default)]
struct Directory {
    groups: BTreeMap<Str, Group>,
    /// The task runs.
    asking: bool,
}

struct Group {
    coordinator: Coordinator,
    /// Kept by those who wait.
    question: Weak<Question>,
    /// Why the last question has no answer.
    last_error: Option<Error>,
}

type Question = Latch<Result<i32>>;

/// A client that looks at more groups than this one after the other has to ask for some of them again.
const REMEMBERED: usize = 1_024;

/// What the task has to do.
enum Due {
    Now(Vec<Str>),
    Later(Instant),
    /// Nobody waits.
    Never,
}

impl Coordinators {
    pub(crate) fn new(context: &Arc<Context>, brokers: &Brokers) -> Self {
        Self(Arc::new(Inner {
            context: context.clone(),
            brokers: brokers.clone(),
            directory: Mutex::default(),
            wake: Notify::new(),
            moved: Notify::new(),
        }))
    }

    /// A connection to the coordinator of the group, which is found if it is not known. Waits as long as it takes: the
    /// caller bounds it, and may say why with [`Coordinators::last_error`].
    ///
    /// # Errors
    /// What asking again does not cure: `GROUP_AUTHORIZATION_FAILED`, credentials that are refused, `Closed`.
    ///
    /// # Cancel safety
    /// Others go on waiting for the same answer when the future is dropped.
    pub(crate) async fn connection(&self, group: &str, lane: Lane) -> Result<Connection> {
        loop {
            let node = self.find(group).await?;
            tokio::select! {
                biased;
                connection = self.0.brokers.connection(node, lane) => match connection {
                    Err(error) if error.is_retriable() => self.0.on_unreachable(group, node, error),
                    outcome => return outcome,
                },
                () = self.elsewhere(group, node) => {}
            }
        }
    }

    /// Sends a request of the group's to the coordinator at the other end of `connection`, and waits for the answer: for
    /// `limit`, and no longer than until another node turns out to be the coordinator, since one that stands still may
    /// never answer.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn call<R>(
        &self,
        group: &str,
        connection: &Connection,
        request: &R,
        version: i16,
        limit: Duration,
    ) -> Result<R::Response>
    where
        R: Request<Response: Send + 'static> + 'static,
    {
        tokio::select! {
            biased;
            answer = connection.call(request, version, limit) => answer,
            () = self.elsewhere(group, connection.node_id()) => {
                Err(Error::timeout(format!("another node coordinates group {group} by now")))
            }
        }
    }

    /// Waits until another node than this is known to be the coordinator.
    async fn elsewhere(&self, group: &str, node: i32) {
        loop {
            let moved = self.0.moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.known(group).is_some_and(|known| known != node) {
                return;
            }
            moved.await;
        }
    }

    /// The coordinator of the group; [`Coordinators::connection`] without the connection.
    pub(crate) async fn find(&self, group: &str) -> Result<i32> {
        if i16::try_from(group.len()).is_err() {
            return Err(Error::misuse("the name of a group has more than 32,767 bytes"));
        }
        let (question, is_first) = {
            let mut directory = lock(&self.0.directory);
            let known = directory.group(group, &self.0.context);
            if let Some(node) = known.coordinator.node() {
                return Ok(node);
            }
            let question = known.wait();
            (question, !std::mem::replace(&mut directory.asking, true))
        };
        match is_first {
            true => self.0.context.spawn("coordinators", Asker::new(&self.0).run()),
            false => self.0.wake.notify_one(),
        }
        question.wait().await
    }

    /// The coordinator of the group, if it is known.
    pub(crate) fn known(&self, group: &str) -> Option<i32> {
        lock(&self.0.directory).groups.get(group)?.coordinator.node()
    }

    /// `node` is not the coordinator of the group any more, or cannot be reached. Ignored when another one is known.
    pub(crate) fn forget(&self, group: &str, node: i32) {
        self.0.forget(group, node, None);
    }

    /// Why the coordinator of the group is not known, if somebody has said so.
    pub(crate) fn last_error(&self, group: &str) -> Option<Error> {
        lock(&self.0.directory).groups.get(group)?.last_error.clone()
    }
}

impl Directory {
    fn group(&mut self, name: &str, context: &Context) -> &mut Group {
        if self.groups.len() >= REMEMBERED && !self.groups.contains_key(name) {
            self.groups.retain(|_, group| group.question.strong_count() > 0);
        }
        self.groups.entry(Str::from(name)).or_insert_with(|| Group {
            coordinator: Coordinator::new(context.config.retry_backoff),
            question: Weak::new(),
            last_error: None,
        })
    }

    fn due(&self, now: Instant) -> Due {
        let waiting = self.groups.iter().filter(|(_, group)| group.question.strong_count() > 0);
        let mut at: Vec<_> =
            waiting.filter_map(|(name, group)| Some((group.coordinator.ask_at(now)?, name))).collect();
        let Some(first) = at.iter().map(|(at, _)| *at).min() else { return Due::Never };
        if first > now {
            return Due::Later(first);
        }
        at.retain(|(at, _)| *at <= now);
        Due::Now(at.into_iter().map(|(_, name)| name.clone()).collect())
    }
}

impl Group {
    fn wait(&mut self) -> Arc<Question> {
        self.question.upgrade().unwrap_or_else(|| {
            let question = Arc::default();
            self.question = Arc::downgrade(&question);
            question
        })
    }

    fn settle(&mut self, outcome: Result<i32>) {
        if let Some(question) = std::mem::take(&mut self.question).upgrade() {
            question.set(outcome);
        }
    }
}

impl Inner {
    fn forget(&self, group: &str, node: i32, error: Option<Error>) {
        let random = self.context.env.random();
        let mut directory = lock(&self.directory);
        let Some(known) = directory.groups.get_mut(group) else { return };
        if !known.coordinator.forget(now(), node, random) {
            return;
        }
        known.last_error.clone_from(&error);
        drop(directory);
        if let Some(error) = error {
            self.context.events.emit(Event::CoordinatorNotFound { group: group.into(), error });
        }
    }

    fn on_unreachable(&self, group: &str, node: i32, error: Error) {
        self.forget(group, node, Some(error.context("the coordinator cannot be reached")));
    }

    /// What the task has to do. When it has nothing to do it ends, and the next question starts another one.
    fn due(&self) -> Due {
        let mut directory = lock(&self.directory);
        let due = directory.due(now());
        match &due {
            Due::Now(groups) => {
                for group in groups {
                    if let Some(known) = directory.groups.get_mut(group) {
                        known.coordinator.begin();
                    }
                }
            }
            Due::Later(_) => {}
            Due::Never => directory.asking = false,
        }
        due
    }

    async fn ask(&self, groups: &[Str]) {
        let failed: Vec<_> = {
            let directory = lock(&self.directory);
            groups.iter().filter_map(|group| directory.groups.get(group)?.coordinator.failed()).collect()
        };
        let ask = |connection| self.ask_one(connection, groups);
        match self.brokers.ask_any_but(&failed, Lane::Control, ask).await {
            Ok(answers) => {
                groups.iter().zip(answers).for_each(|(group, told)| self.on_told(group, told));
            }
            Err(error) => groups.iter().for_each(|group| self.on_failure(group, error.clone())),
        }
    }

    async fn ask_one(&self, connection: Connection, groups: &[Str]) -> Result<Vec<Told>> {
        let version = connection.version::<FindCoordinatorRequest>(0..=i16::MAX)?;
        let timeout = self.context.config.request_timeout;
        let send = |question| connection.send(&question, version, timeout);
        let replies = questions(version, groups).into_iter().map(send).collect::<Result<Vec<_>>>()?;
        let mut answers = Vec::new();
        for reply in replies {
            answers.push(reply.await?);
        }
        // One answer for all, or one for each.
        let answer_to = |at: usize| answers.get(at).or(answers.first());
        let told = groups.iter().enumerate().map(|(at, group)| match answer_to(at) {
            Some(answer) => told(version, group, answer),
            None => Told::Nonsense,
        });
        Ok(told.collect())
    }

    fn on_told(&self, group: &Str, told: Told) {
        match told {
            Told::Found(address) => {
                // Connections first: whoever hears of the coordinator wants one at once.
                self.brokers.add(&address);
                self.on_found(group, address.id);
            }
            Told::None(code, message) => {
                let words = message.map(|words| format!(" ({words})")).unwrap_or_default();
                let what = format!("find the coordinator of group {group}{words}");
                self.on_failure(group, Error::broker(code, what));
            }
            Told::Nonsense => {
                self.on_failure(
                    group,
                    Error::peer(format!("a broker named no coordinator of group {group}")),
                );
            }
        }
    }

    fn on_found(&self, group: &Str, node: i32) {
        let moved = {
            let mut directory = lock(&self.directory);
            let Some(known) = directory.groups.get_mut(group) else { return };
            let moved = known.coordinator.on_found(now(), node);
            known.last_error = None;
            known.settle(Ok(node));
            moved
        };
        if let Some(Moved { from, to }) = moved {
            self.context.events.emit(Event::CoordinatorChanged { group: (&**group).into(), from, to });
            self.moved.notify_waiters();
        }
    }

    fn on_failure(&self, group: &Str, error: Error) {
        let random = self.context.env.random();
        let mut directory = lock(&self.directory);
        let Some(known) = directory.groups.get_mut(group) else { return };
        known.coordinator.on_failure(now(), random);
        known.last_error = Some(error.clone());
        if !error.is_retriable() {
            return known.settle(Err(error));
        }
        drop(directory);
        self.context.events.emit(Event::CoordinatorNotFound { group: (&**group).into(), error });
    }

    /// Nobody asks any more.
    fn close(&self) {
        let mut directory = lock(&self.directory);
        directory.asking = false;
        for group in directory.groups.values_mut() {
            group.settle(Err(Error::closed()));
        }
    }
}

/// The task that asks.
struct Asker {
    inner: Arc<Inner>,
    has_nothing_to_do: bool,
}

impl Asker {
    fn new(inner: &Arc<Inner>) -> Self {
        Self { inner: inner.clone(), has_nothing_to_do: false }
    }

    async fn run(mut self) {
        let inner = self.inner.clone();
        tokio::select! {
            biased;
            () = inner.context.shutdown.wait() => {}
            () = ask_until_nobody_waits(&inner) => self.has_nothing_to_do = true,
        }
    }
}

/// However the task ends, whoever waits gets an answer.
impl Drop for Asker {
    fn drop(&mut self) {
        if !self.has_nothing_to_do {
            self.inner.close();
        }
    }
}

async fn ask_until_nobody_waits(inner: &Inner) {
    loop {
        match inner.due() {
            Due::Now(groups) => inner.ask(&groups).await,
            Due::Later(at) => tokio::select! {
                biased;
                () = inner.wake.notified() => {}
                () = sleep_until(at.into()) => {}
            },
            Due::Never => return,
        }
    }
}

#[cfg(test)]
mod tests;
