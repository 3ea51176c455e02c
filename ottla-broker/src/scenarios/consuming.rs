//! Consuming: long poll, bounds, sessions, epochs, offsets.

use std::time::Duration;

use ottla_protocol::messages::fetch_request::ForgottenTopic;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_protocol::messages::{FetchRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest};
use ottla_protocol::{ErrorCode, TopicId};

use super::harness::{Client, Cluster, WALL_MS, builder, plain, values};
use super::requests::{FETCH, fetch_request, fetched};
use crate::disk::Tail;

fn single() -> (Cluster, Client, TopicId) {
    let mut cluster = Cluster::new(1);
    let topic = cluster.create("t", &[&[1]], &[]);
    let client = cluster.connect(1);
    (cluster, client, topic)
}

#[test]
fn a_fetch_waits_for_data_as_long_as_it_said() {
    let (mut cluster, client, topic) = single();
    cluster.send(client, FETCH, &fetch_request(topic, 0));
    cluster.advance(Duration::from_millis(499));
    assert!(cluster.reply::<FetchRequest>(client, FETCH).is_none());
    cluster.advance(Duration::from_millis(1));
    let data = fetched(&cluster.reply::<FetchRequest>(client, FETCH).unwrap());
    assert_eq!((data.high_watermark, data.last_stable_offset, data.log_start_offset), (0, 0, 0));
    assert!(data.records.unwrap().is_empty());
}

#[test]
fn a_fetch_that_waits_is_answered_when_data_comes() {
    let (mut cluster, client, topic) = single();
    cluster.send(client, FETCH, &fetch_request(topic, 0));
    let producer = cluster.connect(1);
    cluster.produce(producer, topic, plain(&["a"]));
    let data = fetched(&cluster.reply::<FetchRequest>(client, FETCH).unwrap());
    assert_eq!(values(data.records.unwrap()), ["a"]);
}

#[test]
fn a_fetch_waits_for_its_minimum_of_bytes() {
    let (mut cluster, client, topic) = single();
    let request = FetchRequest { min_bytes: 150, ..fetch_request(topic, 0) };
    cluster.send(client, FETCH, &request);
    let producer = cluster.connect(1);
    cluster.produce(producer, topic, plain(&["a"]));
    assert!(cluster.reply::<FetchRequest>(client, FETCH).is_none());
    cluster.produce(producer, topic, plain(&["b"]));
    cluster.produce(producer, topic, plain(&["c"]));
    let data = fetched(&cluster.reply::<FetchRequest>(client, FETCH).unwrap());
    assert_eq!(values(data.records.unwrap()), ["a", "b", "c"]);
}

#[test]
fn a_batch_larger_than_the_bounds_is_given_alone() {
    let (mut cluster, client, topic) = single();
    let large = "x".repeat(1000);
    cluster.produce(client, topic, plain(&[&large]));
    cluster.produce(client, topic, plain(&["b"]));
    let mut request = FetchRequest { max_bytes: 10, ..fetch_request(topic, 0) };
    request.topics[0].partitions[0].partition_max_bytes = 10;
    let data = fetched(&cluster.call(client, FETCH, &request));
    assert_eq!(values(data.records.unwrap()), [large]);
}

#[test]
fn only_whole_batches_are_given_from_the_one_that_holds_the_offset() {
    let (mut cluster, client, topic) = single();
    cluster.produce(client, topic, plain(&["a", "b"]));
    cluster.produce(client, topic, plain(&["c"]));
    let data = cluster.fetch(client, topic, 1);
    assert_eq!(values(data.records.unwrap()), ["a", "b", "c"]);
}

#[test]
fn an_offset_outside_the_log_is_out_of_range() {
    let (mut cluster, client, topic) = single();
    cluster.produce(client, topic, plain(&["a"]));
    for offset in [-1, 2] {
        let data = cluster.fetch(client, topic, offset);
        assert_eq!((data.error_code, data.high_watermark), (ErrorCode::OFFSET_OUT_OF_RANGE, -1));
    }
}

#[test]
fn every_version_is_answered() {
    let (mut cluster, client, topic) = single();
    cluster.produce(client, topic, plain(&["a"]));
    for version in 4..=18 {
        let mut request = fetch_request(topic, 0);
        if version < 13 {
            request.topics[0].topic = "t".into();
            request.topics[0].topic_id = TopicId::ZERO;
        }
        if version < 12 {
            request.session_epoch = -1;
        }
        let data = fetched(&cluster.call(client, version, &request));
        assert_eq!(values(data.records.unwrap()), ["a"], "version {version}");
    }
}

