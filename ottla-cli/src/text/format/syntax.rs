//! From a format string to its pieces.

use super::{
    Format, InLog, NOT_YET, Number, Piece, VERBS, Verb, attribute::Attribute, bytes::Encoding, clock::Clock,
    number::Notation,
};

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

    /// Reads a format in which records are printed that were read out of a log.
    pub(crate) fn parse_for_printing(text: &str) -> Result<Self, String> {
        let format = Self::parse(text)?;
        match format.find(&|piece| matches!(piece, Piece::Text(_, Encoding::Json | Encoding::Pattern(_)))) {
            true => Err("{json} and {re[…]} are for reading only, with `ottla produce`".to_owned()),
            false => Ok(format),
        }
    }

    /// Reads a format in which records are printed that were just written: what only a log says of them is not known.
    pub(crate) fn parse_for_written(text: &str) -> Result<Self, String> {
        let format = Self::parse_for_printing(text)?;
        match format.find(&Piece::is_from_log) {
            true => {
                Err("%e %x %y %a %[ %| %] are known of records that are read, with `ottla consume`; the \
                         acknowledgement of a record does not say them"
                    .to_owned())
            }
            false => Ok(format),
        }
    }

    /// Whether it says something of the partition's log that a record itself does not.
    pub(crate) fn wants_log_offsets(&self) -> bool {
        self.find(&|piece| {
            matches!(
                piece,
                Piece::Number(Number::InLog(InLog::Start | InLog::LastStable | InLog::HighWatermark), _)
            )
        })
    }

    /// Whether there is such a piece, also in a part for headers.
    fn find(&self, is_it: &dyn Fn(&Piece) -> bool) -> bool {
        let inside = |piece: &Piece| matches!(piece, Piece::Headers(format) if format.find(is_it));
        self.0.iter().any(|piece| is_it(piece) || inside(piece))
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

impl Piece {
    fn is_from_log(&self) -> bool {
        matches!(self, Self::Number(Number::InLog(_), _) | Self::Attribute(_))
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
    if let Some((_, what)) = NOT_YET.iter().find(|(name, _)| *name == letter) {
        return Err(format!("%{letter} is {what}"));
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
        (Verb::Attribute, None) => return Err("which one? As in %a{compression}".to_owned()),
        (Verb::Attribute, Some(inner)) => Piece::Attribute(Attribute::parse(inner)?),
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
            ("%D", "%D is the delivery count of a share group"),
            ("%a", "%a: which one?"),
            ("%a{codec}", "%a: 'codec' is no attribute"),
            ("%]{rot13}", "%]: 'rot13'"),
            ("%v{re}", "%v: write it as re[…]"),
            ("%v{re[(]}", "%v: regex parse error"),
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
    fn what_is_not_known_there_is_not_printed() {
        assert!(Format::parse_for_printing("%v{json}").unwrap_err().contains("reading only"));
        assert!(Format::parse_for_printing("%h{%v{re[a]}}").unwrap_err().contains("reading only"));
        for format in ["%e", "%h{%x}", "%y", "%a{compression}", "%[", "%|", "%]"] {
            assert!(Format::parse_for_printing(format).is_ok(), "{format}");
            assert!(Format::parse_for_written(format).unwrap_err().contains("ottla consume"), "{format}");
        }
        let wants = |format| Format::parse(format).unwrap().wants_log_offsets();
        assert!(wants("%[") && wants("%h{%|}") && wants("%]") && !wants("%e %x %y %a{compression}"));
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
