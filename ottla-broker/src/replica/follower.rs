//! The follower's side of replication.

use std::time::Instant;

use ottla_protocol::batch;

use super::{Effect, Replica, Role, Timing};
use crate::io::{NodeId, Now};
use crate::log::{EpochEnd, Floor};
use crate::peer::{PeerMessage, ReplicaAppend, ReplicaState};

/// What a follower knows of its leader.
#[derive(Debug)]
pub(super) struct Follower {
    leader: NodeId,
    /// It is to ask the leader for what follows its log, as soon as the disk has confirmed all of it.
    wants_resync: bool,
    /// When it asked, while there is no answer.
    asked: Option<Instant>,
}

impl Follower {
    pub(super) fn new(leader: NodeId) -> Self {
        Self { leader, wants_resync: true, asked: None }
    }

    pub(super) fn deadline(&self, timing: Timing) -> Option<Instant> {
        self.asked.map(|asked| asked + timing.retry)
    }
}

impl Replica {
    /// The leader pushes something. What is of another epoch, or meant for a former life of this node, is ignored:
    /// the metadata will tell, or has been asked for.
    pub(crate) fn pushed(&mut self, now: Now, from: NodeId, push: ReplicaAppend, out: &mut Vec<Effect>) {
        let Role::Follower(follower) = &mut self.role else { return };
        let meant = push.leader_epoch == self.leader_epoch && push.incarnation == self.incarnation;
        if !meant || from != follower.leader {
            return;
        }
        follower.asked = None;
        if let Some(diverging) = push.diverging.filter(|_| !planted!("broker-keeps-a-diverged-tail")) {
            self.cut_at(diverging, out);
            return self.resync(now, out);
        }
        if let Some(floor) = push.begin_at {
            if floor.start_offset > self.log.end_offset() {
                self.begin_anew(Floor::clone(&floor), out);
            }
            return self.resync(now, out);
        }
        let end = self.log.end_offset();
        if push.base_offset > end {
            return self.resync(now, out);
        }
        // What there is no room for is sent again.
        if !push.data.is_empty() && !self.starved {
            self.take(now, push.clone(), out);
        }
        let known = push.high_watermark.min(self.log.end_offset());
        if known > self.high_watermark {
            self.high_watermark = known;
            out.push(Effect::Progress);
        }
        self.follow_start(push.start_offset, out);
    }

    /// Reports how far the disk has confirmed the log.
    pub(super) fn report(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Role::Follower(follower) = &mut self.role else { return };
        let resync = follower.wants_resync && self.writing.is_empty();
        if resync {
            follower.wants_resync = false;
            follower.asked = Some(now.monotonic);
        }
        let (topic, partition) = self.key;
        let state = ReplicaState {
            topic,
            partition,
            leader_epoch: self.leader_epoch,
            incarnation: self.incarnation,
            end_offset: self.written,
            last_epoch: self.log.last_epoch(),
            start_offset: self.kept_start,
            resync,
        };
        out.push(Effect::Send(follower.leader, PeerMessage::ReplicaState(state)));
    }

    /// Asks the leader for what follows the end of the log. What the disk has not confirmed is waited for, so that
    /// the end that is reported is the one that will be continued.
    pub(super) fn resync(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Role::Follower(follower) = &mut self.role else { return };
        follower.wants_resync = true;
        if self.writing.is_empty() {
            self.report(now, out);
        }
    }

    pub(super) fn tick_follower(&mut self, now: Now, out: &mut Vec<Effect>) {
        let timing = self.timing;
        let Role::Follower(follower) = &mut self.role else { return };
        if follower.deadline(timing).is_some_and(|deadline| deadline <= now.monotonic) {
            follower.asked = None;
            self.resync(now, out);
        }
    }

    /// Appends what is new in a push that begins at the end of the log or before it.
    fn take(&mut self, now: Now, push: ReplicaAppend, out: &mut Vec<Effect>) {
        let end = self.log.end_offset();
        let mut skip = 0;
        for batch in batch::batches(push.data.clone()).map_while(Result::ok) {
            if batch.header().last_offset() >= end {
                // A log without records may begin within a batch of which a crash has taken the rest.
                if batch.header().base_offset < end && self.log.is_empty() {
                    let floor = self.log.floor().clone();
                    self.begin_anew(Floor { start_offset: batch.header().base_offset, ..floor }, out);
                }
                break;
            }
            skip += batch.bytes().len();
        }
        let news = push.data.slice(skip..);
        if news.is_empty() {
            // It was sent twice: the acknowledgement may have been lost.
            return self.report(now, out);
        }
        self.append(news, out);
    }

    /// Cuts the log to what it may share with the leader's: where the leader's log leaves the epoch of our last
    /// batch, or an earlier epoch that both know. (KIP-279; several rounds may be needed.)
    fn cut_at(&mut self, leader: EpochEnd, out: &mut Vec<Effect>) {
        let end = self.log.end_offset();
        let common = if leader.epoch < 0 {
            0
        } else {
            let own = self.log.epoch_end(leader.epoch);
            let leaders = if own.epoch == leader.epoch { leader.end_offset } else { end };
            let own = if own == EpochEnd::UNKNOWN { end } else { own.end_offset };
            leaders.min(own)
        };
        // With nothing left to compare, the leader has to say where to begin.
        let common = if common >= end && self.log.is_empty() { 0 } else { common.min(end) };
        self.truncate(common, out);
    }
}
