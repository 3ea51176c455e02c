//! Timestamps as dates, in UTC: `%d{strftime[%F %T]}` and `%d{go[2006-01-02 15:04:05]}`.

use std::io::{self, Write};

use super::syntax::enclosed;
use crate::text::time::Civil;

/// What stands between the pieces, and the pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clock(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(char),
    Part(Part),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Year,
    /// Two digits.
    ShortYear,
    Month,
    MonthBare,
    MonthName,
    MonthLongName,
    Day,
    DayBare,
    DaySpace,
    DayOfYear,
    Weekday,
    WeekdayLong,
    /// From 1, Monday.
    WeekdayNumber,
    Hour,
    Hour12,
    Hour12Bare,
    HalfDay,
    Minute,
    MinuteBare,
    Second,
    SecondBare,
    Millis,
    EpochSeconds,
    /// `Z`
    Zulu,
    /// `+0000`
    Zone,
    /// `+00:00`
    ZoneColon,
    /// `UTC`
    ZoneName,
}

/// The letters of `strftime`, those of other composed ones spelt out.
const STRFTIME: &[(char, Result<Part, &str>)] = &[
    ('Y', Ok(Part::Year)),
    ('y', Ok(Part::ShortYear)),
    ('m', Ok(Part::Month)),
    ('b', Ok(Part::MonthName)),
    ('h', Ok(Part::MonthName)),
    ('B', Ok(Part::MonthLongName)),
    ('d', Ok(Part::Day)),
    ('e', Ok(Part::DaySpace)),
    ('j', Ok(Part::DayOfYear)),
    ('a', Ok(Part::Weekday)),
    ('A', Ok(Part::WeekdayLong)),
    ('u', Ok(Part::WeekdayNumber)),
    ('H', Ok(Part::Hour)),
    ('I', Ok(Part::Hour12)),
    ('p', Ok(Part::HalfDay)),
    ('M', Ok(Part::Minute)),
    ('S', Ok(Part::Second)),
    ('L', Ok(Part::Millis)),
    ('s', Ok(Part::EpochSeconds)),
    ('z', Ok(Part::Zone)),
    ('Z', Ok(Part::ZoneName)),
    ('F', Err("%Y-%m-%d")),
    ('T', Err("%H:%M:%S")),
    ('R', Err("%H:%M")),
    ('D', Err("%m/%d/%y")),
    ('c', Err("%a %b %e %T %Y")),
    ('n', Err("\n")),
    ('t', Err("\t")),
];

/// Go's reference time, the longer ones of those that begin alike first.
const GO: &[(&str, Part)] = &[
    ("2006", Part::Year),
    ("January", Part::MonthLongName),
    ("Jan", Part::MonthName),
    ("Monday", Part::WeekdayLong),
    ("Mon", Part::Weekday),
    ("MST", Part::ZoneName),
    ("002", Part::DayOfYear),
    ("01", Part::Month),
    ("02", Part::Day),
    ("03", Part::Hour12),
    ("04", Part::Minute),
    ("05", Part::Second),
    ("06", Part::ShortYear),
    ("15", Part::Hour),
    ("PM", Part::HalfDay),
    ("Z07:00", Part::Zulu),
    ("Z0700", Part::Zulu),
    ("-07:00", Part::ZoneColon),
    ("-0700", Part::Zone),
    ("000", Part::Millis),
    ("_2", Part::DaySpace),
    ("1", Part::MonthBare),
    ("2", Part::DayBare),
    ("3", Part::Hour12Bare),
    ("4", Part::MinuteBare),
    ("5", Part::SecondBare),
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Clock {
    /// Reads what stands in the braces of `%d{…}`, if it is a date.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, String> {
        if let Some(rest) = text.strip_prefix("strftime") {
            let layout = enclosed(rest).ok_or("write it as strftime[%F]")?;
            let mut pieces = Vec::new();
            strftime(layout, &mut pieces)?;
            return Ok(Some(Self(pieces)));
        }
        if let Some(rest) = text.strip_prefix("go") {
            let layout = enclosed(rest).ok_or("write it as go[2006-01-02]")?;
            return Ok(Some(Self(go(layout))));
        }
        Ok(None)
    }

    /// A record without a timestamp has no date.
    pub(super) fn write(&self, timestamp_ms: i64, out: &mut dyn Write) -> io::Result<()> {
        if timestamp_ms < 0 {
            return out.write_all(b"-");
        }
        let civil = Civil::at(timestamp_ms);
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Literal(c) => write!(out, "{c}"),
            Piece::Part(part) => part.write(&civil, timestamp_ms, out),
        })
    }
}

fn strftime(layout: &str, pieces: &mut Vec<Piece>) -> Result<(), String> {
    let mut chars = layout.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            pieces.push(Piece::Literal(c));
            continue;
        }
        match chars.next() {
            Some('%') => pieces.push(Piece::Literal('%')),
            letter => match STRFTIME.iter().find(|(known, _)| Some(*known) == letter) {
                Some((_, Ok(part))) => pieces.push(Piece::Part(*part)),
                Some((_, Err(composed))) => strftime(composed, pieces)?,
                None => {
                    let known: String = STRFTIME.iter().map(|(letter, _)| *letter).collect();
                    let letter = letter.map_or_else(String::new, String::from);
                    return Err(format!("strftime: '%{letter}' is none of %{known}"));
                }
            },
        }
    }
    Ok(())
}

