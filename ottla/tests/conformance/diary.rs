//! What a client tells of itself, and when: to wait for it, and to read afterwards.

use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use ottla::{Event, Events};
use tokio::sync::Notify;
use tokio::time::Instant;

/// The events of a client and what a scenario adds to them, with times.
pub(crate) struct Diary {
    begun: Instant,
    events: Mutex<Vec<(Duration, Event)>>,
    written: Notify,
}

impl Diary {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), events: Mutex::default(), written: Notify::new() }
    }

    /// Writes down the events while `scenario` runs. They are printed, as is the rest: `cargo test` shows it when the
    /// scenario fails, or with `--nocapture`.
    pub(crate) async fn keep_during<T>(&self, mut events: Events, scenario: impl Future<Output = T>) -> T {
        tokio::pin!(scenario);
        loop {
            tokio::select! {
                biased;
                event = events.recv() => self.write(event.expect("the client is open")),
                outcome = &mut scenario => return outcome,
            }
        }
    }

    /// Adds a line.
    pub(crate) fn note(&self, what: impl fmt::Display) {
        println!("{} ** {what}", Stamp(self.begun.elapsed()));
    }

    /// Waits for the first of these events from `since` on.
    pub(crate) async fn until(&self, since: Instant, wanted: impl Fn(&Event) -> bool) {
        while !self.has(since, &wanted) {
            self.written.notified().await;
        }
    }

    /// Whether there was such an event from `since` on.
    pub(crate) fn has(&self, since: Instant, wanted: impl Fn(&Event) -> bool) -> bool {
        let since = since.duration_since(self.begun);
        self.events().iter().any(|(at, event)| *at >= since && wanted(event))
    }

    fn write(&self, event: Event) {
        assert!(!matches!(event, Event::Missed { .. }), "the diary keeps up");
        let at = self.begun.elapsed();
        if let Some(line) = line(&event) {
            println!("{}    {} {line}", Stamp(at), event.name());
        }
        self.events().push((at, event));
        // One waits at a time, and it looks before it waits.
        self.written.notify_one();
    }

    fn events(&self) -> MutexGuard<'_, Vec<(Duration, Event)>> {
        self.events.lock().expect("nobody panics while writing")
    }
}

struct Stamp(Duration);

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:8.3} s", self.0.as_secs_f64())
    }
}

/// What a reader wants to know of an event; `None` for what happens all the time.
fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::BrokerConnected { node, lane, .. } => format!("node {node}, {lane}"),
        Event::BrokerDisconnected { node, lane, error, .. } => format!("node {node}, {lane}: {error:#}"),
        Event::MetadataFailed { error, .. } => format!("{error:#}"),
        Event::CoordinatorChanged { to, .. } => format!("to node {to}"),
        Event::BatchFailed { topic_partition, error, .. } => format!("{topic_partition}: {error:#}"),
        Event::PositionReset { topic_partition, from, to, reason, .. } => {
            format!("{topic_partition} from {from:?} to {to}: {reason}")
        }
        Event::PartitionHeld { topic_partition, error, .. } => format!("{topic_partition}: {error:#}"),
        Event::TopicAbsent { error, .. } => format!("{error:#}"),
        Event::GroupJoined { generation, leader, .. } => format!("generation {generation}, leader: {leader}"),
        Event::PartitionsAssigned { partitions, .. } | Event::PartitionsRevoked { partitions, .. } => {
            format!("{} of them", partitions.len())
        }
        Event::PartitionsLost { partitions, cause, .. } => format!("{} of them: {cause:#}", partitions.len()),
        Event::SessionLost { cause, .. } => format!("{cause:#}"),
        Event::ProcessingStalled { topic_partition, error, .. } => format!("{topic_partition}: {error:#}"),
        Event::LeaseEnded { .. } => "nothing is handed out".to_owned(),
        Event::LeaseRenewed { after, .. } => format!("after {:.3} s", after.as_secs_f64()),
        Event::CoordinatorNotFound { error, .. }
        | Event::JoinFailed { error, .. }
        | Event::HeartbeatFailed { error, .. }
        | Event::CommitFailed { error, .. }
        | Event::GroupFailed { error, .. }
        | Event::ListenerFailed { error, .. } => format!("{error:#}"),
        Event::OffsetsCommitted { partitions, .. } => format!("of {partitions} partitions"),
        Event::GroupLeft { .. } => String::new(),
        _ => return None,
    })
}
