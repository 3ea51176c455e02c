//! A coordinator that has just taken over answers heartbeats before it knows who is a member.

use ottla::ErrorCode;
use ottla_broker::faults::{Effect, Fault, ScriptedFault};
use ottla_protocol::messages::{HeartbeatRequest, JoinGroupRequest, OffsetCommitRequest};
use ottla_sim::{Sim, group::Group};
use tokio::time::sleep;

use crate::{SECOND, busy};

/// A member cannot join again, and at the end of the rebalance it is out. Before it hears of that its coordinator is gone,
/// and the next one takes its time to load the group: until then it tells whoever asks that all is well.
#[test]
fn a_heartbeat_that_a_loading_coordinator_answers_gives_nobody_his_partitions_back() {
    Sim::seeds(0..8).run(async |world| {
        let group = Group::new(world, 3, 4).await;
        group.produce(12_000).await;
        let first = group.start_with("billing-1", &busy());
        first.owns(&group, 4).await;
        group.world.until("it is at work", || group.history.handled() > 100).await;

        let of_first = |fault: Fault| group.cluster.faults().add(fault.from_client("billing-1"));
        let parked = of_first(Fault::on::<JoinGroupRequest>(Effect::Hold));
        let second = group.start_with("billing-2", &busy());
        // The rebalance ends a minute after it began.
        sleep(55 * SECOND).await;
        let gone = [
            of_first(Fault::on::<HeartbeatRequest>(Effect::LoseRequest)),
            of_first(Fault::on::<OffsetCommitRequest>(Effect::LoseRequest)),
        ];
        second.owns(&group, 4).await;
        let before = group.history.handled();
        group.world.until("the second is at work", || group.history.handled() > before + 50).await;
        gone.iter().for_each(ScriptedFault::end);

        let blindly = Effect::edit::<HeartbeatRequest>(|answer| answer.error_code = ErrorCode::NONE);
        let refused = Effect::Refuse(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
        let loading = [
            of_first(Fault::on::<HeartbeatRequest>(blindly)),
            of_first(Fault::on::<OffsetCommitRequest>(refused)),
        ];
        sleep(20 * SECOND).await;
        assert!(loading[0].strikes() > 3, "it goes on sending heartbeats");
        loading.iter().for_each(ScriptedFault::end);
        parked.end();

        first.owns(&group, 2).await;
        group.check().await;
        assert_eq!(first.sessions_lost(), 1);
        first.stop().await?;
        second.stop().await
    });
}
