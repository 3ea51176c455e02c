//! Tries an administrative call again, with back-off, until its time is up.

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use ottla_core::{backoff::Backoff, metadata::Told};
use tokio::time::{sleep, timeout_at};

use super::{PerItem, items::Items};
use crate::{Error, Result, client::Shared, net::now};

/// The time that a call has, and the back-off between its attempts.
pub(super) struct Retry<'a> {
    pub(super) shared: &'a Shared,
    pub(super) what: &'static str,
    timeout: Duration,
    deadline: Instant,
    backoff: Backoff,
    /// Why the last attempt failed.
    last_error: Option<Error>,
    /// Who has told of the cluster: when it is looked at once more, others are asked before.
    pub(super) told: Told,
}

/// How the items of a call are asked about once.
pub(super) trait Round<K, T> {
    /// Asks about everything that is open. Gives why something is still open and worth another round.
    ///
    /// # Errors
    /// Which no other round would mend, or for which there is no time.
    fn ask(
        &mut self,
        retry: &mut Retry<'_>,
        items: &mut Items<K, T>,
    ) -> impl Future<Output = Result<Option<Error>>> + Send;
}

/// Asks round after round until every item has an answer, or there is no time for another one.
///
/// # Errors
/// When no item was answered.
pub(super) async fn settle<K, T>(
    mut retry: Retry<'_>,
    mut items: Items<K, T>,
    mut round: impl Round<K, T>,
) -> Result<PerItem<K, T>>
where
    K: Ord + Clone + Display,
{
    while !items.open().is_empty() {
        let paused = match round.ask(&mut retry, &mut items).await {
            Ok(None) => Ok(()),
            Ok(Some(error)) => retry.pause(error).await,
            Err(error) => Err(error),
        };
        if let Err(error) = paused {
            items.fail(&error)?;
        }
    }
    Ok(items.into_results())
}

impl<'a> Retry<'a> {
    /// A call that is described as `what` in errors, and may take `timeout`, or `default.api.timeout.ms`.
    pub(super) fn new(shared: &'a Shared, what: &'static str, timeout: Option<Duration>) -> Self {
        let timeout = timeout.unwrap_or(shared.config.default_api_timeout);
        let backoff = Backoff::new(shared.config.retry_backoff);
        let (deadline, told) = (now() + timeout, Told::default());
        Self { shared, what, timeout, deadline, backoff, last_error: None, told }
    }

    /// The same time for another part of the call, which is tried again by itself.
    pub(super) fn for_another(&self) -> Self {
        let backoff = Backoff::new(self.shared.config.retry_backoff);
        Self { backoff, last_error: None, told: Told::default(), ..*self }
    }

    /// How long one request may take.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(now()).min(self.shared.config.request_timeout)
    }

    /// One attempt, within the time that is left.
    pub(super) async fn bound<T>(&self, attempt: impl Future<Output = Result<T>>) -> Result<T> {
        timeout_at(self.deadline.into(), attempt).await.unwrap_or_else(|_| {
            let error = Error::timeout(format!("{}: no answer within {:?}", self.what, self.timeout));
            Err(self.last_error.iter().cloned().fold(error, Error::with_source))
        })
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// When there is no time for another one.
    pub(super) async fn pause(&mut self, error: Error) -> Result<()> {
        let random = self.shared.env.random();
        let wait = self.backoff.on_failure(random).max(error.retry_after().unwrap_or_default());
        if now() + wait >= self.deadline {
            return Err(error.context(format!("{} was not done within {:?}", self.what, self.timeout)));
        }
        self.last_error = Some(error);
        self.shared.metadata.refresh();
        sleep(wait).await;
        Ok(())
    }
}
