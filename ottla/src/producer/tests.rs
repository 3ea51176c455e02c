//! The producer against brokers that do what a test tells them, on a paused clock.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use ottla_core::metadata::LeaderHint;
use ottla_protocol::{
    ApiKey, ErrorCode, RequestFrame,
    batch::{BatchHeader, batches},
    compression::Decompressor,
    messages::{
        InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse,
        produce_response::{
            BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
            TopicProduceResponse,
        },
    },
};
use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::{
    Client, ErrorKind, Header, Record,
    net::lock,
    scripted::{Cluster, DecodeBody, Reply, World, address, answer, api_versions},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// One batch as a broker got it.
#[derive(Debug, Clone)]
struct Got {
    node: i32,
    partition: i32,
    bytes: Bytes,
    /// Its request had a batch of that partition before.
    again: bool,
}

impl Got {
    fn header(&self) -> BatchHeader {
        BatchHeader::parse(&self.bytes).unwrap().unwrap()
    }

    fn values(&self) -> Vec<String> {
        let raw = batches(self.bytes.clone()).next().unwrap().unwrap();
        raw.verify_crc().unwrap();
        let mut decompressor = Decompressor::new();
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        raw.views(&mut decompressor).unwrap().map(|record| text(record.unwrap().value)).collect()
    }
}

/// What is answered for one partition of one request.
enum Say {
    Code(ErrorCode),
    Everything(PartitionProduceResponse),
    /// The partition is left out of the answer.
    Nothing,
    /// The connection ends.
    Close,
    /// So long after the request.
    After(Duration),
}

/// Brokers 0 and 1 on ports 9000 and 9001; partition 0 of `t` is led by 0, partition 1 by 1.
struct Test {
    client: Client,
    got: Arc<Mutex<Vec<Got>>>,
    say: Arc<Mutex<VecDeque<Say>>>,
}

impl Test {
    fn new() -> Self {
        Self::with_ids(ErrorCode::NONE)
    }

    /// With brokers that answer InitProducerId with `ids`.
    fn with_ids(ids: ErrorCode) -> Self {
        let world = World::new();
        let cluster = Cluster::new(&[9000, 9001]).topic("t", &[0, 1]);
        let (got, say) = (Arc::<Mutex<Vec<Got>>>::default(), Arc::<Mutex<VecDeque<Say>>>::default());
        for node in [0, 1] {
            let (cluster, got, say) = (cluster.clone(), got.clone(), say.clone());
            world.serve(9000 + node as u16, move |request| match request.api_key {
                ApiKey::API_VERSIONS => api_versions(request, 4),
                ApiKey::METADATA => cluster.metadata(request),
                ApiKey::INIT_PRODUCER_ID => answer::<InitProducerIdRequest>(
                    request,
                    &InitProducerIdResponse { error_code: ids, producer_id: 7, ..Default::default() },
                ),
                ApiKey::PRODUCE => produce(node, request, &got, &say),
                _ => Reply::Close,
            });
        }
        let client = world.client(&[&address(9000).to_string()]);
        Self { client, got, say }
    }

    fn say(&self, say: impl IntoIterator<Item = Say>) {
        lock(&self.say).extend(say);
    }

    fn producer(&self) -> Producer {
        Producer::builder(&self.client).build().unwrap()
    }

    fn got(&self) -> Vec<Got> {
        lock(&self.got).clone()
    }

    fn values(&self) -> Vec<Vec<String>> {
        self.got().iter().map(Got::values).collect()
    }
}

fn produce(
    node: i32,
    request: &mut RequestFrame,
    got: &Mutex<Vec<Got>>,
    say: &Mutex<VecDeque<Say>>,
) -> Reply {
    let produce = ProduceRequest::decode_body(request);
    let (mut responses, mut wait) = (Vec::new(), None);
    for topic in produce.topic_data {
        let (mut answers, mut indexes) = (Vec::new(), Vec::new());
        for data in topic.partition_data {
            let index = data.index;
            let offset = lock(got).len() as i64 * 100;
            let again = indexes.contains(&index);
            indexes.push(index);
            lock(got).push(Got { node, partition: index, bytes: data.records.unwrap(), again });
            let ok = PartitionProduceResponse {
                index,
                base_offset: offset,
                log_append_time_ms: -1,
                ..Default::default()
            };
            match lock(say).pop_front() {
                None => answers.push(ok),
                Some(Say::After(time)) => {
                    wait = Some(time);
                    answers.push(ok);
                }
                Some(Say::Code(error_code)) => {
                    answers.push(PartitionProduceResponse { error_code, base_offset: -1, ..ok });
                }
                Some(Say::Everything(answer)) => answers.push(PartitionProduceResponse { index, ..answer }),
                Some(Say::Nothing) => {}
                Some(Say::Close) => return Reply::Close,
            }
        }
        let name = topic.name;
        responses.push(TopicProduceResponse { name, partition_responses: answers, ..Default::default() });
    }
    let endpoint = NodeEndpoint { node_id: 1, host: "10.0.0.1".into(), port: 9001, ..Default::default() };
    let response = ProduceResponse { responses, node_endpoints: vec![endpoint], ..Default::default() };
    match (wait, produce.acks, answer::<ProduceRequest>(request, &response)) {
        (_, 0, _) => Reply::Nothing,
        (Some(wait), _, Reply::Answer(segments)) => Reply::After(wait, segments),
        (_, _, reply) => reply,
    }
}

fn record(value: &str) -> Record<'_> {
    Record::new(value).partition(0)
}

