//! Buffers of batches that were written, for batches to come.

use std::sync::Mutex;

use bytes::{Bytes, BytesMut};
use ottla_protocol::compression::{CompressionError, Compressor};

use super::config::ProducerConfig;
use crate::net::lock;

/// A stack: the buffer that was used last is the one that the cache still has.
#[derive(Debug)]
pub(super) struct Buffers {
    state: Mutex<Stack>,
    /// Bytes that may lie here unused. Fresh memory costs more than the encoding into it.
    most: usize,
}

#[derive(Debug, Default)]
struct Stack {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// Below this a fresh buffer is as good.
const WORTH_KEEPING: usize = 16 * 1_024;

impl Buffers {
    pub(super) fn new(most: usize) -> Self {
        Self { state: Mutex::default(), most }
    }

    /// A buffer that was used before, or an empty one.
    pub(super) fn take(&self) -> Vec<u8> {
        let mut stack = lock(&self.state);
        let buffer = stack.buffers.pop().unwrap_or_default();
        stack.bytes -= buffer.capacity();
        buffer
    }

    /// Takes a batch that nobody needs any more. Whether that is true is a matter of ownership: while a socket, or
    /// anybody else, still holds the bytes, they stay theirs.
    pub(super) fn give(&self, batch: Bytes) {
        if batch.len() < WORTH_KEEPING {
            return;
        }
        let Ok(mut buffer) = batch.try_into_mut() else { return };
        buffer.clear();
        let buffer = Vec::from(std::mem::take::<BytesMut>(&mut buffer));
        let mut stack = lock(&self.state);
        if stack.bytes + buffer.capacity() <= self.most {
            stack.bytes += buffer.capacity();
            stack.buffers.push(buffer);
        }
    }
}

/// Codec contexts, each used by one batch at a time.
#[derive(Debug)]
pub(super) struct Compressors {
    idle: Mutex<Vec<Compressor>>,
    config: ProducerConfig,
}

impl Compressors {
    pub(super) fn new(config: &ProducerConfig) -> Self {
        Self { idle: Mutex::default(), config: config.clone() }
    }

    pub(super) fn take(&self) -> Result<Compressor, CompressionError> {
        match lock(&self.idle).pop() {
            Some(compressor) => Ok(compressor),
            None => Compressor::new(self.config.compression, self.config.level),
        }
    }

    pub(super) fn give(&self, compressor: Compressor) {
        const MOST: usize = 8;
        let mut idle = lock(&self.idle);
        if idle.len() < MOST {
            idle.push(compressor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(bytes: usize) -> Bytes {
        Bytes::from(vec![1; bytes])
    }

    #[test]
    fn the_buffer_of_a_written_batch_is_used_again() {
        let buffers = Buffers::new(1 << 20);
        let first = batch(100_000);
        let at = first.as_ptr();
        buffers.give(first);
        let again = buffers.take();
        assert_eq!((again.as_ptr(), again.len()), (at, 0));
        assert_eq!(buffers.take().capacity(), 0);
    }

    #[test]
    fn bytes_that_somebody_still_holds_are_never_used_again() {
        let buffers = Buffers::new(1 << 20);
        let first = batch(100_000);
        let socket = first.clone();
        buffers.give(first);
        assert_eq!(buffers.take().capacity(), 0);
        assert_eq!(socket.len(), 100_000);
    }

    #[test]
    fn no_more_is_kept_than_allowed() {
        let buffers = Buffers::new(250_000);
        (0..3).for_each(|_| buffers.give(batch(100_000)));
        let kept =
            std::iter::repeat_with(|| buffers.take()).take_while(|buffer| buffer.capacity() > 0).count();
        assert_eq!(kept, 2);
        assert_eq!(lock(&buffers.state).bytes, 0);
    }
}
