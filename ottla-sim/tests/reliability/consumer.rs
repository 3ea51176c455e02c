//! What brokers may answer to a reader, and what may happen to the logs that it reads: every record once, in order.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use ottla::{
    Acks, Compression, Consumer, ConsumerBuilder, ErrorCode, OffsetSpec, Producer, Record, Reset, Result,
    TopicPartition, Trouble,
};
use ottla_broker::{
    ClusterConfig,
    faults::{Effect, Fault},
};
use ottla_protocol::{
    BatchBuilder, Compressor, batch,
    messages::{
        FetchRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest, fetch_response::PartitionData,
    },
};
use ottla_sim::{Cluster, Conditions, Sim, World};
use tokio::time::{sleep, timeout};

use crate::support::{FEW, SECOND, TOPIC};

pub(crate) const RECORDS: i64 = 120;

pub(crate) fn partition(number: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, number)
}

fn on_fetch(effect: Effect) -> Fault {
    Fault::on::<FetchRequest>(effect)
}

/// Changes what a fetch says of partition 0.
fn edit_fetched(change: impl Fn(&mut PartitionData) + Send + Sync + 'static) -> Fault {
    let edit = Effect::edit::<FetchRequest>(move |response| {
        let partitions = response.responses.iter_mut().flat_map(|topic| &mut topic.partitions);
        partitions.filter(|partition| partition.partition_index == 0).for_each(&change);
    });
    on_fetch(edit).of(TOPIC, 0)
}

/// Flips a byte in the records of an answer.
fn corrupt(data: &mut PartitionData) {
    if let Some(records) = data.records.take().filter(|records| !records.is_empty()) {
        let mut bytes = records.to_vec();
        // Behind the header of the first batch.
        bytes[70] ^= 0x55;
        data.records = Some(Bytes::from(bytes));
    }
}

/// Both partitions have records `0..RECORDS` in batches of a few, each with its offset as its value.
pub(crate) async fn filled(world: &World, config: ClusterConfig) -> Cluster {
    let cluster = world.cluster_with(config).await;
    cluster.topic(TOPIC, 2).await;
    for from in (0..RECORDS).step_by(4) {
        let values: Vec<String> = (from..from + 4).map(|offset| offset.to_string()).collect();
        for number in 0..2 {
            cluster.produce(TOPIC, values.iter().map(|value| Record::new(value).partition(number))).await;
        }
    }
    cluster
}

pub(crate) fn reader(
    cluster: &Cluster,
    configure: impl FnOnce(ConsumerBuilder) -> ConsumerBuilder,
) -> Result<Consumer> {
    // Little at a time, so that there are many fetches.
    let little = Consumer::builder(&cluster.client()).max_partition_fetch_bytes(500).fetch_max_bytes(1_000);
    let consumer = configure(little).build()?;
    consumer.assign((0..2).map(|number| (partition(number), OffsetSpec::Earliest)))?;
    Ok(consumer)
}

/// Reads until each of these partitions has come to its end, and checks that each record comes once and in order.
async fn read_on(consumer: &Consumer, next: &mut BTreeMap<i32, i64>) -> Result<()> {
    while next.values().any(|next| *next < RECORDS) {
        let record = consumer.recv().await?.expect("it is open");
        let view = record.view();
        let next = next.get_mut(&view.partition()).expect("a partition that was asked for");
        assert_eq!(view.offset(), *next, "partition {}", view.partition());
        assert_eq!(view.value(), Some(next.to_string().as_bytes()));
        *next += 1;
    }
    Ok(())
}

async fn read_all(consumer: &Consumer) -> Result<()> {
    let mut next = BTreeMap::from([(0, 0), (1, 0)]);
    timeout(120 * SECOND, read_on(consumer, &mut next)).await.expect("all is read in time")
}

/// Each fault strikes some fetches, and must neither lose nor repeat anything.
fn all_is_read_despite(faults: impl IntoIterator<Item = Fault>) {
    for fault in faults {
        Sim::seeds(FEW).run(async |world| {
            let cluster = filled(world, ClusterConfig::with_nodes(3, "", 0)).await;
            let consumer = reader(&cluster, |builder| builder)?;
            consumer.recv().await?;
            consumer.seek(&partition(0), OffsetSpec::Earliest).await?;
            consumer.seek(&partition(1), OffsetSpec::Earliest).await?;
            let struck = cluster.faults().add(fault.clone().times(3));
            read_all(&consumer).await?;
            assert!(struck.strikes() > 0, "{fault:?}");
            Ok::<_, ottla::Error>(())
        });
    }
}

