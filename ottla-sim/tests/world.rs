//! The world by itself: what its network, its gates and its reports do.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    time::Duration,
};

use ottla::env::{Duplex, Env};
use ottla_sim::{Host, World, kit::Sim, net::Conditions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};

const PORT: u16 = 7;
const SECOND: Duration = Duration::from_secs(1);

/// A host that sends every byte back.
fn echo_server(world: &World, name: &str) -> Host {
    let host = world.host(name);
    serve_echo(&host);
    host
}

fn serve_echo(host: &Host) {
    let listener = host.listen(PORT).expect("nothing else listens on it");
    let server = host.clone();
    drop(host.spawn("listener", async move {
        while let Ok(accepted) = listener.accept().await {
            drop(server.spawn("echo", echo(accepted.stream)));
        }
    }));
}

async fn echo(mut stream: Duplex) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let read = stream.reader.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        stream.writer.write_all(&buffer[..read]).await?;
    }
}

async fn connect(from: &Host, to: &Host) -> io::Result<Duplex> {
    from.env().connect(to.address(PORT)).await
}

/// Sends `bytes` and waits for as many back.
async fn round_trip(stream: &mut Duplex, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut back = vec![0; bytes.len()];
    let write = stream.writer.write_all(bytes);
    let (written, read) = futures::join!(write, stream.reader.read_exact(&mut back));
    written?;
    read?;
    Ok(back)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 % 251) as u8).collect()
}

/// Several clients, faults, everything: something that would show if anything depended on more than the seed.
async fn commotion(world: &World) {
    let server = echo_server(world, "server");
    let done = Rc::new(Cell::new(0));
    for name in ["a", "b", "c"] {
        let (client, server, done) = (world.host(name), server.clone(), Rc::clone(&done));
        let here = client.clone();
        drop(client.spawn("client", async move {
            for round in 0..10_u64 {
                let jitter = here.env().random() % 400;
                sleep(Duration::from_millis(jitter)).await;
                let Ok(Ok(mut stream)) = timeout(SECOND, connect(&here, &server)).await else { continue };
                let _ = timeout(SECOND, round_trip(&mut stream, &pattern(round as usize * 3000))).await;
            }
            done.set(done.get() + 1);
        }));
    }
    world.network().everywhere(Conditions { reset: 0.05, loss: 0.05, short: 0.3, ..Conditions::default() });
    sleep(SECOND).await;
    server.pause_for(SECOND).await;
    server.crash();
    sleep(SECOND).await;
    server.start();
    serve_echo(&server);
    world.until("all clients are done", || done.get() == 3).await;
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let summary = Sim::seeds(0..16).run(commotion);
    let mut hashes = summary.hashes.clone();
    assert_eq!(hashes, Sim::seeds(0..16).once().run(commotion).hashes);
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 16);
}

#[test]
fn bytes_arrive_whole_and_in_order_whatever_the_link_does() {
    Sim::seeds(0..8).run(async |world| {
        let (client, server) = (world.host("client"), echo_server(world, "server"));
        let slow = Conditions {
            bandwidth: Some(200_000),
            loss: 0.1,
            short: 0.5,
            window: 5000,
            ..Conditions::default()
        };
        world.network().everywhere(slow);
        let mut stream = connect(&client, &server).await?;
        let sent = pattern(300_000);
        let begin = Instant::now();
        assert!(round_trip(&mut stream, &sent).await? == sent);
        assert!(
            begin.elapsed() > Duration::from_millis(1500),
            "300 kB at 200 kB/s took {:?}",
            begin.elapsed()
        );
        Ok::<_, io::Error>(())
    });
}

#[test]
fn a_shut_down_half_is_an_end_of_stream_for_the_peer() {
    Sim::seeds(0..4).run(async |world| {
        let (client, server) = (world.host("client"), echo_server(world, "server"));
        let Duplex { mut reader, mut writer } = connect(&client, &server).await?;
        writer.write_all(b"farewell").await?;
        drop(writer);
        let mut back = Vec::new();
        reader.read_to_end(&mut back).await?;
        assert_eq!(back, b"farewell");
        drop(reader);
        world.until("both sockets are closed", || client.sockets() + server.sockets() == 0).await;
        Ok::<_, io::Error>(())
    });
}

#[test]
fn a_reset_reaches_both_ends() {
    Sim::seeds(0..8).run(async |world| {
        let (client, server) = (world.host("client"), world.host("server"));
        let listener = server.listen(PORT)?;
        let mut caller = connect(&client, &server).await?;
        let mut accepted = listener.accept().await?.stream;
        world.network().reset(&client, &server);
        let kind = |result: io::Result<usize>| result.unwrap_err().kind();
        assert_eq!(kind(caller.reader.read(&mut [0; 8]).await), io::ErrorKind::ConnectionReset);
        assert_eq!(kind(accepted.reader.read(&mut [0; 8]).await), io::ErrorKind::ConnectionReset);
        assert_eq!(kind(caller.writer.write(b"x").await), io::ErrorKind::BrokenPipe);
        Ok::<_, io::Error>(())
    });
}

