//! Leaders that die, followers that lag, logs that diverge.

use std::time::Duration;

use ottla_protocol::ErrorCode;

use super::harness::{Cluster, plain};
use super::requests::{PRODUCE, produce_request, produced};
use crate::cluster::{ClusterConfig, FlushPolicy};
use crate::disk::Tail;
use ottla_protocol::messages::create_topics_request::CreatableTopic;
use ottla_protocol::messages::{CreateTopicsRequest, ProduceRequest};

const SESSION: Duration = Duration::from_secs(10);

#[test]
fn a_record_is_on_every_in_sync_replica_before_it_is_acknowledged() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    let answer = cluster.produce(client, topic, plain(&["a", "b"]));
    assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, 0));
    for node in 1..=3 {
        assert_eq!(cluster.stored(node, topic, 0), ["a", "b"]);
    }
}

#[test]
fn a_leader_that_dies_is_followed_by_one_that_has_everything() {
    for tail in [Tail::Kept, Tail::Lost] {
        let mut cluster = Cluster::new(3);
        let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
        let client = cluster.connect(1);
        cluster.produce(client, topic, plain(&["a"]));
        cluster.crash(1, tail);
        cluster.advance(SESSION);

        let partition = cluster.partition(topic, 0);
        assert_eq!((partition.leader, partition.leader_epoch), (Some(2), 1));
        assert_eq!(partition.isr, [2, 3]);
        let client = cluster.connect(2);
        assert_eq!(cluster.produce(client, topic, plain(&["b"])).base_offset, 1);
        assert_eq!(cluster.read_all(client, topic), ["a", "b"]);

        cluster.start(1);
        cluster.advance(SESSION);
        assert_eq!(cluster.stored(1, topic, 0), ["a", "b"]);
        assert_eq!(cluster.partition(topic, 0).isr, [2, 3, 1]);
    }
}

#[test]
fn a_leader_that_restarts_within_its_session_does_not_lead_with_a_lost_tail() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    cluster.produce(client, topic, plain(&["a"]));
    cluster.crash(1, Tail::Lost);
    cluster.start(1);
    assert_eq!(cluster.partition(topic, 0).leader, Some(2));
    cluster.advance(SESSION);
    assert_eq!(cluster.stored(1, topic, 0), ["a"]);
    let client = cluster.connect(2);
    assert_eq!(cluster.read_all(client, topic), ["a"]);
}

#[test]
fn a_leader_that_restarts_does_not_lead_before_it_is_registered() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    cluster.produce(client, topic, plain(&["a"]));
    cluster.crash(1, Tail::Lost);
    cluster.mute(1, 0);
    cluster.start(1);
    // Its former life is told of it, and still leads.
    let other = cluster.connect(2);
    let another =
        CreatableTopic { name: "u".into(), num_partitions: 1, replication_factor: 1, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![another], timeout_ms: 1000, ..Default::default() };
    cluster.call(other, 7, &request);

    let client = cluster.connect(1);
    cluster.send(client, PRODUCE, &produce_request(topic, 1, plain(&["b"])));
    assert_eq!(cluster.stored(1, topic, 0), [] as [&str; 0]);
    cluster.heal();
    cluster.advance(SESSION);
    assert_eq!(
        produced(&cluster.reply::<ProduceRequest>(client, PRODUCE).unwrap()).error_code,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
    );
    assert_eq!(cluster.stored(1, topic, 0), ["a"]);
}

#[test]
fn a_deposed_leader_cuts_what_only_it_has() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    cluster.produce(client, topic, plain(&["a"]));
    for other in [0, 2, 3] {
        cluster.cut(1, other);
    }
    // Acknowledged by the leader alone, and lost: that is what acks=1 means.
    let answer = produced(&cluster.call(client, PRODUCE, &produce_request(topic, 1, plain(&["lost"]))));
    assert_eq!(answer.error_code, ErrorCode::NONE);
    cluster.send(client, PRODUCE, &produce_request(topic, -1, plain(&["lost too"])));
    cluster.advance(SESSION);

    let other = cluster.connect(2);
    cluster.produce(other, topic, plain(&["b", "c", "d"]));
    cluster.heal();
    cluster.advance(SESSION);
    assert_eq!(cluster.stored(1, topic, 0), ["a", "b", "c", "d"]);
    let answer = produced(&cluster.reply::<ProduceRequest>(client, PRODUCE).unwrap());
    assert_eq!(answer.error_code, ErrorCode::REQUEST_TIMED_OUT);
}

#[test]
fn what_is_not_committed_is_not_read() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    cluster.produce(client, topic, plain(&["a"]));
    cluster.cut(1, 2);
    cluster.call(client, PRODUCE, &produce_request(topic, 1, plain(&["b"])));
    assert_eq!(cluster.read_all(client, topic), ["a"]);
    cluster.heal();
    cluster.advance(Duration::from_secs(2));
    assert_eq!(cluster.read_all(client, topic), ["a", "b"]);
}

