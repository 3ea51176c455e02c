//! What is committed when, and what the coordinator's answers mean.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ottla_protocol::{
    ErrorCode,
    messages::{
        OffsetCommitRequest, OffsetCommitResponse,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    },
};

use super::commits::LONGEST_UNKNOWN;
use super::{
    CommitPlan, CommitSettings, Commits, Committed, CommittedOffset, Kept, Membership, Moment, Promise, Run,
    TopicPartition,
};
use crate::{backoff::BackoffPolicy, fetch::Position};

const SECOND: Duration = Duration::from_secs(1);
const SESSION: Duration = Duration::from_secs(6);

/// A member that owns some partitions of `orders`; the token of each is its number.
struct Bench {
    commits: Commits,
    now: Instant,
    elapsed: Duration,
    generation: i32,
    /// The lease waits for a commit.
    prove: bool,
    complete: BTreeMap<u64, (Run, i64)>,
    /// Of what is complete.
    leader_epoch: i32,
}

impl Bench {
    fn new(interval: Option<Duration>) -> Self {
        let backoff = BackoffPolicy::new(SECOND / 10, SECOND);
        let settings = CommitSettings { interval, proof_of_life: SESSION, backoff };
        #[expect(clippy::disallowed_methods, reason = "any moment will do")]
        let now = Instant::now();
        Self {
            commits: Commits::new(settings),
            now,
            elapsed: Duration::ZERO,
            generation: 1,
            prove: false,
            complete: BTreeMap::new(),
            leader_epoch: 2,
        }
    }

    fn at(&self) -> Moment {
        Moment { now: self.now, elapsed: self.elapsed, random: 7 }
    }

    /// Owns a partition of which the group has committed `found`; it reads from `start`.
    fn own(&mut self, partition: i32, found: Option<i64>, start: i64) {
        let token = partition as u64;
        let found = found.map(|offset| CommittedOffset { offset, leader_epoch: 2, metadata: "note".into() });
        self.commits.own(token, TopicPartition::new("orders", partition), found);
        self.complete.insert(token, (Run::default(), start));
    }

    /// The same, and its claim is acknowledged.
    fn own_and_claim(&mut self, partition: i32) {
        self.own(partition, Some(0), 0);
        self.commits.open(partition as u64);
        let claim = self.send().expect("a claim");
        self.answer(&claim, ErrorCode::NONE);
    }

    fn complete_up_to(&mut self, partition: i32, offset: i64) {
        self.complete.get_mut(&(partition as u64)).unwrap().1 = offset;
    }

    /// The user goes somewhere else.
    fn seek(&mut self, partition: i32, to: i64) {
        let complete = self.complete.get_mut(&(partition as u64)).unwrap();
        *complete = (complete.0.sought(), to);
    }

    /// The log was cut, and is complete up to there.
    fn cut(&mut self, partition: i32, complete_up_to: i64) {
        let complete = self.complete.get_mut(&(partition as u64)).unwrap();
        *complete = (complete.0.cut(), complete_up_to);
    }

    fn plan(&mut self) -> CommitPlan {
        let membership = Membership {
            group_id: "billing".into(),
            member_id: "me".into(),
            generation_id: self.generation,
            instance_id: None,
        };
        let (at, complete, epoch) = (self.at(), &self.complete, self.leader_epoch);
        self.commits.next(at, Some(&membership), self.prove, &mut |token| {
            complete.get(&token).map(|(run, offset)| (*run, Position::with_epoch(*offset, epoch)))
        })
    }

    fn send(&mut self) -> Option<OffsetCommitRequest> {
        match self.plan() {
            CommitPlan::Send(request) => Some(request),
            CommitPlan::Wait(_) => None,
        }
    }

    fn ask(&mut self) -> Promise {
        let (complete, epoch) = (&self.complete, self.leader_epoch);
        let tokens: Vec<u64> = complete.keys().copied().collect();
        self.commits.ask(tokens, &mut |token| {
            complete.get(&token).map(|(run, offset)| (*run, Position::with_epoch(*offset, epoch)))
        })
    }

    fn kept(&mut self, promise: &mut Promise) -> Kept {
        let (complete, epoch) = (&self.complete, self.leader_epoch);
        self.commits.kept(promise, &mut |token| {
            complete.get(&token).map(|(run, offset)| (*run, Position::with_epoch(*offset, epoch)))
        })
    }

    fn answer(&mut self, request: &OffsetCommitRequest, code: ErrorCode) -> Committed {
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
        self.commits.on_answer(self.at(), &response)
    }

    fn pass(&mut self, time: Duration) {
        self.elapsed += time;
        self.now += time;
    }
}

