//! What the consumer goes through, from the events of its client.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ottla::{ErrorKind, Event, Events, TopicPartition};
use tokio::sync::{Notify, futures::Notified};

use super::screen::{Screen, Seconds, Who};
use crate::output::{Failure, with_causes};

/// Follows one client, shows what happens to its membership, and remembers what the report needs.
pub(super) struct Diary<'a> {
    screen: &'a Screen,
    /// Whether the consumer heeds its lease.
    lease: bool,
    seen: Mutex<Seen>,
    committed: Notify,
}

/// What there was to see so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// Bytes of answers that had records.
    pub(super) fetched: u64,
    pub(super) sessions_lost: u64,
    /// After how many of these losses it owned partitions again.
    pub(super) regained: u64,
    /// A heartbeat has failed, and nothing was heard of the group since.
    unheard: bool,
}

impl<'a> Diary<'a> {
    pub(super) fn new(screen: &'a Screen, lease: bool) -> Self {
        Self { screen, lease, seen: Mutex::default(), committed: Notify::new() }
    }

    /// Writes down what happens until the client is closed.
    ///
    /// # Errors
    /// When events were missed: what was counted would not be true.
    pub(super) async fn keep(&self, mut events: Events) -> Result<(), Failure> {
        while let Some(event) = events.recv().await {
            if let Event::Missed { count, .. } = event {
                return Err(Failure::new(format!("{count} events of the client were missed")));
            }
            let before = self.remember(&event);
            self.show(&event, before);
        }
        Ok(())
    }

    pub(super) fn seen(&self) -> Seen {
        *self.lock()
    }

    /// Ready after the next commit that the group acknowledges, counted from this call.
    pub(super) fn next_commit(&self) -> Notified<'_> {
        self.committed.notified()
    }

    /// Gives what was seen before.
    fn remember(&self, event: &Event) -> Seen {
        let mut seen = self.lock();
        let before = *seen;
        match event {
            Event::Fetched { bytes, .. } => seen.fetched += *bytes as u64,
            Event::HeartbeatFailed { .. } => seen.unheard = true,
            Event::LeaseRenewed { .. } => seen.unheard = false,
            Event::SessionLost { .. } => {
                seen.unheard = false;
                seen.sessions_lost += 1;
            }
            Event::PartitionsAssigned { .. } => seen.regained = seen.sessions_lost,
            Event::OffsetsCommitted { .. } => self.committed.notify_waiters(),
            _ => {}
        }
        before
    }

    fn show(&self, event: &Event, before: Seen) {
        let say = |what: fmt::Arguments<'_>| self.screen.line(Who::Consumer, what);
        match event {
            Event::PartitionsAssigned { partitions, .. } => {
                let again = if before.sessions_lost > 0 { "joined again" } else { "joined the group" };
                say(format_args!("{again}, owns partitions {}", Numbers(partitions)));
            }
            Event::PartitionsRevoked { partitions, .. } => {
                say(format_args!("gave back partitions {}", Numbers(partitions)));
            }
            // One says it for all, and those of the same silence look alike.
            Event::HeartbeatFailed { .. } if before.unheard => {}
            Event::HeartbeatFailed { error, .. } if error.kind() == ErrorKind::Timeout => {
                say(format_args!("a heartbeat is not answered"));
            }
            Event::HeartbeatFailed { error, .. } => say(format_args!("a heartbeat failed: {error}")),
            Event::LeaseEnded { .. } if self.lease => {
                say(format_args!("lease over: may be a member no more, hands out nothing"));
            }
            Event::LeaseEnded { .. } => {
                say(format_args!("lease over, and not heeded: goes on handing out records"));
            }
            Event::LeaseRenewed { after, .. } => {
                say(format_args!("lease renewed after {} s", Seconds(*after)));
            }
            Event::SessionLost { cause, .. } => say(format_args!("session lost: {}", why(cause))),
            Event::CommitFailed { error, .. } if before.unheard && error.kind() == ErrorKind::Timeout => {}
            Event::CommitFailed { error, .. } => say(format_args!("a commit failed: {error}")),
            Event::JoinFailed { error, .. } => say(format_args!("joining failed: {error}")),
            Event::GroupFailed { error, .. } => {
                say(format_args!("refused by the group: {}", with_causes(error)));
            }
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In one word, if there is one.
fn why(cause: &ottla::Error) -> String {
    cause.broker_code().map_or_else(|| with_causes(cause), |code| code.to_string())
}

/// The numbers of partitions; there is only one topic.
struct Numbers<'a>(&'a [TopicPartition]);

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, partition) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{}", partition.partition())?;
        }
        Ok(())
    }
}
