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
//!                                                              coordinator   groups and committed offsets
//!                                                              api       one file per family of requests
//!                                                              faults    requests that go wrong on purpose
//!                                                              strict    what clients must not do
//!                                                              tcp       the driver for TCP and files
//!                                                              null      a broker that does nothing, to measure clients with
//! ```
//!
//! # A full disk
//!
//! A write that finds no room (no space, a quota, a limit of the process) waits, and is tried again twice a second; what was
//! written of it is taken back first. Its partition meanwhile takes no records, of clients or of its leader: Produce is answered
//! with `KAFKA_STORAGE_ERROR`, also what waits for that write, since nobody knows when it will be there. Commits of groups are
//! answered with `NOT_COORDINATOR`, and changes of topics time out. Everything that is there can be read, other partitions go
//! on, and when there is room so does this one: nothing acknowledged is lost, nothing is there twice. The driver logs which
//! partition and which file it is, and when there is room again.
//!
//! Apache Kafka takes a log directory offline at the first such error, and ends when it was the only one. So does a node here
//! ([`io::Output::Halt`]) when a disk does not do what it must: a write that cannot be taken back, or a failed `fsync`.
//!
//! # Where a log begins
//!
//! `DeleteRecords`, `retention.ms` and `retention.bytes` drop records that are committed, as in Apache Kafka, and followers
//! drop what their leader has dropped. Where the log begins is on the disk before anything of it goes, so that it begins no
//! earlier after a crash; Kafka writes that down once a minute. Room is given back at once (on Linux, where file systems have
//! holes; elsewhere when the topic goes). There are no segments: batch by batch is dropped, also the last ones, and the
//! `segment.*` settings do nothing. Only leaders look at the age of records, by their own clocks. The last batches of each
//! producer are remembered for good, whatever is dropped; a follower that begins anew gets them from its leader.
//!
//! # Groups
//!
//! Classic groups are those of Apache Kafka 4.3, error code by error code: one suite runs against both. The leader of a
//! partition of the internal topic `__consumer_offsets` looks after the groups that hash to it, and keeps them there in
//! Kafka's own record formats. So groups and committed offsets are in the data directory, survive `kill -9`, and move
//! to another node with the partition. The topic is created when somebody first looks for the coordinator of a group.
//!
//! Different from Apache Kafka, and meant to be:
//!
//! * [`GroupConfig`]: five partitions instead of 50, and no delay before the first rebalance of a group.
//! * A heartbeat is answered at once, whatever is being written, as up to Kafka 3.9. Since 4.0 it waits for the writes of
//!   its partition that are under way. A coordinator that is cut off from its peers therefore goes on confirming members
//!   that others have replaced: clients are tested against the worse of the two.
//! * With fewer replicas in sync than `min.insync.replicas` a write is refused at once with `COORDINATOR_NOT_AVAILABLE`,
//!   not after `offsets.commit.timeout.ms`.
//! * A coordinator that has taken over answers `OffsetFetch` once what it has loaded is known to be replicated.
//! * Offsets belong to one incarnation of a topic: those of a topic that was deleted are never given for another one of its
//!   name.
//! * Whoever waits for an assignment is told when its member is removed; Kafka leaves it without an answer.
//! * Neither offsets nor empty groups expire, and the log of the groups is not compacted.
//! * Nobody may produce to internal topics.
//!
//! Not there yet: consumer groups of KIP-848, share groups, and offsets in transactions.

#[macro_use]
mod planted;

mod api;
pub mod cluster;
pub mod controller;
mod coordinator;
pub mod disk;
pub mod faults;
pub mod image;
pub mod io;
pub mod log;
pub mod node;
pub mod null;
pub mod peer;
mod replica;
mod rng;
#[cfg(test)]
mod scenarios;
pub mod strict;
pub mod tcp;

pub use cluster::{ClusterConfig, FlushPolicy, GroupConfig, NodeConfig, ReplicaSelector};
pub use controller::Controller;
pub use log::recovery::{Recovered, RecoveredLog};
pub use node::Node;
pub use rng::Rng;
