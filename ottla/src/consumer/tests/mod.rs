//! The consumer against scripted brokers, in memory and on a paused clock: where nothing has to wait, no time passes.

mod cluster;
mod desk;
mod group;
mod turns;

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use futures::{StreamExt, TryStreamExt};
use ottla_protocol::{ErrorCode, compression::Compression};
use tokio::time::{Instant, timeout};

use self::cluster::{Brokers, PER_BATCH, partition};
use crate::{
    Batch, Consumer, ErrorKind, Event, OffsetSpec, Pause, ReceivedRecord, RecordStream, RecordView, Reset,
    Trouble, net::lock,
};

const SECOND: Duration = Duration::from_secs(1);

fn offsets(batch: &Batch) -> Vec<i64> {
    batch.iter().map(|record| record.offset()).collect()
}

/// Polls until `count` records have come; the offsets by partition.
async fn read(consumer: &Consumer, count: usize) -> BTreeMap<i32, Vec<i64>> {
    let mut seen = BTreeMap::<i32, Vec<i64>>::new();
    let mut records = 0;
    while records < count {
        let batch = timeout(60 * SECOND, consumer.poll()).await.expect("records come").unwrap().unwrap();
        records += batch.len();
        seen.entry(batch.partition()).or_default().extend(offsets(&batch));
    }
    seen
}

fn all(offsets: std::ops::Range<i64>) -> Vec<i64> {
    offsets.collect()
}

#[test]
fn types_are_what_was_promised() {
    fn clone_send_sync<T: Clone + Send + Sync + 'static>() {}
    fn send_sync_unpin<T: Send + Sync + Unpin + 'static>() {}
    fn copy<T: Copy>() {}
    clone_send_sync::<Consumer>();
    clone_send_sync::<crate::OwnedRecord>();
    send_sync_unpin::<Batch>();
    send_sync_unpin::<ReceivedRecord>();
    send_sync_unpin::<RecordStream>();
    copy::<RecordView<'static>>();
    copy::<crate::ConsumerRecord<'static>>();
}

#[tokio::test(start_paused = true)]
async fn everything_is_read_once_and_in_order_with_every_codec() {
    for codec in
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        let brokers = Brokers::start(2, 3);
        for number in 0..3 {
            brokers.produce(number, 30, codec);
        }
        let client = brokers.client();
        let consumer = brokers.consumer(&client);
        let started = Instant::now();
        let seen = read(&consumer, 3 * 300).await;
        assert_eq!(seen, (0..3).map(|number| (number, all(0..300))).collect());
        assert_eq!(started.elapsed(), Duration::ZERO, "{codec:?}: nobody has waited for anything");
        assert_eq!(consumer.position(&partition(0)), Some(300));
    }
}

#[tokio::test(start_paused = true)]
async fn records_show_what_was_written() {
    let brokers = Brokers::start(1, 1);
    brokers.produce(0, 1, Compression::Zstd);
    let client = brokers.client();
    let consumer = brokers.consumer(&client);
    let batch = consumer.poll().await.unwrap().unwrap();
    assert_eq!((batch.topic(), batch.partition(), batch.len()), ("orders", 0, 10));
    let record = batch.iter().nth(3).unwrap();
    assert_eq!((record.offset(), record.key()), (3, Some(&b"key"[..])));
    assert!(record.value().unwrap().starts_with(b"value 3,"));
    assert_eq!(record.timestamp().to_system_time(), Some(UNIX_EPOCH + Duration::from_millis(1_003)));
}

#[tokio::test(start_paused = true)]
async fn an_idle_broker_does_not_slow_the_other_down() {
    let brokers = Brokers::start(2, 2);
    brokers.produce(0, 4_000, Compression::None);
    let client = brokers.client();
    let consumer = brokers.consumer(&client);
    let started = Instant::now();
    read(&consumer, 40_000).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert!(brokers.fetches(0) >= 1_000);
    assert!(brokers.fetches(1) <= 1, "the idle one has one long poll");
}

