//! What can be done to one broker: to requests of one kind, to its peers' word, and to everybody's clocks.

use std::{io, time::Duration};

use ottla::env::Env;
use ottla_protocol::{
    ErrorCode,
    messages::{
        create_topics_request::{CreatableTopic, CreateTopicsRequest},
        metadata_request::MetadataRequest,
    },
};
use ottla_sim::{Cluster, Interference, Sim, Wire, World};
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
const PORT: u16 = 9092;

async fn wire(world: &World, cluster: &Cluster) -> io::Result<Wire> {
    Wire::open(&world.host("app"), cluster.broker(0).host(), PORT).await
}

async fn create(wire: &mut Wire, name: &str) -> io::Result<ErrorCode> {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 5_000, ..CreateTopicsRequest::default() };
    Ok(wire.call(&request, 5).await?.topics[0].error_code)
}

async fn ask_metadata(wire: &mut Wire) -> io::Result<usize> {
    let request = MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() };
    Ok(wire.call(&request, 9).await?.brokers.len())
}

fn exists(cluster: &Cluster, topic: &str) -> bool {
    cluster.image().topic(topic).is_some()
}

#[test]
fn a_lost_request_is_never_carried_out_and_a_lost_answer_says_nothing_about_that() {
    Sim::seeds(0..4).run(async |world| {
        let cluster = world.cluster(1).await;
        let broker = cluster.broker(0);
        broker.interfere::<CreateTopicsRequest>(Interference::LoseRequest, 1);
        broker.interfere::<CreateTopicsRequest>(Interference::LoseAnswer, 1);
        let kind = io::ErrorKind::UnexpectedEof;
        let lost = create(&mut wire(world, &cluster).await?, "lost").await;
        assert_eq!(lost.map_err(|error| error.kind()), Err(kind));
        let unanswered = create(&mut wire(world, &cluster).await?, "unanswered").await;
        assert_eq!(unanswered.map_err(|error| error.kind()), Err(kind));
        assert_eq!(create(&mut wire(world, &cluster).await?, "answered").await?, ErrorCode::NONE);
        assert_eq!((exists(&cluster, "lost"), exists(&cluster, "unanswered")), (false, true));
        Ok::<_, io::Error>(())
    });
}

#[test]
fn a_silent_connection_stays_up_and_others_are_answered() {
    Sim::seeds(0..4).run(async |world| {
        let cluster = world.cluster(1).await;
        let mut silent = wire(world, &cluster).await?;
        cluster.broker(0).interfere::<CreateTopicsRequest>(Interference::Silence, 1);
        assert!(timeout(60 * SECOND, create(&mut silent, "orders")).await.is_err(), "no answer, and no end");
        assert!(timeout(60 * SECOND, ask_metadata(&mut silent)).await.is_err(), "nor to anything after it");
        assert_eq!(ask_metadata(&mut wire(world, &cluster).await?).await?, 1);
        assert!(exists(&cluster, "orders"));
        Ok::<_, io::Error>(())
    });
}

#[test]
fn what_is_held_waits_with_all_that_follows_it_on_its_connection() {
    Sim::seeds(0..4).run(async |world| {
        let cluster = world.cluster(1).await;
        let (mut held, mut other) = (wire(world, &cluster).await?, wire(world, &cluster).await?);
        cluster.broker(0).hold::<CreateTopicsRequest>();
        let creating = world.spawn("app", async move {
            let created = create(&mut held, "orders").await?;
            Ok::<_, io::Error>((created, ask_metadata(&mut held).await?))
        });
        sleep(60 * SECOND).await;
        assert_eq!(ask_metadata(&mut other).await?, 1);
        assert!(!creating.has_ended() && !exists(&cluster, "orders"));
        cluster.broker(0).release::<CreateTopicsRequest>();
        assert_eq!(creating.finished().await?, (ErrorCode::NONE, 1));
        Ok::<_, io::Error>(())
    });
}

#[test]
fn a_broker_that_is_cut_off_from_its_peers_answers_clients_and_is_given_up_by_the_controller() {
    Sim::seeds(0..4).run(async |world| {
        let cluster = world.cluster(3).await;
        // Before it has heard that it is registered, a broker answers nobody.
        sleep(SECOND).await;
        cluster.broker(0).cut_off_from_peers();
        world.until("the controller gives it up", || cluster.image().brokers.len() == 2).await;
        assert_eq!(
            ask_metadata(&mut wire(world, &cluster).await?).await?,
            3,
            "as it was when it was cut off"
        );
        cluster.broker(0).reach_peers();
        world.until("it is back", || cluster.image().brokers.len() == 3).await;
        Ok::<_, io::Error>(())
    });
}

#[test]
fn while_clients_sleep_their_timers_stand_still_and_all_other_clocks_go_on() {
    Sim::seeds(0..4).run(async |world| {
        let cluster = world.cluster(3).await;
        let env = world.host("app").env();
        let (elapsed, now, timers) = (env.elapsed(), env.now(), Instant::now());
        cluster.while_clients_sleep(60 * SECOND).await;
        assert!(timers.elapsed() < 3 * SECOND, "{:?}", timers.elapsed());
        assert!(env.elapsed() - elapsed >= 60 * SECOND);
        assert!(env.now().duration_since(now).expect("later") >= 60 * SECOND);
        assert_eq!(cluster.image().brokers.len(), 3, "brokers heard of each other all the time");
    });
}
