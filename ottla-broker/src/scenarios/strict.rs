//! Clients that misbehave, one for each rule, and what a strict node says of them.

use std::time::Duration;

use ottla_protocol::messages::{
    ApiVersionsRequest, DeleteTopicsRequest, FetchRequest, ListOffsetsRequest, MetadataRequest,
    OffsetForLeaderEpochRequest, ProduceRequest, SyncGroupRequest,
    delete_topics_request::DeleteTopicState,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
};
use ottla_protocol::{ErrorCode, Str, TopicId};

use super::group_requests::{Member, SYNC, join_request, sync_request};
use super::harness::{Client, Cluster, sequenced};
use super::requests::{FETCH, PRODUCE, fetch_request, produce_request};
use crate::faults::{Effect, Fault};
use crate::strict::Rule;

const SECOND: Duration = Duration::from_secs(1);

fn single() -> (Cluster, Client, TopicId) {
    let mut cluster = Cluster::new(1);
    let topic = cluster.create("t", &[&[1]], &[]);
    let client = cluster.connect(1);
    (cluster, client, topic)
}

fn broken(cluster: &Cluster) -> Vec<Rule> {
    cluster.strict.violations().iter().map(|violation| violation.rule).collect()
}

fn send(cluster: &mut Cluster, client: Client, topic: TopicId, batch: bytes::Bytes) {
    cluster.send(client, PRODUCE, &produce_request(topic, -1, batch));
}

/// Produce requests wait until this is over, and the next ones come meanwhile.
fn slow(cluster: &Cluster) {
    cluster.faults.add(Fault::on::<ProduceRequest>(Effect::Delay(SECOND)));
}

#[test]
fn who_does_nothing_wrong_breaks_no_rule() {
    let (mut cluster, client, topic) = single();
    for sequence in 0..20 {
        cluster.produce(client, topic, sequenced(&["x"], 7, 0, sequence));
    }
    let again = cluster.connect(1);
    cluster.produce(again, topic, sequenced(&["x"], 7, 0, 19));
    cluster.produce(again, topic, sequenced(&["x"], 7, 1, 0));
    // It was sent before the epoch was raised, and arrives late on an older connection.
    cluster.produce_error(client, topic, sequenced(&["x"], 7, 0, 20));
    let full = FetchRequest { session_epoch: 0, max_wait_ms: 0, ..fetch_request(topic, 0) };
    let id = cluster.call(client, FETCH, &full).session_id;
    for session_epoch in 1..4 {
        let next = FetchRequest { session_id: id, session_epoch, topics: Vec::new(), ..full.clone() };
        cluster.call(client, FETCH, &next);
    }
    assert_eq!(cluster.strict.violations(), []);
}

#[test]
fn a_version_that_nobody_offered() {
    let (mut cluster, client, _) = single();
    let frame = bytes::Bytes::from_static(b"\0\x03\0\x63\0\0\0\x01\0\x01x\0");
    cluster.input(1, crate::io::Input::Frame(client.connection, frame));
    assert_eq!(broken(&cluster), [Rule::OfferedVersions]);
}

#[test]
fn a_request_in_the_middle_of_a_throttle_window() {
    let (mut cluster, client, _) = single();
    let throttle = Effect::Throttle(30 * SECOND);
    cluster.faults.add(Fault::on::<MetadataRequest>(throttle).times(1));
    cluster.call(client, 12, &MetadataRequest::default());
    // It may have been under way when the answer was.
    cluster.send(client, 12, &MetadataRequest::default());
    assert_eq!(broken(&cluster), []);
    cluster.advance(20 * SECOND);
    cluster.send(client, 12, &MetadataRequest::default());
    assert_eq!(broken(&cluster), [Rule::ThrottleWindow]);
    cluster.advance(11 * SECOND);
    cluster.send(client, 12, &MetadataRequest::default());
    assert_eq!(broken(&cluster).len(), 1);
}

#[test]
fn more_than_five_produce_requests_under_way() {
    let (mut cluster, client, topic) = single();
    cluster.produce(client, topic, sequenced(&["x"], 7, 0, 0));
    slow(&cluster);
    for sequence in 1..=5 {
        send(&mut cluster, client, topic, sequenced(&["x"], 7, 0, sequence));
    }
    assert_eq!(broken(&cluster), []);
    send(&mut cluster, client, topic, sequenced(&["x"], 7, 0, 6));
    assert_eq!(broken(&cluster), [Rule::InFlight]);
}

