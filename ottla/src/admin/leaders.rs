//! Requests that only a partition's leader answers, tried again until every partition has an answer or time is up.
//!
//! ```text
//!            some partitions: no leader, or the broker does not lead them (yet);
//!            or no answer at all: back-off, look for the leaders anew
//!              ┌───────────────────────────┐
//!              ▼                           │
//!   open ──▶ leaders known ──▶ asked ──────┘
//!              │ no such topic           │ every partition has an answer, or the deadline passes
//!              ▼                         ▼
//!            settled                   settled
//! ```

use std::{collections::BTreeMap, time::Duration};

use ottla_protocol::{ErrorCode, messages::MetadataResponse};

use super::{
    PerItem,
    items::{Answers, Items},
    metadata::{ask_metadata, introduce},
    retry::{Retry, Round, settle},
};
use crate::{Error, Result, TopicPartition, client::Shared};

/// A partition, and who leads it.
#[derive(Debug, Clone)]
pub(super) struct Led {
    pub(super) partition: TopicPartition,
    pub(super) leader: i32,
    pub(super) leader_epoch: i32,
}

/// Asks the leaders with `ask(partitions without an answer, time left)`, which has an answer for each.
pub(super) async fn ask_leaders<T, F>(
    shared: &Shared,
    what: &'static str,
    timeout: Option<Duration>,
    items: Items<TopicPartition, T>,
    ask: impl Fn(Vec<Led>, Duration) -> F + Send + Sync,
) -> Result<PerItem<TopicPartition, T>>
where
    T: Send,
    F: Future<Output = Answers<TopicPartition, T>> + Send,
{
    settle(Retry::new(shared, what, timeout), items, AskLeaders(ask)).await
}

struct AskLeaders<A>(A);

impl<T, A, F> Round<TopicPartition, T> for AskLeaders<A>
where
    T: Send,
    A: Fn(Vec<Led>, Duration) -> F + Send + Sync,
    F: Future<Output = Answers<TopicPartition, T>> + Send,
{
    async fn ask(
        &mut self,
        retry: &mut Retry<'_>,
        items: &mut Items<TopicPartition, T>,
    ) -> Result<Option<Error>> {
        let (led, unled) = find(retry, items.open()).await?;
        // What does not exist is told at once: whoever asks an admin about a partition has seen it.
        let of_another_time = |error: &Error| {
            error.is_retriable() && error.broker_code() != Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        };
        let without: Vec<_> = unled.keys().cloned().collect();
        let again = items.take(&without, unled, |_, error| of_another_time(error));
        let asked: Vec<_> = led.iter().map(|led| led.partition.clone()).collect();
        if asked.is_empty() {
            return Ok(again);
        }
        let left = retry.left();
        let answers = retry.bound(async { Ok((self.0)(led, left).await) }).await?;
        // A leader that does not know its partition has not heard yet that it was created.
        Ok(items.take(&asked, answers, |_, error| error.is_retriable()).or(again))
    }
}

/// Who leads which of the partitions, as one broker says, and why nobody does.
async fn find<T>(
    retry: &mut Retry<'_>,
    partitions: &[TopicPartition],
) -> Result<(Vec<Led>, Answers<TopicPartition, T>)> {
    let mut topics: Vec<_> = partitions.iter().map(|partition| partition.topic().to_owned()).collect();
    topics.dedup();
    let cluster = ask_metadata(retry, Some(&topics)).await?;
    introduce(retry, &cluster);
    let leaders = Leaders::of(&cluster);
    let (mut led, mut unled) = (Vec::new(), Answers::new());
    for partition in partitions {
        match leaders.leader(partition) {
            Ok((leader, leader_epoch)) => {
                led.push(Led { partition: partition.clone(), leader, leader_epoch });
            }
            Err(code) => {
                let error = Error::broker(code, retry.what).with_topic_partition(partition.clone());
                unled.insert(partition.clone(), Err(error));
            }
        }
    }
    Ok((led, unled))
}

/// What metadata says.
struct Leaders<'a> {
    topics: BTreeMap<&'a str, ErrorCode>,
    /// The leader of each partition and its epoch, by topic and index.
    leaders: BTreeMap<(&'a str, i32), (i32, i32)>,
}

impl<'a> Leaders<'a> {
    fn of(cluster: &'a MetadataResponse) -> Self {
        let (mut topics, mut leaders) = (BTreeMap::new(), BTreeMap::new());
        for topic in &cluster.topics {
            let Some(name) = topic.name.as_deref() else { continue };
            topics.insert(name, topic.error_code);
            let parts = topic.partitions.iter();
            leaders.extend(
                parts.map(|part| ((name, part.partition_index), (part.leader_id, part.leader_epoch))),
            );
        }
        Self { topics, leaders }
    }

    fn leader(&self, partition: &TopicPartition) -> Result<(i32, i32), ErrorCode> {
        let name = partition.topic();
        self.topics.get(name).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?.into_result()?;
        match self.leaders.get(&(name, partition.partition())) {
            None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            Some((..0, _)) => Err(ErrorCode::LEADER_NOT_AVAILABLE),
            Some(leader) => Ok(*leader),
        }
    }
}
