//! Crashes, freezes, slow disks, cuts and lost messages at random, while one idempotent producer writes: what it was acknowledged
//! is there once and in order, and all replicas are equal in the end.

use std::time::Duration;

use ottla_protocol::messages::ProduceRequest;
use ottla_protocol::{ErrorCode, TopicId};

use super::harness::{Client, Cluster, sequenced};
use super::requests::{PRODUCE, produce_request, produced};
use crate::Rng;
use crate::disk::Tail;
use crate::io::NodeId;

#[derive(Clone, Copy, PartialEq)]
pub(super) enum State {
    Up,
    Down,
    Frozen,
    /// It runs, and its disk does nothing.
    Slow,
}

/// A producer with one batch of one record at a time, which is sent until it is acknowledged.
struct Producer {
    topic: TopicId,
    next: i32,
    sent: Option<Client>,
    acknowledged: Vec<(i64, String)>,
}

impl Producer {
    fn step(&mut self, cluster: &mut Cluster) {
        let answer = self.sent.and_then(|client| cluster.reply::<ProduceRequest>(client, PRODUCE));
        if let Some(answer) = answer.map(|response| produced(&response)) {
            self.sent = None;
            match answer.error_code {
                ErrorCode::NONE => {
                    self.acknowledged.push((answer.base_offset, self.next.to_string()));
                    self.next += 1;
                }
                ErrorCode::NOT_LEADER_OR_FOLLOWER
                | ErrorCode::REQUEST_TIMED_OUT
                | ErrorCode::NOT_ENOUGH_REPLICAS
                | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND => {}
                error => panic!("{error}"),
            }
        }
        if self.sent.is_none()
            && let Some(leader) = cluster.partition(self.topic, 0).leader
        {
            let client = cluster.connect(leader);
            let batch = sequenced(&[&self.next.to_string()], 7, 0, self.next);
            cluster.send(client, PRODUCE, &produce_request(self.topic, -1, batch));
            self.sent = Some(client);
        }
    }
}

fn run(seed: u64) {
    let mut rng = Rng::seeded(seed);
    let mut cluster = Cluster::new(3);
    let topic = cluster.create("t", &[&[1, 2, 3]], &[]);
    let mut producer = Producer { topic, next: 0, sent: None, acknowledged: Vec::new() };
    let mut states = [State::Up; 3];
    for _ in 0..80 {
        disturb(&mut cluster, &mut states, &mut rng);
        for _ in 0..rng.next_u64() % 8 {
            producer.step(&mut cluster);
            cluster.advance(Duration::from_millis(rng.next_u64() % 2000));
            // A client whose node is gone asks elsewhere.
            producer.sent = producer.sent.filter(|client| {
                let state = states[usize::try_from(client.node - 1).unwrap()];
                state == State::Up && !rng.next_u64().is_multiple_of(4)
            });
        }
    }
    recover(&mut cluster, &states);
    // Its connection may have been to a former life of a node.
    producer.sent = None;
    let before = producer.acknowledged.len();
    for _ in 0..100 {
        producer.step(&mut cluster);
        cluster.advance(Duration::from_millis(500));
    }
    assert!(producer.acknowledged.len() > before, "seed {seed}: nothing is acknowledged after healing");
    check(&cluster, &producer, seed);
}

/// Everything is right again.
pub(super) fn recover(cluster: &mut Cluster, states: &[State; 3]) {
    cluster.heal();
    cluster.lose(None);
    for (node, state) in (1..).zip(states) {
        match state {
            State::Up => {}
            State::Down => cluster.start(node),
            State::Frozen => cluster.thaw(node),
            State::Slow => cluster.fast_disk(node),
        }
    }
}

/// Something goes wrong, or right again.
pub(super) fn disturb(cluster: &mut Cluster, states: &mut [State; 3], rng: &mut Rng) {
    let node = 1 + (rng.next_u64() % 3) as NodeId;
    let state = &mut states[usize::try_from(node - 1).unwrap()];
    match (rng.next_u64() % 8, *state) {
        (0, State::Up | State::Slow) => {
            cluster.crash(node, Tail::Kept);
            *state = State::Down;
        }
        (1, State::Up) => {
            cluster.freeze(node);
            *state = State::Frozen;
        }
        (7, State::Up) => {
            cluster.slow_disk(node);
            *state = State::Slow;
        }
        (1..=2, State::Slow) => {
            cluster.fast_disk(node);
            *state = State::Up;
        }
        (_, State::Frozen) => {
            cluster.thaw(node);
            *state = State::Up;
        }
        (0..=2, State::Down) => {
            cluster.start(node);
            *state = State::Up;
        }
        (3, _) => cluster.cut(node, (rng.next_u64() % 4) as NodeId),
        (4, _) => {
            cluster.heal();
            cluster.lose(None);
        }
        (5, _) => cluster.lose(Some(rng.next_u64())),
        (6, State::Up) if states.iter().all(|state| *state == State::Up) => power_loss(cluster, node, rng),
        _ => {}
    }
}

/// A machine loses what its disk was not made to keep. Replication protects from that as long as another in-sync
/// replica goes on, so that nothing else happens meanwhile.
fn power_loss(cluster: &mut Cluster, node: NodeId, rng: &mut Rng) {
    cluster.heal();
    cluster.lose(None);
    cluster.advance(Duration::from_secs(8));
    if (1..=3).all(|node| cluster.is_in_sync(node)) {
        cluster.crash(node, Tail::Lost);
        cluster.advance(Duration::from_millis(rng.next_u64() % 20_000));
        cluster.start(node);
        cluster.advance(Duration::from_secs(8));
    }
}

fn check(cluster: &Cluster, producer: &Producer, seed: u64) {
    let logs: Vec<_> = (1..=3).map(|node| cluster.stored(node, producer.topic, 0)).collect();
    assert!(logs.iter().all(|log| *log == logs[0]), "seed {seed}: the logs differ: {logs:?}");
    assert_eq!(cluster.partition(producer.topic, 0).isr.len(), 3, "seed {seed}");
    for (offset, value) in &producer.acknowledged {
        let at = usize::try_from(*offset).unwrap();
        assert_eq!(logs[0].get(at), Some(value), "seed {seed}: acknowledged at {offset}");
    }
    let expected: Vec<String> = (0..logs[0].len()).map(|value| value.to_string()).collect();
    assert_eq!(logs[0], expected, "seed {seed}: once and in order");
}

#[test]
fn acknowledged_records_are_there_once_and_in_order_whatever_happens() {
    for seed in 0..60 {
        run(seed);
    }
}
