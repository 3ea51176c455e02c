//! An application stops working while its member lives: others go on in its place, and it comes back when it works again.

use std::{error::Error as _, time::Duration};

use ottla::{ErrorKind, Stall};
use ottla_protocol::messages::LeaveGroupRequest;
use ottla_sim::{
    Interference, Sim,
    group::{Group, Hang, Member, Settings},
};

use crate::{SECOND, busy};

/// How long a program may be stuck here.
const LIMIT: Duration = Duration::from_secs(60);

fn impatient() -> Settings {
    Settings { processing_timeout: LIMIT, ..busy() }
}

/// Two members at work, of which the first hangs for so long.
async fn hang_one_of_two(group: &Group, settings: [&Settings; 2], at: Hang, lasts: Duration) -> [Member; 2] {
    let members = [group.start_with("billing-1", settings[0]), group.start_with("billing-2", settings[1])];
    for member in &members {
        member.owns(group, 2).await;
    }
    members[0].hang(at, lasts);
    group.produce(2_000).await;
    group.world.until("it hangs", || members[0].has_hung()).await;
    members
}

/// Why the application was told that it is out.
fn stall(error: &ottla::Error) -> Stall {
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:#}");
    assert!(error.is_retriable(), "{error:#}");
    *error.source().and_then(|source| source.downcast_ref()).expect("it says what it did not get on with")
}

#[test]
fn g05_others_go_on_for_who_is_stuck_with_a_record_and_it_comes_back_when_it_asks_for_more() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 3, 4).await;
        let settings = impatient();
        let [stuck, other] = hang_one_of_two(&group, [&settings; 2], Hang::InHand, 4 * LIMIT).await;
        let hung = group.history.now();
        other.owns(&group, 4).await;
        let took = group.history.now() - hung;
        assert!(took > LIMIT && took < LIMIT + 20 * SECOND, "others went on after {took:?}");
        group.all_committed().await;
        assert_eq!(stuck.history.owned().len(), 0, "the listener was told");
        stuck.owns(&group, 2).await;
        assert!(group.history.now() - hung > 4 * LIMIT, "it came back without being asked");

        let verdict = group.check().await;
        let [twice] = verdict.twice.as_slice() else { panic!("{:?}", verdict.twice) };
        // The late commit says why it is none, and so does the next `recv`.
        let errors = stuck.errors();
        let [commit, recv] = errors.as_slice() else { panic!("{errors:?}") };
        for error in [commit, recv] {
            let Stall { offset, lasted, in_hand, .. } = stall(error);
            let named = error.topic_partition().expect("it names the partition");
            assert_eq!(named, &twice.partition);
            assert_eq!((offset, in_hand), (twice.offset, true));
            assert!(lasted >= LIMIT && lasted < LIMIT + 5 * SECOND, "{lasted:?}");
        }
        let happened = |name| stuck.events(name).len();
        assert_eq!((happened("group.processing_stalled"), happened("group.left")), (1, 1));
        assert_eq!((happened("group.partitions_lost"), happened("group.session_lost")), (1, 0));
        assert!(other.errors().is_empty());
        stuck.stop().await?;
        other.stop().await
    });
}

#[test]
fn g05_what_nobody_can_commit_any_more_is_an_error_also_before_the_coordinator_has_answered() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 3, 4).await;
        group
            .cluster
            .brokers()
            .for_each(|broker| broker.interfere::<LeaveGroupRequest>(Interference::Silence, 2));
        // It works again when others have its partitions, and it has said that it goes, and was not heard.
        let lasts = LIMIT + 15 * SECOND;
        let [stuck, other] = hang_one_of_two(&group, [&impatient(); 2], Hang::InHand, lasts).await;
        other.owns(&group, 4).await;
        assert!(stuck.errors().is_empty(), "it still hangs");
        world.until("it is told", || stuck.errors().len() == 2).await;
        stuck.errors().iter().for_each(|error| assert!(stall(error).in_hand));
        stuck.owns(&group, 2).await;
        assert_eq!(group.check().await.twice.len(), 1);
        stuck.stop().await?;
        other.stop().await
    });
}

