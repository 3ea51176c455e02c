//! Groups while nothing fails.

use std::time::Duration;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::{JoinGroupRequest, MetadataRequest, SyncGroupRequest};

use super::group_requests::{SYNC, sync_request};
use super::harness::Cluster;

fn cluster(nodes: usize) -> Cluster {
    let mut cluster = Cluster::new(nodes);
    cluster.create("t", &[&[1]], &[]);
    cluster
}

#[test]
fn a_member_joins_syncs_commits_and_leaves() {
    let mut cluster = cluster(3);
    let member = cluster.only_member();
    assert_eq!(member.generation, 1);
    assert_eq!(cluster.heartbeat(&member), ErrorCode::NONE);
    assert_eq!(cluster.committed(), Ok(-1));
    assert_eq!(cluster.commit(&member, 42), ErrorCode::NONE);
    assert_eq!(cluster.committed(), Ok(42));
    assert_eq!(cluster.leave(&member), ErrorCode::NONE);
    assert_eq!(cluster.heartbeat(&member), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(cluster.committed(), Ok(42));
    cluster.assert_at_rest();
}

#[test]
fn a_second_member_makes_the_first_one_join_again() {
    let mut cluster = cluster(1);
    let mut one = cluster.only_member();
    let mut two = cluster.member();
    cluster.send_join(&two);
    cluster.advance(Duration::from_secs(1));
    assert_eq!(cluster.heartbeat(&one), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(cluster.commit(&one, 1), ErrorCode::NONE, "while the rebalance is prepared");
    cluster.send_join(&one);
    let (first, second) = (cluster.joined(&mut one), cluster.joined(&mut two));
    assert_eq!((one.generation, two.generation), (2, 2));
    assert_eq!((&first.leader, &second.leader), (&one.id, &one.id));
    assert_eq!((first.members.len(), second.members.len()), (2, 0));
    assert_eq!(cluster.commit(&one, 2), ErrorCode::REBALANCE_IN_PROGRESS, "before the assignment");

    cluster.send(two.client, SYNC, &sync_request(&two, &[]));
    assert!(cluster.reply::<SyncGroupRequest>(two.client, SYNC).is_none(), "the leader has not assigned");
    let led = cluster.sync(&one, &[(&one.id, "1"), (&two.id, "2")]);
    let followed = cluster.reply::<SyncGroupRequest>(two.client, SYNC).unwrap();
    assert_eq!((&led.assignment[..], &followed.assignment[..]), (&b"1"[..], &b"2"[..]));
    assert_eq!(cluster.heartbeat(&two), ErrorCode::NONE);
}

#[test]
fn a_member_that_is_not_heard_of_is_out_and_the_others_rebalance() {
    let mut cluster = cluster(1);
    let mut one = cluster.only_member();
    let mut two = cluster.member();
    cluster.send_join(&two);
    cluster.join(&mut one);
    cluster.joined(&mut two);
    cluster.sync(&one, &[]);
    for _ in 0..4 {
        cluster.advance(Duration::from_secs(2));
        assert_eq!(cluster.heartbeat(&one), ErrorCode::NONE);
    }
    cluster.advance(Duration::from_secs(3));
    assert_eq!(cluster.heartbeat(&one), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(cluster.heartbeat(&two), ErrorCode::UNKNOWN_MEMBER_ID);
    let response = cluster.join(&mut one);
    assert_eq!((response.members.len(), one.generation), (1, 3));
}

#[test]
fn a_member_that_does_not_join_again_in_time_is_out() {
    let mut cluster = cluster(1);
    let one = cluster.only_member();
    let mut two = cluster.member();
    cluster.send_join(&two);
    for _ in 0..9 {
        cluster.advance(Duration::from_secs(2));
        assert_eq!(cluster.heartbeat(&one), ErrorCode::REBALANCE_IN_PROGRESS);
        assert!(cluster.reply::<JoinGroupRequest>(two.client, 9).is_none());
    }
    cluster.advance(Duration::from_secs(3));
    let response = cluster.joined(&mut two);
    assert_eq!((&response.leader, response.members.len()), (&two.id, 1));
    assert_eq!(cluster.heartbeat(&one), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn the_topic_of_the_coordinator_is_internal() {
    let mut cluster = cluster(3);
    cluster.coordinator();
    let client = cluster.any_client();
    let response = cluster.metadata(client, &MetadataRequest { topics: None, ..Default::default() });
    let topic =
        response.topics.iter().find(|topic| topic.name.as_deref() == Some("__consumer_offsets")).unwrap();
    assert!(topic.is_internal);
    assert_eq!((topic.partitions.len(), topic.partitions[0].replica_nodes.len()), (5, 3));
}

#[test]
fn a_static_member_that_restarts_takes_its_place_and_its_former_self_is_fenced() {
    let mut cluster = cluster(1);
    let mut old = cluster.static_member("s");
    assert!(cluster.join(&mut old).error_code.is_ok());
    cluster.sync(&old, &[(&old.id.clone(), "all")]);

    let mut new = cluster.static_member("s");
    let response = cluster.join(&mut new);
    assert_eq!((response.error_code, new.generation), (ErrorCode::NONE, old.generation));
    assert!(response.skip_assignment, "it is the leader, and nothing has changed");
    assert_eq!(&cluster.sync(&new, &[]).assignment[..], b"all");
    assert_eq!(cluster.heartbeat(&old), ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(cluster.commit(&old, 1), ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(cluster.commit(&new, 1), ErrorCode::NONE);
}
