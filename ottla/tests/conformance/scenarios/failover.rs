//! Brokers that die or sleep.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ottla::{Admin, Client, Consumer, OffsetSpec, Producer, TopicPartition};
use tokio::sync::oneshot;

use crate::World;
use crate::record::{Read, Written};

const PARTITIONS: i32 = 6;
/// Records acknowledged before the leader is killed, and again after it is back.
const ENOUGH: usize = 1_000;
/// Between two looks at something that somebody else is doing.
const GLANCE: Duration = Duration::from_millis(100);

/// How long a request may take, so that a frozen broker is given up before the test is.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What those who take part tell each other.
#[derive(Default)]
struct Progress {
    undone: AtomicBool,
    /// Records written in all; 0 until all are.
    written: AtomicUsize,
}

#[derive(Clone, Copy)]
enum Harm {
    Kill,
    Freeze,
}

pub(crate) async fn a_leader_is_killed_and_restarted_under_load(world: &World) {
    under_load(world, Harm::Kill).await;
}

/// What was sent to the frozen leader is still in its sockets when it wakes up, and another one leads by then.
pub(crate) async fn a_leader_is_frozen_under_load_and_wakes_up_deposed(world: &World) {
    under_load(world, Harm::Freeze).await;
}

/// No acknowledged record is lost, none is there twice, each partition keeps the order of sending; and so it looks to a
/// consumer that reads all the while.
async fn under_load(world: &World, harm: Harm) {
    let topic = world.topic(PARTITIONS).await;
    let servers = world.backend().bootstrap_servers();
    let client = Client::builder().bootstrap_servers(servers).request_timeout(REQUEST_TIMEOUT);
    let client = client.connect().await.expect("the brokers answer");
    let consumer = Consumer::builder(&client).build().expect("valid");
    let all =
        (0..PARTITIONS).map(|partition| (TopicPartition::new(&*topic, partition), OffsetSpec::Earliest));
    consumer.assign(all).expect("they exist");
    let (admin, progress) = (Admin::new(&client), Progress::default());
    let (warm, is_warm) = oneshot::channel();

    let ((), (), live) = tokio::join!(
        load(&client, &topic, warm, &progress),
        harm_and_undo(world, harm, &admin, &topic, is_warm, &progress),
        follow(&consumer, &progress),
    );
    let written = progress.written.load(Ordering::Relaxed);
    assert_complete(&live, written, "while it happened");
    assert_complete(&world.read(&topic, PARTITIONS, written).await, written, "afterwards");
    client.close().await.expect("nothing is left to do");
}

/// Writes numbers to all partitions in turn until enough are acknowledged after the harm was undone. Every one must be.
async fn load(client: &Client, topic: &str, warm: oneshot::Sender<()>, progress: &Progress) {
    let producer = Producer::builder(client).build().expect("valid");
    let mut warm = Some(warm);
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    let (mut written, mut stop_at) = (0, usize::MAX);
    let mut receipts = Vec::new();
    while written < stop_at {
        pace.tick().await;
        for _ in 0..PARTITIONS {
            let record = record(written);
            let headers = record.headers();
            receipts.push(producer.enqueue(topic, record.as_record(&headers)).await.expect("there is room"));
            written += 1;
        }
        if written >= ENOUGH && warm.is_some() {
            for receipt in receipts.drain(..) {
                receipt.await.expect("nothing has happened yet");
            }
            warm.take().map(|warm| warm.send(()));
        }
        if stop_at == usize::MAX && progress.undone.load(Ordering::Relaxed) {
            stop_at = written + ENOUGH;
        }
    }
    for receipt in receipts {
        receipt.await.expect("a producer with time outlives a leader");
    }
    producer.close().await.expect("all is acknowledged");
    progress.written.store(written, Ordering::Relaxed);
}

/// The record that is sent as number `n` of all: number `n / PARTITIONS` of its partition.
fn record(n: usize) -> Written {
    Written::value((n / PARTITIONS as usize).to_string()).partition(n as i32 % PARTITIONS)
}

async fn harm_and_undo(
    world: &World,
    harm: Harm,
    admin: &Admin,
    topic: &str,
    is_warm: oneshot::Receiver<()>,
    progress: &Progress,
) {
    is_warm.await.expect("the load goes on");
    let victim = leader(admin, topic).await.expect("the topic has been written to");
    match harm {
        Harm::Kill => world.backend().kill(victim).await,
        Harm::Freeze => world.backend().freeze(victim).await,
    }
    while leader(admin, topic).await.is_none_or(|leader| leader == victim) {
        tokio::time::sleep(GLANCE).await;
    }
    match harm {
        Harm::Kill => world.backend().restart(victim).await,
        Harm::Freeze => world.backend().thaw(victim).await,
    }
    progress.undone.store(true, Ordering::Relaxed);
}

/// The leader of the topic's first partition, as far as somebody knows one.
async fn leader(admin: &Admin, topic: &str) -> Option<i32> {
    let described = admin.describe_topics([topic]).await.ok()?;
    let (_, topic) = described.into_iter().next()?;
    topic.ok()?.partitions.first()?.leader
}

/// Reads until there is as much as was written.
async fn follow(consumer: &Consumer, progress: &Progress) -> Vec<Read> {
    let mut read = Vec::new();
    loop {
        let written = progress.written.load(Ordering::Relaxed);
        if written > 0 && read.len() >= written {
            return read;
        }
        let Ok(batch) = tokio::time::timeout(GLANCE, consumer.poll()).await else { continue };
        let batch = batch.expect("a consumer outlives a leader").expect("it is open");
        read.extend(batch.iter().map(|record| Read::of(&record)));
    }
}

/// Each partition has the numbers from 0 on, each once, in this order, at ascending offsets.
fn assert_complete(read: &[Read], written: usize, when: &str) {
    assert_eq!(read.len(), written, "{when}");
    for partition in 0..PARTITIONS {
        let records: Vec<_> = read.iter().filter(|record| record.partition == partition).collect();
        assert!(records.is_sorted_by(|one, next| one.offset < next.offset), "{when}: offsets of {partition}");
        for (n, record) in records.iter().enumerate() {
            assert_eq!(
                record.text(),
                n.to_string(),
                "{when}: partition {partition}, offset {}",
                record.offset
            );
        }
    }
}
