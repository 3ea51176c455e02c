//! The `ottla` command.
//!
//! Data goes to stdout and nothing else does; what is said to a person goes to stderr. Exit codes: 0 done, 1 failed
//! (also when only one item of several failed), 2 wrong usage.

mod bounds;
mod commands;
mod complete;
mod connect;
mod output;
mod profile;
mod progress;
mod reader;
mod signals;
mod text;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::output::Failure;

/// A Kafka client in which reliable consumption is part of the client.
///
/// Data goes to stdout, what is said to a person to stderr. Exit codes: 0 done, 1 failed (also when only one item of
/// several failed), 2 wrong usage. OTTLA_LOG=ottla=debug shows what the client does.
#[derive(Debug, Parser)]
#[command(name = "ottla", version, propagate_version = true, arg_required_else_help = true)]
#[command(after_help = "Examples:
  ottla dev --topic orders:6           # a cluster on localhost:9092, where the others look
  ottla produce orders --key-separator , < orders.csv
  ottla consume orders --from-beginning --exit --format '%k: %v\\n'
  ottla groups describe billing
  ottla completion --help              # your shell completes topics and groups, too")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Demo(commands::demo::Demo),
    Dev(commands::dev::Dev),
    Produce(commands::produce::Produce),
    Consume(commands::consume::Consume),
    Topics(commands::topics::Topics),
    Groups(commands::groups::Groups),
    Bench(commands::bench::Bench),
    Profiles(commands::profiles::Profiles),
    Completion(commands::completion::Completion),
    #[command(hide = true)]
    Reference(commands::reference::Reference),
}

fn main() -> ExitCode {
    commands::completion::answer_a_shell(Arguments::command);
    let arguments = Arguments::parse();
    // What ends by itself ends with what went wrong; what runs on has to tell it. The demo freezes a broker, and that its
    // client notices is no news.
    let runs_on = matches!(arguments.command, Command::Consume(_) | Command::Produce(_) | Command::Dev(_));
    output::log_to_stderr(if runs_on { "warn" } else { "error" });
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::exit(Err(Failure::new(format!("cannot start the runtime: {error}")))),
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Demo(command) => command.run().await,
            Command::Dev(command) => command.run().await,
            Command::Produce(command) => command.run().await,
            Command::Consume(command) => command.run().await,
            Command::Topics(command) => command.run().await,
            Command::Groups(command) => command.run().await,
            Command::Bench(command) => command.run().await,
            Command::Profiles(command) => command.run(),
            Command::Completion(command) => command.run(),
            Command::Reference(command) => command.run(Arguments::command()),
        }
    });
    output::exit(result)
}
