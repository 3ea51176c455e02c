//! `ottla dev`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are drivers")]

mod common;

use std::{fs, io::BufRead, process::Command};

use common::{Dev, Scratch, eventually, run};

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
    assert_eq!(described.lines().filter(|line| line.starts_with("orders ")).count(), 6, "{described}");
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

/// A limit on the size of files does what a full disk does, and needs no other user: the last write is cut short, and the
/// next one fails.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_stops_producing_and_nothing_else_until_there_is_room() {
    let data = Scratch::new();
    let mut limited = Command::new("sh");
    // 64 blocks of 512 or 1,024 bytes. Without the trap the kernel would end the process.
    limited.args(["-c", "trap '' XFSZ; ulimit -S -f 64; exec \"$0\" \"$@\"", common::OTTLA]);
    let (dev, mut said) = Dev::start_by(&mut limited, &["--data-dir", data.text(), "--topic", "t:1"]);
    let line = "x".repeat(4_000);
    let lines = |from: u32, until: u32| (from..until).map(|n| format!("{n} {line}\n")).collect::<String>();
    // More than fits, each batch by itself, so that some of them do.
    let quickly =
        ["-X", "delivery.timeout.ms=4000", "-X", "request.timeout.ms=2000", "-X", "batch.size=5000"];
    let produce = |from, until| {
        let arguments = [&["produce", "t", "--output-format", r"%v\n"][..], &quickly].concat();
        let output = dev.ottla(&arguments, &lines(from, until));
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, acknowledged, failed) = produce(0, 40);
    assert_eq!(code, Some(1), "{failed}");
    assert!(
        failed.contains("KAFKA_STORAGE_ERROR") && failed.contains("records were not acknowledged"),
        "{failed}"
    );
    let fits = acknowledged.lines().count();
    assert!((1..40).contains(&fits), "{fits} records fit");

    // It says what is full, and where.
    let mut trouble = String::new();
    while !trouble.contains("no room") {
        trouble.clear();
        assert!(said.read_line(&mut trouble).unwrap() > 0, "it says nothing");
    }
    assert!(trouble.contains("no room on the disk for t-0: ") && trouble.contains(data.text()), "{trouble}");
    let read = || dev.ok(&["consume", "t", "--from-beginning", "--exit"], "");
    assert_eq!(read(), acknowledged, "what is acknowledged can be read");
    // There is room for others.
    dev.ok(&["topics", "create", "u"], "");
    dev.ok(&["produce", "u"], "small\n");
    assert_eq!(dev.ok(&["consume", "u", "--from-beginning", "--exit"], ""), "small\n");

    let raised =
        Command::new("prlimit").args(["--fsize=unlimited:", "--pid", &dev.id().to_string()]).status();
    if raised.is_ok_and(|raised| raised.success()) {
        // What waited for room comes first, for it was promised to nobody but may be there.
        let (code, ..) =
            eventually("there is room again", || Some(produce(100, 101)).filter(|it| it.0 == Some(0)));
        assert_eq!(code, Some(0));
        let all = read();
        assert!(
            all.starts_with(&acknowledged) && all.ends_with(&lines(100, 101)),
            "nothing is lost, or moved"
        );
    } else {
        eprintln!("there is no prlimit here to make room with");
    }
    let before = read();
    drop(dev);
    let dev = Dev::start(&["--data-dir", data.text()]);
    assert_eq!(dev.ok(&["consume", "t", "--from-beginning", "--exit"], ""), before, "nor after kill -9");
}