#[test]
fn nobody_listening_is_refused_and_an_unknown_address_times_out() {
    Sim::seeds(0..4).run(async |world| {
        let (client, server) = (world.host("client"), world.host("server"));
        let refused = connect(&client, &server).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let begin = Instant::now();
        let unanswered = client.env().connect("192.0.2.1:9092".parse().unwrap()).await.unwrap_err();
        assert_eq!(unanswered.kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() > Duration::from_secs(60), "{:?}", begin.elapsed());
        let unknown = client.env().resolve("nowhere", 1).await.unwrap_err();
        assert_eq!(unknown.kind(), io::ErrorKind::NotFound);
        assert_eq!(client.env().resolve("server", 9).await.unwrap(), [server.address(9)]);
    });
}

#[test]
fn a_frozen_host_keeps_its_connections_and_its_kernel_accepts_new_ones() {
    Sim::seeds(0..8).run(async |world| {
        let (client, server) = (world.host("client"), echo_server(world, "server"));
        let mut before = connect(&client, &server).await?;
        round_trip(&mut before, b"awake").await?;

        server.freeze();
        let mut during = timeout(SECOND, connect(&client, &server)).await.expect("the kernel accepts")?;
        let silent = timeout(Duration::from_secs(45), round_trip(&mut before, b"anybody there?")).await;
        assert!(silent.is_err(), "a frozen process answers nothing");

        server.thaw();
        let mut late = [0; 14];
        before.reader.read_exact(&mut late).await?;
        assert_eq!(&late, b"anybody there?");
        assert_eq!(round_trip(&mut during, b"and here").await?, b"and here");
        Ok::<_, io::Error>(())
    });
}

#[test]
fn a_frozen_reader_fills_the_window_and_stops_the_writer() {
    Sim::seeds(0..4).run(async |world| {
        let (client, server) = (world.host("client"), echo_server(world, "server"));
        let window = 10_000;
        world.network().everywhere(Conditions { window, ..Conditions::default() });
        let mut stream = connect(&client, &server).await?;
        server.freeze();
        let mut sent = 0;
        while let Ok(written) = timeout(SECOND, stream.writer.write(&[7; 999])).await {
            sent += written?;
        }
        assert_eq!(sent, window);
        Ok::<_, io::Error>(())
    });
}

/// Counts its drops.
struct Guard(Rc<Cell<u32>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn a_crash_drops_all_tasks_of_the_host_and_no_others() {
    Sim::seeds(0..8).run(async |world| {
        let (doomed, other) = (world.host("doomed"), world.host("other"));
        let (dropped, ticks) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        for _ in 0..5 {
            let guard = Guard(Rc::clone(&dropped));
            drop(doomed.spawn("waits", async move {
                let _guard = guard;
                std::future::pending::<()>().await;
            }));
        }
        let running = doomed.spawn("waits too", sleep(Duration::from_secs(9)));
        let counter = Rc::clone(&ticks);
        drop(other.spawn("ticks", async move {
            loop {
                sleep(SECOND).await;
                counter.set(counter.get() + 1);
            }
        }));
        sleep(SECOND / 2).await;
        assert_eq!(doomed.tasks(), 6);
        let stale = doomed.env();
        doomed.crash();
        assert_eq!((dropped.get(), doomed.tasks()), (5, 0));
        assert_eq!(running.outcome().await, None);
        stale.spawn("stale", Box::pin(async { panic!("spawned by a dead process") }));
        sleep(SECOND * 4).await;
        assert_eq!(ticks.get(), 4);
    });
}

#[test]
fn a_killed_process_ends_its_connections_and_a_host_without_power_does_not() {
    Sim::seeds(0..8).run(async |world| {
        let (client, server) = (world.host("client"), echo_server(world, "server"));
        let mut stream = connect(&client, &server).await?;
        round_trip(&mut stream, b"hello").await?;
        server.crash();
        assert_eq!(stream.reader.read(&mut [0; 8]).await?, 0, "the kernel says goodbye");
        let refused = connect(&client, &server).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

        server.start();
        serve_echo(&server);
        let mut stream = connect(&client, &server).await?;
        round_trip(&mut stream, b"hello again").await?;
        server.lose_power();
        let silent = timeout(SECOND * 600, stream.reader.read(&mut [0; 8])).await;
        assert!(silent.is_err(), "nobody says goodbye");
        stream.writer.write_all(b"still there?").await?;
        sleep(SECOND * 10).await;
        server.start();
        let reset = stream.reader.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset, "the new incarnation knows nothing of it");
        Ok::<_, io::Error>(())
    });
}

