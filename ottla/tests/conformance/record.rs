//! Records that own their parts, to compare what was written with what was read, also by Java.

use std::time::{Duration, SystemTime};

use ottla::{Header, Record, RecordView};
use serde_json::{Value, json};

/// A record to write.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Written {
    pub(crate) partition: Option<i32>,
    /// Milliseconds since 1970.
    pub(crate) timestamp: Option<u64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Written {
    pub(crate) fn value(value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    pub(crate) fn key(self, key: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    pub(crate) fn partition(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }

    pub(crate) fn timestamp(self, millis: u64) -> Self {
        Self { timestamp: Some(millis), ..self }
    }

    pub(crate) fn header(mut self, key: &str, value: Option<&[u8]>) -> Self {
        self.headers.push((key.to_owned(), value.map(<[u8]>::to_vec)));
        self
    }

    pub(crate) fn headers<'a>(&'a self) -> Vec<Header<'a>> {
        let header = |pair: &'a (String, Option<Vec<u8>>)| match &pair.1 {
            Some(value) => Header::new(&pair.0, value),
            None => Header::null(&pair.0),
        };
        self.headers.iter().map(header).collect()
    }

    /// The client's own record, with the headers of [`Self::headers`].
    pub(crate) fn as_record<'a>(&'a self, headers: &'a [Header<'a>]) -> Record<'a> {
        let mut record = Record::from_parts(self.key.as_deref(), self.value.as_deref()).headers(headers);
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        if let Some(millis) = self.timestamp {
            record = record.timestamp(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
        }
        record
    }

    /// The line that `Interop.java produce` reads.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "partition": self.partition, "timestamp": self.timestamp,
            "key": hex(self.key.as_deref()), "value": hex(self.value.as_deref()),
            "headers": self.headers.iter().map(|(key, value)| json!([key, hex(value.as_deref())])).collect::<Vec<_>>(),
        })
    }
}

/// A record that was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Read {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Read {
    pub(crate) fn of(record: &RecordView<'_>) -> Self {
        Self {
            partition: record.partition(),
            offset: record.offset(),
            timestamp: record.timestamp().millis(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().map(<[u8]>::to_vec),
            headers: record
                .headers()
                .map(|h| (h.key().into_owned(), h.value().map(<[u8]>::to_vec)))
                .collect(),
        }
    }

    /// From a line that `Interop.java consume` prints.
    pub(crate) fn from_json(line: &Value) -> Self {
        let number = |name: &str| line[name].as_i64().unwrap_or_else(|| panic!("no {name} in {line}"));
        let headers = line["headers"].as_array().expect("headers are an array").iter();
        Self {
            partition: number("partition") as i32,
            offset: number("offset"),
            timestamp: number("timestamp"),
            key: unhex(&line["key"]),
            value: unhex(&line["value"]),
            headers: headers.map(|h| (h[0].as_str().expect("a key").to_owned(), unhex(&h[1]))).collect(),
        }
    }

    /// The record without where and when, as it was given to a producer.
    pub(crate) fn content(&self) -> Written {
        Written {
            partition: None,
            timestamp: None,
            key: self.key.clone(),
            value: self.value.clone(),
            headers: self.headers.clone(),
        }
    }

    /// The value as text, for records whose value tells which they are.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().unwrap_or_default()).expect("values of this test are text")
    }
}

fn hex(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn unhex(text: &Value) -> Option<Vec<u8>> {
    let digits = text.as_str()?.as_bytes();
    let digit = |digit: u8| (digit as char).to_digit(16).expect("a hexadecimal digit") as u8;
    Some(digits.chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect())
}
