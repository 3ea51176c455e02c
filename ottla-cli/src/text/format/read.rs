//! Records read in a format, from what need not fit into memory.
//!
//! ```text
//!   number   of a fixed size, or as far as it goes
//!   text     as long as the number in front of it says, as much as an expression matches, or up to what stands behind it
//!   headers  as many as the number in front of them says
//!   the rest must stand there as it is
//! ```
//! What ends the last record may be missing at the end of the input.

use std::io::{self, BufRead, Read};

use super::{Encoding, Format, InLog, Notation, Number, Piece, Text, pattern::Pattern, replay::Replay};
use crate::text::NewRecord;

/// The records of an input.
pub(crate) struct Records<R> {
    format: Format,
    input: Input<R>,
}

impl<R: Read> Records<R> {
    /// Reads records of at most `limit` bytes, all that belongs to them counted. The error says why no record can be read
    /// in that format.
    pub(crate) fn new(format: Format, reader: R, limit: usize) -> Result<Self, String> {
        check(&format.0, false)?;
        Ok(Self { format, input: Input { reader: Replay::new(reader), limit, taken: 0 } })
    }

    /// The next record; none at the end.
    pub(crate) fn next(&mut self) -> Result<Option<NewRecord>, String> {
        self.input.taken = 0;
        if matches!(self.format.0.first(), Some(Piece::Text(_, Encoding::Json))) {
            self.input.skip_space()?;
        }
        if self.input.peek()?.is_none() {
            return Ok(None);
        }
        let mut record = NewRecord::default();
        read(&self.format.0, &mut self.input, &mut record, true)?;
        match self.input.taken {
            // An expression that matches nothing would match it for ever.
            0 => Err("the format reads nothing of what is left".to_owned()),
            _ => Ok(Some(record)),
        }
    }

    /// Whether the next record may have to be waited for.
    pub(crate) fn may_wait(&self) -> bool {
        self.input.reader.buffer().is_empty()
    }
}

/// Whether records can be read: what ends each text must be known.
fn check(pieces: &[Piece], in_header: bool) -> Result<(), String> {
    let mut sized = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Attribute(_) => return Err("%a is for printing only".to_owned()),
            Piece::Number(Number::InLog(InLog::Start | InLog::LastStable | InLog::HighWatermark), _) => {
                return Err("%[ %| %] are for printing only".to_owned());
            }
            Piece::Number(number, _) => sized.push(*number),
            Piece::Text(text, Encoding::Pattern(_)) if sized.contains(&Number::Length(*text)) => {
                return Err(format!(
                    "either the length of the {} or {{re[…]}} says where it ends",
                    name(*text)
                ));
            }
            Piece::Date(_) => return Err("a timestamp is read as a number: %d".to_owned()),
            Piece::Text(_, Encoding::Unpack(_)) => return Err("{unpack} is for printing only".to_owned()),
            Piece::Text(_, Encoding::Json | Encoding::Pattern(_)) => {}
            Piece::Text(text, _) if sized.contains(&Number::Length(*text)) => {}
            Piece::Text(text, _) => match pieces.get(at + 1) {
                Some(Piece::Literal(_)) => {}
                None if !in_header => {}
                _ => {
                    let (small, big) = letters(*text);
                    return Err(format!(
                        "where does the {} end? Put its length in front (%{big}%{small}), or a separator behind it",
                        name(*text)
                    ));
                }
            },
            Piece::Headers(format) => {
                if !sized.contains(&Number::HeaderCount) {
                    return Err("how many headers are there? Put %H in front of %h{…}".to_owned());
                }
                check(&format.0, true)?;
            }
            Piece::Literal(_) => {}
        }
    }
    match pieces.iter().any(|piece| matches!(piece, Piece::Text(..))) {
        true => Ok(()),
        false => Err("there is neither a key nor a value in it".to_owned()),
    }
}

fn name(text: Text) -> &'static str {
    match text {
        Text::Topic => "topic",
        Text::Key => "key",
        Text::Value => "value",
    }
}

fn letters(text: Text) -> (char, char) {
    match text {
        Text::Topic => ('t', 'T'),
        Text::Key => ('k', 'K'),
        Text::Value => ('v', 'V'),
    }
}

