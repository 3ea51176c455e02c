mod lease;
mod leaving;
mod withdrawing;

use ottla_protocol::{
    ErrorCode,
    messages::{JoinGroupResponse, SyncGroupResponse},
};

use super::{
    super::{
        Assignor,
        subscription::{decode_assignment, decode_subscription},
    },
    Action, Call, CallError, Failure, LossCause, MemberConfig, State, TopicCount,
    test_desk::{Desk, GROUP, ms, partitions, s},
};

use Action::{Abandon, Assign, Failed, ForgetCoordinator, Join, Leave, Lost, Revoke};

#[test]
fn a_new_member_joins_under_the_name_that_it_is_given_and_beats_at_once_when_it_has_its_assignment() {
    let mut desk = Desk::new(Desk::config());
    assert_eq!(desk.actions(), [], "nothing is subscribed to");
    desk.member.subscribe(["orders".into()].into());
    let first = desk.take_join();
    assert_eq!((first.group_id.as_str(), first.member_id.as_str()), (GROUP, ""));
    assert_eq!((first.session_timeout_ms, first.rebalance_timeout_ms), (45_000, 60_000));
    assert_eq!(first.reason.as_deref(), Some("the consumer subscribed"));

    let error_code = ErrorCode::MEMBER_ID_REQUIRED;
    let named = JoinGroupResponse { error_code, member_id: "me".into(), ..JoinGroupResponse::default() };
    desk.member.on_join(desk.at(), Ok(named));
    assert_eq!(desk.take_join().member_id, "me");
    desk.joined(5);
    let sync = desk.take_sync();
    assert_eq!((sync.generation_id, sync.member_id.as_str()), (5, "me"));
    assert!(sync.assignments.is_empty(), "another member leads");
    assert_eq!(desk.member.membership(), None);
    desk.synced(&partitions("orders", &[0, 1]));

    let actions = desk.actions();
    assert!(matches!(&actions[0], Action::Joined(joined) if joined.membership.generation_id == 5));
    assert_eq!(actions[1], Assign { partitions: partitions("orders", &[0, 1]) });
    assert!(matches!(&actions[2], Action::Heartbeat { request, .. } if request.generation_id == 5));
    assert_eq!(desk.member.membership().unwrap().generation_id, 5);
    assert_eq!(desk.member.state(), State::Stable);
}

#[test]
fn a_subscription_names_topics_owned_partitions_and_generation_for_each_assignor() {
    let both = vec![Assignor::CooperativeSticky, Assignor::Range];
    let mut desk = Desk::new(MemberConfig { assignors: both, rack: Some("r1".into()), ..Desk::config() });
    desk.member.subscribe(["orders".into(), "refunds".into()].into());
    let names: Vec<_> = desk.take_join().protocols.iter().map(|protocol| protocol.name.clone()).collect();
    assert_eq!(names, ["cooperative-sticky", "range"]);

    let mut desk = Desk::settled(Desk::config(), &[3, 4]);
    desk.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    let request = desk.take_join();
    let subscription = decode_subscription(request.protocols[0].metadata.clone());
    assert_eq!(subscription.topics, ["orders"]);
    assert_eq!(subscription.owned, [("orders".into(), vec![3, 4])]);
    assert_eq!(subscription.generation, 1);
}

#[test]
fn the_leader_assigns_the_topics_of_all_members_as_soon_as_it_knows_them() {
    let mut desk = Desk::new(Desk::config());
    desk.member.subscribe(["orders".into()].into());
    desk.take_join();
    desk.counts(&[("orders", TopicCount::Partitions(2))]);
    desk.joined_as_leader(1, &[("me", &["orders"]), ("you", &["orders", "refunds"])]);
    let watched = ["orders".into(), "refunds".into()].into();
    assert_eq!(desk.actions(), [Action::Watch(watched)], "it does not know the other's topic yet");
    assert_eq!(desk.deadline(), Some(s(1)));
    desk.counts(&[("orders", TopicCount::Partitions(2)), ("refunds", TopicCount::Partitions(1))]);
    let sync = desk.take_sync();
    let assigned: Vec<_> = sync
        .assignments
        .iter()
        .map(|to| (to.member_id.as_str(), decode_assignment(to.assignment.clone()).unwrap()))
        .collect();
    let yours = [partitions("orders", &[1]), partitions("refunds", &[0])].concat_sets();
    assert_eq!(assigned, [("me", partitions("orders", &[0])), ("you", yours)]);
}

