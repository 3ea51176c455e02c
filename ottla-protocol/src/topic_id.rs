//! The id of a topic's incarnation (KIP-516).

use std::{error::Error, fmt, str::FromStr};

/// The id of one incarnation of a topic: a topic that is deleted and created again has another one (KIP-516).
///
/// Displayed as Kafka's tools do it, in URL-safe base64 without padding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// The id that stands for "no id".
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this stands for "no id".
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 16]
    }
}

/// The digits of URL-safe base64, in order.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.chunks(3) {
            let byte = |at: usize| chunk.get(at).copied().unwrap_or(0);
            let bits = u32::from_be_bytes([0, byte(0), byte(1), byte(2)]);
            for sextet in 0..=chunk.len() {
                let at = (bits >> (18 - 6 * sextet)) & 63;
                fmt::Write::write_char(f, char::from(ALPHABET.get(at as usize).copied().unwrap_or(b'A')))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text is not a topic id in URL-safe base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseTopicIdError;

impl fmt::Display for ParseTopicIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a topic id: expected 22 characters of URL-safe base64")
    }
}

impl Error for ParseTopicIdError {}

impl FromStr for TopicId {
    type Err = ParseTopicIdError;

    /// Reads what [`Display`](fmt::Display) writes, and nothing else: each id has one text.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut id = [0; 16];
        let mut bytes = id.iter_mut();
        let (mut bits, mut held) = (0_u32, 0_u32);
        for character in text.bytes() {
            let digit = ALPHABET.iter().position(|known| *known == character).ok_or(ParseTopicIdError)?;
            bits = (bits << 6 | digit as u32) & 0x3fff;
            held += 6;
            if held >= 8 {
                held -= 8;
                *bytes.next().ok_or(ParseTopicIdError)? = (bits >> held) as u8;
            }
        }
        // 22 digits carry 132 bits; the last four have to be zero.
        let whole = text.len() == 22 && bits & 0xf == 0;
        if whole { Ok(Self(id)) } else { Err(ParseTopicIdError) }
    }
}

#[cfg(test)]
mod tests {
    use super::{ParseTopicIdError, TopicId};

    #[test]
    fn displays_as_kafkas_tools_do() {
        assert_eq!(TopicId::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(TopicId([255; 16]).to_string(), "_____________________w");
    }

    #[test]
    fn is_read_back_as_it_was_displayed() {
        for seed in 0..=255_u8 {
            let id = TopicId(std::array::from_fn(|at| seed.wrapping_mul(31).wrapping_add(at as u8 * 17)));
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        let long = "A".repeat(400);
        for text in
            ["", "A", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAA+A", &long]
        {
            assert_eq!(text.parse::<TopicId>(), Err(ParseTopicIdError), "{text}");
        }
    }
}
