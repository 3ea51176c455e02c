//! A client and the runtimes around it: it lives on the one that it was built on, and may be used and dropped anywhere.

#![expect(clippy::disallowed_methods, reason = "tests of runtimes make threads, tasks and real pauses")]

mod group_world;

use std::{
    future::{IntoFuture, pending},
    sync::{
        Once,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use group_world::{SOON, TOPIC, cluster_with, connect, member};
use ottla::{Admin, Client, Consumer, ErrorKind, Producer, Record, Result, SendError};
use ottla_broker::{
    faults::{Effect, Fault},
    tcp::Cluster,
};
use ottla_protocol::ProduceRequest;
use tokio::{
    runtime::{Builder, Runtime},
    sync::oneshot,
    time::timeout,
};

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Counts all panics: one in a task, or while a runtime drops it, does not reach the test by itself.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::Relaxed);
            told(panic);
        }));
    });
}

fn nothing_panicked() {
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "see above");
}

#[derive(Debug, Clone, Copy)]
enum Flavor {
    CurrentThread,
    MultiThread,
}

const FLAVORS: [Flavor; 2] = [Flavor::CurrentThread, Flavor::MultiThread];

impl Flavor {
    fn runtime(self) -> Runtime {
        let mut builder = match self {
            Self::CurrentThread => Builder::new_current_thread(),
            Self::MultiThread => Builder::new_multi_thread(),
        };
        builder.worker_threads(2).enable_all().build().expect("threads")
    }
}

/// A cluster on a runtime of its own, which outlives whatever is done to the client's.
struct Broker {
    cluster: Cluster,
    _runtime: Runtime,
}

impl Broker {
    fn start() -> Self {
        count_panics();
        let runtime = Flavor::MultiThread.runtime();
        let cluster = runtime.block_on(async {
            let (cluster, client) = cluster_with(1).await;
            client.close().await.expect("it is idle");
            cluster
        });
        Self { cluster, _runtime: runtime }
    }
}

/// All that a program has of a client, in use.
struct Used {
    client: Client,
    producer: Producer,
    consumer: Consumer,
}

impl Used {
    async fn start(broker: &Broker) -> Result<Self> {
        let client = connect(&broker.cluster).await;
        let producer = Producer::builder(&client).build()?;
        // The members of runtimes that end cannot say good-bye: nobody is to wait for their sessions to end.
        static GROUPS: AtomicUsize = AtomicUsize::new(0);
        let group = format!("group-{}", GROUPS.fetch_add(1, Ordering::Relaxed));
        let consumer = member(&client).group(group).build()?;
        consumer.subscribe([TOPIC])?;
        let used = Self { client, producer, consumer };
        used.round().await?;
        Ok(used)
    }

    /// Something of everything: a record there and back, what was completed committed, a question to the cluster.
    async fn round(&self) -> Result<()> {
        let round = async {
            self.producer.send(TOPIC, Record::new("there and back")).await?;
            let record = self.consumer.recv().await?.expect("it is open");
            record.complete();
            self.consumer.commit().await?;
            Admin::new(&self.client).describe_topics([TOPIC]).await?.all()?;
            Ok(())
        };
        timeout(SOON, round).await.expect("it takes no longer")
    }
}

/// Runs a runtime of the current thread on another one until `stop` is dropped.
fn keep_running(runtime: Runtime) -> (oneshot::Sender<()>, std::thread::JoinHandle<()>) {
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        // The other end is dropped, never used.
        let _ = runtime.block_on(stopped);
    });
    (stop, thread)
}

/// Lets a runtime work for that long.
fn pause(home: &Runtime, millis: u64) {
    home.block_on(async { tokio::time::sleep(Duration::from_millis(millis)).await });
}

/// Waits until a runtime has no task left.
fn wait_until_no_task_is_left(home: &Runtime) {
    let begun = Instant::now();
    loop {
        // A runtime of the current thread does something only while it is asked to.
        pause(home, 5);
        let left = home.metrics().num_alive_tasks();
        if left == 0 {
            return;
        }
        assert!(begun.elapsed() < SOON, "{left} tasks are left");
    }
}

#[test]
fn a_client_is_used_from_other_runtimes_than_its_own() {
    let broker = Broker::start();
    for home in FLAVORS {
        let home = home.runtime();
        let used = home.block_on(Used::start(&broker)).expect("all is well");
        let (stop, thread) = keep_running(home);
        for guest in FLAVORS {
            guest.runtime().block_on(used.round()).expect("all is well");
        }
        Flavor::CurrentThread.runtime().block_on(used.client.close()).expect("all is well");
        drop(stop);
        thread.join().expect("it did not panic");
    }
    nothing_panicked();
}

#[test]
fn a_call_from_another_runtime_goes_on_when_the_client_s_own_runs_again() {
    let broker = Broker::start();
    let home = Flavor::CurrentThread.runtime();
    let used = home.block_on(Used::start(&broker)).expect("all is well");
    let (called, call) = oneshot::channel();
    std::thread::scope(|scope| {
        let guest = scope.spawn(|| {
            Flavor::CurrentThread.runtime().block_on(async {
                let receipt = used.producer.enqueue(TOPIC, Record::new("while nobody runs it")).await;
                called.send(()).expect("somebody listens");
                receipt.expect("there is room").await
            })
        });
        call.blocking_recv().expect("it was called");
        while !guest.is_finished() {
            pause(&home, 5);
        }
        guest.join().expect("it did not panic").expect("written");
    });
    home.block_on(used.client.close()).expect("all is well");
    nothing_panicked();
}

