//! Whom to connect to: shared dials, back-off, addresses, outages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use ottla_core::metadata::BrokerAddress;
use ottla_protocol::ApiKey;
use tokio::time::{Instant, sleep, timeout};

use crate::scripted::{Cluster, Listener, Reply, World, address, api_versions};
use crate::{
    Client, ErrorKind,
    net::{Brokers, Connection, Lane},
};

const SECOND: Duration = Duration::from_secs(1);

fn at(id: i32, port: u16) -> BrokerAddress {
    BrokerAddress { id, host: address(0).ip().to_string().as_str().into(), port, rack: None }
}

fn brokers(client: &Client) -> &Brokers {
    &client.shared().brokers
}

#[tokio::test(start_paused = true)]
async fn many_callers_share_one_dial() {
    let world = World::new();
    world.serve(1, Cluster::new(&[1]).script());
    let client = world.client(&["10.0.0.1:1"]);
    brokers(&client).set_brokers([&at(0, 1)]);
    let connections = join_all((0..50).map(|_| brokers(&client).connection(0, Lane::Produce))).await;
    assert!(connections.iter().all(Result::is_ok));
    assert_eq!(world.dials().len(), 1);
    // Another lane has a connection of its own.
    brokers(&client).connection(0, Lane::Fetch(0)).await.unwrap();
    assert_eq!(world.dials().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_dial_goes_on_when_the_caller_gives_up() {
    let world = World::new();
    world.serve(1, Cluster::new(&[1]).script());
    let client = world.client(&["10.0.0.1:1"]);
    brokers(&client).set_brokers([&at(0, 1)]);
    assert!(timeout(Duration::ZERO, brokers(&client).connection(0, Lane::Produce)).await.is_err());
    brokers(&client).connection(0, Lane::Produce).await.unwrap();
    assert_eq!(world.dials().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_has_been_asked_comes_after_the_others_but_before_those_who_keep_one_waiting() {
    let world = World::new();
    world.serve(1, Cluster::new(&[1]).script());
    world.serve(2, Cluster::new(&[2]).script());
    world.listen(3, Listener::BlackHole);
    let client = world.client(&["10.0.0.1:1"]);
    brokers(&client).set_brokers([&at(0, 1), &at(1, 2)]);
    let ask = async |last: &[i32]| {
        let begin = Instant::now();
        let who = |connection: Connection| std::future::ready(Ok(connection.node_id()));
        let told_by = brokers(&client).ask_any_but(last, Lane::Control, who).await.unwrap();
        (told_by, begin.elapsed().as_millis() / 100)
    };
    brokers(&client).connection(0, Lane::Control).await.unwrap();
    assert_eq!(ask(&[]).await, (0, 0), "connected to");
    assert_eq!(ask(&[0]).await, (1, 0), "dialled for it");
    assert_eq!(ask(&[1, 0]).await, (1, 0), "in their order");
    brokers(&client).set_brokers([&at(0, 1), &at(1, 2), &at(2, 3)]);
    assert_eq!(ask(&[0, 1]).await, (0, 5), "the third one holds it up");
    assert_eq!(ask(&[0, 1]).await, (0, 0), "once");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_broker_is_an_error_that_may_pass() {
    let world = World::new();
    let client = world.client(&["10.0.0.1:1"]);
    let error = brokers(&client).connection(7, Lane::Produce).await.err().unwrap();
    assert!(error.is_retriable() && error.to_string().contains("broker 7"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn n07_all_addresses_of_a_name_are_tried() {
    let world = World::new();
    world.listen(1, Listener::BlackHole);
    world.serve(3, Cluster::new(&[3]).script());
    world.name("kafka", vec![address(1), address(1), address(2), address(3)]);
    let client = world.client(&["kafka:9092"]);
    let started = Instant::now();
    brokers(&client).any(Lane::Control).await.unwrap();
    assert!(
        started.elapsed() < 5 * SECOND,
        "a black hole has a share of the time only: {:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn n07_a_name_is_resolved_anew_at_each_dial() {
    let world = World::new();
    world.serve(2, Cluster::new(&[2]).script());
    world.name("kafka", vec![address(1)]);
    let client = world.client(&["kafka:9092"]);
    assert!(brokers(&client).any(Lane::Control).await.is_err());
    world.name("kafka", vec![address(2)]);
    brokers(&client).any(Lane::Control).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn n07_names_that_do_not_resolve_are_named_in_time() {
    let world = World::new();
    world.name("hangs", Vec::new());
    let started = Instant::now();
    let error = world.builder(&["hangs:9092", "wrong:9092"]).connect().await.unwrap_err();
    let text = format!("{error:#}");
    for part in ["hangs:9092", "wrong:9092", "NXDOMAIN", "not resolved within 5s"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(started.elapsed() < 6 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn n08_a_wrong_address_is_told_at_once_with_its_cause() {
    let world = World::new();
    let started = Instant::now();
    let error = world.builder(&["10.0.0.1:9"]).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let text = format!("{error:#}");
    assert!(text.contains("10.0.0.1:9") && text.contains("connection refused"), "{text}");
    assert!(started.elapsed() < SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_dead_bootstrap_server_holds_up_nobody() {
    for dead in [Listener::Refuse, Listener::BlackHole] {
        let world = World::new();
        for port in 1..=4 {
            world.listen(port, dead.clone());
        }
        world.serve(5, Cluster::new(&[5]).script());
        let servers: Vec<_> = (1..=5).map(|port| format!("10.0.0.1:{port}")).collect();
        let servers: Vec<_> = servers.iter().map(String::as_str).collect();
        let started = Instant::now();
        world.builder(&servers).connect().await.unwrap();
        assert!(started.elapsed() < 3 * SECOND, "{:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_accepts_and_is_silent_fails_in_time_and_holds_up_no_other() {
    let world = World::new();
    world.serve(1, |_| Reply::Nothing);
    world.serve(2, Cluster::new(&[1, 2]).script());
    let client = world.client(&["10.0.0.1:2"]);
    brokers(&client).set_brokers([&at(0, 1), &at(1, 2)]);
    let started = Instant::now();
    let (frozen, healthy) = tokio::join!(brokers(&client).connection(0, Lane::Produce), async {
        let healthy = brokers(&client).connection(1, Lane::Produce).await;
        (healthy, started.elapsed())
    });
    assert!(healthy.0.is_ok() && healthy.1 < SECOND / 10);
    let error = frozen.err().unwrap();
    assert!(error.is_retriable() && format!("{error:#}").contains("broker 0 at 10.0.0.1:1"), "{error:#}");
    assert_eq!(started.elapsed().as_secs(), 10);
}

/// Everybody is down, and impatient callers hammer every broker and lane.
async fn outage(world: &Arc<World>, client: &Client, lasts: Duration) {
    let hammer = |node: i32, lane: Lane| async move {
        loop {
            let _ = brokers(client).connection(node, lane).await;
            tokio::task::yield_now().await;
        }
    };
    let lanes = [Lane::Control, Lane::Produce, Lane::Fetch(0)];
    let all = (0..6).flat_map(|node| lanes.map(|lane| hammer(node, lane)));
    let _ = timeout(lasts, join_all(all)).await;
    let dials = world.dials();
    for (at, (first, _)) in dials.iter().enumerate() {
        let in_a_second = dials[at..].iter().take_while(|(dial, _)| *dial < *first + SECOND).count();
        assert!(in_a_second <= 10, "{in_a_second} dials in a second");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_no_dial_storm_and_ends_when_the_brokers_are_back() {
    let world = World::new();
    let client = world.client(&["10.0.0.1:1"]);
    let known: Vec<_> = (0..6).map(|id| at(id, 1 + id as u16)).collect();
    brokers(&client).set_brokers(&known);
    outage(&world, &client, 60 * SECOND).await;
    assert!(world.dials().len() > 100, "but it goes on trying: {}", world.dials().len());
    for port in 1..=6 {
        world.serve(port, Cluster::new(&[1]).script());
    }
    let healed = Instant::now();
    let all = join_all((0..6).map(|node| brokers(&client).connection(node, Lane::Produce))).await;
    assert!(all.iter().all(Result::is_ok));
    assert!(healed.elapsed() <= 2 * SECOND, "{:?}", healed.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_closes_whatever_it_accepts_is_backed_off_from() {
    let world = World::new();
    world.serve(1, |request| match request.api_key {
        ApiKey::API_VERSIONS => api_versions(request, 4),
        _ => Reply::Close,
    });
    let client = world.client(&["10.0.0.1:1"]);
    brokers(&client).set_brokers([&at(0, 1)]);
    let hammer = async {
        loop {
            if let Ok(connection) = brokers(&client).connection(0, Lane::Control).await {
                let request = ottla_protocol::messages::MetadataRequest::default();
                let _ = connection.call(&request, 9, SECOND).await;
            }
        }
    };
    let _ = timeout(10 * SECOND, hammer).await;
    assert!(world.dials().len() < 20, "{} dials in 10 s", world.dials().len());
}

#[tokio::test(start_paused = true)]
async fn every_address_and_every_version_that_is_tried_counts_as_a_dial() {
    let world = World::new();
    let ports = 1..=4;
    ports.clone().for_each(|port| world.serve(port, |_| Reply::Close));
    world.name("kafka", ports.map(address).collect());
    let client = world.client(&["kafka:9092"]);
    let known = [0, 1, 2, 3, 4, 5].map(|id| BrokerAddress { host: "kafka".into(), ..at(id, 9092) });
    brokers(&client).set_brokers(&known);
    outage(&world, &client, 60 * SECOND).await;
    assert!(world.dials().len() > 100, "but it goes on trying: {}", world.dials().len());
    let reached = |port| world.dials().iter().any(|(_, to)| *to == address(port));
    assert!(reached(1) && reached(4));
}

#[tokio::test(start_paused = true)]
async fn n09_a_broker_that_moved_is_left_at_its_old_address() {
    let world = World::new();
    for port in [1, 2] {
        world.serve(port, Cluster::new(&[1]).script());
    }
    let client = world.client(&["10.0.0.1:1"]);
    brokers(&client).set_brokers([&at(0, 1)]);
    let old = brokers(&client).connection(0, Lane::Produce).await.unwrap();
    brokers(&client).set_brokers([&at(0, 2)]);
    assert!(old.is_closed());
    let new = brokers(&client).connection(0, Lane::Produce).await.unwrap();
    assert_eq!((new.node_id(), new.address()), (0, "10.0.0.1:2"));
}

#[tokio::test(start_paused = true)]
async fn a_dial_to_a_broker_that_was_left_meanwhile_leaves_no_connection() {
    let world = World::new();
    world.serve(1, |request| match api_versions(request, 4) {
        // A byte a second.
        Reply::Answer(segments) => Reply::Slowly(segments.concat()),
        other => other,
    });
    let client =
        world.builder(&["10.0.0.1:1"]).socket_connection_setup_timeout(600 * SECOND).build().unwrap();
    brokers(&client).set_brokers([&at(0, 1)]);
    assert!(timeout(5 * SECOND, brokers(&client).connection(0, Lane::Produce)).await.is_err());
    brokers(&client).rebootstrap();
    brokers(&client).set_brokers([&at(0, 1)]);
    let connection = brokers(&client).connection(0, Lane::Produce).await.unwrap();
    sleep(SECOND).await;
    assert!(!connection.is_closed());
    assert_eq!((world.dials().len(), world.open_streams()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_a_stale_answer_leaves_out_keeps_its_connection() {
    let world = World::new();
    world.serve(1, Cluster::new(&[1]).script());
    let client = world.client(&["10.0.0.1:1"]);
    brokers(&client).set_brokers([&at(0, 1)]);
    let connection = brokers(&client).connection(0, Lane::Produce).await.unwrap();
    brokers(&client).set_brokers([&at(1, 2)]);
    assert!(!connection.is_closed());
    brokers(&client).set_brokers([&at(0, 1)]);
    brokers(&client).connection(0, Lane::Produce).await.unwrap();
    assert_eq!(world.dials().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn n06_when_every_known_broker_was_replaced_the_bootstrap_servers_are_asked() {
    let world = World::new();
    let alive = Arc::new(AtomicBool::new(true));
    for port in [1, 11, 12] {
        let alive = alive.clone();
        let script = Cluster::new(&[11, 12]).script();
        world.serve(
            port,
            move |request| if alive.load(Ordering::Relaxed) { script(request) } else { Reply::Close },
        );
    }
    let client = world.builder(&["10.0.0.1:1"]).metadata_max_age(20 * SECOND).connect().await.unwrap();
    sleep(SECOND).await;
    // All brokers go at once; the name that the client was given knows the new ones.
    alive.store(false, Ordering::Relaxed);
    for port in [11, 12] {
        world.listen(port, Listener::Refuse);
    }
    world.serve(1, Cluster::new(&[21]).script());
    world.serve(21, Cluster::new(&[21]).script());
    sleep(60 * SECOND).await;
    let snapshot = client.shared().metadata.snapshot();
    assert_eq!(snapshot.brokers.values().map(|broker| broker.port).collect::<Vec<_>>(), [21]);
}
