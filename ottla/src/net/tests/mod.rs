//! The drivers against scripted brokers, in memory and on a paused clock.

mod brokers;
mod client;
mod connection;
mod hostile;
mod metadata;
mod threads;
