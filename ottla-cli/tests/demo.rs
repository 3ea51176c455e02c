//! `ottla demo`, small: what it claims, and that it can fail.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are drivers")]

mod common;

use std::{
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use common::{Dev, OTTLA, run, terminate};

fn demo(more: &[&str]) -> (Output, serde_json::Value) {
    let small = ["demo", "--json", "--orders", "500", "--session", "3s", "--pause", "4500ms"];
    let output = run(&[&small, more].concat(), "");
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stdout.lines().count(), 1, "stdout is for the result: {stdout}{said}");
    let numbers = serde_json::from_str(&stdout).unwrap();
    println!("{said}{stdout}");
    (output, numbers)
}

#[test]
fn with_the_lease_a_lost_session_has_nothing_handled_twice_and_nothing_lost() {
    let (output, numbers) = demo(&[]);
    let expected =
        serde_json::json!({"produced": 1_000, "handled": 1_000, "twice": 0, "lost": 0, "sessions_lost": 1});
    assert_eq!(numbers, expected);
    assert!(output.status.success());
}

#[test]
fn without_the_lease_orders_are_handled_twice() {
    let (output, numbers) = demo(&["--no-lease"]);
    assert!(numbers["twice"].as_u64().unwrap() > 0, "{numbers}");
    assert_eq!((&numbers["handled"], &numbers["lost"]), (&1_000.into(), &0.into()), "{numbers}");
    assert!(output.status.success(), "that is what it is asked to show");
}

#[test]
fn a_pause_that_ends_no_session_or_that_nobody_waits_for_is_wrong_usage() {
    for pause in ["6s", "1h"] {
        let output = run(&["demo", "--session", "6s", "--pause", pause], "");
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn a_cluster_that_is_not_reached_is_a_failure_with_its_reason() {
    let output = run(&["demo", "--against", "127.0.0.1:1"], "");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("127.0.0.1:1 is unreachable") && output.stdout.is_empty(), "{said}");
}

#[test]
#[cfg(unix)]
fn interrupted_while_all_stands_still_it_leaves_the_cluster_at_once_and_as_it_was() {
    let dev = Dev::start(&[]);
    let mut demo = Command::new(OTTLA)
        .args(["demo", "--orders", "100", "--pause", "10m", "--against", &dev.servers])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(demo.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("frozen")));
    assert!(dev.ok(&["topics", "list"], "").contains("ottla-demo-orders-"));
    assert!(dev.ok(&["groups", "list"], "").contains("ottla-demo-"));

    let asked = Instant::now();
    terminate(&demo);
    // The same signal again, as `timeout` sends it.
    terminate(&demo);
    assert_eq!(said.last().unwrap(), "ottla: interrupted");
    assert_eq!(demo.wait().unwrap().code(), Some(1));
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    for what in ["topics", "groups"] {
        let left = dev.ok(&[what, "list"], "");
        assert!(!left.contains("ottla-demo-"), "{left}");
    }
}
