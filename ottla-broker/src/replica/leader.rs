//! The leader's side of replication.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{Effect, Replica, Role, Timing, stamp};
use crate::image::Partition;
use crate::io::{NodeId, Now};
use crate::log::{EpochEnd, Log};
use crate::peer::{PeerMessage, ReplicaAppend, ReplicaState};

/// How much of the log is read for a follower at a time.
const CATCH_UP_BYTES: u32 = 1 << 20;

/// A follower that has not acknowledged this much is not pushed more; it is fed from the disk later.
const UNACKNOWLEDGED_BYTES: u64 = 16 << 20;

/// The longest time between two attempts is the retry interval times two to the power of this.
const MAX_RESEND_SHIFT: u32 = 2;

/// What a leader knows.
#[derive(Debug)]
pub(crate) struct Leader {
    /// The end of the log when the epoch began. A follower that has less has not seen the epoch.
    epoch_start: i64,
    /// The in-sync replicas, as the controller has them.
    isr: Vec<NodeId>,
    /// The version of the partition in the metadata.
    version: i32,
    /// The in-sync replicas that the controller was asked for, and when. Until it has answered, either set may be
    /// the true one.
    wanted: Option<(Vec<NodeId>, Instant)>,
    /// When to look for followers that could join the in-sync set, and report nothing because nothing happens.
    review: Option<Instant>,
    /// Who was proposed last and refused; others come first next time.
    refused: Option<NodeId>,
    incarnation: u64,
    followers: BTreeMap<NodeId, Progress>,
}

/// How far a follower has come.
#[derive(Debug)]
struct Progress {
    /// The registration under which it reported.
    incarnation: u64,
    /// What it has acknowledged; nothing until it has reported in this epoch.
    acknowledged: Option<i64>,
    /// Where its log begins, as its disk has it; -1 until it has reported in this epoch.
    start: i64,
    /// The first offset that was not sent to it.
    next: i64,
    /// A chunk is being read for it, from this offset on.
    reading: Option<i64>,
    /// When something was last sent to it or heard of it.
    active: Instant,
    /// How often the same was sent again since it was last heard of.
    resent: u32,
    /// When it was last known to have everything.
    caught_up: Instant,
    /// When it last reported, and the end of the log at that time: having reached it later, it was caught up then.
    reported: (Instant, i64),
}

impl Leader {
    pub(super) fn new(now: Now, (node, incarnation): (NodeId, u64), partition: &Partition, end: i64) -> Self {
        let progress = |_| Progress {
            incarnation: 0,
            acknowledged: None,
            start: -1,
            next: end,
            reading: None,
            active: now.monotonic,
            resent: 0,
            caught_up: now.monotonic,
            reported: (now.monotonic, end),
        };
        let followers = partition.replicas.iter().filter(|replica| **replica != node);
        Self {
            epoch_start: end,
            isr: partition.isr.clone(),
            version: partition.version,
            wanted: None,
            review: None,
            refused: None,
            incarnation,
            followers: followers.map(|replica| (*replica, progress(replica))).collect(),
        }
    }

    /// The in-sync replicas, as the controller has them.
    pub(crate) fn isr(&self) -> &[NodeId] {
        &self.isr
    }

    /// The end of the log when the epoch began.
    pub(crate) fn epoch_start(&self) -> i64 {
        self.epoch_start
    }

    /// The controller has changed the partition within the epoch.
    pub(super) fn adopt(&mut self, now: Now, partition: &Partition, timing: Timing) {
        if partition.version <= self.version {
            return;
        }
        self.review = Some(now.monotonic + timing.retry);
        for member in partition.isr.iter().filter(|member| !self.isr.contains(member)) {
            if let Some(progress) = self.followers.get_mut(member) {
                progress.caught_up = now.monotonic;
            }
        }
        self.version = partition.version;
        self.isr.clone_from(&partition.isr);
        self.wanted = None;
    }

    /// Where the logs of the followers begin.
    pub(super) fn starts(&self) -> impl Iterator<Item = (NodeId, i64)> {
        self.followers.iter().map(|(node, progress)| (*node, progress.start))
    }

    /// The followers in the in-sync set that have what begins at `offset`: how far each has come, and when it last had
    /// everything.
    pub(crate) fn in_sync_followers(&self, offset: i64) -> impl Iterator<Item = (NodeId, i64, Instant)> {
        self.followers.iter().filter_map(move |(node, progress)| {
            let end = progress.acknowledged.filter(|end| *end >= offset)?;
            let begins = (0..=offset).contains(&progress.start);
            (begins && self.isr.contains(node)).then_some((*node, end, progress.caught_up))
        })
    }

