//! Reads settings with their types, and collects everything that is wrong with them.

use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use super::{ConfigProblem, Origin, Settings, masked, millis};
use crate::{Error, Result};

/// A setting as it is in effect; shown as `linger.ms = 5 (default)`.
#[derive(Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    key: &'static str,
    value: String,
    origin: Origin,
}

impl EffectiveSetting {
    /// The setting, by Java's name.
    #[must_use]
    pub fn key(&self) -> &'static str {
        self.key
    }

    /// Its value, `***` if it is a secret.
    #[must_use]
    pub fn value(&self) -> &str {
        masked(self.key, &self.value)
    }

    /// Where the value came from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl fmt::Display for EffectiveSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({})", self.key, self.value(), self.origin)
    }
}

impl fmt::Debug for EffectiveSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// All settings that somebody reads, as they are in effect, each with its origin; shown one in a line, secrets masked.
#[derive(Clone, Default)]
pub struct EffectiveSettings(Vec<EffectiveSetting>);

impl EffectiveSettings {
    /// One after the other, as they are read.
    pub fn iter(&self) -> impl Iterator<Item = &EffectiveSetting> {
        self.0.iter()
    }

    /// Leaves one out.
    pub(crate) fn without(mut self, key: &str) -> Self {
        self.0.retain(|setting| setting.key != key);
        self
    }
}

impl fmt::Display for EffectiveSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, setting) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{setting}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for EffectiveSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

/// The text for a duration that never passes.
pub(crate) const NEVER: &str = "-1";

/// Reads [`Settings`]; every method notes a problem and gives the default when a value is not allowed.
pub(crate) struct Reader<'a> {
    settings: &'a Settings,
    effective: Vec<EffectiveSetting>,
    problems: Vec<ConfigProblem>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(settings: &'a Settings) -> Self {
        Self { settings, effective: Vec::new(), problems: Vec::new() }
    }

    /// A duration; Java's keys count in milliseconds.
    pub(crate) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        allowed: RangeInclusive<Duration>,
    ) -> Duration {
        let parse = |value: &str| parse_millis(value, &allowed);
        self.parsed(key, &millis(default), &millis_text(&allowed), parse).unwrap_or(default)
    }

    /// A duration, or -1: `None`, as Java has it where something shall never happen.
    pub(crate) fn duration_or_never(
        &mut self,
        key: &'static str,
        default: Duration,
        allowed: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let text = format!("{}, or -1 (never)", millis_text(&allowed));
        let parse = |value: &str| match value {
            NEVER => Some(None),
            value => parse_millis(value, &allowed).map(Some),
        };
        self.parsed(key, &millis(default), &text, parse).unwrap_or(Some(default))
    }

    /// A whole number: a size in bytes, a count.
    pub(crate) fn number<T>(&mut self, key: &'static str, default: T, allowed: RangeInclusive<T>) -> T
    where
        T: FromStr + PartialOrd + fmt::Display + Copy,
    {
        let text = format!("a whole number from {} to {}", allowed.start(), allowed.end());
        let parse = |value: &str| value.parse().ok().filter(|number| allowed.contains(number));
        self.parsed(key, &default.to_string(), &text, parse).unwrap_or(default)
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.choice(key, default, &[("true", true), ("false", false)])
    }

    /// One of some words, in any case. Of several words for one value the first is shown as its name.
    pub(crate) fn choice<T: Copy + PartialEq>(
        &mut self,
        key: &'static str,
        default: T,
        words: &[(&str, T)],
    ) -> T {
        let text = format!("one of {}", words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", "));
        let name = words.iter().find(|(_, value)| *value == default).map_or("", |(word, _)| *word);
        let parse = |value: &str| {
            words.iter().find(|(word, _)| word.eq_ignore_ascii_case(value)).map(|(_, value)| *value)
        };
        self.parsed(key, name, &text, parse).unwrap_or(default)
    }

    /// Any text, byte for byte.
    pub(crate) fn text(&mut self, key: &'static str) -> Option<String> {
        let setting = self.settings.get(key)?;
        self.effective.push(EffectiveSetting {
            key,
            value: setting.value.clone(),
            origin: setting.origin.clone(),
        });
        Some(setting.value.clone())
    }

    /// A value in a format of its own; `None` when it is not set or not allowed.
    pub(crate) fn parsed<T>(
        &mut self,
        key: &'static str,
        default: &str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let Some(setting) = self.settings.get(key) else {
            self.effective.push(EffectiveSetting { key, value: default.to_owned(), origin: Origin::Default });
            return None;
        };
        let value = parse(setting.value.trim());
        if value.is_none() {
            self.problem(key, allowed);
        }
        self.effective.push(EffectiveSetting {
            key,
            value: setting.value.clone(),
            origin: setting.origin.clone(),
        });
        value
    }

    pub(crate) fn is_unset(&self, key: &str) -> bool {
        self.settings.get(key).is_none()
    }

    /// Notes that the value of `key` does not do; `allowed` says what would.
    pub(crate) fn problem(&mut self, key: &'static str, allowed: impl Into<String>) {
        let setting = self.settings.get(key);
        self.problems.push(ConfigProblem {
            key: key.to_owned(),
            value: setting.map(|setting| masked(key, &setting.value).to_owned()),
            origin: setting.map_or(Origin::Default, |setting| setting.origin.clone()),
            allowed: allowed.into(),
        });
    }

    /// What is in effect.
    ///
    /// # Errors
    /// All problems, in one error.
    pub(crate) fn finish(self) -> Result<EffectiveSettings> {
        match self.problems.is_empty() {
            true => Ok(EffectiveSettings(self.effective)),
            false => Err(Error::invalid_config(self.problems)),
        }
    }
}

