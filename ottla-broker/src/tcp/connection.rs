//! One client's connection: frames in, replies out.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IoSlice},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};

use super::{
    backlog::Backlog,
    frames::{FrameError, FrameReader},
};

/// What a connection may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The largest request frame.
    pub(super) max_frame_bytes: usize,
    /// How many requests are read ahead of their answers.
    pub(super) max_unanswered: usize,
    /// How many bytes they may have together.
    pub(super) max_unanswered_bytes: usize,
    /// How long nothing may arrive, or nothing may be taken, before the connection is closed.
    pub(super) max_idle: Duration,
}

/// Why a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The client closed it.
    ByClient,
    /// The node closed it, after its last reply.
    ByNode,
    Idle,
    Frame(FrameError),
    Write(io::Error),
}

/// How many slices one vectored write takes: what Linux passes on at once is 1,024.
const SLICES: usize = 64;

/// Serves a connection to its end. Each frame goes to `deliver`; each element of `replies` is the answer to the
/// oldest unanswered frame, and an empty one says that it gets none (produce with `acks=0`).
pub(super) async fn serve<R, W>(
    (reader, writer): (R, W),
    limits: Limits,
    replies: mpsc::UnboundedReceiver<Vec<Bytes>>,
    deliver: impl FnMut(Bytes),
) -> Ended
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let backlog = Backlog::new(limits.max_unanswered, limits.max_unanswered_bytes);
    let frames = FrameReader::new(reader, limits.max_frame_bytes);
    tokio::select! {
        biased;
        ended = write(writer, replies, &backlog, limits.max_idle) => ended,
        ended = read(frames, &backlog, limits.max_idle, deliver) => ended,
    }
}

