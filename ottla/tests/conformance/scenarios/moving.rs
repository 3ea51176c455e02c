//! A broker that comes back where nobody expects it.

use std::net::TcpListener;

use ottla::{Consumer, Event, OffsetSpec, Producer, TopicPartition};
use tokio::time::Instant;

use crate::World;
use crate::backend::Backend;
use crate::diary::Diary;
use crate::record::Written;
use crate::world::{take, write_with};

const PARTITIONS: i32 = 6;
const VICTIM: i32 = 2;

/// What a client knows of its address is wrong from then on. The others know better, and are asked.
pub(crate) async fn a_broker_comes_back_at_another_address(world: &World) {
    if matches!(world.backend(), Backend::Embedded(_)) {
        eprintln!("not run: an embedded broker keeps its address");
        return;
    }
    let (client, diary) = (world.another_client().await, Diary::new());
    let producer = Producer::builder(&client).build().expect("valid");
    let consumer = Consumer::builder(&client).build().expect("valid");
    let events = client.events();
    let story = async {
        write_and_read(world, &producer, &consumer).await;
        let (before, elsewhere) = (own_port(world), free_port());
        let moved = Instant::now();
        world.backend().shut_down(VICTIM).await;
        assert!(world.backend().restart_at(VICTIM, elsewhere).await);

        // Each broker leads two partitions of a new topic.
        write_and_read(world, &producer, &consumer).await;
        let is_there = |event: &Event| {
            matches!(event, Event::BrokerConnected { node: VICTIM, address, lane: "fetch", .. }
                if address.ends_with(&format!(":{elsewhere}")))
        };
        diary.until(moved, is_there).await;
        world.backend().shut_down(VICTIM).await;
        assert!(world.backend().restart_at(VICTIM, before).await);
    };
    diary.keep_during(events, story).await;
    client.close().await.expect("nothing is left to do");
}

/// To a new topic, of which every broker leads some partitions, and back.
async fn write_and_read(world: &World, producer: &Producer, consumer: &Consumer) {
    let topic = world.topic(PARTITIONS).await;
    let record = |n: i32| Written::value(n.to_string()).partition(n % PARTITIONS);
    let records: Vec<_> = (0..10 * PARTITIONS).map(record).collect();
    write_with(producer, &topic, &records).await;
    let all =
        (0..PARTITIONS).map(|partition| (TopicPartition::new(&*topic, partition), OffsetSpec::Earliest));
    consumer.assign(all).expect("they exist");
    take(consumer, records.len()).await;
}

fn own_port(world: &World) -> u16 {
    let servers = world.backend().bootstrap_servers();
    let (_, port) = servers[VICTIM as usize - 1].rsplit_once(':').expect("host:port");
    port.parse().expect("a port")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is one");
    listener.local_addr().expect("it is bound").port()
}
