//! What is complete of one partition, under one ownership of it: from this, and from nothing else, commits are made.
//!
//! ```text
//!   start ──── push ────▶ parcel, parcel, parcel …   records that were unpacked
//!              pass ────▶ passed                     a stretch without records: control batches, batches without any
//!
//!   start       100                                  committable
//!   parcel      100 … 149    all complete            ─▶ removed
//!   passed      150 … 152                            ─▶ removed
//!   parcel      153 … 199    complete up to 160      ─▶ 161
//!   parcel      200 … 249    all complete            ─▶ remembered as a stretch
//! ```
//!
//! Being handed out moves nothing: a position that is derived from delivery is how records are lost. What a seek or a
//! truncation has made meaningless is *void*: it counts as complete, so that nobody waits for it and nobody is handed it
//! again, and a new *run* begins, whose commits may be lower than those of the run before.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use super::Parcel;
use crate::fetch::Position;

/// A stretch of an ownership in which commits never go back. A seek begins another run, and so does a cut of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Run {
    seeks: u32,
    cuts: u32,
}

impl Run {
    /// The one that a seek begins: nothing of before counts any more.
    #[must_use]
    pub fn sought(self) -> Self {
        Self { seeks: self.seeks + 1, ..self }
    }

    /// The one that a cut begins: what is in front of it stands.
    #[must_use]
    pub fn cut(self) -> Self {
        Self { cuts: self.cuts + 1, ..self }
    }

    /// Whether nothing but cuts lies between the two: something of the one may stand in the other.
    #[must_use]
    pub fn is_of_the_same_seek(self, other: Self) -> bool {
        self.seeks == other.seeks
    }
}

/// What is complete of one partition under one ownership.
#[derive(Debug, Default)]
pub struct Completions {
    stretches: VecDeque<Stretch>,
    /// Everything in front of this is complete, or was so when the ownership began; `None` until it is known.
    base: Option<Position>,
    run: Run,
}

/// A part of the log, up to `next`.
#[derive(Debug)]
struct Stretch {
    /// Its records; `None` when there is nothing left to complete.
    parcel: Option<Arc<Parcel>>,
    next: Position,
}

impl Stretch {
    fn is_complete(&self) -> bool {
        self.parcel.as_ref().is_none_or(|parcel| parcel.is_complete(0..parcel.len()))
    }

    /// How far it is complete from its start on; `None` when not even its first record is.
    fn complete_up_to(&self) -> Option<Position> {
        let up_to = self.parcel.as_ref()?.complete_up_to()?;
        // A parcel knows nothing of a truncation that has cut it off, and may have become complete just now.
        Some(if up_to.offset < self.next.offset { up_to } else { self.next })
    }

    /// Behind the last record that was handed out.
    fn handed_out_up_to(&self) -> Option<i64> {
        let Some(parcel) = &self.parcel else { return Some(self.next.offset) };
        let last = parcel.handed_out().end.checked_sub(1)?;
        Some(parcel.offset(last) + 1)
    }
}

impl Completions {
    /// The place where reading begins is known. Changes nothing when it was known before.
    pub fn start(&mut self, at: Position) {
        self.base.get_or_insert(at);
    }

