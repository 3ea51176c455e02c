//! An embedded Kafka-compatible cluster.

pub mod io;
