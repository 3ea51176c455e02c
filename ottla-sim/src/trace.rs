//! What happened in a run: a hash over all of it, and the last events for a human.
//!
//! Two runs of one seed must give the same hash. Everything that one task can notice of another goes into it: the
//! order in which tasks are polled, every delivery of bytes with the bytes' hash, and every fault.

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use crate::world::HostId;

/// How many events a failure shows.
const KEPT: usize = 60;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A task began.
    Spawned { host: HostId, name: &'static str },
    /// A connection attempt left `from`.
    Connecting { connection: u64, from: HostId, to: HostId },
    /// It arrived and waits in the backlog.
    Connected { connection: u64 },
    /// Nobody listens.
    Refused { connection: u64 },
    /// A piece of a stream reached `to`'s socket buffer.
    Delivered { connection: u64, to: HostId, length: usize, hash: u64 },
    /// The peer will send no more.
    Finished { connection: u64, to: HostId },
    /// The peer, or the network, broke the connection.
    Reset { connection: u64, to: HostId },
    /// A message between brokers arrived.
    Message { from: HostId, to: HostId, hash: u64 },
    /// A message between brokers did not arrive.
    MessageLost { from: HostId, to: HostId },
    /// A host's processes were killed, or its power failed.
    Crashed { host: HostId, power_lost: bool },
    /// A host came back after a crash.
    Started { host: HostId },
    /// SIGSTOP.
    Frozen { host: HostId },
    /// SIGCONT.
    Thawed { host: HostId },
    /// Packets from one host to another vanish.
    Blocked { from: HostId, to: HostId },
    /// They arrive again.
    Unblocked { from: HostId, to: HostId },
    /// A disk did something.
    Disk { host: HostId, operation: &'static str, length: usize, hash: u64 },
    /// The scenario said something.
    Note(Arc<str>),
}

/// The record of one run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: Hasher,
    count: u64,
    last: VecDeque<(Duration, Event)>,
    everything: Option<Vec<(Duration, Event)>>,
}

impl Trace {
    /// A trace that also keeps every event, to find where two runs part.
    pub(crate) fn recording() -> Self {
        Self { everything: Some(Vec::new()), ..Self::default() }
    }

    /// A task was polled. Only hashed: there are too many to keep.
    pub(crate) fn polled(&mut self, at: Duration, task: u64) {
        self.hash.word(at.as_nanos() as u64);
        self.hash.word(task);
    }

    pub(crate) fn event(&mut self, at: Duration, event: Event) {
        self.count += 1;
        self.hash.word(at.as_nanos() as u64);
        event.hash_into(&mut self.hash);
        if let Some(everything) = &mut self.everything {
            everything.push((at, event.clone()));
        }
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back((at, event));
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The last events as text, oldest first.
    pub(crate) fn last(&self, names: &[Arc<str>]) -> Vec<String> {
        self.last.iter().map(|(at, event)| render(*at, event, names)).collect()
    }

    /// All events as text; empty unless it was made by [`Trace::recording`].
    pub(crate) fn everything(&self, names: &[Arc<str>]) -> Vec<String> {
        self.everything.iter().flatten().map(|(at, event)| render(*at, event, names)).collect()
    }
}

fn render(at: Duration, event: &Event, names: &[Arc<str>]) -> String {
    format!("{:>10.3} s  {}", at.as_secs_f64(), Named { event, names })
}

/// An event with its hosts' names.
struct Named<'a> {
    event: &'a Event,
    names: &'a [Arc<str>],
}

