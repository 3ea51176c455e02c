//! What happens around a producer: leaders crash, topics change, callers lose patience.

use std::time::Duration;

use ottla::{Acks, Admin, ErrorCode, NewTopic, Producer, Record};
use ottla_broker::faults::{Effect, Fault};
use ottla_protocol::messages::{InitProducerIdRequest, MetadataRequest, ProduceRequest};
use ottla_sim::{Conditions, Sim, history::Fate};
use tokio::time::{sleep, timeout};

use crate::support::{FEW, SECOND, Stream, TOPIC, fate_of};

#[test]
fn p01_a_leader_that_crashes_between_append_and_acknowledgement_costs_nothing() {
    Sim::seeds(FEW).run(async |world| {
        let stream = Stream::start(world, |builder| builder).await;
        stream.send(20).await;
        stream.settled().await;
        let leader = stream.cluster.leader(TOPIC, 0).expect("a leader");
        let late = Fault::on::<ProduceRequest>(Effect::DelayAnswer(60 * SECOND));
        let struck = stream.cluster.faults().add(late.of(TOPIC, 0).times(1));
        stream.send(20).await;
        world.until("a batch is written and not acknowledged", || struck.strikes() == 1).await;
        sleep(Duration::from_millis(world.random().u64(..500))).await;
        leader.kill();
        stream.send(20).await;
        sleep(20 * SECOND).await;
        leader.start();
        stream.settle_all().await;
    });
}

#[test]
fn p11_what_is_applied_behind_its_deadline_was_called_possibly_written() {
    Sim::seeds(FEW).run(async |world| {
        let short = |builder: ottla::ProducerBuilder| {
            builder.request_timeout(2 * SECOND).delivery_timeout(5 * SECOND)
        };
        let stream = Stream::start(world, short).await;
        stream.send(20).await;
        stream.settled().await;
        let late = Fault::on::<ProduceRequest>(Effect::CarryOutLate(20 * SECOND)).of(TOPIC, 0);
        let late = stream.cluster.faults().add(late);
        stream.send(20).await;
        sleep(10 * SECOND).await;
        let possibly = stream.count(|fate| fate == Fate::PossiblyWritten);
        world.expect(possibly > 0, "doubts to be told at the deadline", || "there were none".to_owned());
        late.end();
        sleep(SECOND).await;
        stream.send(20).await;
        stream.settle().await;
    });
}

#[test]
fn p19_a_topic_that_is_created_anew_is_written_to() {
    Sim::seeds(FEW).run(async |world| {
        let stream = Stream::start(world, |builder| builder).await;
        let (producer, admin) = (&stream.producer, Admin::new(&stream.client));
        for _ in 0..3 {
            for number in 0..10 {
                drop(producer.enqueue(TOPIC, Record::new(&number.to_string()).partition(0)).await?);
            }
            admin.delete_topics([TOPIC]).await?.all()?;
            // What was on its way may have been lost with its topic.
            drop(producer.flush().await);
            admin.create_topics([NewTopic::new(TOPIC, 1, 3)]).await?.all()?;
            let again =
                async { while producer.send(TOPIC, Record::new("again").partition(0)).await.is_err() {} };
            let written = timeout(30 * SECOND, again).await;
            world.expect(written.is_ok(), "the new topic to be written to soon", || "it was not".to_owned());
            let log = stream.cluster.log(TOPIC, 0);
            let there = log.iter().filter(|logged| &logged.value[..] == b"again").count();
            world.expect(there == 1, "the record to be there once", || format!("{there} times"));
        }
        Ok::<_, ottla::Error>(())
    });
}

#[test]
fn p20_partitions_that_a_stale_broker_leaves_out_are_written_to() {
    let hide = || {
        Fault::on::<MetadataRequest>(Effect::edit::<MetadataRequest>(|response| {
            for topic in &mut response.topics {
                topic.partitions.retain(|partition| partition.partition_index == 0);
            }
        }))
    };
    Sim::seeds(FEW).run(async |world| {
        let stream = Stream::start(world, |builder| builder).await;
        let faults = stream.cluster.faults();
        let hidden = faults.add(hide());
        stream.send_to(0, 10).await;
        stream.settled().await;
        hidden.end();
        // The partition is not known yet.
        stream.send_to(1, 10).await;
        stream.settled().await;
        let hidden = faults.add(hide());
        for _ in 0..20 {
            stream.send(4).await;
            sleep(SECOND / 2).await;
        }
        hidden.end();
        stream.settle_all().await;
    });
}

