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
    retry::Retry,
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
    ask: impl Fn(Connection, Vec<String>, Duration) -> F,
) -> Result<PerItem<String, T>>
where
    F: Future<Output = Result<Answers<String, T>>>,
{
    let mut retry = Retry::new(shared, what, timeout);
    let mut avoid = None;
    let mut items = Items::new(what, items);
    while !items.open().is_empty() {
        let open = items.open().to_vec();
        let again = match attempt(&retry, &mut avoid, &open, &ask).await {
            Ok(answers) => items.take(&open, answers, |_, error| is_for_another_time(error)),
            Err(error) if error.is_retriable() => Some(error),
            Err(error) => {
                items.fail(&error)?;
                None
            }
        };
        let Some(error) = again else { continue };
        if let Err(error) = retry.pause(error).await {
            items.fail(&error)?;
        }
    }
    Ok(items.into_results())
}

/// Whether nothing was done for the item, and something will be if it is asked again: of the controller, or later
/// (KIP-599). Others, a timeout of the broker for one, are told: the item may have been done.
fn is_for_another_time(error: &Error) -> bool {
    matches!(error.broker_code(), Some(ErrorCode::NOT_CONTROLLER | ErrorCode::THROTTLING_QUOTA_EXCEEDED))
}

/// Asks the controller once; not the one that did not answer the last time, which is `avoid`.
async fn attempt<T, F>(
    retry: &Retry<'_>,
    avoid: &mut Option<i32>,
    open: &[String],
    ask: &impl Fn(Connection, Vec<String>, Duration) -> F,
) -> Result<Answers<String, T>>
where
    F: Future<Output = Result<Answers<String, T>>>,
{
    let shared = retry.shared;
    let dead = avoid.take();
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
        ask(connection, open.to_vec(), retry.left()).await
    };
    let outcome = retry.bound(attempt).await;
    if outcome.is_err() {
        *avoid = asked;
    }
    outcome
}
