//! One connection: handshake, order, deadlines, throttling, hostile peers.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ottla_protocol::{
    ApiKey, RequestFrame,
    messages::{
        ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse,
        DeleteTopicsRequest, DeleteTopicsResponse, MetadataRequest, MetadataResponse,
        api_versions_response::ApiVersion, delete_topics_request::DeleteTopicState,
        metadata_response::MetadataResponseTopic,
    },
};
use tokio::time::{Instant, sleep};

use crate::scripted::{Listener, Reply, World, answer, api_versions};
use crate::{
    Client, ErrorKind, Result,
    net::{Connection, Lane, lock},
};

const SECOND: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(30);
const SERVER: &str = "10.0.0.1:1";

/// A client, and a connection to a broker that follows `script` once versions are agreed upon.
async fn connected(
    script: impl Fn(&mut RequestFrame) -> Reply + Send + Sync + 'static,
) -> (Client, Connection, Arc<World>) {
    connected_in(World::new(), script).await
}

async fn connected_in(
    world: Arc<World>,
    script: impl Fn(&mut RequestFrame) -> Reply + Send + Sync + 'static,
) -> (Client, Connection, Arc<World>) {
    world.serve(1, move |request| match request.api_key {
        ApiKey::API_VERSIONS => api_versions(request, 4),
        _ => script(request),
    });
    let client = world.client(&[SERVER]);
    let connection = client.shared().brokers.any(Lane::Control).await.unwrap();
    (client, connection, world)
}

fn metadata(request: &RequestFrame) -> Reply {
    let cluster_id = Some(format!("answer {}", request.correlation_id).into());
    answer::<MetadataRequest>(request, &MetadataResponse { cluster_id, ..Default::default() })
}

async fn ask(connection: &Connection) -> Result<MetadataResponse> {
    connection.call(&MetadataRequest::default(), 9, TIMEOUT).await
}

#[tokio::test(start_paused = true)]
async fn n12_an_older_broker_is_asked_in_the_version_that_it_names() {
    let world = World::new();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    world.serve(1, move |request| {
        lock(&seen).push(request.api_version);
        api_versions(request, 2)
    });
    let client = world.client(&[SERVER]);
    let connection = client.shared().brokers.any(Lane::Control).await.unwrap();
    assert_eq!(connection.version::<MetadataRequest>(0..=9).unwrap(), 9);
    assert_eq!(*lock(&asked), [4, 2]);
    assert_eq!(world.dials().len(), 1, "on the same connection");
}

