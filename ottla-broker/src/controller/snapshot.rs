//! The file that holds the controller's state: lines of words, so that a person can read it.
//!
//! ```text
//! ottla-controller 1
//! cluster V9zXq2mWTbOq1L9l4cXy3w
//! version 17
//! producer-ids 2000
//! topic 00112233445566778899aabbccddeeff orders
//! config min.insync.replicas 2
//! partition 1 4 9 1,2,3 1,2
//! ```
//!
//! A partition's words are leader (`-` for none), leader epoch, version, replicas, in-sync replicas. `config` and
//! `partition` belong to the topic above them. Names of topics and settings contain no spaces; a value is the rest of
//! its line, with line breaks and backslashes escaped.

use std::fmt::Write as _;
use std::sync::Arc;

use ottla_protocol::TopicId;

use crate::image::{Image, Partition, Topic};
use crate::io::NodeId;

const FIRST_LINE: &str = "ottla-controller 1";

/// The controller's file cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("controller state, line {line}: {what}")]
pub struct SnapshotError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// The state as a file. Nodes that live are not part of it: after a restart they register again.
pub(super) fn write(image: &Image, next_producer_id: i64) -> String {
    let mut text = format!(
        "{FIRST_LINE}\ncluster {}\nversion {}\nproducer-ids {next_producer_id}\n",
        image.cluster_id, image.version
    );
    for topic in image.topics.values() {
        // Writing to a string cannot fail.
        let _ = write_topic(&mut text, topic);
    }
    text
}

fn write_topic(text: &mut String, topic: &Topic) -> std::fmt::Result {
    writeln!(text, "topic {:032x} {}", u128::from_be_bytes(topic.id.0), topic.name)?;
    for (name, value) in &topic.config {
        writeln!(text, "config {name} {}", value.replace('\\', "\\\\").replace('\n', "\\n"))?;
    }
    for partition in &topic.partitions {
        let leader = partition.leader.map_or_else(|| "-".to_owned(), |leader| leader.to_string());
        let (epoch, version) = (partition.leader_epoch, partition.version);
        writeln!(
            text,
            "partition {leader} {epoch} {version} {} {}",
            list(&partition.replicas),
            list(&partition.isr)
        )?;
    }
    Ok(())
}

fn list(nodes: &[NodeId]) -> String {
    let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    nodes.join(",")
}

/// Reads what [`write`] wrote: the metadata, and the first producer id that nobody has.
pub(super) fn read(file: &[u8]) -> Result<(Image, i64), SnapshotError> {
    let text = std::str::from_utf8(file).map_err(|_| SnapshotError { line: 1, what: "not UTF-8" })?;
    let mut lines = text.lines().enumerate();
    if lines.next().is_none_or(|(_, line)| line != FIRST_LINE) {
        return Err(SnapshotError { line: 1, what: "another format" });
    }
    let mut state = Reader::default();
    for (index, line) in lines {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let read = match word {
            "cluster" => state.cluster(rest),
            "version" => state.version(rest),
            "producer-ids" => state.producer_ids(rest),
            "topic" => state.topic(rest),
            "config" => state.config(rest),
            "partition" => state.partition(rest),
            _ => None,
        };
        read.ok_or(SnapshotError { line: index + 1, what: "not understood" })?;
    }
    Ok(state.finish())
}

#[derive(Default)]
struct Reader {
    image: Image,
    next_producer_id: i64,
    topic: Option<Topic>,
}

impl Reader {
    fn cluster(&mut self, rest: &str) -> Option<()> {
        self.image.cluster_id = rest.into();
        Some(())
    }

    fn version(&mut self, rest: &str) -> Option<()> {
        self.image.version = rest.parse().ok()?;
        Some(())
    }

    fn producer_ids(&mut self, rest: &str) -> Option<()> {
        self.next_producer_id = rest.parse().ok()?;
        Some(())
    }

    fn topic(&mut self, rest: &str) -> Option<()> {
        self.finish_topic();
        let (id, name) = rest.split_once(' ')?;
        let id = TopicId(u128::from_str_radix(id, 16).ok()?.to_be_bytes());
        self.topic =
            Some(Topic { name: name.into(), id, config: Default::default(), partitions: Vec::new() });
        Some(())
    }

    fn config(&mut self, rest: &str) -> Option<()> {
        let (name, value) = rest.split_once(' ')?;
        self.topic.as_mut()?.config.insert(name.into(), unescape(value).into());
        Some(())
    }

    fn partition(&mut self, rest: &str) -> Option<()> {
        let mut words = rest.split(' ');
        let leader = words.next()?;
        let partition = Partition {
            leader: if leader == "-" { None } else { Some(leader.parse().ok()?) },
            leader_epoch: words.next()?.parse().ok()?,
            version: words.next()?.parse().ok()?,
            replicas: nodes(words.next()?)?,
            isr: nodes(words.next()?)?,
        };
        self.topic.as_mut()?.partitions.push(partition);
        words.next().is_none().then_some(())
    }

    fn finish_topic(&mut self) {
        if let Some(topic) = self.topic.take() {
            self.image.names.insert(topic.id, topic.name.clone());
            self.image.topics.insert(topic.name.clone(), Arc::new(topic));
        }
    }

    fn finish(mut self) -> (Image, i64) {
        self.finish_topic();
        (self.image, self.next_producer_id)
    }
}

fn nodes(list: &str) -> Option<Vec<NodeId>> {
    list.split(',').map(|node| node.parse().ok()).collect()
}

fn unescape(value: &str) -> String {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        match (char, if char == '\\' { chars.next() } else { None }) {
            ('\\', Some('n')) => plain.push('\n'),
            ('\\', Some(other)) => plain.push(other),
            (other, _) => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ottla_protocol::TopicId;

    use super::{SnapshotError, read, write};
    use crate::image::{Image, Partition, Topic};

    #[test]
    fn what_was_written_is_read() {
        let partition =
            |leader| Partition { leader, leader_epoch: 4, version: 9, replicas: vec![1, 2, 3], isr: vec![2] };
        let topic = Topic {
            name: "orders".into(),
            id: TopicId([7; 16]),
            config: [("a.b".into(), "x \\n y\nz".into()), ("empty".into(), "".into())].into(),
            partitions: vec![partition(Some(2)), partition(None)],
        };
        let mut image = Image { cluster_id: "c".into(), version: 17, ..Image::default() };
        image.names.insert(topic.id, topic.name.clone());
        image.topics.insert(topic.name.clone(), Arc::new(topic));

        let (read, next_producer_id) = read(write(&image, 2000).as_bytes()).unwrap();
        assert_eq!((read.version, &*read.cluster_id, next_producer_id), (17, "c", 2000));
        assert_eq!((read.topics, read.names), (image.topics, image.names));
    }

    #[test]
    fn an_error_names_the_line() {
        let error = read(b"ottla-controller 1\ncluster c\nnonsense\n").unwrap_err();
        assert_eq!(error, SnapshotError { line: 3, what: "not understood" });
        assert!(read(b"{}").is_err());
        assert!(read(b"\xff").is_err());
    }
}
