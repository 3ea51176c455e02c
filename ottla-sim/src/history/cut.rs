//! What a group did with logs that were cut behind it, as if they had always been what they are in the end (KIP-320).
//!
//! ```text
//!   offset        0 … 79 | 80 … 99 | 80 … 84
//!   leader epoch       3 |       3 |       5      what is there in the end: 0 … 79 and the new 80 … 84
//!                        | lost    |
//!
//!   commits   100 of epoch 3: leads to 80         85 of epoch 5: leads to 85
//! ```
//!
//! A record is told from another one at its offset by the epoch of the leader that wrote it. What was handled and is lost is
//! nobody's business any more. A commit names the epoch of the record in front of it; whoever resumes there asks the leader
//! where that epoch ends, and goes on there if that is earlier: that is what the commit is worth in the log that is left. With
//! this, the same rules hold as for logs that were never cut: what is left is handled in order and from where commits lead to,
//! and nothing of it again that could be committed.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ottla::TopicPartition;
use tokio::time::Instant;

use super::group::{Place, Stored, Told, Topic, What};
use crate::Logged;

/// The election of a replica that was not in sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elected {
    /// When, in the time in which clusters live.
    pub at: Duration,
    /// The same, on the clock of clients.
    pub instant: Instant,
    /// Its epoch.
    pub leader_epoch: i32,
    /// Where each epoch of its log ended. What two logs have of one epoch is the same as far as both have it.
    pub ends: BTreeMap<i32, i64>,
}

impl Elected {
    /// Whether it did not have the record then, which an earlier leader wrote.
    pub(super) fn lacks(&self, (offset, leader_epoch): Place) -> bool {
        leader_epoch.is_some_and(|epoch| {
            epoch < self.leader_epoch && self.ends.get(&epoch).is_none_or(|end| offset >= *end)
        })
    }
}

/// Elections of replicas that were not in sync, by partition, in their order.
pub type Elections = BTreeMap<i32, Vec<Elected>>;

/// What a commit is worth in a log of which something was lost: up to there the log is the one that was handled. It is
/// another one from the first record of a later epoch than the commit knew, and from the first one that is lost of its epoch.
#[must_use]
pub fn leads_to(log: &[Logged], lost: &[Logged], stored: &Stored) -> i64 {
    let Some(epoch) = stored.leader_epoch else { return stored.offset };
    let end = log.last().map_or(0, |last| last.offset + 1);
    let later = log.iter().find(|logged| logged.leader_epoch > epoch).map_or(end, |later| later.offset);
    let there =
        |offset: i64| log.binary_search_by_key(&(offset, epoch), |it| (it.offset, it.leader_epoch)).is_ok();
    let of_epoch = lost.iter().filter(|logged| logged.leader_epoch == epoch && !there(logged.offset));
    let gone = of_epoch.map(|logged| logged.offset).min().unwrap_or(end);
    stored.offset.min(later).min(gone)
}

/// The history and the truth without what is lost. Partitions that have lost nothing are as they were.
pub(super) fn forget<'a>(told: &'a [Told], topics: &'a [Topic]) -> (Cow<'a, [Told]>, Cow<'a, [Topic]>) {
    if topics.iter().all(|topic| topic.elections.is_empty()) {
        return (told.into(), topics.into());
    }
    let (mut told, mut topics) = (told.to_vec(), topics.to_vec());
    for topic in &mut topics {
        forget_hidden(&mut told, topic);
        for (partition, elections) in topic.elections.clone() {
            forget_lost(&mut told, topic, partition);
            elections.iter().for_each(|elected| forget_void(&mut told, topic, partition, elected));
        }
    }
    (told.into(), topics.into())
}

/// What a log that was brought back hides from members that begin at a commit. That names the epoch of the record in front of
/// it, and not where that epoch began; and a leader that has nothing of it says where the one before ends in its own log:
///
/// ```text
///   was handled   0 … 576 of epoch 0 | 577 … 609 of epoch 1     committed: 610 of epoch 1
///   is left       0 ……… 578 of epoch 0 | 579 … of epoch 5       leads to 579, and hides 577 and 578 of epoch 0
/// ```
///
/// Whoever has read epoch 1 from its beginning knows better, and so nothing is hidden that somebody got from then on.
pub(super) fn hidden(told: &[Told], topic: &Topic) -> BTreeSet<(TopicPartition, Place)> {
    let mut all = BTreeSet::new();
    for (partition, log) in topic.logs.iter().filter(|(partition, _)| topic.elections.contains_key(partition))
    {
        let (Some(lost), Some(commits)) = (topic.lost.get(partition), topic.commits.get(partition)) else {
            continue;
        };
        let of: Vec<&Told> = told.iter().filter(|told| is_of(told, &topic.name, *partition)).collect();
        for (index, began) in of.iter().enumerate().filter(|(_, told)| told.what == What::Assigned) {
            let Some(at) = commits.iter().rfind(|stored| stored.at <= began.at) else { continue };
            let got = |place: Place| {
                of[index..]
                    .iter()
                    .any(|it| matches!(it.what, What::HandedOut(_)) && record(it) == Some(place))
            };
            let places = hidden_behind(log, lost, at).map(place).filter(|place| !got(*place));
            all.extend(places.map(|place| (began.partition.clone(), place)));
        }
    }
    all
}

