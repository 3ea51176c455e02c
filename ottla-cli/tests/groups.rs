//! `ottla consume --group` and `ottla groups` against `ottla dev`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are drivers")]

mod common;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{Dev, Running, eventually, terminate};
use serde_json::Value;

/// What a member prints of `t`, from the start.
const MEMBER: [&str; 9] =
    ["consume", "t", "--group", "g", "--offset", "earliest", "--session-timeout", "6s", "--format"];

fn member(dev: &Dev, arguments: &[&str]) -> Running {
    Running::start(&[&MEMBER, &[r"%v\n"][..], arguments, &["-b", &dev.servers]].concat())
}

/// The lines of these numbers.
fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!("{n}\n")).collect()
}

fn as_numbers(lines: Vec<String>) -> Vec<u32> {
    lines.iter().map(|line| line.parse().unwrap()).collect()
}

fn sorted(lines: Vec<String>) -> Vec<u32> {
    let mut numbers = as_numbers(lines);
    numbers.sort_unstable();
    numbers
}

fn describe(dev: &Dev, group: &str) -> Value {
    let described = dev.ok(&["groups", "describe", group, "--json"], "");
    serde_json::from_str(&described).unwrap()
}

/// What the group has committed of the first partition.
fn committed(dev: &Dev) -> Option<i64> {
    let group = dev.ottla(&["groups", "describe", "g", "--json"], "");
    let group: Value = serde_json::from_slice(&group.stdout).ok()?;
    group["partitions"][0]["committed"].as_i64()
}

/// Waits until every member has so many partitions.
fn wait_for_assignment(dev: &Dev, partitions: &[usize]) {
    eventually("the partitions are shared", || {
        let output = dev.ottla(&["groups", "describe", "g", "--json"], "");
        let group: Value = serde_json::from_slice(&output.stdout).ok()?;
        let has = |member: &Value| member["assignment"].as_array().map_or(0, Vec::len);
        let mut assigned: Vec<_> = group["members"].as_array()?.iter().map(has).collect();
        assigned.sort_unstable();
        (group["state"] == "Stable" && assigned == partitions).then_some(())
    });
}

#[test]
fn after_a_sigterm_a_restart_prints_nothing_twice() {
    let dev = Dev::start(&["--topic", "t:3"]);
    dev.ok(&["produce", "t"], &numbers(0..300));
    let first = member(&dev, &[]);
    assert_eq!(sorted(first.lines(300)), (0..300).collect::<Vec<_>>());
    terminate(&first.process);
    assert_eq!(first.end(), (Some(0), vec![]));

    let group = describe(&dev, "g");
    assert_eq!((&group["state"], &group["lag"]), (&Value::from("Empty"), &Value::from(0)));
    dev.ok(&["produce", "t"], &numbers(300..400));
    let second = member(&dev, &["-n", "100"]);
    let (code, lines) = second.end();
    assert_eq!((code, sorted(lines)), (Some(0), (300..400).collect()));
}

#[test]
fn a_number_of_records_is_printed_and_committed() {
    let dev = Dev::start(&["--topic", "t:1"]);
    dev.ok(&["produce", "t"], &numbers(0..30));
    for range in [0..10, 10..30] {
        let (code, lines) = member(&dev, &["-n", &range.len().to_string()]).end();
        assert_eq!((code, as_numbers(lines)), (Some(0), range.collect()));
    }
}

#[test]
fn a_topic_that_is_not_there_is_told_and_the_others_are_read() {
    let dev = Dev::start(&["--topic", "t:1"]);
    dev.ok(&["produce", "t"], &numbers(0..10));
    let settings = ["-X", "default.api.timeout.ms=1000", "-b", &dev.servers];
    let mut member = Command::new(common::OTTLA);
    member.args(["consume", "t", "no-such", "--group", "g", "--offset", "earliest"]).args(settings);
    let mut member = member.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(member.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.starts_with("ottla: ") && line.contains("topic no-such")));
    dev.ok(&["produce", "t"], &numbers(10..20));
    let printed = BufReader::new(member.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(as_numbers(printed.take(20).collect()), (0..20).collect::<Vec<_>>());
    terminate(&member);
    assert_eq!(member.wait().unwrap().code(), Some(0));

    let alone = ["consume", "no-such", "--group", "g"];
    let alone = common::run(&[&alone[..], &settings].concat(), "");
    assert_eq!(alone.status.code(), Some(1), "nothing else is there to wait for");
}

