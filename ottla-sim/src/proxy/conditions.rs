//! What holds for the connections of one broker, and how its pumps hear of changes.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

/// What holds now.
#[derive(Debug, Clone, Default)]
pub(super) struct Conditions {
    pub(super) refuses: bool,
    pub(super) requests: Flow,
    pub(super) responses: Flow,
    /// Connections of an earlier era are reset.
    pub(super) era: u64,
}

/// What holds for one direction.
#[derive(Debug, Clone, Default)]
pub(super) struct Flow {
    pub(super) held: bool,
    pub(super) vanishes: bool,
    pub(super) delay: Duration,
    pub(super) reset_after: Option<u64>,
}

/// [`Conditions`] that change while pumps look at them.
#[derive(Debug, Default)]
pub(super) struct Shared {
    conditions: Mutex<Conditions>,
    changed: Notify,
}

impl Shared {
    pub(super) fn now(&self) -> Conditions {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Conditions) -> T) -> T {
        let (era, changed) = {
            let mut conditions = self.conditions.lock().unwrap_or_else(PoisonError::into_inner);
            let era = conditions.era;
            let changed = change(&mut conditions);
            conditions.era = conditions.era.max(era);
            (era, changed)
        };
        tracing::debug!(era, "the proxy's conditions changed");
        self.changed.notify_waiters();
        changed
    }

    /// Resets the present connections.
    pub(super) fn cut(&self) {
        self.change(|conditions| conditions.era += 1);
    }

    /// Nobody listens any more, and nothing goes on.
    pub(super) fn close(&self) {
        self.change(|conditions| (conditions.refuses, conditions.era) = (true, u64::MAX));
    }

    /// Waits until `wanted` says so. Cancel safe.
    pub(super) async fn until<T>(&self, mut wanted: impl FnMut(&Conditions) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(found) = wanted(&self.now()) {
                return found;
            }
            changed.await;
        }
    }
}
