//! One connection to a broker: requests go out in order, answers come back in the same order.
//!
//! ```text
//!            send ──▶ queue ──▶ in flight ──▶ socket        (the caller's thread, or the keeper if the socket is full
//!                                  │                         or the broker throttles us)
//!   Reply ◀── decoded ◀── matched ◀┴── frame ◀── socket     (the reader)
//! ```
//!
//! Two tasks: the *reader* hands out answers, the *keeper* writes what a caller could not write itself and watches the
//! deadlines. When either sees something that must not be, the connection closes and every request fails.

use std::{
    collections::VecDeque,
    future::poll_fn,
    marker::PhantomData,
    ops::RangeInclusive,
    pin::Pin,
    sync::{
        Arc, Mutex, TryLockError,
        atomic::{AtomicI32, Ordering},
    },
    task::{Context as TaskContext, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use ottla_core::{
    connection::{Answer, Ended, InFlight, Throttle},
    versions::Versions,
};
use ottla_protocol::{
    Request, Response,
    frame::{decode_response, encode_request},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, oneshot},
    time::sleep_until,
};

use super::{
    Context, Latch,
    broker::Lane,
    frame_reader::{FrameError, FrameReader},
    lock, now,
    writer::{Stopped, Writer, Writing},
};
use crate::{Error, ErrorKind, Result, event::Event};

/// A keeper without a deadline looks again after this; whatever comes up wakes it earlier.
const NOTHING_TO_DO: Duration = Duration::from_secs(86_400);

/// A connection to a broker, ready for requests. Cheap to clone; all clones are the same connection.
#[derive(Clone)]
pub(crate) struct Connection(Arc<Inner>);

/// Which broker it is, and what it said in the handshake.
pub(super) struct Peer {
    pub(super) node: i32,
    pub(super) address: Arc<str>,
    pub(super) lane: Lane,
    pub(super) versions: Versions,
}

/// A broker that lacks what is needed may have learned it since the connection was opened (KIP-584), or was misheard: after
/// so long it is asked again, on another connection.
const NEGOTIATED_ANEW: Duration = Duration::from_secs(300);

struct Inner {
    context: Arc<Context>,
    peer: Peer,
    next_id: AtomicI32,
    state: Mutex<State>,
    writer: Mutex<Writer>,
    keeper: Notify,
    closed: Latch<Error>,
    began: Instant,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Queued>,
    in_flight: InFlight<Pending>,
    throttle: Throttle,
    /// The moment until which the keeper sleeps.
    armed: Option<Instant>,
    last_used: Option<Instant>,
    closed: bool,
    closed_at: Option<Instant>,
    answered: bool,
}

/// A request that was not given to the socket yet.
struct Queued {
    writing: Writing,
    answer: Answer,
    /// Waiting in the queue has a deadline of its own: a request does not age while the broker throttles us.
    give_up: Instant,
    pending: Pending,
}

/// What settles a request.
struct Pending {
    name: &'static str,
    timeout: Duration,
    settle: Box<dyn Settle>,
}

/// A request got no answer.
#[derive(Debug, Clone)]
pub(crate) struct RequestError {
    /// Why.
    pub(crate) error: Error,
    /// Whether bytes of it may have reached the broker.
    pub(crate) sent: bool,
}

impl From<RequestError> for Error {
    fn from(failed: RequestError) -> Self {
        failed.error
    }
}

/// The answer to a request, when it comes. Dropping it discards the answer; the request is sent all the same.
pub(crate) struct Reply<R: Request>(oneshot::Receiver<Result<R::Response, RequestError>>);

impl<R: Request> Future for Reply<R> {
    type Output = Result<R::Response, RequestError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        poll_receiver(&mut self.get_mut().0, cx)
    }
}

/// A request without an answer: ready when it is written.
pub(crate) struct Written(oneshot::Receiver<Result<(), RequestError>>);

impl Future for Written {
    type Output = Result<(), RequestError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        poll_receiver(&mut self.get_mut().0, cx)
    }
}

fn poll_receiver<T>(
    receiver: &mut oneshot::Receiver<Result<T, RequestError>>,
    cx: &mut TaskContext<'_>,
) -> Poll<Result<T, RequestError>> {
    Pin::new(receiver).poll(cx).map(|received| {
        // The connection went away together with its tasks.
        received.unwrap_or_else(|_| Err(RequestError { error: Error::closed(), sent: true }))
    })
}

