//! What may take long stands in front of nothing that must not wait.

use ottla::{Admin, Consumer, NewTopic, OffsetSpec, Record, Reset};
use ottla_broker::faults::{Effect, Fault};
use ottla_protocol::messages::{CreateTopicsRequest, FetchRequest, ListOffsetsRequest};
use ottla_sim::{Sim, World, group::GROUP, load::TOPIC};
use tokio::time::timeout;

use crate::SECOND;

/// A member whose client does something else beside it, on the connection that this is the first to use.
async fn member(world: &World) -> ottla::Result<(ottla_sim::Cluster, ottla::Client, Consumer)> {
    let cluster = world.cluster(1).await;
    cluster.topic(TOPIC, 1).await;
    let client = cluster.client();
    let consumer = Consumer::builder(&client)
        .group(GROUP)
        .on_missing_offset(Reset::Earliest)
        .enable_auto_commit(false)
        .build()?;
    consumer.subscribe([TOPIC])?;
    cluster.produce(TOPIC, [Record::new("one"), Record::new("two")]).await;
    consumer.recv().await?.expect("open").complete();
    Ok((cluster, client, consumer))
}

#[test]
fn administration_that_a_broker_parks_delays_neither_commits_nor_places_nor_what_is_committed() {
    Sim::seeds(0..4).run(async |world| {
        let (cluster, client, consumer) = member(world).await?;
        let parked = cluster.faults().add(Fault::on::<CreateTopicsRequest>(Effect::Hold));
        let admin = Admin::new(&client);
        let creating = async { admin.create_topics([NewTopic::new("refunds", 1, 1)]).await };
        tokio::pin!(creating);
        assert!(timeout(2 * SECOND, &mut creating).await.is_err(), "it is parked");

        timeout(SECOND, consumer.commit()).await.expect("a commit does not wait")?;
        timeout(SECOND, consumer.seek(&(TOPIC, 0).into(), OffsetSpec::Earliest))
            .await
            .expect("nor a place")?;
        let committed =
            timeout(SECOND, consumer.committed([(TOPIC, 0)])).await.expect("nor what is committed")?;
        assert!(committed[0].1.as_ref().is_some_and(|committed| committed.offset == 1), "{committed:?}");
        timeout(2 * SECOND, consumer.close()).await.expect("nor a departure")?;
        parked.end();
        creating.await?.all()?;
        Ok::<_, ottla::Error>(())
    });
}

#[test]
fn what_is_looked_up_or_caught_up_on_delays_no_commit() {
    Sim::seeds(0..4).run(async |world| {
        let (cluster, _client, consumer) = member(world).await?;
        let slow = [Fault::on::<ListOffsetsRequest>(Effect::Hold), Fault::on::<FetchRequest>(Effect::Hold)];
        let slow = slow.map(|fault| cluster.faults().add(fault));
        let partition = (TOPIC, 0).into();
        let seeking = consumer.seek(&partition, OffsetSpec::Earliest);
        assert!(timeout(2 * SECOND, seeking).await.is_err(), "it is not answered");
        timeout(SECOND, consumer.commit()).await.expect("a commit does not wait")?;
        slow.iter().for_each(ottla_broker::faults::ScriptedFault::end);
        consumer.close().await
    });
}