#[tokio::test(start_paused = true)]
async fn a_frozen_broker_does_not_slow_the_other_down() {
    let brokers = Brokers::start(2, 2);
    brokers.produce(0, 400, Compression::None);
    brokers.produce(1, 1, Compression::None);
    lock(&brokers.logs).frozen = vec![1];
    let client = brokers.client();
    let consumer = brokers.consumer(&client);
    let started = Instant::now();
    read(&consumer, 4_000).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn two_consumers_of_a_client_do_not_slow_each_other_down() {
    let brokers = Brokers::start(1, 2);
    brokers.produce(0, 400, Compression::None);
    let client = brokers.client();
    let idle = Consumer::builder(&client).build().unwrap();
    idle.assign([(partition(1), OffsetSpec::At(0))]).unwrap();
    let busy = Consumer::builder(&client).build().unwrap();
    busy.assign([(partition(0), OffsetSpec::At(0))]).unwrap();
    let started = Instant::now();
    read(&busy, 4_000).await;
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn poll_recv_and_stream_share_the_position() {
    let brokers = Brokers::start(1, 1);
    brokers.produce(0, 4, Compression::None);
    let client = brokers.client();
    let consumer = brokers.consumer(&client);
    let first = consumer.recv().await.unwrap().unwrap();
    assert_eq!((first.view().offset(), consumer.position(&partition(0))), (0, Some(1)));
    let mut stream = consumer.stream();
    for expected in 1..4 {
        assert_eq!(stream.try_next().await.unwrap().unwrap().view().offset(), expected);
    }
    drop(stream);
    assert_eq!(
        consumer.explain(&partition(0)),
        "waits for recv or poll: records from offset 4 on are unpacked"
    );
    let rest = consumer.poll().await.unwrap().unwrap();
    assert_eq!(offsets(&rest)[0], 4);
    assert_eq!(rest.len(), rest.iter().count());
    assert_eq!(first.view().offset(), 0, "a record that was received stays as it is");
}

#[tokio::test(start_paused = true)]
async fn records_that_are_received_concurrently_all_come() {
    let brokers = Brokers::start(2, 2);
    brokers.produce(0, 20, Compression::Lz4);
    brokers.produce(1, 20, Compression::Lz4);
    let client = brokers.client();
    let consumer = brokers.consumer(&client);
    let mut seen: Vec<_> = consumer
        .stream()
        .take(400)
        .map(|record| async move {
            let record = record.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            (record.view().partition(), record.view().offset())
        })
        .buffer_unordered(16)
        .collect()
        .await;
    seen.sort_unstable();
    let expected: Vec<_> = (0..2).flat_map(|number| (0..200).map(move |offset| (number, offset))).collect();
    assert_eq!(seen, expected);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_poll_takes_nothing() {
    let brokers = Brokers::start(1, 1);
    let client = brokers.client();
    let consumer = brokers.consumer(&client);
    let mut seen = Vec::new();
    for round in 0..200 {
        if round % 4 == 0 {
            brokers.produce(0, 1, Compression::None);
        }
        let wait = Duration::from_millis(round * 7 % 130);
        tokio::select! {
            biased;
            record = consumer.recv() => seen.push(record.unwrap().unwrap().view().offset()),
            () = tokio::time::sleep(wait) => {}
        }
        if let Ok(batch) = timeout(wait, consumer.poll()).await {
            seen.extend(offsets(&batch.unwrap().unwrap()));
        }
    }
    let total = 50 * PER_BATCH;
    if (seen.len() as i64) < total {
        seen.extend(read(&consumer, total as usize - seen.len()).await.remove(&0).unwrap());
    }
    assert_eq!(seen, all(0..total));
}

#[tokio::test(start_paused = true)]
async fn nothing_from_before_a_seek_comes_after_it() {
    let brokers = Brokers::start(1, 1);
    brokers.produce(0, 40, Compression::None);
    let client = brokers.client();
    let consumer = brokers.consumer(&client);
    assert_eq!(consumer.recv().await.unwrap().unwrap().view().offset(), 0);
    for (to, expected) in [
        (OffsetSpec::At(155), 155),
        (OffsetSpec::Earliest, 0),
        (OffsetSpec::Timestamp(UNIX_EPOCH + Duration::from_millis(1_200)), 200),
    ] {
        consumer.seek(&partition(0), to).await.unwrap();
        assert_eq!(consumer.position(&partition(0)), Some(expected));
        assert_eq!(consumer.recv().await.unwrap().unwrap().view().offset(), expected);
    }
    consumer.seek(&partition(0), OffsetSpec::Latest).await.unwrap();
    brokers.produce(0, 1, Compression::None);
    assert_eq!(offsets(&consumer.poll().await.unwrap().unwrap()), all(400..410));
}

#[tokio::test(start_paused = true)]
async fn a_seek_does_not_wait_for_the_long_poll_of_others() {
    let brokers = Brokers::start(1, 2);
    brokers.produce(0, 4, Compression::None);
    let client = brokers.client();
    let consumer = brokers.consumer(&client);
    read(&consumer, 40).await;
    assert!(timeout(SECOND / 10, consumer.poll()).await.is_err(), "a long poll is under way");
    let started = Instant::now();
    consumer.seek(&partition(0), OffsetSpec::At(25)).await.unwrap();
    assert_eq!(offsets(&consumer.poll().await.unwrap().unwrap()), all(25..40));
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_pause_holds_back_what_was_unpacked_and_skips_none_of_it() {
    let brokers = Brokers::start(1, 2);
    brokers.produce(0, 2, Compression::None);
    let client = brokers.client();
    let consumer = brokers.consumer(&client);
    assert_eq!(consumer.recv().await.unwrap().unwrap().view().offset(), 0);
    let pause = consumer.pause([partition(0)], Pause::by("breaker").because("payments answers 503"));
    assert!(timeout(12 * SECOND, consumer.recv()).await.is_err());
    assert_eq!(consumer.position(&partition(0)), Some(1));
    brokers.produce(1, 1, Compression::None);
    assert_eq!(consumer.recv().await.unwrap().unwrap().view().partition(), 1, "the other one flows");
    pause.resume();
    let mut rest = Vec::new();
    for _ in 0..28 {
        let record = consumer.recv().await.unwrap().unwrap();
        rest.push((record.view().partition(), record.view().offset()));
    }
    let of =
        |number| rest.iter().filter(|(n, _)| *n == number).map(|(_, offset)| *offset).collect::<Vec<_>>();
    assert_eq!((of(0), of(1)), (all(1..20), all(1..10)));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_pause_handle_resumes() {
    let brokers = Brokers::start(1, 1);
    brokers.produce(0, 1, Compression::None);
    let client = brokers.client();
    let consumer = brokers.consumer(&client);
    let pause = consumer.pause([partition(0)], Pause::by("test"));
    assert!(timeout(SECOND, consumer.poll()).await.is_err());
    assert_eq!(consumer.explain(&partition(0)), "paused by test for 1 s");
    drop(pause);
    assert_eq!(offsets(&consumer.poll().await.unwrap().unwrap()), all(0..10));
}

#[tokio::test(start_paused = true)]
async fn a_held_partition_is_named_and_the_others_flow() {
    let brokers = Brokers::start(1, 2);
    brokers.produce(0, 1, Compression::None);
    brokers.produce(1, 1, Compression::None);
    let client = brokers.client();
    let mut events = client.events();
    let consumer = Consumer::builder(&client).build().unwrap();
    consumer.assign([(partition(0), OffsetSpec::At(77)), (partition(1), OffsetSpec::At(0))]).unwrap();
    let (mut errors, mut seen) = (Vec::new(), Vec::new());
    while errors.is_empty() || seen.is_empty() {
        match consumer.poll().await {
            Ok(batch) => seen.extend(offsets(&batch.unwrap())),
            Err(error) => errors.push(error),
        }
    }
    assert_eq!(seen, all(0..10));
    let error = &errors[0];
    assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::OFFSET_OUT_OF_RANGE));
    assert_eq!(error.topic_partition(), Some(&partition(0)));
    let trouble = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Trouble>());
    assert_eq!(trouble, Some(&Trouble::OutOfRange { offset: 77 }));
    assert_eq!(
        format!("{error:#}"),
        "the partition is held until a seek (orders-0): offset 77 is not in the log"
    );
    assert!(timeout(SECOND, consumer.poll()).await.is_err(), "told once");
    consumer.seek(&partition(0), OffsetSpec::Earliest).await.unwrap();
    assert_eq!(offsets(&consumer.poll().await.unwrap().unwrap()), all(0..10));
    let mut held = false;
    while let Ok(Some(event)) = timeout(Duration::ZERO, events.recv()).await {
        held |=
            matches!(event, Event::PartitionHeld { topic_partition, .. } if topic_partition == partition(0));
    }
    assert!(held);
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_an_event_and_no_error() {
    let brokers = Brokers::start(1, 1);
    brokers.produce(0, 1, Compression::None);
    let client = brokers.client();
    let mut events = client.events();
    let consumer = Consumer::builder(&client).on_out_of_range(Reset::Earliest).build().unwrap();
    consumer.assign([(partition(0), OffsetSpec::At(77))]).unwrap();
    assert_eq!(offsets(&consumer.poll().await.unwrap().unwrap()), all(0..10));
    let reset = loop {
        if let Event::PositionReset { from, to, reason, .. } = events.recv().await.unwrap() {
            break (from, to, reason);
        }
    };
    assert_eq!(reset, (Some(77), 0, "offset out of range"));
}

#[tokio::test(start_paused = true)]
async fn memory_counts_until_the_last_view_is_dropped() {
    let brokers = Brokers::start(1, 2);
    brokers.produce(0, 4_000, Compression::None);
    let client = brokers.client();
    let consumer = Consumer::builder(&client).max_buffered_bytes(20_000).build().unwrap();
    consumer.assign([(partition(0), OffsetSpec::At(0)), (partition(1), OffsetSpec::At(0))]).unwrap();
    let mut held = Vec::new();
    while let Ok(batch) = timeout(SECOND, consumer.poll()).await {
        held.push(batch.unwrap().unwrap());
    }
    let records: usize = held.iter().map(Batch::len).sum();
    assert!((100..=400).contains(&records), "{records} records of some 70 bytes in 20,000");
    assert!(
        consumer.explain(&partition(0)).starts_with("waits for memory"),
        "{}",
        consumer.explain(&partition(0))
    );
    brokers.produce(1, 1, Compression::None);
    let other = timeout(SECOND, consumer.poll()).await.unwrap().unwrap().unwrap();
    assert_eq!(other.partition(), 1, "who holds nothing is fetched all the same");
    held.clear();
    drop(other);
    let more = timeout(SECOND, consumer.poll()).await.unwrap().unwrap().unwrap();
    assert_eq!(offsets(&more)[0], records as i64);
}

#[tokio::test(start_paused = true)]
async fn closing_ends_whoever_waits_and_the_session() {
    let brokers = Brokers::start(1, 1);
    let client = brokers.client();
    let consumer = brokers.consumer(&client);
    let (waiting, mut stream) = (consumer.clone(), consumer.stream());
    let polling = async { waiting.poll().await.unwrap().is_none() };
    let closing = async {
        tokio::time::sleep(SECOND).await;
        consumer.close().await.unwrap();
    };
    let (ended, stream_ended, ()) = tokio::join!(polling, async { stream.next().await.is_none() }, closing);
    assert!(ended && stream_ended);
    tokio::time::sleep(SECOND).await;
    assert_eq!(lock(&brokers.logs).sessions_closed, 1);
    let fetches = brokers.fetches(0);
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(brokers.fetches(0), fetches, "nobody fetches any more");
    assert_eq!(consumer.recv().await.unwrap().map(|record| record.view().offset()), None);
    assert_eq!(consumer.seek(&partition(0), OffsetSpec::At(0)).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_that_is_dropped_stops_fetching() {
    let brokers = Brokers::start(1, 1);
    let client = brokers.client();
    let consumer = brokers.consumer(&client);
    let clone = consumer.clone();
    tokio::time::sleep(SECOND).await;
    drop(consumer);
    let fetches = brokers.fetches(0);
    tokio::time::sleep(10 * SECOND).await;
    assert!(brokers.fetches(0) > fetches);
    drop(clone);
    tokio::time::sleep(SECOND).await;
    let fetches = brokers.fetches(0);
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(brokers.fetches(0), fetches);
}

#[tokio::test(start_paused = true)]
async fn closing_the_client_closes_its_consumers() {
    let brokers = Brokers::start(1, 1);
    let client = brokers.client();
    let consumer = brokers.consumer(&client);
    let polling = async { consumer.poll().await.unwrap().is_none() };
    let closing = async {
        tokio::time::sleep(SECOND).await;
        client.close().await.unwrap();
    };
    let (ended, ()) = tokio::join!(polling, closing);
    assert!(ended);
    assert_eq!(Consumer::builder(&client).build().unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_can_never_work_is_said_at_once() {
    let brokers = Brokers::start(1, 1);
    let client = brokers.client();
    let consumer = Consumer::builder(&client).build().unwrap();
    let twice = [(partition(0), OffsetSpec::Latest), (partition(0), OffsetSpec::Earliest)];
    let negative = [(partition(0), OffsetSpec::At(-1))];
    for wrong in [twice.to_vec(), negative.to_vec(), vec![(partition(-1), OffsetSpec::Latest)]] {
        assert_eq!(consumer.assign(wrong).unwrap_err().kind(), ErrorKind::Misuse);
    }
    let error = consumer.seek(&partition(0), OffsetSpec::At(0)).await.unwrap_err();
    assert_eq!((error.kind(), error.topic_partition()), (ErrorKind::Misuse, Some(&partition(0))));
    let error = Consumer::builder(&client).fetch_max_bytes(0).max_buffered_bytes(0).build().unwrap_err();
    let keys: Vec<_> = error.config().iter().map(|problem| problem.key().to_owned()).collect();
    assert_eq!(keys, ["fetch.max.bytes", "max.buffered.bytes"]);
}

#[tokio::test(start_paused = true)]
async fn partitions_that_do_not_exist_are_waited_for() {
    let brokers = Brokers::start(1, 1);
    brokers.produce(0, 1, Compression::None);
    let client = brokers.client();
    let consumer = Consumer::builder(&client).build().unwrap();
    consumer.assign([(("nowhere", 0), OffsetSpec::Latest), (("orders", 9), OffsetSpec::Latest)]).unwrap();
    assert!(timeout(60 * SECOND, consumer.poll()).await.is_err());
    for missing in [("nowhere", 0), ("orders", 9)] {
        let explained = consumer.explain(&missing.into());
        assert_eq!(explained, "the cluster does not know this partition, or was not asked yet");
    }
    consumer.assign([(partition(0), OffsetSpec::At(0))]).unwrap();
    assert_eq!(offsets(&consumer.poll().await.unwrap().unwrap()), all(0..10));
    let assigned: Vec<_> =
        consumer.assignment().iter().map(|owned| owned.topic_partition().clone()).collect();
    assert_eq!(assigned, [partition(0)]);
}

#[tokio::test(start_paused = true)]
async fn both_ends_of_the_log_and_times_are_found() {
    let brokers = Brokers::start(2, 3);
    brokers.produce(0, 5, Compression::None);
    brokers.produce(1, 2, Compression::None);
    let client = brokers.client();
    let consumer = Consumer::builder(&client).build().unwrap();
    let partitions = [partition(2), partition(0), partition(1)];
    let ends = consumer.end_offsets(partitions.clone()).await.unwrap();
    assert_eq!(
        ends,
        [(partition(2), 0), (partition(0), 50), (partition(1), 20)],
        "in the order they were asked"
    );
    let starts = consumer.beginning_offsets(partitions.clone()).await.unwrap();
    assert!(starts.iter().all(|(_, offset)| *offset == 0));
    let time = UNIX_EPOCH + Duration::from_millis(1_030);
    let found = consumer.offsets_for_times(partitions.map(|partition| (partition, time))).await.unwrap();
    let found: Vec<_> =
        found.iter().map(|(_, found)| found.map(|found| (found.offset, found.timestamp.millis()))).collect();
    assert_eq!(found, [None, Some((30, 1_030)), None]);
    let twice = [(partition(0), time), (partition(1), time), (partition(0), UNIX_EPOCH)];
    let found = consumer.offsets_for_times(twice).await.unwrap();
    let found: Vec<_> = found.iter().map(|(_, found)| found.map(|found| found.offset)).collect();
    assert_eq!(found, [Some(30), None, Some(0)], "a partition may be asked for twice");
    let error = consumer.end_offsets([("nowhere", 0)]).await.unwrap_err();
    assert_eq!(error.broker_code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
}

#[tokio::test(start_paused = true)]
async fn errors_that_pass_are_no_concern_of_the_user() {
    let brokers = Brokers::start(1, 1);
    brokers.produce(0, 1, Compression::None);
    lock(&brokers.logs).errors.insert(0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let client = brokers.client();
    let consumer = brokers.consumer(&client);
    assert!(timeout(10 * SECOND, consumer.poll()).await.is_err());
    assert!(brokers.fetches(0) < 30, "it backs off: {} fetches in 10 s", brokers.fetches(0));
    lock(&brokers.logs).errors.clear();
    assert_eq!(offsets(&consumer.poll().await.unwrap().unwrap()), all(0..10));
}
