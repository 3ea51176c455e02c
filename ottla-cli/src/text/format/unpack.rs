//! `%v{unpack[>iq$]}`: numbers and text out of binary data, in the letters of Python's `struct`.

use std::io::{self, Write};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unpack(Vec<Item>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Item {
    Integer {
        size: u8,
        signed: bool,
        little: bool,
    },
    /// One byte as it is.
    Character,
    /// A space, which takes nothing.
    Pad,
    /// All that is left.
    Rest,
    /// Nothing may be left.
    End,
}

impl Unpack {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut little = false;
        let mut items = Vec::new();
        for letter in text.chars() {
            let integer = |size| Item::Integer { size, signed: letter.is_ascii_lowercase(), little };
            items.push(match letter {
                '<' | '>' => {
                    little = letter == '<';
                    continue;
                }
                'b' | 'B' => integer(1),
                'h' | 'H' => integer(2),
                'i' | 'I' => integer(4),
                'q' | 'Q' => integer(8),
                'c' | '.' => Item::Character,
                'x' => Item::Pad,
                's' => Item::Rest,
                '$' => Item::End,
                _ => return Err(format!("unpack: '{letter}' is not one of < > b B h H i I q Q c . x s $")),
            });
        }
        Ok(Self(items))
    }

    /// Where the data does not fit, says so in its place: one odd record shall not end a run.
    pub(super) fn write(&self, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
        let mut rest = bytes;
        for item in &self.0 {
            let needs = match item {
                Item::Integer { size, .. } => usize::from(*size),
                Item::Character => 1,
                Item::Pad | Item::End => 0,
                Item::Rest => rest.len(),
            };
            let Some((taken, left)) = rest.split_at_checked(needs) else {
                return write!(out, "(too short: {needs} bytes needed, {} left)", rest.len());
            };
            rest = left;
            match *item {
                Item::Integer { signed, little, .. } => write!(out, "{}", integer(taken, signed, little))?,
                Item::Character | Item::Rest => out.write_all(taken)?,
                Item::Pad => out.write_all(b" ")?,
                Item::End if !rest.is_empty() => return write!(out, "({} bytes too many)", rest.len()),
                Item::End => {}
            }
        }
        Ok(())
    }
}

fn integer(bytes: &[u8], signed: bool, little: bool) -> i128 {
    let fold = |word: i128, byte: &u8| word << 8 | i128::from(*byte);
    let number = if little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) };
    let range = 1_i128 << (8 * bytes.len());
    if signed && number >= range / 2 { number - range } else { number }
}

#[cfg(test)]
mod tests {
    use super::Unpack;

    #[test]
    fn data_is_unpacked_as_the_letters_say() {
        for (letters, bytes, expected) in [
            ("bxB", &[0xff, 0xff][..], "-1 255"),
            (">hx<h", &[1, 2, 1, 2], "258 513"),
            ("HxIxQ", &[0xff; 14], "65535 4294967295 18446744073709551615"),
            (">ixq$", &[0xff; 12], "-1 -1"),
            ("c.s", b"abcd", "abcd"),
            ("i", &[1], "(too short: 4 bytes needed, 1 left)"),
            ("B$", &[7, 8, 9], "7(2 bytes too many)"),
            ("s$", b"", ""),
        ] {
            let mut out = Vec::new();
            Unpack::parse(letters).unwrap().write(bytes, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{letters}");
        }
        assert!(Unpack::parse("z").is_err());
    }
}