/// What the log has of earlier epochs where the commit's began, none of which it has.
fn hidden_behind<'l>(log: &'l [Logged], lost: &[Logged], at: &Stored) -> impl Iterator<Item = &'l Logged> {
    let (epoch, to) = (at.leader_epoch.unwrap_or(-1), at.offset);
    let of_epoch = |logged: &&Logged| logged.leader_epoch == epoch;
    let began = lost.iter().filter(of_epoch).map(|logged| logged.offset).min();
    let began = began.filter(|_| !log.iter().any(|logged| of_epoch(&logged)));
    log.iter().filter(move |logged| {
        began.is_some_and(|began| (began..to).contains(&logged.offset)) && logged.leader_epoch < epoch
    })
}

fn forget_hidden(told: &mut Vec<Told>, topic: &mut Topic) {
    let hidden = hidden(told, topic);
    let is_hidden = |partition: TopicPartition, place| hidden.contains(&(partition, place));
    told.retain(|told| record(told).is_none_or(|place| !is_hidden(told.partition.clone(), place)));
    for (partition, log) in &mut topic.logs {
        let partition = TopicPartition::new(Arc::clone(&topic.name), *partition);
        log.retain(|logged| !is_hidden(partition.clone(), place(logged)));
    }
}

/// What is not in the log in the end is nobody's business, and commits are what they are worth in it.
fn forget_lost(told: &mut Vec<Told>, topic: &mut Topic, partition: i32) {
    let Topic { name, logs, commits, lost, .. } = topic;
    let Some(cut) = lost.get(&partition) else { return };
    let log = logs.get(&partition).map_or(&[][..], Vec::as_slice);
    let there: BTreeSet<Place> = log.iter().map(place).collect();
    let lost: BTreeSet<Place> = cut.iter().map(place).filter(|at| !there.contains(at)).collect();
    let stored = commits.get(&partition).cloned().unwrap_or_default();
    for stored in commits.get_mut(&partition).into_iter().flatten() {
        stored.offset = leads_to(log, cut, stored);
    }
    told.retain_mut(|told| {
        if !is_of(told, name, partition) {
            return true;
        }
        if let What::Committed(offset) = &mut told.what {
            // Members are told of offsets only.
            let mut by_then = stored.iter().rev().filter(|stored| stored.at <= told.at);
            if let Some(stored) = by_then.find(|stored| stored.offset == *offset) {
                *offset = leads_to(log, cut, stored);
            }
        }
        record(told).is_none_or(|place| !lost.contains(&place))
    });
}

/// What an election was lost with is void, though it is there in the end since it came back with another leader: whoever
/// went back to the end of that log handles it again. Then that counts, and not what was before. Who did not go back, goes on.
fn forget_void(told: &mut Vec<Told>, topic: &mut Topic, partition: i32, elected: &Elected) {
    let (name, of) = (Arc::clone(&topic.name), |told: &Told, name: &str| is_of(told, name, partition));
    let mut handled = BTreeSet::new();
    let goes_back = told.iter().position(|told| {
        let Some(place) = record(told).filter(|_| of(told, &name)) else { return false };
        if place.1.is_some_and(|epoch| epoch > elected.leader_epoch) {
            // What a later leader wrote behind it, and is left: from here on nobody goes back for this election.
            handled.clear();
        }
        if !elected.lacks(place) {
            return false;
        }
        if matches!(told.what, What::Handled(_)) {
            handled.insert(place);
        }
        told.at >= elected.at && matches!(told.what, What::HandedOut(_)) && handled.contains(&place)
    });
    let Some(goes_back) = goes_back else { return };
    let (at, Some((to, _))) = (told[goes_back].at, record(&told[goes_back])) else { return };
    let (mut index, mut again) = (0, BTreeSet::new());
    told.retain_mut(|told| {
        let is_before = index < goes_back;
        index += 1;
        if !of(told, &name) {
            return true;
        }
        match &mut told.what {
            What::Committed(offset) if is_before => *offset = to.min(*offset),
            What::HandedOut(_) if !is_before => again.extend(record(told).map(|place| (told.member, place))),
            _ => {}
        }
        let place = record(told).filter(|place| place.0 >= to && elected.lacks(*place));
        // What was in hand when its member went back is as if it had not been.
        place.is_none_or(|place| !is_before && again.contains(&(told.member, place)))
    });
    for stored in topic.commits.get_mut(&partition).into_iter().flatten().filter(|stored| stored.at < at) {
        stored.offset = to.min(stored.offset);
    }
}

fn is_of(told: &Told, topic: &str, partition: i32) -> bool {
    (told.partition.topic(), told.partition.partition()) == (topic, partition)
}

/// The record that is handed out or handled.
fn record(told: &Told) -> Option<Place> {
    match told.what {
        What::HandedOut(offset) | What::Handled(offset) => Some((offset, told.leader_epoch)),
        _ => None,
    }
}

/// A record that somebody got, and that never was in a log.
pub(super) fn unheard_of<'t>(told: &'t [Told], topics: &[Topic]) -> Option<&'t Told> {
    let mut known: BTreeMap<TopicPartition, BTreeSet<Place>> = BTreeMap::new();
    for topic in topics {
        for (partition, log) in topic.logs.iter().chain(&topic.lost) {
            let partition = TopicPartition::new(Arc::clone(&topic.name), *partition);
            known.entry(partition).or_default().extend(log.iter().map(place));
        }
    }
    told.iter().find(|told| match told.what {
        What::HandedOut(offset) => {
            let known = known.get(&told.partition);
            known.is_none_or(|known| !known.contains(&(offset, told.leader_epoch)))
        }
        _ => false,
    })
}

fn place(logged: &Logged) -> Place {
    (logged.offset, Some(logged.leader_epoch))
}