impl Connection {
    /// Starts the tasks of a connection whose handshake is done.
    pub(super) fn start<R: AsyncRead + Send + Unpin + 'static>(
        context: &Arc<Context>,
        peer: Peer,
        reader: FrameReader<R>,
        writer: Box<dyn AsyncWrite + Send + Unpin>,
    ) -> Self {
        let inner = Arc::new(Inner {
            context: context.clone(),
            peer,
            next_id: AtomicI32::new(0),
            state: Mutex::new(State { last_used: Some(now()), ..State::default() }),
            writer: Mutex::new(Writer::new(writer)),
            keeper: Notify::new(),
            closed: Latch::default(),
            began: now(),
        });
        context.spawn("connection reader", read(CloseOnDrop(inner.clone()), reader));
        context.spawn("connection keeper", keep(CloseOnDrop(inner.clone())));
        Self(inner)
    }

    /// The answer of the handshake, which came before the connection was there, has this throttle time.
    pub(super) fn throttled(&self, throttle_time_ms: i32) {
        let muted = lock(&self.0.state).throttle.on_answer(now(), throttle_time_ms);
        self.0.tell_if(muted, throttle_time_ms);
    }

    /// The broker's id; -1 for a bootstrap server.
    pub(crate) fn node_id(&self) -> i32 {
        self.0.peer.node
    }

    /// Host and port of the broker, as the cluster names them.
    pub(crate) fn address(&self) -> &str {
        &self.0.peer.address
    }

    /// What the broker speaks.
    pub(crate) fn versions(&self) -> &Versions {
        &self.0.peer.versions
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.closed.is_set()
    }

    /// Waits until the connection is closed, and says why.
    #[cfg(test)]
    pub(crate) async fn closed(&self) -> Error {
        self.0.closed.wait().await
    }

    /// How many requests were given to the socket or wait for it, and have no answer.
    pub(crate) fn in_flight(&self) -> usize {
        let state = lock(&self.0.state);
        state.in_flight.len() + state.queue.len()
    }

    /// How it was, once it is closed.
    pub(super) fn ended(&self) -> Ended {
        let why = self.0.closed.get();
        let state = lock(&self.0.state);
        Ended {
            answered: state.answered,
            misbehaved: why.is_some_and(|error| error.kind() == ErrorKind::Peer),
            lived: state.closed_at.unwrap_or_else(now).saturating_duration_since(self.0.began),
        }
    }

    pub(super) fn close(&self, error: Error) {
        self.0.close(error);
    }

    /// The newest version of `R` that broker, client and `wanted` have in common; for a request that has to be made. Whether
    /// one may be made is asked of [`Connection::versions`].
    ///
    /// # Errors
    /// `Incompatible`, which names the API and both ranges.
    pub(crate) fn version<R: Request>(&self, wanted: RangeInclusive<i16>) -> Result<i16> {
        self.versions().choose::<R>(&wanted).map_err(|none| {
            let error = Error::incompatible(format!("{}: {none}", self.0.describe("no common version with")));
            // Not while others wait for answers on it.
            if now().saturating_duration_since(self.0.began) >= NEGOTIATED_ANEW && self.in_flight() == 0 {
                self.close(error.clone());
            }
            error
        })
    }

    /// Sends a request and gives the future of its answer. Never blocks: what the socket does not take at once is
    /// written in the background.
    ///
    /// Without an answer within `timeout` of being given to the socket the whole connection closes: the answers behind
    /// it would wait as well, and half-open connections are found no other way.
    ///
    /// # Errors
    /// When the connection is closed or the request cannot be encoded. Nothing was sent then.
    pub(crate) fn send<R>(&self, request: &R, version: i16, timeout: Duration) -> Result<Reply<R>>
    where
        R: Request<Response: Send + 'static> + 'static,
    {
        let (answer_to, reply) = oneshot::channel();
        // Whoever waited may have given up.
        let on_answer = move |answer| drop(answer_to.send(answer));
        let settle = Box::new(Decode { version, on_answer, request: PhantomData::<fn(R)> });
        self.enqueue(request, version, timeout, Answer::Required, settle, None)?;
        Ok(Reply(reply))
    }

    /// Sends a request and calls `on_answer` once, with the answer or with why there is none: in the connection's
    /// reader, where it must not take long, or before this returns. It saves the hop to a task.
    pub(crate) fn send_with<R>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
        on_answer: impl FnOnce(Result<R::Response, RequestError>) + Send + 'static,
    ) where
        R: Request<Response: Send + 'static> + 'static,
    {
        let settle = Box::new(Decode { version, on_answer, request: PhantomData::<fn(R)> });
        // `on_answer` has heard of an error.
        let _ = self.enqueue(request, version, timeout, Answer::Required, settle, None);
    }

    /// [`Connection::send`] and the wait for the answer.
    ///
    /// # Cancel safety
    /// The request may have been sent when the future is dropped.
    pub(crate) async fn call<R>(&self, request: &R, version: i16, timeout: Duration) -> Result<R::Response>
    where
        R: Request<Response: Send + 'static> + 'static,
    {
        Ok(self.send(request, version, timeout)?.await?)
    }

    /// Sends a request that has no answer (Produce with `acks=0`). Some brokers answer all the same; such an answer is
    /// read and discarded.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub(crate) fn send_no_reply<R: Request>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
    ) -> Result<Written> {
        let (written, receiver) = oneshot::channel();
        self.enqueue(request, version, timeout, Answer::Optional, Box::new(Discard), Some(written))?;
        Ok(Written(receiver))
    }

    /// Queues a request and writes it if that is possible at once. An error goes to `settle` as well.
    fn enqueue<R: Request>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
        answer: Answer,
        settle: Box<dyn Settle>,
        on_written: Option<oneshot::Sender<Result<(), RequestError>>>,
    ) -> Result<()> {
        let inner = &*self.0;
        let id = inner.next_id.fetch_add(1, Ordering::Relaxed);
        let client_id = inner.context.config.client_id.as_deref();
        let segments = match encode_request(version, id, client_id, request) {
            Ok(segments) => segments,
            Err(error) => {
                let error = Error::misuse(format!("{} cannot be encoded", R::NAME)).with_source(error);
                return refuse(settle, error);
            }
        };
        let queued = Queued {
            writing: Writing::new(id, segments, on_written),
            answer,
            give_up: now() + timeout,
            pending: Pending { name: R::NAME, timeout, settle },
        };
        {
            let mut state = lock(&inner.state);
            if state.closed {
                drop(state);
                return refuse(queued.pending.settle, inner.closed.get().unwrap_or_else(Error::closed));
            }
            state.queue.push_back(queued);
        }
        inner.write_directly();
        Ok(())
    }
}

