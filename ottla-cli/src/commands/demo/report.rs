//! What it comes to, for people and for programs.

use std::{fmt, time::Duration};

use super::{ledger::Tally, screen::Seconds};
use crate::output::Failure;

/// The numbers of a whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    /// Whether the consumer heeded its lease.
    pub(super) lease: bool,
    /// Orders that a broker acknowledged.
    pub(super) produced: u64,
    pub(super) tally: Tally,
    /// How often the consumer was told that its group had gone on without it.
    pub(super) sessions_lost: u64,
    /// After how many of these losses it owned partitions again.
    pub(super) regained: u64,
    pub(super) took: Duration,
}

impl Report {
    fn lost(&self) -> u64 {
        self.produced.saturating_sub(self.tally.handled)
    }

    /// One line.
    pub(super) fn json(&self) -> String {
        let Self { produced, tally: Tally { handled, twice }, sessions_lost, .. } = self;
        let lost = self.lost();
        format!(
            r#"{{"produced":{produced},"handled":{handled},"twice":{twice},"lost":{lost},"sessions_lost":{sessions_lost}}}"#
        )
    }

    /// Whether the demo has shown what it is there to show: with the lease that nothing is handled twice, without it
    /// that something is.
    ///
    /// # Errors
    /// With everything that is not as it should be. A session that survived shows nothing.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let wrong: Vec<_> = [
            (self.sessions_lost == 0, "the session was not lost, so this shows nothing".to_owned()),
            (self.lost() > 0, format!("{} orders were lost", Thousands(self.lost()))),
            (self.lease && self.tally.twice > 0, format!("{} handled twice", Thousands(self.tally.twice))),
            (
                !self.lease && self.tally.twice == 0,
                "nothing was handled twice although nothing prevented it".into(),
            ),
        ]
        .into_iter()
        .filter_map(|(is_wrong, what)| is_wrong.then_some(what))
        .collect();
        if wrong.is_empty() { Ok(()) } else { Err(Failure::new(wrong.join("; "))) }
    }
}

impl Report {
    /// What the run has shown, if it has.
    fn moral(&self) -> Option<&'static str> {
        self.verdict().ok().map(|()| match self.lease {
            true => WITH_LEASE,
            false => WITHOUT_LEASE,
        })
    }
}

const WITH_LEASE: &str = "\
The group had given the consumer up while the broker slept. Records that came
before it could know of that were not handed out until they were its own again.";

const WITHOUT_LEASE: &str = "\
The group had given the consumer up while the broker slept. Without the lease,
records that were not its own any more were handled, and then once more.";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, number: u64| writeln!(f, "{name:<14}{:>8}", Thousands(number).to_string());
        row("produced", self.produced)?;
        row("handled", self.tally.handled)?;
        row("handled twice", self.tally.twice)?;
        row("lost", self.lost())?;
        row("sessions lost", self.sessions_lost)?;
        row("and regained", self.regained)?;
        write!(f, "{:<14}{:>8} s", "time", Seconds(self.took).to_string())?;
        self.moral().map_or(Ok(()), |moral| write!(f, "\n\n{moral}"))
    }
}

/// `20,000`.
pub(super) struct Thousands(pub(super) u64);

impl fmt::Display for Thousands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.char_indices() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lease: bool, handled: u64, twice: u64, sessions_lost: u64) -> Report {
        let tally = Tally { handled, twice };
        let took = Duration::from_millis(14_200);
        Report { lease, produced: 20_000, tally, sessions_lost, regained: sessions_lost, took }
    }

    #[test]
    fn programs_get_one_line() {
        assert_eq!(
            report(true, 19_990, 3, 1).json(),
            r#"{"produced":20000,"handled":19990,"twice":3,"lost":10,"sessions_lost":1}"#
        );
    }

    #[test]
    fn people_get_a_table_and_what_it_means() {
        let table = "produced        20,000\nhandled         20,000\nhandled twice        0\nlost                 0\n\
             sessions lost        1\nand regained         1\ntime              14.2 s";
        assert_eq!(report(true, 20_000, 0, 1).to_string(), format!("{table}\n\n{WITH_LEASE}"));
    }

    #[test]
    fn a_run_that_shows_nothing_has_no_moral() {
        for report in [report(true, 20_000, 1, 1), report(false, 20_000, 0, 1), report(true, 20_000, 0, 0)] {
            assert_eq!(report.moral(), None, "{report}");
        }
        assert_eq!(report(false, 20_000, 1, 1).moral(), Some(WITHOUT_LEASE));
    }

    #[test]
    fn with_the_lease_nothing_may_be_handled_twice_and_without_it_something_must() {
        assert!(report(true, 20_000, 0, 1).verdict().is_ok());
        assert!(report(true, 20_000, 1, 1).verdict().is_err());
        assert!(report(false, 20_000, 0, 1).verdict().is_err());
        assert!(report(false, 20_000, 1, 1).verdict().is_ok());
    }

    #[test]
    fn a_session_that_survives_and_an_order_that_is_lost_are_failures_either_way() {
        for lease in [true, false] {
            assert!(report(lease, 20_000, u64::from(!lease), 0).verdict().is_err());
            assert!(report(lease, 19_999, u64::from(!lease), 1).verdict().is_err());
        }
    }

    #[test]
    fn numbers_are_written_in_groups_of_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(Thousands(number).to_string(), text);
        }
    }
}
