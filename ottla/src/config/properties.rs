//! Settings by name: properties files, the environment, pairs.

use std::{fmt, path::Path, sync::Arc};

use super::{Origin, Setting, keys, masked};
use crate::{Error, Result};

/// Settings by Java's or librdkafka's names, unchanged: what a `client.properties` file holds.
///
/// Names that nobody knows are no error, since one file serves many programs; see [`Properties::warnings`].
#[derive(Clone, Default)]
pub struct Properties {
    entries: Vec<(String, Setting)>,
    warnings: Vec<Warning>,
}

/// A name in [`Properties`] that has no effect.
#[derive(Clone, PartialEq, Eq)]
pub struct Warning {
    key: String,
    origin: Origin,
    reason: String,
}

impl Warning {
    /// The name as it was written.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where it was written.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.reason)
    }
}

impl fmt::Debug for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Properties {
    /// Reads a file in the format of Java's `Properties`: `key=value`, `key: value` or `key value`, `#` and `!` for
    /// comments, `\` to go on in the next line, and Java's escapes. `${env:NAME}` in a value is what that variable of the
    /// environment holds, so that secrets need not stand in the file; Java wants `config.providers` for it (KIP-421), which
    /// are accepted and change nothing here.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when the file cannot be read, and
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when it is not UTF-8, has a broken escape, or names a variable that is
    /// not set.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let name: Arc<str> = path.as_ref().display().to_string().into();
        let bytes = std::fs::read(&path).map_err(|error| Error::io(format!("cannot read {name}"), error))?;
        let text =
            String::from_utf8(bytes).map_err(|_| Error::config_text(format!("{name} is not UTF-8")))?;
        Self::parse(&text, &name, |variable| std::env::var(variable).ok())
    }

    /// Reads environment variables: `KAFKA_BOOTSTRAP_SERVERS` is `bootstrap.servers` under the prefix `KAFKA_`.
    #[must_use]
    pub fn from_env(prefix: &str) -> Self {
        let mut variables: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(prefix))
            .collect();
        variables.sort();
        let mut properties = Self::default();
        for (name, value) in variables {
            let key = name[prefix.len()..].to_ascii_lowercase().replace('_', ".");
            properties.add(key, value, Origin::Environment(name.into()));
        }
        properties
    }

    /// Says where all of these settings come from, for errors, warnings and [`EffectiveSettings`](super::EffectiveSettings):
    /// an option's name, say.
    #[must_use]
    pub fn called(mut self, origin: &str) -> Self {
        let name: Arc<str> = origin.into();
        let warned = self.warnings.iter_mut().map(|warning| &mut warning.origin);
        for origin in self.entries.iter_mut().map(|(_, setting)| &mut setting.origin).chain(warned) {
            *origin = Origin::Named(Arc::clone(&name));
        }
        self
    }

    /// What is said of a setting, by either of its names; the last word counts.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let key = keys::find(key).map_or(key, |key| key.name);
        let same = |name: &str| keys::find(name).map_or(name, |known| known.name) == key;
        self.entries.iter().rev().find(|(name, _)| same(name)).map(|(_, setting)| setting.value.as_str())
    }

    /// What has no effect, and why: misspelt names, and settings that this version does not read.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The settings that somebody reads, by canonical name; the last one wins.
    pub(super) fn known(&self) -> impl Iterator<Item = (&'static str, Setting)> {
        self.entries.iter().filter_map(|(name, setting)| {
            let key = keys::find(name).filter(|key| key.read)?;
            Some((key.name, setting.clone()))
        })
    }

    fn add(&mut self, key: String, value: String, origin: Origin) {
        let reason = match keys::find(&key) {
            Some(known) if known.read => None,
            Some(_) => Some(format!("{key} has no effect in this version")),
            None if keys::is_security(&key) => Some(format!("{key} has no effect in this version")),
            None if keys::is_foreign(&key) => None,
            None => Some(match keys::similar(&key) {
                Some(name) => format!("unknown key {key}; did you mean {name}?"),
                None => format!("unknown key {key}"),
            }),
        };
        if let Some(reason) = reason {
            self.warnings.push(Warning { key: key.clone(), origin: origin.clone(), reason });
        }
        self.entries.push((key, Setting { value, origin }));
    }

    fn parse(text: &str, file: &Arc<str>, environment: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut properties = Self::default();
        let mut lines = text.lines().enumerate();
        while let Some((at, first)) = lines.next() {
            let first = first.trim_start();
            if first.is_empty() || first.starts_with(['#', '!']) {
                continue;
            }
            let mut logical = first.to_owned();
            while goes_on(&logical) {
                logical.pop();
                let Some((_, next)) = lines.next() else { break };
                logical.push_str(next.trim_start());
            }
            let (key, value) = split(&logical);
            let wrong = |reason| Error::config_text(format!("{file}:{}: {reason}", at + 1));
            let key = unescape(key).map_err(wrong)?;
            let value = unescape(value).and_then(|value| fill_in(value, &environment)).map_err(wrong)?;
            properties.add(key, value, Origin::File { path: file.clone(), line: at + 1 });
        }
        Ok(properties)
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Properties {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut properties = Self::default();
        for (key, value) in pairs {
            properties.add(key.into(), value.into(), Origin::Pair);
        }
        properties
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.entries.iter().map(|(key, set)| (key, masked(key, &set.value)))).finish()
    }
}