#[test]
fn g05_who_does_not_ask_for_what_is_there_is_out_as_well() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 3, 4).await;
        let settings = impatient();
        let [stuck, other] = hang_one_of_two(&group, [&settings; 2], Hang::Asking, 4 * LIMIT).await;
        other.owns(&group, 4).await;
        stuck.owns(&group, 2).await;
        let errors = stuck.errors();
        let [recv] = errors.as_slice() else { panic!("{errors:?}") };
        assert!(!stall(recv).in_hand);
        group.check_once().await;
        stuck.stop().await?;
        other.stop().await
    });
}

#[test]
fn g05_a_static_member_that_is_stuck_does_not_say_that_it_goes_and_its_session_ends() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 3, 4).await;
        let [one, two] = ["one", "two"].map(|name| Settings { instance: Some(name), ..impatient() });
        let [stuck, other] = hang_one_of_two(&group, [&one, &two], Hang::InHand, 5 * LIMIT).await;
        let hung = group.history.now();
        other.owns(&group, 4).await;
        let took = group.history.now() - hung;
        assert!(took > LIMIT + one.session && took < LIMIT + one.session + 20 * SECOND, "{took:?}");
        assert_eq!(stuck.events("group.left").len(), 0);
        stuck.owns(&group, 2).await;
        let verdict = group.check().await;
        assert_eq!(verdict.twice.len(), 1, "{:?}", verdict.twice);
        stuck.stop().await?;
        other.stop().await
    });
}

#[test]
fn g05_a_static_member_that_works_again_within_its_session_goes_on_and_nobody_notices() {
    Sim::seeds(0..6).run(async |world| {
        let group = Group::new(world, 3, 4).await;
        let [one, two] = ["one", "two"].map(|name| Settings { instance: Some(name), ..impatient() });
        let [stuck, other] = hang_one_of_two(&group, [&one, &two], Hang::InHand, LIMIT + 30 * SECOND).await;
        let (had, joined) = (stuck.history.owned(), other.events("group.joined").len());
        group.world.until("it has gone", || stuck.history.owned().is_empty()).await;
        stuck.owns(&group, 2).await;
        assert_eq!(stuck.history.owned(), had);
        group.check().await;
        assert_eq!(other.events("group.joined").len(), joined, "the other member notices nothing");
        stuck.stop().await?;
        other.stop().await
    });
}

#[test]
fn g05_who_gets_on_or_has_nothing_to_do_is_not_stuck_however_long_it_takes() {
    Sim::seeds(0..3).run(async |world| {
        let group = Group::new(world, 3, 4).await;
        let slow = Settings { handling: LIMIT - 5 * SECOND, ..impatient() };
        let [first, second] = ["billing-1", "billing-2"].map(|host| group.start_with(host, &slow));
        group.produce(20).await;
        group.all_committed().await;
        tokio::time::sleep(4 * LIMIT).await;
        group.check_once().await;
        for member in [first, second] {
            assert_eq!(member.events("group.processing_stalled"), []);
            member.stop().await?;
        }
        Ok::<_, ottla::Error>(())
    });
}

#[test]
fn without_a_limit_who_is_stuck_keeps_its_partitions() {
    Sim::seeds(0..3).run(async |world| {
        let group = Group::new(world, 3, 4).await;
        let patient = Settings { processing_timeout: Duration::ZERO, ..busy() };
        let [stuck, other] = hang_one_of_two(&group, [&patient; 2], Hang::InHand, 20 * LIMIT).await;
        tokio::time::sleep(19 * LIMIT).await;
        assert_eq!((stuck.history.owned().len(), other.history.owned().len()), (2, 2));
        group.check_once().await;
        stuck.stop().await?;
        other.stop().await
    });
}