fn go(layout: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = layout;
    while let Some(c) = rest.chars().next() {
        let found = GO.iter().find_map(|(token, part)| Some((*part, rest.strip_prefix(token)?)));
        match found {
            // Zeros are milliseconds only behind the second.
            Some((Part::Millis, _)) if !matches!(pieces.last(), Some(Piece::Literal('.' | ','))) => {
                pieces.push(Piece::Literal(c));
                rest = &rest[1..];
            }
            Some((part, after)) => {
                pieces.push(Piece::Part(part));
                rest = after;
            }
            None => {
                pieces.push(Piece::Literal(c));
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    pieces
}

impl Part {
    fn write(self, at: &Civil, ms: i64, out: &mut dyn Write) -> io::Result<()> {
        let hour12 = (at.hour + 11) % 12 + 1;
        let month = MONTHS[at.month.clamp(1, 12) - 1];
        let weekday = WEEKDAYS[at.weekday % 7];
        match self {
            Self::Year => write!(out, "{:04}", at.year),
            Self::ShortYear => write!(out, "{:02}", at.year.rem_euclid(100)),
            Self::Month => write!(out, "{:02}", at.month),
            Self::MonthBare => write!(out, "{}", at.month),
            Self::MonthName => write!(out, "{}", &month[..3]),
            Self::MonthLongName => write!(out, "{month}"),
            Self::Day => write!(out, "{:02}", at.day),
            Self::DayBare => write!(out, "{}", at.day),
            Self::DaySpace => write!(out, "{:2}", at.day),
            Self::DayOfYear => write!(out, "{:03}", at.day_of_year),
            Self::Weekday => write!(out, "{}", &weekday[..3]),
            Self::WeekdayLong => write!(out, "{weekday}"),
            Self::WeekdayNumber => write!(out, "{}", at.weekday + 1),
            Self::Hour => write!(out, "{:02}", at.hour),
            Self::Hour12 => write!(out, "{hour12:02}"),
            Self::Hour12Bare => write!(out, "{hour12}"),
            Self::HalfDay => write!(out, "{}", if at.hour < 12 { "AM" } else { "PM" }),
            Self::Minute => write!(out, "{:02}", at.minute),
            Self::MinuteBare => write!(out, "{}", at.minute),
            Self::Second => write!(out, "{:02}", at.second),
            Self::SecondBare => write!(out, "{}", at.second),
            Self::Millis => write!(out, "{:03}", at.millisecond),
            Self::EpochSeconds => write!(out, "{}", ms.div_euclid(1_000)),
            Self::Zulu => write!(out, "Z"),
            Self::Zone => write!(out, "+0000"),
            Self::ZoneColon => write!(out, "+00:00"),
            Self::ZoneName => write!(out, "UTC"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;

    /// Tuesday, the 318th day of its year.
    const AT: i64 = 1_699_913_405_067;

    fn written(layout: &str) -> String {
        let mut out = Vec::new();
        Clock::parse(layout).unwrap().expect("a date").write(AT, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn dates_are_written_as_strftime_does() {
        for (layout, expected) in [
            ("%F %T", "2023-11-13 22:10:05"),
            ("%Y %y %m %d %e %j", "2023 23 11 13 13 317"),
            ("%a %A %u %b %B", "Mon Monday 1 Nov November"),
            ("%H %I %p %M %S.%L %s", "22 10 PM 10 05.067 1699913405"),
            ("%z %Z %R %D 100%%", "+0000 UTC 22:10 11/13/23 100%"),
            ("%c%n%t|", "Mon Nov 13 22:10:05 2023\n\t|"),
        ] {
            assert_eq!(written(&format!("strftime[{layout}]")), expected, "{layout}");
        }
    }

    #[test]
    fn dates_are_written_as_go_does() {
        for (layout, expected) in [
            ("2006-01-02T15:04:05.000Z07:00", "2023-11-13T22:10:05.067Z"),
            ("Mon, 02 Jan 2006 15:04:05 MST", "Mon, 13 Nov 2023 22:10:05 UTC"),
            ("Monday _2 January 06 3:4:5 PM -07:00 -0700", "Monday 13 November 23 10:10:5 PM +00:00 +0000"),
            ("1/2 002 03", "11/13 317 10"),
            ("on 0001", "on 0011"),
        ] {
            assert_eq!(written(&format!("go##{layout}##")), expected, "{layout}");
        }
    }

    #[test]
    fn a_record_without_a_timestamp_has_no_date() {
        let mut out = Vec::new();
        Clock::parse("strftime[%F]").unwrap().unwrap().write(-1, &mut out).unwrap();
        assert_eq!(out, b"-");
    }

    #[test]
    fn what_is_no_layout_is_refused() {
        for wrong in ["strftime", "strftime[%Q]", "strftime[%]", "go"] {
            assert!(Clock::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Clock::parse("hex"), Ok(None));
    }
}
