//! What the members of a group did with the records of one topic, told by them; and whether that fits the brokers' logs
//! and the commits that the group's coordinator stored.
//!
//! ```text
//!              assigned                       revoked (all that was handled is committed, or not)
//!   nobody's ───────────> owned by a member ─────────────────────────────────────────────────────> nobody's
//!                            hands out,          lost, crashed
//!                            handles
//! ```
//!
//! An *ownership* is one arrow to the right: of one partition, by one member, until its end. What must hold is told by
//! [`check_group`].

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Logs, Violation};
use crate::{World, trace::Event, world::Shared};

/// How much later than its timestamp a commit may have been stored: timestamps are whole milliseconds.
const TIMESTAMP: Duration = Duration::from_millis(1);

/// What a member says of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It owns the partition from now on.
    Assigned,
    /// It gave the partition up. `committed`: with everything that it has handled so far.
    Revoked {
        /// Whether the commit succeeded.
        committed: bool,
    },
    /// It learned that it does not own the partition any more.
    Lost,
    /// Its process is gone.
    Crashed,
    /// The consumer gave the application the record at this offset.
    HandedOut(i64),
    /// The application has done what the record at this offset asks for.
    Handled(i64),
}

/// One thing that a member said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// When, in virtual time.
    pub at: Duration,
    /// By which member; a process that is started again is another member.
    pub member: u32,
    /// Of which partition.
    pub partition: i32,
    /// What.
    pub what: What,
}

/// A commit as the coordinator stored it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// When, by the coordinator's clock, in whole milliseconds.
    pub at: Duration,
    /// The offset of the next record to be handled.
    pub offset: i64,
}

/// The commits of a group, by partition, in the order in which they were stored.
pub type Commits = BTreeMap<i32, Vec<Stored>>;

/// What must hold and what may be counted: the outcome of [`check_group`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many records were handled at least once.
    pub handled: usize,
    /// Each time that a record was handled again. All of them are explained: there is a violation otherwise.
    pub twice: Vec<Twice>,
}

/// A record that was handled again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Twice {
    /// Of which partition.
    pub partition: i32,
    /// At which offset.
    pub offset: i64,
    /// The member that had handled it.
    pub first: u32,
    /// The member that handled it again.
    pub again: u32,
}

/// All that the members of one group said. Cheap to clone: clones share it.
#[derive(Clone)]
pub struct GroupHistory {
    shared: Arc<Shared>,
    records: Arc<Mutex<Records>>,
}

#[derive(Default)]
struct Records {
    members: Vec<Arc<str>>,
    told: Vec<Told>,
    /// What each member owns, to say what it lost by a crash.
    owned: BTreeSet<(u32, i32)>,
    handled: BTreeMap<(i32, i64), u32>,
    overlap: Duration,
}

impl GroupHistory {
    /// An empty one.
    #[must_use]
    pub fn new(world: &World) -> Self {
        Self { shared: Arc::clone(&world.shared), records: Arc::default() }
    }

    /// A new member; `name` is for reports.
    #[must_use]
    pub fn member(&self, name: &str) -> MemberHistory {
        let mut records = self.lock();
        records.members.push(name.into());
        MemberHistory { history: self.clone(), number: records.members.len() as u32 }
    }

    /// An owner may go on for so long after another has begun: for what is documented not to be exclusive.
    pub fn tolerate_overlap(&self, overlap: Duration) {
        self.lock().overlap = overlap;
    }

    /// How many different records were handled.
    #[must_use]
    pub fn handled(&self) -> usize {
        self.lock().handled.len()
    }

    /// How many records were handled again; one that was handled three times counts twice.
    #[must_use]
    pub fn handled_twice(&self) -> usize {
        self.lock().handled.values().map(|times| *times as usize - 1).sum()
    }

    /// How many partitions are owned by members that have not crashed; more than there are while one of the owners does
    /// not know yet.
    #[must_use]
    pub fn owned(&self) -> usize {
        self.lock().owned.len()
    }

