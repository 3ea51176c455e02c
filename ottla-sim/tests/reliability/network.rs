//! Brokers that are slow, restart, lie about where they are, or say what nobody asked for.

use std::time::Duration;

use bytes::Bytes;
use ottla::{Consumer, OffsetSpec, Record, TopicPartition};
use ottla_broker::faults::{Effect, Fault};
use ottla_protocol::{
    ApiKey,
    messages::{MetadataRequest, metadata_response::MetadataResponsePartition},
};
use ottla_sim::{Conditions, Sim};
use tokio::time::sleep;

use crate::support::{self, FEW, Load, Plan, SECOND, SEEDS, Stream, TOPIC};

/// What the client asks brokers for while it produces and consumes.
const APIS: [ApiKey; 6] = [
    ApiKey::PRODUCE,
    ApiKey::FETCH,
    ApiKey::METADATA,
    ApiKey::LIST_OFFSETS,
    ApiKey::INIT_PRODUCER_ID,
    ApiKey::API_VERSIONS,
];

/// Each of these strikes some requests of every kind; then all must be well.
fn survives(effects: impl IntoIterator<Item = Effect>) {
    for effect in effects {
        Sim::seeds(FEW).run(async |world| {
            let cluster = support::cluster(world, Plan::default()).await;
            let faults = cluster.faults();
            let struck = APIS.map(|api| faults.add(Fault::on_api(api, effect.clone()).times(2)));
            let load = Load::begin(world, &cluster, Plan { records: 100, ..Plan::default() });
            sleep(20 * SECOND).await;
            assert!(struck.iter().all(|fault| fault.strikes() > 0), "{effect:?} {struck:?}");
            load.settle(world, &cluster).await;
        });
    }
}

fn frame(bytes: &'static [u8]) -> Effect {
    Effect::Replace(Bytes::from_static(bytes))
}

#[test]
fn n01_answers_that_are_cut_short_are_no_answers() {
    survives([3, 4, 7, 12].map(Effect::Truncate));
}

#[test]
fn n03_a_trickle_does_not_extend_a_deadline() {
    Sim::seeds(FEW).run(async |world| {
        let short = |builder: ottla::ProducerBuilder| {
            builder.request_timeout(3 * SECOND).delivery_timeout(10 * SECOND)
        };
        let stream = Stream::start(world, short).await;
        stream.send(20).await;
        stream.settled().await;
        let app = world.host("app");
        let trickle = Conditions { bandwidth: Some(1), ..Conditions::default() };
        for broker in stream.cluster.brokers() {
            world.network().set(broker.host(), &app, trickle.clone());
        }
        stream.send(20).await;
        world.until_within(11 * SECOND, "every fate is known", || stream.history.pending() == 0).await;
        for broker in stream.cluster.brokers() {
            world.network().set(broker.host(), &app, None);
        }
        // What trickles still has to come through first.
        let written = stream.history.acknowledged();
        for _ in 0..1_200 {
            if stream.history.acknowledged() > written {
                break;
            }
            stream.send(1).await;
            sleep(SECOND).await;
        }
        assert!(stream.history.acknowledged() > written, "sending goes on");
        stream.settle().await;
    });
}

#[test]
fn n10_a_connection_that_ended_while_it_was_idle_costs_no_record() {
    Sim::seeds(FEW).run(async |world| {
        let stream = Stream::start(world, |builder| builder).await;
        let app = world.host("app");
        for _ in 0..10 {
            stream.send(2).await;
            stream.settled().await;
            sleep(60 * SECOND).await;
            for broker in stream.cluster.brokers() {
                world.network().reset(broker.host(), &app);
            }
            let begin = world.elapsed();
            stream.send(2).await;
            stream.settled().await;
            let took = world.elapsed() - begin;
            world.expect(took < SECOND, "another connection at once", || format!("it took {took:?}"));
        }
        stream.settle_all().await;
    });
}

#[test]
fn n11_an_answer_to_another_request_is_delivered_to_nobody() {
    // Correlation ids that nobody gave, and some bytes.
    survives([
        frame(b"\0\0\0\x08\x7f\xff\xff\xff\0\0\0\0"),
        frame(b"\0\0\0\x04\xff\xff\xff\xff"),
        frame(b"\0\0\0\x04\0\0\0\0"),
    ]);
}

#[test]
fn n13_wall_clocks_that_jump_disturb_nothing() {
    Sim::seeds(FEW).run(async |world| {
        let plan = Plan::default();
        let cluster = support::cluster(world, plan).await;
        let load = Load::begin(world, &cluster, plan);
        for skew in [3_600, -3_600, 0] {
            for host in ["sender-1", "reader", "slow-reader"] {
                world.host(host).set_clock_skew(skew);
            }
            sleep(5 * SECOND).await;
        }
        load.settle_all(world, &cluster).await;
    });
}

