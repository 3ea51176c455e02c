//! Where the log of a replica begins, and how that moves.
//!
//! ```text
//!   leader: DeleteRecords, retention ─┐
//!   follower: its leader's log ───────┴─► dropped from memory ──► written down ──► its bytes are released
//!                                                                      │
//!                               the leader is told, which waits for all that live (DeleteRecords)
//! ```
//!
//! Nothing that is not committed is ever dropped. A follower that lacks what its leader has dropped begins anew where the
//! leader's log does.

use ottla_protocol::ErrorCode;

use super::{Effect, Replica, Role};
use crate::io::{NodeId, Now};
use crate::log::{Floor, Log, RecoveredLog};

impl Replica {
    /// The leader drops the records below `offset`, which must be committed; below the start there is nothing to do.
    pub(crate) fn drop_below(
        &mut self,
        now: Now,
        offset: i64,
        out: &mut Vec<Effect>,
    ) -> Result<(), ErrorCode> {
        if offset > self.high_watermark {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        if self.log.advance_start(offset) {
            self.keep_start(out);
            self.tell_start(now, out);
        }
        Ok(())
    }

    /// The leader drops what is older than `before_ms`, and what is more than `keep_bytes`.
    pub(crate) fn expire(
        &mut self,
        now: Now,
        before_ms: Option<i64>,
        keep_bytes: Option<u64>,
        out: &mut Vec<Effect>,
    ) {
        let start = self.log.expired(before_ms, keep_bytes, self.high_watermark);
        // It is committed, which is all that can be wrong with it.
        let _ = self.drop_below(now, start, out);
    }

    /// The leader's log begins there; what it holds of ours is dropped as far as we know it to be committed.
    pub(super) fn follow_start(&mut self, offset: i64, out: &mut Vec<Effect>) {
        if self.log.advance_start(offset.min(self.high_watermark)) {
            self.keep_start(out);
            out.push(Effect::Progress);
        }
    }

    /// The log is empty from now on, and begins there.
    pub(super) fn begin_anew(&mut self, floor: Floor, out: &mut Vec<Effect>) {
        let start = floor.start_offset;
        let floor = Floor { position: 0, ..floor };
        self.log = Log::recovered(RecoveredLog { floor, ..RecoveredLog::default() });
        self.was_cut();
        (self.written, self.kept_start, self.high_watermark) = (start, start.min(self.kept_start), start);
        for (_, reached) in &mut self.writing {
            *reached = start;
        }
        out.push(Effect::Truncate(0));
        self.keep_start(out);
    }

    pub(super) fn keep_start(&self, out: &mut Vec<Effect>) {
        out.push(Effect::Keep(self.log.floor().clone()));
    }

    /// The disk has written down where the log begins. Only what it wrote last is of interest.
    pub(crate) fn kept(&mut self, now: Now, (start, position): (i64, u64), out: &mut Vec<Effect>) {
        let floor = self.log.floor();
        if (floor.start_offset, floor.position) != (start, position) {
            return;
        }
        self.kept_start = start;
        if position > 0 {
            out.push(Effect::Release(position));
        }
        match self.role {
            Role::Leader(_) => out.push(Effect::Progress),
            Role::Follower(_) => self.report(now, out),
            Role::Idle => {}
        }
    }

    /// Where the log begins on every replica whose node lives: what `DeleteRecords` waits for.
    pub(crate) fn low_watermark(&self, lives: impl Fn(NodeId) -> bool) -> i64 {
        let starts = self.leader().into_iter().flat_map(|leader| leader.starts());
        starts.filter(|(node, _)| lives(*node)).fold(self.kept_start, |least, (_, start)| least.min(start))
    }
}
