//! All partitions of a consumer.

mod absent;
mod explain;
mod fetching;
mod hand_out;
mod look_up;
mod members;

#[cfg(test)]
mod members_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod replica_tests;
#[cfg(test)]
mod test_cluster;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod truncation_tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use ottla_protocol::Str;

use super::{
    Absence, Budget, FetchSession, LeaderNews, LogMarks, OffsetSpec, Pause, Position, Reset, Start,
    absence::Absences,
    cursor::{Cursor, Paused, Phase},
};
use crate::backoff::BackoffPolicy;

pub use self::{
    fetching::{CatchUp, Effects, FetchAsk, FetchPlan, LeaderHint},
    hand_out::{Finished, Handout, Outcome, Ticket},
    look_up::{LookUpAsk, LookUpPlan},
};

/// How a consumer fetches.
#[derive(Debug, Clone)]
pub struct FetchSettings {
    /// How long a broker may wait for records before it answers with none (`fetch.max.wait.ms`).
    pub max_wait: Duration,
    /// So many bytes are worth an answer before that time (`fetch.min.bytes`).
    pub min_bytes: i32,
    /// The most that one answer may bring (`fetch.max.bytes`).
    pub max_bytes: i32,
    /// The most that one answer may bring for one partition (`max.partition.fetch.bytes`).
    pub max_partition_bytes: i32,
    /// What is to be read of transactions.
    pub isolation: IsolationLevel,
    /// What to do about a position that is not in the log.
    pub on_out_of_range: Reset,
    /// How long to wait before the next try.
    pub backoff: BackoffPolicy,
    /// How long what was named may be unknown to the cluster before the user hears of it (`default.api.timeout.ms`).
    pub absent_after: Duration,
    /// The rack of this client (KIP-392); empty for none.
    pub rack: Str,
    /// How long the replica that a leader has named is read before the leader is asked again (`metadata.max.age.ms`).
    pub replica_for: Duration,
}

/// What is to be read of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IsolationLevel {
    /// All records, whatever becomes of their transaction.
    #[default]
    ReadUncommitted,
    /// Committed records only; reading stops in front of open transactions.
    ReadCommitted,
}

impl IsolationLevel {
    /// As requests have it.
    #[must_use]
    pub fn to_wire(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// A position that moved by itself, as the reset policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionReset {
    /// The partition's topic.
    pub topic: Str,
    /// The partition's number.
    pub partition: i32,
    /// Where it stood, if it stood anywhere.
    pub from: Option<i64>,
    /// Where it stands now, with the leader epoch that whoever is the next to read from there has to be told (KIP-320).
    pub to: Position,
    /// Why, in a few words.
    pub reason: &'static str,
    /// Where it stood was in another log of the same name.
    pub other_log: bool,
}

/// All partitions of a consumer: what to ask which broker, what the answers mean, what `poll` gets.
#[derive(Debug)]
pub struct Partitions {
    settings: FetchSettings,
    budget: Arc<Budget>,
    /// By an id that is never used again, so that an answer cannot reach a later assignment of the same partition.
    cursors: BTreeMap<u64, Cursor>,
    metadata_version: u64,
    by_name: BTreeMap<Str, BTreeMap<i32, u64>>,
    /// Who has something for `poll`, in turn. May name some that have not, never one twice.
    ready: VecDeque<u64>,
    absences: Absences,
    /// What is not there and has to be told.
    notices: VecDeque<Absence>,
    sessions: BTreeMap<i32, FetchSession>,
    next_id: u64,
    next_pause: u64,
    /// Who was paused by which number, and may not be assigned any more.
    paused: BTreeMap<u64, Vec<u64>>,
    rotation: usize,
}

impl Partitions {
    /// None yet.
    #[must_use]
    pub fn new(settings: FetchSettings, budget: Arc<Budget>) -> Self {
        Self {
            absences: Absences::new(settings.absent_after),
            notices: VecDeque::new(),
            settings,
            budget,
            cursors: BTreeMap::new(),
            metadata_version: 0,
            by_name: BTreeMap::new(),
            ready: VecDeque::new(),
            sessions: BTreeMap::new(),
            next_id: 0,
            next_pause: 0,
            paused: BTreeMap::new(),
            rotation: 0,
        }
    }

    /// Reads these partitions from these places, and no others. One that was read before starts over at its place.
    ///
    /// The leaders come with the next [`Self::on_metadata`].
    pub fn assign(&mut self, wanted: impl IntoIterator<Item = (Str, i32, OffsetSpec)>) {
        self.cursors.clear();
        self.by_name.clear();
        self.ready.clear();
        for (topic, partition, spec) in wanted {
            self.insert(topic, partition, Start::At(spec));
        }
    }

    fn insert(&mut self, topic: Str, partition: i32, start: Start) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.by_name.entry(topic.clone()).or_default().insert(partition, id);
        self.cursors.insert(id, Cursor::new(topic, partition, start));
        id
    }

    /// The assigned partitions, by topic and number.
    pub fn assigned(&self) -> impl Iterator<Item = (&Str, i32)> {
        self.by_name.iter().flat_map(|(topic, ids)| ids.keys().map(move |partition| (topic, *partition)))
    }

    /// The topics of the assigned partitions.
    pub fn topics(&self) -> impl Iterator<Item = &Str> {
        self.by_name.keys()
    }

    /// Whom to ask: who leads any of the partitions, or is read in place of the leader.
    #[must_use]
    pub fn brokers(&self, now: Instant) -> BTreeSet<i32> {
        self.cursors.values().flat_map(|cursor| [cursor.leader, cursor.source(now)]).flatten().collect()
    }

