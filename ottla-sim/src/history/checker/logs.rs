//! What is in each partition: the brokers' logs where the history has them, else what acknowledgements and polls say
//! together, as Jepsen does it.

use std::time::Duration;

use super::{
    findings::{Findings, Focus},
    tables::{NO_VALUE, Place, Seen, Source, Tables},
};
use crate::history::Anomaly;

/// All partitions, by number.
pub(super) struct Logs {
    pub(super) partitions: Vec<Log>,
    /// Value, partition, offset; sorted.
    places: Vec<(u32, u32, i64)>,
}

/// One partition.
#[derive(Default)]
pub(super) struct Log {
    /// By offset, each once.
    pub(super) entries: Vec<Entry>,
    /// Whether this is what the brokers have.
    pub(super) truth: bool,
    /// The highest offset that somebody polled.
    pub(super) polled_to: Option<i64>,
    /// Where it began, from when on; both ascending.
    begins: Vec<(Duration, i64)>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) offset: i64,
    pub(super) value: u32,
    pub(super) polled: bool,
    /// Where the history says so first.
    pub(super) place: Place,
}

impl Log {
    /// The first entry at or behind an offset.
    pub(super) fn rank(&self, offset: i64) -> usize {
        self.entries.partition_point(|entry| entry.offset < offset)
    }

    /// Whether all entries from one rank to another (which is not meant) were dropped from the log before `at`, and so may be
    /// passed.
    pub(super) fn dropped(&self, (from, to): (usize, usize), at: Duration) -> bool {
        let last = self.begins.partition_point(|(since, _)| *since <= at).checked_sub(1);
        let begin = last.map_or(i64::MIN, |last| self.begins[last].1);
        from < to && self.entries.get(to - 1).is_some_and(|entry| entry.offset < begin)
    }

    /// Whether the entry of that rank is in the log at the end.
    pub(super) fn is_left(&self, rank: usize) -> bool {
        !self.dropped((rank, rank + 1), Duration::MAX)
    }

    /// The entry at an offset.
    pub(super) fn find(&self, offset: i64) -> Option<usize> {
        let rank = self.rank(offset);
        self.entries.get(rank).filter(|entry| entry.offset == offset).map(|_| rank)
    }
}

impl Logs {
    /// Reports where accounts of an offset differ.
    pub(super) fn new(tables: &Tables, findings: &mut Findings) -> Self {
        let mut seen = tables.seen.clone();
        seen.sort_unstable();
        let mut partitions: Vec<Log> = Vec::new();
        partitions.resize_with(tables.partitions.len(), Log::default);
        for partition in &tables.truth {
            partitions[*partition as usize].truth = true;
        }
        for (partition, begins) in &tables.begins {
            let mut begins = begins.clone();
            begins.sort_unstable();
            // A broker that leads no more may have dropped more than its successor, and told it to readers.
            let mut furthest = i64::MIN;
            for (_, begin) in &mut begins {
                furthest = furthest.max(*begin);
                *begin = furthest;
            }
            partitions[*partition as usize].begins = begins;
        }
        for same_offset in seen.chunk_by(|a, b| (a.partition, a.offset) == (b.partition, b.offset)) {
            let log = &mut partitions[same_offset[0].partition as usize];
            merge(tables, log, same_offset, findings);
        }
        let mut places = Vec::new();
        for (number, log) in partitions.iter().enumerate() {
            let known = log.entries.iter().filter(|entry| entry.value != NO_VALUE);
            places.extend(known.map(|entry| (entry.value, number as u32, entry.offset)));
        }
        places.sort_unstable();
        Self { partitions, places }
    }

    pub(super) fn of(&self, partition: u32) -> &Log {
        &self.partitions[partition as usize]
    }

    /// Where a value is: value, partition, offset.
    pub(super) fn places(&self, value: u32) -> &[(u32, u32, i64)] {
        let from = self.places.partition_point(|(other, ..)| *other < value);
        let length = self.places[from..].partition_point(|(other, ..)| *other == value);
        &self.places[from..from + length]
    }

    /// All values that are somewhere, each with its places.
    pub(super) fn values(&self) -> impl Iterator<Item = &[(u32, u32, i64)]> {
        self.places.chunk_by(|(one, ..), (other, ..)| one == other)
    }
}

/// What all say about one offset. The log's word comes first, since that is how they are sorted.
fn merge(tables: &Tables, log: &mut Log, same: &[Seen], findings: &mut Findings) {
    let polled = same.iter().any(|seen| seen.source == Source::Polled);
    let known = same.iter().find(|seen| seen.value != NO_VALUE).unwrap_or(&same[0]);
    let focus = |seen: &Seen| Focus::on(known.partition, Some(known.offset), seen.place).of(seen.value);
    if polled {
        log.polled_to = Some(known.offset);
    }
    if log.truth && same[0].source != Source::Log {
        // What was acknowledged and is not there is found among the sends.
        if let Some(poll) = same.iter().find(|seen| seen.source == Source::Polled) {
            findings.add(Anomaly::InconsistentOffsets, focus(poll), || {
                let expected =
                    format!("nothing to be read at offset {} of a log that has nothing there", poll.offset);
                (expected, format!("{} was read", tables.value(poll.value)))
            });
        }
        return;
    }
    let same_source = |one: &Seen, other: &Seen| one.source == other.source;
    let duplicate =
        log.truth && same.chunk_by(same_source).any(|of| of[0].source == Source::Log && of.len() > 1);
    let other = same.iter().find(|seen| seen.value != known.value && seen.value != NO_VALUE);
    if let Some(other) = other {
        findings.add(Anomaly::InconsistentOffsets, focus(other), || {
            let says = |seen: &Seen| {
                let who = match seen.source {
                    Source::Log => "the log has",
                    Source::Acknowledged => "acknowledged is",
                    Source::Polled => "polled was",
                };
                format!("{who} {}", tables.value(seen.value))
            };
            let expected =
                format!("one value at offset {} of {}", known.offset, tables.partitions.of(known.partition));
            (expected, format!("{}, {}", says(known), says(other)))
        });
    } else if duplicate {
        findings.add(Anomaly::Malformed, focus(known), || {
            ("each offset of a log to be told once".to_owned(), format!("{} is told twice", known.offset))
        });
    }
    log.entries.push(Entry { offset: known.offset, value: known.value, polled, place: known.place });
}
