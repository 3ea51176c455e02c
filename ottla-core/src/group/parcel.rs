//! Records of one partition that were unpacked together, and which of them are complete.
//!
//! ```text
//!   offset     100 101 102         105 106   107        103, 104: compacted away; 107: a control record
//!   record       0   1   2           3   4
//!   complete     1   1   0           1   0              may be committed: 102
//!   complete     1   1   1           1   1              may be committed: 108
//! ```
//!
//! A bit for each record: completing one is one atomic instruction, in any order and from any thread, without a lock
//! and without an allocation. Who wants to know how far the parcel is complete looks at the bits: once a second, and not
//! once a record. Only what was received has a bit: what lies between two records is as complete as the one in front.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use crate::fetch::{Position, Section};

/// Records of one partition that were unpacked together, oldest first, by their index.
#[derive(Debug)]
pub struct Parcel {
    token: u64,
    next: Position,
    spans: Box<[Span]>,
    len: u32,
    /// A bit is set when its record is complete; those behind the last record always are.
    complete: Box<[AtomicU64]>,
    /// Records in front of this index were handed out, at least once.
    handed: AtomicU32,
    /// Somebody waits until the records that were handed out are complete.
    watched: AtomicBool,
}

/// The records of one batch of the log.
#[derive(Debug)]
struct Span {
    /// Index of its first record.
    index: u32,
    first: i64,
    last: i64,
    epoch: i32,
    /// How far each record is behind the first, if compaction has left gaps.
    gaps: Option<Box<[u32]>>,
}

const WORD: u32 = u64::BITS;

impl Parcel {
    /// The records of `sections`, of which none is complete; `next` is the position behind all of them. `token` names the
    /// ownership of their partition.
    #[must_use]
    pub fn new(token: u64, sections: &[Section], next: Position) -> Self {
        let mut len = 0_u32;
        let spans = sections.iter().map(|section| {
            let span = Span::of(len, section);
            len = len.saturating_add(count(section));
            span
        });
        let spans: Box<[Span]> = spans.collect();
        Self::from_spans(token, spans, len, next)
    }

    fn from_spans(token: u64, spans: Box<[Span]>, len: u32, next: Position) -> Self {
        let complete: Box<[AtomicU64]> = (0..len.div_ceil(WORD)).map(|_| AtomicU64::new(0)).collect();
        if let Some(last) = complete.last()
            && !len.is_multiple_of(WORD)
        {
            last.store(u64::MAX << (len % WORD), Ordering::Relaxed);
        }
        let (handed, watched) = (AtomicU32::new(0), AtomicBool::new(false));
        Self { token, next, spans, len, complete, handed, watched }
    }

