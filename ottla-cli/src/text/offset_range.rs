//! Which part of a partition: `earliest`, `latest`, `42`, `-10`, `10:20`, `:end`, `@2026-11-01T10:00:00Z`, `@-1h:-5m`.

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
    /// That many records before the end.
    BeforeEnd(i64),
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
            text => time::parse(text, now_ms).map(Bound::Time),
        };
        let whole = match point(text) {
            Ok(from) => return Ok(Self { from, until: None }),
            Err(error) => error,
        };
        let cut = text.match_indices(':').find_map(|(at, _)| {
            let (from, until) = (text.get(..at)?, text.get(at + 1..)?);
            Some(Self {
                from: point(from).ok()?,
                until: if until.is_empty() { None } else { Some(point(until).ok()?) },
            })
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
            "'{text}' is not an offset: use earliest, latest, a number, -N (N before the end), FROM:UNTIL, or \
             @TIME, @TIME:TIME"
        )
    };
    match text.strip_prefix('-') {
        Some(count) => count.parse().ok().filter(|n| *n >= 0).map(Bound::BeforeEnd).ok_or_else(wrong),
        None => text.parse().ok().filter(|n| *n >= 0).map(Bound::At).ok_or_else(wrong),
    }
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
        for text in ["", "x", "1:x", "--1", "@", "@x", "@-1h:x", "1.5"] {
            assert!(OffsetRange::parse(text, 0).is_err(), "{text}");
        }
    }
}
