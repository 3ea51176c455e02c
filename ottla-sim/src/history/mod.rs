//! What clients did and were told, and whether that fits the brokers' logs and commits.
//!
//! A history is a sequence of [`event::Event`]s: what began, how it ended, what was read, who owned what, what went wrong
//! on purpose, and in the end the truth, if somebody knows it. It is the same for the simulation, real sockets and real
//! brokers: in memory ([`History`], [`GroupHistory`]), or as a file with one event per line ([`jsonl`]).
//!
//! [`check`] judges it. Each [`Anomaly`] has a name, Jepsen's where Jepsen looks for it, and each [`Violation`] says what was
//! expected, what happened, and what else happened to that partition around it. `tests/histories` has one history for
//! each anomaly, written by hand.
//!
//! ```
//! use ottla_sim::history::{Anomaly, check, event::Event, jsonl::Reader};
//!
//! let file = r#"
//! {"t":1,"proc":1,"type":"invoke","f":"send","v":{"records":[["orders-0",null,"a"]]}}
//! {"t":2,"proc":1,"type":"ok","f":"send","v":{"records":[["orders-0",0,"a"]]}}
//! {"t":9,"type":"ok","f":"log","v":{"records":[["orders-0"]]}}
//! "#;
//! let events: Vec<Event> = Reader::new(file.as_bytes()).collect::<Result<_, _>>()?;
//! let report = check(&events);
//! assert_eq!(report.violations[0].anomaly, Anomaly::LostWrite);
//! assert_eq!(report.violations[0].happened, "it is not in the log");
//! # Ok::<_, ottla_sim::history::jsonl::ReadError>(())
//! ```

mod anomaly;
mod checker;
mod cut;
pub mod event;
mod group;
mod incarnations;
pub mod jsonl;
mod report;
mod sent;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufWriter},
    path::Path,
    time::Duration,
};

use ottla::TopicPartition;
use tokio::time::Instant;

use self::event::{Actor, Entry, Event, Outcome, value_of};
pub use self::{
    anomaly::Anomaly,
    checker::{Checker, check},
    cut::{Elected, Elections, leads_to},
    event::Delivery,
    group::{Commits, GroupHistory, MemberHistory, Place, Stored, Told, Topic, Twice, Verdict, What},
    report::{Counts, Report, Violation},
    sent::{Fate, History, Read},
};
pub use crate::logged::read_commit;
use crate::{Logged, World};

/// The logs of a topic, by partition.
pub type Logs = BTreeMap<i32, Vec<Logged>>;

/// A log begins elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// From when on, in the time in which clusters live.
    pub at: Duration,
    /// The same in the time in which clients live, which may have slept.
    pub instant: Instant,
    /// At which offset.
    pub offset: i64,
}

/// Where logs began, by partition, in the order in which it was so.
pub type Begins = BTreeMap<i32, Vec<Begin>>;

/// Where logs began, as events.
fn begun(topic: &str, begins: &Begins, at: impl Fn(&Begin) -> Duration) -> Vec<Event> {
    let of_partition = |(partition, begins): (&i32, &Vec<Begin>)| {
        let partition = TopicPartition::new(topic, *partition);
        let event = |begin: &Begin| Event {
            at: at(begin),
            actor: Actor::OBSERVER,
            outcome: Outcome::Ok,
            what: event::What::Begin(vec![Entry::at(partition.clone(), begin.offset)]),
            error: None,
        };
        begins.iter().map(event).collect::<Vec<_>>()
    };
    begins.iter().flat_map(of_partition).collect()
}

/// The truth about a topic, as events.
fn truth(at: Duration, topic: &str, logs: &Logs) -> impl Iterator<Item = Event> {
    logs.iter().map(move |(partition, log)| {
        let partition = TopicPartition::new(topic, *partition);
        let nothing = Entry { partition: partition.clone(), offset: None, value: None };
        let records = log
            .iter()
            .map(|logged| Entry::record(partition.clone(), Some(logged.offset), value_of(&logged.value)));
        let what = event::What::Log(std::iter::once(nothing).chain(records).collect());
        Event { at, actor: Actor::OBSERVER, outcome: Outcome::Ok, what, error: None }
    })
}

/// Checks everything, and fails the run at the worst violation; the history is written first, under that name, if somebody wants
/// it.
fn judge(world: &World, name: &str, events: &[Event]) -> Report {
    if let Some(folder) = world.histories() {
        let written = write(&folder.join(format!("{name}.jsonl")), events);
        world.expect(written.is_ok(), "the history to be written", || format!("{written:?}"));
    }
    let report = check(events);
    fail(world, &report);
    report
}

fn write(path: &Path, events: &[Event]) -> io::Result<()> {
    let mut writer = jsonl::Writer::new(BufWriter::new(File::create(path)?));
    events.iter().try_for_each(|event| writer.write(event))?;
    writer.flush()
}

/// Fails the run at the worst violation.
fn fail(world: &World, report: &Report) {
    if let Some(violation) = report.violations.first() {
        world.expect(false, &violation.expected, || {
            let Violation { anomaly, happened, timeline, .. } = violation;
            let around: Vec<String> = timeline.iter().map(|line| format!("\n    {line}")).collect();
            format!("{happened} ({anomaly}){}", around.concat())
        });
    }
}
