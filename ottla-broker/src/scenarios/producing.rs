//! Producing: what is checked, what is remembered, who answers.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use ottla_protocol::messages::{InitProducerIdRequest, ProduceRequest};
use ottla_protocol::{BatchBuilder, ErrorCode, TopicId};

use super::harness::{Client, Cluster, WALL_MS, builder, plain, sequenced};
use super::requests::{PRODUCE, fetch_request, fetched, produce_request, produced};
use crate::disk::Tail;
use crate::io::CloseReason;

fn single(config: &[(&str, &str)]) -> (Cluster, Client, TopicId) {
    let mut cluster = Cluster::new(1);
    let topic = cluster.create("t", &[&[1]], config);
    let client = cluster.connect(1);
    (cluster, client, topic)
}

#[test]
fn offsets_are_given_in_order() {
    let (mut cluster, client, topic) = single(&[]);
    assert_eq!(cluster.produce(client, topic, plain(&["a", "b"])).base_offset, 0);
    let answer = cluster.produce(client, topic, plain(&["c"]));
    assert_eq!((answer.base_offset, answer.log_append_time_ms, answer.log_start_offset), (2, -1, 0));
    assert_eq!(cluster.read_all(client, topic), ["a", "b", "c"]);
    cluster.assert_at_rest();
}

#[test]
fn a_batch_that_comes_again_is_answered_with_its_first_offset() {
    let (mut cluster, client, topic) = single(&[]);
    for base in (0..10).step_by(2) {
        let batch = sequenced(&["x", "y"], 7, 0, base);
        assert_eq!(cluster.produce(client, topic, batch).base_offset, i64::from(base));
    }
    for base in (0..10).step_by(2) {
        let answer = cluster.produce(client, topic, sequenced(&["x", "y"], 7, 0, base));
        assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, i64::from(base)));
    }
    assert_eq!(cluster.read_all(client, topic).len(), 10);
}