impl Inner {
    /// Writes from the caller's thread, if nobody else is writing and the socket is not full: it saves the hop to the
    /// keeper, which is most of the latency of a small request.
    fn write_directly(&self) {
        loop {
            let mut writer = match self.writer.try_lock() {
                Ok(writer) => writer,
                // The owner looks again after it has unlocked.
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            };
            if writer.is_blocked() {
                break;
            }
            let stopped = self.write(&mut writer, &mut TaskContext::from_waker(Waker::noop()));
            drop(writer);
            match stopped {
                Stopped::Idle if self.may_write() => {}
                Stopped::Idle => break,
                Stopped::Blocked => return self.keeper.notify_one(),
                Stopped::Failed(error, unsent) => return self.on_write_error(error, unsent),
            }
        }
        self.wake_keeper_if_early();
    }

    fn write(&self, writer: &mut Writer, cx: &mut TaskContext<'_>) -> Stopped {
        writer.write(cx, || self.next_to_write())
    }

    /// Takes the next request out of the queue and registers it, before a byte of it is written.
    fn next_to_write(&self) -> Option<Writing> {
        let now = now();
        let mut state = lock(&self.state);
        if state.throttle.muted_until(now).is_some() {
            return None;
        }
        let Queued { writing, answer, pending, .. } = state.queue.pop_front()?;
        state.in_flight.register(writing.correlation_id, now + pending.timeout, answer, pending);
        state.last_used = Some(now);
        Some(writing)
    }

    fn may_write(&self) -> bool {
        let state = lock(&self.state);
        !state.queue.is_empty() && state.throttle.muted_until(now()).is_none()
    }

    /// The keeper sleeps to the earliest deadline that it knew of; a new one may be earlier.
    fn wake_keeper_if_early(&self) {
        let state = lock(&self.state);
        let next = self.next_wake(&state, now());
        if state.armed.is_none_or(|armed| next < armed) {
            self.keeper.notify_one();
        }
    }

    /// When the keeper has something to do.
    fn next_wake(&self, state: &State, now: Instant) -> Instant {
        let muted = state.throttle.muted_until(now).filter(|_| !state.queue.is_empty());
        let give_up = state.queue.iter().map(|queued| queued.give_up).min();
        let earliest = [state.in_flight.next_deadline(), muted, give_up].into_iter().flatten().min();
        earliest.or_else(|| self.idle_at(state, now)).unwrap_or(now + NOTHING_TO_DO)
    }

    /// When the connection will have been idle for too long; `None` if it may be for ever.
    fn idle_at(&self, state: &State, now: Instant) -> Option<Instant> {
        Some(state.last_used.unwrap_or(now) + self.context.config.connections_max_idle?)
    }

