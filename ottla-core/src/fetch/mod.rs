//! Fetching: from positions to records.
//!
//! ```text
//!              plan_fetch                on_fetch                      take            unpack
//!   cursors ───────────────▶ request ──▶ response ──▶ ranges in queues ─────▶ range ───────────▶ sections of records
//!      ▲                                                                                          │
//!      └──────────────────────────────────────── finish ──────────────────────────────────────────┘
//! ```
//!
//! [`Partitions`] is all of a consumer's partitions and decides everything: what each broker is asked next, what its
//! answers mean, what `poll` gets. Every partition is a state machine of its own (the private `cursor`), every broker
//! has a [`FetchSession`], and all share one [`Budget`].

mod absence;
mod budget;
mod buffer;
mod cursor;
mod isolation;
mod partitions;
mod pause;
mod session;
mod source;
mod spec;
mod trouble;
mod truncation;
mod unpack;

#[cfg(test)]
mod test_batches;

use std::time::{Instant, SystemTime};

pub use self::{
    absence::{Absence, TopicWord},
    budget::{Budget, Lease},
    buffer::Range,
    cursor::{LeaderNews, LogMarks, Start},
    isolation::AbortedTransactions,
    partitions::{
        CatchUp, Effects, FetchAsk, FetchPlan, FetchSettings, Finished, Handout, IsolationLevel, LeaderHint,
        LookUpAsk, LookUpPlan, Outcome, Partitions, PositionReset, Ticket,
    },
    pause::Pause,
    session::{Asked, FetchSession, SessionRequest, TopicRef},
    spec::{EARLIEST_TIMESTAMP, LATEST_TIMESTAMP, OffsetSpec, Query, Reset, to_millis},
    trouble::Trouble,
    truncation::{EpochEnd, Position},
    unpack::{Section, Unpacked, unpack},
};

/// The moment at which something happens, and a random number for it.
#[derive(Debug, Clone, Copy)]
pub struct Tick {
    /// The monotonic clock.
    pub now: Instant,
    /// The wall clock: resets by duration count back from it.
    pub wall: SystemTime,
    /// Any random number: jitter.
    pub random: u64,
}
