//! The built command, as somebody at a terminal uses it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests are drivers")]

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{self, Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

const OTTLA: &str = env!("CARGO_BIN_EXE_ottla");

/// An embedded cluster in a process of its own, killed at the end.
struct Dev {
    process: Child,
    servers: String,
}

impl Dev {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(OTTLA);
        command.args(["dev", "--port", "0"]).args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut servers = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut servers).unwrap();
        assert!(!servers.is_empty(), "ottla dev did not start");
        Self { process, servers: servers.trim().to_owned() }
    }

    fn ottla(&self, arguments: &[&str], input: &str) -> Output {
        run(&[arguments, &["--bootstrap-server", &self.servers]].concat(), input)
    }

    fn ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.ottla(arguments, input);
        assert!(output.status.success(), "ottla {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[cfg(unix)]
    fn terminate(&mut self) -> process::ExitStatus {
        let sent = Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        assert!(sent.success());
        self.process.wait().unwrap()
    }
}

impl Drop for Dev {
    /// SIGKILL.
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn run(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(OTTLA);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not read its input has closed it.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait_with_output().unwrap()
}

/// A path below the temporary directory where nothing is, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("ottla-cli-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(unique);
        drop(fs::remove_dir_all(&path));
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn text(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

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

#[test]
fn the_demo_finds_again_what_it_wrote() {
    let output = run(&["demo"], "");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("nothing lost, nothing twice"), "{said}");
}
