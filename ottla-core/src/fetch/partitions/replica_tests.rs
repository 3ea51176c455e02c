//! A replica that the leader names is read in its place, and left as soon as it is of no use (KIP-392).

use std::{collections::BTreeSet, time::Duration};

use ottla_protocol::ErrorCode;

use super::{
    super::{OffsetSpec, Reset},
    test_cluster::{GENEROUS, Replica, TOPIC, World},
};

/// What is set in [`World`], and how long a leader is not told where the client stands.
const NAMED_FOR: Duration = Duration::from_secs(300);
const ALONE: Duration = Duration::from_secs(30);

/// Node 0 leads a partition of twenty records, and names node 1, which has them all. The client reads from there.
fn reading_from_a_replica() -> World {
    let mut world = World::reading(20, OffsetSpec::At(0), Reset::Error);
    world.log(0).replica = Some(Replica { node: 1, end: 20, errors: Vec::new() });
    world.send(0);
    world.answer(0, GENEROUS);
    assert!(std::mem::take(&mut world.effects.moved), "another broker's fetcher has to know");
    assert_eq!(source(&world), Some(1));
    world
}

fn source(world: &World) -> Option<i32> {
    world.client.waits_for(&TOPIC, 0, world.tick.now)
}

fn replica(world: &mut World) -> &mut Replica {
    world.log(0).replica.as_mut().unwrap()
}

/// Fetches once from that node, and takes all there is.
fn fetch(world: &mut World, node: i32) -> Vec<i64> {
    assert!(world.send(node), "node {node} is asked");
    world.answer(node, GENEROUS);
    while world.poll(usize::MAX) {}
    world.delivered(0)
}

fn all(range: std::ops::Range<i64>) -> Vec<i64> {
    range.collect()
}

#[test]
fn records_come_from_the_replica_that_the_leader_names() {
    let mut world = reading_from_a_replica();
    assert!(!world.send(0), "the leader is not asked");
    assert_eq!(world.client.brokers(world.tick.now), BTreeSet::from([0, 1]));
    assert_eq!(fetch(&mut world, 1), all(0..20));
    world.log(0).append(5);
    assert_eq!(fetch(&mut world, 1), [] as [i64; 0], "the replica has no more yet");
    replica(&mut world).end = 25;
    assert_eq!(fetch(&mut world, 1), all(20..25));
    assert_eq!(
        world.explain(0),
        "at the end of the log, offset 25 (broker 1 is read in place of the leader)"
    );
}

#[test]
fn the_leader_is_asked_again_when_the_time_is_over() {
    let mut world = reading_from_a_replica();
    fetch(&mut world, 1);
    let until = world.tick.now + NAMED_FOR;
    assert_eq!(world.client.wants_fetch(0, world.tick.now), Err(Some(until)), "its fetcher wakes then");
    world.send(1);
    world.wait(NAMED_FOR);
    assert_eq!(source(&world), Some(0));
    // What the replica was asked in time counts.
    world.log(0).append(5);
    replica(&mut world).end = 25;
    world.answer(1, GENEROUS);
    while world.poll(usize::MAX) {}
    assert_eq!(world.delivered(0), all(20..25));
    assert!(!world.send(1));
    assert_eq!(fetch(&mut world, 0), [] as [i64; 0]);
    assert_eq!(source(&world), Some(1), "it names the replica again");
    world.wait(NAMED_FOR);
    world.log(0).replica = None;
    world.log(0).append(5);
    assert_eq!(fetch(&mut world, 0), all(25..30));
    assert_eq!(source(&world), Some(0));
}

#[test]
fn an_offset_that_the_replica_lacks_resets_nothing() {
    let mut world = reading_from_a_replica();
    fetch(&mut world, 1);
    world.log(0).append(5);
    // It has lost what it had.
    replica(&mut world).end = 10;
    assert_eq!(fetch(&mut world, 1), [] as [i64; 0]);
    assert!(std::mem::take(&mut world.effects.moved));
    assert_eq!((world.position(0), source(&world)), (Some(20), Some(0)));
    assert_eq!(fetch(&mut world, 0), all(20..25), "the leader is not told where the client stands");
    assert_eq!((&world.troubles[..], &world.effects.resets[..]), (&[][..], &[][..]));
}

#[test]
fn an_offset_that_the_leader_lacks_as_well_is_out_of_range() {
    let mut world = reading_from_a_replica();
    world.client.seek(&TOPIC, 0, OffsetSpec::At(99));
    assert_eq!(fetch(&mut world, 1), [] as [i64; 0]);
    assert_eq!(world.troubles, [], "the replica alone decides nothing");
    fetch(&mut world, 0);
    assert_eq!(world.troubles.len(), 1);
}

