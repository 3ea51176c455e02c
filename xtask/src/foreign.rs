//! `cargo xtask foreign`: clients that nobody here wrote, in other languages, against `ottla dev`.
//!
//! ```text
//! xtask/foreign/            a script for each client, and the versions
//! target/foreign/python/    a virtual environment with the Python clients
//! target/foreign/node/      the JavaScript clients
//! target/foreign/go/        the Go clients, compiled
//! ```

#![allow(clippy::disallowed_methods, reason = "a developer's command meets real time and real processes")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::{Result, workspace};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only these clients
    #[arg(long, value_delimiter = ',', value_parser = CLIENTS.map(|client| client.name))]
    only: Vec<String>,
    /// How many nodes the cluster has
    #[arg(long, default_value_t = 3)]
    nodes: u16,
}

struct Client {
    name: &'static str,
    script: &'static str,
    language: Language,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Python,
    JavaScript,
    Go,
}

const CLIENTS: [Client; 4] = [
    Client { name: "aiokafka", script: "with_aiokafka.py", language: Language::Python },
    Client { name: "confluent-kafka", script: "with_confluent_kafka.py", language: Language::Python },
    Client { name: "kafkajs", script: "with_kafkajs.js", language: Language::JavaScript },
    Client { name: "franz-go", script: "with_franz_go.go", language: Language::Go },
];

/// One takes a few seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// What a client says at the end.
#[derive(Deserialize)]
struct Report {
    client: String,
    /// How many numbers two members have read.
    shared: usize,
    /// The numbers that the member behind them has read.
    rest: Vec<usize>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let wanted =
        |client: &&Client| arguments.only.is_empty() || arguments.only.iter().any(|n| n == client.name);
    let clients: Vec<&Client> = CLIENTS.iter().filter(wanted).collect();
    let install = |language| clients.iter().any(|client| client.language == language);
    if install(Language::Python) {
        install_python()?;
    }
    if install(Language::JavaScript) {
        install_javascript()?;
    }
    if install(Language::Go) {
        build_go()?;
    }
    let ottla = build_ottla()?;
    let dev = Dev::start(&ottla, arguments.nodes, &clients)?;
    for client in clients {
        let begun = Instant::now();
        let report = dev.serve(client).map_err(|error| format!("{}: {error}", client.name))?;
        println!("{}: 1010 numbers both ways in {:.1} s", report.client, begun.elapsed().as_secs_f64());
    }
    Ok(())
}

fn scripts() -> PathBuf {
    workspace::root().join("xtask").join("foreign")
}

fn installed(language: Language) -> PathBuf {
    let name = match language {
        Language::Python => "python",
        Language::JavaScript => "node",
        Language::Go => "go",
    };
    workspace::target().join("foreign").join(name)
}

fn install_python() -> Result<()> {
    let folder = installed(Language::Python);
    once(&folder, &scripts().join("requirements.txt"), |list| {
        workspace::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let pip = folder.join("bin").join("pip");
        workspace::run(Command::new(pip).args(["install", "--quiet", "--requirement"]).arg(list))
    })
}

fn install_javascript() -> Result<()> {
    let folder = installed(Language::JavaScript);
    once(&folder, &scripts().join("package.json"), |list| {
        fs::copy(list, folder.join("package.json"))?;
        let quiet = ["install", "--silent", "--no-fund", "--no-audit"];
        workspace::run(Command::new("npm").args(quiet).current_dir(&folder))
    })
}

/// Go notices by itself what has changed.
fn build_go() -> Result<()> {
    let mut go = Command::new("go");
    go.args(["build", "-o"]).arg(installed(Language::Go).join("with_franz_go")).current_dir(scripts());
    workspace::run(&mut go)
}

