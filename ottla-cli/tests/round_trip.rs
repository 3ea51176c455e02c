//! `ottla produce` and `ottla consume` against `ottla dev`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are drivers")]

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use common::{Dev, run};

const ALL: [&str; 3] = ["--from-beginning", "--exit", "--format"];

/// All records of a topic, in a format.
fn all(dev: &Dev, topic: &str, format: &str) -> String {
    dev.ok(&[&["consume", topic][..], &ALL, &[format]].concat(), "")
}

#[test]
fn keys_and_headers_come_back() {
    let dev = Dev::start(&["--topic", "t:1"]);
    dev.ok(&["produce", "t", "--key-separator", ":", "-H", "via=web", "-H", "via=eu"], "ada:1\nbob:2=:3\n");
    let seen = all(&dev, "t", r"%t/%p@%o %k=%v%h{ %k:%v} %K %V %H %i\n");
    assert_eq!(seen, "t/0@0 ada=1 via:web via:eu 3 1 2 1\nt/0@1 bob=2=:3 via:web via:eu 3 4 2 2\n");
}

#[test]
fn every_codec_is_written_and_read() {
    let dev = Dev::start(&[]);
    let lines: String = (0..2_000).map(|n| format!("line {n} is a line like the others\n")).collect();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        dev.ok(&["topics", "create", codec, "--partitions", "1"], "");
        dev.ok(&["produce", codec, "--compression-codec", codec], &lines);
        assert_eq!(all(&dev, codec, r"%v\n"), lines, "{codec}");
    }
}

