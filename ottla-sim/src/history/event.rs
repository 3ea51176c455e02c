//! What a history is made of.

use std::time::Duration;

use ottla::TopicPartition;

/// One thing that happened. A history is a sequence of them, in the order in which they became known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// When: since the history began, by the clock that also dates stored commits.
    pub at: Duration,
    /// Who did it.
    pub actor: Actor,
    /// Whether it begins, or how it ended.
    pub outcome: Outcome,
    /// What it is.
    pub what: What,
    /// Why it failed, or why nobody knows.
    pub error: Option<Failed>,
}

/// A process, in one of its lives. 0 is whoever watches and does harm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Actor {
    /// The process' number; the same one after it was started again.
    pub process: u32,
    /// How often it was started.
    pub incarnation: u32,
}

impl Actor {
    /// Who watches and does harm.
    pub const OBSERVER: Self = Self { process: 0, incarnation: 0 };

    /// The first life of a process.
    #[must_use]
    pub fn first(process: u32) -> Self {
        Self { process, incarnation: 1 }
    }
}

/// Whether something begins, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It begins.
    Invoke,
    /// It happened.
    Ok,
    /// It definitely did not happen, and never will.
    Fail,
    /// Nobody knows; or it has no beginning and no end.
    Info,
}

/// Why something failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The error's stable name.
    pub code: String,
    /// Whether it definitely did not happen.
    pub definite: bool,
    /// Whether it may succeed when it is tried again.
    pub retriable: bool,
}

/// A record, or a place for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Of which partition.
    pub partition: TopicPartition,
    /// At which offset, if that is known; for a commit and a position, that of the next record.
    pub offset: Option<i64>,
    /// What it says; unique among all that is sent. See [`value_of`].
    pub value: Option<Box<str>>,
}

impl Entry {
    /// An offset of a partition.
    #[must_use]
    pub fn at(partition: TopicPartition, offset: i64) -> Self {
        Self { partition, offset: Some(offset), value: None }
    }

    /// A record that is sent, or was read.
    #[must_use]
    pub fn record(partition: TopicPartition, offset: Option<i64>, value: impl Into<Box<str>>) -> Self {
        Self { partition, offset, value: Some(value.into()) }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A process begins its life.
    Open(Open),
    /// Records are sent. `Invoke` and the end are told apart by their values: a producer has many on their way.
    Send(Vec<Entry>),
    /// Records were handed to the application.
    Poll(Vec<Entry>),
    /// The application has done what these records ask for.
    Process(Vec<Entry>),
    /// A member commits.
    Commit(Vec<Entry>),
    /// A consumer without group reads these partitions from these positions on, and nothing else; without an offset,
    /// from wherever.
    Assign(Vec<Entry>),
    /// A consumer goes on at these positions.
    Seek(Vec<Entry>),
    /// Partitions come to a member of a group, or go.
    Rebalance {
        /// Which way.
        change: Change,
        /// Which.
        partitions: Vec<TopicPartition>,
    },
    /// A process ends by itself.
    Close,
    /// A process is killed.
    Crash,
    /// Something goes wrong, on purpose.
    Fault(String),
    /// All faults are over; records must be written and read again within so long.
    Heal(Duration),
    /// The truth: what the brokers have in their logs at the end.
    Log(Vec<Entry>),
    /// The truth: logs begin at these offsets from now on. What is before is gone, and may be passed; the other truth tells it
    /// all the same.
    Begin(Vec<Entry>),
    /// The truth: a commit of a group, dated by its coordinator. In the order in which they were stored.
    Stored {
        /// Of which group.
        group: Box<str>,
        /// Where it goes on.
        offsets: Vec<Entry>,
    },
    /// A broker says what the client must not have done.
    Complaint(String),
    /// A task panicked.
    Panic(String),
    /// So much is in use of something that is bounded.
    Resource {
        /// What.
        name: String,
        /// How much is used.
        used: u64,
        /// How much may be.
        bound: u64,
    },
}

impl What {
    /// Its name in the file.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::Send(_) => "send",
            Self::Poll(_) => "poll",
            Self::Process(_) => "process",
            Self::Commit(_) => "commit",
            Self::Assign(_) => "assign",
            Self::Seek(_) => "seek",
            Self::Rebalance { .. } => "rebalance",
            Self::Close => "close",
            Self::Crash => "crash",
            Self::Fault(_) => "fault",
            Self::Heal(_) => "heal",
            Self::Log(_) => "log",
            Self::Begin(_) => "begin",
            Self::Stored { .. } => "stored",
            Self::Complaint(_) => "complaint",
            Self::Panic(_) => "panic",
            Self::Resource { .. } => "resource",
        }
    }
}

/// How a process begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Open {
    /// What it is called, for reports.
    pub name: Box<str>,
    /// What its producer promises.
    pub delivery: Delivery,
    /// The group that its consumer is a member of.
    pub group: Option<Box<str>>,
    /// How long it may go on with a partition after another has begun with it: for what is documented not to be exclusive.
    pub overlap: Duration,
}

/// What a producer's settings promise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Delivery {
    /// Each record is there once, and in the order in which it was sent.
    #[default]
    ExactlyOnce,
    /// What is sent again may be there twice, and behind what was sent later: idempotence is off.
    AtLeastOnce,
}

/// Which way partitions of a group go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The member owns them from now on.
    Assigned,
    /// It gave them up; `committed`: with everything that it has processed so far.
    Revoked {
        /// Whether the commit succeeded.
        committed: bool,
    },
    /// It learned that it does not own them any more.
    Lost,
}

/// The longest text that stands for itself.
const LONGEST: usize = 48;

/// How a history calls a record's value: itself, if it is short text; else how it begins, and a hash of all of it.
#[must_use]
pub fn value_of(bytes: &[u8]) -> Box<str> {
    let text = std::str::from_utf8(bytes).ok();
    match text.filter(|text| text.len() <= LONGEST && !text.contains(char::is_control)) {
        Some(text) => text.into(),
        None => {
            let of_word = |letter: &char| *letter != ' ' && !letter.is_control();
            let word: String =
                text.unwrap_or_default().chars().take_while(of_word).take(LONGEST / 2).collect();
            // FNV-1a: a file of one version is read by another.
            let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, step);
            format!("{word}…{hash:016x}").into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_values_stand_for_themselves_and_long_ones_are_told_apart() {
        assert_eq!(&*value_of(b"1-0-17 ===="), "1-0-17 ====");
        let (one, other) = (format!("1-0-17 {}", "=".repeat(99)), format!("1-0-17 {}", "=".repeat(98)));
        assert!(value_of(one.as_bytes()).starts_with("1-0-17…"));
        assert_ne!(value_of(one.as_bytes()), value_of(other.as_bytes()));
        assert_ne!(value_of(&[0xff, 0]), value_of(&[0xff, 1]));
    }
}
