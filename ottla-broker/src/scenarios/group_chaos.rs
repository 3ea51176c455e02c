//! Crashes, freezes, cuts and lost messages at random, while two members of a group commit: no commit that was
//! acknowledged is lost, and the group comes together again.

use std::time::Duration;

use ottla_protocol::messages::{HeartbeatRequest, JoinGroupRequest, OffsetCommitRequest, SyncGroupRequest};
use ottla_protocol::{ErrorCode, Str};

use super::chaos::{State, disturb, recover};
use super::group_requests::{
    JOIN, Member, SYNC, commit_request, heartbeat_request, join_request, sync_request,
};
use super::harness::Cluster;
use crate::Rng;
use crate::io::NodeId;

/// What a member waits for, if for anything.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Waits {
    Join,
    Sync,
    Heartbeat,
    Commit(i64),
}

/// A member that does one thing after the other.
struct Actor {
    member: Member,
    waits: Option<Waits>,
    /// It has its assignment.
    stable: bool,
}

/// The offsets that the members have committed, one after the other.
#[derive(Default)]
struct History {
    sent: i64,
    acknowledged: i64,
}

impl Actor {
    fn new(cluster: &mut Cluster) -> Self {
        let client = cluster.connect(1);
        let member = Member { client, id: Str::EMPTY, generation: -1, instance_id: None };
        Self { member, waits: None, stable: false }
    }

    /// Takes the answer, if it is there, and goes on.
    fn step(&mut self, cluster: &mut Cluster, history: &mut History) {
        let client = self.member.client;
        let answered = match self.waits {
            None => Some(ErrorCode::NONE),
            Some(Waits::Join) => {
                cluster.reply::<JoinGroupRequest>(client, JOIN).map(|response| self.joined(&response))
            }
            Some(Waits::Sync) => cluster.reply::<SyncGroupRequest>(client, SYNC).map(|response| {
                self.stable = response.error_code.is_ok();
                response.error_code
            }),
            Some(Waits::Heartbeat) => {
                cluster.reply::<HeartbeatRequest>(client, 4).map(|response| response.error_code)
            }
            Some(Waits::Commit(offset)) => cluster.reply::<OffsetCommitRequest>(client, 9).map(|response| {
                let error = response.topics[0].partitions[0].error_code;
                if error.is_ok() {
                    history.acknowledged = history.acknowledged.max(offset);
                }
                error
            }),
        };
        if let Some(error) = answered {
            let synced = self.waits != Some(Waits::Join);
            self.waits = None;
            self.take(error);
            self.go_on(cluster, history, error, synced);
        }
    }

    fn joined(&mut self, response: &ottla_protocol::messages::JoinGroupResponse) -> ErrorCode {
        if response.error_code.is_ok() || response.error_code == ErrorCode::MEMBER_ID_REQUIRED {
            self.member.id = response.member_id.clone();
            self.member.generation = response.generation_id;
        }
        response.error_code
    }

    fn take(&mut self, error: ErrorCode) {
        match error {
            ErrorCode::NONE
            | ErrorCode::MEMBER_ID_REQUIRED
            | ErrorCode::NOT_COORDINATOR
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS => {}
            ErrorCode::REBALANCE_IN_PROGRESS => self.stable = false,
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::ILLEGAL_GENERATION | ErrorCode::GROUP_ID_NOT_FOUND => {
                self.stable = false;
                self.member.id = Str::EMPTY;
                self.member.generation = -1;
            }
            error => panic!("{error}"),
        }
    }

    fn go_on(&mut self, cluster: &mut Cluster, history: &mut History, error: ErrorCode, synced: bool) {
        let client = self.member.client;
        let turn = history.sent % 3;
        if error.is_ok() && !synced {
            cluster.send(client, SYNC, &sync_request(&self.member, &[]));
            self.waits = Some(Waits::Sync);
        } else if !self.stable {
            cluster.send(client, JOIN, &join_request(&self.member));
            self.waits = Some(Waits::Join);
        } else if turn == 2 {
            history.sent += 1;
            cluster.send(client, 4, &heartbeat_request(&self.member));
            self.waits = Some(Waits::Heartbeat);
        } else {
            history.sent += 1;
            cluster.send(client, 9, &commit_request(&self.member, history.sent));
            self.waits = Some(Waits::Commit(history.sent));
        }
    }

    /// Its connection is gone, and it finds the coordinator that a node knows.
    fn reconnect(&mut self, cluster: &mut Cluster, coordinator: NodeId) {
        cluster.disconnect(self.member.client);
        self.member.client = cluster.connect(coordinator);
        self.waits = None;
    }
}

fn run(seed: u64) {
    let mut rng = Rng::seeded(seed);
    let mut cluster = Cluster::new(3);
    cluster.create("t", &[&[1]], &[]);
    cluster.coordinator();
    let mut actors = [Actor::new(&mut cluster), Actor::new(&mut cluster)];
    let mut history = History::default();
    let mut states = [State::Up; 3];
    for _ in 0..80 {
        disturb(&mut cluster, &mut states, &mut rng);
        for _ in 0..rng.next_u64() % 8 {
            for actor in &mut actors {
                let node = actor.member.client.node;
                let up = states[usize::try_from(node - 1).unwrap()] == State::Up;
                if !up || rng.next_u64().is_multiple_of(6) {
                    // Not always the right one: a client may have old metadata.
                    let any = 1 + (rng.next_u64() % 3) as NodeId;
                    let leader = cluster.group_leader().filter(|_| !rng.next_u64().is_multiple_of(5));
                    actor.reconnect(&mut cluster, leader.unwrap_or(any));
                }
                actor.step(&mut cluster, &mut history);
            }
            cluster.advance(Duration::from_millis(rng.next_u64() % 2000));
        }
    }
    recover(&mut cluster, &states);
    cluster.advance(Duration::from_secs(15));
    for actor in &mut actors {
        // Its connection may have been to a former life of a node.
        let coordinator = cluster.coordinator();
        actor.reconnect(&mut cluster, coordinator);
    }
    for _ in 0..60 {
        for actor in &mut actors {
            actor.step(&mut cluster, &mut history);
        }
        cluster.advance(Duration::from_millis(500));
    }
    let generations = actors.each_ref().map(|actor| (actor.stable, actor.member.generation));
    assert!(generations[0].0 && generations[0] == generations[1], "seed {seed}: {generations:?}");
    let committed = cluster.committed().unwrap();
    assert!(history.acknowledged > 0, "seed {seed}: nothing was ever acknowledged");
    assert!(committed >= history.acknowledged, "seed {seed}: {committed} < {}", history.acknowledged);
}

#[test]
fn no_commit_that_was_acknowledged_is_lost_whatever_happens() {
    for seed in 0..60 {
        run(seed);
    }
}
