//! The decisions of the Ottla Kafka client, as state machines without I/O: time and randomness come in as arguments.

#[macro_use]
mod planted;

pub mod backoff;
pub mod connection;
pub mod coordinator;
pub mod fetch;
pub mod group;
pub mod metadata;
pub mod produce;
pub mod versions;
