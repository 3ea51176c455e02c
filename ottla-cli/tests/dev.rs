//! `ottla dev`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;

use common::{Dev, Scratch, run};

#[test]
fn acknowledged_lines_survive_kill_minus_nine() {
    let data = Scratch::new();
    let lines: String = (0..5_000).map(|n| format!("line {n}\n")).collect();
    let dev = Dev::start(&["--data-dir", data.text(), "--topic", "t:1"]);
    dev.ok(&["produce", "t"], &lines);
    drop(dev);
    assert!(data.path().join("node-1").is_dir());
    let dev = Dev::start(&["--data-dir", data.text()]);
    assert_eq!(dev.ok(&["consume", "t", "--from-beginning", "--exit"], ""), lines);
}

#[test]
fn topics_are_created_and_several_nodes_are_told() {
    let dev = Dev::start(&["--nodes", "3", "--topic", "orders:6", "--topic", "refunds"]);
    assert_eq!(dev.servers.split(',').count(), 3);
    assert_eq!(dev.ok(&["topics", "list"], ""), "orders\nrefunds\n");
    let described = dev.ok(&["topics", "describe", "orders"], "");
    assert_eq!(described.lines().count(), 1 + 6, "{described}");
}

#[cfg(unix)]
#[test]
fn a_signal_stops_it_with_exit_code_0() {
    let data = Scratch::new();
    let mut dev = Dev::start(&["--data-dir", data.text()]);
    assert_eq!(dev.terminate().code(), Some(0));
}

#[test]
fn a_directory_in_use_or_with_other_files_is_a_failure_with_its_reason() {
    let data = Scratch::new();
    let dev = Dev::start(&["--data-dir", data.text()]);
    let second = run(&["dev", "--port", "0", "--data-dir", data.text()], "");
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another broker"));
    assert!(second.stdout.is_empty());
    drop(dev);

    let other = Scratch::new();
    fs::create_dir_all(other.path()).unwrap();
    fs::write(other.path().join("thesis.tex"), "years of work").unwrap();
    let refused = run(&["dev", "--port", "0", "--data-dir", other.text()], "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not an Ottla data directory"));
}

#[test]
fn wrong_usage_has_exit_code_2() {
    for arguments in [
        &["dev", "--nodes", "0"][..],
        &["dev", "--topic", "orders:none"],
        &["dev", "--port", "65535", "--nodes", "2"],
        &["dev", "--fsync"],
        &["dev", "--no-such-flag"],
    ] {
        let output = run(arguments, "");
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.stdout.is_empty());
    }
}
