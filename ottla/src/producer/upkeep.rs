//! What a producer does without being asked: it follows the leaders of its partitions, and tells who waits too long.

use std::{sync::Arc, time::Instant};

use ottla_core::{
    metadata::{ClusterSnapshot, TopicMetadata},
    produce::Leader,
};
use tokio::time::sleep_until;

use super::{
    inner::{Inner, overdue},
    topic::{Partition, Topic},
};
use crate::net::now;

/// The task of a producer; ends with it, or with the client.
pub(super) async fn run(inner: Arc<Inner>) {
    let inner = EndOnDrop(inner);
    let inner = &inner.0;
    let mut seen = 0;
    let ended = inner.ended();
    tokio::pin!(ended);
    loop {
        let deadline = inner.expire(now());
        tokio::select! {
            biased;
            () = &mut ended => return,
            () = inner.client.closed() => return,
            snapshot = inner.client.metadata.changed(seen) => {
                seen = snapshot.version;
                inner.follow(&snapshot);
            }
            () = sleep_until(deadline.into()) => {}
        }
    }
}

/// Whatever ends the task, nobody waits for an outcome that will not come.
struct EndOnDrop(Arc<Inner>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Inner {
    /// Tells whose deadline is over, and when to look again. All batches have the same timeout, so that one that comes
    /// later is never due before that: nothing has to be noted when a batch is opened.
    fn expire(&self, now: Instant) -> Instant {
        let timeout = self.config.queue.delivery_timeout;
        let mut next = now + timeout;
        self.each_partition(|partition| {
            let (told, trouble) = {
                let mut slot = partition.lock();
                let told = slot.queue.expire(now, |completion| completion.outcome.clone());
                next = slot.queue.next_deadline().map_or(next, |deadline| deadline.min(next));
                partition.publish_backlog(&slot);
                (told, slot.trouble.clone())
            };
            if !told.is_empty() {
                let error = overdue(timeout);
                let trouble = trouble.or_else(|| self.identity.trouble());
                let error = trouble.into_iter().fold(error, |error, trouble| error.with_source(trouble));
                self.tell(partition, told, &error);
                // What was behind it may go.
                self.list(partition);
            }
        });
        next
    }

    /// Takes over who leads which partition.
    fn follow(self: &Arc<Self>, snapshot: &ClusterSnapshot) {
        for topic in self.topics() {
            if let Some(told) = snapshot.topics.get(&*topic.name) {
                self.learn(&topic, told);
            }
        }
    }

    /// Takes over what is known of a topic. One that is missing in a snapshot keeps its leaders: it may be a stale
    /// answer, and if it is gone the brokers will say so themselves.
    pub(super) fn learn(self: &Arc<Self>, topic: &Topic, told: &TopicMetadata) {
        self.learn_partitions(topic, told);
        topic.each_partition(|partition| {
            if let Some(known) = told.partition(partition.number()) {
                let leader = known.leader.map(|node| Leader { node, epoch: known.leader_epoch });
                self.lead(partition, told, leader);
            }
        });
    }

    /// `leader` leads the partition from now on.
    fn lead(self: &Arc<Self>, partition: &Arc<Partition>, told: &TopicMetadata, leader: Option<Leader>) {
        let sender = leader.map(|leader| self.sender(leader.node));
        let listed = {
            let mut slot = partition.lock();
            if slot.closed && slot.queue.is_empty() {
                return;
            }
            if slot.topic_id != told.id {
                slot.topic_id = told.id;
                slot.queue.recreated();
            } else if is_older(leader, slot.queue.leader()) {
                return;
            }
            if !slot.queue.set_leader(leader) {
                return;
            }
            slot.sender = sender;
            partition.publish_backlog(&slot);
            // The sender of before drops it wherever it has it.
            slot.listed = slot.sender.is_some() && !slot.queue.is_empty();
            if slot.listed { slot.sender.clone() } else { None }
        };
        if let Some(sender) = listed {
            sender.list_quietly(partition.clone());
        }
    }
}

/// Whether this is an answer of before what is known already (KIP-320).
fn is_older(told: Option<Leader>, known: Option<Leader>) -> bool {
    matches!((told, known), (Some(told), Some(known)) if told.epoch >= 0 && told.epoch < known.epoch)
}
