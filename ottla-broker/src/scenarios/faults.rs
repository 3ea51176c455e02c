//! Scripted faults: which requests they strike, and what a client then sees.

use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla_protocol::messages::{FetchRequest, MetadataRequest, ProduceRequest};
use ottla_protocol::{ErrorCode, TopicId};

use super::harness::{Client, Cluster, plain, sequenced};
use super::requests::{FETCH, PRODUCE, fetch_request, produce_request};
use crate::faults::{Effect, Fault};
use crate::io::CloseReason;

const SECOND: Duration = Duration::from_secs(1);

fn single() -> (Cluster, Client, TopicId) {
    let mut cluster = Cluster::new(1);
    let topic = cluster.create("t", &[&[1], &[1]], &[]);
    let client = cluster.connect(1);
    (cluster, client, topic)
}

fn on_produce(effect: Effect) -> Fault {
    Fault::on::<ProduceRequest>(effect).times(1)
}

/// One batch to each of both partitions.
fn to_both(topic: TopicId) -> ProduceRequest {
    let partition = |index| PartitionProduceData { index, records: Some(plain(&["x"])) };
    let partition_data = vec![partition(0), partition(1)];
    let topic = TopicProduceData { topic_id: topic, partition_data, ..TopicProduceData::default() };
    ProduceRequest { acks: -1, timeout_ms: 5000, topic_data: vec![topic], ..ProduceRequest::default() }
}

/// The error of each partition, by partition.
fn errors(response: &ottla_protocol::ProduceResponse) -> Vec<(i32, ErrorCode)> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    let mut errors: Vec<_> = partitions.map(|p| (p.index, p.error_code)).collect();
    errors.sort_unstable();
    errors
}

fn closed(cluster: &Cluster, client: Client) -> bool {
    matches!(cluster.closed(client), Some(CloseReason::Scripted(_)))
}

#[test]
fn a_refused_partition_is_not_written_and_the_rest_of_the_request_is() {
    let (mut cluster, client, topic) = single();
    let busy = ErrorCode::NOT_ENOUGH_REPLICAS;
    let struck = cluster.faults.add(on_produce(Effect::Refuse(busy)).of("t", 1));
    let response = cluster.call(client, PRODUCE, &to_both(topic));
    assert_eq!(errors(&response), [(0, ErrorCode::NONE), (1, busy)]);
    assert_eq!((cluster.stored(1, topic, 0).len(), cluster.stored(1, topic, 1).len()), (1, 0));
    let response = cluster.call(client, PRODUCE, &to_both(topic));
    assert_eq!(errors(&response), [(0, ErrorCode::NONE), (1, ErrorCode::NONE)]);
    assert_eq!(struck.strikes(), 1);
    cluster.assert_at_rest();
}

#[test]
fn an_answer_with_an_error_says_nothing_about_what_was_written() {
    let (mut cluster, client, topic) = single();
    let after = ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND;
    cluster.faults.add(on_produce(Effect::AnswerWith(after)).of("t", 0));
    let response = cluster.call(client, PRODUCE, &to_both(topic));
    assert_eq!(errors(&response), [(0, after), (1, ErrorCode::NONE)]);
    assert_eq!(cluster.stored(1, topic, 0).len(), 1);
}

#[test]
fn only_requests_of_that_client_node_and_partition_are_struck() {
    let (mut cluster, client, topic) = single();
    let refuse = || on_produce(Effect::Refuse(ErrorCode::UNKNOWN_SERVER_ERROR));
    let faults = [refuse().at(2), refuse().from_client("other"), refuse().of("t", 7), refuse().of_topic("u")];
    let added = faults.map(|fault| cluster.faults.add(fault));
    let response = cluster.call(client, PRODUCE, &to_both(topic));
    assert_eq!(errors(&response), [(0, ErrorCode::NONE), (1, ErrorCode::NONE)]);
    assert!(added.iter().all(|fault| fault.strikes() == 0));
}

#[test]
fn chance_strikes_about_as_often_as_it_is_told() {
    let (mut cluster, client, _) = single();
    let refuse = Effect::Refuse(ErrorCode::UNKNOWN_SERVER_ERROR);
    let struck = cluster.faults.add(Fault::on::<MetadataRequest>(refuse).with_probability(0.25));
    for _ in 0..400 {
        cluster.call(client, 12, &MetadataRequest::default());
    }
    assert!((60..140).contains(&struck.strikes()), "{}", struck.strikes());
}

#[test]
fn lost_requests_are_not_carried_out_and_lost_answers_say_nothing() {
    for (effect, written) in [(Effect::LoseRequest, 0), (Effect::LoseAnswer, 1)] {
        let (mut cluster, client, topic) = single();
        cluster.faults.add(on_produce(effect));
        cluster.send(client, PRODUCE, &produce_request(topic, -1, plain(&["x"])));
        assert!(closed(&cluster, client));
        assert_eq!(cluster.stored(1, topic, 0).len(), written);
        cluster.assert_at_rest();
    }
}

#[test]
fn a_silent_connection_carries_out_all_and_answers_nothing() {
    let (mut cluster, client, topic) = single();
    cluster.faults.add(on_produce(Effect::Silence));
    for _ in 0..2 {
        cluster.send(client, PRODUCE, &produce_request(topic, -1, plain(&["x"])));
        cluster.advance(10 * SECOND);
        assert!(cluster.reply::<ProduceRequest>(client, PRODUCE).is_none());
    }
    assert!(cluster.closed(client).is_none());
    assert_eq!(cluster.stored(1, topic, 0).len(), 2);
}

