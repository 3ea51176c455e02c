//! Requests that only the controller answers, tried again until every item has an answer or time is up.
//!
//! ```text
//!            some items: NOT_CONTROLLER, THROTTLING_QUOTA_EXCEEDED;
//!            or no answer at all: back-off, look for the controller anew
//!              ┌──────────────────┐
//!              ▼                  │
//!   open ──▶ asked ───────────────┘
//!              │ every item has an answer, or the deadline passes
//!              ▼
//!            settled
//! ```

use std::time::Duration;

use ottla_protocol::ErrorCode;

use super::{
    PerItem,
    items::{Answers, Items},
    retry::{Retry, Round, settle},
};
use crate::{
    Error, Result,
    client::Shared,
    net::{Connection, Lane},
};

/// Asks the controller with `ask(connection, items without an answer, time left)`.
pub(super) async fn ask_controller<T, F>(
    shared: &Shared,
    what: &'static str,
    timeout: Option<Duration>,
    items: Vec<String>,
    ask: impl Fn(Connection, Vec<String>, Duration) -> F + Send + Sync,
) -> Result<PerItem<String, T>>
where
    T: Send,
    F: Future<Output = Result<Answers<String, T>>> + Send,
{
    let round = AskController { ask, avoid: None };
    settle(Retry::new(shared, what, timeout), Items::new(what, items), round).await
}

struct AskController<A> {
    ask: A,
    /// Did not answer the last time.
    avoid: Option<i32>,
}

impl<T, A, F> Round<String, T> for AskController<A>
where
    T: Send,
    A: Fn(Connection, Vec<String>, Duration) -> F + Send + Sync,
    F: Future<Output = Result<Answers<String, T>>> + Send,
{
    async fn ask(&mut self, retry: &mut Retry<'_>, items: &mut Items<String, T>) -> Result<Option<Error>> {
        let open = items.open().to_vec();
        match self.attempt(retry, &open).await {
            Ok(answers) => Ok(items.take(&open, answers, |_, error| is_for_another_time(error))),
            Err(error) if error.is_retriable() => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }
}

impl<A> AskController<A> {
    /// Asks the controller once; not the one that did not answer the last time.
    async fn attempt<T, F>(&mut self, retry: &Retry<'_>, open: &[String]) -> Result<Answers<String, T>>
    where
        A: Fn(Connection, Vec<String>, Duration) -> F,
        F: Future<Output = Result<Answers<String, T>>>,
    {
        let shared = retry.shared;
        let dead = self.avoid.take();
        let mut asked = None;
        let attempt = async {
            let controller = shared.metadata.cluster().await?.controller_id;
            // Any broker passes such requests on to the controller (KIP-590), and knows earlier when it is another one.
            let connection = match controller {
                -1 => shared.brokers.any(Lane::Admin).await?,
                controller if dead == Some(controller) => shared.brokers.any(Lane::Admin).await?,
                controller => shared.brokers.prefer(controller, Lane::Admin).await?,
            };
            asked = Some(connection.node_id());
            (self.ask)(connection, open.to_vec(), retry.left()).await
        };
        let outcome = retry.bound(attempt).await;
        if outcome.is_err() {
            self.avoid = asked;
        }
        outcome
    }
}

/// Whether nothing was done for the item, and something will be if it is asked again: of the controller, or later
/// (KIP-599). Others, a timeout of the broker for one, are told: the item may have been done.
fn is_for_another_time(error: &Error) -> bool {
    matches!(error.broker_code(), Some(ErrorCode::NOT_CONTROLLER | ErrorCode::THROTTLING_QUOTA_EXCEEDED))
}
