//! What goes in comes out.

use std::time::{Duration, SystemTime};

use ottla::{Compression, Producer};

use crate::World;
use crate::record::{Read, Written};
use crate::world::write_with;

/// One record of each kind that a codec or a framing might get wrong.
pub(crate) fn all_kinds() -> Vec<Written> {
    let mut records = vec![
        Written::default(),
        Written::value(""),
        Written::value("").key(""),
        Written::default().key("tombstone"),
        Written::value("a value").key("a key").header("via", Some(b"web")).header("via", Some(b"eu")),
        Written::value("headers")
            .header("", None)
            .header("ключ", Some("значение".as_bytes()))
            .header("", Some(b"")),
        Written::value((0..=255).collect::<Vec<u8>>()).key(vec![0xff, 0, 0x80]),
        Written::value("x".repeat(70_000)),
    ];
    records.extend(
        (0..200).map(|n| Written::value(format!("the record with the number {n}")).key(n.to_string())),
    );
    for (n, record) in (0..).zip(&mut records) {
        record.partition = Some(0);
        record.timestamp = Some(1_700_000_000_000 + n * 7);
    }
    records
}

/// What [`all_kinds`] must be when it is read.
pub(crate) fn assert_same(read: &[Read], written: &[Written], what: Compression) {
    assert_eq!(read.len(), written.len(), "{what}");
    for (offset, (read, written)) in (0..).zip(read.iter().zip(written)) {
        assert_eq!((read.partition, read.offset), (0, offset), "{what}");
        assert_eq!(Some(read.timestamp), written.timestamp.map(|millis| millis as i64), "{what}");
        let content = Written { partition: None, timestamp: None, ..written.clone() };
        assert!(read.content() == content, "{what}: record {offset} is not what was written");
    }
}

pub(crate) fn compressing(world: &World, codec: Compression) -> Producer {
    Producer::builder(world.client()).compression(codec).build().expect("the codec is built in")
}

pub(crate) async fn every_codec_gives_back_what_was_sent(world: &World) {
    let records = all_kinds();
    for codec in Compression::ALL {
        let topic = world.topic(1).await;
        let producer = compressing(world, codec);
        let written = write_with(&producer, &topic, &records).await;
        let offsets: Vec<_> = written.iter().map(|metadata| metadata.offset()).collect();
        assert_eq!(offsets, (0..records.len() as i64).map(Some).collect::<Vec<_>>(), "{codec}");
        assert_same(&world.read(&topic, 1, records.len()).await, &records, codec);
    }
}

pub(crate) async fn headers_keep_their_order_and_their_duplicates(world: &World) {
    let topic = world.topic(1).await;
    let record = Written::value("v")
        .header("b", Some(b"1"))
        .header("a", Some(b"2"))
        .header("b", None)
        .header("b", Some(b""))
        .header("a", Some(b"2"));
    world.write(&topic, std::slice::from_ref(&record)).await;
    assert_eq!(world.read(&topic, 1, 1).await[0].content(), record);
}

pub(crate) async fn null_is_not_empty_and_a_tombstone_is_null(world: &World) {
    let topic = world.topic(1).await;
    let (null, empty) = (None, Some(vec![]));
    let record = |key: &Option<Vec<u8>>, value: &Option<Vec<u8>>| Written {
        key: key.clone(),
        value: value.clone(),
        ..Written::default()
    };
    let records =
        [record(&null, &null), record(&null, &empty), record(&empty, &null), record(&empty, &empty)];
    world.write(&topic, &records).await;
    let read: Vec<_> = world.read(&topic, 1, 4).await.iter().map(|record| record.content()).collect();
    assert_eq!(read, records);

    let producer = world.producer();
    let tombstone = producer.send(&topic, ottla::Record::tombstone("key")).await.expect("it is acknowledged");
    let read = world.read(&topic, 1, 5).await;
    assert_eq!((read[4].key.as_deref(), read[4].value.as_deref()), (Some(&b"key"[..]), None));
    assert_eq!(tombstone.offset(), Some(read[4].offset));
}

pub(crate) async fn a_megabyte_goes_through_in_one_record(world: &World) {
    let topic = world.topic(1).await;
    // Kafka's `message.max.bytes` is 1,048,588 for the batch; a request of `max.request.size` bytes has a little less room.
    let records = [1_000_000, 1_040_000, 1].map(|size| Written::value(vec![b'm'; size]));
    world.write(&topic, &records).await;
    let read = world.read(&topic, 1, 3).await;
    let sizes: Vec<_> = read.iter().map(|record| record.value.as_ref().map_or(0, Vec::len)).collect();
    assert_eq!(sizes, [1_000_000, 1_040_000, 1]);
    assert!(read.iter().all(|record| record.value.iter().flatten().all(|byte| *byte == b'm')));
}

#[allow(clippy::disallowed_methods, reason = "the broker lives in real time")]
pub(crate) async fn timestamps_are_kept_or_taken_from_the_clock(world: &World) {
    let topic = world.topic(1).await;
    let millis =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
    // The years of 1970 and 2001, and time running backwards within a batch.
    let given = [0, 1_000_000_000_000, 1, 999_999_999_999];
    let mut records: Vec<_> = given.iter().map(|time| Written::value("v").timestamp(*time)).collect();
    let before = SystemTime::now();
    records.push(Written::value("now"));
    world.write(&topic, &records).await;
    let after = SystemTime::now();

    let read: Vec<_> = world.read(&topic, 1, 5).await.iter().map(|record| record.timestamp).collect();
    assert_eq!(read[..4], given.map(|time| time as i64));
    // The producer's clock is read once per batch and published now and then.
    let slack = Duration::from_secs(10);
    assert!((millis(before - slack)..=millis(after + slack)).contains(&read[4]), "{} is not now", read[4]);
}

pub(crate) async fn each_partition_keeps_its_own_order(world: &World) {
    const PARTITIONS: i32 = 6;
    const EACH: usize = 1_000;
    let topic = world.topic(PARTITIONS).await;
    let numbered =
        (0..EACH).flat_map(|n| (0..PARTITIONS).map(move |p| Written::value(n.to_string()).partition(p)));
    let records: Vec<_> = numbered.collect();
    let written = world.write(&topic, &records).await;
    for (n, metadata) in written.iter().enumerate() {
        let expected = (records[n].partition, Some((n / PARTITIONS as usize) as i64));
        assert_eq!((Some(metadata.partition()), metadata.offset()), expected);
    }
    let read = world.read(&topic, PARTITIONS, records.len()).await;
    for (n, record) in read.iter().enumerate() {
        let (partition, offset) = (n / EACH, n % EACH);
        assert_eq!((record.partition as usize, record.offset as usize), (partition, offset));
        assert_eq!(record.text(), offset.to_string());
    }
}

pub(crate) async fn keys_go_where_java_sends_them(world: &World) {
    // From the tests of Java's `Utils.murmur2`.
    const HASHES: [(&str, i32); 6] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ];
    const PARTITIONS: i32 = 23;
    let topic = world.topic(PARTITIONS).await;
    let records: Vec<_> = HASHES.iter().map(|(key, _)| Written::value("v").key(*key)).collect();
    let written = world.write(&topic, &records).await;
    for ((key, hash), metadata) in HASHES.iter().zip(written) {
        assert_eq!(metadata.partition(), (hash & i32::MAX) % PARTITIONS, "{key}");
    }
}