/// Sets put together.
trait ConcatSets<T> {
    fn concat_sets(self) -> std::collections::BTreeSet<T>;
}

impl<T: Ord, const N: usize> ConcatSets<T> for [std::collections::BTreeSet<T>; N] {
    fn concat_sets(self) -> std::collections::BTreeSet<T> {
        self.into_iter().flatten().collect()
    }
}

#[test]
fn a_topic_that_stays_unknown_is_left_out_and_assigned_when_it_appears() {
    let mut desk = Desk::new(Desk::config());
    desk.member.subscribe(["later".into(), "orders".into()].into());
    desk.take_join();
    desk.counts(&[("orders", TopicCount::Partitions(1))]);
    desk.joined_as_leader(1, &[("me", &["orders", "later"])]);
    assert_eq!(desk.actions(), []);
    desk.pass(s(1));
    let sync = desk.take_sync();
    assert_eq!(decode_assignment(sync.assignments[0].assignment.clone()), Ok(partitions("orders", &[0])));
    desk.synced(&partitions("orders", &[0]));
    desk.actions();
    desk.counts(&[("orders", TopicCount::Partitions(1)), ("later", TopicCount::Missing)]);
    assert_eq!(desk.news(), [], "a topic that does not exist is none, as before");
    desk.counts(&[("orders", TopicCount::Partitions(1)), ("later", TopicCount::Partitions(3))]);
    assert_eq!(desk.take_join().reason.as_deref(), Some("the topics of the group changed"));
}

#[test]
fn only_the_leader_rejoins_when_partitions_are_added() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.counts(&[("orders", TopicCount::Partitions(1))]);
    desk.counts(&[("orders", TopicCount::Partitions(9))]);
    assert_eq!(desk.news(), []);
}

#[test]
fn a_leader_that_came_back_under_its_old_name_changes_nothing() {
    let mut desk = Desk::new(MemberConfig { instance_id: Some("i".into()), ..Desk::config() });
    desk.member.subscribe(["orders".into()].into());
    assert_eq!(desk.take_join().group_instance_id.as_deref(), Some("i"));
    desk.counts(&[("orders", TopicCount::Partitions(2))]);
    let members = desk.join_answer(3, "me", Vec::new());
    desk.member.on_join(desk.at(), Ok(JoinGroupResponse { skip_assignment: true, ..members }));
    assert!(desk.take_sync().assignments.is_empty());
}

#[test]
fn a_lost_answer_is_asked_for_again_under_the_same_name() {
    let mut desk = Desk::new(Desk::config());
    desk.member.subscribe(["orders".into()].into());
    desk.take_join();
    let error_code = ErrorCode::MEMBER_ID_REQUIRED;
    let named = JoinGroupResponse { error_code, member_id: "me".into(), ..JoinGroupResponse::default() };
    desk.member.on_join(desk.at(), Ok(named));
    let joins = desk.take_join();
    desk.member.on_join(desk.at(), Err(CallError::Lost));
    assert_eq!(desk.actions(), [ForgetCoordinator(Call::Join)]);
    assert_eq!(desk.deadline(), Some(ms(80)));
    desk.pass(ms(80));
    assert_eq!(desk.take_join().member_id, joins.member_id);
    desk.joined(1);
    let sync = desk.take_sync();
    desk.member.on_sync(desk.at(), Err(CallError::Lost));
    assert_eq!(desk.news(), [ForgetCoordinator(Call::Sync)]);
    desk.pass(ms(160));
    assert_eq!(desk.take_sync(), sync);
}

