//! `kafka run`: a cluster for the time of one command.
//!
//! ```text
//! run ──starts──▶ guard   reads standard input, a pipe that only `run` holds
//!  │
//!  ├─starts──▶ brokers
//!  ├─runs────▶ COMMAND
//!  └─ends     the pipe closes ──▶ guard stops the brokers and removes their folder
//! ```
//!
//! However `run` ends, by itself, by Ctrl-C or by SIGKILL, the pipe closes. So there is one way to tear down.

use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use super::cluster::{Cluster, tear_down};
use super::{DIR_VARIABLE, Wanted};
use crate::{Result, workspace};

/// Starts a cluster, runs the command in it, and exits as it did.
pub(super) fn run(wanted: &Wanted, command: &[OsString]) -> Result<()> {
    let dir = workspace::target().join("kafka").join(format!("run-{}", std::process::id()));
    let guard = start_guard(&dir)?;
    let status = run_inside(&dir, wanted, command);
    stop_guard(guard)?;
    let status = status?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => std::process::exit(code),
        None => {
            Err(format!("the command was ended by signal {}", status.signal().unwrap_or_default()).into())
        }
    }
}

fn run_inside(dir: &Path, wanted: &Wanted, command: &[OsString]) -> Result<ExitStatus> {
    let cluster = Cluster::create(dir, wanted)?;
    cluster.start()?;
    let servers = cluster.bootstrap_servers();
    eprintln!("Kafka {} at {servers}", wanted.version);
    let pids: Vec<String> = cluster.pids().iter().map(u32::to_string).collect();
    // Clap asks for at least one word.
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let status = Command::new(program)
        .args(arguments)
        .env("OTTLA_KAFKA_BOOTSTRAP", servers)
        .env("OTTLA_KAFKA_LIBS", cluster.class_path())
        .env("OTTLA_KAFKA_PIDS", pids.join(","))
        .env("OTTLA_KAFKA_CTL", std::env::current_exe()?)
        .env(DIR_VARIABLE, dir)
        .status()
        .map_err(|error| format!("{}: {error}", program.to_string_lossy()))?;
    if !status.success() {
        keep_logs(dir)?;
    }
    Ok(status)
}

/// Moves the brokers' logs to where the guard does not remove them.
fn keep_logs(dir: &Path) -> Result<()> {
    let kept = workspace::target().join("kafka").join("failed");
    workspace::fresh_folder(&kept)?;
    for entry in std::fs::read_dir(dir)? {
        let node = entry?;
        let log = node.path().join("broker.log");
        if log.exists() {
            std::fs::copy(log, kept.join(node.file_name()).with_extension("log"))?;
        }
    }
    eprintln!("the brokers' logs are in {}", kept.display());
    Ok(())
}

fn start_guard(dir: &Path) -> Result<Child> {
    let guard = Command::new(std::env::current_exe()?)
        .args(["kafka", "guard", "--dir"])
        .arg(dir)
        .stdin(Stdio::piped())
        // Ctrl-C at the terminal must not reach it.
        .process_group(0)
        .spawn()?;
    Ok(guard)
}

fn stop_guard(mut guard: Child) -> Result<()> {
    drop(guard.stdin.take());
    let status = guard.wait()?;
    if status.success() { Ok(()) } else { Err("the cluster could not be stopped".into()) }
}

/// Waits for the end of standard input, then tears down.
pub(super) fn guard(dir: &Path) -> Result<()> {
    std::io::stdin().read_to_end(&mut Vec::new())?;
    tear_down(dir)
}
