//! The fetch session with one broker (KIP-227): after a full request only what changed is sent.
//!
//! ```text
//!                answer with an id
//!   Full ──────────────────────────▶ Incremental (epoch 1, 2, … i32::MAX, 1, …)
//!   ▲  │ answer without: the broker has no room, each request stays full │
//!   └──┘                                                                │
//!   ▲          70, 71, 106, lost answer, names ⇄ ids                    │
//!   └───────────────────────────────────────────────────────────────────┘
//! ```
//!
//! A full request that follows a broken session carries its id, which frees the broker's memory of it.

use std::collections::BTreeMap;

use ottla_protocol::{ErrorCode, Str, TopicId};

/// The epoch of a request that opens a session.
const FIRST_EPOCH: i32 = 0;
/// The epoch of a request that ends its session, or wants none.
const FINAL_EPOCH: i32 = -1;
/// The id of no session.
const NO_SESSION: i32 = 0;

/// How a request names a topic: by id from version 13 on (KIP-516), by name before.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicRef {
    /// By name.
    Name(Str),
    /// By id.
    Id(TopicId),
}

/// What a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Which assigned partition it is.
    pub id: u64,
    /// Its generation when it was asked.
    pub generation: u64,
    /// From where.
    pub offset: i64,
    /// The epoch that its leader must have; -1 for any.
    pub leader_epoch: i32,
    /// At most so many bytes, or one batch.
    pub max_bytes: i32,
}

impl Asked {
    /// Whether the broker has to be told.
    fn differs_for_the_broker(&self, other: &Self) -> bool {
        (self.offset, self.leader_epoch, self.max_bytes)
            != (other.offset, other.leader_epoch, other.max_bytes)
            && !planted!("fetch-session-offset-ignored")
    }
}

/// One request, as far as the session decides it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRequest {
    /// Id of the session.
    pub session_id: i32,
    /// Epoch of the session.
    pub session_epoch: i32,
    /// Partitions that are new or changed, in the order they were wanted; all of them in a full request.
    pub partitions: Vec<(TopicRef, i32, Asked)>,
    /// Partitions that the broker is to forget.
    pub forgotten: Vec<(TopicRef, i32)>,
}

impl SessionRequest {
    /// A request that has nothing to do with any session.
    #[must_use]
    pub fn without_session(partitions: Vec<(TopicRef, i32, Asked)>) -> Self {
        Self { session_id: NO_SESSION, session_epoch: FINAL_EPOCH, partitions, forgotten: Vec::new() }
    }
}

/// The session with one broker, of which at most one request is under way.
#[derive(Debug, Default)]
pub struct FetchSession {
    state: State,
    /// All that the request under way asks for, told or remembered.
    asked: BTreeMap<(TopicRef, i32), Asked>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Full { closes: i32 },
    Incremental { id: i32, epoch: i32 },
}

impl Default for State {
    fn default() -> Self {
        Self::Full { closes: NO_SESSION }
    }
}

impl FetchSession {
    /// The next request, which asks for all of `wanted` and nothing else.
    pub fn request(&mut self, wanted: Vec<(TopicRef, i32, Asked)>) -> SessionRequest {
        if self.names_topics_otherwise(&wanted) {
            self.restart();
        }
        let (session_id, session_epoch) = match self.state {
            State::Full { closes } => {
                self.asked.clear();
                (closes, FIRST_EPOCH)
            }
            State::Incremental { id, epoch } => (id, epoch),
        };
        let mut before = std::mem::take(&mut self.asked);
        let mut partitions = Vec::new();
        for (topic, partition, asked) in wanted {
            let key = (topic, partition);
            let known = before.remove(&key).is_some_and(|known| !asked.differs_for_the_broker(&known));
            if !known {
                partitions.push((key.0.clone(), partition, asked));
            }
            self.asked.insert(key, asked);
        }
        SessionRequest { session_id, session_epoch, partitions, forgotten: before.into_keys().collect() }
    }

    /// What the request under way asks of this partition.
    #[must_use]
    pub fn asked(&self, topic: &TopicRef, partition: i32) -> Option<Asked> {
        // A clone of a name shares its buffer.
        self.asked.get(&(topic.clone(), partition)).copied()
    }

    /// The request was answered. `false`: the answer says nothing but that the next request must be full.
    pub fn on_answer(&mut self, error: ErrorCode, session_id: i32) -> bool {
        if !error.is_ok() {
            self.restart();
            return false;
        }
        self.state = match self.state {
            State::Incremental { id, epoch } if id == session_id => {
                State::Incremental { id, epoch: if epoch == i32::MAX { 1 } else { epoch + 1 } }
            }
            // An answer to a full request, or a broker that closed the session without an error.
            _ if session_id != NO_SESSION => State::Incremental { id: session_id, epoch: 1 },
            _ => State::Full { closes: NO_SESSION },
        };
        true
    }

    /// The answer will not come: nobody knows whether the broker counted the request.
    pub fn on_lost(&mut self) {
        self.restart();
    }

    /// The request that ends the session, if there is one to end.
    pub fn close(&mut self) -> Option<SessionRequest> {
        let State::Incremental { id, .. } = std::mem::take(&mut self.state) else { return None };
        self.asked.clear();
        let (partitions, forgotten) = (Vec::new(), Vec::new());
        Some(SessionRequest { session_id: id, session_epoch: FINAL_EPOCH, partitions, forgotten })
    }

    fn restart(&mut self) {
        if let State::Incremental { id, .. } = self.state {
            self.state = State::Full { closes: id };
        }
    }

