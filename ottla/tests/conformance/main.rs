//! One suite for every broker: the embedded one always, and the real Kafka that `cargo xtask kafka run` names.
//!
//! ```text
//! cargo test -p ottla --test conformance                                       embedded
//! cargo xtask kafka run --nodes 3 -- cargo test -p ottla --test conformance    and real, with Java as the other side
//! ```
//!
//! A scenario is an async function that takes a [`World`]. What a machine cannot run (no real Kafka, too few nodes, no
//! Java) says so and passes.

mod backend;
mod diary;
mod effects;
mod java;
mod record;
mod scenarios;
mod world;

use world::World;

/// Makes two tests of each scenario, one for each backend. `on 3`: the broker must have three nodes; `alone`: it harms the
/// cluster, so that no other scenario may use it meanwhile.
macro_rules! conformance {
    ($($group:ident::$scenario:ident on $nodes:literal $($alone:ident)?;)*) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                crate::world::on_embedded($nodes, crate::scenarios::$group::$scenario).await;
            })*
        }

        mod real_kafka {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() {
                let alone = false $(|| stringify!($alone) == "alone")?;
                crate::world::on_real_kafka($nodes, alone, crate::scenarios::$group::$scenario).await;
            })*
        }
    };
}

conformance! {
    records::every_codec_gives_back_what_was_sent on 1;
    records::headers_keep_their_order_and_their_duplicates on 1;
    records::null_is_not_empty_and_a_tombstone_is_null on 1;
    records::a_megabyte_goes_through_in_one_record on 1;
    records::timestamps_are_kept_or_taken_from_the_clock on 1;
    records::each_partition_keeps_its_own_order on 1;
    records::keys_go_where_java_sends_them on 1;
    positions::offsets_are_found_by_timestamp on 1;
    positions::a_position_out_of_range_is_reset_as_it_was_asked_for on 1;
    positions::a_position_out_of_range_is_an_error_by_default on 1;
    positions::seeking_goes_back_and_forth on 1;
    positions::a_paused_partition_waits_and_the_others_go_on on 1;
    topics::a_topic_is_created_described_and_deleted on 1;
    topics::what_fails_is_told_topic_by_topic on 1;
    topics::topics_grow_and_their_settings_change on 1;
    many::thousands_of_partitions_are_known_written_and_read on 1;
    administration::a_group_without_members_is_made_listed_and_deleted on 1;
    administration::a_group_that_does_not_exist_is_told_so on 1;
    administration::places_in_logs_are_told_partition_by_partition on 1;
    administration::the_oldest_records_are_deleted_and_the_log_goes_on on 1;
    interop::java_reads_what_we_write on 1;
    interop::we_read_what_java_writes on 1;
    interop::java_and_we_choose_the_same_partitions on 1;
    interop::what_the_verifiable_producer_was_promised_is_there on 1;
    interop::our_member_goes_on_where_the_verifiable_consumer_left_off on 1;
    mixed::java_joins_our_group_of_cooperative_sticky on 1;
    mixed::java_joins_our_group_of_range on 1;
    mixed::we_join_a_group_of_java_of_cooperative_sticky on 1;
    mixed::we_join_a_group_of_java_of_range on 1;
    pause::every_broker_stands_still_for_longer_than_a_session on 1 alone;
    pause::the_coordinator_stands_still_for_longer_than_a_session on 3 alone;
    restart::a_coordinator_is_killed_while_its_group_consumes on 1 alone;
    restart::a_coordinator_is_shut_down_while_its_group_consumes on 3 alone;
    restart::a_static_member_comes_back_to_its_partitions_without_a_rebalance on 1;
    stuck::others_go_on_for_a_program_that_is_stuck_and_it_comes_back on 1;
    racks::a_consumer_reads_from_the_replica_in_its_rack on 3;
    moving::a_broker_comes_back_at_another_address on 3 alone;
    failover::a_leader_is_killed_and_restarted_under_load on 3 alone;
    failover::a_leader_is_frozen_under_load_and_wakes_up_deposed on 3 alone;
}
