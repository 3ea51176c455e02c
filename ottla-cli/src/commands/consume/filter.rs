//! `--grep`: which records are printed.

use std::str::FromStr;

use ottla::RecordView;
use regex::bytes::Regex;

/// One condition, as `k:^ada`, `!v:error`, `h:via=web`.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    field: Field,
    pattern: Regex,
    /// Records that do not match are meant.
    negated: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    Topic,
    Key,
    Value,
    /// The key of any header.
    HeaderKey,
    /// The value of any header.
    HeaderValue,
    /// The value of any header of that key.
    Header(String),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (negated, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (field, rest) =
            rest.split_once(':').ok_or("use k:, v:, t:, hk:, hv: or h:NAME= and a regular expression")?;
        let (field, pattern) = match field {
            "t" => (Field::Topic, rest),
            "k" => (Field::Key, rest),
            "v" => (Field::Value, rest),
            "hk" => (Field::HeaderKey, rest),
            "hv" => (Field::HeaderValue, rest),
            "h" => {
                let (name, pattern) = rest.split_once('=').ok_or("a header is h:NAME=EXPRESSION")?;
                (Field::Header(name.to_owned()), pattern)
            }
            other => return Err(format!("'{other}:' is none of k:, v:, t:, hk:, hv:, h:NAME=")),
        };
        let pattern = Regex::new(pattern).map_err(|error| error.to_string())?;
        Ok(Self { field, pattern, negated })
    }
}

impl Filter {
    /// Whether a record is printed. What is not there matches nothing.
    pub(super) fn shows(&self, record: &RecordView<'_>) -> bool {
        let matches = |bytes: Option<&[u8]>| bytes.is_some_and(|bytes| self.pattern.is_match(bytes));
        let found = match &self.field {
            Field::Topic => matches(Some(record.topic().as_bytes())),
            Field::Key => matches(record.key()),
            Field::Value => matches(record.value()),
            Field::HeaderKey => record.headers().any(|header| matches(Some(header.key_bytes()))),
            Field::HeaderValue => record.headers().any(|header| matches(header.value())),
            Field::Header(name) => record
                .headers()
                .any(|header| header.key_bytes() == name.as_bytes() && matches(header.value())),
        };
        found != self.negated
    }
}

#[cfg(test)]
mod tests {
    use super::Filter;

    #[test]
    fn what_is_no_filter_is_refused_with_what_is_one() {
        for (text, said) in
            [("ada", "hk:"), ("x:ada", "'x:' is none of k:"), ("h:via", "h:NAME="), ("v:(", "unclosed")]
        {
            let error = text.parse::<Filter>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
