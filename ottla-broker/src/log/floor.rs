//! What is left of the records that a log has dropped at its beginning (`DeleteRecords`, retention).
//!
//! It is kept in a small file beside the log, and written before anything of the log goes: a log never begins earlier after
//! a crash than somebody was told. Of what was dropped it keeps what later batches are checked against: the last leader
//! epoch, and the last batches of idempotent producers, as Kafka keeps them in its snapshots (KIP-360).

use std::fmt::Write as _;

use super::BatchMeta;
use super::producers::Producers;

/// The name of the file [`FileId::ReplicaMeta`](crate::io::FileId::ReplicaMeta) that holds it.
pub const FLOOR: &str = "start";

/// The first line of the file.
const VERSION: &str = "ottla-log-start 1";

/// Where a log begins, and what is left of what was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    /// The first offset that can be read. The batch that holds it may begin before it.
    pub(crate) start_offset: i64,
    /// Where the first batch begins in the file: what is before is not read any more.
    pub(crate) position: u64,
    /// The leader epoch of the last batch that was dropped; -1 without one.
    pub(crate) last_epoch: i32,
    /// What the dropped batches tell of their producers.
    pub(crate) producers: Producers,
}

impl Default for Floor {
    fn default() -> Self {
        Self::at(0)
    }
}

impl Floor {
    /// Of a log of which nothing is known but where it begins.
    pub(crate) fn at(start_offset: i64) -> Self {
        Self { start_offset, position: 0, last_epoch: -1, producers: Producers::default() }
    }

    /// A batch, the next one, goes.
    pub(super) fn take(&mut self, batch: &BatchMeta) {
        self.position = batch.position + u64::from(batch.size);
        self.last_epoch = batch.leader_epoch;
        self.producers.remember(batch);
    }

    /// The first offset that can be read.
    #[must_use]
    pub fn start_offset(&self) -> i64 {
        self.start_offset
    }

    /// The content of the file.
    pub(crate) fn write(&self) -> String {
        let Self { start_offset, position, last_epoch, producers } = self;
        let mut file = format!("{VERSION}\nstart {start_offset} {position} {last_epoch}\n");
        for (id, epoch, batches) in producers.iter() {
            // Writing to a string does not fail.
            let _ = writeln!(file, "producer {id} {epoch}");
            for [first_sequence, last_sequence, base_offset, last_offset] in batches {
                let _ = writeln!(file, "batch {first_sequence} {last_sequence} {base_offset} {last_offset}");
            }
        }
        file
    }

    /// What a file says; `None` when it is not understood.
    #[must_use]
    pub fn read(file: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(file).ok()?.lines();
        (lines.next()? == VERSION).then_some(())?;
        let [start_offset, position, last_epoch] = numbers(lines.next()?.strip_prefix("start ")?)?;
        let mut floor = Self {
            start_offset,
            position: position.try_into().ok()?,
            last_epoch: last_epoch.try_into().ok()?,
            producers: Producers::default(),
        };
        let mut producer = None;
        for line in lines {
            if let Some(rest) = line.strip_prefix("producer ") {
                let [id, epoch] = numbers(rest)?;
                producer = Some(id);
                floor.producers.restore(id, epoch.try_into().ok()?);
            } else {
                let batch = numbers(line.strip_prefix("batch ")?)?;
                floor.producers.restore_batch(producer?, batch)?;
            }
        }
        Some(floor)
    }
}

fn numbers<const N: usize>(line: &str) -> Option<[i64; N]> {
    let numbers: Option<Vec<i64>> = line.split(' ').map(|number| number.parse().ok()).collect();
    numbers?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::{BatchMeta, Floor};

    #[test]
    fn what_was_written_is_read() {
        let mut floor = Floor::at(17);
        assert_eq!(Floor::read(floor.write().as_bytes()), Some(floor.clone()));
        for (producer_id, base_sequence) in [(9, 0), (9, 2), (4000, i32::MAX), (-1, -1)] {
            let (base_offset, last_offset) = (10, 11);
            let (position, size, leader_epoch, producer_epoch) = (300, 70, 4, 3);
            floor.take(&BatchMeta {
                base_offset,
                last_offset,
                position,
                size,
                leader_epoch,
                producer_id,
                base_sequence,
                producer_epoch,
                max_timestamp: 5,
            });
        }
        assert_eq!((floor.position, floor.last_epoch), (370, 4));
        assert_eq!(Floor::read(floor.write().as_bytes()), Some(floor));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let whole = Floor::at(17).write();
        for broken in ["", "ottla-log-start 2\nstart 0 0 -1\n", &whole[..whole.len() - 4], "\u{1}"] {
            assert_eq!(Floor::read(broken.as_bytes()), None, "{broken}");
        }
        for more in ["batch 1 1 1 1\n", "producer 1\n", "producer 1 99999\n", "nonsense\n"] {
            assert_eq!(Floor::read(format!("{whole}{more}").as_bytes()), None, "{more}");
        }
    }
}
