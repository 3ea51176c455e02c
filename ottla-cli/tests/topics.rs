//! `ottla topics` against `ottla dev`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are drivers")]

mod common;

use common::{Dev, eventually};
use serde_json::Value;

fn lines(json: &str) -> Vec<Value> {
    json.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn topics_are_created_described_and_deleted() {
    let dev = Dev::start(&["--nodes", "3"]);
    dev.ok(&["topics", "create", "a", "b", "--partitions", "2", "--replication-factor", "3"], "");
    assert_eq!(dev.ok(&["topics", "list"], ""), "a\nb\n");
    let partitions = lines(&dev.ok(&["topics", "describe", "a", "--json"], ""));
    assert_eq!(partitions.len(), 2);
    assert_eq!(partitions[0]["replicas"].as_array().unwrap().len(), 3);
    assert_eq!(partitions[0]["offline"].as_array().unwrap().len(), 0);
    dev.ok(&["produce", "a", "-p", "1", "--format", r"%v\n"], "1\n2\n3\n");
    let partitions = lines(&dev.ok(&["topics", "describe", "a", "--json"], ""));
    assert_eq!((&partitions[1]["log_start"], &partitions[1]["log_end"]), (&Value::from(0), &Value::from(3)));
    dev.ok(&["topics", "configs", "a", "--set", "retention.ms=5"], "");
    eventually("what was set is told", || {
        let whole = dev.ok(&["topics", "describe", "a", "b"], "");
        let told = [
            "PARTITIONS  2\nREPLICAS    3\nSETTINGS    retention.ms=5\n\nTOPIC  PARTITION  LEADER",
            "\n\nTOPIC       b\n",
        ];
        told.iter().all(|told| whole.contains(told)).then_some(())
    });
    let all = dev.ok(&["topics", "describe"], "");
    assert_eq!((all.lines().count(), all.split_whitespace().next()), (1 + 4, Some("TOPIC")), "{all}");
    assert_eq!(dev.ok(&["topics", "describe", "--unavailable", "--json"], ""), "");

    let again = dev.ottla(&["topics", "create", "a", "c"], "");
    assert_eq!(again.status.code(), Some(1), "one of several failed");
    assert!(again.stdout.is_empty());
    dev.ok(&["topics", "create", "a", "--if-not-exists"], "");
    dev.ok(&["topics", "delete", "a", "b", "c"], "");
    assert_eq!(dev.ok(&["topics", "list"], ""), "");
    assert_eq!(dev.ottla(&["topics", "delete", "a"], "").status.code(), Some(1));
    dev.ok(&["topics", "delete", "a", "--if-exists"], "");
}

#[test]
fn settings_are_printed_and_changed() {
    let dev = Dev::start(&["--topic", "t:1"]);
    // A broker may learn of a change a moment later than the controller.
    let wait_for = |expected: &[(&str, &str)]| {
        eventually("the settings", || {
            let entries = lines(&dev.ok(&["topics", "configs", "t", "--json"], ""));
            let found: Vec<_> = entries
                .iter()
                .map(|one| (one["name"].as_str().unwrap(), one["value"].as_str().unwrap()))
                .collect();
            (found == expected).then_some(())
        });
    };
    wait_for(&[]);
    dev.ok(&["topics", "configs", "t", "--set", "retention.ms=5", "--append", "cleanup.policy=compact"], "");
    wait_for(&[("cleanup.policy", "delete,compact"), ("retention.ms", "5")]);
    let table = dev.ok(&["topics", "configs", "t", "--all"], "");
    assert!(table.contains("t      retention.ms ") && table.contains("default"), "{table}");
    dev.ok(&["topics", "configs", "t", "--set", "retention.ms=6", "--dry-run"], "");
    dev.ok(
        &["topics", "configs", "t", "--delete", "retention.ms", "--subtract", "cleanup.policy=delete"],
        "",
    );
    wait_for(&[("cleanup.policy", "compact")]);

    let wrong = dev.ottla(&["topics", "configs", "t", "u", "--set", "retention.ms=soon"], "");
    assert_eq!(wrong.status.code(), Some(1));
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(said.contains("INVALID_CONFIG") && said.contains("failed for t, u"), "{said}");
}

#[test]
fn the_oldest_records_go_up_to_an_offset_a_time_or_the_end() {
    let dev = Dev::start(&["--topic", "t:2"]);
    dev.ok(&["produce", "t", "-p", "0"], "a\nb\nc\n");
    dev.ok(&["produce", "t", "-p", "1"], "x\ny\n");
    let begins = |arguments: &[&str]| {
        let deleted = dev.ok(&[&["topics", "delete-records", "--json"], arguments].concat(), "");
        let begin = |line: &Value| (line["partition"].as_i64().unwrap(), line["log_start"].as_i64().unwrap());
        lines(&deleted).iter().map(begin).collect::<Vec<_>>()
    };
    assert_eq!(begins(&["t", "--before", "@-1h"]), [(0, 0), (1, 0)], "nothing is as old as that");
    assert_eq!(begins(&["t:0", "--before", "2"]), [(0, 2)]);
    assert_eq!(dev.ok(&["consume", "t", "-p", "0", "--from-beginning", "-e"], ""), "c\n");
    assert_eq!(dev.ok(&["consume", "t", "-p", "1", "--from-beginning", "-e"], ""), "x\ny\n");

    for (wrong, why) in [
        (&["t", "--before", "9"][..], "OFFSET_OUT_OF_RANGE"),
        (&["t:0,2", "--before", "end"], "t has no partition 2"),
        (&["s", "--before", "end"], "there is no topic s; did you mean t?"),
        (&["s:0", "--before", "@5"], "there is no topic s"),
        (&["t", "s", "--before", "end"], "there is no topic s"),
    ] {
        let output = dev.ottla(&[&["topics", "delete-records"][..], wrong].concat(), "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(why), "{wrong:?}: {said}");
    }
    assert_eq!(
        begins(&["t", "--before", "0"]),
        [(0, 2), (1, 0)],
        "where something is wrong nothing is deleted"
    );
    assert_eq!(begins(&["t:1", "t:1", "--before", "@2100-01-01"]), [(1, 2)], "everything is older");
    assert_eq!(begins(&["t", "--before", "end"]), [(0, 3), (1, 2)]);
}

#[test]
fn topics_get_more_partitions_and_never_fewer() {
    let dev = Dev::start(&["--topic", "t:1"]);
    dev.ok(&["topics", "add-partitions", "t", "--partitions", "4", "--dry-run"], "");
    let output = dev.ottla(&["topics", "add-partitions", "t", "--partitions", "3"], "");
    assert!(String::from_utf8_lossy(&output.stderr).contains("t has 3 partitions"));
    eventually("each has a leader", || {
        let partitions = lines(&dev.ok(&["topics", "describe", "t", "--json"], ""));
        (partitions.len() == 3 && partitions.iter().all(|one| one["leader"].is_number())).then_some(())
    });
    dev.ok(&["produce", "t", "-p", "2"], "new\n");
    assert_eq!(dev.ok(&["consume", "t", "-p", "2", "--from-beginning", "-e"], ""), "new\n");
    let fewer = dev.ottla(&["topics", "add-partitions", "t", "--partitions", "2"], "");
    assert_eq!(fewer.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&fewer.stderr).contains("would not be an increase"));
}

#[test]
fn what_is_named_twice_is_meant_once() {
    let dev = Dev::start(&[]);
    dev.ok(&["topics", "create", "t", "t", "--partitions", "2"], "");
    dev.ok(&["produce", "t", "-p", "1"], "x\n");
    for twice in [&["t", "t"][..], &["t", "-p", "1,1"], &["t", "t", "-p", "0,1,0"]] {
        let read = [&["consume", "--from-beginning", "--exit"][..], twice].concat();
        assert_eq!(dev.ok(&read, ""), "x\n", "{twice:?}");
    }
    for verb in [&["configs", "--set", "retention.ms=5"][..], &["add-partitions", "--partitions", "3"]] {
        dev.ok(&[&["topics"], verb, &["t", "t", "--json"]].concat(), "");
    }
    eventually("there are three", || {
        let described = dev.ok(&["topics", "describe", "t", "t", "--json"], "");
        (described.lines().count() == 3).then_some(())
    });
    let moved =
        dev.ok(&["groups", "seek", "g", "t:0", "t:1", "t:0", "--to", "end", "--execute", "--json"], "");
    assert_eq!(moved.lines().count(), 2, "{moved}");
    assert_eq!(dev.ok(&["groups", "describe", "g", "g", "--json"], "").lines().count(), 1);
    dev.ok(&["groups", "delete-offsets", "g", "t:0", "t:0", "t"], "");
    assert_eq!(dev.ok(&["groups", "delete", "g", "g", "--json"], "").lines().count(), 1);
    assert_eq!(dev.ok(&["topics", "delete", "t", "t", "--json"], "").lines().count(), 1);
}