#[test]
fn a_coordinator_that_moves_costs_no_membership() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    for code in [ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_NOT_AVAILABLE] {
        desk.beat(code);
        assert_eq!(desk.actions(), [ForgetCoordinator(Call::Heartbeat)]);
    }
    desk.beat(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    assert_eq!(desk.actions(), [], "it is the right one");
    desk.pass(s(3));
    desk.take_heartbeat();
    desk.heartbeat_lost();
    assert_eq!(desk.actions(), [ForgetCoordinator(Call::Heartbeat)]);
    assert_eq!(desk.member.membership().unwrap().generation_id, 1);
    assert_eq!(desk.member.owned(), &partitions("orders", &[0]));
}

#[test]
fn an_eager_member_gives_up_everything_before_it_joins_again() {
    let mut desk = Desk::settled(Desk::eager(), &[0, 1]);
    desk.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    let actions = desk.news();
    let [Revoke { partitions: revoked, .. }] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(revoked, &partitions("orders", &[0, 1]));
    desk.member.on_revoked(&partitions("orders", &[0]));
    assert_eq!(desk.news(), [], "one is not given up yet");
    desk.member.on_revoked(&partitions("orders", &[1]));
    let request = desk.take_join();
    assert_eq!(request.member_id, "me");
    assert_eq!(decode_subscription(request.protocols[0].metadata.clone()).owned, []);
    desk.joined(2);
    desk.take_sync();
    desk.synced(&partitions("orders", &[1]));
    assert_eq!(desk.news()[1], Assign { partitions: partitions("orders", &[1]) });
}

#[test]
fn one_eager_assignor_makes_the_member_eager() {
    let both = vec![Assignor::CooperativeSticky, Assignor::Range];
    let mut desk = Desk::settled(MemberConfig { assignors: both, ..Desk::config() }, &[0]);
    desk.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    assert!(matches!(desk.news().as_slice(), [Revoke { .. }]));
}

#[test]
fn a_cooperative_member_gives_up_only_what_it_may_not_keep_and_then_joins_again() {
    let mut desk = Desk::settled(Desk::config(), &[0, 1, 2]);
    desk.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    desk.take_join();
    assert_eq!(desk.member.owned(), &partitions("orders", &[0, 1, 2]));
    desk.joined(2);
    desk.take_sync();
    desk.synced(&partitions("orders", &[0, 5]));
    let actions = desk.news();
    let [Action::Joined(_), Revoke { partitions: taken, .. }, Assign { partitions: added }] =
        actions.as_slice()
    else {
        panic!("{actions:?}")
    };
    assert_eq!((taken, added), (&partitions("orders", &[1, 2]), &partitions("orders", &[5])));
    desk.member.on_revoked(&partitions("orders", &[1, 2]));
    let request = desk.take_join();
    let subscription = decode_subscription(request.protocols[0].metadata.clone());
    assert_eq!((subscription.owned, subscription.generation), (vec![("orders".into(), vec![0, 5])], 2));
}

#[test]
fn a_rebalance_that_begins_while_the_last_one_ends_keeps_what_is_owned() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    desk.take_join();
    desk.joined(2);
    desk.take_sync();
    desk.sync_refused(ErrorCode::REBALANCE_IN_PROGRESS);
    let subscription = decode_subscription(desk.take_join().protocols[0].metadata.clone());
    assert_eq!((subscription.owned, subscription.generation), (vec![("orders".into(), vec![0])], 1));
}

#[test]
fn topics_that_are_not_subscribed_to_any_more_are_given_up_before_joining_again() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.member.subscribe(["refunds".into()].into());
    assert!(matches!(desk.news().as_slice(), [Revoke { .. }]));
    desk.member.on_revoked(&partitions("orders", &[0]));
    assert_eq!(desk.take_join().reason.as_deref(), Some("the subscription changed"));
    desk.joined(2);
    desk.take_sync();
    desk.synced(&partitions("orders", &[7]));
    assert!(matches!(desk.news().as_slice(), [Action::Joined(_)]), "nobody wants that one any more");
}