#[test]
fn a_second_batch_before_the_first_one_of_its_epoch_is_acknowledged() {
    let (mut cluster, client, topic) = single();
    slow(&cluster);
    send(&mut cluster, client, topic, sequenced(&["x"], 7, 0, 0));
    send(&mut cluster, client, topic, sequenced(&["x"], 8, 0, 0));
    assert_eq!(broken(&cluster), []);
    send(&mut cluster, client, topic, sequenced(&["x"], 7, 0, 1));
    assert_eq!(broken(&cluster), [Rule::FirstBatchAlone]);
}

#[test]
fn an_answer_that_waits_is_not_taken_for_that_of_the_next_request() {
    let (mut cluster, client, topic) = single();
    let late = Effect::DelayAnswer(SECOND);
    cluster.faults.add(Fault::on::<ProduceRequest>(late).times(1));
    send(&mut cluster, client, topic, sequenced(&["x"], 7, 0, 0));
    send(&mut cluster, client, topic, sequenced(&["x"], 8, 0, 0));
    cluster.advance(2 * SECOND);
    slow(&cluster);
    send(&mut cluster, client, topic, sequenced(&["x"], 8, 0, 1));
    send(&mut cluster, client, topic, sequenced(&["x"], 8, 0, 2));
    assert_eq!(broken(&cluster), []);
}

#[test]
fn a_refused_first_batch_is_no_acknowledgement() {
    let (mut cluster, client, topic) = single();
    let refuse = Effect::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS);
    cluster.faults.add(Fault::on::<ProduceRequest>(refuse).times(1));
    cluster.produce_error(client, topic, sequenced(&["x"], 7, 0, 0));
    slow(&cluster);
    send(&mut cluster, client, topic, sequenced(&["x"], 7, 0, 0));
    send(&mut cluster, client, topic, sequenced(&["x"], 7, 0, 1));
    assert_eq!(broken(&cluster), [Rule::FirstBatchAlone]);
}

#[test]
fn other_records_under_sequences_that_were_written() {
    for (values, first) in [(&["y", "z"][..], 1), (&["x"][..], 1), (&["x", "x", "x"][..], 1)] {
        let (mut cluster, client, topic) = single();
        cluster.produce(client, topic, sequenced(&["x"], 7, 0, 0));
        cluster.produce(client, topic, sequenced(&["x", "x"], 7, 0, 1));
        cluster.send(client, PRODUCE, &produce_request(topic, -1, sequenced(values, 7, 0, first)));
        let seen = broken(&cluster);
        // What the broker refuses by itself is seen by its answer.
        assert!(matches!(&seen[..], [Rule::SameSequenceSameRecords] | []), "{seen:?}");
        assert_eq!(values == ["y", "z"], !seen.is_empty());
    }
}

#[test]
fn a_producer_goes_on_with_its_numbers_in_a_topic_that_was_created_anew() {
    let anew = |first| {
        let (mut cluster, client, topic) = single();
        cluster.produce(client, topic, sequenced(&["x"], 7, 0, 0));
        cluster.produce(client, topic, sequenced(&["x", "y"], 7, 0, 1));
        let topics = vec![DeleteTopicState { topic_id: topic, ..DeleteTopicState::default() }];
        let request = DeleteTopicsRequest { topics, timeout_ms: 1000, ..DeleteTopicsRequest::default() };
        cluster.call(client, 6, &request);
        cluster.produce(client, topic, sequenced(&["refused"; 4], 7, 0, 3));
        let topic = cluster.create("t", &[&[1]], &[]);
        cluster.produce(client, topic, sequenced(&["x", "y"], 7, 0, first));
        broken(&cluster)
    };
    // Behind what was sent to the former topic, taken or not, or once more what may not have been written; not anywhere.
    assert_eq!((anew(3), anew(1), anew(7)), (vec![], vec![], vec![]));
    assert_eq!((anew(2), anew(4), anew(8)), (vec![Rule::Epochs], vec![Rule::Epochs], vec![Rule::Epochs]));
}