#[test]
fn a_client_with_an_old_epoch_is_fenced_and_one_ahead_is_told_so() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    cluster.crash(1, Tail::Kept);
    cluster.advance(Duration::from_secs(10));
    let client = cluster.connect(2);
    for (epoch, error) in
        [(0, ErrorCode::FENCED_LEADER_EPOCH), (1, ErrorCode::NONE), (2, ErrorCode::UNKNOWN_LEADER_EPOCH)]
    {
        let mut request = fetch_request(topic, 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(fetched(&cluster.call(client, FETCH, &request)).error_code, error);
    }
}

#[test]
fn a_client_whose_records_were_cut_off_learns_where_the_log_diverges() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    cluster.produce(client, topic, plain(&["a"]));
    cluster.crash(1, Tail::Kept);
    cluster.advance(Duration::from_secs(10));
    let client = cluster.connect(2);
    cluster.produce(client, topic, plain(&["b"]));

    // It has read up to offset 5 in epoch 0, which ended at offset 1.
    let mut request = fetch_request(topic, 5);
    request.topics[0].partitions[0].last_fetched_epoch = 0;
    let data = fetched(&cluster.call(client, FETCH, &request));
    assert_eq!((data.diverging_epoch.epoch, data.diverging_epoch.end_offset), (0, 1));

    let partition = OffsetForLeaderPartition { partition: 0, current_leader_epoch: 1, leader_epoch: 0 };
    let topics = vec![OffsetForLeaderTopic { topic: "t".into(), partitions: vec![partition] }];
    let response = cluster.call(client, 4, &OffsetForLeaderEpochRequest { replica_id: -1, topics });
    let end = &response.topics[0].partitions[0];
    assert_eq!((end.error_code, end.leader_epoch, end.end_offset), (ErrorCode::NONE, 0, 1));
}

/// A session over both partitions of a topic, and the client that has it.
fn session(cluster: &mut Cluster) -> (Client, TopicId, i32) {
    let topic = cluster.create("t", &[&[1], &[1]], &[]);
    let client = cluster.connect(1);
    let mut request = FetchRequest { session_epoch: 0, max_wait_ms: 0, ..fetch_request(topic, 0) };
    let mut second = request.topics[0].partitions[0].clone();
    second.partition = 1;
    request.topics[0].partitions.push(second);
    let response = cluster.call(client, FETCH, &request);
    assert_ne!(response.session_id, 0);
    assert_eq!(response.responses[0].partitions.len(), 2);
    (client, topic, response.session_id)
}

fn incremental(id: i32, epoch: i32) -> FetchRequest {
    FetchRequest {
        session_id: id,
        session_epoch: epoch,
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: 1 << 20,
        ..FetchRequest::default()
    }
}

#[test]
fn a_session_tells_only_what_is_new() {
    let mut cluster = Cluster::new(1);
    let (client, topic, id) = session(&mut cluster);
    let response = cluster.call(client, FETCH, &incremental(id, 1));
    assert_eq!((response.session_id, response.responses.len()), (id, 0));
    let producer = cluster.connect(1);
    cluster.produce(producer, topic, plain(&["a"]));
    let response = cluster.call(client, FETCH, &incremental(id, 2));
    let partitions = &response.responses[0].partitions;
    assert_eq!(partitions.iter().map(|data| data.partition_index).collect::<Vec<_>>(), [0]);
}

