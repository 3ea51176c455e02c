//! An embedded Kafka-compatible cluster.

pub mod disk;
pub mod io;