#[test]
fn a_follower_that_lags_leaves_the_in_sync_set_and_comes_back() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    cluster.cut(1, 3);
    cluster.send(client, PRODUCE, &produce_request(topic, -1, plain(&["a"])));
    cluster.advance(Duration::from_secs(29));
    assert_eq!(cluster.partition(topic, 0).isr, [1, 2, 3]);
    cluster.advance(Duration::from_secs(2));
    assert_eq!(cluster.partition(topic, 0).isr, [1, 2]);
    // The producer has given up long before.
    let answer = produced(&cluster.reply::<ProduceRequest>(client, PRODUCE).unwrap());
    assert_eq!(answer.error_code, ErrorCode::REQUEST_TIMED_OUT);
    assert_eq!(cluster.read_all(client, topic), ["a"]);
    assert_eq!(cluster.produce_error(client, topic, plain(&["b"])), ErrorCode::NONE);

    cluster.heal();
    cluster.advance(Duration::from_secs(5));
    assert_eq!(cluster.partition(topic, 0).isr, [1, 2, 3]);
    assert_eq!(cluster.stored(3, topic, 0), ["a", "b"]);
}

#[test]
fn a_frozen_follower_joins_again_although_nothing_is_written() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    cluster.freeze(2);
    cluster.advance(SESSION);
    assert_eq!(cluster.partition(topic, 0).isr, [1, 3]);
    cluster.thaw(2);
    cluster.advance(Duration::from_secs(5));
    assert_eq!(cluster.partition(topic, 0).isr, [1, 3, 2]);
}

#[test]
fn a_frozen_leader_is_replaced_and_learns_of_it() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    cluster.freeze(1);
    cluster.send(client, PRODUCE, &produce_request(topic, -1, plain(&["late"])));
    cluster.advance(SESSION);
    let other = cluster.connect(2);
    assert_eq!(cluster.produce_error(other, topic, plain(&["a"])), ErrorCode::NONE);
    cluster.thaw(1);
    cluster.advance(SESSION);
    let answer = produced(&cluster.reply::<ProduceRequest>(client, PRODUCE).unwrap());
    assert_eq!(answer.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(answer.current_leader.leader_id, 2);
    assert_eq!(cluster.stored(1, topic, 0), ["a"]);
    assert_eq!(cluster.partition(topic, 0).isr, [2, 3, 1]);
}

#[test]
fn too_few_in_sync_replicas_refuse_acks_all_and_nothing_else() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    cluster.crash(2, Tail::Kept);
    cluster.crash(3, Tail::Kept);
    cluster.advance(SESSION);
    let client = cluster.connect(1);
    assert_eq!(cluster.produce_error(client, topic, plain(&["a"])), ErrorCode::NOT_ENOUGH_REPLICAS);
    let answer = produced(&cluster.call(client, PRODUCE, &produce_request(topic, 1, plain(&["b"]))));
    assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, 0));
}

#[test]
fn the_last_in_sync_replica_is_waited_for() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2]], &[("min.insync.replicas", "1")]);
    cluster.crash(2, Tail::Kept);
    cluster.advance(SESSION);
    let client = cluster.connect(1);
    cluster.produce(client, topic, plain(&["a"]));
    cluster.crash(1, Tail::Kept);
    cluster.start(2);
    cluster.advance(SESSION);
    let partition = cluster.partition(topic, 0);
    assert_eq!((partition.leader, &partition.isr[..]), (None, &[1][..]));
    cluster.start(1);
    cluster.advance(SESSION);
    assert_eq!(cluster.partition(topic, 0).leader, Some(1));
    assert_eq!(cluster.stored(2, topic, 0), ["a"]);
}

#[test]
fn an_unclean_election_truncates() {
    let mut cluster = Cluster::new(3);
    let config = [("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true")];
    let topic = cluster.create("t", &[&[1, 2]], &config);
    let client = cluster.connect(1);
    cluster.produce(client, topic, plain(&["a"]));
    cluster.crash(2, Tail::Kept);
    cluster.advance(SESSION);
    cluster.produce(client, topic, plain(&["b", "c"]));
    cluster.crash(1, Tail::Kept);
    cluster.advance(SESSION);
    cluster.start(2);
    let partition = cluster.partition(topic, 0);
    assert_eq!((partition.leader, &partition.isr[..]), (Some(2), &[2][..]));
    let client = cluster.connect(2);
    cluster.produce(client, topic, plain(&["d"]));
    cluster.start(1);
    cluster.advance(SESSION);
    assert_eq!(cluster.stored(1, topic, 0), ["a", "d"]);
}