#[test]
fn members_share_the_partitions_and_the_others_take_over_from_one_that_is_killed() {
    let dev = Dev::start(&["--nodes", "3", "--topic", "t:4"]);
    let (mut killed, other) = (member(&dev, &[]), member(&dev, &[]));
    wait_for_assignment(&dev, &[2, 2]);
    dev.ok(
        &["produce", "t", "--key-separator", ":"],
        &(0..400).map(|n| format!("{n}:{n}\n")).collect::<String>(),
    );
    let mut seen: Vec<String> = Vec::new();
    eventually("all records are printed", || {
        seen.extend(killed.lines_so_far());
        seen.extend(other.lines_so_far());
        (seen.len() >= 400).then_some(())
    });
    assert_eq!(sorted(seen), (0..400).collect::<Vec<_>>(), "each by one of them");

    killed.process.kill().unwrap();
    killed.process.wait().unwrap();
    let printed = killed.lines_so_far();
    assert!(printed.is_empty(), "{printed:?}");
    dev.ok(
        &["produce", "t", "--key-separator", ":"],
        &(400..800).map(|n| format!("{n}:{n}\n")).collect::<String>(),
    );
    let mut seen = BTreeSet::new();
    eventually("the other one prints all that is new", || {
        seen.extend(as_numbers(other.lines_so_far()));
        (400..800).all(|n| seen.contains(&n)).then_some(())
    });
    wait_for_assignment(&dev, &[4]);
    terminate(&other.process);
    assert_eq!(other.end().0, Some(0));
    assert_eq!(describe(&dev, "g")["lag"], 0);
}

#[test]
fn what_nobody_reads_is_not_complete() {
    let dev = Dev::start(&["--topic", "t:1"]);
    let lines: String = (0..100).map(|n| format!("{n:010000}\n")).collect();
    dev.ok(&["produce", "t"], &lines);
    let mut unread = Running::start_unread(&[&MEMBER[..], &["%v\\n", "-b", &dev.servers]].concat());
    // Its pipe is full long before the hundredth record, and then its reader goes away.
    eventually("something is committed", || committed(&dev).filter(|committed| *committed > 0));
    drop(unread.process.stdout.take());
    assert_eq!(unread.end().0, Some(0), "the reader went away, which is no failure");
    let committed = committed(&dev).unwrap();
    assert!(committed < 100, "{committed} are committed");
    let next = member(&dev, &["-n", "1"]).end().1;
    assert_eq!(as_numbers(next), [committed as u32]);
}

/// It has nothing to write, and so no write that would fail.
#[test]
fn a_member_leaves_when_its_reader_does() {
    let dev = Dev::start(&["--topic", "t:1"]);
    dev.ok(&["produce", "t"], &numbers(0..100));
    let mut read = Running::start_unread(&[&MEMBER[..], &["%v\\n", "-b", &dev.servers]].concat());
    let lines = BufReader::new(read.process.stdout.take().unwrap()).lines();
    assert_eq!(lines.take(100).count(), 100);
    assert_eq!(read.end(), (Some(0), vec![]));
    let group = describe(&dev, "g");
    assert_eq!((&group["state"], &group["lag"]), (&Value::from("Empty"), &Value::from(0)));
}

