//! The classic group coordinator, looked at from outside: frames in, frames out, the same for every broker.
//!
//! ```text
//! cargo test -p ottla-broker --test groups                                    the embedded broker
//! cargo xtask kafka run --property group.min.session.timeout.ms=100 --property group.max.size=4 -- \
//!     cargo test -p ottla-broker --test groups                                Apache Kafka; --nodes 3 for failover
//! ```
//!
//! What is expected was learnt from Apache Kafka 4.3 and 3.9, error code by error code and in its order of checks. Where
//! brokers differ, the difference has an entry in [`quirks`]; one that has none is a bug.
//!
//! Tests run at the same time, each in groups of its own; those that harm the broker have it to themselves. Members that
//! are to live have sessions far longer than a test, members that are to die have short ones, and a test waits for what
//! it can see (an answer, the group's state) and never for time to pass.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test is a driver")]

mod broker;
mod client;
mod group;
mod member;
mod quirks;

mod committing;
mod deleting;
mod describing;
mod discovery;
mod failover;
mod fetching;
mod joining;
mod leaving;
mod sessions;
mod static_members;
mod syncing;