    /// All that was told so far.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        self.lock().told.clone()
    }

    /// The time by which things are told: virtual time since the world began, in which the cluster lives.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.lived()
    }

    /// How many records were handed out after `from` and until `until` ([`GroupHistory::now`]).
    #[must_use]
    pub fn handed_out_between(&self, from: Duration, until: Duration) -> usize {
        let of_then =
            |told: &&Told| matches!(told.what, What::HandedOut(_)) && told.at > from && told.at <= until;
        self.lock().told.iter().filter(of_then).count()
    }

    /// Checks everything, and fails the run at the first violation. Once the group has handled all there is.
    pub fn check(&self, world: &World, logs: &Logs, commits: &Commits) -> Verdict {
        let records = self.lock();
        match check_group(&records.told, logs, commits, records.overlap) {
            Ok(verdict) => verdict,
            Err(Violation { expected, happened }) => {
                drop(records);
                world.expect(false, &expected, || happened);
                Verdict::default()
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        // What a panic leaves behind is read by nobody but the report.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for GroupHistory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupHistory").field("told", &self.lock().told.len()).finish_non_exhaustive()
    }
}

/// What one member tells. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MemberHistory {
    history: GroupHistory,
    number: u32,
}

impl MemberHistory {
    /// Its number in the history.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// What its partitions are now.
    #[must_use]
    pub fn owned(&self) -> Vec<i32> {
        let records = self.history.lock();
        records.owned.iter().filter(|(member, _)| *member == self.number).map(|(_, p)| *p).collect()
    }

    /// It owns these from now on.
    pub fn assigned(&self, partitions: impl IntoIterator<Item = i32>) {
        partitions.into_iter().for_each(|partition| self.tell(partition, What::Assigned));
    }

    /// It gave these up; `committed`: with all that it has handled.
    pub fn revoked(&self, partitions: impl IntoIterator<Item = i32>, committed: bool) {
        partitions.into_iter().for_each(|partition| self.tell(partition, What::Revoked { committed }));
    }

    /// It learned that it does not own these any more.
    pub fn lost(&self, partitions: impl IntoIterator<Item = i32>) {
        partitions.into_iter().for_each(|partition| self.tell(partition, What::Lost));
    }

    /// Its process is gone.
    pub fn crashed(&self) {
        self.owned().into_iter().for_each(|partition| self.tell(partition, What::Crashed));
    }

    /// It got this record.
    pub fn handed_out(&self, partition: i32, offset: i64) {
        self.tell(partition, What::HandedOut(offset));
    }

    /// It has done what this record asks for.
    pub fn handled(&self, partition: i32, offset: i64) {
        self.tell(partition, What::Handled(offset));
    }

    fn tell(&self, partition: i32, what: What) {
        let GroupHistory { shared, .. } = &self.history;
        let mut records = self.history.lock();
        match what {
            What::Assigned => drop(records.owned.insert((self.number, partition))),
            What::Revoked { .. } | What::Lost | What::Crashed => {
                records.owned.remove(&(self.number, partition));
            }
            What::Handled(offset) => *records.handled.entry((partition, offset)).or_default() += 1,
            What::HandedOut(_) => {}
        }
        let told = Told { at: shared.lived(), member: self.number, partition, what };
        records.told.push(told);
        let name = Arc::clone(&records.members[self.number as usize - 1]);
        drop(records);
        if !matches!(what, What::HandedOut(_) | What::Handled(_)) {
            shared.record(Event::Note(format!("{name} of partition {partition}: {what:?}").into()));
        }
    }
}

/// Whether what the members told fits the logs and the commits. The members have stopped, or have nothing left to do.
///
/// An *ownership* is of one partition, by one member, until its end.
///
/// * **Nothing is lost**: every record of the log was handled.
/// * **Nothing is handled twice** unless an ownership ended with something handled and not committed: by a crash, by the
///   loss of the session, or because the commit failed. The verdict says what was.
/// * **Order**: an ownership hands out the records of its partition in order and without gaps; again only what it had
///   not handled. It begins where the last stored commit says.
/// * **Exclusivity** (INV-7): once somebody owns a partition, nothing of an earlier ownership is handed out any more.
/// * **Commits** (INV-8): never beyond the first record that nobody has handled, and never backwards.
///
/// `overlap` is how long an owner may go on after another has begun.
///
/// # Errors
/// The first violation.
pub fn check_group(
    told: &[Told],
    logs: &Logs,
    commits: &Commits,
    overlap: Duration,
) -> Result<Verdict, Violation> {
    let ownerships = ownerships(told)?;
    let mut verdict = Verdict::default();
    for (partition, log) in logs {
        let log: Vec<i64> = log.iter().map(|logged| logged.offset).collect();
        let none = (Vec::new(), Vec::new());
        let owned = ownerships.get(partition).unwrap_or(&none.0);
        let commits = commits.get(partition).unwrap_or(&none.1);
        check_exclusive(*partition, owned, overlap)?;
        owned.iter().try_for_each(|ownership| check_order(*partition, ownership, &log, commits))?;
        let handled = first_handled(owned);
        check_commits(*partition, commits, &log, &handled)?;
        check_twice(*partition, owned, &mut verdict.twice)?;
        check_lost(*partition, &log, &handled)?;
        verdict.handled += handled.len();
    }
    Ok(verdict)
}

