//! Random histories: whatever brokers, leaders and callers do, a partition's offsets come once and in order.

use std::time::Duration;

use ottla_protocol::ErrorCode;
use proptest::prelude::*;

use super::{
    super::{OffsetSpec, Pause, Reset},
    test_cluster::{Manner, Replica, TOPIC, World},
};

const PARTITIONS: i32 = 3;
const NODES: i32 = 3;

#[derive(Debug, Clone)]
enum Step {
    Append { partition: i32, records: i32 },
    Gap { partition: i32, span: u32 },
    Send { node: i32 },
    Answer { node: i32, batches: usize, cut: usize },
    CatchUp { node: i32, batches: usize },
    Lose { node: i32 },
    Restart { node: i32 },
    LookUp { node: i32 },
    Move { partition: i32, node: i32 },
    Name { partition: i32, node: i32, lacks: i64, fails: bool },
    NameNone { partition: i32 },
    Metadata,
    Poll { enough: usize },
    Pause { partition: i32 },
    Resume,
    Seek { partition: i32, to: SeekTo },
    Wait { millis: u64 },
}

#[derive(Debug, Clone, Copy)]
enum SeekTo {
    Earliest,
    Latest,
    /// So far through the log, in percent.
    Percent(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (partition, node) = (0..PARTITIONS, 0..NODES);
    let to =
        prop_oneof![Just(SeekTo::Earliest), Just(SeekTo::Latest), (0_i64..=100).prop_map(SeekTo::Percent)];
    let step = prop_oneof![
        3 => (partition.clone(), 1..6).prop_map(|(partition, records)| Step::Append { partition, records }),
        1 => (partition.clone(), 1_u32..4).prop_map(|(partition, span)| Step::Gap { partition, span }),
        6 => node.clone().prop_map(|node| Step::Send { node }),
        6 => (node.clone(), 0_usize..3, 0_usize..80)
            .prop_map(|(node, batches, cut)| Step::Answer { node, batches, cut }),
        3 => (node.clone(), 0_usize..3).prop_map(|(node, batches)| Step::CatchUp { node, batches }),
        1 => node.clone().prop_map(|node| Step::Lose { node }),
        1 => node.clone().prop_map(|node| Step::Restart { node }),
        4 => node.clone().prop_map(|node| Step::LookUp { node }),
        1 => (partition.clone(), node.clone()).prop_map(|(partition, node)| Step::Move { partition, node }),
        3 => (partition.clone(), node, prop_oneof![Just(0_i64), 0_i64..20], any::<bool>())
            .prop_map(|(partition, node, lacks, fails)| Step::Name { partition, node, lacks, fails }),
        1 => partition.clone().prop_map(|partition| Step::NameNone { partition }),
        3 => Just(Step::Metadata),
        6 => (1_usize..200).prop_map(|enough| Step::Poll { enough }),
        1 => partition.clone().prop_map(|partition| Step::Pause { partition }),
        1 => Just(Step::Resume),
        1 => (partition, to).prop_map(|(partition, to)| Step::Seek { partition, to }),
        2 => (0_u64..1_500).prop_map(|millis| Step::Wait { millis }),
    ];
    proptest::collection::vec(step, 1..200)
}

/// What the reader of one partition must see next.
struct Reader {
    /// Where it began, once that is known.
    from: Option<i64>,
    seen: usize,
}

struct Run {
    world: World,
    readers: Vec<Reader>,
    pauses: Vec<u64>,
}

impl Run {
    fn new() -> Self {
        let mut world = World::new(PARTITIONS, NODES, Reset::Error);
        world.assign(OffsetSpec::At(0));
        let readers = (0..PARTITIONS).map(|_| Reader { from: Some(0), seen: 0 }).collect();
        Self { world, readers, pauses: Vec::new() }
    }

