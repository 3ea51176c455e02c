use std::time::Duration;

use bytes::Bytes;
use ottla_protocol::TopicId;
use ottla_protocol::batch::BatchBuilder;

use super::{Effect, Replica};
use crate::cluster::ClusterConfig;
use crate::image::Partition;
use crate::io::{DiskToken, NodeId, Now};
use crate::log::RecoveredLog;
use crate::peer::{PeerMessage, ReplicaAppend, ReplicaState};

const TOPIC: TopicId = TopicId([1; 16]);
const SECOND: Duration = Duration::from_secs(1);

/// A replica on node 1, its disk, which confirms when it is told to, and its clock.
struct World {
    replica: Replica,
    now: Now,
    effects: Vec<Effect>,
    tokens: u64,
}

impl World {
    fn new(leader: NodeId) -> Self {
        let config = ClusterConfig::with_nodes(3, "localhost", 1);
        let replica = Replica::new((TOPIC, 0), (1, 11), &config, RecoveredLog::default());
        let now = Now { monotonic: tokio::time::Instant::now().into_std(), wall_ms: 0 };
        let mut world = Self { replica, now, effects: Vec::new(), tokens: 0 };
        world.apply(&partition(leader, 5, 0, &[1, 2, 3]));
        world
    }

    fn act(&mut self, act: impl FnOnce(&mut Replica, Now, &mut Vec<Effect>)) -> Vec<Effect> {
        act(&mut self.replica, self.now, &mut self.effects);
        let effects = std::mem::take(&mut self.effects);
        for _ in effects.iter().filter(|effect| matches!(effect, Effect::Append { .. })) {
            self.tokens += 1;
            self.replica.asked(DiskToken(self.tokens));
        }
        effects
    }

    fn apply(&mut self, partition: &Partition) -> Vec<Effect> {
        self.act(|replica, now, out| replica.apply(now, partition, out))
    }

    fn append(&mut self) -> Vec<Effect> {
        self.act(|replica, now, out| {
            replica.lead_append(now, &batch(), None, out);
        })
    }

    /// The disk confirms everything.
    fn confirm(&mut self) -> Vec<Effect> {
        let token = DiskToken(self.tokens);
        self.act(|replica, now, out| replica.confirmed(now, token, out))
    }

    fn report(&mut self, from: NodeId, end_offset: i64, resync: bool) -> Vec<Effect> {
        let state = ReplicaState {
            topic: TOPIC,
            partition: 0,
            leader_epoch: 5,
            incarnation: 100,
            end_offset,
            last_epoch: if end_offset == 0 { -1 } else { 5 },
            start_offset: 0,
            resync,
        };
        self.act(|replica, now, out| replica.reported(now, from, &state, out))
    }

    fn push(&mut self, base_offset: i64, data: Bytes, high_watermark: i64) -> Vec<Effect> {
        let push = ReplicaAppend {
            topic: TOPIC,
            partition: 0,
            leader_epoch: 5,
            incarnation: 11,
            base_offset,
            data,
            high_watermark,
            start_offset: 0,
            diverging: None,
            begin_at: None,
        };
        self.act(|replica, now, out| replica.pushed(now, 2, push, out))
    }

    fn pass(&mut self, time: Duration) -> Vec<Effect> {
        self.now.monotonic += time;
        self.act(|replica, now, out| replica.tick(now, out))
    }
}

fn partition(leader: NodeId, leader_epoch: i32, version: i32, isr: &[NodeId]) -> Partition {
    Partition { leader: Some(leader), leader_epoch, version, replicas: vec![1, 2, 3], isr: isr.to_vec() }
}

/// One record, as a client sends it.
fn batch() -> Bytes {
    let mut batch = BatchBuilder::new(100);
    batch.append(1, None, Some(b"x"), [].into_iter()).unwrap();
    let mut batch = batch.seal();
    batch.stamp_without_producer();
    batch.into_bytes()
}

/// One record, as a leader pushes it.
fn stamped(offset: i64) -> Bytes {
    super::stamp(&batch(), offset, 5, None).0
}

fn pushes(effects: &[Effect]) -> Vec<(NodeId, i64, bool)> {
    let push = |effect: &Effect| match effect {
        Effect::Send(to, PeerMessage::ReplicaAppend(push)) => {
            Some((*to, push.base_offset, !push.data.is_empty()))
        }
        _ => None,
    };
    effects.iter().filter_map(push).collect()
}

fn reports(effects: &[Effect]) -> Vec<(i64, bool)> {
    let report = |effect: &Effect| match effect {
        Effect::Send(2, PeerMessage::ReplicaState(state)) => Some((state.end_offset, state.resync)),
        _ => None,
    };
    effects.iter().filter_map(report).collect()
}

