//! One broker hears neither its peers nor the controller, while clients reach it: what it answers is out of date, and what
//! it has to ask the others for never comes.

use std::{ops::Range, time::Duration};

use ottla::{Client, Consumer, OffsetSpec, Producer, Record};
use ottla_sim::{Broker, Cluster, Sim, World};
use tokio::time::{sleep, timeout};

use crate::support::{SECOND, TOPIC};

/// Whom a new client asks first is a matter of chance.
const SEEDS: Range<u64> = 0..48;
/// Until the controller knows: no record is acknowledged without the replica before.
const SESSION: Duration = Duration::from_secs(9);
/// `request.timeout.ms`: what the deposed leader was given is in doubt until then.
const REQUEST: Duration = Duration::from_secs(30);

/// Three brokers, of which one is cut off: the leader, or another.
async fn cut_off(world: &World, is_leader: bool) -> (Cluster, Broker) {
    let cluster = world.cluster(3).await;
    cluster.topic(TOPIC, 1).await;
    let leader = cluster.leader(TOPIC, 0).expect("a leader");
    let broker = cluster.brokers().find(|broker| (broker.id() == leader.id()) == is_leader).expect("three");
    broker.cut_off_from_peers();
    (cluster, broker)
}

/// When a client that misses nothing asks for the leaders again at the latest.
const MAX_AGE: Duration = Duration::from_secs(20);

/// A client whose metadata is up to date before anything goes wrong.
fn client(cluster: &Cluster) -> ottla::Result<Client> {
    cluster.client_builder("app").metadata_max_age(MAX_AGE).build()
}

/// The leader of before is cut off, and the partition has another one.
async fn depose(world: &World, cluster: &Cluster) {
    let leader = cluster.leader(TOPIC, 0).expect("a leader");
    leader.cut_off_from_peers();
    let moved = || cluster.leader(TOPIC, 0).is_some_and(|other| other.id() != leader.id());
    world.until_within(15 * SECOND, "the partition has another leader", moved).await;
}

/// How long the first record of a new client takes.
async fn first_record(world: &World, cluster: &Cluster) -> ottla::Result<Duration> {
    let begin = world.elapsed();
    let producer = Producer::builder(&cluster.client()).build()?;
    let sent = timeout(300 * SECOND, producer.send(TOPIC, Record::new("first"))).await;
    let took = world.elapsed() - begin;
    world.note(format!("it took {took:?}"));
    sent.expect("its fate is known")?;
    Ok(took)
}

#[test]
fn a_new_producer_gets_an_id_from_another_broker_than_one_that_is_cut_off() {
    Sim::seeds(SEEDS).run(async |world| {
        let (cluster, _) = cut_off(world, false).await;
        let after = Duration::from_millis(world.random().u64(..2 * SESSION.as_millis() as u64));
        sleep(after).await;
        let took = first_record(world, &cluster).await?;
        let bound = SESSION.saturating_sub(after) + SECOND;
        world.expect(took < bound, "the record to be acknowledged in time", || {
            format!("it took {took:?} and not {bound:?}")
        });
        Ok::<_, ottla::Error>(())
    });
}

#[test]
fn p22_a_new_producer_finds_the_leader_when_the_one_of_before_is_cut_off() {
    Sim::seeds(SEEDS).run(async |world| {
        let (cluster, broker) = cut_off(world, true).await;
        let moved = || cluster.leader(TOPIC, 0).is_some_and(|leader| leader.id() != broker.id());
        world.until_within(15 * SECOND, "the partition has another leader", moved).await;
        let took = first_record(world, &cluster).await?;
        world.expect(took < REQUEST + 3 * SECOND, "the record to be acknowledged in time", || {
            format!("it took {took:?}")
        });
        Ok::<_, ottla::Error>(())
    });
}

#[test]
fn p22_a_producer_at_work_hears_of_the_new_leader_when_the_one_it_asks_is_cut_off() {
    Sim::seeds(SEEDS).run(async |world| {
        let cluster = world.cluster(3).await;
        cluster.topic(TOPIC, 1).await;
        let producer = Producer::builder(&client(&cluster)?).build()?;
        producer.send(TOPIC, Record::new("before")).await?;
        depose(world, &cluster).await;
        let begin = world.elapsed();
        timeout(300 * SECOND, producer.send(TOPIC, Record::new("after")))
            .await
            .expect("its fate is known")?;
        let took = world.elapsed() - begin;
        world.expect(took < REQUEST + 3 * SECOND, "the record to be acknowledged in time", || {
            format!("it took {took:?}")
        });
        Ok::<_, ottla::Error>(())
    });
}

#[test]
fn a_reader_whose_leader_is_cut_off_hears_of_the_new_one_when_its_metadata_is_old() {
    Sim::seeds(SEEDS).run(async |world| {
        let cluster = world.cluster(3).await;
        cluster.topic(TOPIC, 1).await;
        let consumer = Consumer::builder(&client(&cluster)?).build()?;
        consumer.assign([((TOPIC, 0), OffsetSpec::Earliest)])?;
        cluster.produce(TOPIC, [Record::new("before")]).await;
        let before = timeout(10 * SECOND, consumer.recv()).await.expect("it comes")?;
        drop(before.expect("the consumer is open"));
        depose(world, &cluster).await;
        // A leader that is cut off says that there is nothing new, and has no means to know better.
        cluster.produce(TOPIC, [Record::new("after")]).await;
        let begin = world.elapsed();
        let after = timeout(300 * SECOND, consumer.recv()).await.expect("it comes")?;
        drop(after.expect("the consumer is open"));
        let took = world.elapsed() - begin;
        world.expect(took < 2 * MAX_AGE, "the record to be read in time", || format!("it took {took:?}"));
        Ok::<_, ottla::Error>(())
    });
}
