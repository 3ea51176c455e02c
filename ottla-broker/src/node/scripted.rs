//! Where scripted [faults](crate::faults) strike.
//!
//! ```text
//!   frame ──► decoded ──► meets a fault? ──► carried out ──► answer ──► changed, late, or not at all ──► driver
//!                              │                 ▲
//!                              ├── refused ──────┼────────────► answer
//!                              ├── closed        │
//!                              └── waits ────────┘
//! ```

use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::Decoder;

use super::{Exchange, Node, Outcome, Waiting};
use crate::api;
use crate::faults::{Answers, Chosen, Edit, Effect, Faults, Met, ScriptedFault, Strike};
use crate::io::{CloseReason, Now, Output};

/// How often is looked whether what is held may go on.
const LOOK_AT_HELD: Duration = Duration::from_millis(5);

/// What a fault makes wait.
#[derive(Debug)]
pub(crate) struct ScriptWait {
    pub(crate) deadline: Instant,
    what: Delayed,
}

#[derive(Debug)]
enum Delayed {
    /// It is carried out when the time has come, and the fault that holds it, if one does, has ended.
    Request(Decoder, Option<ScriptedFault>),
    Answer(Vec<Bytes>),
}

/// How a request goes on after it has met a fault.
pub(crate) enum Meeting<R> {
    /// It is carried out, what is left of it.
    CarryOut(R),
    Instead(Outcome),
}

impl ScriptWait {
    pub(crate) fn look(&mut self, node: &mut Node, now: Now, exchange: &mut Exchange) -> Option<Outcome> {
        if now.monotonic < self.deadline {
            return None;
        }
        match &mut self.what {
            Delayed::Request(body, Some(held_by)) if !held_by.has_ended() => {
                let what = Delayed::Request(body.clone(), Some(held_by.clone()));
                let deadline = now.monotonic + LOOK_AT_HELD;
                Some(Outcome::Wait(Waiting::Script(Self { deadline, what })))
            }
            Delayed::Request(body, _) => Some(api::serve(node, now, exchange, body.clone())),
            Delayed::Answer(segments) => Some(Outcome::Reply(std::mem::take(segments))),
        }
    }
}

impl Node {
    /// Lets these faults strike the requests that this node gets.
    #[must_use]
    pub fn with_faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// What a fault makes of a request before it is carried out.
    pub(crate) fn meet<R: Answers>(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        body: &Decoder,
        request: R,
    ) -> Meeting<R> {
        let Some(Strike { effect, chosen, fault }) = self.strike(exchange, &request) else {
            return Meeting::CarryOut(request);
        };
        self.out.push(Output::Note(format!("fault on {}: {effect:?}", exchange.api_key)));
        let until = |delay: Duration, held_by| {
            let what = Delayed::Request(body.clone(), held_by);
            ScriptWait { deadline: now.monotonic + delay, what }
        };
        match effect {
            Effect::Refuse(error) => {
                let mut request = request;
                if R::ONLY_READS && chosen != Chosen::All {
                    exchange.answers_also(chosen.about(), error);
                    exchange.effect = Some(says::<R>(error, chosen));
                    return Meeting::CarryOut(request);
                }
                let mut all = request.nothing_done();
                let Some(part) = request.split(&chosen) else {
                    R::fail(&mut all, error, &Chosen::All);
                    return Meeting::Instead(exchange.reply::<R>(&all));
                };
                exchange.answers_also(chosen.about(), error);
                let edit = Edit::new::<R>(move |response| {
                    let mut refused = part.nothing_done();
                    R::fail(&mut refused, error, &Chosen::All);
                    R::join(response, refused);
                });
                exchange.effect = Some(Effect::Edit(edit));
                Meeting::CarryOut(request)
            }
            Effect::AnswerWith(error) => {
                exchange.answers_also(chosen.about(), error);
                exchange.effect = Some(says::<R>(error, chosen));
                Meeting::CarryOut(request)
            }
            Effect::LoseRequest => Meeting::Instead(Outcome::Close(CloseReason::Scripted("request lost"))),
            Effect::Delay(delay) => Meeting::Instead(Outcome::Wait(Waiting::Script(until(delay, None)))),
            Effect::Hold => {
                Meeting::Instead(Outcome::Wait(Waiting::Script(until(Duration::ZERO, Some(fault)))))
            }
            Effect::CarryOutLate(delay) => {
                // Nobody waits for it on its connection.
                self.wait(exchange.clone(), Waiting::Script(until(delay, None)));
                Meeting::Instead(Outcome::Close(CloseReason::Scripted("request delivered late")))
            }
            Effect::Throttle(time) => {
                exchange.throttle_time_ms = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
                Meeting::CarryOut(request)
            }
            of_the_answer => {
                exchange.effect = Some(of_the_answer);
                Meeting::CarryOut(request)
            }
        }
    }