fn wanted(effects: &[Effect]) -> Option<Vec<(NodeId, u64)>> {
    effects.iter().find_map(|effect| match effect {
        Effect::Controller(PeerMessage::AlterIsr { isr, .. }) => Some(isr.clone()),
        _ => None,
    })
}

#[test]
fn the_high_watermark_is_the_smallest_confirmed_end_in_the_in_sync_set() {
    let mut world = World::new(1);
    world.report(2, 0, true);
    world.report(3, 0, true);
    world.append();
    world.report(2, 1, false);
    world.report(3, 1, false);
    assert_eq!(world.replica.high_watermark(), 0, "the leader's own disk has not confirmed");
    world.confirm();
    assert_eq!(world.replica.high_watermark(), 1);
}

#[test]
fn a_follower_that_has_not_reported_holds_the_high_watermark() {
    let mut world = World::new(1);
    world.append();
    world.confirm();
    world.report(2, 0, true);
    world.report(2, 1, false);
    assert_eq!(world.replica.high_watermark(), 0);
    world.report(3, 0, true);
    world.report(3, 1, false);
    assert_eq!(world.replica.high_watermark(), 1);
}

#[test]
fn an_end_counts_only_after_the_logs_were_compared() {
    let mut world = World::new(1);
    world.apply(&partition(1, 5, 1, &[1, 2]));
    world.append();
    world.confirm();
    // Written under a former leader, and confirmed by a slow disk.
    world.report(2, 1, false);
    assert_eq!(world.replica.high_watermark(), 0);
    world.report(2, 1, true);
    assert_eq!(world.replica.high_watermark(), 1);
}

#[test]
fn an_append_is_pushed_to_those_that_are_level() {
    let mut world = World::new(1);
    world.report(2, 0, true);
    assert_eq!(pushes(&world.append()), [(2, 0, true)]);
    // The second is pushed behind the first, which is not acknowledged yet.
    assert_eq!(pushes(&world.append()), [(2, 1, true)]);
}

#[test]
fn one_that_is_behind_is_fed_from_the_disk() {
    let mut world = World::new(1);
    world.append();
    world.append();
    world.confirm();
    let effects = world.report(2, 0, true);
    let Some(Effect::Read { follower: 2, base_offset: 0, position: 0, length }) = effects.last() else {
        panic!("{effects:?}")
    };
    let data = Bytes::from([stamped(0), stamped(1)].concat());
    assert_eq!(data.len(), *length as usize);
    let fed = world.act(|replica, now, out| replica.feed(now, 2, 0, data, out));
    assert_eq!(pushes(&fed), [(2, 0, true)]);
    assert_eq!(pushes(&world.append()), [(2, 2, true)]);
}

#[test]
fn what_is_not_acknowledged_is_sent_again() {
    let mut world = World::new(1);
    world.report(2, 0, true);
    world.append();
    assert_eq!(world.replica.deadline(), Some(world.now.monotonic + SECOND));
    let effects = world.pass(SECOND);
    assert!(matches!(effects[..], [Effect::Read { follower: 2, base_offset: 0, .. }]), "{effects:?}");
}

#[test]
fn what_is_acknowledged_while_it_is_read_again_is_not_sent_again() {
    let mut world = World::new(1);
    world.report(2, 0, true);
    world.append();
    world.pass(SECOND);
    world.append();
    world.report(2, 1, false);
    let fed = world.act(|replica, now, out| replica.feed(now, 2, 0, stamped(0), out));
    assert!(matches!(fed[..], [Effect::Read { follower: 2, base_offset: 1, .. }]), "{fed:?}");
}

#[test]
fn a_replica_at_rest_wants_no_tick() {
    let mut world = World::new(1);
    for node in [2, 3] {
        world.report(node, 0, true);
    }
    world.append();
    world.confirm();
    for node in [2, 3] {
        world.report(node, 1, false);
    }
    assert_eq!(world.replica.deadline(), None);

    let mut world = World::new(2);
    world.push(0, Bytes::new(), 0);
    assert_eq!(world.replica.deadline(), None);
}

#[test]
fn while_an_expansion_is_pending_the_larger_set_counts() {
    let mut world = World::new(1);
    world.apply(&partition(1, 5, 1, &[1, 2]));
    world.report(2, 0, true);
    assert_eq!(wanted(&world.report(3, 0, true)), Some(vec![(1, 11), (2, 100), (3, 100)]));
    world.append();
    world.confirm();
    world.report(2, 1, false);
    assert_eq!(world.replica.high_watermark(), 0, "the controller may have let 3 in");
    let refuse =
        |version| move |replica: &mut Replica, now, out: &mut Vec<Effect>| replica.refused(now, version, out);
    world.act(refuse(2));
    assert_eq!(world.replica.high_watermark(), 0, "the metadata will tell what became of it");
    world.act(refuse(1));
    assert_eq!(world.replica.high_watermark(), 1);
}

