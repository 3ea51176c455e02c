//! Records as they were read.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use ottla_protocol::batch::{self, BatchHeader, NO_PRODUCER_ID, TimestampType};

use crate::{
    Compression, TopicPartition,
    record::{Headers, Record},
};

/// One record that was read, borrowed from the batch it came in. Copying it copies a few words.
#[derive(Clone, Copy)]
pub struct RecordView<'a> {
    topic_partition: &'a TopicPartition,
    /// Of the batch in the log that it came in.
    header: &'a BatchHeader,
    raw: batch::RecordView<'a>,
}

impl<'a> RecordView<'a> {
    #[inline]
    pub(crate) fn new(
        topic_partition: &'a TopicPartition,
        header: &'a BatchHeader,
        raw: batch::RecordView<'a>,
    ) -> Self {
        Self { topic_partition, header, raw }
    }

    /// Topic and partition.
    #[must_use]
    pub fn topic_partition(&self) -> &'a TopicPartition {
        self.topic_partition
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &'a str {
        self.topic_partition.topic()
    }

    /// The partition's number.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.topic_partition.partition()
    }

    /// The offset in the partition.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.raw.offset
    }

    /// When the record was made, or appended to the log.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        Timestamp { millis: self.raw.timestamp, kind: self.header.timestamp_type().into() }
    }

    /// The key; none is not the same as an empty one.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.raw.key
    }

    /// The value; `None` is a tombstone, and not the same as an empty value.
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.raw.value
    }

    /// The headers in the order they were written, duplicates included. They are parsed while iterating.
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        Headers::encoded(self.raw.headers())
    }

    /// The value of the last header of that key, which is the one that counts where only one may; `None` when there is
    /// no such header or its value is null.
    #[must_use]
    pub fn header(&self, key: &str) -> Option<&'a [u8]> {
        self.headers().filter(|header| header.key_bytes() == key.as_bytes()).last()?.value()
    }

    /// The epoch of the leader that appended it to the log (KIP-320).
    #[must_use]
    pub fn leader_epoch(&self) -> Option<i32> {
        Some(self.header.partition_leader_epoch).filter(|epoch| *epoch >= 0)
    }

    /// Id and epoch of the idempotent producer that wrote it (KIP-98); `None` if no such producer did.
    #[must_use]
    pub fn producer(&self) -> Option<(i64, i16)> {
        let header = self.header;
        (header.producer_id != NO_PRODUCER_ID).then_some((header.producer_id, header.producer_epoch))
    }

    /// The codec that it was compressed with in the log.
    #[must_use]
    pub fn compression(&self) -> Compression {
        // With a codec that nobody knows there would be no view of it.
        self.header.compression().unwrap_or_default()
    }

    /// Whether it belongs to a transaction. Whether that was committed is another question: see
    /// [`ConsumerBuilder::isolation_level`](crate::ConsumerBuilder::isolation_level).
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.header.is_transactional()
    }

    /// A copy with memory of its own, for what is kept long: a view, and whatever borrows from it, keeps the whole
    /// response in memory.
    #[must_use]
    pub fn detach(&self) -> OwnedRecord {
        OwnedRecord::copy(self)
    }
}

/// Lengths in place of key and value, which may be large and nobody else's business.
impl fmt::Debug for RecordView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordView")
            .field("topic_partition", self.topic_partition)
            .field("offset", &self.offset())
            .field("timestamp", &self.timestamp())
            .field("key_len", &self.key().map(<[u8]>::len))
            .field("value_len", &self.value().map(<[u8]>::len))
            .field("headers", &self.headers().len())
            .finish()
    }
}

/// A moment that a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timestamp {
    millis: i64,
    kind: TimestampKind,
}

/// Whose clock a timestamp was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimestampKind {
    /// The producer's (`message.timestamp.type=CreateTime`).
    CreateTime,
    /// The broker's, when it appended the batch (`LogAppendTime`).
    LogAppendTime,
}