/// Null is not empty, bytes need not be text, a header may come twice or have no value.
#[test]
fn json_lines_lose_nothing() {
    let dev = Dev::start(&["--topic", "from:1", "--topic", "to:1"]);
    let lines = [
        r#"{"key":null,"value":null,"headers":[]}"#,
        r#"{"key":"","value":"","headers":[["h",null],["h",""],["h","x"],[{"base64":"Y2Fm6Q=="},"x"]]}"#,
        r#"{"key":{"base64":"/wA="},"value":"grüße\n","timestamp":1700000000123}"#,
    ];
    dev.ok(&["produce", "from", "--json"], &lines.join("\n"));
    let first = dev.ok(&["consume", "from", "--from-beginning", "--exit", "--json"], "");
    dev.ok(&["produce", "to", "--json"], &first);
    let second = dev.ok(&["consume", "to", "--from-beginning", "--exit", "--json"], "");
    assert_eq!(first.replace(r#""topic":"from""#, r#""topic":"to""#), second);

    let records: Vec<serde_json::Value> =
        first.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(records[0]["key"].is_null() && records[0]["value"].is_null());
    assert_eq!(records[1]["value"], "");
    let headers = serde_json::json!([["h", null], ["h", ""], ["h", "x"], [{"base64": "Y2Fm6Q=="}, "x"]]);
    assert_eq!(records[1]["headers"], headers, "other clients write names that are no text");
    assert_eq!(records[2]["key"]["base64"], "/wA=");
    assert_eq!(records[2]["value"], "grüße\n");
    assert_eq!(records[2]["timestamp"], 1_700_000_000_123_i64);
}

#[test]
fn a_partition_that_is_shorter_than_the_range_is_no_failure() {
    let dev = Dev::start(&["--topic", "t:2"]);
    dev.ok(&["produce", "t", "--partition", "0"], "a\nb\nc\n");
    assert_eq!(dev.ok(&["consume", "t", "-o", "2", "-e"], ""), "c\n");
    assert_eq!(dev.ok(&["consume", "t", "-o", "9", "-e"], ""), "");
}

#[test]
fn partitions_are_chosen_on_both_sides() {
    let dev = Dev::start(&["--topic", "t:3"]);
    for partition in ["0", "2"] {
        dev.ok(&["produce", "t", "--partition", partition], &format!("in {partition}\n"));
    }
    assert_eq!(dev.ok(&["consume", "t", "-p", "2", "--from-beginning", "-e"], ""), "in 2\n");
    assert_eq!(dev.ok(&["consume", "t", "-p", "0,1", "--from-beginning", "-e"], ""), "in 0\n");
    let missing = dev.ottla(&["consume", "t", "-p", "3"], "");
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("no partition 3"));
    let begin = std::time::Instant::now();
    let missing = dev.ottla(&["produce", "t", "-p", "99"], "x\n");
    let said = String::from_utf8_lossy(&missing.stderr);
    assert!(said.contains("t has no partition 99: they are 0 to 2"), "{said}");
    assert!(begin.elapsed() < std::time::Duration::from_secs(15), "it does not wait for it");
    dev.ok(&["produce", "t", "-p", "-1"], "anywhere\n");
}

#[test]
fn blank_lines_and_a_byte_order_mark_are_no_json() {
    let dev = Dev::start(&["--topic", "t:1"]);
    let lines = "\u{feff}{\"value\":\"one\"}\n\n  \n{\"value\":\"two\"}\n";
    dev.ok(&["produce", "t", "--json"], lines);
    assert_eq!(all(&dev, "t", "%v "), "one two ");
    let output = dev.ottla(&["produce", "t", "--json"], &format!("{lines}\n{{\n"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("line 6: not JSON"), "{said}");
}

/// Whoever refuses it, the producer or a broker.
#[test]
fn the_first_record_that_fails_ends_it_and_is_named() {
    let dev = Dev::start(&["--topic", "t:1"]);
    let long = "x".repeat(5_000);
    dev.ok(&["topics", "configs", "t", "--set", "max.message.bytes=1000"], "");
    for by in [&[][..], &["-X", "max.request.size=2000"]] {
        let mut command = Command::new(common::OTTLA);
        command.args(["produce", "t", "--output-format", r"%v\n", "-b", &dev.servers]).args(by);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut input = process.stdin.take().unwrap();
        let mut printed = BufReader::new(process.stdout.take().unwrap()).lines();
        writeln!(input, "one").unwrap();
        assert_eq!(printed.next().unwrap().unwrap(), "one");
        writeln!(input, "{long}").unwrap();
        // It ends though its input does not.
        let output = process.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("record 2: ") && said.contains("1 "), "{said}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_cannot_be_printed_says_where_and_what_was_sent() {
    let dev = Dev::start(&["--topic", "t:1"]);
    let full = |arguments: &[&str]| {
        let device = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(common::OTTLA);
        command.args(arguments).args(["-b", &dev.servers]).stdin(Stdio::piped()).stdout(device);
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        process.stdin.take().unwrap().write_all(b"a\nb\n").ok();
        let output = process.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let produced = full(&["produce", "t", "--output-format", r"%o\n"]);
    assert!(produced.contains("stdout: ") && produced.contains("written all the same"), "{produced}");
    let consumed = full(&["consume", "t", "--from-beginning", "--exit"]);
    assert!(consumed.contains("stdout: "), "{consumed}");
}

#[cfg(unix)]
#[test]
fn a_place_that_is_none_is_named() {
    let output = run(&["dev", "--port", "0", "--data-dir", "/dev/null"], "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("/dev/null"), "{said}");
}

#[test]
fn an_empty_line_is_a_tombstone_when_asked_for() {
    let dev = Dev::start(&["--topic", "t:1"]);
    dev.ok(&["produce", "t", "--key", "k", "--tombstone"], "\nx\n");
    dev.ok(&["produce", "t", "--key", "k"], "\n");
    assert_eq!(all(&dev, "t", "%V "), "-1 1 0 ");
}

#[test]
fn a_follower_prints_records_as_they_come_and_a_closed_pipe_is_no_failure() {
    let dev = Dev::start(&["--topic", "t:1"]);
    let mut follower = Command::new(common::OTTLA)
        .args(["consume", "t", "--from-beginning", "--bootstrap-server", &dev.servers])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    for word in ["one", "two"] {
        dev.ok(&["produce", "t"], word);
        assert_eq!(lines.next().unwrap().unwrap(), word);
    }
    drop(lines);
    dev.ok(&["produce", "t"], "nobody reads this");
    let ended = follower.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.stderr.is_empty(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn a_line_that_is_no_record_ends_it_and_says_how_far_it_went() {
    let dev = Dev::start(&["--topic", "t:1"]);
    let output = dev.ottla(&["produce", "t", "--json"], "{\"value\":\"one\"}\n{\"value\":\"two\"}\n{\n");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("line 3: not JSON") && said.contains("2 records before it were written"), "{said}");
    assert_eq!(all(&dev, "t", "%v "), "one two ");
}

#[cfg(unix)]
#[test]
fn a_follower_that_is_told_to_stop_has_exit_code_0() {
    let dev = Dev::start(&["--topic", "t:1"]);
    let mut follower = Command::new(common::OTTLA)
        .args(["consume", "t", "--from-beginning", "--bootstrap-server", &dev.servers])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    dev.ok(&["produce", "t"], "one");
    // Once it prints it follows, and heeds signals.
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    common::terminate(&follower);
    assert_eq!(follower.wait().unwrap().code(), Some(0));
}

#[test]
fn failures_say_why_and_have_exit_code_1() {
    let dev = Dev::start(&["--no-auto-create-topics"]);
    for arguments in [&["consume", "nowhere"][..], &["topics", "describe", "nowhere"]] {
        let output = dev.ottla(arguments, "");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("nowhere"), "{arguments:?}");
    }
    let bad_json = dev.ottla(&["produce", "t", "--json"], "{}\nnot json\n");
    assert_eq!(bad_json.status.code(), Some(1));
}

#[test]
fn wrong_usage_says_what_is_allowed_and_has_exit_code_2() {
    for (arguments, expected) in [
        (&["consume", "t", "--offset", "soon"][..], "--offset"),
        (&["consume", "t", "--format", "%q"], "--format"),
        (&["produce", "t", "--compression-codec", "rar"], "zstd"),
        (&["produce"], "TOPIC"),
        (&["topics"], "Usage"),
        (&["nonsense"], "nonsense"),
        (&["consume", "t", "-n", "-1"], "a number from 0 on"),
        (&["consume", "t", "-p", "-1"], "leave it out for all partitions"),
        (&["produce", "t", "-p", "-2"], "a partition's number, or any"),
        (&["groups", "list", "--state", "Stabel"], "did you mean Stable?"),
        (&["groups", "list", "--type", "foo"], "classic, consumer, share, streams"),
    ] {
        let output = run(arguments, "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(expected) && !said.contains("'-- "), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}

/// What one command writes, the next one reads while it is being written.
#[test]
fn a_large_pipe_goes_through_whole() {
    let dev = Dev::start(&["--topic", "t:4"]);
    let mut producer = Command::new(common::OTTLA)
        .args(["produce", "t", "--bootstrap-server", &dev.servers, "-z", "lz4"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = producer.stdin.take().unwrap();
    for n in 0..200_000 {
        writeln!(stdin, "{n}").unwrap();
    }
    drop(stdin);
    assert!(producer.wait().unwrap().success());
    let seen = all(&dev, "t", r"%v\n");
    let mut numbers: Vec<u32> = seen.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..200_000));
}