/// A line goes on in the next one if it ends in an odd number of backslashes.
fn goes_on(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Splits at the first `=`, `:` or white space that is not escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, c)| {
        let ends = !escaped && matches!(c, '=' | ':' | ' ' | '\t' | '\x0c');
        escaped = *c == '\\' && !escaped;
        ends
    });
    let Some((end, _)) = end else { return (line, "") };
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_start();
    (key, rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start())
}

/// Puts what the environment holds in the place of each `${env:NAME}`.
fn fill_in(value: String, environment: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    const OPEN: &str = "${env:";
    let mut filled = String::new();
    let mut rest = value.as_str();
    while let Some((before, after)) = rest.split_once(OPEN) {
        let Some((name, behind)) = after.split_once('}') else { break };
        let held = environment(name)
            .ok_or_else(|| format!("the environment variable {name} is not set, or is no UTF-8"))?;
        filled.push_str(before);
        filled.push_str(&held);
        rest = behind;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\x0c'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let c = u32::from_str_radix(&digits, 16)
                    .ok()
                    .filter(|_| digits.len() == 4)
                    .and_then(char::from_u32);
                out.push(
                    c.ok_or_else(|| format!("\\u{digits} is no character; write four hexadecimal digits"))?,
                );
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Properties {
        Properties::parse(text, &"client.properties".into(), environment).unwrap()
    }

    fn environment(name: &str) -> Option<String> {
        (name == "WORD").then(|| "open ${env:WORD} sesame".to_owned())
    }

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).entries.into_iter().map(|(key, setting)| (key, setting.value)).collect()
    }

    #[test]
    fn reads_javas_format() {
        let text = "# comment\n! another\n\n linger.ms = 20\nacks: all\nbatch.size 1000\nclient.id=a=b\\\n   c\n\
                    client.rack=eu\\u002dwest\\t1\ndebug";
        let expected = [
            ("linger.ms", "20"),
            ("acks", "all"),
            ("batch.size", "1000"),
            ("client.id", "a=bc"),
            ("client.rack", "eu-west\t1"),
            ("debug", ""),
        ];
        assert_eq!(pairs(text), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn dollar_signs_survive() {
        assert_eq!(pairs("client.id=$ConnectionString")[0].1, "$ConnectionString");
    }

    #[test]
    fn broken_escapes_name_the_line() {
        let error = Properties::parse("a=1\nb=\\u12", &"x.properties".into(), environment).unwrap_err();
        assert!(error.to_string().contains("x.properties:2"), "{error}");
    }

    #[test]
    fn the_environment_is_filled_in_once_and_in_values_only() {
        let text = "client.id=<${env:WORD}|${env:WORD}>\nclient.rack=${env:\n${env:WORD}=1";
        let expected = [
            ("client.id", "<open ${env:WORD} sesame|open ${env:WORD} sesame>"),
            ("client.rack", "${env:"),
            // Java's format ends a key at a colon.
            ("${env", "WORD}=1"),
        ];
        assert_eq!(pairs(text), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_variable_that_is_not_set_is_named_with_its_line() {
        let file = "x.properties".into();
        let error = Properties::parse("a=1\nb=${env:NO_SUCH}", &file, environment).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("x.properties:2") && said.contains("NO_SUCH is not set"), "{said}");
    }

    #[test]
    fn warns_of_what_has_no_effect_and_of_nothing_else() {
        let properties = parse(
            "linger.ms=5\nlinger.mss=5\nschema.registry.url=http://x\nkey.serializer=x\nwhat=1\nssl.ca=x\n\
             config.providers=env\nconfig.providers.env.class=x",
        );
        let warnings: Vec<_> = properties.warnings().iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [
                "client.properties:2: unknown key linger.mss; did you mean linger.ms?",
                "client.properties:4: key.serializer has no effect in this version",
                "client.properties:5: unknown key what",
                "client.properties:6: ssl.ca has no effect in this version",
            ]
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let properties = Properties::from_iter([("sasl.password", "hunter2"), ("client.id", "me")]);
        assert_eq!(format!("{properties:?}"), r#"{"sasl.password": "***", "client.id": "me"}"#);
    }

    #[test]
    fn a_setting_is_found_by_either_of_its_names() {
        let properties =
            Properties::from_iter([("linger.ms", "1"), ("queue.buffering.max.ms", "2"), ("x", "3")]);
        for name in ["linger.ms", "queue.buffering.max.ms"] {
            assert_eq!(properties.get(name), Some("2"), "{name}");
        }
        assert_eq!((properties.get("x"), properties.get("acks")), (Some("3"), None));
    }

    #[test]
    fn whoever_says_it_has_a_name() {
        let properties = Properties::from_iter([("linger.ms", "soon"), ("what", "1")]).called("-X");
        assert_eq!(properties.warnings()[0].to_string(), "-X: unknown key what");
        let (_, linger) = properties.known().next().unwrap();
        assert_eq!(linger.origin.to_string(), "-X");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Properties::load("/no/such/file.properties").unwrap_err();
        assert!(format!("{error:#}").contains("/no/such/file.properties"), "{error:#}");
    }
}