fn offsets(request: &OffsetCommitRequest) -> Vec<(i32, i64)> {
    let parts = request.topics.iter().flat_map(|topic| &topic.partitions);
    parts.map(|part| (part.partition_index, part.committed_offset)).collect()
}

#[test]
fn an_ownership_begins_with_a_claim_of_the_place_where_it_begins() {
    let mut bench = Bench::new(Some(SECOND));
    bench.own(0, Some(7), 7);
    bench.own(1, None, 30);
    assert!(bench.send().is_none(), "the driver has not opened them");
    bench.commits.open(0);
    bench.commits.open(1);
    let claim = bench.send().unwrap();
    assert_eq!(offsets(&claim), [(0, 7), (1, 30)]);
    let part = &claim.topics[0].partitions[0];
    assert_eq!(part.committed_metadata.as_deref(), Some("note"), "what others wrote stays");
    assert_eq!(part.committed_leader_epoch, 2);
    assert!(!bench.commits.is_claimed(0));
    let outcome = bench.answer(&claim, ErrorCode::NONE);
    assert_eq!(outcome.claimed, [0, 1]);
    assert_eq!(outcome.written.map(|(_, membership)| membership.generation_id), Some(1));
    assert!(bench.send().is_none());
}

#[test]
fn a_place_that_is_not_known_yet_is_not_claimed() {
    let mut bench = Bench::new(Some(SECOND));
    bench.own(0, None, 0);
    bench.complete.clear();
    bench.commits.open(0);
    assert!(bench.send().is_none());
    bench.complete.insert(0, (Run::default(), 5));
    assert_eq!(offsets(&bench.send().unwrap()), [(0, 5)]);
}

#[test]
fn what_is_complete_is_committed_once_an_interval() {
    let mut bench = Bench::new(Some(SECOND));
    bench.own_and_claim(0);
    bench.complete_up_to(0, 10);
    assert!(matches!(bench.plan(), CommitPlan::Wait(Some(at)) if at <= bench.now + SECOND));
    bench.pass(SECOND);
    let commit = bench.send().unwrap();
    assert_eq!(offsets(&commit), [(0, 10)]);
    bench.complete_up_to(0, 20);
    bench.pass(SECOND);
    assert!(bench.send().is_none(), "one request at a time");
    bench.answer(&commit, ErrorCode::NONE);
    assert_eq!(offsets(&bench.send().unwrap()), [(0, 20)]);
}

#[test]
fn without_an_interval_only_asking_commits() {
    let mut bench = Bench::new(None);
    bench.own_and_claim(0);
    bench.complete_up_to(0, 10);
    bench.pass(SESSION / 2);
    assert!(bench.send().is_none());
    let mut promise = bench.ask();
    assert_eq!(bench.kept(&mut promise), Kept::NotYet);
    let commit = bench.send().unwrap();
    bench.answer(&commit, ErrorCode::NONE);
    assert_eq!(bench.kept(&mut promise), Kept::Yes);
}

#[test]
fn a_member_with_nothing_to_commit_proves_now_and_then_that_the_coordinator_can_write() {
    let mut bench = Bench::new(None);
    bench.own_and_claim(0);
    bench.own_and_claim(1);
    bench.complete_up_to(0, 10);
    assert!(matches!(bench.plan(), CommitPlan::Wait(Some(at)) if at == bench.now + SESSION));
    bench.pass(SESSION);
    let proof = bench.send().unwrap();
    assert_eq!(offsets(&proof), [(0, 0)], "nothing that nobody asked to commit");
    bench.commits.on_lost(bench.at());
    bench.pass(SECOND);
    let proof = bench.send().unwrap();
    assert_eq!(offsets(&proof), [(0, 0)], "until it is acknowledged");
    bench.answer(&proof, ErrorCode::NONE);
    assert!(matches!(bench.plan(), CommitPlan::Wait(Some(at)) if at == bench.now + SESSION));
}

/// Else the lease of whoever went back to what is committed, and waits there, would end for good.
#[test]
fn a_seek_does_not_end_the_proofs() {
    for place in [0, 7] {
        let mut bench = Bench::new(None);
        bench.own_and_claim(0);
        bench.seek(0, place);
        bench.pass(SESSION);
        let proof = bench.send().unwrap();
        assert_eq!(offsets(&proof), [(0, 0)], "what the coordinator has");
        bench.answer(&proof, ErrorCode::NONE);
        assert!(matches!(bench.plan(), CommitPlan::Wait(Some(at)) if at == bench.now + SESSION));
    }
}

