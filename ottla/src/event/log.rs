//! Events as log lines.

use std::{fmt, time::Duration};

use super::Event;
use crate::TopicPartition;

/// A warning, or a line for whoever debugs if the same was said a moment ago: what does not work is tried again every
/// second, and a log that repeats it hides everything else.
macro_rules! warn_if {
    ($due:expr, $($line:tt)+) => {
        if $due { tracing::warn!($($line)+) } else { tracing::debug!($($line)+) }
    };
}

impl Event {
    /// Of what can go on failing: what it is that does, and for how long nobody needs to hear of it. Then one of these
    /// events is worth a warning, and the next ones are not for a while.
    pub(super) fn failing(&self) -> Option<(&str, Duration)> {
        match self {
            Self::BrokerUnreachable { address, .. } => Some((address, Duration::ZERO)),
            Self::MetadataFailed { .. } => Some(("", Duration::ZERO)),
            // A cluster without groups begins to prepare for them when it is asked.
            Self::CoordinatorNotFound { group, .. } => Some((group, Duration::from_secs(3))),
            Self::JoinFailed { group, .. } | Self::CommitFailed { group, .. } => {
                Some((group, Duration::ZERO))
            }
            _ => None,
        }
    }

    /// The log line. Levels: WARN when somebody should look, INFO when it explains something else, DEBUG otherwise. `due`:
    /// what goes on failing is worth a warning now.
    pub(super) fn trace(&self, due: bool) {
        let event = self.name();
        match self {
            Self::BrokerConnected { node, address, lane } => {
                tracing::debug!(target: "ottla", event, node, %address, lane, "connected");
            }
            // Clusters are restarted all the time: nobody should be woken by it.
            Self::BrokerDisconnected { node, address, lane, error } => {
                tracing::info!(target: "ottla", event, node, %address, lane, error = format_args!("{error:#}"), "disconnected");
            }
            Self::BrokerUnreachable { node, address, error } => {
                warn_if!(due, target: "ottla", event, node, %address, error = format_args!("{error:#}"), "cannot connect");
            }
            Self::Throttled { node, duration } => {
                tracing::info!(target: "ottla", event, node, ?duration, "throttled by a quota of the broker");
            }
            Self::MetadataRefreshed { version, brokers, topics } => {
                tracing::debug!(target: "ottla", event, version, brokers, topics, "cluster metadata changed");
            }
            Self::MetadataFailed { error } => {
                warn_if!(due, target: "ottla", event, error = format_args!("{error:#}"), "no broker answers");
            }
            Self::CoordinatorChanged { group, from, to } => {
                tracing::info!(target: "ottla", event, %group, from, to, "coordinator found");
            }
            Self::CoordinatorNotFound { group, error } => {
                warn_if!(due, target: "ottla", event, %group, error = format_args!("{error:#}"), "no coordinator");
            }
            Self::BatchProduced { topic_partition, records, bytes, attempts, elapsed, offset } => {
                tracing::trace!(target: "ottla", event, %topic_partition, records, bytes, attempts, ?elapsed, offset, "batch written");
            }
            Self::BatchFailed { topic_partition, records, attempts, error } => {
                tracing::warn!(target: "ottla", event, %topic_partition, records, attempts, error = format_args!("{error:#}"), "batch failed");
            }
            Self::Fetched { node, partitions, bytes } => {
                tracing::trace!(target: "ottla", event, node, partitions, bytes, "fetched");
            }
            Self::PositionReset { topic_partition, from, to, reason } => {
                tracing::info!(target: "ottla", event, %topic_partition, from, to, reason, "position reset");
            }
            Self::PartitionHeld { topic_partition, error } => {
                tracing::warn!(target: "ottla", event, %topic_partition, error = format_args!("{error:#}"), "partition held");
            }
            Self::TopicAbsent { topic, error } => {
                tracing::warn!(target: "ottla", event, %topic, error = format_args!("{error:#}"), "topic cannot be read");
            }
            Self::RecordsSkipped { topic_partition, from, to, reason } => {
                tracing::warn!(target: "ottla", event, %topic_partition, from, to, %reason, "records skipped");
            }
            // It exists only in a reader's queue.
            Self::Missed { .. } => {}
            Self::ClientClosed => tracing::debug!(target: "ottla", event, "client closed"),
            group => group.trace_group(due),
        }
    }

    /// [`Self::trace`] for what happens in groups.
    fn trace_group(&self, due: bool) {
        let event = self.name();
        match self {
            Self::GroupJoined { group, member, generation, leader } => {
                tracing::info!(target: "ottla", event, %group, %member, generation, leader, "joined");
            }
            Self::PartitionsAssigned { group, partitions } => {
                tracing::info!(target: "ottla", event, %group, partitions = %List(partitions), "partitions assigned");
            }
            Self::PartitionsRevoked { group, partitions } => {
                tracing::info!(target: "ottla", event, %group, partitions = %List(partitions), "partitions revoked");
            }
            Self::PartitionsLost { group, partitions, cause } => {
                tracing::warn!(target: "ottla", event, %group, partitions = %List(partitions), cause = format_args!("{cause:#}"), "partitions lost");
            }
            Self::SessionLost { group, cause } => {
                tracing::warn!(target: "ottla", event, %group, cause = format_args!("{cause:#}"), "session lost");
            }
            Self::ProcessingStalled { group, topic_partition, error } => {
                tracing::warn!(target: "ottla", event, %group, %topic_partition, error = format_args!("{error:#}"), "the program has stopped working");
            }
            Self::LeaseEnded { group } => {
                tracing::warn!(target: "ottla", event, %group, "lease ended: no record is handed out");
            }
            Self::LeaseRenewed { group, after } => {
                tracing::info!(target: "ottla", event, %group, ?after, "lease renewed");
            }
            Self::JoinFailed { group, error } => {
                warn_if!(due, target: "ottla", event, %group, error = format_args!("{error:#}"), "not joined yet");
            }
            Self::HeartbeatFailed { group, error } => {
                tracing::info!(target: "ottla", event, %group, error = format_args!("{error:#}"), "heartbeat failed");
            }
            Self::OffsetsCommitted { group, partitions, .. } => {
                tracing::debug!(target: "ottla", event, %group, partitions, "committed");
            }
            Self::CommitFailed { group, error } => {
                warn_if!(due, target: "ottla", event, %group, error = format_args!("{error:#}"), "commit failed");
            }
            Self::ListenerFailed { group, method, error } => {
                tracing::warn!(target: "ottla", event, %group, method, error = format_args!("{error:#}"), "rebalance listener failed");
            }
            Self::GroupFailed { group, error } => {
                tracing::error!(target: "ottla", event, %group, error = format_args!("{error:#}"), "the group refuses the consumer");
            }
            Self::GroupLeft { group } => tracing::info!(target: "ottla", event, %group, "left"),
            _ => {}
        }
    }
}

/// Partitions in a log line.
struct List<'a>(&'a [TopicPartition]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, partition) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(f, "{separator}{partition}")?;
        }
        Ok(())
    }
}
