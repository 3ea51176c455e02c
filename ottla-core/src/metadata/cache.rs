//! Turns answers of brokers, which may be stale or wrong, into what is known of the cluster.
//!
//! The life of a topic that somebody is interested in:
//!
//! ```text
//!              told of                           told of: merged, older leader epochs are ignored
//!   pending ─────────────▶ known ──────────────▶ known
//!     │ ▲                    │ unknown for the grace time: it was deleted
//!     │ └── interest again ──┼──────────┐
//!     │ unknown for the      ▼          │
//!     └────────────────▶ refused ───────┘
//!       grace time, or at once with another code (not authorised, invalid name)
//! ```
//!
//! Rules that come from brokers lagging behind each other:
//! * Of one incarnation (topic id, KIP-516) a leader epoch never goes back (KIP-320), and partitions never get fewer.
//! * Another topic id is another incarnation: nothing of the old one holds, and the old one cannot come back.
//! * Without topic ids, epochs that stay lower for several answers are believed: the topic was created anew.
//! * What every answer of five minutes contradicts was a lie, of a broker that is broken or not what it seems: an epoch, an
//!   id or a partition that no broker knows would make the topic unusable for as long as the client lives.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use ottla_protocol::{
    ErrorCode, Str, TopicId,
    messages::{
        MetadataResponse,
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
    },
};

use super::{BrokerAddress, ClusterSnapshot, PartitionMetadata, TopicMetadata};

/// What is known of the cluster, and of which topics it should be known.
#[derive(Debug)]
pub struct MetadataCache {
    snapshot: Arc<ClusterSnapshot>,
    watched: BTreeMap<Str, Watch>,
    unknown_topic_grace: Duration,
}

/// A topic that somebody is interested in.
#[derive(Debug, Default)]
struct Watch {
    /// Since when every answer says that there is no such topic.
    missing_since: Option<Instant>,
    refused: Option<(ErrorCode, Instant)>,
    /// Earlier incarnations, newest last.
    retired: Vec<TopicId>,
    /// Answers in a row of an earlier incarnation, of older leader epochs, or of fewer partitions.
    regressions: Regressions,
}

/// Answers in a row that go behind what is known.
#[derive(Debug, Default)]
struct Regressions {
    count: u32,
    since: Option<Instant>,
}

impl Regressions {
    /// Takes an answer; true if it has to be believed, after all that were like it.
    fn believed(&mut self, now: Instant, goes_back: bool, has_ids: bool) -> bool {
        if !goes_back {
            *self = Self::default();
            return false;
        }
        self.count += 1;
        let since = *self.since.get_or_insert(now);
        let believed = self.count >= REGRESSIONS_BELIEVED && (!has_ids || now >= since + LIE_BELIEVED);
        if believed {
            *self = Self::default();
        }
        believed
    }
}

/// What is known of a topic by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// It exists.
    Known(Arc<TopicMetadata>),
    /// Ask again after the next answer.
    Pending,
    /// It does not exist, or must not be seen.
    Refused(ErrorCode),
}

/// What an answer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// There is a new snapshot.
    pub changed: bool,
    /// Every topic is known with all its leaders, or refused.
    pub complete: bool,
}

/// An answer that tells nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Useless {
    /// It names no broker that could be connected to.
    #[error("the cluster metadata names no broker that could be connected to")]
    NoBrokers,
    /// More partitions than any cluster can have.
    #[error("the cluster metadata has more than {MAX_PARTITIONS} partitions")]
    TooLarge,
    /// The broker says so.
    #[error("the broker refused to tell cluster metadata: {0}")]
    Refused(ErrorCode),
}

impl Useless {
    /// Why an answer tells nothing; another broker may do better.
    #[must_use]
    pub fn check(answer: &MetadataResponse) -> Option<Self> {
        if answer.error_code != ErrorCode::NONE {
            return Some(Self::Refused(answer.error_code));
        }
        if answer.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>() > MAX_PARTITIONS {
            return Some(Self::TooLarge);
        }
        brokers(&answer.brokers).is_empty().then_some(Self::NoBrokers)
    }

    /// Whether nothing that is known of the cluster holds any more (KIP-1102).
    #[must_use]
    pub fn requires_rebootstrap(self) -> bool {
        self == Self::Refused(ErrorCode::REBOOTSTRAP_REQUIRED)
    }
}

/// A leader that another answer named in passing (KIP-951).
#[derive(Debug, Clone)]
pub struct LeaderHint<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// Its leader.
    pub leader_id: i32,
    /// The leader's epoch.
    pub leader_epoch: i32,
    /// Where the leader listens, if the answer said that too.
    pub endpoint: Option<BrokerAddress>,
}

