//! Notices that the application has stopped working, although its member lives: heartbeats go on by themselves.
//!
//! ```text
//!            in hand, or nothing in hand and something to be had          the same for `processing.timeout.ms`
//!   quiet ──────────────────────────────────────────────────────▶ watched ─────────────────────────────────▶ stalled
//!     ▲                                                            │  ▲ │
//!     └───────────────── nothing in hand, nothing to be had ───────┘  └─┘ completed, came back; somebody asked
//! ```
//!
//! *In hand* is, of each partition, the first record that was handed out and is neither complete nor given back: commits
//! stand in front of it. It is watched record by record, so that a large batch of which one record after the other is
//! completed is work that gets on, however long all of it takes. When nothing is in hand anywhere, somebody has to ask for
//! what there is: Java counts that too (`max.poll.interval.ms`). Where nothing can be had (paused, no lease, nothing new),
//! nobody has to ask.
//!
//! Only time counts in which the look was taken: a process that stood still could not work.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    time::{Duration, Instant},
};

/// What of the application's work does not get on, and for how long.
#[derive(Debug)]
pub struct StallWatch {
    timeout: Option<Duration>,
    last: Option<Instant>,
    /// The first record in hand of each partition, by the token of its ownership.
    in_hand: BTreeMap<u64, Watched>,
    /// How long there has been something for which nobody asked.
    unasked: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Watched {
    offset: i64,
    lasted: Duration,
}

/// So often it is looked within the time that is allowed.
const LOOKS: u32 = 20;

/// Work that did not get on for longer than `processing_timeout` allows. The outer error names the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stall {
    /// The record that nothing happens with.
    pub offset: i64,
    /// For how long at least.
    pub lasted: Duration,
    /// Whether it was handed out; else it waited, and nobody asked for it.
    pub in_hand: bool,
}

impl std::error::Error for Stall {}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (offset, seconds) = (self.offset, self.lasted.as_secs_f64());
        match self.in_hand {
            true => write!(
                f,
                "the record at offset {offset} was handed out and not completed for {seconds:.1} s: process it \
                 faster, give it back, or raise `processing_timeout` (in a file: max.poll.interval.ms)"
            ),
            false => write!(
                f,
                "the record at offset {offset} could be had and nobody asked for it for {seconds:.1} s: poll more \
                 often, pause, or raise `processing_timeout` (in a file: max.poll.interval.ms)"
            ),
        }
    }
}

impl StallWatch {
    /// Allows so much time; `None`: any.
    #[must_use]
    pub fn new(timeout: Option<Duration>) -> Self {
        Self { timeout, last: None, in_hand: BTreeMap::new(), unasked: None }
    }

