//! `ottla groups describe`.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use ottla::{
    Admin, ErrorCode, OffsetAndMetadata, OffsetSpec, TopicPartition,
    admin::{GroupDescription, MemberDescription},
};
use serde_json::{Value, json};

use super::lag::{self, Filter, PartitionLag};
use crate::{
    output::{Failure, Failures},
    text::table::{NOTHING, Table, number},
};

type Commits = BTreeMap<TopicPartition, OffsetAndMetadata>;

/// What is shown of a group.
struct Shown {
    name: String,
    group: GroupDescription,
    committed: Commits,
    partitions: Vec<PartitionLag>,
}

pub(super) async fn describe(
    admin: &Admin,
    groups: Vec<String>,
    filter: Option<Filter>,
    json: bool,
) -> Result<(), Failure> {
    let mut failed = Failures::default();
    let described = describe_all(admin, groups, &mut failed).await?;
    let ends = ends(admin, &described, &mut failed).await?;
    let mut out = io::stdout().lock();
    for (at, (name, group, committed)) in described.into_iter().enumerate() {
        let members: Vec<_> =
            group.members.iter().map(|member| member.assignment.clone().unwrap_or_default()).collect();
        let offsets =
            committed.iter().map(|(partition, commit)| (partition.clone(), commit.offset)).collect();
        let partitions = lag::partitions(&members, &offsets, &ends);
        let shown = Shown { name, group, committed, partitions };
        if json {
            writeln!(out, "{}", shown.to_json(filter))?;
        } else {
            if at > 0 {
                writeln!(out)?;
            }
            shown.write(filter, &mut out)?;
        }
    }
    failed.into_result()
}

/// The groups that there are, with what they have committed.
async fn describe_all(
    admin: &Admin,
    groups: Vec<String>,
    failed: &mut Failures,
) -> Result<Vec<(String, GroupDescription, Commits)>, Failure> {
    let mut described = Vec::new();
    for (name, result) in admin.describe_groups(groups).await? {
        match result {
            Ok(group) => described.push((name, group, Commits::new())),
            Err(error) => failed.add(&name, &error),
        }
    }
    let names: Vec<_> = described.iter().map(|(name, ..)| name.clone()).collect();
    if names.is_empty() {
        return Ok(described);
    }
    let offsets = admin.list_group_offsets(names).await?;
    for ((name, _, committed), (_, result)) in described.iter_mut().zip(offsets) {
        match result {
            Ok(offsets) => {
                for (partition, result) in offsets {
                    match result {
                        Ok(commit) => committed.extend(commit.map(|commit| (partition, commit))),
                        Err(error) => failed.add(&format!("{name}: {partition}"), &error),
                    }
                }
            }
            Err(error) => failed.add(name, &error),
        }
    }
    Ok(described)
}

/// Where the logs end that the groups have to do with, as far as that can be said.
async fn ends(
    admin: &Admin,
    groups: &[(String, GroupDescription, Commits)],
    failed: &mut Failures,
) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    let assigned = |group: &GroupDescription| -> Vec<TopicPartition> {
        group.members.iter().filter_map(|member| member.assignment.clone()).flatten().collect()
    };
    let mut partitions: Vec<_> = groups
        .iter()
        .flat_map(|(_, group, committed)| assigned(group).into_iter().chain(committed.keys().cloned()))
        .collect();
    partitions.sort();
    partitions.dedup();
    let mut ends = BTreeMap::new();
    let places = partitions.into_iter().map(|partition| (partition, OffsetSpec::Latest));
    for (partition, result) in admin.list_offsets(places).await? {
        match result {
            Ok(end) => ends.extend(end.map(|end| (partition, end.offset))),
            // The topic is gone, its commits are not yet: nothing is wrong with that.
            Err(error) if error.broker_code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {}
            Err(error) => failed.add(&partition.to_string(), &error),
        }
    }
    Ok(ends)
}

impl Shown {
    fn member(&self, partition: &PartitionLag) -> Option<&MemberDescription> {
        self.group.members.get(partition.member?)
    }

    fn filtered(&self, filter: Option<Filter>) -> impl Iterator<Item = &PartitionLag> {
        self.partitions.iter().filter(move |part| filter.is_none_or(|filter| filter.shows(part.lag())))
    }

