//! What brokers may answer to a producer, and what may become of its requests: records are there once and in order.

use std::time::Duration;

use ottla::{Admin, Compression, ErrorCode, NewTopic, Producer, Record, SendError};
use ottla_broker::{
    ClusterConfig,
    faults::{Effect, Fault},
};
use ottla_protocol::{
    ApiKey,
    messages::{ApiVersionsRequest, ProduceRequest},
};
use ottla_sim::{Sim, history::Fate};
use tokio::time::sleep;

use crate::support::{FEW, SECOND, Stream, TOPIC};

fn on_produce(effect: Effect) -> Fault {
    Fault::on::<ProduceRequest>(effect)
}

/// Each effect strikes some requests of a partition, with others under way, and must cost no record.
fn all_is_written_despite(effects: impl IntoIterator<Item = Effect>) {
    for effect in effects {
        Sim::seeds(FEW).run(async |world| {
            let stream = Stream::start(world, |builder| builder).await;
            stream.send(20).await;
            stream.settled().await;
            let fault = on_produce(effect.clone()).of(TOPIC, 0).times(3);
            let struck = stream.cluster.faults().add(fault);
            for _ in 0..6 {
                stream.send(20).await;
                sleep(Duration::from_millis(world.random().u64(..300))).await;
            }
            stream.settle_all().await;
            assert_eq!(struck.strikes(), 3, "{effect:?}");
        });
    }
}

#[test]
fn p02_requests_that_get_lost_are_sent_again() {
    all_is_written_despite([Effect::LoseRequest]);
}

#[test]
fn p04_a_leader_that_is_none_any_more_is_no_failure() {
    let hint = Effect::edit::<ProduceRequest>(|response| {
        for partition in response.responses.iter_mut().flat_map(|topic| &mut topic.partition_responses) {
            partition.error_code = ErrorCode::NOT_LEADER_OR_FOLLOWER;
            partition.current_leader.leader_id = 99;
            partition.current_leader.leader_epoch = 0;
        }
    });
    let codes = [ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::FENCED_LEADER_EPOCH];
    all_is_written_despite(codes.map(Effect::Refuse).into_iter().chain([hint]));
}

#[test]
fn p06_a_request_that_timed_out_at_the_broker_may_have_been_written() {
    all_is_written_despite(
        [Effect::AnswerWith, Effect::Refuse].map(|effect| effect(ErrorCode::REQUEST_TIMED_OUT)),
    );
}

#[test]
fn p06_an_answer_that_does_not_come_in_time_says_nothing() {
    all_is_written_despite([Effect::Silence, Effect::LoseAnswer, Effect::CarryOutLate(5 * SECOND)]);
}

#[test]
fn p07_too_few_replicas_before_and_after_the_append_are_waited_for() {
    all_is_written_despite([
        Effect::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS),
        Effect::AnswerWith(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND),
    ]);
}

#[test]
fn p08_batches_behind_one_that_failed_are_out_of_order_and_merely_sent_again() {
    all_is_written_despite([Effect::Refuse(ErrorCode::KAFKA_STORAGE_ERROR)]);
}

#[test]
fn p08_a_true_gap_raises_the_epoch_and_loses_nothing() {
    all_is_written_despite([Effect::Refuse(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)]);
}

#[test]
fn p09_a_producer_that_the_broker_forgot_goes_on() {
    all_is_written_despite([Effect::Refuse(ErrorCode::UNKNOWN_PRODUCER_ID)]);
}

#[test]
fn p10_what_is_there_already_is_written_at_an_offset_that_nobody_knows() {
    Sim::seeds(FEW).run(async |world| {
        let stream = Stream::start(world, |builder| builder).await;
        stream
            .cluster
            .faults()
            .add(on_produce(Effect::AnswerWith(ErrorCode::DUPLICATE_SEQUENCE_NUMBER)).of(TOPIC, 0).times(2));
        stream.send(40).await;
        stream.settle_all().await;
        assert!(stream.count(|fate| fate == Fate::Written(None)) >= 2);
    });
}

#[test]
fn p12_a_batch_that_is_too_large_is_split_and_a_record_that_is_fails_alone() {
    Sim::seeds(FEW).run(async |world| {
        let config = ClusterConfig { max_message_bytes: 2_000, ..ClusterConfig::with_nodes(3, "", 0) };
        let configure = |builder: ottla::ProducerBuilder| builder.batch_size(20_000).linger(SECOND / 20);
        let stream = Stream::with(world, config, 2, configure).await;
        for number in 0..100 {
            stream.send_to(0, if number == 50 { 3_000 } else { 200 }).await;
        }
        stream.settle().await;
        let (written, not_written) = (stream.history.acknowledged(), stream.count(|f| f == Fate::NotWritten));
        assert_eq!((written, not_written), (99, 1));
    });
}

