//! Groups of which one member is Java's consumer and the other one ours.

use std::time::Duration;

use ottla::{Assignor, Consumer, Reset};

use crate::World;
use crate::java::{JavaMember, News};
use crate::record::{Read, Written};
use crate::world::fresh_name;

const PARTITIONS: i32 = 6;
const RECORDS: usize = 600;
/// Between two looks at what somebody else is doing.
const GLANCE: Duration = Duration::from_millis(50);

pub(crate) async fn java_joins_our_group_of_cooperative_sticky(world: &World) {
    java_joins(world, Assignor::CooperativeSticky).await;
}

pub(crate) async fn java_joins_our_group_of_range(world: &World) {
    java_joins(world, Assignor::Range).await;
}

pub(crate) async fn we_join_a_group_of_java_of_cooperative_sticky(world: &World) {
    we_join(world, Assignor::CooperativeSticky).await;
}

pub(crate) async fn we_join_a_group_of_java_of_range(world: &World) {
    we_join(world, Assignor::Range).await;
}

/// Who is there first leads, and so this is our assignor.
async fn java_joins(world: &World, assignor: Assignor) {
    let Some(mut group) = MixedGroup::new(world, assignor).await else { return };
    let ours = group.consumer();
    until_ours_are(&ours, PARTITIONS as usize).await;
    let mut java = group.java();
    group.share(&ours, &mut java).await;
    java.leave().await;
    until_ours_are(&ours, PARTITIONS as usize).await;
    ours.close().await.expect("it leaves");
}

/// And this is Java's.
async fn we_join(world: &World, assignor: Assignor) {
    let Some(mut group) = MixedGroup::new(world, assignor).await else { return };
    let mut java = group.java();
    until_javas_are(&mut java, PARTITIONS as usize).await;
    let ours = group.consumer();
    group.share(&ours, &mut java).await;
    ours.close().await.expect("it leaves");
    until_javas_are(&mut java, PARTITIONS as usize).await;
    java.leave().await;
}

struct MixedGroup<'a> {
    world: &'a World,
    assignor: Assignor,
    id: String,
    topic: String,
}

impl<'a> MixedGroup<'a> {
    async fn new(world: &'a World, assignor: Assignor) -> Option<Self> {
        world.java()?;
        Some(Self { world, assignor, id: fresh_name(), topic: world.topic(PARTITIONS).await })
    }

    fn consumer(&self) -> Consumer {
        let consumer = Consumer::builder(self.world.client())
            .group(&*self.id)
            .assignors([self.assignor])
            .on_missing_offset(Reset::Earliest)
            .heartbeat_interval(Duration::from_millis(200))
            .drain_timeout(Duration::from_millis(500))
            .build()
            .expect("valid");
        consumer.subscribe([&*self.topic]).expect("it is in a group");
        consumer
    }

    fn java(&self) -> JavaMember {
        let assignor = match self.assignor {
            Assignor::Range => "RangeAssignor",
            _ => "CooperativeStickyAssignor",
        };
        let settings = [
            &*format!("group.id={}", self.id),
            &*format!("partition.assignment.strategy=org.apache.kafka.clients.consumer.{assignor}"),
            "auto.offset.reset=earliest",
            "heartbeat.interval.ms=200",
        ];
        let java = self.world.java().expect("it was there a moment ago");
        java.join(&self.world.bootstrap_servers(), &self.topic, &settings)
    }

    /// Each has half of the partitions, no partition has two owners, and every record comes to one member, once.
    async fn share(&mut self, ours: &Consumer, java: &mut JavaMember) {
        let half = PARTITIONS as usize / 2;
        let (mine, theirs) = tokio::join!(until_ours_are(ours, half), until_javas_are(java, half));
        let mut all = [mine.clone(), theirs.clone()].concat();
        all.sort_unstable();
        assert_eq!(all, (0..PARTITIONS).collect::<Vec<_>>());

        let record = |n: usize| Written::value(n.to_string()).partition(n as i32 % PARTITIONS);
        let records: Vec<_> = (0..RECORDS).map(record).collect();
        self.world.write(&self.topic, &records).await;
        let (mut here, there) = tokio::join!(take_ours(ours, RECORDS / 2), take_javas(java, RECORDS / 2));
        assert!(here.iter().all(|record| mine.contains(&record.partition)));
        assert!(there.iter().all(|record| theirs.contains(&record.partition)));
        here.extend(there);
        let mut numbers: Vec<usize> =
            here.iter().map(|record| record.text().parse().expect("a number")).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..RECORDS).collect::<Vec<_>>());
    }
}

/// Waits until our consumer has so many partitions, and gives them.
async fn until_ours_are(consumer: &Consumer, count: usize) -> Vec<i32> {
    loop {
        let assignment = consumer.assignment();
        if assignment.len() == count {
            return assignment.iter().map(|assignment| assignment.topic_partition().partition()).collect();
        }
        tokio::time::sleep(GLANCE).await;
    }
}

async fn until_javas_are(java: &mut JavaMember, count: usize) -> Vec<i32> {
    loop {
        if let News::Owned(owned) = java.next().await
            && owned.len() == count
        {
            return owned;
        }
    }
}

/// Reads until there are `count` records, completes them, and fails if a batch brings more.
async fn take_ours(consumer: &Consumer, count: usize) -> Vec<Read> {
    let mut records = Vec::new();
    while records.len() < count {
        let batch = consumer.poll().await.expect("nothing goes wrong").expect("the consumer is open");
        records.extend(batch.iter().map(|record| Read::of(&record)));
        batch.complete();
    }
    assert_eq!(records.len(), count, "more records than were written");
    records
}

async fn take_javas(java: &mut JavaMember, count: usize) -> Vec<Read> {
    let mut records = Vec::new();
    while records.len() < count {
        if let News::Record(record) = java.next().await {
            records.push(*record);
        }
    }
    records
}
