//! Where brokers say that they are, and whether anybody can get there.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use ottla::{
    Consumer, OffsetSpec, Producer, Record, SendError,
    env::{BoxFuture, Duplex, Layer},
};
use ottla_broker::faults::{Effect, Fault};
use ottla_protocol::messages::MetadataRequest;
use ottla_sim::{Cluster, Sim, SimEnv, World};
use tokio::time::{sleep, timeout};

use crate::support::{FEW, SECOND, TOPIC};

/// From now on brokers are told to be at names that begin like this.
pub(crate) fn advertise_as(prefix: &'static str) -> Fault {
    Fault::on::<MetadataRequest>(Effect::edit::<MetadataRequest>(move |response| {
        response.brokers.iter_mut().for_each(|broker| {
            broker.host = format!("{prefix}-{}", broker.node_id).as_str().into();
        });
    }))
}

/// Whether the names that begin like this lead to the brokers, or nowhere.
fn name(world: &World, cluster: &Cluster, prefix: &str, leads_there: bool) {
    for broker in cluster.brokers() {
        let hosts = [broker.host()];
        let hosts = if leads_there { &hosts[..] } else { &[] };
        world.network().set_name(&format!("{prefix}-{}", broker.id()), hosts);
    }
}

/// A name that leads to all brokers, whatever they say of themselves.
fn bootstrap(world: &World, cluster: &Cluster) {
    let brokers: Vec<_> = cluster.brokers().collect();
    let hosts: Vec<_> = brokers.iter().map(ottla_sim::Broker::host).collect();
    world.network().set_name("bootstrap", &hosts);
}

/// Everybody who is known is gone, and the cluster goes on at other addresses: only the bootstrap name leads there.
#[test]
fn n06_when_every_known_broker_was_replaced_the_bootstrap_servers_are_asked_anew() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = world.cluster(3).await;
        cluster.topic(TOPIC, 3).await;
        bootstrap(world, &cluster);
        name(world, &cluster, "old", true);
        let old = cluster.faults().add(advertise_as("old"));

        let client = cluster.client_builder("app").bootstrap_servers(["bootstrap:9092"]).build()?;
        let producer = Producer::builder(&client).build()?;
        let consumer = Consumer::builder(&client).build()?;
        consumer.assign((0..3).map(|partition| ((TOPIC, partition), OffsetSpec::Earliest)))?;
        let round = async || {
            for partition in 0..3 {
                producer.send(TOPIC, Record::new("one").partition(partition)).await?;
                consumer.recv().await?;
            }
            Ok::<_, ottla::Error>(())
        };
        round().await?;

        name(world, &cluster, "old", false);
        name(world, &cluster, "new", true);
        old.end();
        cluster.faults().add(advertise_as("new"));
        cluster.brokers().for_each(|broker| world.network().reset(&world.host("app"), broker.host()));
        let dials = world.host("app").dials();
        timeout(30 * SECOND, round()).await.expect("it finds the cluster again")?;
        let dials = world.host("app").dials() - dials;
        world.expect(dials < 100, "ten dials a second at most", || format!("{dials} in half a minute"));
        Ok::<_, ottla::Error>(())
    });
}

