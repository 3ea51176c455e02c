//! Random histories: whatever is handed out, completed, dropped, lost, sought and answered, what the coordinator stores
//! is never above a record that was handed out and is not complete.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use ottla_protocol::{
    ErrorCode,
    messages::{
        OffsetCommitRequest, OffsetCommitResponse,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    },
};
use proptest::prelude::*;

use super::{
    CommitPlan, CommitSettings, Commits, CommittedOffset, Kept, Membership, Moment, Ownership, Parcel,
    Promise, Rest, Run, TopicPartition, parcel::tests::parcel,
};
use crate::{
    backoff::BackoffPolicy,
    fetch::{Position, Tick},
};

const PARTITIONS: i32 = 2;

fn backoff() -> BackoffPolicy {
    BackoffPolicy::new(Duration::from_millis(100), Duration::from_secs(1))
}

#[derive(Debug, Clone)]
enum Step {
    /// Records with these distances from one to the next.
    Unpack {
        partition: i32,
        gaps: Vec<i64>,
        tail: i64,
    },
    Pass {
        partition: i32,
        span: i64,
    },
    HandOut {
        partition: i32,
        count: u32,
    },
    TakeAgain {
        partition: i32,
    },
    /// Of what is handed out, by its place.
    Complete {
        partition: i32,
        nth: usize,
    },
    CompleteOffsets {
        partition: i32,
        from: i64,
        count: i64,
    },
    Release {
        partition: i32,
        nth: usize,
        count: u32,
    },
    CompleteWhatWasLost {
        nth: usize,
    },
    Seek {
        partition: i32,
        percent: i64,
    },
    Truncate {
        partition: i32,
        percent: i64,
    },
    Lose {
        partition: i32,
    },
    Own {
        partition: i32,
    },
    Rejoin,
    Ask,
    Send,
    Answer {
        code: Answered,
    },
    Vanish {
        carried_out: bool,
    },
    Wait {
        millis: u64,
    },
}

#[derive(Debug, Clone, Copy)]
enum Answered {
    Ok,
    Loading,
    Rebalancing,
    IllegalGeneration,
    TooLarge,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let partition = 0..PARTITIONS;
    let code = prop_oneof![
        6 => Just(Answered::Ok),
        1 => Just(Answered::Loading),
        1 => Just(Answered::Rebalancing),
        1 => Just(Answered::IllegalGeneration),
        1 => Just(Answered::TooLarge),
    ];
    let gaps = proptest::collection::vec(prop_oneof![4 => Just(1_i64), 1 => 2_i64..4], 1..90);
    let step = prop_oneof![
        4 => (partition.clone(), gaps, 0_i64..3)
            .prop_map(|(partition, gaps, tail)| Step::Unpack { partition, gaps, tail }),
        1 => (partition.clone(), 1_i64..4).prop_map(|(partition, span)| Step::Pass { partition, span }),
        5 => (partition.clone(), 1_u32..50).prop_map(|(partition, count)| Step::HandOut { partition, count }),
        4 => partition.clone().prop_map(|partition| Step::TakeAgain { partition }),
        12 => (partition.clone(), 0_usize..100).prop_map(|(partition, nth)| Step::Complete { partition, nth }),
        2 => (partition.clone(), 0_i64..200, 0_i64..40)
            .prop_map(|(partition, from, count)| Step::CompleteOffsets { partition, from, count }),
        3 => (partition.clone(), 0_usize..50, 1_u32..60)
            .prop_map(|(partition, nth, count)| Step::Release { partition, nth, count }),
        1 => (0_usize..50).prop_map(|nth| Step::CompleteWhatWasLost { nth }),
        1 => (partition.clone(), 0_i64..=100).prop_map(|(partition, percent)| Step::Seek { partition, percent }),
        1 => (partition.clone(), 0_i64..=100)
            .prop_map(|(partition, percent)| Step::Truncate { partition, percent }),
        1 => partition.clone().prop_map(|partition| Step::Lose { partition }),
        3 => partition.prop_map(|partition| Step::Own { partition }),
        1 => Just(Step::Rejoin),
        1 => Just(Step::Ask),
        8 => Just(Step::Send),
        8 => code.prop_map(|code| Step::Answer { code }),
        1 => any::<bool>().prop_map(|carried_out| Step::Vanish { carried_out }),
        5 => (0_u64..1_500).prop_map(|millis| Step::Wait { millis }),
    ];
    proptest::collection::vec(step, 1..250)
}

