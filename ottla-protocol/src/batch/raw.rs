#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::Bytes;

use super::control::ControlRecord;
use super::crc::crc32c;
use super::error::BatchError;
use super::header::{BatchHeader, CRC_START, HEADER_LEN};
use super::record::{RecordCursor, RecordIter};
use crate::compression::{Compression, Decompressor};

/// Cuts a `records` field, as a fetch response or a produce request carries it, into its batches.
///
/// Nothing is copied, decompressed or summed yet. A broker may send a batch that the size limit cut short: the
/// iterator ends quietly in front of it, and [`Batches::leftover`] tells how much it left.
#[must_use]
pub fn batches(records: Bytes) -> Batches {
    Batches { rest: records }
}

/// Iterator of [`batches`]. After an error it is at its end, since nothing tells where the next batch begins.
#[derive(Debug, Clone)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// Bytes not given out. When the iterator has ended they are a batch cut short; a field that is nothing but
    /// leftover holds a batch above the size limit, or one that lies about its length, and asking again for the same
    /// would never end.
    #[must_use]
    pub fn leftover(&self) -> usize {
        self.rest.len()
    }
}

impl Iterator for Batches {
    type Item = Result<RawBatch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        match BatchHeader::parse(&self.rest) {
            Ok(Some(header)) if header.size() <= self.rest.len() => {
                let bytes = self.rest.split_to(header.size());
                Some(Ok(RawBatch { header, bytes }))
            }
            Ok(_) => None,
            Err(error) => {
                self.rest.clear();
                Some(Err(error))
            }
        }
    }
}

/// One whole batch as it came, with its header parsed.
#[derive(Debug, Clone)]
pub struct RawBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl RawBatch {
    /// The header.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The batch, header and all.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Compares the checksum with the bytes.
    ///
    /// # Errors
    ///
    /// [`BatchError::CrcMismatch`].
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c(self.bytes.get(CRC_START..).unwrap_or_default());
        let stored = self.header.crc;
        if stored == computed { Ok(()) } else { Err(BatchError::CrcMismatch { stored, computed }) }
    }

    /// The records as views: of the frame, or of `decompressor`'s own buffer, which the next batch will overwrite.
    ///
    /// The checksum is not looked at: see [`Self::verify_crc`].
    ///
    /// # Errors
    ///
    /// The payload cannot be decompressed within the bounds, or it has no room for the records that the header
    /// promises.
    pub fn views<'a>(&'a self, decompressor: &'a mut Decompressor) -> Result<RecordIter<'a>, BatchError> {
        let payload = match self.header.compression()? {
            Compression::None => self.compressed_payload(),
            codec => decompressor.decompress(codec, self.compressed_payload())?,
        };
        RecordIter::new(&self.header, payload)
    }

    /// The records with the bytes they borrow from: a slice of the frame, or a buffer of their own that
    /// [`Decompressor::recycle`] takes back.
    ///
    /// The checksum is not looked at: see [`Self::verify_crc`].
    ///
    /// # Errors
    ///
    /// As [`Self::views`].
    pub fn records(&self, decompressor: &mut Decompressor) -> Result<Records, BatchError> {
        let payload = match self.header.compression()? {
            Compression::None => self.bytes.slice(HEADER_LEN..),
            codec => decompressor.decompress_owned(codec, self.compressed_payload())?,
        };
        RecordIter::new(&self.header, &payload)?;
        Ok(Records { header: self.header, payload })
    }

    /// The control record of a control batch; `None` for a batch of data, and for a control batch whose record
    /// compaction took.
    ///
    /// # Errors
    ///
    /// The control batch is malformed.
    pub fn control_record(&self) -> Result<Option<ControlRecord>, BatchError> {
        if !self.header.is_control() {
            return Ok(None);
        }
        match self.records(&mut Decompressor::new())?.iter().next() {
            Some(record) => Ok(Some(ControlRecord::parse(&record?))),
            None => Ok(None),
        }
    }

    fn compressed_payload(&self) -> &[u8] {
        self.bytes.get(HEADER_LEN..).unwrap_or_default()
    }
}

/// The decompressed records of one batch, owning (a share of) the bytes they lie in.
#[derive(Debug, Clone)]
pub struct Records {
    header: BatchHeader,
    payload: Bytes,
}

impl Records {
    /// The header of the batch they came in.
    #[must_use]
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The records from the first on.
    #[must_use]
    pub fn iter(&self) -> RecordIter<'_> {
        self.resume(RecordCursor::default())
    }

    /// The records from `cursor` on, which must come from [`Self::cursor`] of these same records.
    #[must_use]
    #[inline]
    pub fn resume(&self, cursor: RecordCursor) -> RecordIter<'_> {
        // Whoever made this value has checked that the payload has room for the records.
        RecordIter::resume(&self.header, &self.payload, cursor)
    }

    /// Where `iter`, an iterator over these records, stands.
    #[must_use]
    #[inline]
    pub fn cursor(&self, iter: &RecordIter<'_>) -> RecordCursor {
        iter.cursor(self.payload.len())
    }

    /// Moves `cursor` behind the next record without reading it; false if there is none.
    ///
    /// Meant for records that were read before: what is malformed inside of one is not noticed.
    #[inline]
    pub fn skip(&self, cursor: &mut RecordCursor) -> bool {
        let mut iter = self.resume(*cursor);
        let skipped = iter.skip_record();
        *cursor = self.cursor(&iter);
        skipped
    }

    /// The bytes that the records lie in, without the header.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    pub(crate) fn into_payload(self) -> Bytes {
        self.payload
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<super::RecordView<'a>, BatchError>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}
