//! Kafka's wire format: bytes in, values out. No I/O, no clocks, no tasks.
//!
//! * [`messages`]: every message that clients, admins and brokers exchange, generated from Kafka's own definitions; one
//!   struct holds the union of a message's versions.
//! * [`frame`]: a message with its header and length, as it goes over a connection.
//! * [`batch`] and [`compression`]: the records that produce and fetch carry.
//! * [`Decoder`] and [`Encoder`]: the primitives below.
//!
//! A decoder trusts nobody: it cannot panic, allocates no more than its input justifies, and refuses every length that
//! cannot be true. Strings and bytes that it returns share the frame they came in.

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
