//! Client connections: requests in the order in which they came, one at a time.
//!
//! ```text
//!                    frame
//!   idle ───────────────────────► answering ── throttled reply ──► muted
//!    ▲                                │                              │
//!    └──────────── reply ─────────────┘                              │
//!    └──────────────────────── throttle time is over ────────────────┘
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::{ApiKey, ErrorCode, Str, frame};

use super::{Node, RequestId, Timer, Waiting, Work};
use crate::api;
use crate::faults::{About, Answers, Effect};
use crate::io::{CloseReason, ConnectionId, Now, Output};
use crate::strict::Asked;

/// A request and where its answer goes.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    pub(crate) connection: ConnectionId,
    pub(crate) api_key: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    /// What the client calls itself, and where it is.
    pub(crate) client_id: Str,
    pub(crate) client_host: IpAddr,
    /// What the response says of throttling.
    pub(crate) throttle_time_ms: i32,
    /// Whether scripted faults have looked at it, and what one does to the answer.
    pub(crate) has_met: bool,
    pub(crate) effect: Option<Effect>,
    /// Who counts what is answered.
    pub(crate) asked: Option<Asked>,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Outcome {
    Reply(Vec<Bytes>),
    /// The request wants no answer (`acks=0`).
    Silence,
    Close(CloseReason),
    Wait(Waiting),
}

#[derive(Debug, Default)]
pub(super) struct Connections(BTreeMap<ConnectionId, Connection>);

#[derive(Debug)]
struct Connection {
    host: IpAddr,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    answering: Option<RequestId>,
    /// Since when it is not listened to, and until when.
    muted: Option<(Instant, Instant)>,
    /// Nothing is answered any more.
    silent: bool,
}

impl Exchange {
    /// The answer, in the version of the request.
    pub(crate) fn reply<R: Answers>(&self, response: &R::Response) -> Outcome {
        self.reply_as::<R>(self.version, response)
    }

    /// The answer is going to say this as well: it is written into it later.
    pub(crate) fn answers_also(&self, about: About<'_>, error: ErrorCode) {
        if let Some(asked) = &self.asked {
            asked.answers(std::iter::once((about, error)));
        }
    }

    /// The answer, in another version.
    pub(crate) fn reply_as<R: Answers>(&self, version: i16, response: &R::Response) -> Outcome {
        if let Some(asked) = &self.asked {
            asked.answers(R::codes(response));
        }
        match frame::encode_response::<R>(version, self.correlation_id, response) {
            Ok(segments) => Outcome::Reply(segments),
            Err(error) => Outcome::Close(CloseReason::Unencodable(error.to_string())),
        }
    }
}

impl Connections {
    fn open(&mut self, connection: ConnectionId, host: IpAddr) {
        let (queue, queued_bytes, answering, muted, silent) = (VecDeque::new(), 0, None, None, false);
        let connected = Connection { host, queue, queued_bytes, answering, muted, silent };
        self.0.insert(connection, connected);
    }

    pub(super) fn unmute(&mut self, now: Now, connection: ConnectionId) {
        if let Some(connection) = self.0.get_mut(&connection) {
            connection.muted.take_if(|(_, until)| *until <= now.monotonic);
        }
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.0.keys().copied().collect()
    }
}

impl Node {
    pub(super) fn connected(&mut self, now: Now, id: ConnectionId, host: IpAddr) {
        self.connections.open(id, host);
        self.watch_connection(now, id, host);
    }

    pub(super) fn frame(&mut self, now: Now, id: ConnectionId, frame: Bytes) {
        let Some(muted) = self.connections.0.get(&id).map(|connection| connection.muted) else { return };
        self.watch_arrival(now, id, muted, &frame);
        let Some(connection) = self.connections.0.get_mut(&id) else { return };
        connection.queued_bytes += frame.len();
        if frame.len() > self.config.max_request_bytes {
            self.close(id, CloseReason::FrameTooLarge(frame.len()));
        } else if connection.queued_bytes > self.config.max_queued_bytes.max(self.config.max_request_bytes) {
            self.close(id, CloseReason::QueueFull);
        } else {
            connection.queue.push_back(frame);
            self.work.push_back(Work::Connection(id));
        }
    }