impl Timestamp {
    pub(crate) fn new(millis: i64, kind: TimestampKind) -> Self {
        Self { millis, kind }
    }

    /// Milliseconds since 1970, in UTC; negative when the record carries none.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.millis
    }

    /// Whose clock it was read from.
    #[must_use]
    pub fn kind(self) -> TimestampKind {
        self.kind
    }

    /// As the standard library has it; `None` when the record carries none.
    #[must_use]
    pub fn to_system_time(self) -> Option<SystemTime> {
        let millis = u64::try_from(self.millis).ok()?;
        UNIX_EPOCH.checked_add(Duration::from_millis(millis))
    }
}

impl From<TimestampType> for TimestampKind {
    fn from(kind: TimestampType) -> Self {
        match kind {
            TimestampType::LogAppendTime => Self::LogAppendTime,
            TimestampType::CreateTime => Self::CreateTime,
        }
    }
}

/// Forwards a record as it is: key, value, headers and timestamp. Partition and offset are where it came from, not part
/// of it.
impl<'a> From<RecordView<'a>> for Record<'a> {
    fn from(view: RecordView<'a>) -> Self {
        let record = Self::from_parts(view.key(), view.value()).encoded_headers(view.raw.headers());
        match view.timestamp().to_system_time() {
            Some(time) => record.timestamp(time),
            None => record,
        }
    }
}

/// A record with memory of its own: data, to keep and to send around. Cloning it copies no key, value or header value.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedRecord {
    topic_partition: TopicPartition,
    offset: i64,
    timestamp: Timestamp,
    key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<OwnedHeader>,
}

/// A header of an [`OwnedRecord`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedHeader {
    key: Box<[u8]>,
    value: Option<Bytes>,
}

impl OwnedHeader {
    /// The key, as [`Header::key`](crate::Header::key) has it.
    #[must_use]
    pub fn key(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }

    /// The key as it was written.
    #[must_use]
    pub fn key_bytes(&self) -> &[u8] {
        &self.key
    }

    /// The value; null is not the same as empty.
    #[must_use]
    pub fn value(&self) -> Option<&Bytes> {
        self.value.as_ref()
    }
}

impl OwnedRecord {
    /// Copies key, value and header values into one buffer.
    fn copy(record: &RecordView<'_>) -> Self {
        let headers = record.headers().map(|header| header.value());
        let parts = [record.key(), record.value()].into_iter().chain(headers).flatten();
        let mut copy = Vec::with_capacity(parts.clone().map(<[u8]>::len).sum());
        parts.for_each(|part| copy.extend_from_slice(part));
        // In the same order. The last part, mostly the only one, takes the buffer over and needs no counter for it.
        let mut copy = Bytes::from(copy);
        let mut keep = |part: Option<&[u8]>| part.map(|part| copy.split_to(part.len()));
        Self {
            topic_partition: record.topic_partition.clone(),
            offset: record.offset(),
            timestamp: record.timestamp(),
            key: keep(record.key()),
            value: keep(record.value()),
            headers: record
                .headers()
                .map(|header| OwnedHeader { key: header.key_bytes().into(), value: keep(header.value()) })
                .collect(),
        }
    }

    /// Topic and partition.
    #[must_use]
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.topic_partition
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.topic_partition.topic()
    }

    /// The partition's number.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.topic_partition.partition()
    }

    /// The offset in the partition.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// When the record was made, or appended to the log.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// The key; none is not the same as an empty one.
    #[must_use]
    pub fn key(&self) -> Option<&Bytes> {
        self.key.as_ref()
    }

    /// The value; `None` is a tombstone, and not the same as an empty value.
    #[must_use]
    pub fn value(&self) -> Option<&Bytes> {
        self.value.as_ref()
    }

    /// The headers in the order they were written, duplicates included.
    #[must_use]
    pub fn headers(&self) -> &[OwnedHeader] {
        &self.headers
    }
}

