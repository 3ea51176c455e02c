//! From a format string to its pieces.

use super::{Format, Number, Piece, VERBS, Verb, bytes::Encoding, clock::Clock, number::Notation};

impl Format {
    /// Reads a format string; the error says what is wrong and what there is.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let after = &rest[c.len_utf8()..];
            rest = match c {
                '%' => percent(after, &mut pieces)?,
                '\\' => {
                    let (byte, after) = escape(after)?;
                    literal(&mut pieces, &[byte]);
                    after
                }
                _ => {
                    literal(&mut pieces, c.encode_utf8(&mut [0; 4]).as_bytes());
                    after
                }
            };
        }
        Ok(Self(pieces))
    }

    /// A key, a separator, a value and the end of the line, as Kafka's own tools separate them.
    pub(crate) fn key_and_value(separator: &str) -> Result<Self, String> {
        if separator.is_empty() {
            return Err("the separator is empty".to_owned());
        }
        let mut format = Self::parse(r"%k%v\n")?;
        format.0.insert(1, Piece::Literal(separator.as_bytes().to_vec()));
        Ok(format)
    }
}

fn literal(pieces: &mut Vec<Piece>, bytes: &[u8]) {
    match pieces.last_mut() {
        Some(Piece::Literal(literal)) => literal.extend_from_slice(bytes),
        _ => pieces.push(Piece::Literal(bytes.to_vec())),
    }
}

/// Reads what follows a `%`; returns what follows the verb and its braces.
fn percent<'a>(text: &'a str, pieces: &mut Vec<Piece>) -> Result<&'a str, String> {
    let Some(letter) = text.chars().next() else {
        return Err("the format ends in a lone '%'; write '%%' for the character itself".to_owned());
    };
    let after = &text[letter.len_utf8()..];
    if matches!(letter, '%' | '{' | '}') {
        literal(pieces, &[letter as u8]);
        return Ok(after);
    }
    let Some((_, verb, _)) = VERBS.iter().find(|(name, ..)| *name == letter) else {
        let all: Vec<_> = VERBS.iter().map(|(letter, ..)| format!("%{letter}")).collect();
        return Err(format!("'%{letter}' is not a verb; there are {} and %%", all.join(" ")));
    };
    let (inner, after) = match braces(after)? {
        Some((inner, after)) => (Some(inner), after),
        None => (None, after),
    };
    pieces.push(piece(*verb, inner).map_err(|error| format!("%{letter}: {error}"))?);
    Ok(after)
}

fn piece(verb: Verb, inner: Option<&str>) -> Result<Piece, String> {
    Ok(match (verb, inner) {
        (Verb::Text(text), None) => Piece::Text(text, Encoding::Raw),
        (Verb::Text(text), Some(inner)) => Piece::Text(text, Encoding::parse(inner)?),
        (Verb::Number(number), None) => Piece::Number(number, Notation::Ascii),
        (Verb::Number(Number::Timestamp), Some(inner)) => match Clock::parse(inner)? {
            Some(clock) => Piece::Date(clock),
            None => Piece::Number(Number::Timestamp, Notation::parse(inner)?),
        },
        (Verb::Number(number), Some(inner)) => Piece::Number(number, Notation::parse(inner)?),
        (Verb::Headers, None) => return Err("a part in braces is missing, as in %h{%k=%v }".to_owned()),
        (Verb::Headers, Some(inner)) => {
            let format = Format::parse(inner)?;
            if format.0.iter().any(|piece| matches!(piece, Piece::Headers(_))) {
                return Err("%h cannot stand inside %h{…}".to_owned());
            }
            Piece::Headers(format)
        }
    })
}

/// What stands in the braces that `text` starts with, and what follows them. `%{` and `%}` do not count.
fn braces(text: &str) -> Result<Option<(&str, &str)>, String> {
    let Some(inner) = text.strip_prefix('{') else { return Ok(None) };
    let (mut depth, mut escaped) = (0, false);
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '%' => escaped = true,
            '{' => depth += 1,
            '}' if depth == 0 => return Ok(Some((&inner[..at], &inner[at + 1..]))),
            '}' => depth -= 1,
            _ => {}
        }
    }
    Err(format!("the brace in '{text}' is not closed; write '%{{' for the character itself"))
}

/// What stands between any number of `#`, `[`, `(` and `{` and the same ones closed: `##%F##`, `[%F]`.
pub(super) fn enclosed(text: &str) -> Option<&str> {
    let closes = |open: char| match open {
        '#' => Some('#'),
        '[' => Some(']'),
        '(' => Some(')'),
        '{' => Some('}'),
        _ => None,
    };
    let mut inner = text;
    while let Some(close) = inner.chars().next().and_then(closes) {
        // A lone `#` in the middle is part of the text, as is whatever is closed nowhere.
        match inner.get(1..).and_then(|rest| rest.strip_suffix(close)) {
            Some(rest) => inner = rest,
            None => break,
        }
    }
    (inner.len() < text.len()).then_some(inner)
}

/// Reads what follows a backslash.
fn escape(text: &str) -> Result<(u8, &str), String> {
    let wrong = || r"a '\' is followed by n, t, r, 0, \ or xNN (two hex digits)".to_owned();
    let c = text.chars().next().ok_or_else(wrong)?;
    let after = &text[c.len_utf8()..];
    let byte = match c {
        'n' => b'\n',
        't' => b'\t',
        'r' => b'\r',
        '0' => 0,
        '\\' => b'\\',
        'x' => {
            let (digits, after) = after.split_at_checked(2).ok_or_else(wrong)?;
            return Ok((u8::from_str_radix(digits, 16).map_err(|_| wrong())?, after));
        }
        _ => return Err(wrong()),
    };
    Ok((byte, after))
}

#[cfg(test)]
mod tests {
    use super::{Format, enclosed};

    #[test]
    fn what_is_no_format_is_refused_with_what_there_is() {
        for (format, said) in [
            ("%", "lone '%'"),
            ("%q", "'%q' is not a verb; there are %t %T"),
            ("%v{rot13}", "%v: 'rot13'"),
            ("%V{rot13}", "%V: 'rot13'"),
            ("%d{sundial}", "%d: 'sundial'"),
            ("%d{strftime}", "strftime[%F]"),
            ("%h", "as in %h{%k=%v }"),
            ("%h{%h{%k}}", "inside"),
            ("%h{%k", "not closed"),
            ("%v{hex", "not closed"),
            (r"\q", "followed by"),
            (r"\x4", "followed by"),
            (r"\xé", "followed by"),
            ("\\", "followed by"),
        ] {
            let error = Format::parse(format).unwrap_err();
            assert!(error.contains(said), "{format}: {error}");
        }
    }

    #[test]
    fn enclosing_marks_nest() {
        for (text, inner) in
            [("[%F]", "%F"), ("##%F##", "%F"), ("#[{%F #}]#", "%F #"), ("[[a]b]", "[a]b"), ("[]", "")]
        {
            assert_eq!(enclosed(text), Some(inner), "{text}");
        }
        for text in ["", "%F", "[%F", "#"] {
            assert_eq!(enclosed(text), None, "{text}");
        }
    }
}
