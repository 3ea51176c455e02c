//! An embedded Kafka-compatible cluster.
//!
//! Each [`node::Node`] and the one [`controller::Controller`] are pure state machines: an input and the time go in,
//! outputs come out, and randomness was handed over at the start. A driver gives them a world: TCP and files, or the
//! simulation. The seams are [`io`] and [`disk`]. To test or to try something out with any Kafka client, start a
//! [`tcp::Cluster`].
//!
//! ```text
//!   clients ── frames ──► Node ◄── PeerMessage ──► Node        cluster   what a cluster is configured with
//!                          │  ▲                                image     its metadata at one version
//!             DiskRequest  ▼  │  DiskResult                    controller  registrations, topics, elections
//!                          disk                                node      connections, requests that wait
//!                          │                                   replica   high watermark, followers, in-sync set
//!                       Controller ── Image ──► every Node     log       batches, epochs, producers, recovery
//!                                                              api       one file per family of requests
//!                                                              tcp       the driver for TCP and files
//! ```

mod api;
pub mod cluster;
pub mod controller;
mod coordinator;
pub mod disk;
pub mod image;
pub mod io;
pub mod log;
pub mod node;
pub mod peer;
mod replica;
mod rng;
#[cfg(test)]
mod scenarios;
pub mod tcp;

pub use cluster::{ClusterConfig, FlushPolicy, GroupConfig, NodeConfig};
pub use controller::Controller;
pub use log::recovery::{Recovered, RecoveredLog};
pub use node::Node;
pub use rng::Rng;