    pub(super) fn deadline(&self, log: &Log, timing: Timing) -> Option<Instant> {
        let (start, end) = (log.start_offset(), log.end_offset());
        let retry = self.wanted.as_ref().map(|(_, asked)| *asked + timing.retry);
        let resend = self.followers.values().filter_map(|progress| progress.resend_at(start, timing));
        let shrink = self.followers.iter().filter_map(|(node, progress)| {
            let behind = progress.acknowledged.is_none_or(|acknowledged| acknowledged < end);
            let counts = self.wanted.is_none() && self.isr.contains(node);
            (behind && counts).then(|| progress.caught_up + timing.lag)
        });
        retry.into_iter().chain(self.review).chain(resend).chain(shrink).min()
    }

    /// The smallest end among the replicas that count; `None` while one of them has not reported.
    fn committed(&self, node: NodeId, written: i64) -> Option<i64> {
        if planted!("broker-shows-what-is-not-replicated") {
            return Some(written);
        }
        let wanted = self.wanted.iter().flat_map(|(wanted, _)| wanted);
        self.isr.iter().chain(wanted).try_fold(written, |least, member| {
            let end = if *member == node { Some(written) } else { self.followers.get(member)?.acknowledged };
            Some(least.min(end?))
        })
    }
}

impl Progress {
    /// When to send again what is not acknowledged, or where the log begins: a node that does not answer is asked ever more
    /// slowly, since what is sent to a frozen one piles up in front of it.
    fn resend_at(&self, start: i64, timing: Timing) -> Option<Instant> {
        let unacknowledged =
            self.acknowledged.is_some_and(|acknowledged| acknowledged < self.next || self.start < start);
        unacknowledged.then(|| self.active + timing.retry * (1 << self.resent.min(MAX_RESEND_SHIFT)))
    }
}

impl Replica {
    /// Appends batches of a client, which were checked. The base offset that the first of them gets is returned.
    pub(crate) fn lead_append(
        &mut self,
        now: Now,
        data: &Bytes,
        log_append_time: Option<i64>,
        out: &mut Vec<Effect>,
    ) -> i64 {
        let base = self.log.end_offset();
        let (stamped, end) = stamp(data, base, self.leader_epoch, log_append_time);
        self.append(stamped.clone(), out);
        self.push_to_all(now, (base, end), &stamped, out);
        base
    }

    /// A follower reports how far its log reaches.
    pub(crate) fn reported(&mut self, now: Now, from: NodeId, state: &ReplicaState, out: &mut Vec<Effect>) {
        let end = self.log.end_offset();
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.followers.get_mut(&from) else { return };
        if state.leader_epoch != self.leader_epoch {
            return;
        }
        if progress.incarnation != state.incarnation {
            // Another life: what the former one acknowledged may be lost.
            progress.incarnation = state.incarnation;
            progress.acknowledged = None;
        }
        if progress.acknowledged.is_none() && !state.resync {
            // What a disk confirmed late, of a log that was not compared with ours in this epoch: it may be another.
            return;
        }
        progress.active = now.monotonic;
        progress.resent = 0;
        if std::mem::replace(&mut progress.start, state.start_offset) < state.start_offset {
            out.push(Effect::Progress);
        }
        if state.resync {
            progress.next = state.end_offset;
            progress.reading = None;
            if let Some(diverging) = diverging(self.log.epoch_end(state.last_epoch), state) {
                return self.push(from, state.end_offset, Bytes::new(), Some(diverging), out);
            }
        }
        if progress.acknowledged.is_none_or(|known| known < state.end_offset) || state.resync {
            progress.acknowledged = Some(state.end_offset);
        }
        progress.next = progress.next.max(state.end_offset);
        let (reported, end_then) = progress.reported;
        if state.end_offset >= end {
            progress.caught_up = now.monotonic;
        } else if state.end_offset >= end_then {
            progress.caught_up = progress.caught_up.max(reported);
        }
        progress.reported = (now.monotonic, end);

        self.consider_expansion(now, from, out);
        self.advance(now, out);
        if !self.send_more(from, out) && state.resync {
            // It waits for an answer.
            self.push(from, state.end_offset, Bytes::new(), None, out);
        }
    }