#[test]
fn a_member_that_is_unknown_loses_everything_and_joins_under_a_new_name() {
    let mut desk = Desk::settled(Desk::config(), &[0, 1]);
    desk.beat(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(desk.lease(), None);
    assert_eq!(desk.member.membership(), None);
    let actions = desk.actions();
    let lost = Lost { partitions: partitions("orders", &[0, 1]), cause: LossCause::UnknownMember };
    assert_eq!(actions[0], lost);
    assert!(matches!(&actions[1], Join { request, .. } if request.member_id.is_empty()));
}

#[test]
fn a_group_that_went_on_without_the_member_leaves_it_nothing_but_its_name() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.beat(ErrorCode::ILLEGAL_GENERATION);
    let actions = desk.actions();
    assert_eq!(
        actions[0],
        Lost { partitions: partitions("orders", &[0]), cause: LossCause::IllegalGeneration }
    );
    let Join { request, .. } = &actions[1] else { panic!("{actions:?}") };
    assert_eq!(request.member_id, "me");
    assert_eq!(decode_subscription(request.protocols[0].metadata.clone()).generation, -1);
}

#[test]
fn heartbeats_go_on_during_a_rebalance_and_what_they_say_about_the_generation_is_no_loss() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    desk.take_join();
    for code in [ErrorCode::REBALANCE_IN_PROGRESS, ErrorCode::ILLEGAL_GENERATION] {
        desk.pass(s(3));
        assert_eq!(desk.take_heartbeat().generation_id, 1);
        desk.heartbeat_answered(code);
        assert_eq!(desk.actions(), []);
    }
    desk.joined(2);
    desk.take_sync();
    desk.beat(ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(desk.actions(), []);
    desk.synced(&partitions("orders", &[0]));
    assert!(matches!(desk.news().as_slice(), [Action::Joined(_)]), "it owns what it owned");
}

#[test]
fn a_heartbeat_that_was_overtaken_by_the_rebalance_changes_nothing() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    desk.take_join();
    desk.pass(s(3));
    desk.take_heartbeat();
    desk.joined(2);
    desk.take_sync();
    desk.synced(&partitions("orders", &[0]));
    desk.heartbeat_answered(ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(desk.member.state(), State::Stable);
    assert_eq!(desk.take_heartbeat().generation_id, 2, "the first one of the new generation");
}

#[test]
fn a_fenced_instance_ends() {
    let mut desk = Desk::settled(MemberConfig { instance_id: Some("i".into()), ..Desk::config() }, &[0]);
    desk.beat(ErrorCode::FENCED_INSTANCE_ID);
    let failure = Failure::Refused(Call::Heartbeat, ErrorCode::FENCED_INSTANCE_ID);
    let lost = Lost { partitions: partitions("orders", &[0]), cause: LossCause::FencedInstance };
    assert_eq!(desk.actions(), [lost, Failed(failure)]);
    assert_eq!((desk.member.state(), desk.lease(), desk.deadline()), (State::Failed, None, None));
}

/// A coordinator that was deposed before it could write the group down gave the id; its successor has never heard of it.
#[test]
fn a_static_member_whose_id_was_forgotten_joins_anew_and_one_that_is_replaced_ends() {
    let named = || Desk::new(MemberConfig { instance_id: Some("i".into()), ..Desk::config() });
    let fenced = ErrorCode::FENCED_INSTANCE_ID;
    for by_heartbeat in [false, true] {
        let mut desk = named();
        desk.member.subscribe(["orders".into()].into());
        desk.take_join();
        desk.joined(1);
        desk.take_sync();
        if by_heartbeat {
            desk.pass(s(3));
            desk.take_heartbeat();
            desk.heartbeat_answered(fenced);
        }
        desk.sync_refused(fenced);
        desk.pass(s(1));
        assert_eq!(desk.take_join().member_id, "", "heartbeat: {by_heartbeat}");
        // Whoever has no id and is fenced was replaced while it waited.
        desk.join_refused(fenced);
        assert!(matches!(desk.news()[..], [Failed(Failure::Refused(Call::Join, _))]));
    }
    // Once the group is written, the id is known for good, also to who has lost the generation.
    let mut desk = Desk::settled(MemberConfig { instance_id: Some("i".into()), ..Desk::config() }, &[]);
    desk.beat(ErrorCode::ILLEGAL_GENERATION);
    desk.pass(s(1));
    assert_eq!(desk.take_join().member_id, "me");
    desk.join_refused(fenced);
    assert!(matches!(desk.news()[..], [Failed(Failure::Refused(Call::Join, _))]));
}

