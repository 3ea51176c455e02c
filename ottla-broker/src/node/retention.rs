//! `retention.ms` and `retention.bytes`: what the leader of a partition drops by itself every now and then.

use std::time::Duration;

use super::{Node, Timer};
use crate::image::Topic;
use crate::io::Now;

/// How long, and how much of, the records of a topic are kept; nothing of what is not bounded.
struct Retention {
    time_ms: Option<i64>,
    bytes: Option<u64>,
}

impl Node {
    pub(super) fn arm_retention(&mut self, now: Now) {
        let interval = self.config.retention_check_interval.max(Duration::from_millis(1));
        self.timers.insert((now.monotonic + interval, Timer::Retention));
    }

    /// Followers drop what their leaders drop.
    pub(super) fn expire_records(&mut self, now: Now) {
        self.arm_retention(now);
        let led: Vec<_> = self
            .replicas
            .values()
            .filter(|replica| replica.leader().is_some())
            .map(|replica| replica.key)
            .collect();
        for key in led {
            let Some(retention) = self.image.topic_by_id(key.0).and_then(|topic| retention(topic)) else {
                continue;
            };
            let before_ms = retention.time_ms.map(|time| now.wall_ms.saturating_sub(time));
            self.with_replica(key, |replica, effects| {
                replica.expire(now, before_ms, retention.bytes, effects)
            });
        }
    }
}

/// `None` for a topic that keeps everything.
fn retention(topic: &Topic) -> Option<Retention> {
    let time_ms = topic.number("retention.ms").filter(|time: &i64| *time >= 0);
    let bytes = topic.number("retention.bytes");
    (topic.is_deleting() && (time_ms.is_some() || bytes.is_some())).then_some(Retention { time_ms, bytes })
}