/// The error of a call that has to end soon, whatever happened to the client's runtime.
async fn fails<T>(what: &str, call: impl IntoFuture<Output = Result<T>>) {
    match timeout(SOON, call).await {
        Ok(Err(error)) => assert_eq!(error.kind(), ErrorKind::Closed, "{what}: {error}"),
        Ok(Ok(_)) => panic!("{what}: there is nobody who could have done it"),
        Err(_) => panic!("{what} never ends"),
    }
}

#[test]
fn calls_fail_when_the_runtime_of_the_client_is_gone() {
    let broker = Broker::start();
    for home in FLAVORS {
        let home = home.runtime();
        let Used { client, producer, consumer } = home.block_on(Used::start(&broker)).expect("all is well");
        drop(home);
        for guest in FLAVORS {
            guest.runtime().block_on(async {
                fails("send", async { Ok(producer.send(TOPIC, Record::new("too late")).await?) }).await;
                fails("send elsewhere", async { Ok(producer.send("new", Record::new("too late")).await?) })
                    .await;
                fails("describe", Admin::new(&client).describe_topics([TOPIC])).await;
                fails("end offsets", consumer.end_offsets([(TOPIC, 0)])).await;
                let ends = async {
                    assert!(consumer.recv().await.is_ok_and(|record| record.is_none()), "it is closed");
                    producer.flush().await.expect("there is nothing to flush");
                    // Whatever they say, they end.
                    let _ = consumer.close().await;
                    let _ = producer.close().await;
                    let _ = client.close().await;
                };
                timeout(SOON, ends).await.expect("it takes no longer");
            });
        }
    }
    nothing_panicked();
}

#[test]
fn calls_that_wait_end_with_the_runtime_of_the_client() {
    let broker = Broker::start();
    for home in FLAVORS {
        let home = home.runtime();
        let Used { client, producer, consumer } = home.block_on(Used::start(&broker)).expect("all is well");
        let held = broker.cluster.faults().add(Fault::on::<ProduceRequest>(Effect::Hold));
        broker.cluster.faults().add(Fault::on_any(Effect::Hold));
        let guest = std::thread::spawn(move || {
            Flavor::MultiThread.runtime().block_on(async move {
                let receipt =
                    producer.enqueue(TOPIC, Record::new("nobody answers")).await.expect("there is room");
                let all = async {
                    tokio::join!(
                        receipt,
                        async {
                            while consumer.recv().await?.is_some() {}
                            Ok(())
                        },
                        Admin::new(&client).describe_topics([TOPIC]).into_future(),
                    )
                };
                timeout(SOON, all).await.expect("all of them end")
            })
        });
        let begun = Instant::now();
        while held.strikes() == 0 {
            pause(&home, 5);
            assert!(begun.elapsed() < SOON, "the record was not sent");
        }
        drop(home);
        let (sent, received, described) = guest.join().expect("it did not panic");
        assert!(matches!(sent, Err(SendError::PossiblyWritten(_))), "the broker has it: {sent:?}");
        received.unwrap_or_else(|error: ottla::Error| panic!("{error}"));
        assert_eq!(described.expect_err("nobody answered").kind(), ErrorKind::Closed);
        broker.cluster.faults().clear();
    }
    nothing_panicked();
}

#[test]
fn dropped_outside_of_any_runtime_everything_ends_and_what_was_buffered_is_written() {
    let broker = Broker::start();
    for (rounds, home) in (1..).zip(FLAVORS) {
        let home = home.runtime();
        let used = home.block_on(Used::start(&broker)).expect("all is well");
        home.block_on(async {
            drop(used.producer.enqueue(TOPIC, Record::new("the last words")).await.expect("there is room"));
        });
        drop(used);
        wait_until_no_task_is_left(&home);
        drop(home);
        // One of the beginning, and the last words.
        assert_eq!(end_of_log(&broker), 2 * rounds);
    }
    nothing_panicked();
}

fn end_of_log(broker: &Broker) -> i64 {
    Flavor::CurrentThread.runtime().block_on(async {
        let client = connect(&broker.cluster).await;
        let reader = Consumer::builder(&client).build().expect("valid");
        let ends = reader.end_offsets([(TOPIC, 0)]).await.expect("it is there");
        client.close().await.expect("it is idle");
        ends.into_iter().map(|(_, end)| end).sum()
    })
}

#[test]
fn a_task_that_a_runtime_drops_when_it_ends_may_hold_a_client() {
    let broker = Broker::start();
    for home in FLAVORS {
        let home = home.runtime();
        let (held, holds) = oneshot::channel();
        let used = home.block_on(Used::start(&broker)).expect("all is well");
        home.spawn(async move {
            let _used = used;
            held.send(()).expect("somebody listens");
            pending::<()>().await;
        });
        home.block_on(holds).expect("it began");
        let begun = Instant::now();
        drop(home);
        assert!(begun.elapsed() < SOON, "the runtime had to wait");
    }
    nothing_panicked();
}

#[test]
fn a_client_with_a_runtime_of_its_own_is_dropped_inside_and_outside_of_others() {
    let broker = Broker::start();
    for guest in FLAVORS {
        let guest = guest.runtime();
        let servers = broker.cluster.bootstrap_servers();
        let make = || Client::builder().bootstrap_servers(&servers).dedicated_io().build().expect("valid");
        let (inside, outside) = (make(), make());
        guest.block_on(async {
            for client in [&inside, &outside] {
                Admin::new(client)
                    .describe_topics([TOPIC])
                    .await
                    .and_then(|all| all.all())
                    .expect("it is there");
            }
            drop(inside);
        });
        drop(outside);
    }
    nothing_panicked();
}
