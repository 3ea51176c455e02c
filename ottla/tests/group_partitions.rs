//! Partitions that are read by a task each, over the embedded cluster.

mod group_world;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use group_world::{Effects, PARTITIONS, SOON, TOPIC, cluster, cluster_with, connect, member, produce};
use ottla::{Consumer, OffsetSpec, PartitionConsumer, Pause, Result, TopicPartition};
use tokio::{task::JoinSet, time::timeout};

const A_WHILE: Duration = Duration::from_millis(400);

async fn next(consumer: &Consumer) -> Result<PartitionConsumer> {
    Ok(timeout(SOON, consumer.next_partition()).await.expect("there is one")?.expect("it is open"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "as a program does it")]
async fn a_task_for_each_partition_handles_everything_once_and_in_order() -> Result<()> {
    let (cluster, client) = cluster().await;
    produce(&client, 0..400).await?;
    let consumer = member(&client).build()?;
    consumer.subscribe([TOPIC])?;
    let effects = Arc::new(Mutex::new(Effects::default()));
    let mut tasks = JoinSet::new();
    let mut names = BTreeSet::new();
    for _ in 0..PARTITIONS {
        let partition = next(&consumer).await?;
        assert!(names.insert(partition.topic_partition().clone()), "each of them once");
        let effects = Arc::clone(&effects);
        tasks.spawn(async move {
            let mut expected = 0;
            while let Some(batch) = partition.poll().await? {
                for record in &batch {
                    assert_eq!(record.offset(), expected);
                    expected += 1;
                    effects.lock().unwrap().handle(record.value());
                }
                batch.complete();
            }
            Ok::<_, ottla::Error>(())
        });
    }
    assert!(timeout(A_WHILE, consumer.next_partition()).await.is_err(), "there are no more");
    assert!(timeout(A_WHILE, consumer.poll()).await.is_err(), "what is taken is nobody else's");
    produce(&client, 400..500).await?;
    let all = async {
        while effects.lock().unwrap().0.len() < 500 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, all).await.expect("all of it arrives");
    assert!(effects.lock().unwrap().is_each_once(0..500));
    consumer.close().await?;
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no panic")?;
    }
    assert!(consumer.next_partition().await?.is_none(), "it is closed");
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_reader_that_ends_early_leaves_its_partition_to_the_next() -> Result<()> {
    let (cluster, client) = cluster_with(1).await;
    produce(&client, 0..10).await?;
    let consumer = member(&client).build()?;
    consumer.subscribe([TOPIC])?;
    let first = next(&consumer).await?;
    let batch = timeout(SOON, first.poll()).await.expect("there is one")?.expect("it is open");
    batch.iter().nth(3).expect("there are ten").complete_through();
    drop(first);
    drop(batch);
    let second = next(&consumer).await?;
    let batch = timeout(SOON, second.poll()).await.expect("it comes back")?.expect("it is open");
    assert_eq!(batch.iter().map(|record| record.offset()).collect::<Vec<_>>(), (4..10).collect::<Vec<_>>());

    let pause = consumer.pause([(TOPIC, 0)], Pause::by("test"));
    batch.release();
    assert!(timeout(A_WHILE, second.poll()).await.is_err(), "it is paused");
    pause.resume();
    let batch = timeout(SOON, second.poll()).await.expect("it comes back again")?.expect("it is open");
    batch.complete();
    drop(second);
    produce(&client, 10..20).await?;
    let batch = timeout(SOON, consumer.poll()).await.expect("it is everybody's again")?.expect("it is open");
    assert_eq!(batch.len(), 10);
    batch.complete();
    consumer.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn the_reader_of_a_partition_that_goes_is_told_so_and_completes_what_it_has() -> Result<()> {
    let (cluster, client) = cluster_with(2).await;
    produce(&client, 0..40).await?;
    let consumer = member(&client).build()?;
    consumer.subscribe([TOPIC])?;
    let (one, two) = (next(&consumer).await?, next(&consumer).await?);
    let in_hand = [one.poll().await?.expect("open"), two.poll().await?.expect("open")];
    let other = member(&connect(&cluster).await).build()?;
    other.subscribe([TOPIC])?;
    let (ended, gone) = {
        let ended = async {
            tokio::select! {
                biased;
                ended = one.poll() => (ended, one.topic_partition()),
                ended = two.poll() => (ended, two.topic_partition()),
            }
        };
        timeout(SOON, ended).await.expect("one of them goes")
    };
    assert!(ended?.is_none());
    in_hand.into_iter().for_each(ottla::Batch::complete);
    let taken = next(&other).await?;
    assert_eq!(taken.topic_partition(), gone);
    assert!(timeout(A_WHILE, taken.poll()).await.is_err(), "all of it was completed and committed");
    other.close().await?;
    assert!(taken.poll().await?.is_none());
    consumer.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn partitions_that_are_assigned_by_hand_can_be_read_one_by_one() -> Result<()> {
    let (cluster, client) = cluster_with(2).await;
    produce(&client, 0..40).await?;
    let consumer = Consumer::builder(&client).build()?;
    let partitions = [0, 1].map(|number| (TopicPartition::new(TOPIC, number), OffsetSpec::Earliest));
    consumer.assign(partitions.clone())?;
    // Some of it may be unpacked for `recv` already: it is the reader's.
    let first = timeout(SOON, consumer.recv()).await.expect("there is one")?.expect("it is open");
    let from = first.view().topic_partition().clone();
    let readers = [next(&consumer).await?, next(&consumer).await?];
    let reader = readers.iter().find(|reader| *reader.topic_partition() == from).expect("both are taken");
    let batch = timeout(SOON, reader.poll()).await.expect("the rest")?.expect("it is open");
    assert_eq!(batch.iter().next().map(|record| record.offset()), Some(1));
    consumer.assign(partitions)?;
    assert!(reader.poll().await?.is_none(), "that is another assignment");
    consumer.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}