/// The numbers that say how much follows.
#[derive(Default)]
struct Sizes(Vec<(Number, i64)>);

impl Sizes {
    fn get(&self, number: Number) -> Option<i64> {
        self.0.iter().rev().find(|(known, _)| *known == number).map(|(_, value)| *value)
    }
}

fn read<R: Read>(
    pieces: &[Piece],
    input: &mut Input<R>,
    record: &mut NewRecord,
    may_end: bool,
) -> Result<(), String> {
    let mut sizes = Sizes::default();
    let mut done = 0;
    while let Some(piece) = pieces.get(done) {
        let is_last = |at: usize| at + 1 == pieces.len() && may_end;
        done += 1;
        match piece {
            Piece::Literal(bytes) => input.expect(bytes, is_last(done - 1))?,
            Piece::Number(number, notation) => {
                let value = input.number(*notation)?;
                sizes.0.push((*number, value));
                take_number(record, *number, value)?;
            }
            Piece::Text(text, encoding) => {
                let bytes = match (encoding, sizes.get(Number::Length(*text)), pieces.get(done)) {
                    (Encoding::Json, ..) => Some(input.json(name(*text))?),
                    (Encoding::Pattern(pattern), ..) => Some(input.matched(pattern, name(*text))?),
                    (_, Some(size), _) => input.sized(size, encoding, *text)?,
                    (_, None, Some(Piece::Literal(end))) => {
                        done += 1;
                        Some(input.until(end, is_last(done - 1), name(*text))?)
                    }
                    (_, None, _) => Some(input.all()?),
                };
                let bytes = bytes.map(|bytes| encoding.read(bytes)).transpose();
                take_text(record, *text, bytes.map_err(|error| format!("{}: {error}", name(*text)))?)?;
            }
            Piece::Headers(format) => {
                let count = sizes.get(Number::HeaderCount).unwrap_or_default();
                for _ in 0..count {
                    let mut header = NewRecord::default();
                    read(&format.0, input, &mut header, false)?;
                    record.headers.push((header.key.unwrap_or_default(), header.value));
                }
            }
            // `check` lets none through.
            Piece::Date(_) | Piece::Attribute(_) => {}
        }
    }
    Ok(())
}

fn take_number(record: &mut NewRecord, number: Number, value: i64) -> Result<(), String> {
    match number {
        Number::Partition => {
            let partition = i32::try_from(value).ok().filter(|partition| *partition >= 0);
            record.partition = Some(partition.ok_or_else(|| format!("{value} is no partition"))?);
        }
        // A record without a timestamp gets one when it is sent.
        Number::Timestamp => record.timestamp = u64::try_from(value).ok(),
        // Where the record was, not where it goes.
        Number::Offset | Number::Running | Number::Length(_) | Number::HeaderCount | Number::InLog(_) => {}
    }
    Ok(())
}

fn take_text(record: &mut NewRecord, text: Text, bytes: Option<Vec<u8>>) -> Result<(), String> {
    match text {
        Text::Key => record.key = bytes,
        Text::Value => record.value = bytes,
        Text::Topic => {
            let topic = bytes.map(String::from_utf8).transpose().map_err(|_| "the topic is not UTF-8")?;
            record.topic = topic;
        }
    }
    Ok(())
}

/// What is read from, with how much one record took of it.
struct Input<R> {
    reader: Replay<R>,
    taken: usize,
    limit: usize,
}

