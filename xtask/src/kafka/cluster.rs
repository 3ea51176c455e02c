//! A cluster: a folder, and a process for each node.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::node::{self, Ports};
use super::{Wanted, process, ready, versions};
use crate::{Result, jars, workspace};

/// How long a broker may take to serve. It takes 4 s on an idle machine, 14 s as one of three.
const START_LIMIT: Duration = Duration::from_secs(180);

/// What is written down about a cluster.
#[derive(Serialize, Deserialize)]
struct Description {
    version: String,
    nodes: Vec<Ports>,
}

pub(super) struct Cluster {
    dir: PathBuf,
    libs: PathBuf,
    description: Description,
}

impl Cluster {
    /// Lays out the folder of a new cluster, formatted and with ports that are free now.
    pub(super) fn create(dir: &Path, wanted: &Wanted) -> Result<Self> {
        let libs = versions::libs(&wanted.version)?;
        let formatted = node::formatted(&wanted.version, usize::from(wanted.nodes), &libs)?;
        workspace::fresh_folder(dir)?;
        let nodes = free_ports(usize::from(wanted.nodes))?;
        for id in 1..=nodes.len() {
            let data = node::data_dir(dir, id);
            node::copy_formatted(&node::data_dir(&formatted, id), &data)?;
            let properties = node::properties(id, &nodes, &data, &wanted.version, &wanted.properties)?;
            fs::write(properties_file(dir, id), properties)?;
        }
        let (_, file, logging) = versions::logging(&wanted.version);
        fs::write(dir.join(file), logging)?;
        let description = Description { version: wanted.version.clone(), nodes };
        let cluster = Self { dir: dir.to_path_buf(), libs, description };
        cluster.describe()?;
        Ok(cluster)
    }

