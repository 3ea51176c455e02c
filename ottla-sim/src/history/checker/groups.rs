//! What the members of a group do with a partition (INV-6 to 9).
//!
//! ```text
//!              assigned                       revoked (all that was processed is committed, or not)
//!   nobody's ───────────> owned by a member ──────────────────────────────────────────────────────> nobody's
//!                            polls, processes      lost, crashed, closed
//! ```
//!
//! An *ownership* is one arrow to the right: of one partition, by one member, until its end. The members have stopped at
//! the end of the history, or have nothing left to do.
//!
//! * **Nothing is lost**: every record is processed, but those that the log dropped before.
//! * **Nothing is processed twice** unless an ownership ended with something processed and not committed: by a crash, by
//!   the loss of the session, or because the commit failed.
//! * **Order**: an ownership polls its records in order and without gaps; again only what it had not processed. It begins
//!   where the last commit says, or where the log begins by then.
//! * **Exclusivity**: once somebody owns a partition, nothing is polled under an earlier ownership any more.
//! * **Commits** never pass the first record that nobody has processed, and never go back for good: what got lost with its
//!   connection, and is acknowledged to nobody, can still be carried out behind a later one, which the member then repeats,
//!   unless its ownership ends before it can: then the next one begins there. Not one of a former owner: the coordinator
//!   refuses it once the partition is somebody else's.

use std::{collections::BTreeMap, time::Duration};

use ottla::TopicPartition;

use super::{
    Twice,
    findings::{Findings, Focus},
    logs::{Log, Logs},
    polls,
    tables::{Commit, Did, End, Lane, Place, Reader, Step, Tables},
};
use crate::history::Anomaly;

/// How much later than its timestamp a commit may have been stored: timestamps are whole milliseconds.
const TIMESTAMP: Duration = Duration::from_millis(1);

/// Checks one partition of one group.
pub(super) fn check(
    tables: &Tables,
    logs: &Logs,
    (lane, steps, committed): (Lane, &[Step], Committed<'_>),
    findings: &mut Findings,
) -> Verdict {
    let (log, number) = (logs.of(lane.partition), lane.partition);
    let Committed { commits, acknowledged } = committed;
    let partition = Partition { tables, log, number, commits, acknowledged };
    let owned = partition.ownerships(steps, findings);
    partition.exclusive(&owned, findings);
    owned.iter().for_each(|ownership| partition.order(ownership, findings));
    let first = partition.first_processed(&owned);
    partition.commits(&owned, &first, findings);
    owned.iter().for_each(|ownership| partition.late_commits(ownership, findings));
    let twice = partition.twice(&owned, findings);
    partition.lost(&first, findings);
    Verdict { processed: first.iter().flatten().count(), twice }
}

/// What may be counted.
pub(super) struct Verdict {
    pub(super) processed: usize,
    pub(super) twice: Vec<Twice>,
}

/// What was committed in a lane.
pub(super) struct Committed<'a> {
    pub(super) commits: &'a [Commit],
    /// What members were told of beside what the coordinator stored, if they tell.
    pub(super) acknowledged: Option<&'a [(i64, Duration)]>,
}

/// The offsets that members were told to be committed, and when, of groups whose coordinator's word is known as well.
pub(super) fn acknowledged(tables: &Tables) -> BTreeMap<Lane, Vec<(i64, Duration)>> {
    let mut by_lane: BTreeMap<Lane, Vec<(i64, Duration)>> = BTreeMap::new();
    for told in tables.commits.iter().filter(|told| !told.stored && tables.stored.contains(&told.group)) {
        let lane = Lane { reader: Reader::Group(told.group), partition: told.partition };
        by_lane.entry(lane).or_default().push((told.offset, tables.at(told.place)));
    }
    by_lane.values_mut().for_each(|told| told.sort_unstable());
    by_lane
}