/// One partition in the hands of one member.
#[derive(Debug)]
struct Ownership {
    member: u32,
    /// When it began: virtual time, and place among all that was told.
    began: (Duration, usize),
    /// How it ended, and its place.
    end: Option<(What, usize)>,
    /// Place, time and offset.
    handed_out: Vec<(usize, Duration, i64)>,
    handled: Vec<(usize, Duration, i64)>,
    /// The offsets of `handed_out`.
    known: BTreeSet<i64>,
}

fn violation<T>(expected: String, happened: String) -> Result<T, Violation> {
    Err(Violation { expected, happened })
}

/// A moment as reports show it.
fn second(at: Duration) -> String {
    format!("{:.3} s", at.as_secs_f64())
}

/// By partition, in the order in which they began.
fn ownerships(told: &[Told]) -> Result<BTreeMap<i32, Vec<Ownership>>, Violation> {
    let mut all: BTreeMap<i32, Vec<Ownership>> = BTreeMap::new();
    for (place, Told { at, member, partition, what }) in told.iter().copied().enumerate() {
        let of_partition = all.entry(partition).or_default();
        let last = of_partition.iter_mut().rev().find(|ownership| ownership.member == member);
        let current = last.filter(|ownership| ownership.end.is_none());
        match (what, current) {
            (What::Assigned, None) => of_partition.push(Ownership {
                member,
                began: (at, place),
                end: None,
                handed_out: Vec::new(),
                handled: Vec::new(),
                known: BTreeSet::new(),
            }),
            (What::HandedOut(offset), Some(owned)) => {
                owned.handed_out.push((place, at, offset));
                owned.known.insert(offset);
            }
            (What::Revoked { .. } | What::Lost | What::Crashed, Some(owned)) => {
                owned.end = Some((what, place));
            }
            (What::Handled(offset), _) => {
                // It may have ended meanwhile: the handler was running.
                let handed = |owned: &&mut Ownership| owned.member == member && owned.known.contains(&offset);
                match of_partition.iter_mut().rev().find(handed) {
                    Some(owned) => owned.handled.push((place, at, offset)),
                    None => return out_of_place(told[place]),
                }
            }
            _ => return out_of_place(told[place]),
        }
    }
    Ok(all)
}

fn out_of_place<T>(Told { at, member, partition, what }: Told) -> Result<T, Violation> {
    let expected = match what {
        What::Assigned => format!("member {member} to be told once that it owns partition {partition}"),
        What::Handled(_) => format!("member {member} to handle what it got of partition {partition}"),
        _ => format!("member {member} to own partition {partition}"),
    };
    violation(expected, format!("{what:?} at {}", second(at)))
}

/// Nothing is handed out under an ownership when a later one has begun.
fn check_exclusive(partition: i32, owned: &[Ownership], overlap: Duration) -> Result<(), Violation> {
    for (index, later) in owned.iter().enumerate() {
        for earlier in &owned[..index] {
            let too_late = |(place, at, _): &&(usize, Duration, i64)| {
                *place > later.began.1 && (overlap.is_zero() || *at > later.began.0 + overlap)
            };
            if earlier.handed_out.last().filter(too_late).is_none() {
                continue;
            }
            if let Some((_, at, offset)) = earlier.handed_out.iter().find(too_late) {
                return violation(
                    format!(
                        "member {} to get nothing of partition {partition} any more, since member {} owns it from {} on",
                        earlier.member,
                        later.member,
                        second(later.began.0)
                    ),
                    format!("it got offset {offset} at {}", second(*at)),
                );
            }
        }
    }
    Ok(())
}

