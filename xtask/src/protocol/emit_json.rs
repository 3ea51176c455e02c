//! Writes the Rust that turns messages into the JSON of Kafka's converters, for the tests of ottla-protocol.

use super::condition::{Condition, condition};
use super::emit::{HEADER, line};
use super::fields::not_default;
use super::names;
use super::schema::{Field, Kind, Message, Struct, Type};

/// The module: a table of the messages, a table of the APIs, and a conversion for every struct.
pub(crate) fn module(messages: &[&Message]) -> String {
    let mut out = String::from(HEADER);
    out.push_str(
        "//! All messages and APIs, and their conversion to the JSON of Kafka's converters.\n\n\
         use ottla_protocol::messages;\nuse serde_json::{Map, Value};\n\n\
         use super::any::{Api, Entry, Json, put, put_records};\n\n",
    );
    out.push_str("pub(crate) const MESSAGES: &[Entry] = &[\n");
    for message in messages {
        line(&mut out, format_args!("Entry::of::<messages::{}>(),", message.name));
    }
    out.push_str("];\n\npub(crate) const APIS: &[Api] = &[\n");
    for message in messages.iter().filter(|message| matches!(message.kind, Kind::Request(_))) {
        line(&mut out, format_args!("Api::of::<messages::{}>(),", message.name));
    }
    out.push_str("];\n");
    for message in messages {
        for part in &message.structs {
            json_impl(&mut out, message, part);
        }
    }
    out
}

fn json_impl(out: &mut String, message: &Message, part: &Struct) {
    let module = names::snake(&message.name);
    line(
        out,
        format_args!(
            "\nimpl Json for messages::{module}::{} {{\nfn json(&self, version: i16) -> Value {{\nlet mut map = Map::new();",
            part.name
        ),
    );
    for field in &part.fields {
        put(out, part, field);
    }
    out.push_str("Value::Object(map)\n}\n}\n");
}

fn put(out: &mut String, part: &Struct, field: &Field) {
    let mut name = field.name.clone();
    name[..1].make_ascii_lowercase();
    let function = if field.of == Type::Records { "put_records" } else { "put" };
    let put = format!("{function}(&mut map, \"{name}\", &self.{}, version);", names::field(&field.name));
    // Tagged fields are left out if they have their default.
    let set = field.tag.map(|_| not_default(field));
    match (condition(field.versions, part.versions), set) {
        (Condition::Never, _) => {}
        (Condition::Always, None) => line(out, format_args!("{put}")),
        (Condition::Always, Some(guard)) | (Condition::When { yes: guard, .. }, None) => {
            line(out, format_args!("if {guard} {{\n{put}\n}}"));
        }
        (Condition::When { yes, .. }, Some(set)) => {
            line(out, format_args!("if {yes} && {set} {{\n{put}\n}}"))
        }
    }
}
