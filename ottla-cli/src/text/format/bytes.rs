//! How the bytes of topics, keys and values are written.

use std::io::{self, Write};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};

use super::{pattern::Pattern, syntax::enclosed, unpack::Unpack};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As they are.
    Raw,
    Hex,
    Base64,
    /// Without `=` at the end.
    Base64Raw,
    /// Numbers and text out of binary data; only written.
    Unpack(Unpack),
    /// One JSON value, however many lines it has; only read.
    Json,
    /// As much as an expression matches; only read.
    Pattern(Pattern),
}

impl Encoding {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "hex" => Ok(Self::Hex),
            "base64" => Ok(Self::Base64),
            "base64raw" => Ok(Self::Base64Raw),
            "json" => Ok(Self::Json),
            _ => Self::parse_with_marks(text).unwrap_or_else(|| {
                Err(format!(
                    "'{text}' is no notation of text; there are hex base64 base64raw unpack[>iq$] json re[…]"
                ))
            }),
        }
    }

    fn parse_with_marks(text: &str) -> Option<Result<Self, String>> {
        if let Some(items) = text.strip_prefix("unpack").and_then(enclosed) {
            return Some(Unpack::parse(items).map(Self::Unpack));
        }
        text.strip_prefix("re").map(|expression| Pattern::parse(expression).map(Self::Pattern))
    }

    /// None is written like nothing; lengths tell them apart.
    pub(super) fn write(&self, bytes: Option<&[u8]>, out: &mut dyn Write) -> io::Result<()> {
        let bytes = bytes.unwrap_or_default();
        match self {
            Self::Raw | Self::Json | Self::Pattern(_) => out.write_all(bytes),
            Self::Hex => bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}")),
            Self::Base64 => out.write_all(BASE64_STANDARD.encode(bytes).as_bytes()),
            Self::Base64Raw => out.write_all(BASE64_STANDARD_NO_PAD.encode(bytes).as_bytes()),
            Self::Unpack(unpack) => unpack.write(bytes, out),
        }
    }

    /// How many bytes `length` bytes take when they are written.
    pub(super) fn size(&self, length: usize) -> Option<usize> {
        match self {
            Self::Raw => Some(length),
            Self::Hex => length.checked_mul(2),
            Self::Base64 => length.div_ceil(3).checked_mul(4),
            Self::Base64Raw => length.checked_mul(4).map(|bits| bits.div_ceil(3)),
            Self::Unpack(_) | Self::Json | Self::Pattern(_) => None,
        }
    }

    pub(super) fn read(&self, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        match self {
            Self::Hex => hex(&bytes).ok_or_else(|| "not hex".to_owned()),
            Self::Base64 => BASE64_STANDARD.decode(bytes).map_err(|error| format!("not base64: {error}")),
            Self::Base64Raw => {
                BASE64_STANDARD_NO_PAD.decode(bytes).map_err(|error| format!("not base64raw: {error}"))
            }
            Self::Raw | Self::Unpack(_) | Self::Json | Self::Pattern(_) => Ok(bytes),
        }
    }
}

fn hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, rest) = text.as_chunks::<2>();
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    if rest.is_empty() { pairs.iter().map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use super::Encoding;

    #[test]
    fn what_is_written_is_read_and_has_the_size_that_was_said() {
        for name in ["hex", "base64", "base64raw"] {
            let encoding = Encoding::parse(name).unwrap();
            for length in 0..10 {
                let bytes: Vec<u8> = (0..length).map(|n| 0xf5 + n).collect();
                let mut written = Vec::new();
                encoding.write(Some(&bytes), &mut written).unwrap();
                assert_eq!(encoding.size(bytes.len()), Some(written.len()), "{name}");
                assert_eq!(encoding.read(written), Ok(bytes), "{name}");
            }
        }
    }

    #[test]
    fn what_is_not_in_the_notation_is_refused() {
        for (name, bytes) in
            [("hex", "abc"), ("hex", "zz"), ("hex", "+1"), ("base64", "AQ"), ("base64raw", "AQ==")]
        {
            assert!(Encoding::parse(name).unwrap().read(bytes.into()).is_err(), "{name} {bytes}");
        }
    }
}