/// An ownership begins at the last commit, goes on without gaps, and repeats only what it had not handled.
fn check_order(partition: i32, owned: &Ownership, log: &[i64], commits: &[Stored]) -> Result<(), Violation> {
    let Some((_, first_at, _)) = owned.handed_out.first() else { return Ok(()) };
    let committed = commits.iter().take_while(|stored| stored.at <= *first_at).last();
    let mut expected_next = next_in(log, committed.map_or(i64::MIN, |stored| stored.offset));
    for (place, at, offset) in &owned.handed_out {
        if Some(*offset) == expected_next {
            expected_next = next_in(log, offset + 1);
            continue;
        }
        let handed_before = owned.handed_out.iter().any(|(at, _, other)| at < place && other == offset);
        let handled_before = owned.handled.iter().any(|(at, _, other)| at < place && other == offset);
        if !handed_before || handled_before {
            let next = expected_next.map_or("nothing more".to_owned(), |offset| format!("offset {offset}"));
            return violation(
                format!("member {} to get {next} of partition {partition}", owned.member),
                format!("it got offset {offset} at {}", second(*at)),
            );
        }
    }
    Ok(())
}

/// The first offset of the log that is not below `offset`.
fn next_in(log: &[i64], offset: i64) -> Option<i64> {
    log.get(log.partition_point(|logged| *logged < offset)).copied()
}

/// When each offset was handled first.
fn first_handled(owned: &[Ownership]) -> BTreeMap<i64, Duration> {
    let mut first = BTreeMap::new();
    for (_, at, offset) in owned.iter().flat_map(|owned| &owned.handled) {
        let known = first.entry(*offset).or_insert(*at);
        *known = (*known).min(*at);
    }
    first
}

/// Commits never go back, and never pass what nobody had handled.
fn check_commits(
    partition: i32,
    commits: &[Stored],
    log: &[i64],
    handled: &BTreeMap<i64, Duration>,
) -> Result<(), Violation> {
    // Up to which offset everything was handled, and since when.
    let mut complete = log.iter().copied().peekable();
    let mut since = Duration::ZERO;
    let mut before: Option<&Stored> = None;
    for stored in commits {
        let Stored { at, offset } = *stored;
        if let Some(before) = before.filter(|before| before.offset > offset) {
            return violation(
                format!("the commits of partition {partition} never to go back"),
                format!("{} was committed, and {offset} at {}", before.offset, second(at)),
            );
        }
        before = Some(stored);
        while let Some(below) = complete.next_if(|logged| *logged < offset) {
            match handled.get(&below) {
                Some(first) => since = since.max(*first),
                None => since = Duration::MAX,
            }
            if since > at + TIMESTAMP {
                return violation(
                    format!("no commit of partition {partition} beyond offset {below} before it is handled"),
                    format!("{offset} was committed at {}", second(at)),
                );
            }
        }
        if next_in(log, offset).is_none() && log.last().map_or(0, |last| last + 1) < offset {
            return violation(
                format!("no commit of partition {partition} beyond the end of its log"),
                format!("{offset} was committed at {}", second(at)),
            );
        }
    }
    Ok(())
}

/// What was handled before is handled again only where it could not be committed.
fn check_twice(partition: i32, owned: &[Ownership], twice: &mut Vec<Twice>) -> Result<(), Violation> {
    let mut last: BTreeMap<i64, (usize, usize)> = BTreeMap::new();
    for (index, ownership) in owned.iter().enumerate() {
        for (place, at, offset) in &ownership.handled {
            let Some((before, handled)) = last.insert(*offset, (index, *place)) else { continue };
            let first = &owned[before];
            // What was still being handled when the partition went could not be committed.
            let committed =
                matches!(first.end, Some((What::Revoked { committed: true }, end)) if handled < end);
            if before == index || committed {
                return violation(
                    format!("offset {offset} of partition {partition} to be handled once"),
                    format!(
                        "member {} had handled it, and member {} did it again at {}",
                        first.member,
                        ownership.member,
                        second(*at)
                    ),
                );
            }
            let (first, again) = (first.member, ownership.member);
            twice.push(Twice { partition, offset: *offset, first, again });
        }
    }
    Ok(())
}

fn check_lost(partition: i32, log: &[i64], handled: &BTreeMap<i64, Duration>) -> Result<(), Violation> {
    match log.iter().find(|offset| !handled.contains_key(*offset)) {
        None => Ok(()),
        Some(offset) => violation(
            format!("every record of partition {partition} to be handled"),
            format!("offset {offset} never was"),
        ),
    }
}

#[cfg(test)]
#[path = "group_tests.rs"]
mod tests;