impl Named<'_> {
    fn host(&self, id: HostId) -> &str {
        self.names.get(id.0 as usize).map_or("?", |name| name)
    }
}

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.event {
            Event::Spawned { host, name } => write!(f, "{}: task {name} begins", self.host(*host)),
            Event::Connecting { connection, from, to } => {
                write!(f, "{} -> {}: connection {connection} opens", self.host(*from), self.host(*to))
            }
            Event::Connected { connection } => write!(f, "connection {connection} is established"),
            Event::Refused { connection } => write!(f, "connection {connection} is refused"),
            Event::Delivered { connection, to, length, hash } => {
                write!(f, "{}: {length} bytes on connection {connection} ({hash:016x})", self.host(*to))
            }
            Event::Finished { connection, to } => {
                write!(f, "{}: end of stream on connection {connection}", self.host(*to))
            }
            Event::Reset { connection, to } => write!(f, "{}: connection {connection} reset", self.host(*to)),
            Event::Message { from, to, hash } => {
                write!(f, "{} -> {}: broker message ({hash:016x})", self.host(*from), self.host(*to))
            }
            Event::MessageLost { from, to } => {
                write!(f, "{} -> {}: broker message lost", self.host(*from), self.host(*to))
            }
            Event::Crashed { host, power_lost: false } => write!(f, "{}: killed", self.host(*host)),
            Event::Crashed { host, power_lost: true } => write!(f, "{}: power lost", self.host(*host)),
            Event::Started { host } => write!(f, "{}: started again", self.host(*host)),
            Event::Frozen { host } => write!(f, "{}: frozen", self.host(*host)),
            Event::Thawed { host } => write!(f, "{}: thawed", self.host(*host)),
            Event::Blocked { from, to } => {
                write!(f, "{} -> {}: packets vanish", self.host(*from), self.host(*to))
            }
            Event::Unblocked { from, to } => {
                write!(f, "{} -> {}: packets arrive again", self.host(*from), self.host(*to))
            }
            Event::Disk { host, operation, length, .. } => {
                write!(f, "{}: disk: {operation}, {length} bytes", self.host(*host))
            }
            Event::Note(text) => write!(f, "-- {text}"),
        }
    }
}

impl Event {
    fn hash_into(&self, hash: &mut Hasher) {
        match self {
            Self::Spawned { host, name } => hash.words([1, host.0.into(), hash_bytes(name.as_bytes())]),
            Self::Connecting { connection, from, to } => {
                hash.words([2, *connection, from.0.into(), to.0.into()]);
            }
            Self::Connected { connection } => hash.words([3, *connection]),
            Self::Refused { connection } => hash.words([4, *connection]),
            Self::Delivered { connection, to, length, hash: bytes } => {
                hash.words([5, *connection, to.0.into(), *length as u64, *bytes]);
            }
            Self::Finished { connection, to } => hash.words([6, *connection, to.0.into()]),
            Self::Reset { connection, to } => hash.words([7, *connection, to.0.into()]),
            Self::Message { from, to, hash: bytes } => {
                hash.words([8, from.0.into(), to.0.into(), *bytes]);
            }
            Self::MessageLost { from, to } => hash.words([9, from.0.into(), to.0.into()]),
            Self::Crashed { host, power_lost } => hash.words([10, host.0.into(), (*power_lost).into()]),
            Self::Started { host } => hash.words([11, host.0.into()]),
            Self::Frozen { host } => hash.words([12, host.0.into()]),
            Self::Thawed { host } => hash.words([13, host.0.into()]),
            Self::Blocked { from, to } => hash.words([14, from.0.into(), to.0.into()]),
            Self::Unblocked { from, to } => hash.words([15, from.0.into(), to.0.into()]),
            Self::Disk { host, operation, length, hash: bytes } => {
                let operation = hash_bytes(operation.as_bytes());
                hash.words([16, host.0.into(), operation, *length as u64, *bytes]);
            }
            Self::Note(text) => hash.words([17, hash_bytes(text.as_bytes())]),
        }
    }
}

/// A hash that is the same on every machine and in every release (std's promises neither).
#[derive(Debug, Clone, Copy)]
struct Hasher(u64);

impl Default for Hasher {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher {
    fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    fn words<const N: usize>(&mut self, words: [u64; N]) {
        for word in words {
            self.word(word);
        }
    }

    fn finish(self) -> u64 {
        (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93)
    }
}

/// The hash of some bytes.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = Hasher::default();
    hash.word(bytes.len() as u64);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash.word(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    hash.word(u64::from_le_bytes(last));
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_depends_on_every_byte_and_on_the_length() {
        assert_ne!(hash_bytes(b""), hash_bytes(b"\0"));
        assert_ne!(hash_bytes(b"12345678"), hash_bytes(b"12345678\0"));
        assert_ne!(hash_bytes(b"123456789abcdef"), hash_bytes(b"123456789abcdeg"));
    }

    #[test]
    fn the_last_events_are_kept_and_name_their_hosts() {
        let mut trace = Trace::default();
        for _ in 0..KEPT + 5 {
            trace.event(Duration::from_millis(1500), Event::Frozen { host: HostId(0) });
        }
        let last = trace.last(&["broker-0".into()]);
        assert_eq!(last.len(), KEPT);
        assert_eq!(last[0].trim(), "1.500 s  broker-0: frozen");
    }
}
