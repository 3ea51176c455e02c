//! Topics and logs that change under a member, over the embedded cluster.

mod group_world;

use std::time::Duration;

use group_world::{Effects, SOON, TOPIC, cluster_with, handle_until, member, produce};
use ottla::{
    Admin, Client, Consumer, ErrorCode, Event, Events, NewTopic, OffsetSpec, Reset, Result, TopicPartition,
};
use tokio::time::timeout;

const GROUP: &str = "billing";
const OTHER: &str = "refunds";

fn orders() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

async fn create(client: &Client, topic: &str) -> Result<()> {
    Admin::new(client).create_topics([NewTopic::new(topic, 1, 1)]).await?.all().map(drop)
}

async fn committed(consumer: &Consumer) -> Result<Option<i64>> {
    let committed = consumer.committed([orders()]).await?;
    Ok(committed[0].1.as_ref().map(|committed| committed.offset))
}

async fn until_revoked(events: &mut Events, topic: &str) {
    loop {
        if let Event::PartitionsRevoked { partitions, .. } = events.recv().await.expect("it is open")
            && partitions.iter().any(|partition| partition.topic() == topic)
        {
            return;
        }
    }
}

#[tokio::test]
async fn what_a_deleted_topic_has_not_committed_holds_up_no_rebalance() -> Result<()> {
    let (cluster, client) = cluster_with(1).await;
    create(&client, OTHER).await?;
    let producer = ottla::Producer::builder(&client).build()?;
    producer.send(OTHER, "refund").await?;
    let mut events = client.events();
    let consumer = member(&client).auto_commit_interval(Duration::from_secs(600)).build()?;
    consumer.subscribe([TOPIC, OTHER])?;
    let record = timeout(SOON, consumer.recv()).await.expect("there is one")?.expect("it is open");
    assert_eq!(record.view().topic(), OTHER);
    record.complete();
    Admin::new(&client).delete_topics([OTHER]).await?.all()?;
    timeout(Duration::from_secs(10), until_revoked(&mut events, OTHER)).await.expect("it goes soon");

    produce(&client, 0..10).await?;
    handle_until(&consumer, &mut Effects::default(), 10).await?;
    consumer.commit().await?;
    assert_eq!(committed(&consumer).await?, Some(10));
    consumer.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_topic_that_was_created_again_is_read_from_its_start_and_so_committed() -> Result<()> {
    let (cluster, client) = cluster_with(1).await;
    produce(&client, 0..20).await?;
    let consumer = member(&client).on_out_of_range(Reset::Earliest).build()?;
    consumer.subscribe([TOPIC])?;
    handle_until(&consumer, &mut Effects::default(), 20).await?;
    consumer.commit().await?;
    let admin = Admin::new(&client);
    admin.delete_topics([TOPIC]).await?.all()?;
    create(&client, TOPIC).await?;
    produce(&client, 100..130).await?;
    let mut new = Effects::default();
    handle_until(&consumer, &mut new, 30).await?;
    assert!(new.is_each_once(100..130), "{:?}", new.0);
    consumer.commit().await?;
    assert_eq!(committed(&consumer).await?, Some(30));
    consumer.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_committed_offset_that_is_not_in_the_log_is_the_users_to_decide() -> Result<()> {
    let (cluster, client) = cluster_with(2).await;
    produce(&client, 0..40).await?;
    let admin = Admin::new(&client);
    admin.alter_group_offsets(GROUP, [(orders(), 1_000)]).await?.all()?;
    let consumer = member(&client).build()?;
    consumer.subscribe([TOPIC])?;
    let (mut handled, mut told) = (Effects::default(), 0);
    let handling = async {
        while handled.0.len() < 40 {
            match consumer.recv().await {
                Ok(record) => {
                    let record = record.expect("it is open");
                    handled.handle(record.view().value());
                    record.complete();
                }
                Err(error) => {
                    assert_eq!(error.broker_code(), Some(ErrorCode::OFFSET_OUT_OF_RANGE));
                    assert_eq!(error.topic_partition(), Some(&orders()));
                    told += 1;
                    consumer.seek(&orders(), OffsetSpec::Earliest).await?;
                }
            }
        }
        Ok::<_, ottla::Error>(())
    };
    timeout(SOON, handling).await.expect("both are read to their ends")?;
    assert_eq!(told, 1);
    assert!(handled.is_each_once(0..40));
    consumer.commit().await?;
    let end = consumer.end_offsets([orders()]).await?[0].1;
    assert_eq!(committed(&consumer).await?, Some(end));
    consumer.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test]
async fn a_commit_says_which_leader_wrote_the_record_in_front_of_it() -> Result<()> {
    let (cluster, client) = cluster_with(1).await;
    produce(&client, 0..5).await?;
    let consumer = member(&client).build()?;
    consumer.subscribe([TOPIC])?;
    handle_until(&consumer, &mut Effects::default(), 5).await?;
    consumer.commit().await?;
    let committed = consumer.committed([orders()]).await?;
    let committed = committed[0].1.as_ref().expect("it is committed");
    assert_eq!((committed.offset, committed.leader_epoch), (5, Some(0)));
    consumer.close().await?;
    client.close().await?;
    cluster.stop().await;
    Ok(())
}
