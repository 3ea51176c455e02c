//! `cargo xtask chaos`: the client on a cluster over TCP while everything goes wrong, which `ottla-sim`'s example of that
//! name runs; the history is checked in the end.

use std::path::PathBuf;
use std::process::Command;

use crate::{Result, workspace};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Brokers of a real Kafka
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// Release of Kafka
    #[arg(long, default_value = "4.3.1")]
    version: String,
    /// The embedded brokers over TCP instead of a real Kafka
    #[arg(long, conflicts_with_all = ["nodes", "version"])]
    embedded: bool,
    /// How long things go wrong; the end takes as long again at most, and usually a few seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// What goes wrong when; what comes of it is another matter in real time
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the history is written [default: target/chaos/SEED.jsonl]
    #[arg(long)]
    history: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Arguments { nodes, version, embedded, seconds, seed, history } = arguments;
    let program = build()?;
    let history = match history {
        Some(file) => file.clone(),
        None => {
            let folder = workspace::target().join("chaos");
            std::fs::create_dir_all(&folder)?;
            folder.join(format!("{seed}.jsonl"))
        }
    };
    let mut command = if *embedded {
        let mut command = Command::new(program);
        command.arg("--embedded");
        command
    } else {
        // Stops the brokers however the run ends.
        let mut command = Command::new(std::env::current_exe()?);
        let nodes = nodes.to_string();
        command.args(["kafka", "run", "--nodes", &nodes, "--version", version, "--"]).arg(program);
        command
    };
    command.args(["--seconds", &seconds.to_string(), "--seed", &seed.to_string(), "--history"]).arg(history);
    workspace::run(&mut command)
}

/// Builds the example, and returns where it is.
fn build() -> Result<PathBuf> {
    let mut cargo = Command::new(env!("CARGO"));
    // The whole workspace, as `cargo test --workspace` does it, so that nothing is compiled again with other features.
    cargo.args(["build", "--quiet", "--workspace", "--example", "chaos"]);
    workspace::run(cargo.current_dir(workspace::root()))?;
    Ok(workspace::target().join("debug").join("examples").join("chaos"))
}
