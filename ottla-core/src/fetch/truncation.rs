//! Whether the log in front of a position is still the log that was read (KIP-320).
//!
//! ```text
//!   read: epoch 2 up to 60, epoch 3 up to 100, epoch 5 up to 120; the next offset is 120
//!
//!   leader says: epoch 5 ends at ≥ 120       the same log                                        Intact
//!                epoch 5 ends at 110         cut at 110                                          Diverged at 110
//!                epoch 3 ends at 90          cut at 90                                           Diverged at 90
//!                epoch 3 ends at 130         has no epoch 5 at all: cut where that began         Diverged at 100
//!                epoch 4 ends at 80          was never seen: in front of 80, too, there may be   Ask about epoch 3
//!                                            something else than was read
//!                nothing of the kind         no common history is known                          Unknown
//! ```
//!
//! An epoch has one leader, and what two logs have of one epoch is the same as far as both have it, together with everything
//! in front of it. So the logs part where the first of them ends, once both are known to have the epoch; a leader that has
//! it not is asked about the one in front, as followers ask.

use std::collections::VecDeque;

/// A place in the log, and of which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The next offset.
    pub offset: i64,
    /// Epoch of the leader that wrote the batch in front of it; -1 if that is not known.
    pub epoch: i32,
}

impl Position {
    /// A place about which nothing but its offset is known.
    #[must_use]
    pub fn at(offset: i64) -> Self {
        Self { offset, epoch: -1 }
    }

    /// A place that was named together with the epoch of what is in front of it.
    #[must_use]
    pub fn with_epoch(offset: i64, epoch: i32) -> Self {
        Self { offset, epoch }
    }

    /// The same offset in a log that has `later` behind it, where this one may be of another log. Epochs never fall in a log:
    /// an epoch that is too low leads to where it ends, and leaves nothing out.
    #[must_use]
    pub(crate) fn in_a_log_with(self, later: Self) -> Self {
        Self { epoch: self.epoch.min(later.epoch), ..self }
    }
}

/// The epochs of what was read, oldest first, each from the offset on from which it is known to have been read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Trail(VecDeque<(i32, i64)>);

/// So many epochs are remembered: what was read longer ago than so many elections is not compared any more.
const REMEMBERED: usize = 32;

impl Trail {
    /// Reading goes on at a place where the record in front is of the place's epoch. What was read in front of it counts if
    /// it led to the same place.
    pub(super) fn go_on_behind(&mut self, place: Position) {
        self.cut(place.offset);
        if self.epoch_before(place.offset) != place.epoch {
            self.0.clear();
            self.read(place.epoch, (place.offset - 1).max(0));
        }
    }

    /// Reading begins at a place where the record behind is of the place's epoch, or where nothing is known.
    pub(super) fn begin_at(&mut self, place: Position) {
        self.0.clear();
        self.read(place.epoch, place.offset);
    }

    /// Something of this epoch was read, from there on.
    pub(super) fn read(&mut self, epoch: i32, from: i64) {
        // Epochs never fall in a log: what says so lies, now or before.
        while self.0.back().is_some_and(|(last, _)| *last > epoch) {
            self.0.pop_back();
        }
        if epoch >= 0 && self.0.back().is_none_or(|(last, _)| *last < epoch) {
            self.0.push_back((epoch, from));
        }
        if self.0.len() > REMEMBERED {
            self.0.pop_front();
        }
    }

    /// There never was an epoch behind this one.
    pub(super) fn disbelieve(&mut self, epoch: i32) {
        self.0.retain(|(known, _)| *known <= epoch);
    }

    /// What was read from there on does not count.
    fn cut(&mut self, offset: i64) {
        self.0.retain(|(_, start)| *start < offset);
    }

    /// The epoch of what was read in front of this offset; -1 if that is not known.
    fn epoch_before(&self, offset: i64) -> i32 {
        self.0.iter().rev().find(|(_, start)| *start < offset).map_or(-1, |(epoch, _)| *epoch)
    }

    /// Where something of a later epoch than this one was read first.
    fn end_of(&self, epoch: i32) -> Option<i64> {
        self.0.iter().find(|(known, _)| *known > epoch).map(|(_, start)| *start)
    }