    /// Which ownership of the partition they were unpacked under.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.token
    }

    /// How many records there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "what has no record is no parcel")]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// The position behind all records.
    #[must_use]
    pub fn next(&self) -> Position {
        self.next
    }

    /// Completes one record. `true`: a drain waits for what is complete and wants to be woken.
    #[inline]
    pub fn complete(&self, index: u32) -> bool {
        if let Some(word) = self.complete.get((index / WORD) as usize) {
            // Sequentially consistent, as `watch` and the look that follows it: one of the two sees the other.
            word.fetch_or(1 << (index % WORD), Ordering::SeqCst);
        }
        self.watched.load(Ordering::SeqCst)
    }

    /// Completes these records. `true`: a drain waits for what is complete and wants to be woken.
    pub fn complete_all(&self, range: Range<u32>) -> bool {
        for (word, mask) in self.words(range) {
            if word.load(Ordering::Relaxed) & mask != mask {
                word.fetch_or(mask, Ordering::SeqCst);
            }
        }
        self.watched.load(Ordering::SeqCst)
    }

    /// Completes the records with these offsets. `None`: one of them was not handed out, and none is completed.
    pub fn complete_offsets(&self, offsets: Range<i64>) -> Option<bool> {
        let range = self.indices(offsets);
        (range.end <= self.handed.load(Ordering::Acquire)).then(|| self.complete_all(range))
    }

    /// Nothing of it counts any more: it is as if all were complete, for whoever still holds some of it.
    pub(super) fn void(&self) {
        self.complete_all(0..self.len);
    }

    /// Whether this one is complete.
    #[must_use]
    #[inline]
    pub fn is_one_complete(&self, index: u32) -> bool {
        let word = self.complete.get((index / WORD) as usize);
        word.is_none_or(|word| word.load(Ordering::SeqCst) & (1 << (index % WORD)) != 0)
    }

    /// Whether these are all complete.
    #[must_use]
    #[inline]
    pub fn is_complete(&self, range: Range<u32>) -> bool {
        self.words(range).all(|(word, mask)| word.load(Ordering::SeqCst) & mask == mask)
    }

    /// The first records in a row that are not complete, among these.
    #[must_use]
    pub fn incomplete_run(&self, range: Range<u32>) -> Option<Range<u32>> {
        let start = self.first_incomplete(range.clone())?;
        let end = (start..range.end).find(|index| self.is_one_complete(*index));
        Some(start..end.unwrap_or(range.end))
    }

    fn first_incomplete(&self, range: Range<u32>) -> Option<u32> {
        let first_word = range.start / WORD;
        (first_word..).zip(self.words(range)).find_map(|(at, (word, mask))| {
            let open = !word.load(Ordering::SeqCst) & mask;
            (open != 0).then(|| at * WORD + open.trailing_zeros())
        })
    }

    /// The position up to which everything is complete; `None` when not even the first record is.
    #[must_use]
    pub(super) fn complete_up_to(&self) -> Option<Position> {
        let Some(open) = self.first_incomplete(0..self.len) else { return Some(self.next) };
        let last = open.checked_sub(1)?;
        let span = self.span_of(last)?;
        Some(Position::with_epoch(span.offset(last) + 1, span.epoch))
    }

    /// Notes that the records in front of `end` were handed out. The furthest of several notes counts.
    #[inline]
    pub fn hand_out(&self, end: u32) {
        if end > self.handed.load(Ordering::Relaxed) {
            self.handed.fetch_max(end, Ordering::AcqRel);
        }
    }

    /// The records that were handed out at least once.
    #[must_use]
    pub fn handed_out(&self) -> Range<u32> {
        0..self.handed.load(Ordering::Acquire)
    }

    /// From now on, whoever completes something is told that somebody waits for it.
    pub(super) fn watch(&self) {
        self.watched.store(true, Ordering::SeqCst);
    }

    /// The offset of a record; of the last one for an index that is too large.
    #[must_use]
    pub fn offset(&self, index: u32) -> i64 {
        self.span_of(index).map_or(self.next.offset, |span| span.offset(index))
    }

    /// The indices of the records with these offsets.
    #[must_use]
    pub fn indices(&self, offsets: Range<i64>) -> Range<u32> {
        let start = self.records_below(offsets.start);
        start..self.records_below(offsets.end).max(start)
    }

    fn records_below(&self, offset: i64) -> u32 {
        let at = self.spans.partition_point(|span| span.last < offset);
        self.spans.get(at).map_or(self.len, |span| span.index + span.records_below(offset))
    }

    fn span_of(&self, index: u32) -> Option<&Span> {
        let behind = self.spans.partition_point(|span| span.index <= index);
        self.spans.get(behind.checked_sub(1)?)
    }

    /// The words that have the bits of these records, with those bits.
    #[inline]
    fn words(&self, range: Range<u32>) -> impl Iterator<Item = (&AtomicU64, u64)> {
        let end = range.end.min(self.len);
        let words = if range.start < end { range.start / WORD..end.div_ceil(WORD) } else { 0..0 };
        words.filter_map(move |at| {
            let from = range.start.saturating_sub(at * WORD);
            let to = (end - at * WORD).min(WORD);
            let mask = (u64::MAX << from) & (u64::MAX >> (WORD - to));
            Some((self.complete.get(at as usize)?, mask))
        })
    }
}

impl Span {
    fn of(index: u32, section: &Section) -> Self {
        let (first, last) = (section.first, section.last);
        let is_dense = last - first == i64::from(count(section)) - 1;
        let gaps = (!is_dense).then(|| {
            // Every record was read once when the section was unpacked.
            let records = section.records.resume(section.start).filter_map(Result::ok);
            records.map(|record| u32::try_from(record.offset - first).unwrap_or(u32::MAX)).collect()
        });
        Self { index, first, last, epoch: section.records.header().partition_leader_epoch, gaps }
    }

    fn offset(&self, index: u32) -> i64 {
        let nth = index - self.index;
        match &self.gaps {
            None => self.last.min(self.first + i64::from(nth)),
            Some(gaps) => gaps.get(nth as usize).map_or(self.last, |gap| self.first + i64::from(*gap)),
        }
    }

    /// How many of its records are below an offset that is not behind its last.
    fn records_below(&self, offset: i64) -> u32 {
        let Ok(distance) = u32::try_from(offset.saturating_sub(self.first)) else { return 0 };
        match &self.gaps {
            None => distance,
            Some(gaps) => gaps.partition_point(|gap| *gap < distance) as u32,
        }
    }
}