#[test]
fn a_producer_that_begins_in_the_middle_or_goes_back_to_an_older_epoch() {
    let (mut cluster, client, topic) = single();
    cluster.produce(client, topic, sequenced(&["x"], 7, 0, 3));
    assert_eq!(broken(&cluster), [Rule::Epochs]);
    cluster.produce(client, topic, sequenced(&["x"], 8, 1, 0));
    cluster.produce_error(client, topic, sequenced(&["x"], 8, 0, 0));
    assert_eq!(broken(&cluster), [Rule::Epochs, Rule::Epochs]);
}

#[test]
fn a_fetch_session_out_of_step_or_behind_an_error() {
    for (id_off, epoch) in [(0, 3), (1, 1)] {
        let (mut cluster, client, topic) = single();
        let full = FetchRequest { session_epoch: 0, max_wait_ms: 0, ..fetch_request(topic, 0) };
        let id = cluster.call(client, FETCH, &full).session_id;
        let wrong = FetchRequest { session_id: id + id_off, session_epoch: epoch, ..full };
        cluster.call(client, FETCH, &wrong);
        assert_eq!(broken(&cluster), [Rule::FetchSession]);
        // There was an error: only a full fetch goes on from there.
        cluster.call(client, FETCH, &wrong);
        assert_eq!(broken(&cluster), [Rule::FetchSession, Rule::FetchSession]);
    }
}

#[test]
fn a_fetch_with_an_older_leader_epoch_than_before() {
    let (mut cluster, client, topic) = single();
    let mut fetch = |epoch| {
        let mut request = FetchRequest { max_wait_ms: 0, ..fetch_request(topic, 0) };
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        cluster.call(client, FETCH, &request);
        broken(&cluster)
    };
    // Whether the leader agrees is another question, and what is not known is never old.
    for epoch in [0, 2, 2, -1] {
        assert_eq!(fetch(epoch), []);
    }
    assert_eq!(fetch(1), [Rule::LeaderEpochs]);
}

