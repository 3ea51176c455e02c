//! Developer commands: `cargo xtask help` lists them.

mod chaos;
mod foreign;
mod golden;
mod jars;
mod kafka;
mod protocol;
mod scenarios;
mod sim;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a command ends with: nothing, or a sentence for the developer.
type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the client on a cluster over TCP while everything goes wrong, and check the history
    Chaos(chaos::Arguments),
    /// Run clients in other languages against `ottla dev`, in groups of two members
    ///
    /// Each has a topic of 4 partitions with the numbers below 500, which `ottla produce` wrote. It writes those below 1000,
    /// reads all with two members of a group that have two partitions each, commits, and leaves. It writes 10 more, and a new
    /// member has to get those and no others. Then `ottla consume` has to find all of them.
    ///
    /// Needs python3 with venv, node and npm, and go; installs the clients into target/foreign.
    Foreign(foreign::Arguments),
    /// Write the golden vectors of ottla-protocol: what Kafka's own code makes of every message
    Golden(golden::Arguments),
    /// Start and stop a real Apache Kafka, or run a command while one is up
    Kafka(kafka::Arguments),
    /// Generate the messages of ottla-protocol from the definitions inside the kafka-clients jar
    Protocol(protocol::Arguments),
    /// Run seeds of the simulated world: faults, shrinking, replay, determinism
    Sim(sim::Arguments),
    /// Write the table of scenarios and the tests that cover them
    Scenarios(scenarios::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Chaos(arguments) => chaos::run(&arguments),
        Command::Foreign(arguments) => foreign::run(&arguments),
        Command::Golden(arguments) => golden::run(&arguments),
        Command::Kafka(arguments) => kafka::run(&arguments),
        Command::Protocol(arguments) => protocol::run(&arguments),
        Command::Sim(arguments) => sim::run(&arguments),
        Command::Scenarios(arguments) => scenarios::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