    /// Takes over what the cluster says about the leaders of the partitions.
    ///
    /// What is known of the cluster has a version that counts up; an older one than was told before changes nothing.
    pub fn on_metadata(&mut self, version: u64, news: impl Fn(&str, i32) -> LeaderNews) {
        if version < self.metadata_version {
            return;
        }
        self.metadata_version = version;
        let policy = self.settings.on_out_of_range;
        for (id, cursor) in &mut self.cursors {
            cursor.on_leader(news(&cursor.topic, cursor.partition));
            cursor.settle(policy);
            enlist(&mut self.ready, *id, cursor);
        }
    }

    /// Takes over which replicas of a partition can be read: those that are in sync and in the cluster. To be called behind
    /// [`Self::on_metadata`], of the same version.
    pub fn on_replicas(&mut self, version: u64, in_sync: impl Fn(&str, i32, i32) -> bool) {
        if version < self.metadata_version {
            return;
        }
        for cursor in self.cursors.values_mut() {
            cursor.on_replicas(&in_sync);
        }
    }

    /// The topics of which some partition is not in the cluster, as far as is known: somebody should go on asking.
    pub fn unknown_topics(&self) -> BTreeSet<Str> {
        self.cursors.values().filter(|cursor| !cursor.known).map(|cursor| cursor.topic.clone()).collect()
    }

    /// Who leads the partition.
    #[must_use]
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        self.cursor(topic, partition)?.leader
    }

    /// Whom the partition waits for: its leader, or the replica that is read in its place.
    #[must_use]
    pub fn waits_for(&self, topic: &str, partition: i32, now: Instant) -> Option<i32> {
        let cursor = self.cursor(topic, partition)?;
        if matches!(cursor.phase, Phase::Fetching) { cursor.source(now) } else { cursor.leader }
    }

    /// Goes on at another place, and ends a hold. What was buffered is dropped. `false`: the partition is not assigned.
    pub fn seek(&mut self, topic: &str, partition: i32, spec: OffsetSpec) -> bool {
        let Some(cursor) = self.cursor_mut(topic, partition) else { return false };
        cursor.seek(spec);
        true
    }

    /// The offset of the next record to hand out; `None` if that is not known yet, or the partition not assigned.
    #[must_use]
    pub fn position(&self, topic: &str, partition: i32) -> Option<i64> {
        self.cursor(topic, partition)?.position.map(|position| position.offset)
    }

    /// Whether the position is still being asked for.
    #[must_use]
    pub fn is_resolving(&self, topic: &str, partition: i32) -> bool {
        self.cursor(topic, partition).is_some_and(|cursor| matches!(cursor.phase, Phase::Resolving { .. }))
    }

    /// What the leader last said about its log.
    #[must_use]
    pub fn log_marks(&self, topic: &str, partition: i32) -> Option<LogMarks> {
        self.cursor(topic, partition).map(|cursor| cursor.log)
    }

    /// Hands out nothing of these partitions until [`Self::resume`] with the same number; other pauses hold on their
    /// own. What is buffered stays. Partitions that are not assigned are left out.
    pub fn pause<'a>(
        &mut self,
        partitions: impl IntoIterator<Item = (&'a str, i32)>,
        pause: &Pause,
        now: Instant,
    ) -> u64 {
        let id = self.next_pause;
        self.next_pause += 1;
        let mut paused = Vec::new();
        for (topic, partition) in partitions {
            if let Some(cursor_id) = self.id(topic, partition)
                && let Some(cursor) = self.cursors.get_mut(&cursor_id)
                && cursor.pauses.last().is_none_or(|last| last.id != id)
            {
                cursor.pauses.push(Paused { id, pause: pause.clone(), since: now });
                paused.push(cursor_id);
            }
        }
        self.paused.insert(id, paused);
        id
    }

    /// Ends one pause.
    pub fn resume(&mut self, pause: u64) {
        for id in self.paused.remove(&pause).unwrap_or_default() {
            let Some(cursor) = self.cursors.get_mut(&id) else { continue };
            cursor.pauses.retain(|paused| paused.id != pause);
            enlist(&mut self.ready, id, cursor);
        }
    }

    /// Whether anybody has paused the partition.
    #[must_use]
    pub fn is_paused(&self, topic: &str, partition: i32) -> bool {
        self.cursor(topic, partition).is_some_and(Cursor::is_paused)
    }

    fn id(&self, topic: &str, partition: i32) -> Option<u64> {
        self.by_name.get(topic)?.get(&partition).copied()
    }

    fn cursor(&self, topic: &str, partition: i32) -> Option<&Cursor> {
        self.cursors.get(&self.id(topic, partition)?)
    }

    fn cursor_mut(&mut self, topic: &str, partition: i32) -> Option<&mut Cursor> {
        let id = self.id(topic, partition)?;
        self.cursors.get_mut(&id)
    }
}

/// What is said of partitions, by topic; topics in the order in which they come up.
fn by_topic<K: Ord + Clone, P>(parts: impl IntoIterator<Item = (K, P)>) -> Vec<(K, Vec<P>)> {
    let (mut places, mut topics) = (BTreeMap::new(), Vec::<(K, Vec<P>)>::new());
    for (topic, part) in parts {
        let place = *places.entry(topic.clone()).or_insert(topics.len());
        match topics.get_mut(place) {
            Some((_, parts)) => parts.push(part),
            None => topics.push((topic, vec![part])),
        }
    }
    topics
}

/// Puts the partition in line for `poll` if it has something for it.
fn enlist(ready: &mut VecDeque<u64>, id: u64, cursor: &mut Cursor) {
    if !cursor.listed && cursor.is_ready() {
        cursor.listed = true;
        ready.push_back(id);
    }
}
