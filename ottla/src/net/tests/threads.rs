//! Real sockets and threads: whoever writes, nothing is lost, mixed up or forgotten.

use std::{sync::Arc, time::Duration};

use ottla_protocol::{
    ApiKey, RequestFrame,
    messages::{
        DeleteTopicsRequest, DeleteTopicsResponse, delete_topics_request::DeleteTopicState,
        delete_topics_response::DeletableTopicResult,
    },
};
use tokio::net::TcpListener;

use crate::{
    Client,
    net::{Connection, Lane},
    scripted::{Cluster, DecodeBody, Reply, Script, answer, api_versions, serve},
};

const TIMEOUT: Duration = Duration::from_secs(20);

/// Answers a request to delete topics with the name of its first topic.
fn echo(request: &mut RequestFrame) -> Reply {
    if request.api_key == ApiKey::API_VERSIONS {
        return api_versions(request, 4);
    }
    let asked = DeleteTopicsRequest::decode_body(request);
    let name = asked.topics.first().and_then(|topic| topic.name.clone());
    let responses = vec![DeletableTopicResult { name, ..Default::default() }];
    answer::<DeleteTopicsRequest>(request, &DeleteTopicsResponse { responses, ..Default::default() })
}

#[expect(clippy::disallowed_methods, reason = "the world of this test is the real one")]
async fn broker(script: Script) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, script.clone()));
        }
    });
    address
}

/// Requests of all sizes, some of them larger than any socket buffer; several on their way at once.
async fn talk(connection: Connection, who: usize, rounds: usize) {
    for round in 0..rounds {
        let size = [1, 10, 1_000, 30_000][(who + round) % 4];
        let filler = DeleteTopicState { name: Some("x".repeat(size).into()), ..Default::default() };
        let replies: Vec<_> = (0..5)
            .map(|at| {
                let name = format!("{who}-{round}-{at}");
                let mut topics = vec![DeleteTopicState { name: Some(name.into()), ..Default::default() }];
                topics.resize(1 + if size > 10_000 { 50 } else { 1 }, filler.clone());
                let request = DeleteTopicsRequest { topics, ..Default::default() };
                connection.send(&request, 6, TIMEOUT).unwrap()
            })
            .collect();
        for (at, reply) in replies.into_iter().enumerate() {
            let name = reply.await.unwrap().responses.remove(0).name;
            assert_eq!(name.as_deref(), Some(format!("{who}-{round}-{at}").as_str()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[expect(clippy::disallowed_methods, reason = "the world of this test is the real one")]
async fn many_threads_share_a_connection() {
    let client = Client::builder().bootstrap_servers([broker(Arc::new(echo)).await]).build().unwrap();
    let connection = client.shared().brokers.any(Lane::Control).await.unwrap();
    let tasks: Vec<_> = (0..8).map(|who| tokio::spawn(talk(connection.clone(), who, 40))).collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(connection.in_flight(), 0);
    client.close().await.unwrap();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the world of this test is the real one")]
fn with_dedicated_io_a_blocked_runtime_holds_up_nothing() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (asked, questions) = std::sync::mpsc::channel();
    let (address, addresses) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let broker = std::thread::spawn(move || {
        runtime().block_on(async {
            let script = Cluster::new(&[1]).script();
            let served = move |request: &mut RequestFrame| {
                // Nobody listens any more when the test is over.
                let _ = asked.send(request.api_key);
                script(request)
            };
            address.send(broker(Arc::new(served)).await).unwrap();
            let _ = stopped.await;
        });
    });
    let age = Duration::from_millis(10);
    let servers = [addresses.recv().unwrap()];
    let builder = Client::builder().bootstrap_servers(servers).metadata_max_age(age).dedicated_io();
    let users = runtime();
    let client = users.block_on(builder.connect()).unwrap();
    // From here on nobody polls the user's runtime, and the client goes on asking by age.
    let metadata = questions.iter().filter(|api| *api == ApiKey::METADATA).take(3).count();
    assert_eq!(metadata, 3);
    users.block_on(client.close()).unwrap();
    drop(stop);
    broker.join().unwrap();
}