#[test]
fn logs_that_diverged_in_several_epochs_become_equal() {
    let mut cluster = Cluster::new(3);
    let config = [("min.insync.replicas", "1"), ("unclean.leader.election.enable", "true")];
    let topic = cluster.create("t", &[&[1, 2]], &config);
    // Each writes alone, in turn, without ever hearing of the other's epochs.
    for round in 0..3 {
        for (alone, other) in [(1, 2), (2, 1)] {
            cluster.crash(other, Tail::Kept);
            cluster.start(alone);
            cluster.advance(SESSION);
            let client = cluster.connect(alone);
            let value = format!("{alone}-{round}");
            assert_eq!(cluster.produce_error(client, topic, plain(&[&value])), ErrorCode::NONE);
            cluster.crash(alone, Tail::Kept);
            cluster.advance(SESSION);
        }
    }
    cluster.start(1);
    cluster.start(2);
    cluster.advance(SESSION);
    assert_eq!(cluster.stored(1, topic, 0), cluster.stored(2, topic, 0));
    assert_eq!(cluster.partition(topic, 0).isr.len(), 2);
}

#[test]
fn a_slow_disk_holds_the_acknowledgement_back() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    cluster.slow_disk(3);
    cluster.send(client, PRODUCE, &produce_request(topic, -1, plain(&["a"])));
    cluster.advance(Duration::from_secs(1));
    assert!(cluster.reply::<ProduceRequest>(client, PRODUCE).is_none());
    cluster.fast_disk(3);
    assert!(produced(&cluster.reply::<ProduceRequest>(client, PRODUCE).unwrap()).error_code.is_ok());
}

#[test]
fn with_flush_before_ack_what_was_acknowledged_survives_the_machine() {
    let config =
        ClusterConfig { flush: FlushPolicy::BeforeAck, ..ClusterConfig::with_nodes(1, "localhost", 0) };
    let mut cluster = Cluster::with(config);
    let topic = cluster.create("t", &[&[1]], &[]);
    let client = cluster.connect(1);
    cluster.produce(client, topic, plain(&["a"]));
    cluster.crash(1, Tail::Lost);
    cluster.start(1);
    let client = cluster.connect(1);
    assert_eq!(cluster.read_all(client, topic), ["a"]);
}

#[test]
fn a_node_whose_disk_fails_halts_and_others_go_on() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    cluster.slow_disk(1);
    cluster.send(client, PRODUCE, &produce_request(topic, -1, plain(&["a"])));
    cluster.fail_disk(1);
    assert_eq!(cluster.nodes[&1].halted.as_deref(), Some("broken"));
    cluster.advance(SESSION);
    assert_eq!(cluster.partition(topic, 0).leader, Some(2));
}

#[test]
fn a_cluster_that_restarts_as_a_whole_has_its_topics_and_records() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    cluster.produce(client, topic, plain(&["a"]));
    for node in 1..=3 {
        cluster.crash(node, Tail::Kept);
    }
    cluster.restart_controller();
    for node in 1..=3 {
        cluster.start(node);
    }
    cluster.advance(SESSION);
    let partition = cluster.partition(topic, 0);
    assert_eq!((partition.leader, partition.isr.len()), (Some(1), 3));
    let client = cluster.connect(1);
    assert_eq!(cluster.read_all(client, topic), ["a"]);
    cluster.produce(client, topic, plain(&["b"]));
    assert_eq!(cluster.stored(3, topic, 0), ["a", "b"]);
}

#[test]
fn a_node_with_the_data_of_another_cluster_halts() {
    let mut cluster = Cluster::new(1);
    let mut other = Cluster::with(ClusterConfig {
        cluster_id: Some("another".to_owned()),
        ..ClusterConfig::with_nodes(1, "localhost", 9092)
    });
    cluster.crash(1, Tail::Kept);
    other.crash(1, Tail::Kept);
    let disk = cluster.nodes[&1].disk.clone();
    other.nodes.get_mut(&1).unwrap().disk = disk;
    other.start(1);
    assert!(other.nodes[&1].halted.as_ref().unwrap().contains("another"));
}

#[test]
fn a_follower_far_behind_catches_up_chunk_by_chunk() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    cluster.crash(3, Tail::Kept);
    cluster.advance(SESSION);
    let value = "x".repeat(300_000);
    for _ in 0..10 {
        assert_eq!(cluster.produce_error(client, topic, plain(&[&value])), ErrorCode::NONE);
    }
    cluster.start(3);
    cluster.advance(SESSION);
    assert_eq!(cluster.stored(3, topic, 0).len(), 10);
    assert_eq!(cluster.partition(topic, 0).isr, [1, 2, 3]);
}
