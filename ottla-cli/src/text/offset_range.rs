//! Which part of a partition, in the words of kcl and rpk.
//!
//! | text | is |
//! |---|---|
//! | `earliest`, `start`; `latest`, `end` | where the log begins; where it ends now |
//! | `42` | that offset |
//! | `-10`, `+10` | ten before the end; ten behind the beginning |
//! | `10:20`, `10:+5`, `:end` | from one to the other, which is not part of it; five from there on; up to the end |
//! | `@2026-11-01`, `@1793520000000`, `@-1h` | from the first record of that time on, or an hour ago |
//! | `@-1h:-5m`, `@2026-11-01:+1h`, `@:-1d` | from one time to the other; for an hour; up to a day ago |

use super::time;

/// One end of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// The first offset that exists.
    Earliest,
    /// The end of the log at the moment of asking.
    Latest,
    /// That offset.
    At(i64),
    /// That many before the end.
    BeforeEnd(i64),
    /// That many behind the beginning: of the log, or for the end of a range, of the range.
    Further(i64),
    /// The first record at or after that time, in milliseconds since the epoch.
    Time(i64),
}

/// From where to where; without `until` there is no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetRange {
    pub(crate) from: Bound,
    /// Exclusive.
    pub(crate) until: Option<Bound>,
}

impl OffsetRange {
    /// Reads a range.
    pub(crate) fn parse(text: &str, now_ms: i64) -> Result<Self, String> {
        match text.strip_prefix('@') {
            Some(times) => Self::parse_times(times, now_ms),
            None => Self::parse_offsets(text),
        }
    }

    fn parse_offsets(text: &str) -> Result<Self, String> {
        let Some((from, until)) = text.split_once(':') else {
            return Ok(Self { from: bound(text)?, until: None });
        };
        let from = if from.is_empty() { Bound::Earliest } else { bound(from)? };
        Ok(Self { from, until: (!until.is_empty()).then(|| bound(until)).transpose()? })
    }

    /// Times have colons of their own, so every place where the text can be cut in two times is tried.
    fn parse_times(text: &str, now_ms: i64) -> Result<Self, String> {
        let point = |text: &str| match text.strip_prefix('@').unwrap_or(text) {
            "end" | "latest" => Ok(Bound::Latest),
            "start" | "earliest" => Ok(Bound::Earliest),
            text => time::parse(text, now_ms).map(Bound::Time),
        };
        let whole = match point(text) {
            Ok(from) => return Ok(Self { from, until: None }),
            Err(error) => error,
        };
        let until = |from: Bound, text: &str| match (text.strip_prefix('+'), from) {
            (Some(length), Bound::Time(from)) => {
                let length = time::duration_ms(length)?;
                Ok(Some(Bound::Time(from.saturating_add(length))))
            }
            _ if text.is_empty() => Ok(None),
            _ => point(text).map(Some),
        };
        let cut = text.match_indices(':').find_map(|(at, _)| {
            let (from, rest) = (text.get(..at)?, text.get(at + 1..)?);
            let from = if from.is_empty() { Bound::Earliest } else { point(from).ok()? };
            let until: Result<_, String> = until(from, rest);
            Some(Self { from, until: until.ok()? })
        });
        cut.ok_or(whole)
    }
}

fn bound(text: &str) -> Result<Bound, String> {
    match text {
        "earliest" | "beginning" | "start" => return Ok(Bound::Earliest),
        "latest" | "end" => return Ok(Bound::Latest),
        _ => {}
    }
    let wrong = || {
        format!(
            "'{text}' is not an offset: use earliest, latest, a number, -N (N before the end), +N (N behind the \
             beginning), FROM:UNTIL, or @TIME, @TIME:TIME"
        )
    };
    let (digits, bound): (_, fn(i64) -> Bound) = match text.split_at_checked(1) {
        Some(("-", count)) => (count, Bound::BeforeEnd),
        Some(("+", count)) => (count, Bound::Further),
        _ => (text, Bound::At),
    };
    // `parse` alone would take a sign.
    let number = digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok()).flatten();
    number.map(bound).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::{Bound::*, OffsetRange};

    #[test]
    fn every_form_is_read() {
        for (text, from, until) in [
            ("earliest", Earliest, None),
            ("end", Latest, None),
            ("42", At(42), None),
            ("-10", BeforeEnd(10), None),
            ("10:20", At(10), Some(At(20))),
            (":end", Earliest, Some(Latest)),
            ("-5:end", BeforeEnd(5), Some(Latest)),
            ("7:", At(7), None),
            ("+5", Further(5), None),
            ("10:+5", At(10), Some(Further(5))),
            ("-5:-2", BeforeEnd(5), Some(BeforeEnd(2))),
            ("@:-1h", Earliest, Some(Time(6_400_000))),
            ("@start:-1h", Earliest, Some(Time(6_400_000))),
            ("@-1h:+1m", Time(6_400_000), Some(Time(6_460_000))),
            ("@1970-01-01T00:00:01Z:+1s", Time(1_000), Some(Time(2_000))),
            ("@1970-01-01T00:00:01Z", Time(1_000), None),
            ("@1970-01-01T00:00:01Z:1970-01-01T00:00:02Z", Time(1_000), Some(Time(2_000))),
            ("@-1h", Time(6_400_000), None),
            ("@-1h:-1m", Time(6_400_000), Some(Time(9_940_000))),
            ("@-1h:end", Time(6_400_000), Some(Latest)),
        ] {
            assert_eq!(OffsetRange::parse(text, 10_000_000), Ok(OffsetRange { from, until }), "{text}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for text in ["", "x", "1:x", "--1", "+-1", "+", "@", "@x", "@-1h:x", "@end:+1h", "1.5"] {
            assert!(OffsetRange::parse(text, 0).is_err(), "{text}");
        }
    }
}
