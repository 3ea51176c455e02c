//! Configuration: settings by Java's names, from code, files, the environment and pairs, validated all at once.

// Every setter of a builder and every line of a properties file ends up in one `Settings` table as text with its
// origin, so that "the last call wins" needs no rules and an error can name where a value came from. `build()` reads
// the table through a `Reader`, which collects every problem before it fails.

mod client;
mod keys;
mod properties;
mod reader;

use std::{collections::BTreeMap, fmt, sync::Arc};

pub use self::{
    client::ClientConfig,
    keys::{KnownSetting, known_settings},
    properties::{Properties, Warning},
    reader::{EffectiveSetting, EffectiveSettings},
};
pub(crate) use self::{
    client::HostPort,
    reader::{NEVER, Reader},
};

/// Where a value was set.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A setter of a builder.
    Code,
    /// A line of a properties file.
    #[non_exhaustive]
    File {
        /// The file as it was named.
        path: Arc<str>,
        /// Counted from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(Arc<str>),
    /// A pair of name and value.
    Pair,
    /// What [`Properties::called`] says.
    Named(Arc<str>),
    /// Nowhere: it is the default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code => f.write_str("set in code"),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::Pair => f.write_str("given as a pair"),
            Self::Named(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    key: String,
    value: Option<String>,
    origin: Origin,
    allowed: String,
}

impl ConfigProblem {
    /// The setting, by Java's name.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its value, `***` if it is a secret; `None` if it was not set.
    #[must_use]
    pub fn value(&self) -> Option<&str> {
        self.value.as_deref()
    }

    /// Where the value came from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What would be right.
    #[must_use]
    pub fn allowed(&self) -> &str {
        &self.allowed
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{} = {value:?} ({}): {}", self.key, self.origin, self.allowed),
            None => write!(f, "{} is not set: {}", self.key, self.allowed),
        }
    }
}

/// Values by canonical key, as text, each with its origin.
#[derive(Clone, Default)]
pub(crate) struct Settings(BTreeMap<&'static str, Setting>);

#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) value: String,
    pub(crate) origin: Origin,
}

impl Settings {
    /// What a setter of a builder does. Setters pass durations through [`millis`].
    pub(crate) fn set(&mut self, key: &'static str, value: impl Into<String>) {
        debug_assert!(keys::find(key).is_some(), "{key} is missing in config/keys.rs");
        self.0.insert(key, Setting { value: value.into(), origin: Origin::Code });
    }

    /// Takes over everything that `properties` has and somebody reads.
    pub(crate) fn extend(&mut self, properties: &Properties) {
        for (key, setting) in properties.known() {
            self.0.insert(key, setting);
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Setting> {
        self.0.get(key)
    }
}

/// A duration as the text of a setting: milliseconds, as Java's keys have them.
pub(crate) fn millis(duration: std::time::Duration) -> String {
    let micros = duration.as_micros();
    match micros % 1_000 {
        0 => (micros / 1_000).to_string(),
        rest => format!("{}.{rest:03}", micros / 1_000),
    }
}

/// The value of a setting as it may be shown.
pub(crate) fn masked<'a>(key: &str, value: &'a str) -> &'a str {
    if keys::is_secret(key) { "***" } else { value }
}