    fn on_write_error(&self, error: std::io::Error, unsent: Option<i32>) {
        let failed = Error::io(self.describe("writing to"), error);
        let withdrawn = unsent.and_then(|id| lock(&self.state).in_flight.withdraw(id));
        if let Some(pending) = withdrawn {
            pending.settle.failed(RequestError { error: failed.clone(), sent: false });
        }
        self.close(failed);
    }

    fn on_frame(&self, frame: Bytes) -> Result<()> {
        let Some(id) = frame.first_chunk().copied().map(i32::from_be_bytes) else {
            return Err(Error::peer(self.describe("an answer without a correlation id from")));
        };
        let pending = lock(&self.state).in_flight.on_answer(id).map_err(|unexpected| {
            Error::peer(self.describe("mixed-up answers from")).with_source(unexpected)
        })?;
        pending.settle.answered(frame, self)
    }

    fn on_answered(&self, throttle_time_ms: i32) {
        let now = now();
        let muted = {
            let mut state = lock(&self.state);
            state.answered = true;
            state.last_used = Some(now);
            state.throttle.on_answer(now, throttle_time_ms)
        };
        self.tell_if(muted, throttle_time_ms);
    }

    fn tell_if(&self, muted: bool, throttle_time_ms: i32) {
        if muted {
            let duration = Duration::from_millis(u64::try_from(throttle_time_ms).unwrap_or(0));
            self.context.events.emit(Event::Throttled { node: self.peer.node, duration });
        }
    }

    /// Does what a deadline asks for; an error closes the connection.
    fn on_time(&self, now: Instant) -> Result<()> {
        let writing = lock(&self.writer).writing();
        let (stuck, overdue, given_up) = {
            let mut state = lock(&self.state);
            // Nobody may owe it an answer, and yet it must not be written for ever.
            let stuck = writing.is_some_and(|id| state.in_flight.is_overdue(id, now));
            let overdue = state.in_flight.expire(now).map(|pending| (pending.name, pending.timeout));
            let (given_up, queue) =
                state.queue.drain(..).partition::<VecDeque<_>, _>(|each| each.give_up <= now);
            state.queue = queue;
            (stuck, overdue, given_up)
        };
        for Queued { pending, writing, .. } in given_up {
            let what = format!("{} could not be sent within {:?}", pending.name, pending.timeout);
            fail(pending, writing, RequestError { error: Error::timeout(what), sent: false });
        }
        if let Some((name, timeout)) = overdue {
            return Err(Error::timeout(
                self.describe(&format!("no answer to {name} within {timeout:.1?} from")),
            ));
        }
        if stuck {
            return Err(Error::timeout(self.describe("a request could not be written in time to")));
        }
        let state = lock(&self.state);
        let idle = self.idle_at(&state, now).is_some_and(|at| at <= now);
        if state.in_flight.is_empty() && state.queue.is_empty() && idle {
            let idle = std::io::Error::from(std::io::ErrorKind::NotConnected);
            return Err(Error::io(self.describe("closed an idle connection to"), idle));
        }
        Ok(())
    }

    fn close(&self, error: Error) {
        let (in_flight, queue) = {
            let mut state = lock(&self.state);
            if std::mem::replace(&mut state.closed, true) {
                return;
            }
            // Set under the lock, so that whoever sees `closed` finds the reason.
            self.closed.set(error.clone());
            state.closed_at = Some(now());
            (state.in_flight.drain(), std::mem::take(&mut state.queue))
        };
        for pending in in_flight {
            pending.settle.failed(RequestError { error: error.clone(), sent: true });
        }
        for Queued { pending, writing, .. } in queue {
            fail(pending, writing, RequestError { error: error.clone(), sent: false });
        }
        let Peer { node, address, lane, .. } = &self.peer;
        let (node, address, lane) = (*node, address.clone(), lane.name());
        self.context.events.emit(Event::BrokerDisconnected { node, address, lane, error });
    }

    fn describe(&self, what: &str) -> String {
        match self.peer.node {
            -1 => format!("{what} {}", self.peer.address),
            node => format!("{what} broker {node} at {}", self.peer.address),
        }
    }
}

fn fail(pending: Pending, writing: Writing, error: RequestError) {
    writing.failed(&error);
    pending.settle.failed(error);
}

/// Closes the connection when one of its tasks ends, whatever ended it: also the end of the runtime.
struct CloseOnDrop(Arc<Inner>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close(Error::closed());
        let error = self.0.closed.get().unwrap_or_else(Error::closed);
        lock(&self.0.writer).close(&RequestError { error, sent: true });
    }
}

