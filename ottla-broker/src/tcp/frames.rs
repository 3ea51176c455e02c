//! Request frames off a socket that nobody trusts.

use std::{fmt, io};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What is read at least at once, and what an idle connection holds.
const CHUNK: usize = 8 * 1024;

/// Reads frames: four bytes of length, then that many bytes.
///
/// Memory grows with what was received, at most twofold, and never with what a length merely promises.
pub(super) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
    max_length: usize,
}

/// Why no further frame can be read.
#[derive(Debug)]
pub(super) enum FrameError {
    /// The length is negative, zero, or above the limit; these are its four bytes.
    Length([u8; 4]),
    /// The peer closed the connection within a frame.
    Truncated,
    Io(io::Error),
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(stream: R, max_length: usize) -> Self {
        Self { stream, buffer: BytesMut::new(), max_length }
    }

    /// The length of the next frame, without its own four bytes; `None` when the peer closed the connection
    /// between two frames. Cancel safe.
    pub(super) async fn length(&mut self) -> Result<Option<usize>, FrameError> {
        loop {
            if let Some(prefix) = self.buffer.first_chunk::<4>() {
                return match usize::try_from(i32::from_be_bytes(*prefix)) {
                    Ok(length) if length > 0 && length <= self.max_length => Ok(Some(length)),
                    _ => Err(FrameError::Length(*prefix)),
                };
            }
            match self.receive(CHUNK).await {
                Err(FrameError::Truncated) if self.buffer.is_empty() => return Ok(None),
                received => received?,
            }
        }
    }

    /// The frame whose [`length`](Self::length) was told before. Cancel safe.
    pub(super) async fn body(&mut self, length: usize) -> Result<Bytes, FrameError> {
        while self.buffer.len() < 4 + length {
            let missing = 4 + length - self.buffer.len();
            self.receive(missing.min(self.buffer.len().max(CHUNK))).await?;
        }
        self.buffer.advance(4);
        Ok(self.buffer.split_to(length).freeze())
    }

    async fn receive(&mut self, room: usize) -> Result<(), FrameError> {
        self.buffer.reserve(room);
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => Err(FrameError::Truncated),
            Ok(_) => Ok(()),
            Err(error) => Err(FrameError::Io(error)),
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(prefix) => {
                write!(f, "a frame cannot be {} bytes long", i32::from_be_bytes(*prefix))?;
                f.write_str(guess(*prefix))
            }
            Self::Truncated => f.write_str("the connection ended within a frame"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

/// What else is commonly sent to a Kafka port.
fn guess(prefix: [u8; 4]) -> &'static str {
    match &prefix {
        b"GET " | b"POST" | b"PUT " | b"HEAD" | b"OPTI" | b"CONN" | b"PRI " => " (that is HTTP)",
        [0x16, 3, ..] => " (that is TLS; this listener speaks plain text)",
        b"SSH-" => " (that is SSH)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn all_frames(input: &[u8], step: usize) -> Result<Vec<Bytes>, FrameError> {
        let (mut writer, reader) = tokio::io::duplex(step);
        let send = async {
            for piece in input.chunks(step) {
                // The reader may have given up.
                drop(writer.write_all(piece).await);
            }
            drop(writer);
        };
        let receive = async {
            let mut frames = FrameReader::new(reader, 1000);
            let mut all = Vec::new();
            while let Some(length) = frames.length().await? {
                all.push(frames.body(length).await?);
            }
            Ok(all)
        };
        tokio::join!(send, receive).1
    }

    #[tokio::test]
    async fn frames_come_whole_however_they_were_cut() {
        let input = b"\0\0\0\x05hello\0\0\0\x01!\0\0\0\x06world.";
        for step in 1..=input.len() {
            assert_eq!(all_frames(input, step).await.unwrap(), ["hello", "!", "world."]);
        }
    }

    #[tokio::test]
    async fn an_end_within_a_frame_is_an_error() {
        for end in 1..9 {
            let error = all_frames(&b"\0\0\0\x05hello"[..end], 3).await.unwrap_err();
            assert!(matches!(error, FrameError::Truncated), "{error}");
        }
    }

    #[tokio::test]
    async fn impossible_lengths_are_refused_and_explained() {
        let refused = [
            (&b"\xff\xff\xff\xff"[..], "-1 bytes"),
            (b"\x7f\xff\xff\xff", "2147483647 bytes"),
            (b"\0\0\0\0", " 0 bytes"),
            (b"\0\0\x03\xe9", "1001 bytes"),
            (b"GET / HTTP/1.1\r\n", "that is HTTP"),
            (b"\x16\x03\x01\x02\x00\x01", "that is TLS"),
        ];
        for (input, expected) in refused {
            let error = all_frames(input, 100).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[tokio::test]
    async fn a_promised_length_costs_no_memory() {
        let (mut writer, reader) = tokio::io::duplex(64);
        let mut frames = FrameReader::new(reader, 100 << 20);
        writer.write_all(&(100_i32 << 20).to_be_bytes()).await.unwrap();
        writer.write_all(b"a few bytes").await.unwrap();
        let length = frames.length().await.unwrap().unwrap();
        tokio::time::timeout(Duration::from_millis(10), frames.body(length)).await.unwrap_err();
        assert!(frames.buffer.capacity() <= 2 * CHUNK, "{}", frames.buffer.capacity());
    }
}
