//! The replicas of a node: which there are, what they want, and what comes back from the disk.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::{META, Node, RequestId, Timer};
use crate::image::{Image, Topic};
use crate::io::{DiskRequest, DiskToken, FileId, NodeId, Now, Output, Sender};
use crate::log::FLOOR;
use crate::peer::{ReplicaAppend, ReplicaState};
use crate::replica::{Effect, Replica, ReplicaKey};

/// Reports that came too early, of which more are not kept; followers repeat them.
const MAX_EARLY: usize = 10_000;

/// What a request to the disk was for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// Nobody waits for it.
    Nothing,
    /// An append of a replica is in the file; that it is on disk comes later.
    Appended(ReplicaKey),
    /// An append of a replica is on disk.
    Written(ReplicaKey),
    /// Where the log of a replica begins is written down: that offset, at that position.
    Kept(ReplicaKey, (i64, u64)),
    /// Batches for a follower, from that offset on.
    Feed { key: ReplicaKey, follower: NodeId, base_offset: i64 },
    /// Batches for a request.
    Request { id: RequestId, slot: usize },
    /// Batches for the shard of groups that is loaded in that epoch, up to that offset.
    Load { key: ReplicaKey, epoch: i32, next_offset: i64 },
}

impl Node {
    /// The controller has sent the metadata.
    pub(super) fn apply(&mut self, now: Now, image: Arc<Image>) {
        // Before this life of the node is registered, what others are told is about the former one: it may have led.
        let unknown_yet = self.image.version == 0 && !self.is_named(&image);
        if image.version <= self.image.version || unknown_yet {
            return;
        }
        if let Err(why) = self.check_cluster(&image) {
            return self.halt(why);
        }
        let old = std::mem::replace(&mut self.image, Arc::clone(&image));
        let mut gone = BTreeSet::new();
        for topic in old.topics.values().filter(|topic| !image.names.contains_key(&topic.id)) {
            self.remove_topic(topic);
            gone.insert(Arc::clone(&topic.name));
        }
        self.forget_offsets(now, &gone);
        for topic in image.topics.values() {
            let same = old.topics.get(&topic.name).is_some_and(|known| Arc::ptr_eq(known, topic));
            if !same {
                self.apply_topic(now, topic);
            }
        }
        if old.version == 0 {
            self.first_image(now);
        }
        self.check_registration(now);
        // One that still comes too early is dropped; the follower repeats it.
        for (from, state) in std::mem::take(&mut self.early) {
            let key = (state.topic, state.partition);
            self.with_replica(key, |replica, effects| replica.reported(now, from, &state, effects));
        }
    }

    /// The data of one cluster must not be taken for that of another.
    fn check_cluster(&mut self, image: &Image) -> Result<(), String> {
        if self.cluster.is_empty() {
            self.cluster = image.cluster_id.to_string();
            let file = Bytes::from(format!("{}\n", self.cluster));
            self.ask_disk(DiskRequest::Replace(FileId::Meta(META), file), Purpose::Nothing);
        }
        if *self.cluster == *image.cluster_id {
            return Ok(());
        }
        let (own, other) = (&self.cluster, &image.cluster_id);
        Err(format!("the data of node {} belongs to cluster {own}, this is cluster {other}", self.id))
    }

    fn first_image(&mut self, now: Now) {
        // Logs of topics that were deleted while the node was down.
        for key in std::mem::take(&mut self.recovered).into_keys() {
            self.remove_files(key);
        }
        self.arm_retention(now);
        for connection in self.connections.ids() {
            self.work.push_back(super::Work::Connection(connection));
        }
    }

    fn apply_topic(&mut self, now: Now, topic: &Topic) {
        for (index, partition) in (0..).zip(&topic.partitions) {
            let key = (topic.id, index);
            if partition.replicas.contains(&self.id) {
                self.ensure_replica(key);
                self.with_replica(key, |replica, effects| replica.apply(now, partition, effects));
            }
        }
    }

    fn ensure_replica(&mut self, key: ReplicaKey) {
        if !self.replicas.contains_key(&key) {
            let log = self.recovered.remove(&key).unwrap_or_default();
            let replica = Replica::new(key, (self.id, self.incarnation), &self.config, log);
            self.replicas.insert(key, replica);
        }
    }

    fn remove_topic(&mut self, topic: &Topic) {
        for (index, _) in (0..).zip(&topic.partitions) {
            let key = (topic.id, index);
            if self.replicas.remove(&key).is_some() {
                if let Some(at) = self.armed.remove(&key) {
                    self.timers.remove(&(at, Timer::Replica(key)));
                }
                self.remove_files(key);
                self.wake_watchers(key);
            }
        }
    }

    /// The log first: what is left of it without the other file would begin at its first batch.
    fn remove_files(&mut self, (topic, partition): ReplicaKey) {
        let files = [FileId::Log(topic, partition), FileId::ReplicaMeta(topic, partition, FLOOR)];
        for file in files {
            self.ask_disk(DiskRequest::Remove(file), Purpose::Nothing);
        }
    }

    pub(super) fn follower_reports(&mut self, now: Now, from: NodeId, state: ReplicaState) {
        let key = (state.topic, state.partition);
        let known = self.replicas.get(&key).map(Replica::leader_epoch);
        if known.is_none_or(|known| known < state.leader_epoch) {
            if self.early.len() < MAX_EARLY {
                self.early.push((from, state));
            }
            return;
        }
        self.with_replica(key, |replica, effects| replica.reported(now, from, &state, effects));
    }

