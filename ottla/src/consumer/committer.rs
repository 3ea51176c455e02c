//! Commits what is complete: the driver of `ottla_core::group::Commits`. Its timer is also that of what has to be handed
//! out again.
//!
//! ```text
//!             something to commit                     answer, or none in time
//!   waiting ─────────────────────────▶ in flight ──────────────────────────────▶ waiting
//!    ▲    │                             ▲    │
//!    └────┘ interval, back-off, news    └────┘ back-off of what is handed out again
//! ```

use std::{ops::RangeInclusive, sync::Arc};

use ottla_core::group::{CommitPlan, Committed, TopicPartition as Name};
use ottla_protocol::{
    ErrorCode,
    messages::{OffsetCommitRequest, OffsetCommitResponse},
};

use super::{group::Group, inner::Inner, owned::Answered};
use crate::{
    Error, ErrorKind, Event, Result, TopicPartition,
    env::BoxFuture,
    net::{Lane, sleep_until_some},
};

/// The versions that name topics; a static member can say who it is from 7 on (KIP-345).
const VERSIONS: RangeInclusive<i16> = 2..=9;
const STATIC_VERSIONS: RangeInclusive<i16> = 7..=9;

type InFlight = BoxFuture<'static, Sent>;

/// A commit that was tried.
struct Sent {
    /// Whom it was sent to, if to anybody.
    node: Option<i32>,
    answer: Result<OffsetCommitResponse>,
}

pub(super) async fn run(inner: Arc<Inner>, group: Arc<Group>) {
    tokio::select! {
        biased;
        () = inner.closed.wait() => {}
        () = commit_for_ever(&inner, &group) => {}
    }
    inner.committed.notify_waiters();
}

async fn commit_for_ever(inner: &Arc<Inner>, group: &Arc<Group>) {
    let mut in_flight = None::<InFlight>;
    loop {
        let (plan, woken) = look(inner, group);
        if woken {
            inner.wake_one();
        }
        let timer = match plan {
            CommitPlan::Send(request) => {
                in_flight = Some(Box::pin(send(Arc::clone(inner), Arc::clone(group), request)));
                continue;
            }
            CommitPlan::Wait(until) => until,
        };
        let timer = timer.into_iter().chain(inner.with(|state| state.owned.as_ref()?.next_wake())).min();
        tokio::select! {
            biased;
            sent = some(in_flight.as_mut()) => {
                in_flight = None;
                on_answer(inner, group, sent);
            }
            () = inner.commits.notified() => {}
            () = sleep_until_some(timer) => {}
        }
    }
}

/// What to commit next, and whether something may be handed out again.
fn look(inner: &Inner, group: &Group) -> (CommitPlan, bool) {
    let (at, (membership, prove)) = (group.moment(), group.commits_as());
    inner.with(|state| {
        state.note_starts();
        let woken = state.owned.as_mut().is_some_and(|owned| owned.wake(at.now));
        (state.plan_commit(at, membership.as_ref(), prove), woken)
    })
}

/// The answer, if there is anything to wait for. Cancel safe.
async fn some(in_flight: Option<&mut InFlight>) -> Sent {
    match in_flight {
        Some(sent) => sent.await,
        None => std::future::pending().await,
    }
}

async fn send(inner: Arc<Inner>, group: Arc<Group>, request: OffsetCommitRequest) -> Sent {
    let (coordinators, name) = (&inner.shared.coordinators, &group.config.id);
    let wait = group.config.answer_timeout(inner.shared.config.request_timeout);
    let mut node = None;
    let call = async {
        let connection = coordinators.connection(name, Lane::Offsets).await?;
        node = Some(connection.node_id());
        let versions = if request.group_instance_id.is_some() { STATIC_VERSIONS } else { VERSIONS };
        let version = connection.version::<OffsetCommitRequest>(versions)?;
        coordinators.call(name, &connection, &request, version, wait).await
    };
    let answer = match tokio::time::timeout(wait, call).await {
        Ok(answer) => answer,
        Err(_) => {
            let error = Error::timeout("the coordinator has not answered a commit in time");
            Err(match coordinators.last_error(name) {
                Some(cause) => error.with_source(cause),
                None => error,
            })
        }
    };
    Sent { node, answer }
}

fn on_answer(inner: &Arc<Inner>, group: &Group, Sent { node, answer }: Sent) {
    let failure = answer.as_ref().err().cloned();
    let answered = match answer {
        Ok(response) => Answered::Response(response),
        Err(error) if error.kind() == ErrorKind::Incompatible => {
            Answered::Refused(ErrorCode::UNSUPPORTED_VERSION)
        }
        Err(error) => match error.broker_code().filter(|_| !error.is_retriable()) {
            Some(code) => Answered::Refused(code),
            None => Answered::Lost,
        },
    };
    let at = group.moment();
    let outcome = inner.with(|state| {
        let outcome = state.owned.as_mut().map(|owned| owned.on_committed(at, answered));
        let outcome = outcome.unwrap_or_default();
        for token in &outcome.claimed {
            state.settle(*token);
        }
        outcome
    });
    if let Some(node) = node.filter(|_| outcome.moved || failure.is_some()) {
        inner.shared.coordinators.forget(&group.config.id, node);
    }
    tell(inner, group, outcome, failure);
    // Somebody may wait for just this commit, or for the first record of a partition.
    inner.committed.notify_waiters();
    inner.wake_one();
}

/// Passes on what a commit has come to.
fn tell(inner: &Inner, group: &Group, outcome: Committed, failure: Option<Error>) {
    let Committed { acknowledged, written, refused, rejected, .. } = outcome;
    if let Some((membership, code)) = &rejected {
        group.on_commit_rejected(membership, *code);
    }
    if let Some((sent, membership)) = &written {
        group.on_commit_acknowledged(*sent, membership);
        let (group, partitions) = (group.name.clone(), acknowledged.len());
        let named = |(name, offset): (_, i64)| (public(&name), offset);
        let offsets = acknowledged.into_iter().map(named).collect();
        inner.shared.events.emit(Event::OffsetsCommitted { group, partitions, offsets });
    }
    let refusals = refused.into_iter().map(|(name, code)| {
        Error::broker(code, "the offset was not committed").with_topic_partition(public(&name))
    });
    for error in failure.into_iter().chain(refusals) {
        inner.shared.events.emit(Event::CommitFailed { group: group.name.clone(), error });
    }
}

fn public(name: &Name) -> TopicPartition {
    TopicPartition::new(&*name.topic, name.partition)
}
