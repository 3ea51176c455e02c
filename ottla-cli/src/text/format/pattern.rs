//! `%v{re[[0-9]+]}`: as much text as a regular expression matches.

use regex::bytes::Regex;

use super::syntax::enclosed;

/// An expression that matches at the front of what is left.
#[derive(Debug, Clone)]
pub(super) struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl Pattern {
    /// Reads what stands behind `re`: an expression between marks, as `[…]` or `#…#`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let expression = enclosed(text).ok_or("write it as re[…] or re#…#")?;
        // Errors show the expression as it was written, so that is read first.
        Regex::new(expression).map_err(|error| error.to_string())?;
        Regex::new(&format!("^(?:{expression})")).map(Self).map_err(|error| error.to_string())
    }

    /// How many bytes at the front match, if they do.
    pub(super) fn length(&self, bytes: &[u8]) -> Option<usize> {
        self.0.find(bytes).map(|found| found.end())
    }
}
