//! What one connection sees of fetch sessions (KIP-227) and of the leader epochs that fetches name (KIP-320).
//!
//! ```text
//!               answer with a session               the same session, next epoch
//!   Unknown ─────────────────────────► Expected ◄──────────────────────────────┐
//!      ▲                                 │  └───────────────────────────────────┘
//!      │ an answer that was changed      │ an error, or an answer without a session
//!      │                                 ▼
//!      └────────────────────────────── Ended ──► only a full fetch
//! ```

use std::collections::BTreeMap;

use ottla_protocol::{TopicId, messages::FetchRequest};

use super::{Broken, Rule};

/// The session of a connection, on which one fetch at a time is under way.
#[derive(Debug, Default)]
pub(super) struct Session {
    state: State,
    /// The epoch of the fetch under way.
    asked: i32,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    /// Nothing was answered yet: a session of an earlier connection may go on.
    #[default]
    Unknown,
    Expected {
        id: i32,
        epoch: i32,
    },
    Ended,
}

impl Session {
    pub(super) fn asked(&mut self, id: i32, epoch: i32) -> Result<(), Broken> {
        self.asked = epoch;
        // 0 begins a session, and -1 wants none.
        if epoch <= 0 {
            return Ok(());
        }
        let happened = format!("it asked for epoch {epoch} of session {id}");
        match self.state {
            State::Expected { id: expected, epoch: next } if (id, epoch) != (expected, next) => {
                Err((Rule::FetchSession, format!("epoch {next} of session {expected}"), happened))
            }
            State::Ended => {
                let expected = "a full fetch, since there is no session any more".to_owned();
                Err((Rule::FetchSession, expected, happened))
            }
            State::Expected { .. } | State::Unknown => Ok(()),
        }
    }

    pub(super) fn answered(&mut self, session: Option<i32>, changed: bool) {
        self.state = match session {
            _ if changed => State::Unknown,
            None | Some(0) => State::Ended,
            // Behind the largest epoch comes 1, since 0 would begin a session.
            Some(id) => State::Expected { id, epoch: self.asked.checked_add(1).unwrap_or(1) },
        };
    }
}

/// The newest leader epoch that a client has named for each partition. Topics without an id may have been created anew.
#[derive(Debug, Default)]
pub(super) struct LeaderEpochs(BTreeMap<(TopicId, i32), i32>);

impl LeaderEpochs {
    pub(super) fn named(&mut self, request: &FetchRequest) -> Result<(), Broken> {
        for topic in request.topics.iter().filter(|topic| !topic.topic_id.is_zero()) {
            for asked in topic.partitions.iter().filter(|asked| asked.current_leader_epoch >= 0) {
                let place = (topic.topic_id, asked.partition);
                let newest = self.0.entry(place).or_insert(asked.current_leader_epoch);
                if asked.current_leader_epoch < *newest {
                    let (id, partition) = place;
                    let expected =
                        format!("leader epoch {newest} of partition {partition} of {id}, or a later one");
                    let happened = format!("it named epoch {}", asked.current_leader_epoch);
                    return Err((Rule::LeaderEpochs, expected, happened));
                }
                *newest = asked.current_leader_epoch;
            }
        }
        Ok(())
    }
}
