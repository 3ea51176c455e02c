//! `ottla demo`, small: what it claims, and that it can fail.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::process::Output;

use common::run;

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
fn a_pause_that_ends_no_session_is_wrong_usage() {
    let output = run(&["demo", "--session", "6s", "--pause", "6s"], "");
    assert_eq!(output.status.code(), Some(2));
}
