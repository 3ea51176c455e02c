//! One replica of a partition: its log, its high watermark, and its part in replication.
//!
//! ```text
//!                  image: leads in a new epoch                    image: another leads in a new epoch
//!            ┌────────────────────────────► Leader ◄────────────────────────────┐
//!   Idle ────┤                                 │                                │
//!            └────────────────────────────► Follower ◄──────────────────────────┘
//!                                              │
//!       Follower: ReplicaState(resync) ──► leader
//!            ◄── diverging: cut the log there and report again
//!            ◄── batches at our end: append; report when the disk has them
//!            ◄── batches beyond our end: report with resync
//! ```
//!
//! A leader pushes each append to the followers that are level with it, while the bytes are at hand; a follower that
//! is behind is fed from the disk, a chunk at a time. What was pushed and not acknowledged is sent again after a
//! while. So an idle partition costs nothing, and a lost message costs one interval.
//!
//! The high watermark is the smallest end among the in-sync replicas, counting only what their disks confirmed.
//! While an expansion of the set is on its way to the controller, the larger set counts (KIP-497).

mod beginning;
mod follower;
mod leader;
mod tail;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ottla_protocol::{TopicId, batch};

use crate::cluster::{ClusterConfig, FlushPolicy};
use crate::image::Partition;
use crate::io::{DiskToken, NodeId, Now};
use crate::log::{BatchMeta, Floor, Log, RecoveredLog, Slice};
use crate::peer::PeerMessage;

pub(crate) use leader::Leader;

use follower::Follower;
use tail::Tail;

/// The topic and the partition of a replica.
pub(crate) type ReplicaKey = (TopicId, i32);

/// A replica of a partition on one node.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) key: ReplicaKey,
    pub(crate) log: Log,
    tail: Tail,
    node: NodeId,
    incarnation: u64,
    timing: Timing,
    role: Role,
    leader_epoch: i32,
    high_watermark: i64,
    /// The end of what the disk has confirmed.
    written: i64,
    /// Where the log begins, as far as the disk has confirmed it.
    kept_start: i64,
    /// Appends that the disk has not confirmed, with the end of the log behind each, in order.
    writing: VecDeque<(Option<DiskToken>, i64)>,
    /// The disk has no room for the next of them.
    starved: bool,
}

#[derive(Debug)]
enum Role {
    Idle,
    Leader(Leader),
    Follower(Follower),
}

#[derive(Debug, Clone, Copy)]
struct Timing {
    retry: Duration,
    lag: Duration,
    flush: FlushPolicy,
}

/// What a replica wants from its node.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    /// Append to the file and, where the flush policy asks for it, sync; then call [`Replica::written`].
    Append { data: Bytes, sync: bool },
    /// Cut the file.
    Truncate(u64),
    /// Write down where the log begins, then call [`Replica::kept`].
    Keep(Floor),
    /// What is before that position of the file is not read any more.
    Release(u64),
    /// Read whole batches for a follower, then call [`Replica::feed`].
    Read { follower: NodeId, base_offset: i64, position: u64, length: u32 },
    /// Send to another node.
    Send(NodeId, PeerMessage),
    /// Send to the controller.
    Controller(PeerMessage),
    /// More is committed, or less can be: look again at whoever waits for this replica.
    Progress,
}

impl Replica {
    /// The replica on the node of that id and registration.
    pub(crate) fn new(
        key: ReplicaKey,
        (node, incarnation): (NodeId, u64),
        config: &ClusterConfig,
        recovered: RecoveredLog,
    ) -> Self {
        let log = Log::recovered(recovered);
        let timing =
            Timing { retry: config.peer_retry, lag: config.replica_lag_time_max, flush: config.flush };
        Self {
            key,
            tail: Tail::default(),
            node,
            incarnation,
            timing,
            role: Role::Idle,
            leader_epoch: -1,
            // The leader tells it; until then nothing is known to be committed.
            high_watermark: log.start_offset(),
            written: log.end_offset(),
            kept_start: log.start_offset(),
            writing: VecDeque::new(),
            starved: false,
            log,
        }
    }

    /// The metadata has news of this partition.
    pub(crate) fn apply(&mut self, now: Now, partition: &Partition, out: &mut Vec<Effect>) {
        if partition.leader_epoch > self.leader_epoch {
            self.leader_epoch = partition.leader_epoch;
            self.take_role(now, partition, out);
            out.push(Effect::Progress);
        } else if let Role::Leader(leader) = &mut self.role {
            leader.adopt(now, partition, self.timing);
            out.push(Effect::Progress);
            self.advance(now, out);
        }
    }

    fn take_role(&mut self, now: Now, partition: &Partition, out: &mut Vec<Effect>) {
        self.role = match partition.leader {
            Some(leader) if leader == self.node => {
                self.log.begin_epoch(self.leader_epoch);
                Role::Leader(Leader::new(
                    now,
                    (self.node, self.incarnation),
                    partition,
                    self.log.end_offset(),
                ))
            }
            Some(leader) => Role::Follower(Follower::new(leader)),
            None => Role::Idle,
        };
        match self.role {
            Role::Leader(_) => self.advance(now, out),
            Role::Follower(_) => self.resync(now, out),
            Role::Idle => {}
        }
    }

