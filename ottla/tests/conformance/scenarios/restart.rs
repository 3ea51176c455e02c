//! The coordinator of a group ends and comes back while the group consumes, and so does a member.

use std::cell::Cell;
use std::time::Duration;

use ottla::{Client, Consumer, Event, Producer, Reset};
use tokio::time::Instant;

use crate::World;
use crate::diary::Diary;
use crate::effects::{Effects, PARTITIONS, produce};
use crate::world::fresh_name;

/// Numbers handled before the coordinator ends, and again after it is back.
const ENOUGH: usize = 1_000;
const SESSION: Duration = Duration::from_secs(10);
/// Between writing some numbers and the next.
const PACE: Duration = Duration::from_millis(10);

pub(crate) async fn a_coordinator_is_killed_while_its_group_consumes(world: &World) {
    Restart::new(world).await.run(async |node| world.backend().kill(node).await).await;
}

pub(crate) async fn a_coordinator_is_shut_down_while_its_group_consumes(world: &World) {
    Restart::new(world).await.run(async |node| world.backend().shut_down(node).await).await;
}

/// When the coordinator ended, and what was committed then, by partition.
struct Before {
    at: Instant,
    committed: Vec<i64>,
}

/// A group that consumes what is written all the while.
struct Restart<'a> {
    world: &'a World,
    client: Client,
    group: String,
    topic: String,
    diary: Diary,
    effects: Effects,
    /// Numbers that are acknowledged, and whether there will be more.
    written: Cell<usize>,
    enough: Cell<bool>,
}

impl<'a> Restart<'a> {
    async fn new(world: &'a World) -> Self {
        Self {
            world,
            client: world.another_client().await,
            group: fresh_name(),
            topic: world.topic(PARTITIONS).await,
            diary: Diary::new(),
            effects: Effects::default(),
            written: Cell::new(0),
            enough: Cell::new(false),
        }
    }

    async fn run(self, end: impl AsyncFnOnce(i32)) {
        let consumer = member(&self.client, &self.group, &self.topic, None);
        let events = async {
            let ((), before) = tokio::join!(self.load(), self.end_and_restart(&consumer, end));
            self.effects.until(self.written.get()).await;
            self.assert_little_was_handled_again(&before);
        };
        let story = async {
            tokio::select! {
                biased;
                () = self.effects.handle_all(&consumer) => panic!("the consumer is open"),
                () = events => {}
            }
        };
        self.diary.keep_during(self.client.events(), story).await;
        self.client.close().await.expect("everything is committed");
    }

    async fn load(&self) {
        let producer = Producer::builder(&self.client).build().expect("valid");
        let mut pace = tokio::time::interval(PACE);
        while !self.enough.get() {
            pace.tick().await;
            let written = self.written.get();
            let next = written + 2 * PARTITIONS as usize;
            produce(&producer, &self.topic, written..next).await;
            self.written.set(next);
        }
    }

    async fn end_and_restart(&self, consumer: &Consumer, end: impl AsyncFnOnce(i32)) -> Before {
        self.effects.until(ENOUGH).await;
        let victim = self.world.coordinator(&self.group).await;
        let before = Before { committed: self.committed(consumer).await, at: Instant::now() };
        end(victim).await;
        self.diary.note(format_args!("node {victim} has ended"));
        self.world.backend().restart(victim).await;
        self.diary.note(format_args!("node {victim} serves again"));
        self.effects.until(self.effects.count() + ENOUGH).await;
        self.enough.set(true);
        before
    }

