//! What `cargo xtask sim --seed S --shrink` prints is a test: here it is compiled, and run.

use std::time::Duration;

use ottla_protocol::ErrorCode;
use ottla_sim::{
    Ending, Interference,
    hostile::{Lie, Lies},
    swarm::{Api, Assignors, Fault, GroupPlan, Plan, Subscription},
};

#[allow(unused_imports, reason = "a plan does not name all that it may name")]
mod printed {
    include!("printed/seed_3.rs");
    include!("printed/seed_4.rs");
}

/// All that a plan says, and faults with fields of every kind.
fn everything() -> Plan {
    let group = GroupPlan {
        members: 2,
        static_members: true,
        assignors: Assignors::Both,
        subscriptions: [Subscription::Orders, Subscription::All, Subscription::Returns],
        session_ms: 10_000,
        rebalance_ms: 10_000,
        handling_ms: 5,
        giving_up_ms: 100,
        auto_commit_ms: 500,
        commit_on_revoke: true,
        given_back_per_mille: 50,
    };
    let plan = Plan {
        partitions: 2,
        records: 100,
        senders: 1,
        deadline: Some(Duration::from_secs(30)),
        request_timeout: Some(Duration::from_secs(5)),
        racks: true,
        metadata_max_age: Some(Duration::from_secs(60)),
        group: Some(group),
        retention: Some(Duration::from_secs(3_600)),
        one_broker_at_a_time: true,
        ..Plan::new(3)
    };
    let (api, code, how) = (Api::Produce, ErrorCode::NOT_LEADER_OR_FOLLOWER, Interference::LoseAnswer);
    plan.fault(500, 1_000, Fault::BrokerKilled { broker: 0 })
        .fault(1_000, 500, Fault::CutAtByte { broker: 1, client: 0, bytes: 2_000, how: Ending::Rst })
        .fault(1_200, 500, Fault::ClockWrong { client: 2, seconds: -30 })
        .fault(1_500, 2_000, Fault::RequestsFail { broker: 2, api, how, times: 1 })
        .fault(2_000, 2_000, Fault::RequestsRefused { broker: 1, api, partition: Some(1), code, times: 2 })
        .fault(2_500, 800, Fault::MemberKilled { member: 1 })
}

/// Brokers that lie.
fn lying() -> Plan {
    let lies = Lies {
        broker: Some(1),
        at_ms: 500,
        lasts_ms: 2_000,
        kinds: [Lie::FlippedBits; 3],
        per_mille: 100,
        cut_per_mille: 20,
        silent_per_mille: 0,
        bytes_per_second: None,
    };
    Plan { partitions: 2, records: 0, senders: 0, lies: Some(lies), unclean: true, ..Plan::new(4) }
}

/// If it fails since the printer, or what it prints, has changed: the file is to have what is printed.
#[test]
fn what_is_printed_is_what_is_compiled_here() {
    let printed =
        [(everything(), include_str!("printed/seed_3.rs")), (lying(), include_str!("printed/seed_4.rs"))];
    for (plan, compiled) in printed {
        assert!(plan.to_test() == compiled, "what is printed now:\n{}", plan.to_test());
    }
}