    fn strike<R: Answers>(&mut self, exchange: &mut Exchange, request: &R) -> Option<Strike> {
        if std::mem::replace(&mut exchange.has_met, true) {
            return None;
        }
        let met = Met { node: self.id, api: exchange.api_key, client: &exchange.client_id };
        let (image, sessions) = (&self.image, &self.fetch_sessions);
        self.faults.meet(met, &mut self.rng, |topic, partition| {
            let id = image.topic(topic).map(|topic| topic.id).unwrap_or_default();
            let part = Chosen::Topic(topic.into(), id, partition);
            let of_session = || request.session().is_some_and(|session| sessions.has(session, &part));
            (request.names(&part) || of_session()).then_some(part)
        })
    }

    /// Carries out what a fault makes of an answer.
    pub(super) fn answer_goes_wrong(
        &mut self,
        now: Now,
        exchange: &Exchange,
        effect: Effect,
        answer: Vec<Bytes>,
    ) {
        let id = exchange.connection;
        match effect {
            Effect::LoseAnswer => self.close(id, CloseReason::Scripted("answer lost")),
            Effect::Silence => self.silence(id),
            Effect::DelayAnswer(delay) => {
                let exchange = Exchange { effect: None, ..exchange.clone() };
                let deadline = now.monotonic + delay;
                let wait = Waiting::Script(ScriptWait { deadline, what: Delayed::Answer(answer) });
                self.conclude(now, &exchange, Outcome::Wait(wait));
            }
            Effect::Edit(edit) => {
                let answer = edit.apply(exchange.api_key, exchange.version, answer);
                self.send(now, exchange, answer);
            }
            Effect::Replace(bytes) => self.send(now, exchange, vec![bytes]),
            Effect::Corrupt => {
                let answer = self.corrupt(answer);
                self.send(now, exchange, answer);
            }
            Effect::Truncate(length) => {
                let mut all = Bytes::from(answer.concat());
                all.truncate(length);
                self.send(now, exchange, vec![all]);
                self.close(id, CloseReason::Scripted("answer cut short"));
            }
            // What concerns requests has struck before there was an answer.
            _ => self.send(now, exchange, answer),
        }
    }

    fn corrupt(&mut self, answer: Vec<Bytes>) -> Vec<Bytes> {
        if let Some(strict) = &self.strict {
            strict.misleads();
        }
        let mut all = answer.concat();
        let drawn = self.rng.next_u64();
        let behind_length = all.get_mut(size_of::<i32>()..).unwrap_or_default();
        let places = behind_length.len().max(1);
        if let Some(byte) = behind_length.get_mut((drawn >> 8) as usize % places) {
            *byte ^= (drawn as u8).max(1);
        }
        vec![all.into()]
    }
}

fn says<R: Answers>(error: ottla_protocol::ErrorCode, chosen: Chosen) -> Effect {
    Effect::edit::<R>(move |response| R::fail(response, error, &chosen))
}