    /// Nothing is lost. What is handled twice was not committed when the coordinator ended; and nothing is, if the member
    /// kept its membership, which the coordinator has on its disk.
    fn assert_little_was_handled_again(&self, before: &Before) {
        let twice = self.effects.twice(self.written.get());
        let partitions = PARTITIONS as usize;
        let was_committed = |n: &usize| ((*n / partitions) as i64) < before.committed[*n % partitions];
        let wrong: Vec<_> = twice.iter().filter(|number| was_committed(number)).collect();
        assert!(wrong.is_empty(), "handled again although they were committed: {wrong:?}");
        let lost = self.diary.has(before.at, |event| matches!(event, Event::SessionLost { .. }));
        let (all, again) = (self.written.get(), twice.len());
        self.diary.note(format_args!("{all} handled, {again} of them twice; session lost: {lost}"));
        assert!(lost || twice.is_empty(), "handled again in one and the same session: {twice:?}");
    }

    /// What is committed, by partition.
    async fn committed(&self, consumer: &Consumer) -> Vec<i64> {
        let partitions = (0..PARTITIONS).map(|partition| (&*self.topic, partition));
        let committed = consumer.committed(partitions).await.expect("the coordinator is there");
        committed.into_iter().map(|(_, found)| found.map_or(0, |found| found.offset)).collect()
    }
}

/// The other member hears nothing of it, and what was committed is not handled again.
pub(crate) async fn a_static_member_comes_back_to_its_partitions_without_a_rebalance(world: &World) {
    let (group, topic) = (fresh_name(), world.topic(PARTITIONS).await);
    let (stays, comes_and_goes) = (world.another_client().await, world.another_client().await);
    let (diary, effects) = (Diary::new(), Effects::default());
    let producer = Producer::builder(&comes_and_goes).build().expect("valid");
    let one = member(&stays, &group, &topic, Some("one"));
    let story = async {
        let two = member(&comes_and_goes, &group, &topic, Some("two"));
        let before = until_it_has_half(&two).await;
        until_it_has_half(&one).await;
        let settled = Instant::now();
        tokio::select! {
            biased;
            () = effects.handle_all(&two) => panic!("the consumer is open"),
            () = async {
                produce(&producer, &topic, 0..ENOUGH).await;
                effects.until(ENOUGH).await;
            } => {}
        }
        two.close().await.expect("it commits, and does not leave");
        diary.note("a static member has gone");

        let two = member(&comes_and_goes, &group, &topic, Some("two"));
        assert_eq!(until_it_has_half(&two).await, before);
        diary.note("it is back");
        tokio::select! {
            biased;
            () = effects.handle_all(&two) => panic!("the consumer is open"),
            () = async {
                produce(&producer, &topic, ENOUGH..2 * ENOUGH).await;
                effects.until(2 * ENOUGH).await;
            } => {}
        }
        assert_eq!(effects.twice(2 * ENOUGH), [0; 0]);
        assert!(
            !diary.has(settled, |event| matches!(event, Event::GroupJoined { .. })),
            "there was a rebalance"
        );
    };
    let story = async {
        tokio::select! {
            biased;
            () = effects.handle_all(&one) => panic!("the consumer is open"),
            () = story => {}
        }
    };
    diary.keep_during(stays.events(), story).await;
    stays.close().await.expect("everything is committed");
    comes_and_goes.close().await.expect("everything is committed");
}

fn member(client: &Client, group: &str, topic: &str, instance: Option<&str>) -> Consumer {
    let mut builder = Consumer::builder(client)
        .group(group)
        .session_timeout(SESSION)
        .heartbeat_interval(Duration::from_millis(500))
        .on_missing_offset(Reset::Earliest);
    if let Some(instance) = instance {
        builder = builder.group_instance_id(instance);
    }
    let consumer = builder.build().expect("valid");
    consumer.subscribe([topic]).expect("it has a group");
    consumer
}

/// Waits until the member has its share of two, and gives it.
async fn until_it_has_half(consumer: &Consumer) -> Vec<i32> {
    loop {
        let owned: Vec<_> =
            consumer.assignment().iter().map(|owned| owned.topic_partition().partition()).collect();
        if owned.len() == PARTITIONS as usize / 2 {
            return owned;
        }
        tokio::time::sleep(PACE).await;
    }
}
