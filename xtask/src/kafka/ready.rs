//! Whether a broker serves: not when its port opens, but when its answer to a Metadata request names all brokers.
//!
//! The one request is written by hand. `cargo xtask protocol` generates `ottla-protocol`, so that xtask must build
//! without it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(2);

/// Metadata, version 1, correlation id 7, no client id, no topics; its size first.
const REQUEST: [u8; 18] = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0];

/// The ids of the brokers that the broker at this port knows, and of its controller. `None` while it does not answer.
pub(super) fn brokers(port: u16) -> Option<(Vec<i32>, i32)> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), TIMEOUT).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).ok()?;
    stream.write_all(&REQUEST).ok()?;
    let mut size = [0; 4];
    stream.read_exact(&mut size).ok()?;
    let size = usize::try_from(i32::from_be_bytes(size)).ok().filter(|size| *size < 64 << 10)?;
    let mut answer = vec![0; size];
    stream.read_exact(&mut answer).ok()?;
    parse(&answer)
}

/// Correlation id, brokers of (id, host, port, rack), controller, and topics, of which there are none.
fn parse(answer: &[u8]) -> Option<(Vec<i32>, i32)> {
    let mut input = Input(answer);
    let _correlation_id = input.i32()?;
    let count = input.i32()?;
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(input.i32()?);
        input.skip_string()?;
        let _port = input.i32()?;
        input.skip_string()?;
    }
    Some((ids, input.i32()?))
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_be_bytes)
    }

    /// A string, or null.
    fn skip_string(&mut self) -> Option<()> {
        let length = i16::from_be_bytes(self.take()?);
        self.0 = self.0.get(usize::try_from(length).unwrap_or(0)..)?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_brokers_and_the_controller_are_read_from_the_answer() {
        let answer = [
            &[0, 0, 0, 7, 0, 0, 0, 2][..],
            &[0, 0, 0, 1, 0, 1, b'a', 0, 0, 35, 132, 0xff, 0xff],
            &[0, 0, 0, 2, 0, 1, b'b', 0, 0, 35, 133, 0, 1, b'r'],
            &[0, 0, 0, 2, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(parse(&answer), Some((vec![1, 2], 2)));
        assert_eq!(parse(&answer[..20]), None);
    }
}
