//! How numbers are written: in words of a fixed size, in digits, as a truth value.
//!
//! None (a length of -1) is all ones in a fixed size. Numbers in a fixed size are unsigned otherwise, and one that has no
//! place in it is an error, not another number.

use std::io::{self, Write};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Notation {
    /// Decimal digits.
    Ascii,
    /// As many hex digits as it takes.
    Hex,
    /// So many hex digits.
    HexDigits(u8),
    /// So many bytes, the highest first.
    Big(u8),
    /// So many bytes, the lowest first.
    Little(u8),
    /// `true` unless it is 0.
    Bool,
    /// Always that, and nowhere to be seen: `%V{8}%v` reads eight bytes.
    Always(u32),
}

const NAMES: &[(&str, Notation)] = &[
    ("ascii", Notation::Ascii),
    ("number", Notation::Ascii),
    ("hex", Notation::Hex),
    ("hex64", Notation::HexDigits(16)),
    ("hex32", Notation::HexDigits(8)),
    ("hex16", Notation::HexDigits(4)),
    ("hex8", Notation::HexDigits(2)),
    ("hex4", Notation::HexDigits(1)),
    ("big64", Notation::Big(8)),
    ("big32", Notation::Big(4)),
    ("big16", Notation::Big(2)),
    ("big8", Notation::Big(1)),
    ("little64", Notation::Little(8)),
    ("little32", Notation::Little(4)),
    ("little16", Notation::Little(2)),
    ("little8", Notation::Little(1)),
    ("byte", Notation::Big(1)),
    ("bool", Notation::Bool),
];

