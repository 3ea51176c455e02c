//! Reads Kafka's message definitions.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::Result;

/// An inclusive range of versions; empty when `low > high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) low: i16,
    pub(crate) high: i16,
}

impl Versions {
    pub(crate) const NONE: Self = Self { low: 0, high: -1 };

    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text == "none" {
            return Ok(Self::NONE);
        }
        if let Some(low) = text.strip_suffix('+') {
            return Ok(Self { low: low.parse()?, high: i16::MAX });
        }
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        Ok(Self { low: low.parse()?, high: high.parse()? })
    }

    pub(crate) fn is_empty(self) -> bool {
        self.low > self.high
    }

    pub(crate) fn intersect(self, other: Self) -> Self {
        Self { low: self.low.max(other.low), high: self.high.min(other.high) }
    }

    /// The smallest range that covers both.
    pub(crate) fn hull(self, other: Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            (true, _) => other,
            (_, true) => self,
            _ => Self { low: self.low.min(other.low), high: self.high.max(other.high) },
        }
    }

    pub(crate) fn contains(self, version: i16) -> bool {
        self.low <= version && version <= self.high
    }

    pub(crate) fn covers(self, other: Self) -> bool {
        other.is_empty() || self.low <= other.low && other.high <= self.high
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self { low, high: i16::MAX } => write!(f, "{low}+"),
            Self { low, high } if low == high => write!(f, "{low}"),
            Self { low, high } => write!(f, "{low}-{high}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    Uuid,
    ErrorCode,
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Type>),
}

#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) of: Type,
    pub(crate) versions: Versions,
    pub(crate) nullable: Versions,
    /// As the definition writes it, if it does.
    pub(crate) default: Option<String>,
    pub(crate) ignorable: bool,
    pub(crate) tag: Option<u32>,
    pub(crate) entity: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Struct {
    pub(crate) name: String,
    /// In which versions of the message the struct occurs.
    pub(crate) versions: Versions,
    pub(crate) fields: Vec<Field>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request(i16),
    Response(i16),
    Other,
}

#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) listeners: Vec<String>,
    pub(crate) versions: Versions,
    pub(crate) flexible: Versions,
    pub(crate) latest_unstable: bool,
    /// The message itself, then its parts.
    pub(crate) structs: Vec<Struct>,
}

impl Message {
    pub(crate) fn api_key(&self) -> Option<i16> {
        match self.kind {
            Kind::Request(key) | Kind::Response(key) => Some(key),
            Kind::Other => None,
        }
    }

    pub(crate) fn part(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|part| part.name == name)
    }

    /// The fewest bytes that the struct takes in a version.
    pub(crate) fn min_size(&self, part: &Struct, version: i16) -> usize {
        let flexible = self.flexible.contains(version);
        let fields =
            part.fields.iter().filter(|field| field.tag.is_none() && field.versions.contains(version));
        usize::from(flexible)
            + fields.map(|field| self.min_field_size(field, version, flexible)).sum::<usize>()
    }

    fn min_field_size(&self, field: &Field, version: i16, flexible: bool) -> usize {
        match &field.of {
            Type::Bool | Type::Int8 => 1,
            Type::Int16 | Type::Uint16 | Type::ErrorCode => 2,
            Type::Int32 | Type::Uint32 => 4,
            Type::Int64 | Type::Float64 => 8,
            Type::Uuid => 16,
            Type::String => {
                if flexible {
                    1
                } else {
                    2
                }
            }
            Type::Bytes | Type::Records | Type::Array(_) => {
                if flexible {
                    1
                } else {
                    4
                }
            }
            Type::Struct(_) if field.nullable.contains(version) => 1,
            Type::Struct(name) => self.part(name).map_or(0, |part| self.min_size(part, version)),
        }
    }
}

/// All definitions of a folder that have a valid version, by name.
///
/// # Errors
///
/// When a file cannot be read, or says what this generator does not know.
pub(crate) fn read_folder(folder: &Path) -> Result<Vec<Message>> {
    let mut messages = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let message = read(&fs::read_to_string(&path)?);
            messages.extend(message.map_err(|error| format!("{}: {error}", path.display()))?);
        }
    }
    messages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(messages)
}

