//! Histories written by hand: those that are good, and one for each thing that must not be, which is found by its name.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use ottla_sim::{
    history::{
        Anomaly, Report, check,
        event::Event,
        jsonl::{Reader, Writer},
    },
    swarm::Plan,
};

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "histories"].iter().collect()
}

/// Each file with its name.
fn histories() -> Vec<(String, Vec<Event>)> {
    let mut all: Vec<(String, Vec<Event>)> = Vec::new();
    for file in fs::read_dir(folder()).expect("the folder is there") {
        let path = file.expect("a file").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("text");
        let events: Result<Vec<Event>, _> = Reader::new(text.as_bytes()).collect();
        all.push((name.clone(), events.unwrap_or_else(|error| panic!("{name}: {error}"))));
    }
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    all
}

/// What a file's name promises: `lost-write.truth.jsonl` is another one with a lost write.
fn promised(name: &str) -> Vec<&str> {
    let kind = name.split('.').next().unwrap_or_default();
    if kind == "good" { Vec::new() } else { vec![kind] }
}

fn found(report: &Report) -> Vec<&'static str> {
    report.found.keys().map(|anomaly| anomaly.name()).collect()
}

#[test]
fn each_history_shows_exactly_the_anomaly_that_it_is_named_after() {
    for (name, events) in histories() {
        let report = check(&events);
        assert_eq!(found(&report), promised(&name), "{name}: {report}");
    }
}

#[test]
fn there_is_a_history_for_each_anomaly() {
    let histories = histories();
    let there: BTreeSet<&str> = histories.iter().flat_map(|(name, _)| promised(name)).collect();
    let all: BTreeSet<&str> = Anomaly::ALL.iter().map(|anomaly| anomaly.name()).collect();
    assert_eq!(there, all);
}

#[test]
fn a_history_is_the_same_after_it_was_written() {
    for (name, events) in histories() {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file);
        events.iter().for_each(|event| writer.write(event).expect("memory"));
        let again: Vec<Event> = Reader::new(&file[..]).collect::<Result<_, _>>().expect("what was written");
        assert_eq!(again, events, "{name}");
        assert_eq!(check(&again), check(&events), "{name}");
    }
}

#[test]
fn a_report_shows_what_happened_to_the_partition_around_a_violation() {
    let (_, events) = histories().into_iter().find(|(name, _)| name == "two-owners").expect("the file");
    let report = check(&events).to_string();
    let expected = "\
14 events, 1 faults
0 records sent: 0 written, 0 not, 0 in doubt
3 polled, 2 processed by groups (1 again), 1 commits
WRONG: 1 two-owners

two-owners (INV-7)
  expected: billing-1 to get nothing of orders-0 any more, since billing-2 owns it from 60.000 s on
  happened: it got offset 1 at 61.000 s
       1.000 s  #2  billing-1 of group billing owns it
       2.000 s  #3  billing-1 of group billing gets offset 0
       3.000 s  #4  billing-1 of group billing has processed offset 0
       3.000 s  #13  commit 1 of group billing is stored
      10.000 s  #5  broker 1: SIGSTOP for 45 s
      60.000 s  #6  billing-2 of group billing owns it
  >   61.000 s  #7  billing-1 of group billing gets offset 1
      61.100 s  #8  billing-1 of group billing has processed offset 1
      62.000 s  #9  billing-2 of group billing gets offset 1
      62.500 s  #10  billing-2 of group billing has processed offset 1
      63.000 s  #11  billing-1 of group billing has lost it
    orders-0 has: 0 \"a\", 1 \"b\"
";
    assert_eq!(report, expected, "{report}");
}

#[test]
fn what_a_run_of_the_swarm_was_judged_by_can_be_kept_and_judged_again() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kept");
    fs::create_dir_all(&folder).unwrap();
    let plan = (0..).map(Plan::draw).find(|plan| plan.group.is_some()).unwrap();
    let ran =
        Plan { records: 60, faults: Vec::new(), ..plan }.run_printing_everything(Some(&folder)).unwrap();
    for (name, at_least) in [("readers.jsonl", ran.acknowledged), ("group.jsonl", 1)] {
        let text = fs::read_to_string(folder.join(name)).unwrap();
        let events: Vec<Event> = Reader::new(text.as_bytes()).collect::<Result<_, _>>().unwrap();
        assert!(events.len() > at_least, "{name}: {}", events.len());
        assert!(check(&events).violations.is_empty(), "{name}");
    }
}