    /// The disk has read a chunk for a follower.
    pub(crate) fn feed(
        &mut self,
        now: Now,
        to: NodeId,
        base_offset: i64,
        data: Bytes,
        out: &mut Vec<Effect>,
    ) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.followers.get_mut(&to) else { return };
        if progress.reading != Some(base_offset) {
            return;
        }
        progress.reading = None;
        let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let slice = self.log.slice(progress.next, i64::MAX, size, false);
        let Some(slice) = slice.filter(|slice| slice.base_offset == base_offset) else {
            // It has acknowledged this meanwhile, since the push before was late, not lost; or it was dropped.
            self.send_more(to, out);
            return;
        };
        progress.next = slice.next_offset;
        progress.active = now.monotonic;
        self.push(to, base_offset, data.slice(..slice.size as usize), None, out);
    }

    pub(super) fn tick_leader(&mut self, now: Now, out: &mut Vec<Effect>) {
        let (start, end, timing) = (self.log.start_offset(), self.log.end_offset(), self.timing);
        let Role::Leader(leader) = &mut self.role else { return };
        let mut behind = Vec::new();
        for (node, progress) in &mut leader.followers {
            let due = progress.resend_at(start, timing).is_some_and(|at| at <= now.monotonic);
            if let Some(acknowledged) = progress.acknowledged.filter(|_| due) {
                progress.next = acknowledged;
                progress.reading = None;
                progress.active = now.monotonic;
                progress.resent += 1;
                behind.push((*node, acknowledged));
            }
        }
        let again = leader.wanted.take_if(|(_, asked)| *asked + timing.retry <= now.monotonic);
        let lagging = |node: &NodeId| {
            leader.followers.get(node).is_some_and(|progress| {
                let behind = progress.acknowledged.is_none_or(|acknowledged| acknowledged < end);
                behind && progress.caught_up + timing.lag <= now.monotonic
            })
        };
        let shrunk: Vec<NodeId> = leader.isr.iter().copied().filter(|node| !lagging(node)).collect();
        if let Some((isr, _)) = again {
            self.want(now, isr, out);
        } else if leader.wanted.is_none() && shrunk.len() < leader.isr.len() {
            self.want(now, shrunk, out);
        }
        for (node, acknowledged) in behind {
            if !self.send_more(node, out) {
                self.push(node, acknowledged, Bytes::new(), None, out);
            }
        }
        self.review(now, out);
    }

    /// Looks for followers that could join the in-sync set.
    fn review(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.review.take_if(|review| *review <= now.monotonic).is_some() {
            let mut followers: Vec<NodeId> = leader.followers.keys().copied().collect();
            followers.sort_by_key(|follower| leader.refused.is_some_and(|refused| *follower <= refused));
            for follower in followers {
                self.consider_expansion(now, follower, out);
            }
        }
    }

    /// Raises the high watermark if more is committed, and tells the followers.
    pub(super) fn advance(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Role::Leader(leader) = &self.role else { return };
        let Some(committed) = leader.committed(self.node, self.written) else { return };
        if committed <= self.high_watermark {
            return;
        }
        self.high_watermark = committed;
        out.push(Effect::Progress);
        let end = self.log.end_offset();
        self.push_to_all(now, (end, end), &Bytes::new(), out);
    }

    /// Pushes what was just appended (or nothing but the high watermark) to the followers that have been sent all
    /// that lies before it.
    fn push_to_all(&mut self, now: Now, (base, end): (i64, i64), data: &Bytes, out: &mut Vec<Effect>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let mut level = Vec::new();
        for (node, progress) in &mut leader.followers {
            let Some(acknowledged) = progress.acknowledged else { continue };
            if acknowledged == base && end > base {
                progress.caught_up = now.monotonic;
            }
            if progress.next != base || self.log.bytes_between(acknowledged, base) > UNACKNOWLEDGED_BYTES {
                continue;
            }
            if acknowledged == progress.next {
                progress.active = now.monotonic;
            }
            progress.next = end;
            level.push(*node);
        }
        for node in level {
            self.push(node, base, data.clone(), None, out);
        }
    }

    /// Feeds a follower that is behind and has acknowledged everything that it was sent.
    fn send_more(&mut self, to: NodeId, out: &mut Vec<Effect>) -> bool {
        let Role::Leader(leader) = &mut self.role else { return false };
        let Some(progress) = leader.followers.get_mut(&to) else { return false };
        if progress.reading.is_some() || progress.acknowledged != Some(progress.next) {
            return false;
        }
        if progress.next < self.log.first_offset() {
            self.begin_there(to, out);
            return true;
        }
        let Some(slice) = self.log.slice(progress.next, i64::MAX, CATCH_UP_BYTES, true) else { return false };
        progress.reading = Some(slice.base_offset);
        out.push(Effect::Read {
            follower: to,
            base_offset: slice.base_offset,
            position: slice.position,
            length: slice.size,
        });
        true
    }

    /// The log begins elsewhere: the followers are told.
    pub(super) fn tell_start(&mut self, now: Now, out: &mut Vec<Effect>) {
        let end = self.log.end_offset();
        self.push_to_all(now, (end, end), &Bytes::new(), out);
    }

    fn push(
        &self,
        to: NodeId,
        base_offset: i64,
        data: Bytes,
        diverging: Option<EpochEnd>,
        out: &mut Vec<Effect>,
    ) {
        let push = ReplicaAppend { base_offset, data, diverging, ..self.nothing_for(to) };
        out.push(Effect::Send(to, PeerMessage::ReplicaAppend(push)));
    }

    /// What a follower needs next was dropped: it begins where this log does.
    fn begin_there(&self, to: NodeId, out: &mut Vec<Effect>) {
        let begin_at = Some(Arc::new(self.log.beginning()));
        let push = ReplicaAppend { begin_at, ..self.nothing_for(to) };
        out.push(Effect::Send(to, PeerMessage::ReplicaAppend(push)));
    }

    fn nothing_for(&self, to: NodeId) -> ReplicaAppend {
        let (topic, partition) = self.key;
        let follower = self.leader().and_then(|leader| leader.followers.get(&to));
        ReplicaAppend {
            topic,
            partition,
            leader_epoch: self.leader_epoch,
            incarnation: follower.map_or(0, |progress| progress.incarnation),
            base_offset: 0,
            data: Bytes::new(),
            high_watermark: self.high_watermark,
            start_offset: self.log.start_offset(),
            diverging: None,
            begin_at: None,
        }
    }

    /// The controller did not do what the leader wanted.
    pub(crate) fn refused(&mut self, now: Now, version: i32, out: &mut Vec<Effect>) {
        let retry = self.timing.retry;
        let Role::Leader(leader) = &mut self.role else { return };
        // Of another version, it may be an answer to an earlier request, and the metadata tells what became of this.
        if version == leader.version {
            let wanted = leader.wanted.take().map(|(wanted, _)| wanted).unwrap_or_default();
            leader.refused = wanted.into_iter().find(|member| !leader.isr.contains(member));
            leader.review = Some(now.monotonic + retry);
            self.advance(now, out);
        }
    }

    /// A follower outside the in-sync set joins it when it has all that is committed, and has seen the epoch.
    fn consider_expansion(&mut self, now: Now, follower: NodeId, out: &mut Vec<Effect>) {
        let Role::Leader(leader) = &mut self.role else { return };
        let end = leader.followers.get(&follower).and_then(|progress| progress.acknowledged);
        let outside = !leader.isr.contains(&follower) && leader.wanted.is_none();
        if outside && end.is_some_and(|end| end >= self.high_watermark && end >= leader.epoch_start) {
            let isr = leader.isr.iter().copied().chain([follower]).collect();
            self.want(now, isr, out);
        }
    }

    fn want(&mut self, now: Now, isr: Vec<NodeId>, out: &mut Vec<Effect>) {
        let node = self.node;
        let Role::Leader(leader) = &mut self.role else { return };
        let incarnation = |member: &NodeId| match leader.followers.get(member) {
            Some(progress) => (*member, progress.incarnation),
            None => (node, leader.incarnation),
        };
        let (topic, partition) = self.key;
        out.push(Effect::Controller(PeerMessage::AlterIsr {
            topic,
            partition,
            leader_epoch: self.leader_epoch,
            version: leader.version,
            isr: isr.iter().map(incarnation).collect(),
        }));
        leader.wanted = Some((isr, now.monotonic));
    }
}

/// Where a follower's log leaves the leader's, if it does: its last epoch must end in the leader's log no earlier
/// than it ends in the follower's.
fn diverging(leaders: EpochEnd, state: &ReplicaState) -> Option<EpochEnd> {
    let empty = state.last_epoch < 0;
    let shared = leaders.epoch == state.last_epoch && leaders.end_offset >= state.end_offset;
    (!empty && !shared).then_some(leaders)
}
