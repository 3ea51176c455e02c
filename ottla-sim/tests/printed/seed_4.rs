#[test]
fn seed_4() {
    use std::time::Duration;
    use ottla_protocol::ErrorCode;
    use ottla_sim::{Ending::*, Interference::*, hostile::{Lie::*, Lies}, swarm::{Api::*, Assignors::*, Subscription::*, *}};
    Plan {
        partitions: 2, records: 0, senders: 0,
        racks: false, pause: Duration::from_millis(100),
        lies: Some(Lies { broker: Some(1), at_ms: 500, lasts_ms: 2000, per_mille: 100, kinds: [FlippedBits, FlippedBits, FlippedBits], silent_per_mille: 0, cut_per_mille: 20, bytes_per_second: None }),
        unclean: true,
        one_broker_at_a_time: false,
        ..Plan::new(4)
    }
    .check();
}
