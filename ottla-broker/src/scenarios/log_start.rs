//! Logs that do not begin at offset 0: `DeleteRecords`, retention, and what followers, crashes and producers make of it.

use std::time::Duration;

use ottla_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use ottla_protocol::messages::delete_records_response::DeleteRecordsPartitionResult;
use ottla_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use ottla_protocol::messages::{DeleteRecordsRequest, FetchRequest, OffsetForLeaderEpochRequest};
use ottla_protocol::{ErrorCode, TopicId};

use super::harness::{Client, Cluster, WALL_MS, builder, plain, sequenced, values};
use super::requests::{FETCH, fetch_request, fetched};
use crate::cluster::ClusterConfig;
use crate::disk::Tail;
use crate::io::FileId;

const SESSION: Duration = Duration::from_secs(10);
const DELETE_RECORDS: i16 = 2;
const EARLIEST: i64 = -2;

fn request(topic: &str, partition_index: i32, offset: i64) -> DeleteRecordsRequest {
    let partitions = vec![DeleteRecordsPartition { partition_index, offset }];
    let topics = vec![DeleteRecordsTopic { name: topic.into(), partitions }];
    DeleteRecordsRequest { topics, timeout_ms: 10_000 }
}

impl Cluster {
    fn delete_records(
        &mut self,
        client: Client,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> DeleteRecordsPartitionResult {
        let response = self.call(client, DELETE_RECORDS, &request(topic, partition, offset));
        assert_eq!(&*response.topics[0].name, topic);
        response.topics[0].partitions[0].clone()
    }

    /// The low watermark.
    fn drop_below(&mut self, client: Client, topic: &str, offset: i64) -> i64 {
        let result = self.delete_records(client, topic, 0, offset);
        assert_eq!(result.error_code, ErrorCode::NONE, "{result:?}");
        result.low_watermark
    }

    /// What a consumer reads from an offset on.
    fn read_from(&mut self, client: Client, topic: TopicId, offset: i64) -> Vec<String> {
        let data = self.fetch(client, topic, offset);
        assert!(data.error_code.is_ok(), "{data:?}");
        values(data.records.unwrap())
    }

    fn earliest(&mut self, client: Client, topic: &str) -> (i64, i32) {
        let found = self.list_offset(client, topic, EARLIEST);
        assert_eq!(found.error_code, ErrorCode::NONE);
        (found.offset, found.leader_epoch)
    }
}

/// Three replicas of four batches of two records, led by node 1.
fn three() -> (Cluster, Client, TopicId) {
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let client = cluster.connect(1);
    for batch in [["a", "b"], ["c", "d"], ["e", "f"], ["g", "h"]] {
        cluster.produce(client, topic, plain(&batch));
    }
    (cluster, client, topic)
}

#[test]
fn a_log_begins_where_it_was_told_on_every_replica() {
    let (mut cluster, client, topic) = three();
    assert_eq!(cluster.drop_below(client, "t", 3), 3);
    assert_eq!(cluster.earliest(client, "t"), (3, 0));
    for below in [0, 2] {
        let data = cluster.fetch(client, topic, below);
        assert_eq!((data.error_code, data.log_start_offset), (ErrorCode::OFFSET_OUT_OF_RANGE, -1));
    }
    let data = cluster.fetch(client, topic, 3);
    assert_eq!((data.log_start_offset, data.high_watermark), (3, 8));
    let records = values(data.records.unwrap());
    assert_eq!(records, ["c", "d", "e", "f", "g", "h"], "whole batches, as ever");
    for node in 1..=3 {
        assert_eq!(cluster.stored(node, topic, 0), ["c", "d", "e", "f", "g", "h"], "on node {node}");
    }
    assert_eq!(cluster.drop_below(client, "t", 1), 3, "a log does not begin earlier again");
    let answer = cluster.produce(client, topic, plain(&["i"]));
    assert_eq!((answer.base_offset, answer.log_start_offset), (8, 3));
    cluster.assert_at_rest();
}

#[test]
fn everything_that_is_committed_can_go_and_the_log_goes_on() {
    let (mut cluster, client, topic) = three();
    assert_eq!(cluster.drop_below(client, "t", -1), 8);
    assert_eq!(cluster.earliest(client, "t"), (8, 0));
    for node in 1..=3 {
        assert!(cluster.stored(node, topic, 0).is_empty());
    }
    assert_eq!(cluster.produce(client, topic, plain(&["i"])).base_offset, 8);
    assert_eq!(cluster.read_from(client, topic, 8), ["i"]);
    assert_eq!(cluster.list_offset(client, "t", WALL_MS).offset, 8);
}

#[test]
fn what_cannot_go_is_refused_as_kafka_does_it() {
    let (mut cluster, client, _) = three();
    cluster.create("compacted", &[&[1]], &[("cleanup.policy", "compact")]);
    cluster.create("both", &[&[1]], &[("cleanup.policy", "compact,delete")]);
    cluster.create("__consumer_offsets", &[&[1]], &[]);
    let elsewhere = cluster.connect(2);
    for (to, topic, partition, offset, error) in [
        (client, "t", 0, 9, ErrorCode::OFFSET_OUT_OF_RANGE),
        (client, "t", 0, -2, ErrorCode::OFFSET_OUT_OF_RANGE),
        (client, "t", 1, 0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (client, "nobody", 0, 0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (elsewhere, "t", 0, 1, ErrorCode::NOT_LEADER_OR_FOLLOWER),
        (client, "compacted", 0, 0, ErrorCode::POLICY_VIOLATION),
        (client, "__consumer_offsets", 0, 0, ErrorCode::INVALID_TOPIC_EXCEPTION),
    ] {
        let result = cluster.delete_records(to, topic, partition, offset);
        assert_eq!((result.error_code, result.low_watermark), (error, -1), "{topic}-{partition} at {offset}");
    }
    assert_eq!(cluster.drop_below(client, "both", 0), 0);
}

#[test]
fn the_answer_waits_for_every_replica_that_lives() {
    let (mut cluster, client, topic) = three();
    cluster.cut(1, 3);
    cluster.send(client, DELETE_RECORDS, &request("t", 0, 4));
    cluster.advance(Duration::from_secs(4));
    assert!(cluster.reply::<DeleteRecordsRequest>(client, DELETE_RECORDS).is_none());
    cluster.heal();
    cluster.advance(Duration::from_secs(4));
    let response = cluster.reply::<DeleteRecordsRequest>(client, DELETE_RECORDS).unwrap();
    let result = &response.topics[0].partitions[0];
    assert_eq!((result.error_code, result.low_watermark), (ErrorCode::NONE, 4));
    assert_eq!(cluster.stored(3, topic, 0), ["e", "f", "g", "h"]);

    cluster.cut(1, 3);
    let late = cluster.delete_records(client, "t", 0, 6);
    assert_eq!((late.error_code, late.low_watermark), (ErrorCode::REQUEST_TIMED_OUT, 4));
    assert_eq!(cluster.earliest(client, "t").0, 6, "the leader has dropped it all the same");

    cluster.crash(3, Tail::Kept);
    cluster.heal();
    cluster.advance(SESSION);
    assert_eq!(cluster.drop_below(client, "t", 7), 7, "who is down is not waited for");
    cluster.assert_at_rest();
}

#[test]
fn the_beginning_survives_crashes_and_so_does_the_end_of_a_log_without_records() {
    for (offset, left) in [(3, &["c", "d", "e", "f", "g", "h"][..]), (8, &[])] {
        for tail in [Tail::Kept, Tail::Lost, Tail::Torn(100)] {
            let (mut cluster, client, topic) = three();
            cluster.drop_below(client, "t", offset);
            for node in 1..=3 {
                cluster.crash(node, tail);
            }
            for node in 1..=3 {
                cluster.start(node);
            }
            cluster.advance(SESSION);
            let leader = cluster.partition(topic, 0).leader.unwrap();
            let client = cluster.connect(leader);
            assert_eq!(cluster.earliest(client, "t").0, offset, "{tail:?}");
            let end = cluster.produce(client, topic, plain(&["z"])).base_offset;
            match tail {
                Tail::Kept => {
                    assert_eq!(end, 8);
                    let all = [left, &["z"]].concat();
                    assert_eq!(cluster.read_from(client, topic, offset), all);
                }
                _ => assert!(end >= offset, "{end}"),
            }
        }
    }
}

#[test]
fn a_follower_that_lacks_what_was_dropped_begins_where_the_leader_does() {
    let (mut cluster, client, topic) = three();
    cluster.crash(3, Tail::Kept);
    cluster.advance(SESSION);
    for batch in [["i", "j"], ["k", "l"]] {
        cluster.produce(client, topic, sequenced(&batch, 9, 0, if batch[0] == "i" { 0 } else { 2 }));
    }
    cluster.drop_below(client, "t", 11);
    cluster.start(3);
    cluster.advance(SESSION);
    assert_eq!(cluster.stored(3, topic, 0), ["k", "l"]);
    assert_eq!(cluster.partition(topic, 0).isr.len(), 3);
    for node in [1, 2] {
        cluster.crash(node, Tail::Kept);
    }
    cluster.advance(SESSION);
    assert_eq!(cluster.partition(topic, 0).leader, Some(3));
    let client = cluster.connect(3);
    assert_eq!(cluster.earliest(client, "t").0, 11);
    cluster.start(1);
    cluster.advance(SESSION);
    // It was never there, and is known all the same.
    let again = cluster.produce(client, topic, sequenced(&["i", "j"], 9, 0, 0));
    assert_eq!((again.error_code, again.base_offset), (ErrorCode::NONE, 8));
    let next = cluster.produce(client, topic, sequenced(&["m"], 9, 0, 4));
    assert_eq!((next.error_code, next.base_offset), (ErrorCode::NONE, 12));
}

#[test]
fn a_follower_that_is_down_while_everything_goes_begins_at_the_end() {
    let (mut cluster, client, topic) = three();
    cluster.crash(3, Tail::Kept);
    cluster.advance(SESSION);
    cluster.produce(client, topic, plain(&["i"]));
    cluster.drop_below(client, "t", -1);
    cluster.start(3);
    cluster.advance(SESSION);
    assert_eq!(cluster.partition(topic, 0).isr.len(), 3);
    cluster.crash(1, Tail::Kept);
    cluster.crash(2, Tail::Kept);
    cluster.advance(SESSION);
    cluster.crash(3, Tail::Lost);
    cluster.start(3);
    cluster.advance(SESSION);
    let client = cluster.connect(3);
    assert_eq!(cluster.earliest(client, "t").0, 9, "which its disk knows, though it has no log");
}

#[test]
fn a_follower_whose_disk_has_lost_everything_behind_the_beginning_gets_it_again() {
    let (mut cluster, client, topic) = three();
    cluster.drop_below(client, "t", 3);
    cluster.crash(3, Tail::Lost);
    cluster.start(3);
    cluster.advance(SESSION);
    assert_eq!(
        cluster.stored(3, topic, 0),
        cluster.stored(1, topic, 0),
        "also the batch that holds the beginning"
    );
    assert_eq!(cluster.partition(topic, 0).isr.len(), 3);
    cluster.produce(client, topic, plain(&["i"]));
    assert_eq!(cluster.stored(3, topic, 0).len(), 7);
    cluster.assert_at_rest();
}

#[test]
fn producers_of_dropped_records_go_on_and_their_repetitions_are_known() {
    for restart in [false, true] {
        let mut cluster = Cluster::new(1);
        let topic = cluster.create("t", &[&[1]], &[]);
        let mut client = cluster.connect(1);
        for (value, sequence) in [("a", 0), ("b", 1), ("c", 2)] {
            cluster.produce(client, topic, sequenced(&[value], 9, 0, sequence));
        }
        cluster.drop_below(client, "t", -1);
        if restart {
            cluster.crash(1, Tail::Lost);
            cluster.start(1);
            cluster.advance(SESSION);
            client = cluster.connect(1);
        }
        let again = cluster.produce(client, topic, sequenced(&["b"], 9, 0, 1));
        assert_eq!((again.error_code, again.base_offset), (ErrorCode::NONE, 1));
        let gap = cluster.produce_error(client, topic, sequenced(&["x"], 9, 0, 7));
        assert_eq!(gap, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        assert_eq!(cluster.produce(client, topic, sequenced(&["d"], 9, 0, 3)).base_offset, 3);
    }
}

#[test]
fn a_record_is_found_by_its_time_only_where_it_can_be_read() {
    let mut cluster = Cluster::new(1);
    let topic = cluster.create("t", &[&[1]], &[]);
    let client = cluster.connect(1);
    for times in [[10, 90], [20, 30], [40, 90]] {
        let timed = times.map(|time| (WALL_MS + time, "x"));
        let mut batch = builder(&timed).seal();
        batch.stamp_without_producer();
        cluster.produce(client, topic, batch.into_bytes());
    }
    let mut at = |time| cluster.list_offset(client, "t", WALL_MS + time).offset;
    assert_eq!([at(5), at(15), at(25), at(95)], [0, 1, 1, -1]);
    cluster.drop_below(client, "t", 1);
    let mut at = |time| cluster.list_offset(client, "t", WALL_MS + time).offset;
    assert_eq!([at(5), at(85)], [1, 1]);
    cluster.drop_below(client, "t", 5);
    let mut at = |time| cluster.list_offset(client, "t", WALL_MS + time).offset;
    assert_eq!([at(5), at(35), at(95)], [5, 5, -1]);
}

#[test]
fn a_record_that_lies_before_the_start_in_its_batch_is_not_found_by_time() {
    let mut cluster = Cluster::new(1);
    let topic = cluster.create("t", &[&[1]], &[]);
    let client = cluster.connect(1);
    for times in [[90, 10], [20, 30], [40, 95]] {
        let timed = times.map(|time| (WALL_MS + time, "x"));
        let mut batch = builder(&timed).seal();
        batch.stamp_without_producer();
        cluster.produce(client, topic, batch.into_bytes());
    }
    cluster.drop_below(client, "t", 1);
    let mut at = |time| cluster.list_offset(client, "t", WALL_MS + time).offset;
    assert_eq!([at(5), at(15), at(35), at(85), at(96)], [1, 2, 4, 5, -1]);
}

#[test]
fn an_epoch_below_the_start_ends_where_the_log_begins() {
    let (mut cluster, client, topic) = three();
    cluster.drop_below(client, "t", -1);
    cluster.crash(1, Tail::Kept);
    cluster.advance(SESSION);
    let partition = cluster.partition(topic, 0);
    let client = cluster.connect(partition.leader.unwrap());
    cluster.produce(client, topic, plain(&["z"]));
    cluster.drop_below(client, "t", -1);
    let wanted = OffsetForLeaderPartition { current_leader_epoch: -1, leader_epoch: 0, ..Default::default() };
    let topics = vec![OffsetForLeaderTopic { topic: "t".into(), partitions: vec![wanted] }];
    let request = OffsetForLeaderEpochRequest { replica_id: -1, topics };
    let end = cluster.call(client, 4, &request).topics[0].partitions[0].clone();
    assert_eq!((end.leader_epoch, end.end_offset), (0, 9));
    let mut fetch = fetch_request(topic, 4);
    fetch.topics[0].partitions[0].last_fetched_epoch = 0;
    let data = fetched(&cluster.call::<FetchRequest>(client, FETCH, &fetch));
    assert_eq!(data.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
}

#[test]
fn records_expire_by_age_and_by_bytes() {
    let config = ClusterConfig {
        retention_check_interval: Duration::from_secs(30),
        ..ClusterConfig::with_nodes(3, "x", 1)
    };
    for (setting, left) in
        [(("retention.ms", "60000"), 4), (("retention.bytes", "150"), 4), (("segment.ms", "1"), 0)]
    {
        let mut cluster = Cluster::with(config.clone());
        let topic = cluster.create("t", &[&[1, 2, 3]], &[setting]);
        let client = cluster.connect(1);
        for age in [90_000, 61_000, 0] {
            let mut batch = builder(&[(WALL_MS - age, "x"), (WALL_MS - age, "y")]).seal();
            batch.stamp_without_producer();
            cluster.produce(client, topic, batch.into_bytes());
        }
        cluster.advance(Duration::from_secs(29));
        assert_eq!(cluster.earliest(client, "t").0, 0);
        cluster.advance(Duration::from_secs(4));
        let expected = if setting.0 == "retention.bytes" { 2 } else { left };
        assert_eq!(cluster.earliest(client, "t").0, expected, "{setting:?}");
        for node in 1..=3 {
            assert_eq!(cluster.stored(node, topic, 0).len() as i64, 6 - expected);
        }
        if setting.0 == "retention.ms" {
            cluster.advance(Duration::from_secs(60));
            assert_eq!(cluster.earliest(client, "t").0, 6);
            cluster.delete_records(client, "t", 0, 6);
        }
    }
}

#[test]
fn what_was_dropped_takes_no_room_and_nothing_is_left_of_a_topic_that_goes() {
    let (mut cluster, client, topic) = three();
    cluster.drop_below(client, "t", 8);
    for node in 1..=3 {
        assert_eq!(cluster.nodes[&node].disk.contents(&FileId::Log(topic, 0)).unwrap().len(), 0);
    }
    let request = ottla_protocol::messages::DeleteTopicsRequest {
        topic_names: vec!["t".into()],
        timeout_ms: 1000,
        ..Default::default()
    };
    cluster.call(client, 5, &request);
    for host in cluster.nodes.values() {
        assert!(host.disk.files().all(|file| file.log().is_none()), "{:?}", host.disk);
    }
}
