//! Consumers that read from a follower (KIP-392): who is sent where, and what a follower gives.

use std::time::Duration;

use ottla_protocol::messages::FetchRequest;
use ottla_protocol::messages::fetch_response::PartitionData;
use ottla_protocol::{ErrorCode, TopicId};

use super::harness::{Cluster, plain, values};
use super::requests::{FETCH, PRODUCE, fetch_request, fetched, produce_request};
use crate::cluster::{ClusterConfig, ReplicaSelector};
use crate::io::NodeId;

/// Three nodes in the racks a, b and c, with a partition that node 1 leads.
fn racks(selector: ReplicaSelector) -> (Cluster, TopicId) {
    let mut config = ClusterConfig::with_nodes(3, "localhost", 9092);
    for (node, rack) in config.nodes.iter_mut().zip(["a", "b", "c"]) {
        node.rack = Some(rack.to_owned());
    }
    config.replica_selector = selector;
    let mut cluster = Cluster::with(config);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    cluster.produce(client, topic, plain(&["a"]));
    (cluster, topic)
}

fn request(topic: TopicId, offset: i64, rack: &str) -> FetchRequest {
    FetchRequest { rack_id: rack.into(), ..fetch_request(topic, offset) }
}

fn ask(cluster: &mut Cluster, node: NodeId, request: &FetchRequest) -> PartitionData {
    let client = cluster.connect(node);
    fetched(&cluster.call(client, FETCH, request))
}

#[test]
fn a_consumer_is_sent_to_the_follower_in_its_rack_at_once() {
    let (mut cluster, topic) = racks(ReplicaSelector::RackAware);
    // Also at the end of the log, where it would wait otherwise.
    for offset in [0, 1] {
        let client = cluster.connect(1);
        cluster.send(client, FETCH, &request(topic, offset, "c"));
        let data = fetched(&cluster.reply::<FetchRequest>(client, FETCH).unwrap());
        assert_eq!((data.error_code, data.preferred_read_replica), (ErrorCode::NONE, 3));
        assert_eq!((data.high_watermark, data.records.unwrap().len()), (1, 0));
    }
    let data = ask(&mut cluster, 3, &request(topic, 0, "c"));
    assert_eq!((data.preferred_read_replica, values(data.records.unwrap())), (-1, vec!["a".to_owned()]));
}

#[test]
fn a_leader_serves_whoever_stands_nowhere_else() {
    let (mut cluster, topic) = racks(ReplicaSelector::RackAware);
    for rack in ["", "a", "d"] {
        let data = ask(&mut cluster, 1, &request(topic, 0, rack));
        assert_eq!((data.preferred_read_replica, values(data.records.unwrap())), (-1, vec!["a".to_owned()]));
    }
    let (mut cluster, topic) = racks(ReplicaSelector::Leader);
    let data = ask(&mut cluster, 1, &request(topic, 0, "c"));
    assert_eq!((data.preferred_read_replica, values(data.records.unwrap())), (-1, vec!["a".to_owned()]));
}

#[test]
fn nobody_is_sent_to_a_follower_that_is_out_of_sync_or_lacks_the_offset() {
    let (mut cluster, topic) = racks(ReplicaSelector::RackAware);
    let data = ask(&mut cluster, 1, &request(topic, 2, "c"));
    assert_eq!((data.error_code, data.preferred_read_replica), (ErrorCode::OFFSET_OUT_OF_RANGE, -1));
    cluster.freeze(3);
    cluster.advance(Duration::from_secs(12));
    let data = ask(&mut cluster, 1, &request(topic, 0, "c"));
    assert_eq!((data.preferred_read_replica, values(data.records.unwrap())), (-1, vec!["a".to_owned()]));
    cluster.thaw(3);
    cluster.advance(Duration::from_secs(12));
    assert_eq!(ask(&mut cluster, 1, &request(topic, 0, "c")).preferred_read_replica, 3);
}

#[test]
fn a_follower_gives_what_it_knows_to_be_committed() {
    let (mut cluster, topic) = racks(ReplicaSelector::RackAware);
    // Node 3 does not hear of the second record, which is therefore not committed.
    cluster.freeze(3);
    let producer = cluster.connect(1);
    cluster.send(producer, PRODUCE, &produce_request(topic, 1, plain(&["b"])));
    let answers = [(0, ErrorCode::NONE, 1, 1), (1, ErrorCode::NONE, 1, 0), (2, ErrorCode::NONE, 1, 0)];
    for (offset, error, high_watermark, records) in answers {
        let data = ask(&mut cluster, 2, &request(topic, offset, "b"));
        assert_eq!((data.error_code, data.high_watermark), (error, high_watermark), "offset {offset}");
        assert_eq!(values(data.records.unwrap()).len(), records, "offset {offset}");
    }
    assert_eq!(ask(&mut cluster, 2, &request(topic, 3, "b")).error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
}

#[test]
fn a_fetch_that_waits_at_a_follower_is_answered_when_the_leader_commits() {
    let (mut cluster, topic) = racks(ReplicaSelector::RackAware);
    let client = cluster.connect(2);
    cluster.send(client, FETCH, &request(topic, 1, "b"));
    assert!(cluster.reply::<FetchRequest>(client, FETCH).is_none());
    let producer = cluster.connect(1);
    cluster.produce(producer, topic, plain(&["b"]));
    let data = fetched(&cluster.reply::<FetchRequest>(client, FETCH).unwrap());
    assert_eq!(values(data.records.unwrap()), ["b"]);
}

#[test]
fn a_follower_refuses_clients_that_cannot_know_what_it_is() {
    let (mut cluster, topic) = racks(ReplicaSelector::Leader);
    let client = cluster.connect(2);
    for (version, error) in [(10, ErrorCode::NOT_LEADER_OR_FOLLOWER), (11, ErrorCode::NONE)] {
        let mut request = fetch_request(topic, 0);
        request.topics[0].topic = "t".into();
        request.topics[0].topic_id = TopicId::ZERO;
        assert_eq!(fetched(&cluster.call(client, version, &request)).error_code, error, "version {version}");
    }
    // Nor does it speak of another epoch than its own.
    for (epoch, error) in [(-1, ErrorCode::NONE), (0, ErrorCode::NONE), (1, ErrorCode::UNKNOWN_LEADER_EPOCH)]
    {
        let mut request = fetch_request(topic, 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(fetched(&cluster.call(client, FETCH, &request)).error_code, error, "epoch {epoch}");
    }
    // Where offsets are, only the leader says.
    assert_eq!(cluster.list_offset(client, "t", -1).error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
}

#[test]
fn a_session_has_it_told_though_nothing_else_is_new() {
    let (mut cluster, topic) = racks(ReplicaSelector::RackAware);
    let client = cluster.connect(1);
    let opening = FetchRequest { session_epoch: 0, max_wait_ms: 0, ..fetch_request(topic, 1) };
    let session_id = cluster.call(client, FETCH, &opening).session_id;
    let next = FetchRequest { session_id, session_epoch: 1, topics: Vec::new(), ..request(topic, 1, "b") };
    assert_eq!(fetched(&cluster.call(client, FETCH, &next)).preferred_read_replica, 2);
}
