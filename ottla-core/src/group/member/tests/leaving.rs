//! How a member goes.

use super::*;

#[test]
fn gives_up_everything_first() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.leave_within(s(30));
    assert!(matches!(desk.news().as_slice(), [Revoke { .. }]));
    desk.beat(ErrorCode::NONE);
    desk.member.on_revoked(&partitions("orders", &[0]));
    let actions = desk.news();
    let [Leave { leave, timeout }] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(*timeout, s(15), "there is time to say it again");
    assert_eq!(leave.request(2).member_id, "me");
    assert_eq!(leave.request(3).members[0].member_id, "me");
    assert_eq!(leave.request(5).members[0].reason.as_deref(), Some("closed"));
    desk.left(ErrorCode::NONE);
    assert_eq!((desk.news(), desk.member.state(), desk.deadline()), (vec![], State::Left, None));
}

#[test]
fn a_static_member_stays_in_the_group() {
    let mut desk = Desk::settled(MemberConfig { instance_id: Some("i".into()), ..Desk::config() }, &[]);
    desk.leave_within(s(30));
    assert_eq!((desk.news(), desk.member.state()), (vec![], State::Left));
}

#[test]
fn a_dead_coordinator_holds_nobody_up() {
    let mut desk = Desk::settled(Desk::config(), &[]);
    desk.leave_within(s(10));
    assert!(matches!(desk.news().as_slice(), [Leave { .. }]));
    desk.member.on_leave(desk.at(), Err(CallError::Lost));
    assert_eq!(desk.news(), [ForgetCoordinator(Call::Leave)]);
    desk.pass(ms(80));
    assert!(matches!(desk.news().as_slice(), [Leave { .. }]));
    desk.pass(s(10));
    assert_eq!((desk.news(), desk.member.state()), (vec![], State::Left));
}

#[test]
fn whoever_cannot_give_up_in_time_leaves_all_the_same() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.leave_within(s(20));
    desk.news();
    desk.pass(s(15));
    assert!(matches!(desk.news().as_slice(), [Lost { .. }, Leave { .. }]));
}

#[test]
fn during_a_rebalance_the_last_commit_gets_to_know_the_new_generation() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    desk.take_join();
    desk.leave_within(s(30));
    assert!(matches!(desk.news().as_slice(), [Revoke { .. }]));
    desk.joined(2);
    desk.take_sync();
    desk.synced(&partitions("orders", &[0, 1]));
    assert!(matches!(desk.news().as_slice(), [Action::Joined(_)]), "nothing more is taken on");
    assert_eq!(desk.member.membership().unwrap().generation_id, 2);
    desk.member.on_revoked(&partitions("orders", &[0]));
    assert!(matches!(desk.news().as_slice(), [Leave { .. }]));
}

#[test]
fn whoever_goes_while_waiting_to_join_again_does_not_spin() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    desk.take_join();
    desk.join_refused(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    desk.leave_within(s(30));
    assert!(matches!(desk.news()[..], [Action::Revoke { .. }]), "its work is finished first");
    // The time has come at which it would have joined again.
    desk.pass(s(5));
    assert_eq!(desk.news(), []);
    assert!(desk.deadline() > Some(s(0)), "{:?}", desk.deadline());
}

#[test]
fn whoever_has_not_joined_has_nothing_to_leave() {
    let mut desk = Desk::new(Desk::config());
    desk.member.subscribe(["orders".into()].into());
    desk.leave_within(s(10));
    assert_eq!((desk.news(), desk.member.state()), (vec![], State::Left));
}