    pub(crate) fn leader(&self) -> Option<&Leader> {
        match &self.role {
            Role::Leader(leader) => Some(leader),
            Role::Idle | Role::Follower(_) => None,
        }
    }

    pub(crate) fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// The first offset that is not committed: consumers read up to it.
    pub(crate) fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// The end of what the disk has confirmed.
    pub(crate) fn written_offset(&self) -> i64 {
        self.written
    }

    /// The bytes of a slice of the log, if they are still in memory.
    pub(crate) fn in_memory(&self, slice: &Slice) -> Option<Bytes> {
        self.tail.get(slice)
    }

    /// The node has asked the disk for the oldest append that has no token yet.
    pub(crate) fn asked(&mut self, token: DiskToken) {
        if let Some((unasked, _)) = self.writing.iter_mut().find(|(token, _)| token.is_none()) {
            *unasked = Some(token);
        }
    }

    /// The disk has no room for an append, which waits.
    pub(crate) fn starve(&mut self) {
        self.starved = true;
    }

    /// Whether an append waits until the disk has room: nothing more is to be appended.
    pub(crate) fn is_starved(&self) -> bool {
        self.starved
    }

    /// The disk has confirmed an append.
    pub(crate) fn confirmed(&mut self, now: Now, token: DiskToken, out: &mut Vec<Effect>) {
        while self.writing.front().is_some_and(|(asked, _)| asked.is_some_and(|asked| asked <= token)) {
            if let Some((_, end)) = self.writing.pop_front() {
                self.written = end;
                self.starved = false;
            }
        }
        match self.role {
            Role::Leader(_) => {
                self.advance(now, out);
                // An acknowledgement of the leader alone (`acks=1`) waits for this too.
                out.push(Effect::Progress);
            }
            Role::Follower(_) => self.report(now, out),
            Role::Idle => {}
        }
    }

    /// A deadline has come.
    pub(crate) fn tick(&mut self, now: Now, out: &mut Vec<Effect>) {
        match self.role {
            Role::Leader(_) => self.tick_leader(now, out),
            Role::Follower(_) => self.tick_follower(now, out),
            Role::Idle => {}
        }
    }

    /// When it wants a `tick`.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.role {
            Role::Leader(leader) => leader.deadline(&self.log, self.timing),
            Role::Follower(follower) => follower.deadline(self.timing),
            Role::Idle => None,
        }
    }

    /// Appends whole batches whose offsets and epochs are set, and which begin at the end of the log.
    fn append(&mut self, data: Bytes, out: &mut Vec<Effect>) {
        let before = self.log.size();
        for header in batch::batches(data.clone()).map_while(Result::ok) {
            if !self.log.append(BatchMeta::of(header.header(), 0)) {
                break;
            }
        }
        // The file is never given a byte that the log does not know of.
        let taken = usize::try_from(self.log.size() - before).unwrap_or(0).min(data.len());
        if taken > 0 {
            self.writing.push_back((None, self.log.end_offset()));
            let sync = self.timing.flush == FlushPolicy::BeforeAck;
            let data = data.slice(..taken);
            self.tail.push(before, data.clone());
            out.push(Effect::Append { data, sync });
        }
    }

    fn truncate(&mut self, offset: i64, out: &mut Vec<Effect>) {
        let start = self.log.start_offset();
        if offset < start {
            return self.begin_anew(Floor::at(offset), out);
        }
        let Some(size) = self.log.truncate(offset) else { return };
        out.push(Effect::Truncate(size));
        self.was_cut();
        if self.log.start_offset() < start {
            self.keep_start(out);
        }
    }

    /// What was appended behind the end of the log is not there any more.
    fn was_cut(&mut self) {
        self.tail.clear();
        let end = self.log.end_offset();
        for (_, reached) in &mut self.writing {
            *reached = end.min(*reached);
        }
        self.written = end.min(self.written);
        self.high_watermark = end.min(self.high_watermark);
    }
}

/// Puts offsets and the leader's epoch into a client's batches, and the time where the topic wants the broker's.
/// The first offset behind them is returned.
pub(crate) fn stamp(
    data: &Bytes,
    mut offset: i64,
    leader_epoch: i32,
    log_append_time: Option<i64>,
) -> (Bytes, i64) {
    let mut stamped = BytesMut::with_capacity(data.len());
    for batch in batch::batches(data.clone()).map_while(Result::ok) {
        let begin = stamped.len();
        stamped.extend_from_slice(batch.bytes());
        if let Some(bytes) = stamped.get_mut(begin..) {
            if let Some(time) = log_append_time {
                batch::set_log_append_time(bytes, time);
            }
            batch::set_base_offset_and_epoch(bytes, offset, leader_epoch);
        }
        offset += i64::from(batch.header().last_offset_delta) + 1;
    }
    (stamped.freeze(), offset)
}

#[cfg(test)]
mod tests;
