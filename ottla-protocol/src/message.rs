//! What all messages have in common.

use std::ops::RangeInclusive;

use crate::{ApiKey, DecodeError, Decoder, EncodeError, Encoder};

/// A message of Kafka's protocol: one struct that holds the union of all its versions.
pub trait Message: Sized {
    /// The name in Kafka's definitions.
    const NAME: &'static str;

    /// The versions that can be negotiated.
    const VERSIONS: RangeInclusive<i16>;

    /// The versions that can be written and read: [`Message::VERSIONS`], and the newest where Kafka still calls it
    /// unstable and serves it only on request (`unstable.api.versions.enable`).
    const VERSIONS_WITH_UNSTABLE: RangeInclusive<i16> = Self::VERSIONS;

    /// Writes the message in a version.
    ///
    /// A field that the version lacks is left out if it has its default value, or if Kafka's definitions say that
    /// it may be ignored.
    ///
    /// # Errors
    ///
    /// When the version is unknown, a field is set that it lacks, is null where it may not be, or is too long.
    fn encode(&self, version: i16, out: &mut Encoder) -> Result<(), EncodeError>;

    /// Reads the message in a version. A field that the version lacks has its default value, and unknown tagged
    /// fields are skipped. What follows the message stays in `input`: see [`Decoder::finish`].
    ///
    /// # Errors
    ///
    /// When the version is unknown, or the bytes are not this message.
    fn decode(version: i16, input: &mut Decoder) -> Result<Self, DecodeError>;
}

/// A message that asks.
pub trait Request: Message {
    /// Which API it belongs to.
    const API_KEY: ApiKey;

    /// The message that answers.
    type Response: Response;

    /// Whether the version has compact lengths and tagged fields (KIP-482), also in the headers.
    #[must_use]
    fn is_flexible(version: i16) -> bool;
}

/// A message that answers.
pub trait Response: Message {
    /// How long the broker wants to hear nothing more from us, in milliseconds (KIP-219); 0 if the message cannot say.
    #[must_use]
    fn throttle_time_ms(&self) -> i32;
}

/// Whether a message can be written and read in that version.
pub(crate) fn knows<M: Message>(version: i16) -> bool {
    M::VERSIONS_WITH_UNSTABLE.contains(&version)
}