#[test]
fn c01_a_position_that_is_not_in_the_log_is_told_or_reset_as_the_policy_says() {
    for (policy, goes_on_at) in
        [(Reset::Earliest, Some(0)), (Reset::Latest, Some(RECORDS)), (Reset::Error, None)]
    {
        Sim::seeds(FEW).run(async |world| {
            let cluster = filled(world, ClusterConfig::with_nodes(3, "", 0)).await;
            let consumer = reader(&cluster, |builder| builder.on_out_of_range(policy))?;
            consumer.assign([(partition(0), OffsetSpec::At(10_000))])?;
            match goes_on_at {
                Some(offset) => {
                    cluster.produce(TOPIC, [Record::new("behind").partition(0)]).await;
                    assert_eq!(consumer.recv().await?.expect("open").view().offset(), offset);
                }
                None => {
                    let error = consumer.recv().await.expect_err("somebody has to decide");
                    assert_eq!(error.topic_partition(), Some(&partition(0)));
                    consumer.seek(&partition(0), OffsetSpec::At(7)).await?;
                    assert_eq!(consumer.recv().await?.expect("open").view().offset(), 7);
                }
            }
            Ok::<_, ottla::Error>(())
        });
    }
}

/// The follower that takes over has not seen the end of the log, and gets another one.
async fn truncated(world: &World, policy: Reset) -> Result<(Consumer, i64)> {
    let config = ClusterConfig {
        unclean_leader_election: true,
        min_insync_replicas: 1,
        default_replication_factor: 2,
        ..ClusterConfig::with_nodes(2, "", 0)
    };
    let cluster = world.cluster_with(config).await;
    cluster.topic(TOPIC, 1).await;
    let client = cluster.client_on("writer");
    let producer = Producer::builder(&client).acks(Acks::Leader).enable_idempotence(false).build()?;
    let produce = async |what: &str, count: i64| {
        for number in 0..count {
            producer.send(TOPIC, &format!("{what} {number}")).await.expect("the leader runs");
        }
    };
    produce("common", 20).await;
    sleep(5 * SECOND).await;
    let leader = cluster.leader(TOPIC, 0).expect("a leader");
    let follower = cluster.brokers().find(|broker| broker.id() != leader.id()).expect("two");
    follower.kill();
    let alone = || cluster.image().topic(TOPIC).is_some_and(|topic| topic.partitions[0].isr.len() == 1);
    world.until("the leader is alone in the in-sync set", alone).await;
    produce("lost", 10).await;
    let consumer = Consumer::builder(&cluster.client()).on_out_of_range(policy).build()?;
    consumer.assign([(partition(0), OffsetSpec::Earliest)])?;
    for offset in 0..30 {
        assert_eq!(consumer.recv().await?.expect("open").view().offset(), offset);
    }
    leader.kill();
    follower.start();
    let taken_over = || cluster.leader(TOPIC, 0).is_some_and(|leader| leader.id() == follower.id());
    world.until("the follower leads", taken_over).await;
    produce("other", 10).await;
    Ok((consumer, 20))
}

#[test]
fn c02_after_a_truncation_reading_goes_on_where_the_logs_part() {
    Sim::seeds(FEW).run(async |world| {
        let (consumer, parted) = truncated(world, Reset::Earliest).await?;
        for number in 0..10 {
            let record = consumer.recv().await?.expect("open");
            assert_eq!(record.view().offset(), parted + number);
            assert_eq!(record.view().value(), Some(format!("other {number}").as_bytes()));
        }
        Ok::<_, ottla::Error>(())
    });
}

#[test]
fn c02_without_a_policy_a_truncation_is_told() {
    Sim::seeds(FEW).run(async |world| {
        let (consumer, parted) = truncated(world, Reset::Error).await?;
        let error = consumer.recv().await.expect_err("somebody has to decide");
        assert_eq!(error.topic_partition(), Some(&partition(0)));
        let text = format!("{error:#}");
        assert!(text.contains("truncated below offset 30"), "{text}");
        assert!(text.contains("from offset 20 on it is another one"), "{text}");
        let trouble = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<Trouble>());
        assert_eq!(trouble, Some(&Trouble::Truncated { offset: 30, divergent: Some(parted) }));
        consumer.seek(&partition(0), OffsetSpec::At(parted)).await?;
        assert_eq!(consumer.recv().await?.expect("open").view().value(), Some(&b"other 0"[..]));
        Ok::<_, ottla::Error>(())
    });
}

