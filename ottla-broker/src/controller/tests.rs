use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::TopicId;

use super::{Controller, ControllerInput, ControllerOutput};
use crate::cluster::ClusterConfig;
use crate::image::{Image, Partition};
use crate::io::{DiskResult, NodeId, Now};
use crate::peer::{NewTopic, PeerMessage};
use crate::rng::Rng;

const SECOND: Duration = Duration::from_secs(1);

/// A controller whose disk answers at once, and a clock.
struct World {
    controller: Controller,
    now: Now,
    said: Vec<(NodeId, PeerMessage)>,
}

impl World {
    /// Three nodes are registered, and topic `t` is on nodes 1, 2, 3 in this order.
    fn new() -> (Self, TopicId) {
        let config = Arc::new(ClusterConfig::with_nodes(3, "localhost", 1));
        let controller = Controller::new(Arc::clone(&config), None, Rng::seeded(1)).unwrap();
        let now = Now { monotonic: tokio::time::Instant::now().into_std(), wall_ms: 0 };
        let mut world = Self { controller, now, said: Vec::new() };
        for node in [1, 2, 3] {
            world.register(node, 100);
        }
        world.say(1, PeerMessage::CreateTopics { request: 1, topics: vec![topic()], validate_only: false });
        let id = world.image().topic("t").unwrap().id;
        (world, id)
    }

    fn register(&mut self, id: NodeId, incarnation: u64) {
        let node = ClusterConfig::with_nodes(3, "localhost", 1).node(id).unwrap().clone();
        self.say(id, PeerMessage::Register { node, incarnation });
    }

    fn say(&mut self, node: NodeId, message: PeerMessage) {
        self.input(ControllerInput::Peer(node, message));
    }

    fn input(&mut self, input: ControllerInput) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut out = Vec::new();
            self.controller.handle(self.now, input, &mut out);
            for output in out {
                match output {
                    ControllerOutput::Peer(node, message) => self.said.push((node, message)),
                    ControllerOutput::Disk(token, _) => {
                        inputs.push(ControllerInput::Disk(token, DiskResult::Done))
                    }
                    ControllerOutput::Trouble(why) | ControllerOutput::Halt(why) => panic!("{why}"),
                }
            }
        }
    }

    fn pass(&mut self, time: Duration, alive: &[NodeId]) {
        for _ in 0..time.as_secs() {
            self.now.monotonic += SECOND;
            for node in alive {
                self.say(*node, PeerMessage::Heartbeat { incarnation: 100, metadata_version: u64::MAX });
            }
            self.input(ControllerInput::Tick);
        }
    }

    fn image(&self) -> &Image {
        self.controller.image()
    }

    fn partition(&self, id: TopicId) -> Partition {
        self.image().partition(id, 0).unwrap().clone()
    }

    fn alter_isr(&mut self, from: NodeId, id: TopicId, epoch_version: (i32, i32), isr: &[(NodeId, u64)]) {
        let (leader_epoch, version) = epoch_version;
        let isr = isr.to_vec();
        self.say(from, PeerMessage::AlterIsr { topic: id, partition: 0, leader_epoch, version, isr });
    }
}

fn topic() -> NewTopic {
    NewTopic {
        name: "t".into(),
        partitions: -1,
        replication_factor: -1,
        assignments: vec![(0, vec![1, 2, 3])],
        config: BTreeMap::new(),
    }
}

#[test]
fn a_node_without_heartbeats_is_fenced_when_its_session_ends() {
    let (mut world, id) = World::new();
    world.pass(SECOND * 8, &[2, 3]);
    assert_eq!(world.partition(id).leader, Some(1));
    world.pass(SECOND * 2, &[2, 3]);
    let partition = world.partition(id);
    assert_eq!((partition.leader, partition.leader_epoch), (Some(2), 1));
    assert_eq!(partition.isr, [2, 3]);
    assert!(!world.image().brokers.contains_key(&1));
    world.say(1, PeerMessage::Heartbeat { incarnation: 100, metadata_version: 0 });
    assert!(matches!(world.said.last(), Some((1, PeerMessage::NotRegistered))));
}

#[test]
fn the_last_in_sync_replica_stays_so() {
    let (mut world, id) = World::new();
    world.pass(SECOND * 10, &[1]);
    assert_eq!(world.partition(id).isr, [1]);
    world.pass(SECOND * 10, &[]);
    let partition = world.partition(id);
    assert_eq!((partition.leader, &partition.isr[..]), (None, &[1][..]));
    world.register(2, 100);
    assert_eq!(world.partition(id).leader, None);
    world.register(1, 100);
    let partition = world.partition(id);
    assert_eq!((partition.leader, partition.leader_epoch), (Some(1), 2));
}

