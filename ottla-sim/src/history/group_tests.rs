//! Histories written by hand: those that are right, and one for each thing that must not be.

use tokio::time::Instant;

use super::{
    super::{Begin, Violation, check},
    *,
};
use crate::{Logged, history::Elected};
use What::{Assigned, Committed, Crashed, HandedOut, Handled, Lost};

const CLEAN: What = What::Revoked { committed: true };
const UNCOMMITTED: What = What::Revoked { committed: false };

fn partition() -> TopicPartition {
    TopicPartition::new("topic", 0)
}

/// The only topic.
fn topic(logs: &Logs, commits: &Commits) -> Topic {
    Topic { name: "topic".into(), logs: logs.clone(), commits: commits.clone(), ..Topic::default() }
}

/// One partition with that many records.
fn log(records: i64) -> Logs {
    Logs::from([(0, (0..records).map(|offset| Logged { offset, ..Logged::default() }).collect())])
}

/// A history of partition 0: one thing per second, by members.
fn told(what: impl IntoIterator<Item = (u32, What)>) -> Vec<Told> {
    let tell = |(second, (member, what))| {
        let at = Duration::from_secs(second);
        Told { at, member, partition: partition(), what, leader_epoch: None, value: None }
    };
    (1..).zip(what).map(tell).collect()
}

fn commits(stored: impl IntoIterator<Item = (u64, i64)>) -> Commits {
    let stored = stored.into_iter().map(|(at, offset)| Stored {
        at: Duration::from_secs(at),
        offset,
        leader_epoch: None,
    });
    Commits::from([(0, stored.collect())])
}

/// What a member does with one record.
fn record(member: u32, offset: i64) -> [(u32, What); 2] {
    [(member, HandedOut(offset)), (member, Handled(offset))]
}

/// The verdict on a history in which everything is known; the worst violation otherwise.
fn judge(told: &[Told], log: &Logs, commits: &Commits, overlap: Duration) -> Result<Verdict, String> {
    let members = ["member 1".into(), "member 2".into()];
    let report = check(&events(&members, told, &[topic(log, commits)], overlap, Duration::from_secs(100)));
    match report.violations.first() {
        None => Ok(Verdict::of(&report)),
        Some(violation) => {
            let Violation { anomaly, expected, happened, .. } = violation;
            Err(format!("{anomaly}: {expected}; {happened}"))
        }
    }
}

fn anomalies(events: &[Event]) -> Vec<&'static str> {
    check(events).violations.into_iter().map(|violation| violation.anomaly.name()).collect()
}

fn verdict(
    what: impl IntoIterator<Item = (u32, What)>,
    records: i64,
    stored: impl IntoIterator<Item = (u64, i64)>,
) -> Result<Verdict, String> {
    judge(&told(what), &log(records), &commits(stored), Duration::ZERO)
}

#[test]
fn what_one_member_handles_and_another_goes_on_with_passes() {
    let first = [(1, Assigned)].into_iter().chain(record(1, 0)).chain([(1, CLEAN)]); // 1 s to 4 s
    let second = [(2, Assigned)].into_iter().chain(record(2, 1)); // 5 s to 7 s
    let verdict = verdict(first.chain(second), 2, [(1, 0), (4, 1), (5, 1), (7, 2)]);
    assert_eq!(verdict, Ok(Verdict { handled: 2, twice: Vec::new() }));
}

#[test]
fn what_is_dropped_unhandled_may_be_handed_out_again() {
    let what = [(1, Assigned), (1, HandedOut(0)), (1, HandedOut(1)), (1, HandedOut(0)), (1, Handled(0))];
    let rest = [(1, HandedOut(1)), (1, Handled(1))];
    assert_eq!(verdict(what.into_iter().chain(rest), 2, []), Ok(Verdict { handled: 2, twice: Vec::new() }));
}

#[test]
fn a_record_that_nobody_handled_is_lost() {
    let what = [(1, Assigned)].into_iter().chain(record(1, 0)).chain([(1, HandedOut(1))]);
    let told = verdict(what, 2, []).unwrap_err();
    assert_eq!(told, "unprocessed: every record of topic-0 to be processed; offset 1 never was");
}

