//! Points in time as people write them: milliseconds, dates, RFC 3339, or relative to now.

use std::time::Duration;

/// The wall clock, in milliseconds since the epoch.
#[expect(
    clippy::disallowed_methods,
    reason = "a command is the outermost caller: its clock is the machine's"
)]
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Reads a point in time, as milliseconds since the epoch.
///
/// `1700000000000` (ms), `1700000000` (s), `2026-11-01`, `2026-11-01T10:00:00Z`, `2026-11-01T10:00:00+02:00`, `-1h`.
pub(crate) fn parse(text: &str, now_ms: i64) -> Result<i64, String> {
    if let Some(ago) = text.strip_prefix('-') {
        return Ok(now_ms.saturating_sub(duration_ms(ago)?));
    }
    if text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() {
        let number: i64 = text.parse().map_err(|_| format!("{text} is too large for a time"))?;
        // Ten digits are seconds until the year 2286; thirteen are milliseconds since 2001.
        return Ok(if text.len() <= 10 { number.saturating_mul(1_000) } else { number });
    }
    date_time(text).ok_or_else(|| {
        format!("'{text}' is not a time: use milliseconds, 2026-11-01, 2026-11-01T10:00:00Z, or -1h (relative to now)")
    })
}

/// `90s`, `15m`, `1.5h`, `2d`, `500ms`, in milliseconds.
pub(crate) fn duration_ms(text: &str) -> Result<i64, String> {
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("'{text}' is not a duration: use a number and ms, s, m, h or d")),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || (number != whole && !digits(fraction)) {
        return Err(format!("'{text}' is not a duration: use a number, as in 90s or 1.5h"));
    }
    // What is below a millisecond does not count; the longest unit has nine digits of them.
    let fraction = fraction.get(..9.min(fraction.len())).unwrap_or_default();
    let parts: i64 = format!("{fraction:0<9}").parse().unwrap_or_default();
    let below = i128::from(parts) * i128::from(factor) / 1_000_000_000;
    let above = whole.parse::<i64>().ok().and_then(|whole| whole.checked_mul(factor));
    let sum = above.and_then(|above| above.checked_add(i64::try_from(below).ok()?));
    sum.ok_or_else(|| format!("{text} is too long"))
}

/// [`duration_ms`] as a [`Duration`].
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    Ok(Duration::from_millis(u64::try_from(duration_ms(text)?).unwrap_or_default()))
}

fn date_time(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let day = days_since_epoch(date)?;
    let (time, zone_minutes) = match rest.strip_prefix(['T', ' ']) {
        None if rest.is_empty() => ("", 0),
        None => return None,
        Some(rest) => split_zone(rest)?,
    };
    let ms = if time.is_empty() { 0 } else { time_of_day_ms(time)? };
    day.checked_mul(86_400_000)?.checked_add(ms)?.checked_sub(zone_minutes * 60_000)
}

/// The time of day and the zone's minutes east of UTC; no zone is UTC.
fn split_zone(text: &str) -> Option<(&str, i64)> {
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let Some(at) = text.rfind(['+', '-']) else { return Some((text, 0)) };
    let (time, zone) = text.split_at(at);
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let (hours, minutes) = (number(hours, 2, 14)?, number(minutes, 2, 59)?);
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    Some((time, sign * (hours * 60 + minutes)))
}

fn time_of_day_ms(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.split(':');
    let hours = number(parts.next()?, 2, 23)?;
    let minutes = number(parts.next()?, 2, 59)?;
    let seconds = parts.next().map_or(Some(0), |s| number(s, 2, 59))?;
    let ms = match fraction.len() {
        0 => 0,
        1..=9 if fraction.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{fraction:0<3}").get(..3)?.parse().ok()?
        }
        _ => return None,
    };
    parts.next().is_none().then_some(((hours * 60 + minutes) * 60 + seconds) * 1_000 + ms)
}

/// Days since 1970-01-01 of `YYYY-MM-DD` in the Gregorian calendar.
fn days_since_epoch(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let year = number(parts.next()?, 4, 9999)?;
    let month = number(parts.next()?, 2, 12)?;
    let day = number(parts.next()?, 2, 31)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    if parts.next().is_some() || day == 0 || day > length {
        return None;
    }
    // Years that start in March put the leap day last, so that month lengths become a formula.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before =
        y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1;
    Some(before - 719_468)
}

