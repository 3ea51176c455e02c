//! Asks the coordinator what a group has committed.

use std::collections::{BTreeMap, BTreeSet};

use ottla_core::{
    backoff::Backoff,
    group::{
        CommittedOffset, FetchedOffsets, OFFSET_FETCH_VERSIONS, TopicPartition as Name, fetched_offsets,
        offset_fetch,
    },
};
use ottla_protocol::{ErrorCode, messages::OffsetFetchRequest};
use tokio::time::{sleep, timeout};

use super::{group::Group, inner::Inner};
use crate::{Error, Result, net::Lane};

/// What is committed, for each partition.
pub(super) type Found = BTreeMap<Name, Result<Option<CommittedOffset>, ErrorCode>>;

/// What the group has committed for these partitions, once it can be known: open transactions are waited for (KIP-447).
///
/// # Errors
/// What asking again does not cure.
///
/// # Cancel safety
/// Nothing changes.
pub(super) async fn until_answered(
    inner: &Inner,
    group: &Group,
    partitions: &BTreeSet<Name>,
) -> Result<Found> {
    let mut backoff = Backoff::new(inner.shared.config.retry_backoff);
    loop {
        match ask(inner, group, partitions).await {
            Ok(FetchedOffsets::All(found)) => return Ok(found),
            Ok(FetchedOffsets::Refused(code)) => {
                return Err(Error::broker(code, format!("read what group {} has committed", group.name)));
            }
            Ok(FetchedOffsets::Again { .. }) => {}
            Err(error) if error.is_retriable() => {}
            Err(error) => return Err(error),
        }
        sleep(backoff.on_failure(inner.shared.env.random())).await;
    }
}

/// Asks once. A coordinator that is none any more, or cannot be reached, is looked up again next time.
async fn ask(inner: &Inner, group: &Group, partitions: &BTreeSet<Name>) -> Result<FetchedOffsets> {
    let coordinators = &inner.shared.coordinators;
    let limit = group.config.answer_timeout(inner.shared.config.request_timeout);
    let Ok(connection) = timeout(limit, coordinators.connection(&group.name, Lane::Offsets)).await else {
        return Err(Error::timeout(format!("the coordinator of group {} was not found in time", group.name)));
    };
    let connection = connection?;
    let version = connection.version::<OffsetFetchRequest>(OFFSET_FETCH_VERSIONS)?;
    let request = offset_fetch(&group.config.id, partitions, version);
    let answer = coordinators.call(&group.name, &connection, &request, version, limit).await;
    let answer = answer.map(|response| fetched_offsets(partitions, &response));
    if matches!(&answer, Err(_) | Ok(FetchedOffsets::Again { moved: true, .. })) {
        coordinators.forget(&group.name, connection.node_id());
    }
    answer
}