#[test]
fn a_gap_in_the_sequence_is_refused() {
    let (mut cluster, client, topic) = single(&[]);
    cluster.produce(client, topic, sequenced(&["a"], 7, 0, 0));
    let gap = sequenced(&["c"], 7, 0, 2);
    assert_eq!(cluster.produce_error(client, topic, gap), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
}

#[test]
fn an_older_epoch_is_refused_and_a_new_one_begins_at_zero() {
    let (mut cluster, client, topic) = single(&[]);
    cluster.produce(client, topic, sequenced(&["a"], 7, 1, 0));
    let old = sequenced(&["b"], 7, 0, 1);
    assert_eq!(cluster.produce_error(client, topic, old), ErrorCode::INVALID_PRODUCER_EPOCH);
    let misnumbered = sequenced(&["b"], 7, 2, 1);
    assert_eq!(cluster.produce_error(client, topic, misnumbered), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(cluster.produce_error(client, topic, sequenced(&["b"], 7, 2, 0)), ErrorCode::NONE);
}

#[test]
fn producers_are_remembered_over_a_restart() {
    let (mut cluster, client, topic) = single(&[]);
    cluster.produce(client, topic, sequenced(&["a"], 7, 0, 0));
    cluster.crash(1, Tail::Kept);
    cluster.start(1);
    let client = cluster.connect(1);
    assert_eq!(cluster.produce(client, topic, sequenced(&["a"], 7, 0, 0)).base_offset, 0);
    let gap = sequenced(&["c"], 7, 0, 2);
    assert_eq!(cluster.produce_error(client, topic, gap), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
}

#[test]
fn producers_are_remembered_by_the_next_leader() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    cluster.produce(client, topic, sequenced(&["a"], 7, 0, 0));
    cluster.crash(1, Tail::Lost);
    cluster.advance(Duration::from_secs(10));
    let client = cluster.connect(2);
    assert_eq!(cluster.produce(client, topic, sequenced(&["a"], 7, 0, 0)).base_offset, 0);
    assert_eq!(cluster.produce(client, topic, sequenced(&["b"], 7, 0, 1)).base_offset, 1);
}

#[test]
fn damaged_and_foreign_batches_are_refused() {
    let (mut cluster, client, topic) = single(&[]);
    let altered = |change: fn(&mut BytesMut)| {
        let mut batch = BytesMut::from(&plain(&["a", "b"])[..]);
        change(&mut batch);
        batch.freeze()
    };
    let cases = [
        ("crc", altered(|batch| batch[65] ^= 1), ErrorCode::CORRUPT_MESSAGE),
        ("cut", altered(|batch| batch.truncate(70)), ErrorCode::CORRUPT_MESSAGE),
        ("magic", altered(|batch| batch[16] = 1), ErrorCode::INVALID_RECORD),
        ("nothing", Bytes::new(), ErrorCode::INVALID_RECORD),
        ("two", Bytes::from([plain(&["a"]), plain(&["b"])].concat()), ErrorCode::INVALID_RECORD),
        ("offset", altered(|batch| batch[7] = 1), ErrorCode::INVALID_RECORD),
    ];
    for (what, records, error) in cases {
        assert_eq!(cluster.produce_error(client, topic, records), error, "{what}");
    }
    assert_eq!(cluster.produce(client, topic, plain(&["c"])).base_offset, 0);
}

#[test]
fn a_compacted_topic_names_the_records_that_have_no_key() {
    let (mut cluster, client, topic) = single(&[("cleanup.policy", "compact")]);
    let batch = |keys: &[Option<&[u8]>]| {
        let mut batch = BatchBuilder::new(1024);
        for key in keys {
            batch.append(WALL_MS, *key, Some(b"v"), [].into_iter()).unwrap();
        }
        let mut batch = batch.seal();
        batch.stamp_without_producer();
        batch.into_bytes()
    };
    let answer = cluster.produce(client, topic, batch(&[Some(b"a"), None, Some(b"b"), None]));
    let culprits: Vec<_> = answer.record_errors.iter().map(|culprit| culprit.batch_index).collect();
    assert_eq!((answer.error_code, culprits), (ErrorCode::INVALID_RECORD, vec![1, 3]));
    assert_eq!(cluster.produce(client, topic, batch(&[Some(b"a"), Some(b"")])).base_offset, 0);
}

#[test]
fn batches_that_only_a_broker_may_write_are_refused() {
    let (mut cluster, client, topic) = single(&[]);
    let mut control = builder(&[(WALL_MS, "x")]).control(true).seal();
    control.stamp_without_producer();
    assert_eq!(cluster.produce_error(client, topic, control.into_bytes()), ErrorCode::INVALID_RECORD);
    let mut transactional = builder(&[(WALL_MS, "x")]).transactional(true).seal();
    transactional.stamp(7, 0, 0);
    assert_eq!(
        cluster.produce_error(client, topic, transactional.into_bytes()),
        ErrorCode::INVALID_TXN_STATE
    );
}

#[test]
fn a_batch_larger_than_the_topic_allows_is_refused() {
    let (mut cluster, client, topic) = single(&[("max.message.bytes", "200")]);
    let large = plain(&[&"x".repeat(200)]);
    assert_eq!(cluster.produce_error(client, topic, large), ErrorCode::MESSAGE_TOO_LARGE);
    assert_eq!(cluster.produce_error(client, topic, plain(&["x"])), ErrorCode::NONE);
}

#[test]
fn a_record_from_the_future_is_refused() {
    let (mut cluster, client, topic) = single(&[]);
    let mut future = builder(&[(WALL_MS + 7_200_000, "x")]).seal();
    future.stamp_without_producer();
    assert_eq!(cluster.produce_error(client, topic, future.into_bytes()), ErrorCode::INVALID_TIMESTAMP);
}

#[test]
fn a_topic_may_want_the_time_of_the_broker() {
    let (mut cluster, client, topic) = single(&[("message.timestamp.type", "LogAppendTime")]);
    cluster.advance(Duration::from_secs(5));
    let now = cluster.now().wall_ms;
    let answer = cluster.produce(client, topic, plain(&["a"]));
    assert_eq!(answer.log_append_time_ms, now);
    // The checksum is right although the header was changed.
    assert_eq!(cluster.read_all(client, topic), ["a"]);
    assert_eq!(cluster.list_offset(client, "t", now).timestamp, now);
}

#[test]
fn who_asks_the_wrong_node_is_told_the_leader() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1]], &[]);
    let client = cluster.connect(2);
    let response = cluster.call(client, PRODUCE, &produce_request(topic, -1, plain(&["a"])));
    let answer = produced(&response);
    assert_eq!(answer.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!((answer.current_leader.leader_id, answer.current_leader.leader_epoch), (1, 0));
    assert_eq!((response.node_endpoints[0].node_id, response.node_endpoints[0].port), (1, 9092));
}

#[test]
fn who_asks_the_wrong_node_in_an_old_version_is_told_that_it_is_wrong() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1]], &[]);
    let client = cluster.connect(2);
    for version in 3..10 {
        let mut request = produce_request(topic, -1, plain(&["a"]));
        request.topic_data[0].name = "t".into();
        request.topic_data[0].topic_id = TopicId::ZERO;
        let answer = produced(&cluster.call(client, version, &request));
        assert_eq!(answer.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER, "version {version}");
    }
    for version in 4..16 {
        let mut request = fetch_request(topic, 0);
        if version < 13 {
            request.topics[0].topic = "t".into();
            request.topics[0].topic_id = TopicId::ZERO;
        }
        let answer = fetched(&cluster.call(client, version, &request));
        assert_eq!(answer.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER, "version {version}");
    }
}

