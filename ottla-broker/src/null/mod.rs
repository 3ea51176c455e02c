//! A broker that costs next to nothing, so that what is measured is the client.
//!
//! It acknowledges every record at once and keeps none; every log is endless and made of a few batches that were
//! prepared when it started. It has topics of every name, and groups of one member, whose commits it forgets. No
//! fetch sessions, no transactions; nothing is checked. One thread per connection, blocking, which is what costs least.
//!
//! ```no_run
//! use ottla_broker::null::{NullBroker, Shape};
//!
//! let broker = NullBroker::bind("127.0.0.1:0")?.partitions(6).records(Shape { record_size: 1_000, ..Shape::default() });
//! println!("{}", broker.address()?);
//! broker.serve()
//! # .map(|_| ())
//! # ; Ok::<_, std::io::Error>(())
//! ```

mod answers;
mod batches;
mod conversation;
mod coordinator;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs},
    sync::{Arc, atomic::AtomicI64},
};

pub use batches::{Shape, sample_values};

use self::{answers::Answers, batches::Prepared};

/// A broker that acknowledges at once, keeps nothing, and serves the same batches for ever.
#[derive(Debug)]
#[must_use = "it answers nobody until it serves"]
pub struct NullBroker {
    listener: TcpListener,
    partitions: i32,
    shape: Shape,
    topics: Vec<(String, Shape)>,
}

/// What all connections of a broker share.
#[derive(Debug)]
struct Logs {
    address: SocketAddr,
    partitions: i32,
    default: Prepared,
    topics: BTreeMap<String, Prepared>,
    next_producer_id: AtomicI64,
}

impl Logs {
    fn of(&self, topic: &str) -> &Prepared {
        self.topics.get(topic).unwrap_or(&self.default)
    }
}

impl NullBroker {
    /// Takes the address; port 0 takes one that is free.
    ///
    /// # Errors
    /// When the address is in use, or is none of this machine.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        Ok(Self { listener, partitions: 6, shape: Shape::default(), topics: Vec::new() })
    }

    /// How many partitions every topic has: 6 if not set.
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = partitions;
        self
    }

    /// What the logs of topics are made of.
    pub fn records(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    /// What the logs of this topic are made of, if not of what all are.
    pub fn topic(mut self, name: &str, shape: Shape) -> Self {
        self.topics.push((name.to_owned(), shape));
        self
    }

    /// Where it listens, and where clients are told to connect to.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves every connection on a thread of its own, on and on. It blocks; it ends with the process.
    ///
    /// # Errors
    /// When a batch of the wanted shape cannot be made, or no connection can be accepted any more.
    pub fn serve(self) -> io::Result<Infallible> {
        let prepare = |shape: &Shape| shape.prepare().map_err(io::Error::other);
        let topics = self.topics.iter().map(|(name, shape)| Ok((name.clone(), prepare(shape)?)));
        let logs = Arc::new(Logs {
            address: self.address()?,
            partitions: self.partitions,
            default: prepare(&self.shape)?,
            topics: topics.collect::<io::Result<_>>()?,
            next_producer_id: AtomicI64::new(1_000),
        });
        loop {
            let (stream, peer) = self.listener.accept()?;
            let answers = Answers::new(Arc::clone(&logs));
            #[expect(clippy::disallowed_methods, reason = "it measures clients, and is never simulated")]
            std::thread::spawn(move || {
                if let Err(error) = conversation::hold(stream, answers) {
                    tracing::debug!(%peer, %error, "the connection ended");
                }
            });
        }
    }
}

#[cfg(test)]
mod tests;