    pub(super) fn disconnected(&mut self, id: ConnectionId) {
        self.watch_end(id);
        if let Some(request) = self.connections.0.remove(&id).and_then(|connection| connection.answering) {
            self.forget(request);
        }
    }

    /// Answers requests of a connection until one has to wait.
    pub(super) fn next_request(&mut self, now: Now, id: ConnectionId) {
        while self.image.version > 0 {
            let Some(connection) = self.connections.0.get_mut(&id) else { return };
            if connection.answering.is_some() || connection.muted.is_some() {
                return;
            }
            let Some(frame) = connection.queue.pop_front() else { return };
            connection.queued_bytes -= frame.len();
            let host = connection.host;
            match exchange((id, host), frame) {
                Ok((mut exchange, body)) => {
                    exchange.asked = self.watch_answer(&exchange, &body);
                    let outcome = api::serve(self, now, &mut exchange, body);
                    self.conclude(now, &exchange, outcome);
                }
                Err(reason) => self.close(id, reason),
            }
        }
    }

    /// Carries out what became of a request.
    pub(super) fn conclude(&mut self, now: Now, exchange: &Exchange, outcome: Outcome) {
        let id = exchange.connection;
        let is_late = matches!(exchange.effect, Some(Effect::DelayAnswer(_)));
        let waits = matches!(outcome, Outcome::Wait(_)) || matches!(outcome, Outcome::Reply(_)) && is_late;
        if !waits {
            self.watch_conclusion(now, exchange);
        }
        match outcome {
            Outcome::Reply(answer) => match exchange.effect.clone() {
                Some(effect) => self.answer_goes_wrong(now, exchange, effect, answer),
                None => self.send(now, exchange, answer),
            },
            Outcome::Silence => self.out.push(Output::Reply(id, Vec::new())),
            Outcome::Close(reason) => self.close(id, reason),
            Outcome::Wait(waiting) => {
                let request = self.wait(exchange.clone(), waiting);
                if let Some(connection) = self.connections.0.get_mut(&id) {
                    connection.answering = Some(request);
                }
            }
        }
    }

    pub(super) fn send(&mut self, now: Now, exchange: &Exchange, answer: Vec<Bytes>) {
        let id = exchange.connection;
        if self.connections.0.get(&id).is_some_and(|connection| !connection.silent) {
            self.out.push(Output::Reply(id, answer));
            self.mute(now, exchange);
        }
    }

    /// From now on nothing is answered on a connection.
    pub(super) fn silence(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.0.get_mut(&id) {
            connection.silent = true;
        }
    }

    /// The request that was being answered is.
    pub(super) fn answered(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.0.get_mut(&id) {
            connection.answering = None;
            self.work.push_back(Work::Connection(id));
        }
    }

    /// A client that was told to slow down is not listened to for that long (KIP-219).
    fn mute(&mut self, now: Now, exchange: &Exchange) {
        let time = Duration::from_millis(u64::try_from(exchange.throttle_time_ms).unwrap_or(0));
        let Some(connection) = self.connections.0.get_mut(&exchange.connection) else { return };
        if !time.is_zero() {
            let until = now.monotonic + time;
            connection.muted = Some((now.monotonic, until));
            self.timers.insert((until, Timer::Unmute(exchange.connection)));
        }
    }

    pub(super) fn close(&mut self, id: ConnectionId, reason: CloseReason) {
        self.disconnected(id);
        self.out.push(Output::Close(id, reason));
    }
}

fn exchange(
    (connection, client_host): (ConnectionId, IpAddr),
    frame: Bytes,
) -> Result<(Exchange, ottla_protocol::Decoder), CloseReason> {
    let request =
        frame::decode_request_header(frame).map_err(|error| CloseReason::Malformed(error.to_string()))?;
    let exchange = Exchange {
        connection,
        api_key: request.api_key,
        version: request.api_version,
        correlation_id: request.correlation_id,
        client_id: request.client_id.unwrap_or_default(),
        client_host,
        throttle_time_ms: 0,
        has_met: false,
        effect: None,
        asked: None,
    };
    Ok((exchange, request.body))
}
