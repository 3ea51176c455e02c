//! What a program can do with the partitions that its group gave it, over the embedded cluster.

mod group_world;

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use group_world::{Effects, SOON, TOPIC, cluster_with, connect, handle_until, member, produce};
use ottla::{
    Assignment, Batch, Client, Consumer, ErrorKind, Event, OffsetSpec, Pause, Records, Result, TopicPartition,
};
use ottla_broker::tcp::Cluster;
use tokio::time::timeout;

/// Not so long that a test with a condition that holds would be slow, and long enough that a wrong record would come.
const A_WHILE: Duration = Duration::from_millis(400);

/// A member of a group with one partition of that many records.
async fn alone(records: u32) -> Result<(Cluster, Client, Consumer)> {
    let (cluster, client) = cluster_with(1).await;
    produce(&client, 0..records).await?;
    let consumer = member(&client).build()?;
    consumer.subscribe([TOPIC])?;
    Ok((cluster, client, consumer))
}

async fn end((cluster, client, consumer): (Cluster, Client, Consumer)) -> Result<()> {
    consumer.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

fn orders() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

async fn batch(consumer: &Consumer) -> Result<Batch> {
    Ok(timeout(SOON, consumer.poll()).await.expect("there is one")?.expect("it is open"))
}

async fn committed(consumer: &Consumer) -> Result<i64> {
    consumer.commit().await?;
    let committed = consumer.committed([orders()]).await?;
    Ok(committed[0].1.as_ref().expect("where reading began is committed").offset)
}

fn offsets(records: &Records) -> Vec<i64> {
    records.iter().map(|record| record.offset()).collect()
}

#[tokio::test]
async fn records_are_completed_by_their_offsets_in_any_order() -> Result<()> {
    let world = alone(10).await?;
    let consumer = &world.2;
    let (assignment, records) = batch(consumer).await?.into_parts();
    assert_eq!((assignment.topic_partition(), records.topic_partition()), (&orders(), &orders()));
    assert_eq!(offsets(&records), (0..10).collect::<Vec<_>>());
    drop(records);
    assignment.complete(3..=5)?;
    assert_eq!(committed(consumer).await?, 0, "0 is not complete");
    assignment.complete(0)?;
    assignment.complete(1..3)?;
    assert_eq!(committed(consumer).await?, 6);
    assignment.complete(6..10)?;
    assert_eq!(committed(consumer).await?, 10);
    end(world).await
}

#[tokio::test]
async fn what_an_assignment_has_not_completed_is_handed_out_again_when_its_last_clone_goes() -> Result<()> {
    let world = alone(10).await?;
    let consumer = &world.2;
    let (assignment, records) = batch(consumer).await?.into_parts();
    let clone = assignment.clone();
    drop(assignment);
    clone.complete(0..4)?;
    assert!(timeout(A_WHILE, consumer.poll()).await.is_err(), "the clone still has the duty");
    assert_eq!(offsets(&records).len(), 10, "bytes and duty go their own ways");
    drop(clone);
    let (assignment, records) = batch(consumer).await?.into_parts();
    assert_eq!(offsets(&records), (4..10).collect::<Vec<_>>());
    assignment.complete(4..10)?;
    assert_eq!(committed(consumer).await?, 10);
    end(world).await
}

#[tokio::test]
async fn offsets_that_were_not_handed_out_cannot_be_completed() -> Result<()> {
    let world = alone(10).await?;
    let consumer = &world.2;
    let first = timeout(SOON, consumer.recv()).await.expect("there is one")?.expect("it is open");
    let assignment = consumer.assignment().swap_remove(0);
    for wrong in [1..2, 0..2, 9..11, 50..60] {
        let error = assignment.complete(wrong.clone()).expect_err("it was not handed out");
        assert_eq!(
            (error.kind(), error.topic_partition()),
            (ErrorKind::Misuse, Some(&orders())),
            "{wrong:?}"
        );
    }
    assert_eq!(committed(consumer).await?, 0);
    assert_eq!((consumer.position(&orders()), consumer.current_lag(&orders())), (Some(1), Some(9)));
    assignment.complete(0)?;
    drop(first);
    assert_eq!(committed(consumer).await?, 1, "completed is completed, whoever drops the record");
    end(world).await
}

#[tokio::test]
async fn a_record_and_all_before_it_are_completed_at_once() -> Result<()> {
    let world = alone(10).await?;
    let consumer = &world.2;
    let batch = batch(consumer).await?;
    batch.iter().nth(6).expect("there are ten").complete_through();
    assert_eq!(committed(consumer).await?, 7);
    batch.complete();
    assert_eq!(committed(consumer).await?, 10);
    end(world).await
}

#[tokio::test]
async fn what_is_skipped_is_told_and_committed_and_not_handed_out() -> Result<()> {
    let world = alone(10).await?;
    let (_, client, consumer) = &world;
    let mut events = client.events();
    let first = timeout(SOON, consumer.recv()).await.expect("there is one")?.expect("it is open");
    let assignment = consumer.assignment().swap_remove(0);
    first.complete();
    assert_eq!(assignment.skip_to(0, "back").expect_err("forward only").kind(), ErrorKind::Misuse);
    assignment.skip_to(7, "poison")?;
    let told = timeout(SOON, async {
        loop {
            if let Event::RecordsSkipped { from, to, reason, .. } = events.recv().await.expect("it is open") {
                return (from, to, reason);
            }
        }
    });
    assert_eq!(told.await.expect("it is told"), (1, 7, "poison".into()));
    let (assignment, records) = batch(consumer).await?.into_parts();
    assert_eq!(offsets(&records), [7, 8, 9]);
    assert_eq!(committed(consumer).await?, 7);
    assignment.complete(7..10)?;
    end(world).await
}

#[tokio::test]
async fn a_rewind_hands_out_again_what_is_not_committed_and_voids_what_is_in_hand() -> Result<()> {
    let world = alone(10).await?;
    let consumer = &world.2;
    let before = batch(consumer).await?;
    before.iter().nth(2).expect("there are ten").complete_through();
    assert_eq!(committed(consumer).await?, 3);
    consumer.rewind_to_committed().await?;
    assert!(!before.is_current(), "it is from before");
    let (assignment, records) = batch(consumer).await?.into_parts();
    assert_eq!(offsets(&records), (3..10).collect::<Vec<_>>());
    before.complete();
    assert_eq!(committed(consumer).await?, 3, "completing it counts no more");
    assignment.complete(3..10)?;
    assert_eq!(committed(consumer).await?, 10);
    end(world).await
}

#[tokio::test]
async fn a_seek_takes_the_commits_with_it() -> Result<()> {
    let world = alone(10).await?;
    let consumer = &world.2;
    handle_until(consumer, &mut Effects::default(), 10).await?;
    assert_eq!(committed(consumer).await?, 10);
    consumer.seek(&orders(), OffsetSpec::At(4)).await?;
    assert_eq!(committed(consumer).await?, 4);
    let mut again = Effects::default();
    handle_until(consumer, &mut again, 6).await?;
    assert!(again.is_each_once(4..10));
    assert_eq!(committed(consumer).await?, 10);
    end(world).await
}

#[tokio::test]
async fn a_pause_also_holds_what_came_back_and_costs_nothing_meanwhile() -> Result<()> {
    let world = alone(10).await?;
    let consumer = &world.2;
    drop(batch(consumer).await?);
    let pause = consumer.pause([orders()], Pause::by("test"));
    let looks = AtomicU32::new(0);
    {
        let mut polling = pin!(consumer.poll());
        let counted = poll_fn(|context| {
            looks.fetch_add(1, Ordering::Relaxed);
            polling.as_mut().poll(context).map(drop)
        });
        assert!(timeout(A_WHILE, counted).await.is_err(), "it is paused");
    }
    let looks = looks.into_inner();
    assert!(looks < 20, "whoever polls sleeps: {looks} looks");
    pause.resume();
    let batch = batch(consumer).await?;
    assert_eq!(batch.len(), 10);
    batch.complete();
    end(world).await
}

#[tokio::test]
async fn what_came_back_and_was_completed_meanwhile_holds_up_nobody() -> Result<()> {
    let world = alone(10).await?;
    let consumer = &world.2;
    let first = timeout(SOON, consumer.recv()).await.expect("there is one")?.expect("it is open");
    let assignment = consumer.assignment().swap_remove(0);
    drop(first);
    assignment.complete(0)?;
    let mut rest = Effects::default();
    handle_until(consumer, &mut rest, 9).await?;
    assert!(rest.is_each_once(1..10), "{:?}", rest.0);
    end(world).await
}

#[tokio::test]
async fn an_assignment_that_was_given_back_is_not_current_and_completing_it_changes_nothing() -> Result<()> {
    let (cluster, client) = cluster_with(2).await;
    produce(&client, 0..40).await?;
    let first = member(&client).drain_timeout(Duration::from_millis(300)).build()?;
    first.subscribe([TOPIC])?;
    let mut held = Vec::new();
    while held.len() < 2 {
        held.push(batch(&first).await?.into_parts());
    }
    assert!(held.iter().all(|(assignment, _)| assignment.is_current()));
    assert!(held.iter().all(|(assignment, _)| assignment.lease().remaining() > Duration::from_secs(1)));

    let other = connect(&cluster).await;
    let second = member(&other).build()?;
    second.subscribe([TOPIC])?;
    let (one, two) = (held[0].0.clone(), held[1].0.clone());
    let revoking = async {
        tokio::select! {
            biased;
            () = one.revoking() => 0,
            () = two.revoking() => 1,
        }
    };
    let gone = timeout(SOON, revoking).await.expect("one of them goes");
    // The drain ends with nothing complete: the other member gets all of the partition.
    let (assignment, records) = &held[gone];
    let taken = timeout(SOON, batch(&second)).await.expect("it is handed over")?;
    assert_eq!(taken.topic_partition(), assignment.topic_partition());
    assert_eq!(taken.iter().next().map(|record| record.offset()), offsets(records).first().copied());
    assert!(!assignment.is_current());
    assert_eq!(assignment.lease().remaining(), Duration::ZERO);
    assignment.complete(0..offsets(records).len() as i64)?;
    assert!(is_misuse(assignment), "nothing can be skipped of it");

    let kept = &held[1 - gone].0;
    assert!(kept.is_current(), "it stays");
    taken.complete();
    drop(held);
    for consumer in [first, second] {
        consumer.close().await?;
    }
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

fn is_misuse(assignment: &Assignment) -> bool {
    assignment.skip_to(1_000, "too late").is_err_and(|error| error.kind() == ErrorKind::Misuse)
}

#[tokio::test]
async fn a_closed_consumer_says_so() -> Result<()> {
    let (cluster, client, consumer) = alone(1).await?;
    handle_until(&consumer, &mut Effects::default(), 1).await?;
    consumer.close().await?;
    assert_eq!(consumer.commit().await.expect_err("it is closed").kind(), ErrorKind::Closed);
    assert_eq!(consumer.commit_async().expect_err("it is closed").kind(), ErrorKind::Closed);
    assert_eq!(consumer.rewind_to_committed().await.expect_err("it is closed").kind(), ErrorKind::Closed);
    assert!(consumer.poll().await?.is_none());
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn without_a_group_there_is_no_duty_and_an_assignment_is_always_current() -> Result<()> {
    let (cluster, client) = cluster_with(1).await;
    produce(&client, 0..10).await?;
    let consumer = Consumer::builder(&client).build()?;
    consumer.assign([(orders(), OffsetSpec::Earliest)])?;
    let (assignment, records) = batch(&consumer).await?.into_parts();
    assert_eq!(offsets(&records).len(), 10);
    assignment.complete(0..1_000)?;
    assert!(assignment.is_current());
    assert_eq!(assignment.lease().remaining(), Duration::MAX);
    assert!(is_misuse(&assignment));
    drop((assignment, records));
    assert!(timeout(A_WHILE, consumer.poll()).await.is_err(), "nothing comes back");
    let assignment = consumer.assignment().swap_remove(0);
    assert!(timeout(A_WHILE, assignment.revoking()).await.is_err(), "nobody takes it away");
    client.close().await?;
    cluster.stop().await;
    Ok(())
}
