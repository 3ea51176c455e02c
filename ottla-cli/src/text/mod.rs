//! How records are written down: offset ranges, format strings, JSON lines. Pure: text in, values out, and back.

pub(crate) mod format;
pub(crate) mod json_line;
pub(crate) mod offset_range;
pub(crate) mod table;
pub(crate) mod time;

/// One record as text sees it: what it says, and where it was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printed<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// Milliseconds since the epoch.
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// One record to be produced, as text gives it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct NewRecord {
    pub(crate) topic: Option<String>,
    pub(crate) partition: Option<i32>,
    /// Milliseconds since the epoch.
    pub(crate) timestamp: Option<u64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<OwnedHeader>,
}

/// A header's name and value.
pub(crate) type OwnedHeader = (String, Option<Vec<u8>>);
