#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::error::{BatchError, RecordError};
use super::header::{BatchHeader, TimestampType};
use super::varint::{take_varint, take_varlong};

/// The smallest record: length, attributes, two deltas, null key, null value, no headers.
pub(super) const MIN_RECORD_LEN: usize = 7;
/// The smallest header: empty key, null value.
const MIN_HEADER_LEN: usize = 2;

/// One header of a record. A record may have several of one key, and their order means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RecordHeader<'a> {
    /// The key; may be empty, cannot be null. It is meant to be UTF-8, which no broker looks at: some clients write what
    /// they are given.
    pub key: &'a [u8],
    /// The value; null is not the same as empty.
    pub value: Option<&'a [u8]>,
}

impl<'a> RecordHeader<'a> {
    /// A header of this key and value.
    #[must_use]
    pub fn new<K: AsRef<[u8]> + ?Sized>(key: &'a K, value: Option<&'a [u8]>) -> Self {
        Self { key: key.as_ref(), value }
    }
}

/// One record of a batch, borrowed from the bytes it came in.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    /// Offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970: the producer's time, or the broker's in a batch of [`TimestampType::LogAppendTime`].
    pub timestamp: i64,
    /// The key; null is not the same as empty.
    pub key: Option<&'a [u8]>,
    /// The value; null is a tombstone and not the same as empty.
    pub value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> RecordView<'a> {
    /// The headers in the order they were written, duplicates included. They are parsed while iterating.
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }
}

/// Iterator over the headers of one record.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'a> {
    /// The headers without their count; checked when the record was read.
    raw: &'a [u8],
    left: u32,
}

impl<'a> Iterator for Headers<'a> {
    type Item = RecordHeader<'a>;

    fn next(&mut self) -> Option<RecordHeader<'a>> {
        self.left = self.left.checked_sub(1)?;
        // Never an error: `Headers::parse` has walked the same bytes.
        take_header(&mut self.raw).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}

impl<'a> Headers<'a> {
    /// Takes the header section, the last of a record. A record without headers, nearly all of them, costs a byte.
    #[inline]
    fn parse(mut section: &'a [u8]) -> Result<Self, RecordError> {
        let count = take_varint(&mut section)?;
        if count == 0 && section.is_empty() {
            return Ok(Self::default());
        }
        Self::check(section, count)
    }

    #[cold]
    fn check(section: &'a [u8], count: i32) -> Result<Self, RecordError> {
        let left = u32::try_from(count).map_err(|_| RecordError::HeaderCount)?;
        if (left as usize).saturating_mul(MIN_HEADER_LEN) > section.len() {
            return Err(RecordError::HeaderCount);
        }
        let mut rest = section;
        for _ in 0..left {
            take_header(&mut rest)?;
        }
        if rest.is_empty() { Ok(Self { raw: section, left }) } else { Err(RecordError::TrailingBytes) }
    }
}

fn take_header<'a>(input: &mut &'a [u8]) -> Result<RecordHeader<'a>, RecordError> {
    let key = take_nullable_bytes(input)?.ok_or(RecordError::HeaderKey)?;
    Ok(RecordHeader { key, value: take_nullable_bytes(input)? })
}

#[inline]
fn take_nullable_bytes<'a>(input: &mut &'a [u8]) -> Result<Option<&'a [u8]>, RecordError> {
    let len = take_varint(input)?;
    let Ok(len) = usize::try_from(len) else {
        return if len == -1 { Ok(None) } else { Err(RecordError::Length) };
    };
    let (bytes, rest) = input.split_at_checked(len).ok_or(RecordError::Length)?;
    *input = rest;
    Ok(Some(bytes))
}

/// A place between two records of a batch that borrows nothing, so that reading can go on later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordCursor {
    /// Bytes in front of it.
    position: usize,
    index: u32,
    /// The last offset delta that was read in front of it.
    previous_delta: i32,
}

impl RecordCursor {
    /// Records in front of the cursor.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }
}

impl Default for RecordCursor {
    /// In front of the first record.
    fn default() -> Self {
        Self { position: 0, index: 0, previous_delta: -1 }
    }
}

/// Iterator over the records of one batch. After an error it is at its end.
///
/// It allocates nothing, and gives at most as many records as the header says.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    rest: &'a [u8],
    left: u32,
    index: u32,
    last_delta: i32,
    previous_delta: i32,
    base_offset: i64,
    base_timestamp: i64,
    append_time: Option<i64>,
}

