//! Zigzag varints as record batches use them: small numbers of either sign in few bytes.

use super::error::RecordError;

/// Bytes that [`put_varint`] writes for `value`.
#[inline]
pub(super) fn varint_len(value: i32) -> usize {
    // Seven bits a byte, without branches: exact for 1 to 32 significant bits.
    (38 - (zigzag32(value) | 1).leading_zeros() as usize) / 7
}

/// Bytes that [`put_varlong`] writes for `value`.
#[inline]
pub(super) fn varlong_len(value: i64) -> usize {
    (70 - (zigzag64(value) | 1).leading_zeros() as usize) / 7
}

#[inline]
pub(super) fn put_varint(out: &mut Vec<u8>, value: i32) {
    let mut rest = zigzag32(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[inline]
pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag64(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[inline]
fn zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

#[inline]
fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Takes a varint from the front of `input`: one and two bytes here, where nearly all of them end, the rest in a cold
/// function.
#[inline]
#[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
pub(super) fn take_varint(input: &mut &[u8]) -> Result<i32, RecordError> {
    let raw = match **input {
        [first, ref rest @ ..] if first < 0x80 => {
            *input = rest;
            u32::from(first)
        }
        [first, second @ 1..0x80, ref rest @ ..] => {
            *input = rest;
            u32::from(first & 0x7f) | (u32::from(second) << 7)
        }
        _ => u32::try_from(take_long_form(input, 5)?).map_err(|_| RecordError::Varint)?,
    };
    Ok(((raw >> 1) as i32) ^ ((raw & 1) as i32).wrapping_neg())
}

/// Takes a varlong from the front of `input`.
#[inline]
#[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
pub(super) fn take_varlong(input: &mut &[u8]) -> Result<i64, RecordError> {
    let raw = match **input {
        [first, ref rest @ ..] if first < 0x80 => {
            *input = rest;
            u64::from(first)
        }
        [first, second @ 1..0x80, ref rest @ ..] => {
            *input = rest;
            u64::from(first & 0x7f) | (u64::from(second) << 7)
        }
        _ => take_long_form(input, 10)?,
    };
    Ok(((raw >> 1) as i64) ^ ((raw & 1) as i64).wrapping_neg())
}

/// The general form, at most `max_len` bytes. An overlong form (a last byte of zero) is refused: it has a second
/// spelling, and nobody writes it.
#[cold]
#[deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
fn take_long_form(input: &mut &[u8], max_len: usize) -> Result<u64, RecordError> {
    let mut raw = 0_u64;
    let mut shift = 0_u32;
    let mut bytes = input.iter();
    for _ in 0..max_len {
        let byte = *bytes.next().ok_or(RecordError::Truncated)?;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte has room for one bit only.
        if shift == 63 && bits > 1 {
            return Err(RecordError::Varint);
        }
        raw |= bits << shift;
        if byte < 0x80 {
            if byte == 0 && shift > 0 {
                return Err(RecordError::Varint);
            }
            *input = bytes.as_slice();
            return Ok(raw);
        }
        shift = shift.saturating_add(7);
    }
    Err(RecordError::Varint)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_edges_round_trip_and_their_length_is_foretold() {
        for value in [0, -1, 1, 63, 64, -64, -65, 8191, 8192, 1 << 20, i32::MAX, i32::MIN] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value), "{value}");
            assert_eq!(take_varint(&mut out.as_slice()), Ok(value));
        }
        for value in [0, -1, 63, 64, 1 << 40, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put_varlong(&mut out, value);
            assert_eq!(out.len(), varlong_len(value), "{value}");
            assert_eq!(take_varlong(&mut out.as_slice()), Ok(value));
        }
    }

    #[test]
    fn overlong_and_oversized_forms_are_refused() {
        for form in [&[0x80, 0x00][..], &[0xff, 0x80, 0x00], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01]] {
            assert_eq!(take_varint(&mut &*form), Err(RecordError::Varint), "{form:?}");
        }
        // 33 bits in five bytes.
        assert_eq!(take_varint(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), Err(RecordError::Varint));
        // 65 bits in ten bytes, and eleven bytes.
        let ten = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(take_varlong(&mut &ten[..]), Err(RecordError::Varint));
        assert_eq!(take_varlong(&mut &[0xff; 11][..]), Err(RecordError::Varint));
    }

    #[test]
    fn a_cut_form_is_truncated_not_wrong() {
        assert_eq!(take_varint(&mut &[][..]), Err(RecordError::Truncated));
        assert_eq!(take_varint(&mut &[0x80][..]), Err(RecordError::Truncated));
        assert_eq!(take_varlong(&mut &[0xff, 0xff, 0xff][..]), Err(RecordError::Truncated));
    }

    proptest! {
        #[test]
        fn any_value_round_trips(short: i32, long: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, short);
            put_varlong(&mut out, long);
            prop_assert_eq!(out.len(), varint_len(short) + varlong_len(long));
            let mut input = out.as_slice();
            prop_assert_eq!(take_varint(&mut input), Ok(short));
            prop_assert_eq!(take_varlong(&mut input), Ok(long));
            prop_assert!(input.is_empty());
        }
    }
}