/// The commits of a group, by lane and in their order: those that its coordinator stored where the history has them, else
/// those that members were told of.
pub(super) fn commits(tables: &Tables) -> BTreeMap<Lane, Vec<Commit>> {
    let mut by_lane: BTreeMap<Lane, Vec<Commit>> = BTreeMap::new();
    for commit in &tables.commits {
        if commit.stored == tables.stored.contains(&commit.group) {
            let lane = Lane { reader: Reader::Group(commit.group), partition: commit.partition };
            by_lane.entry(lane).or_default().push(*commit);
        }
    }
    by_lane
}

/// What was acknowledged as committed is stored.
pub(super) fn stored(tables: &Tables, commits: &BTreeMap<Lane, Vec<Commit>>, findings: &mut Findings) {
    let mut offsets: BTreeMap<Lane, Vec<i64>> = BTreeMap::new();
    for (lane, commits) in commits {
        let stored = offsets.entry(*lane).or_default();
        stored.extend(commits.iter().map(|commit| commit.offset));
        stored.sort_unstable();
    }
    for told in tables.commits.iter().filter(|commit| !commit.stored && tables.stored.contains(&commit.group))
    {
        let lane = Lane { reader: Reader::Group(told.group), partition: told.partition };
        if offsets.get(&lane).is_none_or(|stored| stored.binary_search(&told.offset).is_err()) {
            findings.add(
                Anomaly::LostCommit,
                Focus::on(told.partition, Some(told.offset), told.place),
                || {
                    let partition = tables.partitions.of(told.partition);
                    let expected =
                        format!("the commit of offset {} of {partition} to be stored", told.offset);
                    (
                        expected,
                        format!("it is not, though it was acknowledged at {}", tables.second(told.place)),
                    )
                },
            );
        }
    }
}

/// Topics that a group handles: all of their partitions' records must be processed, also where nobody ever was.
pub(super) fn partitions_without_owner(tables: &Tables) -> Vec<Lane> {
    let handled = tables.lanes.all().iter().filter_map(|lane| match lane.reader {
        Reader::Group(group) => Some((group, tables.partitions.of(lane.partition).topic())),
        Reader::Alone(_) => None,
    });
    let mut topics: Vec<(u32, &str)> = handled.collect();
    topics.sort_unstable();
    topics.dedup();
    let lanes = topics.into_iter().flat_map(|(group, topic)| {
        let of_topic = move |(_, partition): &(u32, &TopicPartition)| partition.topic() == topic;
        let numbered = (0..).zip(tables.partitions.all()).filter(of_topic);
        numbered.map(move |(partition, _)| Lane { reader: Reader::Group(group), partition })
    });
    lanes.filter(|lane| tables.lanes.all().iter().all(|known| known != lane)).collect()
}

/// One partition in the hands of one member.
struct Ownership {
    actor: u32,
    began: Place,
    end: Option<(End, Place)>,
    /// In their order.
    polled: Vec<(Place, i64)>,
    processed: Vec<(Place, i64)>,
    /// Before which of `polled` it was told to go on elsewhere, and where.
    seeks: Vec<(usize, Option<i64>)>,
    /// The lowest and the highest offset of `polled`.
    range: Option<(i64, i64)>,
}

impl Ownership {
    fn polled(&mut self, place: Place, offset: i64) {
        self.polled.push((place, offset));
        let (low, high) = self.range.unwrap_or((offset, offset));
        self.range = Some((low.min(offset), high.max(offset)));
    }

    /// Whether a record may have been polled. A gap is found elsewhere.
    fn knows(&self, offset: i64) -> bool {
        self.range.is_some_and(|(low, high)| low <= offset && offset <= high)
    }
}

struct Partition<'a> {
    tables: &'a Tables,
    log: &'a Log,
    number: u32,
    commits: &'a [Commit],
    acknowledged: Option<&'a [(i64, Duration)]>,
}