#[test]
fn a_record_that_is_left_out_is_found() {
    let what = [(1, Assigned)].into_iter().chain(record(1, 0)).chain(record(1, 2));
    let told = verdict(what, 3, []).unwrap_err();
    assert_eq!(told, "poll-skip: member 1 to get offset 1 of topic-0 next; it got offset 2 at 4.000 s");
}

#[test]
fn another_record_than_was_written_at_the_offset_is_found() {
    let logged =
        |(offset, value): (i64, &'static str)| Logged { offset, value: value.into(), ..Logged::default() };
    let log = Logs::from([(0, [(0, "a"), (1, "b")].map(logged).to_vec())]);
    let handed_out = |values: [&str; 2]| {
        let mut told = told([(1, Assigned)].into_iter().chain(record(1, 0)).chain(record(1, 1)));
        for (at, value) in [1, 3].into_iter().zip(values) {
            told[at].value = Some(value.into());
        }
        judge(&told, &log, &Commits::new(), Duration::ZERO)
    };
    assert_eq!(handed_out(["a", "b"]).map(|verdict| verdict.handled), Ok(2));
    let told = handed_out(["a", "a"]).unwrap_err();
    assert!(told.starts_with("inconsistent-offsets"), "{told}");
}

#[test]
fn what_is_handled_again_after_a_crash_or_a_loss_is_counted_and_otherwise_wrong() {
    let again = |end: What| {
        let first = [(1, Assigned)].into_iter().chain(record(1, 0)).chain([(1, end)]);
        verdict(first.chain([(2, Assigned)]).chain(record(2, 0)), 1, [(1, 0)])
    };
    let counted =
        Verdict { handled: 1, twice: vec![Twice { partition: partition(), offset: 0, first: 1, again: 2 }] };
    for end in [Crashed, Lost, UNCOMMITTED] {
        assert_eq!(again(end), Ok(counted.clone()));
    }
    assert_eq!(
        again(CLEAN).unwrap_err(),
        "processed-again: offset 0 of topic-0 to be processed once; member 1 had processed it, and member 2 did it again at \
         7.000 s"
    );
    let late = [(1, Assigned), (1, HandedOut(0)), (1, CLEAN), (1, Handled(0)), (2, Assigned)];
    assert_eq!(verdict(late.into_iter().chain(record(2, 0)), 1, []), Ok(counted), "it was not done in time");
    let by_itself = [(1, Assigned)].into_iter().chain(record(1, 0)).chain(record(1, 0));
    assert_eq!(
        verdict(by_itself, 1, []).unwrap_err(),
        "nonmonotonic-poll: member 1 to get nothing more of topic-0 next; it got offset 0 at 4.000 s"
    );
}

#[test]
fn what_is_handled_again_although_it_was_committed_is_never_explained() {
    let first = [(1, Assigned)].into_iter().chain(record(1, 0)).chain([(1, Crashed)]);
    let told = verdict(first.chain([(2, Assigned)]).chain(record(2, 0)), 2, [(1, 0), (4, 1)]).unwrap_err();
    assert_eq!(
        told,
        "resume-elsewhere: member 2 to get offset 1 of topic-0 next; it got offset 0 at 6.000 s"
    );
}

#[test]
fn a_member_that_begins_elsewhere_than_at_the_commit_is_found() {
    let first = [(1, Assigned)].into_iter().chain(record(1, 0)).chain([(1, CLEAN)]);
    let told = verdict(first.chain([(2, Assigned)]).chain(record(2, 2)), 3, [(4, 1)]).unwrap_err();
    assert_eq!(
        told,
        "resume-elsewhere: member 2 to get offset 1 of topic-0 next; it got offset 2 at 6.000 s"
    );
}

#[test]
fn what_was_stored_in_the_moment_of_the_first_poll_may_have_been_stored_behind_it() {
    let steps =
        [(100, Assigned), (156, HandedOut(0)), (156, Handled(0)), (200, HandedOut(1)), (201, Handled(1))];
    let tell = |(at, what)| Told {
        at: Duration::from_millis(at),
        member: 1,
        partition: partition(),
        what,
        leader_epoch: None,
        value: None,
    };
    let told: Vec<Told> = steps.into_iter().map(tell).collect();
    let judged = |first: u64| {
        let stored = [(150_000, 0), (first, 1), (300_000, 2)];
        let stored =
            stored.map(|(at, offset)| Stored { at: Duration::from_micros(at), offset, leader_epoch: None });
        judge(&told, &log(2), &Commits::from([(0, stored.to_vec())]), Duration::ZERO)
    };
    assert_eq!((judged(156_000).err(), judged(155_500).err()), (None, None));
    assert!(judged(155_000).is_err(), "that is before the first poll, and before anything was handled");
}

#[test]
fn two_members_that_get_records_of_one_partition_are_found() {
    let what = [(1, Assigned), (2, Assigned)].into_iter().chain(record(1, 0)).chain(record(2, 1));
    assert_eq!(
        verdict(what, 2, []).unwrap_err(),
        "two-owners: member 1 to get nothing of topic-0 any more, since member 2 owns it from 2.000 s on; it got offset 0 at \
         3.000 s"
    );
}

#[test]
fn an_overlap_that_is_tolerated_is_bounded() {
    let what = [(1, Assigned), (2, Assigned)].into_iter().chain(record(2, 0)).chain([(1, HandedOut(0))]);
    let what = told(what.chain([(1, Handled(0))]));
    let within = |seconds| judge(&what, &log(1), &Commits::new(), Duration::from_secs(seconds));
    assert!(within(2).is_err());
    assert_eq!(within(3).map(|verdict| verdict.twice.len()), Ok(1));
}

#[test]
fn a_handler_that_ends_after_its_ownership_has_not_got_anything_meanwhile() {
    let what = [(1, Assigned), (1, HandedOut(0)), (1, Lost), (2, Assigned), (1, Handled(0))];
    let verdict = verdict(what.into_iter().chain(record(2, 0)), 1, []);
    assert_eq!(verdict.map(|verdict| verdict.twice.len()), Ok(1));
}

#[test]
fn what_is_handed_out_without_an_ownership_is_found() {
    let told = verdict([(1, Assigned), (1, Lost), (1, HandedOut(0))], 1, []).unwrap_err();
    assert_eq!(told, "not-owner: member 1 to own topic-0; it got offset 0 at 3.000 s without");
    let told = verdict([(1, Assigned), (1, Assigned)], 1, []).unwrap_err();
    assert_eq!(
        told,
        "malformed: member 1 to be told once that it owns topic-0; it was told again at 2.000 s"
    );
    let told = verdict([(1, Assigned), (1, Handled(0))], 1, []).unwrap_err();
    assert_eq!(
        told,
        "not-owner: member 1 to process what it got of topic-0; it processed offset 0 at 2.000 s"
    );
}

#[test]
fn commits_that_go_back_or_pass_what_was_not_handled_are_found() {
    let what = || [(1, Assigned)].into_iter().chain(record(1, 0)).chain(record(1, 1)); // handled at 3 s and 5 s
    let told = |stored: &[(u64, i64)]| verdict(what(), 2, stored.iter().copied()).unwrap_err();
    assert_eq!(
        told(&[(3, 1), (5, 2), (6, 1)]),
        "commit-back: the commits of topic-0 never to go back for good; 2 was committed, and 1 at 6.000 s"
    );
    assert_eq!(
        told(&[(4, 2)]),
        "commit-unprocessed: no commit of topic-0 beyond offset 1 before it is processed; 2 was committed at 4.000 s"
    );
    assert_eq!(
        told(&[(9, 3)]),
        "commit-unprocessed: no commit of topic-0 beyond the end of its log, 2; 3 was committed at 9.000 s"
    );
    assert!(verdict(what(), 2, [(3, 1), (5, 2), (6, 1), (7, 2)]).is_ok(), "it was made good");
    assert_eq!(verdict(what(), 2, [(1, 0), (3, 1), (3, 1), (5, 2)]).map(|verdict| verdict.handled), Ok(2));
}

#[test]
fn commits_that_were_carried_out_late_pass_if_nobody_was_told_of_them() {
    let records = (0..3).flat_map(|offset| record(1, offset)); // 2 s to 7 s
    let what = [(1, Assigned)].into_iter().chain(records).chain([(1, Committed(3))]);
    let stored = [(7, 3), (8, 1), (9, 2), (10, 3)];
    assert!(verdict(what.clone(), 3, stored).is_ok());
    assert_eq!(
        verdict(what.clone().chain([(1, Committed(2))]), 3, stored).unwrap_err(),
        "commit-back: the commits of topic-0 never to go back for good; 3 was committed, and 2 at 9.000 s"
    );
    assert!(verdict(what, 3, [(7, 3), (8, 1), (9, 2)]).is_err(), "the last one counts");
}

#[test]
fn the_next_owner_begins_at_a_commit_that_was_carried_out_late_if_nobody_could_repeat_the_later_one() {
    let judged = |end: What, late: i64| {
        let first = (0..3).flat_map(|offset| record(1, offset)); // 2 s to 7 s
        let first = [(1, Assigned)].into_iter().chain(first).chain([(1, Committed(3)), (1, HandedOut(3))]);
        let first = first.chain([(1, Handled(3)), (1, end)]); // 10 s and 11 s
        let second = [(2, Assigned), (2, Committed(late))]; // 12 s and 13 s
        let second = second.into_iter().chain((late..4).flat_map(|offset| record(2, offset)));
        verdict(first.chain(second), 4, [(2, 0), (3, 1), (8, 3), (9, late), (13, late), (20, 4)])
    };
    let repeated = judged(Lost, 2).map(|verdict| verdict.twice.len());
    assert_eq!((repeated, judged(Crashed, 2).is_ok()), (Ok(2), true));
    assert!(judged(UNCOMMITTED, 2).is_ok(), "it gave up, and nothing was carried out meanwhile");
    let back =
        "commit-back: the commits of topic-0 never to go back for good; 3 was committed, and 2 at 9.000 s";
    // The former one is cut off, and hears of it later.
    let unheard = judged(Committed(3), 2).map(|verdict| verdict.twice.len());
    assert_eq!(unheard, Ok(2));
    // There was time to repeat it.
    assert_eq!(judged(CLEAN, 2).unwrap_err(), back.replace("9.000", "13.000"));
    // It was carried out when its owner had given up.
    let first = (0..3).flat_map(|offset| record(1, offset)); // 2 s to 7 s
    let first = [(1, Assigned)].into_iter().chain(first).chain([(1, Committed(3)), (1, UNCOMMITTED)]); // 8 s and 9 s
    let next = [(2, Assigned), (2, Committed(2))].into_iter().chain(record(2, 2)); // 10 s to 13 s
    let told = verdict(first.chain(next), 3, [(7, 3), (9, 2), (11, 2), (20, 3)]).unwrap_err();
    assert_eq!(told, back.replace("9.000", "11.000"));
    // It was a former owner's, which had not heard yet.
    let former = [(1, Assigned)].into_iter().chain((0..3).flat_map(|offset| record(1, offset))); // 1 s to 7 s
    let between = [(1, Committed(3)), (2, Assigned), (2, Committed(3)), (1, Lost), (2, Crashed)]; // to 12 s
    let next = [(1, Assigned), (1, Committed(2))].into_iter().chain(record(1, 2)); // 13 s to 16 s
    let stored = [(8, 3), (9, 3), (10, 2), (14, 2), (20, 3)];
    let told = verdict(former.chain(between).chain(next), 3, stored).unwrap_err();
    assert_eq!(told, back.replace("9.000", "14.000"));
    // Whoever goes on with it has not lost anything.
    let what = [(1, Assigned)].into_iter().chain((0..3).flat_map(|offset| record(1, offset)));
    let what = what.chain([(1, Committed(3)), (1, Committed(2))]); // 8 s and 9 s
    assert_eq!(verdict(what, 3, [(8, 3), (9, 2), (13, 2), (20, 3)]).unwrap_err(), back);
}

#[test]
fn a_commit_of_a_former_owner_is_found_also_where_the_next_one_makes_it_good() {
    let first = [(1, Assigned)].into_iter().chain(record(1, 0)).chain(record(1, 1)).chain([(1, CLEAN)]); // 1 s to 6 s
    let second = [(2, Assigned)].into_iter().chain(record(2, 2)).chain([(2, CLEAN)]); // 7 s to 10 s
    let what: Vec<_> = first.chain(second).collect();
    let late = verdict(what.clone(), 3, [(3, 1), (5, 2), (9, 1), (10, 3)]).unwrap_err();
    assert_eq!(
        late,
        "commit-back: no commit of topic-0 below 2, where member 2 began, which owns it from 7.000 s on; 1 was committed \
         at 9.000 s"
    );
    assert!(verdict(what, 3, [(3, 1), (5, 2), (9, 2), (10, 3)]).is_ok(), "it may repeat where it began");
}

#[test]
fn a_commit_beyond_a_record_that_was_never_handled_is_found() {
    let what = [(1, Assigned), (1, HandedOut(0)), (1, HandedOut(1)), (1, Handled(1))];
    let told = verdict(what, 2, [(9, 2)]).unwrap_err();
    assert_eq!(
        told,
        "commit-unprocessed: no commit of topic-0 beyond offset 0 before it is processed; 2 was committed at 9.000 s"
    );
}

#[test]
fn what_the_log_has_dropped_may_be_passed_from_then_on_and_not_before() {
    let (history, logs) = (told([(1, Assigned), (1, HandedOut(2)), (1, Handled(2))]), log(3));
    let judge = |dropped_at: u64, offset: i64| {
        let members = ["member 1".into()];
        let begin = Begin { at: Duration::from_secs(dropped_at), instant: Instant::now(), offset };
        let begins = Begins::from([(0, vec![begin])]);
        let topic = Topic { begins, ..topic(&logs, &commits([(4, 3)])) };
        anomalies(&events(&members, &history, &[topic], Duration::ZERO, Duration::from_secs(9)))
    };
    assert!(judge(1, 2).is_empty(), "it was dropped before offset 2 was handed out, at 2 s");
    assert_eq!(judge(3, 2), ["resume-elsewhere"], "it was there then, and dropped later");
    assert_eq!(judge(5, 2), ["resume-elsewhere", "commit-unprocessed"]);
    assert_eq!(judge(1, 1).len(), 3, "offset 1 is left, and nobody has handled it");
}

#[test]
fn an_owner_may_repeat_the_commit_that_it_found_although_the_log_has_dropped_what_comes_next() {
    let first = [(1, Assigned)].into_iter().chain((0..2).flat_map(|offset| record(1, offset))); // 1 s to 5 s
    let second = [(1, CLEAN), (2, Assigned)].into_iter().chain(record(2, 3)); // 6 s to 9 s
    let (history, logs) = (told(first.chain(second)), log(4));
    let judge = |claimed: i64, dropped_at: u64| {
        let members = ["member 1".into(), "member 2".into()];
        let begin = Begin { at: Duration::from_secs(dropped_at), instant: Instant::now(), offset: 3 };
        let begins = Begins::from([(0, vec![begin])]);
        let commits = commits([(3, 1), (6, 2), (8, claimed), (10, 4)]);
        let topic = Topic { begins, ..topic(&logs, &commits) };
        anomalies(&events(&members, &history, &[topic], Duration::ZERO, Duration::from_secs(99)))
    };
    assert!(judge(2, 7).is_empty(), "2 was committed, and 2 is gone when it gets something");
    assert_eq!(judge(1, 7), ["commit-back"], "that is a former owner's");
    assert_eq!(judge(2, 9), ["resume-elsewhere", "commit-back"], "2 was there when it got something");
}

#[test]
fn topics_are_told_apart_and_none_is_left_out() {
    let named = |name: &str, log: i64, stored| Topic { name: name.into(), ..topic(&self::log(log), &stored) };
    let told = |partition: &TopicPartition, member, what| {
        let what = [(member, Assigned)].into_iter().chain(what);
        told(what).into_iter().map(|told| Told { partition: partition.clone(), ..told }).collect::<Vec<_>>()
    };
    let [orders, returns] = ["orders", "returns"].map(|name| TopicPartition::new(name, 0));
    let history = [told(&orders, 1, record(1, 0)), told(&returns, 2, record(2, 0))].concat();
    let judge = |returned: i64, stored: i64| {
        let topics =
            [named("orders", 1, commits([(9, 1)])), named("returns", returned, commits([(9, stored)]))];
        let members = ["member 1".into(), "member 2".into()];
        anomalies(&events(&members, &history, &topics, Duration::ZERO, Duration::from_secs(99)))
    };
    assert_eq!(judge(1, 1), [""; 0], "the same offset of two topics has two owners");
    assert_eq!(judge(2, 1), ["unprocessed"]);
    assert_eq!(judge(1, 2), ["commit-unprocessed"]);
}

/// Of each run: leader epoch, first offset, and the one behind its last.
fn log_of(runs: &[(i32, i64, i64)]) -> Vec<Logged> {
    let run = |(leader_epoch, from, to): (i32, i64, i64)| {
        (from..to).map(move |offset| Logged { offset, leader_epoch, ..Logged::default() })
    };
    runs.iter().copied().flat_map(run).collect()
}

/// What a member does with these records of one epoch.
fn handles(epoch: i32, offsets: std::ops::Range<i64>) -> Vec<(What, Option<i32>)> {
    offsets.flat_map(|offset| [HandedOut(offset), Handled(offset)]).map(|what| (what, Some(epoch))).collect()
}

/// Member 1 owns the partition from 1 s on and does that, one thing a second. What is wrong with it.
fn cut_behind(what: &[(What, Option<i32>)], stored: &[(u64, i64, i32)], topic: Topic) -> Vec<&'static str> {
    let what = [(Assigned, None)].into_iter().chain(what.iter().copied());
    let tell = |(second, (what, leader_epoch))| {
        let at = Duration::from_secs(second);
        Told { at, member: 1, partition: partition(), what, leader_epoch, value: None }
    };
    let told: Vec<Told> = (1..).zip(what).map(tell).collect();
    let stored = stored.iter().map(|(at, offset, epoch)| {
        let at = Duration::from_secs(*at);
        Stored { at, offset: *offset, leader_epoch: Some(*epoch) }
    });
    let commits = Commits::from([(0, stored.collect())]);
    let topic = Topic { name: "topic".into(), commits, ..topic };
    let events = events(&["member 1".into()], &told, &[topic], Duration::ZERO, Duration::from_secs(99));
    let mut anomalies = anomalies(&events);
    anomalies.dedup();
    anomalies
}

