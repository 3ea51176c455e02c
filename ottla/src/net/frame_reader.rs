//! Frames from a byte stream: a four-byte length, then that many bytes.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Small frames are cut out of a shared buffer of this size, larger ones get memory of their own.
const SHARED: usize = 8 * 1024;
/// What a frame of its own may allocate before a byte of it has arrived.
const FIRST_ALLOCATION: usize = 64 * 1024;

/// How many times what the peer has proven to send is allocated for more of it.
const GROWTH: usize = 3;

/// Cuts frames out of a byte stream, and allocates no more than about three times what the peer has really sent: a length
/// prefix alone is worth nothing.
pub(super) struct FrameReader<R> {
    reader: R,
    /// Bytes that belong to no frame yet.
    shared: BytesMut,
    /// A frame that does not fit into `shared`: its length, and what has arrived of it.
    large: Option<(usize, Vec<u8>)>,
    max_length: usize,
    /// The largest frame that the peer has sent in full; such a one may be allocated at once again.
    largest: usize,
}

/// The stream ended, or what came is no frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// Between two frames.
    #[error("the broker closed the connection")]
    Closed,
    /// Inside a frame.
    #[error("the connection was cut inside of an answer")]
    Truncated,
    #[error("the connection failed")]
    Io(#[source] io::Error),
    #[error("{0}")]
    BadLength(String),
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(reader: R, max_length: usize) -> Self {
        Self { reader, shared: BytesMut::with_capacity(SHARED), large: None, max_length, largest: 0 }
    }

    pub(super) fn set_max_length(&mut self, max_length: usize) {
        self.max_length = max_length;
    }

    /// The next frame, without its length.
    ///
    /// # Cancel safety
    /// Bytes that have arrived are kept when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Bytes, FrameError> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(frame);
            }
            let started = self.large.is_some() || !self.shared.is_empty();
            let read = match &mut self.large {
                Some((length, bytes)) => {
                    let missing = *length - bytes.len();
                    if bytes.capacity() == bytes.len() {
                        let capacity = capacity(*length, self.largest.max(bytes.len()));
                        bytes.reserve_exact(capacity - bytes.len());
                    }
                    self.reader.read_buf(&mut bytes.limit(missing)).await
                }
                None => {
                    self.shared.reserve(SHARED / 2);
                    self.reader.read_buf(&mut self.shared).await
                }
            };
            match read {
                Ok(0) if started => return Err(FrameError::Truncated),
                Ok(0) => return Err(FrameError::Closed),
                Ok(_) => {}
                Err(error) => return Err(FrameError::Io(error)),
            }
        }
    }

    /// A frame that is complete in memory.
    fn buffered(&mut self) -> Result<Option<Bytes>, FrameError> {
        if let Some((_, bytes)) = self.large.take_if(|(length, bytes)| bytes.len() == *length) {
            self.largest = self.largest.max(bytes.len());
            return Ok(Some(Bytes::from(bytes)));
        }
        if self.large.is_some() {
            return Ok(None);
        }
        let Some(prefix) = self.shared.first_chunk::<4>().copied() else { return Ok(None) };
        let length = self.check(prefix)?;
        if self.shared.len() >= 4 + length {
            self.shared.advance(4);
            return Ok(Some(self.shared.split_to(length).freeze()));
        }
        if length > SHARED / 4 {
            self.shared.advance(4);
            let arrived = self.shared.split();
            let mut bytes = Vec::with_capacity(capacity(length, self.largest.max(arrived.len())));
            bytes.extend_from_slice(&arrived);
            self.large = Some((length, bytes));
        }
        Ok(None)
    }

    fn check(&self, prefix: [u8; 4]) -> Result<usize, FrameError> {
        let length = i32::from_be_bytes(prefix);
        match usize::try_from(length) {
            // Every answer begins with the four bytes of its correlation id.
            Ok(length) if (4..=self.max_length).contains(&length) => Ok(length),
            _ => Err(FrameError::BadLength(self.describe(prefix, length))),
        }
    }

    fn describe(&self, prefix: [u8; 4], length: i32) -> String {
        match &prefix {
            // A TLS alert or handshake record.
            [0x15 | 0x16, 0x03, ..] => {
                "the peer speaks TLS, and this connection is plaintext; is it the right port?".to_owned()
            }
            b"HTTP" => "the peer speaks HTTP, not Kafka".to_owned(),
            b"SSH-" => "the peer speaks SSH, not Kafka".to_owned(),
            // As a length it would be above half a gigabyte.
            text if text.iter().all(|byte| matches!(byte, b' '..=b'~')) => {
                let text = String::from_utf8_lossy(text);
                format!("the peer answers with text that begins with {text:?}: it is no Kafka broker")
            }
            _ => format!(
                "the peer announces an answer of {length} bytes, where 4 to {} can be",
                self.max_length
            ),
        }
    }
}

