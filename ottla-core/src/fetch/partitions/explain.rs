//! Why a partition does not move, in one line.

use std::{fmt::Write as _, time::Instant};

use super::{
    super::cursor::{Cursor, Paused, Phase, Target},
    Partitions,
};

impl Partitions {
    /// Why the partition does not move, or that it does.
    #[must_use]
    pub fn explain(&self, topic: &str, partition: i32, now: Instant) -> String {
        let Some(cursor) = self.cursor(topic, partition) else { return "not assigned".to_owned() };
        if let Phase::Held { trouble, .. } = &cursor.phase {
            return format!("held until a seek: {trouble}");
        }
        if let Some(pause) = cursor.pauses.first() {
            return explain_pause(pause, cursor.pauses.len() - 1, now);
        }
        if !cursor.queue.is_empty() {
            let bytes = cursor.queue.bytes();
            return format!("waits for poll: {bytes} bytes from offset {} are buffered", cursor.offset());
        }
        cursor.explain_road(now).unwrap_or_else(|| self.explain_fetching(cursor, now))
    }

    fn explain_fetching(&self, cursor: &Cursor, now: Instant) -> String {
        let (held, share) = (cursor.account.held(), self.share());
        if held > 0 && (held >= share || self.budget.used() >= self.budget.limit()) {
            return format!(
                "waits for memory: {held} bytes are in batches that were handed out and not dropped"
            );
        }
        let (at, end) = (cursor.fetch.offset, cursor.log.high_watermark);
        let instead = match cursor.returns_at(now).and(cursor.source(now)) {
            Some(node) => format!(" (broker {node} is read in place of the leader)"),
            None => String::new(),
        };
        match end {
            -1 => format!("waits for the first answer, at offset {at}"),
            end if at >= end => format!("at the end of the log, offset {at}{instead}"),
            end => {
                let behind = end - at;
                format!("being fetched at offset {at}; {behind} records behind the end of the log{instead}")
            }
        }
    }
}

fn explain_pause(paused: &Paused, others: usize, now: Instant) -> String {
    let seconds = now.saturating_duration_since(paused.since).as_secs();
    let mut line = format!("paused by {} for {seconds} s", paused.pause.owner());
    // Writing to a string cannot fail.
    if let Some(reason) = paused.pause.reason() {
        let _ = write!(line, ": {reason}");
    }
    if others > 0 {
        let _ = write!(line, " (and {others} other pauses)");
    }
    line
}

impl Cursor {
    fn offset(&self) -> i64 {
        self.position.map_or(self.fetch.offset, |position| position.offset)
    }

    /// What stands between the partition and its leader.
    fn explain_road(&self, now: Instant) -> Option<String> {
        let Some(leader) = self.leader else {
            return Some(match self.known {
                true => "has no leader: the cluster is electing one".to_owned(),
                false => "the cluster does not know this partition, or was not asked yet".to_owned(),
            });
        };
        if let (Some(at), Some(code)) = (self.retry.blocked(now), self.retry.last) {
            let wait = at.saturating_duration_since(now).as_millis();
            return Some(format!("broker {leader} answered {code}: tried again in {wait} ms"));
        }
        match &self.phase {
            Phase::Resolving { target: Target::Spec(spec), .. } => {
                Some(format!("asks broker {leader} for the offset of {spec:?}"))
            }
            Phase::Resolving { target: Target::Policy(policy), .. } => {
                Some(format!("lost its position: asks broker {leader} where to go on ({policy:?})"))
            }
            Phase::Validating => Some(format!(
                "asks broker {leader} whether its log is the one that was read up to {}",
                self.offset()
            )),
            _ => None,
        }
    }
}