#[test]
fn a_proof_behind_a_truncation_says_no_epoch_that_may_be_of_the_other_log() {
    let mut bench = Bench::new(None);
    bench.own_and_claim(0);
    for (epoch, proven) in [(5, 2), (1, 1)] {
        (bench.leader_epoch, bench.prove) = (epoch, true);
        bench.cut(0, 10);
        let proof = bench.send().unwrap();
        let part = &proof.topics[0].partitions[0];
        assert_eq!((part.committed_offset, part.committed_leader_epoch), (0, proven));
        bench.answer(&proof, ErrorCode::NONE);
    }
}

#[test]
fn the_same_offset_in_the_log_that_took_its_place_is_another_commit() {
    let mut bench = Bench::new(None);
    bench.own_and_claim(0);
    bench.complete_up_to(0, 5);
    bench.ask();
    let commit = bench.send().unwrap();
    bench.answer(&commit, ErrorCode::NONE);
    // The log was cut at 3, and is complete up to 5 again.
    bench.leader_epoch = 4;
    bench.cut(0, 5);
    let mut promise = bench.ask();
    assert_eq!(bench.kept(&mut promise), Kept::NotYet);
    let commit = bench.send().unwrap();
    assert_eq!(commit.topics[0].partitions[0].committed_leader_epoch, 4);
    assert_eq!(bench.kept(&mut promise), Kept::NotYet);
    bench.answer(&commit, ErrorCode::NONE);
    assert_eq!(bench.kept(&mut promise), Kept::Yes);
}

#[test]
fn what_was_committed_of_a_log_keeps_no_promise_of_the_one_that_took_its_place() {
    let mut bench = Bench::new(None);
    bench.own_and_claim(0);
    bench.complete_up_to(0, 5);
    bench.ask();
    let commit = bench.send().unwrap();
    bench.answer(&commit, ErrorCode::NONE);
    bench.cut(0, 3);
    let mut promise = bench.ask();
    let commit = bench.send().unwrap();
    assert_eq!(bench.kept(&mut promise), Kept::NotYet, "it is under way");
    bench.answer(&commit, ErrorCode::NONE);
    assert_eq!(bench.kept(&mut promise), Kept::Yes);
}

#[test]
fn a_cut_takes_nothing_from_a_promise_but_what_it_took_from_the_log() {
    for (cut_at, committed) in [(7, 7), (30, 10)] {
        let mut bench = Bench::new(None);
        bench.own_and_claim(0);
        bench.complete_up_to(0, 10);
        let mut promise = bench.ask();
        let commit = bench.send().unwrap();
        bench.cut(0, cut_at.min(10));
        bench.answer(&commit, ErrorCode::REBALANCE_IN_PROGRESS);
        assert_eq!(bench.kept(&mut promise), Kept::AskedAgain);
        assert_eq!(bench.kept(&mut promise), Kept::NotYet);
        bench.pass(SECOND);
        let commit = bench.send().expect("what still stands");
        assert_eq!(offsets(&commit), [(0, committed)]);
        bench.complete_up_to(0, 12);
        bench.answer(&commit, ErrorCode::NONE);
        assert_eq!(bench.kept(&mut promise), Kept::Yes, "what came later was not promised");
    }
}

#[test]
fn what_is_left_behind_a_cut_is_asked_for_again_when_the_commit_was_made_of_the_log_before() {
    let mut bench = Bench::new(None);
    bench.own_and_claim(0);
    bench.complete_up_to(0, 10);
    let mut promise = bench.ask();
    let commit = bench.send().unwrap();
    bench.cut(0, 7);
    bench.answer(&commit, ErrorCode::NONE);
    assert!(bench.send().is_none(), "nobody has asked since");
    assert_eq!(bench.kept(&mut promise), Kept::AskedAgain);
    let commit = bench.send().expect("what still stands");
    assert_eq!(offsets(&commit), [(0, 7)]);
    bench.answer(&commit, ErrorCode::NONE);
    assert_eq!(bench.kept(&mut promise), Kept::Yes);
}

#[test]
fn what_a_seek_has_made_meaningless_is_not_waited_for_behind_a_cut_either() {
    let mut bench = Bench::new(None);
    bench.own_and_claim(0);
    bench.complete_up_to(0, 10);
    let mut promise = bench.ask();
    bench.cut(0, 7);
    bench.seek(0, 3);
    assert_eq!(bench.kept(&mut promise), Kept::Yes);
}

#[test]
fn a_partition_whose_log_is_gone_leaves_the_proof_to_another_one() {
    let mut bench = Bench::new(None);
    bench.own_and_claim(0);
    bench.own_and_claim(1);
    bench.complete.remove(&0);
    bench.pass(SESSION);
    assert_eq!(offsets(&bench.send().unwrap()), [(1, 0)]);
}