/// Far more than Kafka supports; an answer beyond it is an attack or a bug.
const MAX_PARTITIONS: usize = 1_000_000;
/// A refusal is repeated for this long before the question is asked anew.
const REFUSAL_HOLDS: Duration = Duration::from_secs(1);
/// A refused topic that nobody asks for any more is forgotten after this.
const REFUSAL_FORGOTTEN: Duration = Duration::from_secs(600);
/// Without topic ids: after so many answers in a row an older epoch is believed.
const REGRESSIONS_BELIEVED: u32 = 5;
/// With them, when they go on for so long as well; also otherwise, what brokers contradict for so long was never true. Much
/// longer than brokers lag behind each other, and than a
/// deposed leader that hears nobody is the only one whom a client hears.
pub(crate) const LIE_BELIEVED: Duration = Duration::from_secs(300);
/// Earlier incarnations of a topic that are remembered.
const RETIRED_KEPT: usize = 8;

impl MetadataCache {
    /// Knows nothing; believes that a topic does not exist when it was unknown for `unknown_topic_grace`, since
    /// brokers learn of a new topic one after the other.
    #[must_use]
    pub fn new(unknown_topic_grace: Duration) -> Self {
        let snapshot = Arc::new(ClusterSnapshot { controller_id: -1, ..ClusterSnapshot::default() });
        Self { snapshot, watched: BTreeMap::new(), unknown_topic_grace }
    }