async fn read<R: AsyncRead + Unpin>(connection: CloseOnDrop, mut frames: FrameReader<R>) {
    let inner = &*connection.0;
    let closed = inner.closed.wait();
    tokio::pin!(closed);
    loop {
        let outcome = tokio::select! {
            biased;
            _ = &mut closed => return,
            frame = frames.next() => match frame {
                Ok(frame) => inner.on_frame(frame),
                Err(error) => Err(inner.read_error(error)),
            },
        };
        if let Err(error) = outcome {
            return inner.close(error);
        }
    }
}

async fn keep(connection: CloseOnDrop) {
    let inner = &*connection.0;
    let ended = async {
        tokio::select! {
            biased;
            _ = inner.closed.wait() => {}
            () = inner.context.shutdown.wait() => {}
        }
    };
    tokio::pin!(ended);
    loop {
        let (wake_at, write) = inner.arm();
        tokio::select! {
            biased;
            () = &mut ended => return,
            // While the socket is full this stays pending, and the task is woken when it is not.
            stopped = poll_fn(|cx| inner.poll_write(cx)), if write => {
                if let Stopped::Failed(error, unsent) = stopped {
                    inner.on_write_error(error, unsent);
                }
            }
            () = inner.keeper.notified() => {}
            () = sleep_until(wake_at.into()) => {
                if let Err(error) = inner.on_time(now()) {
                    inner.close(error);
                }
            }
        }
    }
}

impl Inner {
    /// What the keeper does next: until when it sleeps, and whether it has to write.
    fn arm(&self) -> (Instant, bool) {
        let blocked = lock(&self.writer).is_blocked();
        let now = now();
        let mut state = lock(&self.state);
        let wake_at = self.next_wake(&state, now);
        state.armed = Some(wake_at);
        let queued = !state.queue.is_empty() && state.throttle.muted_until(now).is_none();
        (wake_at, blocked || queued)
    }

    fn poll_write(&self, cx: &mut TaskContext<'_>) -> Poll<Stopped> {
        match self.write(&mut lock(&self.writer), cx) {
            Stopped::Blocked => Poll::Pending,
            stopped => Poll::Ready(stopped),
        }
    }

    fn read_error(&self, error: FrameError) -> Error {
        match error {
            FrameError::Io(error) => Error::io(self.describe("reading from"), error),
            FrameError::BadLength(_) => Error::peer(self.describe("no frame from")).with_source(error),
            FrameError::Closed | FrameError::Truncated => {
                let eof = std::io::Error::new(std::io::ErrorKind::UnexpectedEof, error);
                Error::io(self.describe("lost the connection to"), eof)
            }
        }
    }
}

/// How a request ends.
trait Settle: Send {
    /// With an answer on `connection`, which learns of its throttle time before anybody sees the answer: whoever waited
    /// for it may send the next request at once.
    fn answered(self: Box<Self>, frame: Bytes, connection: &Inner) -> Result<()>;
    /// Without one.
    fn failed(self: Box<Self>, error: RequestError);
}

struct Decode<R, F> {
    version: i16,
    on_answer: F,
    request: PhantomData<fn(R)>,
}

impl<R, F> Settle for Decode<R, F>
where
    R: Request,
    F: FnOnce(Result<R::Response, RequestError>) + Send,
{
    fn answered(self: Box<Self>, frame: Bytes, connection: &Inner) -> Result<()> {
        // Decoded even if nobody waits any more: the throttle time counts.
        match decode_response::<R>(self.version, frame) {
            Ok((_, response)) => {
                connection.on_answered(response.throttle_time_ms());
                (self.on_answer)(Ok(response));
                Ok(())
            }
            Err(error) => {
                let what = connection.describe(&format!("an undecodable answer to {} from", R::NAME));
                let undecodable = Error::peer(what).with_source(error);
                (self.on_answer)(Err(RequestError { error: undecodable.clone(), sent: true }));
                Err(undecodable)
            }
        }
    }

    fn failed(self: Box<Self>, error: RequestError) {
        (self.on_answer)(Err(error));
    }
}

fn refuse(settle: Box<dyn Settle>, error: Error) -> Result<()> {
    settle.failed(RequestError { error: error.clone(), sent: false });
    Err(error)
}

/// Nobody waits for the answer.
struct Discard;

impl Settle for Discard {
    fn answered(self: Box<Self>, _: Bytes, _: &Inner) -> Result<()> {
        Ok(())
    }

    fn failed(self: Box<Self>, _: RequestError) {}
}