#[test]
fn c03_leaders_that_move_quickly_lose_and_repeat_nothing() {
    let codes = [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
        ErrorCode::OFFSET_NOT_AVAILABLE,
    ];
    all_is_read_despite(codes.map(|code| on_fetch(Effect::Refuse(code)).of(TOPIC, 0)));
}

#[test]
fn c03_looking_up_where_an_epoch_ends_is_asked_again() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = filled(world, ClusterConfig::with_nodes(3, "", 0)).await;
        let consumer = reader(&cluster, |builder| builder)?;
        let mut next = BTreeMap::from([(0, 0)]);
        while next[&0] < 20 {
            let record = consumer.recv().await?.expect("it is open");
            if record.view().partition() == 0 {
                next.insert(0, record.view().offset() + 1);
            }
        }
        next.insert(1, consumer.position(&partition(1)).expect("it is known"));
        let refuse = Effect::Refuse(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        cluster.faults().add(Fault::on::<OffsetForLeaderEpochRequest>(refuse).times(2));
        for _ in 0..2 {
            let leader = cluster.leader(TOPIC, 0).expect("a leader");
            leader.kill();
            let moved = || cluster.leader(TOPIC, 0).is_some_and(|now| now.id() != leader.id());
            world.until("there is another leader", moved).await;
            leader.start();
            cluster.healed(TOPIC).await;
        }
        timeout(120 * SECOND, read_on(&consumer, &mut next)).await.expect("all is read in time")
    });
}

#[test]
fn c04_a_batch_that_was_corrupt_once_is_fetched_again() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = filled(world, ClusterConfig::with_nodes(3, "", 0)).await;
        cluster.faults().add(edit_fetched(corrupt).times(1));
        read_all(&reader(&cluster, |builder| builder)?).await
    });
}

#[test]
fn c04_what_stays_corrupt_is_told_and_other_partitions_flow() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = filled(world, ClusterConfig::with_nodes(3, "", 0)).await;
        let corrupting = cluster.faults().add(edit_fetched(corrupt));
        let consumer = reader(&cluster, |builder| builder)?;
        let (mut told, mut next) = (None, 0);
        while told.is_none() || next < RECORDS {
            match timeout(60 * SECOND, consumer.recv()).await.expect("something comes") {
                Ok(record) => {
                    let record = record.expect("it is open");
                    assert_eq!((record.view().partition(), record.view().offset()), (1, next));
                    next += 1;
                }
                Err(error) => told = Some(error),
            }
        }
        let told = told.expect("the loop ends behind it");
        assert_eq!(told.topic_partition(), Some(&partition(0)), "{told}");
        corrupting.end();
        consumer.seek(&partition(0), OffsetSpec::Earliest).await?;
        read_on(&consumer, &mut BTreeMap::from([(0, 0)])).await
    });
}

#[test]
fn c05_a_batch_larger_than_the_limit_is_read() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = world.cluster(3).await;
        cluster.topic(TOPIC, 2).await;
        let large = "x".repeat(200_000);
        for number in 0..2 {
            cluster.produce(TOPIC, [Record::new(&large).partition(number), "small".into()]).await;
        }
        let consumer = reader(&cluster, |builder| builder)?;
        for _ in 0..4 {
            timeout(60 * SECOND, consumer.recv()).await.expect("it gets on")?;
        }
        Ok::<_, ottla::Error>(())
    });
}

#[test]
fn c06_a_format_that_nobody_knows_is_a_typed_error() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = filled(world, ClusterConfig::with_nodes(3, "", 0)).await;
        let unknown = edit_fetched(|data| {
            if let Some(records) = data.records.take().filter(|records| !records.is_empty()) {
                let mut bytes = records.to_vec();
                bytes[16] = 3;
                data.records = Some(bytes.into());
            }
        });
        cluster.faults().add(unknown);
        let consumer = reader(&cluster, |builder| builder)?;
        loop {
            match timeout(60 * SECOND, consumer.recv()).await.expect("something comes") {
                Ok(record) => assert_eq!(record.expect("it is open").view().partition(), 1),
                Err(error) => {
                    assert_eq!(error.topic_partition(), Some(&partition(0)), "{error}");
                    return Ok::<_, ottla::Error>(());
                }
            }
        }
    });
}

