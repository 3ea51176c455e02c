//! Coordinators against scripted brokers.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::join_all;
use ottla_protocol::{
    ApiKey, ErrorCode, RequestFrame,
    messages::{
        FindCoordinatorRequest, FindCoordinatorResponse, find_coordinator_response::Coordinator as Answered,
    },
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    Client, ErrorKind, Event,
    net::{Lane, lock},
    scripted::{Cluster, DecodeBody, Listener, Reply, Script, World, address, answer, api_versions_with},
};

const SECOND: Duration = Duration::from_secs(1);

/// Who asked for which groups, and when: the port of the broker that was asked.
type Asked = Arc<Mutex<Vec<(Instant, u16, Vec<String>)>>>;

/// Brokers at these ports, of which the first is node 0, and what they were asked. `tell` gives a group's coordinator,
/// by port, from how often anybody was asked and who is asked now.
fn cluster(
    ports: &[u16],
    version: i16,
    tell: impl Fn(usize, u16, &str) -> Result<u16, ErrorCode> + Clone + Send + Sync + 'static,
) -> (Arc<World>, Asked) {
    let (world, asked) = (World::new(), Asked::default());
    for port in ports.iter().copied() {
        let (others, asked, tell) = (Cluster::new(ports).script(), asked.clone(), tell.clone());
        world.serve(port, move |request| match request.api_key {
            ApiKey::API_VERSIONS => api_versions_with(request, &[(ApiKey::FIND_COORDINATOR, version)]),
            ApiKey::FIND_COORDINATOR => {
                let groups = groups(request);
                let before = lock(&asked).len();
                lock(&asked).push((Instant::now(), port, groups.clone()));
                found(request, &groups, |group| tell(before, port, group))
            }
            _ => others(request),
        });
    }
    (world, asked)
}

fn groups(request: &mut RequestFrame) -> Vec<String> {
    let question = FindCoordinatorRequest::decode_body(request);
    match request.api_version {
        0..=3 => vec![question.key.to_string()],
        _ => question.coordinator_keys.iter().map(ToString::to_string).collect(),
    }
}

fn found(request: &RequestFrame, groups: &[String], tell: impl Fn(&str) -> Result<u16, ErrorCode>) -> Reply {
    let told = groups.iter().map(|group| {
        let (port, error_code) = match tell(group) {
            Ok(port) => (i32::from(port), ErrorCode::NONE),
            Err(code) => (-1, code),
        };
        let host = address(0).ip().to_string().as_str().into();
        Answered {
            key: group.as_str().into(),
            node_id: port - 1,
            host,
            port,
            error_code,
            error_message: None,
        }
    });
    let mut told: Vec<_> = told.collect();
    let response = match request.api_version {
        0..=3 => {
            let Answered { node_id, host, port, error_code, error_message, .. } = told.swap_remove(0);
            FindCoordinatorResponse { node_id, host, port, error_code, error_message, ..Default::default() }
        }
        _ => FindCoordinatorResponse { coordinators: told, ..Default::default() },
    };
    answer::<FindCoordinatorRequest>(request, &response)
}

async fn node(client: &Client, group: &str) -> crate::Result<i32> {
    Ok(client.shared().coordinators.connection(group, Lane::Control).await?.node_id())
}

#[tokio::test(start_paused = true)]
async fn many_callers_share_one_question() {
    let (world, asked) = cluster(&[1, 2], 6, |_, _, _| Ok(2));
    let client = world.client(&["10.0.0.1:1"]);
    let found = join_all((0..50).map(|_| node(&client, "g"))).await;
    // The broker that it names was never heard of before.
    assert!(found.into_iter().all(|node| node.unwrap() == 1));
    assert_eq!(lock(&asked).len(), 1);
    node(&client, "g").await.unwrap();
    assert_eq!(lock(&asked).len(), 1, "what is known is not asked for again");
}