/// Whoever runs programs kills them half a minute after it has asked them to stop.
#[test]
fn a_coordinator_that_stands_still_holds_up_nobody_who_is_told_to_stop() {
    let dev = Dev::start(&["--topic", "t:1"]);
    dev.ok(&["produce", "t"], &numbers(0..10));
    let mut command = Command::new(common::OTTLA);
    command.args(&MEMBER[..]).args(["%v\\n", "-b", &dev.servers]).stdin(Stdio::null());
    let mut stopped = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(stopped.stdout.as_mut().unwrap()).lines();
    assert_eq!(lines.take(10).count(), 10);
    let frozen = Command::new("kill").args(["-STOP", &dev.id().to_string()]).status().unwrap();
    assert!(frozen.success());
    let begin = Instant::now();
    terminate(&stopped);
    let output = stopped.wait_with_output().unwrap();
    let (took, said) = (begin.elapsed(), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(took < Duration::from_secs(20), "{took:?}: {said}");
    assert!(said.contains("may not be committed") || said.contains("leaving g"), "{said}");
}

#[test]
fn a_second_signal_ends_even_a_member_that_is_stuck() {
    let dev = Dev::start(&["--topic", "t:1"]);
    let line = "x".repeat(10_000);
    let lines: String = (0..100).map(|_| format!("{line}\n")).collect();
    dev.ok(&["produce", "t"], &lines);
    // Its pipe is full long before the hundredth record.
    let mut stuck = Running::start_unread(&[&MEMBER[..], &["%v\\n", "-b", &dev.servers]].concat());
    eventually("something is committed", || committed(&dev).filter(|committed| *committed > 0));
    terminate(&stuck.process);
    // Two signals that come at once may be one.
    let status = eventually("it ends", || {
        terminate(&stuck.process);
        stuck.process.try_wait().unwrap()
    });
    assert_eq!(status.code(), Some(1));
}

#[test]
fn groups_are_listed_described_and_deleted() {
    let dev = Dev::start(&["--topic", "t:2"]);
    dev.ok(&["produce", "t"], &numbers(0..10));
    let running = member(&dev, &["--assignor", "range", "--group-instance-id", "one"]);
    running.lines(10);
    wait_for_assignment(&dev, &[2]);
    eventually("the commits are there", || (describe(&dev, "g")["lag"] == 0).then_some(()));
    let listed = dev.ok(&["groups", "list", "--state", "stable"], "");
    assert_eq!(listed.lines().nth(1).unwrap().split_whitespace().next(), Some("g"), "{listed}");
    assert_eq!(dev.ok(&["groups", "list", "--state", "empty", "--json"], ""), "");
    let group = describe(&dev, "g");
    assert_eq!(group["assignor"], "range");
    assert_eq!(group["members"][0]["instance_id"], "one");
    let table = dev.ok(&["groups", "describe", "g"], "");
    assert!(table.contains("TOTAL-LAG    0\n") && table.contains("t      1"), "{table}");
    assert!(!dev.ok(&["groups", "describe", "g", "--lag", ">0"], "").contains("LOG-END"));

    let busy = dev.ottla(&["groups", "delete", "g"], "");
    assert_eq!(busy.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&busy.stderr).contains("NON_EMPTY_GROUP"));
    let subscribed = dev.ottla(&["groups", "delete-offsets", "g", "t:1"], "");
    assert!(String::from_utf8_lossy(&subscribed.stderr).contains("GROUP_SUBSCRIBED_TO_TOPIC"));
    terminate(&running.process);
    assert_eq!(running.end().0, Some(0));

    // A static member leaves when its session is over.
    eventually("the group is empty", || (describe(&dev, "g")["state"] == "Empty").then_some(()));
    dev.ok(&["groups", "delete-offsets", "g", "t:1"], "");
    let left = describe(&dev, "g");
    assert_eq!(left["partitions"].as_array().unwrap().len(), 1);
    dev.ok(&["groups", "delete", "g"], "");
    assert_eq!(dev.ottla(&["groups", "describe", "g"], "").status.code(), Some(1));
    dev.ok(&["groups", "delete", "g", "--if-exists"], "");
}

/// What `groups seek` prints: topic, partition, committed, new.
fn moves(printed: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| line.split_whitespace().take(4).map(str::to_owned).collect();
    printed.lines().skip(1).map(cells).collect()
}

