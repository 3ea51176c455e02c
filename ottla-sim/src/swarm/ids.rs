//! Which scenarios of `docs/scenarios.md` a run has gone through.

use std::collections::BTreeSet;

use super::{Fault, Occurred, Plan, Ran};

/// Each id with what must have been there: all of it, where `a | b` is either.
///
/// Names are those of faults, of failing requests (`Produce LoseAnswer`), and of what clients met
/// ([`Counts`](crate::Counts)); and `group`, `static`, `deadline`, `eager`, `cooperative`, `both` for the plan's settings.
const IDS: &[(&str, &[&str])] = &[
    ("P01", &["BrokerKilled | PowerLost | Produce LoseAnswer", "produce.batch: resent"]),
    ("P02", &["Produce LoseRequest", "produce.batch: resent"]),
    ("P04", &["PRODUCE: NOT_LEADER_OR_FOLLOWER"]),
    ("P05", &["PRODUCE: NOT_LEADER_OR_FOLLOWER", "PRODUCE: OUT_OF_ORDER_SEQUENCE_NUMBER"]),
    ("P06", &["PRODUCE: REQUEST_TIMED_OUT | Produce Silence"]),
    ("P07", &["PRODUCE: NOT_ENOUGH_REPLICAS | PRODUCE: NOT_ENOUGH_REPLICAS_AFTER_APPEND"]),
    ("P08", &["PRODUCE: OUT_OF_ORDER_SEQUENCE_NUMBER"]),
    ("P09", &["PRODUCE: UNKNOWN_PRODUCER_ID"]),
    ("P11", &["produce.batch_failed: Timeout, possibly written"]),
    ("P18", &["DiskFull", "PRODUCE: KAFKA_STORAGE_ERROR"]),
    ("P21", &["Throttled"]),
    ("P22", &["CutOffFromController"]),
    ("P26", &["deadline", "produce.batch_failed: Timeout | produce.batch_failed: Timeout, possibly written"]),
    ("C01", &["FETCH: OFFSET_OUT_OF_RANGE"]),
    ("C03", &["FETCH: NOT_LEADER_OR_FOLLOWER | FETCH: FENCED_LEADER_EPOCH | FETCH: UNKNOWN_LEADER_EPOCH"]),
    ("C04", &["RecordsCorrupted"]),
    ("C07", &["FETCH: FETCH_SESSION_ID_NOT_FOUND | FETCH: INVALID_FETCH_SESSION_EPOCH | BrokerKilled"]),
    ("C13", &["LIST_OFFSETS: NOT_LEADER_OR_FOLLOWER | LIST_OFFSETS: UNKNOWN_LEADER_EPOCH"]),
    ("G01", &["eager", "group.partitions_revoked"]),
    ("G02", &["cooperative", "group.partitions_revoked"]),
    ("G03", &["both", "group.partitions_revoked"]),
    ("G04", &["group", "MemberKilled"]),
    (
        "G06",
        &["HEARTBEAT: UNKNOWN_MEMBER_ID | HEARTBEAT: ILLEGAL_GENERATION | HEARTBEAT: REBALANCE_IN_PROGRESS"],
    ),
    ("G08", &["group", "static", "MemberKilled | MemberLeaves"]),
    (
        "G09",
        &["HEARTBEAT: NOT_COORDINATOR | JOIN_GROUP: NOT_COORDINATOR | OFFSET_COMMIT: NOT_COORDINATOR | \
           OFFSET_FETCH: COORDINATOR_LOAD_IN_PROGRESS"],
    ),
    (
        "G10",
        &["OFFSET_COMMIT: UNKNOWN_MEMBER_ID | OFFSET_COMMIT: ILLEGAL_GENERATION | \
           OFFSET_COMMIT: REBALANCE_IN_PROGRESS"],
    ),
    ("G11", &["group", "OffsetCommit LoseAnswer | OffsetCommit Silence | AnswersVanish"]),
    ("G12", &["group", "MemberKilled | MemberLeaves"]),
    ("G13", &["OFFSET_FETCH: NOT_COORDINATOR | OFFSET_FETCH: COORDINATOR_LOAD_IN_PROGRESS"]),
    ("G16", &["group", "BrokerFrozen", "group.lease_ended"]),
    (
        "G17",
        &["group", "JoinGroup LoseAnswer | SyncGroup LoseAnswer | JoinGroup Silence | SyncGroup Silence"],
    ),
    ("G18", &["group", "MemberLeaves", "BrokerKilled | BrokerFrozen"]),
    ("N01", &["CutAtByte | Resets"]),
    ("N02", &["AnswersVanish | RequestsVanish"]),
    ("N03", &["SlowAnswers"]),
    ("N04", &["BrokerFrozen"]),
    ("N05", &["NameGone | BrokerKilled", "broker.unreachable: Io | broker.unreachable: Timeout"]),
    ("N07", &["NameGone | SlowName"]),
    ("N13", &["ClockWrong"]),
    ("N14", &["ClientFrozen | ClientsSleep"]),
    ("N15", &["SlowAnswers | SlowDisk"]),
    ("N16", &["Loss | Latency"]),
    ("N18", &["BrokerKilled", "PRODUCE: NOT_LEADER_OR_FOLLOWER | produce.batch: resent"]),
    ("L01", &["group", "MemberKilled | MemberLeaves"]),
];

