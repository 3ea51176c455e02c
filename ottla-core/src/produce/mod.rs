//! How records reach their partition: once, in order, or with an honest answer about why not.
//!
//! ```text
//!  record ──partitioner──▶ partition_queue ──take──▶ request ──answer──▶ outcome
//!                           │  sequence: which number, which epoch      │
//!                           │  in_flight: how many at once              │
//!                           └◀──────── again, split, renumbered ────────┘
//! ```
//!
//! A [`PartitionQueue`] is everything that the producer knows of one partition. It is a pure state machine: the driver
//! holds it behind a lock, hands it records and answers, and carries out what [`PartitionQueue::next`] says.

mod in_flight;
mod outcome;
mod partition_queue;
mod partitioner;
mod sequence;
mod split;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod queue_tests;

pub use self::{
    in_flight::{Leader, MAX_IN_FLIGHT},
    outcome::{Attempt, Fate},
    partition_queue::{
        Completion, Facts, GivenUp, Next, Outgoing, PartitionQueue, QueueSettings, Refusal, Settled, Ticket,
    },
    partitioner::{murmur2, next_sticky, partition_for_key},
    sequence::{ProducerIdentity, Stamp},
};
