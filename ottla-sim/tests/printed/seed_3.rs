#[test]
fn seed_3() {
    use std::time::Duration;
    use ottla_protocol::ErrorCode;
    use ottla_sim::{Ending::*, Interference::*, hostile::{Lie::*, Lies}, swarm::{Api::*, Assignors::*, Subscription::*, *}};
    Plan {
        partitions: 2, records: 100, senders: 1,
        racks: true, pause: Duration::from_millis(100),
        deadline: Some(Duration::from_millis(30000)),
        request_timeout: Some(Duration::from_millis(5000)),
        metadata_max_age: Some(Duration::from_millis(60000)),
        retention: Some(Duration::from_millis(3600000)),
        group: Some(GroupPlan { members: 2, static_members: true, assignors: Both, subscriptions: [Orders, All, Returns], session_ms: 10000, rebalance_ms: 10000, handling_ms: 5, giving_up_ms: 100, auto_commit_ms: 500, commit_on_revoke: true, given_back_per_mille: 50 }),
        one_broker_at_a_time: true,
        ..Plan::new(3)
    }
    .fault(500, 1000, Fault::BrokerKilled { broker: 0 })
    .fault(1000, 500, Fault::CutAtByte { broker: 1, client: 0, bytes: 2000, how: Rst })
    .fault(1200, 500, Fault::ClockWrong { client: 2, seconds: -30 })
    .fault(1500, 2000, Fault::RequestsFail { broker: 2, api: Produce, how: LoseAnswer, times: 1 })
    .fault(2000, 2000, Fault::RequestsRefused { broker: 1, api: Produce, partition: Some(1), code: ErrorCode(6), times: 2 })
    .fault(2500, 800, Fault::MemberKilled { member: 1 })
    .check();
}
