//! Sees every record on its way, and adds headers to it.

use std::{cell::Cell, sync::Arc};

use ottla_protocol::batch::RecordHeader;

use super::{RecordMetadata, SendError};
use crate::{Record, record::Headers};

/// Sees every record on its way out and every outcome, and may add headers: for tracing, auditing, metrics.
///
/// It can change nothing else. Both methods are called for each record, in the thread that sends or settles it, and
/// must be quick; neither may block.
pub trait ProducerInterceptor: Send + Sync + 'static {
    /// A record is about to be put into a batch. Headers go behind those that the record has.
    fn on_send(&self, topic: &str, record: &Record<'_>, headers: &mut HeaderWriter<'_>) {
        let _ = (topic, record, headers);
    }

    /// The fate of a record is known. Called once for every record that got into a batch.
    fn on_outcome(&self, topic: &str, outcome: &Result<RecordMetadata, SendError>) {
        let _ = (topic, outcome);
    }
}

/// Adds headers to a record that is being sent.
#[derive(Debug)]
pub struct HeaderWriter<'a> {
    added: &'a mut AddedHeaders,
}

impl HeaderWriter<'_> {
    /// Adds a header with a value.
    pub fn add<V: AsRef<[u8]> + ?Sized>(&mut self, key: &str, value: &V) {
        self.added.push(key, Some(value.as_ref()));
    }

    /// Adds a header without a value, which is not the same as an empty one.
    pub fn add_null(&mut self, key: &str) {
        self.added.push(key, None);
    }
}

/// The headers that interceptors added to one record, in buffers that the next record uses again.
#[derive(Debug, Default)]
pub(super) struct AddedHeaders {
    keys: String,
    values: Vec<u8>,
    /// Where each key and each value ends.
    ends: Vec<(usize, Option<usize>)>,
}

thread_local! {
    static SPARE: Cell<Option<AddedHeaders>> = const { Cell::new(None) };
}

impl AddedHeaders {
    pub(super) const NONE: Self = Self { keys: String::new(), values: Vec::new(), ends: Vec::new() };

    /// What the interceptors add to `record`.
    pub(super) fn collect(
        interceptors: &[Arc<dyn ProducerInterceptor>],
        topic: &str,
        record: &Record<'_>,
    ) -> Self {
        if interceptors.is_empty() {
            return Self::NONE;
        }
        let mut added = SPARE.take().unwrap_or_default();
        for interceptor in interceptors {
            interceptor.on_send(topic, record, &mut HeaderWriter { added: &mut added });
        }
        added
    }

    /// Leaves the buffers to the next record of this thread.
    pub(super) fn recycle(mut self) {
        if self.ends.capacity() > 0 {
            self.keys.clear();
            self.values.clear();
            self.ends.clear();
            SPARE.set(Some(self));
        }
    }

    fn push(&mut self, key: &str, value: Option<&[u8]>) {
        self.keys.push_str(key);
        self.values.extend_from_slice(value.unwrap_or_default());
        self.ends.push((self.keys.len(), value.map(|_| self.values.len())));
    }

    /// The headers of `record`, and then these.
    pub(super) fn behind<'a>(&'a self, record: &Record<'a>) -> AllHeaders<'a> {
        AllHeaders { own: record.iter_headers(), added: self, at: 0, key_from: 0, value_from: 0 }
    }
}

/// All headers of a record, as the batch takes them.
#[derive(Debug, Clone)]
pub(super) struct AllHeaders<'a> {
    own: Headers<'a>,
    added: &'a AddedHeaders,
    at: usize,
    key_from: usize,
    value_from: usize,
}

impl<'a> Iterator for AllHeaders<'a> {
    type Item = RecordHeader<'a>;

    #[inline]
    fn next(&mut self) -> Option<RecordHeader<'a>> {
        if let Some(header) = self.own.next() {
            return Some(header.into());
        }
        let (key_to, value_to) = *self.added.ends.get(self.at)?;
        let key = self.added.keys.get(self.key_from..key_to).unwrap_or_default();
        let value = value_to.and_then(|to| self.added.values.get(self.value_from..to));
        self.at += 1;
        self.key_from = key_to;
        self.value_from = value_to.unwrap_or(self.value_from);
        Some(RecordHeader::new(key, value))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.own.len() + (self.added.ends.len() - self.at);
        (left, Some(left))
    }
}

impl ExactSizeIterator for AllHeaders<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Header;

    struct Tracing;

    impl ProducerInterceptor for Tracing {
        fn on_send(&self, topic: &str, record: &Record<'_>, headers: &mut HeaderWriter<'_>) {
            headers.add("topic", topic);
            headers.add_null("nothing");
            headers.add("len", &[record.value_bytes().map_or(0, <[u8]>::len) as u8]);
        }
    }

    #[test]
    fn added_headers_come_behind_those_of_the_record() {
        let own = [Header::new("via", "web")];
        let record = Record::new("value").headers(&own);
        let interceptors: [Arc<dyn ProducerInterceptor>; 1] = [Arc::new(Tracing)];
        for _ in 0..2 {
            let added = AddedHeaders::collect(&interceptors, "orders", &record);
            let all = added.behind(&record);
            assert_eq!(all.len(), 4);
            let all: Vec<_> =
                all.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect();
            let expected = [
                ("via", Some(&b"web"[..])),
                ("topic", Some(&b"orders"[..])),
                ("nothing", None),
                ("len", Some(&[5_u8][..])),
            ];
            assert_eq!(
                all,
                expected.map(|(key, value)| (key.as_bytes().to_vec(), value.map(<[u8]>::to_vec)))
            );
            added.recycle();
        }
    }
}
