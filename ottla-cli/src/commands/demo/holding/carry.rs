//! One connection: requests go out frame by frame, so that the first one tells what the connection is for before any
//! of it has passed; answers come back as they are.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use ottla::env::Duplex;
use ottla_protocol::ApiKey;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy};

use super::gate::{Gate, Traffic};

/// The length of a frame, and the key of its request.
const START: usize = 6;
/// The part of it that the length counts.
const KEY: usize = 2;
/// How much of an answer is carried at a time.
const PIECE: usize = 16 * 1024;

/// Carries bytes between the client and the broker until either of them has gone; then the other one is left too.
///
/// An end is noticed in its turn: while bytes are held, so is what comes after them.
pub(super) async fn carry(gate: Arc<Gate>, client: Duplex, broker: Duplex) {
    let way = Way { gate, traffic: OnceLock::new() };
    // A connection that fails is closed, which is all that the other side can see of it.
    tokio::select! {
        biased;
        _ = way.requests(client.reader, broker.writer) => {}
        _ = way.answers(broker.reader, client.writer) => {}
    }
}

struct Way {
    gate: Arc<Gate>,
    /// Told by the first request after the handshake.
    traffic: OnceLock<Traffic>,
}

impl Way {
    async fn requests(
        &self,
        mut client: impl AsyncRead + Unpin,
        mut broker: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        loop {
            let mut start = [0; START];
            client.read_exact(&mut start).await?;
            let [a, b, c, d, key @ ..] = start;
            let length = i32::from_be_bytes([a, b, c, d]);
            let rest = usize::try_from(length).ok().and_then(|length| length.checked_sub(KEY));
            let rest = rest.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not a request"))?;
            if let Some(traffic) = Traffic::of(ApiKey(i16::from_be_bytes(key))) {
                self.traffic.get_or_init(|| traffic);
            }
            self.pass().await;
            broker.write_all(&start).await?;
            copy(&mut (&mut client).take(rest as u64), &mut broker).await?;
            broker.flush().await?;
        }
    }