    /// What is known now.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<ClusterSnapshot> {
        &self.snapshot
    }

    /// The topics to ask for.
    pub fn watched(&self) -> impl Iterator<Item = &Str> {
        self.watched.keys()
    }

    /// Somebody is interested in a topic; true if it has to be asked for.
    pub fn watch(&mut self, now: Instant, topic: &str) -> bool {
        let Some(watch) = self.watched.get_mut(topic) else {
            self.watched.insert(Str::from(topic), Watch::default());
            return true;
        };
        let asks_anew = watch.refused.is_some_and(|(_, since)| now >= since + REFUSAL_HOLDS);
        if asks_anew {
            (watch.refused, watch.missing_since) = (None, None);
        }
        asks_anew
    }

    /// What is known of a topic.
    #[must_use]
    pub fn lookup(&self, topic: &str) -> Lookup {
        if let Some((code, _)) = self.watched.get(topic).and_then(|watch| watch.refused) {
            return Lookup::Refused(code);
        }
        self.snapshot.topics.get(topic).map_or(Lookup::Pending, |topic| Lookup::Known(topic.clone()))
    }

    /// Takes an answer that asked for [`MetadataCache::watched`].
    ///
    /// # Errors
    /// When it tells nothing; what was known stays.
    pub fn apply(&mut self, now: Instant, answer: &MetadataResponse) -> Result<Applied, Useless> {
        if let Some(useless) = Useless::check(answer) {
            return Err(useless);
        }
        let mut next = ClusterSnapshot {
            version: self.snapshot.version,
            cluster_id: answer.cluster_id.as_ref().map(Str::detached),
            controller_id: answer.controller_id,
            brokers: brokers(&answer.brokers),
            topics: BTreeMap::new(),
            topics_by_id: BTreeMap::new(),
        };
        if next.brokers.is_empty() {
            return Err(Useless::NoBrokers);
        }
        self.watched
            .retain(|_, watch| watch.refused.is_none_or(|(_, since)| now < since + REFUSAL_FORGOTTEN));
        let complete = self.apply_topics(now, answer, &mut next);
        Ok(Applied { changed: self.replace(next), complete })
    }

    fn apply_topics(&mut self, now: Instant, answer: &MetadataResponse, next: &mut ClusterSnapshot) -> bool {
        let told: BTreeMap<&str, &MetadataResponseTopic> =
            answer.topics.iter().filter_map(|topic| Some((topic.name.as_deref()?, topic))).collect();
        let mut complete = true;
        for (name, watch) in &mut self.watched {
            let old = self.snapshot.topics.get(name);
            let mut told_nothing = false;
            let topic = match told.get(name.as_str()) {
                Some(topic) if topic.error_code == ErrorCode::NONE => {
                    (watch.missing_since, watch.refused) = (None, None);
                    merge(now, (old, watch), name, topic, &next.brokers)
                }
                Some(topic) if is_final(topic.error_code) => {
                    watch.refused = Some((topic.error_code, now));
                    None
                }
                Some(topic) if !is_unknown(topic.error_code) => {
                    // What was known may be out of date: the reason for asking is still there.
                    told_nothing = true;
                    old.cloned()
                }
                // Unknown, or left out of the answer.
                _ => {
                    let since = *watch.missing_since.get_or_insert(now);
                    let gone = now >= since + self.unknown_topic_grace;
                    if gone && watch.refused.is_none() {
                        watch.refused = Some((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, now));
                    }
                    // One stale broker must not fail what is buffered for the topic.
                    old.filter(|_| !gone).cloned()
                }
            };
            let all_led = |topic: &TopicMetadata| topic.partitions.iter().all(|each| each.leader.is_some());
            complete &= watch.refused.is_some()
                || (!told_nothing && watch.missing_since.is_none() && topic.as_deref().is_some_and(all_led));
            if let Some(topic) = topic {
                insert(next, topic);
            }
        }
        complete
    }

    /// Replaces the snapshot if anything is different.
    fn replace(&mut self, mut next: ClusterSnapshot) -> bool {
        let old = &self.snapshot;
        let same = old.version > 0
            && (&old.cluster_id, old.controller_id) == (&next.cluster_id, next.controller_id)
            && old.brokers == next.brokers
            && old.topics == next.topics;
        if !same {
            next.version += 1;
            self.snapshot = Arc::new(next);
        }
        !same
    }

    /// Takes the leaders that an answer named in passing (KIP-951); true if one of them is news.
    pub fn on_leader_hints<'a>(&mut self, hints: impl IntoIterator<Item = LeaderHint<'a>>) -> bool {
        // A broker that steps down names a new leader for each of its partitions: a topic is copied once for all of them.
        let mut topics = BTreeMap::<&str, TopicMetadata>::new();
        let mut endpoints = BTreeMap::<i32, BrokerAddress>::new();
        for hint in hints {
            let Some(known) = self.snapshot.topics.get(hint.topic) else { continue };
            let endpoint =
                hint.endpoint.filter(|endpoint| endpoint.id == hint.leader_id && endpoint.is_usable());
            let reachable = endpoint.is_some()
                || endpoints.contains_key(&hint.leader_id)
                || self.snapshot.brokers.contains_key(&hint.leader_id);
            let newer = |known: &TopicMetadata| {
                known.partition(hint.partition).is_some_and(|known| hint.leader_epoch > known.leader_epoch)
            };
            if !reachable || !newer(topics.get(hint.topic).unwrap_or(known)) {
                continue;
            }
            endpoints.extend(endpoint.map(|endpoint| (endpoint.id, endpoint)));
            let topic = topics.entry(hint.topic).or_insert_with(|| TopicMetadata::clone(known));
            let place = usize::try_from(hint.partition).ok().and_then(|at| topic.partitions.get_mut(at));
            if let Some(partition) = place {
                partition.leader = Some(hint.leader_id);
                partition.leader_epoch = hint.leader_epoch;
                partition.error = ErrorCode::NONE;
            }
        }
        if topics.is_empty() {
            return false;
        }
        let mut next = ClusterSnapshot::clone(&self.snapshot);
        next.brokers.extend(endpoints);
        topics.into_values().for_each(|topic| insert(&mut next, Arc::new(topic)));
        self.replace(next)
    }
}

impl BrokerAddress {
    pub(crate) fn is_usable(&self) -> bool {
        self.id >= 0 && self.port > 0 && !self.host.is_empty()
    }
}

fn insert(snapshot: &mut ClusterSnapshot, topic: Arc<TopicMetadata>) {
    if !topic.id.is_zero() {
        snapshot.topics_by_id.insert(topic.id, topic.clone());
    }
    snapshot.topics.insert(topic.name.clone(), topic);
}

fn is_unknown(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID)
}

/// Whether asking again will not help. A broker's own trouble says nothing about the topic.
fn is_final(code: ErrorCode) -> bool {
    !is_unknown(code) && !code.is_retriable() && code != ErrorCode::UNKNOWN_SERVER_ERROR
}

/// The brokers that could be connected to. Of several with one id the first counts.
fn brokers(told: &[MetadataResponseBroker]) -> BTreeMap<i32, BrokerAddress> {
    let mut brokers = BTreeMap::new();
    for broker in told {
        let address = BrokerAddress {
            id: broker.node_id,
            host: broker.host.detached(),
            port: u16::try_from(broker.port).unwrap_or(0),
            rack: broker.rack.as_ref().map(Str::detached),
        };
        if address.is_usable() {
            brokers.entry(address.id).or_insert(address);
        }
    }
    brokers
}

