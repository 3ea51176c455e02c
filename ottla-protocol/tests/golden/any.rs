//! Messages whose type is known by name only.

use std::any::Any;
use std::fmt::Debug;
use std::ops::RangeInclusive;

use bytes::Bytes;
use ottla_protocol::{
    ApiKey, DecodeError, Decoder, EncodeError, Encoder, ErrorCode, Message, Request, Str, TopicId,
    decode_response, encode_request, encode_response,
};
use serde_json::{Map, Value, json};

/// A message of some type.
pub(crate) trait AnyMessage: Debug {
    fn encode(&self, version: i16) -> Result<Encoder, EncodeError>;
    fn json(&self, version: i16) -> Value;
    fn equals(&self, other: &dyn AnyMessage) -> bool;
    fn as_any(&self) -> &dyn Any;
}

impl<T: Message + Json + PartialEq + Debug + 'static> AnyMessage for T {
    fn encode(&self, version: i16) -> Result<Encoder, EncodeError> {
        let mut out = Encoder::new();
        Message::encode(self, version, &mut out).map(|()| out)
    }

    fn json(&self, version: i16) -> Value {
        Json::json(self, version)
    }

    fn equals(&self, other: &dyn AnyMessage) -> bool {
        other.as_any().downcast_ref::<T>() == Some(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

type Decode = fn(i16, &mut Decoder) -> Result<Box<dyn AnyMessage>, DecodeError>;

/// What can be done with a type of message.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) versions: RangeInclusive<i16>,
    pub(crate) default: fn() -> Box<dyn AnyMessage>,
    decode: Decode,
}

impl Entry {
    pub(crate) const fn of<T: Message + Json + Default + PartialEq + Debug + 'static>() -> Self {
        Self {
            name: T::NAME,
            versions: T::VERSIONS_WITH_UNSTABLE,
            default: || Box::new(T::default()),
            decode: |version, input| T::decode(version, input).map(|message| Box::new(message) as Box<_>),
        }
    }

    /// Decodes a message that has nothing behind it.
    pub(crate) fn decode(&self, version: i16, bytes: Bytes) -> Result<Box<dyn AnyMessage>, DecodeError> {
        let mut input = Decoder::new(bytes);
        let message = (self.decode)(version, &mut input)?;
        input.finish().map(|()| message)
    }
}

/// What can be done with a request and its response.
pub(crate) struct Api {
    pub(crate) key: ApiKey,
    pub(crate) versions: RangeInclusive<i16>,
    pub(crate) request: fn(i16, i32, Option<&str>) -> Vec<Bytes>,
    pub(crate) response: fn(i16, i32) -> Vec<Bytes>,
    pub(crate) correlation_id: fn(i16, Bytes) -> Result<i32, DecodeError>,
    pub(crate) request_body: fn(i16, &mut Decoder) -> Result<(), DecodeError>,
}

impl Api {
    pub(crate) const fn of<R: Request<Response: Default> + Default>() -> Self {
        Self {
            key: R::API_KEY,
            versions: R::VERSIONS,
            request: |version, id, client| encode_request(version, id, client, &R::default()).unwrap(),
            response: |version, id| encode_response::<R>(version, id, &R::Response::default()).unwrap(),
            correlation_id: |version, frame| decode_response::<R>(version, frame).map(|(id, _)| id),
            request_body: |version, input| R::decode(version, input).map(drop),
        }
    }
}

/// The JSON of Kafka's converters.
pub(crate) trait Json {
    fn json(&self, version: i16) -> Value;
}

pub(crate) fn put(map: &mut Map<String, Value>, name: &str, field: &dyn Json, version: i16) {
    map.insert(name.to_owned(), field.json(version));
}

/// Of records the converters tell only the size.
pub(crate) fn put_records(map: &mut Map<String, Value>, name: &str, field: &Option<Bytes>, _version: i16) {
    match field {
        Some(records) => map.insert(format!("{name}SizeInBytes"), json!(records.len())),
        None => map.insert(name.to_owned(), Value::Null),
    };
}

macro_rules! plain {
    ($($type:ty)*) => {
        $(impl Json for $type {
            fn json(&self, _: i16) -> Value {
                json!(*self)
            }
        })*
    };
}

plain! { bool i8 i16 u16 i32 u32 i64 f64 }

impl Json for ErrorCode {
    fn json(&self, _: i16) -> Value {
        json!(self.0)
    }
}

impl Json for TopicId {
    fn json(&self, _: i16) -> Value {
        json!(self.to_string())
    }
}

impl Json for Str {
    fn json(&self, _: i16) -> Value {
        json!(self.as_str())
    }
}

impl Json for Bytes {
    fn json(&self, _: i16) -> Value {
        json!(base64(self))
    }
}

impl<T: Json> Json for Option<T> {
    fn json(&self, version: i16) -> Value {
        self.as_ref().map_or(Value::Null, |value| value.json(version))
    }
}

impl<T: Json> Json for Vec<T> {
    fn json(&self, version: i16) -> Value {
        Value::Array(self.iter().map(|value| value.json(version)).collect())
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| chunk.get(at).copied().unwrap_or(0);
        let bits = u32::from_be_bytes([0, byte(0), byte(1), byte(2)]);
        for sextet in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * sextet)) as usize & 63];
            text.push(if sextet <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}
