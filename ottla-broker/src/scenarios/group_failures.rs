//! Groups while nodes fail.

use std::time::Duration;

use ottla_protocol::ErrorCode;

use super::harness::Cluster;
use crate::disk::Tail;

fn cluster(nodes: usize) -> Cluster {
    let mut cluster = Cluster::new(nodes);
    cluster.create("t", &[&[1]], &[]);
    cluster
}

#[test]
fn another_node_takes_over_with_members_and_offsets() {
    let mut cluster = cluster(3);
    let mut member = cluster.only_member();
    assert_eq!(cluster.commit(&member, 42), ErrorCode::NONE);
    let first = member.client.node;
    cluster.crash(first, Tail::Lost);
    cluster.advance(Duration::from_secs(12));
    let second = cluster.coordinator();
    assert_ne!(first, second);
    member.client = cluster.connect(second);
    assert_eq!(cluster.heartbeat(&member), ErrorCode::NONE);
    assert_eq!(cluster.committed(), Ok(42));
    assert_eq!(cluster.commit(&member, 43), ErrorCode::NONE);
    assert_eq!(cluster.committed(), Ok(43));
}
