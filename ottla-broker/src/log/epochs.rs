//! Where each leader epoch begins in a log (KIP-101): the way to find where two logs diverge.

/// Where a leader epoch ends in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch in the log that is not larger than the one asked for; -1 when the log cannot tell.
    pub epoch: i32,
    /// The first offset behind it; -1 when the log cannot tell.
    pub end_offset: i64,
}

impl EpochEnd {
    /// The log knows nothing of such an epoch.
    pub const UNKNOWN: Self = Self { epoch: -1, end_offset: -1 };
}

/// The first offset of each leader epoch, both ascending.
#[derive(Debug, Default)]
pub(crate) struct Epochs(Vec<(i32, i64)>);

impl Epochs {
    /// Epoch `epoch` begins at `offset`, unless it, or a later one, has begun already.
    pub(crate) fn begin(&mut self, epoch: i32, offset: i64) {
        if epoch < 0 || self.0.last().is_some_and(|&(last, _)| last >= epoch) {
            return;
        }
        // An epoch that began here and holds nothing has no end of its own.
        self.0.retain(|&(_, begin)| begin < offset);
        self.0.push((epoch, offset));
    }

    /// The log begins at `start` now: the epoch that it begins in is remembered from there on, even if nothing of it is left.
    pub(crate) fn cut_front(&mut self, start: i64) {
        let above = self.0.partition_point(|&(_, begin)| begin <= start);
        self.0.drain(..above.saturating_sub(1));
        if let Some((_, begin)) = self.0.first_mut() {
            *begin = start.max(*begin);
        }
    }

    /// The epoch of the record at the beginning of the log, if there is or was one.
    pub(crate) fn first(&self) -> Option<i32> {
        self.0.first().map(|&(epoch, _)| epoch)
    }

    /// Where `epoch` ends in a log that ends at `log_end`; the rules are those of Kafka's `LeaderEpochFileCache`.
    pub(crate) fn end_of(&self, epoch: i32, log_end: i64) -> EpochEnd {
        if epoch < 0 {
            return EpochEnd::UNKNOWN;
        }
        if self.0.last().is_some_and(|&(last, _)| last == epoch) {
            return EpochEnd { epoch, end_offset: log_end };
        }
        let above = self.0.partition_point(|&(begun, _)| begun <= epoch);
        let Some(&(_, end_offset)) = self.0.get(above) else { return EpochEnd::UNKNOWN };
        let floor = above.checked_sub(1).and_then(|at| self.0.get(at)).map_or(epoch, |&(floor, _)| floor);
        EpochEnd { epoch: floor, end_offset }
    }
}

#[cfg(test)]
mod tests {
    use super::{EpochEnd, Epochs};

    fn epochs() -> Epochs {
        let mut epochs = Epochs::default();
        epochs.begin(2, 0);
        epochs.begin(4, 10);
        epochs.begin(7, 25);
        epochs
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        assert_eq!(epochs().end_of(2, 40), EpochEnd { epoch: 2, end_offset: 10 });
        assert_eq!(epochs().end_of(4, 40), EpochEnd { epoch: 4, end_offset: 25 });
    }

    #[test]
    fn the_latest_epoch_ends_at_the_end_of_the_log() {
        assert_eq!(epochs().end_of(7, 40), EpochEnd { epoch: 7, end_offset: 40 });
    }

    #[test]
    fn an_epoch_that_left_nothing_is_answered_with_the_one_before_it() {
        assert_eq!(epochs().end_of(5, 40), EpochEnd { epoch: 4, end_offset: 25 });
    }

    #[test]
    fn an_epoch_before_the_first_is_answered_with_the_beginning() {
        assert_eq!(epochs().end_of(1, 40), EpochEnd { epoch: 1, end_offset: 0 });
    }

    #[test]
    fn a_later_epoch_than_any_is_unknown() {
        assert_eq!(epochs().end_of(8, 40), EpochEnd::UNKNOWN);
        assert_eq!(Epochs::default().end_of(0, 0), EpochEnd::UNKNOWN);
        assert_eq!(epochs().end_of(-1, 40), EpochEnd::UNKNOWN);
    }

    #[test]
    fn an_epoch_that_held_nothing_gives_way_to_the_next() {
        let mut epochs = epochs();
        epochs.begin(8, 25);
        assert_eq!(epochs.end_of(4, 40), EpochEnd { epoch: 4, end_offset: 25 });
        assert_eq!(epochs.end_of(7, 40), EpochEnd { epoch: 4, end_offset: 25 });
    }

    #[test]
    fn the_epoch_in_which_the_log_begins_is_not_forgotten() {
        let mut epochs = epochs();
        epochs.cut_front(15);
        assert_eq!(epochs.first(), Some(4));
        assert_eq!(epochs.end_of(4, 40), EpochEnd { epoch: 4, end_offset: 25 });
        assert_eq!(epochs.end_of(2, 40), EpochEnd { epoch: 2, end_offset: 15 });
        epochs.cut_front(40);
        assert_eq!(epochs.end_of(7, 40), EpochEnd { epoch: 7, end_offset: 40 });
        assert_eq!(epochs.end_of(4, 40), EpochEnd { epoch: 4, end_offset: 40 });
    }

    #[test]
    fn an_epoch_begins_once() {
        let mut epochs = epochs();
        epochs.begin(7, 30);
        epochs.begin(3, 35);
        assert_eq!(epochs.end_of(4, 40), EpochEnd { epoch: 4, end_offset: 25 });
    }
}
