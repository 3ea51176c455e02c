//! What a consumer without group reads: from its position on, without gaps, in order, to the end (INV-6, 13). It may pass
//! what the log has dropped by then.

use super::{
    findings::{Findings, Focus},
    logs::{Log, Logs},
    tables::{Did, Lane, Place, Step, Tables},
};
use crate::history::Anomaly;

/// Where a reader goes on.
#[derive(Clone, Copy)]
enum Next {
    Anywhere,
    /// At that place of the log.
    Rank(usize),
}

pub(super) fn check(tables: &Tables, logs: &Logs, lane: Lane, steps: &[Step], findings: &mut Findings) {
    let log = logs.of(lane.partition);
    // Who was never told where to begin, begins at the beginning; if that is known.
    let mut next = if log.truth { Next::Rank(0) } else { Next::Anywhere };
    let mut reads = true;
    let mut last_poll = None;
    for step in steps {
        match step.did {
            Did::Placed(Some(offset)) => (next, reads) = (Next::Rank(log.rank(offset)), true),
            Did::Placed(None) => (next, reads) = (Next::Anywhere, true),
            Did::Left => reads = false,
            Did::Polled(offset) => {
                let Some(rank) = log.find(offset) else { continue };
                if let Next::Rank(expected) = next
                    && !log.dropped((expected, rank), tables.at(step.place))
                {
                    let within = last_poll == Some(step.place);
                    found(tables, lane.partition, log, *step, (expected, rank), within, findings);
                }
                (next, last_poll) = (Next::Rank(rank + 1), Some(step.place));
            }
            Did::Assigned | Did::Gone(_) | Did::Processed(_) => {}
        }
    }
    if let Next::Rank(rank) = next
        && reads
        && log.truth
        && let Some(missing) = (rank..log.entries.len()).find(|rank| log.is_left(*rank))
    {
        let missing = &log.entries[missing];
        let actor = steps.last().map_or(0, |step| step.actor);
        let focus = Focus::on(lane.partition, Some(missing.offset), last_poll.unwrap_or_default());
        findings.add(Anomaly::Unseen, focus.of(missing.value), || {
            let partition = tables.partitions.of(lane.partition);
            let expected = format!("{} to read {partition} to its end", tables.name(actor));
            (expected, format!("it never got {} at offset {}", tables.value(missing.value), missing.offset))
        });
    }
}

/// Reports a step that does not lead to the next record.
fn found(
    tables: &Tables,
    partition: u32,
    log: &Log,
    step: Step,
    (expected, rank): (usize, usize),
    within: bool,
    findings: &mut Findings,
) {
    let anomaly = match (rank.cmp(&expected), within) {
        (std::cmp::Ordering::Equal, _) => return,
        (std::cmp::Ordering::Greater, true) => Anomaly::IntPollSkip,
        (std::cmp::Ordering::Greater, false) => Anomaly::PollSkip,
        (std::cmp::Ordering::Less, true) => Anomaly::IntNonmonotonicPoll,
        (std::cmp::Ordering::Less, false) => Anomaly::NonmonotonicPoll,
    };
    report(
        tables,
        anomaly,
        (partition, log),
        step,
        log.entries.get(expected).map(|next| next.offset),
        findings,
    );
}

/// Reports that a reader got something else than what comes next.
pub(super) fn report(
    tables: &Tables,
    anomaly: Anomaly,
    (partition, log): (u32, &Log),
    step: Step,
    next: Option<i64>,
    findings: &mut Findings,
) {
    let Did::Polled(offset) = step.did else { return };
    let place: Place = step.place;
    let value = log.find(offset).map_or(super::tables::NO_VALUE, |rank| log.entries[rank].value);
    findings.add(anomaly, Focus::on(partition, Some(offset), place).of(value), || {
        let next = next.map_or("nothing more".to_owned(), |offset| format!("offset {offset}"));
        let who = tables.name(step.actor);
        let expected = format!("{who} to get {next} of {} next", tables.partitions.of(partition));
        (expected, format!("it got offset {offset} at {}", tables.second(place)))
    });
}