    /// A cluster that was created before.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let file = dir.join("cluster.json");
        let text =
            fs::read_to_string(&file).map_err(|error| format!("no cluster: {}: {error}", file.display()))?;
        let description: Description = serde_json::from_str(&text)?;
        let libs = versions::libs(&description.version)?;
        Ok(Self { dir: dir.to_path_buf(), libs, description })
    }

    pub(super) fn nodes(&self) -> u16 {
        // At most nine.
        self.description.nodes.len() as u16
    }

    pub(super) fn bootstrap_servers(&self) -> String {
        let server = |ports: &Ports| format!("127.0.0.1:{}", ports.broker);
        self.description.nodes.iter().map(server).collect::<Vec<_>>().join(",")
    }

    /// What goes behind `java -cp` for the clients and tools of this release.
    pub(super) fn class_path(&self) -> String {
        jars::class_path(&self.libs)
    }

    /// Process ids in the order of the nodes.
    pub(super) fn pids(&self) -> Vec<u32> {
        (1..=self.nodes()).filter_map(|id| self.pid(id)).collect()
    }

    /// Starts all nodes and waits until each of them knows all of them.
    pub(super) fn start(&self) -> Result<()> {
        for id in 1..=self.nodes() {
            self.spawn(id)?;
        }
        (1..=self.nodes()).try_for_each(|id| self.wait_until_ready(id))
    }

    fn describe(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.description)?;
        Ok(fs::write(self.dir.join("cluster.json"), text)?)
    }

    /// Gives a node that does not run another port for its clients.
    pub(super) fn move_to(&mut self, id: u16, port: u16) -> Result<()> {
        let ports = &mut self.description.nodes[usize::from(id) - 1];
        let before = std::mem::replace(&mut ports.broker, port);
        let file = properties_file(&self.dir, usize::from(id));
        let address = |port: u16| format!("PLAINTEXT://127.0.0.1:{port}");
        let properties = fs::read_to_string(&file)?.replace(&address(before), &address(port));
        fs::write(file, properties)?;
        self.describe()
    }

    /// Starts a node again that has ended.
    pub(super) fn restart(&self, id: u16) -> Result<()> {
        if self.pid(id).is_some_and(|pid| process::is_alive(pid, &self.marker(id))) {
            return Err(format!("node {id} runs").into());
        }
        self.spawn(id)?;
        self.wait_until_ready(id)
    }

    /// Ends a node with SIGKILL or SIGTERM, and returns when it is gone.
    pub(super) fn end(&self, id: u16, signal: &str) -> Result<()> {
        let pid = self.pid(id).ok_or_else(|| format!("node {id} was never started"))?;
        process::end(pid, &self.marker(id), signal)
    }

    pub(super) fn signal(&self, id: u16, name: &str) -> Result<()> {
        match self.pid(id) {
            Some(pid) if process::is_alive(pid, &self.marker(id)) => process::signal(pid, name),
            _ => Err(format!("node {id} does not run").into()),
        }
    }

    /// Kills what still runs; says so, and goes on, where that fails.
    pub(super) fn stop_all(&self) {
        for id in 1..=self.nodes() {
            if self.pid(id).is_some()
                && let Err(error) = self.end(id, "KILL")
            {
                eprintln!("node {id}: {error}");
            }
        }
    }

    fn spawn(&self, id: u16) -> Result<()> {
        let (argument, file, _) = versions::logging(&self.description.version);
        let log = File::options().create(true).append(true).open(self.log_file(id))?;
        let child = Command::new("java")
            // Fast to start, and quick enough for tests.
            .args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg(format!("{argument}{}", self.dir.join(file).display()))
            .args(["-cp", &self.class_path(), "kafka.Kafka"])
            .arg(properties_file(&self.dir, usize::from(id)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C at the terminal is for the command that is run, not for the brokers.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("java: {error}"))?;
        fs::write(self.pid_file(id), child.id().to_string())?;
        Ok(())
    }

    fn wait_until_ready(&self, id: u16) -> Result<()> {
        let limit = Instant::now() + START_LIMIT;
        let port = self.description.nodes[usize::from(id) - 1].broker;
        loop {
            if let Some((brokers, controller)) = ready::brokers(port)
                && brokers.len() == self.description.nodes.len()
                && controller > 0
            {
                return Ok(());
            }
            let runs = self.pid(id).is_some_and(|pid| process::is_alive(pid, &self.marker(id)));
            if !runs || Instant::now() > limit {
                let what = if runs { "does not serve" } else { "ended" };
                return Err(format!("node {id} {what}; its log ends with\n{}", self.log_tail(id)).into());
            }
            std::thread::sleep(process::POLL);
        }
    }

    fn log_tail(&self, id: u16) -> String {
        let log = fs::read_to_string(self.log_file(id)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    fn pid(&self, id: u16) -> Option<u32> {
        fs::read_to_string(self.pid_file(id)).ok()?.trim().parse().ok()
    }

    /// The argument that only this node's process has.
    fn marker(&self, id: u16) -> String {
        properties_file(&self.dir, usize::from(id)).to_string_lossy().into_owned()
    }

    fn pid_file(&self, id: u16) -> PathBuf {
        self.dir.join(format!("node-{id}")).join("pid")
    }

    fn log_file(&self, id: u16) -> PathBuf {
        self.dir.join(format!("node-{id}")).join("broker.log")
    }
}

/// Kills what runs in a cluster's folder and removes the folder.
pub(super) fn tear_down(dir: &Path) -> Result<()> {
    if dir.join("cluster.json").exists() {
        Cluster::open(dir)?.stop_all();
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

fn properties_file(dir: &Path, id: usize) -> PathBuf {
    dir.join(format!("node-{id}")).join("node.properties")
}

/// Ports that nobody listens on, all different.
fn free_ports(nodes: usize) -> Result<Vec<Ports>> {
    let listeners =
        (0..2 * nodes).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    let ports = listeners.iter().map(|l| Ok(l.local_addr()?.port())).collect::<Result<Vec<_>>>()?;
    Ok(ports.chunks_exact(2).map(|pair| Ports { broker: pair[0], controller: pair[1] }).collect())
}