#[test]
fn a_group_is_moved_when_nobody_is_in_it_and_only_on_demand() {
    let dev = Dev::start(&["--topic", "t:2", "--topic", "u:1"]);
    for partition in ["0", "1"] {
        dev.ok(&["produce", "t", "-p", partition], &numbers(0..10));
    }
    dev.ok(&["produce", "u"], &numbers(0..10));
    let seek = |arguments: &[&str]| dev.ottla(&[&["groups", "seek"], arguments].concat(), "");
    let seen = |arguments: &[&str]| {
        let output = seek(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        moves(&String::from_utf8(output.stdout).unwrap())
    };
    let nothing = seek(&["g", "--to", "start"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("name the topics"));

    let running = member(&dev, &[]);
    running.lines(20);
    eventually("the commits are there", || (describe(&dev, "g")["lag"] == 0).then_some(()));
    let busy = seek(&["g", "--to", "start", "--execute"]);
    assert_eq!(busy.status.code(), Some(1));
    let said = String::from_utf8_lossy(&busy.stderr);
    assert!(said.contains("g is Stable and has members (1): stop them first"), "{said}");
    terminate(&running.process);
    assert_eq!(running.end().0, Some(0));

    let first = [["t", "0", "10", "0"], ["t", "1", "10", "0"]];
    assert_eq!(seen(&["g", "--to", "start"]), first);
    assert_eq!(seen(&["g", "--to", "start", "--dry-run"]), first);
    assert_eq!(describe(&dev, "g")["lag"], 0, "nothing has changed");
    assert_eq!(seen(&["g", "t:1", "--to", "-3", "--execute"]), [["t", "1", "10", "7"]]);
    assert_eq!(describe(&dev, "g")["lag"], 3);
    assert_eq!(seen(&["g", "t:1", "--shift-by", "-3"]), [["t", "1", "7", "4"]]);
    assert_eq!(seen(&["g", "t:0", "--to", "@1970-01-02"]), [["t", "0", "10", "0"]]);
    assert_eq!(seen(&["g", "t:0", "--to-datetime", "-1h"]), [["t", "0", "10", "0"]]);
    assert_eq!(seen(&["g", "u", "--to-offset", "99"]), [["u", "0", "-", "10"]], "no further than the log");
    let far = ["g", "u", "--to-offset", "5000000000"];
    assert_eq!(seen(&far), [["u", "0", "-", "10"]], "offsets are no 32 bits");
    assert_eq!(seen(&["new", "--to-group", "g", "-y"]), [["t", "0", "-", "10"], ["t", "1", "-", "7"]]);
    assert_eq!(describe(&dev, "new")["lag"], 3);
    assert_eq!(
        dev.ok(&["groups", "seek", "g", "t:0", "--to-earliest", "--execute", "--json"], ""),
        "{\"changed\":true,\"committed\":10,\"group\":\"g\",\"log_end\":10,\"log_start\":0,\"new\":0,\
         \"partition\":0,\"topic\":\"t\"}\n"
    );

    let some = seek(&["g", "t:0,7", "no-such", "u", "--to", "+1"]);
    assert_eq!(some.status.code(), Some(1), "one item that fails is enough");
    let said = String::from_utf8_lossy(&some.stderr);
    for words in ["t-7: there is no such partition", "no-such: ", "u-0: nothing is committed to count from"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(moves(&String::from_utf8(some.stdout).unwrap()), [["t", "0", "0", "1"]]);
}

#[test]
fn arguments_that_make_no_sense_together_are_refused() {
    for wrong in [
        &["consume", "a", "-g", "g", "--max-messages-per-partition", "1"][..],
        &["consume", "a", "-g", "g", "-o", "10:20"],
        &["consume", "a", "-g", "g", "-p", "0"],
        &["consume", "a", "-g", "g", "--exit"],
        &["consume", "a", "--assignor", "range"],
        &["consume", "a", "-g", "g", "--assignor", "sticky"],
        &["groups", "describe"],
        &["groups", "describe", "g", "--lag", "some"],
        &["groups", "delete-offsets", "g", "t:x"],
        &["groups", "seek", "g", "t"],
        &["groups", "seek", "g", "--to", "1:2"],
        &["groups", "seek", "g", "--to", "start", "--to-latest"],
        &["groups", "seek", "g", "--to", "start", "--execute", "--dry-run"],
    ] {
        assert_eq!(common::run(wrong, "").status.code(), Some(2), "{wrong:?}");
    }
}