impl<R: Read> Input<R> {
    fn peek(&mut self) -> Result<Option<u8>, String> {
        loop {
            match self.reader.fill_buf() {
                Ok(buffer) => return Ok(buffer.first().copied()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn skip_space(&mut self) -> Result<(), String> {
        while self.peek()?.is_some_and(|byte| byte.is_ascii_whitespace()) {
            self.reader.consume(1);
        }
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> Result<(), String> {
        self.taken = self.taken.saturating_add(bytes);
        if self.taken > self.limit { Err(too_long(self.limit)) } else { Ok(()) }
    }

    fn exactly(&mut self, size: usize, what: &str) -> Result<Vec<u8>, String> {
        // Before anything is read: a size may be nonsense.
        self.take(size)?;
        let mut bytes = Vec::new();
        (&mut self.reader).take(size as u64).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        match bytes.len() == size {
            true => Ok(bytes),
            false => Err(format!("the input ends inside of the {what}")),
        }
    }

    fn sized(&mut self, size: i64, encoding: &Encoding, text: Text) -> Result<Option<Vec<u8>>, String> {
        if size == -1 {
            return Ok(None);
        }
        let size = usize::try_from(size).ok().and_then(|size| encoding.size(size));
        let size = size.ok_or_else(|| format!("the {} has a length that cannot be", name(text)))?;
        self.exactly(size, name(text)).map(Some)
    }

    fn all(&mut self) -> Result<Vec<u8>, String> {
        let most = self.limit - self.taken.min(self.limit);
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(most as u64 + 1).read_to_end(&mut bytes);
        self.take(read.map_err(|error| error.to_string())?)?;
        Ok(bytes)
    }

    /// Everything in front of `end`, which is taken as well. At the end of the input it may be missing if `may_end`.
    fn until(&mut self, end: &[u8], may_end: bool, what: &str) -> Result<Vec<u8>, String> {
        let Some(last) = end.last() else { return Ok(Vec::new()) };
        let most = self.limit - self.taken.min(self.limit);
        let mut reader = (&mut self.reader).take(most as u64 + 1);
        let mut bytes = Vec::new();
        loop {
            let read = reader.read_until(*last, &mut bytes).map_err(|error| error.to_string())?;
            if bytes.ends_with(end) {
                self.take(bytes.len())?;
                bytes.truncate(bytes.len() - end.len());
                return Ok(bytes);
            }
            if read == 0 {
                self.take(bytes.len())?;
                return match may_end {
                    true => Ok(bytes),
                    false => Err(format!("{} is missing behind the {what}", shown(end))),
                };
            }
        }
    }

    fn expect(&mut self, literal: &[u8], may_end: bool) -> Result<(), String> {
        if may_end && self.peek()?.is_none() {
            return Ok(());
        }
        let wrong = || format!("{} is missing", shown(literal));
        if self.exactly(literal.len(), "record").map_err(|_| wrong())? == literal {
            Ok(())
        } else {
            Err(wrong())
        }
    }

    fn number(&mut self, notation: Notation) -> Result<i64, String> {
        let bytes = match notation.size() {
            Some(size) => self.exactly(size, "number")?,
            None => {
                let mut digits = Vec::new();
                while let Some(byte) = self.peek()?.filter(|byte| notation.goes_on(*byte, digits.len())) {
                    self.take(1)?;
                    digits.push(byte);
                    self.reader.consume(1);
                }
                digits
            }
        };
        notation.read(&bytes).ok_or_else(|| match bytes.as_slice() {
            [] => "a number is missing".to_owned(),
            bytes => format!("{} is not the number that the format says", shown(bytes)),
        })
    }

    /// As much as the expression matches of the line, and of lines behind it if the match goes up to the line's end. More
    /// is not looked at, so that what somebody types is taken line by line.
    fn matched(&mut self, pattern: &Pattern, what: &str) -> Result<Vec<u8>, String> {
        let most = self.limit - self.taken.min(self.limit);
        let mut seen = Vec::new();
        let mut lines = 1;
        let length = loop {
            let mut ended = false;
            for _ in 0..lines {
                let left = (most + 1).saturating_sub(seen.len()) as u64;
                let read = (&mut self.reader).take(left).read_until(b'\n', &mut seen);
                ended = read.map_err(|error| error.to_string())? == 0;
            }
            match pattern.length(&seen) {
                Some(length) if length < seen.len() || ended => break length,
                // What does not match so far may do so with more of the input.
                None if ended => return Err(format!("the {what} does not match: {}", shown(&seen))),
                _ => lines *= 2,
            }
        };
        self.take(length)?;
        self.reader.put_back(seen.get(length..).unwrap_or_default());
        seen.truncate(length);
        Ok(seen)
    }

    /// One JSON value with its brackets or quotes balanced, and the space in front of it left out.
    fn json(&mut self, what: &str) -> Result<Vec<u8>, String> {
        self.skip_space()?;
        let mut json = Vec::new();
        let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
        while let Some(byte) = self.peek()? {
            let ends_scalar = depth == 0 && !quoted && !json.is_empty();
            if ends_scalar && (byte.is_ascii_whitespace() || b",:]}".contains(&byte)) {
                break;
            }
            self.reader.consume(1);
            self.take(1)?;
            json.push(byte);
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b'{' | b'[' if !quoted => depth += 1,
                b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && !quoted && matches!(byte, b'"' | b'}' | b']') {
                break;
            }
        }
        match serde_json::from_slice::<serde_json::Value>(&json) {
            Ok(_) => Ok(json),
            Err(error) => Err(format!("the {what} is not JSON: {error}")),
        }
    }
}

/// The failure of a record, a line, that is longer than it may be.
pub(crate) fn too_long(limit: usize) -> String {
    format!("longer than {limit} bytes; --max-record-bytes allows more")
}

fn shown(bytes: &[u8]) -> String {
    format!("'{}'", bytes.get(..20).unwrap_or(bytes).escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::{Format, NewRecord, Records};

    fn read(format: &str, input: &[u8]) -> Result<Vec<NewRecord>, String> {
        let mut records = Records::new(Format::parse(format).unwrap(), input, 100)?;
        std::iter::from_fn(|| records.next().transpose()).collect()
    }

    fn pairs(format: &str, input: &str) -> Vec<(Option<String>, Option<String>)> {
        let text = |bytes: Option<Vec<u8>>| bytes.map(|bytes| String::from_utf8(bytes).unwrap());
        let records = read(format, input.as_bytes()).unwrap();
        records.into_iter().map(|record| (text(record.key), text(record.value))).collect()
    }

    fn pair(key: &str, value: &str) -> (Option<String>, Option<String>) {
        (Some(key.to_owned()), Some(value.to_owned()))
    }

    #[test]
    fn text_ends_at_what_stands_behind_it() {
        for input in ["a=1\nb=\n", "a=1\nb="] {
            assert_eq!(pairs(r"%k=%v\n", input), [pair("a", "1"), pair("b", "")], "{input}");
        }
        assert_eq!(pairs(r"%k-->%v;;", "a--->;1;;b-->2"), [pair("a-", ";1"), pair("b", "2")]);
        assert_eq!(pairs(r"<%k>%v", "<a>all\nof it"), [pair("a", "all\nof it")]);
        assert_eq!(pairs(r"%v\n", "\n\n").len(), 2, "an empty line is an empty value");
        assert_eq!(pairs(r"%v\n", ""), []);
        assert_eq!(pairs(r"%v\n", "a\r\n"), [(None, Some("a\r".to_owned()))], "nothing is left out");
    }

    #[test]
    fn text_is_as_long_as_is_said_in_front_of_it() {
        assert_eq!(pairs("%K %k%V{hex4}%v", "1 a2bc3 def0"), [pair("a", "bc"), pair("def", "")]);
        assert_eq!(pairs("%K{2}%k%V{1}%v", "aabccd"), [pair("aa", "b"), pair("cc", "d")]);
        assert_eq!(pairs("%K %k%V %v", "-1 1 a0 -1 "), [(None, Some("a".into())), (Some("".into()), None)]);
        assert_eq!(pairs("%V:%v{hex};", "2:6162;"), [(None, Some("ab".to_owned()))]);
        assert_eq!(pairs(r"%k{base64} %v{hex}\n", "YQ== 62\n"), [pair("a", "b")]);
    }

    #[test]
    fn text_is_what_an_expression_matches() {
        assert_eq!(pairs(r"%k{re[[a-z]+]}%v{re[\d+]}\n", "ab12\nc3"), [pair("ab", "12"), pair("c", "3")]);
        let values =
            |format, input| pairs(format, input).into_iter().filter_map(|(_, v)| v).collect::<Vec<_>>();
        assert_eq!(values(r"%v{re[(\d{2}|asdf)]}", "23asdf45"), ["23", "asdf", "45"]);
        assert_eq!(values("%v{re#...?#}\\n", "abc\nab\n"), ["abc", "ab"]);
        assert_eq!(values(r"%v{re[.]}", "aé🙂"), ["a", "é", "🙂"]);
        assert_eq!(values(r"%v{re[(?s).*?;]}", "a\n\nb;c\n;"), ["a\n\nb;", "c\n;"], "over many lines");
        assert_eq!(
            pairs(r"%K{3}%v{re[.*?\d]}%k", "abcdefg[1aaad2bbb"),
            [pair("aaa", "abcdefg[1"), pair("bbb", "d2")]
        );
    }

    #[test]
    fn everything_else_is_read_as_well() {
        let input = b"orders 3 1700 9 5 6 7 1 2 a=1, a=2, x\n";
        let record = &read(r"%t %p %d %o %e %x %y %i %H%h{ %k=%v,} %v\n", input).unwrap()[0];
        let expected = NewRecord {
            topic: Some("orders".to_owned()),
            partition: Some(3),
            timestamp: Some(1_700),
            key: None,
            value: Some(b"x".to_vec()),
            headers: vec![(b"a".to_vec(), Some(b"1".to_vec())), (b"a".to_vec(), Some(b"2".to_vec()))],
        };
        assert_eq!(*record, expected);
    }

    #[test]
    fn json_may_have_many_lines() {
        let input = "{\"a\": \"}\\\"\",\n \"b\": [1]}\n [2]  \"x]\"  17 null";
        let values: Vec<_> = pairs("%v{json}", input).into_iter().filter_map(|(_, value)| value).collect();
        assert_eq!(values, ["{\"a\": \"}\\\"\",\n \"b\": [1]}", "[2]", "\"x]\"", "17", "null"]);
        assert_eq!(pairs(r"%k{json}:%v{json}\n", "1:{\"a\":2}\n"), [pair("1", "{\"a\":2}")]);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_reason() {
        for (format, input, said) in [
            (r"%k=%v\n", "no separator", "'=' is missing behind the key"),
            ("%V %v", "9 short", "the input ends inside of the value"),
            ("%V %v", "x", "a number is missing"),
            ("%V{hex8}%v", "zz", "'zz' is not the number"),
            ("%V %v", "-2 a", "cannot be"),
            ("%V %v", "9999999999999 a", "longer than 100 bytes; --max-record-bytes"),
            ("%V %v;", "1 ab", "';' is missing"),
            (r"%p %v\n", "-7 a\n", "-7 is no partition"),
            (r"%v{hex}\n", "abc\n", "value: not hex"),
            ("%v{json}", "{\"a\":", "the value is not JSON"),
            (r"%v{re[\d+]}\n", "12\nab\n", "the value does not match: 'ab\\n'"),
            (r"%v{re[\d*]}", "12ab", "the format reads nothing of what is left"),
        ] {
            let error = read(format, input.as_bytes()).unwrap_err();
            assert!(error.contains(said), "{format}: {error}");
        }
        let long = [b'x'; 101];
        for (format, input) in
            [(r"%v\n", &long[..]), ("%v", &long), (r"%v{json}\n", &long), ("%v{re[x+]}", &long)]
        {
            assert!(read(format, input).unwrap_err().contains("longer than 100"), "{format}");
        }
        assert_eq!(read(r"%v\n", &long[..99]).unwrap().len(), 1);
    }

    #[test]
    fn a_format_that_nothing_can_be_read_in_is_refused() {
        for (format, said) in [
            ("%k%v", "where does the key end?"),
            (r"%h{%k=%v }%v\n", "how many headers"),
            (r"%H %h{%k=%v}%v\n", "where does the value end?"),
            (r"%d{strftime[%F]} %v\n", "read as a number"),
            (r"%v{unpack[i]}\n", "printing only"),
            (r"%a{compression} %v\n", "printing only"),
            (r"%] %v\n", "printing only"),
            (r"%V%v{re[.]}", "either the length of the value or"),
            (r"%p\n", "neither a key nor a value"),
        ] {
            let error = Records::new(Format::parse(format).unwrap(), &b""[..], 100).err().unwrap();
            assert!(error.contains(said), "{format}: {error}");
        }
    }
}