    fn names_topics_otherwise(&self, wanted: &[(TopicRef, i32, Asked)]) -> bool {
        let by_id = |topic: &TopicRef| matches!(topic, TopicRef::Id(_));
        match (self.asked.first_key_value(), wanted.first()) {
            (Some(((before, _), _)), Some((now, ..))) => by_id(before) != by_id(now),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(partitions: &[(i32, i64)]) -> Vec<(TopicRef, i32, Asked)> {
        let topic = TopicRef::Name(Str::from_static("t"));
        partitions
            .iter()
            .map(|(partition, offset)| (topic.clone(), *partition, asked(*partition, *offset)))
            .collect()
    }

    fn asked(partition: i32, offset: i64) -> Asked {
        Asked { id: partition as u64, generation: 0, offset, leader_epoch: 0, max_bytes: 1 }
    }

    fn told(request: &SessionRequest) -> Vec<(i32, i64)> {
        request.partitions.iter().map(|(_, partition, asked)| (*partition, asked.offset)).collect()
    }

    /// A session that has asked for partitions 0 and 1 at offset 0 and was given the id 5.
    fn established() -> FetchSession {
        let mut session = FetchSession::default();
        let request = session.request(wants(&[(0, 0), (1, 0)]));
        assert_eq!((request.session_id, request.session_epoch), (0, 0));
        assert_eq!(told(&request), [(0, 0), (1, 0)]);
        assert!(session.on_answer(ErrorCode::NONE, 5));
        session
    }

    #[test]
    fn tells_only_what_changed() {
        let mut session = established();
        let request = session.request(wants(&[(0, 0), (1, 7), (2, 0)]));
        assert_eq!((request.session_id, request.session_epoch), (5, 1));
        assert_eq!(told(&request), [(1, 7), (2, 0)]);
        assert!(request.forgotten.is_empty());
        let topic = TopicRef::Name(Str::from_static("t"));
        assert_eq!(session.asked(&topic, 0), Some(asked(0, 0)), "asked for without being told");
    }

    #[test]
    fn a_new_generation_of_the_same_place_is_remembered_without_being_told() {
        let mut session = established();
        let mut again = wants(&[(0, 0), (1, 0)]);
        again[0].2.generation = 1;
        assert!(session.request(again).partitions.is_empty());
        assert_eq!(session.asked(&TopicRef::Name(Str::from_static("t")), 0).unwrap().generation, 1);
    }

    #[test]
    fn forgets_what_is_not_wanted_any_more() {
        let mut session = established();
        let request = session.request(wants(&[(1, 0)]));
        assert_eq!(request.forgotten, [(TopicRef::Name(Str::from_static("t")), 0)]);
        assert!(request.partitions.is_empty());
        assert!(session.on_answer(ErrorCode::NONE, 5));
        assert_eq!(told(&session.request(wants(&[(0, 0), (1, 0)]))), [(0, 0)]);
    }

    #[test]
    fn a_broker_without_room_is_asked_in_full_each_time() {
        let mut session = FetchSession::default();
        for _ in 0..2 {
            let request = session.request(wants(&[(0, 0)]));
            assert_eq!((request.session_id, request.session_epoch, told(&request)), (0, 0, vec![(0, 0)]));
            assert!(session.on_answer(ErrorCode::NONE, 0));
        }
    }

    #[test]
    fn a_session_error_starts_over_and_frees_the_old_session() {
        for error in [
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
            ErrorCode::INVALID_FETCH_SESSION_EPOCH,
            ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
        ] {
            let mut session = established();
            session.request(wants(&[(0, 0), (1, 0)]));
            assert!(!session.on_answer(error, 0));
            let request = session.request(wants(&[(0, 0), (1, 0)]));
            assert_eq!((request.session_id, request.session_epoch), (5, 0));
            assert_eq!(told(&request), [(0, 0), (1, 0)]);
            assert!(session.on_answer(ErrorCode::NONE, 6));
            assert_eq!(session.request(wants(&[(0, 1), (1, 0)])).session_id, 6);
        }
    }

    #[test]
    fn a_lost_answer_starts_over() {
        let mut session = established();
        session.request(wants(&[(0, 3), (1, 0)]));
        session.on_lost();
        let request = session.request(wants(&[(0, 3), (1, 0)]));
        assert_eq!((request.session_epoch, told(&request)), (0, vec![(0, 3), (1, 0)]));
    }

    #[test]
    fn a_change_from_names_to_ids_starts_over() {
        let mut session = established();
        let by_id = vec![(TopicRef::Id(TopicId([1; 16])), 0, asked(0, 0))];
        let request = session.request(by_id);
        assert_eq!((request.session_id, request.session_epoch), (5, 0));
        assert!(request.forgotten.is_empty(), "a full request says all there is to say");
    }

    #[test]
    fn epochs_wrap_past_the_reserved_ones() {
        let mut session = established();
        session.state = State::Incremental { id: 5, epoch: i32::MAX };
        assert_eq!(session.request(wants(&[(0, 0)])).session_epoch, i32::MAX);
        session.on_answer(ErrorCode::NONE, 5);
        assert_eq!(session.request(wants(&[(0, 0)])).session_epoch, 1);
    }

    #[test]
    fn closing_ends_what_was_opened_and_nothing_else() {
        let request = established().close().unwrap();
        assert_eq!((request.session_id, request.session_epoch), (5, -1));
        assert!(FetchSession::default().close().is_none());
    }
}