/// The leader's name does not resolve, or nobody listens there: others can be reached, and the topic is known.
#[test]
fn n08_the_error_of_a_record_names_the_leader_that_cannot_be_reached() {
    for resolves in [false, true] {
        Sim::seeds(FEW).run(async |world| {
            let cluster = world.cluster(3).await;
            cluster.topic(TOPIC, 1).await;
            let leader = cluster.leader(TOPIC, 0).expect("a leader").id();
            bootstrap(world, &cluster);
            if resolves {
                world.network().set_name("kafka.internal", &[&world.host("nobody-listens")]);
            }
            cluster.faults().add(Fault::on::<MetadataRequest>(Effect::edit::<MetadataRequest>(
                move |response| {
                    let led = response.brokers.iter_mut().filter(|broker| broker.node_id == leader);
                    led.for_each(|broker| broker.host = "kafka.internal".into());
                },
            )));
            let client = cluster.client_builder("app").bootstrap_servers(["bootstrap:9092"]).build()?;
            let builder = Producer::builder(&client).request_timeout(3 * SECOND);
            let producer = builder.delivery_timeout(10 * SECOND).build()?;
            let begin = world.elapsed();
            let error = producer.send(TOPIC, "one").await.expect_err("the leader cannot be reached");
            let took = world.elapsed() - begin;
            assert!((10 * SECOND..12 * SECOND).contains(&took), "{took:?}");
            assert!(matches!(error, SendError::NotWritten(_)), "{error:?}");
            let text = format!("{:#}", ottla::Error::from(error));
            assert!(text.contains("kafka.internal:9092") && text.contains("delivery.timeout.ms"), "{text}");

            let consumer = Consumer::builder(&client).build()?;
            consumer.assign([((TOPIC, 0), OffsetSpec::Earliest)])?;
            assert!(timeout(10 * SECOND, consumer.recv()).await.is_err(), "there is nothing to read");
            let why = consumer.explain(&(TOPIC, 0).into());
            assert!(why.contains("kafka.internal:9092"), "{why}");
            Ok::<_, ottla::Error>(())
        });
    }
}

/// The world, when a process may open no more sockets.
struct FewSockets {
    env: SimEnv,
    none_left: Arc<AtomicBool>,
    tries: Arc<AtomicU64>,
}

impl Layer for FewSockets {
    type Below = SimEnv;

    fn below(&self) -> &SimEnv {
        &self.env
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<Duplex>> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        if self.none_left.load(Ordering::Relaxed) {
            // EMFILE, as on Linux.
            return Box::pin(std::future::ready(Err(io::Error::from_raw_os_error(24))));
        }
        ottla::env::Env::connect(&self.env, address)
    }
}

#[test]
fn n17_without_sockets_the_client_backs_off_and_goes_on_when_there_are_some() {
    Sim::seeds(FEW).run(async |world| {
        let cluster = world.cluster(3).await;
        cluster.topic(TOPIC, 3).await;
        let (none_left, tries) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let env = world.host("app").env();
        let env = FewSockets { env, none_left: Arc::clone(&none_left), tries: Arc::clone(&tries) };
        let client = cluster.client_builder("app").env(Arc::new(env)).build()?;
        let producer = Producer::builder(&client).build()?;
        let consumer = Consumer::builder(&client).build()?;
        consumer.assign((0..3).map(|partition| ((TOPIC, partition), OffsetSpec::Earliest)))?;
        producer.send(TOPIC, Record::new("one").partition(0)).await?;
        consumer.recv().await?;

        none_left.store(true, Ordering::Relaxed);
        cluster.brokers().for_each(|broker| world.network().reset(&world.host("app"), broker.host()));
        let mut receipts = Vec::new();
        for partition in 0..3 {
            receipts.push(producer.enqueue(TOPIC, Record::new("two").partition(partition)).await?);
        }
        let before = tries.load(Ordering::Relaxed);
        sleep(60 * SECOND).await;
        let tried = tries.load(Ordering::Relaxed) - before;
        world.expect((10..=600).contains(&tried), "at most ten tries a second", || {
            format!("{tried} in a minute")
        });
        let why = consumer.explain(&(TOPIC, 0).into());
        assert!(why.contains("does not answer"), "{why}");

        none_left.store(false, Ordering::Relaxed);
        for receipt in receipts {
            timeout(10 * SECOND, receipt).await.expect("there are sockets again")?;
        }
        for _ in 0..3 {
            timeout(10 * SECOND, consumer.recv()).await.expect("there are sockets again")?;
        }
        Ok::<_, ottla::Error>(())
    });
}
