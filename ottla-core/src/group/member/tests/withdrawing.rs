//! A member whose application has stopped working (KIP-62).

use super::*;

/// It has withdrawn and given everything up.
fn withdrawn(config: MemberConfig) -> Desk {
    let mut desk = Desk::settled(config, &[0, 1]);
    assert!(desk.member.withdraw(desk.at().now));
    let until = desk.at().now + s(45);
    assert_eq!(desk.news(), [Abandon { partitions: partitions("orders", &[0, 1]), until }]);
    assert!(desk.member.membership().is_some(), "what is complete is committed first");
    assert!(!desk.member.withdraw(desk.at().now), "it goes already");
    desk.member.on_revoked(&partitions("orders", &[0, 1]));
    desk
}

#[test]
fn a_member_whose_application_has_stopped_working_leaves_and_joins_again_when_it_works() {
    let mut desk = withdrawn(Desk::config());
    let actions = desk.news();
    let [Leave { leave, .. }] = actions.as_slice() else { panic!("{actions:?}") };
    let reason = "the application has stopped working on what it was handed out";
    assert_eq!(leave.reason.as_str(), reason);
    desk.left(ErrorCode::NONE);
    assert!(matches!(&desk.news()[..], [Lost { partitions, .. }] if partitions.is_empty()));
    assert_eq!((desk.member.state(), desk.lease(), desk.deadline()), (State::Away, None, None));
    assert_eq!(desk.member.membership(), None);
    assert_eq!(
        desk.member.describe(desk.at()),
        format!("has left until somebody asks for records again: {reason}")
    );
    assert!(!desk.member.withdraw(desk.at().now), "it owns nothing");

    assert!(desk.member.waits_for_application());
    desk.member.come_back();
    assert!(!desk.member.waits_for_application());
    let join = desk.take_join();
    assert_eq!((join.member_id.as_str(), join.reason.as_deref()), ("", Some("the application works again")));
    desk.joined(7);
    desk.take_sync();
    desk.synced(&partitions("orders", &[1]));
    assert!(desk.news().contains(&Assign { partitions: partitions("orders", &[1]) }));
    assert_eq!(desk.member.state(), State::Stable);
}

#[test]
fn who_works_again_before_all_is_given_up_joins_as_soon_as_it_has_left() {
    let mut desk = withdrawn(Desk::config());
    desk.member.come_back();
    assert!(matches!(desk.news()[..], [Leave { .. }]));
    desk.left(ErrorCode::NONE);
    assert_eq!(desk.take_join().member_id, "");
}

#[test]
fn a_static_member_says_nothing_and_comes_back_under_its_name() {
    let mut desk = withdrawn(MemberConfig { instance_id: Some("i".into()), ..Desk::config() });
    assert!(matches!(desk.news()[..], [Lost { .. }]), "nobody is told");
    assert_eq!((desk.member.state(), desk.deadline()), (State::Away, None), "no heartbeat any more");
    desk.member.come_back();
    let join = desk.take_join();
    assert_eq!((join.member_id.as_str(), join.group_instance_id.as_deref()), ("", Some("i")));
}

#[test]
fn what_is_not_given_up_in_time_is_lost_and_a_dead_coordinator_holds_nobody_up() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.member.withdraw(desk.at().now);
    desk.news();
    desk.pass(s(45));
    assert!(matches!(desk.news()[..], [Lost { .. }, Leave { .. }]));
    desk.pass(s(15));
    assert!(matches!(desk.news()[..], [Lost { .. }]));
    assert_eq!(desk.member.state(), State::Away);
}

#[test]
fn a_member_that_is_closed_meanwhile_does_not_come_back() {
    for away in [false, true] {
        let mut desk = withdrawn(Desk::config());
        if away {
            desk.news();
            desk.left(ErrorCode::NONE);
        }
        desk.leave_within(s(30));
        desk.member.come_back();
        desk.news();
        desk.left(ErrorCode::NONE);
        desk.news();
        assert_eq!(desk.member.state(), State::Left);
    }
}

#[test]
fn a_session_that_ends_meanwhile_ends_nothing_else() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.member.withdraw(desk.at().now);
    desk.news();
    desk.beat(ErrorCode::UNKNOWN_MEMBER_ID);
    assert!(matches!(desk.news()[..], [Lost { .. }]), "there is nothing to leave");
    assert_eq!(desk.member.state(), State::Away);
}