/// Fills a folder with what the list names, unless it was filled from the same list before.
fn once(folder: &Path, list: &Path, install: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let complete = folder.join("complete");
    let wanted = fs::read_to_string(list)?;
    if fs::read_to_string(&complete).is_ok_and(|existing| existing == wanted) {
        return Ok(());
    }
    eprintln!("installing clients into {}", folder.display());
    workspace::fresh_folder(folder)?;
    install(list)?;
    Ok(fs::write(complete, wanted)?)
}

fn build_ottla() -> Result<PathBuf> {
    // As `cargo test --workspace` builds it, so that nothing is compiled again with other features.
    workspace::run(Command::new(env!("CARGO")).args(["build", "--quiet", "--workspace", "--bin", "ottla"]))?;
    Ok(workspace::target().join("debug").join("ottla"))
}

/// `ottla dev`, for as long as this lives.
struct Dev<'a> {
    ottla: &'a Path,
    process: Child,
    servers: String,
}

impl<'a> Dev<'a> {
    fn start(ottla: &'a Path, nodes: u16, clients: &[&Client]) -> Result<Self> {
        let mut command = Command::new(ottla);
        command.args(["dev", "--port", "0", "--nodes", &nodes.to_string()]);
        for client in clients {
            command.args(["--topic", &format!("{}:4", client.name)]);
        }
        let mut process = command.stdout(Stdio::piped()).spawn()?;
        let stdout = process.stdout.take().ok_or("its output is piped")?;
        let mut dev = Self { ottla, process, servers: String::new() };
        BufReader::new(stdout).read_line(&mut dev.servers)?;
        dev.servers.truncate(dev.servers.trim_end().len());
        if dev.servers.is_empty() { Err("ottla dev does not start".into()) } else { Ok(dev) }
    }

    /// Has a client do its part, and looks whether it has.
    fn serve(&self, client: &Client) -> Result<Report> {
        self.ottla(&["produce", client.name], &numbers(0..500))?;
        let mut command = match client.language {
            Language::Python => Command::new(installed(Language::Python).join("bin").join("python")),
            Language::JavaScript => {
                let mut node = Command::new("node");
                node.env("NODE_PATH", installed(Language::JavaScript).join("node_modules"));
                node
            }
            Language::Go => Command::new(installed(Language::Go).join(client.script.trim_end_matches(".go"))),
        };
        if client.language != Language::Go {
            command.arg(scripts().join(client.script));
        }
        command.args([&self.servers, client.name]);
        let said = output(&mut command, "")?;
        let report: Report = serde_json::from_str(said.trim()).map_err(|error| format!("{error}: {said}"))?;
        if report.shared != 1000 || report.rest != (1000..1010).collect::<Vec<_>>() {
            let Report { shared, rest, .. } = report;
            return Err(format!("two members read {shared} of 1000 numbers, the next one {rest:?}").into());
        }
        let read = self.ottla(&["consume", client.name, "--from-beginning", "--exit"], "")?;
        let (lines, different) = (read.lines().count(), read.lines().collect::<BTreeSet<_>>().len());
        let is_each_once = (lines, different) == (1010, 1010);
        if is_each_once { Ok(report) } else { Err(format!("ottla consume: {different} in {lines}").into()) }
    }

    fn ottla(&self, arguments: &[&str], input: &str) -> Result<String> {
        output(Command::new(self.ottla).args(arguments).args(["--bootstrap-server", &self.servers]), input)
    }
}

impl Drop for Dev<'_> {
    fn drop(&mut self) {
        // It has ended by itself, which somebody has noticed, or it is ended here.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn numbers(range: std::ops::Range<usize>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

/// Runs a program to its end, and gives what it printed.
fn output(command: &mut Command, input: &str) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    // A few kilobytes, which fit into the pipes.
    child.stdin.take().ok_or("its input is piped")?.write_all(input.as_bytes())?;
    let limit = Instant::now() + LIMIT;
    while child.try_wait()?.is_none() {
        if Instant::now() > limit {
            child.kill()?;
            return Err(format!("{name} has not ended within {} s", LIMIT.as_secs()).into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("{name}: {}", output.status).into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