fn elected(second: u64, leader_epoch: i32, ends: &[(i32, i64)]) -> Elected {
    let (at, instant) = (Duration::from_secs(second), tokio::time::Instant::now());
    Elected { at, instant, leader_epoch, ends: ends.iter().copied().collect() }
}

#[test]
fn a_group_goes_back_to_where_its_log_was_cut_and_no_further() {
    let judge = |again: std::ops::Range<i64>, commit: i64| {
        let topic = Topic {
            logs: Logs::from([(0, log_of(&[(1, 0, 2), (2, 2, 4)]))]),
            lost: Logs::from([(0, log_of(&[(1, 2, 3)]))]),
            elections: Elections::from([(0, vec![elected(8, 2, &[(1, 2)])])]),
            ..Topic::default()
        };
        let (before, old) = (handles(1, 0..3), handles(1, again.start.min(2)..2)); // 2 s to 7 s
        let what = [before, old, handles(2, again.start.max(2)..again.end)].concat();
        cut_behind(&what, &[(7, 3, 1), (20, commit, 2)], topic)
    };
    assert_eq!(judge(2..4, 4), [""; 0]);
    assert_eq!(judge(1..4, 4), ["nonmonotonic-poll", "processed-again"], "that was never cut");
    assert_eq!(judge(3..4, 4), ["poll-skip", "commit-unprocessed", "unprocessed"]);
    assert_eq!(judge(2..3, 4), ["commit-unprocessed", "unprocessed"]);
}