#[tokio::test(start_paused = true)]
async fn several_groups_are_asked_for_at_once_where_the_brokers_can() {
    let tell = |_: usize, _: u16, group: &str| Ok(if group == "a" { 1 } else { 2 });
    for (version, questions) in [(6, 2), (4, 2), (3, 4), (0, 4)] {
        let (world, asked) = cluster(&[1, 2], version, tell);
        let client = world.client(&["10.0.0.1:1"]);
        let found = join_all(["a", "b", "c", "d"].map(|group| node(&client, group))).await;
        let found: Vec<_> = found.into_iter().map(Result::unwrap).collect();
        assert_eq!(found, [0, 1, 1, 1], "version {version}");
        assert!(lock(&asked).len() <= questions, "version {version}: {asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn as_long_as_there_is_none_it_is_asked_for_slower_and_slower() {
    let codes = [ErrorCode::COORDINATOR_NOT_AVAILABLE, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS];
    let (world, asked) = cluster(&[1], 6, move |asked, _, _| match asked {
        0..9 => Err(codes[asked % 2]),
        _ => Ok(1),
    });
    assert_eq!(node(&world.client(&["10.0.0.1:1"]), "g").await.unwrap(), 0);
    let asked: Vec<_> = lock(&asked).iter().map(|(at, ..)| *at).collect();
    let waits: Vec<_> = asked.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert!(waits[0] >= 80 && waits[0] <= 120 && waits[8] >= 800 && waits[8] <= 1_001, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn why_there_is_none_is_told_to_those_who_give_up() {
    let (world, _) = cluster(&[1], 6, |_, _, _| Err(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    let client = world.client(&["10.0.0.1:1"]);
    assert!(timeout(SECOND, node(&client, "g")).await.is_err());
    let reason = client.shared().coordinators.last_error("g").unwrap();
    assert_eq!(reason.broker_code(), Some(ErrorCode::COORDINATOR_NOT_AVAILABLE));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_for_those_who_gave_up() {
    let (world, asked) = cluster(&[1], 6, |_, _, _| Err(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    let client = world.client(&["10.0.0.1:1"]);
    assert!(timeout(SECOND, node(&client, "g")).await.is_err());
    let before = lock(&asked).len();
    sleep(60 * SECOND).await;
    assert!(lock(&asked).len() <= before + 1);
}

#[tokio::test(start_paused = true)]
async fn what_asking_again_does_not_cure_is_told_at_once() {
    let (world, asked) = cluster(&[1], 6, |asked, _, group| match (asked, group) {
        (0, "theirs") => Err(ErrorCode::GROUP_AUTHORIZATION_FAILED),
        _ => Ok(1),
    });
    let client = world.client(&["10.0.0.1:1"]);
    let (ours, theirs) = tokio::join!(node(&client, "ours"), node(&client, "theirs"));
    assert_eq!(ours.unwrap(), 0);
    assert_eq!(theirs.unwrap_err().broker_code(), Some(ErrorCode::GROUP_AUTHORIZATION_FAILED));
    let refused = lock(&asked)[0].0;
    // It may have been granted by now.
    assert_eq!(node(&client, "theirs").await.unwrap(), 0);
    assert!(refused.elapsed() >= Duration::from_millis(80), "not without a wait: {:?}", refused.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_was_the_coordinator_is_not_the_first_to_be_asked_where_it_went() {
    // Cut off from the others, broker 1 still believes in itself.
    let (world, asked) = cluster(&[1, 2, 3], 6, |asked, port, _| match (asked, port) {
        (0, _) | (_, 1) => Ok(1),
        _ => Ok(3),
    });
    let client = world.client(&["10.0.0.1:1"]);
    let mut events = client.events();
    client.shared().metadata.cluster().await.unwrap();
    assert_eq!(node(&client, "g").await.unwrap(), 0);
    client.shared().coordinators.forget("g", 0);
    assert_eq!(node(&client, "g").await.unwrap(), 2);
    assert_ne!(lock(&asked)[1].1, 1);
    let mut moves = Vec::new();
    while moves.len() < 2 {
        if let Some(Event::CoordinatorChanged { group, from, to }) = events.recv().await {
            moves.push((group.to_string(), from, to));
        }
    }
    assert_eq!(moves, [("g".to_owned(), None, 0), ("g".to_owned(), Some(0), 2)]);
}

#[tokio::test(start_paused = true)]
async fn who_comes_too_late_to_forget_forgets_nothing() {
    let (world, asked) = cluster(&[1, 2], 6, |asked, _, _| Ok(if asked == 0 { 1 } else { 2 }));
    let client = world.client(&["10.0.0.1:1"]);
    let coordinators = &client.shared().coordinators;
    assert_eq!(node(&client, "g").await.unwrap(), 0);
    coordinators.forget("g", 0);
    assert_eq!(node(&client, "g").await.unwrap(), 1);
    coordinators.forget("g", 0);
    coordinators.forget("unheard-of", 0);
    assert_eq!(node(&client, "g").await.unwrap(), 1);
    assert_eq!(lock(&asked).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_cannot_be_reached_is_asked_for_again() {
    let (world, asked) = cluster(&[1, 2], 6, |asked, _, _| Ok(if asked < 4 { 3 } else { 2 }));
    let client = world.client(&["10.0.0.1:1"]);
    assert_eq!(node(&client, "g").await.unwrap(), 1);
    assert_eq!(lock(&asked).len(), 5);
    let dials = world.dials().iter().filter(|(_, to)| *to == address(3)).count();
    assert!(dials <= 2 * 4, "dialled as the coordinator, and as one of those to be asked: {dials} dials");
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_moved_to_another_address_is_found_there() {
    let (world, _) = cluster(&[1, 2], 6, |_, _, _| Ok(2));
    let client = world.client(&["10.0.0.1:1"]);
    node(&client, "g").await.unwrap();
    // It comes back elsewhere; what is known of the cluster still has the old address.
    let others = Cluster::new(&[1]).script();
    let moved: Script = Arc::new(move |request| match request.api_key {
        ApiKey::FIND_COORDINATOR => {
            let host = address(0).ip().to_string().as_str().into();
            let key = groups(request)[0].as_str().into();
            let told = Answered { key, node_id: 1, host, port: 9, ..Default::default() };
            let response = FindCoordinatorResponse { coordinators: vec![told], ..Default::default() };
            answer::<FindCoordinatorRequest>(request, &response)
        }
        _ => others(request),
    });
    world.listen(1, Listener::Serve(moved.clone()));
    world.listen(2, Listener::Refuse);
    world.listen(9, Listener::Serve(moved));
    client.shared().brokers.rebootstrap();
    client.shared().coordinators.forget("g", 1);
    assert_eq!(node(&client, "g").await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_waited_out() {
    let world = World::new();
    let client = world.client(&["10.0.0.1:1"]);
    let comes_back = async {
        sleep(20 * SECOND).await;
        let (later, _) = cluster(&[1], 6, |_, _, _| Ok(1));
        world.listen(1, later.listener(1));
    };
    let (found, ()) = tokio::join!(node(&client, "g"), comes_back);
    assert_eq!(found.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_closed_client_finds_nobody() {
    let (world, _) = cluster(&[1], 6, |_, _, _| Err(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    let client = world.client(&["10.0.0.1:1"]);
    let close = async {
        sleep(SECOND).await;
        client.close().await.unwrap();
    };
    let (waiting, ()) = tokio::join!(node(&client, "g"), close);
    assert_eq!(waiting.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(node(&client, "g").await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_client_remembers_a_bounded_number_of_groups() {
    let (world, asked) = cluster(&[1], 6, |_, _, _| Ok(1));
    let client = world.client(&["10.0.0.1:1"]);
    for n in 0..super::REMEMBERED + 10 {
        node(&client, &n.to_string()).await.unwrap();
    }
    assert!(lock(&client.shared().coordinators.0.directory).groups.len() <= super::REMEMBERED);
    let before = lock(&asked).len();
    node(&client, "0").await.unwrap();
    assert_eq!(lock(&asked).len(), before + 1);
}
