//! Reads values from a frame, and believes nothing that the frame says about itself.
//!
//! Every length and every count is checked against what is left before anything is allocated, so that a frame can make
//! us use only as much memory as its real content justifies.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::mem::size_of;

use bytes::{Buf, Bytes};

use crate::{DecodeError, ErrorCode, Str, TopicId};

type Result<T> = std::result::Result<T, DecodeError>;

/// A cursor over a frame. Strings and bytes that it hands out share the frame's memory.
///
/// The `field` that each method takes is what an error names, as `Struct.field`.
#[derive(Debug, Clone)]
pub struct Decoder {
    rest: Bytes,
}

/// Something that can be an element of an array.
pub(crate) trait ReadElement: Sized {
    /// The fewest bytes that one takes, in any version.
    const MIN_SIZE: usize;

    fn read(version: i16, flexible: bool, field: &'static str, input: &mut Decoder) -> Result<Self>;
}

impl Decoder {
    /// Reads from the start of `frame`.
    #[must_use]
    pub fn new(frame: Bytes) -> Self {
        Self { rest: frame }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// What is left, shared with the frame.
    #[must_use]
    pub fn into_rest(self) -> Bytes {
        self.rest
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// When bytes are left.
    pub fn finish(self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            remaining => Err(DecodeError::Trailing { remaining }),
        }
    }

    /// Reads `N` bytes.
    ///
    /// # Errors
    ///
    /// When the input is too short; so do all the methods below.
    #[inline]
    pub fn get_array_of<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N]> {
        match self.rest.first_chunk::<N>() {
            Some(chunk) => {
                let chunk = *chunk;
                self.rest.advance(N);
                Ok(chunk)
            }
            None => Err(self.truncated(field, N)),
        }
    }

    /// Reads `length` bytes, shared with the frame.
    ///
    /// # Errors
    ///
    /// When the input is too short.
    #[inline]
    pub fn take(&mut self, length: usize, field: &'static str) -> Result<Bytes> {
        if length > self.rest.len() {
            return Err(self.truncated(field, length));
        }
        Ok(self.rest.split_to(length))
    }

    #[cold]
    fn truncated(&self, field: &'static str, needed: usize) -> DecodeError {
        DecodeError::Truncated { field, needed, remaining: self.remaining() }
    }

    #[cold]
    fn impossible(&self, field: &'static str, length: i64) -> DecodeError {
        DecodeError::Length { field, length, remaining: self.remaining() }
    }

    /// Reads a boolean: any byte but 0 is true.
    ///
    /// # Errors
    ///
    /// When the input is too short.
    #[inline]
    pub fn get_bool(&mut self, field: &'static str) -> Result<bool> {
        self.get_array_of::<1>(field).map(|[byte]| byte != 0)
    }

    /// Reads a UUID.
    ///
    /// # Errors
    ///
    /// When the input is too short.
    #[inline]
    pub fn get_uuid(&mut self, field: &'static str) -> Result<TopicId> {
        self.get_array_of(field).map(TopicId)
    }

    /// Reads an error code.
    ///
    /// # Errors
    ///
    /// When the input is too short.
    #[inline]
    pub fn get_error_code(&mut self, field: &'static str) -> Result<ErrorCode> {
        self.get_i16(field).map(ErrorCode)
    }

    /// Reads an unsigned variable-length integer of at most 5 bytes.
    ///
    /// # Errors
    ///
    /// When the input is too short, the number does not fit, or a shorter form of it exists.
    #[inline]
    pub fn get_unsigned_varint(&mut self, field: &'static str) -> Result<u32> {
        // Nearly all lengths and tags are below 128.
        match self.rest.first() {
            Some(&byte) if byte < 0x80 => {
                self.rest.advance(1);
                Ok(u32::from(byte))
            }
            _ => {
                let value = self.long_varint(field, 5)?;
                u32::try_from(value).map_err(|_| DecodeError::Varint { field })
            }
        }
    }

    /// Reads an unsigned variable-length integer of at most 10 bytes.
    ///
    /// # Errors
    ///
    /// When the input is too short, the number does not fit, or a shorter form of it exists.
    pub fn get_unsigned_varlong(&mut self, field: &'static str) -> Result<u64> {
        self.long_varint(field, 10)
    }

    /// Reads a zig-zag variable-length integer of at most 5 bytes.
    ///
    /// # Errors
    ///
    /// When the input is too short, the number does not fit, or a shorter form of it exists.
    pub fn get_varint(&mut self, field: &'static str) -> Result<i32> {
        let raw = self.get_unsigned_varint(field)?;
        Ok((raw >> 1).cast_signed() ^ (raw & 1).cast_signed().wrapping_neg())
    }