/// What must be true of one owned partition.
struct Owned {
    token: u64,
    ownership: Ownership<()>,
    parcels: Vec<Arc<Parcel>>,
    /// The next offset to unpack.
    end: i64,
    /// What was handed out in this run and is not complete.
    open: BTreeSet<i64>,
    /// What came back, in this run.
    waiting: BTreeSet<i64>,
    complete: BTreeSet<i64>,
    /// The last commit of this run.
    run: (Run, i64),
}

/// What was complete when somebody asked, and still stands: token, run and offset by partition.
type Wanted = BTreeMap<i32, (u64, Run, i64)>;

struct Model {
    began: Instant,
    now: Instant,
    generation: i32,
    commits: Commits,
    owned: BTreeMap<i32, Owned>,
    /// Parcels of ownerships that are over.
    lost: Vec<Arc<Parcel>>,
    tokens: u64,
    stored: BTreeMap<i32, i64>,
    request: Option<OffsetCommitRequest>,
    promises: Vec<(Promise, Wanted)>,
}

impl Model {
    fn new() -> Self {
        let settings = CommitSettings {
            interval: Some(Duration::from_secs(1)),
            proof_of_life: Duration::from_secs(6),
            backoff: backoff(),
        };
        #[expect(clippy::disallowed_methods, reason = "any moment will do")]
        let now = Instant::now();
        Self {
            began: now,
            now,
            generation: 1,
            commits: Commits::new(settings),
            owned: BTreeMap::new(),
            lost: Vec::new(),
            tokens: 0,
            stored: BTreeMap::new(),
            request: None,
            promises: Vec::new(),
        }
    }

    fn at(&self) -> Moment {
        Moment { now: self.now, elapsed: self.now - self.began, random: 7 }
    }

    fn tick(&self) -> Tick {
        Tick { now: self.now, wall: SystemTime::UNIX_EPOCH, random: 7 }
    }

    fn membership(&self) -> Membership {
        Membership {
            group_id: "billing".into(),
            member_id: "me".into(),
            generation_id: self.generation,
            instance_id: None,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Own { partition } => self.own(partition),
            Step::Lose { partition } => self.lose(partition),
            Step::Rejoin => self.generation += 1,
            Step::Wait { millis } => {
                self.now += Duration::from_millis(millis);
                for owned in self.owned.values_mut() {
                    owned.ownership.wake(self.now);
                }
            }
            Step::Ask => self.ask(),
            Step::Send => self.send(),
            Step::Answer { code } => self.answer(code),
            Step::Vanish { carried_out } => self.vanish(carried_out),
            Step::CompleteWhatWasLost { nth } => {
                if let Some(parcel) = self.lost.get(nth % self.lost.len().max(1)) {
                    parcel.complete(nth as u32 % parcel.len());
                }
            }
            step => self.step_of_partition(step),
        }
    }

