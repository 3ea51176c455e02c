//! The deterministic world in which the real client runs against the embedded broker: virtual time, a virtual network,
//! faults on demand, one thread. A seed and a commit reproduce a run byte for byte.
//!
//! ```
//! use ottla::{Consumer, OffsetSpec, Producer, Record, TopicPartition};
//! use ottla_sim::Sim;
//! use std::time::Duration;
//!
//! // Four worlds, each run twice to prove that it is repeatable. Some simulated minutes, well below a second.
//! Sim::seeds(0..4).run(async |world| {
//!     let cluster = world.cluster(3).await;
//!     cluster.topic("orders", 1).await;
//!     let client = cluster.client();
//!     let producer = Producer::builder(&client).build()?;
//!     producer.send("orders", Record::new("before")).await?;
//!
//!     let leader = cluster.leader("orders", 0).expect("a leader");
//!     leader.freeze(); // SIGSTOP: connections stay up, nothing is answered
//!     producer.send("orders", Record::new("meanwhile")).await?; // another broker takes over
//!     leader.thaw();
//!
//!     let consumer = Consumer::builder(&client).build()?;
//!     consumer.assign([(TopicPartition::new("orders", 0), OffsetSpec::Earliest)])?;
//!     for expected in ["before", "meanwhile"] {
//!         let record = consumer.recv().await?.expect("the consumer is open");
//!         assert_eq!(record.view().value(), Some(expected.as_bytes()));
//!     }
//!     Ok::<_, ottla::Error>(())
//! });
//! ```
//!
//! # What is real and what is not
//!
//! Real: the whole client, from its public API down to the bytes that it reads and writes; the broker's state machines,
//! its log format, its recovery. Virtual: the clock (tokio's, paused: it jumps to the next timer whenever nothing can
//! run), sockets, names, disks, processes. A run of minutes takes milliseconds.
//!
//! # Hosts
//!
//! A [`World`] has hosts, each with one process. Everything that a client does on a host, it does through the
//! [`SimEnv`] of that host, so that the host can be
//!
//! | fault | call | what others see |
//! |---|---|---|
//! | stopped (SIGSTOP) | [`Host::freeze`], [`Host::thaw`] | connections stay up and are even accepted; silence |
//! | killed (`kill -9`) | [`Host::crash`], [`Host::start`] | end of stream or reset; then connections are refused |
//! | without power | [`Host::lose_power`] | silence; after the restart, a reset on the next write |
//! | cut off | [`Network::block`] | silence, in one direction or both; after healing, TCP's retransmissions |
//! | asleep (a closed lid, a suspended VM) | [`Cluster::while_clients_sleep`] | silence; its monotonic clock stands still |
//!
//! Links can be slow, lossy, narrow, or break at random bytes ([`Conditions`]). The brokers of a [`Cluster`] are
//! hosts; the test itself runs on host `test`, which never fails. A broker can also be harmed by kind of request: the
//! next ones, or their answers, get lost ([`Broker::interfere`]), they wait while everything else is served
//! ([`Broker::hold`]), or anything else that [`Cluster::faults`] can do to them happens.
//!
//! Brokers are [strict](ottla_broker::strict): a client that does what no broker refuses and no good client does, such
//! as other records under a sequence that was written, fails the run.
//!
//! # Groups
//!
//! A [`group::Group`] has members that handle records. They tell a [`history::GroupHistory`] what they own, what they are
//! handed and what they have done; it is checked against the brokers' logs and the commits that the coordinator stored
//! ([`Cluster::commits`]).
//!
//! # Failed runs
//!
//! A run fails when the scenario panics or returns an error; when a task of any host panics; when what
//! [`World::until`] waits for does not come true within its bound of virtual time; when time stands still; when the
//! second run of a seed is not the same as the first. The [`Report`](kit::Report) says what was expected, what happened,
//! the last events before that, and the command that replays the seed.
//!
//! # What makes a run unrepeatable
//!
//! Randomness that does not come from [`Env::random`](ottla::env::Env::random), iteration over std's `HashMap`, threads,
//! an unbiased `tokio::select!` (write `biased;`), a `tokio::sync::watch` with many receivers, the system's clock. This
//! concerns the code under test as well; ottla keeps to it.

mod broker;
mod cluster;
mod env;
mod failure;
mod gate;
pub mod group;
pub mod history;
pub mod hostile;
mod interference;
pub mod kit;
pub mod load;
mod logged;
mod met;
mod names;
pub mod net;
mod operator;
mod panics;
pub mod proxy;
pub mod swarm;
mod trace;
mod truth;
mod world;

/// The README's example runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use self::{
    cluster::{Broker, Cluster},
    env::SimEnv,
    interference::Interference,
    kit::Sim,
    logged::Logged,
    met::Counts,
    net::{Conditions, Ending},
    operator::Wire,
    world::{Host, Network, Running, World},
};
