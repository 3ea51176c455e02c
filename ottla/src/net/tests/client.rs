//! The life of a client.

use std::{
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::scripted::{Cluster, Reply, World, api_versions};
use crate::{
    Client, ErrorKind, Event,
    client::Resource,
    env::{BoxFuture, Tokio},
    net::Lane,
};

const SECOND: Duration = Duration::from_secs(1);

async fn connected(world: &Arc<World>) -> Client {
    world.serve(1, Cluster::new(&[1]).topic("orders", &[0]).script());
    world.builder(&["10.0.0.1:1"]).connect().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn l01_closing_leaves_no_socket_and_no_task() {
    let world = World::new();
    let client = connected(&world).await;
    client.shared().brokers.connection(0, Lane::Produce).await.unwrap();
    assert!(world.open_streams() >= 2);
    // One dial is still under way.
    world.listen(7, crate::scripted::Listener::BlackHole);
    let started = Instant::now();
    client.close().await.unwrap();
    assert!(started.elapsed() < SECOND);
    assert_eq!(world.open_streams(), 0);
    client.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn after_closing_every_call_answers_closed() {
    let world = World::new();
    let client = connected(&world).await;
    let connection = client.shared().brokers.connection(0, Lane::Produce).await.unwrap();
    client.close().await.unwrap();
    let request = ottla_protocol::messages::MetadataRequest::default();
    let kinds = [
        connection.call(&request, 9, SECOND).await.unwrap_err().kind(),
        client.shared().brokers.connection(0, Lane::Fetch(0)).await.err().unwrap().kind(),
        client.shared().brokers.any(Lane::Fetch(0)).await.err().unwrap().kind(),
        client.shared().metadata.topic("orders").await.unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::Closed; 4]);
}

#[tokio::test(start_paused = true)]
async fn l01_dropping_the_last_handle_closes_in_the_background() {
    let world = World::new();
    let client = connected(&world).await;
    let mut events = client.events();
    drop(client.clone());
    sleep(SECOND).await;
    assert!(world.open_streams() > 0);
    drop(client);
    sleep(SECOND).await;
    assert_eq!(world.open_streams(), 0);
    let mut last = None;
    while let Some(event) = events.recv().await {
        last = Some(event);
    }
    assert!(matches!(last, Some(Event::BrokerDisconnected { .. } | Event::ClientClosed)), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn requests_in_flight_fail_when_the_client_closes() {
    let world = World::new();
    world.serve(1, |request| match request.api_key {
        ottla_protocol::ApiKey::API_VERSIONS => api_versions(request, 4),
        _ => Reply::Nothing,
    });
    let client = world.client(&["10.0.0.1:1"]);
    let connection = client.shared().brokers.any(Lane::Control).await.unwrap();
    let request = ottla_protocol::messages::MetadataRequest::default();
    let reply = connection.send(&request, 9, 30 * SECOND).unwrap();
    client.close().await.unwrap();
    let failed = reply.await.unwrap_err();
    assert_eq!((failed.error.kind(), failed.sent), (ErrorKind::Closed, true));
}

/// A producer that takes its time to close.
struct Slow(Duration);

impl Resource for Slow {
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(sleep(self.0))
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_made_from_a_client_is_closed_before_it_within_a_bound() {
    for (takes, ok) in [(20, true), (2_000, false)] {
        let world = World::new();
        let client = connected(&world).await;
        let resource: Arc<dyn Resource> = Arc::new(Slow(takes * SECOND));
        client.shared().register(Arc::downgrade(&resource));
        let dropped: Arc<dyn Resource> = Arc::new(Slow(9_999 * SECOND));
        client.shared().register(Arc::downgrade(&dropped));
        drop(dropped);
        let started = Instant::now();
        assert_eq!(client.close().await.is_ok(), ok);
        assert!((20..=31).contains(&started.elapsed().as_secs()));
        assert_eq!(world.open_streams(), 0);
    }
}

#[test]
fn outside_of_a_runtime_no_client_is_built() {
    let error = Client::builder().bootstrap_servers(["127.0.0.1:1"]).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Misuse);
}

#[test]
fn l01_when_its_runtime_is_gone_calls_answer_closed() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let client = first.block_on(async {
        let env = Arc::new(Tokio::current().unwrap());
        Client::builder().bootstrap_servers(["127.0.0.1:1"]).env(env).build().unwrap()
    });
    drop(first);
    runtime().block_on(async {
        let metadata = client.shared().metadata.topic("orders").await.unwrap_err();
        let dial = client.shared().brokers.any(Lane::Control).await.err().unwrap();
        assert_eq!([metadata.kind(), dial.kind()], [ErrorKind::Closed; 2]);
        client.close().await.unwrap();
    });
}

/// Runs a future outside of any runtime.
fn block_on_this_thread<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn a_client_with_a_runtime_of_its_own_is_closed_from_anywhere() {
    let client = || Client::builder().bootstrap_servers(["127.0.0.1:1"]).dedicated_io().build().unwrap();
    block_on_this_thread(client().close()).unwrap();
    let without_timers = tokio::runtime::Builder::new_current_thread().build().unwrap();
    without_timers.block_on(client().close()).unwrap();
}
