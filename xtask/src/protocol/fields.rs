//! Fields in Rust: their types and their defaults.

use super::names;
use super::schema::{Field, Type};

/// The default of a field, before it is known whether the Rust type is an `Option`.
pub(crate) enum Default {
    Null,
    /// Of strings, bytes, arrays, structs.
    Empty,
    /// Of numbers, booleans and strings, as Rust.
    Value(String),
}

pub(crate) fn default_of(field: &Field) -> Default {
    let text = field.default.as_deref();
    if text == Some("null") || field.of == Type::Records {
        return Default::Null;
    }
    match &field.of {
        Type::Bytes | Type::Records | Type::Array(_) | Type::Struct(_) | Type::Uuid => Default::Empty,
        Type::String if text.unwrap_or("").is_empty() => Default::Empty,
        Type::String => Default::Value(format!("{:?}", text.unwrap_or(""))),
        Type::Bool => Default::Value(text.unwrap_or("false").to_lowercase()),
        Type::Float64 => Default::Value(text.unwrap_or("0.0").to_owned()),
        _ => Default::Value(readable(text.unwrap_or("0"))),
    }
}

/// A number as Rust programmers write it.
fn readable(number: &str) -> String {
    match number {
        "9223372036854775807" | "0x7fffffffffffffff" => "i64::MAX".to_owned(),
        "-2147483648" => "i32::MIN".to_owned(),
        "2147483647" | "0x7fffffff" => "i32::MAX".to_owned(),
        other => other.to_owned(),
    }
}

pub(crate) fn default_expression(field: &Field) -> String {
    let value = match (default_of(field), &field.of) {
        (Default::Null, _) => return "None".to_owned(),
        (Default::Empty, Type::String) => "Str::EMPTY".to_owned(),
        (Default::Empty, Type::Bytes) => "Bytes::new()".to_owned(),
        (Default::Empty, Type::Array(_)) => "Vec::new()".to_owned(),
        (Default::Empty, Type::Struct(name)) => format!("{name}::default()"),
        (Default::Empty, _) => "TopicId::ZERO".to_owned(),
        (Default::Value(value), Type::ErrorCode) if value == "0" => "ErrorCode::NONE".to_owned(),
        (Default::Value(value), Type::ErrorCode) => format!("ErrorCode({value})"),
        (Default::Value(value), Type::String) => format!("Str::from_static({value})"),
        (Default::Value(value), _) => value,
    };
    if is_optional(field) { format!("Some({value})") } else { value }
}

/// Whether a field's value is not its default, and therefore would be missed.
pub(crate) fn not_default(field: &Field) -> String {
    let place = format!("self.{}", names::field(&field.name));
    let optional = is_optional(field);
    match (default_of(field), &field.of) {
        (Default::Null, _) => format!("{place}.is_some()"),
        (Default::Empty, Type::Uuid) => format!("!{place}.is_zero()"),
        (Default::Empty, Type::Struct(_)) => format!("{place} != Default::default()"),
        (Default::Empty, _) if optional => format!("{place}.as_ref().is_none_or(|value| !value.is_empty())"),
        (Default::Empty, _) => format!("!{place}.is_empty()"),
        (Default::Value(value), Type::String) if optional => format!("{place}.as_deref() != Some({value})"),
        (Default::Value(value), Type::ErrorCode) if value == "0" => format!("!{place}.is_ok()"),
        (Default::Value(value), Type::ErrorCode) => format!("{place}.0 != {value}"),
        (Default::Value(value), Type::Bool) if value == "false" => place,
        (Default::Value(_), Type::Bool) => format!("!{place}"),
        (Default::Value(value), _) => format!("{place} != {value}"),
    }
}

pub(crate) fn is_optional(field: &Field) -> bool {
    !field.nullable.is_empty() || field.of == Type::Records
}

pub(crate) fn rust_type(field: &Field) -> String {
    let plain = plain_type(&field.of);
    if is_optional(field) { format!("Option<{plain}>") } else { plain }
}

fn plain_type(of: &Type) -> String {
    match of {
        Type::Bool => "bool".to_owned(),
        Type::Uuid => "TopicId".to_owned(),
        Type::ErrorCode => "ErrorCode".to_owned(),
        Type::String => "Str".to_owned(),
        Type::Bytes | Type::Records => "Bytes".to_owned(),
        Type::Struct(name) => name.clone(),
        Type::Array(element) => format!("Vec<{}>", plain_type(element)),
        number => simple_name(number).to_owned(),
    }
}

/// The name in the methods of the encoder and the decoder.
pub(crate) fn simple_name(of: &Type) -> &'static str {
    match of {
        Type::Bool => "bool",
        Type::Int8 => "i8",
        Type::Int16 => "i16",
        Type::Uint16 => "u16",
        Type::Int32 => "i32",
        Type::Uint32 => "u32",
        Type::Int64 => "i64",
        Type::Float64 => "f64",
        Type::Uuid => "uuid",
        Type::ErrorCode => "error_code",
        Type::String | Type::Bytes | Type::Records | Type::Struct(_) | Type::Array(_) => {
            unreachable!("has methods of its own")
        }
    }
}