    pub(super) fn leader_pushes(&mut self, now: Now, from: NodeId, push: ReplicaAppend) {
        let key = (push.topic, push.partition);
        self.with_replica(key, |replica, effects| replica.pushed(now, from, push, effects));
    }

    /// Lets a replica do something, and does what it wants.
    pub(crate) fn with_replica<T>(
        &mut self,
        key: ReplicaKey,
        act: impl FnOnce(&mut Replica, &mut Vec<Effect>) -> T,
    ) -> Option<T> {
        let mut effects = Vec::new();
        let done = act(self.replicas.get_mut(&key)?, &mut effects);
        for effect in effects {
            self.carry_out(key, effect);
        }
        self.arm(key);
        Some(done)
    }

    fn carry_out(&mut self, key: ReplicaKey, effect: Effect) {
        let file = FileId::Log(key.0, key.1);
        match effect {
            Effect::Append { data, sync } => {
                let purpose = Purpose::Written(key);
                let first = if sync { Purpose::Appended(key) } else { purpose };
                let mut token = self.ask_disk(DiskRequest::Append(file.clone(), data), first);
                if sync {
                    token = self.ask_disk(DiskRequest::Sync(file), purpose);
                }
                if let Some(replica) = self.replicas.get_mut(&key) {
                    replica.asked(token);
                }
            }
            Effect::Truncate(size) => {
                self.ask_disk(DiskRequest::Truncate(file, size), Purpose::Nothing);
            }
            Effect::Keep(floor) => {
                let kept = (floor.start_offset, floor.position);
                let file = FileId::ReplicaMeta(key.0, key.1, FLOOR);
                let content = floor.write().into();
                self.ask_disk(DiskRequest::Replace(file, content), Purpose::Kept(key, kept));
            }
            Effect::Release(position) => {
                self.ask_disk(DiskRequest::Release(file, position), Purpose::Nothing);
            }
            Effect::Read { follower, base_offset, position, length } => {
                let purpose = Purpose::Feed { key, follower, base_offset };
                self.ask_disk(DiskRequest::Read { file, position, length }, purpose);
            }
            Effect::Send(node, message) => self.out.push(Output::Peer(Sender::Node(node), message)),
            Effect::Controller(message) => self.tell_controller(message),
            Effect::Progress => self.wake_watchers(key),
        }
    }

    fn arm(&mut self, key: ReplicaKey) {
        let wanted = self.replicas.get(&key).and_then(Replica::deadline);
        let armed = self.armed.get(&key).copied();
        if wanted == armed {
            return;
        }
        if let Some(at) = armed {
            self.timers.remove(&(at, Timer::Replica(key)));
            self.armed.remove(&key);
        }
        if let Some(at) = wanted {
            self.timers.insert((at, Timer::Replica(key)));
            self.armed.insert(key, at);
        }
    }

    /// Reads whole batches for a request.
    pub(crate) fn read_for(
        &mut self,
        id: RequestId,
        slot: usize,
        key: ReplicaKey,
        position: u64,
        length: u32,
    ) {
        let request = DiskRequest::Read { file: FileId::Log(key.0, key.1), position, length };
        self.ask_disk(request, Purpose::Request { id, slot });
    }

    pub(super) fn written(&mut self, now: Now, token: DiskToken, purpose: Purpose) {
        if let Purpose::Kept(key, kept) = purpose {
            self.with_replica(key, |replica, effects| replica.kept(now, kept, effects));
        }
        if let Purpose::Written(key) = purpose {
            let starved = |replica: &Replica| replica.is_starved();
            let was_starved = self.replicas.get(&key).is_some_and(starved);
            self.with_replica(key, |replica, effects| replica.confirmed(now, token, effects));
            if was_starved && !self.replicas.get(&key).is_some_and(starved) {
                self.out.push(Output::Trouble(format!("there is room again for {}", self.describe(key))));
            }
        }
    }

    /// The disk has no room for a write, which waits until there is. What its partition has is served meanwhile; new
    /// records are refused, so that what waits does not grow.
    pub(super) fn no_room(&mut self, purpose: Purpose, why: &str) {
        let (Purpose::Written(key) | Purpose::Appended(key)) = purpose else {
            return self.out.push(Output::Trouble(format!("no room on the disk: {why}")));
        };
        let partition = self.describe(key);
        self.out.push(Output::Trouble(format!(
            "no room on the disk for {partition}: {why}; it takes no records until there is"
        )));
        if let Some(replica) = self.replicas.get_mut(&key) {
            replica.starve();
        }
        // Whoever waits for an acknowledgement is told now.
        self.wake_watchers(key);
    }

    fn describe(&self, (topic, partition): ReplicaKey) -> String {
        match self.image.topic_by_id(topic) {
            Some(topic) => format!("{}-{partition}", topic.name),
            None => format!("{topic}-{partition}"),
        }
    }

    pub(super) fn read(&mut self, now: Now, purpose: Purpose, data: Bytes) {
        match purpose {
            Purpose::Feed { key, follower, base_offset } => {
                self.with_replica(key, |replica, effects| {
                    replica.feed(now, follower, base_offset, data, effects)
                });
            }
            Purpose::Request { id, slot } => self.deliver_read(id, slot, data),
            Purpose::Load { key, epoch, next_offset } => self.load_on(now, key, epoch, (data, next_offset)),
            Purpose::Nothing | Purpose::Appended(_) | Purpose::Written(_) | Purpose::Kept(..) => {}
        }
    }
}
