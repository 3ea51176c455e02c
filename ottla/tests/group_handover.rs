//! What becomes of records in hand when their partition goes to somebody else, over the embedded cluster.

mod group_world;

use std::time::Duration;

use futures::{FutureExt, future::select_all};
use group_world::{Effects, SOON, TOPIC, cluster_with, connect, handle_until, member, produce};
use ottla::{BoxError, Consumer, Rebalance, RebalanceListener, ReceivedRecord, Result};
use tokio::time::{sleep, timeout};

async fn next(consumer: &Consumer) -> Result<ReceivedRecord> {
    Ok(timeout(SOON, consumer.recv()).await.expect("there is one")?.expect("it is open"))
}

/// The number that the next record has, once it is complete.
async fn handle_next(consumer: &Consumer) -> Result<i64> {
    let record = next(consumer).await?;
    let offset = record.view().offset();
    record.complete();
    Ok(offset)
}

#[tokio::test]
async fn closing_waits_for_what_is_in_hand_and_commits_it() -> Result<()> {
    let (cluster, client) = cluster_with(1).await;
    produce(&client, 0..10).await?;
    let first = member(&client).build()?;
    first.subscribe([TOPIC])?;
    let in_hand = next(&first).await?;
    let work = async {
        sleep(Duration::from_millis(300)).await;
        in_hand.complete();
    };
    let (closed, ()) = tokio::join!(first.close(), work);
    closed?;

    let second = member(&client).build()?;
    second.subscribe([TOPIC])?;
    assert_eq!(handle_next(&second).await?, 1);
    second.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn closing_commits_what_is_complete_and_leaves_the_rest_to_the_next_member() -> Result<()> {
    let (cluster, client) = cluster_with(1).await;
    produce(&client, 0..10).await?;
    let first = member(&client).drain_timeout(Duration::from_millis(200)).build()?;
    first.subscribe([TOPIC])?;
    let batch = timeout(SOON, first.poll()).await.expect("there is one")?.expect("it is open");
    batch.iter().nth(3).expect("there are ten").complete_through();
    batch.iter().nth(7).expect("there are ten").complete();
    timeout(SOON, first.close()).await.expect("it does not wait for ever")?;
    batch.complete();

    let second = member(&client).build()?;
    second.subscribe([TOPIC])?;
    let mut rest = Effects::default();
    handle_until(&second, &mut rest, 6).await?;
    assert!(rest.is_each_once(4..10), "{:?}", rest.0);
    second.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_consumer_that_is_dropped_with_a_record_in_hand_leaves_it_to_the_next_member() -> Result<()> {
    let (cluster, client) = cluster_with(1).await;
    produce(&client, 0..10).await?;
    let first = member(&client).drain_timeout(Duration::from_millis(200)).build()?;
    first.subscribe([TOPIC])?;
    assert_eq!(handle_next(&first).await?, 0);
    let in_hand = next(&first).await?;
    drop(first);

    let second = member(&connect(&cluster).await).build()?;
    second.subscribe([TOPIC])?;
    assert_eq!(handle_next(&second).await?, 1, "what is complete was committed, and nothing else");
    in_hand.complete();
    let mut rest = Effects::default();
    handle_until(&second, &mut rest, 8).await?;
    second.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_record_that_is_dropped_while_its_partition_goes_ends_the_drain_and_is_the_next_owners()
-> Result<()> {
    let (cluster, client) = cluster_with(2).await;
    produce(&client, 0..40).await?;
    let first = member(&client).build()?;
    first.subscribe([TOPIC])?;
    let mut in_hand: Vec<ReceivedRecord> = Vec::new();
    while in_hand.len() < 2 {
        let record = next(&first).await?;
        match in_hand.iter().any(|held| held.view().partition() == record.view().partition()) {
            true => record.complete(),
            false => in_hand.push(record),
        }
    }
    let second = member(&connect(&cluster).await).build()?;
    second.subscribe([TOPIC])?;
    let assignments = first.assignment();
    let revoking = assignments.iter().map(|each| Box::pin(each.revoking()));
    timeout(SOON, select_all(revoking)).await.expect("one of them goes");
    drop(in_hand);
    let handed_over = timeout(Duration::from_secs(5), handle_next(&second));
    assert_eq!(handed_over.await.expect("long before the drain would end by itself")?, 0);
    assert_eq!(handle_next(&first).await?, 0, "it comes back where it stays");
    second.close().await?;
    first.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

struct CommitWhenRevoked;

impl RebalanceListener for CommitWhenRevoked {
    async fn on_revoked(&self, rebalance: &Rebalance<'_>) -> Result<(), BoxError> {
        let commit = rebalance.consumer().commit();
        Ok(timeout(rebalance.remaining(), commit).await??)
    }
}

#[tokio::test]
async fn a_listener_may_commit_what_goes_also_while_the_consumer_is_closed() -> Result<()> {
    let (cluster, client) = cluster_with(1).await;
    produce(&client, 0..10).await?;
    let builder = member(&client).enable_auto_commit(false).rebalance_listener(CommitWhenRevoked);
    let first = builder.build()?;
    first.subscribe([TOPIC])?;
    handle_until(&first, &mut Effects::default(), 4).await?;
    first.close().await?;

    let second = member(&client).build()?;
    second.subscribe([TOPIC])?;
    assert_eq!(handle_next(&second).await?, 4);
    second.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_commit_whose_future_is_dropped_goes_on_and_a_dropped_recv_takes_nothing() -> Result<()> {
    let (cluster, client) = cluster_with(1).await;
    let consumer = member(&client).enable_auto_commit(false).build()?;
    consumer.subscribe([TOPIC])?;
    // Any of these may be dropped just when the record comes.
    let mut handled = Effects::default();
    let producing = async { produce(&client, 0..50).await };
    let receiving = async {
        while handled.0.len() < 50 {
            tokio::select! {
                biased;
                () = sleep(Duration::from_millis(1)) => {}
                record = consumer.recv() => {
                    let record = record?.expect("it is open");
                    handled.handle(record.view().value());
                    record.complete();
                }
            }
        }
        Ok::<_, ottla::Error>(())
    };
    let (produced, received) =
        timeout(SOON, async { tokio::join!(producing, receiving) }).await.expect("all come");
    produced.and(received)?;
    assert!(handled.is_each_once(0..50), "{:?}", handled.0);

    assert!(consumer.commit().now_or_never().is_none(), "it has to ask somebody");
    let committed = async {
        loop {
            let committed = consumer.committed([(TOPIC, 0)]).await?;
            if committed[0].1.as_ref().is_some_and(|committed| committed.offset == 50) {
                return Ok::<_, ottla::Error>(());
            }
        }
    };
    timeout(SOON, committed).await.expect("it goes on")?;
    consumer.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}
