//! The end of a log, kept in memory: consumers and followers that keep up never touch the disk.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::log::Slice;

/// How many bytes of its end a replica keeps in memory.
const MAX_BYTES: usize = 256 * 1024;

/// The last appends of a log.
#[derive(Debug, Default)]
pub(super) struct Tail {
    appends: VecDeque<(u64, Bytes)>,
    bytes: usize,
}

impl Tail {
    /// Takes in what is appended at that position of the file.
    pub(super) fn push(&mut self, position: u64, data: Bytes) {
        self.bytes += data.len();
        self.appends.push_back((position, data));
        while self.bytes > MAX_BYTES {
            let Some((_, oldest)) = self.appends.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    /// Forgets everything: the file was cut.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The bytes of a slice, if all of them are here.
    pub(super) fn get(&self, slice: &Slice) -> Option<Bytes> {
        let mut from = slice.position;
        let end = from + u64::from(slice.size);
        let first = self.appends.partition_point(|(position, data)| position + data.len() as u64 <= from);
        let mut whole: Option<BytesMut> = None;
        for (position, data) in self.appends.range(first..) {
            // The slice begins within the first append, and goes on at the beginning of each other.
            let skip = usize::try_from(from.checked_sub(*position)?).ok()?;
            let length = usize::try_from(end - position).ok()?.min(data.len());
            let part = data.slice(skip..length);
            from += part.len() as u64;
            match &mut whole {
                // One append is given as it is.
                None if from == end => return Some(part),
                None => whole = Some(BytesMut::from(&part[..])),
                Some(whole) => whole.extend_from_slice(&part),
            }
            if from == end {
                return whole.map(BytesMut::freeze);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{MAX_BYTES, Tail};
    use crate::log::Slice;

    fn slice(position: u64, size: u32) -> Slice {
        Slice { base_offset: 0, position, size, next_offset: 0 }
    }

    fn tail() -> Tail {
        let mut tail = Tail::default();
        tail.push(100, Bytes::from_static(b"abc"));
        tail.push(103, Bytes::from_static(b"defg"));
        tail.push(107, Bytes::from_static(b"h"));
        tail
    }

    #[test]
    fn slices_within_and_across_appends_are_found() {
        for (position, size, bytes) in
            [(100, 3, "abc"), (101, 1, "b"), (102, 4, "cdef"), (100, 8, "abcdefgh"), (107, 1, "h")]
        {
            assert_eq!(tail().get(&slice(position, size)).unwrap(), bytes, "{position} {size}");
        }
    }

    #[test]
    fn what_is_not_here_as_a_whole_is_not_found() {
        for (position, size) in [(99, 2), (90, 5), (107, 2), (108, 1)] {
            assert_eq!(tail().get(&slice(position, size)), None, "{position} {size}");
        }
    }

    #[test]
    fn the_oldest_appends_make_room() {
        let mut tail = tail();
        tail.push(108, Bytes::from(vec![0; MAX_BYTES - 1]));
        assert_eq!(tail.get(&slice(103, 4)), None);
        assert_eq!(tail.get(&slice(107, 2)).unwrap().len(), 2);
        tail.push(108 + MAX_BYTES as u64 - 1, Bytes::from(vec![0; MAX_BYTES + 1]));
        assert!(tail.appends.is_empty(), "what is larger than the room is not kept");
    }
}
