//! One connection: two directions, frame by frame.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{
    Brokers, Direction,
    conditions::{Conditions, Flow, Shared},
    reset,
    rewrite::{Awaited, rewrite},
};

/// Far above what brokers and clients accept: a longer frame is a defect.
const MAX_FRAME: usize = 256 << 20;

/// Both directions of a connection, until one of them ends or the connection is cut.
pub(super) async fn run(
    client: TcpStream,
    broker: TcpStream,
    brokers: Weak<Brokers>,
    conditions: Arc<Shared>,
) {
    let era = conditions.now().era;
    // Small requests must not wait for each other; without this the proxy is merely slower.
    let _ = (client.set_nodelay(true), broker.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_broker, mut to_broker) = broker.into_split();
    let awaited = Mutex::default();
    let ended = tokio::select! {
        biased;
        () = conditions.until(|now| (now.era != era).then_some(())) => Err(io::ErrorKind::ConnectionReset.into()),
        ended = requests(&mut from_client, &mut to_broker, &awaited, &conditions) => ended,
        ended = responses(&mut from_broker, &mut to_client, &awaited, &brokers, &conditions) => ended,
    };
    if ended.is_err() {
        reset(to_client.as_ref());
        reset(to_broker.as_ref());
    }
}

async fn requests(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    awaited: &Mutex<Awaited>,
    conditions: &Shared,
) -> io::Result<()> {
    let mut valve = Valve { conditions, direction: Direction::Requests, passed: 0 };
    while let Some(frame) = read_frame(from).await? {
        awaited.lock().unwrap_or_else(PoisonError::into_inner).on_request(&frame)?;
        valve.pass(to, &frame).await?;
    }
    Ok(())
}

async fn responses(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    awaited: &Mutex<Awaited>,
    brokers: &Weak<Brokers>,
    conditions: &Shared,
) -> io::Result<()> {
    let mut valve = Valve { conditions, direction: Direction::Responses, passed: 0 };
    while let Some(mut frame) = read_frame(from).await? {
        let answered = awaited.lock().unwrap_or_else(PoisonError::into_inner).answered(&frame);
        if let Some(answered) = answered {
            let Some(brokers) = brokers.upgrade() else { return Ok(()) };
            frame = rewrite(&brokers, answered, frame).await?;
        }
        valve.pass(to, &frame).await?;
    }
    Ok(())
}

/// A frame without its length; `None` where the stream ends between two.
async fn read_frame(from: &mut OwnedReadHalf) -> io::Result<Option<Bytes>> {
    let length = match from.read_u32().await {
        Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    // Grows with what arrives: the length is only a promise.
    let mut frame = Vec::new();
    from.take(u64::try_from(length).unwrap_or(u64::MAX)).read_to_end(&mut frame).await?;
    if frame.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(Bytes::from(frame)))
}

/// Lets frames of one direction through, as the conditions say.
struct Valve<'a> {
    conditions: &'a Shared,
    direction: Direction,
    /// Bytes since `reset_after` was set.
    passed: u64,
}

impl Valve<'_> {
    async fn pass(&mut self, to: &mut OwnedWriteHalf, frame: &Bytes) -> io::Result<()> {
        let delay = self.flow(&self.conditions.now()).delay;
        tokio::time::sleep(delay).await;
        let flow = self.conditions.until(|now| Some(self.flow(now)).filter(|flow| !flow.held)).await;
        if flow.vanishes {
            return Ok(());
        }
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes();
        let whole = 4 + u64::try_from(frame.len()).unwrap_or(u64::MAX);
        let Some(limit) = flow.reset_after else {
            self.passed = 0;
            to.write_all(&length).await?;
            return to.write_all(frame).await;
        };
        let room = limit.saturating_sub(self.passed);
        self.passed = self.passed.saturating_add(whole);
        if room >= whole {
            to.write_all(&length).await?;
            return to.write_all(frame).await;
        }
        let part = [&length[..], frame].concat();
        to.write_all(&part[..usize::try_from(room).unwrap_or(part.len()).min(part.len())]).await?;
        Err(io::ErrorKind::ConnectionReset.into())
    }

    fn flow(&self, now: &Conditions) -> Flow {
        match self.direction {
            Direction::Requests => now.requests.clone(),
            Direction::Responses => now.responses.clone(),
        }
    }
}
