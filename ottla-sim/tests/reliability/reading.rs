//! A reader that pauses, and one that is slow.

use std::{cell::Cell, collections::BTreeMap, rc::Rc, time::Duration};

use ottla::{Consumer, Event, KIB, Pause, Record, Reset};
use ottla_broker::ClusterConfig;
use ottla_sim::Sim;
use tokio::time::{sleep, timeout};

use crate::{
    consumer::{RECORDS, filled, partition, reader},
    support::{FEW, SECOND, TOPIC},
};

/// How far a reader has come in each partition.
type Next = BTreeMap<i32, i64>;

/// Gets the next records, by `recv` or by `poll`, which are those that come next; `None` when nothing comes for a second.
async fn take(consumer: &Consumer, next: &mut Next, one: bool) -> ottla::Result<Option<i32>> {
    let came = async {
        let offsets = if one {
            let record = consumer.recv().await?.expect("it is open");
            (record.view().partition(), vec![record.view().offset()])
        } else {
            let batch = consumer.poll().await?.expect("it is open");
            (batch.partition(), batch.iter().map(|record| record.offset()).collect())
        };
        Ok::<_, ottla::Error>(offsets)
    };
    let Ok(came) = timeout(SECOND, came).await else { return Ok(None) };
    let (number, offsets) = came?;
    let next = next.get_mut(&number).expect("it was asked for");
    for offset in offsets {
        assert_eq!(offset, *next, "partition {number}");
        *next += 1;
    }
    Ok(Some(number))
}

#[test]
fn c10_while_a_partition_is_paused_nothing_of_it_comes_and_afterwards_nothing_is_missing() {
    Sim::seeds(0..8).run(async |world| {
        let cluster = filled(world, ClusterConfig::with_nodes(3, "", 0)).await;
        let consumer = reader(&cluster, |builder| builder)?;
        let (mut random, mut next) = (world.random(), Next::from([(0, 0), (1, 0)]));
        let mut kept_back = 0;
        while next.values().any(|next| *next < RECORDS) {
            // Some of what was fetched is unpacked, and the rest has time to arrive.
            for _ in 0..random.u32(..8) {
                take(&consumer, &mut next, random.bool()).await?;
            }
            sleep(Duration::from_millis(random.u64(..1_500))).await;
            let number = random.i32(0..2);
            let pause = consumer.pause([partition(number)], Pause::by("test"));
            kept_back += usize::from(next[&number] < RECORDS);
            for _ in 0..random.u32(..12) {
                let came = take(&consumer, &mut next, random.bool()).await?;
                assert_ne!(came, Some(number), "it is paused");
            }
            pause.resume();
        }
        assert!(kept_back > 2, "there was something to keep back {kept_back} times only");
        Ok::<_, ottla::Error>(())
    });
}

/// What a consumer may hold, and what arrives at once.
const HELD: usize = 64 * KIB;
const AT_ONCE: usize = 8 * KIB;
const EACH: i64 = 1_000;

#[test]
fn c11_a_member_that_is_slow_holds_bounded_memory_fetches_nothing_more_and_stays_a_member() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = world.cluster(3).await;
        cluster.topic(TOPIC, 2).await;
        let value = "=".repeat(KIB);
        // In small batches: a large one comes however little is asked for.
        for _ in 0..EACH / 4 {
            for number in 0..2 {
                cluster.produce(TOPIC, (0..4).map(|_| Record::new(&value).partition(number))).await;
            }
        }
        let client = cluster.client_builder("app").build()?;
        let (mut events, fetched) = (client.events(), Rc::new(Cell::new(0)));
        let (counts, trouble) = (Rc::clone(&fetched), Rc::new(Cell::new(0)));
        let troubles = Rc::clone(&trouble);
        drop(world.host("test").spawn("events", async move {
            while let Some(event) = events.recv().await {
                match event {
                    Event::Fetched { bytes, .. } => counts.set(counts.get() + bytes),
                    Event::LeaseEnded { .. } | Event::SessionLost { .. } => troubles.set(troubles.get() + 1),
                    _ => {}
                }
            }
        }));
        let consumer = Consumer::builder(&client)
            .group("billing")
            .session_timeout(6 * SECOND)
            .on_missing_offset(Reset::Earliest)
            .max_buffered_bytes(HELD)
            .max_partition_fetch_bytes(AT_ONCE)
            .build()?;
        consumer.subscribe([TOPIC])?;

        let in_hand = consumer.recv().await?.expect("it is open");
        sleep(10 * SECOND).await;
        let before = fetched.get();
        assert!(before > AT_ONCE && before < HELD + 4 * AT_ONCE, "{before} bytes were fetched");
        sleep(200 * SECOND).await;
        // Answers without records have some bytes as well.
        let more = fetched.get() - before;
        assert!(more < AT_ONCE / 2, "{more} more bytes were fetched");
        assert!(consumer.assignment()[0].lease().remaining() > SECOND, "heartbeats go on");

        in_hand.complete();
        let reading = async {
            for _ in 1..2 * EACH {
                consumer.recv().await?.expect("it is open").complete();
            }
            consumer.commit().await
        };
        timeout(60 * SECOND, reading).await.expect("it goes on where it was")?;
        let committed = consumer.committed((0..2).map(partition)).await?;
        let all = committed.iter().map(|(_, found)| found.as_ref().map(|found| found.offset));
        assert_eq!(all.collect::<Vec<_>>(), [Some(EACH), Some(EACH)]);
        assert_eq!(trouble.get(), 0, "its lease and its session go on");
        consumer.close().await
    });
}
