//! A Kafka client in which reliable consumption is part of the client.

pub mod env;
