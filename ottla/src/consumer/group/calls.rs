//! Requests to the group's coordinator.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use ottla_protocol::Request;
use tokio::time::timeout;

use super::member::Group;
use crate::{
    Error, Result,
    client::Shared,
    net::{Lane, now},
};

/// Sends the requests of one kind, and remembers where the last one went.
#[derive(Clone)]
pub(super) struct Caller {
    shared: Arc<Shared>,
    group: Arc<Group>,
    lane: Lane,
    node: Arc<AtomicI32>,
}

const NOBODY: i32 = -1;

impl Caller {
    pub(super) fn new(shared: &Arc<Shared>, group: &Arc<Group>, lane: Lane) -> Self {
        let node = Arc::new(AtomicI32::new(NOBODY));
        Self { shared: Arc::clone(shared), group: Arc::clone(group), lane, node }
    }

    /// Whom the last request went to, or should have gone to; `None` if there was nobody.
    pub(super) fn node(&self) -> Option<i32> {
        Some(self.node.load(Ordering::Acquire)).filter(|node| *node != NOBODY)
    }

    /// The node that the last request went to is not the coordinator any more.
    pub(super) fn forget(&self) {
        if let Some(node) = self.node() {
            self.shared.coordinators.forget(&self.group.name, node);
        }
    }

    /// Sends a request to the coordinator and waits for the answer, all in all for `limit`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(super) async fn send<R>(
        self,
        versions: RangeInclusive<i16>,
        request: impl FnOnce(i16) -> R,
        limit: Duration,
    ) -> Result<R::Response>
    where
        R: Request<Response: Send + 'static> + 'static,
    {
        self.node.store(NOBODY, Ordering::Release);
        let deadline = now() + limit;
        let connection = self.shared.coordinators.connection(&self.group.name, self.lane);
        let Ok(connection) = timeout(limit, connection).await else { return Err(self.not_reached()) };
        let connection = connection?;
        self.node.store(connection.node_id(), Ordering::Release);
        let version = connection.version::<R>(versions)?;
        let limit = deadline.saturating_duration_since(now());
        let (group, request) = (&self.group.name, request(version));
        self.shared.coordinators.call(group, &connection, &request, version, limit).await
    }

    /// There was no connection in time. A coordinator that is known and does not even open one is remembered as the one
    /// that the request was for: only if it is given up is anybody asked whether there is another by now.
    fn not_reached(&self) -> Error {
        let group = &self.group.name;
        if let Some(node) = self.shared.coordinators.known(group) {
            self.node.store(node, Ordering::Release);
            return Error::timeout(format!(
                "node {node}, the coordinator of group {group}, opens no connection"
            ));
        }
        let error = Error::timeout(format!("the coordinator of group {group} was not found in time"));
        match self.shared.coordinators.last_error(&self.group.name) {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }
}
