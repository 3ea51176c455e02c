//! Members of a group against the embedded cluster, over real sockets.

mod group_world;

use std::{collections::BTreeSet, time::Duration};

use group_world::{Effects, PARTITIONS, SOON, TOPIC, cluster, connect, handle_until, member, produce};
use ottla::{Event, Result};
use tokio::time::timeout;

#[tokio::test]
async fn what_was_completed_is_not_handed_out_to_the_next_member() -> Result<()> {
    let (cluster, client) = cluster().await;
    produce(&client, 0..100).await?;
    let mut effects = Effects::default();
    let first = member(&client).build()?;
    first.subscribe([TOPIC])?;
    handle_until(&first, &mut effects, 100).await?;
    first.close().await?;

    produce(&client, 100..150).await?;
    let second = member(&client).build()?;
    second.subscribe([TOPIC])?;
    handle_until(&second, &mut effects, 150).await?;
    assert!(effects.is_each_once(0..150), "{:?}", effects.0);
    let partitions = (0..PARTITIONS).map(|partition| (TOPIC, partition));
    second.commit().await?;
    let committed = second.committed(partitions).await?;
    assert_eq!(committed.iter().filter_map(|(_, found)| Some(found.as_ref()?.offset)).sum::<i64>(), 150);
    second.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn what_is_dropped_incomplete_is_handed_out_again_and_nothing_else() -> Result<()> {
    let (cluster, client) = cluster().await;
    produce(&client, 0..40).await?;
    let consumer = member(&client).build()?;
    consumer.subscribe([TOPIC])?;
    let mut effects = Effects::default();
    let mut refused = BTreeSet::new();
    let handling = async {
        while effects.0.len() < 40
            && let Some(batch) = consumer.poll().await?
        {
            for record in &batch {
                // Each partition's third record fails the first time.
                if record.offset() == 2 && refused.insert(record.partition()) {
                    continue;
                }
                effects.handle(record.value());
                record.complete();
            }
        }
        Ok::<_, ottla::Error>(())
    };
    timeout(SOON, handling).await.expect("all of it arrives")?;
    assert!(effects.is_each_once(0..40), "{:?}", effects.0);
    assert!(!refused.is_empty());
    consumer.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn two_members_share_the_partitions_and_nothing_is_handled_twice() -> Result<()> {
    let (cluster, client) = cluster().await;
    produce(&client, 0..200).await?;
    let first = member(&client).build()?;
    first.subscribe([TOPIC])?;
    let mut effects = Effects::default();
    handle_until(&first, &mut effects, 200).await?;
    let other_client = connect(&cluster).await;
    let second = member(&other_client).build()?;
    second.subscribe([TOPIC])?;
    produce(&client, 200..400).await?;
    let mut shares = [0, 0];
    let sharing = async {
        while effects.0.len() < 400 || second.assignment().len() != 2 {
            let (received, who) = tokio::select! {
                biased;
                received = first.recv() => (received?, 0),
                received = second.recv() => (received?, 1),
                () = tokio::time::sleep(Duration::from_millis(20)) => continue,
            };
            let Some(record) = received else { break };
            effects.handle(record.view().value());
            record.complete();
            shares[who] += 1;
        }
        Ok::<_, ottla::Error>(())
    };
    timeout(SOON, sharing).await.expect("both get their share")?;
    assert_eq!((first.assignment().len(), second.assignment().len()), (2, 2));
    assert!(
        effects.is_each_once(0..400),
        "{:?}",
        effects.0.iter().filter(|(_, n)| **n != 1).collect::<Vec<_>>()
    );
    second.close().await?;
    first.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_broker_that_was_frozen_past_the_session_causes_no_duplicate_and_no_loss() -> Result<()> {
    let (cluster, client) = cluster().await;
    let mut events = client.events();
    produce(&client, 0..1_000).await?;
    let consumer = member(&client).build()?;
    consumer.subscribe([TOPIC])?;
    let mut effects = Effects::default();
    handle_until(&consumer, &mut effects, 1_000).await?;
    consumer.commit().await?;

    cluster.freeze(1).await.expect("it exists");
    let waiting = timeout(Duration::from_secs(8), consumer.recv()).await;
    assert!(waiting.is_err(), "nothing comes from a frozen broker");
    cluster.thaw(1).await.expect("it exists");
    produce(&connect(&cluster).await, 1_000..2_000).await?;
    handle_until(&consumer, &mut effects, 2_000).await?;
    assert!(effects.is_each_once(0..2_000));

    consumer.close().await?;
    client.close().await?;
    let mut names = BTreeSet::new();
    while let Some(event) = events.recv().await {
        assert!(!matches!(event, Event::Missed { .. }));
        names.insert(event.name());
    }
    assert!(names.contains("group.session_lost"), "{names:?}");
    cluster.stop().await;
    Ok(())
}
