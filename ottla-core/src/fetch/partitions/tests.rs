//! The client's decisions against a small cluster, case by case.

use std::time::Duration;

use ottla_protocol::{ErrorCode, TopicId};

use super::{
    super::{Finished, Handout, LeaderNews, OffsetSpec, Outcome, Pause, Reset, Trouble},
    test_cluster::{GENEROUS, Manner, TOPIC, World},
};

const EARLIEST: OffsetSpec = OffsetSpec::Earliest;

fn range_of(offsets: std::ops::Range<i64>) -> Vec<i64> {
    offsets.collect()
}

#[test]
fn reads_from_the_place_that_was_asked_for() {
    for (spec, first) in [
        (OffsetSpec::Earliest, 0),
        (OffsetSpec::At(7), 7),
        (OffsetSpec::Latest, 20),
        (OffsetSpec::Timestamp(std::time::UNIX_EPOCH + Duration::from_secs(3_000_000_000)), 20),
    ] {
        let mut world = World::reading(20, spec, Reset::Error);
        world.settle();
        assert_eq!(world.delivered(0), range_of(first..20), "{spec:?}");
        world.log(0).append(5);
        world.settle();
        assert_eq!(world.delivered(0), range_of(first.max(20)..25), "{spec:?}");
    }
}

#[test]
fn the_next_fetch_is_sent_before_the_first_record_is_handed_out() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    world.send(0);
    world.answer(0, Manner { batches: 1, cut: 0 });
    assert!(world.send(0));
    assert_eq!(world.in_flight[&0].topics[0].partitions[0].fetch_offset, 5);
    assert_eq!(world.position(0), Some(0));
}

#[test]
fn c05_a_partial_batch_at_the_end_is_ignored() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    world.send(0);
    world.answer(0, Manner { batches: 2, cut: 70 });
    world.settle();
    assert_eq!(world.delivered(0), range_of(0..20));
}

#[test]
fn c05_a_batch_into_which_no_answer_fits_is_asked_for_with_more_room() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    let mut asked = Vec::new();
    for _ in 0..3 {
        world.send(0);
        asked.extend(world.in_flight[&0].topics.iter().map(|topic| topic.partitions[0].partition_max_bytes));
        world.answer(0, Manner { batches: 0, cut: 70 });
    }
    assert_eq!(asked, [1 << 16, 1 << 17, 1 << 18]);
    for _ in 0..20 {
        world.send(0);
        world.answer(0, Manner { batches: 0, cut: 70 });
    }
    world.poll(1);
    assert!(matches!(world.troubles[..], [(0, Trouble::TooLarge { offset: 0, .. })]));
}

#[test]
fn c14_gaps_and_empty_batches_are_crossed() {
    let mut world = World::reading(5, OffsetSpec::At(0), Reset::Error);
    world.log(0).append_gap(10);
    world.log(0).append(5);
    world.log(0).append_gap(1);
    world.settle();
    assert_eq!(world.delivered(0), [0, 1, 2, 3, 4, 15, 16, 17, 18, 19]);
    assert_eq!(world.position(0), Some(21));
    assert_eq!(world.explain(0), "at the end of the log, offset 21");
}

#[test]
fn c09_an_answer_that_was_asked_for_before_a_seek_is_dropped() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    world.send(0);
    world.client.seek(&TOPIC, 0, OffsetSpec::At(15));
    world.answer(0, GENEROUS);
    world.settle();
    assert_eq!(world.delivered(0), range_of(15..20));
}

#[test]
fn a_late_answer_of_a_leader_that_was_deposed_meanwhile_is_dropped() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    world.send(0);
    let late = world.carry_out(0, GENEROUS).expect("it was asked");
    // It stood still; another one leads, and has not seen the end of the log.
    world.log(0).truncate(10);
    world.move_leader(0, 1);
    world.tell_leaders();
    world.deliver(0, late);
    world.settle();
    assert_eq!(world.delivered(0), range_of(0..10));
    world.log(0).append(5);
    world.settle();
    assert_eq!(world.delivered(0), range_of(10..15));
}

#[test]
fn a_seek_to_the_same_offset_drops_the_answer_too() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    world.send(0);
    world.client.seek(&TOPIC, 0, OffsetSpec::At(0));
    world.answer(0, GENEROUS);
    assert!(!world.poll(1));
    world.settle();
    assert_eq!(world.delivered(0), range_of(0..20));
}

