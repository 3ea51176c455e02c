//! Requests that only a group's coordinator answers, tried again until every group has an answer or time is up.
//!
//! ```text
//!             NOT_COORDINATOR, COORDINATOR_NOT_AVAILABLE, COORDINATOR_LOAD_IN_PROGRESS;
//!             or no answer at all: back-off, look for the coordinator anew
//!              ┌──────────────────────────────┐
//!              ▼                              │
//!   open ──▶ coordinator known ──▶ asked ─────┘
//!              each broker once for             │ every group has an answer, or the deadline passes
//!              all of its groups                ▼
//!                                            settled
//! ```

use std::{collections::BTreeMap, time::Duration};

use ottla_protocol::ErrorCode;
use tokio::time::timeout as within;

use super::{
    PerItem,
    items::{Answers, Items},
    retry::{Retry, Round, settle},
};
use crate::{
    Error, Result,
    client::Shared,
    net::{Connection, Lane, join_all},
};

/// A group without a coordinator holds up the others of the call for this long, each round.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks the coordinators with `ask(connection, groups without an answer, time left)`.
pub(super) async fn ask_coordinators<T, F>(
    shared: &Shared,
    what: &'static str,
    timeout: Option<Duration>,
    groups: Vec<String>,
    ask: impl Fn(Connection, Vec<String>, Duration) -> F + Send + Sync,
) -> Result<PerItem<String, T>>
where
    T: Send,
    F: Future<Output = Result<Answers<String, T>>> + Send,
{
    settle(Retry::new(shared, what, timeout), Items::new(what, groups), AskCoordinators(ask)).await
}

/// [`ask_coordinators`] about one group.
pub(super) async fn ask_coordinator<T, F>(
    shared: &Shared,
    what: &'static str,
    timeout: Option<Duration>,
    group: String,
    ask: impl Fn(Connection, String, Duration) -> F + Send + Sync,
) -> Result<T>
where
    T: Send,
    F: Future<Output = Result<T>> + Send,
{
    let ask = &ask;
    let ask_one = |connection: Connection, groups: Vec<String>, left| async move {
        let mut answers = Answers::new();
        for group in groups {
            let answer = match ask(connection.clone(), group.clone(), left).await {
                Err(error) if error.broker_code().is_none() => return Err(error),
                answer => answer,
            };
            answers.insert(group, answer);
        }
        Ok(answers)
    };
    let answer = ask_coordinators(shared, what, timeout, vec![group], ask_one).await?.into_iter().next();
    answer.map_or_else(|| Err(Error::misuse(what)), |(_, answer)| answer)
}

struct AskCoordinators<A>(A);

impl<T, A, F> Round<String, T> for AskCoordinators<A>
where
    T: Send,
    A: Fn(Connection, Vec<String>, Duration) -> F + Send + Sync,
    F: Future<Output = Result<Answers<String, T>>> + Send,
{
    async fn ask(&mut self, retry: &mut Retry<'_>, items: &mut Items<String, T>) -> Result<Option<Error>> {
        let (retry, ask) = (&*retry, &self.0);
        let coordinators = &retry.shared.coordinators;
        let (by_node, mut again) = find(retry, items).await;
        let asked = by_node.into_iter().map(|(node, groups)| async move {
            let attempt = async {
                let connection = retry.shared.brokers.connection(node, Lane::Admin).await?;
                ask(connection, groups.clone(), retry.left()).await
            };
            let outcome = retry.bound(attempt).await;
            (node, groups, outcome)
        });
        for (node, groups, outcome) in join_all(asked).await {
            match outcome {
                Ok(answers) => {
                    let open = items.take(&groups, answers, |group, error| {
                        if is_wrong_broker(error) {
                            coordinators.forget(group, node);
                        }
                        is_for_another_time(error)
                    });
                    again = open.or(again);
                }
                Err(error) if error.is_retriable() => {
                    groups.iter().for_each(|group| coordinators.forget(group, node));
                    again = Some(error);
                }
                Err(error) => groups.iter().for_each(|group| items.settle(group, Err(error.clone()))),
            }
        }
        Ok(again)
    }
}

/// The open groups by their coordinators, and why some have none.
async fn find<T>(
    retry: &Retry<'_>,
    items: &mut Items<String, T>,
) -> (BTreeMap<i32, Vec<String>>, Option<Error>) {
    let coordinators = &retry.shared.coordinators;
    let finding = items.open().to_vec().into_iter().map(|group| async move {
        let found = retry.bound(async { Ok(within(PATIENCE, coordinators.find(&group)).await) }).await;
        (group, found)
    });
    let (mut by_node, mut again) = (BTreeMap::<i32, Vec<String>>::new(), None);
    for (group, found) in join_all(finding).await {
        match found {
            Ok(Ok(Ok(node))) => by_node.entry(node).or_default().push(group),
            // Asking again does not help.
            Ok(Ok(Err(error))) => items.settle(&group, Err(error)),
            Ok(Err(_)) | Err(_) => {
                let why = coordinators.last_error(&group);
                let unknown = || Error::timeout(format!("the coordinator of group {group} is not known yet"));
                again = Some(why.unwrap_or_else(unknown));
            }
        }
    }
    (by_node, again)
}

/// Whether nothing was done for the group, and something will be if the right broker is asked at the right time.
pub(super) fn is_for_another_time(error: &Error) -> bool {
    is_wrong_broker(error)
        || matches!(
            error.broker_code(),
            Some(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS | ErrorCode::UNSTABLE_OFFSET_COMMIT)
        )
}

fn is_wrong_broker(error: &Error) -> bool {
    matches!(error.broker_code(), Some(ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE))
}