    /// How often [`Self::look`] is to be called; `None`: not at all.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        self.timeout.map(|timeout| timeout / LOOKS)
    }

    /// Records with these offsets came back: whoever gets them next has them anew.
    pub fn on_release(&mut self, token: u64, offsets: Range<i64>) {
        if self.in_hand.get(&token).is_some_and(|watched| offsets.contains(&watched.offset)) {
            self.in_hand.remove(&token);
        }
    }

    /// Looks at what there is: of each partition, by its token, the first record in hand; and a record that could be had and
    /// that nobody has asked for since the last look. Gives what has lasted longest, if that is too long.
    pub fn look(
        &mut self,
        now: Instant,
        in_hand: impl IntoIterator<Item = (u64, i64)>,
        unasked: Option<(u64, i64)>,
    ) -> Option<(u64, Stall)> {
        let timeout = self.timeout?;
        let since_last = self.last.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let passed = since_last.min(timeout / LOOKS * 2);
        self.last = Some(now);
        let before = std::mem::take(&mut self.in_hand);
        let lasted = |token: u64, offset: i64| {
            let same = before.get(&token).filter(|watched| watched.offset == offset);
            same.map_or(Duration::ZERO, |watched| watched.lasted + passed)
        };
        let watched = |(token, offset)| (token, Watched { offset, lasted: lasted(token, offset) });
        self.in_hand = in_hand.into_iter().map(watched).collect();
        let idle = unasked.filter(|_| self.in_hand.is_empty());
        self.unasked = idle.map(|_| self.unasked.map_or(Duration::ZERO, |lasted| lasted + passed));

        let stall = |in_hand, (token, Watched { offset, lasted })| (token, Stall { offset, lasted, in_hand });
        let held = self.in_hand.iter().map(|(token, watched)| stall(true, (*token, *watched)));
        let idle = idle.zip(self.unasked);
        let idle = idle.map(|((token, offset), lasted)| stall(false, (token, Watched { offset, lasted })));
        held.chain(idle).filter(|(_, stall)| stall.lasted >= timeout).max_by_key(|(_, stall)| stall.lasted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A watch that allows 20 s and is looked at every second.
    struct Bench {
        watch: StallWatch,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            #[expect(clippy::disallowed_methods, reason = "any moment will do")]
            let now = Instant::now();
            Self { watch: StallWatch::new(Some(s(20))), now }
        }

        /// Looks every second for so long, until it has stalled.
        fn pass(
            &mut self,
            seconds: u64,
            in_hand: &[(u64, i64)],
            unasked: Option<(u64, i64)>,
        ) -> Option<(u64, Stall)> {
            (0..seconds).find_map(|_| {
                self.now += s(1);
                self.watch.look(self.now, in_hand.iter().copied(), unasked)
            })
        }
    }

    fn stall(offset: i64, seconds: u64, in_hand: bool) -> Stall {
        Stall { offset, lasted: s(seconds), in_hand }
    }

    #[test]
    fn a_record_that_stays_in_hand_for_longer_than_allowed_is_a_stall_and_not_before() {
        let mut bench = Bench::new();
        assert_eq!(bench.pass(20, &[(1, 17)], None), None, "the first look has just seen it");
        assert_eq!(bench.pass(1, &[(1, 17)], None), Some((1, stall(17, 20, true))));
        assert!(
            stall(17, 20, true).to_string().contains("offset 17 was handed out and not completed for 20.0 s")
        );
    }

    #[test]
    fn work_that_gets_on_may_take_as_long_as_it_takes() {
        let mut bench = Bench::new();
        for offset in 0..10 {
            assert_eq!(bench.pass(19, &[(1, offset), (2, 7 + offset)], None), None);
        }
    }

    #[test]
    fn one_partition_that_gets_on_hides_no_other_that_does_not() {
        let mut bench = Bench::new();
        let stalled = (0..40).find_map(|offset| bench.pass(1, &[(1, offset), (2, 7)], Some((3, 0))));
        assert_eq!(stalled, Some((2, stall(7, 20, true))));
    }

    #[test]
    fn what_came_back_and_was_handed_out_again_is_in_hand_anew() {
        let mut bench = Bench::new();
        assert_eq!(bench.pass(15, &[(1, 17)], None), None);
        bench.watch.on_release(1, 18..20);
        assert_eq!(bench.pass(3, &[(1, 17)], None), None, "another one came back");
        bench.watch.on_release(1, 10..18);
        assert_eq!(bench.pass(20, &[(1, 17)], None), None);
        assert!(bench.pass(1, &[(1, 17)], None).is_some());
    }

    #[test]
    fn somebody_has_to_ask_for_what_can_be_had_unless_something_is_in_hand() {
        let mut bench = Bench::new();
        assert_eq!(bench.pass(15, &[], Some((4, 1))), None);
        assert_eq!(bench.pass(1, &[], None), None, "somebody has asked, or it is paused");
        assert_eq!(bench.pass(15, &[], Some((4, 1))), None);
        assert_eq!(bench.pass(1, &[(5, 9)], Some((4, 1))), None, "somebody is at work");
        assert_eq!(bench.pass(20, &[], Some((4, 1))), None);
        assert_eq!(bench.pass(1, &[], Some((6, 2))), Some((6, stall(2, 20, false))));
        assert!(stall(2, 20, false).to_string().contains("offset 2 could be had and nobody asked for it"));
    }

    #[test]
    fn nothing_to_do_is_no_stall() {
        assert_eq!(Bench::new().pass(1_000, &[], None), None);
    }

    #[test]
    fn time_in_which_the_process_stood_still_does_not_count() {
        let mut bench = Bench::new();
        assert_eq!(bench.pass(10, &[(1, 17)], None), None);
        bench.now += s(600);
        assert_eq!(bench.pass(9, &[(1, 17)], None), None);
        assert!(bench.pass(1, &[(1, 17)], None).is_some());
    }

    #[test]
    fn without_a_limit_nobody_looks() {
        let mut watch = StallWatch::new(None);
        assert_eq!(watch.interval(), None);
        let now = Bench::new().now;
        assert_eq!(watch.look(now, [(1, 1)], None), None);
        assert_eq!(watch.look(now + s(100_000), [(1, 1)], None), None);
    }
}
