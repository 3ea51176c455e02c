//! `ottla groups seek`: where a group goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    time::{Duration, SystemTime},
};

use clap::Args;
use ottla::{
    Admin, Error, ErrorCode, OffsetAndMetadata, OffsetSpec, TopicPartition,
    admin::{GroupDescription, GroupState},
};
use serde_json::json;

use crate::{
    commands::topics::why_not,
    complete,
    output::{Failure, Failures, say},
    text::{
        chosen::Chosen,
        offset_range::{Bound, OffsetRange},
        table::{Table, number},
        time,
    },
};

#[derive(Debug, Args)]
pub(super) struct Seek {
    /// The group; nobody may be in it.
    #[arg(add = complete::groups())]
    group: String,
    /// All partitions of a topic, or some; what the group has committed something for when none are named.
    #[arg(value_name = "TOPIC[:N,…]", add = complete::topics(), value_parser = Chosen::parse)]
    topics: Vec<Chosen>,
    #[command(flatten)]
    goal: Goal,
    /// Do it. Without it only the table of what would change is printed.
    #[arg(long, short = 'y', visible_alias = "yes", conflicts_with = "dry_run")]
    execute: bool,
    /// Only print what would change, as is done without `--execute`.
    #[arg(long)]
    dry_run: bool,
}

/// Exactly one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Goal {
    /// Where to: start, end, an offset, +N or -N from what is committed, @2026-11-01T10:00:00Z, @-1h.
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true, value_parser = Target::parse)]
    to: Option<Target>,
    /// Where another group is.
    #[arg(long, value_name = "GROUP", add = complete::groups())]
    to_group: Option<String>,
    /// As --to start.
    #[arg(long)]
    to_earliest: bool,
    /// As --to end.
    #[arg(long)]
    to_latest: bool,
    /// As --to N.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// As --to @TIME.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = Target::parse_time)]
    to_datetime: Option<Target>,
    /// As --to +N or -N.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    shift_by: Option<i64>,
}

/// What is meant for every partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Start,
    End,
    At(i64),
    /// From what is committed.
    Shift(i64),
    /// Milliseconds since the epoch.
    Time(i64),
}

impl Target {
    /// Reads the words of `consume --offset`, but a count with a sign goes from where the group is.
    fn parse(text: &str) -> Result<Self, String> {
        match OffsetRange::parse(text, time::now_ms()) {
            Ok(OffsetRange { from, until: None }) => Ok(match from {
                Bound::Earliest => Self::Start,
                Bound::Latest => Self::End,
                Bound::At(offset) => Self::At(offset),
                Bound::BeforeEnd(count) => Self::Shift(-count),
                Bound::Further(count) => Self::Shift(count),
                Bound::Time(ms) => Self::Time(ms),
            }),
            _ => Err("use start, end, an offset, +N or -N from what is committed, or @TIME".to_owned()),
        }
    }

    fn parse_time(text: &str) -> Result<Self, String> {
        time::parse(text, time::now_ms()).map(Self::Time)
    }

    /// The new offset; a log has no other places than those from its start to its end.
    fn resolve(self, of: &Place) -> Result<i64, &'static str> {
        let wanted = match self {
            Self::Start => of.start,
            Self::End => of.end,
            Self::At(offset) => offset,
            Self::Shift(by) => of.committed.ok_or("nothing is committed to count from")?.saturating_add(by),
            Self::Time(_) => of.at_time.unwrap_or(of.end),
        };
        Ok(wanted.clamp(of.start, of.end.max(of.start)))
    }
}

/// What is known of a partition.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    committed: Option<i64>,
    start: i64,
    end: i64,
    /// The first record of the time that is meant, or later; none behind the last one.
    at_time: Option<i64>,
}

type Offsets = BTreeMap<TopicPartition, i64>;

impl Seek {
    pub(super) async fn run(self, admin: &Admin, json: bool) -> Result<(), Failure> {
        let mut failed = Failures::default();
        let exists = self.check_that_nobody_is_in_it(admin).await?;
        let committed = if exists { committed(admin, &self.group).await? } else { Offsets::new() };
        let goal = self.goal.resolve(admin).await?;
        let partitions = self.partitions(admin, &committed, &goal, &mut failed).await?;
        let places = places(admin, partitions, &committed, &goal, &mut failed).await?;
        let moves: Vec<_> = places
            .into_iter()
            .filter_map(|(partition, place)| match goal.offset(&partition, &place) {
                Ok(new) => Some((partition, place, new)),
                Err(why) => {
                    failed.add_words(&partition.to_string(), why);
                    None
                }
            })
            .collect();
        let done = match self.execute {
            true => Some(self.commit(admin, &moves, &mut failed).await?),
            false => None,
        };
        print(&self.group, &moves, done.as_ref(), json)?;
        if !self.execute && !moves.is_empty() {
            say("nothing is changed yet; --execute does it");
        }
        failed.into_result()
    }

