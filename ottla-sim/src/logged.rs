//! What brokers have in their logs, read from their disks.

use std::time::Duration;

use bytes::{Buf, Bytes};
use ottla::TopicPartition;
use ottla_broker::io::FileId;
use ottla_protocol::{
    batch::{BatchError, batches},
    compression::Decompressor,
};

use crate::{
    env::BEGINNING,
    history::{Commits, Stored},
};

/// A record in a broker's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Logged {
    /// Where.
    pub offset: i64,
    /// Under which leader epoch it was written.
    pub leader_epoch: i32,
    /// Who wrote it; -1 without idempotence.
    pub producer_id: i64,
    /// The producer's epoch.
    pub producer_epoch: i16,
    /// The record's sequence number.
    pub sequence: i32,
    /// Milliseconds since 1970, as the writer's or the broker's clock had it.
    pub timestamp: i64,
    /// The key, if it has one.
    pub key: Option<Bytes>,
    /// The value; empty for a tombstone.
    pub value: Bytes,
}

/// The records of a log file. A crash cuts it short, which leaves whole batches and no more than the beginning of one: that
/// one is not there, as for the broker when it starts.
///
/// # Panics
/// When anything else is wrong with it: nothing spoils what was written, and what is judged by a log must not judge without.
pub(crate) fn read_log(file: &FileId, bytes: &[u8]) -> Vec<Logged> {
    match records(Bytes::copy_from_slice(bytes)) {
        Ok(records) => records,
        Err(error) => panic!("{file:?} cannot be read: {error}"),
    }
}

fn records(bytes: Bytes) -> Result<Vec<Logged>, BatchError> {
    let mut decompressor = Decompressor::new();
    let mut log = Vec::new();
    for batch in batches(bytes) {
        let batch = batch?;
        let header = *batch.header();
        if header.is_control() {
            continue;
        }
        for record in batch.records(&mut decompressor)?.iter() {
            let record = record?;
            log.push(Logged {
                offset: record.offset,
                leader_epoch: header.partition_leader_epoch,
                producer_id: header.producer_id,
                producer_epoch: header.producer_epoch,
                sequence: header.base_sequence.wrapping_add((record.offset - header.base_offset) as i32),
                timestamp: record.timestamp,
                key: record.key.map(Bytes::copy_from_slice),
                value: record.value.map(Bytes::copy_from_slice).unwrap_or_default(),
            });
        }
    }
    Ok(log)
}

/// The commits of a group for a topic in its partition of `__consumer_offsets`.
/// Dated by `at`, and where that does not know, as the coordinator's clock had it.
pub(crate) fn read_commits(
    log: &[Logged],
    (group, topic): (&str, &str),
    at: impl Fn(&Logged) -> Option<Duration>,
) -> Commits {
    let mut commits = Commits::new();
    for logged in log {
        let Some(key) = &logged.key else { continue };
        let Some((of, partition, offset)) = read_commit(key, &logged.value) else { continue };
        if (&*of, partition.topic()) == (group, topic) {
            let said = Duration::from_millis(logged.timestamp as u64).saturating_sub(BEGINNING);
            let at = at(logged).unwrap_or(said);
            commits.entry(partition.partition()).or_default().push(Stored {
                at,
                offset,
                leader_epoch: leader_epoch(&logged.value),
            });
        }
    }
    commits
}

/// What a record of `__consumer_offsets` commits: the group, the partition, the offset. None for records of other kinds,
/// and for those that delete a commit.
#[must_use]
pub fn read_commit(key: &[u8], value: &[u8]) -> Option<(Box<str>, TopicPartition, i64)> {
    let OffsetKey { group, topic, partition } = OffsetKey::read(Bytes::copy_from_slice(key))?;
    // An empty value deletes the commit; else there is a version, and behind it the offset.
    let offset = value.get(2..10)?.try_into().map(i64::from_be_bytes).ok()?;
    let text = |bytes: &Bytes| std::str::from_utf8(bytes).map(Box::from).ok();
    Some((text(&group)?, TopicPartition::new(std::str::from_utf8(&topic).ok()?, partition), offset))
}

/// The leader epoch in the value of a commit, which has one since version 3.
fn leader_epoch(mut value: &[u8]) -> Option<i32> {
    let version = value.try_get_i16().ok()?;
    let _offset = value.try_get_i64().ok()?;
    value.try_get_i32().ok().filter(|epoch| version >= 3 && *epoch >= 0)
}

/// `OffsetCommitKey` of Kafka, versions 0 and 1.
struct OffsetKey {
    group: Bytes,
    topic: Bytes,
    partition: i32,
}

impl OffsetKey {
    /// None for keys of other kinds of records.
    fn read(mut key: Bytes) -> Option<Self> {
        (key.try_get_i16().ok()? < 2).then_some(())?;
        let (group, topic) = (read_string(&mut key)?, read_string(&mut key)?);
        Some(Self { group, topic, partition: key.try_get_i32().ok()? })
    }
}

fn read_string(bytes: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
    (bytes.len() >= length).then(|| bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use ottla_protocol::TopicId;

    use super::*;

    #[test]
    #[should_panic(expected = "cannot be read")]
    fn a_log_that_cannot_be_read_is_not_an_empty_one() {
        read_log(&FileId::Log(TopicId::ZERO, 0), &[0xff; 100]);
    }

    #[test]
    fn the_beginning_of_a_batch_is_what_a_crash_leaves_of_it() {
        assert_eq!(read_log(&FileId::Log(TopicId::ZERO, 0), &[0; 10]), []);
    }

    #[test]
    fn commits_are_read_in_their_order_and_other_records_are_not() {
        let key = |version: i16, group: &str, topic: &str, partition: i32| {
            let mut key = version.to_be_bytes().to_vec();
            for text in [group, topic] {
                key.extend((text.len() as i16).to_be_bytes());
                key.extend(text.as_bytes());
            }
            key.extend(partition.to_be_bytes());
            Bytes::from(key)
        };
        let logged = |key: Bytes, value: &[u8], second: u64| Logged {
            key: Some(key),
            value: Bytes::copy_from_slice(value),
            timestamp: (BEGINNING + Duration::from_secs(second)).as_millis() as i64,
            ..Logged::default()
        };
        let value = |offset: i64| {
            [&3_i16.to_be_bytes()[..], &offset.to_be_bytes(), &7_i32.to_be_bytes(), &[0; 16]].concat()
        };
        let log = [
            logged(key(2, "billing", "", 0), b"a group", 1),
            logged(key(1, "billing", "orders", 1), &value(5), 2),
            logged(key(1, "other", "orders", 1), &value(9), 3),
            logged(key(1, "billing", "refunds", 1), &value(9), 3),
            logged(key(1, "billing", "orders", 1), b"", 4),
            logged(key(1, "billing", "orders", 1), &value(7), 5),
        ];
        let stored = |at, offset| Stored { at: Duration::from_secs(at), offset, leader_epoch: Some(7) };
        assert_eq!(
            read_commits(&log, ("billing", "orders"), |_| None),
            Commits::from([(1, vec![stored(2, 5), stored(5, 7)])])
        );
    }
}