#[test]
fn c10_a_pause_keeps_what_is_buffered_and_hands_out_none_of_it() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    world.send(0);
    let pause = world.client.pause([(&*TOPIC, 0)], &Pause::by("test"), world.tick.now);
    world.answer(0, GENEROUS);
    assert!(!world.poll(1));
    assert!(!world.send(0), "a paused partition is not fetched");
    let requests = world.requests;
    world.client.resume(pause);
    while world.poll(usize::MAX) {}
    assert_eq!((world.delivered(0), world.requests), (range_of(0..20), requests));
}

#[test]
fn pauses_of_different_owners_hold_on_their_own() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    let breaker = Pause::by("breaker").because("payments answers 503");
    let first = world.client.pause([(&*TOPIC, 0)], &breaker, world.tick.now);
    let second = world.client.pause([(&*TOPIC, 0)], &Pause::by("operator"), world.tick.now);
    world.wait(Duration::from_secs(12));
    assert_eq!(world.explain(0), "paused by breaker for 12 s: payments answers 503 (and 1 other pauses)");
    world.client.resume(first);
    assert_eq!(world.explain(0), "paused by operator for 12 s");
    assert!(!world.send(0));
    world.client.resume(second);
    assert!(world.send(0));
}

#[test]
fn what_comes_during_a_long_poll_does_not_wait_for_its_end() {
    let mut world = World::new(3, 1, Reset::Error);
    for partition in 0..3 {
        world.log(partition).append(5);
    }
    world.assign(OffsetSpec::At(0));
    let pause = world.client.pause([(&*TOPIC, 1)], &Pause::by("test"), world.tick.now);
    world.send(0);
    assert_eq!(world.catch_up(0, GENEROUS), []);
    world.client.seek(&TOPIC, 0, OffsetSpec::At(2));
    world.client.resume(pause);
    assert_eq!(world.catch_up(0, GENEROUS), [0, 1]);
    assert_eq!(world.catch_up(0, GENEROUS), [0, 1], "they have moved on");
    assert_eq!(world.catch_up(0, GENEROUS), [], "there was nothing new at the end of the log");
    world.answer(0, GENEROUS);
    world.settle();
    assert_eq!(
        [0, 1, 2].map(|partition| world.delivered(partition)),
        [range_of(2..5), range_of(0..5), range_of(0..5)]
    );
}

#[test]
fn while_a_range_is_unpacked_nobody_gets_the_next_one() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    world.send(0);
    world.answer(0, Manner { batches: 1, cut: 0 });
    let Some(Handout::Range { ticket, range, .. }) = world.client.take() else { panic!("there is a range") };
    world.send(0);
    world.answer(0, Manner { batches: 1, cut: 0 });
    assert!(world.client.take().is_none(), "what is behind it would come first");
    world.client.seek(&TOPIC, 0, OffsetSpec::At(12));
    let outcome = Outcome { next: range.end, rest: None, corrupt: None };
    assert_eq!(world.client.finish(ticket, outcome), Finished::Stale);
    assert_eq!(world.position(0), Some(12));
    world.settle();
    assert_eq!(world.delivered(0), range_of(12..20));
}

#[test]
fn what_was_handed_out_stays_good_until_a_seek_whatever_happens_behind_it() {
    for policy in [Reset::Error, Reset::Earliest] {
        let mut world = World::reading(40, OffsetSpec::At(0), policy);
        world.send(0);
        world.answer(0, Manner { batches: 1, cut: 0 });
        let Some(Handout::Range { ticket, range, .. }) = world.client.take() else {
            panic!("there is a range")
        };
        let outcome = Outcome { next: range.end, rest: None, corrupt: None };
        assert_eq!(world.client.finish(ticket, outcome), Finished::Current);
        world.log(0).start = 30;
        world.send(0);
        world.answer(0, GENEROUS);
        world.settle();
        assert!(!world.troubles.is_empty() || !world.effects.resets.is_empty());
        assert!(world.client.is_current(ticket), "nobody would fetch it again");
        world.client.seek(&TOPIC, 0, OffsetSpec::At(5));
        assert!(!world.client.is_current(ticket));
    }
}

#[test]
fn a_topic_that_may_not_be_read_is_told() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    let code = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
    world.client.on_metadata(0, |_, _| LeaderNews::Refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    assert!(!world.poll(1), "it may come back");
    world.client.on_metadata(0, |_, _| LeaderNews::Refused(code));
    world.client.on_metadata(0, |_, _| LeaderNews::Refused(code));
    while world.poll(1) {}
    assert_eq!(world.troubles, [(0, Trouble::Refused { code })]);
}