#[tokio::test(start_paused = true)]
async fn n12_a_broker_that_cuts_the_connection_is_asked_in_a_lower_version() {
    let world = World::new();
    world.serve(1, |request| match request.api_version {
        4.. => Reply::Close,
        _ => api_versions(request, 3),
    });
    let client = world.client(&[SERVER]);
    client.shared().brokers.any(Lane::Control).await.unwrap();
    assert_eq!(world.dials().len(), 2);
    // It is remembered for the next connection.
    client.shared().brokers.any(Lane::Produce).await.unwrap();
    assert_eq!(world.dials().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_nobody_has_in_common_names_api_and_ranges() {
    let (_client, connection, _world) = connected(|_| Reply::Close).await;
    let error = connection.version::<MetadataRequest>(14..=20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(
        error.to_string().contains("10.0.0.1:1") && error.to_string().contains("MetadataRequest"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn answers_find_their_requests() {
    let (_client, connection, _world) = connected(|request| metadata(request)).await;
    let replies: Vec<_> =
        (0..100).map(|_| connection.send(&MetadataRequest::default(), 9, TIMEOUT).unwrap()).collect();
    for (at, reply) in replies.into_iter().enumerate() {
        assert_eq!(reply.await.unwrap().cluster_id.as_deref(), Some(format!("answer {at}").as_str()));
    }
    assert_eq!(connection.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_discarded_answer_disturbs_nobody() {
    let (_client, connection, _world) = connected(|request| metadata(request)).await;
    drop(connection.send(&MetadataRequest::default(), 9, TIMEOUT).unwrap());
    assert_eq!(ask(&connection).await.unwrap().cluster_id.as_deref(), Some("answer 1"));
}

#[tokio::test(start_paused = true)]
async fn n11_a_wrong_correlation_id_ends_the_connection_and_delivers_nothing() {
    let (_client, connection, world) = connected(|request| {
        request.correlation_id += 1;
        metadata(request)
    })
    .await;
    let first = connection.send(&MetadataRequest::default(), 9, TIMEOUT).unwrap();
    let second = connection.send(&MetadataRequest::default(), 9, TIMEOUT).unwrap();
    for reply in [first, second] {
        let failed = reply.await.unwrap_err();
        assert_eq!((failed.error.kind(), failed.sent), (ErrorKind::Peer, true));
    }
    assert!(connection.is_closed());
    sleep(SECOND).await;
    assert_eq!(world.open_streams(), 0);
    assert!(connection.send(&MetadataRequest::default(), 9, TIMEOUT).is_err());
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_answer_ends_the_connection() {
    let (_client, connection, _world) = connected(|request| {
        Reply::Raw([&[0, 0, 0, 6][..], &request.correlation_id.to_be_bytes(), &[9, 9]].concat())
    })
    .await;
    let error = ask(&connection).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Peer);
    assert!(error.to_string().contains("Metadata"), "{error}");
    assert!(connection.is_closed());
}

#[tokio::test(start_paused = true)]
async fn n02_without_an_answer_in_time_the_connection_ends() {
    let (_client, connection, _world) = connected(|_| Reply::Nothing).await;
    let started = Instant::now();
    let patient = connection.send(&MetadataRequest::default(), 9, 60 * SECOND).unwrap();
    let error = ask(&connection).await.unwrap_err();
    assert_eq!(started.elapsed().as_secs(), 30);
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(patient.await.unwrap_err().sent, "what is behind or before it fails with it");
    assert!(connection.is_closed());
}

#[tokio::test(start_paused = true)]
async fn n03_progress_does_not_extend_the_deadline() {
    let (_client, connection, _world) =
        connected(|_| Reply::Slowly([&[0, 0, 0, 100][..], &[0; 100]].concat())).await;
    let started = Instant::now();
    assert_eq!(ask(&connection).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(started.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn p21_nothing_is_sent_while_the_broker_throttles() {
    let received = Arc::new(Mutex::new(Vec::new()));
    let seen = received.clone();
    let (client, connection, _world) = connected(move |request| {
        lock(&seen).push(Instant::now());
        let throttle_time_ms = if lock(&seen).len() == 1 { 40_000 } else { 0 };
        answer::<MetadataRequest>(request, &MetadataResponse { throttle_time_ms, ..Default::default() })
    })
    .await;
    let mut events = client.events();
    ask(&connection).await.unwrap();
    assert_eq!(events.recv().await.map(|event| event.name()), Some("broker.throttled"));
    sleep(20 * SECOND).await;
    // It waits for 20 s and then has its whole timeout: a request does not age in the window.
    ask(&connection).await.unwrap();
    let received = lock(&received).clone();
    assert!(received[1] - received[0] >= 40 * SECOND, "{received:?}");
}

#[tokio::test(start_paused = true)]
async fn p21_a_broker_that_throttles_its_first_answer_is_sent_nothing_either() {
    let world = World::new();
    let received = Arc::new(Mutex::new(Vec::new()));
    let seen = received.clone();
    world.serve(1, move |request| {
        lock(&seen).push(Instant::now());
        match request.api_key {
            ApiKey::API_VERSIONS => {
                let api_key = ApiKey::METADATA.0;
                let api_keys = vec![ApiVersion { api_key, min_version: 0, max_version: 9 }];
                let response =
                    ApiVersionsResponse { api_keys, throttle_time_ms: 10_000, ..Default::default() };
                answer::<ApiVersionsRequest>(request, &response)
            }
            _ => metadata(request),
        }
    });
    let client = world.client(&[SERVER]);
    ask(&client.shared().brokers.any(Lane::Control).await.unwrap()).await.unwrap();
    let received = lock(&received).clone();
    assert!(received[1] - received[0] >= 10 * SECOND, "{received:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_too_long_for_the_window_fails_unsent_and_ends_nothing() {
    let (_client, connection, _world) = connected(|request| {
        let response = MetadataResponse { throttle_time_ms: 100_000, ..Default::default() };
        answer::<MetadataRequest>(request, &response)
    })
    .await;
    ask(&connection).await.unwrap();
    let failed = connection.send(&MetadataRequest::default(), 9, TIMEOUT).unwrap().await.unwrap_err();
    assert_eq!((failed.error.kind(), failed.sent), (ErrorKind::Timeout, false));
    assert!(!connection.is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_request_larger_than_the_socket_is_written_in_the_background() {
    let (_client, connection, _world) = connected_in(World::with_buffer(700), |request| {
        assert_eq!(request.api_key, ApiKey::DELETE_TOPICS);
        answer::<DeleteTopicsRequest>(request, &DeleteTopicsResponse::default())
    })
    .await;
    let topics = vec![DeleteTopicState { name: Some("n".repeat(200).into()), ..Default::default() }; 500];
    let request = DeleteTopicsRequest { topics, ..Default::default() };
    let replies: Vec<_> = (0..5).map(|_| connection.send(&request, 6, TIMEOUT).unwrap()).collect();
    for reply in replies {
        reply.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_is_done_when_it_is_written() {
    let (_client, connection, _world) = connected(|request| match request.api_key {
        ApiKey::CREATE_TOPICS => Reply::Nothing,
        _ => metadata(request),
    })
    .await;
    connection.send_no_reply(&CreateTopicsRequest::default(), 7, TIMEOUT).unwrap().await.unwrap();
    ask(&connection).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_a_request_without_one_is_discarded() {
    let (_client, connection, _world) = connected(|request| match request.api_key {
        ApiKey::CREATE_TOPICS => answer::<CreateTopicsRequest>(request, &CreateTopicsResponse::default()),
        _ => metadata(request),
    })
    .await;
    connection.send_no_reply(&CreateTopicsRequest::default(), 7, TIMEOUT).unwrap().await.unwrap();
    assert_eq!(ask(&connection).await.unwrap().cluster_id.as_deref(), Some("answer 1"));
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_has_a_deadline_for_being_written() {
    // It reads no more while it sends an answer that takes an hour.
    let endless = [&4_096_u32.to_be_bytes()[..], &[0; 4_096]].concat();
    let (_client, connection, _world) =
        connected_in(World::with_buffer(700), move |_| Reply::Slowly(endless.clone())).await;
    let topics = vec![DeleteTopicState { name: Some("n".repeat(200).into()), ..Default::default() }; 500];
    let request = DeleteTopicsRequest { topics, ..Default::default() };
    connection.send_no_reply(&CreateTopicsRequest::default(), 7, TIMEOUT).unwrap().await.unwrap();
    let started = Instant::now();
    let failed = connection.send_no_reply(&request, 6, TIMEOUT).unwrap().await.unwrap_err();
    assert_eq!((failed.error.kind(), failed.sent), (ErrorKind::Timeout, true));
    assert_eq!(started.elapsed().as_secs(), 30);
    assert!(connection.is_closed());
}

#[tokio::test(start_paused = true)]
async fn lost_connections_fail_what_was_sent_as_sent() {
    let (client, connection, _world) = connected(|_| Reply::Close).await;
    let mut events = client.events();
    let failed = connection.send(&MetadataRequest::default(), 9, TIMEOUT).unwrap().await.unwrap_err();
    assert_eq!((failed.error.kind(), failed.sent), (ErrorKind::Io, true));
    assert_eq!(events.recv().await.map(|event| event.name()), Some("broker.disconnected"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed() {
    let (_client, connection, world) = connected(|request| metadata(request)).await;
    sleep(500 * SECOND).await;
    ask(&connection).await.unwrap();
    sleep(500 * SECOND).await;
    assert!(!connection.is_closed());
    sleep(50 * SECOND).await;
    assert!(connection.is_closed());
    assert_eq!(world.open_streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_be_idle_for_ever() {
    let world = World::new();
    world.serve(1, |request| match request.api_key {
        ApiKey::API_VERSIONS => api_versions(request, 4),
        _ => metadata(request),
    });
    let client = world.builder(&[SERVER]).connections_max_idle(Duration::MAX).build().unwrap();
    let connection = client.shared().brokers.any(Lane::Control).await.unwrap();
    sleep(100 * 86_400 * SECOND).await;
    ask(&connection).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn d01_a_peer_that_is_no_broker_is_named() {
    let peers: [(&[u8], &str); 4] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP"),
        (&[0x15, 3, 3, 0, 2, 2, 70], "TLS"),
        (&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0], "2147483647 bytes"),
        (&[0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8], "Kafka broker"),
    ];
    for (bytes, hint) in peers {
        let world = World::new();
        world.serve(1, |_| Reply::Raw(bytes.to_vec()));
        let error = world.builder(&[SERVER]).connect().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Peer);
        let text = format!("{error:#}");
        assert!(text.contains(SERVER) && text.contains(hint), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn d01_the_first_answer_must_be_small_later_ones_may_be_large() {
    let topic = MetadataResponseTopic { name: Some("n".repeat(30_000).into()), ..Default::default() };
    let topics = vec![topic; 100];
    let (_client, connection, _world) = connected(move |request| {
        answer::<MetadataRequest>(request, &MetadataResponse { topics: topics.clone(), ..Default::default() })
    })
    .await;
    for _ in 0..3 {
        assert_eq!(ask(&connection).await.unwrap().topics.len(), 100);
    }
}

#[tokio::test(start_paused = true)]
async fn d01_an_answer_beyond_the_limit_is_refused() {
    let world = World::new();
    world.serve(1, |request| match request.api_key {
        ApiKey::API_VERSIONS => api_versions(request, 4),
        _ => {
            let cluster_id = Some("x".repeat(5_000).into());
            answer::<MetadataRequest>(request, &MetadataResponse { cluster_id, ..Default::default() })
        }
    });
    let client = world.builder(&[SERVER]).receive_message_max_bytes(4_096).build().unwrap();
    let connection = client.shared().brokers.any(Lane::Control).await.unwrap();
    assert_eq!(ask(&connection).await.unwrap_err().kind(), ErrorKind::Peer);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_refuses_the_handshake_is_told_of() {
    let world = World::new();
    let dials = Arc::new(AtomicUsize::new(0));
    let seen = dials.clone();
    world.serve(1, move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
        Reply::Close
    });
    let error = world.builder(&[SERVER]).connect().await.unwrap_err();
    assert!(format!("{error:#}").contains("does it expect TLS or SASL?"), "{error:#}");
    assert_eq!(dials.load(Ordering::Relaxed), 3, "once for each version of the handshake");
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_costs_the_set_up_timeout_and_no_more() {
    let world = World::new();
    world.listen(1, Listener::BlackHole);
    let started = Instant::now();
    let error = world.builder(&[SERVER]).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(started.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn requests_that_cannot_be_encoded_never_leave() {
    let (_client, connection, _world) = connected(|request| metadata(request)).await;
    let error = connection.send(&MetadataRequest::default(), 99, TIMEOUT).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Misuse);
    assert_eq!(connection.in_flight(), 0);
}
