//! Who coordinates a group, and when to ask.
//!
//! ```text
//!            at once, or when the back-off has passed           a broker is named
//!   unknown ──────────────────────────────────────────▶ asking ─────────────────▶ known
//!    ▲   ▲                                                 │                        │
//!    │   └── nobody answers, or none is there yet: ────────┘                        │
//!    │       back-off                                                               │
//!    └── the one that is known failed, or is not it any more; back-off if it was ───┘
//!        found just now: who named it may not have heard of the move yet
//! ```
//!
//! Several callers find out one after the other that a coordinator failed. It is forgotten once: who reports a node that
//! is not the one that is known comes too late.

use std::time::{Duration, Instant};

use ottla_protocol::{
    ErrorCode, Str,
    messages::{FindCoordinatorRequest, FindCoordinatorResponse},
};

use crate::{
    backoff::{Backoff, BackoffPolicy},
    metadata::BrokerAddress,
};

/// The coordinator of one key.
#[derive(Debug)]
pub struct Coordinator {
    state: State,
    backoff: Backoff,
    not_before: Option<Instant>,
    found_at: Option<Instant>,
    /// The last one that was known, to tell a move from the same answer once more.
    last: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Asking,
    Known(i32),
}

/// A coordinator was found that is not the one of before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The one of before; none the first time.
    pub from: Option<i32>,
    /// The one that is known now.
    pub to: i32,
}

impl Coordinator {
    /// Unknown; to be asked for at once.
    #[must_use]
    pub fn new(backoff: BackoffPolicy) -> Self {
        let backoff = Backoff::new(backoff);
        Self { state: State::Unknown, backoff, not_before: None, found_at: None, last: None }
    }

    /// The broker that is the coordinator, as far as is known.
    #[must_use]
    pub fn node(&self) -> Option<i32> {
        match self.state {
            State::Known(node) => Some(node),
            State::Unknown | State::Asking => None,
        }
    }

    /// The broker that was the coordinator and failed: others know better where it is now.
    #[must_use]
    pub fn failed(&self) -> Option<i32> {
        self.last.filter(|_| self.node().is_none())
    }

    /// When to ask; `None` while an answer is awaited, and while the coordinator is known.
    #[must_use]
    pub fn ask_at(&self, now: Instant) -> Option<Instant> {
        (self.state == State::Unknown).then(|| self.not_before.filter(|at| *at > now).unwrap_or(now))
    }

    /// The question goes out.
    pub fn begin(&mut self) {
        self.state = State::Asking;
    }

    /// A broker named the coordinator.
    pub fn on_found(&mut self, now: Instant, node: i32) -> Option<Moved> {
        self.state = State::Known(node);
        self.found_at = Some(now);
        let from = self.last.replace(node);
        (from != Some(node)).then_some(Moved { from, to: node })
    }

    /// Nobody answered, or there is none yet.
    pub fn on_failure(&mut self, now: Instant, random: u64) {
        self.state = State::Unknown;
        self.not_before = Some(now + self.backoff.on_failure(random));
    }

    /// `node` answered that it is not the coordinator, or cannot be reached. Gives whether it was the one that is known.
    pub fn forget(&mut self, now: Instant, node: i32, random: u64) -> bool {
        if self.state != State::Known(node) {
            return false;
        }
        self.state = State::Unknown;
        // One that served for a while has failed just now: nobody has told anything wrong yet.
        if self.found_at.is_none_or(|at| now.saturating_duration_since(at) > SERVED) {
            self.backoff.on_success();
            self.not_before = None;
        } else {
            self.not_before = Some(now + self.backoff.on_failure(random));
        }
        true
    }
}

/// A coordinator that is lost within this time after it was found counts as a failure to find one.
const SERVED: Duration = Duration::from_secs(5);

/// From here on one request asks for several keys (KIP-699).
const SEVERAL_KEYS: i16 = 4;

/// The requests that ask for the coordinators of these groups.
#[must_use]
pub fn questions(version: i16, groups: &[Str]) -> Vec<FindCoordinatorRequest> {
    // The type of key 0 is a group, which is all that version 0 knows.
    if version >= SEVERAL_KEYS {
        let coordinator_keys = groups.to_vec();
        return vec![FindCoordinatorRequest { coordinator_keys, ..FindCoordinatorRequest::default() }];
    }
    let ask = |key: &Str| FindCoordinatorRequest { key: key.clone(), ..FindCoordinatorRequest::default() };
    groups.iter().map(ask).collect()
}

/// What a broker says of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Its coordinator.
    Found(BrokerAddress),
    /// There is none, with the broker's own words: now, or for this client.
    None(ErrorCode, Option<Str>),
    /// Nothing, or a broker that cannot exist.
    Nonsense,
}

/// What `answer` says of `group`, which it was asked for in this version.
#[must_use]
pub fn told(version: i16, group: &str, answer: &FindCoordinatorResponse) -> Told {
    if version < SEVERAL_KEYS {
        let (node, host, port) = (answer.node_id, &answer.host, answer.port);
        return read(answer.error_code, answer.error_message.as_ref(), node, host, port);
    }
    let Some(told) = answer.coordinators.iter().find(|told| &*told.key == group) else {
        return Told::Nonsense;
    };
    read(told.error_code, told.error_message.as_ref(), told.node_id, &told.host, told.port)
}

fn read(code: ErrorCode, message: Option<&Str>, id: i32, host: &Str, port: i32) -> Told {
    if !code.is_ok() {
        return Told::None(code, message.filter(|text| !text.is_empty()).map(Str::detached));
    }
    // What is kept must not keep the answer's frame.
    let address =
        BrokerAddress { id, host: host.detached(), port: u16::try_from(port).unwrap_or(0), rack: None };
    if address.is_usable() { Told::Found(address) } else { Told::Nonsense }
}

