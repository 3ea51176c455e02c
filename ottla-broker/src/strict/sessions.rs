//! Fetch sessions as one connection sees them (KIP-227).
//!
//! ```text
//!               answer with a session               the same session, next epoch
//!   Unknown ─────────────────────────► Expected ◄──────────────────────────────┐
//!      ▲                                 │  └───────────────────────────────────┘
//!      │ an answer that was changed      │ an error, or an answer without a session
//!      │                                 ▼
//!      └────────────────────────────── Ended ──► only a full fetch
//! ```

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