#[test]
fn a_leader_move_keeps_what_is_buffered_and_fetches_nothing_twice() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    world.send(0);
    world.answer(0, Manner { batches: 2, cut: 0 });
    world.move_leader(0, 1);
    world.tell_leaders();
    assert!(world.look_up(1), "the new leader is asked whether its log is the same");
    assert!(world.send(1));
    assert_eq!(world.in_flight[&1].topics[0].partitions[0].fetch_offset, 10);
    world.settle();
    assert_eq!(world.delivered(0), range_of(0..20));
}

#[test]
fn c03_two_quick_moves_cost_one_look_up_and_no_wait() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    world.send(0);
    world.answer(0, Manner { batches: 2, cut: 0 });
    world.move_leader(0, 1);
    world.tell_leaders();
    world.move_leader(0, 2);
    world.tell_leaders();
    assert!(!world.look_up(1));
    assert!(world.look_up(2) && !world.look_up(2));
    assert!(world.send(2));
}

#[test]
fn the_old_leaders_answer_counts_if_it_is_the_first() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    world.send(0);
    let answered = world.logs.clone();
    world.move_leader(0, 1);
    world.tell_leaders();
    assert!(world.send(1), "nothing was read yet, so that there is nothing to validate");
    let moved = std::mem::replace(&mut world.logs, answered);
    world.answer(0, Manner { batches: 2, cut: 0 });
    world.logs = moved;
    world.answer(1, GENEROUS);
    world.settle();
    assert_eq!(world.delivered(0), range_of(0..20));
}

#[test]
fn an_epoch_that_the_cluster_takes_back_costs_nothing() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    world.send(0);
    world.answer(0, Manner { batches: 2, cut: 0 });
    let epoch = std::mem::replace(&mut world.log(0).epoch, 99);
    world.tell_leaders();
    world.log(0).epoch = epoch;
    world.look_up(0);
    assert!(!world.send(0), "no broker knows that epoch");
    world.tell_leaders();
    world.settle();
    assert_eq!(world.delivered(0), range_of(0..20));
    assert_eq!(world.troubles, []);
}

#[test]
fn an_epoch_that_was_read_in_is_never_taken_back() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    let old = world.log(0).epoch;
    world.move_leader(0, 1);
    world.tell_leaders();
    world.settle();
    assert_eq!(world.delivered(0), range_of(0..20));
    // Of all brokers, only the leader that was deposed is reached, and believed by the cache in the end.
    let new = std::mem::replace(&mut world.log(0).epoch, old);
    world.log(0).leader = 0;
    world.tell_leaders();
    assert_eq!(world.client.leader(&TOPIC, 0), Some(1));
    world.log(0).epoch = new;
    world.log(0).leader = 1;
    world.log(0).append(5);
    world.settle();
    assert_eq!(world.delivered(0), range_of(20..25));
    assert_eq!(world.troubles, []);
}

#[test]
fn what_is_known_of_the_cluster_never_gets_older() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    let topic_id = world.log(0).topic_id;
    let led_by = |leader| LeaderNews::Known { topic_id, leader: Some(leader), epoch: 7 };
    world.client.on_metadata(2, |_, _| led_by(1));
    world.client.on_metadata(1, |_, _| led_by(0));
    assert_eq!(world.client.leader(&TOPIC, 0), Some(1));
}

#[test]
fn an_error_of_a_broker_that_leads_no_more_is_ignored() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    world.send(0);
    world.move_leader(0, 1);
    world.tell_leaders();
    world.answer(0, GENEROUS);
    assert!(!world.effects.refresh_metadata);
    assert!(world.send(1), "no back-off is left over from the old leader");
}

#[test]
fn a_wrong_leader_is_asked_again_after_the_metadata() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    world.move_leader(0, 1);
    world.send(0);
    world.answer(0, GENEROUS);
    assert!(world.effects.refresh_metadata);
    assert!(!world.send(0), "backs off meanwhile");
    world.tell_leaders();
    assert!(world.send(1), "at once when the leader is known");
}

#[test]
fn c07_lost_answers_and_forgotten_sessions_repeat_nothing() {
    let mut world = World::reading(40, OffsetSpec::At(0), Reset::Error);
    for round in 0..8 {
        world.send(0);
        match round % 3 {
            0 => world.lose(0),
            1 => world.forget_sessions(0),
            _ => {}
        }
        world.answer(0, Manner { batches: 1, cut: 0 });
        world.poll(1);
    }
    world.settle();
    assert_eq!(world.delivered(0), range_of(0..40));
}

