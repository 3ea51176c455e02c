//! Leaders that an administrator asks for.

use ottla_protocol::messages::ElectLeadersRequest;
use ottla_protocol::messages::elect_leaders_request::TopicPartitions;
use ottla_protocol::{ErrorCode, TopicId};

use super::harness::Cluster;
use crate::disk::Tail;
use crate::io::NodeId;

/// Longer than a session, so that whoever is gone is known to be.
const A_WHILE: std::time::Duration = std::time::Duration::from_secs(20);

type Told = (i32, ErrorCode, String);

fn elect(cluster: &mut Cluster, unclean: bool, partitions: Option<&[i32]>) -> Vec<Told> {
    let of_t = |partitions: &[i32]| TopicPartitions { topic: "t".into(), partitions: partitions.to_vec() };
    let request = ElectLeadersRequest {
        election_type: i8::from(unclean),
        topic_partitions: partitions.map(|partitions| vec![of_t(partitions)]),
        timeout_ms: 1_000,
    };
    let client = cluster.any_client();
    let response = cluster.call(client, 2, &request);
    assert_eq!(response.error_code, ErrorCode::NONE);
    let results = response.replica_election_results.into_iter().flat_map(|topic| topic.partition_result);
    let told = results.map(|one| {
        let message = one.error_message.map(String::from).unwrap_or_default();
        (one.partition_id, one.error_code, message)
    });
    told.collect()
}

/// Node 1 was away, and is in sync again: others lead.
fn with_leaders_moved(replicas: &[&[NodeId]]) -> (Cluster, TopicId) {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", replicas, &[]);
    cluster.crash(1, Tail::Kept);
    cluster.advance(A_WHILE);
    cluster.start(1);
    cluster.advance(A_WHILE);
    (cluster, topic)
}

#[test]
fn the_first_replica_leads_again_when_it_is_asked_for() {
    let (mut cluster, topic) = with_leaders_moved(&[&[1, 2], &[2, 3], &[1, 3]]);
    let before = cluster.partition(topic, 0);
    assert_eq!(before.leader, Some(2));
    let not_needed = "Leader election not needed for topic partition.".to_owned();
    let told = elect(&mut cluster, false, Some(&[0, 1, 7]));
    let none = (0, ErrorCode::NONE, String::new());
    let unknown = (7, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "No such partition as t-7".to_owned());
    assert_eq!(told, [none, (1, ErrorCode::ELECTION_NOT_NEEDED, not_needed), unknown]);
    let after = cluster.partition(topic, 0);
    assert_eq!((after.leader, after.leader_epoch), (Some(1), before.leader_epoch + 1));
    // Of all partitions, those that need it.
    assert_eq!(elect(&mut cluster, false, None), [(2, ErrorCode::NONE, String::new())]);
    assert_eq!(cluster.partition(topic, 2).leader, Some(1));
    assert_eq!(elect(&mut cluster, false, None), []);
}

#[test]
fn who_does_not_live_is_not_elected() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2], &[1, 3]], &[]);
    for node in [1, 3] {
        cluster.crash(node, Tail::Kept);
        cluster.advance(A_WHILE);
    }
    let away = |at| {
        (at, ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE, "The preferred leader was not available.".to_owned())
    };
    assert_eq!(elect(&mut cluster, false, Some(&[0, 1])), [away(0), away(1)]);
    let nobody = "Eligible topic partition leaders are not available.".to_owned();
    let told = elect(&mut cluster, true, Some(&[0, 1]));
    assert_eq!(told[0].1, ErrorCode::ELECTION_NOT_NEEDED, "it has a leader");
    assert_eq!(told[1], (1, ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE, nobody));
    assert_eq!(cluster.partition(topic, 1).leader, None);
}

#[test]
fn an_unclean_election_takes_a_replica_that_is_not_in_sync() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2]], &[]);
    cluster.crash(2, Tail::Kept);
    cluster.advance(A_WHILE);
    cluster.crash(1, Tail::Kept);
    cluster.advance(A_WHILE);
    cluster.start(2);
    cluster.advance(A_WHILE);
    assert_eq!(cluster.partition(topic, 0).leader, None, "it may lack what was acknowledged");
    assert_eq!(elect(&mut cluster, true, Some(&[0])), [(0, ErrorCode::NONE, String::new())]);
    let partition = cluster.partition(topic, 0);
    assert_eq!((partition.leader, partition.isr), (Some(2), vec![2]));
}

#[test]
fn a_kind_of_election_that_does_not_exist_is_refused() {
    let mut cluster = Cluster::new(1);
    cluster.create("t", &[&[1]], &[]);
    let asked = vec![TopicPartitions { topic: "t".into(), partitions: vec![0] }];
    let request = ElectLeadersRequest { election_type: 9, topic_partitions: Some(asked), timeout_ms: 1_000 };
    let client = cluster.any_client();
    let response = cluster.call(client, 2, &request);
    assert_eq!(response.error_code, ErrorCode::INVALID_REQUEST);
    let result = &response.replica_election_results[0].partition_result[0];
    assert_eq!(result.error_message.as_deref(), Some("Unknown election type 9"));
}