impl<'a> RecordIter<'a> {
    /// The records of `payload`, which is what the batch of `header` holds once decompressed.
    pub(super) fn new(header: &BatchHeader, payload: &'a [u8]) -> Result<Self, BatchError> {
        let room = payload.len().checked_div(MIN_RECORD_LEN).unwrap_or(0);
        let fits = usize::try_from(header.count)
            .is_ok_and(|count| count <= room && (count > 0 || payload.is_empty()));
        if !fits {
            return Err(BatchError::InvalidHeader { base_offset: header.base_offset, field: "record count" });
        }
        Ok(Self::resume(header, payload, RecordCursor::default()))
    }

    /// Goes on at `cursor` in a payload that [`Self::new`] found room in.
    #[inline]
    pub(super) fn resume(header: &BatchHeader, payload: &'a [u8], cursor: RecordCursor) -> Self {
        let append_time =
            (header.timestamp_type() == TimestampType::LogAppendTime).then_some(header.max_timestamp);
        Self {
            rest: payload.get(cursor.position..).unwrap_or_default(),
            left: u32::try_from(header.count).unwrap_or(0).saturating_sub(cursor.index),
            index: cursor.index,
            last_delta: header.last_offset_delta,
            previous_delta: cursor.previous_delta,
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            append_time,
        }
    }

    /// Where the iterator stands in a payload of `len` bytes.
    #[inline]
    pub(super) fn cursor(&self, len: usize) -> RecordCursor {
        RecordCursor {
            position: len.saturating_sub(self.rest.len()),
            index: self.index,
            previous_delta: self.previous_delta,
        }
    }

    /// Steps over a record without a look inside; false at the end, and when the record is longer than what is left.
    #[inline]
    pub(super) fn skip_record(&mut self) -> bool {
        let mut input = self.rest;
        let len = take_varint(&mut input).ok().and_then(|len| usize::try_from(len).ok());
        let rest = len.and_then(|len| input.get(len..));
        let (Some(rest), Some(left)) = (rest, self.left.checked_sub(1)) else { return false };
        (self.rest, self.left, self.index) = (rest, left, self.index.wrapping_add(1));
        true
    }

    #[inline(always)]
    fn take_record(&mut self) -> Result<RecordView<'a>, RecordError> {
        let mut input = self.rest;
        let len = take_varint(&mut input)?;
        let len = usize::try_from(len).map_err(|_| RecordError::Length)?;
        let (mut body, rest) = input.split_at_checked(len).ok_or(RecordError::Truncated)?;
        // The attributes of a record have no meaning yet.
        body = body.get(1..).ok_or(RecordError::Truncated)?;
        let timestamp_delta = take_varlong(&mut body)?;
        let offset_delta = take_varint(&mut body)?;
        if offset_delta <= self.previous_delta || offset_delta > self.last_delta {
            return Err(RecordError::OffsetDelta);
        }
        let key = take_nullable_bytes(&mut body)?;
        let value = take_nullable_bytes(&mut body)?;
        let headers = Headers::parse(body)?;
        self.rest = rest;
        self.previous_delta = offset_delta;
        Ok(RecordView {
            // In range, since base + last delta is: see `BatchHeader::parse`.
            offset: self.base_offset.wrapping_add(i64::from(offset_delta)),
            // Wrapping undoes what a writer's subtraction did, for any pair of timestamps.
            timestamp: match self.append_time {
                Some(time) => time,
                None => self.base_timestamp.wrapping_add(timestamp_delta),
            },
            key,
            value,
            headers,
        })
    }

    #[cold]
    fn fail(&mut self, error: RecordError) -> BatchError {
        self.left = 0;
        BatchError::Record { index: self.index, error }
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    // Always: handing the 80 bytes of a result over through memory costs as much again as reading the record.
    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        match self.take_record() {
            Ok(_) if self.left == 0 && !self.rest.is_empty() => {
                Some(Err(self.fail(RecordError::TrailingBytes)))
            }
            Ok(record) => {
                self.index = self.index.wrapping_add(1);
                Some(Ok(record))
            }
            Err(error) => Some(Err(self.fail(error))),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left as usize))
    }
}