#[test]
fn a_replica_that_refuses_is_left_for_a_while_whatever_it_says() {
    for code in [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::REPLICA_NOT_AVAILABLE,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::OFFSET_NOT_AVAILABLE,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorCode::UNKNOWN_SERVER_ERROR,
    ] {
        let mut world = reading_from_a_replica();
        replica(&mut world).errors = vec![code];
        assert_eq!(fetch(&mut world, 1), [] as [i64; 0]);
        assert!(!world.send(1));
        assert_eq!(fetch(&mut world, 0), all(0..20), "{code}: the leader gives them at once");
        assert_eq!(world.troubles, [], "{code}");
        world.wait(ALONE);
        fetch(&mut world, 0);
        assert_eq!(source(&world), Some(1), "{code}: it is tried again");
    }
}

#[test]
fn a_replica_that_cannot_be_reached_is_left_for_a_while() {
    let mut world = reading_from_a_replica();
    world.send(1);
    world.in_flight.remove(&1);
    assert!(world.client.on_fetch_lost(1, world.tick.now), "another broker's fetcher has to know");
    assert_eq!(fetch(&mut world, 0), all(0..20));
    assert!(!world.client.on_fetch_lost(1, world.tick.now));
    world.wait(ALONE);
    fetch(&mut world, 0);
    assert_eq!(source(&world), Some(1));
}

#[test]
fn a_new_leader_or_epoch_ends_it() {
    for leader in [0, 2] {
        let mut world = reading_from_a_replica();
        world.send(1);
        world.move_leader(0, leader);
        world.tell_leaders();
        assert_eq!(source(&world), Some(leader));
        world.answer(1, GENEROUS);
        assert_eq!(world.position(0), Some(0), "what was asked in the former epoch does not count");
        assert!(!world.poll(usize::MAX));
    }
}

#[test]
fn a_replica_that_is_not_in_sync_any_more_is_not_read() {
    let mut world = reading_from_a_replica();
    world.client.on_replicas(0, |_, _, node| node == 1);
    assert_eq!(source(&world), Some(1));
    world.client.on_replicas(0, |_, _, node| node != 1);
    assert_eq!(source(&world), Some(0));
}

#[test]
fn bytes_that_are_corrupt_are_fetched_from_the_leader() {
    let mut world = reading_from_a_replica();
    let good = world.log(0).batches[0].bytes.clone();
    let mut bad = good.to_vec();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    world.log(0).batches[0].bytes = bad.into();
    assert_eq!(fetch(&mut world, 1), [] as [i64; 0]);
    world.log(0).batches[0].bytes = good;
    assert!(!world.send(1));
    assert_eq!(fetch(&mut world, 0), all(0..20));
    fetch(&mut world, 0);
    assert_eq!(source(&world), Some(1), "with that behind, it is sent back");
    assert_eq!(world.troubles, []);
}

#[test]
fn a_leader_that_sends_back_to_what_failed_is_not_asked_as_fast_as_can_be() {
    let mut world = reading_from_a_replica();
    world.client.on_fetch_lost(1, world.tick.now);
    world.send(0);
    let mut answer = world.carry_out(0, GENEROUS).unwrap();
    let part = &mut answer.responses[0].partitions[0];
    (part.preferred_read_replica, part.records) = (1, None);
    world.deliver(0, answer);
    assert!(!world.send(1) && !world.send(0));
    world.wait(Duration::from_secs(1));
    assert_eq!(fetch(&mut world, 1), all(0..20));
}

#[test]
fn partitions_that_come_and_go_leave_the_sessions_of_both_brokers_right() {
    let mut world = World::new(2, 1, Reset::Error);
    for partition in 0..2 {
        world.log(partition).append(5);
        world.log(partition).replica = Some(Replica { node: 1, end: 5, errors: Vec::new() });
    }
    world.assign(OffsetSpec::At(0));
    for round in 0..5 {
        // One of them goes back to the leader, and comes again half a minute later.
        replica(&mut world).errors = vec![ErrorCode::REPLICA_NOT_AVAILABLE];
        world.wait(ALONE);
        world.settle();
        assert!(replica(&mut world).errors.is_empty(), "it was asked");
        for partition in 0..2 {
            let from = round * 5;
            assert_eq!(world.delivered(partition), all(from..from + 5), "round {round}");
            world.log(partition).append(5);
            world.log(partition).replica.as_mut().unwrap().end += 5;
        }
    }
    assert_eq!(world.sessions_opened, 2, "no broker has found a fault with its session");
    assert_eq!(world.troubles, []);
}