    /// Reads a zig-zag variable-length integer of at most 10 bytes.
    ///
    /// # Errors
    ///
    /// When the input is too short, the number does not fit, or a shorter form of it exists.
    pub fn get_varlong(&mut self, field: &'static str) -> Result<i64> {
        let raw = self.get_unsigned_varlong(field)?;
        Ok((raw >> 1).cast_signed() ^ (raw & 1).cast_signed().wrapping_neg())
    }

    fn long_varint(&mut self, field: &'static str, max_bytes: u32) -> Result<u64> {
        let mut value = 0u64;
        for index in 0..max_bytes {
            let [byte] = self.get_array_of(field)?;
            let bits = u64::from(byte & 0x7f);
            let shift = index.saturating_mul(7);
            let placed = bits.checked_shl(shift).unwrap_or(0);
            if placed.checked_shr(shift).unwrap_or(0) != bits {
                return Err(DecodeError::Varint { field });
            }
            value |= placed;
            if byte < 0x80 {
                // A last byte of zero adds nothing: the number has a shorter form.
                let overlong = byte == 0 && index > 0;
                return if overlong { Err(DecodeError::Varint { field }) } else { Ok(value) };
            }
        }
        Err(DecodeError::Varint { field })
    }

    /// The length in front of a string: a 16-bit integer, or in flexible versions a varint that is one too high.
    #[inline]
    fn string_length(&mut self, flexible: bool, field: &'static str) -> Result<Option<usize>> {
        if flexible {
            return self.compact_length(field);
        }
        match self.get_i16(field)? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| self.impossible(field, length.into())),
        }
    }

    /// The length in front of bytes and arrays: a 32-bit integer, or in flexible versions a varint that is one too high.
    #[inline]
    fn long_length(&mut self, flexible: bool, field: &'static str) -> Result<Option<usize>> {
        if flexible {
            return self.compact_length(field);
        }
        match self.get_i32(field)? {
            -1 => Ok(None),
            length => usize::try_from(length).map(Some).map_err(|_| self.impossible(field, length.into())),
        }
    }

    #[inline]
    fn compact_length(&mut self, field: &'static str) -> Result<Option<usize>> {
        let raw = self.get_unsigned_varint(field)?;
        Ok(raw.checked_sub(1).map(|length| length as usize))
    }

    /// Reads a string.
    ///
    /// # Errors
    ///
    /// When the input is too short, or it is null or not UTF-8.
    pub fn get_string(&mut self, flexible: bool, field: &'static str) -> Result<Str> {
        self.get_nullable_string(flexible, false, field).map(Option::unwrap_or_default)
    }

    /// Reads a string that may be null if `nullable`.
    ///
    /// # Errors
    ///
    /// When the input is too short, or it is not UTF-8, or null though it may not be.
    pub fn get_nullable_string(
        &mut self,
        flexible: bool,
        nullable: bool,
        field: &'static str,
    ) -> Result<Option<Str>> {
        match self.string_length(flexible, field)? {
            Some(0) => Ok(Some(Str::EMPTY)),
            Some(length) => {
                let bytes = self.take(length, field)?;
                Str::from_utf8(bytes).map(Some).map_err(|_| DecodeError::Utf8 { field })
            }
            None if nullable => Ok(None),
            None => Err(DecodeError::Null { field }),
        }
    }

    /// Reads bytes.
    ///
    /// # Errors
    ///
    /// When the input is too short, or it is null.
    pub fn get_bytes(&mut self, flexible: bool, field: &'static str) -> Result<Bytes> {
        self.get_nullable_bytes(flexible, false, field).map(Option::unwrap_or_default)
    }

    /// Reads bytes, or record batches, which may be null if `nullable`.
    ///
    /// # Errors
    ///
    /// When the input is too short, or it is null though it may not be.
    pub fn get_nullable_bytes(
        &mut self,
        flexible: bool,
        nullable: bool,
        field: &'static str,
    ) -> Result<Option<Bytes>> {
        match self.long_length(flexible, field)? {
            // Not a view of the frame: it would keep the frame alive for nothing.
            Some(0) => Ok(Some(Bytes::new())),
            Some(length) => self.take(length, field).map(Some),
            None if nullable => Ok(None),
            None => Err(DecodeError::Null { field }),
        }
    }

    /// Reads the byte in front of a struct that may be null: whether the struct follows.
    ///
    /// # Errors
    ///
    /// When the input is too short.
    pub fn get_presence(&mut self, field: &'static str) -> Result<bool> {
        self.get_i8(field).map(|byte| byte >= 0)
    }

    /// Reads an array.
    pub(crate) fn get_array<T: ReadElement>(
        &mut self,
        version: i16,
        flexible: bool,
        field: &'static str,
    ) -> Result<Vec<T>> {
        self.get_nullable_array(version, flexible, false, field).map(Option::unwrap_or_default)
    }

    /// Reads an array that may be null if `nullable`.
    pub(crate) fn get_nullable_array<T: ReadElement>(
        &mut self,
        version: i16,
        flexible: bool,
        nullable: bool,
        field: &'static str,
    ) -> Result<Option<Vec<T>>> {
        let Some((count, capacity)) =
            self.array_count(flexible, nullable, T::MIN_SIZE, size_of::<T>(), field)?
        else {
            return Ok(None);
        };
        let mut elements = Vec::with_capacity(capacity);
        for _ in 0..count {
            elements.push(T::read(version, flexible, field, self)?);
        }
        Ok(Some(elements))
    }

    /// The count in front of an array, and for how many elements to make room at once.
    ///
    /// A count whose elements cannot fit into the rest of the input is refused. Since an element in memory may be many
    /// times as large as on the wire, room is made at first for no more elements than the rest of the input has bytes to
    /// pay for; the vector grows when they really come.
    fn array_count(
        &mut self,
        flexible: bool,
        nullable: bool,
        min_size: usize,
        memory_size: usize,
        field: &'static str,
    ) -> Result<Option<(usize, usize)>> {
        let Some(count) = self.long_length(flexible, field)? else {
            return if nullable { Ok(None) } else { Err(DecodeError::Null { field }) };
        };
        let remaining = self.remaining();
        if count > remaining.checked_div(min_size).unwrap_or(remaining) {
            return Err(self.impossible(field, i64::try_from(count).unwrap_or(i64::MAX)));
        }
        let affordable = remaining.checked_div(memory_size).unwrap_or(remaining).max(4);
        Ok(Some((count, count.min(affordable))))
    }

    /// Reads the tagged fields at the end of a struct (KIP-482). `known` reads the value of a tag that it knows, and says
    /// whether it did; other tags are skipped.
    ///
    /// # Errors
    ///
    /// When the input is too short, tags are not strictly ascending, or a value is not as long as declared.
    pub fn get_tagged_fields(
        &mut self,
        structure: &'static str,
        mut known: impl FnMut(u32, &mut Self) -> Result<bool>,
    ) -> Result<()> {
        let mut previous = None;
        for _ in 0..self.get_unsigned_varint(structure)? {
            let (tag, mut value) = self.tagged_field(structure, previous)?;
            previous = Some(tag);
            if known(tag, &mut value)? && value.remaining() > 0 {
                return Err(DecodeError::TagSize { structure, tag, excess: value.remaining() });
            }
        }
        Ok(())
    }

    /// Skips the tagged fields at the end of a struct that defines none.
    ///
    /// # Errors
    ///
    /// When the input is too short, or tags are not strictly ascending.
    pub fn skip_tagged_fields(&mut self, structure: &'static str) -> Result<()> {
        let mut previous = None;
        for _ in 0..self.get_unsigned_varint(structure)? {
            previous = Some(self.tagged_field(structure, previous)?.0);
        }
        Ok(())
    }

    fn tagged_field(&mut self, structure: &'static str, previous: Option<u32>) -> Result<(u32, Self)> {
        let tag = self.get_unsigned_varint(structure)?;
        if previous.is_some_and(|previous| tag <= previous) {
            return Err(DecodeError::TagOrder { structure, tag });
        }
        let size = self.get_unsigned_varint(structure)?;
        Ok((tag, Self::new(self.take(size as usize, structure)?)))
    }
}

