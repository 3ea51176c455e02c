//! What the client did when, from the events of the client itself.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ottla::{Event, Events, TopicPartition};
use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};

use super::{report::Seconds, screen::Screen};
use crate::output::Failure;

/// Follows one client, shows what happens to its membership, and remembers what the report needs.
pub(super) struct Diary<'a> {
    screen: &'a Screen,
    membership: Mutex<Membership>,
    committed: Notify,
}

/// How the membership fared.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Membership {
    pub(super) sessions_lost: u64,
    /// From the first loss until partitions were owned again.
    pub(super) regained_after: Option<Duration>,
    lost_at: Option<Instant>,
}

impl<'a> Diary<'a> {
    pub(super) fn new(screen: &'a Screen) -> Self {
        Self { screen, membership: Mutex::default(), committed: Notify::new() }
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
            self.remember(&event);
            self.show(&event);
        }
        Ok(())
    }

    pub(super) fn membership(&self) -> Membership {
        *self.lock()
    }

    /// Ready after the next commit that the group acknowledges, counted from this call.
    pub(super) fn next_commit(&self) -> Notified<'_> {
        self.committed.notified()
    }

    fn remember(&self, event: &Event) {
        let mut membership = self.lock();
        match event {
            Event::SessionLost { .. } => {
                membership.sessions_lost += 1;
                membership.lost_at.get_or_insert_with(Instant::now);
            }
            Event::PartitionsAssigned { .. } => {
                if let Some(lost_at) = membership.lost_at {
                    membership.regained_after.get_or_insert_with(|| lost_at.elapsed());
                }
            }
            Event::OffsetsCommitted { .. } => self.committed.notify_waiters(),
            _ => {}
        }
    }

    fn show(&self, event: &Event) {
        let say = |what: fmt::Arguments<'_>| self.screen.line("client", what);
        match event {
            Event::GroupJoined { generation, .. } => say(format_args!("joined, generation {generation}")),
            Event::PartitionsAssigned { partitions, .. } => {
                say(format_args!("owns partitions {}", Numbers(partitions)));
            }
            Event::PartitionsRevoked { partitions, .. } => {
                say(format_args!("gave back partitions {}", Numbers(partitions)));
            }
            Event::PartitionsLost { partitions, .. } => {
                say(format_args!("owns partitions {} no more", Numbers(partitions)));
            }
            Event::SessionLost { cause, .. } => say(format_args!("session lost: {cause:#}")),
            Event::LeaseEnded { .. } => say(format_args!("lease ended: hands out nothing any more")),
            Event::LeaseRenewed { after, .. } => {
                say(format_args!("lease renewed, {} s after it ended", Seconds(*after)));
            }
            Event::HeartbeatFailed { error, .. } => say(format_args!("heartbeat failed: {error}")),
            Event::CommitFailed { error, .. } => say(format_args!("commit failed: {error:#}")),
            Event::GroupFailed { error, .. } => say(format_args!("refused by the group: {error:#}")),
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Membership> {
        self.membership.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
