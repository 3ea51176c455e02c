//! Records that Java writes and we read, and the reverse.

use ottla::Compression;

use super::records::{all_kinds, assert_same, compressing};
use crate::World;
use crate::record::Written;
use crate::world::write_with;

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
