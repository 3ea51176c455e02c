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

mod assignor;
mod lease;
mod member;
mod membership;
mod subscription;

pub use self::{
    assignor::Assignor,
    lease::Lease,
    member::{
        Action, Call, CallError, Departure, Failure, Joined, LeaveGroup, LossCause, Member, MemberConfig,
        State, TopicCount,
    },
    membership::{Membership, Moment, TopicPartition},
};