#[test]
fn a_session_knows_its_epoch_and_its_end() {
    let mut cluster = Cluster::new(1);
    let (client, topic, id) = session(&mut cluster);
    let mut error = |id, epoch| cluster.call(client, FETCH, &incremental(id, epoch)).error_code;
    assert_eq!(error(id, 2), ErrorCode::INVALID_FETCH_SESSION_EPOCH);
    assert_eq!(error(id, 1), ErrorCode::NONE);
    assert_eq!(error(id, 1), ErrorCode::INVALID_FETCH_SESSION_EPOCH);
    assert_eq!(error(id + 1, 1), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);

    let forgotten = ForgottenTopic { topic_id: topic, partitions: vec![0, 1], ..ForgottenTopic::default() };
    let request = FetchRequest { forgotten_topics_data: vec![forgotten], ..incremental(id, 2) };
    assert_eq!(cluster.call(client, FETCH, &request).session_id, 0);
    let response = cluster.call(client, FETCH, &incremental(id, 3));
    assert_eq!(response.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn a_restarted_node_knows_no_session() {
    let mut cluster = Cluster::new(1);
    let (_, _, id) = session(&mut cluster);
    cluster.crash(1, Tail::Kept);
    cluster.start(1);
    let client = cluster.connect(1);
    let response = cluster.call(client, FETCH, &incremental(id, 1));
    assert_eq!(response.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn offsets_are_found_by_place_and_by_time() {
    let (mut cluster, client, topic) = single();
    assert_eq!(cluster.list_offset(client, "t", -1).offset, 0);
    for (base, time) in [("a", 0), ("b", 100), ("c", 50)] {
        let mut batch = builder(&[(WALL_MS + time, base), (WALL_MS + time + 10, base)]).seal();
        batch.stamp_without_producer();
        cluster.produce(client, topic, batch.into_bytes());
    }
    assert_eq!(cluster.list_offset(client, "t", -2).offset, 0);
    let latest = cluster.list_offset(client, "t", -1);
    assert_eq!((latest.offset, latest.leader_epoch), (6, 0));
    for (timestamp, offset, found) in [(0, 0, 0), (5, 1, 10), (11, 2, 100), (101, 3, 110)] {
        let answer = cluster.list_offset(client, "t", WALL_MS + timestamp);
        assert_eq!((answer.offset, answer.timestamp), (offset, WALL_MS + found), "{timestamp}");
    }
    let none = cluster.list_offset(client, "t", WALL_MS + 111);
    assert_eq!((none.error_code, none.offset, none.timestamp), (ErrorCode::NONE, -1, -1));
    let newest = cluster.list_offset(client, "t", -3);
    assert_eq!((newest.offset, newest.timestamp), (3, WALL_MS + 110));
}

#[test]
fn offsets_are_told_in_every_version() {
    let (mut cluster, client, topic) = single();
    cluster.produce(client, topic, plain(&["a"]));
    for version in 1..=11 {
        for (timestamp, offset) in [(-2, 0), (-1, 1), (WALL_MS, 0), (WALL_MS + 1, -1)] {
            let answer = cluster.list_offset_in(client, version, "t", timestamp);
            assert_eq!((answer.error_code, answer.offset), (ErrorCode::NONE, offset), "version {version}");
        }
    }
}

#[test]
fn epochs_are_told_in_every_version() {
    let (mut cluster, client, topic) = single();
    cluster.produce(client, topic, plain(&["a"]));
    for version in 2..=4 {
        let partition = OffsetForLeaderPartition { partition: 0, current_leader_epoch: -1, leader_epoch: 0 };
        let topics = vec![OffsetForLeaderTopic { topic: "t".into(), partitions: vec![partition] }];
        let response = cluster.call(client, version, &OffsetForLeaderEpochRequest { replica_id: -2, topics });
        assert_eq!(response.topics[0].partitions[0].end_offset, 1);
    }
}

#[test]
fn a_new_leader_does_not_guess_what_is_committed() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    cluster.produce(client, topic, plain(&["a"]));
    // Everybody restarts, and the leader does not hear of its followers.
    for node in 1..=3 {
        cluster.crash(node, Tail::Kept);
    }
    cluster.cut(1, 2);
    cluster.cut(1, 3);
    cluster.restart_controller();
    for node in [2, 3, 1] {
        cluster.start(node);
    }
    let leader = cluster.partition(topic, 0).leader.unwrap();
    cluster.heal();
    let client = cluster.connect(leader);
    cluster.advance(Duration::from_secs(3));
    assert_eq!(cluster.list_offset(client, "t", -1).offset, 1);
}

#[test]
fn a_fetch_ends_when_the_partition_moves() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    let mut request = FetchRequest { max_wait_ms: 25_000, ..fetch_request(topic, 0) };
    request.topics[0].partitions[0].current_leader_epoch = 0;
    cluster.send(client, FETCH, &request);
    // The controller loses the node, and the node hears of it.
    cluster.freeze(1);
    cluster.advance(Duration::from_secs(10));
    cluster.thaw(1);
    cluster.advance(Duration::from_secs(3));
    let data = fetched(&cluster.reply::<FetchRequest>(client, FETCH).unwrap());
    assert_eq!(data.error_code, ErrorCode::FENCED_LEADER_EPOCH);
    assert_eq!(data.current_leader.leader_id, 2);
}

/// As Apache Kafka has it: what is asked twice has no answer, and the others have theirs.
#[test]
fn an_offset_that_is_asked_for_twice_is_refused() {
    let mut cluster = Cluster::new(1);
    cluster.create("t", &[&[1], &[1]], &[]);
    let client = cluster.connect(1);
    let partition =
        |partition_index| ListOffsetsPartition { partition_index, timestamp: -1, current_leader_epoch: -1 };
    let topic = |numbers: &[i32]| ListOffsetsTopic {
        name: "t".into(),
        partitions: numbers.iter().copied().map(partition).collect(),
    };
    for topics in [vec![topic(&[0, 1, 0])], vec![topic(&[0, 1]), topic(&[0])]] {
        let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
        let response = cluster.call(client, 10, &request);
        let answers = response.topics.iter().flat_map(|topic| &topic.partitions);
        let codes: Vec<_> = answers.map(|answer| (answer.partition_index, answer.error_code)).collect();
        let refused = (0, ErrorCode::INVALID_REQUEST);
        assert_eq!(codes, [refused, (1, ErrorCode::NONE), refused]);
    }
}
