//! Writing records: the driver of `ottla_core::produce`.
//!
//! ```text
//!  record ──append──▶ partition's open batch ──sender──▶ request ──▶ connection
//!  receipt ◀── outcome of the batch ◀── in_flight ◀── answer ◀───────────┘
//! ```
//!
//! What happens to a batch is decided in core, behind the partition's lock; here it is carried out: memory, topics,
//! one sender per broker, deadlines. Locks are taken in the order line of a sender, partition, budget, never two
//! partitions at once, and nothing waits while it holds one.

mod append;
mod budget;
mod buffers;
mod builder;
mod config;
mod handle;
mod identity;
mod in_flight;
mod inner;
mod interceptor;
mod partitioner;
mod receipt;
mod request;
mod sender;
mod topic;
mod upkeep;

#[cfg(test)]
mod tests;

pub use self::{
    append::TryEnqueueError,
    builder::ProducerBuilder,
    config::Acks,
    handle::{Producer, TopicProducer},
    interceptor::{HeaderWriter, ProducerInterceptor},
    partitioner::{Choice, Partitioner, TopicView},
    receipt::{Receipt, RecordMetadata, SendError},
};