#[test]
fn p22_leaders_of_an_older_epoch_are_not_believed() {
    Sim::seeds(FEW).run(async |world| {
        let stream = Stream::start(world, |builder| builder).await;
        stream.send(10).await;
        stream.settled().await;
        let former = stream.cluster.leader(TOPIC, 0).expect("a leader");
        former.kill();
        let moved = || stream.cluster.leader(TOPIC, 0).is_some_and(|leader| leader.id() != former.id());
        world.until("there is another leader", moved).await;
        stream.send(10).await;
        stream.settled().await;
        former.start();
        let id = former.id();
        let stale = Effect::edit::<MetadataRequest>(move |response| {
            for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                if partition.leader_epoch > 0 {
                    partition.leader_epoch -= 1;
                    partition.leader_id = id;
                }
            }
        });
        let struck = stream.cluster.faults().add(Fault::on::<MetadataRequest>(stale).from_client("app"));
        for _ in 0..20 {
            let begin = world.elapsed();
            stream.send_to(0, 10).await;
            stream.settled().await;
            let took = world.elapsed() - begin;
            world.expect(took < SECOND, "the leader to be used as before", || format!("it took {took:?}"));
            sleep(SECOND / 2).await;
        }
        assert!(struck.strikes() > 2);
        struck.end();
        stream.settle_all().await;
    });
}

#[test]
fn p23_ten_minutes_without_brokers_cost_bounded_memory_and_what_was_taken_comes_out_in_order() {
    const MEMORY: usize = 100_000;
    Sim::seeds(FEW).run(async |world| {
        let patient = |builder: ottla::ProducerBuilder| {
            builder.buffer_memory(MEMORY).max_block(5 * SECOND).delivery_timeout(1_200 * SECOND)
        };
        let stream = Stream::start(world, patient).await;
        stream.send(20).await;
        stream.settled().await;
        stream.cluster.brokers().for_each(|broker| broker.kill());
        let begin = world.elapsed();
        while world.elapsed() - begin < 600 * SECOND {
            stream.send_to(0, 1_000).await;
            let waiting = stream.history.pending();
            world.expect(waiting * 1_000 <= MEMORY, "no more to wait than fits into memory", || {
                format!("{waiting} records of 1 KB wait")
            });
        }
        assert!(stream.count(|fate| fate == Fate::NotWritten) > 10);
        stream.cluster.brokers().for_each(|broker| broker.start());
        stream.send(20).await;
        stream.settle().await;
        assert_eq!(stream.count(|fate| fate == Fate::PossiblyWritten), 0);
    });
}

#[test]
fn p24_without_acknowledgements_a_broken_connection_mixes_nothing_up() {
    Sim::seeds(FEW).run(async |world| {
        let unacknowledged =
            |builder: ottla::ProducerBuilder| builder.acks(Acks::None).enable_idempotence(false);
        let stream = Stream::start(world, unacknowledged).await;
        world.network().everywhere(Conditions { reset: 0.05, short: 0.5, ..Conditions::default() });
        for number in 0..300 {
            // What is written to a connection that then breaks is lost, and nobody knows.
            let value = format!("lossy {number}");
            drop(stream.producer.send(TOPIC, Record::new(&value).partition(0)).await);
        }
        world.network().everywhere(Conditions::default());
        sleep(SECOND).await;
        let calm = Producer::builder(&stream.client).acks(Acks::None).enable_idempotence(false).build()?;
        for number in 0..50 {
            calm.send(TOPIC, Record::new(&format!("calm {number}")).partition(1)).await?;
        }
        let there = || {
            let log = stream.cluster.log(TOPIC, 1);
            log.iter().filter(|logged| logged.value.starts_with(b"calm")).count() == 50
        };
        world.until("what was sent without trouble is there", there).await;
        Ok::<_, ottla::Error>(())
    });
}

