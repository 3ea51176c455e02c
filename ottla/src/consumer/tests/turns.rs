//! Whose turn it is: several readers of one consumer, and whatever else goes on beside a busy one.

use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt, future::join_all, stream::unfold};
use ottla_protocol::{ApiKey, compression::Compression};
use tokio::{
    sync::Barrier,
    time::{Instant, advance, sleep, timeout},
};

use super::cluster::{Brokers, TOPIC};
use crate::{Client, Consumer, Pause, ReceivedRecord, Reset, net::lock};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn all_who_wait_get_records_of_the_same_answer() {
    let brokers = Brokers::start(1, 1);
    let client = brokers.client();
    let consumer = brokers.consumer(&client);
    let together = Barrier::new(8);
    let readers = join_all((0..8).map(|_| async {
        let record = consumer.recv().await.unwrap().unwrap();
        together.wait().await;
        record.view().offset()
    }));
    let producer = async {
        sleep(SECOND).await;
        brokers.produce(0, 1, Compression::None);
    };
    let all = async { tokio::join!(readers, producer).0 };
    let mut offsets = timeout(60 * SECOND, all).await.expect("eight records for eight readers");
    offsets.sort_unstable();
    assert_eq!(offsets, (0..8).collect::<Vec<i64>>());
}

#[tokio::test(start_paused = true)]
async fn all_who_stream_get_records_of_the_same_answer() {
    let brokers = Brokers::start(1, 1);
    let client = brokers.client();
    let consumer = brokers.consumer(&client);
    let together = Barrier::new(8);
    let readers = join_all((0..8).map(|_| async {
        let mut stream = consumer.stream();
        let record = stream.next().await.unwrap().unwrap();
        together.wait().await;
        drop(record);
    }));
    let producer = async {
        sleep(SECOND).await;
        brokers.produce(0, 1, Compression::None);
    };
    let all = async { tokio::join!(readers, producer) };
    timeout(60 * SECOND, all).await.expect("eight records for eight readers");
}

/// A stream that has found nothing and is not asked again, as in a `select!` whose other branch goes on for ever.
#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_asks_any_more_keeps_no_news_from_others() {
    let brokers = Brokers::start(1, 1);
    let client = brokers.client();
    let consumer = brokers.consumer(&client);
    let mut idle = consumer.stream();
    assert!(idle.next().now_or_never().is_none(), "there is nothing yet");
    let producer = async {
        sleep(SECOND).await;
        brokers.produce(0, 1, Compression::None);
    };
    let both = async { tokio::join!(consumer.recv(), producer).0 };
    let record = timeout(60 * SECOND, both).await.expect("it hears of it").unwrap().unwrap();
    assert_eq!(record.view().offset(), 0);
    // Asked again it goes on behind that.
    assert_eq!(idle.next().await.unwrap().unwrap().view().offset(), 1);
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_get_something_of_what_is_resumed_together() {
    let brokers = Brokers::start(1, 3);
    for number in 0..3 {
        brokers.produce(number, 1, Compression::None);
    }
    let client = brokers.client();
    let consumer = brokers.consumer(&client);
    let mut pauses = Vec::new();
    for _ in 0..3 {
        let record = consumer.recv().await.unwrap().unwrap();
        pauses.push(consumer.pause([(TOPIC, record.view().partition())], Pause::by("one")));
    }
    let all_three = consumer.pause((0..3).map(|number| (TOPIC, number)), Pause::by("all"));
    drop(pauses);
    let together = Barrier::new(3);
    let readers = join_all((0..3).map(|_| async {
        let batch = consumer.poll().await.unwrap().unwrap();
        together.wait().await;
        batch.len()
    }));
    let resume = async {
        sleep(SECOND).await;
        all_three.resume();
    };
    let all = async { tokio::join!(readers, resume).0 };
    assert_eq!(timeout(60 * SECOND, all).await.expect("three batches for three readers"), [9, 9, 9]);
}

/// A member of a group that reads everything.
fn member(client: &Client) -> Consumer {
    let consumer = Consumer::builder(client).group("billing").on_missing_offset(Reset::Earliest);
    let consumer = consumer.build().unwrap();
    consumer.subscribe([TOPIC]).unwrap();
    consumer
}

/// The processor is busy for so long: nobody else has a turn meanwhile.
fn busy(time: Duration) {
    assert!(
        advance(time).now_or_never().is_none(),
        "the time has moved; the turn that it ends with is not taken"
    );
}

/// Heartbeats and commits that came.
fn signs_of_life(brokers: &Brokers) -> [usize; 2] {
    [ApiKey::HEARTBEAT, ApiKey::OFFSET_COMMIT].map(|api| lock(&brokers.desk).count(api))
}

/// Handles 999 records that are unpacked, for 20 ms each.
async fn heartbeats_and_commits_go_on<S>(records: impl FnOnce(Consumer) -> S)
where
    S: Stream<Item = ReceivedRecord>,
{
    let brokers = Brokers::start(1, 1);
    lock(&brokers.logs).batches_at_once = 100;
    brokers.produce(0, 100, Compression::None);
    let client = brokers.client();
    let mut records = std::pin::pin!(records(member(&client)));
    records.next().await.unwrap().complete();
    let (before, began) = (signs_of_life(&brokers), Instant::now());
    for _ in 1..1_000 {
        let record = records.next().await.unwrap();
        busy(Duration::from_millis(20));
        record.complete();
    }
    assert!(began.elapsed() < 21 * SECOND, "nobody waits for anything");
    // Others have seven turns, one in 128 records: there and back are two.
    for (before, after) in before.into_iter().zip(signs_of_life(&brokers)) {
        assert!(after - before >= 3, "{before} before, {after} after");
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_and_commits_go_on_while_recv_has_records_for_a_busy_handler() {
    let next = async |consumer: Consumer| Some((consumer.recv().await.unwrap()?, consumer));
    heartbeats_and_commits_go_on(|consumer| unfold(consumer, next)).await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_and_commits_go_on_while_a_stream_has_records_for_a_busy_handler() {
    heartbeats_and_commits_go_on(|consumer| consumer.stream().map(Result::unwrap)).await;
}

#[tokio::test(start_paused = true)]
async fn heartbeats_and_commits_go_on_while_poll_has_batches_for_a_busy_handler() {
    let brokers = Brokers::start(1, 100);
    for number in 0..100 {
        brokers.produce(number, 1, Compression::None);
    }
    let client = brokers.client();
    let consumer = member(&client);
    consumer.poll().await.unwrap().unwrap().complete();
    let before = signs_of_life(&brokers);
    for _ in 1..100 {
        let batch = consumer.poll().await.unwrap().unwrap();
        busy(Duration::from_millis(200));
        batch.complete();
    }
    for (before, after) in before.into_iter().zip(signs_of_life(&brokers)) {
        assert!(after - before >= 4, "{before} before, {after} after");
    }
}
