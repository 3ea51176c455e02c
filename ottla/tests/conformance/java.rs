//! Kafka's own Java client, through `tests/java/Interop.java`.

use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::record::{Read, Written};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/java/Interop.java");

pub(crate) struct Java {
    class_path: String,
}

impl Java {
    pub(crate) fn from_environment() -> Option<Self> {
        std::env::var("OTTLA_KAFKA_LIBS").ok().map(|class_path| Self { class_path })
    }

    /// Has Java's producer write the records; gives the partition and the offset of each.
    pub(crate) async fn produce(
        &self,
        servers: &str,
        topic: &str,
        records: &[Written],
        settings: &[&str],
    ) -> Vec<(i32, i64)> {
        let input: String = records.iter().map(|record| format!("{}\n", record.to_json())).collect();
        let lines = self.run(&["produce", servers, topic], settings, input).await;
        let number = |line: &Value, name: &str| line[name].as_i64().expect("Java prints it");
        lines.iter().map(|line| (number(line, "partition") as i32, number(line, "offset"))).collect()
    }

    /// The first `count` records that Java's consumer reads, by partition and offset.
    pub(crate) async fn consume(&self, servers: &str, topic: &str, count: usize) -> Vec<Read> {
        let lines = self.run(&["consume", servers, topic, &count.to_string()], &[], String::new()).await;
        let mut records: Vec<_> = lines.iter().map(Read::from_json).collect();
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }

    /// Has Java's consumer join a group.
    pub(crate) fn join(&self, servers: &str, topic: &str, settings: &[&str]) -> JavaMember {
        let mut java = self
            .java(PROGRAM)
            .args(["member", servers, topic])
            .args(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("java is installed");
        let stdin = java.stdin.take().expect("it is piped");
        let lines = BufReader::new(java.stdout.take().expect("it is piped")).lines();
        JavaMember { java, stdin, lines }
    }

    /// What a program of Kafka's own tools prints, each line an object.
    pub(crate) async fn tool(&self, class: &str, arguments: &[&str]) -> Vec<Value> {
        let output = self.java(class).args(arguments).stdin(Stdio::null()).output();
        lines(class, arguments, output.await.expect("java is installed"))
    }

    fn java(&self, program: &str) -> Command {
        let mut java = Command::new("java");
        java.args(["-XX:TieredStopAtLevel=1", "-cp", &self.class_path, program]).kill_on_drop(true);
        java
    }

    async fn run(&self, arguments: &[&str], settings: &[&str], input: String) -> Vec<Value> {
        let mut java = self
            .java(PROGRAM)
            .args(arguments)
            .args(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("java is installed");
        let mut stdin = java.stdin.take().expect("it is piped");
        let feed = async move {
            // An error is seen in what Java says.
            let _ = stdin.write_all(input.as_bytes()).await;
        };
        let (output, ()) = tokio::join!(java.wait_with_output(), feed);
        lines(PROGRAM, arguments, output.expect("java runs to its end"))
    }
}

/// What a program printed, if it ended well.
fn lines(program: &str, arguments: &[&str], output: Output) -> Vec<Value> {
    let Output { status, stdout, stderr } = output;
    assert!(status.success(), "{program} {arguments:?}:\n{}", String::from_utf8_lossy(&stderr));
    let lines = stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("each line is JSON")).collect()
}

/// A member of a group that runs Java's consumer.
pub(crate) struct JavaMember {
    java: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

/// What a member of a group has to tell.
pub(crate) enum News {
    Owned(Vec<i32>),
    Record(Box<Read>),
}

impl JavaMember {
    /// What happens next to it.
    pub(crate) async fn next(&mut self) -> News {
        let line = self.lines.next_line().await.expect("it is text").expect("the member lives");
        let line: Value = serde_json::from_str(&line).expect("each line is JSON");
        match line["owned"].as_array() {
            Some(owned) => News::Owned(
                owned.iter().map(|partition| partition.as_i64().expect("a partition") as i32).collect(),
            ),
            None => News::Record(Box::new(Read::from_json(&line))),
        }
    }

    /// Has it commit and leave, and waits until it has.
    pub(crate) async fn leave(mut self) {
        self.stdin.write_all(b"\n").await.expect("the member lives");
        assert!(self.java.wait().await.expect("it ends").success());
    }
}