/// What to allocate for a frame of that length: more than is proven, up to [`GROWTH`] times of it.
///
/// While a buffer moves into a larger one there are two of them. Steps are counted from the length downwards, so that the last
/// one always begins at a third of it, and both together are never more than four thirds.
fn capacity(length: usize, proven: usize) -> usize {
    let most = proven.saturating_mul(GROWTH).max(FIRST_ALLOCATION);
    let mut capacity = length;
    while capacity > most {
        capacity = capacity.div_ceil(GROWTH);
    }
    capacity
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use tokio::io::ReadBuf;

    use super::*;

    /// Gives its bytes in pieces of a size.
    struct Pieces {
        bytes: Vec<u8>,
        size: usize,
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            out: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let n = self.size.min(self.bytes.len()).min(out.remaining());
            out.put_slice(&self.bytes[..n]);
            self.bytes.drain(..n);
            Poll::Ready(Ok(()))
        }
    }

    fn reader(frames: &[&[u8]], size: usize) -> FrameReader<Pieces> {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend_from_slice(&(frame.len() as i32).to_be_bytes());
            bytes.extend_from_slice(frame);
        }
        FrameReader::new(Pieces { bytes, size }, 1 << 20)
    }

    #[tokio::test]
    async fn frames_arrive_whole_in_whatever_pieces_they_come() {
        let large: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let medium = vec![7; 3_000];
        for size in [1, 3, 4, 5, 1_000, 8_192, 100_000, 1 << 20] {
            let mut reader = reader(&[b"four", &large, b"small one", &medium, &large], size);
            for expected in [&b"four"[..], &large, b"small one", &medium, &large] {
                assert_eq!(reader.next().await.unwrap(), expected);
            }
            assert!(matches!(reader.next().await, Err(FrameError::Closed)));
        }
    }

    #[tokio::test]
    async fn an_end_inside_of_a_frame_is_noticed() {
        for cut in [1, 4, 5, 99_000] {
            let mut reader = reader(&[&[1; 100_000]], 4_096);
            reader.reader.bytes.truncate(cut);
            assert!(matches!(reader.next().await, Err(FrameError::Truncated)), "{cut}");
        }
    }

    #[tokio::test]
    async fn lengths_that_cannot_be_are_refused_before_anything_is_allocated() {
        for prefix in [[0xff; 4], [0; 4], [0, 0, 0, 3], [0x7f, 0xff, 0xff, 0xff], [0, 0x10, 0, 1]] {
            let mut reader = reader(&[], 4);
            reader.reader.bytes = prefix.to_vec();
            assert!(matches!(reader.next().await, Err(FrameError::BadLength(_))), "{prefix:?}");
        }
    }

    #[tokio::test]
    async fn other_protocols_are_named() {
        let others = [
            (&b"HTTP/1.1 400 Bad Request"[..], "HTTP"),
            (b"SSH-2.0-OpenSSH_9.6", "SSH"),
            (b"220 mail.example.org ESMTP", "\"220 \""),
            (&[0x15, 3, 3, 0, 2, 2, 70], "TLS"),
        ];
        for (bytes, name) in others {
            let mut reader = reader(&[], 4);
            reader.reader.bytes = bytes.to_vec();
            assert!(reader.next().await.unwrap_err().to_string().contains(name));
        }
    }

    #[tokio::test]
    async fn memory_grows_with_what_arrives_and_not_with_what_is_announced() {
        let mut reader = reader(&[], 1_000);
        reader.reader.bytes = [&(1_000_000_i32).to_be_bytes()[..], &[0; 150_000]].concat();
        assert!(matches!(reader.next().await, Err(FrameError::Truncated)));
        let (_, bytes) = reader.large.unwrap();
        assert!(bytes.capacity() <= GROWTH * 150_000, "{}", bytes.capacity());
    }

    #[test]
    fn a_buffer_and_the_one_that_it_grows_out_of_are_a_third_more_than_the_frame() {
        for length in [100_000, 10_000_000, 64 << 20, (64 << 20) + 1] {
            let (mut grown, mut steps, mut most) = (capacity(length, 0), 0, 0);
            while grown < length {
                let next = capacity(length, grown);
                assert!(next > grown && next <= GROWTH * grown, "{length}: {grown} {next}");
                (most, grown, steps) = (most.max(grown + next), next, steps + 1);
            }
            assert!(grown == length && most <= length / 3 * 4 + 4 && steps <= 7, "{length}: {most} {steps}");
        }
        assert_eq!(capacity(70_000, 60_000), 70_000, "who has sent as much before is trusted with it");
    }
}