    /// Whether the place where reading begins is known.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.base.is_some()
    }

    /// Records were unpacked that begin at `from`.
    pub fn push(&mut self, from: Position, parcel: Arc<Parcel>) {
        self.start(from);
        self.cut(from);
        let next = parcel.next();
        self.stretches.push_back(Stretch { parcel: Some(parcel), next });
    }

    /// Up to `next` there are no records, or the reset policy skips them. It may also lie in front of what was unpacked:
    /// then what is behind it is not in the log any more.
    pub fn pass(&mut self, next: Position) {
        self.start(next);
        self.cut(next);
        if self.end().is_some_and(|end| end.offset < next.offset) {
            self.stretches.push_back(Stretch { parcel: None, next });
        }
    }

    /// Reading goes on somewhere else because the user said so. Nothing from before counts any more.
    pub fn restart(&mut self) {
        self.void();
        self.base = None;
        self.run = self.run.sought();
    }

    /// Nothing counts any more: the ownership is over.
    pub fn void(&mut self) {
        for parcel in self.parcels() {
            parcel.void();
        }
        self.stretches.clear();
    }

    /// What may be committed, and in which run; `None` until it is known where reading begins.
    pub fn committable(&mut self) -> Option<(Run, Position)> {
        self.compact();
        if planted!("commit-before-handling") {
            return Some((self.run, self.end()?));
        }
        let partly = self.stretches.front().and_then(Stretch::complete_up_to);
        Some((self.run, partly.or(self.base)?))
    }

    /// Completes the records with these offsets. `None`: one of them was not handed out, and none is completed.
    /// `true`: somebody waits for that.
    pub fn complete(&self, offsets: Range<i64>) -> Option<bool> {
        let handed_out = self.stretches.iter().filter_map(Stretch::handed_out_up_to).max();
        if offsets.end > handed_out.or(self.base.map(|base| base.offset))? {
            return None;
        }
        let named = || self.parcels().filter(|parcel| !parcel.indices(offsets.clone()).is_empty());
        if named().any(|parcel| parcel.indices(offsets.clone()).end > parcel.handed_out().end) {
            return None;
        }
        Some(named().fold(false, |watched, parcel| {
            watched | parcel.complete_offsets(offsets.clone()).unwrap_or_default()
        }))
    }

    /// The parcels of which not everything was complete when that was last looked at.
    pub fn parcels(&self) -> impl Iterator<Item = &Arc<Parcel>> {
        self.stretches.iter().filter_map(|stretch| stretch.parcel.as_ref())
    }

    fn end(&self) -> Option<Position> {
        self.stretches.back().map(|last| last.next).or(self.base)
    }

    /// What was read from `from` on is not in the log any more: other records have, or will have, these offsets.
    fn cut(&mut self, from: Position) {
        if self.end().is_none_or(|end| end.offset <= from.offset) {
            return;
        }
        self.run = self.run.cut();
        while let Some(last) = self.stretches.back_mut().filter(|last| last.next.offset > from.offset) {
            if let Some(parcel) = &last.parcel {
                parcel.complete_all(parcel.indices(from.offset..i64::MAX));
                if parcel.offset(0) < from.offset {
                    last.next = from;
                    return;
                }
            }
            self.stretches.pop_back();
        }
        self.base = self.base.map(|base| if base.offset > from.offset { from } else { base });
    }

    /// Removes what is complete at the front, and remembers of what is complete elsewhere only how far it goes.
    fn compact(&mut self) {
        while self.stretches.front().is_some_and(Stretch::is_complete) {
            self.base = self.stretches.pop_front().map(|front| front.next);
        }
        let is_complete = |stretch: &Stretch| stretch.is_complete();
        if !self.stretches.iter().any(is_complete) {
            return;
        }
        let mut compacted = VecDeque::<Stretch>::with_capacity(self.stretches.len());
        for stretch in self.stretches.drain(..) {
            match compacted.back_mut() {
                Some(last) if last.parcel.is_none() && stretch.is_complete() => last.next = stretch.next,
                _ if stretch.is_complete() => compacted.push_back(Stretch { parcel: None, ..stretch }),
                _ => compacted.push_back(stretch),
            }
        }
        self.stretches = compacted;
    }
}

#[cfg(test)]
mod tests {
    use super::{super::parcel::tests::parcel, *};

    fn at(offset: i64) -> Position {
        Position::at(offset)
    }

    /// Unpacks records `from..to`; they are handed out at once.
    fn unpack(completions: &mut Completions, from: i64, to: i64) -> Arc<Parcel> {
        let parcel = Arc::new(parcel(0, &(from..to).collect::<Vec<_>>(), to));
        parcel.hand_out(parcel.len());
        completions.push(at(from), Arc::clone(&parcel));
        parcel
    }

    fn committable(completions: &mut Completions) -> Option<i64> {
        completions.committable().map(|(_, position)| position.offset)
    }

    #[test]
    fn nothing_is_known_before_the_start_is() {
        let mut completions = Completions::default();
        assert_eq!(completions.committable(), None);
        completions.start(Position::with_epoch(100, 5));
        assert_eq!(completions.committable(), Some((Run::default(), Position::with_epoch(100, 5))));
        completions.start(at(7));
        assert_eq!(committable(&mut completions), Some(100), "it is known once");
    }

    #[test]
    fn what_is_complete_out_of_order_waits_for_what_is_in_front() {
        let mut completions = Completions::default();
        completions.start(at(0));
        let (first, second) = (unpack(&mut completions, 0, 10), unpack(&mut completions, 10, 20));
        second.complete_all(0..10);
        first.complete_all(1..10);
        assert_eq!(committable(&mut completions), Some(0));
        first.complete(0);
        assert_eq!(committable(&mut completions), Some(20));
    }