    /// Members would go on from where they are, and commit that. Says whether there is such a group.
    async fn check_that_nobody_is_in_it(&self, admin: &Admin) -> Result<bool, Failure> {
        let group = &self.group;
        for (_, described) in admin.describe_groups([group]).await? {
            match described {
                Ok(GroupDescription { state: GroupState::Empty, .. }) => {}
                Ok(GroupDescription { state: GroupState::Dead, .. }) => return Ok(false),
                Ok(GroupDescription { state, members, .. }) => {
                    return Err(Failure::new(format!(
                        "{group} is {state} and has members ({}): stop them first, since they go on from where they are, \
                         whatever is committed",
                        members.len()
                    )));
                }
                Err(error) if error.broker_code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// The partitions that are meant, each once.
    async fn partitions(
        &self,
        admin: &Admin,
        committed: &Offsets,
        goal: &Resolved,
        failed: &mut Failures,
    ) -> Result<BTreeSet<TopicPartition>, Failure> {
        if self.topics.is_empty() {
            let meant: BTreeSet<_> = match goal {
                Resolved::Target(_) => committed.keys().cloned().collect(),
                Resolved::AsGroup(_, offsets) => offsets.keys().cloned().collect(),
            };
            return match meant.is_empty() {
                true => Err(Failure::new(format!(
                    "nothing is committed by {}: name the topics that are meant",
                    goal.whose(&self.group)
                ))),
                false => Ok(meant),
            };
        }
        let mut partitions = BTreeSet::new();
        let names: Vec<_> = self.topics.iter().map(|chosen| chosen.topic.as_str()).collect();
        for (chosen, (name, described)) in self.topics.iter().zip(admin.describe_topics(names).await?) {
            let there = match described {
                Ok(described) => {
                    described.partitions.into_iter().map(|part| part.partition).collect::<Vec<_>>()
                }
                Err(error) => {
                    failed.add_words(&name, &why_not(admin, &name, &error).await);
                    continue;
                }
            };
            for number in chosen.partitions.as_ref().unwrap_or(&there) {
                match there.contains(number) {
                    true => drop(partitions.insert(TopicPartition::new(name.as_str(), *number))),
                    false => failed.add_words(&format!("{name}-{number}"), "there is no such partition"),
                }
            }
        }
        Ok(partitions)
    }

    /// Commits what is new, and says for which partitions that was done.
    async fn commit(
        &self,
        admin: &Admin,
        moves: &[(TopicPartition, Place, i64)],
        failed: &mut Failures,
    ) -> Result<BTreeSet<TopicPartition>, Failure> {
        let offsets =
            moves.iter().map(|(partition, _, new)| (partition.clone(), OffsetAndMetadata::from(*new)));
        let mut done = BTreeSet::new();
        for (partition, result) in admin.alter_group_offsets(&self.group, offsets).await? {
            match result {
                Ok(()) => drop(done.insert(partition)),
                Err(error) if error.broker_code() == Some(ErrorCode::UNKNOWN_MEMBER_ID) => {
                    failed.add_words(&partition.to_string(), "somebody has joined the group just now");
                }
                Err(error) => failed.add(&partition.to_string(), &error),
            }
        }
        Ok(done)
    }
}

/// A goal with what has to be asked for only once.
enum Resolved {
    Target(Target),
    /// That group, and what it has committed.
    AsGroup(String, Offsets),
}

impl Goal {
    async fn resolve(&self, admin: &Admin) -> Result<Resolved, Failure> {
        if let Some(other) = &self.to_group {
            return Ok(Resolved::AsGroup(other.clone(), committed(admin, other).await?));
        }
        let target = self.to.or(self.to_datetime).or(self.shift_by.map(Target::Shift));
        let target = target.or(self.to_offset.map(Target::At));
        // One of them is there: clap sees to it.
        Ok(Resolved::Target(target.unwrap_or(if self.to_earliest { Target::Start } else { Target::End })))
    }
}

impl Resolved {
    fn offset(&self, partition: &TopicPartition, place: &Place) -> Result<i64, &'static str> {
        match self {
            Self::Target(target) => target.resolve(place),
            Self::AsGroup(_, offsets) => {
                let offset = offsets.get(partition).ok_or("the other group has committed nothing for it")?;
                Target::At(*offset).resolve(place)
            }
        }
    }

    fn whose<'a>(&'a self, group: &'a str) -> &'a str {
        match self {
            Self::Target(_) => group,
            Self::AsGroup(other, _) => other,
        }
    }
}

async fn committed(admin: &Admin, group: &str) -> Result<Offsets, Failure> {
    let mut committed = Offsets::new();
    for (_, offsets) in admin.list_group_offsets([group]).await?.all()? {
        for (partition, commit) in offsets.all()? {
            committed.extend(commit.map(|commit| (partition, commit.offset)));
        }
    }
    Ok(committed)
}

/// Where the logs of these partitions begin, end, and are at the time that is meant.
async fn places(
    admin: &Admin,
    partitions: BTreeSet<TopicPartition>,
    committed: &Offsets,
    goal: &Resolved,
    failed: &mut Failures,
) -> Result<BTreeMap<TopicPartition, Place>, Failure> {
    let mut places: BTreeMap<_, _> = BTreeMap::new();
    for (partition, start) in admin.list_offsets(all(&partitions, OffsetSpec::Earliest)).await? {
        match start {
            Ok(start) => {
                let committed = committed.get(&partition).copied();
                let start = start.map_or(0, |start| start.offset);
                places.insert(partition, Place { committed, start, end: start, at_time: None });
            }
            Err(error) => failed.add(&partition.to_string(), &error),
        }
    }
    for (partition, end) in admin.list_offsets(all(places.keys(), OffsetSpec::Latest)).await? {
        match (end, places.get_mut(&partition)) {
            (Ok(Some(end)), Some(place)) => place.end = end.offset,
            (Ok(_), _) => {}
            (Err(error), _) => drop_failed(&mut places, failed, &partition, &error),
        }
    }
    if let Resolved::Target(Target::Time(ms)) = goal {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(*ms).unwrap_or(0));
        for (partition, found) in admin.list_offsets(all(places.keys(), OffsetSpec::Timestamp(time))).await? {
            match (found, places.get_mut(&partition)) {
                (Ok(found), Some(place)) => place.at_time = found.map(|found| found.offset),
                (Ok(_), None) => {}
                (Err(error), _) => drop_failed(&mut places, failed, &partition, &error),
            }
        }
    }
    Ok(places)
}

/// Of this partition nothing can be said; the others go on.
fn drop_failed(
    places: &mut BTreeMap<TopicPartition, Place>,
    failed: &mut Failures,
    partition: &TopicPartition,
    error: &Error,
) {
    failed.add(&partition.to_string(), error);
    places.remove(partition);
}

fn all<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
    spec: OffsetSpec,
) -> Vec<(TopicPartition, OffsetSpec)> {
    partitions.into_iter().map(|partition| (partition.clone(), spec)).collect()
}

