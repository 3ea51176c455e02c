//! What a coordinator may answer to a member: nothing is lost, nobody handles what others own, and all goes on.

use bytes::Bytes;
use ottla::ErrorCode;
use ottla_broker::faults::{Effect, Fault};
use ottla_protocol::messages::{
    FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest,
    OffsetFetchRequest, SyncGroupRequest,
};
use ottla_sim::{
    Sim,
    group::{Group, Settings},
};

use crate::{busy, flow};

/// Two members share the partitions, the fault strikes, a third comes and the first goes; all is handled and committed.
fn survives(faults: impl IntoIterator<Item = Fault>) {
    for fault in faults {
        Sim::seeds(0..3).run(async |world| {
            let group = Group::new(world, 3, 6).await;
            let first = group.start_with("billing-1", &busy());
            let second = group.start_with("billing-2", &busy());
            flow(&group, 5).await;
            let struck = group.cluster.faults().add(fault.clone().times(2));
            flow(&group, 5).await;
            let third = group.start_with("billing-3", &Settings::default());
            flow(&group, 10).await;
            first.stop().await?;
            flow(&group, 10).await;
            group.check().await;
            assert!(struck.strikes() > 0, "{fault:?}");
            drop(third.stop().await);
            second.stop().await
        });
    }
}

fn refused<R: ottla_protocol::Request>(codes: impl IntoIterator<Item = ErrorCode>) -> Vec<Fault> {
    codes.into_iter().map(|code| Fault::on::<R>(Effect::Refuse(code))).collect()
}

#[test]
fn g06_a_heartbeat_that_is_refused_is_a_rebalance_or_a_loss_and_the_member_comes_back() {
    survives(refused::<HeartbeatRequest>([
        ErrorCode::REBALANCE_IN_PROGRESS,
        ErrorCode::ILLEGAL_GENERATION,
        ErrorCode::UNKNOWN_MEMBER_ID,
    ]));
}

#[test]
fn g09_a_coordinator_that_is_none_is_looked_for_at_whatever_request() {
    let codes = [ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS];
    survives(refused::<HeartbeatRequest>(codes));
    survives(refused::<JoinGroupRequest>(codes));
    survives(refused::<SyncGroupRequest>(codes));
    survives(refused::<OffsetCommitRequest>(codes));
    survives(refused::<OffsetFetchRequest>(codes));
    survives(refused::<LeaveGroupRequest>([ErrorCode::NOT_COORDINATOR]));
    survives(refused::<FindCoordinatorRequest>([ErrorCode::COORDINATOR_NOT_AVAILABLE]));
}

#[test]
fn g10_a_commit_that_is_refused_is_repeated_or_told_and_nothing_stalls() {
    survives(refused::<OffsetCommitRequest>([
        ErrorCode::REBALANCE_IN_PROGRESS,
        ErrorCode::ILLEGAL_GENERATION,
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::REQUEST_TIMED_OUT,
    ]));
}

#[test]
fn g13_a_committed_offset_that_is_not_told_is_never_taken_for_none() {
    let left_out = Effect::edit::<OffsetFetchRequest>(|response| {
        response.groups.iter_mut().for_each(|group| group.topics.clear());
    });
    let codes = [ErrorCode::UNSTABLE_OFFSET_COMMIT, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS];
    let of_one = refused::<OffsetFetchRequest>(codes);
    survives(of_one.into_iter().chain([Fault::on::<OffsetFetchRequest>(left_out)]));
}

#[test]
fn g19_subscriptions_that_cannot_be_read_do_the_elected_leader_no_harm() {
    let garbage: [&'static [u8]; 4] =
        [b"", b"\0", b"\0\x01\x7f\xff\xff\xff", b"\0\x01\0\0\0\x01\0\x05ord\xff\xfe\0\0\0\0"];
    survives(garbage.map(|garbage| {
        Fault::on::<JoinGroupRequest>(Effect::edit::<JoinGroupRequest>(move |response| {
            let leader = response.leader.clone();
            let others = response.members.iter_mut().filter(|member| member.member_id != leader);
            others.for_each(|member| member.metadata = Bytes::from_static(garbage));
        }))
    }));
}