#[test]
fn what_an_election_was_won_without_is_handled_again_only_by_who_went_back_for_it() {
    let judge = |again: std::ops::Range<i64>, ends: &[(i32, i64)]| {
        let topic = Topic {
            logs: Logs::from([(0, log_of(&[(1, 0, 4)]))]),
            elections: Elections::from([(0, vec![elected(8, 3, ends), elected(9, 4, &[(1, 4)])])]),
            ..Topic::default()
        };
        let what = [handles(1, 0..3), vec![(Committed(3), None)], handles(1, again)].concat(); // 2 s to 8 s
        cut_behind(&what, &[(7, 3, 1), (8, 2, 1), (20, 4, 1)], topic)
    };
    assert_eq!(judge(2..4, &[(1, 2)]), [""; 0]);
    assert_eq!(judge(2..4, &[(1, 2), (2, 9)]), [""; 0], "a log may be longer, and another one");
    assert!(judge(3..4, &[(1, 2)]).is_empty(), "nor need it be handled again");
    assert_eq!(judge(2..4, &[(1, 3)]), ["nonmonotonic-poll", "processed-again"], "it was there all the time");
}

#[test]
fn what_was_read_in_the_log_that_is_left_is_not_void_when_another_begins_at_an_earlier_commit() {
    let judge = |ends: &[(i32, i64)], again: i64, committed: bool| {
        let topic = Topic {
            logs: Logs::from([(0, log_of(&[(1, 0, 3), (3, 3, 5)]))]),
            elections: Elections::from([(0, vec![elected(3, 2, ends), elected(4, 3, &[(1, 3)])])]),
            ..Topic::default()
        };
        let (first, second) = ([handles(1, 0..3), handles(3, 3..5)].concat(), handles(1, again..3)); // 2 s to 11 s
        let ends = [(What::Revoked { committed }, None), (Assigned, None)]; // 12 s and 13 s
        let what = [first, ends.to_vec(), second, handles(3, 3..5)].concat();
        cut_behind(&what, &[(1, 0, 1), (30, 5, 3)], topic)
    };
    assert_eq!(judge(&[(1, 1)], 0, false), [""; 0], "nothing of it was committed");
    assert_eq!(judge(&[(1, 1)], 0, true), ["processed-again"]);
    assert_eq!(judge(&[(1, 1)], 1, false), ["resume-elsewhere"], "nobody goes back to there any more");
}