fn read(text: &str) -> Result<Option<Message>> {
    let without_comments: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let raw: RawMessage = serde_json::from_str(&without_comments)?;
    let versions = Versions::parse(&raw.valid_versions)?;
    // Headers are written by hand: see `frame`.
    if versions.is_empty() || raw.kind == "header" {
        return Ok(None);
    }
    let kind = match (raw.kind.as_str(), raw.api_key) {
        ("request", Some(key)) => Kind::Request(key),
        ("response", Some(key)) => Kind::Response(key),
        _ => Kind::Other,
    };
    let mut parts = Parts { message: versions, common: &raw.common_structs, found: Vec::new(), depth: 0 };
    parts.add(&raw.name, &raw.fields, versions)?;
    Ok(Some(Message {
        kind,
        listeners: raw.listeners,
        versions,
        flexible: Versions::parse(raw.flexible_versions.as_deref().unwrap_or("none"))?.intersect(versions),
        latest_unstable: raw.latest_version_unstable,
        structs: parts.found,
        name: raw.name,
    }))
}

/// Collects the structs of a message, each with the versions in which it occurs.
struct Parts<'a> {
    message: Versions,
    common: &'a [RawStruct],
    found: Vec<Struct>,
    depth: usize,
}

impl Parts<'_> {
    fn add(&mut self, name: &str, raw_fields: &[RawField], versions: Versions) -> Result<()> {
        // Definitions have no recursive types, and so a decoder's recursion ends.
        self.depth += 1;
        if self.depth > 20 {
            return Err(format!("{name} is nested too deeply, or recursive").into());
        }
        let index = match self.found.iter().position(|part| part.name == name) {
            Some(index) => index,
            None => {
                self.found.push(Struct { name: name.to_owned(), versions, fields: Vec::new() });
                self.found.len() - 1
            }
        };
        self.found[index].versions = self.found[index].versions.hull(versions);
        let mut fields = Vec::new();
        for raw in raw_fields {
            let field = field(raw, self.message)?;
            if field.versions.is_empty() {
                continue;
            }
            if let Some(part) = struct_name(&field.of) {
                let part_fields = match self.common.iter().find(|common| common.name == part) {
                    Some(common) => &common.fields,
                    None => &raw.fields,
                };
                self.add(part, part_fields, field.versions.intersect(versions))?;
            }
            fields.push(field);
        }
        self.found[index].fields = fields;
        self.depth -= 1;
        Ok(())
    }
}

/// The struct that a field is, or that its elements are.
pub(crate) fn struct_name(of: &Type) -> Option<&str> {
    match of {
        Type::Struct(name) => Some(name),
        Type::Array(element) => struct_name(element),
        _ => None,
    }
}

fn field(raw: &RawField, message: Versions) -> Result<Field> {
    let versions = Versions::parse(&raw.versions)?.intersect(message);
    let nullable = Versions::parse(raw.nullable_versions.as_deref().unwrap_or("none"))?.intersect(versions);
    let of = parse_type(&raw.of, &raw.name)?;
    if let Some(tagged) = &raw.tagged_versions {
        let always_tagged = Versions::parse(tagged)?.covers(versions);
        if !always_tagged || of == Type::Records {
            return Err(format!("{}: tagged only sometimes, or records", raw.name).into());
        }
    }
    if matches!(of, Type::Struct(_)) && !nullable.is_empty() && nullable != versions {
        return Err(format!("{}: a struct that is nullable only sometimes", raw.name).into());
    }
    if raw.flexible_versions.is_some() {
        return Err(format!("{}: flexible versions of its own, as only RequestHeader has", raw.name).into());
    }
    Ok(Field {
        name: raw.name.clone(),
        of,
        versions,
        nullable,
        default: raw.default.as_ref().map(|default| match default {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }),
        ignorable: raw.ignorable,
        tag: raw.tag,
        entity: raw.entity_type.clone(),
    })
}