#[test]
fn topics_that_do_not_exist_are_told_apart_by_version() {
    let (mut cluster, client, _) = single(&[]);
    let request = produce_request(TopicId([9; 16]), -1, plain(&["a"]));
    assert_eq!(produced(&cluster.call(client, 13, &request)).error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    let mut request = produce_request(TopicId::ZERO, -1, plain(&["a"]));
    request.topic_data[0].name = "unknown".into();
    assert_eq!(
        produced(&cluster.call(client, 9, &request)).error_code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
    request.topic_data[0].name = "t".into();
    request.topic_data[0].partition_data[0].index = 5;
    assert_eq!(
        produced(&cluster.call(client, 9, &request)).error_code,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
    );
}

#[test]
fn every_version_is_answered() {
    let (mut cluster, client, topic) = single(&[]);
    for version in 3..=13 {
        let mut request = produce_request(topic, -1, plain(&["a"]));
        request.topic_data[0].name = "t".into();
        if version < 13 {
            request.topic_data[0].topic_id = TopicId::ZERO;
        }
        let answer = produced(&cluster.call(client, version, &request));
        assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, i64::from(version) - 3));
    }
}

#[test]
fn acks_are_minus_one_to_one() {
    let (mut cluster, client, topic) = single(&[]);
    let answer = produced(&cluster.call(client, PRODUCE, &produce_request(topic, 2, plain(&["a"]))));
    assert_eq!(answer.error_code, ErrorCode::INVALID_REQUIRED_ACKS);
}

#[test]
fn a_partition_is_named_once_in_a_request() {
    let (mut cluster, client, topic) = single(&[]);
    let mut same_topic = produce_request(topic, -1, plain(&["a"]));
    let entry = same_topic.topic_data[0].partition_data[0].clone();
    same_topic.topic_data[0].partition_data.push(entry);
    let mut topic_again = produce_request(topic, -1, plain(&["a"]));
    topic_again.topic_data.extend(produce_request(topic, -1, plain(&["b"])).topic_data);
    for request in [same_topic, topic_again] {
        let response = cluster.call(client, PRODUCE, &request);
        let answers = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        let errors: Vec<_> = answers.map(|answer| answer.error_code).collect();
        assert_eq!(errors, [ErrorCode::INVALID_REQUEST; 2]);
    }
    assert_eq!(cluster.produce(client, topic, plain(&["c"])).base_offset, 0, "nothing was appended");
}

#[test]
fn without_acks_there_is_no_answer_and_a_failure_closes_the_connection() {
    let (mut cluster, client, topic) = single(&[]);
    cluster.send(client, PRODUCE, &produce_request(topic, 0, plain(&["a"])));
    assert!(cluster.reply::<ProduceRequest>(client, PRODUCE).is_none());
    assert_eq!(cluster.read_all(client, topic), ["a"]);
    cluster.send(client, PRODUCE, &produce_request(topic, 0, Bytes::new()));
    assert!(matches!(cluster.closed(client), Some(CloseReason::UnacknowledgedFailure(_))));
}

#[test]
fn requests_of_a_connection_are_answered_in_order() {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    cluster.slow_disk(2);
    cluster.send(client, PRODUCE, &produce_request(topic, -1, plain(&["a"])));
    cluster.send(client, super::requests::FETCH, &fetch_request(topic, 0));
    cluster.advance(Duration::from_secs(1));
    assert!(cluster.reply::<ProduceRequest>(client, PRODUCE).is_none());
    cluster.fast_disk(2);
    assert!(produced(&cluster.reply::<ProduceRequest>(client, PRODUCE).unwrap()).error_code.is_ok());
    let response =
        cluster.reply::<ottla_protocol::messages::FetchRequest>(client, super::requests::FETCH).unwrap();
    assert_eq!(fetched(&response).high_watermark, 1);
}

#[test]
fn producer_ids_are_never_given_twice() {
    let mut cluster = Cluster::new(2);
    let mut ids = Vec::new();
    for round in 0..3 {
        for node in [1, 2] {
            let client = cluster.connect(node);
            let request = InitProducerIdRequest { transactional_id: None, ..Default::default() };
            let response = cluster.call(client, 5, &request);
            assert_eq!((response.error_code, response.producer_epoch), (ErrorCode::NONE, 0));
            ids.push(response.producer_id);
        }
        if round == 1 {
            cluster.crash(1, Tail::Lost);
            cluster.restart_controller();
            cluster.start(1);
            cluster.advance(Duration::from_secs(5));
        }
    }
    let mut unique = ids.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");
}
