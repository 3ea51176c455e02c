//! Records that Java writes and we read, and the reverse.

use std::collections::BTreeSet;

use ottla::{Compression, Consumer, Reset};

use super::records::{all_kinds, assert_same, compressing};
use crate::World;
use crate::record::Written;
use crate::world::{fresh_name, write_with};

pub(crate) async fn java_reads_what_we_write(world: &World) {
    let Some(java) = world.java() else { return };
    let records = all_kinds();
    for codec in Compression::ALL {
        let topic = world.topic(1).await;
        write_with(&compressing(world, codec), &topic, &records).await;
        let read = java.consume(&world.bootstrap_servers(), &topic, records.len()).await;
        assert_same(&read, &records, codec);
    }
}

pub(crate) async fn we_read_what_java_writes(world: &World) {
    let Some(java) = world.java() else { return };
    let records = all_kinds();
    for codec in Compression::ALL {
        let topic = world.topic(1).await;
        let settings = [&*format!("compression.type={codec}"), "linger.ms=100", "batch.size=200000"];
        let written = java.produce(&world.bootstrap_servers(), &topic, &records, &settings).await;
        assert_eq!(
            written,
            (0..records.len() as i64).map(|offset| (0, offset)).collect::<Vec<_>>(),
            "{codec}"
        );
        assert_same(&world.read(&topic, 1, records.len()).await, &records, codec);
    }
}

pub(crate) async fn java_and_we_choose_the_same_partitions(world: &World) {
    let Some(java) = world.java() else { return };
    const PARTITIONS: i32 = 50;
    let (ours, theirs) = (world.topic(PARTITIONS).await, world.topic(PARTITIONS).await);
    // Keys of every length that murmur2 treats differently, with bytes of either sign.
    let key =
        |n: u8| (0..n % 13).map(|i| n.wrapping_mul(31).wrapping_add(i.wrapping_mul(97))).collect::<Vec<u8>>();
    let records: Vec<_> = (0..=255).map(|n| Written::value("v").key(key(n))).collect();
    let here: Vec<_> =
        world.write(&ours, &records).await.iter().map(|metadata| metadata.partition()).collect();
    let there = java.produce(&world.bootstrap_servers(), &theirs, &records, &[]).await;
    assert_eq!(here, there.iter().map(|(partition, _)| *partition).collect::<Vec<_>>());
}

pub(crate) async fn what_the_verifiable_producer_was_promised_is_there(world: &World) {
    const RECORDS: usize = 1_000;
    let Some(java) = world.java() else { return };
    let topic = world.topic(3).await;
    let count = RECORDS.to_string();
    let arguments =
        ["--bootstrap-server", &world.bootstrap_servers(), "--topic", &topic, "--max-messages", &count];
    let lines = java.tool("org.apache.kafka.tools.VerifiableProducer", &arguments).await;
    let promised: BTreeSet<_> = lines
        .iter()
        .filter(|line| line["name"] == "producer_send_success")
        .map(|line| (line["partition"].as_i64(), line["offset"].as_i64(), line["value"].as_str()))
        .collect();
    assert_eq!(promised.len(), RECORDS);
    let read = world.read(&topic, 3, RECORDS).await;
    let read: BTreeSet<_> = read
        .iter()
        .map(|record| (Some(i64::from(record.partition)), Some(record.offset), Some(record.text())))
        .collect();
    assert_eq!(read, promised);
}

/// By the offsets that it has committed, and our member has no use for what is before them.
pub(crate) async fn our_member_goes_on_where_the_verifiable_consumer_left_off(world: &World) {
    const RECORDS: usize = 600;
    const PARTITIONS: i32 = 3;
    let Some(java) = world.java() else { return };
    let (topic, group) = (world.topic(PARTITIONS).await, fresh_name());
    let record = |n: usize| Written::value(n.to_string()).partition(n as i32 % PARTITIONS);
    let records = |from: usize| (from..from + RECORDS).map(record).collect::<Vec<_>>();
    world.write(&topic, &records(0)).await;
    let (servers, count) = (world.bootstrap_servers(), RECORDS.to_string());
    let arguments = ["--bootstrap-server", &servers, "--topic", &topic, "--group-id", &group];
    let arguments = [&arguments[..], &["--max-messages", &count]].concat();
    let lines = java.tool("org.apache.kafka.tools.VerifiableConsumer", &arguments).await;
    let consumed = lines.iter().filter(|line| line["name"] == "records_consumed");
    assert_eq!(consumed.filter_map(|line| line["count"].as_u64()).sum::<u64>(), RECORDS as u64);

    let consumer = Consumer::builder(world.client()).group(group).on_missing_offset(Reset::Error).build();
    let consumer = consumer.expect("valid");
    consumer.subscribe([&*topic]).expect("it has a group");
    world.write(&topic, &records(RECORDS)).await;
    let mut read = BTreeSet::new();
    while read.len() < RECORDS {
        let record = consumer.recv().await.expect("every partition has an offset").expect("it is open");
        let text =
            std::str::from_utf8(record.view().value().unwrap_or_default()).expect("it is text").to_owned();
        assert!(read.insert(text.parse::<usize>().expect("a number")), "{text} comes twice");
        record.complete();
    }
    assert!(read.into_iter().eq(RECORDS..2 * RECORDS));
    consumer.close().await.expect("it commits and leaves");
}