#[test]
fn a_delayed_request_or_answer_holds_up_its_connection_and_no_other() {
    for (effect, written) in [(Effect::Delay(SECOND), 0), (Effect::DelayAnswer(SECOND), 1)] {
        let (mut cluster, client, topic) = single();
        cluster.faults.add(on_produce(effect));
        cluster.send(client, PRODUCE, &produce_request(topic, -1, plain(&["x"])));
        cluster.send(client, 12, &MetadataRequest::default());
        cluster.advance(SECOND - Duration::from_millis(1));
        assert_eq!(cluster.stored(1, topic, 0).len(), written);
        assert!(cluster.reply::<ProduceRequest>(client, PRODUCE).is_none());
        let other = cluster.connect(1);
        cluster.call(other, 12, &MetadataRequest::default());
        cluster.advance(Duration::from_millis(1));
        let response = cluster.reply::<ProduceRequest>(client, PRODUCE).unwrap();
        assert_eq!(errors(&response), [(0, ErrorCode::NONE)]);
        assert!(cluster.reply::<MetadataRequest>(client, 12).is_some());
        cluster.assert_at_rest();
    }
}

#[test]
fn what_is_held_waits_until_the_fault_ends_and_keeps_its_order() {
    let (mut cluster, client, topic) = single();
    let held = cluster.faults.add(Fault::on::<ProduceRequest>(Effect::Hold));
    for value in ["first", "second"] {
        cluster.send(client, PRODUCE, &produce_request(topic, -1, plain(&[value])));
    }
    cluster.advance(60 * SECOND);
    assert!(cluster.stored(1, topic, 0).is_empty());
    held.end();
    cluster.advance(SECOND);
    assert_eq!(cluster.stored(1, topic, 0), ["first", "second"]);
    cluster.assert_at_rest();
}

#[test]
fn a_late_request_comes_behind_what_its_client_has_sent_since() {
    let (mut cluster, client, topic) = single();
    cluster.faults.add(on_produce(Effect::CarryOutLate(SECOND)));
    cluster.send(client, PRODUCE, &produce_request(topic, -1, sequenced(&["old"], 7, 0, 0)));
    assert!(closed(&cluster, client));
    let again = cluster.connect(1);
    cluster.send(again, PRODUCE, &produce_request(topic, -1, plain(&["new"])));
    cluster.advance(2 * SECOND);
    assert_eq!(cluster.stored(1, topic, 0), ["new", "old"]);
    cluster.assert_at_rest();
}

#[test]
fn answers_are_cut_changed_and_replaced() {
    let (mut cluster, _, topic) = single();
    let request = produce_request(topic, -1, plain(&["x"]));
    let mut whole = |effect| {
        let client = cluster.connect(1);
        cluster.faults.add(on_produce(effect));
        cluster.send(client, PRODUCE, &request);
        (cluster.bytes(client).unwrap(), closed(&cluster, client))
    };
    let (good, open) = whole(Effect::edit::<ProduceRequest>(|_| {}));
    assert!(!open);
    assert_eq!(whole(Effect::Truncate(6)).0.len(), 6);
    assert!(whole(Effect::Truncate(6)).1);
    let corrupt = whole(Effect::Corrupt).0;
    let differing = good.iter().zip(&corrupt).filter(|(one, other)| one != other).count();
    // The offset and the byte that was hit; all but the length may differ.
    assert!(corrupt.len() == good.len() && corrupt[..4] == good[..4] && differing <= 2);
    assert_eq!(whole(Effect::Replace(Bytes::from_static(b"HTTP/1.1"))).0, "HTTP/1.1");
}

#[test]
fn an_edit_changes_the_message_and_leaves_other_apis_alone() {
    let (mut cluster, client, topic) = single();
    cluster.faults.add(on_produce(Effect::edit::<ProduceRequest>(|response| response.throttle_time_ms = 77)));
    cluster.faults.add(on_produce(Effect::edit::<FetchRequest>(|response| response.session_id = 1)));
    let request = produce_request(topic, -1, plain(&["x"]));
    assert_eq!(cluster.call(client, PRODUCE, &request).throttle_time_ms, 77);
    assert_eq!(errors(&cluster.call(client, PRODUCE, &request)), [(0, ErrorCode::NONE)]);
}

/// In a session a request names only what has changed.
#[test]
fn a_partition_of_a_fetch_session_fails_without_being_named() {
    let (mut cluster, client, topic) = single();
    let begin = FetchRequest { session_epoch: 0, max_wait_ms: 0, ..fetch_request(topic, 0) };
    let begun = cluster.call(client, FETCH, &begin);
    let (moved, elsewhere) = (ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::KAFKA_STORAGE_ERROR);
    let fault = |code, partition| Fault::on::<FetchRequest>(Effect::Refuse(code)).of("t", partition).times(1);
    cluster.faults.add(fault(elsewhere, 1));
    cluster.faults.add(fault(moved, 0));
    let next = FetchRequest { session_id: begun.session_id, session_epoch: 1, topics: Vec::new(), ..begin };
    let response = cluster.call(client, FETCH, &next);
    let of_session = &response.responses[0];
    assert_eq!((of_session.topic_id, of_session.partitions[0].error_code), (topic, moved));
    assert_eq!(response.responses.len(), 1);
}
