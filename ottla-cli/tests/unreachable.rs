//! Whatever the brokers do, a command ends within a minute, with the reason.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are drivers")]

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{Dev, Running, run};
use ottla_broker::{
    ClusterConfig,
    faults::{Effect, Fault},
    tcp::Cluster,
};
use ottla_protocol::{FetchRequest, FindCoordinatorRequest, JoinGroupRequest};

const MINUTE: Duration = Duration::from_secs(60);

/// All that needs a cluster.
const COMMANDS: &[&[&str]] = &[
    &["produce", "t"],
    &["produce", "t", "--json"],
    &["consume", "t"],
    &["consume", "t", "--from-beginning", "--exit"],
    &["consume", "t.*", "--regex"],
    &["consume", "t", "--group", "g"],
    &["topics", "list"],
    &["topics", "describe", "t"],
    &["topics", "configs", "t"],
    &["topics", "create", "t"],
    &["topics", "add-partitions", "t", "--partitions", "2"],
    &["topics", "delete", "t"],
    &["groups", "list"],
    &["groups", "describe", "g"],
    &["groups", "seek", "g", "t", "--to", "start"],
    &["groups", "delete", "g"],
    &["groups", "delete-offsets", "g", "t"],
    &["bench", "produce"],
    &["bench", "consume"],
    &["bench", "e2e"],
    &["demo", "--against"],
];

/// With the settings that everybody has who says nothing.
#[test]
fn every_command_ends_in_time_when_nobody_answers() {
    // Connections are accepted by the kernel, and nobody says anything.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().map(|address| (silent, address.to_string())).unwrap();
    let begin = Instant::now();
    let wrong: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = [silent.1.as_str(), "127.0.0.1:1", "no-such-host.invalid:9092"]
            .into_iter()
            .flat_map(|address| COMMANDS.iter().map(move |command| (address, *command)))
            .map(|(address, command)| scope.spawn(move || fails(address, command, begin)))
            .collect();
        running.into_iter().filter_map(|one| one.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// What is wrong with how a command fails.
fn fails(address: &str, command: &[&str], begin: Instant) -> Option<String> {
    let to = match command.last() {
        Some(&"--against") => vec![address],
        _ => vec!["--bootstrap-server", address],
    };
    let output = run(&[command, &to].concat(), "{\"value\":\"a\"}\n");
    let (took, said) = (begin.elapsed(), String::from_utf8_lossy(&output.stderr).into_owned());
    let is_told = said.contains(address) && said.contains("ottla: ");
    let is_right = output.status.code() == Some(1) && output.stdout.is_empty() && is_told && took < MINUTE;
    (!is_right).then(|| format!("{command:?} at {address}: {} after {took:?}: {said}", output.status))
}

/// A broker that stands still in the middle of it.
#[cfg(unix)]
#[test]
fn a_command_under_way_ends_in_time_when_the_broker_stands_still() {
    let dev = Dev::start(&["--topic", "t:1"]);
    let line = "x".repeat(10_000);
    dev.ok(&["produce", "t"], &(0..1_000).map(|_| format!("{line}\n")).collect::<String>());

    // Its readers are slow, so that most is not fetched yet; and its writer has not written yet.
    let consume = ["consume", "t", "--from-beginning", "--exit", "-X", "max.buffered.bytes=1000000"];
    let readers = [&[][..], &["--timeout", "3s"]].map(|patience| {
        let mut consumer = Running::start_unread(&[&consume, patience, &["-b", &dev.servers]].concat());
        let mut lines = BufReader::new(consumer.process.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), line);
        (consumer, lines)
    });
    let mut producer = Command::new(common::OTTLA);
    producer.args(["produce", "t", "--output-format", r"%o\n", "-b", &dev.servers]);
    let mut producer =
        producer.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    producer.stdin.as_ref().unwrap().write_all(b"first\n").unwrap();
    let mut offsets = BufReader::new(producer.stdout.take().unwrap()).lines();
    assert_eq!(offsets.next().unwrap().unwrap(), "1000");

    let begin = Instant::now();
    assert!(Command::new("kill").args(["-STOP", &dev.id().to_string()]).status().unwrap().success());
    producer.stdin.take().unwrap().write_all(b"second\n").unwrap();
    let readers = readers.map(|(consumer, lines)| (consumer, thread::spawn(move || lines.count())));
    let produced = producer.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&produced.stderr);
    assert_eq!(produced.status.code(), Some(1), "{said}");
    assert!(said.contains("ottla: record 2: "), "{said}");
    assert!(said.contains("1 record was not acknowledged, 1 was written"), "{said}");
    for (consumer, rest) in readers {
        assert!(rest.join().unwrap() < 999, "it was stopped in the middle");
        assert_eq!(consumer.end().0, Some(1), "what was read is not all");
    }
    assert!(begin.elapsed() < MINUTE, "{:?}", begin.elapsed());
}

/// Brokers that answer, but not everything: what does not come is told from what is not there.
#[test]
fn silence_is_a_success_only_if_there_is_nothing() {
    let reading = ["consume", "t", "--from-beginning", "--timeout", "3s"];
    let sharing = ["consume", "t", "--group", "g", "--offset", "earliest"];
    let in_time = [&sharing[..], &["--timeout", "3s"]].concat();
    let at_leisure = [&sharing[..], &["--timeout", "15s"]].concat();
    let no_fetch = || Fault::on::<FetchRequest>(Effect::LoseRequest);
    let no_coordinator = || Fault::on::<FindCoordinatorRequest>(Effect::LoseRequest);
    let no_join = || Fault::on::<JoinGroupRequest>(Effect::Silence);
    let not_read = "the end is not reached";
    let cases: [(&[&str], Option<Fault>, Option<&str>); 7] = [
        (&reading, None, None),
        (&at_leisure, None, None),
        (&reading, Some(no_fetch()), Some(not_read)),
        (&in_time, Some(no_fetch()), Some(not_read)),
        (&in_time, Some(no_coordinator()), Some(not_read)),
        (&at_leisure, Some(no_join()), Some("not a member of the group yet")),
        (&sharing, Some(no_coordinator()), Some("g could not be joined within")),
    ];
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let wrong: Vec<_> = thread::scope(|scope| {
        let runtime = &runtime;
        let running: Vec<_> = cases
            .map(|(command, fault, said)| {
                scope.spawn(move || {
                    let config = ClusterConfig::with_nodes(1, "127.0.0.1", 0);
                    let cluster = runtime.block_on(Cluster::start(config, None)).unwrap();
                    let servers = cluster.bootstrap_servers().join(",");
                    let at = ["-b", servers.as_str()];
                    assert!(run(&[&["topics", "create", "t"], &at[..]].concat(), "").status.success());
                    assert!(run(&[&["produce", "t"], &at[..]].concat(), "one\ntwo\n").status.success());
                    if let Some(fault) = fault {
                        drop(cluster.faults().add(fault));
                    }
                    let begin = Instant::now();
                    let output = run(&[command, &at].concat(), "");
                    let (took, stderr) =
                        (begin.elapsed(), String::from_utf8_lossy(&output.stderr).into_owned());
                    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
                    let is_right = match said {
                        None => output.status.success() && stdout == "one\ntwo\n",
                        Some(said) => output.status.code() == Some(1) && stderr.contains(said),
                    };
                    (!is_right || took >= MINUTE)
                        .then(|| format!("{command:?}: {} after {took:?}: {stdout}{stderr}", output.status))
                })
            })
            .into();
        running.into_iter().filter_map(|one| one.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
