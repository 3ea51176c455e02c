//! When nothing comes: is there nothing, or does something not work?

use std::time::Duration;

use ottla::{Client, Consumer, Event, Events, TopicPartition};
use tokio::time::Instant;

use crate::{
    bounds,
    output::{Failure, with_causes},
};

/// So many partitions are explained; what holds one up mostly holds up all.
const EXPLAINED: usize = 5;

/// Makes sure that everything that is in these partitions was read. A consumer at what was their end when their leaders
/// last answered cannot know, hence they are asked.
pub(super) async fn is_of_the_end(consumer: &Consumer, partitions: &[TopicPartition]) -> Result<(), String> {
    let ends = consumer.end_offsets(partitions.iter().cloned());
    let Ok(Ok(ends)) = tokio::time::timeout(bounds::LAST_LOOK, ends).await else {
        return Err(explained(consumer, partitions));
    };
    let is_unread = |(partition, end): &(TopicPartition, i64)| {
        consumer.position(partition).is_none_or(|position| position < *end)
    };
    let unread: Vec<_> = ends.into_iter().filter(is_unread).map(|(partition, _)| partition).collect();
    if unread.is_empty() { Ok(()) } else { Err(explained(consumer, &unread)) }
}

/// Why these do not get on.
pub(super) fn explained(consumer: &Consumer, partitions: &[TopicPartition]) -> String {
    let explain = |partition: &TopicPartition| format!("{partition}: {}", consumer.explain(partition));
    let mut why: Vec<_> = partitions.iter().take(EXPLAINED).map(explain).collect();
    if partitions.len() > EXPLAINED {
        why.push(format!("and {} more partitions", partitions.len() - EXPLAINED));
    }
    why.join("; ")
}

/// Nothing came for so long, and not because there is nothing.
pub(super) fn failure(silence: Duration, why: &str) -> Failure {
    let seconds = silence.as_secs();
    Failure::new(format!(
        "nothing came for {seconds} s, and the end is not reached; a longer --timeout waits longer. {why}"
    ))
}

/// Whether a member gets anywhere, by what its client tells.
pub(super) struct Watch {
    events: Events,
    since: Instant,
    has_joined: bool,
    /// What did not work last, if nothing has since.
    trouble: Option<String>,
}

impl Watch {
    pub(super) fn new(client: &Client) -> Self {
        Self { events: client.events(), since: Instant::now(), has_joined: false, trouble: None }
    }

    /// Waits until the group could not be joined for so long that nobody should wait any more. A member waits for its group
    /// however long that takes, since it was one once. Cancel safe.
    pub(super) async fn has_failed(&mut self, group: &str) -> Failure {
        loop {
            let given_up = self.since + bounds::JOIN;
            let trouble = self.trouble.as_ref().filter(|_| !self.has_joined);
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Some(event) => self.on(&event),
                    None => std::future::pending().await,
                },
                () = tokio::time::sleep_until(given_up), if trouble.is_some() => {
                    let why = trouble.map(String::as_str).unwrap_or_default();
                    let waited = self.since.elapsed().as_secs();
                    return Failure::new(format!("{group} could not be joined within {waited} s: {why}"));
                }
            }
        }
    }

    /// Why nothing may come though there is something; `None`: as far as the group is concerned it would.
    pub(super) fn trouble(&self) -> Option<&str> {
        let not_joined = (!self.has_joined).then_some("not a member of the group yet");
        self.trouble.as_deref().or(not_joined)
    }

    fn on(&mut self, event: &Event) {
        match event {
            Event::JoinFailed { error, .. }
            | Event::CoordinatorNotFound { error, .. }
            | Event::CommitFailed { error, .. }
            | Event::SessionLost { cause: error, .. } => self.trouble = Some(with_causes(error)),
            Event::LeaseEnded { .. } if self.trouble.is_none() => {
                self.trouble = Some("the group is not heard of".to_owned());
            }
            Event::GroupJoined { .. } => {
                self.has_joined = true;
                self.trouble = None;
            }
            Event::CoordinatorChanged { .. }
            | Event::OffsetsCommitted { .. }
            | Event::LeaseRenewed { .. } => {
                self.trouble = None;
            }
            _ => {}
        }
    }
}
