//! Partitions that come and go while others are read.

use ottla_protocol::TopicId;

use super::{
    super::{Finished, Handout, OffsetSpec, Outcome, Pause, Position, Reset, Start, Trouble},
    test_cluster::{GENEROUS, TOPIC, World},
};

fn range_of(offsets: std::ops::Range<i64>) -> Vec<i64> {
    offsets.collect()
}

/// Two partitions with 20 records each on one broker; the first is read from its start.
fn reading_one_of_two(policy: Reset) -> (World, u64) {
    let mut world = World::new(2, 1, policy);
    for partition in 0..2 {
        for _ in 0..4 {
            world.log(partition).append(5);
        }
    }
    let token = world.client.add(TOPIC, 0, Start::At(OffsetSpec::At(0)));
    world.tell_leaders();
    (world, token)
}

fn missing(policy: Reset) -> Start {
    Start::Missing { group: "billing".into(), policy }
}

#[test]
fn partitions_that_stay_keep_what_is_buffered_when_others_come_and_go() {
    let (mut world, _) = reading_one_of_two(Reset::Error);
    world.send(0);
    world.answer(0, GENEROUS);
    let other = world.client.add(TOPIC, 1, Start::At(OffsetSpec::At(0)));
    world.tell_leaders();
    let requests = world.requests;
    world.client.remove(other);
    while world.poll(usize::MAX) {}
    assert_eq!((world.delivered(0), world.requests), (range_of(0..20), requests));
    assert_eq!(world.client.assigned().count(), 1);
}

#[test]
fn a_partition_that_comes_back_begins_where_it_is_told_and_gets_nothing_from_before() {
    let (mut world, token) = reading_one_of_two(Reset::Error);
    world.send(0);
    world.client.remove(token);
    assert_eq!(world.position(0), None);
    let again = world.client.add(TOPIC, 0, Start::Committed(Position::at(12)));
    world.tell_leaders();
    assert_ne!(again, token, "a token is never used again");
    world.answer(0, GENEROUS);
    world.settle();
    assert_eq!(world.delivered(0), range_of(12..20));
}

#[test]
fn what_was_taken_of_a_partition_that_went_is_out_of_date() {
    let (mut world, token) = reading_one_of_two(Reset::Error);
    world.send(0);
    world.answer(0, GENEROUS);
    let Some(Handout::Range { ticket, range, .. }) = world.client.take() else {
        panic!("there is something")
    };
    assert_eq!(ticket.token(), token);
    world.client.add(TOPIC, 0, Start::At(OffsetSpec::At(0)));
    let outcome = Outcome { next: range.end, rest: None, corrupt: None };
    assert_eq!(world.client.finish(ticket, outcome), Finished::Stale);
    assert!(!world.client.is_current(ticket));
}

#[test]
fn a_committed_offset_with_its_epoch_is_checked_before_anything_is_read() {
    let (mut world, _) = reading_one_of_two(Reset::Error);
    world.move_leader(1, 0);
    world.log(1).append(5);
    world.client.add(TOPIC, 1, Start::Committed(Position::with_epoch(15, 0)));
    world.tell_leaders();
    assert_eq!(world.explain(1), "asks broker 0 whether its log is the one that was read up to 15");
    world.settle();
    assert_eq!(world.delivered(1), range_of(15..25));
}

/// It has none of the records in question, which is no sign that they are gone.
#[test]
fn a_leader_that_was_deposed_before_the_commit_is_not_believed() {
    let (mut world, _) = reading_one_of_two(Reset::Earliest);
    world.client.add(TOPIC, 1, Start::Committed(Position::with_epoch(25, 1)));
    world.tell_leaders();
    assert!(world.look_up(0));
    assert!(world.effects.refresh_metadata && world.effects.resets.is_empty());

    world.move_leader(1, 0);
    world.log(1).append(5);
    world.log(1).append(5);
    world.tell_leaders();
    world.settle();
    assert_eq!(world.delivered(1), range_of(25..30));
}

#[test]
fn a_committed_epoch_that_no_leader_ever_knew_is_forgotten_in_the_end() {
    let (mut world, _) = reading_one_of_two(Reset::Error);
    world.client.add(TOPIC, 1, Start::Committed(Position::with_epoch(15, 99)));
    world.tell_leaders();
    // The cluster is asked after each refusal, and says the same for minutes.
    world.settle();
    assert_eq!(world.delivered(1), range_of(15..20));
    assert_eq!(world.troubles, []);
}

