//! The `ottla` command.
//!
//! Data goes to stdout and nothing else does; what is said to a person goes to stderr. Exit codes: 0 done, 1 failed
//! (also when only one item of several failed), 2 wrong usage.
#![allow(dead_code, reason = "`produce`, `consume` and `demo` use these and follow as the client lands")]

mod commands;
mod connect;
mod output;
mod text;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::output::Failure;

/// A Kafka client in which reliable consumption is part of the client.
#[derive(Debug, Parser)]
#[command(name = "ottla", version, propagate_version = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(commands::dev::Dev),
    Topics(commands::topics::Topics),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    output::log_to_stderr();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::exit(Err(Failure::new(format!("cannot start the runtime: {error}")))),
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Dev(command) => command.run().await,
            Command::Topics(command) => command.run().await,
        }
    });
    output::exit(result)
}
