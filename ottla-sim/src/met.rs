//! What clients met: the branches that a run has gone through.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use ottla::{Error, ErrorKind, Event};

/// How often what happened, by name: error codes that brokers answered (`Fetch: NOT_LEADER_OR_FOLLOWER`), and what clients
/// told beside their routine (`broker.disconnected: Io`).
pub type Counts = BTreeMap<String, u64>;

/// What the clients of a cluster have told. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Met(Rc<RefCell<Counts>>);

impl Met {
    pub(crate) fn counts(&self) -> Counts {
        self.0.borrow().clone()
    }

    pub(crate) fn event(&self, event: &Event) {
        let name = match event {
            Event::BatchProduced { attempts: 2.., .. } => "produce.batch: resent".to_owned(),
            Event::PositionReset { reason, .. } => format!("{}: {reason}", event.name()),
            Event::CoordinatorChanged { from: None, .. } => return,
            Event::Throttled { .. }
            | Event::CoordinatorChanged { .. }
            | Event::PartitionsRevoked { .. }
            | Event::LeaseEnded { .. }
            | Event::LeaseRenewed { .. } => event.name().to_owned(),
            _ => match error(event) {
                Some(error) => format!("{}: {}", event.name(), cause(error)),
                None => return,
            },
        };
        *self.0.borrow_mut().entry(name).or_default() += 1;
    }
}

fn error(event: &Event) -> Option<&Error> {
    match event {
        Event::BrokerDisconnected { error, .. }
        | Event::BrokerUnreachable { error, .. }
        | Event::MetadataFailed { error, .. }
        | Event::BatchFailed { error, .. }
        | Event::PartitionHeld { error, .. }
        | Event::PartitionsLost { cause: error, .. }
        | Event::SessionLost { cause: error, .. }
        | Event::ProcessingStalled { error, .. }
        | Event::CoordinatorNotFound { error, .. }
        | Event::JoinFailed { error, .. }
        | Event::HeartbeatFailed { error, .. }
        | Event::CommitFailed { error, .. }
        | Event::ListenerFailed { error, .. }
        | Event::GroupFailed { error, .. } => Some(error),
        _ => None,
    }
}

/// Who is at fault, and whether it may have been written.
fn cause(error: &Error) -> String {
    let kind = match error.kind() {
        ErrorKind::Broker(code) => code.name().map_or_else(|| code.to_string(), str::to_owned),
        kind => format!("{kind:?}"),
    };
    if error.possibly_written() { format!("{kind}, possibly written") } else { kind }
}
