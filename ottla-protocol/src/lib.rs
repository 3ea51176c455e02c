//! Kafka's wire format: bytes in, values out. No I/O, no clocks, no tasks.
//!
//! | where | what |
//! |---|---|
//! | [`messages`] | every message that clients, admins and brokers exchange: one struct holds the union of its versions |
//! | [`frame`] | a message with its header and length, as it goes over a connection |
//! | [`batch`], [`compression`] | the records that produce and fetch carry, encoded and decoded in place |
//! | [`Decoder`], [`Encoder`] | the primitives below |
//! | [`ApiKey`], [`ErrorCode`], [`TopicId`], [`Str`] | the types that fields have |
//!
//! ```
//! use ottla_protocol::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
//! use ottla_protocol::{Message, decode_request_header, encode_request};
//!
//! let orders = MetadataRequestTopic { name: Some("orders".into()), ..Default::default() };
//! let request = MetadataRequest { topics: Some(vec![orders]), ..Default::default() };
//! let frame = encode_request(12, 1, Some("shop"), &request)?.concat();
//!
//! let mut received = decode_request_header(frame[4..].to_vec().into())?;
//! assert_eq!(received.client_id.as_deref(), Some("shop"));
//! assert_eq!(MetadataRequest::decode(received.api_version, &mut received.body)?, request);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Where the messages come from
//!
//! `cargo xtask protocol` generates them from the definitions inside Kafka's `kafka-clients` jar, and the result is
//! committed. `cargo xtask golden` has Kafka's own code write every message in every version; the tests read those bytes,
//! compare every field, and write them again. A field that a version lacks has its default when read; when written it is
//! left out if it has its default or the definitions call it ignorable, and is an error otherwise.
//!
//! # What comes from the network
//!
//! A decoder trusts nobody. It does not panic on any input, and allocates no more than the input pays for: every length and
//! count is checked against what remains, overlong varints and unordered tags are refused, unknown tagged fields are
//! skipped. Strings and bytes share the memory of the frame they came in; what is kept for long is copied out of it
//! ([`Str::detached`]).

mod api_key;
pub mod batch;
pub mod compression;
mod decoder;
mod encoder;
mod error;
mod error_code;
pub mod frame;
mod message;
pub mod messages;
mod str;
mod topic_id;

pub use api_key::ApiKey;
pub use batch::*;
pub use compression::*;
pub use decoder::Decoder;
pub use encoder::Encoder;
pub use error::{DecodeError, EncodeError};
pub use error_code::ErrorCode;
pub use frame::{RequestFrame, decode_request_header, decode_response, encode_request, encode_response};
pub use message::{Message, Request, Response};
pub use messages::*;
pub use str::Str;
pub use topic_id::{ParseTopicIdError, TopicId};
