//! What is written: a record borrows all that it is made of.

use std::{
    borrow::Cow,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ottla_protocol::batch::{Headers as RawHeaders, RecordHeader};

/// What is written to a topic: a value, and what goes with it.
///
/// It borrows everything; the producer copies it once, into the batch that goes to the broker. The topic is not part
/// of it: one record serves [`Producer::send`](crate::Producer::send), topic handles and transactions.
///
/// ```
/// use ottla::{Header, Record};
///
/// let headers = [Header::new("via", "web")];
/// let record = Record::new("{\"total\": 12}").key("customer-7").headers(&headers);
/// assert_eq!(record.key_bytes(), Some(&b"customer-7"[..]));
/// ```
#[derive(Clone, Copy)]
#[must_use = "a record does nothing until it is sent"]
pub struct Record<'a> {
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: HeaderSource<'a>,
    partition: Option<i32>,
    timestamp: Option<i64>,
}

impl<'a> Record<'a> {
    /// A record with this value. It is mandatory: a record without one is a [tombstone](Self::tombstone).
    pub fn new<V: AsRef<[u8]> + ?Sized>(value: &'a V) -> Self {
        Self::from_parts(None, Some(value.as_ref()))
    }

    /// A record without a value: on a compacted topic it deletes what has this key.
    pub fn tombstone<K: AsRef<[u8]> + ?Sized>(key: &'a K) -> Self {
        Self::from_parts(Some(key.as_ref()), None)
    }

    /// A record of a key and a value that may be null, which is not the same as empty.
    pub fn from_parts(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Self {
        Self { key, value, headers: HeaderSource::Given(&[]), partition: None, timestamp: None }
    }

    /// Sets the key: records of one key go to one partition.
    pub fn key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// Sets the headers; their order and duplicates are kept.
    pub fn headers(mut self, headers: &'a [Header<'a>]) -> Self {
        self.headers = HeaderSource::Given(headers);
        self
    }

    /// Sends it to this partition, whatever its key.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the timestamp, to the millisecond; the producer's clock otherwise.
    pub fn timestamp(mut self, timestamp: SystemTime) -> Self {
        self.timestamp = Some(to_millis(timestamp));
        self
    }

    /// The key, if it has one.
    #[must_use]
    pub fn key_bytes(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value; `None` for a tombstone.
    #[must_use]
    pub fn value_bytes(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// The partition that was asked for.
    #[must_use]
    pub fn chosen_partition(&self) -> Option<i32> {
        self.partition
    }

    /// The headers, in order.
    #[must_use]
    pub fn iter_headers(&self) -> Headers<'a> {
        match self.headers {
            HeaderSource::Given(headers) => Headers(Left::Given(headers.iter())),
            HeaderSource::Encoded(headers) => Headers::encoded(headers),
        }
    }

    /// Milliseconds since 1970, if they were set.
    pub(crate) fn timestamp_ms(&self) -> Option<i64> {
        self.timestamp
    }

    /// Takes over the headers of a record that was consumed, as they are.
    pub(crate) fn encoded_headers(mut self, headers: RawHeaders<'a>) -> Self {
        self.headers = HeaderSource::Encoded(headers);
        self
    }
}

impl<'a, V: AsRef<[u8]> + ?Sized> From<&'a V> for Record<'a> {
    fn from(value: &'a V) -> Self {
        Self::new(value)
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("key", &self.key.map(<[u8]>::escape_ascii).map(|key| key.to_string()))
            .field("value_len", &self.value.map(<[u8]>::len))
            .field("headers", &self.iter_headers().len())
            .field("partition", &self.partition)
            .field("timestamp", &self.timestamp)
            .finish()
    }
}

/// One header of a record. A record may have several of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header<'a> {
    key: &'a [u8],
    value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// A header with a value. Its key should be text: other clients may fail at anything else.
    #[must_use]
    pub fn new<K: AsRef<[u8]> + ?Sized, V: AsRef<[u8]> + ?Sized>(key: &'a K, value: &'a V) -> Self {
        Self { key: key.as_ref(), value: Some(value.as_ref()) }
    }

    /// A header without a value, which is not the same as an empty one.
    #[must_use]
    pub fn null<K: AsRef<[u8]> + ?Sized>(key: &'a K) -> Self {
        Self { key: key.as_ref(), value: None }
    }

    /// The key; may be empty. What is not UTF-8 in it, which only other clients write, is shown as U+FFFD.
    #[must_use]
    pub fn key(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.key)
    }

    /// The key as it was written.
    #[must_use]
    pub fn key_bytes(&self) -> &'a [u8] {
        self.key
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }
}

impl<'a> From<RecordHeader<'a>> for Header<'a> {
    fn from(header: RecordHeader<'a>) -> Self {
        Self { key: header.key, value: header.value }
    }
}

impl<'a> From<Header<'a>> for RecordHeader<'a> {
    fn from(header: Header<'a>) -> Self {
        Self { key: header.key, value: header.value }
    }
}

#[derive(Clone, Copy)]
enum HeaderSource<'a> {
    Given(&'a [Header<'a>]),
    Encoded(RawHeaders<'a>),
}

/// Iterator over the headers of a record.
#[derive(Debug, Clone)]
pub struct Headers<'a>(Left<'a>);

#[derive(Debug, Clone)]
enum Left<'a> {
    Given(std::slice::Iter<'a, Header<'a>>),
    Encoded(RawHeaders<'a>),
}

impl<'a> Headers<'a> {
    /// Those of a record that was consumed.
    pub(crate) fn encoded(headers: RawHeaders<'a>) -> Self {
        Self(Left::Encoded(headers))
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    #[inline]
    fn next(&mut self) -> Option<Header<'a>> {
        match &mut self.0 {
            Left::Given(headers) => headers.next().copied(),
            Left::Encoded(headers) => headers.next().map(Header::from),
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Left::Given(headers) => headers.size_hint(),
            Left::Encoded(headers) => headers.size_hint(),
        }
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// Milliseconds since 1970, negative before.
pub(crate) fn to_millis(time: SystemTime) -> i64 {
    let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => millis(since),
        Err(before) => -millis(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_made_of_bytes_is_a_value() {
        let vec = vec![1_u8];
        let values =
            [Record::from("text"), Record::from(b"bytes"), Record::from(&vec), Record::new(&[0_u8; 2])];
        assert_eq!(
            values.map(|record| record.value_bytes().map(<[u8]>::len)),
            [Some(4), Some(5), Some(1), Some(2)]
        );
    }

    #[test]
    fn a_tombstone_has_a_key_and_no_value() {
        let record = Record::tombstone("gone");
        assert_eq!((record.key_bytes(), record.value_bytes()), (Some(&b"gone"[..]), None));
    }

    #[test]
    fn headers_keep_order_and_duplicates() {
        let headers = [Header::new("via", "web"), Header::null("via"), Header::new("via", "eu")];
        let record = Record::new("value").headers(&headers);
        assert_eq!(record.iter_headers().collect::<Vec<_>>(), headers);
        assert_eq!(record.iter_headers().len(), 3);
    }

    #[test]
    fn timestamps_count_milliseconds_and_may_lie_before_1970() {
        assert_eq!(to_millis(UNIX_EPOCH + Duration::from_micros(1_999)), 1);
        assert_eq!(to_millis(UNIX_EPOCH - Duration::from_millis(7)), -7);
    }
}