#[test]
fn a_node_that_restarted_leaves_the_in_sync_set() {
    let (mut world, id) = World::new();
    world.register(1, 101);
    let partition = world.partition(id);
    assert_eq!((partition.leader, &partition.isr[..]), (Some(2), &[2, 3][..]));
}

#[test]
fn registering_twice_changes_nothing() {
    let (mut world, id) = World::new();
    let version = world.image().version;
    world.register(1, 100);
    assert_eq!((world.image().version, world.partition(id).leader), (version, Some(1)));
}

#[test]
fn a_leader_that_does_not_come_back_after_a_restart_of_all_is_replaced() {
    let (mut world, id) = World::new();
    let file = super::snapshot::write(world.image(), 0);
    let config = Arc::new(ClusterConfig::with_nodes(3, "localhost", 1));
    world.controller = Controller::new(config, Some(file.as_bytes()), Rng::seeded(2)).unwrap();
    world.register(2, 101);
    let partition = world.partition(id);
    assert_eq!((partition.leader, partition.leader_epoch), (Some(2), 1));
}

#[test]
fn an_in_sync_set_is_changed_by_the_leader_that_has_seen_the_last_change() {
    let (mut world, id) = World::new();
    let refused = |world: &mut World| matches!(world.said.last(), Some((_, PeerMessage::IsrRefused { .. })));
    world.alter_isr(2, id, (0, 0), &[(2, 100)]);
    assert!(refused(&mut world), "not the leader");
    world.alter_isr(1, id, (1, 0), &[(1, 100)]);
    assert!(refused(&mut world), "another epoch");
    world.alter_isr(1, id, (0, 1), &[(1, 100)]);
    assert!(refused(&mut world), "another version");
    world.alter_isr(1, id, (0, 0), &[(2, 100)]);
    assert!(refused(&mut world), "without itself");
    world.alter_isr(1, id, (0, 0), &[(1, 100), (2, 100)]);
    let partition = world.partition(id);
    assert_eq!((&partition.isr[..], partition.version, partition.leader_epoch), (&[1, 2][..], 1, 0));
    world.alter_isr(1, id, (0, 1), &[(1, 100), (2, 100), (3, 99)]);
    assert!(refused(&mut world), "a former life of a replica");
    world.alter_isr(1, id, (0, 1), &[(1, 100), (2, 100), (3, 100)]);
    assert_eq!(world.partition(id).isr, [1, 2, 3]);
}

#[test]
fn nothing_is_said_before_it_is_on_disk() {
    let (mut world, _) = World::new();
    let mut out = Vec::new();
    let message = PeerMessage::AllocateProducerIds;
    world.controller.handle(world.now, ControllerInput::Peer(1, message), &mut out);
    let [ControllerOutput::Disk(token, _)] = out[..] else { panic!("{out:?}") };
    // Not even what needs no disk, since it would overtake.
    let mut more = Vec::new();
    let heartbeat = PeerMessage::Heartbeat { incarnation: 100, metadata_version: 0 };
    world.controller.handle(world.now, ControllerInput::Peer(2, heartbeat), &mut more);
    assert!(more.is_empty());
    world.controller.handle(world.now, ControllerInput::Disk(token, DiskResult::Done), &mut more);
    assert!(matches!(
        more[..],
        [
            ControllerOutput::Peer(1, PeerMessage::ProducerIds { .. }),
            ControllerOutput::Peer(2, PeerMessage::Metadata(_))
        ]
    ));
}

#[test]
fn a_controller_whose_disk_fails_halts() {
    let (mut world, _) = World::new();
    let mut out = Vec::new();
    world.controller.handle(world.now, ControllerInput::Peer(1, PeerMessage::AllocateProducerIds), &mut out);
    let [ControllerOutput::Disk(token, _)] = out[..] else { panic!("{out:?}") };
    out.clear();
    let failed = DiskResult::Failed("broken".to_owned());
    world.controller.handle(world.now, ControllerInput::Disk(token, failed), &mut out);
    assert!(matches!(&out[..], [ControllerOutput::Halt(why)] if why == "broken"));
}

#[test]
fn an_operator_moves_a_leader_to_whoever_is_in_sync_and_lives() {
    let (mut world, id) = World::new();
    let partition = |to| ControllerInput::MoveLeader { topic: id, partition: 0, to };
    world.input(partition(2));
    let moved = world.partition(id);
    assert_eq!((moved.leader, moved.leader_epoch, moved.version), (Some(2), 1, 1));
    // It leads already.
    world.input(partition(2));
    assert_eq!(world.partition(id), moved);
    world.pass(Duration::from_secs(30), &[1, 2]);
    let without_3 = world.partition(id);
    world.input(partition(3));
    assert_eq!(world.partition(id), without_3);
}
