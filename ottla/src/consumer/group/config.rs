//! What a member of a group is told.

use std::{fmt, ops::RangeInclusive, sync::Arc, time::Duration};

use ottla_core::{fetch::Reset, group::Assignor};
use ottla_protocol::Str;

use super::listener::Listener;
use crate::config::Reader;

/// The settings of a consumer that has a group.
#[derive(Clone)]
pub(in crate::consumer) struct GroupConfig {
    pub(in crate::consumer) id: Str,
    pub(in crate::consumer) instance_id: Option<Str>,
    pub(in crate::consumer) assignors: Vec<Assignor>,
    pub(in crate::consumer) session_timeout: Duration,
    pub(in crate::consumer) heartbeat_interval: Duration,
    pub(in crate::consumer) rebalance_timeout: Duration,
    pub(in crate::consumer) drain_timeout: Duration,
    /// How long nothing may happen with what was handed out; `None`: for ever.
    pub(in crate::consumer) processing_timeout: Option<Duration>,
    /// How often completed offsets are committed by themselves; `None`: only when the user says so.
    pub(in crate::consumer) auto_commit: Option<Duration>,
    pub(in crate::consumer) on_missing_offset: Reset,
    /// Whether records wait for the lease.
    pub(in crate::consumer) lease_gate: bool,
    pub(in crate::consumer) listener: Option<Arc<dyn Listener>>,
}

impl fmt::Debug for GroupConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupConfig").field("id", &self.id).finish_non_exhaustive()
    }
}

impl GroupConfig {
    /// How long the answer to a commit, or to the question what is committed, is waited for: one that gets lost must not
    /// take a session's time.
    pub(in crate::consumer) fn answer_timeout(&self, request_timeout: Duration) -> Duration {
        (self.session_timeout / ANSWERS_PER_SESSION).max(SHORTEST_ANSWER).min(request_timeout)
    }
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
/// A lease has a second of margin, so that nothing would ever be handed out in a shorter session.
const SESSION: RangeInclusive<Duration> = Duration::from_secs(2)..=DAY;
/// The longest that Java can say, and that is how it says never.
const PROCESSING: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_millis(i32::MAX as u64);
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(1)..=DAY;
/// So many heartbeats have to fit into a session: one may be lost, and its successor late.
const HEARTBEATS_PER_SESSION: u32 = 3;
const ANSWERS_PER_SESSION: u32 = 3;
/// Brokers wait for their followers for so long before they answer a commit.
const SHORTEST_ANSWER: Duration = Duration::from_secs(5);

impl GroupConfig {
    /// The settings of the group; `None` when there is no `group.id`.
    pub(in crate::consumer) fn read(
        reader: &mut Reader<'_>,
        on_missing_offset: Reset,
        code: &GroupCode,
    ) -> Option<Self> {
        let Some(id) = reader.text("group.id") else {
            if code.listener.is_some() {
                reader.problem("group.id", "a rebalance listener belongs to a group");
            }
            return None;
        };
        if id.is_empty() {
            reader.problem("group.id", "a name that is not empty");
        }
        let session_timeout = reader.duration("session.timeout.ms", 45 * SECOND, SESSION);
        let rebalance_timeout = reader.duration("rebalance.timeout.ms", 60 * SECOND, SESSION);
        let processing_timeout = reader.duration("processing.timeout.ms", 300 * SECOND, PROCESSING);
        let auto_commit = reader.flag("enable.auto.commit", true);
        let auto_commit_interval = reader.duration("auto.commit.interval.ms", SECOND, INTERVAL);
        Some(Self {
            id: Str::from(id.as_str()),
            instance_id: instance_id(reader),
            assignors: assignors(reader),
            session_timeout,
            heartbeat_interval: heartbeat_interval(reader, session_timeout, rebalance_timeout),
            rebalance_timeout,
            drain_timeout: drain_timeout(reader, rebalance_timeout),
            processing_timeout: Some(processing_timeout).filter(|timeout| !timeout.is_zero()),
            auto_commit: auto_commit.then_some(auto_commit_interval),
            on_missing_offset,
            lease_gate: code.lease_gate,
            listener: code.listener.clone(),
        })
    }
}

/// What only a program can say, and no file.
#[derive(Clone)]
pub(in crate::consumer) struct GroupCode {
    pub(in crate::consumer) listener: Option<Arc<dyn Listener>>,
    pub(in crate::consumer) lease_gate: bool,
}

impl Default for GroupCode {
    fn default() -> Self {
        Self { listener: None, lease_gate: true }
    }
}

fn instance_id(reader: &mut Reader<'_>) -> Option<Str> {
    let id = reader.text("group.instance.id")?;
    if id.is_empty() {
        reader.problem("group.instance.id", "a name that is not empty");
    }
    Some(Str::from(id.as_str()))
}

/// A third of the session unless the user says otherwise, at most 3 s.
fn heartbeat_interval(reader: &mut Reader<'_>, session: Duration, rebalance: Duration) -> Duration {
    let longest = session.min(rebalance) / HEARTBEATS_PER_SESSION;
    let interval = reader.duration("heartbeat.interval.ms", (3 * SECOND).min(longest), INTERVAL);
    if interval > longest {
        let allowed = "at most a third of session.timeout.ms and of rebalance.timeout.ms";
        reader.problem("heartbeat.interval.ms", allowed);
    }
    interval
}

/// Half of the time that the group waits, unless the user says otherwise, at most 10 s.
fn drain_timeout(reader: &mut Reader<'_>, rebalance: Duration) -> Duration {
    let timeout = reader.duration("drain.timeout.ms", (10 * SECOND).min(rebalance / 2), Duration::ZERO..=DAY);
    if timeout >= rebalance {
        reader.problem("drain.timeout.ms", "less than rebalance.timeout.ms, for which the group waits");
    }
    timeout
}

fn assignors(reader: &mut Reader<'_>) -> Vec<Assignor> {
    let allowed = "cooperative-sticky or range, or both with a comma between them, or Java's names for them";
    reader
        .parsed(
            "partition.assignment.strategy",
            Assignor::CooperativeSticky.name(),
            allowed,
            assignors_from_text,
        )
        .unwrap_or_else(|| vec![Assignor::CooperativeSticky])
}

const JAVA_PACKAGE: &str = "org.apache.kafka.clients.consumer.";

fn assignors_from_text(text: &str) -> Option<Vec<Assignor>> {
    let mut assignors = Vec::new();
    for name in text.split(',') {
        let name = name.trim();
        let assignor = match name.strip_prefix(JAVA_PACKAGE).unwrap_or(name) {
            "cooperative-sticky" | "CooperativeStickyAssignor" => Assignor::CooperativeSticky,
            "range" | "RangeAssignor" => Assignor::Range,
            _ => return None,
        };
        if !assignors.contains(&assignor) {
            assignors.push(assignor);
        }
    }
    Some(assignors)
}

pub(in crate::consumer) fn assignors_to_text(assignors: impl IntoIterator<Item = Assignor>) -> String {
    assignors.into_iter().map(Assignor::name).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Error, Result,
        config::{Properties, Settings},
    };