#[test]
fn c07_fetch_sessions_that_are_lost_confused_or_evicted_cost_nothing() {
    let codes = [
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
        ErrorCode::INVALID_FETCH_SESSION_EPOCH,
        ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
    ];
    let lost = on_fetch(Effect::LoseAnswer);
    let other = on_fetch(Effect::edit::<FetchRequest>(|response| response.session_id += 1));
    all_is_read_despite(codes.map(|code| on_fetch(Effect::Refuse(code))).into_iter().chain([lost, other]));
    Sim::seeds(FEW).run(async |world| {
        let config = ClusterConfig { fetch_session_slots: 1, ..ClusterConfig::with_nodes(1, "", 0) };
        let cluster = filled(world, config).await;
        let readers = [reader(&cluster, |builder| builder)?, reader(&cluster, |builder| builder)?];
        let [one, other] = &readers;
        let (one, other) = tokio::join!(biased; read_all(one), read_all(other));
        one.and(other)
    });
}

#[test]
fn c09_behind_a_seek_nothing_of_before_is_handed_out() {
    Sim::seeds(0..8).run(async |world| {
        let cluster = filled(world, ClusterConfig::with_nodes(3, "", 0)).await;
        let slow = Duration::ZERO..=Duration::from_millis(80);
        world.network().everywhere(Conditions { latency: slow, ..Conditions::default() });
        let consumer = reader(&cluster, |builder| builder)?;
        let mut random = world.random();
        for _ in 0..100 {
            let to = random.i64(0..RECORDS);
            consumer.assign([(partition(0), OffsetSpec::At(to))])?;
            if random.bool() {
                sleep(Duration::from_millis(random.u64(..100))).await;
            }
            let to = random.i64(0..RECORDS);
            consumer.seek(&partition(0), OffsetSpec::At(to)).await?;
            for offset in to..(to + random.i64(1..6)).min(RECORDS) {
                let record = consumer.recv().await?.expect("it is open");
                assert_eq!((record.view().partition(), record.view().offset()), (0, offset));
            }
        }
        Ok::<_, ottla::Error>(())
    });
}

#[test]
fn c13_places_are_asked_for_again_when_leaders_move() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = filled(world, ClusterConfig::with_nodes(3, "", 0)).await;
        let refuse = Effect::Refuse(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        let struck = cluster.faults().add(Fault::on::<ListOffsetsRequest>(refuse).times(3));
        read_all(&reader(&cluster, |builder| builder)?).await?;
        assert_eq!(struck.strikes(), 3);
        Ok::<_, ottla::Error>(())
    });
}

/// What compaction does to a log: batches are gone from the middle.
#[test]
fn c14_gaps_are_crossed_and_records_below_the_position_left_out() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = filled(world, ClusterConfig::with_nodes(3, "", 0)).await;
        let compacted = edit_fetched(|data| {
            let Some(records) = data.records.take() else { return };
            let batches = ottla_protocol::batches(records).filter_map(std::result::Result::ok);
            // Of each three batches, two are left.
            let left = batches.filter(|batch| batch.header().base_offset / 4 % 3 != 1);
            data.records = Some(left.flat_map(|batch| batch.bytes().to_vec()).collect());
        });
        cluster.faults().add(compacted);
        let consumer = reader(&cluster, |builder| builder.max_partition_fetch_bytes(2_000))?;
        // In the middle of a batch.
        consumer.assign([(partition(0), OffsetSpec::At(2))])?;
        for offset in (2..RECORDS).filter(|offset| offset / 4 % 3 != 1) {
            let record = timeout(60 * SECOND, consumer.recv()).await.expect("it gets on")?;
            assert_eq!(record.expect("it is open").view().offset(), offset);
        }
        Ok::<_, ottla::Error>(())
    });
}

/// A record of nothing but zeros: some hundred bytes that would become eight megabytes.
fn bomb() -> Bytes {
    let zeros = vec![0; 8 << 20];
    let mut batch = BatchBuilder::new(zeros.len());
    batch.append(0, None, Some(&zeros), std::iter::empty()).expect("there is room for it");
    let mut zstd = Compressor::new(Compression::Zstd, None).expect("it is built in");
    let mut batch = batch.seal_with(&mut zstd).expect("zeros can be compressed");
    batch.stamp_without_producer();
    batch.into_bytes()
}

