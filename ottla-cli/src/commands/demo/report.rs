//! What it comes to, for people and for programs.

use std::{fmt, time::Duration};

use super::ledger::Tally;
use crate::output::Failure;

/// The numbers of a whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Report {
    /// Orders that a broker acknowledged.
    pub(super) produced: u64,
    pub(super) tally: Tally,
    /// How often the consumer was told that its group had gone on without it.
    pub(super) sessions_lost: u64,
    /// From the first such moment until it owned partitions again.
    pub(super) regained_after: Option<Duration>,
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
    pub(super) fn verdict(&self, lease: bool) -> Result<(), Failure> {
        let wrong: Vec<_> = [
            (self.sessions_lost == 0, "the session was not lost, so this shows nothing".to_owned()),
            (self.lost() > 0, format!("{} orders were lost", Thousands(self.lost()))),
            (lease && self.tally.twice > 0, format!("{} handled twice", Thousands(self.tally.twice))),
            (
                !lease && self.tally.twice == 0,
                "nothing was handled twice although nothing prevented it".into(),
            ),
        ]
        .into_iter()
        .filter_map(|(is_wrong, what)| is_wrong.then_some(what))
        .collect();
        if wrong.is_empty() { Ok(()) } else { Err(Failure::new(wrong.join("; "))) }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, number: u64| writeln!(f, "{name:<14}{:>8}", Thousands(number).to_string());
        row("produced", self.produced)?;
        row("handled", self.tally.handled)?;
        row("handled twice", self.tally.twice)?;
        row("lost", self.lost())?;
        row("session lost", self.sessions_lost)?;
        if let Some(after) = self.regained_after {
            writeln!(f, "{:<14}{:>8} s later", "regained", Seconds(after).to_string())?;
        }
        write!(f, "{:<14}{:>8} s", "time", Seconds(self.took).to_string())
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

/// `9.25`.
pub(super) struct Seconds(pub(super) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.0.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(handled: u64, twice: u64, sessions_lost: u64) -> Report {
        let tally = Tally { handled, twice };
        let regained_after = (sessions_lost > 0).then_some(Duration::from_millis(120));
        Report { produced: 20_000, tally, sessions_lost, regained_after, took: Duration::from_millis(14_200) }
    }

    #[test]
    fn programs_get_one_line() {
        assert_eq!(
            report(19_990, 3, 1).json(),
            r#"{"produced":20000,"handled":19990,"twice":3,"lost":10,"sessions_lost":1}"#
        );
    }

    #[test]
    fn people_get_a_table() {
        assert_eq!(
            report(20_000, 0, 1).to_string(),
            "produced        20,000\nhandled         20,000\nhandled twice        0\nlost                 0\n\
             session lost         1\nregained          0.12 s later\ntime             14.20 s"
        );
    }

    #[test]
    fn with_the_lease_nothing_may_be_handled_twice_and_without_it_something_must() {
        assert!(report(20_000, 0, 1).verdict(true).is_ok());
        assert!(report(20_000, 1, 1).verdict(true).is_err());
        assert!(report(20_000, 0, 1).verdict(false).is_err());
        assert!(report(20_000, 1, 1).verdict(false).is_ok());
    }

    #[test]
    fn a_session_that_survives_and_an_order_that_is_lost_are_failures_either_way() {
        for lease in [true, false] {
            assert!(report(20_000, u64::from(!lease), 0).verdict(lease).is_err());
            assert!(report(19_999, u64::from(!lease), 1).verdict(lease).is_err());
        }
    }

    #[test]
    fn numbers_are_written_in_groups_of_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(Thousands(number).to_string(), text);
        }
    }
}