#[test]
fn the_proof_is_due_at_once_after_the_machine_slept() {
    let mut bench = Bench::new(None);
    bench.own_and_claim(0);
    bench.elapsed += SESSION;
    assert_eq!(offsets(&bench.send().unwrap()), [(0, 0)]);
}

#[test]
fn what_passes_is_repeated_after_a_back_off() {
    for (code, moved) in [
        (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, false),
        (ErrorCode::NOT_COORDINATOR, true),
        (ErrorCode::COORDINATOR_NOT_AVAILABLE, true),
        (ErrorCode::REQUEST_TIMED_OUT, false),
        (ErrorCode::REBALANCE_IN_PROGRESS, false),
    ] {
        let mut bench = Bench::new(None);
        bench.own_and_claim(0);
        bench.complete_up_to(0, 10);
        let mut promise = bench.ask();
        let commit = bench.send().unwrap();
        let outcome = bench.answer(&commit, code);
        assert_eq!((outcome.moved, bench.kept(&mut promise)), (moved, Kept::NotYet), "{code}");
        assert!(outcome.written.is_none() && bench.send().is_none(), "{code}");
        bench.pass(SECOND);
        let again = bench.send().unwrap();
        bench.answer(&again, ErrorCode::NONE);
        assert_eq!(bench.kept(&mut promise), Kept::Yes, "{code}");
    }
}