/// What is known of a topic after an answer about it: `None` if it has told nothing yet.
fn merge(
    now: Instant,
    (old, watch): (Option<&Arc<TopicMetadata>>, &mut Watch),
    name: &Str,
    told: &MetadataResponseTopic,
    brokers: &BTreeMap<i32, BrokerAddress>,
) -> Option<Arc<TopicMetadata>> {
    if told.partitions.is_empty() {
        return old.cloned();
    }
    if watch.retired.contains(&told.topic_id) {
        if !watch.regressions.believed(now, true, true) {
            return old.cloned();
        }
        watch.retired.retain(|retired| *retired != told.topic_id);
    }
    let same = old.filter(|old| old.id == told.topic_id || old.id.is_zero() || told.topic_id.is_zero());
    let fresh = partitions(&told.partitions, brokers);
    let mut merged = TopicMetadata {
        name: name.clone(),
        id: told.topic_id,
        is_internal: told.is_internal,
        partitions: Vec::new(),
    };
    match (same, old) {
        (Some(same), _) => {
            // A broker that does not tell the id has not changed it.
            merged.id = if told.topic_id.is_zero() { same.id } else { told.topic_id };
            merged.partitions = merge_partitions(now, same, watch, fresh);
        }
        (None, old) => {
            if let Some(old) = old {
                retire(watch, old.id);
            }
            watch.regressions = Regressions::default();
            merged.partitions = fresh.into_iter().map(Option::unwrap_or_default).collect();
        }
    }
    match old {
        Some(old) if **old == merged => Some(old.clone()),
        _ => Some(Arc::new(merged)),
    }
}

fn retire(watch: &mut Watch, id: TopicId) {
    if watch.retired.len() == RETIRED_KEPT {
        watch.retired.remove(0);
    }
    watch.retired.push(id);
}

/// Kafka numbers partitions from 0 without gaps: a number below 0, one that no topic with so many partitions can
/// have, and the second of the same number are dropped; a missing one is `None`.
fn partitions(
    told: &[MetadataResponsePartition],
    brokers: &BTreeMap<i32, BrokerAddress>,
) -> Vec<Option<PartitionMetadata>> {
    let mut partitions = vec![None; told.len()];
    for partition in told {
        let slot = usize::try_from(partition.partition_index).ok().and_then(|at| partitions.get_mut(at));
        if let Some(slot @ None) = slot {
            *slot = Some(PartitionMetadata {
                leader: Some(partition.leader_id).filter(|leader| brokers.contains_key(leader)),
                leader_epoch: partition.leader_epoch,
                error: partition.error_code,
                replicas: partition.replica_nodes.clone(),
                isr: partition.isr_nodes.clone(),
            });
        }
    }
    partitions
}

fn merge_partitions(
    now: Instant,
    old: &TopicMetadata,
    watch: &mut Watch,
    mut fresh: Vec<Option<PartitionMetadata>>,
) -> Vec<PartitionMetadata> {
    let has_ids = !old.id.is_zero();
    let older = |old: &PartitionMetadata, new: &PartitionMetadata| {
        (0..old.leader_epoch).contains(&new.leader_epoch) && !planted!("stale-metadata-accepted")
    };
    let fewer = fresh.len() < old.partitions.len();
    let known = old.partitions.iter().zip(&fresh);
    let stale = known.filter_map(|(old, new)| Some((old, new.as_ref()?))).any(|(old, new)| older(old, new));
    let believed = watch.regressions.believed(now, stale || fewer && has_ids, has_ids);
    if !believed {
        fresh.resize(fresh.len().max(old.partitions.len()), None);
    }
    let merge = |(at, new): (usize, Option<PartitionMetadata>)| match (old.partitions.get(at), new) {
        (Some(old), Some(new)) if older(old, &new) && !believed => old.clone(),
        (_, Some(new)) => new,
        (Some(old), None) => old.clone(),
        (None, None) => PartitionMetadata::default(),
    };
    fresh.into_iter().enumerate().map(merge).collect()
}

/// A partition of which nothing was told.
impl Default for PartitionMetadata {
    fn default() -> Self {
        Self {
            leader: None,
            leader_epoch: -1,
            error: ErrorCode::LEADER_NOT_AVAILABLE,
            replicas: Vec::new(),
            isr: Vec::new(),
        }
    }
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "cache_properties.rs"]
mod properties;