    async fn answers(
        &self,
        mut broker: impl AsyncRead + Unpin,
        mut client: impl AsyncWrite + Unpin,
    ) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        loop {
            let length = broker.read(&mut piece).await?;
            self.pass().await;
            if length == 0 {
                return Ok(());
            }
            client.write_all(piece.get(..length).unwrap_or_default()).await?;
        }
    }

    async fn pass(&self) {
        self.gate.pass(|| self.traffic.get().copied()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::pipes, *};

    /// A request frame: its length, its key, and a body.
    fn request(key: ApiKey, body: &[u8]) -> Vec<u8> {
        let length = (KEY + body.len()) as i32;
        [&length.to_be_bytes()[..], &key.0.to_be_bytes(), body].concat()
    }

    struct Ends {
        gate: Arc<Gate>,
        client: Duplex,
        broker: Duplex,
    }

    impl Ends {
        async fn asks(&mut self, key: ApiKey) {
            self.client.writer.write_all(&request(key, b"asked")).await.unwrap();
        }

        async fn answers(&mut self) {
            self.broker.writer.write_all(b"answer").await.unwrap();
        }

        async fn hears(&mut self, key: ApiKey) -> bool {
            let mut bytes = [0; START + 5];
            let heard = within(self.broker.reader.read_exact(&mut bytes)).await;
            assert!(heard.is_none() || bytes == request(key, b"asked")[..], "{bytes:?}");
            heard.is_some()
        }

        async fn is_answered(&mut self) -> bool {
            let mut bytes = [0; 6];
            let answered = within(self.client.reader.read_exact(&mut bytes)).await;
            assert!(answered.is_none() || &bytes == b"answer", "{bytes:?}");
            answered.is_some()
        }

        /// The connection has told what it is for, and nothing is under way.
        async fn is_known_by(&mut self, key: ApiKey) {
            self.asks(key).await;
            assert!(self.hears(key).await);
        }
    }

    /// `None`: it does not happen. Time is paused, so that this waits only for what is really under way.
    async fn within<T>(reading: impl Future<Output = io::Result<T>>) -> Option<T> {
        tokio::time::timeout(Duration::from_secs(1), reading).await.ok().map(Result::unwrap)
    }

    /// Runs a connection, and `story` at its two ends.
    async fn connection(story: impl AsyncFnOnce(Ends)) {
        let gate = Arc::new(Gate::default());
        let ((client, near), (broker, far)) = (pipes(), pipes());
        let telling = async {
            story(Ends { gate: gate.clone(), client, broker }).await;
            gate.let_all_go();
        };
        tokio::join!(carry(gate.clone(), near, far), telling);
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_gate_is_not_noticed() {
        connection(async |mut ends| {
            for key in [ApiKey::API_VERSIONS, ApiKey::METADATA, ApiKey::OFFSET_COMMIT] {
                ends.asks(key).await;
                assert!(ends.hears(key).await);
                ends.answers().await;
                assert!(ends.is_answered().await);
            }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_passes_in_either_direction_while_held_and_nothing_is_lost() {
        for key in [ApiKey::FETCH, ApiKey::HEARTBEAT, ApiKey::API_VERSIONS] {
            connection(async |mut ends| {
                ends.is_known_by(key).await;
                ends.gate.hold();
                ends.asks(key).await;
                ends.answers().await;
                assert!(!ends.hears(key).await && !ends.is_answered().await);
                ends.gate.let_all_go();
                assert!(ends.hears(key).await && ends.is_answered().await);
            })
            .await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn data_comes_back_before_the_group() {
        for (key, is_data) in [
            (ApiKey::FETCH, true),
            (ApiKey::HEARTBEAT, false),
            (ApiKey::JOIN_GROUP, false),
            (ApiKey::SYNC_GROUP, false),
            (ApiKey::OFFSET_COMMIT, false),
            (ApiKey::OFFSET_FETCH, false),
            (ApiKey::METADATA, false),
            (ApiKey::FIND_COORDINATOR, false),
        ] {
            connection(async |mut ends| {
                ends.is_known_by(key).await;
                ends.gate.hold();
                ends.asks(key).await;
                ends.answers().await;
                ends.gate.let_data_go();
                assert_eq!((ends.hears(key).await, ends.is_answered().await), (is_data, is_data), "{key:?}");
                ends.gate.let_all_go();
                if !is_data {
                    assert!(ends.hears(key).await && ends.is_answered().await, "{key:?}");
                }
            })
            .await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_shakes_hands_and_is_then_known_by_its_first_request() {
        for (key, is_data) in [(ApiKey::FETCH, true), (ApiKey::HEARTBEAT, false)] {
            connection(async |mut ends| {
                ends.gate.let_data_go();
                ends.is_known_by(ApiKey::API_VERSIONS).await;
                ends.answers().await;
                assert!(ends.is_answered().await);
                ends.asks(key).await;
                assert_eq!(ends.hears(key).await, is_data, "{key:?}");
            })
            .await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_writes_to_a_held_broker_has_to_wait_when_the_pipe_is_full() {
        connection(async |mut ends| {
            ends.gate.hold();
            let much = request(ApiKey::OFFSET_COMMIT, &vec![7; 1 << 20]);
            let mut written = 0;
            while let Some(more) = within(ends.client.writer.write(&much[written..])).await {
                written += more;
            }
            assert!(written < 256 * 1024, "{written} bytes are in memory");
            ends.gate.let_all_go();
            let Ends { mut client, mut broker, .. } = ends;
            let mut heard = vec![0; much.len()];
            let (sent, _) =
                tokio::join!(client.writer.write_all(&much[written..]), broker.reader.read_exact(&mut heard));
            sent.unwrap();
            assert_eq!(heard, much);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_is_seen_on_the_other_side_but_not_while_held() {
        connection(async |ends| {
            ends.gate.hold();
            let Ends { gate, mut client, broker } = ends;
            drop(broker);
            let mut nothing = [0; 1];
            assert!(within(client.reader.read(&mut nothing)).await.is_none(), "TCP stays up");
            gate.let_all_go();
            assert_eq!(within(client.reader.read(&mut nothing)).await, Some(0));
        })
        .await;
        connection(async |ends| {
            let Ends { client, mut broker, .. } = ends;
            drop(client);
            assert_eq!(within(broker.reader.read(&mut [0; 1])).await, Some(0));
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_request_ends_the_connection() {
        for bytes in [[0xff; START], [0; START], [0, 0, 0, 1, 0, 0]] {
            connection(async |mut ends| {
                ends.client.writer.write_all(&bytes).await.unwrap();
                assert_eq!(within(ends.broker.reader.read(&mut [0; 1])).await, Some(0));
            })
            .await;
        }
    }
}