#[test]
fn p13_records_without_a_key_fail_in_a_compacted_topic_and_others_of_their_batch_can_be_sent_again() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = world.cluster(3).await;
        let client = cluster.client();
        let compacted = NewTopic::new(TOPIC, 1, 3).config("cleanup.policy", "compact");
        Admin::new(&client).create_topics([compacted]).await?.all()?;
        let producer = Producer::builder(&client).linger(SECOND / 20).build()?;
        producer.send(TOPIC, Record::new("first").key("key")).await?;
        let mut random = world.random();
        let (mut receipts, mut written) = (Vec::new(), 1);
        for _ in 0..60 {
            let has_key = random.u32(..8) > 0;
            let record = Record::new("value");
            let record = if has_key { record.key("key") } else { record };
            receipts.push((has_key, producer.enqueue(TOPIC, record).await?));
            sleep(Duration::from_millis(random.u64(..20))).await;
        }
        let mut again = 0;
        for (has_key, receipt) in receipts {
            let error = match receipt.await {
                Ok(_) => {
                    assert!(has_key);
                    written += 1;
                    continue;
                }
                Err(SendError::NotWritten(error)) => error,
                Err(error) => panic!("it is known that it was not written: {error:?}"),
            };
            assert_eq!(error.is_retriable(), has_key, "{error:#}");
            if has_key {
                producer.send(TOPIC, Record::new("value").key("key")).await?;
                (again, written) = (again + 1, written + 1);
            } else {
                assert_eq!(error.broker_code(), Some(ErrorCode::INVALID_RECORD), "{error:#}");
                assert!(error.to_string().contains("without key"), "{error}");
            }
        }
        assert!(again > 0, "there were no others in their batches");
        let log = cluster.log(TOPIC, 0);
        assert_eq!(log.len(), written);
        Ok::<_, ottla::Error>(())
    });
}

#[test]
fn p14_each_partition_of_an_answer_is_settled_by_itself() {
    Sim::seeds(FEW).run(async |world| {
        let config = ClusterConfig::with_nodes(1, "", 0);
        let configure = |builder: ottla::ProducerBuilder| builder.linger(SECOND / 20).batch_size(2_000);
        let stream = Stream::with(world, config, 3, configure).await;
        stream.send(30).await;
        stream.settled().await;
        let refuse = Effect::Refuse(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        stream.cluster.faults().add(on_produce(refuse).of(TOPIC, 1).times(1));
        stream.send(60).await;
        stream.settle().await;
        let failed = stream.count(|fate| fate == Fate::NotWritten);
        assert!((1..=20).contains(&failed), "{failed} failed");
        assert_eq!(stream.history.acknowledged(), 90 - failed);
    });
}

#[test]
fn p15_partitions_that_are_missing_doubled_or_made_up_do_no_harm() {
    let missing = Effect::edit::<ProduceRequest>(|response| response.responses.clear());
    let doubled = Effect::edit::<ProduceRequest>(|response| {
        for topic in &mut response.responses {
            let mut more = topic.partition_responses.clone();
            more.iter_mut().for_each(|partition| partition.base_offset += 1_000);
            topic.partition_responses.extend(more.clone());
            more.iter_mut().for_each(|partition| partition.index += 77);
            topic.partition_responses.extend(more);
        }
    });
    all_is_written_despite([missing, doubled]);
}

#[test]
fn p16_a_batch_that_arrived_corrupt_is_sent_again_as_it_is() {
    all_is_written_despite([Effect::Refuse(ErrorCode::CORRUPT_MESSAGE)]);
}

#[test]
fn p18_errors_that_pass_are_waited_out() {
    let codes = [ErrorCode::LEADER_NOT_AVAILABLE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION];
    all_is_written_despite(codes.map(Effect::Refuse));
}

#[test]
fn p21_a_throttled_connection_is_silent_and_others_are_not() {
    Sim::seeds(FEW).run(async |world| {
        let stream = Stream::start(world, |builder| builder).await;
        stream.send(20).await;
        stream.settled().await;
        let leader = |partition| stream.cluster.leader(TOPIC, partition).expect("a leader").id();
        let throttle = on_produce(Effect::Throttle(30 * SECOND)).at(leader(0)).times(1);
        stream.cluster.faults().add(throttle);
        stream.send_to(0, 10).await;
        stream.settled().await;
        let begin = world.elapsed();
        if leader(1) != leader(0) {
            stream.send_to(1, 10).await;
            stream.settled().await;
            let took = world.elapsed() - begin;
            world.expect(took < 2 * SECOND, "another broker to be used meanwhile", || format!("{took:?}"));
        }
        stream.send_to(0, 10).await;
        stream.settled().await;
        let took = world.elapsed() - begin;
        world.expect(took > 25 * SECOND, "silence for half a minute", || format!("it took {took:?}"));
        stream.settle_all().await;
    });
}

/// Whether the broker says so itself, or offers no version of Produce that could carry it.
#[test]
fn p17_a_codec_that_the_broker_does_not_have_fails_at_once() {
    let old = Effect::edit::<ApiVersionsRequest>(|response| {
        let produce = response.api_keys.iter_mut().find(|key| key.api_key == ApiKey::PRODUCE.0);
        produce.expect("it is offered").max_version = 6;
    });
    let refusal = Effect::Refuse(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    for fault in [Fault::on::<ApiVersionsRequest>(old), Fault::on::<ProduceRequest>(refusal)] {
        Sim::seeds(FEW).run(async |world| {
            let stream = Stream::start(world, |builder| builder.compression(Compression::Zstd)).await;
            stream.cluster.faults().add(fault.clone());
            let begin = world.elapsed();
            let error = stream.producer.send(TOPIC, "one").await.expect_err("nobody takes zstd");
            assert!(matches!(error, SendError::NotWritten(_)), "{error:?}");
            let (took, text) = (world.elapsed() - begin, format!("{error:#}"));
            assert!(took < 2 * SECOND, "{took:?}");
            assert!(text.contains("zstd") || text.contains("UNSUPPORTED_COMPRESSION_TYPE"), "{text}");
        });
    }
}
