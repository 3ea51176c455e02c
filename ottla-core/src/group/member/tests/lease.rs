//! How long what is owned is sure to be.

use super::*;

#[test]
fn begins_with_a_heartbeat_and_a_commit() {
    let mut desk = Desk::new(Desk::config());
    desk.member.subscribe(["orders".into()].into());
    desk.take_join();
    desk.joined(1);
    desk.take_sync();
    desk.synced(&partitions("orders", &[0]));
    desk.actions();
    desk.pass(s(1));
    desk.heartbeat_answered(ErrorCode::NONE);
    assert_eq!(desk.lease(), None);
    desk.committed();
    assert_eq!(desk.lease(), Some(s(45) - ms(4_500) - s(1)), "counted from when the heartbeat was sent");
}

#[test]
fn is_not_extended_by_joining_and_syncing() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    let before = desk.member.lease_until();
    desk.pass(s(3));
    desk.take_heartbeat();
    desk.commit_refused(1, ErrorCode::REBALANCE_IN_PROGRESS);
    desk.take_join();
    desk.joined(2);
    desk.take_sync();
    desk.synced(&partitions("orders", &[0]));
    desk.committed();
    assert_eq!(desk.member.lease_until(), before);
}

#[test]
fn survives_a_rebalance() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    desk.committed();
    desk.take_join();
    assert_eq!(desk.lease(), Some(ms(40_500)), "the session goes on");
    desk.joined(2);
    desk.take_sync();
    desk.synced(&partitions("orders", &[0]));
    assert_eq!(desk.lease(), Some(ms(40_500)));
}

#[test]
fn ends_when_a_rebalance_may_be_over_although_heartbeats_are_answered() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    desk.take_join();
    for _ in 0..16 {
        desk.beat(ErrorCode::REBALANCE_IN_PROGRESS);
        desk.committed();
    }
    assert_eq!(desk.lease(), Some(s(54 - 17 * 3)), "since the last one that found the group at rest");
}

#[test]
fn a_heartbeat_before_the_assignment_does_not_say_that_the_group_is_at_rest() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    desk.take_join();
    desk.joined(2);
    desk.take_sync();
    for _ in 0..16 {
        desk.beat(ErrorCode::NONE);
        desk.committed_in(1);
    }
    assert_eq!(desk.lease(), Some(s(54 - 17 * 3)), "the timer for members that do not sync may run");
}

#[test]
fn what_was_sent_before_a_loss_says_nothing_about_the_time_after() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    let (sent, membership) = (desk.at(), desk.member.membership().unwrap());
    desk.pass(s(3));
    desk.take_heartbeat();
    desk.commit_refused(1, ErrorCode::ILLEGAL_GENERATION);
    desk.take_join();
    desk.joined(3);
    desk.take_sync();
    desk.synced(&partitions("orders", &[0]));
    desk.heartbeat_answered(ErrorCode::NONE);
    desk.member.on_write_acknowledged(sent, &membership);
    assert_eq!(desk.lease(), None);
    desk.take_heartbeat();
    desk.heartbeat_answered(ErrorCode::NONE);
    assert_eq!(desk.lease(), None, "the commit was of the membership before");
    desk.committed();
    assert_eq!(desk.lease(), Some(ms(40_500)));
}

#[test]
fn is_not_given_back_by_a_coordinator_that_may_still_be_loading() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    desk.take_join();
    for _ in 0..18 {
        desk.beat(ErrorCode::REBALANCE_IN_PROGRESS);
        desk.committed();
    }
    assert_eq!(desk.lease(), Some(s(0)), "the rebalance may be over, and the member out");
    // Another broker has taken over, and does not know yet who is a member.
    for _ in 0..5 {
        desk.beat(ErrorCode::NONE);
        assert_eq!(desk.lease(), Some(s(0)));
        assert!(desk.member.needs_proof(desk.at()));
    }
    desk.committed();
    assert_eq!(desk.lease(), Some(ms(40_500)), "it is loaded, and the member in it");
    assert!(!desk.member.needs_proof(desk.at()));
}

#[test]
fn counts_suspend_and_a_heartbeat_follows_at_once() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.suspended = s(50);
    assert_eq!(desk.lease(), Some(s(0)));
    desk.take_heartbeat();
    assert_eq!(desk.member.state(), State::Stable, "only the coordinator ends a membership");
    desk.heartbeat_answered(ErrorCode::NONE);
    desk.committed();
    assert_eq!(desk.lease(), Some(ms(40_500)));
}
