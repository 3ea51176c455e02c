//! Whether a history is as it should be.
//!
//! ```text
//!   events ──▶ tables (columns) ──▶ logs (what is where) ──▶ sends, polls, groups, run ──▶ findings ──▶ Report
//! ```
//!
//! With the brokers' logs and stored commits in the history (`log`, `stored`) those are the truth. Without, acknowledgements
//! and polls are put together, as Jepsen's Kafka workload does it. What is done for each event is linear, or sorts
//! once; only commits that go back, and the ends of ownerships, are looked up one by one.

mod findings;
mod groups;
mod logs;
mod polls;
mod run;
mod sends;
mod tables;
mod timeline;

use std::collections::BTreeMap;

use ottla::TopicPartition;

use self::{
    findings::Findings,
    logs::Logs,
    tables::{Commit, Fate, Lane, Reader, Tables},
};
use super::{
    event::{Actor, Event},
    report::{Counts, Report, Violation},
};

/// A record that a group processed again, for a reason that is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twice {
    /// Of which partition.
    pub partition: TopicPartition,
    /// At which offset.
    pub offset: i64,
    /// The member that had processed it.
    pub first: Actor,
    /// The member that processed it again.
    pub again: Actor,
}

/// Takes a history event by event, and judges it.
#[derive(Debug, Default)]
pub struct Checker {
    tables: Tables,
    findings: Findings,
}

/// What [`Checker::finish`] needs for all events together. A history that fits checks itself in one call.
pub fn check<'e>(events: impl IntoIterator<Item = &'e Event>) -> Report {
    let mut checker = Checker::new();
    events.into_iter().for_each(|event| checker.event(event));
    checker.finish()
}

impl Checker {
    /// Has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next event.
    pub fn event(&mut self, event: &Event) {
        let place = self.tables.add(event);
        run::event(&self.tables, place, event, &mut self.findings);
    }

    /// The verdict.
    #[must_use]
    pub fn finish(mut self) -> Report {
        let mut tables = std::mem::take(&mut self.tables);
        let findings = &mut self.findings;
        for (place, text) in std::mem::take(&mut tables.malformed) {
            findings.add(super::Anomaly::Malformed, findings::Focus::event(place), || {
                let happened = format!("{text}, at {}", tables.second(place));
                ("a history that does not contradict itself".to_owned(), happened)
            });
        }
        run::progress(&tables, findings);
        let logs = Logs::new(&tables, findings);
        sends::check(&tables, &logs, findings);
        let mut counts = count(&tables);
        let twice = check_lanes(&mut tables, &logs, findings, &mut counts);
        let violations = std::mem::take(&mut findings.told).into_iter().map(|finding| Violation {
            anomaly: finding.anomaly,
            timeline: timeline::around(&tables, &logs, finding.focus),
            expected: finding.expected,
            happened: finding.happened,
        });
        let mut violations: Vec<Violation> = violations.collect();
        let weight = |violation: &Violation| super::Anomaly::ALL.iter().position(|a| *a == violation.anomaly);
        violations.sort_by_key(weight);
        Report { violations, found: std::mem::take(&mut findings.counts), counts, twice }
    }
}

/// Each partition of each reader.
fn check_lanes(tables: &mut Tables, logs: &Logs, findings: &mut Findings, counts: &mut Counts) -> Vec<Twice> {
    let commits: BTreeMap<Lane, Vec<Commit>> = groups::commits(tables);
    groups::stored(tables, &commits, findings);
    // Stable: in each lane the order of events stays.
    let mut steps = std::mem::take(&mut tables.steps);
    steps.sort_by_key(|step| step.lane);
    let mut twice = Vec::new();
    let acknowledged = groups::acknowledged(tables);
    let of_lane = |lane: &Lane| groups::Committed {
        commits: commits.get(lane).map_or(&[][..], Vec::as_slice),
        acknowledged: acknowledged.get(lane).map(Vec::as_slice),
    };
    for steps in steps.chunk_by(|one, other| one.lane == other.lane) {
        let lane = *tables.lanes.of(steps[0].lane);
        match lane.reader {
            Reader::Alone(_) => polls::check(tables, logs, lane, steps, findings),
            Reader::Group(_) => {
                let verdict = groups::check(tables, logs, (lane, steps, of_lane(&lane)), findings);
                counts.processed += verdict.processed;
                twice.extend(verdict.twice);
            }
        }
    }
    for lane in groups::partitions_without_owner(tables) {
        groups::check(tables, logs, (lane, &[], of_lane(&lane)), findings);
    }
    tables.steps = steps;
    twice
}

fn count(tables: &Tables) -> Counts {
    let sent = |fate: fn(Fate) -> bool| tables.sends.iter().filter(|send| fate(send.fate)).count();
    Counts {
        events: tables.times.len(),
        sent: tables.sends.len(),
        acknowledged: sent(|fate| matches!(fate, Fate::Written(_))),
        not_written: sent(|fate| fate == Fate::NotWritten),
        in_doubt: sent(|fate| fate == Fate::PossiblyWritten),
        polled: tables.seen.iter().filter(|seen| seen.source == tables::Source::Polled).count(),
        processed: 0,
        commits: tables.commits.len(),
        faults: tables.marks.len() - tables.heals.len(),
    }
}