    fn write(&self, filter: Option<Filter>, out: &mut impl Write) -> io::Result<()> {
        let (group, total) = (&self.group, lag::total(&self.partitions));
        writeln!(out, "GROUP        {}", self.name)?;
        writeln!(out, "STATE        {}", group.state)?;
        writeln!(out, "TYPE         {}", group.group_type)?;
        writeln!(out, "ASSIGNOR     {}", group.assignor.as_deref().unwrap_or(NOTHING))?;
        writeln!(out, "COORDINATOR  {} at {}", group.coordinator.id, group.coordinator.address)?;
        writeln!(out, "MEMBERS      {}", group.members.len())?;
        let unknown = match total.unknown {
            0 => String::new(),
            1 => " (and 1 partition of which it is not known)".to_owned(),
            n => format!(" (and {n} partitions of which it is not known)"),
        };
        writeln!(out, "TOTAL-LAG    {}{unknown}", number(total.lag))?;
        if !group.members.is_empty() {
            writeln!(out)?;
            self.members().write(out)?;
        }
        let mut shown = self.filtered(filter).peekable();
        if shown.peek().is_some() {
            writeln!(out)?;
            self.table(shown).write(out)?;
        }
        Ok(())
    }

    fn members(&self) -> Table {
        let mut table = Table::new(&["MEMBER-ID", "INSTANCE-ID", "CLIENT-ID", "HOST", "PARTITIONS"]);
        for member in &self.group.members {
            let partitions = member.assignment.as_ref().map(|partitions| partitions.len() as i64);
            table.row([
                member.member_id.clone(),
                member.instance_id.clone().unwrap_or_default(),
                member.client_id.clone(),
                member.host.clone(),
                number(partitions),
            ]);
        }
        table
    }

    fn table<'a>(&'a self, partitions: impl Iterator<Item = &'a PartitionLag>) -> Table {
        let headings =
            ["TOPIC", "PARTITION", "COMMITTED", "LOG-END", "LAG", "MEMBER-ID", "CLIENT-ID", "HOST"];
        let mut table = Table::new(&headings);
        for part in partitions {
            let member = self.member(part);
            let of_member =
                |what: fn(&MemberDescription) -> &String| member.map(what).cloned().unwrap_or_default();
            table.row([
                part.partition.topic().to_owned(),
                part.partition.partition().to_string(),
                number(part.committed),
                number(part.end),
                number(part.lag()),
                of_member(|member| &member.member_id),
                of_member(|member| &member.client_id),
                of_member(|member| &member.host),
            ]);
        }
        table
    }

    fn to_json(&self, filter: Option<Filter>) -> Value {
        let (group, total) = (&self.group, lag::total(&self.partitions));
        json!({
            "group": self.name,
            "state": group.state.as_str(),
            "type": group.group_type.as_str(),
            "protocol_type": group.protocol_type,
            "assignor": group.assignor,
            "coordinator": { "id": group.coordinator.id, "address": group.coordinator.address },
            "lag": total.lag,
            "partitions_of_unknown_lag": total.unknown,
            "members": group.members.iter().map(member_to_json).collect::<Vec<_>>(),
            "partitions": self.filtered(filter).map(|part| self.partition_to_json(part)).collect::<Vec<_>>(),
        })
    }

    fn partition_to_json(&self, part: &PartitionLag) -> Value {
        let commit = self.committed.get(&part.partition);
        let member = self.member(part);
        json!({
            "topic": part.partition.topic(),
            "partition": part.partition.partition(),
            "committed": part.committed,
            "leader_epoch": commit.and_then(|commit| commit.leader_epoch),
            "metadata": commit.map(|commit| commit.metadata.as_str()),
            "log_end": part.end,
            "lag": part.lag(),
            "member_id": member.map(|member| &member.member_id),
            "client_id": member.map(|member| &member.client_id),
            "host": member.map(|member| &member.host),
        })
    }
}

fn member_to_json(member: &MemberDescription) -> Value {
    let partition = |partition: &TopicPartition| json!({ "topic": partition.topic(), "partition": partition.partition() });
    json!({
        "member_id": member.member_id,
        "instance_id": member.instance_id,
        "client_id": member.client_id,
        "host": member.host,
        "assignment": member.assignment.as_ref().map(|all| all.iter().map(partition).collect::<Vec<_>>()),
    })
}
