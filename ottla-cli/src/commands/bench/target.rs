//! The brokers that are measured against.

use std::process::Stdio;

use ottla::{Admin, Client, TopicPartition};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use super::Common;
use crate::output::Failure;

/// Brokers that were started for this, in a process of their own, or some that were there.
#[derive(Debug)]
pub(super) struct Target {
    kind: Kind,
    /// `None`: those of `--bootstrap-server`.
    servers: Option<Vec<String>>,
    /// Killed when this is dropped.
    _process: Option<Child>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Embedded,
    Kafka,
}

impl Target {
    pub(super) async fn start(common: &Common) -> Result<Self, Failure> {
        let kind = match common.against.as_deref() {
            Some("null") => Kind::Null,
            Some("embedded") => Kind::Embedded,
            servers => {
                let servers = servers.map(|servers| servers.split(',').map(str::to_owned).collect());
                return Ok(Self { kind: Kind::Kafka, servers, _process: None });
            }
        };
        let cannot = |error| Failure::new(format!("cannot start the broker's process: {error}"));
        let mut command = Command::new(std::env::current_exe().map_err(cannot)?);
        command.args(["dev", "--port", "0", "--partitions", &common.partitions.to_string()]);
        if kind == Kind::Null {
            command.args(["--null", "--record-size", &common.record_size.to_string()]);
        }
        let started = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut process = started.map_err(cannot)?;
        let mut address = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut address).await.map_err(cannot)?;
        }
        if address.trim().is_empty() {
            return Err(Failure::new("the broker's process ended before it could be used"));
        }
        Ok(Self { kind, servers: Some(vec![address.trim().to_owned()]), _process: Some(process) })
    }

    pub(super) fn servers(&self) -> Option<&[String]> {
        self.servers.as_deref()
    }

    /// Whether nothing is kept of what is produced to it.
    pub(super) fn is_null(&self) -> bool {
        self.kind == Kind::Null
    }

    /// Whether there is nothing in it but what is put there.
    pub(super) fn is_ours(&self) -> bool {
        self.kind != Kind::Kafka
    }
}

/// All partitions of the topic.
pub(super) async fn partitions(client: &Client, topic: &str) -> Result<Vec<TopicPartition>, Failure> {
    let described = Admin::new(client).describe_topics([topic]).await?.all()?;
    let numbers =
        described.iter().flat_map(|(_, topic)| &topic.partitions).map(|partition| partition.partition);
    Ok(numbers.map(|partition| TopicPartition::new(topic, partition)).collect())
}
