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

use std::{collections::BTreeMap, time::Duration};

use ottla_protocol::ErrorCode;

use super::{PerItem, retry::Retry};
use crate::{
    Error, Result,
    client::Shared,
    net::{Connection, Lane},
};

/// Answers by item.
pub(super) type Answers<T> = BTreeMap<String, Result<T>>;

/// Asks the controller with `ask(connection, items without an answer, time left)`.
pub(super) async fn ask_controller<T, F>(
    shared: &Shared,
    what: &'static str,
    timeout: Option<Duration>,
    items: Vec<String>,
    ask: impl Fn(Connection, Vec<String>, Duration) -> F,
) -> Result<PerItem<String, T>>
where
    F: Future<Output = Result<Answers<T>>>,
{
    let mut retry = Retry::new(shared, what, timeout);
    let mut avoid = None;
    let mut settled = Answers::new();
    let mut open = items.clone();
    while !open.is_empty() {
        let again = match attempt(&retry, &mut avoid, &open, &ask).await {
            Ok(mut answers) => take(what, &mut open, &mut answers, &mut settled),
            Err(error) if error.is_retriable() => Some(error),
            Err(error) if settled.is_empty() => return Err(error),
            Err(error) => {
                settled.extend(open.drain(..).map(|item| (item, Err(error.clone()))));
                None
            }
        };
        let Some(error) = again else { continue };
        if let Err(error) = retry.pause(error).await {
            if settled.is_empty() {
                return Err(error);
            }
            settled.extend(open.drain(..).map(|item| (item, Err(error.clone()))));
        }
    }
    Ok(in_order(items, settled))
}

/// Takes the answers over. What has to be asked again stays in `open`; gives why.
fn take<T>(
    what: &'static str,
    open: &mut Vec<String>,
    answers: &mut Answers<T>,
    settled: &mut Answers<T>,
) -> Option<Error> {
    let mut again = None;
    open.retain(|item| {
        match answers.remove(item) {
            Some(Err(error)) if is_for_another_time(&error) => {
                again = Some(error);
                return true;
            }
            Some(answer) => drop(settled.insert(item.clone(), answer)),
            None => {
                let left_out = || Err(Error::peer(format!("{what}: the broker's answer leaves {item} out")));
                settled.entry(item.clone()).or_insert_with(left_out);
            }
        }
        false
    });
    again
}

/// Whether nothing was done for the item, and something will be if it is asked again: of the controller, or later
/// (KIP-599). Others, a timeout of the broker for one, are told: the item may have been done.
fn is_for_another_time(error: &Error) -> bool {
    matches!(error.broker_code(), Some(ErrorCode::NOT_CONTROLLER | ErrorCode::THROTTLING_QUOTA_EXCEEDED))
}

fn in_order<T>(items: Vec<String>, mut settled: Answers<T>) -> PerItem<String, T> {
    let twice = |item: &str| Error::misuse(format!("{item} was asked for twice"));
    let result = |item: String| {
        let result = settled.remove(&item).unwrap_or_else(|| Err(twice(&item)));
        (item, result)
    };
    PerItem::new(items.into_iter().map(result).collect())
}

/// Asks the controller once; not the one that did not answer the last time, which is `avoid`.
async fn attempt<T, F>(
    retry: &Retry<'_>,
    avoid: &mut Option<i32>,
    open: &[String],
    ask: &impl Fn(Connection, Vec<String>, Duration) -> F,
) -> Result<Answers<T>>
where
    F: Future<Output = Result<Answers<T>>>,
{
    let shared = retry.shared;
    let dead = avoid.take();
    let mut asked = None;
    let attempt = async {
        let controller = shared.metadata.cluster().await?.controller_id;
        // Any broker passes such requests on to the controller (KIP-590), and knows earlier when it is another one.
        let connection = match controller {
            -1 => shared.brokers.any(Lane::Control).await?,
            controller if dead == Some(controller) => shared.brokers.any(Lane::Control).await?,
            controller => shared.brokers.prefer(controller, Lane::Control).await?,
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