    /// Compares what was read up to `place`, of whose epoch the leader was asked, with what it has.
    pub(super) fn judge(&self, place: Position, leader: EpochEnd) -> Verdict {
        if planted!("truncation-ignored", unclean) {
            return Verdict::Intact;
        }
        if leader.epoch < 0 || leader.end_offset < 0 {
            return Verdict::Unknown;
        }
        let read = self.end_of(leader.epoch).unwrap_or(i64::MAX);
        let common_end = read.min(leader.end_offset);
        if common_end >= place.offset {
            return Verdict::Intact;
        }
        match self.epoch_before(common_end) {
            -1 => Verdict::Diverged(Position::with_epoch(common_end, leader.epoch)),
            epoch if epoch < leader.epoch => Verdict::AskAbout(Position::with_epoch(common_end, epoch)),
            epoch => Verdict::Diverged(Position::with_epoch(common_end, epoch)),
        }
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
pub(super) enum Verdict {
    /// It is the log that was read.
    Intact,
    /// It is another from this place on.
    Diverged(Position),
    /// It is another from this place on, or from in front of it: the leader has to be asked about the epoch of that place.
    AskAbout(Position),
    /// Nothing in it is known to be as it was.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Position = Position { offset: 120, epoch: 5 };

    fn trail(epochs: &[(i32, i64)]) -> Trail {
        let mut trail = Trail::default();
        epochs.iter().for_each(|(epoch, start)| trail.read(*epoch, *start));
        trail
    }

    fn says(epoch: i32, end_offset: i64) -> Verdict {
        trail(&[(2, 0), (3, 60), (5, 100)]).judge(READ, EpochEnd { epoch, end_offset })
    }

    fn diverged(offset: i64, epoch: i32) -> Verdict {
        Verdict::Diverged(Position::with_epoch(offset, epoch))
    }

    #[test]
    fn a_log_that_has_all_of_the_epoch_is_intact() {
        assert_eq!(says(5, 120), Verdict::Intact);
        assert_eq!(says(5, 500), Verdict::Intact);
    }

    #[test]
    fn a_shorter_epoch_diverges_at_its_end() {
        assert_eq!(says(5, 110), diverged(110, 5));
    }

    #[test]
    fn a_log_without_the_epoch_diverges_where_the_epoch_was_first_seen() {
        assert_eq!(says(3, 130), diverged(100, 3));
        assert_eq!(says(3, 90), diverged(90, 3));
    }

    #[test]
    fn a_cut_through_several_epochs_is_found_where_the_first_of_them_ends() {
        assert_eq!(says(2, 90), diverged(60, 2));
        assert_eq!(says(2, 40), diverged(40, 2));
    }

    #[test]
    fn about_an_epoch_that_was_never_seen_the_one_in_front_of_it_is_asked() {
        assert_eq!(says(4, 80), Verdict::AskAbout(Position::with_epoch(80, 3)));
        // It had epoch 3 up to 70 only.
        let trail = trail(&[(2, 0), (3, 60), (5, 100)]);
        let end = EpochEnd { epoch: 3, end_offset: 70 };
        assert_eq!(trail.judge(Position::with_epoch(80, 3), end), diverged(70, 3));
        let end = EpochEnd { epoch: 3, end_offset: 80 };
        assert_eq!(trail.judge(Position::with_epoch(80, 3), end), Verdict::Intact);
    }

    #[test]
    fn a_leader_without_any_epoch_knows_nothing() {
        assert_eq!(says(-1, -1), Verdict::Unknown);
        assert_eq!(says(5, -1), Verdict::Unknown);
    }

    #[test]
    fn of_a_place_that_was_named_only_the_record_in_front_of_it_is_known() {
        let mut trail = Trail::default();
        trail.go_on_behind(READ);
        let judge = |epoch, end_offset| trail.judge(READ, EpochEnd { epoch, end_offset });
        assert_eq!(judge(5, 130), Verdict::Intact);
        assert_eq!(judge(5, 110), diverged(110, 5));
        assert_eq!(judge(4, 130), diverged(119, 4));
        assert_eq!(judge(4, 90), diverged(90, 4));
    }

    #[test]
    fn going_back_to_where_reading_has_been_keeps_what_is_known_of_it() {
        let mut trail = trail(&[(2, 0), (3, 60), (5, 100)]);
        trail.go_on_behind(Position::with_epoch(80, 3));
        assert_eq!(trail, self::trail(&[(2, 0), (3, 60)]));
        trail.go_on_behind(Position::with_epoch(70, 4));
        assert_eq!(trail, self::trail(&[(4, 69)]), "that was another log");
        trail.go_on_behind(Position::at(70));
        assert_eq!(trail, Trail::default());
    }

    #[test]
    fn epochs_that_fall_are_no_history() {
        assert_eq!(trail(&[(2, 0), (7, 10), (3, 20), (3, 30)]), trail(&[(2, 0), (3, 20)]));
        let mut trail = trail(&[(2, 0), (3, 20), (9, 40)]);
        trail.disbelieve(4);
        assert_eq!(trail, self::trail(&[(2, 0), (3, 20)]));
    }

    #[test]
    fn however_many_elections_there_are_no_more_than_so_many_are_remembered() {
        let epochs: Vec<_> = (0..1_000).map(|epoch| (epoch, i64::from(epoch))).collect();
        assert_eq!(trail(&epochs).0.len(), REMEMBERED);
    }
}
