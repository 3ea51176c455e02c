//! What a check found, as a person wants to read it.

use std::{collections::BTreeMap, fmt};

use super::{Anomaly, checker::Twice};

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Its kind.
    pub anomaly: Anomaly,
    /// What should be.
    pub expected: String,
    /// What is instead.
    pub happened: String,
    /// The partition's events around it, one line each; the lines that begin with `>` are the event itself.
    pub timeline: Vec<String>,
}

/// How much there was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "their names say it")]
pub struct Counts {
    pub events: usize,
    pub sent: usize,
    pub acknowledged: usize,
    pub not_written: usize,
    pub in_doubt: usize,
    pub polled: usize,
    /// By groups; each record once.
    pub processed: usize,
    pub commits: usize,
    pub faults: usize,
}

/// The outcome of a check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// The first few of each kind, the worst first. Empty: nothing is wrong.
    pub violations: Vec<Violation>,
    /// How many there are of each kind.
    pub found: BTreeMap<Anomaly, usize>,
    /// What was checked.
    pub counts: Counts,
    /// Each time that a group processed a record again; all of them are explained.
    pub twice: Vec<Twice>,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.violations.is_empty()
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.anomaly.invariant() {
            0 => writeln!(f, "{}", self.anomaly)?,
            number => writeln!(f, "{} (INV-{number})", self.anomaly)?,
        }
        writeln!(f, "  expected: {}", self.expected)?;
        writeln!(f, "  happened: {}", self.happened)?;
        self.timeline.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { events, sent, acknowledged, not_written, in_doubt, polled, processed, commits, faults } =
            self.counts;
        writeln!(f, "{events} events, {faults} faults")?;
        writeln!(f, "{sent} records sent: {acknowledged} written, {not_written} not, {in_doubt} in doubt")?;
        let twice = self.twice.len();
        writeln!(f, "{polled} polled, {processed} processed by groups ({twice} again), {commits} commits")?;
        if self.is_good() {
            return writeln!(f, "nothing is wrong");
        }
        let found = self.found.iter().map(|(anomaly, count)| format!("{count} {anomaly}"));
        writeln!(f, "WRONG: {}", found.collect::<Vec<_>>().join(", "))?;
        self.violations.iter().try_for_each(|violation| write!(f, "\n{violation}"))
    }
}