/// A moment as the calendar and the clock say it, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    /// From 1.
    pub(crate) month: usize,
    /// From 1.
    pub(crate) day: usize,
    /// From 1.
    pub(crate) day_of_year: usize,
    /// From 0, Monday.
    pub(crate) weekday: usize,
    pub(crate) hour: usize,
    pub(crate) minute: usize,
    pub(crate) second: usize,
    pub(crate) millisecond: usize,
}

impl Civil {
    /// Milliseconds since the epoch.
    pub(crate) fn at(ms: i64) -> Self {
        // What `rem_euclid` gives is small and not negative.
        let part = |number: i64, of: i64| usize::try_from(number.rem_euclid(of)).unwrap_or_default();
        let days = ms.div_euclid(86_400_000);
        // As in `days_since_epoch`, years start in March here: an era is 400 of them.
        let shifted = days + 719_468;
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let m = (5 * of_year + 2) / 153;
        let day = of_year - (153 * m + 2) / 5 + 1;
        let (month, next) = if m < 10 { (m + 3, 0) } else { (m - 9, 1) };
        let year = shifted.div_euclid(146_097) * 400 + year_of_era + next;
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        // March 1st is day 59 of a year, or 60.
        let of_civil_year = if m < 10 { of_year + 59 + i64::from(leap) } else { of_year - 306 };
        Self {
            year,
            month: part(month, 13),
            day: part(day, 32),
            day_of_year: part(of_civil_year + 1, 367),
            // 1970-01-01 was a Thursday.
            weekday: part(days + 3, 7),
            hour: part(ms.div_euclid(3_600_000), 24),
            minute: part(ms.div_euclid(60_000), 60),
            second: part(ms.div_euclid(1_000), 60),
            millisecond: part(ms, 1_000),
        }
    }
}

fn number(text: &str, digits: usize, max: i64) -> Option<i64> {
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit())).then_some(())?;
    text.parse().ok().filter(|n| *n <= max)
}

#[cfg(test)]
mod tests {
    use super::{Civil, days_since_epoch, duration_ms, parse};

    #[test]
    fn dates_and_times_are_read_in_utc_unless_a_zone_is_given() {
        for (text, ms) in [
            ("1970-01-01", 0),
            ("1970-01-02T00:00:00Z", 86_400_000),
            ("2000-03-01", 951_868_800_000),
            ("2024-02-29T12:30:15.5Z", 1_709_209_815_500),
            ("2026-11-01T10:00:00+02:00", 1_793_520_000_000),
            ("1700000000", 1_700_000_000_000),
            ("1700000000123", 1_700_000_000_123),
            ("-1h", 6_400_000),
        ] {
            assert_eq!(parse(text, 10_000_000), Ok(ms), "{text}");
        }
    }

    #[test]
    fn every_day_of_800_years_comes_back() {
        let (first, last) =
            (days_since_epoch("1600-01-01").unwrap(), days_since_epoch("2400-12-31").unwrap());
        let mut before = Civil::at((first - 1) * 86_400_000);
        for day in first..=last {
            let at = Civil::at(day * 86_400_000 + 86_399_999);
            let date = format!("{:04}-{:02}-{:02}", at.year, at.month, at.day);
            assert_eq!(days_since_epoch(&date), Some(day), "{date}");
            assert_eq!((at.hour, at.minute, at.second, at.millisecond), (23, 59, 59, 999));
            assert_eq!(at.weekday, (before.weekday + 1) % 7, "{date}");
            let expected = if (at.month, at.day) == (1, 1) { 1 } else { before.day_of_year + 1 };
            assert_eq!(at.day_of_year, expected, "{date}");
            before = at;
        }
        assert_eq!(Civil::at(0).weekday, 3);
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_is_allowed() {
        for text in [
            "",
            "yesterday",
            "2023-02-29",
            "2024-13-01",
            "2024-01-01T25:00:00Z",
            "2024-01-01Tx",
            "-1y",
            "ÄÖÜ-01-01",
        ] {
            assert!(parse(text, 0).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_may_have_fractions() {
        for (text, ms) in
            [("90s", 90_000), ("3.5s", 3_500), ("1.5h", 5_400_000), ("0.25ms", 0), ("2.000d", 172_800_000)]
        {
            assert_eq!(duration_ms(text), Ok(ms), "{text}");
        }
        for text in ["h", "1", ".5s", "1.s", "1.5.5s", "-1s", "1e3s", "99999999999999999999s"] {
            assert!(duration_ms(text).is_err(), "{text}");
        }
    }
}