#[test]
fn what_vanishes_is_sent_again_after_healing_and_in_order() {
    Sim::seeds(0..8).run(async |world| {
        let (client, server) = (world.host("client"), echo_server(world, "server"));
        let mut stream = connect(&client, &server).await?;
        world.network().block(&server, &client);
        let sent = pattern(50_000);
        assert!(timeout(SECOND * 20, round_trip(&mut stream, &sent)).await.is_err());
        world.network().unblock(&server, &client);
        let mut back = vec![0; 50_000];
        stream.reader.read_exact(&mut back).await?;
        assert!(back == sent);
        Ok::<_, io::Error>(())
    });
}

#[test]
fn a_panic_in_any_task_fails_the_run() {
    let report = Sim::seed(3).try_run(async |world: &World| {
        world.host("app").env().spawn(
            "unlucky",
            Box::pin(async {
                sleep(SECOND).await;
                panic!("the number was {}", 13);
            }),
        );
        sleep(SECOND * 100).await;
    });
    let report = report.unwrap_err();
    assert_eq!(report.happened, "task unlucky of app panicked: the number was 13");
    assert_eq!((report.seed, report.at), (3, SECOND));
}

#[test]
fn a_condition_that_never_holds_fails_with_its_words_and_a_command_to_run_it_again() {
    let report = Sim::seeds(5..6).try_run(async |world: &World| {
        world.note("so far, so good");
        world.until("the cows come home", || false).await;
    });
    let report = report.unwrap_err();
    assert_eq!(report.expected, "the cows come home, within 600s");
    assert!(
        report.replay.starts_with("OTTLA_SIM_SEEDS=5 cargo test -p ottla-sim --test world"),
        "{}",
        report.replay
    );
    assert!(report.events.iter().any(|event| event.contains("so far, so good")));
}

#[test]
fn tasks_that_keep_each_other_busy_fail_the_run() {
    let report = Sim::seed(0).try_run(async |world: &World| {
        let host = world.host("busy");
        drop(host.spawn("spins", async {
            loop {
                tokio::task::yield_now().await;
            }
        }));
        sleep(SECOND).await;
    });
    assert!(report.unwrap_err().happened.contains("task spins of busy"));
}

#[test]
fn a_scenario_that_waits_for_nothing_fails_at_its_bound() {
    let bound = Duration::from_secs(90);
    let report = Sim::seed(0).at_most(bound).try_run(async |_: &World| std::future::pending::<()>().await);
    assert_eq!(report.unwrap_err().at, bound);
}

#[test]
fn a_run_that_depends_on_more_than_the_seed_is_found_out() {
    let runs = Cell::new(0);
    let report = Sim::seed(0).try_run(async |world: &World| {
        runs.set(runs.get() + 1);
        world.note("first");
        world.note(format!("this is run {}", runs.get()));
    });
    let report = report.unwrap_err();
    assert_eq!(report.expected, "two runs of one seed to be the same");
    assert!(report.happened.contains("after 1 equal events"), "{}", report.happened);
}

#[test]
fn schedules_differ_between_seeds() {
    let orders = RefCell::new(std::collections::BTreeSet::new());
    Sim::seeds(0..32).once().run(async |world| {
        let order = Rc::new(RefCell::new(Vec::new()));
        for number in 0..6 {
            let order = Rc::clone(&order);
            drop(world.host("host").spawn("one of six", async move {
                sleep(SECOND).await;
                order.borrow_mut().push(number);
            }));
        }
        world.until("all six are done", || order.borrow().len() == 6).await;
        orders.borrow_mut().insert(order.borrow().clone());
    });
    assert!(orders.borrow().len() > 8, "{}", orders.borrow().len());
}

#[test]
fn who_fails_in_one_run_and_not_in_the_next_is_told_that_a_replay_may_not_fail() {
    let runs = std::cell::Cell::new(0);
    let report = Sim::seed(0).try_run(async |world: &World| {
        world.expect(runs.replace(1) > 0, "a second run", || "it is the first".to_owned());
    });
    let happened = report.unwrap_err().happened;
    assert!(happened.contains("it is the first") && happened.contains("without `biased;`"), "{happened}");
    let report =
        Sim::seed(0).try_run(async |world: &World| world.expect(false, "luck", || "none".to_owned()));
    assert_eq!(report.unwrap_err().happened, "none", "every run fails");
}

#[test]
fn a_panic_that_nobody_waits_for_fails_the_run_unless_somebody_looks_at_it() {
    #[expect(clippy::disallowed_methods, reason = "as handlers do")]
    async fn handler(_: &World) {
        drop(tokio::spawn(async { panic!("the order has no customer") }));
        sleep(Duration::from_secs(1)).await;
    }
    let report = Sim::seed(0).try_run(handler).unwrap_err();
    assert!(report.happened.contains("the order has no customer"), "{report}");
    assert!(report.happened.contains("tests/world.rs"), "{report}");
    assert!(Sim::seed(0).tolerate_panics().try_run(handler).is_ok());
}