fn parse_type(text: &str, field: &str) -> Result<Type> {
    Ok(match text {
        "bool" => Type::Bool,
        "int8" => Type::Int8,
        "int16" if field.ends_with("ErrorCode") => Type::ErrorCode,
        "int16" => Type::Int16,
        "uint16" => Type::Uint16,
        "int32" => Type::Int32,
        "uint32" => Type::Uint32,
        "int64" => Type::Int64,
        "float64" => Type::Float64,
        "uuid" => Type::Uuid,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "records" => Type::Records,
        _ => match text.strip_prefix("[]") {
            Some(element) => Type::Array(Box::new(parse_type(element, "")?)),
            None if text.starts_with(char::is_uppercase) => Type::Struct(text.to_owned()),
            None => return Err(format!("{field}: unknown type {text}").into()),
        },
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMessage {
    api_key: Option<i16>,
    #[serde(rename = "type")]
    kind: String,
    name: String,
    valid_versions: String,
    flexible_versions: Option<String>,
    #[serde(default)]
    listeners: Vec<String>,
    #[serde(default)]
    latest_version_unstable: bool,
    #[serde(default)]
    fields: Vec<RawField>,
    #[serde(default)]
    common_structs: Vec<RawStruct>,
}

#[derive(Deserialize)]
struct RawStruct {
    name: String,
    #[serde(default)]
    fields: Vec<RawField>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawField {
    name: String,
    #[serde(rename = "type")]
    of: String,
    versions: String,
    nullable_versions: Option<String>,
    tagged_versions: Option<String>,
    flexible_versions: Option<String>,
    tag: Option<u32>,
    default: Option<Value>,
    #[serde(default)]
    ignorable: bool,
    entity_type: Option<String>,
    #[serde(default)]
    fields: Vec<RawField>,
}

#[cfg(test)]
mod tests {
    use super::{Kind, Type, Versions, read};

    const DEFINITION: &str = r#"
// A licence.
{
  "apiKey": 99,
  "type": "request",
  "listeners": ["broker"],
  "name": "PlanRequest",
  // Version 2 adds the note.
  "validVersions": "1-3",
  "flexibleVersions": "2+",
  "fields": [
    { "name": "Stops", "type": "[]Stop", "versions": "0+", "fields": [
      { "name": "At", "type": "Place", "versions": "0+" },
      { "name": "Note", "type": "string", "versions": "2+", "nullableVersions": "3+", "ignorable": true },
      { "name": "Gone", "type": "int8", "versions": "0" }
    ]},
    { "name": "Home", "type": "Place", "versions": "3+", "tag": 0, "taggedVersions": "3+" },
    { "name": "ErrorCode", "type": "int16", "versions": "0+" }
  ],
  "commonStructs": [
    { "name": "Place", "versions": "0+", "fields": [{ "name": "X", "type": "int64", "versions": "0+" }] }
  ]
}"#;

    #[test]
    fn a_definition_becomes_structs_with_the_versions_in_which_they_occur() {
        let message = read(DEFINITION).unwrap().unwrap();
        assert_eq!((message.kind, message.name.as_str()), (Kind::Request(99), "PlanRequest"));
        let parts: Vec<(&str, String)> =
            message.structs.iter().map(|part| (part.name.as_str(), part.versions.to_string())).collect();
        let all = || "1-3".to_owned();
        assert_eq!(parts, [("PlanRequest", all()), ("Stop", all()), ("Place", all())]);
        assert_eq!(message.structs[0].fields[2].of, Type::ErrorCode);
        let stop: Vec<&str> = message.structs[1].fields.iter().map(|field| field.name.as_str()).collect();
        assert_eq!(stop, ["At", "Note"]);
        assert_eq!(message.structs[1].fields[1].nullable, Versions { low: 3, high: 3 });
    }

    #[test]
    fn the_least_that_a_struct_takes_depends_on_the_version() {
        let message = read(DEFINITION).unwrap().unwrap();
        let stop = message.part("Stop").unwrap();
        // A place; in flexible versions with tags, a string with its tags, and the tags of the stop.
        assert_eq!([1, 2, 3].map(|version| message.min_size(stop, version)), [8, 11, 11]);
    }

    #[test]
    fn what_the_generator_does_not_know_is_an_error() {
        let strange = DEFINITION.replace("\"int64\"", "\"int128\"");
        assert!(read(&strange).unwrap_err().to_string().contains("int128"));
        let recursive = DEFINITION.replace("\"int64\"", "\"Place\"");
        assert!(read(&recursive).unwrap_err().to_string().contains("recursive"));
    }
}
