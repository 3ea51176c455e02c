//! Names and the addresses behind them: whoever is known by its id is found wherever it is.

use std::time::Duration;

use ottla_broker::{
    ClusterConfig,
    faults::{Effect, Fault},
};
use ottla_protocol::messages::MetadataRequest;
use ottla_sim::{Cluster, Host, Sim, World};
use tokio::time::{sleep, timeout};

use crate::{
    addresses::advertise_as,
    support::{FEW, SECOND, Stream, TOPIC},
};

const PARTITIONS: i32 = 6;

async fn stream(world: &World) -> Stream {
    Stream::with(world, ClusterConfig::with_nodes(3, "", 0), PARTITIONS, |builder| builder).await
}

/// Breaks every connection of the client: it has to find its brokers anew.
fn disconnect(world: &World, cluster: &Cluster) {
    let app = world.host("app");
    cluster.brokers().for_each(|broker| world.network().reset(&app, broker.host()));
}

/// A partition that this broker leads.
fn led_by(cluster: &Cluster, node: i32) -> i32 {
    let led = |partition: &i32| cluster.leader(TOPIC, *partition).is_some_and(|leader| leader.id() == node);
    (0..PARTITIONS).find(led).expect("there are more partitions than brokers")
}

/// A record for this partition is written soon, whatever becomes of others.
async fn is_written_soon(world: &World, stream: &Stream, partition: i32) {
    let before = stream.history.acknowledged();
    stream.send_to(partition, 10).await;
    let what = format!("a record of partition {partition} is written");
    world.until_within(3 * SECOND, &what, || stream.history.acknowledged() > before).await;
}

/// What the resolver may say of a name for a while.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// It does not exist.
    Gone,
    /// It leads to where nobody listens.
    Elsewhere,
    /// Nothing, for half a minute.
    Slow,
}

#[test]
fn n07_a_name_is_asked_for_anew_at_each_dial_and_all_its_addresses_are_tried() {
    for trouble in [Trouble::Gone, Trouble::Elsewhere, Trouble::Slow] {
        Sim::seeds(FEW).run(async |world| {
            let stream = stream(world).await;
            let (app, nobody, hole) = (world.host("app"), world.host("nobody-listens"), world.host("hole"));
            // Nothing ever comes back from there.
            world.network().block(&app, &hole);
            let name = |node: i32, hosts: &[&Host]| world.network().set_name(&format!("kafka-{node}"), hosts);
            // The first addresses of each name are dead.
            let brokers: Vec<_> = stream.cluster.brokers().collect();
            for broker in &brokers {
                name(broker.id(), &[&hole, &nobody, broker.host()]);
            }
            stream.cluster.faults().add(advertise_as("kafka"));
            stream.send(60).await;
            timeout(10 * SECOND, stream.settled()).await.expect("one address after the other is tried");

            let victim = &brokers[world.random().usize(..3)];
            match trouble {
                Trouble::Gone => name(victim.id(), &[]),
                Trouble::Elsewhere => name(victim.id(), &[&nobody]),
                Trouble::Slow => {
                    world.network().delay_name(&format!("kafka-{}", victim.id()), 30 * SECOND);
                }
            }
            disconnect(world, &stream.cluster);
            let dials = app.dials();
            stream.send(60).await;
            sleep(10 * SECOND).await;
            let other = brokers.iter().find(|broker| broker.id() != victim.id()).expect("three");
            is_written_soon(world, &stream, led_by(&stream.cluster, other.id())).await;
            let dials = app.dials() - dials;
            world.expect(dials < 100, "ten dials a second at most", || format!("{dials} in 13 s"));

            world.network().delay_name(&format!("kafka-{}", victim.id()), Duration::ZERO);
            name(victim.id(), &[victim.host()]);
            timeout(45 * SECOND, stream.settled()).await.expect("the name is asked for again");
            stream.settle_all().await;
        });
    }
}

/// Some broker is said to be where another is, for a while.
fn misplaced(place: impl Fn(i32) -> i32 + Send + Sync + 'static) -> Fault {
    Fault::on::<MetadataRequest>(Effect::edit::<MetadataRequest>(move |response| {
        let at: Vec<_> = response.brokers.iter().map(|it| (it.node_id, it.host.clone())).collect();
        for broker in &mut response.brokers {
            let wanted = place(broker.node_id);
            if let Some((_, host)) = at.iter().find(|(node, _)| *node == wanted) {
                broker.host = host.clone();
            }
        }
    }))
}

#[test]
fn n09_a_broker_is_known_by_its_id_and_found_where_it_is_said_to_be() {
    // Two at the address of one; and two that have changed places.
    let cases: [fn(i32) -> i32; 2] = [|node| node.min(2), |node| 4 - node.clamp(1, 3)];
    for place in cases {
        Sim::seeds(FEW).run(async |world| {
            let stream = stream(world).await;
            stream.send(60).await;
            stream.settled().await;
            let lie = stream.cluster.faults().add(misplaced(place));
            // Metadata is two seconds old at most.
            sleep(5 * SECOND).await;
            disconnect(world, &stream.cluster);
            stream.send(60).await;
            sleep(10 * SECOND).await;
            // Whoever is where it is said to be is not mistaken for another.
            is_written_soon(world, &stream, led_by(&stream.cluster, 2)).await;
            world.expect(stream.history.pending() > 0, "others to be waited for", || {
                "they were not".to_owned()
            });

            lie.end();
            timeout(20 * SECOND, stream.settled()).await.expect("each is found where it is");
            stream.settle_all().await;
        });
    }
}
