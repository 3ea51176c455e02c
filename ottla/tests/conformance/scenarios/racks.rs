//! A consumer that says where it stands (KIP-392).

use std::collections::BTreeSet;

use ottla::{Client, Consumer, Event, OffsetSpec, TopicPartition};
use tokio::time::Instant;

use crate::World;
use crate::diary::Diary;
use crate::record::Written;
use crate::world::take;

const COUNT: usize = 20;

/// The leader sends it to the replica in its rack, of which there is one on each of three nodes, and serves nobody else.
pub(crate) async fn a_consumer_reads_from_the_replica_in_its_rack(world: &World) {
    let topic = world.topic(1).await;
    let records = || (0..COUNT).map(|n| Written::value(n.to_string()).partition(0)).collect::<Vec<_>>();
    world.write(&topic, &records()).await;
    let described = world.admin().describe_topics([&*topic]).await.expect("the brokers answer");
    let described = described.all().expect("it exists");
    let leader = described[0].1.partitions[0].leader.expect("it was written to");

    let mut total = COUNT;
    for node in 1..=3 {
        let rack = format!("rack-{node}");
        let client = Client::builder().bootstrap_servers(world.backend().bootstrap_servers());
        let client = client.client_rack(rack).connect().await.expect("the brokers answer");
        let consumer = Consumer::builder(&client).build().expect("valid");
        consumer.assign([(TopicPartition::new(&*topic, 0), OffsetSpec::Earliest)]).expect("it exists");
        let (diary, begun, asked) = (Diary::new(), Instant::now(), BTreeSet::from([leader, node]));
        let story = async {
            take(&consumer, total).await;
            let is_there = |event: &Event| matches!(event, Event::BrokerConnected { node: at, lane: "fetch", .. } if *at == node);
            diary.until(begun, is_there).await;
            // A follower that has them all now has what is written from here on, too.
            world.write(&topic, &records()).await;
            take(&consumer, COUNT).await;
        };
        diary.keep_during(client.events(), story).await;
        let elsewhere = |event: &Event| matches!(event, Event::BrokerConnected { node: at, lane: "fetch", .. } if !asked.contains(at));
        assert!(!diary.has(begun, elsewhere), "it asked somebody who is neither the leader nor in its rack");
        total += COUNT;
        client.close().await.expect("nothing is left to do");
    }
}