/// Prints what would change, or what did.
fn print(
    group: &str,
    moves: &[(TopicPartition, Place, i64)],
    done: Option<&BTreeSet<TopicPartition>>,
    json: bool,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut table =
        Table::new(&["TOPIC", "PARTITION", "COMMITTED", "NEW", "CHANGE", "LOG-START", "LOG-END", "LAG"]);
    for (partition, place, new) in moves {
        let changed = done.is_some_and(|done| done.contains(partition));
        if done.is_some() && !changed {
            continue;
        }
        if json {
            let line = json!({
                "group": group, "topic": partition.topic(), "partition": partition.partition(),
                "committed": place.committed, "new": new, "log_start": place.start, "log_end": place.end,
                "changed": changed,
            });
            writeln!(out, "{line}")?;
        } else {
            let change =
                place.committed.map_or_else(String::new, |committed| format!("{:+}", new - committed));
            table.row([
                partition.topic().to_owned(),
                partition.partition().to_string(),
                number(place.committed),
                new.to_string(),
                change,
                place.start.to_string(),
                place.end.to_string(),
                (place.end - new).to_string(),
            ]);
        }
    }
    // Where nothing could be looked up there is nothing to head.
    if json || table.is_empty() { Ok(()) } else { table.write(&mut out) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { committed: Some(15), start: 10, end: 20, at_time: Some(17) };

    #[test]
    fn every_target_has_its_offset_and_none_is_outside_of_the_log() {
        for (text, offset) in [
            ("start", 10),
            ("earliest", 10),
            ("end", 20),
            ("12", 12),
            ("3", 10),
            ("99", 20),
            ("+3", 18),
            ("+99", 20),
            ("-3", 12),
            ("-99", 10),
            ("@5", 17),
        ] {
            assert_eq!(Target::parse(text).unwrap().resolve(&PLACE), Ok(offset), "{text}");
        }
        let late = Place { at_time: None, ..PLACE };
        assert_eq!(Target::Time(5).resolve(&late), Ok(20), "nothing is as new as that");
    }

    #[test]
    fn nothing_is_counted_from_a_commit_that_is_not_there() {
        let fresh = Place { committed: None, ..PLACE };
        assert!(Target::Shift(1).resolve(&fresh).is_err());
        assert_eq!(Target::End.resolve(&fresh), Ok(20));
    }

    #[test]
    fn a_range_is_no_target() {
        for text in ["1:2", ":end", "@-1h:+1m", "", "soon"] {
            assert!(Target::parse(text).is_err(), "{text}");
        }
    }
}