    fn step(&mut self, step: &Step) {
        let world = &mut self.world;
        match *step {
            Step::Append { partition, records } => world.log(partition).append(records),
            Step::Gap { partition, span } => world.log(partition).append_gap(span),
            Step::Send { node } => drop(world.send(node)),
            Step::Answer { node, batches, cut } => world.answer(node, Manner { batches, cut }),
            Step::CatchUp { node, batches } => drop(world.catch_up(node, Manner { batches, cut: 0 })),
            Step::Lose { node } => world.lose(node),
            Step::Restart { node } => world.forget_sessions(node),
            Step::LookUp { node } => drop(world.look_up(node)),
            Step::Move { partition, node } => world.move_leader(partition, node),
            // The leader names a replica that lacks so many offsets, or is out of service.
            Step::Name { partition, node, lacks, fails } => {
                let errors = if fails { vec![ErrorCode::NOT_LEADER_OR_FOLLOWER] } else { Vec::new() };
                let log = world.log(partition);
                log.replica = Some(Replica { node, end: (log.end() - lacks).max(0), errors });
            }
            Step::NameNone { partition } => world.log(partition).replica = None,
            Step::Metadata => world.tell_leaders(),
            Step::Poll { enough } => drop(world.poll(enough)),
            Step::Pause { partition } => {
                let pause = world.client.pause([(&*TOPIC, partition)], &Pause::by("test"), world.tick.now);
                self.pauses.push(pause);
            }
            Step::Resume => self.pauses.pop().into_iter().for_each(|pause| world.client.resume(pause)),
            Step::Seek { partition, to } => self.seek(partition, to),
            Step::Wait { millis } => world.wait(Duration::from_millis(millis)),
        }
        self.check();
    }

    fn seek(&mut self, partition: i32, to: SeekTo) {
        let end = self.world.logs[&partition].end();
        let spec = match to {
            SeekTo::Earliest => OffsetSpec::Earliest,
            SeekTo::Latest => OffsetSpec::Latest,
            SeekTo::Percent(percent) => OffsetSpec::At(end * percent / 100),
        };
        self.world.client.seek(&TOPIC, partition, spec);
        self.world.delivered(partition);
        let from = if let OffsetSpec::At(offset) = spec { Some(offset) } else { None };
        self.readers[partition as usize] = Reader { from, seen: 0 };
    }

    /// What was delivered since the last look continues what was delivered before, record by record.
    fn check(&mut self) {
        for (partition, reader) in (0..).zip(&mut self.readers) {
            let new = self.world.delivered(partition);
            let resolved = self.world.position(partition);
            // A place that the cluster chose is known as soon as it is resolved, before anything is handed out.
            reader.from = reader.from.or(resolved);
            let Some(from) = reader.from else {
                assert!(new.is_empty(), "delivered before the place was known");
                continue;
            };
            let log = self.world.logs[&partition].offsets_from(from);
            let expected = log.get(reader.seen..reader.seen + new.len());
            assert_eq!(
                expected,
                Some(&new[..]),
                "partition {partition} from {from}, after {} records",
                reader.seen
            );
            reader.seen += new.len();
        }
    }

    /// Once everything works again, everything arrives.
    fn heal(&mut self) {
        for pause in std::mem::take(&mut self.pauses) {
            self.world.client.resume(pause);
        }
        self.world.tell_leaders();
        for log in self.world.logs.values_mut() {
            let end = log.end();
            log.replica.iter_mut().for_each(|replica| replica.end = end);
        }
        // A look between the rounds finds out where a place came to be before records are taken from there.
        for _ in 0..3 {
            for node in 0..NODES {
                self.world.wait(Duration::from_secs(2));
                self.world.look_up(node);
            }
            self.check();
        }
        self.world.settle();
        self.check();
        for (partition, reader) in (0..).zip(&self.readers) {
            let from = reader.from.unwrap();
            let all = self.world.logs[&partition].offsets_from(from).len();
            assert_eq!(reader.seen, all, "partition {partition}: {}", self.world.explain(partition));
        }
        assert_eq!(self.world.troubles, []);
        assert_eq!(self.world.budget.used(), 0, "nothing is held once everything was handed out");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn offsets_come_once_and_in_order_whatever_happens(steps in steps()) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        run.heal();
    }
}
