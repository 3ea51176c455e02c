//! Sends commits: the driver of `ottla_core::group::Commits`.

use std::sync::Arc;

use ottla_core::group::{CommitPlan, Committed};
use ottla_protocol::{
    ErrorCode,
    messages::{OffsetCommitRequest, OffsetCommitResponse},
};
use tokio::time::timeout;

use super::{group::Group, inner::Inner};
use crate::{
    Error, ErrorKind, Event, Result, TopicPartition,
    net::{Lane, sleep_until_some},
};

/// The versions that name topics; a static member can say who it is from 7 on (KIP-345).
const VERSIONS: std::ops::RangeInclusive<i16> = 2..=9;
const STATIC_VERSIONS: std::ops::RangeInclusive<i16> = 7..=9;

pub(super) async fn run(inner: Arc<Inner>, group: Arc<Group>) {
    tokio::select! {
        biased;
        () = inner.closed.wait() => {}
        () = commit_for_ever(&inner, &group) => {}
    }
}

async fn commit_for_ever(inner: &Inner, group: &Group) {
    loop {
        let (at, membership) = (group.moment(), group.membership());
        match inner.with(|state| state.plan_commit(at, membership.as_ref())) {
            CommitPlan::Send(request) => {
                let answer = call(inner, group, &request).await;
                on_answer(inner, group, answer);
            }
            CommitPlan::Wait(until) => {
                tokio::select! {
                    biased;
                    () = inner.commit_wake.notified() => {}
                    () = sleep_until_some(until) => {}
                }
            }
        }
    }
}

/// The answer, and who gave it.
async fn call(
    inner: &Inner,
    group: &Group,
    request: &OffsetCommitRequest,
) -> Result<(i32, OffsetCommitResponse)> {
    let limit = inner.shared.config.request_timeout;
    let connecting = inner.shared.coordinators.connection(&group.name, Lane::Control);
    let Ok(connection) = timeout(limit, connecting).await else {
        return Err(Error::timeout(format!("the coordinator of group {} was not found in time", group.name)));
    };
    let connection = connection?;
    let node = connection.node_id();
    let versions = if request.group_instance_id.is_some() { STATIC_VERSIONS } else { VERSIONS };
    let version = connection.version::<OffsetCommitRequest>(versions)?;
    match connection.call(request, version, limit).await {
        Ok(answer) => Ok((node, answer)),
        Err(error) => {
            inner.shared.coordinators.forget(&group.name, node);
            Err(error)
        }
    }
}

fn on_answer(inner: &Inner, group: &Group, answer: Result<(i32, OffsetCommitResponse)>) {
    let at = group.moment();
    let outcome = match answer {
        Ok((node, response)) => {
            let outcome = with_commits(inner, |commits| commits.on_answer(at, &response));
            if outcome.moved {
                inner.shared.coordinators.forget(&group.name, node);
            }
            outcome
        }
        Err(error) => {
            let code = match error.kind() {
                ErrorKind::Incompatible => Some(ErrorCode::UNSUPPORTED_VERSION),
                _ if error.is_retriable() => None,
                _ => error.broker_code(),
            };
            inner.shared.events.emit(Event::CommitFailed { group: group.name.clone(), error });
            match code {
                Some(code) => with_commits(inner, |commits| commits.on_refused(at, code)),
                None => with_commits(inner, |commits| {
                    commits.on_lost(at);
                    Committed::default()
                }),
            }
        }
    };
    follow(inner, group, outcome);
}

fn with_commits(inner: &Inner, work: impl FnOnce(&mut ottla_core::group::Commits) -> Committed) -> Committed {
    inner.with(|state| state.owning.as_mut().map(|owning| work(&mut owning.commits))).unwrap_or_default()
}

/// What follows from an answer.
fn follow(inner: &Inner, group: &Group, outcome: Committed) {
    if let Some((sent, membership)) = &outcome.written {
        group.on_commit_acknowledged(*sent, membership);
    }
    if let Some((membership, code)) = &outcome.rejected {
        group.on_commit_rejected(membership, *code);
    }
    if !outcome.claimed.is_empty() {
        inner.with(|state| state.let_flow(outcome.claimed));
        inner.ready.notify_one();
    }
    if !outcome.acknowledged.is_empty() {
        let (group, partitions) = (group.name.clone(), outcome.acknowledged.len());
        inner.shared.events.emit(Event::OffsetsCommitted { group, partitions });
    }
    for (partition, code) in outcome.refused {
        let partition = TopicPartition::new(&*partition.topic, partition.partition);
        let error = Error::broker(code, "the offset was not committed").with_topic_partition(partition);
        inner.shared.events.emit(Event::CommitFailed { group: group.name.clone(), error });
    }
    inner.committed.notify_waiters();
}