    fn step_of_partition(&mut self, step: Step) {
        let tick = self.tick();
        let (Step::Unpack { partition, .. }
        | Step::Pass { partition, .. }
        | Step::HandOut { partition, .. }
        | Step::TakeAgain { partition }
        | Step::Complete { partition, .. }
        | Step::CompleteOffsets { partition, .. }
        | Step::Release { partition, .. }
        | Step::Seek { partition, .. }
        | Step::Truncate { partition, .. }) = step
        else {
            return;
        };
        let Some(owned) = self.owned.get_mut(&partition) else { return };
        match step {
            Step::Unpack { gaps, tail, .. } => owned.unpack(&gaps, tail),
            Step::Pass { span, .. } => {
                owned.end += span;
                owned.ownership.passed(Position::at(owned.end));
            }
            Step::HandOut { count, .. } => owned.hand_out(count),
            Step::TakeAgain { .. } => owned.take_again(),
            Step::Complete { nth, .. } => owned.complete(nth),
            Step::CompleteOffsets { from, count, .. } => owned.complete_offsets(from, from + count),
            Step::Release { nth, count, .. } => owned.release(nth, count, tick),
            Step::Seek { percent, .. } => {
                let to = owned.end * percent / 100;
                owned.forget_from(i64::MIN);
                owned.ownership.restart();
                assert_eq!(owned.ownership.committable(), None);
                owned.ownership.start(Position::at(to));
                owned.end = to;
            }
            Step::Truncate { percent, .. } => {
                let to = owned.end * percent / 100;
                owned.forget_from(to);
                owned.ownership.passed(Position::at(to));
                owned.end = to;
                let wanted = self.promises.iter_mut().filter_map(|(_, wanted)| wanted.get_mut(&partition));
                for (.., offset) in wanted.filter(|(token, ..)| *token == owned.token) {
                    *offset = to.min(*offset);
                }
            }
            _ => {}
        }
        owned.check();
    }

    fn own(&mut self, partition: i32) {
        if self.owned.contains_key(&partition) {
            return;
        }
        let token = self.tokens;
        self.tokens += 1;
        let found = self.stored.get(&partition).copied();
        let start = found.unwrap_or(0);
        let found =
            found.map(|offset| CommittedOffset { offset, leader_epoch: -1, metadata: "somebody's".into() });
        self.commits.own(token, TopicPartition::new("orders", partition), found);
        self.commits.open(token);
        let mut ownership = Ownership::default();
        ownership.start(Position::at(start));
        let owned = Owned {
            token,
            ownership,
            parcels: Vec::new(),
            end: start,
            open: BTreeSet::new(),
            waiting: BTreeSet::new(),
            complete: BTreeSet::new(),
            run: (Run::default(), i64::MIN),
        };
        self.owned.insert(partition, owned);
    }

    fn lose(&mut self, partition: i32) {
        let Some(mut owned) = self.owned.remove(&partition) else { return };
        // Partitions come and go in rebalances only.
        self.generation += 1;
        owned.ownership.end();
        self.commits.disown(owned.token);
        self.lost.append(&mut owned.parcels);
    }

    fn ask(&mut self) {
        let tokens: Vec<u64> = self.owned.values().map(|owned| owned.token).collect();
        let mut wanted = BTreeMap::new();
        for (partition, owned) in &mut self.owned {
            let (run, position) = owned.ownership.committable().unwrap();
            wanted.insert(*partition, (owned.token, run, position.offset));
        }
        let promise = self.commits.ask(tokens, &mut committable(&mut self.owned));
        self.promises.push((promise, wanted));
    }

    fn send(&mut self) {
        let (at, membership) = (self.at(), self.membership());
        let plan = self.commits.next(at, Some(&membership), false, &mut committable(&mut self.owned));
        let CommitPlan::Send(request) = plan else { return };
        assert!(self.request.is_none(), "one request at a time");
        assert_eq!(request.generation_id_or_member_epoch, self.generation);
        let mut parts = 0;
        for part in request.topics.iter().flat_map(|topic| &topic.partitions) {
            parts += 1;
            let owned = self.owned.get_mut(&part.partition_index).expect("only what is owned is committed");
            let (run, position) = owned.ownership.committable().unwrap();
            let offset = part.committed_offset;
            assert!(offset <= position.offset || owned.run.0 == run && offset <= owned.run.1);
            assert!(owned.run.0 != run || offset >= owned.run.1, "a commit goes back within a run");
            owned.run = (run, offset);
        }
        assert!(parts > 0);
        self.request = Some(request);
    }

    /// The coordinator carries the request out, if the member is still what it says it is.
    fn carry_out(&mut self, request: &OffsetCommitRequest) {
        for part in request.topics.iter().flat_map(|topic| &topic.partitions) {
            self.stored.insert(part.partition_index, part.committed_offset);
        }
    }