/// All ids that a swarm may go through, in the order of the list.
pub fn ids() -> impl Iterator<Item = &'static str> {
    IDS.iter().map(|(id, _)| *id)
}

/// The ids that a run of the plan has gone through.
#[must_use]
pub fn ids_of(plan: &Plan, ran: &Ran) -> Vec<&'static str> {
    let there_are = names(plan, ran);
    let there = |name: &str| there_are.contains(name) || ran.met.contains_key(name);
    let all = |wanted: &&[&str]| wanted.iter().all(|either| either.split(" | ").any(there));
    IDS.iter().filter(|(_, wanted)| all(wanted)).map(|(id, _)| *id).collect()
}

/// What the plan has, and which faults struck, by the names of [`IDS`].
fn names(plan: &Plan, ran: &Ran) -> BTreeSet<String> {
    use super::Assignors::{Both, Cooperative, Eager};
    let mut names = BTreeSet::new();
    for Occurred { fault, .. } in ran.faults.iter().filter(|occurred| occurred.struck) {
        names.insert(fault.kind());
        if let Fault::RequestsFail { api, how, .. } = *fault {
            names.insert(format!("{api:?} {how:?}"));
        }
    }
    names.extend(plan.deadline.map(|_| "deadline".to_owned()));
    if let Some(group) = &plan.group {
        let assignors = match group.assignors {
            Cooperative => "cooperative",
            Eager => "eager",
            Both => "both",
        };
        names.extend(["group".to_owned(), assignors.to_owned()]);
        names.extend(group.static_members.then(|| "static".to_owned()));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_takes_all_that_it_names_and_either_of_what_is_apart() {
        let power_lost = |struck| Occurred {
            fault: Fault::PowerLost { broker: 0 },
            began: Default::default(),
            ended: None,
            struck,
        };
        let ran = |met: &[&str], struck| Ran {
            faults: vec![power_lost(struck)],
            recovered: Default::default(),
            hash: 0,
            acknowledged: 0,
            simulated: Default::default(),
            cpu: None,
            met: met.iter().map(|name| ((*name).to_owned(), 1)).collect(),
        };
        let plan = Plan::new(1);
        assert_eq!(ids_of(&plan, &ran(&[], true)), [""; 0]);
        assert_eq!(ids_of(&plan, &ran(&["produce.batch: resent"], true)), ["P01"]);
        assert_eq!(ids_of(&plan, &ran(&["produce.batch: resent"], false)), [""; 0], "it struck nothing");
        assert_eq!(ids_of(&plan, &ran(&["FETCH: FENCED_LEADER_EPOCH"], false)), ["C03"]);
    }

    #[test]
    fn every_kind_of_fault_that_an_id_names_exists() {
        let kinds = Fault::kinds(super::super::Profile::Short);
        let names = IDS.iter().flat_map(|(_, wanted)| *wanted).flat_map(|either| either.split(" | "));
        let faults = names.filter(|name| name.starts_with(char::is_uppercase) && !name.contains([':', ' ']));
        faults.for_each(|name| assert!(kinds.contains(&name), "{name}"));
    }
}