#[test]
fn p25_a_send_that_is_dropped_anywhere_disturbs_no_other() {
    Sim::seeds(0..12).run(async |world| {
        let stream = Stream::start(world, |builder| builder.buffer_memory(70_000)).await;
        let slow = Duration::ZERO..=Duration::from_millis(15);
        let rough = Conditions { latency: slow, reset: 0.01, ..Conditions::default() };
        world.network().everywhere(rough);
        let mut random = world.random();
        let mut sending = Vec::new();
        for number in 0..300 {
            let value = format!("impatient {number} {}", "=".repeat(random.usize(..400)));
            let patience = Duration::from_micros(random.u64(..30_000));
            // Senders of their own: they do not wait for each other, and so promise no order.
            let record = stream.history.sending(1_000 + number, 0, value.clone().into());
            let (producer, history) = (stream.producer.clone(), stream.history.clone());
            sending.push(world.spawn("app", async move {
                let sent = timeout(patience, producer.send(TOPIC, Record::new(&value).partition(0))).await;
                let fate = match sent {
                    Ok(Ok(written)) => Fate::Written(written.offset()),
                    Ok(Err(error)) => fate_of(&error),
                    Err(_) => Fate::PossiblyWritten,
                };
                history.settled(record, fate);
            }));
            if random.u8(..4) == 0 {
                stream.send(1).await;
                sleep(Duration::from_micros(random.u64(..20_000))).await;
            }
        }
        for running in sending {
            running.finished().await;
        }
        world.network().everywhere(Conditions::default());
        stream.settle().await;
    });
}

#[test]
fn p26_flush_and_close_end_in_an_outage_and_every_record_has_its_fate() {
    Sim::seeds(FEW).run(async |world| {
        let short = |builder: ottla::ProducerBuilder| {
            builder.request_timeout(3 * SECOND).delivery_timeout(8 * SECOND).max_block(3 * SECOND)
        };
        let stream = Stream::start(world, short).await;
        stream.send(20).await;
        stream.settled().await;
        let app = world.host("app");
        for broker in stream.cluster.brokers() {
            world.network().block(broker.host(), &app);
        }
        stream.send(40).await;
        let begin = world.elapsed();
        // Failures are told by the receipts, which somebody has.
        drop(stream.producer.flush().await);
        stream.send(10).await;
        drop(stream.producer.close().await);
        let took = world.elapsed() - begin;
        world.expect(took < 25 * SECOND, "both to end by the deadline", || format!("it took {took:?}"));
        world.until_within(SECOND, "every fate is known", || stream.history.pending() == 0).await;
        for broker in stream.cluster.brokers() {
            world.network().unblock(broker.host(), &app);
        }
        stream.settle().await;
    });
}

#[test]
fn p27_behind_the_last_epoch_a_new_producer_id_is_taken_and_nothing_is_lost_or_there_twice() {
    Sim::seeds(FEW).run(async |world| {
        let stream = Stream::start(world, |builder| builder).await;
        let last_but_two =
            Effect::edit::<InitProducerIdRequest>(|answer| answer.producer_epoch = i16::MAX - 2);
        stream.cluster.faults().add(Fault::on::<InitProducerIdRequest>(last_but_two).times(1));
        let unchanged = Effect::edit::<InitProducerIdRequest>(|_| {});
        let asked_again = stream.cluster.faults().add(Fault::on::<InitProducerIdRequest>(unchanged));
        stream.send(20).await;
        stream.settled().await;
        for _ in 0..6 {
            // Each gap raises the partition's epoch.
            let gap = Fault::on::<ProduceRequest>(Effect::Refuse(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER));
            let gap = stream.cluster.faults().add(gap.of(TOPIC, 0).times(1));
            stream.send(20).await;
            stream.settled().await;
            assert_eq!(gap.strikes(), 1);
        }
        stream.settle_all().await;
        assert!(asked_again.strikes() > 0, "there are no more epochs");
    });
}