impl Notation {
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        if let Some((_, notation)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(*notation);
        }
        name.parse().map(Self::Always).map_err(|_| {
            let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            format!("'{name}' is no notation of a number; there are {}", names.join(" "))
        })
    }

    pub(super) fn write(self, number: i64, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Ascii => write!(out, "{number}"),
            Self::Hex => write!(out, "{number:x}"),
            Self::HexDigits(digits) => {
                let bits = self.fixed(number, u32::from(digits) * 4)?;
                write!(out, "{bits:0width$x}", width = usize::from(digits))
            }
            Self::Big(bytes) => {
                let bits = self.fixed(number, u32::from(bytes) * 8)?;
                out.write_all(&bits.to_be_bytes()[8 - usize::from(bytes)..])
            }
            Self::Little(bytes) => {
                let bits = self.fixed(number, u32::from(bytes) * 8)?;
                out.write_all(&bits.to_le_bytes()[..usize::from(bytes)])
            }
            Self::Bool => write!(out, "{}", number != 0),
            Self::Always(_) => Ok(()),
        }
    }

    /// The number in so many bits.
    fn fixed(self, number: i64, bits: u32) -> io::Result<u64> {
        let all_ones = u64::MAX >> (64 - bits);
        match u64::try_from(number) {
            Ok(number) if number < all_ones => Ok(number),
            _ if number == -1 => Ok(all_ones),
            _ => {
                let name = NAMES.iter().find(|(_, notation)| *notation == self).map_or("", |(name, _)| name);
                Err(io::Error::other(format!("{number} has no place in {{{name}}}")))
            }
        }
    }

    /// How many bytes it takes, where that does not depend on the number.
    pub(super) fn size(self) -> Option<usize> {
        match self {
            Self::Ascii | Self::Hex | Self::Bool => None,
            Self::HexDigits(size) | Self::Big(size) | Self::Little(size) => Some(usize::from(size)),
            Self::Always(_) => Some(0),
        }
    }

    /// Whether a number of a size that is not fixed can go on with this byte.
    pub(super) fn goes_on(self, byte: u8, at: usize) -> bool {
        match self {
            Self::Hex => byte.is_ascii_hexdigit(),
            Self::Bool => byte.is_ascii_alphabetic(),
            _ => byte.is_ascii_digit() || (byte == b'-' && at == 0),
        }
    }

    /// Reads a number from exactly its bytes.
    pub(super) fn read(self, bytes: &[u8]) -> Option<i64> {
        let text = || std::str::from_utf8(bytes).ok();
        let fixed = |number: u64, bits: u32| {
            if number == u64::MAX >> (64 - bits) { Some(-1) } else { i64::try_from(number).ok() }
        };
        let word = |bytes: &mut dyn Iterator<Item = &u8>| bytes.fold(0, |word, b| word << 8 | u64::from(*b));
        match self {
            Self::Ascii => text()?.parse().ok(),
            Self::Hex => i64::from_str_radix(text()?, 16).ok(),
            Self::HexDigits(digits) => {
                // `from_str_radix` would take a sign.
                let digits_only = bytes.iter().all(u8::is_ascii_hexdigit).then(text)??;
                fixed(u64::from_str_radix(digits_only, 16).ok()?, u32::from(digits) * 4)
            }
            Self::Big(size) => fixed(word(&mut bytes.iter()), u32::from(size) * 8),
            Self::Little(size) => fixed(word(&mut bytes.iter().rev()), u32::from(size) * 8),
            Self::Bool => text()?.parse().ok().map(bool::into),
            Self::Always(number) => Some(number.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NAMES, Notation};

    fn written(name: &str, number: i64) -> Vec<u8> {
        let mut out = Vec::new();
        Notation::parse(name).unwrap().write(number, &mut out).unwrap();
        out
    }

    #[test]
    fn every_notation_has_its_bytes() {
        for (name, bytes) in [
            ("ascii", &b"18"[..]),
            ("hex", b"12"),
            ("hex64", b"0000000000000012"),
            ("hex32", b"00000012"),
            ("hex16", b"0012"),
            ("hex8", b"12"),
            ("big64", b"\0\0\0\0\0\0\0\x12"),
            ("big32", b"\0\0\0\x12"),
            ("big16", b"\0\x12"),
            ("little64", b"\x12\0\0\0\0\0\0\0"),
            ("little32", b"\x12\0\0\0"),
            ("little16", b"\x12\0"),
            ("byte", b"\x12"),
            ("bool", b"true"),
        ] {
            assert_eq!(written(name, 18), bytes, "{name}");
        }
        assert_eq!((written("big16", -1), written("hex8", -1)), (b"\xff\xff".to_vec(), b"ff".to_vec()));
        assert_eq!((written("hex4", 7), written("bool", 0)), (b"7".to_vec(), b"false".to_vec()));
    }

    #[test]
    fn what_is_written_is_read() {
        for (name, notation) in NAMES {
            let highest = match notation.size() {
                None => i64::MAX,
                Some(_) if name.ends_with("64") => i64::MAX,
                Some(_) if name.ends_with("32") => 0xffff_fffe,
                Some(_) if name.ends_with("16") => 0xfffe,
                Some(_) if *name == "hex4" => 0xe,
                Some(_) => 0xfe,
            };
            for number in [0, 1, 9, highest, -1] {
                let bytes = written(name, number);
                assert_eq!(notation.size().unwrap_or(bytes.len()), bytes.len(), "{name}");
                let same = if *notation == Notation::Bool { i64::from(number != 0) } else { number };
                // -1 in as many hex digits as it takes is 64 ones, which no offset or length is.
                if !(*notation == Notation::Hex && number == -1) {
                    assert_eq!(notation.read(&bytes), Some(same), "{name} {number}");
                }
            }
        }
    }

    #[test]
    fn a_number_that_has_no_place_is_an_error() {
        for (name, number) in [("byte", 255), ("byte", 256), ("hex4", 15), ("big16", 65_535), ("big32", -2)] {
            let error =
                Notation::parse(name).unwrap().write(number, &mut Vec::new()).unwrap_err().to_string();
            assert!(error.contains("has no place"), "{name}: {error}");
        }
    }

    #[test]
    fn what_is_no_number_is_not_read() {
        for (name, bytes) in
            [("ascii", &b""[..]), ("ascii", b"-"), ("hex8", b"+1"), ("hex8", b"zz"), ("bool", b"yes")]
        {
            assert_eq!(Notation::parse(name).unwrap().read(bytes), None, "{name}");
        }
    }
}
