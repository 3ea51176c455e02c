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

    /// Whom the last request went to; `None` if it went to nobody yet.
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
        let Ok(connection) = timeout(limit, connection).await else { return Err(self.not_found()) };
        let connection = connection?;
        self.node.store(connection.node_id(), Ordering::Release);
        let version = connection.version::<R>(versions)?;
        let limit = deadline.saturating_duration_since(now());
        connection.call(&request(version), version, limit).await
    }

    fn not_found(&self) -> Error {
        let what = format!("the coordinator of group {} was not found in time", self.group.name);
        let error = Error::timeout(what);
        match self.shared.coordinators.last_error(&self.group.name) {
            Some(cause) => error.with_source(cause),
            None => error,
        }
    }
}
