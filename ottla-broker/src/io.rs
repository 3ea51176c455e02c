//! The seam of a node: everything that reaches it is an [`Input`], everything that it wants is an [`Output`].
//!
//! A node, and the controller of the cluster, are pure state machines. A driver (TCP and files, or the simulation)
//! delivers inputs, carries out outputs, and calls again with [`Input::Tick`] when `next_deadline()` has come.

use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;
use ottla_protocol::TopicId;

pub use crate::peer::PeerMessage;
use crate::strict::Violation;

/// A broker's id in the cluster, as clients see it.
pub type NodeId = i32;

/// A client connection of one node; the driver numbers them and never uses a number again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Ties a completion of the disk to its request; numbered by the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DiskToken(pub u64);

/// The time at which an input is handled: the broker has no clock of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Drives every deadline.
    pub monotonic: Instant,
    /// Milliseconds since 1970, for the timestamps of records (`message.timestamp.type=LogAppendTime`).
    pub wall_ms: i64,
}

/// Something that happened to a node.
#[derive(Debug, Clone)]
pub enum Input {
    /// A client connected, from that address.
    Connected(ConnectionId, IpAddr),
    /// A whole request frame of a client, without its four bytes of length.
    Frame(ConnectionId, Bytes),
    /// A client's connection ended; nothing can be sent on it any more.
    Disconnected(ConnectionId),
    /// The disk finished what [`Output::Disk`] asked for. Requests to one file complete in the order they were made.
    Disk(DiskToken, DiskResult),
    /// A message from another node, or from the controller. Messages of one sender arrive in order or not at all.
    Peer(Sender, PeerMessage),
    /// A deadline has come. The first one starts the node.
    Tick,
}

/// Something that a node wants from its driver. Outputs are carried out in order.
#[derive(Debug, Clone)]
pub enum Output {
    /// Answer the oldest unanswered request of a connection: a response frame whose segments include the four bytes of
    /// length, or no segments for a request that gets no response (produce with `acks=0`).
    Reply(ConnectionId, Vec<Bytes>),
    /// Close a client's connection after what was replied so far.
    Close(ConnectionId, CloseReason),
    /// Ask something of the disk.
    Disk(DiskToken, DiskRequest),
    /// Send a message to another node, or to the controller.
    Peer(Recipient, PeerMessage),
    /// Something that happened and that a driver may tell: a scripted fault has struck, a client broke a rule.
    Note(String),
    /// Something is wrong that a person has to put right: the disk is full.
    Trouble(String),
    /// A client broke a rule, which a [strict](crate::strict) node noticed.
    Violation(Violation),
    /// The node cannot go on (its disk failed, or its data belongs to another cluster). It handles nothing any more:
    /// the driver treats it as crashed and shows the text.
    Halt(String),
}

/// Why a node closed a client's connection: where Kafka would close it too.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The frame is no request, or its body is not what its header promised.
    Malformed(String),
    /// The API is unknown, or not served in that version. (ApiVersions is answered instead, KIP-511.)
    Unsupported {
        /// The number of the API.
        api_key: i16,
        /// The version of the request.
        api_version: i16,
    },
    /// The frame is larger than `ClusterConfig::max_request_bytes`.
    FrameTooLarge(usize),
    /// More requests wait on the connection than `ClusterConfig::max_queued_bytes` allows.
    QueueFull,
    /// A produce request with `acks=0` failed, and closing is the only way to say so.
    UnacknowledgedFailure(String),
    /// A scripted [fault](crate::faults) wanted it.
    Scripted(&'static str),
    /// The answer could not be encoded in the version of the request: a defect of the broker.
    Unencodable(String),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "malformed request: {what}"),
            Self::Unsupported { api_key, api_version } => {
                write!(f, "version {api_version} of API {api_key} is not served")
            }
            Self::FrameTooLarge(size) => write!(f, "request of {size} bytes is too large"),
            Self::QueueFull => f.write_str("too many bytes of requests are waiting"),
            Self::UnacknowledgedFailure(what) => write!(f, "produce with acks=0 failed: {what}"),
            Self::Scripted(what) => write!(f, "a scripted fault: {what}"),
            Self::Unencodable(what) => write!(f, "the response cannot be encoded: {what}"),
        }
    }
}

/// Who sent a [`PeerMessage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The controller of the cluster.
    Controller,
    /// Another node.
    Node(NodeId),
}

/// Who shall get a [`PeerMessage`].
pub type Recipient = Sender;

/// A file of the node. The driver maps it to a name below its data directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileId {
    /// The log of one replica: record batches back to back, each with its offsets and leader epoch set.
    Log(TopicId, i32),
    /// A small file that is replaced as a whole (the node's metadata, the controller's state, producer snapshots).
    Meta(&'static str),
    /// A small file that belongs to one replica and is replaced as a whole.
    ReplicaMeta(TopicId, i32, &'static str),
}

/// A request to the disk.
#[derive(Debug, Clone)]
pub enum DiskRequest {
    /// Append to the end of a file, creating it.
    Append(FileId, Bytes),
    /// Make everything that was appended before survive a crash of the machine.
    Sync(FileId),
    /// Read `length` bytes at `position` (fewer at the end of the file).
    Read {
        /// The file.
        file: FileId,
        /// First byte.
        position: u64,
        /// How many bytes.
        length: u32,
    },
    /// Cut the file to `length` bytes.
    Truncate(FileId, u64),
    /// The first so many bytes of the file will not be read again, and need no room any more. Positions stay what they are.
    Release(FileId, u64),
    /// Replace a small file as a whole, atomically and durably.
    Replace(FileId, Bytes),
    /// Remove a file; not an error when it does not exist.
    Remove(FileId),
}

impl FileId {
    /// The log that a file is, or belongs to.
    #[must_use]
    pub fn log(&self) -> Option<Self> {
        match self {
            Self::Log(topic, partition) | Self::ReplicaMeta(topic, partition, _) => {
                Some(Self::Log(*topic, *partition))
            }
            Self::Meta(_) => None,
        }
    }
}

impl DiskRequest {
    /// The file that it is about.
    #[must_use]
    pub fn file(&self) -> &FileId {
        match self {
            Self::Append(file, _) | Self::Sync(file) | Self::Read { file, .. } => file,
            Self::Truncate(file, _)
            | Self::Release(file, _)
            | Self::Replace(file, _)
            | Self::Remove(file) => file,
        }
    }
}

/// The answer to a [`DiskRequest`].
#[derive(Debug, Clone)]
pub enum DiskResult {
    /// Done (everything but `Read`).
    Done,
    /// The bytes of a `Read`.
    Data(Bytes),
    /// The disk is full; the text names the file and the cause. Nothing was written, and the request waits for room: its
    /// token gets another result then. See [`Patience`](crate::disk::Patience).
    NoRoom(String),
    /// The disk failed; the text names the file and the cause.
    Failed(String),
}