#[test]
fn a_log_that_is_brought_back_hides_what_is_there_where_the_epoch_of_a_commit_began() {
    // Epoch 2 is gone, and epoch 1 has three records.
    let judge = |commit: (i64, i32), began: i64, again: std::ops::Range<i64>| {
        let topic = Topic {
            logs: Logs::from([(0, log_of(&[(1, 0, 3), (4, 3, 5)]))]),
            lost: Logs::from([(0, log_of(&[(2, began, 4)]))]),
            elections: Elections::from([(0, vec![elected(8, 4, &[(1, 3)])])]),
            ..Topic::default()
        };
        let before = [handles(1, 0..1), handles(2, began..4)].concat(); // 2 s to 9 s
        let ends = [(UNCOMMITTED, None), (Assigned, None)]; // 10 s and 11 s
        let rest = handles(1, again.start..3).into_iter().chain(handles(4, again.start.max(3)..again.end));
        let what = [before, ends.to_vec(), rest.collect()].concat();
        cut_behind(&what, &[(9, commit.0, commit.1), (40, 5, 4)], topic)
    };
    let left_out = ["resume-elsewhere", "commit-unprocessed", "unprocessed"];
    assert_eq!(judge((4, 2), 1, 3..5), [""; 0], "1 and 2 are hidden behind a commit of epoch 2");
    assert_eq!(judge((4, 2), 1, 1..5), [""; 0], "and may be found all the same");
    assert_eq!(judge((1, 1), 1, 3..5), left_out, "that names an epoch that is left");
    assert_eq!(judge((4, 2), 1, 4..5), left_out, "3 is of a later epoch, and is new");
    assert_eq!(judge((4, 2), 2, 3..5), left_out[1..], "1 is in front of epoch 2, and was never handled");
}

#[test]
fn nothing_is_hidden_from_who_has_read_an_epoch_from_its_beginning() {
    let judge = |again: i64| {
        let topic = Topic {
            logs: Logs::from([(0, log_of(&[(1, 0, 3), (4, 3, 5)]))]),
            lost: Logs::from([(0, log_of(&[(2, 1, 4)]))]),
            elections: Elections::from([(0, vec![elected(8, 4, &[(1, 3)])])]),
            ..Topic::default()
        };
        let what = [handles(1, 0..1), handles(2, 1..4), handles(1, again..3), handles(4, 3..5)].concat();
        cut_behind(&what, &[(9, 4, 2), (40, 5, 4)], topic)
    };
    assert_eq!(judge(1), [""; 0]);
    assert_eq!(judge(3), ["poll-skip", "commit-unprocessed", "unprocessed"]);
}