#[test]
fn a_log_that_was_truncated_while_nobody_read_it_is_noticed() {
    for policy in [Reset::Error, Reset::Latest] {
        let (mut world, _) = reading_one_of_two(policy);
        world.log(1).truncate(10);
        world.move_leader(1, 0);
        world.log(1).append(20);
        world.client.add(TOPIC, 1, Start::Committed(Position::with_epoch(15, 0)));
        world.tell_leaders();
        world.settle();
        if policy == Reset::Error {
            assert_eq!(world.troubles, [(1, Trouble::Truncated { offset: 15, divergent: Some(10) })]);
        } else {
            assert_eq!(world.delivered(1), range_of(10..30), "back to where the log differs");
        }
    }
}

#[test]
fn without_a_committed_offset_the_policy_says_where_to_begin() {
    for (policy, first) in [(Reset::Earliest, 0), (Reset::Latest, 20)] {
        let (mut world, _) = reading_one_of_two(Reset::Error);
        let token = world.client.add(TOPIC, 1, missing(policy));
        assert!(world.client.place(token).is_none());
        world.tell_leaders();
        while world.look_up(0) {}
        assert_eq!(world.client.place(token).map(|place| place.offset), Some(first));
        let reset = &world.effects.resets[0];
        assert_eq!((reset.from, reset.to.offset, reset.reason), (None, first, "no committed offset"));
        world.settle();
        assert_eq!(world.delivered(1), range_of(first..20));
    }
}

#[test]
fn without_a_committed_offset_and_a_policy_the_user_is_asked_once() {
    let (mut world, _) = reading_one_of_two(Reset::Earliest);
    let token = world.client.add(TOPIC, 1, missing(Reset::Error));
    world.tell_leaders();
    assert!(world.client.place(token).is_none());
    let Some(Handout::Trouble { partition: 1, trouble, .. }) = world.client.take_trouble() else {
        panic!("the user has to be told")
    };
    assert!(trouble.to_string().contains("group billing has no committed offset"), "{trouble}");
    assert!(world.client.take_trouble().is_none());
    world.settle();
    assert!(world.troubles.is_empty() && world.delivered(1).is_empty());
    assert!(world.client.seek(&TOPIC, 1, OffsetSpec::At(17)));
    world.settle();
    assert_eq!(world.delivered(1), range_of(17..20));
}

#[test]
fn what_is_held_back_is_fetched_and_not_handed_out() {
    let (mut world, token) = reading_one_of_two(Reset::Error);
    world.client.hold_back(token, true);
    world.send(0);
    world.answer(0, GENEROUS);
    assert!(!world.poll(1));
    let requests = world.requests;
    world.client.hold_back(token, false);
    while world.poll(usize::MAX) {}
    assert_eq!((world.delivered(0), world.requests), (range_of(0..20), requests));
}

#[test]
fn a_pause_of_a_partition_that_went_is_not_inherited() {
    let (mut world, token) = reading_one_of_two(Reset::Error);
    world.client.pause([(&*TOPIC, 0)], &Pause::by("test"), world.tick.now);
    world.client.remove(token);
    world.client.add(TOPIC, 0, Start::At(OffsetSpec::At(0)));
    world.tell_leaders();
    world.settle();
    assert_eq!(world.delivered(0), range_of(0..20));
}

#[test]
fn a_recreated_topic_has_no_place_until_one_is_found_in_it() {
    for policy in [Reset::Error, Reset::Earliest] {
        let (mut world, token) = reading_one_of_two(policy);
        world.settle();
        assert!(!world.client.is_log_gone(token));
        let log = world.log(0);
        (log.topic_id, log.epoch) = (TopicId([2; 16]), 0);
        world.tell_leaders();
        assert!(world.client.is_log_gone(token), "{policy:?}");
        if policy == Reset::Error {
            world.settle();
            assert!(world.client.is_log_gone(token), "it waits for the user");
            world.client.seek(&TOPIC, 0, OffsetSpec::At(0));
        } else {
            while world.look_up(0) {}
            assert!(world.effects.resets.iter().all(|reset| reset.other_log));
            assert_eq!(world.effects.resets.len(), 1);
        }
        assert!(!world.client.is_log_gone(token), "{policy:?}");
    }
}