#[test]
fn out_of_range_is_the_users_to_decide_by_default() {
    let mut world = World::reading(20, OffsetSpec::At(99), Reset::Error);
    world.settle();
    assert_eq!(world.troubles, [(0, Trouble::OutOfRange { offset: 99 })]);
    assert_eq!(world.explain(0), "held until a seek: offset 99 is not in the log");
    assert!(!world.poll(1), "told once");
    world.client.seek(&TOPIC, 0, EARLIEST);
    world.settle();
    assert_eq!(world.delivered(0), range_of(0..20));
}

#[test]
fn c01_out_of_range_follows_the_policy_and_says_so() {
    for (policy, first) in
        [(Reset::Earliest, 0), (Reset::Latest, 20), (Reset::ByDuration(Duration::from_secs(1)), 20)]
    {
        let mut world = World::reading(20, OffsetSpec::At(99), policy);
        world.settle();
        assert_eq!(world.delivered(0), range_of(first..20), "{policy:?}");
        let reset = &world.effects.resets[0];
        assert_eq!((reset.from, reset.to.offset, reset.reason), (Some(99), first, "offset out of range"));
        assert!(world.troubles.is_empty());
        assert!(policy.spec(world.wall()).is_some());
    }
}

#[test]
fn what_was_fetched_before_the_log_was_cut_off_is_handed_out_before_the_reset() {
    let mut world = World::reading(40, OffsetSpec::At(0), Reset::Earliest);
    world.send(0);
    world.answer(0, Manner { batches: 2, cut: 0 });
    world.log(0).start = 30;
    world.send(0);
    world.answer(0, GENEROUS);
    world.settle();
    let expected: Vec<_> = (0..10).chain(30..40).collect();
    assert_eq!(world.delivered(0), expected);
}

#[test]
fn a_truncation_in_front_of_the_reader_is_none_of_its_business() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    world.send(0);
    world.answer(0, GENEROUS);
    world.poll(1);
    assert_eq!(world.delivered(0), range_of(0..5));
    world.log(0).truncate(10);
    world.move_leader(0, 1);
    world.log(0).append(5);
    world.tell_leaders();
    world.settle();
    assert_eq!(world.delivered(0), range_of(5..15), "10 to 14 are the new leader's");
    assert!(world.troubles.is_empty());
}

#[test]
fn c02_a_truncation_behind_the_reader_is_told_with_its_offset() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    world.settle();
    world.log(0).truncate(10);
    world.move_leader(0, 1);
    world.log(0).append(5);
    world.tell_leaders();
    world.settle();
    assert_eq!(world.troubles, [(0, Trouble::Truncated { offset: 20, divergent: Some(10) })]);
}

#[test]
fn c02_a_truncation_goes_back_to_where_the_log_differs_and_no_further() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Earliest);
    world.settle();
    assert_eq!(world.delivered(0), range_of(0..20));
    world.log(0).truncate(10);
    world.move_leader(0, 1);
    world.log(0).append(5);
    world.tell_leaders();
    world.settle();
    assert_eq!(world.delivered(0), range_of(10..15));
    let reset = &world.effects.resets[0];
    assert_eq!((reset.from, reset.to.offset, reset.reason), (Some(20), 10, "log truncated"));
}

#[test]
fn c02_what_is_buffered_does_not_hide_that_what_was_read_differs() {
    let mut world = World::reading(10, OffsetSpec::At(0), Reset::Earliest);
    let oldest = world.log(0).epoch;
    for count in [10, 5] {
        world.log(0).epoch += 1;
        world.log(0).append(count);
    }
    world.tell_leaders();
    world.send(0);
    world.answer(0, GENEROUS);
    for _ in 0..3 {
        world.poll(1);
    }
    assert_eq!(world.delivered(0), range_of(0..20), "and five more are buffered");
    // Who leads now has been in the oldest epoch when the others were not, and has gone on in it.
    let newest = std::mem::replace(&mut world.log(0).epoch, oldest);
    world.log(0).truncate(10);
    world.log(0).append(15);
    world.log(0).epoch = newest;
    world.move_leader(0, 1);
    world.tell_leaders();
    world.settle();
    assert_eq!(world.delivered(0), range_of(10..25));
    assert_eq!(world.troubles, []);
}

/// A batch whose last byte was turned over.
fn corrupt(world: &mut World, batch: usize) -> bytes::Bytes {
    let stored = &mut world.log(0).batches[batch];
    let mut bytes = stored.bytes.to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    std::mem::replace(&mut stored.bytes, bytes.into())
}

