//! `ottla produce` and `ottla consume` with format strings.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are drivers")]

mod common;

use std::{
    io::Write,
    process::{Command, Stdio},
};

use common::{Dev, run};

const ALL: [&str; 3] = ["--from-beginning", "--exit", "--format"];

/// All records of a topic, in a format.
fn all(dev: &Dev, topic: &str, format: &str) -> String {
    dev.ok(&[&["consume", topic][..], &ALL, &[format]].concat(), "")
}

/// The same for bytes that need not be text.
fn piped(dev: &Dev, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(common::OTTLA);
    command.args(arguments).args(["-b", &dev.servers]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(input).unwrap();
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    output.stdout
}

/// Kafka's people know this line from kcl. Null is not empty, and bytes need not be text.
#[test]
fn lengths_in_front_lose_nothing() {
    let dev = Dev::start(&["--topic", "from:1", "--topic", "to:1"]);
    let lines = [
        r#"{"key":null,"value":null}"#,
        r#"{"key":"","value":"","headers":[["h",null],["h",""],["","x"]]}"#,
        r#"{"key":{"base64":"/wA="},"value":"a\nb"}"#,
    ];
    dev.ok(&["produce", "from", "--json"], &lines.join("\n"));
    let format = "%K{big32}%k%V{big32}%v%H{big32}%h{%K{big32}%k%V{big32}%v}%d{big64}";
    let binary = piped(&dev, &[&["consume", "from"][..], &ALL, &[format]].concat(), b"");
    piped(&dev, &["produce", "to", "--format", format], &binary);
    let json = |topic| dev.ok(&["consume", topic, "--from-beginning", "--exit", "--json"], "");
    assert_eq!(json("from").replace(r#""topic":"from""#, r#""topic":"to""#), json("to"));
    assert_eq!(json("to").lines().count(), 3);
}

#[test]
fn records_say_where_they_go() {
    let dev = Dev::start(&["--topic", "a:2", "--topic", "b:2"]);
    dev.ok(&["produce", "--format", r"%t %p %d %k=%v\n"], "a 1 5 k=one\nb 0 6 k=two\n");
    assert_eq!(all(&dev, "a", r"%t %p %d %k %v\n"), "a 1 5 k one\n");
    assert_eq!(all(&dev, "b", r"%t %p %d{strftime[%F %T.%L]} %v\n"), "b 0 1970-01-01 00:00:00.006 two\n");
    // What is said on the command line wins.
    dev.ok(&["produce", "b", "-p", "1", "--json"], r#"{"topic":"a","partition":0,"value":"three"}"#);
    assert_eq!(dev.ok(&["consume", "b", "-p", "1", "-o", "earliest", "-e"], ""), "three\n");
    let nowhere = dev.ottla(&["produce", "--json"], r#"{"value":"four"}"#);
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("line 1: it has no topic"));
}

#[test]
fn any_partition_follows_the_key_whatever_the_line_says() {
    let dev = Dev::start(&["--topic", "t:4"]);
    let line = |n: i32| format!("{{\"key\":\"same\",\"value\":\"{n}\",\"partition\":{}}}\n", n % 4);
    dev.ok(&["produce", "t", "--json", "-p", "any"], &(0..8).map(line).collect::<String>());
    let seen = all(&dev, "t", "%p ");
    let partitions: Vec<_> = seen.split_whitespace().collect();
    assert_eq!(partitions, vec![partitions[0]; 8]);
}

#[test]
fn a_whole_file_is_one_record_and_a_long_input_is_bounded() {
    let dev = Dev::start(&["--topic", "t:1"]);
    dev.ok(&["produce", "t", "--key", "file", "--format", "%v"], "first\nsecond\n");
    assert_eq!(all(&dev, "t", "%k: %v"), "file: first\nsecond\n");
    let long = "x".repeat(2_000);
    for arguments in [&["--format", "%v\\n"][..], &["--json"]] {
        let arguments = [&["produce", "t", "--max-record-bytes", "1000"], arguments].concat();
        let refused = dev.ottla(&arguments, &long);
        assert_eq!(refused.status.code(), Some(1));
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains(" 1: longer than 1000 bytes; --max-record-bytes"), "{said}");
    }
}

#[test]
fn what_was_written_is_printed_with_its_place() {
    let dev = Dev::start(&["--topic", "t:1"]);
    let printed = dev.ok(
        &["produce", "t", "--key-separator", ":", "--output-format", r"%i %t/%p@%o %k=%v\n"],
        "a:1\nb:2\n",
    );
    assert_eq!(printed, "1 t/0@0 a=1\n2 t/0@1 b=2\n");
}

#[test]
fn json_values_may_have_many_lines() {
    let dev = Dev::start(&["--topic", "t:1"]);
    dev.ok(&["produce", "t", "--format", "%v{json}"], "{\n  \"a\": 1\n}\n{ \"b\": \"}\" }\n");
    assert_eq!(all(&dev, "t", "<%v>"), "<{\n  \"a\": 1\n}><{ \"b\": \"}\" }>");
}

/// What only a log says: epochs, the producer, the batch, where the log begins and ends.
#[test]
fn a_record_that_is_read_says_where_it_was() {
    let dev = Dev::start(&["--topic", "t:1"]);
    let long = "x".repeat(1_000);
    dev.ok(&["produce", "t", "-z", "lz4"], &format!("{long}\n{long}\n"));
    let seen = all(&dev, "t", r"%e %y %a{compression} %a{transactional-bit;bool} %[ %| %]\n");
    assert_eq!(seen, "0 0 lz4 false 0 2 2\n0 0 lz4 false 0 2 2\n");
    assert!(all(&dev, "t", "%x ").split_whitespace().all(|id| id.parse::<u64>().is_ok()));
    // What is printed may be read back; where a record was does not say where it goes.
    dev.ok(&["produce", "t", "--format", r"%o %e %x %y %v\n"], "900 8 7 6 c\n");
    dev.ok(&["produce", "t", "--format", r"%k{re[\d+]}%v{re[[a-z]+]}\n"], "1d\n");
    assert_eq!(dev.ok(&["consume", "t", "-o", "2", "-e", "-f", r"%o %k %v\n"], ""), "2  c\n3 1 d\n");
}

#[test]
fn a_format_that_makes_no_sense_is_refused_with_what_would() {
    let dev = Dev::start(&["--topic", "t:1"]);
    for (arguments, said) in [
        (&["produce", "t", "--format", "%k%v"][..], "where does the key end?"),
        (&["produce", "t", "--format", "%q"], "'%q' is not a verb"),
        (&["produce", "--format", r"%v\n"], "which topic?"),
        (&["produce", "t", "--key-separator", ""], "empty"),
        (&["consume", "t", "--format", "%v{rot13}"], "'rot13'"),
        (&["consume", "t", "--format", "%D"], "%D is the delivery count of a share group"),
        (&["produce", "t", "--format", r"%] %v\n"], "%[ %| %] are for printing only"),
        (&["produce", "t", "--output-format", "%e"], "the acknowledgement of a record does not say them"),
    ] {
        let output = dev.ottla(arguments, "a\n");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
    let help = String::from_utf8(run(&["consume", "--help"], "").stdout).unwrap();
    assert!(help.contains("%K  its length in bytes, -1 for none"), "{help}");
}