/// A JoinGroup without an id that got lost is carried out late, out of a socket's buffer: the member is fenced by itself.
#[test]
fn a_static_member_whose_place_was_taken_by_its_own_late_request_takes_it_back_once() {
    let fenced = ErrorCode::FENCED_INSTANCE_ID;
    let mut desk = Desk::new(MemberConfig { instance_id: Some("i".into()), ..Desk::config() });
    desk.member.subscribe(["orders".into()].into());
    let in_the_group = |desk: &mut Desk| {
        assert_eq!(desk.take_join().member_id, "");
        desk.joined(1);
        desk.take_sync();
        desk.synced(&partitions("orders", &[0]));
        desk.actions();
    };
    desk.take_join();
    desk.member.on_join(desk.at(), Err(CallError::Lost));
    desk.pass(s(1));
    in_the_group(&mut desk);
    desk.heartbeat_answered(fenced);
    let lost = Lost { partitions: partitions("orders", &[0]), cause: LossCause::UnknownMember };
    desk.pass(s(1));
    assert_eq!(desk.member.next(desk.at()), Some(lost), "it may not own anything meanwhile");
    in_the_group(&mut desk);
    desk.heartbeat_answered(fenced);
    assert!(matches!(desk.news()[..], [Lost { .. }, Failed(_)]), "that is another process");
}

#[test]
fn what_cannot_be_cured_ends_the_member() {
    for code in [
        ErrorCode::GROUP_AUTHORIZATION_FAILED,
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        ErrorCode::INVALID_SESSION_TIMEOUT,
        ErrorCode::GROUP_MAX_SIZE_REACHED,
    ] {
        let mut desk = Desk::new(Desk::config());
        desk.member.subscribe(["orders".into()].into());
        desk.take_join();
        desk.join_refused(code);
        assert_eq!(desk.actions(), [Failed(Failure::Refused(Call::Join, code))]);
    }
    let mut desk = Desk::settled(Desk::config(), &[]);
    desk.pass(s(3));
    desk.take_heartbeat();
    desk.member.on_heartbeat(desk.at(), Err(CallError::Fatal));
    assert_eq!(desk.actions(), [Failed(Failure::Call(Call::Heartbeat))]);
}

#[test]
fn an_assignor_that_the_member_does_not_have_ends_it() {
    let mut desk = Desk::new(Desk::config());
    desk.member.subscribe(["orders".into()].into());
    desk.take_join();
    let answer = desk.join_answer(1, "leader", Vec::new());
    desk.member.on_join(desk.at(), Ok(JoinGroupResponse { protocol_name: Some("sticky".into()), ..answer }));
    let inconsistent = ErrorCode::INCONSISTENT_GROUP_PROTOCOL;
    assert_eq!(desk.actions(), [Failed(Failure::Refused(Call::Join, inconsistent))]);

    let mut desk = Desk::new(Desk::config());
    desk.member.subscribe(["orders".into()].into());
    desk.take_join();
    desk.joined(1);
    desk.take_sync();
    let answer = SyncGroupResponse { protocol_name: Some("range".into()), ..SyncGroupResponse::default() };
    desk.member.on_sync(desk.at(), Ok(answer));
    assert_eq!(desk.actions(), [Failed(Failure::Refused(Call::Sync, inconsistent))]);
}

#[test]
fn an_assignment_that_cannot_be_read_is_none() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    desk.take_join();
    desk.joined(2);
    desk.take_sync();
    let answer = SyncGroupResponse { assignment: b"nonsense".as_slice().into(), ..Default::default() };
    desk.member.on_sync(desk.at(), Ok(answer));
    let lost = Lost { partitions: partitions("orders", &[0]), cause: LossCause::UnreadableAssignment };
    assert_eq!(desk.actions(), [lost]);
    assert_eq!(desk.deadline(), Some(ms(80)), "not at once: it would be the same again");
}