#[tokio::test(start_paused = true)]
async fn a_record_is_sent_at_once_and_those_that_come_meanwhile_share_the_next_batch() {
    let test = Test::new();
    let topic = test.producer().topic("t");
    assert_eq!(topic.send(record("warm up")).await.unwrap().offset(), Some(0));
    test.say([Say::After(3 * MS)]);
    let first = topic.enqueue(record("a")).await.unwrap();
    let others = [topic.try_enqueue(record("b")).unwrap(), topic.try_enqueue(record("c")).unwrap()];
    let started = Instant::now();
    assert_eq!(first.await.unwrap().offset(), Some(100));
    let offsets =
        futures::future::join_all(others).await.into_iter().map(|written| written.unwrap().offset());
    assert_eq!(offsets.collect::<Vec<_>>(), [Some(200), Some(201)]);
    assert!(started.elapsed() < 5 * MS, "not the linger, but the answer was waited for");
    assert_eq!(test.values(), [vec!["warm up"], vec!["a"], vec!["b", "c"]]);
    let sequences: Vec<_> = test.got().iter().map(|got| got.header().base_sequence).collect();
    assert_eq!(sequences, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn linger_bounds_the_wait_for_a_busy_broker() {
    let test = Test::new();
    let topic = test.producer().topic("t");
    topic.send(record("warm up")).await.unwrap();
    test.say([Say::After(10 * SECOND)]);
    let _slow = topic.enqueue(record("a")).await.unwrap();
    let _next = topic.enqueue(record("b")).await.unwrap();
    sleep(6 * MS).await;
    // Scripted brokers read the next request when they have answered.
    sleep(11 * SECOND).await;
    assert_eq!(test.values().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn p02_a_lost_connection_resends_the_same_bytes() {
    let test = Test::new();
    let topic = test.producer().topic("t");
    test.say([Say::Close]);
    assert!(topic.send(record("a")).await.is_ok());
    let got = test.got();
    assert_eq!(got.len(), 2);
    assert_eq!(got[0].bytes, got[1].bytes);
}

#[tokio::test(start_paused = true)]
async fn p15_a_partition_that_the_answer_leaves_out_is_sent_again() {
    let test = Test::new();
    test.say([Say::Nothing]);
    assert!(test.producer().send("t", record("a")).await.is_ok());
    assert_eq!(test.values(), [["a"], ["a"]]);
}

#[tokio::test(start_paused = true)]
async fn p04_a_hint_leads_to_the_new_leader_without_asking_for_metadata() {
    let test = Test::new();
    let topic = test.producer().topic("t");
    topic.send(record("warm up")).await.unwrap();
    let current_leader = LeaderIdAndEpoch { leader_id: 1, leader_epoch: 5 };
    test.say([Say::Everything(PartitionProduceResponse {
        error_code: ErrorCode::NOT_LEADER_OR_FOLLOWER,
        base_offset: -1,
        current_leader,
        ..Default::default()
    })]);
    let started = Instant::now();
    topic.send(record("a")).await.unwrap();
    assert!(started.elapsed() < 50 * MS, "no back-off, since the leader is another one");
    let nodes: Vec<_> = test.got().iter().map(|got| got.node).collect();
    assert_eq!(nodes, [0, 0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_request_has_one_batch_of_a_partition_also_if_its_leader_was_elected_again_meanwhile() {
    let test = Test::new();
    let topic =
        Producer::builder(&test.client).acks(Acks::Leader).batch_size(100).build().unwrap().topic("t");
    let mut receipts = Vec::new();
    for value in ["a", "b", "c", "d"] {
        receipts.push(topic.enqueue(record(&value.repeat(60))).await.unwrap());
    }
    // Its sender, which is still connecting, has the partition in line already.
    test.client.shared().metadata.leader_hints([LeaderHint {
        topic: "t",
        partition: 0,
        leader_id: 0,
        leader_epoch: 1,
        endpoint: None,
    }]);
    futures::future::try_join_all(receipts).await.unwrap();
    assert_eq!(test.got().len(), 4);
    assert!(!test.got().iter().any(|got| got.again));
}

#[tokio::test(start_paused = true)]
async fn p12_a_batch_that_is_too_large_is_split_and_everybody_gets_an_offset() {
    let test = Test::new();
    let topic = test.producer().topic("t");
    topic.send(record("warm up")).await.unwrap();
    test.say([Say::After(MS), Say::Code(ErrorCode::MESSAGE_TOO_LARGE)]);
    let _first = topic.enqueue(record("first")).await.unwrap();
    let receipts = ["a", "b", "c"].map(|value| topic.try_enqueue(record(value)).unwrap());
    let written = futures::future::try_join_all(receipts).await.unwrap();
    let offsets: Vec<_> = written.iter().map(|written| written.offset().unwrap()).collect();
    assert_eq!(offsets, [300, 400, 401]);
    assert_eq!(test.values()[2..], [vec!["a", "b", "c"], vec!["a"], vec!["b", "c"]]);
    let sequences: Vec<_> = test.got().iter().map(|got| got.header().base_sequence).collect();
    assert_eq!(sequences, [0, 1, 2, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn p13_only_the_culprits_of_a_refused_batch_are_called_invalid() {
    let test = Test::new();
    let topic = test.producer().topic("t");
    topic.send(record("warm up")).await.unwrap();
    let culprit =
        BatchIndexAndErrorMessage { batch_index: 1, batch_index_error_message: Some("no key".into()) };
    test.say([
        Say::After(MS),
        Say::Everything(PartitionProduceResponse {
            error_code: ErrorCode::INVALID_RECORD,
            base_offset: -1,
            record_errors: vec![culprit],
            ..Default::default()
        }),
    ]);
    let _first = topic.enqueue(record("first")).await.unwrap();
    let [good, bad] = ["good", "bad"].map(|value| topic.try_enqueue(record(value)).unwrap());
    let Err(SendError::NotWritten(good)) = good.await else { panic!("not written, and known not to be") };
    let Err(SendError::NotWritten(bad)) = bad.await else { panic!("not written, and known not to be") };
    assert!(good.is_retriable() && !bad.is_retriable());
    assert_eq!(bad.broker_code(), Some(ErrorCode::INVALID_RECORD));
    assert!(bad.to_string().contains("no key"), "{bad}");
    assert_eq!(bad.topic_partition().map(ToString::to_string).as_deref(), Some("t-0"));
    // The epoch was raised, so that the numbers left behind are no gap.
    topic.send(record("next")).await.unwrap();
    let header = test.got().last().unwrap().header();
    assert_eq!((header.producer_epoch, header.base_sequence), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_told_in_time_and_says_whether_the_record_may_be_there() {
    let test = Test::new();
    let builder = Producer::builder(&test.client).request_timeout(SECOND).delivery_timeout(3 * SECOND);
    let topic = builder.build().unwrap().topic("t");
    test.say([Say::After(3_600 * SECOND), Say::After(3_600 * SECOND), Say::After(3_600 * SECOND)]);
    let started = Instant::now();
    // Nothing was acknowledged yet: one batch at a time.
    let in_doubt = topic.enqueue(record("a")).await.unwrap();
    sleep(MS).await;
    let behind = topic.enqueue(record("b")).await.unwrap();
    let Err(SendError::PossiblyWritten(error)) = in_doubt.await else { panic!("it was sent") };
    assert_eq!((error.kind(), started.elapsed().as_secs()), (ErrorKind::Timeout, 3));
    assert!(error.possibly_written());
    let Err(SendError::NotWritten(error)) = behind.await else { panic!("it was never sent") };
    assert!(!error.possibly_written());
    assert!(test.values().iter().all(|values| values == &["a"]));
}

#[tokio::test(start_paused = true)]
async fn without_acknowledgements_a_record_is_done_when_it_is_written_to_the_socket() {
    let test = Test::new();
    let producer = Producer::builder(&test.client).acks(Acks::None).build().unwrap();
    let written = producer.send("t", record("a")).await.unwrap();
    assert_eq!((written.partition(), written.offset()), (0, None));
    producer.send("t", record("b")).await.unwrap();
    sleep(MS).await;
    let ids: Vec<_> = test.got().iter().map(|got| got.header().producer_id).collect();
    assert_eq!(ids, [-1, -1]);
}

#[tokio::test(start_paused = true)]
async fn flush_tells_the_failure_of_a_record_whose_receipt_was_dropped_once() {
    let test = Test::new();
    let producer = test.producer();
    test.say([Say::Code(ErrorCode::TOPIC_AUTHORIZATION_FAILED)]);
    drop(producer.enqueue("t", record("a")).await.unwrap());
    let error = producer.flush().await.unwrap_err();
    assert_eq!(error.error().broker_code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    drop(producer.enqueue("t", record("b")).await.unwrap());
    producer.flush().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_is_waited_for_at_most_max_block() {
    let test = Test::new();
    let builder = Producer::builder(&test.client).buffer_memory(64 * 1_024).max_block(2 * SECOND);
    let topic = builder.build().unwrap().topic("t");
    topic.send(record("warm up")).await.unwrap();
    test.say([Say::After(10 * SECOND)]);
    let value = "x".repeat(20 * 1_024);
    let mut receipts = vec![topic.enqueue(record(&value)).await.unwrap()];
    while let Ok(receipt) = topic.try_enqueue(record(&value)) {
        receipts.push(receipt);
    }
    assert!(matches!(topic.try_enqueue(record(&value)), Err(TryEnqueueError::BufferFull)));
    let started = Instant::now();
    let error = topic.enqueue(record(&value)).await.unwrap_err();
    assert_eq!((error.kind(), started.elapsed().as_secs()), (ErrorKind::Timeout, 2));
    // Given up before it had a place: as if never called.
    assert!(timeout(SECOND, topic.enqueue(record("given up"))).await.is_err());
    let waiting = topic.enqueue(record("waits its turn"));
    let (waited, ()) = tokio::join!(async { timeout(20 * SECOND, waiting).await.unwrap() }, sleep(SECOND));
    drop(waited);
    futures::future::try_join_all(receipts).await.unwrap();
    assert!(!test.values().concat().contains(&"given up".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_can_never_be_sent_is_refused_at_once() {
    let test = Test::new();
    let topic = test.producer().topic("t");
    let value = vec![0; 2 << 20];
    let error = topic.enqueue(Record::new(&value)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Misuse && error.to_string().contains("max.request.size"), "{error}");
    let error = topic.enqueue(Record::new("a").partition(-1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
}

#[tokio::test(start_paused = true)]
async fn p18_an_unknown_topic_is_looked_up_and_told_after_a_grace() {
    let test = Test::new();
    let producer = test.producer();
    assert!(matches!(producer.try_enqueue("t", "a"), Err(TryEnqueueError::UnknownTopic)));
    sleep(SECOND).await;
    assert!(producer.try_enqueue("t", "a").is_ok());
    let error = producer.enqueue("missing", "a").await.unwrap_err();
    assert_eq!(error.broker_code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_does_not_exist_is_waited_for_at_most_max_block() {
    let test = Test::new();
    let topic = Producer::builder(&test.client).max_block(3 * SECOND).build().unwrap().topic("t");
    let error = topic.enqueue(Record::new("a").partition(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("has no partition 2, only 2 in all"), "{error}");
    assert!(matches!(
        topic.try_enqueue(Record::new("a").partition(2)),
        Err(TryEnqueueError::UnknownPartition(2))
    ));
}

#[tokio::test(start_paused = true)]
async fn who_may_not_have_a_producer_id_is_told_so() {
    let test = Test::with_ids(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
    let Err(SendError::NotWritten(error)) = test.producer().send("t", record("a")).await else {
        panic!("nothing was sent")
    };
    assert_eq!(error.broker_code(), Some(ErrorCode::CLUSTER_AUTHORIZATION_FAILED));
    assert_eq!(test.got().len(), 0);
}

/// Nobody has sent it, so that no broker has said anything about it.
#[tokio::test(start_paused = true)]
async fn a_deadline_says_that_there_was_no_producer_id() {
    let test = Test::with_ids(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    let error = test.producer().send("t", record("a").partition(0)).await.unwrap_err();
    assert!(matches!(&error, SendError::NotWritten(error) if error.kind() == ErrorKind::Timeout), "{error}");
    let said = format!("{:#}", error.error());
    assert!(said.contains("InitProducerId") && said.contains("COORDINATOR_LOAD_IN_PROGRESS"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn close_writes_what_is_there_and_takes_nothing_more() {
    let test = Test::new();
    let producer = test.producer();
    let receipt = producer.enqueue("t", record("a")).await.unwrap();
    producer.close().await.unwrap();
    assert!(receipt.await.is_ok());
    let error = producer.enqueue("t", record("b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(matches!(producer.try_enqueue("t", record("b")), Err(TryEnqueueError::Closed)));
    producer.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_buffered_when_the_last_handle_goes_is_still_written() {
    let test = Test::new();
    let receipt = test.producer().enqueue("t", record("a")).await.unwrap();
    assert!(receipt.await.is_ok());
    assert_eq!(test.values(), [["a"]]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_closes_its_producers() {
    let test = Test::new();
    let producer = test.producer();
    let receipt = producer.enqueue("t", record("a")).await.unwrap();
    test.client.close().await.unwrap();
    assert!(receipt.await.is_ok());
    assert_eq!(producer.enqueue("t", record("b")).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn keys_choose_their_partition_as_in_java_and_partitioners_theirs() {
    let test = Test::new();
    let producer = test.producer();
    for key in ["21", "foobar", "abc"] {
        let written = producer.send("t", Record::new("value").key(key)).await.unwrap();
        assert_eq!(written.partition() as u32, ottla_core::produce::partition_for_key(key.as_bytes(), 2));
    }
    let last = |_: &Record<'_>, topic: &TopicView<'_>| Choice::Partition(topic.partitions() as i32 - 1);
    let producer = Producer::builder(&test.client).partition_by(last).build().unwrap();
    assert_eq!(producer.send("t", Record::new("value").key("21")).await.unwrap().partition(), 1);
}

#[derive(Default)]
struct Seen(Arc<Mutex<Vec<String>>>);

impl ProducerInterceptor for Seen {
    fn on_send(&self, topic: &str, _: &Record<'_>, headers: &mut HeaderWriter<'_>) {
        lock(&self.0).push(format!("send to {topic}"));
        headers.add("trace", "42");
    }

    fn on_outcome(&self, topic: &str, outcome: &Result<RecordMetadata, SendError>) {
        lock(&self.0).push(format!("{topic}: {}", outcome.is_ok()));
    }
}

#[tokio::test(start_paused = true)]
async fn interceptors_see_every_record_and_add_headers() {
    let test = Test::new();
    let seen = Seen::default();
    let log = seen.0.clone();
    let producer = Producer::builder(&test.client).interceptor(seen).build().unwrap();
    let headers = [Header::new("via", "web")];
    producer.send("t", record("a").headers(&headers)).await.unwrap();
    assert_eq!(*lock(&log), ["send to t", "t: true"]);
    let raw = batches(test.got()[0].bytes.clone()).next().unwrap().unwrap();
    let mut decompressor = Decompressor::new();
    let record = raw.views(&mut decompressor).unwrap().next().unwrap().unwrap();
    let keys: Vec<_> = record.headers().map(|header| header.key).collect();
    assert_eq!(keys, [&b"via"[..], b"trace"]);
}

struct Panics;

impl ProducerInterceptor for Panics {
    fn on_outcome(&self, _: &str, _: &Result<RecordMetadata, SendError>) {
        panic!("the user's own");
    }
}

#[tokio::test(start_paused = true)]
async fn an_interceptor_that_panics_harms_nobody_else() {
    let test = Test::new();
    let producer = Producer::builder(&test.client).interceptor(Panics).build().unwrap();
    let both = [0, 1].map(|partition| producer.send("t", Record::new("a").partition(partition)));
    assert!(futures::future::join_all(both).await.iter().all(Result::is_ok));
    assert!(producer.send("t", record("b")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn batches_are_compressed_inline_and_elsewhere_and_keep_their_order() {
    let test = Test::new();
    let builder = Producer::builder(&test.client).compression(ottla_protocol::compression::Compression::Lz4);
    let topic = builder.build().unwrap().topic("t");
    let values: Vec<String> = (0..3_000).map(|n| format!("{n} {}", "x".repeat(100))).collect();
    let mut receipts = Vec::new();
    for value in &values {
        receipts.push(topic.enqueue(record(value)).await.unwrap());
    }
    futures::future::try_join_all(receipts).await.unwrap();
    assert_eq!(test.values().concat(), values);
    assert!(test.got().iter().all(|got| got.partition == 0));
    let largest = test.got().iter().map(|got| got.values().len()).max();
    assert!(largest > Some(600), "some batch was large enough to be compressed elsewhere: {largest:?}");
}

/// What the hot path promises: a handful of allocations for a batch, none for a record.
#[tokio::test(start_paused = true)]
async fn a_record_that_joins_a_batch_allocates_nothing() {
    let test = Test::new();
    let topic = test.producer().topic("t");
    topic.send(record("warm up")).await.unwrap();
    test.say([Say::After(SECOND)]);
    let _in_flight = topic.enqueue(record("in flight")).await.unwrap();
    let first = topic.enqueue(record("opens a batch")).await.unwrap();
    let headers = [Header::new("via", "web")];
    let records = 500;
    let mut receipts = Vec::with_capacity(records);
    let allocated = allocation_counter::measure(|| {
        for n in 0..records {
            let key = n.to_be_bytes();
            let record = record("some value of some length").key(&key).headers(&headers);
            receipts.push(topic.try_enqueue(record).unwrap());
        }
    });
    // The batch's buffer doubles some times.
    assert!(allocated.count_total < 10, "{} allocations", allocated.count_total);
    let offsets: Vec<_> = futures::future::join_all(receipts).await;
    assert!(offsets.iter().all(Result::is_ok) && first.await.is_ok());
    assert_eq!(test.values().len(), 3);
}
