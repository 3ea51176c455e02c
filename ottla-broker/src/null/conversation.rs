//! One connection: a frame, its answer, the next frame.

use std::{
    io::{self, BufReader, IoSlice, Read, Write},
    net::TcpStream,
};

use bytes::Bytes;
use ottla_protocol::frame::decode_request_header;

use super::answers::Answers;

/// Kafka's `socket.request.max.bytes`.
const MAX_FRAME: u32 = 100 << 20;

/// Until the client closes the connection, or says what nobody understands.
pub(super) fn hold(stream: TcpStream, mut answers: Answers) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    loop {
        let mut length = [0; 4];
        reader.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > MAX_FRAME {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
        }
        // It grows with what arrives: an announced length alone takes no memory to speak of.
        let mut frame = Vec::with_capacity((length as usize).min(1 << 20));
        if reader.by_ref().take(length.into()).read_to_end(&mut frame)? < length as usize {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let frame = decode_request_header(Bytes::from(frame)).map_err(invalid)?;
        if let Some(reply) = answers.to(frame).map_err(invalid)? {
            write_all(&mut writer, &reply)?;
        }
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn write_all(writer: &mut TcpStream, segments: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<_> = segments.iter().map(|segment| IoSlice::new(segment)).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        match writer.write_vectored(rest)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            written => IoSlice::advance_slices(&mut rest, written),
        }
    }
    Ok(())
}
