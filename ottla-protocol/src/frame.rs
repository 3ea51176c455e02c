//! Frames: a four-byte length, a header, a message.
//!
//! Request headers are v1 or, if the request's version is flexible, v2, which adds tagged fields and keeps the client
//! id's two-byte length, so that any broker can read any header. Response headers are v0 or, if flexible, v1 with tagged
//! fields; only the answer to `ApiVersions` always has v0, since it must be readable before versions are agreed upon
//! (KIP-511).

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;

use crate::{ApiKey, DecodeError, Decoder, EncodeError, Encoder, Message, Request, Str};

/// Room for the length, the header and a small message.
const INITIAL_CAPACITY: usize = 256;

/// A request as a broker receives it: the header, and the body that is still to be decoded.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RequestFrame {
    /// Which API.
    pub api_key: ApiKey,
    /// In which version the body is.
    pub api_version: i16,
    /// What the response must repeat.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Str>,
    /// The rest of the frame: `R::decode(api_version, &mut body)`.
    pub body: Decoder,
}

/// Encodes a request with its header and length. The segments are to be written in order.
///
/// # Errors
///
/// As [`Message::encode`].
pub fn encode_request<R: Request>(
    api_version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
    request: &R,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut out = Encoder::with_capacity(INITIAL_CAPACITY);
    out.put_i32(0);
    put_request_header(
        R::API_KEY,
        api_version,
        R::is_flexible(api_version),
        correlation_id,
        client_id,
        &mut out,
    )?;
    request.encode(api_version, &mut out)?;
    out.patch_length()?;
    Ok(out.into_segments())
}

fn put_request_header(
    api_key: ApiKey,
    api_version: i16,
    flexible: bool,
    correlation_id: i32,
    client_id: Option<&str>,
    out: &mut Encoder,
) -> Result<(), EncodeError> {
    out.put_i16(api_key.0);
    out.put_i16(api_version);
    out.put_i32(correlation_id);
    out.put_nullable_string(false, true, client_id, "RequestHeader.client_id")?;
    if flexible {
        out.put_tag_count(&[]);
    }
    Ok(())
}

/// Decodes the header of a request. `frame` is without the length.
///
/// # Errors
///
/// When the bytes are not a request header. Whether the API and the version are known is not looked at.
pub fn decode_request_header(frame: Bytes) -> Result<RequestFrame, DecodeError> {
    let mut body = Decoder::new(frame);
    let api_key = ApiKey(body.get_i16("RequestHeader.request_api_key")?);
    let api_version = body.get_i16("RequestHeader.request_api_version")?;
    let correlation_id = body.get_i32("RequestHeader.correlation_id")?;
    let client_id = body.get_nullable_string(false, true, "RequestHeader.client_id")?;
    if api_key.is_flexible(api_version) {
        body.skip_tagged_fields("RequestHeader")?;
    }
    Ok(RequestFrame { api_key, api_version, correlation_id, client_id, body })
}

/// Encodes a response with its header and length. The segments are to be written in order.
///
/// # Errors
///
/// As [`Message::encode`].
pub fn encode_response<R: Request>(
    api_version: i16,
    correlation_id: i32,
    response: &R::Response,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut out = Encoder::with_capacity(INITIAL_CAPACITY);
    out.put_i32(0);
    out.put_i32(correlation_id);
    if response_header_is_flexible::<R>(api_version) {
        out.put_tag_count(&[]);
    }
    response.encode(api_version, &mut out)?;
    out.patch_length()?;
    Ok(out.into_segments())
}

/// Decodes a response and its correlation id. `frame` is without the length, and must hold nothing else.
///
/// # Errors
///
/// When the bytes are not the answer to an `R` of that version.
pub fn decode_response<R: Request>(
    api_version: i16,
    frame: Bytes,
) -> Result<(i32, R::Response), DecodeError> {
    let mut input = Decoder::new(frame);
    let correlation_id = input.get_i32("ResponseHeader.correlation_id")?;
    if response_header_is_flexible::<R>(api_version) {
        input.skip_tagged_fields("ResponseHeader")?;
    }
    let response = R::Response::decode(api_version, &mut input)?;
    input.finish()?;
    Ok((correlation_id, response))
}

/// Encodes a message with its version in front: so Kafka keeps messages that no header goes with, such as what the members
/// of a group tell each other.
///
/// # Errors
///
/// As [`Message::encode`].
pub fn encode_versioned<M: Message>(version: i16, message: &M) -> Result<Bytes, EncodeError> {
    let mut out = Encoder::new();
    out.put_i16(version);
    message.encode(version, &mut out)?;
    Ok(out.to_bytes())
}

/// Decodes a message that has its version in front. A version newer than ours is read as the newest that we know, since new
/// versions of such messages only append: what follows is not looked at.
///
/// # Errors
///
/// When the version is older than the oldest that we know, or the bytes are not this message.
pub fn decode_versioned<M: Message>(bytes: Bytes) -> Result<(i16, M), DecodeError> {
    let mut input = Decoder::new(bytes);
    let version = input.get_i16(M::NAME)?;
    let message = M::decode(version.min(*M::VERSIONS.end()), &mut input)?;
    Ok((version, message))
}

fn response_header_is_flexible<R: Request>(api_version: i16) -> bool {
    R::API_KEY != ApiKey::API_VERSIONS && R::is_flexible(api_version)
}
