//! Writes values into a frame, without copying the record batches that go with it.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bytes::Bytes;

use crate::{EncodeError, ErrorCode, Str, TopicId};

type Result<T> = std::result::Result<T, EncodeError>;

/// Below this size it is cheaper to copy bytes into the frame than to send them as a segment of their own.
const COPY_BELOW: usize = 1024;

/// The longest string that Kafka accepts, whatever the encoding of its length.
const MAX_STRING: usize = i16::MAX as usize;

/// A frame in the making: one growing buffer, and the record batches that will be sent between its parts.
///
/// The `field` that some methods take is what an error names, as `Struct.field`.
#[derive(Debug, Default, Clone)]
pub struct Encoder {
    buffer: Vec<u8>,
    /// Bytes that belong into the frame before the given offset of `buffer`.
    spliced: Vec<(usize, Bytes)>,
    spliced_len: usize,
}

/// Something that can be an element of an array.
pub(crate) trait WriteElement {
    fn write(&self, version: i16, flexible: bool, field: &'static str, out: &mut Encoder) -> Result<()>;
}

impl Encoder {
    /// An empty frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty frame with room for `capacity` bytes besides record batches.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buffer: Vec::with_capacity(capacity), ..Self::default() }
    }

    /// How many bytes the frame has so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buffer.len().saturating_add(self.spliced_len)
    }

    /// Whether the frame has no bytes yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The frame in pieces, in order: what was written, with the record batches between.
    #[must_use]
    pub fn into_segments(self) -> Vec<Bytes> {
        let mut rest = Bytes::from(self.buffer);
        let mut segments = Vec::with_capacity(self.spliced.len().saturating_mul(2).saturating_add(1));
        let mut taken = 0usize;
        for (offset, records) in self.spliced {
            let before = rest.split_to(offset.saturating_sub(taken));
            taken = offset;
            segments.extend([before, records].into_iter().filter(|segment| !segment.is_empty()));
        }
        segments.extend(Some(rest).filter(|rest| !rest.is_empty()));
        segments
    }

    /// The frame in one piece: copies the record batches.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        if self.spliced.is_empty() {
            return Bytes::copy_from_slice(&self.buffer);
        }
        Bytes::from(self.clone().into_segments().concat())
    }

    /// Writes bytes as they are.
    #[inline]
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Overwrites the first four bytes with how many follow them: the length in front of a frame.
    pub(crate) fn patch_length(&mut self) -> Result<()> {
        let length = self.len().saturating_sub(4);
        let too_long = EncodeError::TooLong { field: "frame", length };
        let encoded = i32::try_from(length).map_err(|_| too_long)?;
        let front = self.buffer.first_chunk_mut::<4>().ok_or(too_long)?;
        *front = encoded.to_be_bytes();
        Ok(())
    }

    /// Writes a boolean.
    #[inline]
    pub fn put_bool(&mut self, value: bool) {
        self.buffer.push(u8::from(value));
    }

    /// Writes a UUID.
    #[inline]
    pub fn put_uuid(&mut self, value: TopicId) {
        self.put_slice(&value.0);
    }

    /// Writes an error code.
    #[inline]
    pub fn put_error_code(&mut self, value: ErrorCode) {
        self.put_i16(value.0);
    }

    /// Writes an unsigned variable-length integer.
    #[inline]
    pub fn put_unsigned_varint(&mut self, value: u32) {
        self.put_unsigned_varlong(value.into());
    }

    /// Writes an unsigned variable-length integer.
    #[inline]
    pub fn put_unsigned_varlong(&mut self, mut value: u64) {
        while let Some(more) = (value >> 7).checked_sub(1) {
            // The low seven bits, and the mark that more follow.
            self.buffer.push((value & 0x7f) as u8 | 0x80);
            value = more.saturating_add(1);
        }
        self.buffer.push(value as u8);
    }

    /// Writes a zig-zag variable-length integer.
    #[inline]
    pub fn put_varint(&mut self, value: i32) {
        self.put_unsigned_varint(((value << 1) ^ (value >> 31)).cast_unsigned());
    }

    /// Writes a zig-zag variable-length integer.
    #[inline]
    pub fn put_varlong(&mut self, value: i64) {
        self.put_unsigned_varlong(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    /// Writes a length that in flexible versions is a varint, one too high so that 0 can mean null.
    fn put_long_length(
        &mut self,
        flexible: bool,
        nullable: bool,
        length: Option<usize>,
        field: &'static str,
    ) -> Result<()> {
        match length {
            None if !nullable => return Err(EncodeError::Null { field }),
            None if flexible => self.put_unsigned_varint(0),
            None => self.put_i32(-1),
            Some(length) => {
                let encoded = i32::try_from(length).map_err(|_| EncodeError::TooLong { field, length })?;
                if flexible {
                    self.put_unsigned_varint(encoded.cast_unsigned().saturating_add(1));
                } else {
                    self.put_i32(encoded);
                }
            }
        }
        Ok(())
    }

    /// Writes a string.
    ///
    /// # Errors
    ///
    /// When it is longer than 32,767 bytes.
    pub fn put_string(&mut self, flexible: bool, value: &str, field: &'static str) -> Result<()> {
        let length = value.len();
        if length > MAX_STRING {
            return Err(EncodeError::TooLong { field, length });
        }
        if flexible {
            self.put_unsigned_varlong((length as u64).saturating_add(1));
        } else {
            self.put_u16(length as u16);
        }
        self.put_slice(value.as_bytes());
        Ok(())
    }

    /// Writes a string that may be null if `nullable`.
    ///
    /// # Errors
    ///
    /// When it is longer than 32,767 bytes, or null though it may not be.
    pub fn put_nullable_string(
        &mut self,
        flexible: bool,
        nullable: bool,
        value: Option<&str>,
        field: &'static str,
    ) -> Result<()> {
        match value {
            Some(value) => return self.put_string(flexible, value, field),
            None if !nullable => return Err(EncodeError::Null { field }),
            None if flexible => self.put_unsigned_varint(0),
            None => self.put_i16(-1),
        }
        Ok(())
    }

    /// Writes bytes.
    ///
    /// # Errors
    ///
    /// When they are longer than the format can say.
    pub fn put_bytes(&mut self, flexible: bool, value: &Bytes, field: &'static str) -> Result<()> {
        self.put_nullable_bytes(flexible, false, Some(value), field)
    }

    /// Writes bytes that may be null if `nullable`.
    ///
    /// # Errors
    ///
    /// When they are longer than the format can say, or null though they may not be.
    pub fn put_nullable_bytes(
        &mut self,
        flexible: bool,
        nullable: bool,
        value: Option<&Bytes>,
        field: &'static str,
    ) -> Result<()> {
        self.put_long_length(flexible, nullable, value.map(Bytes::len), field)?;
        if let Some(value) = value {
            self.put_slice(value);
        }
        Ok(())
    }

    /// Writes record batches. Large ones are not copied: they become a segment of their own.
    ///
    /// # Errors
    ///
    /// When they are longer than the format can say, or null though they may not be.
    pub fn put_records(
        &mut self,
        flexible: bool,
        nullable: bool,
        value: Option<&Bytes>,
        field: &'static str,
    ) -> Result<()> {
        self.put_long_length(flexible, nullable, value.map(Bytes::len), field)?;
        if let Some(records) = value {
            self.records(records.clone());
        }
        Ok(())
    }

    /// Appends bytes as they are, without copying them if they are many.
    pub fn records(&mut self, records: Bytes) {
        if records.len() < COPY_BELOW {
            self.put_slice(&records);
        } else {
            self.spliced_len = self.spliced_len.saturating_add(records.len());
            self.spliced.push((self.buffer.len(), records));
        }
    }

    /// Writes the byte in front of a struct that may be null: whether the struct follows.
    pub fn put_presence(&mut self, present: bool) {
        self.put_i8(if present { 1 } else { -1 });
    }

    /// Writes an array.
    pub(crate) fn put_array<T: WriteElement>(
        &mut self,
        version: i16,
        flexible: bool,
        elements: &[T],
        field: &'static str,
    ) -> Result<()> {
        self.put_long_length(flexible, false, Some(elements.len()), field)?;
        elements.iter().try_for_each(|element| element.write(version, flexible, field, self))
    }

    /// Writes an array that may be null if `nullable`.
    pub(crate) fn put_nullable_array<T: WriteElement>(
        &mut self,
        version: i16,
        flexible: bool,
        nullable: bool,
        elements: Option<&Vec<T>>,
        field: &'static str,
    ) -> Result<()> {
        match elements {
            Some(elements) => self.put_array(version, flexible, elements, field),
            None => self.put_long_length(flexible, nullable, None, field),
        }
    }

    /// Writes how many tagged fields follow.
    pub(crate) fn put_tag_count(&mut self, present: &[bool]) {
        let count = present.iter().filter(|present| **present).count();
        self.put_unsigned_varlong(count as u64);
    }

    /// Starts a tagged field, whose value is what is written until [`Encoder::end_tagged`] gets the returned offset.
    pub(crate) fn begin_tagged(&mut self, tag: u32) -> usize {
        self.put_unsigned_varint(tag);
        self.buffer.len()
    }

    /// Ends a tagged field: puts the size of its value in front of it. The value has no `records`.
    pub(crate) fn end_tagged(&mut self, start: usize) {
        let end = self.buffer.len();
        self.put_unsigned_varlong(end.saturating_sub(start) as u64);
        let size_of_size = self.buffer.len().saturating_sub(end);
        if let Some(field) = self.buffer.get_mut(start..) {
            field.rotate_right(size_of_size);
        }
    }
}

/// The fixed-size numbers.
macro_rules! numbers {
    ($($name:ident $type:ident $what:literal)*) => {
        impl Encoder {$(
            #[doc = concat!("Writes ", $what, ".")]
            #[inline]
            pub fn $name(&mut self, value: $type) {
                self.put_slice(&value.to_be_bytes());
            }
        )*}

        $(impl WriteElement for $type {
            fn write(&self, _: i16, _: bool, _: &'static str, out: &mut Encoder) -> Result<()> {
                out.$name(*self);
                Ok(())
            }
        })*
    };
}

numbers! {
    put_i8 i8 "an 8-bit integer"
    put_i16 i16 "a 16-bit integer"
    put_u16 u16 "an unsigned 16-bit integer"
    put_i32 i32 "a 32-bit integer"
    put_u32 u32 "an unsigned 32-bit integer"
    put_i64 i64 "a 64-bit integer"
    put_f64 f64 "a 64-bit floating-point number"
}

impl WriteElement for TopicId {
    fn write(&self, _: i16, _: bool, _: &'static str, out: &mut Encoder) -> Result<()> {
        out.put_uuid(*self);
        Ok(())
    }
}

impl WriteElement for Str {
    fn write(&self, _: i16, flexible: bool, field: &'static str, out: &mut Encoder) -> Result<()> {
        out.put_string(flexible, self, field)
    }
}
