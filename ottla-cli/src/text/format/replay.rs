//! A reader into which bytes can be put back.

use std::io::{self, BufRead, BufReader, Read};

pub(super) struct Replay<R> {
    reader: BufReader<R>,
    /// What was put back; up to `at` it was read once more.
    back: Vec<u8>,
    at: usize,
}

impl<R: Read> Replay<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader: BufReader::new(reader), back: Vec::new(), at: 0 }
    }

    /// They are read next.
    pub(super) fn put_back(&mut self, bytes: &[u8]) {
        self.back.splice(..self.at, bytes.iter().copied());
        self.at = 0;
    }

    /// Bytes that can be read without waiting.
    pub(super) fn buffer(&self) -> &[u8] {
        match self.back.get(self.at..) {
            Some(back) if !back.is_empty() => back,
            _ => self.reader.buffer(),
        }
    }
}

impl<R: Read> BufRead for Replay<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at < self.back.len() {
            return Ok(self.back.get(self.at..).unwrap_or_default());
        }
        self.reader.fill_buf()
    }

    fn consume(&mut self, bytes: usize) {
        if self.at < self.back.len() {
            self.at = self.back.len().min(self.at + bytes);
            return;
        }
        self.reader.consume(bytes);
    }
}

impl<R: Read> Read for Replay<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(out)?;
        self.consume(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_back_is_read_again_in_front_of_the_rest() {
        let mut replay = Replay::new(&b"cdef"[..]);
        replay.put_back(b"ab");
        let mut first = [0; 1];
        replay.read_exact(&mut first).unwrap();
        replay.put_back(b"A");
        let mut all = String::new();
        replay.read_to_string(&mut all).unwrap();
        assert_eq!((first, all.as_str()), (*b"a", "Abcdef"));
        assert_eq!(replay.buffer(), b"");
    }
}
