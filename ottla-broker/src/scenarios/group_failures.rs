//! Groups while nodes fail.

use std::time::Duration;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::{HeartbeatRequest, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest};

use super::group_requests::{
    Member, SYNC, commit_request, fetch_request, fetched, heartbeat_request, sync_request,
};
use super::harness::Cluster;
use crate::disk::Tail;
use crate::io::NodeId;
use crate::{ClusterConfig, FlushPolicy};

fn cluster(nodes: usize) -> Cluster {
    with(ClusterConfig::with_nodes(nodes, "localhost", 1))
}

fn with(config: ClusterConfig) -> Cluster {
    let mut cluster = Cluster::with(config);
    cluster.create("t", &[&[1]], &[]);
    cluster
}

/// The member finds its coordinator, which may be another one, and connects to it.
fn reconnect(cluster: &mut Cluster, member: &mut Member) {
    let coordinator = cluster.coordinator();
    member.client = cluster.connect(coordinator);
}

/// The node hears neither the controller nor the other nodes, and they do not hear it. Clients reach it.
fn isolate(cluster: &mut Cluster, node: NodeId) {
    for other in (0..=3).filter(|other| *other != node) {
        cluster.cut(node, other);
    }
}

#[test]
fn another_node_takes_over_with_members_and_offsets() {
    let mut cluster = cluster(3);
    let mut member = cluster.only_member();
    assert_eq!(cluster.commit(&member, 42), ErrorCode::NONE);
    let first = member.client.node;
    cluster.crash(first, Tail::Lost);
    cluster.advance(Duration::from_secs(12));
    reconnect(&mut cluster, &mut member);
    assert_ne!(first, member.client.node);
    assert_eq!(cluster.heartbeat(&member), ErrorCode::NONE);
    assert_eq!(cluster.committed(), Ok(42));
    assert_eq!(&cluster.sync(&member, &[]).assignment[..], b"all");
    assert_eq!(cluster.commit(&member, 43), ErrorCode::NONE);
    assert_eq!(cluster.committed(), Ok(43));
    // A session that the former coordinator began is one of the new one too.
    cluster.advance(Duration::from_secs(11));
    assert_eq!(cluster.heartbeat(&member), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_coordinator_that_lost_or_tore_its_log_gets_it_back_from_the_others() {
    for tail in [Tail::Lost, Tail::Torn(7), Tail::Torn(100), Tail::Kept] {
        let mut cluster = cluster(3);
        let mut member = cluster.only_member();
        let first = member.client.node;
        assert_eq!(cluster.commit(&member, 1), ErrorCode::NONE);
        cluster.crash(first, tail);
        cluster.start(first);
        cluster.advance(Duration::from_secs(5));
        reconnect(&mut cluster, &mut member);
        assert_eq!(cluster.commit(&member, 2), ErrorCode::NONE, "{tail:?}");
        assert_eq!(cluster.committed(), Ok(2), "{tail:?}");
        for node in 1..=3 {
            cluster.crash(node, Tail::Kept);
        }
        for node in 1..=3 {
            cluster.start(node);
        }
        cluster.advance(Duration::from_secs(5));
        reconnect(&mut cluster, &mut member);
        assert_eq!(cluster.heartbeat(&member), ErrorCode::NONE, "{tail:?}");
        assert_eq!(cluster.committed(), Ok(2), "{tail:?}");
    }
}

#[test]
fn with_flush_before_ack_a_lonely_coordinator_forgets_nothing_that_it_acknowledged() {
    let config =
        ClusterConfig { flush: FlushPolicy::BeforeAck, ..ClusterConfig::with_nodes(1, "localhost", 1) };
    let mut cluster = with(config);
    let mut member = cluster.only_member();
    assert_eq!(cluster.commit(&member, 42), ErrorCode::NONE);
    cluster.crash(1, Tail::Lost);
    cluster.start(1);
    cluster.advance(Duration::from_secs(3));
    reconnect(&mut cluster, &mut member);
    assert_eq!(cluster.committed(), Ok(42));
    assert_eq!(cluster.heartbeat(&member), ErrorCode::NONE);
}

#[test]
fn an_isolated_coordinator_answers_heartbeats_and_can_write_nothing() {
    let mut cluster = cluster(3);
    let mut member = cluster.only_member();
    assert_eq!(cluster.commit(&member, 1), ErrorCode::NONE);
    let old = member.clone();
    isolate(&mut cluster, old.client.node);
    cluster.send(old.client, 9, &commit_request(&old, 2));
    cluster.advance(Duration::from_millis(4_900));
    assert!(cluster.reply::<OffsetCommitRequest>(old.client, 9).is_none());
    cluster.advance(Duration::from_millis(200));
    let refused = cluster.reply::<OffsetCommitRequest>(old.client, 9).unwrap();
    assert_eq!(refused.topics[0].partitions[0].error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);

    // The others have agreed on another one, where the member may be out, while the old one says that it is in.
    cluster.advance(Duration::from_secs(4));
    assert_eq!(cluster.heartbeat(&old), ErrorCode::NONE);
    cluster.advance(Duration::from_secs(4));
    assert_eq!(cluster.heartbeat(&old), ErrorCode::NONE);
    let others = (1..=3).filter(|node| *node != old.client.node).collect::<Vec<_>>();
    let new = cluster.coordinator_known_to(others[0]);
    assert!(others.contains(&new));
    member.client = cluster.connect(new);
    assert_eq!(cluster.committed_at(new), Ok(1), "what was never acknowledged");
    assert_eq!(cluster.commit(&member, 3), ErrorCode::NONE);

    cluster.heal();
    cluster.advance(Duration::from_secs(5));
    assert_eq!(cluster.heartbeat(&old), ErrorCode::NOT_COORDINATOR);
    assert_eq!(cluster.committed_at(new), Ok(3));
}

#[test]
fn whoever_waits_for_a_coordinator_that_is_deposed_is_told() {
    let mut cluster = cluster(3);
    let mut one = cluster.only_member();
    let mut two = cluster.member();
    let joining = cluster.member();
    cluster.send_join(&two);
    cluster.send_join(&joining);
    cluster.join(&mut one);
    cluster.joined(&mut two);
    let mut three = joining;
    cluster.joined(&mut three);
    // One of them waits for the assignment, which cannot be written; another one for its commit.
    isolate(&mut cluster, one.client.node);
    cluster.send(two.client, SYNC, &sync_request(&two, &[]));
    cluster.send(three.client, SYNC, &sync_request(&three, &[]));
    cluster.advance(Duration::from_secs(7));
    cluster.send(one.client, SYNC, &sync_request(&one, &[]));
    cluster.advance(Duration::from_millis(2_500));
    cluster.heal();
    cluster.advance(Duration::from_millis(2_200));
    let told = |cluster: &mut Cluster, member: &Member| {
        cluster.reply::<SyncGroupRequest>(member.client, SYNC).map(|response| response.error_code)
    };
    assert_eq!(told(&mut cluster, &one), Some(ErrorCode::NOT_COORDINATOR));
    assert_eq!(told(&mut cluster, &two), Some(ErrorCode::NOT_COORDINATOR));
    assert_eq!(told(&mut cluster, &three), Some(ErrorCode::NOT_COORDINATOR));
    cluster.assert_at_rest();
}

#[test]
fn an_assignment_that_cannot_be_written_is_not_told() {
    let mut cluster = cluster(3);
    let mut member = cluster.member();
    assert!(cluster.join(&mut member).error_code.is_ok());
    isolate(&mut cluster, member.client.node);
    cluster.send(member.client, SYNC, &sync_request(&member, &[(&member.id, "all")]));
    cluster.advance(Duration::from_millis(4_900));
    assert!(cluster.reply::<SyncGroupRequest>(member.client, SYNC).is_none());
    cluster.advance(Duration::from_millis(200));
    let response = cluster.reply::<SyncGroupRequest>(member.client, SYNC).unwrap();
    assert_eq!(response.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(cluster.heartbeat(&member), ErrorCode::REBALANCE_IN_PROGRESS);
}

#[test]
fn too_few_in_sync_replicas_refuse_commits_and_serve_what_is_committed() {
    let mut cluster = cluster(3);
    let mut member = cluster.only_member();
    assert_eq!(cluster.commit(&member, 1), ErrorCode::NONE);
    for node in (1..=3).filter(|node| *node != member.client.node) {
        cluster.crash(node, Tail::Kept);
    }
    for _ in 0..4 {
        cluster.advance(Duration::from_secs(4));
        assert_eq!(cluster.heartbeat(&member), ErrorCode::NONE);
    }
    assert_eq!(cluster.commit(&member, 2), ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert_eq!(cluster.committed(), Ok(1));
    let only = member.client.node;
    cluster.crash(only, Tail::Kept);
    cluster.start(only);
    cluster.advance(Duration::from_secs(5));
    reconnect(&mut cluster, &mut member);
    assert_eq!(cluster.committed(), Ok(1));
}

#[test]
fn a_frozen_coordinator_ends_the_sessions_that_it_slept_through() {
    let mut cluster = cluster(1);
    let member = cluster.only_member();
    cluster.advance(Duration::from_secs(3));
    cluster.freeze(1);
    // Shorter than the session of the broker itself, so that its partitions do not move.
    cluster.send(member.client, 4, &heartbeat_request(&member));
    cluster.advance(Duration::from_secs(8));
    cluster.thaw(1);
    let response = cluster.reply::<HeartbeatRequest>(member.client, 4).unwrap();
    assert_eq!(response.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(cluster.commit(&member, 1), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn while_it_is_loaded_a_group_is_asked_for_later_and_heartbeats_are_taken() {
    let mut cluster = cluster(1);
    let mut member = cluster.only_member();
    assert_eq!(cluster.commit(&member, 42), ErrorCode::NONE);
    cluster.crash(1, Tail::Kept);
    cluster.slow_disk(1);
    cluster.start(1);
    cluster.advance(Duration::from_secs(1));
    reconnect(&mut cluster, &mut member);
    assert_eq!(cluster.join(&mut member.clone()).error_code, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    assert_eq!(cluster.commit(&member, 43), ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    assert_eq!(cluster.committed_at(1), Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
    assert_eq!(cluster.heartbeat(&member), ErrorCode::NONE);
    cluster.fast_disk(1);
    cluster.advance(Duration::from_millis(100));
    assert_eq!(cluster.committed(), Ok(42));
    assert_eq!(cluster.heartbeat(&member), ErrorCode::NONE);
    assert_eq!(cluster.heartbeat(&Member { generation: 2, ..member }), ErrorCode::ILLEGAL_GENERATION);
}

#[test]
fn a_node_that_does_not_lead_the_partition_says_so() {
    let mut cluster = cluster(3);
    let member = cluster.only_member();
    let other = (1..=3).find(|node| *node != member.client.node).unwrap();
    let elsewhere = Member { client: cluster.connect(other), ..member };
    assert_eq!(cluster.join(&mut elsewhere.clone()).error_code, ErrorCode::NOT_COORDINATOR);
    assert_eq!(cluster.sync(&elsewhere, &[]).error_code, ErrorCode::NOT_COORDINATOR);
    assert_eq!(cluster.heartbeat(&elsewhere), ErrorCode::NOT_COORDINATOR);
    assert_eq!(cluster.commit(&elsewhere, 1), ErrorCode::NOT_COORDINATOR);
    assert_eq!(cluster.committed_at(other), Err(ErrorCode::NOT_COORDINATOR));
}

#[test]
fn a_fetch_of_stable_offsets_waits_for_the_commit_before_it() {
    let mut cluster = cluster(3);
    let member = cluster.only_member();
    assert_eq!(cluster.commit(&member, 1), ErrorCode::NONE);
    let node = member.client.node;
    isolate(&mut cluster, node);
    cluster.send(member.client, 9, &commit_request(&member, 2));
    assert_eq!(cluster.fetch_offset(node, false), Ok(1));
    let client = cluster.connect(node);
    cluster.send(client, 9, &fetch_request(true));
    assert!(cluster.reply::<OffsetFetchRequest>(client, 9).is_none());
    cluster.heal();
    cluster.advance(Duration::from_secs(2));
    assert_eq!(fetched(&cluster.reply::<OffsetFetchRequest>(client, 9).unwrap()), Ok(2));
    let response = cluster.reply::<OffsetCommitRequest>(member.client, 9).unwrap();
    assert!(response.topics[0].partitions[0].error_code.is_ok());
}

#[test]
fn offsets_of_a_deleted_topic_are_gone_even_if_nobody_looked_after_them_then() {
    let mut cluster = cluster(3);
    let member = cluster.only_member();
    assert_eq!(cluster.commit(&member, 42), ErrorCode::NONE);
    cluster.delete("t");
    cluster.create("t", &[&[1]], &[]);
    assert_eq!(cluster.committed(), Ok(-1));

    assert_eq!(cluster.commit(&member, 43), ErrorCode::NONE);
    for node in 1..=3 {
        cluster.crash(node, Tail::Kept);
    }
    // Nobody coordinates the group while the first two of three nodes are up and the topic is deleted.
    cluster.start(1);
    cluster.advance(Duration::from_secs(2));
    cluster.delete("t");
    cluster.start(2);
    cluster.start(3);
    cluster.advance(Duration::from_secs(5));
    cluster.create("t", &[&[1]], &[]);
    assert_eq!(cluster.committed(), Ok(-1));
}

#[test]
fn a_client_that_is_gone_is_not_answered_and_leaves_nothing_behind() {
    let mut cluster = cluster(1);
    let one = cluster.only_member();
    let two = cluster.member();
    cluster.send_join(&two);
    cluster.input(1, crate::io::Input::Disconnected(two.client.connection));
    cluster.assert_at_rest();
    assert_eq!(cluster.heartbeat(&one), ErrorCode::REBALANCE_IN_PROGRESS);
    cluster.advance(Duration::from_secs(30));
    cluster.assert_at_rest();
}