#[cfg(test)]
mod tests {
    use ottla_protocol::messages::find_coordinator_response::Coordinator as Answered;

    use super::*;

    fn now() -> Instant {
        #[expect(clippy::disallowed_methods, reason = "a fixed moment to count from; tests have no clock")]
        Instant::now()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn unknown() -> Coordinator {
        Coordinator::new(BackoffPolicy::new(ms(100), ms(1_000)))
    }

    fn known(now: Instant, node: i32) -> Coordinator {
        let mut coordinator = unknown();
        coordinator.begin();
        coordinator.on_found(now, node);
        coordinator
    }

    #[test]
    fn is_asked_for_at_once_and_one_question_at_a_time() {
        let now = now();
        let mut coordinator = unknown();
        assert_eq!((coordinator.node(), coordinator.ask_at(now)), (None, Some(now)));
        coordinator.begin();
        assert_eq!((coordinator.node(), coordinator.ask_at(now)), (None, None));
        assert_eq!(coordinator.on_found(now, 2), Some(Moved { from: None, to: 2 }));
        assert_eq!((coordinator.node(), coordinator.ask_at(now)), (Some(2), None));
    }

    #[test]
    fn as_long_as_there_is_none_the_questions_come_slower() {
        let (mut coordinator, mut now) = (unknown(), now());
        let mut waits = Vec::new();
        for _ in 0..6 {
            coordinator.begin();
            coordinator.on_failure(now, 0);
            let next = coordinator.ask_at(now).unwrap();
            waits.push((next - now).as_millis());
            now = next;
        }
        assert_eq!(waits, [80, 160, 320, 640, 800, 800]);
    }

    #[test]
    fn only_the_one_that_is_known_can_be_forgotten() {
        let now = now();
        let mut coordinator = known(now, 2);
        assert!(!coordinator.forget(now, 1, 0), "somebody has found out already");
        assert_eq!(coordinator.node(), Some(2));
        assert!(coordinator.forget(now, 2, 0));
        assert!(!coordinator.forget(now, 2, 0));
        assert_eq!((coordinator.node(), coordinator.failed()), (None, Some(2)));
        coordinator.begin();
        assert!(!coordinator.forget(now, 2, 0), "it is being asked for already");
        assert_eq!(coordinator.ask_at(now), None);
    }

    #[test]
    fn one_that_served_for_a_while_is_asked_for_at_once() {
        let start = now();
        let mut coordinator = known(start, 2);
        let later = start + ms(10_000);
        assert!(coordinator.forget(later, 2, 0));
        assert_eq!(coordinator.ask_at(later), Some(later));
    }

    #[test]
    fn who_is_named_again_and_again_and_is_not_it_is_asked_for_slower_and_slower() {
        let mut now = now();
        let mut coordinator = known(now, 2);
        let mut waits = Vec::new();
        for _ in 0..4 {
            assert!(coordinator.forget(now, 2, 0));
            let next = coordinator.ask_at(now).unwrap();
            waits.push((next - now).as_millis());
            now = next;
            coordinator.begin();
            assert_eq!(coordinator.on_found(now, 2), None, "it has not moved");
        }
        assert_eq!(waits, [80, 160, 320, 640]);
        assert!(coordinator.forget(now, 2, 0));
        coordinator.begin();
        assert_eq!(coordinator.on_found(now, 3), Some(Moved { from: Some(2), to: 3 }));
    }

    fn answered(key: &str, node_id: i32, error_code: ErrorCode) -> Answered {
        let (key, host) = (Str::from(key), Str::from("b"));
        Answered { key, node_id, host, port: 9092, error_code, error_message: None }
    }

    fn at(id: i32) -> BrokerAddress {
        BrokerAddress { id, host: "b".into(), port: 9092, rack: None }
    }

    #[test]
    fn new_brokers_are_asked_for_all_groups_at_once() {
        let groups = ["a", "b", "c", "d"].map(Str::from);
        let asked = questions(4, &groups);
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].coordinator_keys, groups);
        let coordinators = vec![
            answered("b", 2, ErrorCode::NONE),
            answered("a", -1, ErrorCode::COORDINATOR_NOT_AVAILABLE),
            answered("d", -1, ErrorCode::NONE),
        ];
        let answer = FindCoordinatorResponse { coordinators, ..Default::default() };
        assert_eq!(told(4, "a", &answer), Told::None(ErrorCode::COORDINATOR_NOT_AVAILABLE, None));
        assert_eq!(told(4, "b", &answer), Told::Found(at(2)));
        assert_eq!(told(4, "c", &answer), Told::Nonsense, "it is left out");
        assert_eq!(told(4, "d", &answer), Told::Nonsense, "there is no broker -1");
    }

    #[test]
    fn old_brokers_are_asked_for_one_group_after_the_other() {
        let asked = questions(3, &["a", "b"].map(Str::from));
        assert_eq!(asked.iter().map(|request| &*request.key).collect::<Vec<_>>(), ["a", "b"]);
        let mut answer =
            FindCoordinatorResponse { node_id: 2, host: "b".into(), port: 9092, ..Default::default() };
        assert_eq!(told(3, "a", &answer), Told::Found(at(2)));
        answer.port = 70_000;
        assert_eq!(told(0, "a", &answer), Told::Nonsense);
        answer.error_code = ErrorCode::GROUP_AUTHORIZATION_FAILED;
        answer.error_message = Some("no".into());
        assert_eq!(
            told(1, "a", &answer),
            Told::None(ErrorCode::GROUP_AUTHORIZATION_FAILED, Some("no".into()))
        );
    }
}
