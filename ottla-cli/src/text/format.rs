//! Format strings as kcl has them: `%p %o %k=%v %h{%k:%v }\n`.
//!
//! | verb | is |
//! |---|---|
//! | `%t` `%p` `%o` | topic, partition, offset |
//! | `%d` | timestamp in milliseconds since the epoch |
//! | `%k` `%v` | key, value; empty when there is none |
//! | `%T` `%K` `%V` | their lengths in bytes; -1 when there is none |
//! | `%h{…}` | the part in braces once for each header; `%k` and `%v` in it are the header's |
//! | `%H` | number of headers |
//! | `%i` | records printed so far, from 1 |
//! | `%k{hex}` `%v{base64}` | a text verb in another notation |
//! | `%%` `%{` `%}` | the character itself |
//! | `\n` `\t` `\r` `\\` `\0` `\xNN` | escapes |

use std::io::{self, Write};

use super::Printed;

/// A format string, read once and used for each record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Topic(Notation),
    Key(Notation),
    Value(Notation),
    TopicLength,
    KeyLength,
    ValueLength,
    Partition,
    Offset,
    Timestamp,
    HeaderCount,
    Headers(Format),
    Running,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Notation {
    Raw,
    Hex,
    Base64,
}

impl Format {
    /// Reads a format string; the error says what is wrong and where.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let after = &rest[c.len_utf8()..];
            rest = match c {
                '%' => verb(after, &mut literal, &mut pieces)?,
                '\\' => escape(after, &mut literal)?,
                _ => {
                    literal.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    after
                }
            };
        }
        flush(&mut literal, &mut pieces);
        Ok(Self(pieces))
    }

    /// Writes one record; `running` counts records from 1.
    pub(crate) fn write(&self, record: &Printed<'_>, running: u64, out: &mut impl Write) -> io::Result<()> {
        for piece in &self.0 {
            match piece {
                Piece::Literal(bytes) => out.write_all(bytes)?,
                Piece::Topic(notation) => write_bytes(Some(record.topic.as_bytes()), *notation, out)?,
                Piece::Key(notation) => write_bytes(record.key, *notation, out)?,
                Piece::Value(notation) => write_bytes(record.value, *notation, out)?,
                Piece::TopicLength => write!(out, "{}", record.topic.len())?,
                Piece::KeyLength => write_length(record.key, out)?,
                Piece::ValueLength => write_length(record.value, out)?,
                Piece::Partition => write!(out, "{}", record.partition)?,
                Piece::Offset => write!(out, "{}", record.offset)?,
                Piece::Timestamp => write!(out, "{}", record.timestamp)?,
                Piece::HeaderCount => write!(out, "{}", record.headers.len())?,
                Piece::Running => write!(out, "{running}")?,
                Piece::Headers(inner) => {
                    for (key, value) in record.headers {
                        let header = Printed { key: Some(key.as_bytes()), value: *value, ..*record };
                        // Dynamic dispatch ends the recursion of types: a header's format has no `%h` in it.
                        inner.write_header(&header, running, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn write_header(&self, header: &Printed<'_>, running: u64, out: &mut dyn Write) -> io::Result<()> {
        self.write(header, running, &mut Box::new(out))
    }
}

fn flush(literal: &mut Vec<u8>, pieces: &mut Vec<Piece>) {
    if !literal.is_empty() {
        pieces.push(Piece::Literal(std::mem::take(literal)));
    }
}

/// Reads what follows a `%`; returns what follows the verb.
fn verb<'a>(text: &'a str, literal: &mut Vec<u8>, pieces: &mut Vec<Piece>) -> Result<&'a str, String> {
    let Some(c) = text.chars().next() else {
        return Err("the format ends in a lone '%'; write '%%' for the character itself".into());
    };
    let after = &text[c.len_utf8()..];
    if matches!(c, '%' | '{' | '}') {
        literal.push(c as u8);
        return Ok(after);
    }
    flush(literal, pieces);
    let simple = match c {
        'T' => Piece::TopicLength,
        'K' => Piece::KeyLength,
        'V' => Piece::ValueLength,
        'p' => Piece::Partition,
        'o' => Piece::Offset,
        'd' => Piece::Timestamp,
        'H' => Piece::HeaderCount,
        'i' => Piece::Running,
        'h' => {
            let (inner, after) = braces(after).ok_or("%h needs a part in braces, as in %h{%k=%v }")?;
            let inner = Format::parse(inner)?;
            if inner.0.iter().any(|piece| matches!(piece, Piece::Headers(_))) {
                return Err("%h cannot stand inside %h{…}".into());
            }
            pieces.push(Piece::Headers(inner));
            return Ok(after);
        }
        't' | 'k' | 'v' => {
            let (notation, after) = notation(after)?;
            pieces.push(match c {
                't' => Piece::Topic(notation),
                'k' => Piece::Key(notation),
                _ => Piece::Value(notation),
            });
            return Ok(after);
        }
        _ => {
            return Err(format!(
                "'%{c}' is not a verb; there are %t %p %o %d %k %v %T %K %V %h{{…}} %H %i and %%"
            ));
        }
    };
    pieces.push(simple);
    Ok(after)
}

fn notation(text: &str) -> Result<(Notation, &str), String> {
    match braces(text) {
        None => Ok((Notation::Raw, text)),
        Some(("hex", after)) => Ok((Notation::Hex, after)),
        Some(("base64", after)) => Ok((Notation::Base64, after)),
        Some((other, _)) => Err(format!("'{{{other}}}' is not a notation; there are {{hex}} and {{base64}}")),
    }
}

/// What stands in the braces that `text` starts with, and what follows them. `%{` and `%}` do not count.
fn braces(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('{')?;
    let (mut depth, mut escaped) = (0, false);
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '%' => escaped = true,
            '{' => depth += 1,
            '}' if depth == 0 => return Some((&inner[..at], &inner[at + 1..])),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn escape<'a>(text: &'a str, literal: &mut Vec<u8>) -> Result<&'a str, String> {
    let wrong = || "a '\\' is followed by n, t, r, 0, \\ or xNN (two hex digits)".to_string();
    let c = text.chars().next().ok_or_else(wrong)?;
    let after = &text[c.len_utf8()..];
    literal.push(match c {
        'n' => b'\n',
        't' => b'\t',
        'r' => b'\r',
        '0' => 0,
        '\\' => b'\\',
        'x' => {
            let digits = after.get(..2).ok_or_else(wrong)?;
            literal.push(u8::from_str_radix(digits, 16).map_err(|_| wrong())?);
            return Ok(&after[2..]);
        }
        _ => return Err(wrong()),
    });
    Ok(after)
}

fn write_bytes(bytes: Option<&[u8]>, notation: Notation, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    let bytes = bytes.unwrap_or_default();
    match notation {
        Notation::Raw => out.write_all(bytes),
        Notation::Hex => bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}")),
        Notation::Base64 => out.write_all(super::json_line::base64(bytes).as_bytes()),
    }
}

fn write_length(bytes: Option<&[u8]>, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    match bytes {
        Some(bytes) => write!(out, "{}", bytes.len()),
        None => out.write_all(b"-1"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, Printed};

    const RECORD: Printed<'static> = Printed {
        topic: "orders",
        partition: 3,
        offset: 42,
        timestamp: 1_700_000_000_000,
        key: Some(b"k\xff"),
        value: None,
        headers: &[("a", Some(b"1")), ("a", None)],
    };

    fn printed(format: &str) -> Vec<u8> {
        let mut out = Vec::new();
        Format::parse(format).expect(format).write(&RECORD, 1, &mut out).unwrap();
        out
    }

    #[test]
    fn each_verb_prints_its_part() {
        for (format, expected) in [
            ("%t/%p/%o", "orders/3/42"),
            ("%d %T %K %V %H %i", "1700000000000 6 2 -1 2 1"),
            ("%k{hex} %k{base64} [%v]", "6bff a/8= []"),
            ("%h{%k=%v;}", "a=1;a=;"),
            ("%h{<%%%{%}%k>}", "<%{}a><%{}a>"),
            ("%h{ {%k} }", " {a}  {a} "),
            (r"a\tb\n\x41\\", "a\tb\nA\\"),
            ("100%% é", "100% é"),
        ] {
            assert_eq!(printed(format), expected.as_bytes(), "{format}");
        }
        assert_eq!(printed("%k"), b"k\xff", "bytes go out as they are");
    }

    #[test]
    fn what_is_no_format_is_refused() {
        for format in ["%", "%q", "%v{rot13}", "%h", "%h{%h{%k}}", "%h{%k", r"\q", r"\x4", r"\xé", "\\"] {
            assert!(Format::parse(format).is_err(), "{format}");
        }
    }
}