    fn answer(&mut self, code: Answered) {
        let Some(request) = self.request.take() else { return };
        let is_old = request.generation_id_or_member_epoch != self.generation;
        let code = match code {
            _ if is_old => ErrorCode::ILLEGAL_GENERATION,
            Answered::Ok => ErrorCode::NONE,
            Answered::Loading => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            Answered::Rebalancing => ErrorCode::REBALANCE_IN_PROGRESS,
            Answered::IllegalGeneration => {
                self.generation += 1;
                ErrorCode::ILLEGAL_GENERATION
            }
            Answered::TooLarge => ErrorCode::OFFSET_METADATA_TOO_LARGE,
        };
        if code.is_ok() {
            self.carry_out(&request);
        }
        let topics = request.topics.iter().map(|topic| OffsetCommitResponseTopic {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|part| OffsetCommitResponsePartition {
                    partition_index: part.partition_index,
                    error_code: code,
                })
                .collect(),
            ..Default::default()
        });
        let response = OffsetCommitResponse { topics: topics.collect(), ..Default::default() };
        let outcome = self.commits.on_answer(self.at(), &response);
        assert_eq!(outcome.written.is_some(), !outcome.acknowledged.is_empty());
        let is_membership = matches!(code, ErrorCode::ILLEGAL_GENERATION | ErrorCode::REBALANCE_IN_PROGRESS);
        assert!(outcome.rejected.is_none() || is_membership);
        self.check_stored();
    }

    fn vanish(&mut self, carried_out: bool) {
        let Some(request) = self.request.take() else { return };
        if carried_out && request.generation_id_or_member_epoch == self.generation {
            self.carry_out(&request);
        }
        self.commits.on_lost(self.at());
        self.check_stored();
    }

    fn check_stored(&mut self) {
        for (partition, owned) in &mut self.owned {
            // After a seek or a truncation the coordinator has what was right before, until the next commit.
            let (run, _) = owned.ownership.committable().unwrap();
            if let (Some(stored), Some(open)) = (self.stored.get(partition), owned.open.first())
                && owned.run == (run, *stored)
            {
                assert!(stored <= open, "{stored} is committed, and {open} is not complete");
            }
        }
    }

    fn check_promises(&mut self) {
        let mut promises = std::mem::take(&mut self.promises);
        promises.retain_mut(|(promise, wanted)| {
            let kept = self.commits.kept(promise, &mut committable(&mut self.owned));
            match kept {
                Kept::NotYet | Kept::AskedAgain => return true,
                Kept::Yes => {
                    for (partition, (token, run, offset)) in wanted {
                        let owned = self.owned.get_mut(partition).filter(|owned| owned.token == *token);
                        let stands = owned.is_some_and(|owned| {
                            let now = owned.ownership.committable();
                            now.is_some_and(|(now, _)| now.is_of_the_same_seek(*run))
                        });
                        if stands {
                            assert!(self.stored[partition] >= *offset, "a promise was not kept");
                        }
                    }
                }
                Kept::Refused(..) | Kept::Lost(_) => {}
            }
            false
        });
        self.promises.append(&mut promises);
    }

    /// With nobody in the way, everything that is complete is committed.
    fn finish(&mut self) {
        self.answer(Answered::Ok);
        for _ in 0..3 {
            self.now += Duration::from_secs(11);
            self.send();
            self.answer(Answered::Ok);
        }
        for (partition, owned) in &mut self.owned {
            let (_, position) = owned.ownership.committable().unwrap();
            assert_eq!(self.stored.get(partition), Some(&position.offset));
            assert!(self.commits.is_claimed(owned.token));
        }
        self.check_promises();
        assert!(self.promises.is_empty());
    }
}

fn committable(owned: &mut BTreeMap<i32, Owned>) -> impl FnMut(u64) -> Option<(Run, Position)> {
    |token| owned.values_mut().find(|owned| owned.token == token)?.ownership.committable()
}

impl Owned {
    fn unpack(&mut self, gaps: &[i64], tail: i64) {
        let from = self.end;
        let mut offsets = Vec::new();
        for gap in gaps {
            // The first gap is in front of the first record.
            offsets.push(self.end + gap - 1);
            self.end += gap;
        }
        self.end += tail;
        let parcel = Arc::new(parcel(self.token, &offsets, self.end));
        self.ownership.unpacked(Position::at(from), Arc::clone(&parcel));
        self.parcels.push(parcel);
    }

