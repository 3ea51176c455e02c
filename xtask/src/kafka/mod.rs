//! `cargo xtask kafka`: an Apache Kafka in KRaft mode on loopback, from the jars of the Maven registry.
//!
//! ```text
//! target/kafka-jars/kafka-VERSION/   the jars, fetched once
//! target/kafka-formatted/VERSION-N/  an empty, formatted log folder for each node of N, copied to start faster
//! target/kafka/up/                   the cluster of `up`
//! target/kafka/run-PID/              the cluster of one `run`
//!     cluster.json                   version, ports
//!     node-1/                        node.properties, pid, broker.log, data/
//! ```

#![allow(clippy::disallowed_methods, reason = "a developer's command meets real time and real sockets")]

mod cluster;
mod node;
mod process;
mod ready;
mod run;
mod versions;

use std::path::PathBuf;

use clap::Subcommand;

use crate::{Result, workspace};
use cluster::Cluster;

/// Names the folder of the cluster that a command is about, for commands inside `kafka run`.
const DIR_VARIABLE: &str = "OTTLA_KAFKA_DIR";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start a cluster and leave it running; prints its bootstrap servers
    Up(Wanted),
    /// Stop the cluster of `up` and remove its data
    Down(Which),
    /// Start a cluster, run a command, stop the cluster whatever happens, and exit as the command did
    ///
    /// The command finds the cluster in these variables:
    /// OTTLA_KAFKA_BOOTSTRAP (host:port,…), OTTLA_KAFKA_LIBS (class path of the Java client and tools), OTTLA_KAFKA_PIDS
    /// (of the brokers, in the order of their nodes), OTTLA_KAFKA_DIR (its folder), and OTTLA_KAFKA_CTL (this program:
    /// `$OTTLA_KAFKA_CTL kafka kill --node 2`).
    #[command(verbatim_doc_comment)]
    Run {
        #[command(flatten)]
        wanted: Wanted,
        /// What to run, with its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// Kill a broker with SIGKILL, and return when it is gone
    Kill(Target),
    /// Shut a broker down with SIGTERM, so that it hands over what it leads, and return when it is gone
    Term(Target),
    /// Freeze a broker with SIGSTOP: its connections stay up and nothing answers
    Stop(Target),
    /// Let a frozen broker go on
    Cont(Target),
    /// Start a broker that was ended, on its ports and its data, and return when it serves again
    Restart {
        #[command(flatten)]
        target: Target,
        /// Where it serves clients from now on, if not where it did
        #[arg(long)]
        port: Option<u16>,
    },
    /// Stop a cluster when standard input ends, and thus when the parent does
    #[command(hide = true)]
    Guard {
        #[arg(long)]
        dir: PathBuf,
    },
}

#[derive(clap::Args)]
struct Wanted {
    /// Brokers, all of them controllers as well
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: u16,
    /// Release of Kafka: 4.3.1, 4.4.0, 3.9.1, …
    #[arg(long, default_value = "4.3.1")]
    version: String,
    /// Another line for each broker's properties; may be repeated
    #[arg(long = "property", value_name = "KEY=VALUE")]
    properties: Vec<String>,
}

#[derive(clap::Args)]
struct Which {
    /// Folder of the cluster [default: $OTTLA_KAFKA_DIR, or the one of `up`]
    #[arg(long)]
    dir: Option<PathBuf>,
}

impl Which {
    fn dir(&self) -> PathBuf {
        let named = self.dir.clone().or_else(|| std::env::var_os(DIR_VARIABLE).map(PathBuf::from));
        named.unwrap_or_else(up_dir)
    }
}

#[derive(clap::Args)]
struct Target {
    #[command(flatten)]
    which: Which,
    /// Node id, from 1
    #[arg(long)]
    node: u16,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.verb {
        Verb::Up(wanted) => up(wanted),
        Verb::Down(which) => cluster::tear_down(&which.dir()),
        Verb::Run { wanted, command } => run::run(wanted, command),
        Verb::Kill(target) => with_node(target, |cluster, node| cluster.end(node, "KILL")),
        Verb::Term(target) => with_node(target, |cluster, node| cluster.end(node, "TERM")),
        Verb::Stop(target) => with_node(target, |cluster, node| cluster.signal(node, "STOP")),
        Verb::Cont(target) => with_node(target, |cluster, node| cluster.signal(node, "CONT")),
        Verb::Restart { target, port } => with_node(target, |cluster, node| {
            port.map_or(Ok(()), |port| cluster.move_to(node, port))?;
            cluster.restart(node)
        }),
        Verb::Guard { dir } => run::guard(dir),
    }
}

fn up(wanted: &Wanted) -> Result<()> {
    let dir = up_dir();
    if dir.exists() {
        return Err("a cluster is up: cargo xtask kafka down".into());
    }
    let cluster = Cluster::create(&dir, wanted)?;
    if let Err(error) = cluster.start() {
        cluster.stop_all();
        return Err(
            format!("{error}\n(logs and data are in {}; `kafka down` removes them)", dir.display()).into()
        );
    }
    println!("{}", cluster.bootstrap_servers());
    Ok(())
}

fn up_dir() -> PathBuf {
    workspace::target().join("kafka").join("up")
}

fn with_node(target: &Target, action: impl FnOnce(&mut Cluster, u16) -> Result<()>) -> Result<()> {
    let mut cluster = Cluster::open(&target.which.dir())?;
    if target.node == 0 || target.node > cluster.nodes() {
        return Err(format!("nodes are 1 to {}", cluster.nodes()).into());
    }
    action(&mut cluster, target.node)
}
