//! What can be wrong with bytes that came in, and with values that shall go out.

/// Why bytes are not the message that they should be.
///
/// Small, copyable, and made without allocating: a peer that sends garbage costs nothing. `field` names the field as
/// `Struct.field`, with the names of the Rust types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The input ends inside a value.
    #[error("{field}: {needed} bytes needed, {remaining} left")]
    Truncated {
        /// Where.
        field: &'static str,
        /// How many bytes the value needs.
        needed: usize,
        /// How many bytes there are.
        remaining: usize,
    },
    /// A length or an element count that is negative, or larger than what is left of the input could hold.
    #[error("{field}: length {length} is impossible with {remaining} bytes left")]
    Length {
        /// Where.
        field: &'static str,
        /// The length or count as the peer gave it.
        length: i64,
        /// How many bytes there are.
        remaining: usize,
    },
    /// Null, where this version of the message does not allow it.
    #[error("{field}: null is not allowed")]
    Null {
        /// Where.
        field: &'static str,
    },
    /// A variable-length integer that is longer than its value needs, or larger than its type.
    #[error("{field}: malformed variable-length integer")]
    Varint {
        /// Where.
        field: &'static str,
    },
    /// A string that is not UTF-8.
    #[error("{field}: not valid UTF-8")]
    Utf8 {
        /// Where.
        field: &'static str,
    },
    /// Tagged fields that are not strictly ascending (KIP-482).
    #[error("{structure}: tag {tag} is out of order")]
    TagOrder {
        /// The struct whose tagged fields they are.
        structure: &'static str,
        /// The tag that does not follow its predecessor.
        tag: u32,
    },
    /// A tagged field whose value is shorter than its declared size (KIP-482).
    #[error("{structure}: {excess} bytes behind the value of tag {tag}")]
    TagSize {
        /// The struct whose tagged field it is.
        structure: &'static str,
        /// The tag.
        tag: u32,
        /// How many bytes are left over.
        excess: usize,
    },
    /// Bytes behind the end of the message.
    #[error("{remaining} bytes behind the end of the message")]
    Trailing {
        /// How many.
        remaining: usize,
    },
    /// A version that this library does not know.
    #[error("{message} has no version {version}")]
    Version {
        /// The message.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
    },
}

/// Why a value cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A field is set which this version of the message does not have, and which may not be left out silently.
    #[error("{field} is set, which version {version} does not have")]
    Unsupported {
        /// Which.
        field: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// A field is `None`, where this version of the message does not allow it.
    #[error("{field}: null is not allowed")]
    Null {
        /// Which.
        field: &'static str,
    },
    /// A string, array, byte string or frame is longer than the format can say.
    #[error("{field}: length {length} is more than the format allows")]
    TooLong {
        /// Which.
        field: &'static str,
        /// Its length in bytes or elements.
        length: usize,
    },
    /// A version that this library does not know.
    #[error("{message} has no version {version}")]
    Version {
        /// The message.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
    },
}
