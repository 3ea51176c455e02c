//! What happened around a finding, in words: the partition's records near by, who owned it, commits, faults.

use super::{
    findings::Focus,
    logs::Logs,
    tables::{Did, End, Fate, NO_VALUE, Place, Reader, Tables},
};

/// How far from the offset records are shown.
const NEAR: i64 = 2;

/// How many lines before and after the moment that matters.
const BEFORE: usize = 16;
const AFTER: usize = 8;

/// The lines, by time.
pub(super) fn around(tables: &Tables, logs: &Logs, focus: Focus) -> Vec<String> {
    let mut lines: Vec<(Place, String)> = Vec::new();
    let marks = tables.marks.iter().map(|mark| (mark.place, mark.text.clone()));
    lines.extend(marks);
    if let Some(partition) = focus.partition {
        sends(tables, partition, focus, &mut lines);
        steps(tables, partition, focus, &mut lines);
        commits(tables, partition, &mut lines);
    }
    let time = |place: Place| (tables.at(place), place);
    lines.sort_by_key(|(place, _)| time(*place));
    let middle = lines.partition_point(|(place, _)| time(*place) <= time(focus.place));
    let shown = middle.saturating_sub(BEFORE)..(middle + AFTER).min(lines.len());
    let mut told: Vec<String> = Vec::new();
    for (place, text) in &lines[shown] {
        let mark = if *place == focus.place { '>' } else { ' ' };
        told.push(format!("{mark} {:>10}  #{place}  {text}", tables.second(*place)));
    }
    told.extend(log(tables, logs, focus));
    told
}

fn near(focus: Focus, offset: i64) -> bool {
    focus.offset.is_none_or(|middle| middle.abs_diff(offset) <= NEAR.unsigned_abs())
}

fn sends(tables: &Tables, partition: u32, focus: Focus, lines: &mut Vec<(Place, String)>) {
    for send in &tables.sends {
        let close = match send.fate {
            Fate::Written(Some(offset)) => near(focus, offset),
            _ => false,
        };
        let matters = send.value == focus.value || (send.partition == partition && close);
        if !matters {
            continue;
        }
        let (who, value) = (tables.name(send.actor), tables.value(send.value));
        lines
            .push((send.invoked, format!("{who} sends {value} to {}", tables.partitions.of(send.partition))));
        let outcome = match send.fate {
            Fate::Pending => continue,
            Fate::Written(Some(offset)) => format!("written, at offset {offset}"),
            Fate::Written(None) => "written".to_owned(),
            Fate::NotWritten => "not written".to_owned(),
            Fate::PossiblyWritten => "possibly written".to_owned(),
        };
        lines.push((send.settled, format!("{who} is told of {value}: {outcome}")));
    }
}

fn steps(tables: &Tables, partition: u32, focus: Focus, lines: &mut Vec<(Place, String)>) {
    for step in &tables.steps {
        let lane = tables.lanes.of(step.lane);
        if lane.partition != partition {
            continue;
        }
        let did = match step.did {
            Did::Polled(offset) | Did::Processed(offset) if !near(focus, offset) => continue,
            Did::Polled(offset) => format!("gets offset {offset}"),
            Did::Processed(offset) => format!("has processed offset {offset}"),
            Did::Placed(Some(offset)) => format!("reads from offset {offset} on"),
            Did::Placed(None) => "begins to read".to_owned(),
            Did::Left => "reads no longer".to_owned(),
            Did::Assigned => "owns it".to_owned(),
            Did::Gone(End::Revoked { committed: true }) => {
                "gives it up, all processed is committed".to_owned()
            }
            Did::Gone(End::Revoked { committed: false }) => "gives it up, and has not committed".to_owned(),
            Did::Gone(End::Lost) => "has lost it".to_owned(),
            Did::Gone(End::Crashed) => "crashes".to_owned(),
            Did::Gone(End::Closed) => "ends".to_owned(),
        };
        let group = match lane.reader {
            Reader::Group(group) => format!(" of group {}", tables.groups.of(group)),
            Reader::Alone(_) => String::new(),
        };
        lines.push((step.place, format!("{}{group} {did}", tables.name(step.actor))));
    }
}

fn commits(tables: &Tables, partition: u32, lines: &mut Vec<(Place, String)>) {
    for commit in tables.commits.iter().filter(|commit| commit.partition == partition) {
        let how = if commit.stored { "is stored" } else { "is acknowledged" };
        let (group, offset) = (tables.groups.of(commit.group), commit.offset);
        lines.push((commit.place, format!("commit {offset} of group {group} {how}")));
    }
}

/// What is there, as far as it is known.
fn log(tables: &Tables, logs: &Logs, focus: Focus) -> Option<String> {
    let (partition, offset) = (focus.partition?, focus.offset?);
    let log = logs.of(partition);
    let from = log.rank(offset.saturating_sub(NEAR));
    let to = log.rank(offset.saturating_add(NEAR + 1));
    let entries = log.entries[from..to].iter().map(|entry| match entry.value {
        NO_VALUE => entry.offset.to_string(),
        value => format!("{} {}", entry.offset, tables.value(value)),
    });
    let entries: Vec<String> = entries.collect();
    let known = if log.truth { "has" } else { "is known to have" };
    let entries = if entries.is_empty() { "nothing there".to_owned() } else { entries.join(", ") };
    Some(format!("  {} {known}: {entries}", tables.partitions.of(partition)))
}
