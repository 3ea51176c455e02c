//! The group coordinator: classic groups and their committed offsets, as Apache Kafka 4.3 has them.
//!
//! ```text
//!   api ── Ask + Ticket ──► Shard ── Append ──► the replica of a partition of __consumer_offsets
//!                             │ ▲                        │
//!    Answer for the Ticket ◄──┘ └── appended, committed ─┘        mod       what goes in and out
//!                                                                 shard     the groups of one partition
//!   Shard: Loading ── everything in the log is read ──► Active    writes    what waits for replication
//!             ▲                                           │       group     one group: its state diagram
//!             └── this node leads the partition, in ──────┘       join, sync, session   what moves it
//!                 a new epoch                                     offsets   commit, fetch, delete
//!                                                                 records   the formats in the log
//! ```
//!
//! A group is looked after by the leader of the partition of `__consumer_offsets` that its id hashes to. What must
//! outlive the leader is written there with the meaning of `acks=all`: a commit, an assignment, a static member's new
//! id and the end of a group are answered when they are replicated, or with an error when that takes longer than
//! `offsets.commit.timeout.ms`. A heartbeat writes nothing: a coordinator that is cut off from its peers goes on
//! answering them.
//!
//! Pure: the time comes in, and what is to be done comes out as [`Output`]s.

mod group;
mod join;
mod member;
mod offsets;
mod records;
mod session;
mod shard;
mod sync;
mod writes;

#[cfg(test)]
mod tests;

use ottla_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use ottla_protocol::messages::offset_fetch_response::OffsetFetchResponseTopics;
use ottla_protocol::messages::{
    JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use ottla_protocol::{ErrorCode, Str};

use crate::cluster::GroupConfig;
use crate::io::Now;
use crate::node::RequestId;

use join::Replacement;
use sync::Assignment;

pub(crate) use join::Join;
pub(crate) use member::Identity;
pub(crate) use offsets::{Commit, CommitPartition, Deletion};
pub(crate) use records::Record;
pub(crate) use shard::Shard;
pub(crate) use writes::WriteId;

/// The topic that holds the state of the groups.
pub(crate) const TOPIC: &str = "__consumer_offsets";

/// Where an answer goes: a request, and which part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(crate) request: RequestId,
    pub(crate) part: usize,
}

/// What is asked of the coordinator of a group and may have to wait.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Join(Box<Join>),
    Sync(SyncGroupRequest),
    Leave(LeaveGroupRequest),
    Commit(Commit),
    /// The offsets of a group; of those that are being committed, only what is replicated.
    Fetch {
        group: OffsetFetchRequestGroup,
        require_stable: bool,
    },
    DeleteOffsets(Vec<Deletion>),
    DeleteGroup,
}

/// The answer to an [`Ask`]. An error is one of the coordinator as a whole.
pub(crate) type Answer = Result<Reply, ErrorCode>;

/// What the coordinator of a group says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
    Leave(LeaveGroupResponse),
    /// One for each partition that was named.
    Partitions(Vec<ErrorCode>),
    Offsets(Vec<OffsetFetchResponseTopics>),
    Deleted,
}

/// What a group wants of its shard.
#[derive(Debug)]
enum Effect {
    /// Answer a request.
    Answer(Ticket, Answer),
    /// Write records, then do something.
    Write(Vec<Record>, Then),
}

/// What a shard wants of its node.
#[derive(Debug)]
pub(crate) enum Output {
    /// Answer a request.
    Answer(Ticket, Answer),
    /// Append a batch of records to the log, then call [`Shard::appended`].
    Append(WriteId, Vec<Record>),
}

/// What follows a write once it is replicated, or has failed.
#[derive(Debug, Clone)]
enum Then {
    Nothing,
    Answer(Ticket, Reply),
    /// Answer a fetch: it wrote nothing, and waited for what was being written.
    Fetch(Ticket, OffsetFetchRequestGroup),
    /// The group is new, and its first `JoinGroup` may wait.
    Created(Str, Ticket),
    Assigned(Str, Assignment),
    Replaced(Str, Box<Replacement>),
}

/// The time, and the rules.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) now: Now,
    pub(crate) config: &'a GroupConfig,
}

/// The partition of [`TOPIC`] whose leader looks after a group: Kafka's `Utils.abs(groupId.hashCode()) % partitions`.
pub(crate) fn partition_of(group: &str, partitions: usize) -> i32 {
    let hash =
        group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let positive = hash.checked_abs().unwrap_or(0);
    positive % i32::try_from(partitions).unwrap_or(i32::MAX).max(1)
}
