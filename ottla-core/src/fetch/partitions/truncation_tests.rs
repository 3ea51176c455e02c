//! Logs that are cut below what was read (KIP-320).

use super::{
    super::{OffsetSpec, Position, Reset, Trouble},
    LookUpAsk, LookUpPlan,
    test_cluster::{TOPIC, World},
};

fn range_of(offsets: std::ops::Range<i64>) -> Vec<i64> {
    offsets.collect()
}

/// A new leader whose log has, from `from` on, batches of these epochs up to these offsets. Its own epoch is the last.
fn elect(world: &mut World, from: i64, epochs: &[(i32, i64)]) {
    let log = world.log(0);
    log.truncate(from);
    log.leader = 1 - log.leader;
    for (epoch, end) in epochs {
        log.epoch = *epoch;
        while log.end() < *end {
            log.append(5);
        }
    }
}

/// Everything of these epochs was read, up to these offsets.
fn having_read(epochs: &[(i32, i64)], policy: Reset) -> World {
    let mut world = World::new(1, 2, policy);
    world.assign(OffsetSpec::At(0));
    for (epoch, end) in epochs {
        elect(&mut world, i64::MAX, &[(*epoch, *end)]);
        world.tell_leaders();
        world.settle();
    }
    let all: i64 = epochs.last().map_or(0, |(_, end)| *end);
    assert_eq!(world.delivered(0), range_of(0..all));
    world
}

#[test]
fn c02_a_log_that_lacks_several_epochs_is_read_again_from_where_the_first_of_them_began() {
    let mut world = having_read(&[(0, 20), (1, 40), (2, 60)], Reset::Earliest);
    // Epoch 0 went on there, and nobody else had that.
    elect(&mut world, 20, &[(0, 50), (3, 80)]);
    world.tell_leaders();
    world.settle();
    assert_eq!(world.delivered(0), range_of(20..80));
    assert_eq!(world.effects.resets[0].to, Position::with_epoch(20, 0));
}

#[test]
fn c02_a_log_with_an_epoch_that_was_never_read_is_asked_about_the_one_in_front_of_it() {
    for policy in [Reset::Earliest, Reset::Error] {
        let mut world = having_read(&[(0, 20), (2, 40)], policy);
        elect(&mut world, 10, &[(1, 50), (3, 70)]);
        world.tell_leaders();
        world.settle();
        if policy == Reset::Error {
            assert_eq!(world.troubles, [(0, Trouble::Truncated { offset: 40, divergent: Some(10) })]);
        } else {
            assert_eq!(world.delivered(0), range_of(10..70));
        }
    }
}

#[test]
fn what_a_leader_said_that_was_deposed_since_proves_nothing_about_the_next_one() {
    let mut world = having_read(&[(0, 20), (1, 40)], Reset::Earliest);
    elect(&mut world, i64::MAX, &[(2, 45)]);
    world.tell_leaders();
    let node = world.log(0).leader;
    let LookUpPlan::Send(LookUpAsk::EpochEnds(request, tickets)) =
        world.client.plan_look_up(node, world.tick)
    else {
        panic!("it is asked about its log")
    };
    let intact = world.epoch_ends(node, &request);
    elect(&mut world, 30, &[(3, 60)]);
    world.tell_leaders();
    world.client.on_epoch_ends(&tickets, &intact, world.tick);
    world.settle();
    assert_eq!(world.delivered(0), range_of(30..60));
}

#[test]
fn who_goes_on_behind_a_record_that_it_has_read_hears_that_it_is_another_log() {
    for (place, from) in [(OffsetSpec::behind(24, Some(0)), 10), (OffsetSpec::behind(24, None), 25)] {
        let mut world = World::reading(30, OffsetSpec::At(0), Reset::Earliest);
        elect(&mut world, 10, &[(1, 60)]);
        world.client.seek(&TOPIC, 0, place);
        world.tell_leaders();
        world.settle();
        assert_eq!(world.delivered(0), range_of(from..60), "{place:?}");
    }
}

#[test]
fn going_to_where_reading_is_forgets_nothing_of_what_was_read() {
    let mut world = having_read(&[(0, 20), (1, 40), (2, 60)], Reset::Earliest);
    world.client.seek(&TOPIC, 0, OffsetSpec::behind(54, Some(2)));
    world.settle();
    assert_eq!(world.delivered(0), range_of(55..60));
    elect(&mut world, 20, &[(0, 50), (3, 80)]);
    world.tell_leaders();
    world.settle();
    assert_eq!(world.delivered(0), range_of(20..80));
}