#[test]
fn a_group_that_does_not_come_to_rest_is_joined_slower_and_slower() {
    let mut desk = Desk::settled(Desk::config(), &[]);
    let mut waits = Vec::new();
    for generation in 2..10 {
        desk.commit_refused(generation - 1, ErrorCode::REBALANCE_IN_PROGRESS);
        if desk.news().is_empty() {
            let wait = desk.deadline().unwrap();
            waits.push(wait.as_millis());
            desk.pass(wait);
            desk.take_join();
        }
        desk.joined(generation);
        desk.take_sync();
        desk.synced(&partitions("orders", &[]));
        desk.news();
    }
    assert_eq!(waits, [80, 160, 320]);
}

#[test]
fn a_refused_commit_is_as_good_as_a_refused_heartbeat() {
    let mut desk = Desk::settled(Desk::config(), &[0]);
    desk.commit_refused(0, ErrorCode::ILLEGAL_GENERATION);
    desk.commit_refused(1, ErrorCode::OFFSET_METADATA_TOO_LARGE);
    assert_eq!(desk.news(), [], "another generation, another matter");
    desk.commit_refused(1, ErrorCode::UNKNOWN_MEMBER_ID);
    assert!(matches!(desk.news().as_slice(), [Lost { .. }, Join { .. }]));
}

#[test]
fn g05_what_is_not_given_up_in_time_is_lost_and_the_member_joins_without_it() {
    let mut desk = Desk::settled(Desk::eager(), &[0]);
    desk.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    let [Revoke { until, .. }] = desk.news()[..] else { panic!("no revocation") };
    // The group was at rest 3 s ago; the coordinator's timer cannot have started before.
    assert_eq!(until - desk.at().now, s(54 - 3));
    desk.pass(s(51));
    let actions = desk.news();
    let lost = Lost { partitions: partitions("orders", &[0]), cause: LossCause::RevocationTimedOut };
    assert_eq!(actions[0], lost);
    assert!(matches!(actions[1], Join { .. }));
    desk.member.on_revoked(&partitions("orders", &[0]));
    assert_eq!(desk.news(), [], "too late");
}

#[test]
fn a_rebalance_shortens_the_time_for_giving_up() {
    let mut desk = Desk::settled(Desk::config(), &[0, 1]);
    desk.beat(ErrorCode::REBALANCE_IN_PROGRESS);
    desk.take_join();
    desk.joined(2);
    desk.take_sync();
    desk.synced(&partitions("orders", &[0]));
    let [_, Revoke { until, .. }] = desk.news()[..] else { panic!("no revocation") };
    assert_eq!(until - desk.at().now, s(54), "nobody but other members waits for it");
    desk.heartbeat_answered(ErrorCode::NONE);
    desk.pass(s(20));
    desk.take_heartbeat();
    desk.heartbeat_answered(ErrorCode::REBALANCE_IN_PROGRESS);
    desk.pass(s(33));
    assert_eq!(desk.news(), []);
    desk.pass(s(1));
    assert!(matches!(desk.news()[0], Lost { .. }), "54 s after the group was last at rest");
}

#[test]
fn says_where_it_stands_in_one_line() {
    let mut desk = Desk::settled(Desk::config(), &[0, 1]);
    let line = |desk: &Desk| desk.member.describe(desk.at());
    let member = "member me of generation 1 (cooperative-sticky)";
    assert_eq!(line(&desk), format!("stable: owns 2; {member}; lease for another 40.5 s"));
    desk.pass(s(3));
    desk.take_heartbeat();
    desk.heartbeat_lost();
    desk.pass(s(40));
    let records = "lease over for 2.5 s: records wait for a heartbeat and a commit";
    let trouble = "last trouble: Heartbeat was not answered";
    assert_eq!(line(&desk), format!("stable: owns 2; {member}; {records}; {trouble}"));
    desk.actions();
    desk.heartbeat_answered(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(
        line(&desk),
        "about to join: the coordinator does not know the member any more (UNKNOWN_MEMBER_ID); owns 0; \
         last trouble: Heartbeat was answered UNKNOWN_MEMBER_ID (25)"
    );
}