#[test]
fn d03_a_batch_that_is_a_bomb_is_told_and_other_partitions_flow() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = filled(world, ClusterConfig::with_nodes(3, "", 0)).await;
        let bomb = bomb();
        assert!(bomb.len() < 1_000, "it is worth its name: {}", bomb.len());
        let mined = cluster.faults().add(edit_fetched(move |data| {
            if data.records.as_ref().is_some_and(|records| !records.is_empty()) {
                data.records = Some(bomb.clone());
            }
        }));
        let consumer = reader(&cluster, |builder| builder)?;
        let mut next = BTreeMap::from([(1, 0)]);
        let error = loop {
            match timeout(60 * SECOND, consumer.recv()).await.expect("it is told") {
                Ok(record) => {
                    assert_eq!(record.expect("open").view().partition(), 1);
                    next.entry(1).and_modify(|next| *next += 1);
                }
                Err(error) => break error,
            }
        };
        assert_eq!(error.topic_partition(), Some(&partition(0)));
        let trouble = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<Trouble>());
        assert!(matches!(trouble, Some(Trouble::Corrupt { offset: 0, .. })), "{error:#}");
        timeout(60 * SECOND, read_on(&consumer, &mut next)).await.expect("the other one flows")?;

        mined.end();
        consumer.seek(&partition(0), OffsetSpec::Earliest).await?;
        timeout(60 * SECOND, read_on(&consumer, &mut BTreeMap::from([(0, 0)]))).await.expect("all is read")
    });
}

/// Where a batch says these things of itself.
const BATCH_LENGTH: usize = 8;
const LAST_OFFSET_DELTA: usize = 23;
const COUNT: usize = 57;
const FIRST_RECORD: usize = 61;

/// A batch of partition 0 lies at this place, and its checksum is that of the lie.
fn lie(at: usize, bytes: &'static [u8]) -> Fault {
    edit_fetched(move |data| {
        let Some(records) = data.records.take().filter(|records| !records.is_empty()) else { return };
        let mut batch = records.to_vec();
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        let length = batch::batches(records).next().and_then(std::result::Result::ok);
        let end = length.map_or(batch.len(), |first| first.bytes().len());
        let crc = batch::crc32c(&batch[21..end]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        data.records = Some(batch.into());
    })
}

#[test]
fn d04_a_batch_that_lies_about_its_records_is_told_once_and_other_partitions_flow() {
    let lies = [
        ("fewer records than none", lie(COUNT, &[0xff; 4])),
        ("more records than bytes", lie(COUNT, &[0x7f, 0xff, 0xff, 0xff])),
        ("one record more", lie(COUNT, &[0, 0, 0, 5])),
        ("it ends before it begins", lie(LAST_OFFSET_DELTA, &[0xff; 4])),
        ("it is of negative length", lie(BATCH_LENGTH, &[0xff, 0xff, 0xff, 0xc0])),
        ("it is shorter than its header", lie(BATCH_LENGTH, &[0, 0, 0, 9])),
        // Varints: the length of a record, and what follows it.
        ("a record is of negative length", lie(FIRST_RECORD, &[0x01])),
        ("a record is longer than the batch", lie(FIRST_RECORD, &[0xfe, 0x7f])),
        ("a key of more bytes than the record", lie(FIRST_RECORD + 4, &[0x7e])),
    ];
    for (what, lie) in lies {
        Sim::seeds(FEW).run(async |world| {
            let cluster = filled(world, ClusterConfig::with_nodes(3, "", 0)).await;
            let lying = cluster.faults().add(lie.clone());
            let consumer = reader(&cluster, |builder| builder)?;
            let (mut told, mut next) = (Vec::new(), 0);
            // Whoever is told of it is told once, and brokers are not asked for it again and again.
            while told.is_empty() || next < RECORDS {
                match timeout(60 * SECOND, consumer.recv()).await.expect("it gets on") {
                    Ok(record) => {
                        let record = record.expect("it is open");
                        assert_eq!((record.view().partition(), record.view().offset()), (1, next), "{what}");
                        next += 1;
                    }
                    Err(error) => told.push(error),
                }
            }
            let strikes = lying.strikes();
            assert!(timeout(30 * SECOND, consumer.recv()).await.is_err(), "{what}: nothing more is told");
            assert!(
                lying.strikes() - strikes < 10,
                "{what}: fetched {} times more",
                lying.strikes() - strikes
            );
            let [error] = told.as_slice() else { panic!("{what}: {told:?}") };
            assert_eq!(error.topic_partition(), Some(&partition(0)), "{what}: {error:#}");

            lying.end();
            consumer.seek(&partition(0), OffsetSpec::Earliest).await?;
            timeout(60 * SECOND, read_on(&consumer, &mut BTreeMap::from([(0, 0)])))
                .await
                .expect("all is read")
        });
    }
}