    fn hand_out(&mut self, count: u32) {
        let fresh = self.parcels.iter().find(|parcel| parcel.handed_out().end < parcel.len());
        let (false, Some(parcel)) = (self.ownership.holds_back(), fresh) else { return };
        let from = parcel.handed_out().end;
        let to = (from + count).min(parcel.len());
        parcel.hand_out(to);
        // What a truncation took before it was handed out is nobody's duty.
        let duties = (from..to).filter(|index| !parcel.is_complete(*index..*index + 1));
        self.open.extend(duties.map(|index| parcel.offset(index)));
    }

    fn take_again(&mut self) {
        let first = self.waiting.first().copied();
        let Some(rest) = self.ownership.take() else { return };
        for (nth, index) in rest.range.enumerate() {
            let offset = rest.parcel.offset(index);
            assert!(nth > 0 || Some(offset) == first, "not what came back first");
            assert!(self.waiting.remove(&offset), "{offset} did not come back, or is complete");
            assert!(self.open.insert(offset));
        }
        assert_eq!(self.ownership.holds_back(), !self.waiting.is_empty());
    }

    fn find(&self, nth: usize) -> Option<(Arc<Parcel>, u32)> {
        let offset = *self.open.iter().nth(nth % self.open.len().max(1))?;
        let parcel =
            self.parcels.iter().rev().find(|parcel| !parcel.indices(offset..offset + 1).is_empty())?;
        Some((Arc::clone(parcel), parcel.indices(offset..offset + 1).start))
    }

    fn complete(&mut self, nth: usize) {
        if let Some((parcel, index)) = self.find(nth) {
            parcel.complete(index);
            self.open.remove(&parcel.offset(index));
            self.complete.insert(parcel.offset(index));
        }
    }

    fn complete_offsets(&mut self, from: i64, to: i64) {
        let named: Vec<i64> =
            self.open.iter().chain(&self.waiting).copied().filter(|at| (from..to).contains(at)).collect();
        if self.ownership.complete(from..to).is_some() {
            for offset in named {
                self.open.remove(&offset);
                self.waiting.remove(&offset);
                self.complete.insert(offset);
            }
        }
    }

    fn release(&mut self, nth: usize, count: u32, tick: Tick) {
        let Some((parcel, index)) = self.find(nth) else { return };
        let range = index..(index + count).min(parcel.handed_out().end);
        // What waits already is in nobody's hands, and what is complete does not come back.
        let is_complete = |index: &u32| parcel.is_complete(*index..*index + 1);
        let waits = |index: &u32| !is_complete(index) && self.waiting.contains(&parcel.offset(*index));
        let end = range.clone().find(waits).unwrap_or(range.end);
        let range = range.start..end;
        for offset in range.clone().filter(|index| !is_complete(index)).map(|index| parcel.offset(index)) {
            assert!(self.open.remove(&offset) && self.waiting.insert(offset));
        }
        assert!(self.ownership.release(Rest { pack: (), parcel: parcel.clone(), range }, tick, &backoff()));
        assert!(self.ownership.holds_back());
    }

    fn forget_from(&mut self, from: i64) {
        for set in [&mut self.open, &mut self.waiting, &mut self.complete] {
            set.split_off(&from);
        }
        self.parcels.retain(|parcel| parcel.offset(0) < from);
    }

    fn check(&mut self) {
        let (_, position) = self.ownership.committable().unwrap();
        let incomplete = self.open.first().into_iter().chain(self.waiting.first()).min();
        assert!(incomplete.is_none_or(|first| position.offset <= *first), "{position:?} {incomplete:?}");
        let unread = self.parcels.iter().find(|parcel| parcel.handed_out().end < parcel.len());
        if let (None, None) = (incomplete, unread) {
            assert_eq!(position.offset, self.end, "everything is complete");
        }
        assert_eq!(self.ownership.first_open(), self.open.first().copied());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_committed_that_is_not_complete(steps in steps()) {
        let mut model = Model::new();
        model.own(0);
        for step in steps {
            model.step(step);
            model.check_promises();
        }
        model.finish();
    }
}
