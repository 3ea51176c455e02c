//! `%a{compression}`, `%a{transactional-bit;bool}`: what a record shares with the batch that it came in.

use std::io::{self, Write};

use super::number::Notation;
use crate::text::InLog;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attribute {
    what: What,
    /// None writes a codec by its name, and the others as digits.
    notation: Option<Notation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Compression,
    TimestampType,
    Transactional,
    Control,
}

const NAMES: &[(&str, What)] = &[
    ("compression", What::Compression),
    ("timestamp-type", What::TimestampType),
    ("transactional-bit", What::Transactional),
    ("control-bit", What::Control),
];

impl Attribute {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, notation) = match text.split_once(';') {
            Some((name, notation)) => (name, Some(Notation::parse(notation)?)),
            None => (text, None),
        };
        match NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, what)) => Ok(Self { what: *what, notation }),
            None => {
                let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
                Err(format!("'{name}' is no attribute; there are {}", names.join(" ")))
            }
        }
    }

    pub(super) fn write(self, of: &InLog, out: &mut dyn Write) -> io::Result<()> {
        let number = match (self.what, self.notation) {
            (What::Compression, None) => return write!(out, "{}", of.compression),
            (What::Compression, _) => of.compression.id().into(),
            (What::TimestampType, _) => of.timestamp_type.into(),
            (What::Transactional, _) => of.transactional.into(),
            // Control records are for clients; none is ever printed.
            (What::Control, _) => 0,
        };
        self.notation.unwrap_or(Notation::Ascii).write(number, out)
    }
}

#[cfg(test)]
mod tests {
    use ottla::Compression;

    use super::*;

    #[test]
    fn each_attribute_is_written_as_word_or_number() {
        let of = InLog {
            compression: Compression::Zstd,
            timestamp_type: 1,
            transactional: true,
            ..InLog::default()
        };
        for (text, expected) in [
            ("compression", "zstd"),
            ("compression;number", "4"),
            ("compression;hex8", "04"),
            ("timestamp-type", "1"),
            ("transactional-bit", "1"),
            ("transactional-bit;bool", "true"),
            ("control-bit;bool", "false"),
        ] {
            let mut out = Vec::new();
            Attribute::parse(text).unwrap().write(&of, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_attribute_is_refused_with_what_is_one() {
        assert!(Attribute::parse("codec").unwrap_err().contains("compression timestamp-type"));
        assert!(Attribute::parse("compression;rot13").unwrap_err().contains("'rot13'"));
    }
}