/// A batch has at most `i32::MAX` records.
fn count(section: &Section) -> u32 {
    u32::try_from(section.count).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A parcel of one batch with records at these offsets, of epoch 3.
    pub(in crate::group) fn parcel(token: u64, offsets: &[i64], next: i64) -> Parcel {
        let (first, last) = (offsets[0], *offsets.last().unwrap());
        let dense = last - first == offsets.len() as i64 - 1;
        let gaps = (!dense).then(|| offsets.iter().map(|offset| (offset - first) as u32).collect());
        let span = Span { index: 0, first, last, epoch: 3, gaps };
        Parcel::from_spans(token, [span].into(), offsets.len() as u32, Position::with_epoch(next, 3))
    }

    fn up_to(parcel: &Parcel) -> Option<i64> {
        parcel.complete_up_to().map(|position| position.offset)
    }

    #[test]
    fn what_is_complete_in_a_row_from_the_start_may_be_committed() {
        let parcel = parcel(0, &[100, 101, 102, 105, 106], 108);
        assert_eq!(up_to(&parcel), None);
        parcel.complete(3);
        parcel.complete(1);
        assert_eq!(up_to(&parcel), None, "100 is missing");
        parcel.complete(0);
        assert_eq!(parcel.complete_up_to(), Some(Position::with_epoch(102, 3)));
        parcel.complete(2);
        assert_eq!(up_to(&parcel), Some(106), "103 and 104 do not exist");
        parcel.complete(4);
        assert_eq!(up_to(&parcel), Some(108), "107 is no record");
    }

    #[test]
    fn offsets_that_do_not_exist_name_no_record() {
        let parcel = parcel(0, &[100, 101, 102, 105, 106], 108);
        assert_eq!(parcel.indices(103..105), 3..3);
        assert_eq!(parcel.indices(102..106), 2..4);
        assert_eq!(parcel.indices(i64::MIN..i64::MAX), 0..5);
        assert_eq!(parcel.indices(107..108), 5..5);
        assert_eq!((0..5).map(|index| parcel.offset(index)).collect::<Vec<_>>(), [100, 101, 102, 105, 106]);
    }

    #[test]
    fn only_what_was_handed_out_can_be_completed_by_offset() {
        let parcel = parcel(0, &[0, 1, 2, 3], 4);
        parcel.hand_out(2);
        assert_eq!(parcel.complete_offsets(0..3), None);
        assert!(!parcel.is_complete(0..1));
        assert_eq!(parcel.complete_offsets(0..2), Some(false));
        assert_eq!(up_to(&parcel), Some(2));
        assert_eq!(parcel.complete_offsets(-5..2), Some(false), "twice is once");
    }

    #[test]
    fn who_completes_learns_that_somebody_waits() {
        let parcel = parcel(0, &[0, 1], 2);
        assert!(!parcel.complete(0));
        parcel.watch();
        assert!(parcel.complete(1) && parcel.complete_all(0..2));
    }

    #[test]
    fn ranges_across_words_are_those_records_and_no_others() {
        let offsets: Vec<i64> = (0..200).collect();
        for (from, to) in [(0, 200), (0, 1), (63, 65), (64, 128), (10, 10), (130, 199), (199, 200), (5, 150)]
        {
            let parcel = parcel(0, &offsets, 200);
            parcel.complete_all(from..to);
            for index in 0..200 {
                assert_eq!(parcel.is_complete(index..index + 1), (from..to).contains(&index), "{from}..{to}");
            }
            assert!(parcel.is_complete(from..to));
            let first_open = (0..200).find(|index| !(from..to).contains(index));
            let run = parcel.incomplete_run(0..200);
            assert_eq!(run.as_ref().map(|run| run.start), first_open, "{from}..{to}");
            let run_end = if from == 0 || from == to { 200 } else { from };
            assert_eq!(run.map(|run| run.end), first_open.map(|_| run_end), "{from}..{to}");
        }
    }

    #[test]
    fn runs_of_incomplete_records_are_found_from_anywhere() {
        let parcel = parcel(0, &(0..130).collect::<Vec<_>>(), 130);
        parcel.complete_all(0..130);
        assert_eq!(parcel.incomplete_run(0..130), None);
        let parcel = self::parcel(0, &(0..130).collect::<Vec<_>>(), 130);
        parcel.complete_all(0..70);
        parcel.complete_all(80..129);
        assert_eq!(parcel.incomplete_run(3..130), Some(70..80));
        assert_eq!(parcel.incomplete_run(75..78), Some(75..78));
        assert_eq!(parcel.incomplete_run(80..130), Some(129..130));
        assert_eq!(parcel.incomplete_run(80..129), None);
    }
}