fn millis_text(allowed: &RangeInclusive<Duration>) -> String {
    format!("milliseconds from {} to {}", millis(*allowed.start()), millis(*allowed.end()))
}

fn parse_millis(value: &str, allowed: &RangeInclusive<Duration>) -> Option<Duration> {
    let milliseconds = f64::from_str(value).ok()?;
    Duration::try_from_secs_f64(milliseconds / 1_000.0).ok().filter(|duration| allowed.contains(duration))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, config::Properties};

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        settings.extend(&pairs.iter().copied().collect::<Properties>());
        settings
    }

    const MINUTE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);

    #[test]
    fn reads_typed_values_by_either_name() {
        let settings = settings(&[
            ("queue.buffering.max.ms", "2.5"),
            ("batch.size", "100"),
            ("allow.auto.create.topics", "FALSE"),
        ]);
        let mut reader = Reader::new(&settings);
        assert_eq!(reader.duration("linger.ms", Duration::ZERO, MINUTE), Duration::from_micros(2_500));
        assert_eq!(reader.number("batch.size", 1, 0..=1_000), 100);
        assert!(!reader.flag("allow.auto.create.topics", true));
        assert_eq!(reader.number("fetch.min.bytes", 1, 0..=9), 1);
        let effective: Vec<_> = reader.finish().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(effective[0], "linger.ms = 2.5 (given as a pair)");
        assert_eq!(effective[3], "fetch.min.bytes = 1 (default)");
    }

    #[test]
    fn collects_all_problems_into_one_error() {
        let mut settings = settings(&[("linger.ms", "soon"), ("batch.size", "-4"), ("acks", "two")]);
        settings.set("retry.backoff.ms", millis(Duration::from_secs(3_600)));
        let mut reader = Reader::new(&settings);
        reader.duration("linger.ms", Duration::ZERO, MINUTE);
        reader.number("batch.size", 1_u32, 0..=1_000);
        reader.choice("acks", 1, &[("all", -1), ("-1", -1), ("1", 1)]);
        reader.duration("retry.backoff.ms", Duration::ZERO, MINUTE);
        let error = reader.finish().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        let texts: Vec<_> = error.config().iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "linger.ms = \"soon\" (given as a pair): milliseconds from 0 to 60000",
                "batch.size = \"-4\" (given as a pair): a whole number from 0 to 1000",
                "acks = \"two\" (given as a pair): one of all, -1, 1",
                "retry.backoff.ms = \"3600000\" (set in code): milliseconds from 0 to 60000",
            ]
        );
    }

    #[test]
    fn the_last_call_wins() {
        let mut settings = settings(&[("linger.ms", "5")]);
        settings.set("linger.ms", "6");
        assert_eq!(settings.get("linger.ms").map(|setting| setting.value.as_str()), Some("6"));
        settings.extend(&Properties::from_iter([("linger.ms", "7")]));
        assert_eq!(settings.get("linger.ms").map(|setting| setting.value.as_str()), Some("7"));
    }
}