#[test]
fn acknowledgements_of_a_former_life_do_not_count() {
    let mut world = World::new(1);
    world.report(2, 0, true);
    world.report(3, 0, true);
    world.append();
    world.confirm();
    world.report(3, 1, false);
    let state = ReplicaState {
        topic: TOPIC,
        partition: 0,
        leader_epoch: 5,
        incarnation: 101,
        end_offset: 0,
        last_epoch: -1,
        start_offset: 0,
        resync: true,
    };
    world.act(|replica, now, out| replica.reported(now, 3, &state, out));
    world.report(2, 1, false);
    assert_eq!(world.replica.high_watermark(), 0);
}

#[test]
fn a_follower_acknowledges_what_its_disk_has_confirmed() {
    let mut world = World::new(2);
    world.push(0, Bytes::new(), 0);
    let effects = world.push(0, stamped(0), 0);
    assert!(reports(&effects).is_empty());
    assert_eq!(reports(&world.confirm()), [(1, false)]);
}

#[test]
fn a_follower_asks_again_for_what_it_lacks_when_its_disk_is_done() {
    let mut world = World::new(2);
    world.push(0, Bytes::new(), 0);
    world.push(0, stamped(0), 0);
    let effects = world.push(5, stamped(5), 0);
    assert!(reports(&effects).is_empty(), "the disk has not confirmed what came before");
    assert_eq!(reports(&world.confirm()), [(1, true)]);
}

#[test]
fn a_follower_takes_the_new_part_of_what_comes_twice() {
    let mut world = World::new(2);
    world.push(0, Bytes::new(), 0);
    world.push(0, stamped(0), 0);
    world.confirm();
    assert_eq!(reports(&world.push(0, stamped(0), 0)), [(1, false)], "acknowledged again");
    let effects = world.push(0, Bytes::from([stamped(0), stamped(1)].concat()), 0);
    assert!(matches!(&effects[..], [Effect::Append { data, .. }] if *data == stamped(1)));
    assert_eq!(world.replica.log.end_offset(), 2);
}

#[test]
fn a_follower_knows_no_higher_watermark_than_its_own_end() {
    let mut world = World::new(2);
    world.push(0, stamped(0), 7);
    assert_eq!(world.replica.high_watermark(), 1);
}

#[test]
fn a_follower_asks_until_it_is_answered() {
    let mut world = World::new(2);
    assert_eq!(reports(&world.pass(SECOND)), [(0, true)]);
    assert_eq!(reports(&world.pass(SECOND)), [(0, true)]);
    world.push(0, Bytes::new(), 0);
    assert!(world.pass(SECOND).is_empty());
}

#[test]
fn what_another_leader_or_another_epoch_pushes_is_ignored() {
    let mut world = World::new(3);
    assert!(world.push(0, stamped(0), 0).is_empty());
    let mut world = World::new(2);
    world.apply(&partition(2, 6, 1, &[1, 2, 3]));
    assert!(world.push(0, stamped(0), 0).is_empty());
    assert_eq!(world.replica.log.end_offset(), 0);
}

#[test]
fn what_was_meant_for_a_former_life_is_no_answer() {
    let mut world = World::new(2);
    let push = ReplicaAppend {
        topic: TOPIC,
        partition: 0,
        leader_epoch: 5,
        incarnation: 10,
        base_offset: 0,
        data: stamped(0),
        high_watermark: 0,
        start_offset: 0,
        diverging: None,
        begin_at: None,
    };
    assert!(world.act(|replica, now, out| replica.pushed(now, 2, push, out)).is_empty());
    assert_eq!(reports(&world.pass(SECOND)), [(0, true)]);
}

#[test]
fn a_refused_follower_does_not_keep_others_out() {
    let mut world = World::new(1);
    world.apply(&partition(1, 5, 1, &[1]));
    assert_eq!(wanted(&world.report(2, 0, true)), Some(vec![(1, 11), (2, 100)]));
    world.report(3, 0, true);
    world.act(|replica, now, out| replica.refused(now, 1, out));
    assert_eq!(wanted(&world.pass(SECOND)), Some(vec![(1, 11), (3, 100)]));
    world.act(|replica, now, out| replica.refused(now, 1, out));
    assert_eq!(wanted(&world.pass(SECOND)), Some(vec![(1, 11), (2, 100)]));
}