    #[test]
    fn stretches_without_records_are_passed_only_when_what_is_in_front_is_complete() {
        let mut completions = Completions::default();
        completions.start(at(0));
        let first = unpack(&mut completions, 0, 10);
        completions.pass(at(13));
        let second = unpack(&mut completions, 15, 20);
        assert_eq!(committable(&mut completions), Some(0));
        first.complete_all(0..10);
        assert_eq!(committable(&mut completions), Some(13));
        second.complete_all(0..5);
        assert_eq!(committable(&mut completions), Some(20));
        completions.pass(at(25));
        assert_eq!(committable(&mut completions), Some(25));
    }

    #[test]
    fn one_record_that_is_stuck_costs_no_memory_for_what_is_complete_behind_it() {
        let mut completions = Completions::default();
        completions.start(at(0));
        let first = unpack(&mut completions, 0, 10);
        for n in 1..1_000 {
            unpack(&mut completions, n * 10, n * 10 + 10).complete_all(0..10);
            assert_eq!(committable(&mut completions), Some(0));
        }
        assert_eq!((completions.stretches.len(), completions.parcels().count()), (2, 1));
        first.complete_all(0..10);
        assert_eq!(committable(&mut completions), Some(10_000));
    }

    #[test]
    fn a_seek_makes_everything_before_it_meaningless() {
        let mut completions = Completions::default();
        completions.start(at(0));
        let old = unpack(&mut completions, 0, 10);
        old.complete_all(0..5);
        completions.restart();
        assert_eq!(completions.committable(), None);
        assert!(old.is_complete(0..10), "nobody is handed it again");
        completions.start(at(3));
        assert_eq!(completions.committable(), Some((Run::default().sought(), at(3))));
    }

    #[test]
    fn a_truncation_takes_back_what_was_read_behind_it_and_nothing_in_front() {
        let mut completions = Completions::default();
        completions.start(at(0));
        let (first, second) = (unpack(&mut completions, 0, 10), unpack(&mut completions, 10, 20));
        second.complete_all(0..10);
        completions.pass(at(4));
        assert_eq!(first.incomplete_run(0..10), Some(0..4));
        let new = unpack(&mut completions, 4, 6);
        assert_eq!(committable(&mut completions), Some(0));
        first.complete_all(0..4);
        assert_eq!(completions.committable(), Some((Run::default().cut(), at(4))));
        new.complete(0);
        assert_eq!(committable(&mut completions), Some(5));
    }

    #[test]
    fn a_truncation_below_what_was_complete_begins_a_new_run_there() {
        let mut completions = Completions::default();
        completions.start(at(0));
        unpack(&mut completions, 0, 10).complete_all(0..10);
        assert_eq!(completions.committable().unwrap().0, Run::default());
        let parted = Position::with_epoch(6, 4);
        completions.pass(parted);
        assert_eq!(
            completions.committable(),
            Some((Run::default().cut(), parted)),
            "so that the next member notices a second one"
        );
    }

    /// Records are completed without a lock: the last one of a parcel may be so between two looks at it.
    #[test]
    fn a_parcel_that_was_cut_off_is_never_complete_behind_the_cut() {
        let parcel = Arc::new(parcel(0, &[0, 1, 2, 3, 4, 5], 6));
        let stretch = Stretch { parcel: Some(Arc::clone(&parcel)), next: at(4) };
        parcel.complete_all(0..6);
        assert_eq!(stretch.complete_up_to(), Some(at(4)));
        let whole = Stretch { parcel: Some(Arc::clone(&parcel)), next: parcel.next() };
        assert_eq!(whole.complete_up_to(), Some(parcel.next()));
    }

    #[test]
    fn offsets_that_were_not_handed_out_cannot_be_completed() {
        let mut completions = Completions::default();
        completions.start(at(5));
        assert_eq!(completions.complete(0..5), Some(false), "they were complete before");
        assert_eq!(completions.complete(0..6), None);
        let first = unpack(&mut completions, 5, 10);
        let second = Arc::new(parcel(0, &[10, 11, 12], 13));
        completions.push(at(10), Arc::clone(&second));
        assert_eq!(completions.complete(7..11), None);
        assert!(!first.is_complete(2..3), "all or nothing");
        second.hand_out(1);
        assert_eq!(completions.complete(7..11), Some(false));
        assert_eq!(completions.complete(5..7), Some(false));
        assert_eq!(committable(&mut completions), Some(11));
        assert_eq!(completions.complete(10..12), None);
    }
}
