//! Whose turn it is: several readers of one consumer.

use std::time::Duration;

use futures::{StreamExt, future::join_all};
use ottla_protocol::compression::Compression;
use tokio::{
    sync::Barrier,
    time::{sleep, timeout},
};

use super::cluster::{Brokers, TOPIC};
use crate::Pause;

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
