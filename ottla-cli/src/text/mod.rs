//! How records are written down: offset ranges, format strings, JSON lines. Pure: text in, values out, and back.

pub(crate) mod chosen;
pub(crate) mod format;
pub(crate) mod json_line;
pub(crate) mod offset_range;
pub(crate) mod similar;
pub(crate) mod table;
pub(crate) mod time;

use std::collections::BTreeSet;

use ottla::Compression;

/// What somebody has listed, without what was named before: brokers refuse it, or do it twice.
pub(crate) fn each_once<T: Ord + Clone>(mut listed: Vec<T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    listed.retain(|item| seen.insert(item.clone()));
    listed
}

/// `1 record`, `2 records`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

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
    pub(crate) headers: &'a [(&'a [u8], Option<&'a [u8]>)],
    pub(crate) log: InLog,
}

/// What is known of a record because it was read out of a log; -1 for what is not known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InLog {
    pub(crate) leader_epoch: i32,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) compression: Compression,
    /// 0 for the producer's time, 1 for the broker's.
    pub(crate) timestamp_type: i8,
    pub(crate) transactional: bool,
    /// The oldest offset of the partition.
    pub(crate) start: i64,
    pub(crate) last_stable: i64,
    pub(crate) high_watermark: i64,
}

impl Default for InLog {
    fn default() -> Self {
        Self {
            leader_epoch: -1,
            producer_id: -1,
            producer_epoch: -1,
            compression: Compression::None,
            timestamp_type: -1,
            transactional: false,
            start: -1,
            last_stable: -1,
            high_watermark: -1,
        }
    }
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
pub(crate) type OwnedHeader = (Vec<u8>, Option<Vec<u8>>);

#[cfg(test)]
mod tests {
    use super::each_once;

    #[test]
    fn what_is_named_twice_is_meant_once_where_it_was_named_first() {
        assert_eq!(each_once(vec!["b", "a", "b", "c", "a"]), ["b", "a", "c"]);
    }
}
