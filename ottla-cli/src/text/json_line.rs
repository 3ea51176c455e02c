//! Records as JSON lines, without loss: what `consume --json` prints, `produce --json` reads.
//!
//! ```json
//! {"topic":"t","partition":0,"offset":1,"timestamp":1700000000000,"key":"k","value":{"base64":"/w=="},"headers":[["h","v"]]}
//! ```
//! Bytes that are UTF-8 are a string, others an object with `base64`, also in place of a header's name; nothing is `null`.
//! Headers keep their order and their duplicates.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{NewRecord, OwnedHeader, Printed};

/// One record as one line, without the line's end.
pub(crate) fn write(record: &Printed<'_>) -> String {
    json!({
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": bytes_to_json(record.key),
        "value": bytes_to_json(record.value),
        "headers": record.headers.iter().map(|(k, v)| json!([bytes_to_json(Some(k)), bytes_to_json(*v)])).collect::<Vec<_>>(),
    })
    .to_string()
}

/// Reads one line. The `offset` is ignored: it says where the record was, not where it goes.
pub(crate) fn read(line: &[u8]) -> Result<NewRecord, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(mut object) = value else { return Err("not a JSON object".into()) };
    let mut read = NewRecord::default();
    for (name, value) in std::mem::take(&mut object) {
        match name.as_str() {
            "offset" => {}
            "topic" => match value {
                Value::String(topic) => read.topic = Some(topic),
                _ => return Err("topic must be a string".to_owned()),
            },
            "partition" if value.is_null() => {}
            "partition" => read.partition = Some(integer(&name, &value)?),
            "timestamp" if value.is_null() => {}
            "timestamp" => read.timestamp = Some(integer(&name, &value)?),
            "key" => read.key = bytes_from_json(&name, value)?,
            "value" => read.value = bytes_from_json(&name, value)?,
            "headers" => read.headers = headers_from_json(value)?,
            other => {
                return Err(format!(
                    "unknown field '{other}'; there are topic, key, value, headers, partition, timestamp"
                ));
            }
        }
    }
    Ok(read)
}

fn bytes_to_json(bytes: Option<&[u8]>) -> Value {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => Value::Null,
        Some((Ok(text), _)) => text.into(),
        Some((Err(_), bytes)) => json!({ "base64": BASE64_STANDARD.encode(bytes) }),
    }
}

fn bytes_from_json(name: &str, value: Value) -> Result<Option<Vec<u8>>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.into_bytes())),
        Value::Object(object) if object.len() == 1 => match object.get("base64") {
            Some(Value::String(text)) => {
                BASE64_STANDARD.decode(text).map(Some).map_err(|error| format!("{name}: not base64: {error}"))
            }
            _ => Err(format!("{name}: an object must be {{\"base64\":\"…\"}}")),
        },
        _ => Err(format!("{name} must be a string, null or {{\"base64\":\"…\"}}")),
    }
}

fn headers_from_json(value: Value) -> Result<Vec<OwnedHeader>, String> {
    let wrong = || "headers must be a list of [name, value] pairs".to_string();
    let Value::Array(pairs) = value else { return Err(wrong()) };
    pairs
        .into_iter()
        .map(|pair| match <[Value; 2]>::try_from(pair.as_array().cloned().unwrap_or_default()) {
            Ok([name, value]) => {
                let name = bytes_from_json("a header's name", name)?.ok_or_else(wrong)?;
                let value = bytes_from_json(&String::from_utf8_lossy(&name), value)?;
                Ok((name, value))
            }
            Err(_) => Err(wrong()),
        })
        .collect()
}

fn integer<N: TryFrom<i64>>(name: &str, value: &Value) -> Result<N, String> {
    value
        .as_i64()
        .and_then(|n| N::try_from(n).ok())
        .ok_or_else(|| format!("{name} must be an integer in range, not {value}"))
}

#[cfg(test)]
mod tests {
    use super::{NewRecord, Printed, read, write};
    use crate::text::InLog;

    #[test]
    fn a_line_keeps_everything() {
        let record = Printed {
            topic: "t",
            partition: 2,
            offset: 9,
            timestamp: 5,
            key: Some(b"\xff\0"),
            value: Some("é\"\n".as_bytes()),
            headers: &[(b"h", Some(b"1")), (b"h", None), (b"", Some(b"")), (b"caf\xe9", Some(b"2"))],
            log: InLog::default(),
        };
        let line = write(&record);
        assert!(!line.contains('\n'), "one line: {line}");
        let expected = NewRecord {
            topic: Some("t".into()),
            partition: Some(2),
            timestamp: Some(5),
            key: Some(b"\xff\0".to_vec()),
            value: Some("é\"\n".as_bytes().to_vec()),
            headers: vec![
                (b"h".to_vec(), Some(b"1".to_vec())),
                (b"h".to_vec(), None),
                (Vec::new(), Some(Vec::new())),
                (b"caf\xe9".to_vec(), Some(b"2".to_vec())),
            ],
        };
        assert_eq!(read(line.as_bytes()), Ok(expected));
    }

    #[test]
    fn a_tombstone_and_an_empty_value_differ() {
        assert_eq!(read(br#"{"key":"k","value":null}"#).unwrap().value, None);
        assert_eq!(read(br#"{"key":"k","value":""}"#).unwrap().value, Some(Vec::new()));
    }

    #[test]
    fn what_is_no_record_is_refused_with_the_reason() {
        for (line, reason) in [
            ("{", "not JSON"),
            ("[]", "not a JSON object"),
            (r#"{"vlaue":"x"}"#, "unknown field 'vlaue'"),
            (r#"{"value":1}"#, "value must be"),
            (r#"{"value":{"base64":"?"}}"#, "not base64"),
            (r#"{"headers":[["a"]]}"#, "pairs"),
            (r#"{"partition":99999999999}"#, "partition must be an integer"),
            (r#"{"timestamp":-1}"#, "timestamp must be an integer in range"),
        ] {
            let error = read(line.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
    }
}
