//! What must hold whatever is sent or read: progress after the faults, a well-behaved client, bounded resources, no panic,
//! errors that say what they mean (INV-13 to 17).

use std::time::Duration;

use super::{
    findings::{Findings, Focus},
    tables::{Did, Fate, Place, Tables},
};
use crate::history::{
    Anomaly,
    event::{Event, Outcome, What},
};

/// Of one event, as it comes.
pub(super) fn event(tables: &Tables, place: Place, event: &Event, findings: &mut Findings) {
    let focus = Focus::event(place);
    let at = || tables.second(place);
    match &event.what {
        What::Complaint(text) => {
            let expected = "the client to do what a strict broker allows".to_owned();
            findings.add(Anomaly::Protocol, focus, || (expected, format!("{text}, at {}", at())));
        }
        What::Panic(text) => findings
            .add(Anomaly::Panic, focus, || ("no task to panic".to_owned(), format!("{text}, at {}", at()))),
        What::Resource { name, used, bound } if used > bound => {
            findings.add(Anomaly::Resources, focus, || {
                (format!("{name} to be {bound} at most"), format!("{used}, at {}", at()))
            });
        }
        _ => {}
    }
    let fits = match (event.outcome, &event.error) {
        (Outcome::Fail, Some(error)) => error.definite && !error.code.is_empty(),
        (Outcome::Info, Some(error)) => !error.definite && !error.code.is_empty(),
        (Outcome::Fail, None) => false,
        (Outcome::Info, None) => !matches!(event.what, What::Send(_) | What::Commit(_)),
        (Outcome::Invoke | Outcome::Ok, error) => error.is_none(),
    };
    if !fits {
        findings.add(Anomaly::Taxonomy, focus, || {
            let expected = "an error that has a name and says whether it is definite, where something failed";
            let happened =
                format!("a {} of {} with {:?}", kind(event.outcome), event.what.name(), event.error);
            (expected.to_owned(), format!("{happened}, at {}", at()))
        });
    }
}

fn kind(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Invoke => "beginning",
        Outcome::Ok => "success",
        Outcome::Fail => "failure",
        Outcome::Info => "doubtful end",
    }
}

/// After all faults are over, records are written and read again. A history that ends earlier says nothing.
pub(super) fn progress(tables: &Tables, findings: &mut Findings) {
    let end = tables.times.len().saturating_sub(1) as Place;
    for (healed, within) in &tables.heals {
        let (from, until) = (tables.at(*healed), tables.at(*healed) + *within);
        if tables.at(end) < until {
            continue;
        }
        let in_time = |place: Place| place > *healed && tables.at(place) <= until;
        let wanted =
            |invoked: Place, settled: Place| invoked < *healed && settled > *healed || in_time(invoked);
        let waiting = tables.sends.iter().any(|send| {
            let settled = if send.fate == Fate::Pending { Place::MAX } else { send.settled };
            wanted(send.invoked, settled)
        });
        let written =
            tables.sends.iter().any(|send| matches!(send.fate, Fate::Written(_)) && in_time(send.settled));
        if waiting && !written {
            stands_still("written", *healed, (from, *within), findings);
        }
        let polled =
            tables.steps.iter().any(|step| matches!(step.did, Did::Polled(_)) && in_time(step.place));
        if written && !polled && !tables.lanes.all().is_empty() {
            stands_still("read", *healed, (from, *within), findings);
        }
    }
}

fn stands_still(what: &str, healed: Place, (from, within): (Duration, Duration), findings: &mut Findings) {
    findings.add(Anomaly::NoProgress, Focus::event(healed), || {
        let (from, within) = (from.as_secs_f64(), within.as_secs_f64());
        let expected =
            format!("records to be {what} within {within:.1} s after all faults were over at {from:.3} s");
        (expected, format!("none was {what}"))
    });
}