#[test]
fn n15_one_slow_broker_slows_nobody_else_down() {
    Sim::seeds(FEW).run(async |world| {
        let plan = Plan { partitions: 6, pause: SECOND / 20, records: 2_000, ..Plan::default() };
        let cluster = world.cluster(3).await;
        cluster.topic_with(TOPIC, plan.partitions, 1).await;
        let load = Load::begin(world, &cluster, plan);
        sleep(5 * SECOND).await;
        let slow = cluster.broker(world.random().usize(..3));
        let of_slow: Vec<i32> =
            (0..6).filter(|p| cluster.leader(TOPIC, *p).is_some_and(|l| l.id() == slow.id())).collect();
        let late = Duration::from_millis(900);
        let conditions = Conditions { latency: late..=late, bandwidth: Some(8_000), ..Conditions::default() };
        for client in ["sender-1", "sender-2", "reader"] {
            world.network().set(slow.host(), &world.host(client), conditions.clone());
        }
        load.forget_pauses();
        sleep(20 * SECOND).await;
        let pause = load.longest_pause(|partition| !of_slow.contains(&partition));
        world.expect(pause < 2 * SECOND, "partitions of other brokers to be written all the time", || {
            format!("there was no acknowledgement for {pause:?}")
        });
        for client in ["sender-1", "sender-2", "reader"] {
            world.network().set(slow.host(), &world.host(client), None);
        }
        load.settle_all(world, &cluster).await;
    });
}

#[test]
fn n18_a_rolling_restart_fails_no_send() {
    Sim::seeds(SEEDS).run(async |world| {
        let plan = Plan { records: 1_200, ..Plan::default() };
        let cluster = support::cluster(world, plan).await;
        let load = Load::begin(world, &cluster, plan);
        for broker in cluster.brokers() {
            sleep(2 * SECOND).await;
            broker.kill();
            sleep(Duration::from_millis(world.random().u64(500..15_000))).await;
            broker.start();
            cluster.healed(TOPIC).await;
        }
        load.settle_all(world, &cluster).await;
    });
}

#[test]
fn d01_lengths_that_no_answer_has_are_refused() {
    survives([
        frame(b"\xff\xff\xff\xff"),
        frame(b"\0\0\0\0"),
        frame(b"\x7f\xff\xff\xff\0\0\0\0"),
        frame(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    ]);
}

/// What is damaged may mean anything: of offsets and codes nobody can tell. But nothing panics, every record has a fate, and
/// the cluster serves others afterwards. (A throttle time is obeyed however long it is, so that the client itself may be
/// silent for long.)
#[test]
fn d02_answers_of_noise_end_neither_in_a_panic_nor_in_a_hang() {
    Sim::seeds(0..12).run(async |world| {
        let stream = Stream::start(world, |builder| builder).await;
        stream.send(20).await;
        stream.settled().await;
        let faults = stream.cluster.faults();
        let noise =
            |api| faults.add(Fault::on_api(api, Effect::Corrupt).from_client("app").with_probability(0.3));
        let apis = [ApiKey::PRODUCE, ApiKey::FETCH, ApiKey::LIST_OFFSETS, ApiKey::API_VERSIONS];
        let noise = apis.map(noise);
        let consumer = Consumer::builder(&stream.client).build()?;
        for _ in 0..20 {
            consumer.assign([(TopicPartition::new(TOPIC, 0), OffsetSpec::Earliest)])?;
            stream.send(4).await;
            // An error may need the user, which is all right.
            drop(tokio::time::timeout(SECOND, consumer.recv()).await);
        }
        noise.iter().for_each(|noise| noise.end());
        world.until("every fate is known", || stream.history.pending() == 0).await;
        stream.cluster.produce(TOPIC, [Record::new("afterwards").partition(0)]).await;
        let consumer = Consumer::builder(&stream.cluster.client_on("reader")).build()?;
        consumer.assign([(TopicPartition::new(TOPIC, 0), OffsetSpec::Earliest)])?;
        for offset in 0..stream.cluster.log(TOPIC, 0).len() as i64 {
            assert_eq!(consumer.recv().await?.expect("it is open").view().offset(), offset);
        }
        Ok::<_, ottla::Error>(())
    });
}

#[test]
fn d05_metadata_that_cannot_be_true_is_sanitised() {
    let change = |change: fn(&mut Vec<MetadataResponsePartition>)| {
        Effect::edit::<MetadataRequest>(move |response| {
            response.topics.iter_mut().for_each(|topic| change(&mut topic.partitions));
        })
    };
    let hostile = [
        change(|partitions| partitions.clear()),
        change(|partitions| partitions.iter_mut().for_each(|partition| partition.leader_id = 77)),
        change(|partitions| partitions.iter_mut().for_each(|partition| partition.partition_index -= 3)),
        change(|partitions| partitions.extend(partitions.clone())),
        change(|partitions| partitions.iter_mut().for_each(|partition| partition.partition_index = i32::MAX)),
    ];
    for effect in hostile {
        Sim::seeds(FEW).run(async |world| {
            let stream = Stream::start(world, |builder| builder).await;
            let hostile = Fault::on::<MetadataRequest>(effect.clone()).from_client("app").times(4);
            let struck = stream.cluster.faults().add(hostile);
            for _ in 0..10 {
                stream.send(4).await;
                sleep(SECOND).await;
            }
            stream.settle_all().await;
            assert!(struck.strikes() > 0);
        });
    }
}