#[test]
fn c04_a_batch_that_was_corrupt_once_is_fetched_again_and_nothing_is_said() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    let good = corrupt(&mut world, 1);
    world.send(0);
    world.answer(0, GENEROUS);
    world.log(0).batches[1].bytes = good;
    world.settle();
    assert_eq!(world.delivered(0), range_of(0..20));
    assert!(world.troubles.is_empty());
}

#[test]
fn c04_a_corrupt_batch_holds_its_partition_after_the_second_try() {
    let mut world = World::new(2, 1, Reset::Error);
    for _ in 0..4 {
        world.log(0).append(5);
        world.log(1).append(5);
    }
    corrupt(&mut world, 1);
    world.assign(OffsetSpec::At(0));
    world.settle();
    assert_eq!(world.delivered(0), range_of(0..5));
    assert_eq!(world.delivered(1), range_of(0..20), "the other one flows");
    assert!(matches!(world.troubles[..], [(0, Trouble::Corrupt { offset: 5, cause: Some(_) })]));
    assert_eq!(world.position(0), Some(5));
    world.client.seek(&TOPIC, 0, OffsetSpec::At(10));
    world.settle();
    assert_eq!(world.delivered(0), range_of(10..20), "skipped because somebody said so");
}

#[test]
fn a_broker_that_finds_its_own_data_corrupt_is_asked_twice() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    world.log(0).errors = vec![ErrorCode::CORRUPT_MESSAGE];
    world.settle();
    assert_eq!(world.delivered(0), range_of(0..20));
    world.log(0).errors = vec![ErrorCode::CORRUPT_MESSAGE; 2];
    world.settle();
    assert_eq!(world.troubles, [(0, Trouble::Corrupt { offset: 20, cause: None })]);
}

#[test]
fn missing_rights_are_told_and_other_partitions_flow() {
    let mut world = World::new(2, 1, Reset::Error);
    world.log(1).append(5);
    world.log(0).errors = vec![ErrorCode::TOPIC_AUTHORIZATION_FAILED];
    world.assign(OffsetSpec::At(0));
    world.settle();
    let code = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
    assert_eq!(world.troubles, [(0, Trouble::Refused { code })]);
    assert_eq!(world.delivered(1), range_of(0..5));
}

#[test]
fn c15_a_deleted_topic_is_waited_for() {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    let log = world.logs.remove(&0).unwrap();
    world.tell_leaders();
    world.logs.insert(0, log);
    world.log(0).errors = vec![ErrorCode::UNKNOWN_TOPIC_OR_PARTITION; 3];
    world.settle();
    assert_eq!(world.delivered(0), range_of(0..20));
    assert!(world.troubles.is_empty());
}

#[test]
fn c08_offsets_of_a_deleted_topic_are_not_applied_to_its_successor() {
    for (policy, expected) in [(Reset::Error, range_of(0..0)), (Reset::Earliest, range_of(0..30))] {
        let mut world = World::reading(20, OffsetSpec::At(0), policy);
        world.settle();
        world.delivered(0);
        let log = world.log(0);
        (log.topic_id, log.epoch) = (TopicId([2; 16]), 0);
        log.batches.clear();
        for _ in 0..6 {
            log.append(5);
        }
        world.settle();
        assert_eq!(world.delivered(0), expected, "{policy:?}");
        let recreated = (0, Trouble::Recreated { offset: 20 });
        assert_eq!(world.troubles, if policy == Reset::Error { vec![recreated] } else { vec![] });
    }
}

#[test]
fn c11_a_slow_reader_stops_its_own_partition_and_memory_stays_bounded() {
    let mut world = World::new(2, 1, Reset::Error);
    for _ in 0..2_000 {
        world.log(0).append(100);
    }
    world.assign(OffsetSpec::At(0));
    for _ in 0..200 {
        world.send(0);
        world.answer(0, Manner { batches: 40, cut: 0 });
    }
    assert!(world.send(0));
    let (used, limit) = (world.budget.used(), world.budget.limit());
    assert!(used >= limit / 2 && used < limit, "{used} of {limit}");
    let request = &world.in_flight[&0];
    assert!(request.max_wait_ms <= 20, "a full partition must not wait for the patience of an idle one");
    world.log(1).append(5);
    world.answer(0, GENEROUS);
    while world.poll(usize::MAX) {}
    assert_eq!(world.delivered(1), range_of(0..5));
    assert_eq!(world.budget.used(), 0);
}

#[test]
fn an_unassigned_partition_is_explained() {
    let world = World::reading(0, OffsetSpec::At(0), Reset::Error);
    assert_eq!(world.explain(7), "not assigned");
    assert_eq!(world.explain(0), "waits for the first answer, at offset 0");
}
