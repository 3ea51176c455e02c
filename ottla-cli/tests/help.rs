//! What the command says about itself, and to somebody who has mistyped.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are drivers")]

mod common;

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use common::{Dev, eventually, run};

#[test]
fn the_page_of_the_command_is_what_the_command_says() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md")).unwrap();
    let written = String::from_utf8(run(&["reference"], "").stdout).unwrap();
    let difference = page.lines().zip(written.lines()).find(|(page, written)| page != written);
    assert_eq!(difference, None, "cargo run -p ottla-cli -- reference > docs/cli.md");
    assert!(page == written, "cargo run -p ottla-cli -- reference > docs/cli.md");
}

/// Every command below that one, with the words that lead to it.
fn commands(words: Vec<String>) -> Vec<Vec<String>> {
    let arguments: Vec<_> = words.iter().map(String::as_str).chain(["--help"]).collect();
    let help = String::from_utf8(run(&arguments, "").stdout).unwrap();
    let listed = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "));
    // What goes on in the next line is further to the right.
    let names = listed
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help");
    let below = names.map(|name| [words.clone(), vec![name.to_owned()]].concat());
    let below: Vec<_> = below.flat_map(commands).collect();
    [vec![words], below].concat()
}

#[test]
fn every_command_and_every_option_says_what_it_is_for() {
    let all = commands(Vec::new());
    assert!(all.len() > 25, "{all:?}");
    for command in all {
        let arguments: Vec<_> = command.iter().map(String::as_str).chain(["-h"]).collect();
        let output = run(&arguments, "");
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && !help.starts_with("Usage"), "{command:?} says nothing: {help}");
        let mut lines = help.lines().peekable();
        while let Some(line) = lines.next() {
            // What is long has its explanation below it.
            let below = lines.peek().is_some_and(|below| below.starts_with("          "));
            let beside = line.trim_start().split("  ").skip(1).any(|part| !part.trim().is_empty());
            let is_option = line.starts_with("  -") || line.starts_with("      --");
            assert!(!is_option || beside || below, "{command:?}: {line:?} in\n{help}");
        }
    }
}

/// The options in a help, each with the heading above it.
fn options(help: &str) -> Vec<(String, String)> {
    let mut heading = "";
    let mut options = Vec::new();
    for line in help.lines() {
        let text = line.trim_start();
        match line.strip_suffix(':') {
            Some(title) if !line.starts_with(' ') => heading = title,
            _ if text.starts_with('-') && line.len() - text.len() <= 6 => {
                let long = text.split([' ', ',', '=', '[']).find(|word| word.starts_with("--"));
                options.extend(long.map(|long| (heading.to_owned(), long.to_owned())));
            }
            _ => {}
        }
    }
    options
}

/// What belongs to the connection is told once on the page, so that nothing else may be listed under it.
#[test]
fn the_page_has_every_option_of_every_command() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md")).unwrap();
    let connection = ["--profile", "--command-config", "--property", "--bootstrap-server"];
    for command in commands(Vec::new()) {
        let name = [&["ottla".to_owned()][..], &command].concat().join(" ");
        let section = page.split("\n## ").find(|section| section.starts_with(&format!("{name}\n")));
        let told: Vec<_> = options(section.unwrap()).into_iter().map(|(_, option)| option).collect();
        let arguments: Vec<_> = command.iter().map(String::as_str).chain(["--help"]).collect();
        let help = String::from_utf8(run(&arguments, "").stdout).unwrap();
        for (heading, option) in options(&help) {
            let is_shared = connection.contains(&option.as_str());
            assert_eq!(heading == "Connection", is_shared, "{name} {option} is under {heading}");
            let is_told = is_shared || told.contains(&option);
            assert!(is_told || option == "--help" || option == "--version", "{name} {option}");
        }
    }
}

#[test]
fn whoever_mistypes_is_told_what_was_meant() {
    for (wrong, meant) in [
        (&["topic", "list"][..], "'topics'"),
        (&["consume", "t", "--from-begining"], "'--from-beginning'"),
        (&["groups", "descrbe", "g"], "'describe'"),
        (&["produce", "t", "--compression-codec", "gzi"], "'gzip'"),
    ] {
        let output = run(wrong, "");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {said}");
        assert!(said.contains("similar") && said.contains(meant), "{wrong:?}: {said}");
    }
    let dev = Dev::start(&["--topic", "orders:1"]);
    for (wrong, said) in [
        (&["consume", "order"][..], "there is no topic order; did you mean orders? `ottla topics list`"),
        (&["consume", "payments", "--exit"], "there is no topic payments. `ottla topics list`"),
        (&["topics", "describe", "ordrs"], "did you mean orders?"),
        (&["topics", "delete", "ordrs"], "did you mean orders?"),
        (&["topics", "configs", "ordrs"], "did you mean orders?"),
        (&["groups", "seek", "g", "ordrs", "--to", "end"], "did you mean orders?"),
    ] {
        let output = dev.ottla(wrong, "");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && stderr.contains(said), "{wrong:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{wrong:?}: a heading of nothing");
    }
}

/// `| head` is no failure, and nothing to talk about.
#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let dev = Dev::start(&["--topic", "t:1"]);
    dev.ok(&["produce", "t"], &"x\n".repeat(50_000));
    for command in [
        &["consume", "t", "--from-beginning"][..],
        &["consume", "t", "--from-beginning", "--exit", "--json"],
        &["reference"],
    ] {
        let mut started = Command::new(common::OTTLA);
        started.args(command).env("OTTLA_BOOTSTRAP_SERVERS", &dev.servers);
        let mut process =
            started.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::with_capacity(64, process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", output.status);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command:?}");
    }
}

/// A follower that has nothing to write has no write that would fail.
#[cfg(unix)]
#[test]
fn a_follower_ends_when_its_reader_does() {
    let dev = Dev::start(&["--topic", "t:1"]);
    dev.ok(&["produce", "t"], &"x\n".repeat(100));
    let mut started = Command::new(common::OTTLA);
    started.args(["consume", "t", "--from-beginning", "-b", &dev.servers]).stdin(Stdio::null());
    let mut process = started.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    assert_eq!(lines.take(100).count(), 100);
    assert!(eventually("it ends", || process.try_wait().unwrap()).success());
}

#[cfg(unix)]
#[test]
fn an_interrupt_is_heeded_at_once() {
    let dev = Dev::start(&["--topic", "t:1"]);
    dev.ok(&["produce", "t"], "x\n");
    for (command, signal, code) in [
        (&["consume", "t", "-o", "earliest"][..], "-INT", 0),
        (&["consume", "t", "-g", "g", "-o", "earliest"], "-INT", 0),
        // Its input does not end; nothing of it is in doubt. It leaves signals as it found them, and who runs tests in the
        // background has SIGINT ignored.
        (&["produce", "t", "--output-format", r"%v\n"], "-TERM", 143),
    ] {
        let mut started = Command::new(common::OTTLA);
        started.args(command).env("OTTLA_BOOTSTRAP_SERVERS", &dev.servers);
        let mut process =
            started.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut input = process.stdin.take().unwrap();
        std::io::Write::write_all(&mut input, b"x\n").ok();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "x\n", "{command:?}");
        let begin = Instant::now();
        assert!(Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap().success());
        let status = eventually("it ends", || process.try_wait().unwrap());
        let by_signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal);
        assert_eq!(status.code().or(by_signal), Some(code), "{command:?}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{command:?}: {:?}", begin.elapsed());
        drop(input);
    }
}