/// As [`RecordView`] does it.
impl fmt::Debug for OwnedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedRecord")
            .field("topic_partition", &self.topic_partition)
            .field("offset", &self.offset)
            .field("timestamp", &self.timestamp)
            .field("key_len", &self.key.as_ref().map(Bytes::len))
            .field("value_len", &self.value.as_ref().map(Bytes::len))
            .field("headers", &self.headers.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use ottla_protocol::{
        batch::{BatchBuilder, RecordHeader, batches},
        compression::Decompressor,
    };

    use super::*;

    fn with_record<T>(check: impl FnOnce(RecordView<'_>) -> T) -> T {
        let mut builder = BatchBuilder::new(256);
        let headers = [
            RecordHeader::new("via", Some(b"web")),
            RecordHeader::new("via", None),
            RecordHeader::new("", Some(b"")),
        ];
        builder.append(1_500, Some(b"k"), Some(b"value"), headers.into_iter()).unwrap();
        let mut sealed = builder.seal();
        sealed.stamp(71, 2, 0);
        let batch = batches(sealed.into_bytes()).next().unwrap().unwrap();
        let records = batch.records(&mut Decompressor::new()).unwrap();
        let raw = records.iter().next().unwrap().unwrap();
        check(RecordView::new(&TopicPartition::new("orders", 3), batch.header(), raw))
    }

    #[test]
    fn a_view_shows_what_was_written() {
        with_record(|record| {
            assert_eq!((record.topic(), record.partition(), record.offset()), ("orders", 3, 0));
            assert_eq!((record.key(), record.value()), (Some(&b"k"[..]), Some(&b"value"[..])));
            assert_eq!((record.producer(), record.leader_epoch()), (Some((71, 2)), None));
            assert_eq!((record.compression(), record.is_transactional()), (Compression::None, false));
            assert_eq!(record.timestamp(), Timestamp::new(1_500, TimestampKind::CreateTime));
            assert_eq!(record.headers().len(), 3);
            assert_eq!(record.header("via"), None, "the last one counts, and it is null");
            assert_eq!(record.header(""), Some(&b""[..]));
        });
    }

    #[test]
    fn a_record_is_forwarded_as_it_is() {
        with_record(|record| {
            let forward = Record::from(record);
            assert_eq!((forward.key_bytes(), forward.value_bytes()), (record.key(), record.value()));
            assert_eq!(forward.iter_headers().collect::<Vec<_>>(), record.headers().collect::<Vec<_>>());
            assert_eq!((forward.timestamp_ms(), forward.chosen_partition()), (Some(1_500), None));
        });
    }

    #[test]
    fn a_detached_record_is_equal_and_keeps_nothing_alive() {
        let owned = with_record(|record| record.detach());
        assert_eq!(owned.key().map(|key| &key[..]), Some(&b"k"[..]));
        assert_eq!(owned.value().map(|value| &value[..]), Some(&b"value"[..]));
        let headers: Vec<_> = owned
            .headers()
            .iter()
            .map(|header| (header.key_bytes(), header.value().map(|value| &value[..])))
            .collect();
        assert_eq!(headers, [(&b"via"[..], Some(&b"web"[..])), (b"via", None), (b"", Some(b""))]);
        assert_eq!(owned, owned.clone());
    }

    #[test]
    fn debug_output_tells_lengths_and_no_contents() {
        with_record(|record| {
            for shown in [format!("{record:?}"), format!("{:?}", record.detach())] {
                assert!(shown.contains("key_len: Some(1), value_len: Some(5), headers: 3"), "{shown}");
                assert!(!shown.contains("web"), "{shown}");
            }
        });
    }

    #[test]
    fn a_timestamp_before_1970_is_none() {
        let timestamp = |millis| Timestamp { millis, kind: TimestampKind::CreateTime };
        assert_eq!(timestamp(-1).to_system_time(), None);
        assert_eq!(timestamp(1_500).to_system_time(), Some(UNIX_EPOCH + Duration::from_millis(1_500)));
    }
}