/// Both join, and the first one owns partition 0 of the topic `t`.
fn first_owns_all(cluster: &mut Cluster, [one, other]: [&mut Member; 2]) {
    /// Version 0, topic "t" with partition 0, no user data.
    const OWNS: &str = "\0\0\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\0\0\0\0";
    const OWNS_NOTHING: &str = "\0\0\0\0\0\0\0\0\0\0";
    cluster.join(one);
    cluster.send_join(other);
    cluster.send_join(one);
    cluster.joined(one);
    cluster.joined(other);
    let assignments: [(&Str, &'static str); 2] = [(&one.id, OWNS), (&other.id, OWNS_NOTHING)];
    for member in [&*one, &*other] {
        cluster.send(member.client, SYNC, &sync_request(member, &assignments));
    }
    cluster.advance(SECOND);
    for member in [one, other] {
        let synced = cluster.reply::<SyncGroupRequest>(member.client, SYNC);
        assert_eq!(synced.unwrap().error_code, ErrorCode::NONE);
    }
}

#[test]
fn a_commit_for_what_another_member_owns() {
    let mut cluster = Cluster::new(1);
    cluster.create("t", &[&[1]], &[]);
    let (mut one, mut other) = (cluster.member(), cluster.member());
    first_owns_all(&mut cluster, [&mut one, &mut other]);
    assert_eq!(cluster.commit(&one, 1), ErrorCode::NONE);
    assert_eq!(broken(&cluster), []);
    cluster.commit(&other, 1);
    assert_eq!(broken(&cluster), [Rule::OwnedCommits]);
}

#[test]
fn a_commit_of_a_static_member_may_arrive_behind_its_successor_and_another_instance_owns_nothing_by_that() {
    let mut cluster = Cluster::new(1);
    cluster.create("t", &[&[1]], &[]);
    let (mut one, mut other) = (cluster.static_member("one"), cluster.static_member("other"));
    first_owns_all(&mut cluster, [&mut one, &mut other]);
    let mut successor = cluster.static_member("one");
    cluster.join(&mut successor);
    assert_eq!(successor.generation, one.generation);
    assert_eq!(cluster.commit(&one, 1), ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(cluster.commit(&successor, 2), ErrorCode::NONE);
    assert_eq!(broken(&cluster), []);
    cluster.commit(&other, 3);
    assert_eq!(broken(&cluster), [Rule::OwnedCommits]);
}

#[test]
fn hot_loops() {
    let (mut cluster, client, _) = single();
    for _ in 0..6 {
        cluster.send(client, 0, &ApiVersionsRequest::default());
    }
    assert_eq!(broken(&cluster), [Rule::Pace]);
    for _ in 0..101 {
        let client = cluster.connect(1);
        cluster.disconnect(client);
    }
    assert_eq!(broken(&cluster), [Rule::Pace, Rule::Pace]);
}

#[test]
fn a_storm_of_connections_that_are_of_no_use() {
    let (mut cluster, _, _) = single();
    let dial = |cluster: &mut Cluster, lives: Duration, asks: bool| {
        let client = cluster.connect(1);
        cluster.call(client, 0, &ApiVersionsRequest::default());
        if asks {
            cluster.call(client, 12, &MetadataRequest::default());
        }
        cluster.advance(lives);
        cluster.disconnect(client);
    };
    let moment = SECOND / 50;
    (0..40).for_each(|_| dial(&mut cluster, moment, true));
    assert_eq!(broken(&cluster), [], "they were of use");
    (0..40).for_each(|_| dial(&mut cluster, Duration::ZERO, false));
    assert_eq!(broken(&cluster), [], "they came and went while the node stood still");
    (0..20).for_each(|_| dial(&mut cluster, moment, false));
    assert_eq!(broken(&cluster), []);
    dial(&mut cluster, moment, false);
    assert_eq!(broken(&cluster), [Rule::Pace]);
}

/// A trip to the broker and back.
const TRIP: Duration = Duration::from_millis(3);

/// The same is done so often, with a pause in between.
fn repeat(cluster: &mut Cluster, times: u32, pause: Duration, mut again: impl FnMut(&mut Cluster)) {
    for _ in 0..times {
        again(cluster);
        cluster.advance(pause);
    }
}

fn epoch_end(partition: i32) -> OffsetForLeaderEpochRequest {
    let partitions = vec![OffsetForLeaderPartition { partition, leader_epoch: 0, ..Default::default() }];
    let topics = vec![OffsetForLeaderTopic { topic: "t".into(), partitions }];
    OffsetForLeaderEpochRequest { topics, ..Default::default() }
}

fn end_offset(partition_index: i32) -> ListOffsetsRequest {
    let partitions = vec![ListOffsetsPartition { partition_index, timestamp: -1, ..Default::default() }];
    let topics = vec![ListOffsetsTopic { name: "t".into(), partitions }];
    ListOffsetsRequest { topics, ..Default::default() }
}

/// Nothing is written to the only partition of the topic, until this is over.
fn refuse<R: ottla_protocol::Request>(cluster: &Cluster) -> crate::faults::ScriptedFault {
    cluster.faults.add(Fault::on::<R>(Effect::Refuse(ErrorCode::NOT_LEADER_OR_FOLLOWER)))
}

#[test]
fn a_request_that_is_answered_with_an_error_and_sent_again_at_once() {
    let (mut cluster, client, topic) = single();
    let refusing = refuse::<ProduceRequest>(&cluster);
    let produce = |cluster: &mut Cluster| {
        cluster.produce_error(client, topic, sequenced(&["x"], 7, 0, 0));
    };
    repeat(&mut cluster, 50, SECOND / 12, produce);
    assert_eq!(broken(&cluster), [], "it waits in between");
    repeat(&mut cluster, 120, TRIP, produce);
    assert_eq!(broken(&cluster), [Rule::Pace]);
    refusing.end();
    cluster.advance(SECOND);
    for sequence in 0..500 {
        cluster.produce(client, topic, sequenced(&["x"], 7, 0, sequence));
    }
    assert_eq!(broken(&cluster).len(), 1, "what succeeds may be as often as there is work");
}

#[test]
fn a_fetch_that_errs_for_ever() {
    let (mut cluster, client, topic) = single();
    refuse::<FetchRequest>(&cluster);
    let fetch = FetchRequest { max_wait_ms: 0, ..fetch_request(topic, 0) };
    repeat(&mut cluster, 120, TRIP, |cluster| drop(cluster.call(client, FETCH, &fetch)));
    assert_eq!(broken(&cluster), [Rule::Pace]);
}

#[test]
fn fetches_with_records_are_as_many_as_there_is_work_and_others_wait_for_records() {
    let (mut cluster, client, topic) = single();
    cluster.produce(client, topic, sequenced(&["x"], 7, 0, 0));
    let fetch = |cluster: &mut Cluster, offset| {
        let fetch = FetchRequest { max_wait_ms: 0, ..fetch_request(topic, offset) };
        drop(cluster.call(client, FETCH, &fetch));
    };
    repeat(&mut cluster, 500, TRIP / 3, |cluster| fetch(cluster, 0));
    repeat(&mut cluster, 60, SECOND / 15, |cluster| fetch(cluster, 1));
    assert_eq!(broken(&cluster), []);
    repeat(&mut cluster, 20, TRIP, |cluster| fetch(cluster, 1));
    assert_eq!(broken(&cluster), [Rule::Pace]);
}

#[test]
fn a_member_whose_heartbeats_come_late_though_nothing_hinders_them() {
    let mut cluster = Cluster::new(1);
    let member = cluster.only_member();
    let beat = |cluster: &mut Cluster, pause| {
        cluster.advance(pause);
        assert_eq!(cluster.heartbeat(&member), ErrorCode::NONE);
    };
    let session = Duration::from_millis(join_request(&member).session_timeout_ms as u64);
    beat(&mut cluster, session / 3);
    beat(&mut cluster, session * 2 / 3);
    assert_eq!(broken(&cluster), [], "something may have held it up");
    cluster.strict.nothing_hinders(Some(cluster.now().monotonic + SECOND));
    beat(&mut cluster, session * 2 / 3);
    beat(&mut cluster, session / 3);
    assert_eq!(broken(&cluster), [], "the one before may have been on its way before that");
    beat(&mut cluster, session * 2 / 3);
    assert_eq!(broken(&cluster), [Rule::Heartbeats]);
}

#[test]
fn many_partitions_that_err_are_each_asked_for_in_their_time() {
    let mut cluster = Cluster::new(1);
    cluster.create("t", &[&[1][..]; 50], &[]);
    let client = cluster.connect(1);
    refuse::<ListOffsetsRequest>(&cluster);
    for round in 0..10 * 50 {
        cluster.call(client, 4, &end_offset(round % 50));
        cluster.advance(TRIP);
    }
    assert_eq!(broken(&cluster), []);
}

#[test]
fn where_an_epoch_ends_is_asked_again_and_again() {
    let (mut cluster, client, _) = single();
    let ask = |cluster: &mut Cluster| drop(cluster.call(client, 4, &epoch_end(0)));
    repeat(&mut cluster, 30, SECOND / 10, ask);
    assert_eq!(broken(&cluster), []);
    repeat(&mut cluster, 60, TRIP, ask);
    assert_eq!(broken(&cluster), [Rule::Pace]);
}

#[test]
fn where_a_partition_ends_is_asked_again_and_again() {
    let (mut cluster, client, _) = single();
    let ask = |cluster: &mut Cluster| drop(cluster.call(client, 4, &end_offset(0)));
    repeat(&mut cluster, 200, SECOND / 50, ask);
    assert_eq!(broken(&cluster), [], "an application may show how far behind it is");
    repeat(&mut cluster, 250, TRIP, ask);
    assert_eq!(broken(&cluster), [Rule::Pace]);
}

#[test]
fn reconnecting_is_no_way_around_the_pace() {
    let (mut cluster, ..) = single();
    repeat(&mut cluster, 60, TRIP, |cluster| {
        let client = cluster.connect(1);
        cluster.call(client, 4, &epoch_end(0));
        cluster.disconnect(client);
    });
    assert_eq!(broken(&cluster), [Rule::Pace]);
}

#[test]
fn each_of_many_producers_may_send_its_batch_again() {
    let (mut cluster, client, topic) = single();
    refuse::<ProduceRequest>(&cluster);
    for round in 0..5 * 100 {
        cluster.produce_error(client, topic, sequenced(&["x"], round % 100, 0, 0));
        cluster.advance(TRIP);
    }
    assert_eq!(broken(&cluster), []);
}

#[test]
fn each_of_many_clients_may_ask() {
    let (mut cluster, ..) = single();
    let clients: Vec<Client> = (0..50).map(|_| cluster.connect(1)).collect();
    for _ in 0..10 {
        for client in &clients {
            cluster.call(*client, 12, &MetadataRequest::default());
            cluster.call(*client, 4, &epoch_end(0));
        }
    }
    assert_eq!(broken(&cluster), []);
}
