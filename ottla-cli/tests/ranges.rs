//! `ottla consume`: what is read, from where, until where, and which of it is printed.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are drivers")]

mod common;

use common::Dev;

/// Ten records, a second apart.
const FIRST: i64 = 1_700_000_000_000;

fn with_ten() -> Dev {
    let dev = Dev::start(&["--topic", "t:1"]);
    let line = |n: i64| format!("{{\"value\":\"{n}\",\"timestamp\":{}}}\n", FIRST + n * 1_000);
    dev.ok(&["produce", "t", "--json"], &(0..10).map(line).collect::<String>());
    dev
}

#[test]
fn every_range_is_what_it_says() {
    let dev = with_ten();
    for (range, expected) in [
        ("earliest", "0 1 2 3 4 5 6 7 8 9 "),
        ("start", "0 1 2 3 4 5 6 7 8 9 "),
        ("end", ""),
        ("7", "7 8 9 "),
        ("-2", "8 9 "),
        ("+8", "8 9 "),
        ("3:5", "3 4 "),
        ("3:+2", "3 4 "),
        ("-5:-3", "5 6 "),
        (":2", "0 1 "),
        ("8:99", "8 9 "),
        ("@1700000008000", "8 9 "),
        ("@1700000001500:1700000004000", "2 3 "),
        ("@2023-11-14T22:13:29Z", "9 "),
        ("@2023-11-14T22:13:22Z:+2s", "2 3 "),
        ("@:2023-11-14T22:13:22Z", "0 1 "),
        ("@-1h", ""),
        ("@:-1h", "0 1 2 3 4 5 6 7 8 9 "),
    ] {
        assert_eq!(dev.ok(&["consume", "t", "-o", range, "-e", "-f", "%v "], ""), expected, "{range}");
    }
}

#[test]
fn an_end_in_the_range_ends_it_without_being_asked_to_exit() {
    let dev = with_ten();
    assert_eq!(dev.ok(&["consume", "t", "-o", "3:5", "-f", "%v "], ""), "3 4 ");
    assert_eq!(dev.ok(&["consume", "t", "--from-beginning", "-n", "3", "-f", "%v "], ""), "0 1 2 ");
    assert_eq!(
        dev.ok(&["consume", "t", "--from-beginning", "--timeout", "300ms", "-f", "%v "], ""),
        "0 1 2 3 4 5 6 7 8 9 "
    );
}

#[test]
fn a_start_that_is_not_there_is_a_failure_that_tells_what_to_do() {
    let dev = with_ten();
    let refused = dev.ottla(&["consume", "t", "-o", "42"], "");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("--offset 42 is out of range: t-0 has offsets 0 to 9"), "{said}");
    assert!(said.contains("--offset latest") && said.contains("-N"), "{said}");
}

#[test]
fn several_topics_are_read_and_expressions_find_them() {
    let dev = Dev::start(&["--topic", "orders-eu:1", "--topic", "orders-us:2", "--topic", "refunds:1"]);
    for topic in ["orders-eu", "orders-us", "refunds"] {
        dev.ok(&["produce", topic], &format!("{topic}\n"));
    }
    let all = |arguments: &[&str]| {
        let printed = dev.ok(&[&["consume", "--from-beginning", "--exit"], arguments].concat(), "");
        let mut lines: Vec<_> = printed.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(all(&["orders-eu", "refunds"]), ["orders-eu", "refunds"]);
    assert_eq!(all(&["--regex", "^orders-"]), ["orders-eu", "orders-us"]);
    let none = dev.ottla(&["consume", "-r", "^nothing"], "");
    assert!(String::from_utf8_lossy(&none.stderr).contains("no topic matches ^nothing"));
}

#[test]
fn each_partition_may_have_a_limit_of_its_own() {
    let dev = Dev::start(&["--topic", "t:3"]);
    for partition in ["0", "1", "2"] {
        dev.ok(&["produce", "t", "-p", partition], "a\nb\nc\n");
    }
    let printed = dev
        .ok(&["consume", "t", "--from-beginning", "--max-messages-per-partition", "2", "-f", "%p%v\n"], "");
    let mut lines: Vec<_> = printed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["0a", "0b", "1a", "1b", "2a", "2b"]);
}

#[test]
fn filters_choose_what_is_printed() {
    let dev = Dev::start(&["--topic", "t:1"]);
    dev.ok(
        &["produce", "t", "--json"],
        r#"{"key":"ada","value":"one","headers":[["via","web"]]}
{"key":"bob","value":"two","headers":[["via","app"],["retry","1"]]}
{"value":"Drei"}
{"key":"tomb","value":null}
"#,
    );
    for (filters, expected) in [
        (&["k:^ada$"][..], "0 "),
        (&["k:a|b"], "0 1 3 "),
        (&["!k:a"], "1 2 3 "),
        (&["v:o"], "0 1 "),
        (&["v:o", "!h:via=web"], "1 "),
        (&["v:(?i)drei"], "2 "),
        (&["hk:^retry$"], "1 "),
        (&["hv:web|1"], "0 1 "),
        (&["!v:"], "3 "),
        (&["t:nothing"], ""),
    ] {
        let arguments: Vec<_> = filters.iter().flat_map(|filter| ["--grep", filter]).collect();
        let all = [&["consume", "t", "--from-beginning", "-e", "-f", "%o "], &arguments[..]].concat();
        assert_eq!(dev.ok(&all, ""), expected, "{filters:?}");
    }
    // What is counted is what is printed.
    let two = ["consume", "t", "--from-beginning", "-n", "2", "-G", "v:o|D", "-f", "%i%v "];
    assert_eq!(dev.ok(&two, ""), "1one 2two ");
    assert_eq!(dev.ottla(&["consume", "t", "-G", "x:y"], "").status.code(), Some(2));
}
