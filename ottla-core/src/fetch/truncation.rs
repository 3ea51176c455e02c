//! Whether the log in front of a position is still the log that was read (KIP-320).
//!
//! ```text
//!   position: offset 120, epoch 5, and epoch 5 was seen from 100 on
//!
//!   leader says: epoch 5 ends at ≥ 120     the same log                              Intact
//!                epoch 5 ends at 110       cut at 110                                Diverged at 110
//!                epoch 4 ends at 90 … 130  has no epoch 5 at all: cut where it began Diverged at min(end, 100)
//!                nothing of the kind       no common history is known                Unknown
//! ```

/// A place in the log, and of which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The next offset.
    pub offset: i64,
    /// Epoch of the leader that wrote the batch in front of it; -1 if that is not known.
    pub epoch: i32,
    /// The first offset at which that epoch was seen.
    pub epoch_start: i64,
}

impl Position {
    /// A place about which nothing but its offset is known.
    #[must_use]
    pub fn at(offset: i64) -> Self {
        Self { offset, epoch: -1, epoch_start: offset }
    }

    /// A place that a leader named together with its epoch.
    #[must_use]
    pub fn with_epoch(offset: i64, epoch: i32) -> Self {
        Self { offset, epoch, epoch_start: offset }
    }

    /// The place behind a batch.
    #[must_use]
    pub fn behind(self, base_offset: i64, next_offset: i64, epoch: i32) -> Self {
        let epoch_start = if epoch == self.epoch { self.epoch_start } else { base_offset.max(self.offset) };
        Self { offset: next_offset, epoch, epoch_start }
    }
}

/// What the leader said about an epoch: the newest epoch of its log that is not above the one asked for, and the
/// offset at which that one ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch; -1 if the leader has none.
    pub epoch: i32,
    /// Its end offset; -1 if the leader has none.
    pub end_offset: i64,
}

/// What became of the log in front of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the log that was read.
    Intact,
    /// It is another from this place on.
    Diverged(Position),
    /// Nothing in it is known to be as it was.
    Unknown,
}

/// Compares what was read up to `position` with what the leader has.
#[must_use]
pub fn judge(position: Position, leader: EpochEnd) -> Verdict {
    if planted!("truncation-ignored", unclean) {
        return Verdict::Intact;
    }
    if leader.epoch < 0 || leader.end_offset < 0 {
        return Verdict::Unknown;
    }
    let common_end = if leader.epoch < position.epoch {
        leader.end_offset.min(position.epoch_start)
    } else {
        leader.end_offset
    };
    if common_end < position.offset {
        Verdict::Diverged(Position::with_epoch(common_end, leader.epoch))
    } else {
        Verdict::Intact
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Position = Position { offset: 120, epoch: 5, epoch_start: 100 };

    fn says(epoch: i32, end_offset: i64) -> Verdict {
        judge(READ, EpochEnd { epoch, end_offset })
    }

    #[test]
    fn a_log_that_has_all_of_the_epoch_is_intact() {
        assert_eq!(says(5, 120), Verdict::Intact);
        assert_eq!(says(5, 500), Verdict::Intact);
    }

    #[test]
    fn a_shorter_epoch_diverges_at_its_end() {
        assert_eq!(says(5, 110), Verdict::Diverged(Position::with_epoch(110, 5)));
    }

    #[test]
    fn a_log_without_the_epoch_diverges_where_the_epoch_was_first_seen() {
        assert_eq!(says(4, 130), Verdict::Diverged(Position::with_epoch(100, 4)));
        assert_eq!(says(4, 90), Verdict::Diverged(Position::with_epoch(90, 4)));
    }

    #[test]
    fn a_leader_without_any_epoch_knows_nothing() {
        assert_eq!(says(-1, -1), Verdict::Unknown);
        assert_eq!(says(5, -1), Verdict::Unknown);
    }

    #[test]
    fn a_position_remembers_where_its_epoch_began() {
        let position = Position::at(10).behind(8, 20, 3).behind(20, 30, 3);
        assert_eq!(position, Position { offset: 30, epoch: 3, epoch_start: 10 });
        assert_eq!(position.behind(35, 40, 4).epoch_start, 35);
    }
}
