//! A world in which brokers seem to be frozen: what the client and they say to each other can be held up on its way,
//! and let go in an order of our choice.
//!
//! ```text
//!   client ──── pipe ────▶ frame by frame ─[gate]─▶ socket ─────▶ broker
//!          ◀─── pipe ───────────────[gate]───────── socket ◀─────
//! ```
//!
//! A paused broker is like that for its clients: TCP stays up, nothing is refused, new connections are accepted, and
//! nothing is answered.

mod carry;
mod gate;

use std::{io, net::SocketAddr, sync::Arc};

use ottla::env::{BoxFuture, Duplex, Env, Layer};
use tokio::io::duplex;

pub(crate) use self::gate::Gate;

/// What fits into a connection on its way in each direction, in bytes; whoever writes more has to wait.
const PIPE: usize = 64 * 1024;

/// Another world with a gate in each of its connections.
pub(crate) struct Holding<E> {
    world: E,
    gate: Arc<Gate>,
}

impl<E: Env> Holding<E> {
    pub(crate) fn new(world: E, gate: Arc<Gate>) -> Self {
        Self { world, gate }
    }
}

impl<E: Env> Layer for Holding<E> {
    type Below = E;

    fn below(&self) -> &E {
        &self.world
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Duplex>> {
        Box::pin(async move {
            let broker = self.world.connect(address).await?;
            let (client, near) = pipes();
            self.world.spawn("held connection", Box::pin(carry::carry(self.gate.clone(), near, broker)));
            Ok(client)
        })
    }
}

/// The two ends of a connection in memory. Each direction is a stream of its own, so that dropping a writer is its end.
fn pipes() -> (Duplex, Duplex) {
    let (requests, from_client) = duplex(PIPE);
    let (to_client, answers) = duplex(PIPE);
    (
        Duplex { reader: Box::new(answers), writer: Box::new(requests) },
        Duplex { reader: Box::new(from_client), writer: Box::new(to_client) },
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ottla::env::Tokio;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn a_held_broker_accepts_connections_and_does_not_hear_what_they_say() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gate = Arc::new(Gate::default());
        gate.hold();
        let env = Holding::new(Tokio::current().unwrap(), gate.clone());
        let mut client = Env::connect(&env, listener.local_addr().unwrap()).await.unwrap();
        assert!(client.writer.is_write_vectored(), "batches are never copied together");
        let (mut broker, _) = listener.accept().await.unwrap();
        client.writer.write_all(&[0, 0, 0, 4, 0, 18, 0, 4]).await.unwrap();
        let mut heard = [0; 8];
        let silence = tokio::time::timeout(Duration::from_millis(50), broker.read_exact(&mut heard)).await;
        assert!(silence.is_err(), "{heard:?}");
        gate.let_all_go();
        broker.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, [0, 0, 0, 4, 0, 18, 0, 4]);
    }
}
