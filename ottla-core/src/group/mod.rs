//! A consumer's membership in a group (classic protocol), and the lease under which it may hand out records.
//!
//! ```text
//!   metadata ──┐                                    ┌── JoinGroup, SyncGroup, Heartbeat, LeaveGroup
//!   answers  ──┼──▶ member ─────────── actions ─────┼── partitions: assign, revoke, lost
//!   time     ──┘      │ leader: assignor            └── failed
//!                     ▼
//!                   lease ──▶ until when records may be handed out
//! ```
//!
//! A [`Member`] decides and has no I/O: its driver carries out each [`Action`] and tells what came of it.
//!
//! What becomes of the records of the partitions that it owns:
//!
//! ```text
//!   unpacked ──▶ Parcel ── handed out ──▶ complete ──▶ Completions ──▶ Commits ──▶ OffsetCommit
//!                  ▲                         │ dropped incomplete
//!                  └───── Redelivery ◀───────┘
//! ```

mod assignor;
mod commits;
mod completions;
mod lease;
mod member;
mod membership;
mod offset_fetch;
mod ownership;
mod parcel;
mod redelivery;
mod stall;
mod subscription;

#[cfg(test)]
mod commits_tests;
#[cfg(test)]
mod member_model_tests;
#[cfg(test)]
mod model_coordinator;
#[cfg(test)]
mod offsets_model_tests;

pub use self::{
    assignor::Assignor,
    commits::{CommitPlan, CommitSettings, Commits, Committable, Committed, Kept, Promise},
    completions::{Completions, Run},
    lease::Lease,
    member::{
        Action, Call, CallError, Departure, Failure, Joined, LeaveGroup, LossCause, Member, MemberConfig,
        State, TopicCount,
    },
    membership::{Membership, Moment, TopicPartition},
    offset_fetch::{CommittedOffset, FetchedOffsets, OFFSET_FETCH_VERSIONS, fetched_offsets, offset_fetch},
    ownership::Ownership,
    parcel::Parcel,
    redelivery::{Due, Redelivery, Rest},
    stall::{Stall, StallWatch},
};
