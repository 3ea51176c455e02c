//! One broker's files: its properties, and the formatted folder that KRaft wants before the first start.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use super::{process, versions};
use crate::{Result, jars, workspace};

/// Ports of a combined broker and controller.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Ports {
    pub(super) broker: u16,
    pub(super) controller: u16,
}

/// The properties of node `id`, counted from 1, of a cluster with these ports.
pub(super) fn properties(
    id: usize,
    all: &[Ports],
    data: &Path,
    version: &str,
    more: &[String],
) -> Result<String> {
    let Ports { broker, controller } = all[id - 1];
    let voters = (1..).zip(all).map(|(id, ports)| format!("{id}@127.0.0.1:{}", ports.controller));
    let replicas = all.len().min(3);
    let min_isr = replicas.div_ceil(2);
    let mut text = String::new();
    let mut set = |key: &str, value: &dyn std::fmt::Display| writeln!(text, "{key}={value}");
    set("process.roles", &"broker,controller")?;
    set("node.id", &id)?;
    // A consumer may say that it stands beside one of them (KIP-392).
    set("broker.rack", &format!("rack-{id}"))?;
    set("replica.selector.class", &"org.apache.kafka.common.replica.RackAwareReplicaSelector")?;
    set("controller.quorum.voters", &voters.collect::<Vec<_>>().join(","))?;
    set("listeners", &format!("PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}"))?;
    set("advertised.listeners", &format!("PLAINTEXT://127.0.0.1:{broker}"))?;
    set("controller.listener.names", &"CONTROLLER")?;
    set("listener.security.protocol.map", &"PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT")?;
    set("inter.broker.listener.name", &"PLAINTEXT")?;
    set("log.dirs", &data.display())?;
    set("default.replication.factor", &replicas)?;
    set("min.insync.replicas", &min_isr)?;
    for topic in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
        set(&format!("{topic}.replication.factor"), &replicas)?;
        // Fifty, the default, take seconds to create.
        set(&format!("{topic}.num.partitions"), &5)?;
    }
    for topic in ["transaction.state.log", "share.coordinator.state.topic"] {
        set(&format!("{topic}.min.isr"), &min_isr)?;
    }
    set("group.initial.rebalance.delay.ms", &0)?;
    set("group.coordinator.rebalance.protocols", &versions::group_protocols(version))?;
    set("auto.create.topics.enable", &false)?;
    for line in more {
        text.push_str(line);
        text.push('\n');
    }
    Ok(text)
}

/// An empty log folder for each of `nodes`, formatted once per release and number of nodes: three more starts of Java
/// are half of what a cluster takes to start.
pub(super) fn formatted(version: &str, nodes: usize, libs: &Path) -> Result<PathBuf> {
    let folder = workspace::target().join("kafka-formatted").join(format!("{version}-{nodes}"));
    if folder.join("complete").exists() {
        return Ok(folder);
    }
    workspace::fresh_folder(&folder)?;
    let class_path = jars::class_path(libs);
    let tool = || {
        let mut java = Command::new("java");
        java.args(["-XX:TieredStopAtLevel=1", "-cp", &class_path, "kafka.tools.StorageTool"]);
        java
    };
    let cluster_id = process::output(tool().arg("random-uuid"))?;
    // Formatting looks at the ports without using them.
    let ports: Vec<Ports> = (1..=nodes as u16).map(|n| Ports { broker: n, controller: 100 + n }).collect();
    for id in 1..=nodes {
        let data = data_dir(&folder, id);
        let file = folder.join(format!("node-{id}.properties"));
        fs::write(&file, properties(id, &ports, &data, version, &[])?)?;
        process::output(tool().args(["format", "-t", cluster_id.trim(), "-c"]).arg(&file))?;
    }
    fs::write(folder.join("complete"), "")?;
    Ok(folder)
}

/// Where node `id` keeps its logs, in a cluster's folder as well as in a formatted one.
pub(super) fn data_dir(folder: &Path, id: usize) -> PathBuf {
    folder.join(format!("node-{id}")).join("data")
}

/// Copies the few small files of a formatted folder.
pub(super) fn copy_formatted(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_formatted(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