    fn read(pairs: &[(&str, &str)]) -> Result<Option<GroupConfig>> {
        let mut settings = Settings::default();
        settings.extend(&pairs.iter().copied().collect::<Properties>());
        let mut reader = Reader::new(&settings);
        let config = GroupConfig::read(&mut reader, Reset::Error, &GroupCode::default());
        reader.finish().map(|_| config)
    }

    fn billing(pairs: &[(&str, &str)]) -> GroupConfig {
        let pairs: Vec<_> = pairs.iter().copied().chain([("group.id", "billing")]).collect();
        read(&pairs).unwrap().unwrap()
    }

    fn keys(error: &Error) -> Vec<&str> {
        error.config().iter().map(|problem| problem.key()).collect()
    }

    #[test]
    fn without_a_group_there_is_no_member() {
        assert!(read(&[("session.timeout.ms", "6000")]).unwrap().is_none());
    }

    #[test]
    fn defaults_are_those_of_kafka_but_for_the_time_that_the_group_waits() {
        let config = billing(&[]);
        assert_eq!(config.assignors, [Assignor::CooperativeSticky]);
        assert_eq!((config.session_timeout, config.heartbeat_interval), (45 * SECOND, 3 * SECOND));
        assert_eq!((config.rebalance_timeout, config.drain_timeout), (60 * SECOND, 10 * SECOND));
        assert_eq!(config.processing_timeout, Some(300 * SECOND));
        assert_eq!(config.auto_commit, Some(SECOND));
    }

    #[test]
    fn a_short_session_has_short_heartbeats_by_itself() {
        let config = billing(&[("session.timeout.ms", "6000")]);
        assert_eq!(config.heartbeat_interval, 2 * SECOND);
        assert_eq!(billing(&[("rebalance.timeout.ms", "6000")]).drain_timeout, 3 * SECOND);
    }

    #[test]
    fn assignors_have_a_name_in_java_and_one_in_librdkafka() {
        let both = [Assignor::Range, Assignor::CooperativeSticky];
        let java = "org.apache.kafka.clients.consumer.RangeAssignor, \
                    org.apache.kafka.clients.consumer.CooperativeStickyAssignor";
        for text in [java, "range,cooperative-sticky", "range,cooperative-sticky,range"] {
            assert_eq!(billing(&[("partition.assignment.strategy", text)]).assignors, both, "{text}");
        }
        assert_eq!(assignors_from_text(&assignors_to_text(both)).as_deref(), Some(&both[..]));
        for text in ["", "roundrobin", "range,", "org.apache.kafka.clients.consumer.StickyAssignor"] {
            assert_eq!(assignors_from_text(text), None, "{text}");
        }
    }

    #[test]
    fn the_limit_on_processing_has_java_s_name_and_can_be_lifted_in_java_s_way() {
        let limit = |millis| billing(&[("max.poll.interval.ms", millis)]).processing_timeout;
        assert_eq!(limit("600000"), Some(600 * SECOND));
        assert_eq!(limit("2147483647"), Some(Duration::from_millis(2_147_483_647)));
        assert_eq!(limit("0"), None);
        assert_eq!(billing(&[("max.poll.interval.ms", "600000")]).rebalance_timeout, 60 * SECOND);
    }

    #[test]
    fn what_cannot_work_together_is_refused() {
        let group = ("group.id", "billing");
        let slow_heartbeats = [group, ("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "2001")];
        assert_eq!(keys(&read(&slow_heartbeats).err().unwrap()), ["heartbeat.interval.ms"]);
        let slow_drain = [group, ("rebalance.timeout.ms", "10000"), ("drain.timeout.ms", "10000")];
        assert_eq!(keys(&read(&slow_drain).err().unwrap()), ["drain.timeout.ms"]);
        let nameless = [("group.id", ""), ("group.instance.id", "")];
        assert_eq!(keys(&read(&nameless).err().unwrap()), ["group.id", "group.instance.id"]);
    }
}
