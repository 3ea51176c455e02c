//! Who may pass.

use std::sync::{Mutex, PoisonError};

use ottla_protocol::ApiKey;
use tokio::sync::Notify;

/// One gate for all connections of a client.
///
/// ```text
///            hold             let_data_go               let_all_go
///   open ───────────▶ held ────────────────▶ data only ────────────▶ open
/// ```
#[derive(Debug, Default)]
pub(crate) struct Gate {
    phase: Mutex<Phase>,
    changed: Notify,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    Held,
    DataOnly,
}

/// What a connection is for, as its requests tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Traffic {
    /// Records.
    Data,
    /// Membership and everything else: a client sends commits and metadata requests on one connection.
    Group,
}

impl Traffic {
    /// What a request is for. Those of the handshake begin every connection, and tell nothing.
    pub(super) fn of(request: ApiKey) -> Option<Self> {
        match request {
            ApiKey::API_VERSIONS | ApiKey::SASL_HANDSHAKE | ApiKey::SASL_AUTHENTICATE => None,
            ApiKey::FETCH => Some(Self::Data),
            _ => Some(Self::Group),
        }
    }
}

impl Gate {
    /// From now on nothing passes.
    pub(crate) fn hold(&self) {
        self.enter(Phase::Held);
    }

    /// Records pass, and handshakes: a broker that wakes up answers those of new connections too.
    pub(crate) fn let_data_go(&self) {
        self.enter(Phase::DataOnly);
    }

    /// Everything passes.
    pub(crate) fn let_all_go(&self) {
        self.enter(Phase::Open);
    }

    /// Waits until bytes of a connection may pass; `None` while nothing but the handshake has gone over it.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn pass(&self, traffic: impl Fn() -> Option<Traffic>) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Before looking: a change in between must not be missed.
            changed.as_mut().enable();
            if self.phase().lets_pass(traffic()) {
                return;
            }
            changed.await;
        }
    }

    fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
        self.changed.notify_waiters();
    }
}

impl Phase {
    fn lets_pass(self, traffic: Option<Traffic>) -> bool {
        match self {
            Self::Open => true,
            Self::Held => false,
            Self::DataOnly => traffic != Some(Traffic::Group),
        }
    }
}