#[test]
fn after_a_rebalance_what_is_still_owned_is_committed_under_the_new_generation() {
    let mut bench = Bench::new(None);
    bench.own_and_claim(0);
    bench.own_and_claim(1);
    bench.complete_up_to(0, 10);
    bench.complete_up_to(1, 10);
    bench.ask();
    let commit = bench.send().unwrap();
    let outcome = bench.answer(&commit, ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(outcome.rejected.map(|(member, _)| member.generation_id), Some(1));
    bench.pass(10 * SESSION);
    assert!(bench.send().is_none(), "the coordinator will have nothing from this generation any more");
    bench.commits.disown(1);
    bench.generation = 2;
    let again = bench.send().unwrap();
    assert_eq!((again.generation_id_or_member_epoch, offsets(&again)), (2, vec![(0, 10)]));
}

#[test]
fn who_gets_the_same_generation_again_commits_again() {
    let mut bench = Bench::new(Some(SECOND));
    bench.own_and_claim(1);
    bench.complete_up_to(1, 5);
    bench.now += SECOND;
    let commit = bench.send().expect("what is complete");
    bench.answer(&commit, ErrorCode::ILLEGAL_GENERATION);
    assert!(bench.send().is_none(), "nothing more of this membership");
    // It is lost; a coordinator that knows better lets the member in again as it was.
    bench.commits.disown(1);
    bench.own(1, Some(0), 0);
    bench.commits.open(1);
    assert!(bench.send().is_some(), "the claim of the next ownership");
}

#[test]
fn what_was_lost_is_not_committed_and_who_waits_for_it_is_told() {
    let mut bench = Bench::new(None);
    bench.own_and_claim(0);
    bench.complete_up_to(0, 10);
    let mut promise = bench.ask();
    let commit = bench.send().unwrap();
    bench.commits.disown(0);
    assert_eq!(bench.kept(&mut promise), Kept::Lost(TopicPartition::new("orders", 0)));
    let outcome = bench.answer(&commit, ErrorCode::NONE);
    assert!(outcome.acknowledged.is_empty());
    bench.pass(10 * SESSION);
    assert!(bench.send().is_none());
}

#[test]
fn what_cannot_be_committed_is_told_and_left_alone_for_a_while() {
    let mut bench = Bench::new(Some(SECOND));
    bench.own_and_claim(0);
    bench.complete_up_to(0, 10);
    let mut promise = bench.ask();
    let commit = bench.send().unwrap();
    let outcome = bench.answer(&commit, ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    let orders = TopicPartition::new("orders", 0);
    assert_eq!(outcome.refused, [(orders.clone(), ErrorCode::TOPIC_AUTHORIZATION_FAILED)]);
    assert_eq!(bench.kept(&mut promise), Kept::Refused(orders, ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    bench.pass(SECOND);
    assert!(bench.send().is_none());
    let mut promise = bench.ask();
    let commit = bench.send().expect("whoever asks wants to know whether it works now");
    bench.answer(&commit, ErrorCode::NONE);
    assert_eq!((bench.kept(&mut promise), bench.commits.refusal(0)), (Kept::Yes, None));
}

#[test]
fn what_may_or_may_not_have_been_carried_out_is_repeated() {
    let mut bench = Bench::new(Some(SECOND));
    bench.own_and_claim(0);
    bench.complete_up_to(0, 10);
    let mut promise = bench.ask();
    bench.send().unwrap();
    bench.commits.on_lost(bench.at());
    assert!(bench.send().is_none(), "not at once");
    bench.pass(SECOND);
    assert_eq!((offsets(&bench.send().unwrap()), bench.kept(&mut promise)), (vec![(0, 10)], Kept::NotYet));
}

/// The lost one may be carried out behind the one that was sent after it.
#[test]
fn what_a_late_commit_may_have_moved_back_is_repeated_until_there_is_another_generation() {
    let mut bench = Bench::new(Some(SECOND));
    bench.own_and_claim(0);
    bench.complete_up_to(0, 5);
    bench.pass(SECOND);
    bench.send().expect("what is complete");
    bench.commits.on_lost(bench.at());
    bench.complete_up_to(0, 9);
    bench.pass(SECOND);
    let newer = bench.send().expect("what is complete by now");
    bench.answer(&newer, ErrorCode::NONE);

    for _ in 0..3 {
        bench.pass(SESSION - SECOND / 10);
        assert!(bench.send().is_none(), "too early");
        bench.pass(SECOND / 10);
        let again = bench.send().expect("what may have gone back");
        assert_eq!(offsets(&again), [(0, 9)]);
        bench.answer(&again, ErrorCode::NONE);
    }
    let mut promise = bench.ask();
    assert_eq!(bench.kept(&mut promise), Kept::NotYet, "whoever gives it up wants to be certain");
    let again = bench.send().expect("what was asked for");
    bench.answer(&again, ErrorCode::NONE);
    assert_eq!(bench.kept(&mut promise), Kept::Yes);

    bench.generation += 1;
    let mut promise = bench.ask();
    let again = bench.send().expect("what was asked for");
    bench.answer(&again, ErrorCode::NONE);
    assert_eq!(bench.kept(&mut promise), Kept::Yes);
    let mut promise = bench.ask();
    assert_eq!(bench.kept(&mut promise), Kept::Yes, "the coordinator refuses what is of an older generation");
}

#[test]
fn a_seek_back_is_committed_and_nothing_else_goes_back() {
    let mut bench = Bench::new(None);
    bench.own_and_claim(0);
    bench.complete_up_to(0, 10);
    bench.ask();
    let commit = bench.send().unwrap();
    bench.answer(&commit, ErrorCode::NONE);
    bench.complete_up_to(0, 4);
    let mut promise = bench.ask();
    assert!(bench.send().is_none());
    assert_eq!(bench.kept(&mut promise), Kept::Yes, "it is committed, and more");
    bench.seek(0, 4);
    bench.ask();
    assert_eq!(offsets(&bench.send().unwrap()), [(0, 4)]);
}

#[test]
fn a_partition_that_the_coordinator_does_not_know_for_long_holds_up_nobody() {
    let mut bench = Bench::new(None);
    bench.own_and_claim(0);
    bench.complete_up_to(0, 10);
    let mut promise = bench.ask();
    for _ in 0..LONGEST_UNKNOWN {
        let commit = bench.send().expect("a broker that has just started learns of it");
        let outcome = bench.answer(&commit, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert!(outcome.refused.is_empty());
        assert_eq!(bench.kept(&mut promise), Kept::NotYet);
        bench.now += 2 * SECOND;
    }
    let commit = bench.send().expect("once more");
    assert_eq!(bench.answer(&commit, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).refused.len(), 1);
    let deleted = Kept::Refused(TopicPartition::new("orders", 0), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(bench.kept(&mut promise), deleted);

    let mut promise = bench.ask();
    let commit = bench.send().expect("whoever asks again wants to know whether it works now");
    bench.answer(&commit, ErrorCode::NONE);
    assert_eq!(bench.kept(&mut promise), Kept::Yes);
}

#[test]
fn a_lease_that_waits_for_a_commit_gets_one_at_once() {
    let mut bench = Bench::new(None);
    bench.own_and_claim(0);
    bench.complete_up_to(0, 5);
    assert!(bench.send().is_none(), "nobody has asked for it");
    bench.prove = true;
    let proof = bench.send().expect("a proof");
    assert_eq!(proof.topics[0].partitions[0].committed_offset, 0, "what is complete waits for its user");
    assert!(bench.send().is_none(), "one is under way");
    bench.answer(&proof, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    assert!(bench.send().is_none(), "a coordinator that is loading is not hammered");
    bench.now += SECOND;
    assert!(bench.send().is_some(), "and asked again");
}