async fn read<R: AsyncRead + Unpin>(
    mut frames: FrameReader<R>,
    backlog: &Backlog,
    max_idle: Duration,
    mut deliver: impl FnMut(Bytes),
) -> Ended {
    loop {
        let length = match timeout(max_idle, frames.length()).await {
            Ok(Ok(Some(length))) => length,
            Ok(Ok(None)) => return Ended::ByClient,
            Ok(Err(error)) => return Ended::from(error),
            // Who waits for an answer, or has just got one, is not idle.
            Err(_) if !backlog.is_idle_for(max_idle) => continue,
            Err(_) => return Ended::Idle,
        };
        backlog.admit(length).await;
        match timeout(max_idle, frames.body(length)).await {
            Ok(Ok(frame)) => deliver(frame),
            Ok(Err(error)) => return Ended::from(error),
            Err(_) => return Ended::Idle,
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut replies: mpsc::UnboundedReceiver<Vec<Bytes>>,
    backlog: &Backlog,
    max_idle: Duration,
) -> Ended {
    let mut segments = VecDeque::new();
    while let Some(reply) = replies.recv().await {
        segments.extend(reply);
        let mut answered = 1;
        while segments.len() < SLICES
            && let Ok(reply) = replies.try_recv()
        {
            segments.extend(reply);
            answered += 1;
        }
        if let Err(error) = write_all(&mut writer, &mut segments, max_idle).await {
            return if error.kind() == io::ErrorKind::TimedOut { Ended::Idle } else { Ended::Write(error) };
        }
        for _ in 0..answered {
            backlog.answered();
        }
    }
    // Best effort: the client may be gone.
    drop(timeout(max_idle, writer.shutdown()).await);
    Ended::ByNode
}

async fn write_all<W: AsyncWrite + Unpin>(
    writer: &mut W,
    segments: &mut VecDeque<Bytes>,
    max_idle: Duration,
) -> io::Result<()> {
    while !segments.is_empty() {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut used = 0;
        for (slice, segment) in slices.iter_mut().zip(segments.iter()) {
            *slice = IoSlice::new(segment);
            used += 1;
        }
        let written =
            timeout(max_idle, writer.write_vectored(slices.get(..used).unwrap_or_default())).await??;
        if written == 0 && segments.iter().take(used).any(|segment| !segment.is_empty()) {
            return Err(io::ErrorKind::WriteZero.into());
        }
        advance(segments, written);
    }
    writer.flush().await
}

/// Forgets the first `written` bytes, and segments that are empty.
fn advance(segments: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(first) = segments.front_mut() {
        if first.len() > written {
            first.advance(written);
            return;
        }
        written -= first.len();
        segments.pop_front();
    }
}

impl From<FrameError> for Ended {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => Self::ByClient,
            error => Self::Frame(error),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByClient => f.write_str("closed by the client"),
            Self::ByNode => f.write_str("closed by the node"),
            Self::Idle => f.write_str("idle for too long"),
            Self::Frame(error) => error.fmt(f),
            Self::Write(error) => write!(f, "writing failed: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream};

    use super::*;

    const LIMITS: Limits = Limits {
        max_frame_bytes: 1000,
        max_unanswered: 2,
        max_unanswered_bytes: 100,
        max_idle: Duration::from_secs(600),
    };

    struct Served {
        client: DuplexStream,
        replies: mpsc::UnboundedSender<Vec<Bytes>>,
        frames: mpsc::UnboundedReceiver<Bytes>,
        serving: std::pin::Pin<Box<dyn Future<Output = Ended>>>,
    }

    fn served(limits: Limits) -> Served {
        let (client, server) = tokio::io::duplex(16);
        let (replies, to_write) = mpsc::unbounded_channel();
        let (delivered, frames) = mpsc::unbounded_channel();
        let serving = Box::pin(serve(tokio::io::split(server), limits, to_write, move |frame| {
            delivered.send(frame).unwrap();
        }));
        Served { client, replies, frames, serving }
    }

    /// Runs `work` while the connection is served.
    async fn during<T>(
        serving: &mut (impl Future<Output = Ended> + Unpin),
        work: impl Future<Output = T>,
    ) -> T {
        tokio::select! {
            biased;
            result = work => result,
            ended = serving => panic!("{ended}"),
        }
    }

    #[tokio::test]
    async fn replies_go_out_whole_through_a_narrow_pipe() {
        let Served { mut client, replies, serving, .. } = served(LIMITS);
        let mut expected = Vec::new();
        for n in 0..100_u8 {
            let segments = [&[n; 3][..], &[], &[n; 40]].map(Bytes::copy_from_slice);
            expected.extend(segments.iter().flatten().copied());
            replies.send(segments.to_vec()).unwrap();
        }
        drop(replies);
        let mut received = Vec::new();
        let (ended, _) = tokio::join!(serving, client.read_to_end(&mut received));
        assert!(matches!(ended, Ended::ByNode));
        assert_eq!(received, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_held_back_while_its_requests_wait_for_answers() {
        let Served { mut client, replies, mut frames, mut serving } = served(LIMITS);
        let flood = async {
            loop {
                client.write_all(b"\0\0\0\x03abc").await.unwrap();
            }
        };
        let held_back = timeout(Duration::from_secs(60), during(&mut serving, flood)).await;
        assert!(held_back.is_err());
        assert_eq!(frames.len(), 2);
        // An answer, also an empty one, makes room for one more.
        replies.send(Vec::new()).unwrap();
        for _ in 0..3 {
            assert_eq!(during(&mut serving, frames.recv()).await.unwrap(), "abc");
        }
        let nothing = timeout(Duration::from_secs(60), during(&mut serving, frames.recv())).await;
        assert!(nothing.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection_but_not_while_an_answer_is_due() {
        let Served { mut client, replies, frames: _frames, serving } = served(LIMITS);
        let begin = tokio::time::Instant::now();
        client.write_all(b"\0\0\0\x01?").await.unwrap();
        let answer = async {
            tokio::time::sleep(Duration::from_secs(3000)).await;
            replies.send(vec![Bytes::from_static(b"late")]).unwrap();
        };
        let (ended, ()) = tokio::join!(serving, answer);
        assert!(matches!(ended, Ended::Idle));
        assert!(begin.elapsed() > Duration::from_secs(3000), "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_frame_and_silence_end_a_connection() {
        let Served { mut client, serving, replies: _replies, .. } = served(LIMITS);
        client.write_all(b"\0\0\0\x09abc").await.unwrap();
        assert!(matches!(serving.await, Ended::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_replies_is_left() {
        let Served { client: _client, replies, serving, .. } = served(LIMITS);
        replies.send(vec![Bytes::from_static(&[0; 100])]).unwrap();
        assert!(matches!(serving.await, Ended::Idle));
    }

    #[tokio::test]
    async fn what_is_no_frame_ends_the_connection() {
        let Served { mut client, serving, replies: _replies, .. } = served(LIMITS);
        client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
        assert!(serving.await.to_string().contains("that is HTTP"));
    }
}