/// The fixed-size numbers.
macro_rules! numbers {
    ($($name:ident $type:ident $what:literal)*) => {
        impl Decoder {$(
            #[doc = concat!("Reads ", $what, ".")]
            ///
            /// # Errors
            ///
            /// When the input is too short.
            #[inline]
            pub fn $name(&mut self, field: &'static str) -> Result<$type> {
                self.get_array_of(field).map($type::from_be_bytes)
            }
        )*}

        $(impl ReadElement for $type {
            const MIN_SIZE: usize = size_of::<$type>();

            fn read(_: i16, _: bool, field: &'static str, input: &mut Decoder) -> Result<Self> {
                input.$name(field)
            }
        })*
    };
}

numbers! {
    get_i8 i8 "an 8-bit integer"
    get_i16 i16 "a 16-bit integer"
    get_u16 u16 "an unsigned 16-bit integer"
    get_i32 i32 "a 32-bit integer"
    get_u32 u32 "an unsigned 32-bit integer"
    get_i64 i64 "a 64-bit integer"
    get_f64 f64 "a 64-bit floating-point number"
}

impl ReadElement for TopicId {
    const MIN_SIZE: usize = 16;

    fn read(_: i16, _: bool, field: &'static str, input: &mut Decoder) -> Result<Self> {
        input.get_uuid(field)
    }
}

impl ReadElement for Str {
    const MIN_SIZE: usize = 1;

    fn read(_: i16, flexible: bool, field: &'static str, input: &mut Decoder) -> Result<Self> {
        input.get_string(flexible, field)
    }
}