impl Partition<'_> {
    fn name(&self) -> &TopicPartition {
        self.tables.partitions.of(self.number)
    }

    fn focus(&self, offset: Option<i64>, place: Place) -> Focus {
        Focus::on(self.number, offset, place)
    }

    /// In the order in which they began.
    fn ownerships(&self, steps: &[Step], findings: &mut Findings) -> Vec<Ownership> {
        let mut all: Vec<Ownership> = Vec::new();
        let mut of_member: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for step in steps {
            let Step { place, actor, .. } = *step;
            let mine = of_member.entry(actor).or_default();
            let current = mine.last().copied().filter(|at| all[*at].end.is_none());
            match (step.did, current) {
                (Did::Assigned, None) => {
                    mine.push(all.len());
                    all.push(Ownership {
                        actor,
                        began: place,
                        end: None,
                        polled: Vec::new(),
                        processed: Vec::new(),
                        seeks: Vec::new(),
                        range: None,
                    });
                }
                (Did::Polled(offset), Some(at)) => all[at].polled(place, offset),
                (Did::Placed(offset), Some(at)) => {
                    let before = all[at].polled.len();
                    all[at].seeks.push((before, offset));
                }
                (Did::Gone(end), Some(at)) => all[at].end = Some((end, place)),
                (Did::Processed(offset), _) => {
                    // It may have ended meanwhile: the handler was running.
                    match mine.iter().rev().find(|at| all[**at].knows(offset)) {
                        Some(at) => all[*at].processed.push((place, offset)),
                        None => self.out_of_place(*step, findings),
                    }
                }
                (Did::Left | Did::Placed(_), _) => {}
                _ => self.out_of_place(*step, findings),
            }
        }
        all
    }

    fn out_of_place(&self, step: Step, findings: &mut Findings) {
        let (anomaly, offset) = match step.did {
            Did::Polled(offset) | Did::Processed(offset) => (Anomaly::NotOwner, Some(offset)),
            _ => (Anomaly::Malformed, None),
        };
        findings.add(anomaly, self.focus(offset, step.place), || {
            let (who, what, at) = (self.tables.name(step.actor), self.name(), self.tables.second(step.place));
            match step.did {
                Did::Assigned => (
                    format!("{who} to be told once that it owns {what}"),
                    format!("it was told again at {at}"),
                ),
                Did::Processed(offset) => (
                    format!("{who} to process what it got of {what}"),
                    format!("it processed offset {offset} at {at}"),
                ),
                Did::Polled(offset) => {
                    (format!("{who} to own {what}"), format!("it got offset {offset} at {at} without"))
                }
                _ => (format!("{who} to own {what}"), format!("it ceased to own it at {at}")),
            }
        });
    }

    /// Nothing is polled under an ownership when a later one has begun.
    fn exclusive(&self, owned: &[Ownership], findings: &mut Findings) {
        for pair in owned.windows(2) {
            let [earlier, later] = pair else { continue };
            let overlap = self.tables.actors[earlier.actor as usize].open.overlap;
            let until = self.tables.at(later.began) + overlap;
            let too_late = |(place, _): &&(Place, i64)| {
                *place > later.began && (overlap.is_zero() || self.tables.at(*place) > until)
            };
            let Some((place, offset)) = earlier.polled.iter().find(too_late) else { continue };
            findings.add(Anomaly::TwoOwners, self.focus(Some(*offset), *place), || {
                let (one, other) = (self.tables.name(earlier.actor), self.tables.name(later.actor));
                let (since, at) = (self.tables.second(later.began), self.tables.second(*place));
                let what = self.name();
                let expected =
                    format!("{one} to get nothing of {what} any more, since {other} owns it from {since} on");
                (expected, format!("it got offset {offset} at {at}"))
            });
        }
    }

    /// An ownership begins at the last commit, goes on without gaps, and repeats only what it had not processed.
    fn order(&self, owned: &Ownership, findings: &mut Findings) {
        let Some((first, offset)) = owned.polled.first() else { return };
        let mut next = self.start(*first, *offset);
        let mut seeks = owned.seeks.iter().peekable();
        let mut processed: Option<Vec<(i64, Place)>> = None;
        let mut last_poll = None;
        for (index, (place, offset)) in owned.polled.iter().enumerate() {
            let mut anywhere = false;
            while let Some((_, position)) = seeks.next_if(|(before, _)| *before <= index) {
                (next, anywhere) = position.map_or((next, true), |position| (self.log.rank(position), false));
            }
            let Some(rank) = self.log.find(*offset) else { continue };
            if rank == next || anywhere || self.log.dropped((next, rank), self.tables.at(*place)) {
                (next, last_poll) = (rank + 1, Some(*place));
                continue;
            }
            let again = index > 0 && rank < next && {
                let processed = processed.get_or_insert_with(|| by_offset(&owned.processed));
                let at = processed.partition_point(|(other, _)| other < offset);
                processed.get(at).is_none_or(|(other, when)| other != offset || when > place)
            };
            let in_range = index > 0 && owned.polled[0].1 <= *offset;
            if again && in_range {
                last_poll = Some(*place);
                continue;
            }
            let anomaly = match (index, rank > next, last_poll == Some(*place)) {
                (0, ..) => Anomaly::ResumeElsewhere,
                (_, true, true) => Anomaly::IntPollSkip,
                (_, true, false) => Anomaly::PollSkip,
                (_, false, true) => Anomaly::IntNonmonotonicPoll,
                (_, false, false) => Anomaly::NonmonotonicPoll,
            };
            let step = Step { lane: 0, place: *place, actor: owned.actor, did: Did::Polled(*offset) };
            let expected = self.log.entries.get(next).map(|entry| entry.offset);
            polls::report(self.tables, anomaly, (self.number, self.log), step, expected, findings);
            (next, last_poll) = (rank + 1, Some(*place));
        }
    }

    /// Where an ownership begins that polls for the first time then. Whether that was before or after what was stored in
    /// about that moment is not known: it may have begun at any of these commits, and so at the one of `polled`.
    fn start(&self, first_poll: Place, polled: i64) -> usize {
        let behind = |at: Duration| {
            self.commits.partition_point(|commit| match commit.stored {
                true => self.tables.at(commit.place) <= at,
                false => commit.place < first_poll,
            })
        };
        let at = self.tables.at(first_poll);
        let (certain, possible) = (behind(at.saturating_sub(TIMESTAMP)), behind(at));
        let start = |behind: usize| {
            let committed = behind.checked_sub(1).map(|last| &self.commits[last]);
            committed.map_or(0, |commit| self.log.rank(commit.offset))
        };
        let wanted = self.log.rank(polled);
        // What was dropped meanwhile is passed.
        let leads_there = |start: &usize| *start == wanted || self.log.dropped((*start, wanted), at);
        (certain..=possible).map(start).find(leads_there).unwrap_or_else(|| start(possible))
    }

    /// When each record was processed first, by its place in the log.
    fn first_processed(&self, owned: &[Ownership]) -> Vec<Option<Place>> {
        let mut first = vec![None; self.log.entries.len()];
        for (place, offset) in owned.iter().flat_map(|owned| &owned.processed) {
            if let Some(rank) = self.log.find(*offset) {
                first[rank] = Some(first[rank].map_or(*place, |known: Place| known.min(*place)));
            }
        }
        first
    }

    /// Commits never go back for good, and never pass what nobody had processed.
    fn commits(&self, owned: &[Ownership], processed: &[Option<Place>], findings: &mut Findings) {
        // Up to where everything was processed, and since when.
        let mut complete = 0;
        let mut since = Some(0);
        let mut highest: Option<i64> = None;
        let mut gone_back: Option<(i64, Commit)> = None;
        for commit in self.commits {
            let Commit { place, offset, .. } = *commit;
            if gone_back.is_some_and(|(_, late)| self.begins_at(&late, commit, owned)) {
                (highest, gone_back) = (Some(offset), None);
            }
            let goes_back = highest.filter(|highest| *highest > offset).map(|highest| (highest, *commit));
            match (goes_back, gone_back) {
                (Some(now), _) if self.is_heeded(commit) => self.commit_back(now, findings),
                // What was carried out late is one commit, as far as is known.
                (Some(_), Some(before)) if self.acknowledged.is_none() => self.commit_back(before, findings),
                _ => {}
            }
            gone_back = goes_back;
            highest = highest.max(Some(offset));
            let to = self.log.rank(offset);
            while complete < to {
                // Nobody could process what was dropped by then.
                if self.log.dropped((complete, complete + 1), self.tables.at(place) + TIMESTAMP) {
                    complete += 1;
                    continue;
                }
                since = since.zip(processed[complete]).map(|(since, first): (Place, Place)| since.max(first));
                complete += 1;
                if since.is_none_or(|since| self.after(since, commit)) {
                    let below = self.log.entries[complete - 1].offset;
                    findings.add(Anomaly::CommitUnprocessed, self.focus(Some(below), place), || {
                        let expected = format!(
                            "no commit of {} beyond offset {below} before it is processed",
                            self.name()
                        );
                        (expected, format!("{offset} was committed at {}", self.tables.second(place)))
                    });
                    // Told once for this commit; the next one is judged by what follows.
                    since = Some(0);
                    complete = to;
                }
            }
            let end = self.log.entries.last().map_or(0, |last| last.offset + 1);
            if self.log.truth && offset > end {
                findings.add(Anomaly::CommitUnprocessed, self.focus(Some(offset), place), || {
                    let happened = format!("{offset} was committed at {}", self.tables.second(place));
                    (format!("no commit of {} beyond the end of its log, {end}", self.name()), happened)
                });
            }
        }
        if let Some(last) = gone_back {
            self.commit_back(last, findings);
        }
    }

    /// Whether a member was told of the commit, which is then not one that was carried out late and for nobody. The word
    /// for an offset is about the last commit of it.
    fn is_heeded(&self, commit: &Commit) -> bool {
        let told = self.acknowledged.unwrap_or_default();
        let next = |other: &&Commit| other.offset == commit.offset && other.place > commit.place;
        let next = self.commits.iter().find(next).map_or(Duration::MAX, |next| self.tables.at(next.place));
        let first = told.partition_point(|told| *told < (commit.offset, self.tables.at(commit.place)));
        commit.stored && told.get(first).is_some_and(|(offset, at)| *offset == commit.offset && *at < next)
    }

    /// Whether an owner of whom a commit was carried out late lost the partition before it could repeat what it had
    /// committed since, or gave it up and could not: the next owner finds that commit, and claims the partition with it. The
    /// former one may hear of its loss much later.
    fn begins_at(&self, late: &Commit, claim: &Commit, owned: &[Ownership]) -> bool {
        let at = |place| self.tables.at(place);
        let (from, to) = (at(late.place), at(claim.place) + TIMESTAMP);
        let mut began = owned.iter().map(|next| at(next.began));
        let Some(next) = began.find(|began| from < *began && *began <= to) else { return false };
        let lost = |owned: &Ownership| match owned.end {
            Some((End::Lost | End::Revoked { committed: false }, end)) => from < at(end),
            Some((End::Revoked { committed: true } | End::Closed, end)) => next < at(end),
            Some((End::Crashed, _)) | None => true,
        };
        // A commit of anybody but the owner of that moment is refused.
        let owner = owned.iter().rev().find(|owned| at(owned.began) < from);
        let owner = owner.filter(|owned| owned.knows(late.offset));
        claim.stored && claim.offset == late.offset && owner.is_some_and(lost)
    }

    /// Nothing below where an owner began is committed while it owns the partition: it would be a former owner's.
    fn late_commits(&self, owned: &Ownership, findings: &mut Findings) {
        let (Some((low, _)), true) = (owned.range, owned.seeks.is_empty()) else { return };
        let overlap = self.tables.actors[owned.actor as usize].open.overlap;
        let until = owned.end.map_or(Duration::MAX, |(_, end)| self.tables.at(end));
        let began = self.tables.at(owned.began) + TIMESTAMP;
        let start = self.resumes(owned, self.log.rank(low), began);
        let late = |commit: &&Commit| {
            let at = self.tables.at(commit.place);
            commit.stored && began < at && at < until && self.log.rank(commit.offset) < start
        };
        let Some(commit) = self.commits.iter().find(late).filter(|_| overlap.is_zero()) else { return };
        findings.add(Anomaly::CommitBack, self.focus(Some(commit.offset), commit.place), || {
            let (owner, at) = (self.tables.name(owned.actor), self.tables.second(commit.place));
            let since = self.tables.second(owned.began);
            let expected = format!(
                "no commit of {} below {low}, where {owner} began, which owns it from {since} on",
                self.name()
            );
            (expected, format!("{} was committed at {at}", commit.offset))
        });
    }

    /// Where an ownership stood before it got the record at `first`: at the last commit by then, where the log has dropped
    /// what is between, and else there.
    fn resumes(&self, owned: &Ownership, first: usize, began: Duration) -> usize {
        let by_then = self.commits.partition_point(|commit| self.tables.at(commit.place) <= began);
        let committed = by_then.checked_sub(1).map_or(0, |last| self.log.rank(self.commits[last].offset));
        let got = owned.polled.first().map_or(began, |(place, _)| self.tables.at(*place));
        if self.log.dropped((committed, first), got) { committed } else { first }
    }

    fn commit_back(&self, (before, commit): (i64, Commit), findings: &mut Findings) {
        let Commit { place, offset, .. } = commit;
        findings.add(Anomaly::CommitBack, self.focus(Some(offset), place), || {
            let happened = format!("{before} was committed, and {offset} at {}", self.tables.second(place));
            (format!("the commits of {} never to go back for good", self.name()), happened)
        });
    }

    fn after(&self, processed: Place, commit: &Commit) -> bool {
        match commit.stored {
            true => self.tables.at(processed) > self.tables.at(commit.place) + TIMESTAMP,
            false => processed > commit.place,
        }
    }

    /// What was processed before is processed again only where it could not be committed.
    fn twice(&self, owned: &[Ownership], findings: &mut Findings) -> Vec<Twice> {
        let mut last: Vec<Option<(usize, Place)>> = vec![None; self.log.entries.len()];
        let mut twice = Vec::new();
        for (index, ownership) in owned.iter().enumerate() {
            for (place, offset) in &ownership.processed {
                let Some(rank) = self.log.find(*offset) else { continue };
                let Some((before, processed)) = last[rank].replace((index, *place)) else { continue };
                let first = &owned[before];
                // What was still being processed when the partition went could not be committed.
                let committed =
                    matches!(first.end, Some((End::Revoked { committed: true }, end)) if processed < end);
                let member = |actor: u32| self.tables.actors[actor as usize].actor;
                if before != index && !committed {
                    let (first, again) = (member(first.actor), member(ownership.actor));
                    twice.push(Twice { partition: self.name().clone(), offset: *offset, first, again });
                    continue;
                }
                findings.add(Anomaly::ProcessedAgain, self.focus(Some(*offset), *place), || {
                    let (one, other) = (self.tables.name(first.actor), self.tables.name(ownership.actor));
                    let at = self.tables.second(*place);
                    let expected = format!("offset {offset} of {} to be processed once", self.name());
                    (expected, format!("{one} had processed it, and {other} did it again at {at}"))
                });
            }
        }
        twice
    }

    fn lost(&self, processed: &[Option<Place>], findings: &mut Findings) {
        for (rank, (entry, processed)) in self.log.entries.iter().zip(processed).enumerate() {
            if processed.is_none() && self.log.is_left(rank) {
                findings.add(Anomaly::Unprocessed, self.focus(Some(entry.offset), entry.place), || {
                    let expected = format!("every record of {} to be processed", self.name());
                    (expected, format!("offset {} never was", entry.offset))
                });
            }
        }
    }
}

/// When each offset was processed first, by offset.
fn by_offset(processed: &[(Place, i64)]) -> Vec<(i64, Place)> {
    let mut by_offset: Vec<(i64, Place)> =
        processed.iter().map(|(place, offset)| (*offset, *place)).collect();
    by_offset.sort_unstable();
    by_offset
}
